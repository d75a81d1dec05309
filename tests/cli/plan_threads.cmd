M='--model dsv-2.7b --cluster 1x8-h100 --tokens 128k --trace webvid-2.7b-28k --cp 8 --format csv'; OMP_NUM_THREADS=1 shardwise plan $M >a; OMP_NUM_THREADS=7 shardwise plan $M >b; cmp a b && rm a b
