shardwise memory --model hunyuanvideo-13b --cluster 1x8-h100 --clip 720x1280x257 --cp 1 --checkpointing none 2>&1 | wording
