shardwise size --help
