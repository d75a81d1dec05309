"""Capture sparsity traces ("vdit-trace/1") from a PyTorch training run.

    import vdit_trace
    attention = [block.attn1 for block in model.blocks]       # self-attention modules; layer i is attention[i]
    capture = vdit_trace.Capture("trace.h5", grid=(21, 45, 80), layers=len(attention), heads=12, every=500)
    for step, batch in enumerate(loader):
        with capture.step(step, attention):                   # around forward and backward
            loss = model(batch)
            ...
    capture.close()

`step` sees q and k of the scaled_dot_product_attention calls of these modules as the kernel gets them, after qk-norm and
RoPE. Other kernels (FlashAttention's own functions, FlexAttention): call `capture.seen(q, k)` in front of them, or use
`watch` with a function that gives q and k of a module, or `observe(layer, step, q, k)` anywhere. Joint attention with
text: video=slice(..) says which tokens are the video's. In a compiled model the steps that are captured run uncompiled
(PyTorch 2.6); on the others nothing is computed and nothing is hooked. Under gradient checkpointing, and with several
micro-batches a step, the first forward pass of a layer counts.

Per record it takes seeded query groups of each atom, computes exact scores of one proxy query per group (its middle)
against all keys, keeps the smallest set of keys that holds `mass` of the softmax, and stores keep, quantiles, work and
the union of blocks per atom. Cost: proxies * atoms of the S query rows, for one sample, every `every` steps. Records are
written by a side thread; the file can be read at any moment, and a killed run keeps every finished record.

Under context parallelism every rank of the group makes the Capture, with ranks= its process group and what it holds:
head_offset= (whole sequences of some heads, as after an all-to-all), query_offset= (its own queries with all keys
gathered), or both. Numbers are added over the group in the forward pass; its rank 0 writes the one file, which is that of
a run on one rank. Without ranks= each rank writes a file of its own (rank=) with the heads that it has.

Needs torch, numpy and h5py. The format is described in docs/formats.md.
"""

import contextlib
import queue
import threading

import h5py
import numpy as np
import torch

SCHEMA = "vdit-trace/1"
QUANTILES = (0.01, 0.25, 0.5, 0.75, 0.99)
INDEX = np.dtype({"names": ["step", "layer", "batch", "rank", "level", "noise_t"],
                  "formats": ["<i8", "<i4", "<i4", "<i4", "<i4", "<f8"],
                  "offsets": [0, 8, 12, 16, 20, 24], "itemsize": 32})


def cubes(grid, side):
    """Cubes per axis."""
    return tuple(-(-n // s) for n, s in zip(grid, side))


def cube_of_tokens(grid, side):
    """The cube of every token, tokens in t, h, w order."""
    axis = cubes(grid, side)
    t, h, w = np.meshgrid(*(np.arange(n) // s for n, s in zip(grid, side)), indexing="ij")
    return ((t * axis[1] + h) * axis[2] + w).ravel()


def cube_middles(grid, side):
    """The token in the middle of every cube."""
    middle = [np.minimum(np.arange(c) * s + (np.minimum(s, n - np.arange(c) * s)) // 2, n - 1)
              for n, s, c in zip(grid, side, cubes(grid, side))]
    t, h, w = np.meshgrid(*middle, indexing="ij")
    return ((t * grid[1] + h) * grid[2] + w).ravel()


def atom_grid(groups):
    """Up to 64 atoms; t is cut finest (up to 8). The same rule as the C library's."""
    axis = [1, 1, 1]
    while axis[0] < 8 and 2 * axis[0] <= groups[0]:
        axis[0] *= 2
    count = axis[0]
    while 2 * count <= 64:
        best = -1
        for i in (2, 1, 0):
            if 2 * axis[i] <= groups[i] and (best < 0 or groups[i] * axis[best] > groups[best] * axis[i]):
                best = i
        if best < 0:
            break
        axis[best] *= 2
        count *= 2
    return tuple(axis)


def atom_of_groups(groups, atoms):
    t, h, w = np.meshgrid(*(np.arange(n) * a // n for n, a in zip(groups, atoms)), indexing="ij")
    return ((t * atoms[1] + h) * atoms[2] + w).ravel()


class Writer:
    """One vdit-trace/1 file. The last axis of `union` and `mask` is packed little-endian, bit b in byte b // 8."""

    def __init__(self, path, grid, group, block, layers, heads, level=1, proxies=0, mass=0.0, method="dense", model="",
                 run_id="", gpu="", text_tokens=0, seed=0, created_by="vdit_trace.py"):
        self.grid, self.group, self.block = tuple(grid), tuple(group), tuple(block)
        self.groups, self.blocks = cubes(grid, group), cubes(grid, block)
        self.atoms = atom_grid(self.groups)
        self.heads, self.layers, self.level = heads, layers, level
        atoms, bytes_ = int(np.prod(self.atoms)), -(-int(np.prod(self.blocks)) // 8)
        self.file = h5py.File(path, "w", libver=("v110", "v110"))
        numbers = dict(token_grid=grid, patch=(1, 1, 1), query_group=group, kv_block=block, atom_grid=self.atoms,
                       text_tokens=text_tokens, heads=heads, layers=layers, atoms=atoms, level=level, seed=seed,
                       proxies=proxies)
        texts = dict(schema=SCHEMA, model=model, run_id=run_id, created_by=created_by, token_order="thw",
                     method=method, gpu=gpu)
        for name, text in texts.items():
            self.file.attrs[name] = np.bytes_(text.encode()[:63] or b"\0")
        for name, value in numbers.items():
            self.file.attrs[name] = np.asarray(value, dtype="<i8")
        self.file.attrs["mass_threshold"] = np.float64(mass)
        make = self._data_set
        make("keep", (heads,), "<f4")
        make("keep_q", (heads, len(QUANTILES)), "<f4")
        if level >= 1:
            make("work", (heads, atoms), "<u8")
            make("union", (heads, atoms, bytes_), "u1")
        if level >= 2:
            make("mask", (heads, int(np.prod(self.groups)), bytes_), "u1")
        self.file.create_dataset("index", (0,), INDEX, chunks=(64,), maxshape=(None,), track_times=False)
        self.file.swmr_mode = True

    def _data_set(self, name, shape, dtype):
        chunk = (1,) + shape if len(shape) < 3 else (1, 1) + shape[1:]
        self.file.create_dataset(name, (0,) + shape, dtype, chunks=chunk, maxshape=(None,) + shape, compression=4,
                                 shuffle=True, track_times=False)

    def append(self, step, layer, data, batch=0, rank=0, noise_t=float("nan")):
        """data: name -> array of one record. It survives a kill once this returns."""
        at = self.file["index"].shape[0]
        for name, value in data.items():
            d = self.file[name]
            d.resize(at + 1, axis=0)
            d[at] = value
            d.flush()
        index = self.file["index"]
        index.resize(at + 1, axis=0)
        index[at] = np.array((step, layer, batch, rank, self.level, noise_t), dtype=INDEX)
        index.flush()

    def close(self):
        self.file.close()


def pack(bits):
    return np.packbits(bits, axis=-1, bitorder="little")


def summarize_mask(mask, group_tokens, block_tokens, atom_of_group, atoms):
    """keep, keep_q, work and union of block masks [heads, groups, blocks] (bool)."""
    kept = mask @ block_tokens.astype(np.int64)
    tokens = int(block_tokens.sum())
    pairs = kept * group_tokens
    work = np.zeros((mask.shape[0], atoms), np.uint64)
    union = np.zeros((mask.shape[0], atoms, mask.shape[2]), bool)
    for a in range(atoms):
        mine = atom_of_group == a
        work[:, a] = pairs[:, mine].sum(1)
        union[:, a] = mask[:, mine].any(1)
    share = np.where(kept > 0, kept / tokens, np.nan)
    quantile = np.nanquantile(share, QUANTILES, axis=1).T
    return dict(keep=pairs.sum(1) / tokens ** 2, keep_q=quantile, work=work, union=pack(union))


class _Listener(torch.overrides.TorchFunctionMode):
    """Shows q and k of every scaled_dot_product_attention call to `seen`."""

    def __init__(self, seen):
        super().__init__()
        self.seen = seen

    def __torch_function__(self, function, types, args=(), kwargs=None):
        kwargs = kwargs or {}
        if function is torch.nn.functional.scaled_dot_product_attention:
            named = dict(zip(("query", "key"), args), **kwargs)
            self.seen(named["query"], named["key"], scale=kwargs.get("scale"))
        return function(*args, **kwargs)


class Capture:
    """See the module's text. Nothing is computed on steps that are not captured. head_offset and query_offset: the first
    head and token that q has, or a list of all that it has."""

    def __init__(self, path, grid, layers, heads, every=500, group=(2, 4, 4), block=(4, 4, 4), proxies=4, mass=0.9,
                 seed=0, rank=0, model="", head_offset=0, query_offset=0, ranks=None, video=slice(None),
                 chunk_bytes=1 << 28):
        self.every, self.proxies, self.mass, self.seed, self.rank = every, proxies, mass, seed, rank
        self.head_offset, self.query_offset, self.ranks = head_offset, query_offset, ranks
        self.heads, self.video, self.chunk_bytes = heads, video, chunk_bytes
        gpu = torch.cuda.get_device_name() if torch.cuda.is_available() else "cpu"
        self.groups, self.atoms = cubes(grid, group), atom_grid(cubes(grid, group))
        self.tokens = int(np.prod(grid))
        self.block_of_token = torch.from_numpy(cube_of_tokens(grid, block).astype(np.int64))
        self.blocks = int(np.prod(cubes(grid, block)))
        self.group_tokens = np.bincount(cube_of_tokens(grid, group))
        self.middles = cube_middles(grid, group)
        self.atom_of_group = atom_of_groups(self.groups, self.atoms)
        self.atom_count = int(np.prod(self.atoms))
        self.inside, self.now, self.done = [], (None, float("nan")), set()
        self.error = self.writer = None
        self.queue = queue.Queue(maxsize=64)
        if ranks is None or torch.distributed.get_rank(ranks) == 0:
            self.writer = Writer(path, grid, group, block, layers, heads, 1, proxies, mass, "dense", model, gpu=gpu,
                                 seed=seed, run_id=f"rank{rank}")
            self.thread = threading.Thread(target=self._write, daemon=True)
            self.thread.start()

    def wants(self, step):
        return step % self.every == 0

    def sample_groups(self, step, layer):
        """`proxies` groups of each atom, seeded by (seed, step, layer): the same on every rank."""
        rng = np.random.default_rng([self.seed, step, layer])
        picked = []
        for atom in range(self.atom_count):
            members = np.flatnonzero(self.atom_of_group == atom)
            picked.append(np.sort(rng.choice(members, min(self.proxies, len(members)), replace=False)))
        return picked

    @contextlib.contextmanager
    def step(self, step, modules, noise_t=float("nan")):
        """Forward and backward of one training step: see the module's text."""
        if not self.wants(step):
            yield
            return
        self.now, self.unfit = (step, noise_t), set()
        hooks = []
        for i, module in enumerate(modules):
            hooks += [module.register_forward_pre_hook(lambda *_, layer=i: self.inside.append(layer)),
                      module.register_forward_hook(lambda *_: self._leave(), always_call=True)]
        eager = getattr(torch.compiler, "set_stance", lambda _: contextlib.nullcontext())
        try:
            with eager("force_eager"), _Listener(self.seen):
                yield
        finally:
            for hook in hooks:
                hook.remove()
            self.inside.clear()
        if not any(at == step for at, _ in self.done):
            raise RuntimeError(f"step {step}: no attention over {self.tokens} video tokens in {len(hooks) // 2} modules; "
                               f"keys seen there: {sorted(self.unfit) or 'none'} (video= leaves text tokens out)")

    def _leave(self):
        self.inside.pop()                                 # a hook that returns something would change the output

    def seen(self, q, k, scale=None):
        """Within `step`, called by hand in front of kernels that it does not know. Other attention (text) is passed by."""
        if not self.inside:
            return
        if k.shape[-2] == self.tokens or k[..., self.video, :].shape[-2] == self.tokens:
            video = slice(None) if k.shape[-2] == self.tokens else self.video
            self.observe(self.inside[-1], self.now[0], q[..., video, :], k[..., video, :], scale=scale, noise_t=self.now[1])
        else:
            self.unfit.add(int(k.shape[-2]))

    def watch(self, modules, q_and_k, step):
        """Hooks attention modules: q_and_k(module, args, kwargs) -> (q, k) as the attention kernel gets them, after
        qk-norm and RoPE; step() -> the training step. Returns the hook handles."""
        def hook(layer):
            @torch.compiler.disable
            def run(module, args, kwargs):
                if self.wants(step()):
                    self.observe(layer, step(), *q_and_k(module, args, kwargs))
            return run
        return [m.register_forward_pre_hook(hook(i), with_kwargs=True) for i, m in enumerate(modules)]

    @torch.no_grad()
    def observe(self, layer, step, q, k, query_offset=None, head_offset=None, scale=None, noise_t=float("nan")):
        """q, k: [batch, heads, tokens, head_dim] or without batch; the first sample is taken, and each layer once a step.
        Fewer heads in k than in q are shared by neighbours. scale: of the scores (head_dim^-0.5)."""
        if not self.wants(step) or (step, layer) in self.done:
            return
        self.done = {at for at in self.done if at[0] == step} | {(step, layer)}
        q, k = (x[0] if x.dim() == 4 else x for x in (q, k))
        if k.shape[-2] != self.tokens:
            raise ValueError(f"k has {k.shape[-2]} tokens, the grid {self.tokens}: pass video tokens only")
        k = k.repeat_interleave(q.shape[0] // k.shape[0], dim=0)
        kept, union = self._exact(q, k, self.sample_groups(step, layer), self._places(query_offset, self.query_offset, q.shape[1]),
                                  scale or q.shape[-1] ** -0.5)
        if self.ranks is not None:
            kept, union = (self._whole(x, self._places(head_offset, self.head_offset, len(x))) for x in (kept, union))
        elif len(kept) != self.heads:
            raise ValueError(f"q has {len(kept)} heads, the trace {self.heads}: without ranks= each rank says how many it has")
        if self.writer:
            self.queue.put((step, layer, kept.cpu(), union.cpu() > 0, noise_t))
        if self.error:
            raise self.error

    def _places(self, given, otherwise, count):
        first = otherwise if given is None else given
        return np.arange(first, first + count) if np.ndim(first) == 0 else np.asarray(first)

    def _whole(self, part, heads):
        """The sum over the group: what other ranks have seen is zero here."""
        whole = part.new_zeros((self.heads, *part.shape[1:]))
        whole[torch.from_numpy(heads).to(part.device)] = part
        torch.distributed.all_reduce(whole, group=self.ranks)
        return whole

    def _exact(self, q, k, picked, queries, scale):
        """kept [heads, atoms, proxies] (0: no such group, or not here), union [heads, atoms, blocks] as counts. queries:
        the token of each row of q."""
        heads = q.shape[0]
        kept = torch.full((heads, self.atom_count, self.proxies), 0.0, device=q.device)
        union = torch.zeros((heads, self.atom_count, self.blocks), device=q.device)
        row_of = np.full(self.tokens, -1)
        row_of[queries] = np.arange(len(queries))
        where = [(a, i, int(row_of[self.middles[g]])) for a, groups in enumerate(picked) for i, g in enumerate(groups)
                 if row_of[self.middles[g]] >= 0]
        block_of = self.block_of_token.to(q.device)
        step = max(1, self.chunk_bytes // (self.tokens * 4 * heads))
        for at in range(0, len(where), step):
            part = where[at:at + step]
            rows = torch.tensor([w[2] for w in part], device=q.device)
            with torch.autocast(q.device.type, enabled=False):
                scores = (q[:, rows].float() @ k.float().transpose(-1, -2)) * scale
            p, order = scores.softmax(-1).sort(dim=-1, descending=True, stable=True)
            before = p.cumsum(-1) - p                     # mass of the keys in front of each key
            inside = before < self.mass * p.sum(-1, keepdim=True)
            count = inside.sum(-1)
            hit = torch.zeros((*count.shape, self.blocks), device=q.device)
            hit.scatter_add_(-1, block_of[order], inside.float())
            for n, (atom, i, _) in enumerate(part):
                kept[:, atom, i] = count[:, n]
                union[:, atom] += (hit[:, n] > 0).float()
        return kept, union

    def _record(self, kept, union):
        kept, union = kept.numpy().astype(np.float64), union.numpy()
        heads = kept.shape[0]
        tokens = np.bincount(self.atom_of_group, self.group_tokens, self.atom_count)
        seen = np.maximum((kept > 0).sum(-1), 1)
        mean = kept.sum(-1) / seen                        # keys per query, of each atom
        work = np.rint(mean * tokens)                     # extrapolated to all queries of the atom
        share = np.where(kept > 0, kept / self.tokens, np.nan).reshape(heads, -1)
        return dict(keep=work.sum(-1) / self.tokens ** 2, keep_q=np.nanquantile(share, QUANTILES, axis=1).T,
                    work=work.astype(np.uint64), union=pack(union))

    def _write(self):
        while (item := self.queue.get()) is not None:
            step, layer, kept, union, noise_t = item
            try:
                self.writer.append(step, layer, self._record(kept, union), rank=self.rank, noise_t=noise_t)
            except Exception as error:                    # shown to the training thread at its next call
                self.error = error

    def close(self):
        if not self.writer:
            return
        self.queue.put(None)
        self.thread.join()
        self.writer.close()
        if self.error:
            raise self.error
