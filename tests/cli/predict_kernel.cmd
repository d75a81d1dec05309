shardwise predict kernel --kernel sparse --tokens 64k --heads 4 --keep 0.1 --backward --format csv | wording
