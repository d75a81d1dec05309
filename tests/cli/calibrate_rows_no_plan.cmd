{
    printf "# input: plan.json fnv1a64=0\n# schema: shardwise-measured/1\n# plan signature: 0123456789abcdef\n"
    printf "block\trepeat\trank\tpass\tphase\tclass\tseconds\twait_s\tsent_bytes\treceived_bytes\twork\n"
} >rows.tsv
shardwise calibrate rows.tsv
status=$?
rm rows.tsv
exit $status
