# GPU-hours by hand from the plans of the stages: dense, and linear annealing from keep 1 at step 0 to 0.02 at step 700 of 1000, in two
# stages whose middles are steps 125 and 625: keep 0.825 and 0.125. 64 samples a step.
case="--model dsv-2.7b --cluster 1x8-h100 --tokens 64k --kernels dsv-triton --union fixed:0.5"
rate() { shardwise plan $case "$@" --format json | awk -F'[:,]' '/^ *"cp"/ {r = 8 / $2} /^ *"step_s"/ {s = $2} END {printf "%.17g", r / s}'; }
dense=$(rate --dispatch dense) early=$(rate --keep 0.825) late=$(rate --keep 0.125)
hours() { shardwise cost $case --train-steps 1000 --batch 64 --format csv "$@" | awk -F, "\$1 == \"$run\" {print \$2}"; }
check() { awk -v what="$1" -v is="$2" -v want="$3" 'BEGIN {print what, is / want - 1 < 1e-9 && want / is - 1 < 1e-9 ? "as by hand" : is " is not " want}'; }
run=dense
check dense "$(hours)" "$(awk -v OFMT=%.17g "BEGIN {print 64000 * 8 / $dense / 3600}")"
run=sparse
check annealed "$(hours --schedule anneal:start=1,end=0.02,from=0,to=700 --stages 2)" \
    "$(awk -v OFMT=%.17g "BEGIN {print (16000 / $early + 48000 / $late) * 8 / 3600}")"
check 'dense first' "$(hours --keep 0.125 --dense-first 250)" "$(awk -v OFMT=%.17g "BEGIN {print (16000 / $dense + 48000 / $late) * 8 / 3600}")"
check 'a constant schedule' "$(hours --schedule constant:keep=0.125 --stages 5)" "$(hours --keep 0.125)"
check 'tokens' "$(shardwise cost $case --train-tokens 640M --keep 0.125 --format csv | awk -F, '$1 == "sparse" {print $2}')" \
    "$(awk -v OFMT=%.17g "BEGIN {print 10000 / $late * 8 / 3600}")"
# 2 replicas of 4 GPUs: a batch of 2 is a pass, of 1 as well (one replica waits), of 3 two passes.
step=$(shardwise plan $case --dispatch dense --cp 4 --format json | awk -F'[:,]' '/^ *"step_s"/ {print $2}')
batch() { shardwise cost $case --train-steps 1000 --cp 4 --batch $1 --format csv | awk -F, '$1 == "dense" {print $2}'; }
for case_of in '1 1' '2 1' '3 2' '4 2'; do
    set -- $case_of
    check "batch $1" "$(batch $1)" "$(awk -v OFMT=%.17g "BEGIN {print $2 * 1000 * $step * 8 / 3600}")"
done
