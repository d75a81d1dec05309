shardwise show gpus --names
