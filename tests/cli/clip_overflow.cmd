shardwise plan --model hunyuanvideo-13b --cluster 1x8-h100 --clip 1048576x1048576x1000001
