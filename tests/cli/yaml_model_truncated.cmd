head -n 6 $SHARDWISE_PRESETS/model/dsv-2.7b.yaml >m.yaml; shardwise plan --model m.yaml --cluster 1x8-h100 --tokens 128k; s=$?; rm m.yaml; exit $s
