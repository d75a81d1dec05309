# GPU-hours by hand from the plans of the stages: dense, and linear annealing from keep 1 at step 0 to 0.02 at step 700 of 1000, in two
# stages whose middles are steps 125 and 625: keep 0.825 and 0.125. 64 samples a step, by hand of passes: blocks and weights in each, the
# optimizer once.
case="--model dsv-2.7b --cluster 1x8-h100 --tokens 64k --kernels dsv-triton --union fixed:0.5"
step() { # seconds of a step of $1 samples
    local batch=$1
    shift
    shardwise plan $case --batch $batch "$@" --format json | awk -F'[:,]' -v batch=$batch '/^ *"cp"/ {r = 8 / $2} /^ *"blocks_s"/ {s = $2}
        /^ *"fsdp_s"/ {s += $2} /^ *"optimizer_s"/ {o = $2} END {printf "%.17g", int((batch + r - 1) / r) * s + o}'
}
dense=$(step 64 --dispatch dense) early=$(step 64 --keep 0.825) late=$(step 64 --keep 0.125)
hours() { shardwise cost $case --train-steps 1000 --batch 64 --format csv "$@" | awk -F, "\$1 == \"$run\" {print \$2}"; }
check() { awk -v what="$1" -v is="$2" -v want="$3" 'BEGIN {print what, is / want - 1 < 1e-9 && want / is - 1 < 1e-9 ? "as by hand" : is " is not " want}'; }
by_hand() { awk -v OFMT=%.17g "BEGIN {print ($1) * 8 / 3600}"; }
run=dense
check dense "$(hours)" "$(by_hand "1000 * $dense")"
run=sparse
check annealed "$(hours --schedule anneal:start=1,end=0.02,from=0,to=700 --stages 2)" "$(by_hand "250 * $early + 750 * $late")"
check 'dense first' "$(hours --keep 0.125 --dense-first 250)" "$(by_hand "250 * $dense + 750 * $late")"
check 'a constant schedule' "$(hours --schedule constant:keep=0.125 --stages 5)" "$(hours --keep 0.125)"
check 'tokens' "$(shardwise cost $case --train-tokens 640M --keep 0.125 --batch 64 --format csv | awk -F, '$1 == "sparse" {print $2}')" \
    "$(by_hand "10000 / 64 * $late")"
# 2 replicas of 4 GPUs: a batch of 2 is a pass, of 1 as well (one replica waits), of 3 two passes.
batch() { shardwise cost $case --train-steps 1000 --cp 4 --batch $1 --format csv | awk -F, '$1 == "dense" {print $2}'; }
for size in 1 2 3 4; do
    check "batch $size" "$(batch $size)" "$(by_hand "1000 * $(step $size --dispatch dense --cp 4)")"
done
