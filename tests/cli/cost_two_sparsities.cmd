shardwise cost --model dsv-2.7b --cluster 1x8-h100 --tokens 128k --cp 8 --train-samples 1M --schedule dsv --keep 0.1
