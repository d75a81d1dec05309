shardwise show strategy hybrid --format csv | tail -n +4
