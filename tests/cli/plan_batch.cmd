{
    shardwise plan --model dsv-2.7b --cluster 4x8-h100 --cp 8 --tokens 128k --batch 18 -o p.json | sed -n '/^dsv/,/^Each/p'
    shardwise size --model dsv-2.7b --cluster 1x8-h100 --tokens 128k --batch 64 --max-step 5min | grep -v '^#'
    sed -n '/"batch"/,/"batch_step_s"/p' p.json
    shardwise traffic p.json --block 0 | tail -n 1
} | wording
