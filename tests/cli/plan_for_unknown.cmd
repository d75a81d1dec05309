shardwise plan --model wan2.1-14b --cluster 1x8-h100 --clip 720x1280x81 --for xdti
