sed 's/^memory:.*/memory: 80 GB\/s/' $SHARDWISE_PRESETS/gpu/h100.yaml >g.yaml; shardwise show gpu ./g.yaml; s=$?; rm g.yaml; exit $s
