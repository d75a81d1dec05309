/* Attention backward of query groups by wgmma, on sm_90a only: the maths of backward.cu for units
 * of M = 64 queries and dimensions up to 128, with partials (the ordered way).
 *
 * Everything is turned: with tiles of N = 64 keys as rows,
 *   S^T = K Q^T    dP^T = V dO^T    P^T, dS^T from them in registers, which are at once the left
 *   factors of    dV = P^T dO    dK = dS^T Q
 * so that P never leaves the registers, and dS only for dQ += dS K, whose left factor needs it the
 * other way round: warps store it as it is ([key][query]) and read it transposed. One warpgroup
 * does all; two blocks on a processor, so that one's exponentials, copies and stores run beside the
 * other's products. Within a block, S is used while dP is computed, and dK is stored while dQ is.
 *
 * United groups (attention.cuh) share a unit, each an equal part of its rows. Entries of the list
 * say which of them see a key, P is 0 for the others, and the key has one partial for all of them.
 *
 * Matrices in shared memory are halves of 64 columns, [64 rows][128 bytes], 16-byte chunks swizzled
 * as wgmma has it (dev_matrix); K, V, Q and dO serve K-major for S and dP and, as they lie,
 * MN-major for dV, dK and dQ.
 *
 * Bounds at D = 128, per 64 keys and 64 queries (cycles of an SM; H200):
 *     tensor cores   5 x 64 x 64 x 256 FLOP / 4,096:                          1,280
 *     shared memory  (S, dP: 4 x 16 KB; dV, dK, dQ: 3 x 16 KB; dS 2 x 8 KB; K and V in 32 KB;
 *                    partials 2 x 32 KB) / 128 B:                             1,792
 *     memory         32 KB of partials / 18.6 B (4.3 TB/s):                   1,760
 *     instructions   of a scheduler, as compiled (802 for the warp that lists keys):  745
 * With lse, delta and lists, 2,092 cycles of shared memory are counted (tests/ptx/counts.cpp; 3,514
 * by mma.sync, backward.cu). A tile is 5.24 MFLOP, so 580 TFLOP/s at best on 132 multiprocessors at
 * 1.755 GHz: 2.9 ms for 64000 rows, 4 heads, 5120 keys of 64 queries, and 2.4 ms for sum_kernel.
 *
 * Registers: dQ D/2, S and dP 64, lse and delta of 16 queries 32, then dV or dK D/2 and P and
 * dS 32. Shared memory: Q, dO, 2 stages of K and V, dS, staging of partials, lists of keys: 115,472
 * bytes at D = 128; two blocks may have 115,712 each. */
#include "kernels/cuda/backward.cuh"

enum {
    ROWS = 64, /* queries of a unit, and keys of a tile: the M of wgmma */
    THREADS = 128
};

template <int D> struct turned {
    static constexpr int HALF = ROWS * 128, MATRIX = D / 64 * HALF;
    static constexpr int Q = 0, D_O = MATRIX, TILES = 2 * MATRIX; /* [2 stages]{K, V} */
    static constexpr int DS = 6 * MATRIX, STAGE = DS + HALF;      /* of a warp: [16 keys][64] */
    static constexpr int KEYS = STAGE + HALF;                     /* [2 tiles] */
    static constexpr int STATS = KEYS + 2 * ROWS * 4;             /* of the queries */
    static constexpr int BYTES = STATS + ROWS * (int)sizeof(struct stat);
    static int shared(int)
    {
        return BYTES;
    }
};

/* Byte of (row, 16-byte chunk) in a half. */
DEV int swizzled(int row, int chunk)
{
    return row * 128 + ((chunk ^ (row & 7)) << 4);
}

/* One row to a matrix, by 8 threads; zeros beyond dim or if it is not `there`. */
template <int D>
DEV void load_row(uint32_t to, const uint16_t *from, int64_t row, bool there, int at, int dim)
{
    int chunk = (int)threadIdx.x % 8;
#pragma unroll
    for (int half = 0; half < D / 64; half++) {
        int column = half * 64 + chunk * 8;
        bool use = there && column < dim;
        dev_copy16(to + half * turned<D>::HALF + swizzled(at, chunk),
                   from + (use ? row * dim + column : 0), use ? 16 : 0);
    }
}

/* Where row i of a tile comes from: so many rows after the unit's first, if there is one (below
 * `end`). Of united groups each has ROWS / united rows of the tile. */
struct source {
    int row, end;
};

template <int U> DEV struct source source_of(const struct piece *p, const struct unit *u, int i)
{
    if (U == 1)
        return {i, u->rows};
    int width = ROWS / p->keys.united, begin = i / width * p->group;
    return {begin + i % width, min(begin + p->group, u->rows)};
}

template <int D, int U>
DEV void load_unit(uint32_t base, const struct piece *p, const struct unit *u, int dim)
{
#pragma unroll 2
    for (int i = (int)threadIdx.x / 8; i < ROWS; i += THREADS / 8) {
        struct source s = source_of<U>(p, u, i);
        load_row<D>(base + turned<D>::Q, p->q, u->row + s.row, s.row < s.end, i, dim);
        load_row<D>(base + turned<D>::D_O, p->d_o, u->row + s.row, s.row < s.end, i, dim);
    }
}

/* c[64 keys][64 queries] = a b^T, asked for. */
template <int D> DEV void ask_scores(float (&c)[8][4], uint32_t a, uint32_t b)
{
    uint64_t left = dev_matrix(a, 16, 1024), right = dev_matrix(b, 16, 1024);
#pragma unroll
    for (int k = 0; k < D / 16; k++) {
        int at = k / 4 * turned<D>::HALF + k % 4 * 32;
        dev_wgmma_64x64(&c[0][0], dev_matrix_at(left, at), dev_matrix_at(right, at), k > 0);
    }
    dev_wgmma_commit();
}

/* c[64][D] (+)= a b, asked for; a [64][64] in registers, b [64][D] in shared memory. */
template <int D>
DEV void ask_product(float (&c)[D / 8][4], const uint32_t (&a)[4][4], uint32_t b, bool add)
{
    uint64_t first = dev_matrix(b, turned<D>::HALF, 1024);
#pragma unroll
    for (int k = 0; k < 4; k++) {
        uint64_t rows = dev_matrix_at(first, k * 16 * 128);
        if (D == 128)
            dev_wgmma_64x128_reg(&c[0][0], a[k], rows, add || k > 0);
        else
            dev_wgmma_64x64_reg(&c[0][0], a[k], rows, add || k > 0);
    }
    dev_wgmma_commit();
}

/* Accumulators as the left factor of the next product. */
DEV void to_left(uint32_t (&to)[4][4], const float (&from)[8][4])
{
#pragma unroll
    for (int k = 0; k < 4; k++)
#pragma unroll
        for (int i = 0; i < 4; i++)
            to[k][i] = dev_pack(from[2 * k + i / 2][i % 2 * 2], from[2 * k + i / 2][i % 2 * 2 + 1]);
}

/* 16 rows of 64 columns to shared memory, `to` (a multiple of 1,024 bytes): x[k] is columns 16 k,
 * as a left factor. */
DEV void store_rows(uint32_t to, const uint32_t (&x)[4][4], int lane)
{
    to += (uint32_t)swizzled(lane % 16, lane / 16);
#pragma unroll
    for (int k = 0; k < 4; k++)
        dev_stmatrix4(to ^ (uint32_t)(k << 5), x[k]);
}

/* This warp's 16 queries of its transpose. */
DEV void load_turned(uint32_t (&to)[4][4], uint32_t from, int warp, int lane)
{
#pragma unroll
    for (int k = 0; k < 4; k++)
        dev_ldmatrix4_t(
            to[k], from + swizzled(k * 16 + lane % 8 + lane / 16 * 8, warp * 2 + lane / 8 % 2));
}

/* A warp's 16 rows of dV or dK, of which `rows` are keys, to scratch: by way of shared memory, 64
 * columns at a time, for whole lines. `to`: this lane's 16 bytes of row lane / 8. */
template <int D>
DEV void store_sums(uint16_t *to, unsigned char *stage, const float (&x)[D / 8][4], int rows,
                    int dim, int lane)
{
    int row = lane / 8, column = lane % 8 * 8;
#pragma unroll
    for (int half = 0; half < D / 64; half++) {
        uint32_t pairs[4][4];
#pragma unroll
        for (int k = 0; k < 4; k++)
#pragma unroll
            for (int i = 0; i < 4; i++) {
                const float *two = &x[half * 8 + 2 * k + i / 2][i % 2 * 2];
                pairs[k][i] = dev_pack(two[0], two[1]);
            }
        store_rows(dev_smem(stage), pairs, lane);
        __syncwarp();
#pragma unroll
        for (int i = 0; i < 4; i++)
            dev_store16((void *)(dev_row(to, i * 4, dim * 4) + half * 64),
                        *(const uint4 *)(stage + swizzled(i * 4 + row, lane % 8)),
                        i * 4 + row < rows && half * 64 + column < dim);
        __syncwarp();
    }
}

/* delta times the scale, as dS is from the beginning: then dK and dQ need no more. */
template <int U>
DEV void load_stats(struct stat *to, const struct piece *p, const struct unit *u, float scale)
{
    int i = (int)threadIdx.x;
    struct source from = source_of<U>(p, u, i);
    struct stat s = {INFINITY, 0};
    if (from.row < from.end && i < ROWS)
        s = p->stat[u->row + from.row];
    s.delta *= scale;
    if (i < ROWS)
        to[i] = s;
}

/* Keys of a tile: before the barrier after which it is overwritten. */
template <int U> DEV int count_keys(const int32_t *tile, int lane)
{
    return __popc(__ballot_sync(~0u, entry_there<U>(tile[lane]))) +
           __popc(__ballot_sync(~0u, entry_there<U>(tile[lane + 32])));
}

/* United groups: bit q says that queries 16 q .. 16 q + 15 of the unit see the entry's key. */
DEV uint32_t seen_by(int32_t entry, int united)
{
    uint32_t tag = (uint32_t)entry >> UNITED_SHIFT;
    return united == UNITED ? tag : (tag & 1) * 3 | (tag & 2) * 6;
}

/* P^T in place of S^T. `stat`: of the lane's columns 8 n + 2 (lane % 4) + {0, 1}. */
DEV void probabilities(float (&s)[8][4], const struct stat *stat, float log2_scale)
{
#pragma unroll
    for (int n = 0; n < 8; n++) {
        float4 two = *(const float4 *)(stat + 8 * n);
#pragma unroll
        for (int i = 0; i < 4; i++)
            s[n][i] = dev_exp2(fmaf(s[n][i], log2_scale, i & 1 ? -two.z : -two.x));
    }
}

/* The lane's rows are `key` and key + 8, and those from `count` on are no keys. */
DEV void mask_beyond(float (&p)[8][4], int key, int count)
{
#pragma unroll
    for (int n = 0; n < 8; n++)
#pragma unroll
        for (int i = 0; i < 4; i++)
            p[n][i] = key + (i >> 1) * 8 < count ? p[n][i] : 0;
}

/* The lane's rows are keys that `seen` says who sees. */
DEV void mask_unseen(float (&p)[8][4], const uint32_t (&seen)[2])
{
#pragma unroll
    for (int n = 0; n < 8; n++)
#pragma unroll
        for (int i = 0; i < 4; i++)
            p[n][i] = seen[i >> 1] & 1u << n / 2 ? p[n][i] : 0;
}

/* Something that is not negative, as P is not, and known when all of P is. */
DEV float all_of(const uint32_t (&p)[4][4])
{
    uint32_t all = 0;
#pragma unroll
    for (int i = 0; i < 16; i++)
        all |= p[i / 4][i % 4];
    return __uint_as_float(all);
}

/* scale dS^T in place of dP^T. */
DEV void score_gradients(float (&d)[8][4], const float (&p)[8][4], const struct stat *stat,
                         float scale)
{
#pragma unroll
    for (int n = 0; n < 8; n++) {
        float4 two = *(const float4 *)(stat + 8 * n);
#pragma unroll
        for (int i = 0; i < 4; i++)
            d[n][i] = p[n][i] * fmaf(d[n][i], scale, i & 1 ? -two.w : -two.y);
    }
}

/* U: groups in a unit, at most. */
template <int D, int U>
__global__ void __launch_bounds__(THREADS, 2)
    groups_wgmma_kernel(const __grid_constant__ struct batch b)
{
    typedef turned<D> L;
    const struct piece *p = &b.piece[blockIdx.y];
    if ((int)blockIdx.x >= p->units)
        return;
    struct unit u = U > 1 ? united_unit_of(p, p->first + (int)blockIdx.x)
                          : unit_of(p, ROWS, p->first + (int)blockIdx.x);
    unsigned char *shared = dev_shared();
    uint32_t base = dev_smem(shared);
    int32_t *keys = (int32_t *)(shared + L::KEYS);
    struct stat *stats = (struct stat *)(shared + L::STATS);
    int lane = threadIdx.x & 31, warp = threadIdx.x >> 5;
    unsigned char *stage = shared + L::STAGE + warp * (L::HALF / 4);

    struct key_stream<ROWS, U> stream;
    if (warp == 0) {
        keys_open(&stream, &p->keys, u.group, lane);
        keys_next(&stream, keys, lane);
        keys_next(&stream, keys + ROWS, lane);
    }
    load_unit<D, U>(base, p, &u, b.dim);
    load_stats<U>(stats, p, &u, b.scale);
    stats += lane % 4 * 2;
    float dq[D / 8][4];
    zero(dq);
    __syncthreads();
    gather_halves<D, ROWS, U>(base + L::TILES, p->k, p->v, p->keys.kv_rows, b.dim, keys,
                              threadIdx.x);
    dev_copy_commit();

    uint16_t *partial =
        p->partial + (blockIdx.x * p->stride + warp * 16 + lane / 8) * 2 * b.dim + lane % 8 * 8;
    for (int t = 0;; t++) {
        int32_t *mine = keys + (t & 1) * ROWS, *next = keys + (~t & 1) * ROWS;
        int count = count_keys<U>(mine, lane);
        if (count == 0)
            break;
        uint32_t seen[2] = {0, 0};
        if (U > 1) {
            seen[0] = seen_by(mine[warp * 16 + lane / 4], p->keys.united);
            seen[1] = seen_by(mine[warp * 16 + lane / 4 + 8], p->keys.united);
        }
        uint32_t k = base + L::TILES + (t & 1) * 2 * L::MATRIX, v = k + L::MATRIX;
        dev_copy_wait<0>();
        dev_fence_async(); /* wgmma reads what copies wrote */
        __syncthreads();   /* this tile is here, and nobody uses the one before */

        float s[8][4], d[8][4], dv[D / 8][4], dk[D / 8][4];
        uint32_t left[4][4], left_d[4][4], across[4][4];
        dev_wgmma_fence();
        ask_scores<D>(s, k, base + L::Q);
        ask_scores<D>(d, v, base + L::D_O);
        if (entry_there<U>(next[0]))
            gather_halves<D, ROWS, U>(base + L::TILES + (~t & 1) * 2 * L::MATRIX, p->k, p->v,
                                      p->keys.kv_rows, b.dim, next, (int)threadIdx.x);
        dev_copy_commit();
        if (warp == 0)
            keys_next(&stream, mine, lane);

        dev_wgmma_wait<1>();
        dev_wgmma_result<32>(&s[0][0]);
        probabilities(s, stats, b.log2_scale);
        if (U > 1)
            mask_unseen(s, seen);
        else if (count < ROWS)
            mask_beyond(s, warp * 16 + lane / 4, count);
        to_left(left, s);
        dev_wgmma_wait_after<0>(all_of(left));
        dev_wgmma_result<32>(&d[0][0]);
        score_gradients(d, s, stats, b.scale);
        to_left(left_d, d);
        store_rows(base + L::DS + warp * (L::HALF / 4), left_d, lane);

        dev_wgmma_fence();
        ask_product<D>(dv, left, base + L::D_O, false);
        __syncthreads(); /* dS is whole */
        load_turned(across, base + L::DS, warp, lane);
        dev_wgmma_wait<0>();
        dev_wgmma_result<D / 2>(&dv[0][0]);
        store_sums<D>(partial + b.dim, stage, dv, count - warp * 16, b.dim, lane);
        dev_wgmma_fence();
        ask_product<D>(dk, left_d, base + L::Q, false);
        ask_product<D>(dq, across, k, true);
        dev_wgmma_wait<1>();
        dev_wgmma_result<D / 2>(&dk[0][0]);
        store_sums<D>(partial, stage, dk, count - warp * 16, b.dim, lane);
        dev_wgmma_wait<0>();
        dev_wgmma_result<D / 2>(&dq[0][0]);
        partial += (int64_t)count * 2 * b.dim;
    }
    struct source own = source_of<U>(p, &u, warp * 16);
    add_owned<D>(p->dq + u.row * b.dim, dq, own.row, own.end, b.dim, 1, lane);
}

extern const struct instance backward_wgmma[2] = {
    {64, ROWS, groups_wgmma_kernel<64, 1>, turned<64>::shared},
    {128, ROWS, groups_wgmma_kernel<128, 1>, turned<128>::shared},
};
extern const struct instance backward_united[2] = {
    {64, ROWS, groups_wgmma_kernel<64, UNITED>, turned<64>::shared},
    {128, ROWS, groups_wgmma_kernel<128, UNITED>, turned<128>::shared},
};
