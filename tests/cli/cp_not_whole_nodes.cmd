shardwise plan --model dsv-2.7b --cluster 3x8-h100 --tokens 128k --cp 12
