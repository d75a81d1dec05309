#!/usr/bin/env bash
# What ./quickstart says before it builds anything: stand-ins for id, dpkg-query and sudo play the machine.
set -u
stage=$(mktemp -d) || exit 1
trap 'rm -rf "$stage"' EXIT
failures=0

stand_in() { # name, body
    printf '#!/bin/sh\n%s\n' "$2" >"$stage/$1"
    chmod +x "$stage/$1"
}

expect() { # sentence, status, pattern, arguments of quickstart
    local sentence=$1 status=$2 pattern=$3 out got=0
    shift 3
    out=$(PATH="$stage:$PATH" bash quickstart "$@" 2>&1 </dev/null) || got=$?
    if [ "$got" != "$status" ] || ! grep -qF -- "$pattern" <<<"$out"; then
        printf 'FAILED: %s\n  exit %s, wanted %s with "%s"; it said:\n%s\n' \
            "$sentence" "$got" "$status" "$pattern" "$out"
        failures=$((failures + 1))
    fi
}

expect 'an unknown goal is named' 2 "'tset' is no goal" tset
expect 'help shows both goals' 0 './quickstart test' --help

stand_in apt-get 'echo "apt-get must not run" >&2; exit 9'
stand_in sudo 'exit 1'
stand_in id 'echo 1000'
# shellcheck disable=SC2016 # expands in the stand-in
stand_in dpkg-query 'for last; do :; done; [ "$last" = libgsl-dev ] || [ "$last" = libglpk-dev ] || printf installed'
expect 'without root the user learns what to ask for' 1 '    apt-get install libgsl-dev'
expect 'the tests need more than the example' 1 '    apt-get install libgsl-dev libglpk-dev' test

stand_in id 'echo 0'
stand_in apt-get 'echo "no network" >&2; exit 100'
expect 'what will be installed is printed first' 1 'Packages to install: libgsl-dev'
expect 'a failing apt-get ends the run' 1 'apt-get failed'

exit $((failures > 0))
