head -c 120 $SHARDWISE_PRESETS/gpu/h100.yaml | head -c -9 >g.yaml; printf 'gpu: "h1' >c.yaml; shardwise plan --model dsv-2.7b --cluster ./c.yaml --tokens 128k; s=$?; rm *.yaml; exit $s
