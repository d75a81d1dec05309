shardwise max-clip --help
