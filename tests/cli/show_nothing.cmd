shardwise show
