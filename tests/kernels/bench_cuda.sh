#!/bin/sh
# bench_cuda on the emulated GPU with tiny sizes: every part ends well and leaves its table, and nothing fails that it
# measures. The numbers mean nothing.
# Usage: bench_cuda.sh PROGRAM
folder=$(mktemp -d) || exit 1
trap 'rm -rf "$folder"' EXIT
failed=0
"$1" "$folder" --tiny >"$folder/out" 2>&1 || { echo "FAIL: exit status $?"; failed=1; }
grep ' failed: ' "$folder/out" && failed=1
for want in ceilings:gather_bulk ceilings:add_bulk ceilings:copy_kernel attention:fwd attention:bwd sparse:sparse_group \
    sparse:lowrank_select move:pack move:remap; do
    grep -q "${want#*:}" "$folder/${want%:*}.csv" || { echo "FAIL: ${want%:*}.csv has no row of ${want#*:}"; failed=1; }
done
awk -F, 'FNR == 1 { n = NF } NF != n { print "FAIL: " FILENAME ": " $0; bad = 1 } END { exit bad }' "$folder"/*.csv || failed=1
[ $failed = 0 ] || tail -50 "$folder/out"
"$1" 2>/dev/null && { echo "FAIL: without a folder it passes"; failed=1; }
exit $failed
