"""The capture hook on a small attention model that trains on CPU, against exact full attention; the torch importer.
Files go to the folder given; tests/traces/captured.c then checks them with the C reader."""

import pathlib
import sys

import h5py
import numpy as np
import torch

sys.path.insert(0, str(pathlib.Path(__file__).parents[2] / "traces" / "capture"))
import import_torch
import vdit_trace as vt

GRID, DIM, HEADS, LAYERS = (4, 6, 8), 32, 4, 2
TOKENS = int(np.prod(GRID))


class Attention(torch.nn.Module):
    def __init__(self):
        super().__init__()
        self.qkv, self.out = torch.nn.Linear(DIM, 3 * DIM), torch.nn.Linear(DIM, DIM)
        self.norm_q, self.norm_k = (torch.nn.LayerNorm(DIM // HEADS) for _ in range(2))

    def heads(self, x):
        q, k, v = (y.reshape(*x.shape[:2], HEADS, -1).transpose(1, 2) for y in self.qkv(x).chunk(3, -1))
        return 3 * self.norm_q(q), self.norm_k(k), v        # a scale as a trained qk-norm has: attention is peaked

    def forward(self, x):
        q, k, v = self.heads(x)
        y = torch.nn.functional.scaled_dot_product_attention(q, k, v)
        return x + self.out(y.transpose(1, 2).reshape(x.shape))


def train(folder, group, proxies):
    """Six steps of denoising; captures steps 0, 2 and 4. Returns q, k of every captured (step, layer)."""
    torch.manual_seed(0)
    model, exact, now = torch.nn.Sequential(*(Attention() for _ in range(LAYERS))), {}, [0]
    optimizer = torch.optim.Adam(model.parameters(), 1e-3)
    path = f"{folder}/capture-{proxies}.h5"
    capture = vt.Capture(path, GRID, LAYERS, HEADS, every=2, group=group, block=(2, 2, 2), proxies=proxies)

    def q_and_k(module, args, kwargs):
        q, k, _ = module.heads(args[0])
        exact[now[0], list(model).index(module)] = (q[0].detach().clone(), k[0].detach().clone())
        return q, k

    handles = capture.watch(list(model), q_and_k, lambda: now[0])
    video = torch.randn(2, TOKENS, DIM).cumsum(1) / 8
    for now[0] in range(6):
        loss = ((model(video + torch.randn_like(video)) - video) ** 2).mean()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    for handle in handles:
        handle.remove()
    capture.close()
    return path, {key: qk for key, qk in exact.items() if key[0] % 2 == 0}


def critical_keys(q, k, mass=0.9):
    """[heads, queries, keys]: smallest sets, written out one query at a time from full attention in double precision."""
    p = torch.softmax(q.double() @ k.double().transpose(-1, -2) / q.shape[-1] ** 0.5, -1).numpy()
    keys = np.zeros(p.shape, bool)
    for h in range(p.shape[0]):
        for i in range(p.shape[1]):
            total = 0.0
            for j in np.argsort(-p[h, i], kind="stable"):
                if total >= mass:
                    break
                keys[h, i, j] = True
                total += p[h, i, j]
    return keys


def every_query_captured_is_exact(folder):
    path, exact = train(folder, group=(1, 1, 1), proxies=TOKENS)
    block = vt.cube_of_tokens(GRID, (2, 2, 2))
    blocks = block.max() + 1
    with h5py.File(path, "r") as f:
        atoms = vt.atom_of_groups(GRID, tuple(f.attrs["atom_grid"]))
        assert f["index"].shape[0] == 3 * LAYERS and len(exact) == 3 * LAYERS
        for n, row in enumerate(f["index"][:]):
            keys = critical_keys(*exact[int(row["step"]), int(row["layer"])])
            keep = keys.mean((1, 2))
            assert np.abs(f["keep"][n] - keep).max() < 2e-3, (f["keep"][n], keep)
            assert 0.02 < keep.mean() < 0.9, keep
            union = np.zeros((HEADS, atoms.max() + 1, blocks), bool)
            for h, i, j in zip(*np.nonzero(keys)):
                union[h, atoms[i], block[j]] = True
            got = np.unpackbits(f["union"][n], axis=-1, bitorder="little")[..., :blocks].astype(bool)
            assert (got != union).mean() < 1e-3, (got != union).mean()
            want = np.quantile(keys.mean(-1), vt.QUANTILES, axis=1).T
            assert np.abs(f["keep_q"][n] - want).max() < 0.01


def sampled_queries_stay_within_full_attention(folder):
    path, exact = train(folder, group=(2, 2, 2), proxies=1)
    block = vt.cube_of_tokens(GRID, (2, 2, 2))
    with h5py.File(path, "r") as f:
        assert f.attrs["proxies"] == 1
        for n, row in enumerate(f["index"][:]):
            keys = critical_keys(*exact[int(row["step"]), int(row["layer"])])
            got = np.unpackbits(f["union"][n], axis=-1, bitorder="little")[..., :block.max() + 1].astype(bool)
            full = np.zeros((HEADS, block.max() + 1), bool)
            for h, _, j in zip(*np.nonzero(keys)):
                full[h, block[j]] = True
            assert not (got.any(1) & ~full).any(), "a proxy saw a block that full attention does not need"
            assert np.abs(f["keep"][n] - keys.mean((1, 2))).max() < 0.1


def context_parallel_ranks_sum_to_the_whole(folder):
    capture = vt.Capture(f"{folder}/cp.h5", GRID, 1, HEADS, every=1, group=(1, 1, 1), block=(2, 2, 2), proxies=3)
    torch.manual_seed(1)
    q, k = 3 * torch.randn(HEADS, TOKENS, 8), torch.randn(HEADS, TOKENS, 8)
    picked = capture.sample_groups(0, 0)
    whole = capture._exact(q, k, picked, 0)
    half = TOKENS // 2
    parts = [capture._exact(q[:, :half], k, picked, 0), capture._exact(q[:, half:], k, picked, half)]
    for n in range(2):
        assert torch.equal(whole[n], parts[0][n] + parts[1][n]), "queries split over two ranks"
    heads = [capture._exact(q[:2], k[:2], picked, 0), capture._exact(q[2:], k[2:], picked, 0)]
    for n in range(2):
        assert torch.equal(whole[n], torch.cat([heads[0][n], heads[1][n]])), "heads split over two ranks"
    capture.observe(0, 0, q, k)
    capture.close()


def run_import(*args):
    sys.argv = ["import_torch.py", *map(str, args)]
    import_torch.main()


def torch_files_import(folder):
    torch.manual_seed(2)
    ratio = torch.rand(3, 4).half()
    torch.save({"sparsity_ratio": ratio, "query_ids_for_sampled_queries": torch.arange(4)}, f"{folder}/iter_4000.pt")
    torch.save({"sparsity_ratio": ratio / 2}, f"{folder}/iter_8000.pt")
    run_import("dsv", f"{folder}/iter_8000.pt", f"{folder}/iter_4000.pt", "-o", f"{folder}/dsv.h5")
    with h5py.File(f"{folder}/dsv.h5") as f:
        assert list(f["index"]["step"]) == [4000] * 3 + [8000] * 3
        assert np.abs(f["keep"][:3] - (1 - ratio.float().numpy())).max() < 1e-6
    mask = torch.rand(2, 3, 12, 12) < 0.3
    mask[..., 0] = True
    torch.save({"sparse": mask[None]}, f"{folder}/sparse.pth")
    run_import("mask", f"{folder}/sparse.pth", "-o", f"{folder}/mask.h5")
    counts, indices = mask[0].sum(-1), torch.argsort(mask[0].int(), dim=-1, descending=True, stable=True)
    torch.save({"kv_num_blocks": counts[None], "kv_indices": indices[None]}, f"{folder}/blockmask.pt")
    run_import("blocks", f"{folder}/blockmask.pt", "-o", f"{folder}/blocks.h5")
    index = torch.where(torch.arange(12) < counts[..., None], indices, -1)
    torch.save(index, f"{folder}/vsa.pt")
    run_import("index", f"{folder}/vsa.pt", "--blocks", 12, "-o", f"{folder}/index.h5")
    for name, layers in (("mask", 2), ("blocks", 1), ("index", 1)):
        with h5py.File(f"{folder}/{name}.h5") as f:
            assert f["mask"].shape[0] == layers
            got = np.unpackbits(f["mask"][:layers], axis=-1, bitorder="little")[..., :12].astype(bool)
            assert (got == mask[:layers].numpy()).all(), name


def bad_files_are_refused(folder):
    class Evil:
        def __reduce__(self):
            return (exit, (3,))
    torch.save({"sparsity_ratio": Evil()}, f"{folder}/evil_1.pt")
    torch.save({"sparsity_ratio": torch.full((2, 2), float("nan"))}, f"{folder}/nan_1.pt")
    for name, says in (("evil_1", "cannot load without running code"), ("nan_1", "from 0 to 1")):
        try:
            run_import("dsv", f"{folder}/{name}.pt", "-o", f"{folder}/bad.h5")
            raise AssertionError(f"{name} was taken")
        except SystemExit as stop:
            assert says in str(stop), stop


if __name__ == "__main__":
    place = sys.argv[1]
    for test in (every_query_captured_is_exact, sampled_queries_stay_within_full_attention,
                 context_parallel_ranks_sum_to_the_whole, torch_files_import, bad_files_are_refused):
        test(place)
        print("ok", test.__name__)
