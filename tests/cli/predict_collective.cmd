shardwise predict collective --op all_gather --bytes 64MiB --cluster 2x8-h100-400g | wording
