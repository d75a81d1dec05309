shardwise max-clip --model hunyuanvideo-13b --cluster 1x8-h100 --resolution 720x1280 --strategies single,ulysses | wording | sed 's/[0-9N]*x1280x[0-9]*/CLIP/g'
