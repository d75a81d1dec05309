shardwise show programs | tail -n +4
shardwise show program megatron | tail -n +5
