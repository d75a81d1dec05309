shardwise size --model hunyuanvideo-13b --cluster 2x8-h100 --clip 720x1280x129 --max-step 1s 2>&1 >/dev/null | wording
