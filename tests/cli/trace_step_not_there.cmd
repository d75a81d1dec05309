printf 'step,block,head,keep\n%s\n' 100,0,0,0.5 >keeps.csv
printf 'block,head,keep\n0,0,0.5\n' >no_step.csv
cat >model.yaml <<'END'
{source: test, attention: full, blocks: {plain: 1}, width: 128, heads: 1, head_dim: 128, ffn: {width: 512, matrices: 2},
 text: {tokens: 0, width: 0}, params: 1e6, vae: {frames: F, height: 8, width: 8}, patch: {frames: 1, height: 2, width: 2}}
END
plan() { shardwise plan --model model.yaml --cluster 1x1-h100 --tokens 1k "$@" | tail -n 2 | wording; echo "status $?"; }
plan --trace keeps.csv --step 100
plan --trace keeps.csv --step 101
plan --trace no_step.csv --step 100
plan --trace webvid-2.7b-28k --step 100
rm keeps.csv no_step.csv model.yaml
