# Every count that size names, tried with plan: the same exit status, and the same step to the last digit.
case="--model hunyuanvideo-13b --clip 720x1280x129 --cluster 3x8-h100 --keep 0.2 --union fixed:0.5"
shardwise size $case --all --format csv | sed '/^#/d;/^gpus/d' | sed 's/"[^"]*"/x/g' >rows.csv
while IFS=, read -r gpus cp replicas split step rest; do
    planned=$(shardwise plan $case --gpus "$gpus" --format json 2>/dev/null)
    status=$?
    planned=$(printf '%s' "$planned" | sed -n 's/^ *"step_s": \([0-9.e+-]*\),*$/\1/p')
    echo "$gpus GPUs: plan's status $status, $([ "$planned" = "$step" ] && echo the same step || echo "$planned is not $step")"
done <rows.csv
rm rows.csv
