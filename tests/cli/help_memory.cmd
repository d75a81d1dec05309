shardwise memory --help
