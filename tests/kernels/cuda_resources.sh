#!/bin/sh
# Every kernel of the build's report does without spills and stack; and a planted spill and a planted stack frame are
# refused: the spill by the compiler under the flags of the build, both by the report.
# Usage: cuda_resources.sh resources.sh REPORT NVCC PLANTED.cu
resources=$1 table=$2 nvcc=$3 planted=$4
failed=0
fail() {
    echo "FAIL: $*"
    failed=1
}

if [ "$(sed -n 1p "$table")" != "$(printf 'target\tregisters\tstack\tspill_stores\tspill_loads\tkernel')" ]; then
    fail "$table has no header: was everything built?"
fi
[ "$(sed 1d "$table" | wc -l)" -ge 1 ] || fail "$table names no kernel"
sed 1d "$table" | awk -F '\t' '$3 + $4 + $5 > 0 { print "FAIL: " $0; bad = 1 } END { exit bad }' || failed=1

folder=$(mktemp -d) || exit 1
trap 'rm -rf "$folder"' EXIT
plant() { # extra flags of nvcc
    sh "$resources" compile "$folder/planted.o" "$nvcc" -arch=sm_80 -maxrregcount 32 -Xptxas -v"$1" -cubin -o "$folder/planted.o" \
        "$planted" 2>"$folder/stderr"
}
plant ,--warn-on-spills,-Werror && fail "a spill passes the compiler"
grep -q -i spill "$folder/stderr" || fail "the compiler does not say that it is a spill: $(cat "$folder/stderr")"
plant "" || fail "without the flags the planted kernels compile: $(cat "$folder/stderr")"
sh "$resources" report "$folder/table" "$folder/planted.o" 2>"$folder/stderr" && fail "a spill passes the report"
grep -q 'planted_spill for sm_80: .* of spill' "$folder/stderr" || fail "the spill is not named: $(cat "$folder/stderr")"
grep -q 'planted_stack for sm_80: 1[0-9]* bytes of stack' "$folder/stderr" || fail "the stack frame is not named"
cat >"$folder/serial.o.ptxas" <<'end'
ptxas info    : (C7510) Potential Performance Loss: wgmma.mma_async instructions are serialized due to ... in the function 'k'
ptxas info    : Compiling entry function 'k' for 'sm_90a'
    0 bytes stack frame, 0 bytes spill stores, 0 bytes spill loads
ptxas info    : Used 168 registers, used 1 barriers
end
sh "$resources" report "$folder/table" "$folder/serial.o" 2>"$folder/stderr" && fail "serialized wgmma pass the report"
[ "$(wc -l <"$folder/stderr")" -eq 1 ] || fail "of serialized wgmma the report says $(cat "$folder/stderr")"
: >"$folder/none.o.ptxas"
sh "$resources" report "$folder/table" "$folder/none.o" 2>/dev/null && fail "a build without reports passes"
exit $failed
