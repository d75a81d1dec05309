#!/bin/sh
# Predicted against measured: the loop machine -> plan -> run -> compare on virtual ranks, and what compare says to rows that
# were changed by hand. Usage: compare.sh SHARDWISE_RUN MAKE_PLAN SOURCE_DIR
run=$1 make_plan=$2 here=$3/tests/validate
dir=$(mktemp -d) || exit 1
trap 'rm -rf "$dir"' EXIT
cd "$here" || exit 1
failed=0

# expect STATUS PATTERN WHAT COMMAND...: exit status, and a line in what it prints (either stream).
expect() {
    status=$1 pattern=$2 what=$3
    shift 3
    "$@" >"$dir/out" 2>&1
    got=$?
    [ $got -eq "$status" ] || { echo "FAIL: $what: exit status $got, want $status"; tail -2 "$dir/out"; failed=1; }
    grep -Eq "$pattern" "$dir/out" || { echo "FAIL: $what: no line like '$pattern'"; tail -2 "$dir/out"; failed=1; }
}

"$run" bench machine --comm loopback --ranks 4 --repeats 3 -o "$dir/me" || exit 1
"$make_plan" ./small-model.yaml "$dir/me-cluster.yaml" "$dir/me-kernels.yaml" 1500 hybrid 2x2 sparse 0.1,0.05,0.3 \
    "$dir/plan.json" || exit 1
"$run" "$dir/plan.json" --comm loopback --repeats 3 -o "$dir/rows.tsv" >/dev/null || exit 1
"$run" compare "$dir/plan.json" "$dir/rows.tsv" >"$dir/out" 2>&1
status=$? # 5 would be a machine that got twice as fast since it was measured
[ $status -eq 0 ] || [ $status -eq 5 ] || { echo "FAIL: compare: exit status $status"; failed=1; }
grep '^Block' "$dir/out"

# Four virtual ranks may take turns on this machine's cores; what follows is about rows that did not.
sed -i 's/^# cores: .*/# cores: 4, ranks on them: 4, threads of a rank: 1/' "$dir/rows.tsv"

# change AWK: rows with columns 7 (seconds) and 8 (waits) changed.
change() {
    awk -F'\t' -v OFS='\t' "/^[0-9]/ { $1 } { print }" "$dir/rows.tsv" >"$dir/changed.tsv"
}

# By hand: attention of 1 s and nothing else is a block of 1 s; slower than any roof.
change '$7 = ($5 == "attention" && $4 == "forward") ? 1 : 0.9; $8 = 0'
expect 0 'attention +[0-9.]+ .s +1\.000 s +1\.000 s +1\.000 s' 'seconds are medians of the longest' \
    "$run" compare "$dir/plan.json" "$dir/changed.tsv"
expect 5 'block 0 is off by [0-9]+%, allowed 25%' 'too slow' \
    "$run" compare "$dir/plan.json" "$dir/changed.tsv" --tolerance 25%
sed -i 's/^# cores: 4/# cores: 3/' "$dir/changed.tsv"
expect 0 '^4 ranks of 1 thread took turns on 3 cores' 'more ranks than cores are not judged' \
    "$run" compare "$dir/plan.json" "$dir/changed.tsv" --tolerance 25%
expect 0 'in 1 of the runs ranks took turns' 'a fit to them says so' "$run" calibrate "$dir/plan.json" "$dir/changed.tsv"
# Three repeats of 1, 2 and 9 s on the slowest rank: the median is 2.
change '$7 = ($5 == "attention" && $4 == "forward" && $3 == 1) ? ($2 == 0 ? 9 : $2) : 0.9; $8 = 0'
expect 0 'attention +[0-9.]+ .s +2\.000 s +1\.000 s +9\.000 s' 'the spread over repeats' \
    "$run" compare "$dir/plan.json" "$dir/changed.tsv"
change '$7 = 1e-9'
expect 5 '^Impossible: block 0, attention: measured 1e-09 s' 'faster than the roof' "$run" compare "$dir/plan.json" "$dir/changed.tsv"

sed 's/signature: .*/signature: 0123456789abcdef/' "$dir/rows.tsv" >"$dir/changed.tsv"
expect 2 'measured with a plan of signature 0123456789abcdef' 'rows of another plan' \
    "$run" compare "$dir/plan.json" "$dir/changed.tsv"
change '$7 = "soon"'
expect 2 "changed.tsv:[0-9]+: column 7: 'soon', want a number" 'a word for a number' "$run" compare "$dir/plan.json" "$dir/changed.tsv"
expect 2 'not a file of shardwise-run' 'another file' "$run" compare "$dir/plan.json" ./small-model.yaml
expect 2 'No such file' 'a file that is not there' "$run" compare "$dir/plan.json" "$dir/none.tsv"
change '$7 = 0.9'
head -c $(($(wc -c <"$dir/changed.tsv") - 12)) "$dir/changed.tsv" >"$dir/cut.tsv"
expect 0 'whole block' 'the last line is cut: a run that was ended' "$run" compare "$dir/plan.json" "$dir/cut.tsv" --format text

# A block with its linear layers: run, predicted, fitted (4 ranks x forward, recompute, backward, predictor).
"$make_plan" ./small-model.yaml "$dir/me-cluster.yaml" "$dir/me-kernels.yaml" 400 hybrid 2x2 sparse 0.1 "$dir/block.json" block || exit 1
"$run" "$dir/block.json" --comm loopback --repeats 3 --clock cpu -o "$dir/block.tsv" >/dev/null || exit 1
"$run" compare "$dir/block.json" "$dir/block.tsv" --format csv >"$dir/compared" 2>&1 # 5: a machine that got twice as fast
awk -F, '$3 == "linear backward" && $4 > 0 && $5 > 0 { found = 1 } END { exit !found }' "$dir/compared" || { echo "FAIL: linear layers are not compared"; failed=1; }
expect 0 'linear layers +16 ' 'linear layers are fitted' "$run" calibrate "$dir/block.json" "$dir/block.tsv"
# By hand: Q, K, V and O are 4 x 256 x 512 weights, the FFN 2 x 256 x 512; 2 FLOP a weight and token, 400 tokens.
work=$(awk -F'\t' '$2 == 0 && $5 == "linear" { sum += $11 } END { printf "%.0f", sum / 400 / 2 }' "$dir/block.tsv")
[ "$work" = $((6 * 256 * 512)) ] || { echo "FAIL: linear layers of $work weights, want $((6 * 256 * 512))"; failed=1; }

# The predictor: Q_lr and K_lr of 8 heads at rank 16 of 400 tokens of width 256, in the plan and in the rows.
work=$(awk -F'\t' '$2 == 0 && $5 == "predictor" { sum += $11 } END { printf "%.0f", sum / 400 / 2 }' "$dir/block.tsv")
[ "$work" = $((2 * 16 * 8 * 256)) ] || { echo "FAIL: a predictor of $work weights, want $((2 * 16 * 8 * 256))"; failed=1; }
awk -F, '$3 == "predictor" && $4 > 0 && $5 > 0 { found = 1 } END { exit !found }' "$dir/compared" || { echo "FAIL: the predictor is not compared"; failed=1; }

# Points: 4 ranks, forward and recompute. The fit's files are cluster and kernel files that a plan can be made with.
expect 0 'sparse attention forward +8' 'calibrate' "$run" calibrate "$dir/plan.json" "$dir/rows.tsv" -o "$dir/fit"
"$make_plan" ./small-model.yaml "$dir/fit-cluster.json" "$dir/fit-kernels.json" 1500 hybrid 2x2 sparse 0.1 "$dir/again.json" ||
    { echo "FAIL: a plan from the fit"; failed=1; }
expect 2 'plans and rows in turn' 'a plan without rows' "$run" calibrate "$dir/plan.json"

[ $failed -eq 0 ] && echo "compare says what is so"
exit $failed
