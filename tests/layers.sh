#!/bin/sh
# Checks which folder includes which (design: base -> model -> traces, sim, planner, kernels, reports -> validate -> cli):
# a layer includes itself and those below it, siblings never each other; includes are written "folder/file.h"; only
# kernels/cuda/ sees CUDA or NCCL (and the stand-in runtime of tests/ptx, which must agree with its header); a .c or .cu file that has a header of its own includes it first.
# Usage: layers.sh ROOT; prints file:line and what is wrong, and exits 1 when something is.
cd "${1:?usage: layers.sh ROOT}" || exit 1

find base model traces sim planner kernels reports validate cli tests bench \
    \( -name '*.c' -o -name '*.h' -o -name '*.cu' -o -name '*.cuh' \) -type f 2>/dev/null | LC_ALL=C sort |
while read -r file; do
    own=${file%.*}.h
    [ "$own" != "$file" ] && [ -f "$own" ] || own=-
    printf '%s\n' "//file $file $own"
    grep -n '^[[:space:]]*#[[:space:]]*include' "$file"
done | awk '
BEGIN {
    low = "base model"
    may["base"] = "base"
    may["model"] = low
    n = split("traces sim planner kernels reports", middle, " ")
    for (i = 1; i <= n; i++) {
        may[middle[i]] = low " " middle[i]
        all = all " " middle[i]
    }
    may["validate"] = low all " validate"
    may["cli"] = low all " validate cli"
    may["tests"] = may["cli"] " tests"
    may["bench"] = may["cli"] " tests bench"
}
function wrong(what) {
    print file ":" line ": " what
    bad = 1
}
$1 == "//file" {
    file = $2
    own = $3
    layer = file
    sub(/\/.*/, "", layer)
    first = 1
    files++
    next
}
{
    line = $0
    sub(/:.*/, "", line)
    name = $0
    if (!match(name, /[<"][^>"]*[>"]/)) {
        wrong("an include whose name is not written out")
        next
    }
    quoted = substr(name, RSTART, 1) == "\""
    name = substr(name, RSTART + 1, RLENGTH - 2)
    if (first && own != "-" && name != own)
        wrong("the first include is " name ", want its own header \"" own "\"")
    first = 0
    if (file !~ /^kernels\/cuda\// && file != "tests/ptx/cudart.c" && name ~ /^(cuda|cuda_.*|cuda_runtime.*|cublas.*|cudnn.*|nccl.*|mma|cub\/.*|thrust\/.*|cooperative_groups.*)(\.h)?(\/.*)?$/)
        wrong("only kernels/cuda/ may include " name)
    if (!quoted)
        next
    folder = name
    if (!sub(/\/.*/, "", folder))
        wrong("want \"" layer "/" name "\" or another name that starts with its layer")
    else if (!((" " may[layer] " ") ~ (" " folder " ")))
        wrong(layer " may not include " name)
}
END {
    if (files == 0) {
        print "no source files here"
        bad = 1
    }
    exit bad
}'
