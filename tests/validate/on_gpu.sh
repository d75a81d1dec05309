#!/bin/sh
# validate/on_gpu and the kernel profile that it makes, as far as a machine without a GPU goes.
# Usage: on_gpu.sh ROOT BUILD
root=$1 build=$2
folder=$(mktemp -d) || exit 1
trap 'rm -rf "$folder"' EXIT
failed=0
fail() {
    echo "FAIL: $*"
    failed=1
}
near() { # value expected what: within 1%
    awk -v x="$1" -v want="$2" 'BEGIN { exit !(x > 0.99 * want && x < 1.01 * want) }' || fail "$3: '$1', want $2"
}

# The straight lines through the points that DSV's artifact printed (exp2; 9.25 ms at 6,400 of 32,000 keys, ...) are those
# of presets/kernel/dsv-triton.yaml, which were fitted by another program.
cat >"$folder/sparse.csv" <<'CSV'
gpu,S,H,D,group,kernel,pass_,kept_kv,variant,usable,value,unit
h100,32000,16,128,32,sparse_group,fwd,6400,default,1,9.25,ms
h100,32000,16,128,32,sparse_group,fwd,4864,default,1,7.08,ms
h100,32000,16,128,32,sparse_group,fwd,3328,default,1,4.90,ms
h100,32000,16,128,32,sparse_group,fwd,1792,default,1,2.75,ms
h100,32000,16,128,32,sparse_group,fwd,768,default,1,1.31,ms
h100,32000,16,128,32,sparse_group,bwd,6400,default,1,193.6,ms
h100,32000,16,128,32,sparse_group,bwd,4864,default,1,147.9,ms
h100,32000,16,128,32,sparse_group,bwd,3328,default,1,102.7,ms
h100,32000,16,128,32,sparse_group,bwd,1792,default,1,57.4,ms
h100,32000,16,128,32,sparse_group,bwd,768,default,1,27.2,ms
h100,32000,16,128,32,sparse_group,bwd,768,other,0,1.0,ms
h100,64000,4,128,32,lowrank_select,fwd,5120,default,1,5.2,ms
CSV
cat >"$folder/attention.csv" <<'CSV'
gpu,mask,batch,seqlen,heads,head_dim,pass_,kernel,usable,lat_us
h100,noncausal,1,64000,4,128,fwd,default,1,18730
h100,noncausal,1,64000,4,128,bwd,default,1,245700
h100,noncausal,1,64000,4,128,fwd,torch-flash,0,12940
CSV
profile=$folder/profile.yaml
awk -f "$root/validate/kernel_profile.awk" -v group=32 -v peak_tflops=989.4 -v hbm_tb=3.35 "$folder"/*.csv >"$profile" ||
    fail "no profile"
number() { awk -v of="$1" -v key="$2:" '$1 == of ":" { inside = 1 } inside && $1 == key { print $2 + 0; exit }' "$profile"; }
rows=$(awk '$1 == "row:" { print $2 }' "$profile") pairs=$(awk '$1 == "pair:" { print $2 }' "$profile")
near "${rows%%
*}" 446 "forward row, ps"
near "${rows##*
}" 8877 "backward row, ps"
near "${pairs%%
*}" 2.749 "forward pair, ps"
near "${pairs##*
}" 57.63 "backward pair, ps"
near "$(number sparse select)" 10.16 "select, ps"
near "$(number dense forward)" 45.3 "dense forward, %"
near "$(number dense backward)" 8.63 "dense backward, %"
near "$(number best forward)" 65.5 "best forward, %: FlashAttention-3's 648 TFLOP/s"
awk -f "$root/validate/kernel_profile.awk" -v group=64 "$folder"/*.csv >"$folder/none" && fail "a profile of groups that were not measured"
[ ! -s "$folder/none" ] || fail "half a profile"
if [ -x "$build/cli/shardwise" ]; then
    "$build/cli/shardwise" memory --model dsv-2.7b --cluster 1x8-h100 --cp 8 --tokens 64k --kernels "$profile" >/dev/null ||
        fail "shardwise does not read the profile"
fi

on_gpu=$root/validate/on_gpu
"$on_gpu" >/dev/null 2>&1
[ $? = 2 ] || fail "without a folder: want exit 2"
"$on_gpu" --wrong "$folder/out" >/dev/null 2>&1
[ $? = 2 ] || fail "an unknown option: want exit 2"
if ! command -v nvidia-smi >/dev/null && [ ! -e /dev/nvidia0 ]; then
    "$on_gpu" "$folder/out" >/dev/null 2>&1
    [ $? = 4 ] || fail "without a GPU: want exit 4"
fi
"$on_gpu" --dry-run --build "$build" --seconds 100 "$folder/out" >"$folder/said" 2>&1 || fail "the dry run: $(cat "$folder/said")"
for want in 'would run: tests' 'would run: ceilings' 'would run: sanitizer_racecheck' 'tests_emulated | ok' 'shardwise calibrate'; do
    grep -q "$want" "$folder/said" || fail "the dry run does not say '$want'"
done
cmp -s "$folder/out/summary.md" /dev/null && fail "no summary"
grep -q '^- commit: ' "$folder/out/summary.md" || fail "the summary has no commit"
(cd "$folder/out" && [ "$(ls | tr '\n' ' ')" = 'results.tar.gz summary.md ' ]) || fail "the folder has $(ls "$folder/out" | tr '\n' ' ')"
tar tzf "$folder/out/results.tar.gz" | grep -q tests_emulated.log || fail "results.tar.gz lacks a log"
"$on_gpu" --dry-run --build "$build" "$folder/out" >/dev/null 2>&1
[ $? = 2 ] || fail "a folder with results: want exit 2"

# With a stand-in for the GPU's tools: a benchmark that writes a row and then hangs, a run that is ended early.
mkdir -p "$folder/bin" "$folder/fake/bench/cuda"
printf '#!/bin/sh\ncase $* in *-l*) while :; do echo "now, 1500, 2600, 650.0, 50"; sleep 1; done ;; *) echo "NVIDIA H200, 580" ;; esac\n' >"$folder/bin/nvidia-smi"
cat >"$folder/fake/bench/cuda/bench_cuda" <<'SH'
#!/bin/sh
for part; do :; done # the last argument
echo "row of $part"
echo "h200,$part" >>"$1/$part.csv"
[ "$part" != sparse ] || exec sleep 100
SH
chmod +x "$folder/bin/nvidia-smi" "$folder/fake/bench/cuda/bench_cuda"
run() { # FOLDER SECONDS
    PATH=$folder/bin:$PATH SHARDWISE_COMMIT=0123abc "$on_gpu" --build "$folder/fake" --seconds "$2" "$1" >"$folder/said" 2>&1
}
results_hold() { # FOLDER
    grep -q '^- commit: 0123abc' "$1/summary.md" || fail "the commit is not the one that was named: $(cat "$1/summary.md")"
    grep -q '^- under load: SM clock 1500 MHz' "$1/summary.md" || fail "no clocks: $(cat "$1/summary.md")"
    grep -q '| ceilings | ok' "$1/summary.md" || fail "the first benchmark is lost: $(cat "$1/summary.md")"
    grep -q 'h200,sparse' "$1/sparse.csv" || fail "the rows of the part that was cut are lost"
    tar tzf "$1/results.tar.gz" | grep -q ceilings.log || fail "results.tar.gz lacks a log"
    [ "$(find "$1" -type f | wc -l)" -le 8 ] || fail "more than eight files: $(ls "$1")"
}
run "$folder/short" 12
[ $? = 1 ] || fail "parts out of time: want exit 1"
grep -q '| sparse | out of time' "$folder/short/summary.md" || fail "the hanging part is not named"
grep -q '| dense | no time left' "$folder/short/summary.md" || fail "parts without time are not named"
results_hold "$folder/short"
run "$folder/ended" 100 &
started=$!
i=0
until [ -s "$folder/ended/sparse.csv" ] || [ $((i += 1)) -gt 300 ]; do sleep 0.1; done
sleep 2 # for a reading of the clocks
pkill -TERM -P $started
wait $started
grep -q '^- ended early' "$folder/ended/summary.md" || fail "an early end is not said: $(cat "$folder/ended/summary.md")"
results_hold "$folder/ended"
exit $failed
