shardwise memory --model hunyuanvideo-13b --cluster 1x8-h100 --clip 720x1280x129 --cp 8 --strategies ulysses | wording
