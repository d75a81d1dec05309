# Every command and option is in the man page, and troff has no complaint where there is one.
shardwise help --man >m.1
for word in plan memory predict show; do
    shardwise $word --help | grep -oE '^ +(-., )?--[a-z-]+' | grep -oE '\-\-[a-z-]+' | while read -r option; do
        grep -qF -- "$(sed 's/-/\\-/g' <<<"$option")" m.1 || echo "$word $option is missing"
    done
done
if command -v groff >/dev/null; then groff -man -Tutf8 -ww -z m.1; fi
head -3 m.1 | sed 's/"shardwise [0-9.]*"/"shardwise VERSION"/'
rm m.1
