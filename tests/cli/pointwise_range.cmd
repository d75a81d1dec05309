shardwise plan --model dsv-2.7b --cluster 1x8-h100 --cp 8 --tokens 64k --pointwise 0.5
