shardwise plan --model wan2.1-14b --cluster 1x8-h100 --tokens 128k --trace webvid-2.7b-28k
