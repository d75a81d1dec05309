printf 'gpu,op,n_gpus,size_bytes,lat_us\nh100_sxm,alltoall,8,268435456,0\n' > rows.csv
shardwise predict collective --table rows.csv -o out.csv
