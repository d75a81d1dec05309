#!/bin/bash
# The same question in other units gets the same answer: same.sh SHARDWISE. Lines that quote the command differ and are left out.
set -euo pipefail
ask() { "$1" plan --model dsv-2.7b --cluster 1x8-h100 --cp 8 "${@:2}" | grep -v '^#'; }

same() { # option, values that mean the same
    local want value
    want=$(ask "$program" "${others[@]}" "$1" "$2")
    for value in "${@:3}"; do
        [ "$(ask "$program" "${others[@]}" "$1" "$value")" = "$want" ] || { echo "$1 $value is not $1 $2" >&2; exit 1; }
    done
}

program=$1
others=(--tokens 64k)
same --keep 0.1 10% 1e-1
same --resident 6GB 6000MB 6e9B
others=(--keep 0.1)
same --tokens 128k 128000 0.128M 1.28e5
[ "$(ask "$program" --tokens 64k --keep 0.1)" = "$(ask "$program" --tokens 64000 --sparsity 90%)" ] || { echo "--sparsity 90% is not --keep 0.1" >&2; exit 1; }
