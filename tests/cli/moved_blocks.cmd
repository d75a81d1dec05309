shardwise plan --model dsv-2.7b --cluster 1x8-h100 --tokens 64k --keep 0.1 --moved-blocks 150%
