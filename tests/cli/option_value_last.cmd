shardwise plan --model
