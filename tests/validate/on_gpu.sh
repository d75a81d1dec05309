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
exit $failed
