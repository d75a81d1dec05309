shardwise plan --model dsv-2.7b --cluster 1x8-h100 --tokens 128k --cp 8 --trace webvid-2.7b-28k -o plan.json >/dev/null && grep -c '"command": "shardwise plan' plan.json
