# Graham's example: 3 3 2 2 2 on two ranks is 7 by LPT and 6 at best, and 8 for neighbours. On eight each has its own, 3 over 12/8.
printf 'step,block,head,keep\n0,0,0,0.375\n0,0,1,0.375\n0,0,2,0.25\n0,0,3,0.25\n0,0,4,0.25\n' > in.csv
shardwise trace import in.csv -o t.h5
for ranks in 2 8; do
    shardwise trace stats t.h5 --what keep --ranks $ranks --format csv | grep -v '^#' | cut -d, -f10-
done
shardwise trace stats t.h5 --what keep --ranks 2 | wording
shardwise trace stats t.h5 --what keep --ranks 2 --format json | grep -E '"(best|proof|bound)"' | wording
rm in.csv t.h5
