shardwise plan --model dsv-2.7b --cluster 0x8-h100 --tokens 128k
