#!/bin/sh
# Every strategy once through the loop by the CPU clock: `shardwise-run bench machine` measures this machine with 2 and with 4 ranks,
# `plan` predicts with that alone, the ranks run it, `compare` sets both side by side. Prints each block's prediction, the median and the
# least of its repeats, and the phases whose least is off by more than LIMIT: what else runs on the machine only adds to a
# rank's CPU time. Usage: bench/loop_all.sh [build-directory [tokens[,tokens..] [limit]]]    (3000, 0.3)
set -eu
root=$(cd "$(dirname "$0")/.." && pwd)
build=$(cd "${1:-$root/build/release}" && pwd)
dir=$(mktemp -d)
trap 'rm -rf "$dir"' EXIT
run=$build/validate/shardwise-run
export OMP_NUM_THREADS=1 SHARDWISE_PRESETS="$root/presets"
cd "$root/tests/validate"

for ranks in 2 4; do
    "$root/tests/mpirun.sh" mpiexec $ranks "$run" bench machine -o "$dir/me$ranks" --repeats 9 --clock cpu
done

# look FILE NAME LIMIT: a line for the block, one for each phase that is far off.
look() {
    awk -F, -v name="$2" -v limit="$3" '
        /^#/ || $1 == "block" { next }
        $2 == "all" { whole = sprintf("predicted %.1f ms, measured %+.0f%%, least %+.0f%%", 1e3 * $4, 100 * ($5 / $4 - 1), 100 * ($6 / $4 - 1)); next }
        $6 == "" || $6 == "-" { next }
        { phases++ }
        $4 == "" || $4 == "-" { far = far sprintf("    %s (%s): %.0f us, not predicted\n", $3, $2, 1e6 * $6); n++; next }
        $6 / $4 - 1 > limit || $6 / $4 - 1 < -limit { far = far sprintf("    %s (%s): %.0f -> %.0f us, %+.0f%%\n", $3, $2, 1e6 * $4, 1e6 * $6, 100 * ($6 / $4 - 1)); n++ }
        END { printf "%s: %s; %d of %d phases off by more than %.0f%%\n%s", name, whole, n, phases, 100 * limit, far }' "$1"
}

for tokens in $(echo "${2:-3000}" | tr , ' '); do
    while read -r strategy degrees ranks dispatch checkpointing; do
        name="$strategy $degrees, $dispatch, checkpointing $checkpointing, $tokens tokens"
        sparsity=
        indices=bitmap # what attention reads: lists where rows are fetched
        case $strategy in scp | hybrid) indices=list ;; esac
        [ "$dispatch" = dense ] || sparsity="--head-sparsity 0.9,0.97,0.7,0.95,0.9,0.97,0.7,0.95"
        # shellcheck disable=SC2086
        "$build/cli/shardwise" plan --model ./small-model.yaml --cluster "$dir/me$ranks-cluster.yaml" --kernels "$dir/me$ranks-kernels.yaml" \
            --tokens "$tokens" --cp "$ranks" --degrees "$degrees" --strategies "$strategy" --dispatch "$dispatch" $sparsity \
            --phase attention --checkpointing "$checkpointing" --indices "$indices" --resident 0GB -o "$dir/plan.json" >/dev/null 2>&1
        "$root/tests/mpirun.sh" mpiexec "$ranks" "$run" "$dir/plan.json" -o "$dir/rows.tsv" --repeats 9 --clock cpu >/dev/null </dev/null
        "$run" compare "$dir/plan.json" "$dir/rows.tsv" --format csv >"$dir/compared.csv"
        sed 's/"\([^",]*\), \([^"]*\)"/\1 \2/' "$dir/compared.csv" >"$dir/plain.csv" # no commas inside of fields
        look "$dir/plain.csv" "$name" "${3:-0.3}"
    done <<'PLANS'
ulysses 2x1 2 dense full
hcp 2x1 2 sparse full
hcp 2x1 2 sparse selective
hcp 2x1 2 sparse none
scp 1x2 2 sparse full
scp-dense 1x2 2 dense full
all-gather 1x2 2 dense full
all-gather 1x2 2 sparse full
ring 1x2 2 dense full
ring 1x2 2 sparse full
usp 2x2 4 sparse full
hybrid 2x2 4 sparse full
hybrid-dense 2x2 4 dense full
PLANS
done
