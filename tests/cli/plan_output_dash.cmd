shardwise plan --model dsv-2.7b --cluster 1x8-h100 --tokens 128k --cp 8 -o - | python3 -c 'import json,sys; d=json.load(sys.stdin); print(sorted(d)[:2], len(d["blocks"]))'
