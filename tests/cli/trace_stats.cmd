shardwise trace generate --pattern window:t=4,h=8,w=8 --grid 8x8x8 --query-group 2x2x2 --kv-block 2x2x2 --blocks 2 --heads 2 -o t.h5
shardwise trace stats t.h5 --what unions --format csv | grep -E '^(layout|slabs,[24])' | cut -d, -f1-6
shardwise trace stats t.h5 --what fits | wording
shardwise trace show t.h5 | grep -E 'records|atoms|closed'
rm t.h5
