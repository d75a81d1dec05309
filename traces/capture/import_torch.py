#!/usr/bin/env python3
"""Convert sparsity saved by PyTorch programs to vdit-trace/1.

    import_torch.py dsv    traces/iter_*.pt        -o trace.h5     DSV: sparsity_ratio [layers, heads] per file
    import_torch.py mask   sparse.pth --grid 21x45x80 -o trace.h5  db-SP ('sparse'), SpargeAttn mask_id: [.., heads, q, k]
    import_torch.py blocks blockmask.pt            -o trace.h5     FlexAttention BlockMask: kv_num_blocks, kv_indices
    import_torch.py index  vsa.pt                  -o trace.h5     VSA, BSR: block indices per query block (-1: none)

Files are loaded with weights_only=True: no code in them runs. The step is the last number in a file's name.
"""

import argparse
import re
import sys

import numpy as np
import torch

import vdit_trace as vt


def fail(text):
    sys.exit(f"import_torch.py: {text}")


def load(path):
    try:
        return torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:
        fail(f"{path}: cannot load without running code ({str(error).splitlines()[0]}); save plain tensors or a dict of them")


def pick(data, names, path):
    if torch.is_tensor(data):
        return data
    for name in names:
        if isinstance(data, dict) and name in data:
            return data[name]
    fail(f"{path}: want a tensor or a dict with {' or '.join(names)}")


def step_of(path, fallback):
    numbers = re.findall(r"\d+", path.rsplit("/", 1)[-1])
    return int(numbers[-1]) if numbers else fallback


def keep_writer(args, layers, heads):
    return vt.Writer(args.output, (1, 1, 1), (1, 1, 1), (1, 1, 1), layers, heads, level=0, method=args.format, mass=0.9,
                     model=args.model, created_by="import_torch.py")


def import_dsv(args):
    """DSV profiles S/16 random queries; the file's sparsity_ratio is the mean over them at 90% mass."""
    writer = None
    for n, path in enumerate(sorted(args.files, key=lambda p: step_of(p, 0))):
        ratio = pick(load(path), ["sparsity_ratio"], path).double().numpy()
        if ratio.ndim != 2 or not ((ratio >= 0) & (ratio <= 1)).all():
            fail(f"{path}: sparsity_ratio: want [layers, heads] from 0 to 1, got shape {list(ratio.shape)}")
        writer = writer or keep_writer(args, *ratio.shape)
        if ratio.shape != (writer.layers, writer.heads):
            fail(f"{path}: {ratio.shape[0]} layers x {ratio.shape[1]} heads, the first file has {writer.layers} x {writer.heads}")
        for layer, row in enumerate(1 - ratio):
            q = np.full((len(row), len(vt.QUANTILES)), np.nan)
            writer.append(step_of(path, n), layer, dict(keep=row, keep_q=q))
    writer.close()


def from_counts(counts, indices, blocks):
    """Dense masks from the first counts[..., q] entries of indices[..., q, :]."""
    slot = torch.arange(indices.shape[-1])
    valid = (slot < counts.unsqueeze(-1)) & (indices >= 0)
    mask = torch.zeros((*indices.shape[:-1], blocks + 1), dtype=torch.bool)
    mask.scatter_(-1, torch.where(valid, indices, blocks).long(), True)
    return mask[..., :blocks]


def masks_of(args, path):
    data = load(path)
    if args.format == "mask":
        return pick(data, ["sparse", "mask_id", "mask"], path) > 0
    if args.format == "blocks":
        names = ("kv_num_blocks", "kv_indices")
        if not isinstance(data, dict) or not all(n in data for n in names):
            fail(f"{path}: want a dict with kv_num_blocks and kv_indices (and full_kv_... where there are full blocks)")
        mask = from_counts(data["kv_num_blocks"], data["kv_indices"], data["kv_indices"].shape[-1])
        if data.get("full_kv_num_blocks") is not None:
            mask |= from_counts(data["full_kv_num_blocks"], data["full_kv_indices"], mask.shape[-1])
        return mask
    index = pick(data, ["q2k_index", "index", "indices", "block_index"], path)
    counts = data.get("q2k_num", data.get("num")) if isinstance(data, dict) else None
    if counts is None:
        counts = torch.full(index.shape[:-1], index.shape[-1])
    return from_counts(counts, index, args.blocks or int(index.max()) + 1)


def import_masks(args):
    writer = None
    for n, path in enumerate(args.files):
        mask = masks_of(args, path)
        if mask.dim() < 2:
            fail(f"{path}: want [.., heads, query blocks, KV blocks], got shape {list(mask.shape)}")
        mask = mask.reshape((-1,) + (1,) * max(0, 4 - mask.dim()) + tuple(mask.shape[-3:]))[:, :]
        mask = mask.reshape(-1, *mask.shape[-3:]).numpy()          # [layers, heads, groups, blocks]
        if writer is None:
            groups, blocks = mask.shape[-2:]
            grid = args.grid or (1, 1, blocks * args.block[2])
            block = args.block if args.grid else (1, 1, args.block[2])
            group = args.group if args.grid else (1, 1, -(-blocks * args.block[2] // groups))
            if (np.prod(vt.cubes(grid, group)), np.prod(vt.cubes(grid, block))) != (groups, blocks):
                fail(f"{path}: a mask of {groups} x {blocks}, but the grid {grid} has {vt.cubes(grid, group)} groups and "
                     f"{vt.cubes(grid, block)} blocks")
            writer = vt.Writer(args.output, grid, group, block, mask.shape[0], mask.shape[1], level=2, method=args.format,
                               model=args.model, created_by="import_torch.py")
            group_tokens = np.bincount(vt.cube_of_tokens(grid, group))
            block_tokens = np.bincount(vt.cube_of_tokens(grid, block))
            atom = vt.atom_of_groups(writer.groups, writer.atoms)
        for layer, heads in enumerate(mask):
            data = vt.summarize_mask(heads, group_tokens, block_tokens, atom, int(np.prod(writer.atoms)))
            writer.append(step_of(path, n), layer, dict(data, mask=vt.pack(heads)))
    writer.close()


def cube(text):
    numbers = [int(x) for x in text.split("x")]
    if len(numbers) != 3 or min(numbers) < 1:
        raise argparse.ArgumentTypeError(f"'{text}': want TxHxW")
    return tuple(numbers)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("format", choices=["dsv", "mask", "blocks", "index"])
    parser.add_argument("files", nargs="+")
    parser.add_argument("-o", "--output", required=True)
    parser.add_argument("--grid", type=cube, help="tokens TxHxW; without it blocks are runs of tokens")
    parser.add_argument("--group", type=cube, default=(4, 4, 4), help="query group TxHxW (4x4x4)")
    parser.add_argument("--block", type=cube, default=(4, 4, 4), help="KV block TxHxW (4x4x4); without a grid 64 tokens")
    parser.add_argument("--blocks", type=int, help="KV blocks, when an index does not name the last")
    parser.add_argument("--model", default="")
    args = parser.parse_args()
    if not args.grid:
        args.block = (1, 1, 64)
    (import_dsv if args.format == "dsv" else import_masks)(args)


if __name__ == "__main__":
    main()
