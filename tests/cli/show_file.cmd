# A preset as a file is that preset: the same plan.
shardwise show model dsv-0.8b --file >m.yaml
shardwise show cluster 2x8-h100 --file | tee c.yaml | wording
answer() { shardwise memory --tokens 64k --cp 8 --format csv "$@" | grep -v '^#'; }
cmp <(answer --model m.yaml --cluster c.yaml) <(answer --model dsv-0.8b --cluster 2x8-h100) && echo same
mkdir sub
(cat c.yaml; echo 'net: own.yaml') >sub/c.yaml
shardwise show net h100 --file >sub/own.yaml
shardwise predict collective --bytes 1MB --cluster sub/c.yaml | grep -o 'sub/own.yaml' | head -1
shardwise show strategies --file
