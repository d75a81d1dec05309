"""Dense attention of a user's PyTorch (cuDNN and FlashAttention behind scaled_dot_product_attention) as rows of
attention.csv: a second opinion on the dense baseline. Usage: dense.py FOLDER"""

import os
import sys

import torch
from torch.nn.attention import SDPBackend, sdpa_kernel

HEADS = 4
BACKENDS = {"torch-cudnn": SDPBackend.CUDNN_ATTENTION, "torch-flash": SDPBackend.FLASH_ATTENTION}


def median_ms(call, repeats):
    times = []
    for i in range(repeats + 2):
        begin, end = (torch.cuda.Event(enable_timing=True) for _ in range(2))
        begin.record()
        call()
        end.record()
        end.synchronize()
        if i >= 2:
            times.append(begin.elapsed_time(end))
    return sorted(times)[len(times) // 2]


def measure(table, gpu, name, backend, tokens, dim):
    q, k, v, d_o = (torch.randn(1, HEADS, tokens, dim, device="cuda", dtype=torch.bfloat16) for _ in range(4))
    for x in (q, k, v):
        x.requires_grad_()
    attention = torch.nn.functional.scaled_dot_product_attention
    with sdpa_kernel(backend):
        o = attention(q, k, v)
        times = {"fwd": median_ms(lambda: attention(q, k, v), 5),
                 "bwd": median_ms(lambda: torch.autograd.grad(o, (q, k, v), d_o, retain_graph=True), 3)}
    for pass_, ms in times.items():
        flop = (10 if pass_ == "bwd" else 4) * tokens * tokens * dim * HEADS
        table.write(f"{gpu},noncausal,1,{tokens},{HEADS},{dim},{pass_},{name},0,{1e3 * ms:.3f}\n")
        table.flush()
        print(f"  dense {pass_} {name}, {tokens} tokens, D {dim}: {ms:.3f} ms  {flop / ms * 1e-9:.1f} TFLOP/s", flush=True)


def main():
    folder = sys.argv[1]
    path = os.path.join(folder, "attention.csv")
    new = not os.path.exists(path)
    gpu = torch.cuda.get_device_name(0).replace("NVIDIA ", "").split()[0].split("-")[0].lower()
    print(f"PyTorch {torch.__version__}, cuDNN {torch.backends.cudnn.version()}")
    with open(path, "a", encoding="ascii") as table:
        if new:
            table.write("gpu,mask,batch,seqlen,heads,head_dim,pass_,kernel,usable,lat_us\n")
        for tokens in (64000, 16384, 32768):
            for name, backend in BACKENDS.items():
                try:
                    measure(table, gpu, name, backend, tokens, 128)
                except RuntimeError as error:
                    print(f"  {name}, {tokens} tokens: {str(error).splitlines()[0]}")


if __name__ == "__main__":
    main()
