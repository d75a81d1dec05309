shardwise predict kernel --op alltoall --tokens 64k
