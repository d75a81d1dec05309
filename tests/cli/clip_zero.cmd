shardwise plan --model hunyuanvideo-13b --cluster 1x8-h100 --clip 0x1280x129
