shardwise show model s
