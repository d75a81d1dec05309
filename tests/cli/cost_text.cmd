shardwise cost --model dsv-2.7b --cluster 1x8-h100 --cp 8 --strategies ulysses --tokens 128k --kernels dsv-triton --train-steps 300k --batch 32 \
    --schedule constant:keep=0.1 --stages 3 --dense-first 5k --price 2.5 | wording
