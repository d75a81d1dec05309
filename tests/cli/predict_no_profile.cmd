shardwise predict collective --bytes 1MiB --cluster 1x8-h20
