# Three repeats whose slowest rank takes 9, 1 and 2 s: the median is 2.
shardwise plan --model dsv-2.7b --cluster 1x8-h100 --tokens 64k --gpus 2 --cp 2 -o plan.json >/dev/null
{
    printf "# schema: shardwise-measured/1\n# plan signature: %s\n# ranks: 2\n" "$(sed -n 's/.*"signature": "\([0-9a-f]*\)".*/\1/p' plan.json)"
    printf "block\trepeat\trank\tpass\tphase\tclass\tseconds\twait_s\tsent_bytes\treceived_bytes\twork\n"
    printf "0\t%d\t%d\tforward\tattention\tattention-dense\t%s\t0\t0\t0\t%s\n" \
        0 0 0.9 0 0 1 9 0 1 0 0.9 0 1 1 1 0 2 0 0.9 0 2 1 2 0
} >rows.tsv
shardwise compare plan.json rows.tsv | sed -E -e '/^# (shardwise|input)/d' -e 's/[0-9.]+ [mu]s/TIME/; s/[+]?[0-9]+%/SHARE/g; s/[0-9]+ times/RATIO times/; s/ +/ /g'
status=$?
rm plan.json rows.tsv
exit $status
