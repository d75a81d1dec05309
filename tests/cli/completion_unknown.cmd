shardwise completion fish
