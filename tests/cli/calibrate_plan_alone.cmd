shardwise calibrate "$SHARDWISE_PRESETS/../tests/validate/logs/new_8gpu.log" --plan plan.json
