shardwise predict collective --op allgather --bytes 64MiB --cluster 2x8-h100-400g | wording
