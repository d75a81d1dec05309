# 16 heads on 4 ranks, 64,000 tokens: Q, K and V of 4 heads and 16,000 tokens go to each peer, 3 x 4 x 16,000 x 256 bytes (KA01b three times).
shardwise plan --model dsv-2.7b --cluster 1x4-h100 --cp 4 --strategies ulysses --tokens 64k --dispatch dense -o plan.json > /dev/null
shardwise traffic plan.json --phase "qkv all-to-all"
rm plan.json
