shardwise breakeven --kernels fa3+dsv --gpu h200 --tokens 128k --recompute --format json | grep -v fnv1a64 | wording
