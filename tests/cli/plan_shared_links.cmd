shardwise plan --model wan2.1-14b --cluster 2x8-h200-400g --cp 16 --clip 480x832x81 --keep 0.05 | sed -n '/^Exchanges/p' | wording
shardwise plan --model wan2.1-14b --cluster 2x8-h200-400g --cp 16 --clip 480x832x81 --phase block | sed -n '/^Exchanges/p'
shardwise plan --model dsv-2.7b --cluster 1x8-h100 --cp 8 --tokens 128k | sed -n '/^Exchanges/p'
