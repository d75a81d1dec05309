#!/bin/sh
# What the compiler says that each CUDA kernel needs. Every kernel has to do without spills and without a stack frame: both
# mean an array that was to stay in registers lies in memory.
#   resources.sh compile OBJECT COMMAND...   runs the compiler; what ptxas says goes to OBJECT.ptxas, all else to stderr
#   resources.sh report OUT OBJECT...        a table of all kernels and targets in OUT; exits 1 if one spills or has a
#                                            stack frame, or waits for each wgmma alone (C7510 and its kin), or if
#                                            there is no report
case $1 in
compile)
    log=$2.ptxas
    shift 2
    "$@" 2>"$log.all"
    status=$?
    grep -v -e '^ptxas info' -e 'bytes stack frame' "$log.all" >&2
    grep -e '^ptxas info' -e 'bytes stack frame' "$log.all" >"$log"
    rm -f "$log.all"
    exit $status
    ;;
report)
    out=$2
    shift 2
    for object in "$@"; do
        sed "s|^|${object##*/}: |" "$object.ptxas" || exit 1
    done | awk '
        /Compiling entry function/ {
            split($0, name, "\047")
            kernel = name[2]
            target = name[4]
        }
        /bytes stack frame/ { stack = $2; stores = $6; loads = $10 }
        /Used [0-9]+ registers/ {
            for (i = 1; i < NF; i++)
                if ($i == "Used")
                    print target, kernel, $(i + 1), stack, stores, loads
        }' | { command -v c++filt >/dev/null && c++filt || cat; } | sed 's/ \([0-9]* [0-9]* [0-9]* [0-9]*\)$/\t\1/; s/ /\t/' |
        awk -F '\t' -v OFS='\t' '{ name = $2; sub(/\(.*/, "", name); sub(/^void /, "", name)
                                   split($3, n, " "); print $1, n[1], n[2], n[3], n[4], name }' | LC_ALL=C sort -t '	' -k1,1 -k6 >"$out.rows"
    { printf 'target\tregisters\tstack\tspill_stores\tspill_loads\tkernel\n' && cat "$out.rows"; } >"$out"
    awk -F '\t' -v out="$out" '
        $3 + $4 + $5 > 0 { print $6 " for " $1 ": " $3 " bytes of stack, " $4 " of spill stores, " $5 " of spill loads; want 0"; bad = 1 }
        END {
            if (NR == 0) { print out ": no kernel was reported; was nvcc given -Xptxas -v?"; bad = 1 }
            exit bad
        }' "$out.rows" >&2
    status=$?
    for object in "$@"; do
        grep 'wgmma.*serialized' "$object.ptxas" >&2 && status=1
    done
    rm -f "$out.rows"
    exit $status
    ;;
*)
    echo "usage: resources.sh compile OBJECT COMMAND... | report OUT OBJECT..." >&2
    exit 2
    ;;
esac
