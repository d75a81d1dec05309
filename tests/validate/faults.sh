#!/bin/sh
# What goes wrong on real machines must end in an error that names rank and phase, within 30 s, with all ranks gone and
# the rows already measured kept. Usage: faults.sh SHARDWISE_RUN MAKE_PLAN SOURCE_DIR MPIEXEC [sanitized]
run=$1 make_plan=$2 here=$3/tests/validate mpirun="$3/tests/mpirun.sh $4" sanitized=$5
dir=$(mktemp -d) || exit 1
trap 'rm -rf "$dir"' EXIT
failed=0

fail() {
    echo "FAIL: $1"
    sed 's/^/    /' "$dir/err"
    failed=1
}

# expect STATUS PATTERN WHAT COMMAND...: exit status (x: any but 0) and a line on stderr, within 30 s.
expect() {
    status=$1 pattern=$2 what=$3
    shift 3
    begun=$(date +%s)
    timeout 60 "$@" >"$dir/out" 2>"$dir/err"
    got=$?
    took=$(($(date +%s) - begun))
    [ "$status" = x ] && [ $got -ne 0 ] && status=$got
    [ $got -eq "$status" ] || fail "$what: exit status $got, want $status"
    grep -Eq "$pattern" "$dir/err" || fail "$what: no line like '$pattern'"
    [ $took -le 30 ] || fail "$what: took $took s"
}

cd "$here" || exit 1
"$make_plan" ./small-model.yaml ./small-cluster.yaml ./small-kernels.yaml 2000 hybrid 2x2 sparse 0.1,0.05 "$dir/plan.json" || exit 1

expect 2 'plan is for 4 ranks, 3 were started: want mpirun -np 4' 'a missing rank' $mpirun 3 "$run" "$dir/plan.json"
expect 2 'plan is for 4 ranks, 6 were started' 'more ranks than the plan' $mpirun 6 "$run" "$dir/plan.json"

sed 's/"video_tokens": 2000/"video_tokens": 2400/' "$dir/plan.json" >"$dir/changed.json"
expect 2 'changed.json.*signature' 'a plan of another shape' "$run" "$dir/changed.json" --comm loopback
head -c 3000 "$dir/plan.json" >"$dir/cut.json"
expect 2 'cut.json:[0-9]+' 'half a plan' "$run" "$dir/cut.json" --comm loopback
expect 2 "'9', want rising blocks of 0 to 1" 'a block that is not there' "$run" "$dir/plan.json" --comm loopback --blocks 9

if [ -e /dev/full ]; then
    expect 1 'rank 0, write rows.*No space left' 'a full disk' "$run" "$dir/plan.json" --comm loopback -o /dev/full
    expect x 'rank 0, write rows.*No space left' 'a full disk under MPI' $mpirun 4 "$run" "$dir/plan.json" -o /dev/full
fi

# One rank has little memory.
cat >"$dir/poor.sh" <<'POOR'
#!/bin/sh
if [ "$OMPI_COMM_WORLD_RANK" = 2 ]; then
    if [ -n "$SANITIZED" ]; then
        ASAN_OPTIONS="$ASAN_OPTIONS:allocator_may_return_null=1:max_allocation_size_mb=1"
    else
        ulimit -d 40000
    fi
fi
exec "$@"
POOR
"$make_plan" ./small-model.yaml ./small-cluster.yaml ./small-kernels.yaml 60000 scp-dense 1x4 dense 0.1 "$dir/large.json" || exit 1
SANITIZED=$sanitized
export SANITIZED
expect x 'rank 2, allocate: .*cannot get' 'out of memory on rank 2' $mpirun 4 sh "$dir/poor.sh" "$run" "$dir/large.json"

# A rank that never calls MPI_Init.
expect x 'rank [012], start: not all ranks have started' 'a rank that never starts' \
    $mpirun 3 "$run" "$dir/plan.json" --timeout 4 : -np 1 sleep 40

# hit SIGNAL WHAT PLAN: rank 1 gets SIGNAL in the middle; all are gone within 30 s and what was measured is kept.
cat >"$dir/named.sh" <<'NAMED'
#!/bin/sh
echo $$ >"$PIDS/$OMPI_COMM_WORLD_RANK"
exec "$@"
NAMED
PIDS=$dir/pids
export PIDS
rows() {
    [ -f "$dir/rows.tsv" ] && sed -n '/^0/p' "$dir/rows.tsv" | wc -l || echo 0
}
alive() { # any rank that is no zombie
    ps -o stat= -p "$(cat "$PIDS"/* | paste -sd, -)" | grep -q '^[^Z]'
}
hit() {
    rm -rf "$PIDS" "$dir/rows.tsv"
    mkdir "$PIDS"
    $mpirun 4 sh "$dir/named.sh" "$run" "$3" -o "$dir/rows.tsv" --repeats 100000 --timeout 8 >"$dir/out" 2>"$dir/err" &
    launcher=$!
    waited=0
    while [ "$(rows)" -lt 200 ] && [ $waited -lt 60 ]; do
        sleep 0.5
        waited=$((waited + 1))
    done
    kill "-$1" "$(cat "$PIDS/1")"
    begun=$(date +%s)
    wait $launcher && fail "$2: the launcher says all is well"
    took=$(($(date +%s) - begun))
    [ $took -le 30 ] || fail "$2: the others lived on for $took s"
    waited=0
    while alive && [ $waited -lt 20 ]; do
        sleep 0.5
        waited=$((waited + 1))
    done
    for pid in "$PIDS"/*; do
        ps -o stat= -p "$(cat "$pid")" | grep -q '^[^Z]' && fail "$2: rank ${pid##*/} is still there"
    done
    grep -Eq 'rank 1' "$dir/err" || fail "$2: it is not named"
    grep -Eq 'rank [023], [a-z_ ,-]+: (ended by signal|nothing from|rank [0-9, ]+ of 4 has taken nothing|MPI error|stopped)' "$dir/err" ||
        fail "$2: no other rank says where it was"
    [ "$(rows)" -ge 200 ] || fail "$2: the rows are lost"
}
hit KILL 'a killed rank' "$dir/plan.json"
"$make_plan" ./small-model.yaml ./small-cluster.yaml ./small-kernels.yaml 2000 ring 1x4 sparse 0.1,0.05 "$dir/ring.json" || exit 1
hit KILL 'a rank killed beneath a ring hop' "$dir/ring.json"
hit STOP 'a rank that answers no more' "$dir/ring.json"

[ $failed -eq 0 ] && echo "all faults end in an error that says where"
exit $failed
