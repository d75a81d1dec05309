#!/usr/bin/env python3
"""Shardwise's CPU attention beside implementations that others wrote, in one run on one machine.

Usage: bench/attention.sh (fetches what the package registry has, then runs this), or
       attention.py build/release/bench/bench_attention [rounds [folder of libggml-base.so and libggml-cpu.so]]

Each round runs every implementation once, in turn, so that a busy machine hurts all alike; the best round counts.
S = 4096, H = 4, D = 128; FLOP = 4 S S D H forward and 10 S S D H backward.
"""
import ctypes
import os
import subprocess
import sys
import time

S, H, D, THREADS = 4096, 4, 128, 2
FORWARD, BACKWARD = 4 * S * S * D * H, 10 * S * S * D * H
missing = []


def torch_runs():
    import torch

    torch.set_num_threads(THREADS)
    runs = {}
    for dtype in (torch.float32, torch.bfloat16):
        q, k, v, do = (torch.randn(1, H, S, D).to(dtype).requires_grad_(i < 3) for i in range(4))
        name = f"PyTorch {torch.__version__} SDPA {str(dtype)[6:]}"

        def run(q=q, k=k, v=v, do=do, name=name):
            start = time.perf_counter()
            o = torch.nn.functional.scaled_dot_product_attention(q, k, v)
            middle = time.perf_counter()
            o.backward(do.detach())
            end = time.perf_counter()
            return {f"{name} forward": FORWARD / (middle - start), f"{name} backward": BACKWARD / (end - middle)}

        runs[name] = run
    return runs


def onnx_runs():
    import numpy as np
    import onnxruntime as ort
    from onnx import TensorProto, helper

    inputs = [helper.make_tensor_value_info(n, TensorProto.FLOAT, [1, S, H * D]) for n in "qkv"]
    out = helper.make_tensor_value_info("o", TensorProto.FLOAT, [1, S, H * D])
    node = helper.make_node("MultiHeadAttention", list("qkv"), ["o"], domain="com.microsoft", num_heads=H)
    graph = helper.make_graph([node], "mha", inputs, [out])
    opsets = [helper.make_opsetid("", 17), helper.make_opsetid("com.microsoft", 1)]
    model = helper.make_model(graph, opset_imports=opsets, ir_version=9)
    options = ort.SessionOptions()
    options.intra_op_num_threads = THREADS
    session = ort.InferenceSession(model.SerializeToString(), options, providers=["CPUExecutionProvider"])
    feed = {n: np.random.randn(1, S, H * D).astype(np.float32) for n in "qkv"}
    name = f"ONNX Runtime {ort.__version__} MultiHeadAttention float32"

    def run():
        start = time.perf_counter()
        session.run(None, feed)
        return {f"{name} forward": FORWARD / (time.perf_counter() - start)}

    return {name: run}


class GgmlParams(ctypes.Structure):
    _fields_ = [("mem_size", ctypes.c_size_t), ("mem_buffer", ctypes.c_void_p), ("no_alloc", ctypes.c_bool)]


def ggml_load(folder):
    base, cpu = (ctypes.CDLL(os.path.join(folder, f"libggml-{part}.so"), mode=ctypes.RTLD_GLOBAL) for part in ("base", "cpu"))
    pointer, number, real = ctypes.c_void_p, ctypes.c_int64, ctypes.c_float
    for function, result, *arguments in (
        (base.ggml_init, pointer, GgmlParams),
        (base.ggml_new_tensor_4d, pointer, pointer, ctypes.c_int, *[number] * 4),
        (base.ggml_get_data, pointer, pointer),
        (base.ggml_flash_attn_ext, pointer, *[pointer] * 5, *[real] * 3),
        (base.ggml_new_graph, pointer, pointer),
        (base.ggml_build_forward_expand, None, pointer, pointer),
        (base.ggml_version, ctypes.c_char_p),
        (cpu.ggml_graph_compute_with_ctx, ctypes.c_int, pointer, pointer, ctypes.c_int),
    ):
        function.restype, function.argtypes = result, arguments
    return base, cpu


def ggml_runs(folder):
    """flash_attn_ext with keys and values in float32 and in float16 (ggml's usual KV cache)."""
    import numpy as np

    base, cpu = ggml_load(folder)
    q, k, v = (np.random.randn(H, S, D).astype(np.float32) for _ in range(3))
    scores = q[1, :4] @ k[1].T / D**0.5
    weights = np.exp(scores - scores.max(1, keepdims=True))
    expected = weights / weights.sum(1, keepdims=True) @ v[1]
    runs = {}
    for dtype, code in ((np.float32, 0), (np.float16, 1)):
        context = base.ggml_init(GgmlParams(1 << 28, None, False))
        tensors = []
        for array, kind in ((q, 0), (k.astype(dtype), code), (v.astype(dtype), code)):
            tensors.append(base.ggml_new_tensor_4d(context, kind, D, S, H, 1))
            ctypes.memmove(base.ggml_get_data(tensors[-1]), array.ctypes.data, array.nbytes)
        out = base.ggml_flash_attn_ext(context, *tensors, None, D**-0.5, 0, 0)
        graph = base.ggml_new_graph(context)
        base.ggml_build_forward_expand(graph, out)
        name = f"ggml {base.ggml_version().decode()} flash_attn_ext, {np.dtype(dtype).name} keys"

        def run(context=context, graph=graph, out=out, name=name):
            start = time.perf_counter()
            cpu.ggml_graph_compute_with_ctx(context, graph, THREADS)
            seconds = time.perf_counter() - start
            got = np.ctypeslib.as_array(ctypes.cast(base.ggml_get_data(out), ctypes.POINTER(ctypes.c_float)), (S, H, D))
            assert np.allclose(got[:4, 1], expected, atol=2e-3), f"{name} is not attention"
            return {f"{name} forward": FORWARD / seconds}

        runs[name] = run
    return runs


def shardwise_run(program):
    lines = subprocess.run([program, "1"], check=True, capture_output=True, text=True,
                           env={**os.environ, "OMP_NUM_THREADS": str(THREADS)}).stdout.splitlines()
    return {f"Shardwise {name}": 1e9 * float(rate) for name, rate in (line.split("\t") for line in lines)}


def main():
    program, rounds = sys.argv[1], int(sys.argv[2]) if len(sys.argv) > 2 else 5
    ggml = sys.argv[3] if len(sys.argv) > 3 else "."
    runs = {"Shardwise": lambda: shardwise_run(program)}
    for library, make in (("PyTorch", torch_runs), ("ONNX Runtime", onnx_runs), ("ggml", lambda: ggml_runs(ggml))):
        try:
            runs.update(make())
        except Exception as problem:  # any way in which a library is not there is worth a line, none an abort
            missing.append(f"{library}: {type(problem).__name__}: {problem}")
    best = {}
    for _ in range(rounds):
        for run in runs.values():
            for name, rate in run().items():
                best[name] = max(best.get(name, 0), rate)
    for name, rate in best.items():
        print(f"{name:60s} {rate * 1e-9:7.1f} GFLOP/s")
    ours = best["Shardwise dense forward"]
    others = {n: r for n, r in best.items() if not n.startswith("Shardwise")}
    for what in ("forward", "backward"):
        rates = {n: r for n, r in others.items() if n.endswith(what)}
        if rates:
            name = max(rates, key=rates.get)
            print(f"dense {what}: {best['Shardwise dense ' + what] / rates[name]:.2f} x {name}")
    for name, rate in best.items():
        if name.startswith("Shardwise sparse") and name.endswith("forward"):
            print(f"{name[10:]}: {rate / ours:.0%} of dense")
    print(f"dense backward: {best['Shardwise dense backward'] / ours:.0%} of the forward's rate")
    for line in missing:
        print(f"not compared: {line}")


main()
