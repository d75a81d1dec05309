shardwise report no/out
