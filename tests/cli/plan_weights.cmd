shardwise plan --model wan2.1-14b --cluster 2x8-h200-400g --cp 16 --clip 480x832x81 --keep 0.05 --explain --top 2 | sed -n '/^Step/p; /^Slowest/,/^$/p; /^Block/,/interval/p' | wording
