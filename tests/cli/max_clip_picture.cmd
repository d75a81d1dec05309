shardwise max-clip --model wan2.1-14b --cluster 1x8-h100 --frames 81 --aspect 1:1 --max-step 20s --cp 4 --strategies ulysses --format csv | sed '/^#/d' | wording | sed 's/[0-9N]*x[0-9]*x81/CLIP/g'
