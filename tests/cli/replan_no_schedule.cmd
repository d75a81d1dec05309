shardwise replan --model dsv-2.7b --cluster 1x8-h100 --cp 8 --tokens 64k --keep 0.1 --replan-time 60s
