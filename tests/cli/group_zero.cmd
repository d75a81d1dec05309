shardwise plan --model dsv-2.7b --cluster 1x8-h100 --tokens 128k --group 0
