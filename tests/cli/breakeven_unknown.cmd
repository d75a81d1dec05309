shardwise breakeven --kernels fa9
