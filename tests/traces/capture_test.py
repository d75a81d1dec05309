"""The capture hook on a small attention model that trains on CPU, against exact full attention; the torch importer.
Files go to the folder given; tests/traces/captured.c then checks them with the C reader."""

import pathlib
import socket
import sys

import h5py
import numpy as np
import torch
import torch.utils.checkpoint

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


def tables(path):
    """Everything of a trace but what names the run, records in the order of (step, layer)."""
    with h5py.File(path, "r") as f:
        order = np.lexsort((f["index"]["layer"], f["index"]["step"]))
        return {name: f[name][:][order] for name in f}


def assert_same(path, other):
    """Matrix products of half the rows may differ in the last digit, and a key at the edge of the mass with them."""
    got, want = tables(path), tables(other)
    assert len(got["index"]) > 0 and all(np.array_equal(got["index"][x], want["index"][x]) for x in ("step", "layer", "batch"))
    assert np.abs(got["keep"] - want["keep"]).max() < 1e-3, np.abs(got["keep"] - want["keep"]).max()
    assert np.abs(got["work"].astype(float) / want["work"] - 1).max() < 0.03
    assert (np.unpackbits(got["union"]) != np.unpackbits(want["union"])).mean() < 1e-3


# What steps, layers, groups and proxies there are, for all of the following.
SAME = dict(layers=LAYERS, heads=HEADS, every=2, group=(2, 2, 2), block=(2, 2, 2), proxies=2)


def run_of(model, capture, forward, steps=(0, 1, 2)):
    """Training steps on the same videos; the capture is closed."""
    optimizer = torch.optim.SGD(model.parameters(), 1e-2)
    for step in steps:
        video = torch.randn(1, TOKENS, DIM, generator=torch.Generator().manual_seed(step)).cumsum(1) / 8
        with capture.step(step, list(model)):
            loss = (forward(video) ** 2).mean()
            loss.backward()
        optimizer.step()
        optimizer.zero_grad()
    capture.close()


def new_model(kind=Attention):
    torch.manual_seed(3)
    return torch.nn.Sequential(*(kind() for _ in range(LAYERS)))


def plain_steps(folder):
    """The reference of the tests below, itself held against observe() with q and k taken by hand."""
    path = f"{folder}/steps.h5"
    if not pathlib.Path(path).exists():
        model = new_model()
        run_of(model, vt.Capture(path, GRID, **SAME), model)
    return path


def steps_see_what_modules_attend_to(folder):
    model, by_hand = new_model(), vt.Capture(f"{folder}/by-hand.h5", GRID, **SAME)
    now = [0]
    by_hand.watch(list(model), lambda m, args, kwargs: m.heads(args[0])[:2], lambda: now[0])

    class Steps:
        def step(self, step, modules):
            now[0] = step
            return vt.contextlib.nullcontext()

        def close(self):
            by_hand.close()
    run_of(model, Steps(), model)
    assert_same(plain_steps(folder), f"{folder}/by-hand.h5")
    assert list(tables(plain_steps(folder))["index"]["step"]) == [0, 0, 2, 2], "steps 0 and 2, nothing of step 1"


def checkpointing_and_compiling_change_nothing(folder):
    """A forward pass that is done again in the backward is no second record; a compiled model is seen all the same."""
    def again(model):
        def forward(x):
            for block in model:
                x = torch.utils.checkpoint.checkpoint(block, x, use_reentrant=False)
            return x
        return forward
    for name, forward in (("checkpointed", again), ("compiled", lambda m: torch.compile(m, backend="eager")),
                          ("both", lambda m: torch.compile(again(m), backend="eager"))):
        model = new_model()
        run_of(model, vt.Capture(f"{folder}/{name}.h5", GRID, **SAME), forward(model))
        assert_same(f"{folder}/{name}.h5", plain_steps(folder))


class FewerKeys(Attention):
    """Two heads of q share one of k and v; 5 text tokens stand in front of the video's."""

    def forward(self, x):
        q, k, v = self.heads(torch.cat([x[:, :5], x], 1))
        y = torch.nn.functional.scaled_dot_product_attention(query=q, key=k[:, ::2], value=v[:, ::2], enable_gqa=True)
        return x + self.out(y[..., 5:, :].transpose(1, 2).reshape(x.shape))


def text_tokens_and_shared_heads(folder):
    model = new_model(FewerKeys)
    capture = vt.Capture(f"{folder}/text.h5", GRID, **SAME, video=slice(5, None))
    run_of(model, capture, model)
    model = new_model(FewerKeys)
    x = torch.randn(1, TOKENS, DIM, generator=torch.Generator().manual_seed(0)).cumsum(1) / 8
    q, k, _ = model[0].heads(x)                               # projections are by token: text changes nothing of these
    want = vt.Capture(f"{folder}/text-by-hand.h5", GRID, **SAME)
    want.observe(0, 0, q, k[:, ::2].repeat_interleave(2, 1))
    want.close()
    for name in ("keep", "work", "union"):
        assert np.allclose(tables(f"{folder}/text.h5")[name][0], tables(f"{folder}/text-by-hand.h5")[name][0], atol=2e-3), name


def a_step_that_sees_nothing_says_so(folder):
    model = new_model(FewerKeys)
    capture = vt.Capture(f"{folder}/nothing.h5", GRID, **SAME)
    try:
        run_of(model, capture, model)
        raise AssertionError("nothing was seen and nobody said so")
    except RuntimeError as error:
        assert f"keys seen there: [{TOKENS + 5}]" in str(error), error
    capture.close()


def bf16_scores_are_exact(folder):
    """Under autocast the scores of bf16 q and k are still products in fp32."""
    capture = vt.Capture(f"{folder}/bf16.h5", GRID, **SAME)
    q, k = (torch.randn(HEADS, TOKENS, 16).bfloat16() for _ in range(2))
    picked, rows = capture.sample_groups(0, 0), np.arange(TOKENS)
    want = capture._exact(q.float(), k.float(), picked, rows, 0.5)
    with torch.autocast("cpu", torch.bfloat16):
        got = capture._exact(q, k, picked, rows, 0.5)
    assert all(torch.equal(x, y) for x, y in zip(got, want))
    capture.observe(0, 0, q, k)
    capture.close()


# ---- context parallelism: real ranks that talk over gloo

def gathered(x, dim, group):
    parts = [torch.empty_like(x) for _ in range(torch.distributed.get_world_size(group))]
    torch.distributed.all_gather(parts, x.detach().contiguous(), group=group)
    return torch.cat(parts, dim)


class Rank:
    """Place (row, column) of `head_groups` x `seq_groups` ranks: heads split within a row, tokens over all ranks."""

    def __init__(self, rank, head_groups, seq_groups):
        self.head_groups, self.seq_groups = head_groups, seq_groups
        self.head, self.seq = rank % head_groups, rank // head_groups
        rows = [torch.distributed.new_group([s * head_groups + h for h in range(head_groups)]) for s in range(seq_groups)]
        columns = [torch.distributed.new_group([s * head_groups + h for s in range(seq_groups)]) for h in range(head_groups)]
        self.row, self.column = rows[self.seq], columns[self.head]
        self.heads = np.array_split(np.arange(HEADS)[::-1], head_groups)[self.head].copy()   # uneven, and not in order
        self.shard = TOKENS // seq_groups
        self.mine = slice(rank * (TOKENS // (head_groups * seq_groups)), (rank + 1) * (TOKENS // (head_groups * seq_groups)))

    def forward(self, model, video):
        """Every rank has its tokens; attention has its heads of its row's tokens, with the keys of its column."""
        x = video[:, self.mine]
        for block in model:
            block.rank = self
            x = block(x)
        return x


class Split(Attention):
    def forward(self, x):
        r = self.rank
        q, k, v = (gathered(y, 2, r.row)[:, r.heads] for y in self.heads(x))
        k, v = (gathered(y, 2, r.column) for y in (k, v))
        y = torch.nn.functional.scaled_dot_product_attention(q, k, v)
        whole = torch.zeros(1, HEADS, r.shard, y.shape[-1])   # the way back: each rank's heads, added over the row
        whole[:, r.heads] = y.detach()
        torch.distributed.all_reduce(whole, group=r.row)
        n = x.shape[1]
        return x + self.out(whole[..., r.head * n:(r.head + 1) * n, :].transpose(1, 2).reshape(x.shape))


def one_rank(rank, ranks, head_groups, folder, port):
    torch.set_num_threads(1)
    torch.distributed.init_process_group("gloo", f"tcp://127.0.0.1:{port}", rank=rank, world_size=ranks)
    place = Rank(rank, head_groups, ranks // head_groups)
    capture = vt.Capture(f"{folder}/ranks-{head_groups}x{ranks // head_groups}.h5", GRID, **SAME, ranks=torch.distributed.group.WORLD,
                         head_offset=place.heads, query_offset=place.seq * place.shard)
    model = new_model(Split)
    for step in (0, 2):
        video = torch.randn(1, TOKENS, DIM, generator=torch.Generator().manual_seed(step)).cumsum(1) / 8
        with capture.step(step, list(model)):
            place.forward(model, video)
    capture.close()
    torch.distributed.destroy_process_group()


def ranks_write_what_one_rank_does(folder):
    model = new_model()
    alone = vt.Capture(f"{folder}/alone.h5", GRID, **SAME)
    for step in (0, 2):
        video = torch.randn(1, TOKENS, DIM, generator=torch.Generator().manual_seed(step)).cumsum(1) / 8
        with alone.step(step, list(model)):
            model(video)
    alone.close()
    for ranks, head_groups in ((3, 3), (4, 2)):               # 2 + 1 + 1 heads; heads and queries
        with socket.socket() as s:
            s.bind(("127.0.0.1", 0))
            port = s.getsockname()[1]
        torch.multiprocessing.spawn(one_rank, (ranks, head_groups, folder, port), ranks)
        assert_same(f"{folder}/ranks-{head_groups}x{ranks // head_groups}.h5", f"{folder}/alone.h5")


# ---- models that people train

def a_video_transformer_of_diffusers(folder):
    try:
        from diffusers import HunyuanVideoTransformer3DModel, WanTransformer3DModel
    except ImportError:
        return print("skipped: no diffusers here")
    torch.manual_seed(0)
    wan = WanTransformer3DModel(patch_size=(1, 2, 2), num_attention_heads=2, attention_head_dim=12, in_channels=4, out_channels=4,
                                text_dim=16, freq_dim=32, ffn_dim=32, num_layers=2, rope_max_seq_len=32)
    hunyuan = HunyuanVideoTransformer3DModel(in_channels=4, out_channels=4, num_attention_heads=2, attention_head_dim=10,
                                             num_layers=1, num_single_layers=1, num_refiner_layers=1, patch_size=1,
                                             text_embed_dim=16, pooled_projection_dim=8, rope_axes_dim=(2, 4, 4))
    noise, text, time = torch.randn(1, 4, 4, 16, 16), torch.randn(1, 12, 16), torch.tensor([5])
    more = dict(pooled_projections=torch.randn(1, 8), encoder_attention_mask=torch.ones(1, 12), guidance=torch.tensor([6.0]))
    for name, model, attention, inputs, video in (
            ("wan", wan, [b.attn1 for b in wan.blocks], dict(hidden_states=noise), slice(None)),
            ("hunyuan", hunyuan, [b.attn for b in (*hunyuan.transformer_blocks, *hunyuan.single_transformer_blocks)],
             dict(hidden_states=noise[..., :8, :8], **more), slice(0, 256))):
        model.train()
        model.enable_gradient_checkpointing()
        capture = vt.Capture(f"{folder}/{name}.h5", (4, 8, 8), 2, 2, every=2, group=(2, 2, 2), block=(2, 2, 2), video=video)
        with torch.autocast("cpu", torch.bfloat16), capture.step(0, attention):
            model(timestep=time, encoder_hidden_states=text, **inputs).sample.float().pow(2).mean().backward()
        capture.close()
        got = tables(f"{folder}/{name}.h5")
        assert list(got["index"]["layer"]) == [0, 1], name
        assert 0.5 < got["keep"].mean() < 0.9, (name, got["keep"])   # near the 0.9 of flat scores: the weights are random


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
    for test in (every_query_captured_is_exact, sampled_queries_stay_within_full_attention, steps_see_what_modules_attend_to,
                 checkpointing_and_compiling_change_nothing, text_tokens_and_shared_heads, a_step_that_sees_nothing_says_so,
                 bf16_scores_are_exact, ranks_write_what_one_rank_does, a_video_transformer_of_diffusers,
                 torch_files_import, bad_files_are_refused):
        test(place)
        print("ok", test.__name__)
