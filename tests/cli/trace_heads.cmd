printf 'block,head,keep\n0,0,0.5\n' >t.csv; shardwise plan --model dsv-2.7b --cluster 1x8-h100 --tokens 128k --trace t.csv -o plan.json; s=$?; rm t.csv; exit $s
