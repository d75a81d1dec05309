shardwise plan --model wan2.1-14b --cluster 1x8-h100 --cp 8 --clip 480x832x81 --one-gpu 15min
