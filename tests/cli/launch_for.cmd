# One line for a script.
shardwise plan --model wan2.1-14b --cluster 1x8-h100 --clip 720x1280x81 --inference --cp 8 --for xdit -o p.json >/dev/null
echo "[$(shardwise launch p.json --for xdit)]"
shardwise launch p.json --for xdit --format csv | tail -n 1
rm p.json
