shardwise replan --model dsv-2.7b --cluster 1x8-h100 --cp 8 --tokens 64k --kernels dsv-triton --schedule dsv --train-steps 100k --points 5 --replan-time 60s | wording
