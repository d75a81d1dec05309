# Every command that reads a file: one that is not there is bad usage.
model="--model dsv-2.7b" cluster="--cluster 1x8-h100" tokens="--tokens 64k"
while read -r line; do
    eval "shardwise $line" 2>&1
    echo "status $?"
done <<'END'
plan --model ./no.yaml $cluster $tokens
plan $model --cluster ./no.yaml $tokens
plan $model $cluster $tokens --kernels ./no.yaml
plan $model $cluster $tokens --trace no.csv
plan $model $cluster $tokens --trace no.h5
plan $model $cluster $tokens --eval measured --measured no.json
simulate no.json
compare no.json no.tsv
calibrate no.tsv
sweep no.yaml
predict collective --table no.csv
predict kernel $tokens --profile ./no.yaml
trace stats no.h5
trace show no.h5
trace import no.npy -o x.h5
plan $model $cluster $tokens --trace no.csv/keep.csv
show model ./no.yaml
report . --data ./no
END
