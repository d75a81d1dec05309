# A study's point with --eval measured is what `plan` says with it; so is `size`'s row of two GPUs.
shardwise plan --model dsv-2.7b --cluster 1x8-h100 --tokens 64k --gpus 2 --cp 2 --phase attention -o plan.json >/dev/null
{
    printf "# schema: shardwise-measured/1\n# plan signature: %s\n# ranks: 2\n" "$(sed -n 's/.*"signature": "\([0-9a-f]*\)".*/\1/p' plan.json)"
    printf "block\trepeat\trank\tpass\tphase\tclass\tseconds\twait_s\tsent_bytes\treceived_bytes\twork\n"
    for pass in forward backward; do
        factor=4; [ $pass = forward ] || factor=10
        for rank in 0 1; do
            printf "0\t0\t$rank\t$pass\tattention\tattention-dense\t%s\t0\t0\t0\t1e10\n" "$(awk "BEGIN {print 1e10 * $factor * 128 / 1e12}")"
        done
    done
} >rows.tsv
what="--tokens 64k --cp 2 --phase attention --strategies ulysses --eval measured --measured plan.json,rows.tsv"
step=$(shardwise plan --model dsv-2.7b --cluster 1x8-h100 --gpus 2 $what --format json 2>/dev/null | sed -n 's/^ *"step_s": \([0-9.e+-]*\),*$/\1/p')
cat >study.yaml <<'END'
parameters: {model: dsv-2.7b, cluster: 1x8-h100, gpus: 2, tokens: 64k, cp: 2, phase: attention, strategies: ulysses,
             eval: [measured, cost], measured: "plan.json,rows.tsv"}
END
shardwise sweep study.yaml -o - >rows.csv
grep -c "^# input: rows.tsv" rows.csv
sed '/^#/d' rows.csv | grep -c ",$step,"
sed '/^#/d' rows.csv | grep -o "goes with --eval measured"
shardwise size --model dsv-2.7b --cluster 1x8-h100 --gpus 2 $what --format csv | grep -c ",$step,"
rm plan.json rows.tsv rows.csv study.yaml
