shardwise plan --model dsv-2.7b --cluster 1x8-h100 --tokens 64k --sharding ddp --shard-ranks 4
