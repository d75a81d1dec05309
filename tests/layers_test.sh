#!/bin/sh
# Tests layers.sh: a small tree that is right, and the same with one mistake at a time.
# Usage: layers_test.sh layers.sh
layers=${1:?usage: layers_test.sh layers.sh}
root=$(mktemp -d) || exit 1
trap 'rm -rf "$root"' EXIT
failed=0

tree() {
    rm -rf "$root/t"
    mkdir -p "$root/t/base" "$root/t/model" "$root/t/sim" "$root/t/planner" "$root/t/kernels/cuda" "$root/t/cli" "$root/t/tests"
    echo '#include <stdio.h>' > "$root/t/base/err.h"
    printf '#include "base/err.h"\n#include <string.h>\n' > "$root/t/base/err.c"
    echo '#include "base/err.h"' > "$root/t/model/hw.h"
    printf '#include "sim/net.h"\n#include "model/hw.h"\n' > "$root/t/sim/net.c"
    echo '#include "base/err.h"' > "$root/t/sim/net.h"
    echo '#include <cuda_runtime.h>' > "$root/t/kernels/cuda/attention.cu"
    printf '#include "sim/net.h"\n#include "model/hw.h"\n' > "$root/t/cli/main.c"
    echo '#include "cli/main.h"' > "$root/t/tests/test_main.c"
}

right() {
    sh "$layers" "$root/t" > "$root/out" || { echo "FAIL: a right tree is refused:"; cat "$root/out"; failed=1; }
}

# wrong FILE LINE MESSAGE: appends LINE to FILE, and MESSAGE has to come
wrong() {
    tree
    echo "$2" >> "$root/t/$1"
    if sh "$layers" "$root/t" > "$root/out" || ! grep -qF "$3" "$root/out"; then
        echo "FAIL: $1 with $2: want '$3', got:"
        cat "$root/out"
        failed=1
    fi
}

tree
right
wrong base/err.c '#include "model/hw.h"' 'base/err.c:3: base may not include model/hw.h'
wrong model/hw.h '#include "sim/net.h"' 'model/hw.h:2: model may not include sim/net.h'
wrong sim/net.c '#include "planner/search.h"' 'sim/net.c:3: sim may not include planner/search.h'
wrong sim/net.c '#  include "cli/main.h"' 'sim/net.c:3: sim may not include cli/main.h'
wrong sim/net.c '#include "queue.h"' 'sim/net.c:3: want "sim/queue.h" or another name that starts with its layer'
wrong sim/net.c '#include "../base/err.h"' 'sim/net.c:3: sim may not include ../base/err.h'
wrong sim/net.c '#include <cuda.h>' 'sim/net.c:3: only kernels/cuda/ may include cuda.h'
wrong cli/main.c '#include <nccl.h>' 'cli/main.c:3: only kernels/cuda/ may include nccl.h'
wrong tests/test_main.c '#include "cuda_runtime.h"' 'tests/test_main.c:2: only kernels/cuda/ may include cuda_runtime.h'
wrong sim/net.c '#include NAME' 'sim/net.c:3: an include whose name is not written out'
wrong model/hw.c '#include <stdio.h>' 'model/hw.c:1: the first include is stdio.h, want its own header "model/hw.h"'
mkdir "$root/empty"
sh "$layers" "$root/empty" > "$root/out" && { echo "FAIL: an empty tree passes"; failed=1; }
exit $failed
