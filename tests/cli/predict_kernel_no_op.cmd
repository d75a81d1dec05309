shardwise predict kernel --op gem --tokens 64k || true
shardwise predict collective --op all-reduce --bytes 1MiB --cluster 1x8-h100
