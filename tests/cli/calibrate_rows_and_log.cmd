printf "# schema: shardwise-measured/1\n" >rows.tsv
cp "$SHARDWISE_PRESETS/../tests/validate/logs/new_8gpu.log" ours.log
shardwise calibrate rows.tsv ours.log
status=$?
rm rows.tsv ours.log
exit $status
