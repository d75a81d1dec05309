shardwise show gpus >/dev/full
