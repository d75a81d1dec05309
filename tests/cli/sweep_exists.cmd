echo 'parameters: {model: dsv-2.7b, cluster: 1x8-h100, tokens: 20k}' >study.yaml
echo mine >study.csv
shardwise sweep study.yaml
status=$?
cat study.csv
rm study.yaml study.csv
exit $status
