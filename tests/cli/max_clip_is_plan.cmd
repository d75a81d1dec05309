# plan says the same: of each degree's longest clip the same step to the last digit, of the next clip that it does not fit, and of all
# shorter ones (every second rung, 4n+1 frames) that they do.
case="--model hunyuanvideo-13b --cluster 1x8-h100 --checkpointing selective"
shardwise max-clip $case --resolution 720x1280 --format csv | sed '/^#/d;/^gpus/d;s/"[^"]*"/x/g' >rows.csv
while IFS=, read -r gpus cp replicas split step low high rate memory clip tokens next rest; do
    planned=$(shardwise plan $case --cp "$cp" --clip "$clip" --format json | sed -n 's/^ *"step_s": \([0-9.e+-]*\),*$/\1/p')
    shardwise plan $case --cp "$cp" --clip "$next" >/dev/null 2>&1
    status=$?
    echo "CP $cp: the longest $([ "$planned" = "$step" ] && echo takes the same step || echo "$planned is not $step"), plan's status of the next is $status"
done <rows.csv
for frames in $(seq 5 8 "$(sed -n '/^8,2,/s/.*720x1280x\([0-9]*\),.*720x1280x.*/\1/p' rows.csv)"); do
    shardwise plan $case --cp 2 --clip "720x1280x$frames" >/dev/null 2>&1 || echo "CP 2: $frames frames do not fit"
done
rm rows.csv
