shardwise paln --model dsv-2.7b
