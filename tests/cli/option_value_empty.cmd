shardwise plan --model=
