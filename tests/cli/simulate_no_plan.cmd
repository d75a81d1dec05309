shardwise simulate missing.json
