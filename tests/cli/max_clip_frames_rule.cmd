shardwise max-clip --model hunyuanvideo-13b --cluster 1x8-h100 --frames 128
