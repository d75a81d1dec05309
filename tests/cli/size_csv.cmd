shardwise size --model hunyuanvideo-13b --cluster 1x2-h100 --clip 720x1280x129 --format csv 2>/dev/null | sed -n '/^gpus/,$p' | wording
