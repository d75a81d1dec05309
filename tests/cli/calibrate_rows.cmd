# Two blocks at 1e12 and 2e12 FLOP/s. c seconds per FLOP minimise (1 - c/2)^2 + (1 - c/1)^2 in units of 0.5e-12: c = (1/2 + 1) / (1/4 + 1) =
# 1.2, so -40% and +20%. Without its own block a point gets the other's rate: -50% and +100%. The fit's file plans as the rows do.
shardwise plan --model dsv-2.7b --cluster 1x8-h100 --tokens 64k --gpus 2 --cp 2 --phase attention -o plan.json >/dev/null
{
    printf "# input: plan.json fnv1a64=0\n"
    printf "# schema: shardwise-measured/1\n# plan signature: %s\n# ranks: 2\n" "$(sed -n 's/.*"signature": "\([0-9a-f]*\)".*/\1/p' plan.json)"
    printf "block\trepeat\trank\tpass\tphase\tclass\tseconds\twait_s\tsent_bytes\treceived_bytes\twork\n"
    for block in 0 1; do
        printf "$block\t0\t0\tforward\tattention\tattention-dense\t%s\t0\t0\t0\t1e10\n" "$(awk "BEGIN {print 1e10 * 4 * 128 / (1 + $block) / 1e12}")"
    done
} >rows.tsv
shardwise calibrate rows.tsv -o fit.json | sed -E -e '/^# (shardwise|input)/d' -e 's/ +/ /g'
plan() {
    shardwise plan --model dsv-2.7b --cluster 1x8-h100 --tokens 64k --gpus 2 --cp 2 --phase attention --eval measured --measured "$1" 2>&1 | sed '/^#/d'
}
diff <(plan fit.json) <(plan plan.json,rows.tsv)
status=$?
rm -f plan.json rows.tsv fit.json
exit $status
