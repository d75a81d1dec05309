echo 'parameters: {cluster: 1x8-h100, tokens: 20k}' >study.yaml
shardwise sweep study.yaml
status=$?
rm study.yaml
exit $status
