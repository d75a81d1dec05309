: >m.yaml; shardwise plan --model m.yaml --cluster 1x8-h100 --tokens 128k -o plan.json; s=$?; rm m.yaml; exit $s
