#!/bin/sh
# Fetches PyTorch, ONNX Runtime and ggml, and compares attention side by side.
# ggml has no package of its own for every machine: its source comes inside that of llama-cpp-python and is built here for this machine's
# instructions (the prebuilt libggml-python stops at AVX2). PyTorch is borrowed from the trace capture's environment if that is there.
# Usage: bench/attention.sh [build-directory [environment-directory [rounds]]]
set -eu
build=$(cd "${1:-build/release}" && pwd)
mkdir -p "${2:-$build/bench-venv}"
venv=$(cd "${2:-$build/bench-venv}" && pwd)
[ -e "$venv/bin/pip" ] || python3 -m venv "$venv"
for borrowed in "$HOME"/.cache/shardwise/capture-venv/lib/python3*/site-packages; do
    [ ! -d "$borrowed/torch" ] || echo "$borrowed" >"$(echo "$venv"/lib/python3*/site-packages)/borrowed.pth"
done
for package in torch numpy onnx onnxruntime; do
    "$venv/bin/pip" install --quiet "$package" || echo "could not get $package" >&2
done

ggml=$venv/ggml
fetch_ggml() {
    mkdir -p "$ggml" &&
        "$venv/bin/pip" download --quiet --no-deps --no-binary :all: --dest "$ggml" llama-cpp-python &&
        tar -xzf "$ggml"/llama_cpp_python-*.tar.gz -C "$ggml" --strip-components=1 &&
        touch "$ggml/vendor/llama.cpp/ggml/ggml.pc.in" && # left out of the package
        cmake -S "$ggml/vendor/llama.cpp/ggml" -B "$ggml/build" -DCMAKE_BUILD_TYPE=Release -DBUILD_SHARED_LIBS=ON \
            -DGGML_NATIVE=ON -DGGML_BUILD_TESTS=OFF -DGGML_BUILD_EXAMPLES=OFF >"$ggml/log" 2>&1 &&
        cmake --build "$ggml/build" --target ggml-cpu -j2 >>"$ggml/log" 2>&1
}
[ -e "$ggml/build/src/libggml-cpu.so" ] || fetch_ggml || echo "could not get or build ggml: see $ggml/log" >&2
exec "$venv/bin/python" "$(dirname "$0")/attention.py" "$build/bench/bench_attention" "${3:-5}" "$ggml/build/src"
