shardwise --help
