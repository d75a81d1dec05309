shardwise predict collective --cluster 1x8-h100
