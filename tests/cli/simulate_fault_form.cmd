shardwise plan --model dsv-2.7b --cluster 2x8-h100-400g --tokens 64k --keep 0.1 --cp 8 -o plan.json >/dev/null && shardwise simulate plan.json --fault disk1; status=$?; rm plan.json; exit $status
