shardwise plan --model dsv-2.7b --cluster 1x8-h100 --tokens 64k --keep 0.1 --cp 8 --eval sim -o plan.json >/dev/null && grep -c '"evaluator": "sim"' plan.json; rm plan.json
