shardwise plan --model hunyuanvideo-13b --cluster 1x8-h100 --clip 720x1280x130
