# 1e15 pairs at 128 dimensions are 5.12e17 FLOP: 517 s at the 989.4e12 of an H100, not 1 s.
shardwise plan --model dsv-2.7b --cluster 1x8-h100 --tokens 64k --gpus 2 --cp 2 -o plan.json >/dev/null
{
    printf "# schema: shardwise-measured/1\n# plan signature: %s\n# ranks: 2\n" "$(sed -n 's/.*"signature": "\([0-9a-f]*\)".*/\1/p' plan.json)"
    printf "block\trepeat\trank\tpass\tphase\tclass\tseconds\twait_s\tsent_bytes\treceived_bytes\twork\n"
    printf "0\t%d\t%d\tforward\tattention\tattention-dense\t%s\t0\t0\t0\t%s\n" \
        0 0 1 1e15 0 1 1 1e15
} >rows.tsv
shardwise compare plan.json rows.tsv | grep ^Impossible
status=$?
rm plan.json rows.tsv
exit $status
