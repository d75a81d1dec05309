shardwise plan --model wan2.1-1.3b --cluster 1x8-h100 --clip 480x832x81 --cp 8 --strategies ulysses -o plan.json
