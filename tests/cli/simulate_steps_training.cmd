shardwise plan --model dsv-2.7b --cluster 2x8-h100-400g --tokens 64k --cp 8 -o plan.json >/dev/null; shardwise simulate plan.json --steps 3; s=$?; rm plan.json; exit $s
