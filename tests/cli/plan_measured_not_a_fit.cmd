shardwise plan --model dsv-2.7b --cluster 1x8-h100 --gpus 2 --cp 2 --tokens 4096 --keep 0.2 --eval measured --measured "$SHARDWISE_PRESETS/gpu/h100.yaml"
