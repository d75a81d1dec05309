printf 'gpu,op,n_gpus,size_bytes,lat_us\nours,alltoall,8,1024,9\n' > rows.csv
shardwise calibrate rows.csv
