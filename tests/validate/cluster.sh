#!/bin/sh
# The job of docs/cluster.md from end to end, with an srun that starts its tasks by mpirun and shows them what srun --mpi=pmix
# sets; then what several processes say that cannot run together. Usage: cluster.sh SHARDWISE SHARDWISE_RUN SOURCE_DIR MPIEXEC
shardwise=$1 run=$2 source=$3 mpiexec=$4
dir=$(mktemp -d) || exit 1
trap 'rm -rf "$dir"' EXIT
mkdir "$dir/bin" && cp "$source"/tests/validate/small-*.yaml "$dir" && cd "$dir" || exit 1
# No machine is faster than these roofs: compare has nothing to call impossible.
sed -i "s/memory: 4 GiB/memory: 16 GiB/; s/100 GFLOP/100 TFLOP/; s/hbm: 20 GB/hbm: 2000 GB/; s/rate: 5 GB/rate: 500 GB/" small-cluster.yaml
ln -s "$shardwise" bin/shardwise && ln -s "$run" bin/shardwise-run

cat >bin/scontrol <<'END'
#!/bin/sh
[ "$1 $2" = "show hostnames" ] && printf 'here\nthere\n'
END
cat >bin/srun <<END
#!/bin/sh
[ "\$1" = --mpi=pmix ] && shift
exec "$source/tests/mpirun.sh" "$mpiexec" \$SLURM_NTASKS task "\$@"
END
cat >bin/task <<'END'
#!/bin/sh
export SLURM_PROCID=$OMPI_COMM_WORLD_RANK SLURM_LOCALID=$OMPI_COMM_WORLD_LOCAL_RANK SLURM_NODEID=0
export SLURM_STEP_NUM_TASKS=$OMPI_COMM_WORLD_SIZE SLURM_STEP_TASKS_PER_NODE=$OMPI_COMM_WORLD_LOCAL_SIZE
unset OMPI_COMM_WORLD_RANK OMPI_COMM_WORLD_SIZE OMPI_COMM_WORLD_LOCAL_RANK OMPI_COMM_WORLD_LOCAL_SIZE
exec "$@"
END
chmod +x bin/*
PATH=$dir/bin:$PATH
export PATH SLURM_NTASKS=4 SLURM_JOB_NODELIST='here,there' SLURM_PROCID=0
failed=0
fail() {
    echo "FAIL: $1"
    failed=1
}

small="--model ./small-model.yaml --cluster ./small-cluster.yaml --kernels ./small-kernels.yaml --gpus 4 --tokens 1k --keep 0.1"
WHAT=$small HOW="--backend cpu --comm mpi --clock cpu" bash "$source/docs/cluster.sbatch" >out 2>err ||
    { fail "the job: exit status $?"; tail -3 err; }
[ "$(sed -n '/^# ranks: 4$/p; /^# cores: [0-9]*, ranks on them: 4,/p' measured.tsv | wc -l)" -eq 2 ] || fail "the rows do not say that there are 4 ranks here"
[ "$(grep -c '^# schema' measured.tsv)" -eq 1 ] || fail "more than one rank wrote the rows"
[ "$(awk -F'\t' '$1 == 0 && $4 == "forward" && $5 == "attention"' measured.tsv | wc -l)" -eq 40 ] || fail "10 repeats of 4 ranks are not 40 rows"
grep -q 'whole block' compare.txt || fail "nothing is compared"
grep -q 'sparse attention forward\|dense attention forward' calibrate.txt || fail "nothing is fitted"
grep -q '"evaluator": "measured"' again.json || fail "no plan from the fit"

# expect PATTERN WHAT COMMAND...: exit status 2, and a line on stderr.
expect() {
    pattern=$1 what=$2
    shift 2
    "$@" >out 2>err
    [ $? -eq 2 ] && grep -Eqe "$pattern" err || { fail "$what"; head -3 err; }
}
shardwise plan $small --tp 2 --cp 2 -o tp.json >out 2>err || fail "a plan with tensor parallelism: $(cat err)"
expect 'tp.json: tensor parallelism of degree 2: only context parallelism can be run' 'tensor parallelism' shardwise-run tp.json
shardwise plan $small --cp 4 --strategies db-sp -o db-sp.json >out 2>err || fail "a plan of db-SP: $(cat err)"
expect "'--offload' is no option of shardwise-run" 'an option of the plan' shardwise-run plan.json --offload kv
expect "'-x' is no option of shardwise-run" 'an unknown letter' shardwise-run plan.json -x
expect '--comm: a value is missing' 'no value' shardwise-run plan.json --comm
expect 'db-sp.json: block 0: db-sp moves blocks of queries between ranks, which cannot be run' 'db-SP' shardwise-run db-sp.json
started="ASAN_OPTIONS=detect_leaks=0 SLURM_PROCID=0 SLURM_STEP_NUM_TASKS=4 SLURM_LOCALID=0"
expect 'srun started 4 processes, and each would do the whole run' 'srun and virtual ranks' env $started shardwise-run plan.json --comm loopback
expect 'srun started 4 processes, but MPI sees this one only' 'srun without PMI' env $started shardwise-run plan.json --comm mpi
expect 'torchrun started 4 processes' 'torchrun and virtual ranks' env RANK=0 WORLD_SIZE=4 shardwise-run plan.json --comm loopback
[ $failed -eq 0 ] && echo "a job from plan to plan"
exit $failed
