# A strategy that fetches needed rows, where all are needed.
shardwise plan --model wan2.1-1.3b --cluster 1x4-h100 --cp 4 --tokens 32k --strategies scp | tail -n 1
shardwise plan --model wan2.1-1.3b --cluster 1x4-h100 --cp 4 --tokens 32k --strategies scp-dense | tail -n 1
