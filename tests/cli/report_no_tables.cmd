shardwise report . --data nowhere
