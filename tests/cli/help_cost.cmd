shardwise cost --help
