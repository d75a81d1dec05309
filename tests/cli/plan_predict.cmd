# What a plan says of a kernel and what `predict kernel` says of the same shape is one number: attention of 2 heads over 32,000 tokens.
shardwise plan --model dsv-2.7b --cluster 1x8-h100 --cp 8 --tokens 32k --strategies ulysses --dispatch dense -o plan.json >/dev/null
at=$(sed -n '/"phases"/,/]/p' plan.json | grep -n '"attention"' | head -1 | cut -d: -f1)
planned=$(sed -n '/phase_busy_s/{s/.*\[//;s/\].*//;p;q;}' plan.json | cut -d, -f$((at - 1)))
predicted=$(shardwise predict kernel --op dense --tokens 32k --heads 2 --format json | sed -n 's/.*"time_s": \([-0-9.e]*\).*/\1/p')
rm -f plan.json
awk -v a="$planned" -v b="$predicted" 'BEGIN {r = a / b; if (r > 1 - 1e-9 && r < 1 + 1e-9) print "the same"; else print a, b}'
