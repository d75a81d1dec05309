shardwise plan --cluster 1x8-h100 --tokens 128k
