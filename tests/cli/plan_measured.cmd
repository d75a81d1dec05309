# Dense attention measured at 1e12 FLOP/s: 64,000^2 pairs x 8 heads x 512 FLOP are 16.78 s a rank forward, twice that with recompute, and
# 2.5 times backward: 75.5 s, whatever the H100 profile says. What was not measured is named.
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
shardwise plan --model dsv-2.7b --cluster 1x8-h100 --tokens 64k --gpus 2 --cp 2 --phase attention --strategies ulysses --eval measured --measured plan.json,rows.tsv | sed -n '/^configuration/,/^$/p'
status=$?
rm -f plan.json rows.tsv
exit $status
