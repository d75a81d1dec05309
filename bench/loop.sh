#!/bin/sh
# The loop closed on one machine: measure it, plan some shapes, run them on MPI ranks, fit to what was measured, plan other
# shapes with the fit, run those and compare. Prints the left-out error of the fit and each comparison's last lines.
# By the CPU clock each rank is timed as if it had a core of its own, so neither other work on the machine nor more ranks than
# cores hurt; the wall clock wants a quiet machine with a core for each rank.
# Usage: bench/loop.sh [build-directory [ranks [wall|cpu]]]    (ranks: 2, cpu)
set -eu
root=$(cd "$(dirname "$0")/.." && pwd)
build=$(cd "${1:-$root/build/release}" && pwd)
ranks=${2:-2} clock=${3:-cpu}
dir=$(mktemp -d)
trap 'rm -rf "$dir"' EXIT
run=$build/validate/shardwise-run make_plan=$build/tests/validate/make_plan
export OMP_NUM_THREADS=1
mpi="$root/tests/mpirun.sh mpiexec $ranks"
cd "$root/tests/validate"

# plan NAME CLUSTER KERNELS TOKENS STRATEGY DEGREE DISPATCH KEEPS; then run it.
carry_out() {
    "$make_plan" ./small-model.yaml "$2" "$3" "$4" "$5" "$6" "$7" "$8" "$dir/$1.json"
    $mpi "$run" "$dir/$1.json" -o "$dir/$1.tsv" --repeats 9 --clock "$clock" >/dev/null </dev/null
}

$mpi "$run" bench machine -o "$dir/me" --repeats 9 --clock "$clock"
first="$dir/me-cluster.yaml $dir/me-kernels.yaml"
carry_out a $first 2000 hcp "${ranks}x1" sparse 0.02,0.05
carry_out b $first 3000 scp "1x$ranks" sparse 0.3,0.2
carry_out c $first 1500 ulysses "${ranks}x1" dense 1
carry_out d $first 4000 hcp "${ranks}x1" sparse 0.05,0.1
carry_out e $first 2000 scp-dense "1x$ranks" dense 1
"$run" calibrate "$dir/a.json" "$dir/a.tsv" "$dir/b.json" "$dir/b.tsv" "$dir/c.json" "$dir/c.tsv" "$dir/d.json" \
    "$dir/d.tsv" "$dir/e.json" "$dir/e.tsv" -o "$dir/fit"
fit="$dir/fit-cluster.json $dir/fit-kernels.json"
while read -r name tokens strategy degree dispatch keeps; do
    carry_out "$name" $fit "$tokens" "$strategy" "$degree" "$dispatch" "$keeps"
    echo "== $strategy $degree, $dispatch, $tokens tokens, keeps $keeps"
    "$run" compare "$dir/$name.json" "$dir/$name.tsv" | grep -E 'attention|whole|^Block|kv gather |all-gather|qkv all-to-all ' || true
done <<TESTS
f 5000 hcp ${ranks}x1 sparse 0.1,0.03,0.3
g 4000 all-gather 1x$ranks sparse 0.15,0.05
h 4000 scp 1x$ranks sparse 0.1,0.05
i 3000 ulysses ${ranks}x1 dense 1
j 4000 ring 1x$ranks dense 1
k 6000 ring 1x$ranks sparse 0.1,0.05
TESTS
