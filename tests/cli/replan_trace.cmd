# The steps of a trace: keeps of 0.3 and then 0.05 in every head. Its own first plan is that of `plan --step`.
{ echo step,block,head,keep
  for step in 0 1000 2000; do for block in {0..31}; do for head in {0..15}; do
      echo $step,$block,$head,$([ $step = 0 ] && echo 0.3 || echo 0.05); done; done; done; } > k.csv
what="--model dsv-2.7b --cluster 1x8-h100 --cp 8 --tokens 64k --kernels dsv-triton --trace k.csv"
shardwise replan $what --replan-time 10s | wording
shardwise replan $what --replan-time 10s --format csv | grep -v '^#' | cut -d, -f4 | sed -n '2p;3p' > own
for step in 0 1000; do shardwise plan $what --step $step --format json | grep '"step_s"' | tr -dc '0-9.\n'; done | diff own - && echo same as plan
rm k.csv own
