# Which programs can run a plan, with which settings, and why the others cannot.
shardwise plan --model hunyuanvideo-13b --cluster 2x8-h100 --clip 720x1280x129 --cp 16 --degrees 8x2 --strategies usp -o p.json >/dev/null
shardwise launch p.json | tail -n +5
rm p.json
