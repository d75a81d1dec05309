shardwise plan --model hunyuanvido-13b --cluster 1x8-h100 --tokens 128k -o plan.json
