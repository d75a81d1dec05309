# A file that is not of shardwise-run.
shardwise plan --model dsv-2.7b --cluster 1x8-h100 --tokens 64k --gpus 2 --cp 2 -o plan.json >/dev/null
echo hello >rows.tsv
shardwise compare plan.json rows.tsv
status=$?
rm plan.json rows.tsv
exit $status
