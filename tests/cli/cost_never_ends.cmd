shardwise cost --model dsv-2.7b --cluster 16x8-h100 --tokens 128k --cp 8 --train-samples 1M --gpu-mtbf 10h --save-every 1h --restart 10min
