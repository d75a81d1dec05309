shardwise cost --model hunyuanvideo-13b --cluster 1x2-h100 --clip 720x1280x129 --train-samples 1M 2>&1 | wording
