#!/bin/sh
# bench_cuda on the emulated GPU with tiny sizes: every part ends well and leaves its table, and nothing fails that it
# measures. The numbers mean nothing. A wrong step of the ladder is refused.
# Usage: bench_cuda.sh PROGRAM
folder=$(mktemp -d) || exit 1
trap 'rm -rf "$folder"' EXIT
failed=0
"$1" "$folder" --tiny >"$folder/out" 2>&1 || { echo "FAIL: exit status $?"; failed=1; }
grep ' failed: ' "$folder/out" && failed=1
for want in ceilings:gather_bulk ceilings:add_bulk ceilings:copy_kernel attention:fwd attention:bwd sparse:sparse_group sparse:256,128,sparse_group \
    sparse:lowrank_select move:pack move:remap ladder:1.naive ladder:5.async ladder:winner.mma ladder:winner.wgmma ladder:5.ordered \
    ladder:winner.fused; do
    grep -q "${want#*:}" "$folder/${want%:*}.csv" || { echo "FAIL: ${want%:*}.csv has no row of ${want#*:}"; failed=1; }
done
awk -F, 'FNR == 1 { n = NF } NF != n { print "FAIL: " FILENAME ": " $0; bad = 1 } END { exit bad }' "$folder"/*.csv || failed=1
[ $failed = 0 ] || tail -50 "$folder/out"
# A step of the ladder that leaves out one key is neither timed nor passed over.
mkdir "$folder/planted"
"$1" "$folder/planted" --tiny --plant ladder >"$folder/out" 2>&1
[ $? = 5 ] || { echo "FAIL: a wrong step: exit status is not 5"; failed=1; }
grep -q 'planted is wrong and not timed' "$folder/out" || { echo "FAIL: a wrong step is not named: $(cat "$folder/out")"; failed=1; }
grep -q planted "$folder/planted/ladder.csv" && { echo "FAIL: a wrong step is timed"; failed=1; }
# One variant of one part, once.
mkdir "$folder/one"
"$1" "$folder/one" --tiny --once --variant mma forward >"$folder/out" 2>&1 || { echo "FAIL: one variant: $(cat "$folder/out")"; failed=1; }
[ "$(ls "$folder/one")" = sparse.csv ] && [ "$(sed 1d "$folder/one/sparse.csv" | cut -d , -f 7,9)" = fwd,mma ] ||
    { echo "FAIL: more than forward by mma: $(cat "$folder/one"/*)"; failed=1; }
"$1" "$folder" --tinny 2>/dev/null
[ $? = 2 ] || { echo "FAIL: an unknown option: exit status is not 2"; failed=1; }
"$1" 2>/dev/null && { echo "FAIL: without a folder it passes"; failed=1; }
exit $failed
