shardwise breakeven --kernels cudnn+dsv --group 64 --format csv | wording
