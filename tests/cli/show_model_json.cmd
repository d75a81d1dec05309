shardwise show models --format json | python3 -c 'import json,sys; d=json.load(sys.stdin); print([m for m in d["models"] if m["name"] == "dsv-2.7b"])'
