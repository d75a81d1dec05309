shardwise show strategies | tail -n +4
