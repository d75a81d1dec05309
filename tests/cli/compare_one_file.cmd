shardwise compare plan.json
