# Rows of another plan.
shardwise plan --model dsv-2.7b --cluster 1x8-h100 --tokens 64k --gpus 2 --cp 2 -o plan.json >/dev/null
{
    printf "# schema: shardwise-measured/1\n# plan signature: %s\n# ranks: 2\n" 0123456789abcdef
    printf "block\trepeat\trank\tpass\tphase\tclass\tseconds\twait_s\tsent_bytes\treceived_bytes\twork\n"
    printf "0\t%d\t%d\tforward\tattention\tattention-dense\t%s\t0\t0\t0\t%s\n" \
        0 0 0.9 0 0 1 9 0 1 0 0.9 0 1 1 1 0 2 0 0.9 0 2 1 2 0
} >rows.tsv
shardwise compare plan.json rows.tsv 2>err.txt
status=$?
sed -E 's/has [0-9a-f]{16}/has SIGNATURE/' err.txt >&2
rm plan.json rows.tsv err.txt
exit $status
