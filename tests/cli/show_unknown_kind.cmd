shardwise show modles
