shardwise show nets | sed 1,3d | cut -d' ' -f1
