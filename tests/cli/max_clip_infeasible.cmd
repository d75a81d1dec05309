shardwise max-clip --model hunyuanvideo-13b --cluster 1x1-h100 --resolution 720x1280 2>&1 >/dev/null | wording
