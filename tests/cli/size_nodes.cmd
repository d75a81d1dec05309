shardwise size --model hunyuanvideo-13b --cluster 5000x8-h100 --clip 720x1280x129
