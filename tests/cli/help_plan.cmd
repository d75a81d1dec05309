shardwise help plan
