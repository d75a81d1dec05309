shardwise plan --model dsv-2.7b --cluster 1x8-h100 --tokens 128k --head-sparsity 1,0,0,0,0,0,0,0,0,0,0,0,0,0,0,0
