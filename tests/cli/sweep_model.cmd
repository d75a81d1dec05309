printf 'parameters:\n  cluster: 1x8-h100\n  model: [dsv-2.7b, hunyan]\n' >study.yaml
shardwise sweep study.yaml
status=$?
rm study.yaml
exit $status
