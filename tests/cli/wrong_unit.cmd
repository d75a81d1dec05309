shardwise predict collective --bytes '450 GB/s' --cluster 1x8-h100
