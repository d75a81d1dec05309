# The kernel profiles come from Hopper: on an A100 the plan must say that it assumes.
shardwise plan --model dsv-2.7b --cluster 1x8-a100 --cp 8 --tokens 128k | grep '^These kernels'
