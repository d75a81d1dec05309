#!/bin/sh
# Fetches PyTorch and ONNX Runtime into a virtual environment of its own and compares attention side by side.
# Usage: bench/attention.sh [build-directory [environment-directory]]
set -eu
build=${1:-build/release}
venv=${2:-$build/bench-venv}
[ -d "$venv" ] || python3 -m venv "$venv"
for package in torch numpy onnx onnxruntime; do
    "$venv/bin/pip" install --quiet "$package" || echo "could not get $package" >&2
done
exec "$venv/bin/python" "$(dirname "$0")/attention.py" "$build/bench/bench_attention"
