shardwise plan --cluster --model dsv-2.7b
