shardwise plan --model latte-1 --cluster 1x8-h100 --tokens 16k --cp 8 | grep '^Note'
