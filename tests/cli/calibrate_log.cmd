logs=$SHARDWISE_PRESETS/../tests/validate/logs
cp "$logs/new_8gpu.log" ours.log
shardwise calibrate ours.log --relative h100 --nvls -o ours.yaml | wording
head -4 ours.yaml | wording
shardwise predict collective --op all_reduce --bytes 16MiB --cluster 1x8-h100 --profile ./ours.yaml | wording
