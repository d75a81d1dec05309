echo 'parameters: {model: dsv-2.7b, cluster: 1x8-h100, tokens: 20k}' >study.yaml
shardwise sweep study.yaml --format json | sed -E 's/"[0-9a-f]{16}"/"ID"/' | sed -E 's/"fnv1a64": "[0-9a-f]+"/"fnv1a64": "HASH"/' | wording
rm study.yaml study.csv
