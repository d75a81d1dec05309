shardwise trace generate --pattern dsv --profile webvid --blocks 32 --heads 16 --level 1 --first-step 28000 -o t.h5
shardwise plan --model dsv-2.7b --cluster 1x8-h100 --tokens 128k --cp 4 --trace t.h5 --format csv | wc -l | sed 's/[1-9][0-9]*/some rows/'
shardwise plan --model dsv-2.7b --cluster 1x8-h100 --tokens 128k --trace t.h5 > /dev/null && echo planned
shardwise plan --model dsv-2.7b --cluster 1x8-h100 --tokens 128k --cp 4 --trace t.h5 | grep 'The trace'
shardwise plan --model dsv-2.7b --cluster 1x8-h100 --grid 16x16x16 --cp 4 --trace t.h5 | grep -c 'The trace'
rm t.h5
