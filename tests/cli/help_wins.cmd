shardwise predict --nonsense --help | head -3
