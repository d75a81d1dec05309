shardwise predict weather
