shardwise plan --model dsv-2.7b --cluster h100x8 --tokens 128k
