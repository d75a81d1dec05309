# kill -9 in the middle, twice (a machine that is quicker than the kill has nothing to resume); the file that --resume makes is the one of a sweep that was not killed.
cat >study.yaml <<'END'
parameters: {model: dsv-2.7b, cluster: 2x8-h100, tokens: {from: 20k, to: 60k, by: 1k}, trace: webvid-2.7b-28k, gpus: 8}
END
shardwise sweep study.yaml -o whole.csv >/dev/null
for rows in 18 30; do
    shardwise sweep study.yaml -o rows.csv --jobs 2 $([ $rows = 18 ] || echo --resume) >/dev/null 2>&1 &
    until [ "$(cat rows.csv 2>/dev/null | wc -l)" -ge $rows ]; do sleep 0.01; done
    kill -9 $!
    wait $! 2>/dev/null
done
head -c -7 rows.csv >cut.csv && mv cut.csv rows.csv
shardwise sweep study.yaml -o rows.csv --resume | sed -n 's/, [0-9]* of them from before/, some from before/;/points/p'
cmp rows.csv whole.csv && echo the same bytes
sed -i s/60k/61k/ study.yaml
shardwise sweep study.yaml -o rows.csv --resume 2>&1 | sed 's/fnv1a64=[0-9a-f]*/HASH/g'
rm study.yaml rows.csv whole.csv
