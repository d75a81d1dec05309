shardwise plan --model dsv-2.7b --cluster 1x8-h100 --cp 4 --degrees 2x2 --tokens 64k --keep 0.1 --dispatch sparse -o plan.json > /dev/null
shardwise traffic plan.json --block 3 | wording
shardwise traffic plan.json --block 3 --phase nothing 2>&1
shardwise traffic plan.json --block 32 2>&1
rm plan.json
