# The row of every point beside what plan says with the point's options: to the last digit.
cat >study.yaml <<'END'
parameters: {model: hunyuanvideo-13b, cluster: 2x8-h100, gpus: [4, 8, 16], checkpointing: [full, none]}
cases:
  - {clip: 720x1280x129, keep: 0.2, union: "fixed:0.5"}
  - {grid: 33x45x80, keep-kv: yes, strategies: "hcp,hybrid,ulysses,scp"}
END
shardwise sweep study.yaml -o - | sed '/^#/d;/^point/d' | sed 's/"hcp,[^"]*"/STRATEGIES/;s/"[^"]*"/x/g' >rows.csv
while IFS=, read -r _ model cluster gpus checkpointing clip keep union grid kv strategies verdict _ cp _ _ _ step rest; do
    planned=$(shardwise plan --model "$model" --cluster "$cluster" --gpus "$gpus" --checkpointing "$checkpointing" \
        ${clip:+--clip "$clip"} ${keep:+--keep "$keep"} ${union:+--union "$union"} ${grid:+--grid "$grid"} ${kv:+--keep-kv} \
        ${strategies:+--strategies hcp,hybrid,ulysses,scp} --format json 2>/dev/null)
    status=$?
    planned=$(printf '%s' "$planned" | sed -n 's/^ *"step_s": \([0-9.e+-]*\),*$/\1/p')
    echo "$gpus GPUs, $checkpointing, ${clip:-$grid}: $verdict, plan's status $status, $([ "$planned" = "$step" ] && echo the same step || echo "$planned is not $step")"
done <rows.csv
rm study.yaml rows.csv
