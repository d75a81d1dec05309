#!/bin/sh
# shardwise-run with the CUDA backend on the PTX machine: plans on virtual ranks, each a thread with a stream of its own,
# verified against one rank. Usage: run.sh SHARDWISE_RUN MAKE_PLAN SOURCE_DIR
run=$1 make_plan=$2 here=$3/tests/validate
dir=$(mktemp -d) || exit 1
trap 'rm -rf "$dir"' EXIT
cd "$here" || exit 1
failed=0
while read -r strategy degree dispatch; do
    "$make_plan" ./small-model.yaml ./small-cluster.yaml ./small-kernels.yaml 96 "$strategy" "$degree" "$dispatch" \
        0.1,0.3,0.05,0.5 "$dir/plan.json" || exit 1
    "$run" "$dir/plan.json" --backend cuda --comm loopback --verify --repeats 1 -o "$dir/rows.tsv" >"$dir/out" 2>"$dir/err" ||
        { echo "FAIL: $strategy $degree $dispatch:"; cat "$dir/err"; failed=1; }
    grep -q '^Verified against one rank' "$dir/out" || { echo "FAIL: $strategy $degree $dispatch: not verified"; failed=1; }
done <<'PLANS'
hcp 2x1 sparse
scp 1x2 sparse
ring 1x2 dense
PLANS
[ $failed -eq 0 ] && echo "all plans run and are verified"
exit $failed
