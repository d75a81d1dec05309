shardwise predict kernel --kernel gemm --m 32768 --n 5120 --k 5120 --gpu b200 | wording
