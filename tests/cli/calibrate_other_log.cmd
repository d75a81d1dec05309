printf '# OSU MPI Allreduce Latency Test\n4 1.2\n' > osu.log
shardwise calibrate osu.log -o ours.yaml
