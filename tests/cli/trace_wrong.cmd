shardwise trace generate --pattern windw -o t.h5
shardwise trace stats
shardwise trace generate
shardwise trace frobnicate
printf 'step,block,head,keep\n0,0,0,7\n' > in.csv
shardwise trace stats in.csv
shardwise trace import in.csv -o out.h5
shardwise plan --model dsv-2.7b --cluster 1x8-h100 --tokens 128k --trace in.csv
rm in.csv
exit 2
