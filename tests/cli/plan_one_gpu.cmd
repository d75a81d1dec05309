{
    shardwise plan --model wan2.1-14b --cluster 1x8-h100 --cp 8 --strategies ulysses --clip 480x832x81 --inference --batch 100 --one-gpu 15min | tail -n 1
    shardwise plan --model wan2.1-14b --cluster 1x8-h100 --cp 8 --strategies ulysses --clip 480x832x81 --inference --batch 100 --one-gpu 1min | tail -n 1
} | wording
