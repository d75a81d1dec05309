#!/bin/sh
# Runs capture_test.py with PyTorch and h5py (and diffusers, where it is), then checks its files with the C reader ($1: that program). PyTorch comes from
# $SHARDWISE_TORCH_PYTHON, from the virtual environment that an earlier run made in the user's cache, or from PyPI (about
# 5 GB) unless SHARDWISE_NO_DOWNLOAD is set. Exit 77: skipped, with the reason.
here=$(dirname "$0")
checker=$1
cache=${XDG_CACHE_HOME:-$HOME/.cache}/shardwise
python=${SHARDWISE_TORCH_PYTHON:-$cache/capture-venv/bin/python}
skip() { echo "SKIPPED: $1"; exit 77; }
works() { "$python" -c 'import torch, numpy, h5py' 2>/dev/null; }

install_torch() {
    [ -z "$SHARDWISE_NO_DOWNLOAD" ] || skip "no PyTorch with h5py at hand, and SHARDWISE_NO_DOWNLOAD is set"
    command -v python3 >/dev/null || skip "no python3"
    mkdir -p "$cache" || skip "cannot write to $cache"
    room=$(df -Pk "$cache" | awk 'NR == 2 {print $4}')
    [ "$room" -gt 12000000 ] || skip "PyTorch needs 12 GB of room in $cache"
    python3 -m venv "$cache/capture-venv" || skip "python3 has no venv module"
    timeout 900 "$cache/capture-venv/bin/pip" -q install torch numpy h5py diffusers || skip "PyTorch cannot be had from PyPI"
}

if ! works; then
    [ -z "$SHARDWISE_TORCH_PYTHON" ] || skip "$python has no torch, numpy and h5py"
    # one installer at a time; a second run waits for the first
    [ "$SHARDWISE_LOCKED" ] || { mkdir -p "$cache"; SHARDWISE_LOCKED=1 exec flock "$cache/lock" "$0" "$@"; }
    install_torch
    works || skip "PyTorch was installed but does not load"
fi
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
OMP_NUM_THREADS=2 "$python" -B "$here/capture_test.py" "$folder" && "$checker" "$folder"/*.h5
