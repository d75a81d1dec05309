shardwise plan --model dsv-2.7b --cluster 1x8-h100 --tokens 128k --cp 8 --strategies ulysses --phase attention --format csv | sed -n 1,10p | wording
