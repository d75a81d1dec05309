# Keeps alone, as the trace has them: the heads of a dense and of a windowed pattern in turn.
shardwise trace generate --pattern dense+wa-m --grid 6x6x6 --query-group 1x1x1 --kv-block 1x1x1 --blocks 2 --heads 2 --seed 7 -o keeps.csv
cat keeps.csv
shardwise trace import keeps.csv -o keeps.h5
shardwise trace show keeps.h5 | grep records
rm keeps.csv keeps.h5
