shardwise plan --model hunyuanvideo-13b --cluster 2x8-h100-400g --clip 720x1280x129 --tp 3
