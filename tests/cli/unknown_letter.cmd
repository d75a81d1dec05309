shardwise plan -x 3
