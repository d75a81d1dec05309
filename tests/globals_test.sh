#!/bin/sh
# Tests globals.sh on a library of globals_bad.c: it names the three that change, and not the two constants.
# Usage: globals_test.sh globals.sh LIB.a
failed=0
out=$(sh "$1" "$2") && { echo "FAIL: it passes"; failed=1; }
for name in globals_shared per_thread calls; do
    case $out in *"mutable global: $name"*) ;; *) echo "FAIL: $name is not named"; failed=1 ;; esac
done
for name in globals_names squares; do
    case $out in *"$name"*) echo "FAIL: $name is constant"; failed=1 ;; esac
done
sh "$1" /no/such/lib.a 2>/dev/null && { echo "FAIL: a library that is not there passes"; failed=1; }
exit $failed
