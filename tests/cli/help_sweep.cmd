shardwise sweep --help
