/* Attention forward, dense and query-grouped sparse, on tensor cores by mma.sync (any GPU from
 * sm_80), and the choice between it and the wgmma kernels of forward_wgmma.cu and forward_wide.cu.
 *
 *   S = scale Q_g K[keys_g]^T,  P = 2^(S - lse),  O_g = P V[keys_g],  lse = log2 sum_j 2^S_j
 *
 * for every group g of queries that share one selection; shapes as in kernels/kern.h. S and P live
 * in registers only (one pass over the keys, softmax by pieces).
 *
 * One block = one tile of M = 32, 64 or 128 queries of one group of one head. Its keys stream
 * through STAGES buffers of N rows of K and of V in shared memory, gathered row by row with 16-byte
 * asynchronous copies (8 lanes fetch 128 bytes of a row) while the tile before is computed. Lists,
 * bitmaps and "all" differ in attention.cuh's key stream only.
 *
 * Warps: each owns 16 WM queries. ROWS warps side by side make M = 16 WM ROWS; SPLIT such teams
 * take every SPLITth piece of N / SPLIT keys of each tile, with a softmax of their own, and are
 * merged at the end. A short M is so computed with 32 queries in each warp, which reads K and V out
 * of shared memory half as often per product as 16 would.
 *
 * Bounds at D = 128, per 64 keys and M = 32, 64, 128 queries (cycles of an SM):
 *   tensor cores   M x 64 x 512 FLOP / 2,676 (H200, mma.sync at 62% of peak): 392, 784, 1,568
 *   level-2 cache  32 KB / 42 B (9.7 TB/s over 132 SMs at 1.755 GHz): 780
 *   shared memory  (reads of Q, K, V by all warps + writes) / 128 B: 768, 1,024, 1,536
 * M = 32 is bound by the cache: 32 FLOP per byte x 9.7 TB/s = 310 TFLOP/s.
 *
 * Shared memory is M D 2 (Q) + STAGES N D 4 (K, V) + (STAGES + 1) N 4 bytes (keys); registers: O
 * takes WM D / 2 of the thread's 255, S takes WM N / SPLIT / 2. Both in the table at the end. */
#include <stdio.h>

#include "kernels/cuda/forward.cuh"

/* ---- tiles in shared memory -------------------------------------------------------------------
 * Rows of D bf16 as chunks of 16 bytes. ldmatrix reads one chunk of 8 rows at a time, which must
 * fall into different banks: chunk c of row r lies at c ^ (r % 8), or, where a row has no whole
 * number of 128 bytes, rows are one chunk further apart (an odd number of chunks). */
template <int D> struct tile {
    static constexpr int chunks = D / 8;
    static constexpr bool swizzled = chunks % 8 == 0;
    static constexpr int pitch = swizzled ? D * 2 : D * 2 + 16;
    static constexpr int lanes = swizzled ? 8 : 4; /* that copy one row */
};

template <int D> DEV uint32_t tile_at(int row, int chunk)
{
    return (uint32_t)(row * tile<D>::pitch +
                      ((tile<D>::swizzled ? chunk ^ (row & 7) : chunk) << 4));
}

/* From the address of (row, chunk c0) to that of (row, chunk c0 + more); c0 < 2, more even. */
template <int D> DEV uint32_t tile_along(uint32_t at, int more)
{
    return tile<D>::swizzled ? at ^ (uint32_t)(more << 4) : at + (uint32_t)(more << 4);
}

/* One row, by tile<D>::lanes threads; dim <= D columns of it exist, the others become 0. `from` is
 * read only if `there`. */
template <int D>
DEV void copy_row(uint32_t to, const uint16_t *from, int row, int dim, bool there, int lane)
{
#pragma unroll
    for (int c = 0; c < tile<D>::chunks; c += tile<D>::lanes) {
        int chunk = c + lane;
        bool use = there && chunk * 8 < dim;
        dev_copy16(to + tile_at<D>(row, chunk), from + (use ? chunk * 8 : 0), use ? 16 : 0);
    }
}

/* Rows of K and V named by keys[0 .. N), -1 (or anything that is no row) for none. */
template <int D, int N, int THREADS>
DEV void gather_tile(uint32_t k, uint32_t v, const struct forward_head *h, int dim,
                     const int32_t *keys, int thread)
{
    constexpr int lanes = tile<D>::lanes, step = THREADS / lanes;
    int lane = thread % lanes;
#pragma unroll
    for (int i = 0; i < (N + step - 1) / step; i++) {
        int row = thread / lanes + i * step;
        if (N % step != 0 && row >= N)
            break;
        int key = keys[row];
        bool there = (uint32_t)key < (uint32_t)h->keys.kv_rows;
        int64_t at = there ? (int64_t)key * dim : 0;
        copy_row<D>(k, h->k + at, row, dim, there, lane);
        copy_row<D>(v, h->v + at, row, dim, there, lane);
    }
}

template <int D, int M, int THREADS>
DEV void load_queries(uint32_t q, const uint16_t *from, int rows, int dim, int thread)
{
    constexpr int lanes = tile<D>::lanes, step = THREADS / lanes;
    for (int row = thread / lanes; row < M; row += step) {
        bool there = row < rows;
        copy_row<D>(q, from + (there ? (int64_t)row * dim : 0), row, dim, there, thread % lanes);
    }
}

/* ---- one warp's share of a tile: 16 WM queries, KEYS keys ---- */

/* s = Q K^T. q and k are this lane's addresses of the first 16 rows. */
template <int D, int WM, int KEYS>
DEV void scores(float (&s)[WM][KEYS / 8][4], uint32_t q, uint32_t k)
{
#pragma unroll
    for (int a = 0; a < WM; a++)
#pragma unroll
        for (int n = 0; n < KEYS / 8; n++)
            s[a][n][0] = s[a][n][1] = s[a][n][2] = s[a][n][3] = 0;
#pragma unroll
    for (int c = 0; c < D / 8; c += 2) {
        uint32_t qa[WM][4];
#pragma unroll
        for (int a = 0; a < WM; a++)
            dev_ldmatrix4(qa[a], tile_along<D>(q, c) + a * 16 * tile<D>::pitch);
#pragma unroll
        for (int n = 0; n < KEYS / 16; n++) {
            uint32_t kb[4];
            dev_ldmatrix4(kb, tile_along<D>(k, c) + n * 16 * tile<D>::pitch);
#pragma unroll
            for (int a = 0; a < WM; a++) {
                dev_mma(s[a][2 * n], qa[a], kb);
                dev_mma(s[a][2 * n + 1], qa[a], kb + 2);
            }
        }
    }
}

/* o += P V. v is this lane's address of the first 16 keys. */
template <int D, int WM, int KEYS>
DEV void weigh(float (&o)[WM][D / 8][4], const float (&p)[WM][KEYS / 8][4], uint32_t v)
{
#pragma unroll
    for (int n = 0; n < KEYS / 16; n++) {
        uint32_t pa[WM][4];
#pragma unroll
        for (int a = 0; a < WM; a++)
#pragma unroll
            for (int i = 0; i < 4; i++)
                pa[a][i] =
                    dev_pack(p[a][2 * n + i / 2][i % 2 * 2], p[a][2 * n + i / 2][i % 2 * 2 + 1]);
#pragma unroll
        for (int c = 0; c < D / 8; c += 2) {
            uint32_t vb[4];
            dev_ldmatrix4_t(vb, tile_along<D>(v, c) + n * 16 * tile<D>::pitch);
#pragma unroll
            for (int a = 0; a < WM; a++) {
                dev_mma(o[a][c], pa[a], vb);
                dev_mma(o[a][c + 1], pa[a], vb + 2);
            }
        }
    }
}

/* ---- the end ---- */

/* Teams of ROWS warps each: 1 becomes part of 0, before that 2 of 0 and 3 of 1. */
template <int D, int WM, int ROWS, int SPLIT>
DEV void merge(float *room, float (&o)[WM][D / 8][4], struct softmax_row (&row)[WM][2], int warp,
               int lane)
{
    constexpr int part = PART_FLOATS(D) * 32;
    int team = warp / ROWS;
#pragma unroll
    for (int half = SPLIT / 2; half >= 1; half /= 2) {
        float *mine = room + (warp - (team < half ? 0 : half * ROWS)) * 2 * WM * part + lane;
        if (team >= half && team < 2 * half)
#pragma unroll
            for (int i = 0; i < 2 * WM; i++)
                part_put<D>(mine + i * part, o[i / 2], row[i / 2][i % 2], i % 2);
        __syncthreads();
        if (team < half)
#pragma unroll
            for (int i = 0; i < 2 * WM; i++)
                part_add<D>(mine + i * part, o[i / 2], row[i / 2][i % 2], i % 2);
        __syncthreads();
    }
}

/* ---- the kernel ---- */

template <int D, int WM, int ROWS, int SPLIT, int N, int STAGES> struct mma_shape {
    static constexpr int dim = D, rows = 16 * WM * ROWS, threads = 32 * ROWS * SPLIT;
    static constexpr int q_bytes = rows * tile<D>::pitch, tile_bytes = N * tile<D>::pitch;
    static constexpr int stages_at = q_bytes, keys_at = q_bytes + STAGES * 2 * tile_bytes;
    static constexpr int slots =
        STAGES + 1; /* of keys: a tile's are needed a step before its rows */
    static constexpr int shared_bytes = keys_at + slots * N * 4;
    static_assert(N / SPLIT % 16 == 0, "a warp's keys are whole mma steps");
    static_assert(SPLIT == 1 || WM * PART_FLOATS(D) * 128 * ROWS * SPLIT <= STAGES * 2 * tile_bytes,
                  "the parts to be merged fit where K and V were");
};

/* q <- -q, where the scale is negative: the softmax wants a positive one. */
DEV void flip_signs(unsigned char *bytes, int count, uint32_t flip, int thread, int threads)
{
    dev_copy_wait<0>();
    __syncthreads();
    for (int i = thread * 4; i < count; i += threads * 4)
        *(uint32_t *)(bytes + i) ^= flip;
}

template <int D, int WM, int ROWS, int SPLIT, int N, int STAGES, int BLOCKS>
__global__ void __launch_bounds__(32 * ROWS * SPLIT, BLOCKS)
    forward_mma(const __grid_constant__ struct forward_batch b)
{
    typedef mma_shape<D, WM, ROWS, SPLIT, N, STAGES> shape;
    constexpr int piece = N / SPLIT, step = piece < 32 ? piece : 32; /* logits in registers */
    const struct forward_head *h = &b.head[blockIdx.y];
    struct forward_queries mine = forward_queries_of(h, shape::rows, (int)blockIdx.x);
    if (mine.rows == 0)
        return;
    unsigned char *shared = dev_shared();
    int32_t *keys = (int32_t *)(shared + shape::keys_at);
    uint32_t q = dev_smem(shared), stages = q + shape::stages_at;
    int thread = (int)threadIdx.x, warp = thread / 32, lane = thread % 32;

    struct key_stream<N> stream;
    if (warp == 0) {
        keys_open(&stream, &h->keys, mine.group, lane);
        for (int t = 0; t < STAGES; t++)
            keys_next(&stream, keys + t * N, lane);
    }
    load_queries<D, shape::rows, shape::threads>(q, h->q + (int64_t)mine.first * b.dim, mine.rows,
                                                 b.dim, thread);
    __syncthreads();
    for (int t = 0; t < STAGES - 1; t++) {
        uint32_t k = stages + t * 2 * shape::tile_bytes;
        if (keys[t * N] >= 0)
            gather_tile<D, N, shape::threads>(k, k + shape::tile_bytes, h, b.dim, keys + t * N,
                                              thread);
        dev_copy_commit();
    }
    if (b.flip)
        flip_signs(shared, shape::q_bytes, b.flip, thread, shape::threads);

    /* This lane's rows: ldmatrix takes 16 rows of Q and V, two times 8 of K. */
    int team = warp / ROWS, my_rows = warp % ROWS * 16 * WM;
    uint32_t my_q = q + my_rows * tile<D>::pitch + tile_at<D>(lane % 16, lane / 16);
    uint32_t my_k =
        team * piece * tile<D>::pitch + tile_at<D>(lane % 8 + lane / 16 * 8, lane / 8 % 2);
    uint32_t my_v =
        shape::tile_bytes + team * piece * tile<D>::pitch + tile_at<D>(lane % 16, lane / 16);
    float o[WM][D / 8][4];
    struct softmax_row row[WM][2];
#pragma unroll
    for (int a = 0; a < WM; a++) {
        row[a][0].max = row[a][1].max = -INFINITY;
        row[a][0].sum = row[a][1].sum = 0;
#pragma unroll
        for (int i = 0; i < D / 2; i++)
            o[a][i / 4][i % 4] = 0;
    }
    for (unsigned t = 0;; t++) {
        dev_copy_wait<STAGES - 2>();
        __syncthreads(); /* tile t is here, nobody reads tile t - 1 any more */
        const int32_t *now = keys + t % shape::slots * N;
        const int32_t *ahead = keys + (t + STAGES - 1) % shape::slots * N;
        if (now[0] < 0)
            break;
        if (ahead[0] >= 0) {
            uint32_t k = stages + (t + STAGES - 1) % STAGES * 2 * shape::tile_bytes;
            gather_tile<D, N, shape::threads>(k, k + shape::tile_bytes, h, b.dim, ahead, thread);
        }
        dev_copy_commit();
        if (warp == 0)
            keys_next(&stream, keys + (t + STAGES) % shape::slots * N, lane);
        uint32_t stage = stages + t % STAGES * 2 * shape::tile_bytes;
#pragma unroll 1
        for (int part = 0; part < piece; part += step) {
            uint32_t at = stage + part * tile<D>::pitch;
            float s[WM][step / 8][4];
            scores<D, WM, step>(s, my_q, at + my_k);
            if (now[N - 1] < 0)
                mask_missing<WM, step>(s, now + team * piece + part, lane);
            float factor[WM][2];
            if (softmax<WM, step>(s, row, factor, b.scale))
                rescale<D, WM>(o, factor);
            weigh<D, WM, step>(o, s, at + my_v);
        }
    }
    if (SPLIT > 1)
        merge<D, WM, ROWS, SPLIT>((float *)(shared + shape::stages_at), o, row, warp, lane);
    if (team == 0)
        store<D, WM>(h, b.dim, (int64_t)mine.first + my_rows, mine.rows - my_rows, o, row, lane);
}

/* ---- the host's side ---- */

#define MMA(d, wm, rows, split, n, stages, blocks)                                                 \
    {                                                                                              \
        d, 16 * wm *rows, 32 * rows *split,                                                        \
            mma_shape<d, wm, rows, split, n, stages>::shared_bytes, blocks, false,                 \
            forward_mma<d, wm, rows, split, n, stages, blocks>                                     \
    }

/* Of one dimension and number of rows the first whose `blocks` fit a processor's shared memory is
 * taken (227 KB on sm_90 and sm_100, 163 on sm_80, 99 on sm_86 and sm_89). */
static const struct forward_kernel mma_kernels[] = {
    MMA(64, 2, 4, 1, 64, 3, 2),  MMA(64, 2, 2, 2, 64, 3, 2),  MMA(64, 2, 1, 4, 64, 3, 2),
    MMA(96, 2, 4, 1, 64, 2, 2),  MMA(96, 2, 2, 2, 64, 2, 2),  MMA(96, 2, 1, 4, 64, 2, 2),
    MMA(128, 2, 4, 1, 64, 2, 2), MMA(128, 2, 4, 1, 32, 3, 2), MMA(128, 2, 2, 2, 64, 3, 2),
    MMA(128, 2, 2, 2, 32, 3, 2), MMA(128, 2, 1, 4, 64, 3, 2), MMA(128, 2, 1, 4, 64, 2, 2),
    MMA(256, 1, 8, 1, 32, 2, 1), MMA(256, 1, 4, 1, 32, 2, 2), MMA(256, 1, 2, 2, 32, 2, 2),
};

static int rows_for(const struct forward_head *h)
{
    return h->group <= 32 ? 32 : h->group <= 64 ? 64 : 128;
}

static bool fits(const struct forward_kernel *k, int blocks, const struct cuda_device *d)
{
    const int reserved = 1024; /* by the system, in each block; a processor has this much more */
    return blocks * (k->shared_bytes + reserved) <= d->shared_bytes_per_block + reserved;
}

/* For this dimension and at most this many rows, or NULL. */
static const struct forward_kernel *mma_for(int dim, int rows, const struct cuda_device *d)
{
    const struct forward_kernel *found = NULL;
    for (const struct forward_kernel &k : mma_kernels) {
        if (k.dim < dim || k.rows > rows || !fits(&k, 1, d) || (found && k.dim > found->dim))
            continue;
        bool better =
            !found || k.rows > found->rows ||
            (k.rows == found->rows && !fits(found, found->blocks, d) && fits(&k, k.blocks, d));
        if (better)
            found = &k;
    }
    return found;
}

/* Where wgmma has no kernel (tiles of 32 rows of dimensions above 128, for which docs/cuda.md
 * expects no gain) mma.sync takes its place. */
static const struct forward_kernel *or_mma(const struct forward_kernel *k, int dim, int rows,
                                           const struct cuda_device *d)
{
    k = k ? k : forward_wide_for(dim, rows, d);
    return k ? k : mma_for(dim, rows, d);
}

static const struct forward_kernel *wgmma_for(int dim, int rows, const struct cuda_device *d)
{
    return d->sm == 90 ? or_mma(forward_wgmma_for(dim, rows, d), dim, rows, d) : NULL;
}

static const struct forward_kernel *wgmma_free_for(int dim, int rows, const struct cuda_device *d)
{
    return d->sm == 90 ? or_mma(forward_wgmma_free_for(dim, rows, d), dim, rows, d) : NULL;
}

/* At 32 rows half of wgmma's work is idle, and still it needs less of everything: for 64 keys 512
 * cycles of the tensor cores and of shared memory, not 410 and 768, and half of the instructions,
 * where the level-2 cache takes 780. */
static const struct forward_kernel *best_for(int dim, int rows, const struct cuda_device *d)
{
    return d->sm == 90 ? wgmma_for(dim, rows, d) : mma_for(dim, rows, d);
}

/* `united`: how many groups may run as one tile (attention.cuh), where they have a bitmap and there
 * is a kernel that takes them; all others run as in kernel_for. Whether that is faster depends on
 * how much the groups' keys overlap, which nobody knows without counting them: so it is asked for
 * by name. */
static const struct variant {
    const char *name;
    const struct forward_kernel *(*kernel_for)(int dim, int rows, const struct cuda_device *d);
    int united;
} variants[] = {
    {"mma", mma_for, 1},
    {"wgmma", wgmma_for, 1},
    {"wgmma-free", wgmma_free_for, 1},
    {"wgmma-pairs", wgmma_for, 2},
    {"wgmma-fours", wgmma_for, UNITED},
};

static bool variant_of(const char *name, const struct cuda_device *d, struct variant *out,
                       struct err *e)
{
    *out = {"best", best_for, 1};
    if (!name)
        return true;
    char known[96] = "";
    for (const struct variant &v : variants) {
        if (!v.kernel_for(64, 64, d))
            continue;
        size_t used = strlen(known);
        snprintf(known + used, sizeof known - used, "%s%s", used ? ", " : "", v.name);
        if (strcmp(v.name, name) == 0) {
            *out = v;
            return true;
        }
    }
    return err_set(e, ERR_INPUT, err_at_name("forward"), "'%s': this device has %s", name, known);
}

static bool aligned(const void *p, int bytes, int head, const char *name, struct err *e)
{
    return !p || cuda_aligned(p, bytes, head, name, e);
}

static bool head_aligned(const struct kern_head *h, int i, struct err *e)
{
    return aligned(h->q, 16, i, "q", e) && aligned(h->k, 16, i, "k", e) &&
           aligned(h->v, 16, i, "v", e) && aligned(h->o, 16, i, "o", e) &&
           aligned(h->o32, 16, i, "o32", e) && cuda_words_aligned(h, i, e);
}

static bool heads_check(const struct kern_attention *a, struct err *e)
{
    for (int i = 0; i < a->head_count; i++)
        if (!head_aligned(&a->heads[i], i, e))
            return false;
    return true;
}

static struct forward_head forward_head_of(const struct kern_head *h)
{
    bool dense = !h->keys.list && !h->keys.bitmap;
    struct forward_head f;
    f.q = h->q, f.k = h->k, f.v = h->v;
    f.o = h->o, f.o32 = h->o32, f.lse = h->lse;
    f.keys = key_source_of(h);
    f.q_rows = (int32_t)h->q_rows;
    f.group = dense || h->keys.group > h->q_rows ? f.q_rows : (int32_t)h->keys.group;
    return f;
}

/* Keys per query, or the most that it can be where only the device knows. */
static int32_t keys_bound(const struct forward_head *h)
{
    return h->keys.list && !h->keys.count ? h->keys.list_count : h->keys.kv_rows;
}

/* Heads with more keys start first, so that the last blocks to run are short ones. */
static void batch_add(struct forward_batch *b, int count, const struct forward_head *h)
{
    int at = count;
    for (; at > 0 && keys_bound(&b->head[at - 1]) < keys_bound(h); at--)
        b->head[at] = b->head[at - 1];
    b->head[at] = *h;
}

/* How a head is cut into tiles of queries: the rows of one, and how many groups it unites. */
struct tiling {
    int rows, united;
};

/* The smallest tile that holds what is to be united, of what variant v unites at most. */
static struct tiling tiling_of(const struct forward_head *h, const struct variant *v, int dim,
                               const struct cuda_device *d)
{
    int united = united_of(&h->keys, h->group, 128, v->united);
    int rows = united * h->group <= 64 ? 64 : 128;
    if (united > 1 && forward_united_for(dim, rows, d))
        return {rows, united};
    return {rows_for(h), 1};
}

static int64_t tiles_of(const struct forward_head *h, int rows)
{
    int64_t groups = kern_groups(h->q_rows, h->group);
    return h->keys.united > 1 ? kern_groups(groups, h->keys.united)
                              : groups * kern_groups(h->group, rows);
}

static bool batch_run(struct forward_batch *b, int heads, const struct forward_kernel *k,
                      const struct cuda_device *d, struct err *e)
{
    int64_t tiles = 0;
    for (int i = 0; i < heads; i++) {
        int64_t n = tiles_of(&b->head[i], k->rows);
        tiles = n > tiles ? n : tiles;
    }
    if (tiles * heads > INT32_MAX)
        return err_set(e, ERR_INPUT, err_at_name("forward"),
                       "%lld tiles of queries in %d heads, want below 2^31", (long long)tiles,
                       heads);
    b->heads = heads, b->tiles = (int32_t)tiles;
    int64_t resident = (int64_t)k->blocks * d->processors;
    dim3 grid((unsigned)tiles, (unsigned)heads);
    if (k->resident)
        grid = dim3((unsigned)(tiles * heads < resident ? tiles * heads : resident));
    return cuda_ok(dev_launch(k->run, grid, dim3((unsigned)k->threads), (size_t)k->shared_bytes,
                              CUDA_STREAM, *b),
                   "forward", e);
}

/* The heads whose tiles have `rows` rows, of united groups or not, FORWARD_HEADS to a launch: their
 * blocks run in the order of heads, so that a head's K and V stay in the level-2 cache meanwhile.
 */
static bool run_heads(const struct kern_attention *a, int rows, bool united,
                      const struct variant *v, const struct cuda_device *d, struct err *e)
{
    const struct forward_kernel *k =
        united ? forward_united_for(a->dim, rows, d) : v->kernel_for(a->dim, rows, d);
    float scale = kern_scale(a) * 1.4426950408889634f;
    struct forward_batch b;
    b.dim = a->dim, b.scale = fabsf(scale), b.flip = scale < 0 ? 0x80008000u : 0;
    int count = 0;
    for (int i = 0; i < a->head_count; i++) {
        struct forward_head h = forward_head_of(&a->heads[i]);
        struct tiling t = tiling_of(&h, v, a->dim, d);
        h.keys.united = t.united;
        if (h.q_rows == 0 || t.rows != rows || (t.united > 1) != united)
            continue;
        if (!k)
            return err_set(
                e, ERR_INPUT, err_at_name("forward"),
                "variant %s has no kernel for head dimension %d in the %d bytes of shared "
                "memory of this device",
                v->name, a->dim, d->shared_bytes_per_block);
        batch_add(&b, count++, &h);
        if (count == FORWARD_HEADS) {
            if (!batch_run(&b, count, k, d, e))
                return false;
            count = 0;
        }
    }
    return count == 0 || batch_run(&b, count, k, d, e);
}

bool cuda_forward_by(const char *variant, const struct kern_attention *a, struct err *e)
{
    struct cuda_device d;
    struct variant v;
    if (variant && strcmp(variant, "cudnn") == 0) /* dense heads only; makes a plan each time */
        return cuda_cudnn_forward(a, e);
    if (!kern_attention_check(a, false, e) || !heads_check(a, e) || !cuda_device(&d, e) ||
        !variant_of(variant, &d, &v, e))
        return false;
    for (int rows = 128; rows >= 32; rows /= 2)
        if (!run_heads(a, rows, true, &v, &d, e) || !run_heads(a, rows, false, &v, &d, e))
            return false;
    return true;
}

bool cuda_forward(const struct kern_attention *a, struct err *e)
{
    return cuda_forward_by(NULL, a, e);
}
