shardwise plan --model dsv-0.8b --cluster 2x8-h100-400g --tokens 64k --tp 8
