echo 'parameters: {model: hunyuanvideo-13b, cluster: 1x8-h100, clip: 720x1280x129, gpus: [1, 2]}' >study.yaml
shardwise sweep study.yaml 2>&1 >/dev/null | wording
status=$?
rm study.yaml study.csv
exit $status
