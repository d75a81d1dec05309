#!/bin/sh
# shardwise-run on plan files of several strategies, on virtual ranks and (with MPIEXEC) on 4 and 8 MPI ranks: verified
# against one rank, with a row for every rank, phase and repeat. Usage: run.sh SHARDWISE_RUN MAKE_PLAN SOURCE_DIR [MPIEXEC]
run=$1 make_plan=$2 here=$3/tests/validate mpirun="$3/tests/mpirun.sh $4" mpi=$4
dir=$(mktemp -d) || exit 1
trap 'rm -rf "$dir"' EXIT
cd "$here" || exit 1
failed=0

# check WHAT RANKS COMMAND...: verified, and the rows of 2 repeats of the attention forward are RANKS * 2.
check() {
    what=$1 ranks=$2
    shift 2
    if ! "$@" --verify --repeats 2 -o "$dir/rows.tsv" >"$dir/out" 2>"$dir/err"; then
        echo "FAIL: $what: $(tail -1 "$dir/err")"
        failed=1
    fi
    grep -q '^Verified against one rank' "$dir/out" || { echo "FAIL: $what: not verified"; failed=1; }
    rows=$(awk -F'\t' '$1 == 0 && $4 == "forward" && $5 == "attention"' "$dir/rows.tsv" | wc -l)
    [ "$rows" -eq $((ranks * 2)) ] || { echo "FAIL: $what: $rows attention rows, want $((ranks * 2))"; failed=1; }
}

while read -r strategy degree ranks dispatch; do
    plan="$dir/$strategy.json"
    "$make_plan" ./small-model.yaml ./small-cluster.yaml ./small-kernels.yaml 900 "$strategy" "$degree" "$dispatch" \
        0.1,0.3,0.05,0.5 "$plan" || exit 1
    check "$strategy $degree $dispatch, loopback" "$ranks" "$run" "$plan" --comm loopback
    [ -n "$mpi" ] && check "$strategy $degree $dispatch, MPI" "$ranks" $mpirun "$ranks" "$run" "$plan"
done <<'PLANS'
single 1x1 1 sparse
ulysses 4x1 4 dense
hcp 4x1 4 sparse
scp 1x4 4 sparse
all-gather 1x4 4 dense
ring 1x4 4 sparse
usp 2x2 4 dense
hybrid 4x2 8 sparse
hybrid-dense 2x4 8 dense
PLANS

# By the CPU clock the members of an exchange begin it together: the sums of what each did and waited for agree.
"$make_plan" ./small-model.yaml ./small-cluster.yaml ./small-kernels.yaml 900 hcp 4x1 sparse 0.1,0.3,0.05,0.5 "$dir/clock.json" &&
    "$run" "$dir/clock.json" --comm loopback --clock cpu --repeats 2 -o "$dir/rows.tsv" >/dev/null || failed=1
grep -q '^# clock: cpu' "$dir/rows.tsv" || { echo "FAIL: the rows do not say which clock"; failed=1; }
awk -F'\t' '/^[0-9]/ {
    t[$1, $2, $3] += $8
    if ($6 == "collective") {
        key = $1 SUBSEP $2 SUBSEP $4 SUBSEP $5
        if (key in begun && (t[$1, $2, $3] - begun[key]) ^ 2 > 1e-16) { print "FAIL: rank " $3 " begins " $5 " apart"; bad = 1 }
        begun[key] = t[$1, $2, $3]
        met++
    }
    t[$1, $2, $3] += $7
} END { if (!met) print "FAIL: no exchanges"; exit bad || !met }' "$dir/rows.tsv" || failed=1

[ $failed -eq 0 ] && echo "all plans run and are verified"
exit $failed
