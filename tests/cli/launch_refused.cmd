shardwise plan --model dsv-2.7b --cluster 1x8-h100 --cp 8 --tokens 128k --trace webvid-2.7b-28k --kernels dsv-triton -o p.json >/dev/null
shardwise launch p.json --for xdit
echo "status $?"
rm p.json
