shardwise plan --model dsv-30b --cluster 1x8-h100 --grid 1000000x1000000x1000000
