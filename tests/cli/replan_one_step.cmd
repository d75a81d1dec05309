shardwise replan --model dsv-2.7b --cluster 1x8-h100 --cp 8 --tokens 64k --trace webvid-2.7b-28k --replan-time 60s
