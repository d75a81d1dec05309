shardwise cost --model dsv-2.7b --cluster 1x8-h100 --cp 8 --strategies ulysses --tokens 128k --train-samples 1M --format json | sed '/"provenance"/,/"samples"/d' | wording
