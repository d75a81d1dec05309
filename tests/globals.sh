#!/bin/sh
# Checks that no object of the given static libraries has data that can change: nothing named in .data, .bss, common or
# thread-local sections. Constant tables lie in .rodata, or in .data.rel.ro when they hold addresses. Objects from .cu
# files are left out, as nvcc adds registration data of its own.
# Usage: globals.sh LIB.a...; prints each such name with its object, and exits 1 when there is one.
status=0
for lib in "$@"; do
    names=$(objdump -t "$lib") || exit 1
    printf '%s\n' "$names" | awk -v lib="${lib##*/}" '
        /:[[:space:]]+file format/ { object = $1; sub(/:$/, "", object); next }
        object ~ /\.cu\.o$/ { next }
        split($0, half, "\t") == 2 {
            n = split(half[1], left, " ")
            section = left[n]
            split(half[2], right, " ")
            is_name = right[2] != section
            changes = section ~ /^(\.data|\.bss|\.tdata|\.tbss|\*COM\*)/ && section !~ /^\.data\.rel\.ro/
            if (is_name && changes) {
                print lib "(" object "): mutable global: " right[2] " in " section
                bad = 1
            }
        }
        END { exit bad }' || status=1
done
exit $status
