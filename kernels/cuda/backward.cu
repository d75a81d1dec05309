/* Attention backward on a GPU: dense, and sparse by query groups.
 *
 * For query i and key j of its group, c = scale log2(e), bf16 in and fp32 sums:
 *   P_ij = 2^(c <q_i, k_j> - lse_i)      delta_i = <dO_i, O_i>
 *   dS_ij = P_ij (<dO_i, v_j> - delta_i)
 *   dV_j += sum_i P_ij dO_i      dK_j += scale sum_i dS_ij q_i      dQ_i += scale sum_j dS_ij k_j
 * A query with lse = -infinity has no keys: lse is taken as +infinity, so that P and dS are 0.
 *
 * Two kernels, five products [rows][dim] each; P and dS are rounded to bf16 for the last three.
 *
 * groups_kernel (sparse): a block owns M = 32, 64 or 128 query rows of one group ("unit"), 16 rows
 * a warp, and walks the keys of the group in tiles of 32 gathered rows. Q, dO and dQ stay; S and dP
 * come from the tile; dQ += dS K in registers; P and dS pass through shared memory, because dV and
 * dK sum over the rows of all warps. What is left is one row of dK and of dV for each (unit, key),
 * to be added to rows that other units add to as well. That traffic, 8 dim bytes per (unit, key)
 * in fp32 against 10 dim M FLOP, is what bounds the kernel: 1.25 M FLOP a byte. Ways ("sinks"):
 *   bulk     the tile goes to shared memory in fp32, the copy engine adds it row by row (sm_90)
 *   vector   threads add 16 bytes at a time (sm_90)
 *   atomic   threads add single floats, a warp 128 consecutive bytes (any)
 *   partial  rows go to scratch as bf16, sum_kernel adds those of each key in the order of the
 *            units: the same bytes at every run. 8 dim bytes as well (4 written, 4 read), but by
 *            plain stores and loads at the rate of device memory, not of the level-2 cache's
 * adders. At 64000 rows, 4 heads, dim 128, M 64, 5120 keys of a group: 21 GB. 12 ms at 1.75 TB/s
 * for adders (what FlashAttention-3's dQ shows at least), 5 ms at 4.3 TB/s for memory; 1.7 TFLOP at
 * 300 TFLOP/s are 5.6 ms, beside the adders, but only beside the write half of partials.
 *
 * keys_kernel (dense): the mirror. A block owns 128 keys and walks the queries in tiles of 32; dK
 * and dV stay in registers, and dQ is what is added to memory: 8 times fewer bytes than from groups
 * of 64. In order, it adds no dQ at all, and groups_kernel makes dQ alone: 7 products instead of 5,
 * no scratch.
 *
 * Shared memory in bytes, for dim D. Rows have 2 D + 16 bytes: 8 consecutive ones lie on different
 * banks, which ldmatrix needs, and every address is a base and a constant.
 *   owned rows  2 M (2 D + 16)          Q and dO, or K and V
 *   tiles       2 * 2 * 32 (2 D + 16)   K and V, or Q and dO; one is loaded while one is used
 *   P, dS       2 M 80                  one of them for keys_kernel
 *   sums        2 * 32 (4 D + 32) in fp32, 2 * 32 (2 D + 16) in bf16; half for keys_kernel
 * M 64, D 128: 115 KB (bulk) or 98 KB (partial): two blocks on a multiprocessor of sm_90, as its 64
 * K registers allow (128 threads of at most 255). M 128: 160 KB, one block of 256 threads.
 *
 * A tile reads and writes 248 KB of shared memory at M 64, D 128 (K, V and K again by each warp:
 * 96; P, dS, Q and dO: 72; sums: 64, half of that for partials) for 2.6 MFLOP: at most 313 TFLOP/s
 * on 132 multiprocessors of 128 bytes a clock (359 for partials). Counted (tests/ptx/counts.cpp):
 * 343 (bulk), 345 (partials); tensor cores by mma.sync: 600. */
#include "kernels/cuda/backward.cuh"

#include <algorithm>
#include <limits.h>
#include <stdlib.h>

enum {
    TILE = 32,     /* keys (groups_kernel) or queries (keys_kernel) that are streamed at a time */
    WARP_ROWS = 16 /* owned rows of a warp */
};

/* What is where in shared memory, and who does what, with `M` owned rows of at most `D` columns. */
template <int D, int M> struct plan {
    static constexpr int WARPS = M / WARP_ROWS, THREADS = 32 * WARPS;
    static constexpr int CHUNKS = D / 8;        /* of 16 bytes, in a row */
    static constexpr int ROW = 2 * D + 16;      /* bytes from row to row: bf16 */
    static constexpr int P_ROW = 2 * TILE + 16; /* of P or dS, [M][TILE] bf16 */
    static constexpr int SUM_ROW = 4 * D + 32;  /* of sums in fp32 (float2 stores: 8 banks apart) */
    static constexpr int TILE_BYTES = TILE * ROW; /* K or V */
    /* The products over owned rows, [TILE][D]: column blocks of 16 are dealt to warps; where they
     * do not go around, two warps share a block, 16 rows each. */
    static constexpr int BLOCKS = D / 16;
    static constexpr int ROW_PARTS = BLOCKS % WARPS == 0 ? 1 : 2, COLUMN_PARTS = WARPS / ROW_PARTS;
    static constexpr int ROW_BLOCKS = TILE / 16 / ROW_PARTS;
    static constexpr int WARP_BLOCKS = (BLOCKS + COLUMN_PARTS - 1) / COLUMN_PARTS;
    /* Of a warp's blocks, those whose sums are in registers at a time. */
    static constexpr int PAIRS = WARP_BLOCKS % 2 == 0 ? 2 : WARP_BLOCKS, STEP = D > 128 ? 1 : PAIRS;
    /* Fragments of the owned rows stay in registers where there is room for them. */
    static constexpr bool HOLD = D <= 128;
    static constexpr int A = 0, B = A + M * ROW; /* owned: Q and dO, or K and V */
    static constexpr int TILES = B + M * ROW;    /* [2 stages][2] */
    static constexpr int P = TILES + 4 * TILE_BYTES, DS = P + M * P_ROW;
    static constexpr int KEYS = DS + M * P_ROW, COUNTS = KEYS + RING * TILE * 4;
    static constexpr int SUMS = (COUNTS + RING * 4 + 15) / 16 * 16;
    static constexpr int shared(int sink)
    {
        return SUMS + (sink == SINK_NONE      ? 0
                       : sink == SINK_PARTIAL ? 2 * TILE * ROW
                                              : 2 * TILE * SUM_ROW);
    }
};

/* ---- pieces of both kernels ------------------------------------------------------------------ */

/* Addresses that a lane gives ldmatrix for a 16x16 block at (row, column) of a matrix with rows of
 * `pitch` bytes. `by_rows`: tiles (0, 0), (8, 0), (0, 8), (8, 8) in this order: the left factor of
 * an mma, or, transposed, a right factor stored [k][n]. Otherwise (0, 0), (0, 8), (8, 0), (8, 8): a
 * right factor stored [n][k], or, transposed, a left factor stored [k][m]. */
DEV int block_by_rows(int lane, int pitch)
{
    return (lane & 15) * pitch + (lane >> 4) * 16;
}

DEV int block_by_columns(int lane, int pitch)
{
    return ((lane & 7) + (lane >> 4) * 8) * pitch + (lane >> 3 & 1) * 16;
}

/* Rows first.. of a matrix [rows][dim] to shared memory, zeros beyond `rows` and `dim`. */
template <int D, int ROWS, int THREADS>
DEV void load_rows(uint32_t to, const uint16_t *from, int64_t first, int rows, int dim)
{
    constexpr int CHUNKS = D / 8, ROW = 2 * D + 16;
#pragma unroll
    for (int i = 0; i < (ROWS * CHUNKS + THREADS - 1) / THREADS; i++) {
        int at = i * THREADS + (int)threadIdx.x, r = at / CHUNKS, c = at % CHUNKS;
        if (ROWS * CHUNKS % THREADS != 0 && r >= ROWS)
            break;
        bool there = r < rows && 8 * c < dim;
        dev_copy16(to + r * ROW + c * 16, there ? from + (first + r) * dim + 8 * c : from,
                   there ? 16 : 0);
    }
}

/* Rows keys[0..TILE) of K and V: zeros where a key is -1. */
template <int D, int THREADS>
DEV void load_gathered(uint32_t to, const struct piece *p, const int32_t *keys, int dim)
{
    constexpr int CHUNKS = D / 8, ROW = 2 * D + 16;
#pragma unroll 1
    for (int i = 0; i < (TILE * CHUNKS + THREADS - 1) / THREADS; i++) {
        int at = i * THREADS + (int)threadIdx.x, r = at / CHUNKS, c = at % CHUNKS;
        if (TILE * CHUNKS % THREADS != 0 && r >= TILE)
            break;
        int32_t key = keys[r];
        bool there = key >= 0 && 8 * c < dim;
        int64_t from = there ? (int64_t)key * dim + 8 * c : 0;
        dev_copy16(to + r * ROW + c * 16, p->k + from, there ? 16 : 0);
        dev_copy16(to + TILE * ROW + r * ROW + c * 16, p->v + from, there ? 16 : 0);
    }
}

/* The left factors of a warp's 16 owned rows, in registers or to be read again each time. */
template <int D, bool HOLD> struct owned {
    uint32_t at; /* shared memory: this lane's address of the first block */
    uint32_t held[HOLD ? D / 16 : 1][4];
};

template <int D, bool HOLD> DEV void owned_load(struct owned<D, HOLD> *x)
{
    if (HOLD) {
#pragma unroll
        for (int k = 0; k < D / 16; k++)
            dev_ldmatrix4(x->held[HOLD ? k : 0], x->at + k * 32);
    }
}

template <int D, bool HOLD>
DEV void owned_get(const struct owned<D, HOLD> *x, int k, uint32_t to[4])
{
    if (HOLD) {
#pragma unroll
        for (int i = 0; i < 4; i++)
            to[i] = x->held[HOLD ? k : 0][i];
    } else {
        dev_ldmatrix4(to, x->at + k * 32);
    }
}

/* s = a t0^T and d = b t1^T, [16][TILE]: S and dP or their transposes. t: this lane's address in
 * the first streamed matrix, the second lies TILE_BYTES after it. */
template <int D, bool HOLD>
DEV void products(float s[TILE / 8][4], float d[TILE / 8][4], const struct owned<D, HOLD> *a,
                  const struct owned<D, HOLD> *b, uint32_t t)
{
    constexpr int ROW = 2 * D + 16;
#pragma unroll
    for (int n = 0; n < TILE / 8; n++)
#pragma unroll
        for (int i = 0; i < 4; i++)
            s[n][i] = d[n][i] = 0;
#pragma unroll
    for (int k = 0; k < D / 16; k++) {
        uint32_t left[2][4], right[4];
        owned_get(a, k, left[0]);
        owned_get(b, k, left[1]);
#pragma unroll
        for (int n = 0; n < TILE / 16; n++) {
            dev_ldmatrix4(right, t + n * 16 * ROW + k * 32);
            dev_mma(s[2 * n], left[0], right);
            dev_mma(s[2 * n + 1], left[0], right + 2);
            dev_ldmatrix4(right, t + (TILE + n * 16) * ROW + k * 32);
            dev_mma(d[2 * n], left[1], right);
            dev_mma(d[2 * n + 1], left[1], right + 2);
        }
    }
}

/* sum[16][D] += x t, x [16][TILE] from accumulators, rounded to bf16; t [TILE][D] in shared memory
 * (this lane's address). */
template <int D>
DEV void add_product(float sum[D / 8][4], const uint32_t x[TILE / 8][2], uint32_t t)
{
    constexpr int ROW = 2 * D + 16;
#pragma unroll
    for (int n = 0; n < TILE / 16; n++) {
        uint32_t left[4] = {x[2 * n][0], x[2 * n][1], x[2 * n + 1][0], x[2 * n + 1][1]};
#pragma unroll
        for (int d = 0; d < D / 16; d++) {
            uint32_t right[4];
            dev_ldmatrix4_t(right, t + n * 16 * ROW + d * 32);
            dev_mma(sum[2 * d], left, right);
            dev_mma(sum[2 * d + 1], left, right + 2);
        }
    }
}

/* Accumulators [16][TILE] as bf16 pairs: [n][0] row lane / 4, [n][1] row lane / 4 + 8. */
DEV void to_pairs(uint32_t to[TILE / 8][2], const float from[TILE / 8][4])
{
#pragma unroll
    for (int n = 0; n < TILE / 8; n++) {
        to[n][0] = dev_pack(from[n][0], from[n][1]);
        to[n][1] = dev_pack(from[n][2], from[n][3]);
    }
}

/* ... to a warp's 16 rows of a matrix [M][TILE] in shared memory. */
DEV void store_pairs(unsigned char *to, const uint32_t x[TILE / 8][2], int lane)
{
    constexpr int P_ROW = 2 * TILE + 16;
    to += (lane >> 2) * P_ROW + (lane & 3) * 4;
#pragma unroll
    for (int n = 0; n < TILE / 8; n++) {
        *(uint32_t *)(to + n * 16) = x[n][0];
        *(uint32_t *)(to + 8 * P_ROW + n * 16) = x[n][1];
    }
}

/* ---- rows that other blocks add to as well --------------------------------------------------- */

/* Where the rows of one product of this tile go. */
struct target {
    float *rows;         /* a gradient, [][dim] */
    const int32_t *keys; /* row i of the product is row keys[i] of it; NULL: `first` + i */
    int64_t first;
    uint16_t *partial; /* or: here, rows 2 dim apart */
    int count, dim, sink;
    float scale;
};

/* STEP column blocks of left^T right from block `c` on, [16 ROW_BLOCKS][16 STEP], left [M][TILE]
 * (P or dS) and right [M][D] (owned rows) in shared memory: this lane's addresses. */
template <int D, int M>
DEV void sum_over_owned(float x[][plan<D, M>::STEP * 2][4], uint32_t left, uint32_t right)
{
    using L = plan<D, M>;
#pragma unroll
    for (int r = 0; r < L::ROW_BLOCKS; r++)
#pragma unroll
        for (int n = 0; n < L::STEP * 2; n++)
#pragma unroll
            for (int i = 0; i < 4; i++)
                x[r][n][i] = 0;
#pragma unroll
    for (int m = 0; m < M / 16; m++) {
        uint32_t a[L::ROW_BLOCKS][4], b[4];
#pragma unroll
        for (int r = 0; r < L::ROW_BLOCKS; r++)
            dev_ldmatrix4_t(a[r], left + m * 16 * L::P_ROW + r * 32);
#pragma unroll
        for (int n = 0; n < L::STEP; n++) {
            dev_ldmatrix4_t(b, right + m * 16 * L::ROW + n * 32);
#pragma unroll
            for (int r = 0; r < L::ROW_BLOCKS; r++) {
                dev_mma(x[r][2 * n], a[r], b);
                dev_mma(x[r][2 * n + 1], a[r], b + 2);
            }
        }
    }
}

/* This warp's part of the sums to shared memory, in fp32. */
template <int D, int M>
DEV void stage_sums(unsigned char *to, const float x[][plan<D, M>::STEP * 2][4], float scale,
                    int lane)
{
    using L = plan<D, M>;
    to += (lane >> 2) * L::SUM_ROW + (lane & 3) * 8;
#pragma unroll
    for (int r = 0; r < L::ROW_BLOCKS; r++)
#pragma unroll
        for (int n = 0; n < L::STEP * 2; n++) {
            unsigned char *at = to + r * 16 * L::SUM_ROW + n * 32;
            *(float2 *)at = make_float2(x[r][n][0] * scale, x[r][n][1] * scale);
            *(float2 *)(at + 8 * L::SUM_ROW) = make_float2(x[r][n][2] * scale, x[r][n][3] * scale);
        }
}

/* The same in bf16, and on to scratch: no other warp is needed for that. */
template <int D, int M>
DEV void store_partial(unsigned char *stage, const float x[][plan<D, M>::STEP * 2][4],
                       const struct target *t, int row, int column, int lane)
{
    using L = plan<D, M>;
    constexpr int CHUNKS = L::STEP * 2; /* of 16 bytes in this warp's part of a row */
    stage += row * L::ROW + column * 2;
    unsigned char *to = stage + (lane >> 2) * L::ROW + (lane & 3) * 4;
#pragma unroll
    for (int r = 0; r < L::ROW_BLOCKS; r++)
#pragma unroll
        for (int n = 0; n < L::STEP * 2; n++) {
            unsigned char *at = to + r * 16 * L::ROW + n * 16;
            *(uint32_t *)at = dev_pack(x[r][n][0] * t->scale, x[r][n][1] * t->scale);
            *(uint32_t *)(at + 8 * L::ROW) = dev_pack(x[r][n][2] * t->scale, x[r][n][3] * t->scale);
        }
    __syncwarp();
    /* Rows are one chunk more than whole turns of the banks: 4 chunks of row r and 4 of row r + 4
     * fill the banks once; those of rows r and r + 1 would share some. */
    int turned = CHUNKS == 4 ? (lane & 3) | (lane & 4) << 2 | (lane >> 1 & 12) : lane;
#pragma unroll
    for (int i = 0; i < L::ROW_BLOCKS * 16 * CHUNKS / 32; i++) {
        int at = i * 32 + turned, r = at / CHUNKS, c = at % CHUNKS;
        if (row + r < t->count && column + 8 * c < t->dim)
            __stcs((uint4 *)(t->partial + (int64_t)(row + r) * 2 * t->dim + column + 8 * c),
                   *(const uint4 *)(stage + r * L::ROW + c * 16));
    }
    __syncwarp();
}

/* One product over owned rows, [TILE][D], every warp its part: to scratch, or staged for
 * add_staged. */
template <int D, int M>
DEV void sums_of_tile(unsigned char *stage, uint32_t left, uint32_t right, const struct target *t)
{
    using L = plan<D, M>;
    int lane = threadIdx.x & 31, warp = threadIdx.x >> 5;
    int row = warp % L::ROW_PARTS * 16, block = warp / L::ROW_PARTS * L::WARP_BLOCKS;
    left += block_by_columns(lane, L::P_ROW) + row * 2;
    right += block_by_rows(lane, L::ROW);
#pragma unroll 1
    for (int n = block; n < min(block + L::WARP_BLOCKS, L::BLOCKS); n += L::STEP) {
        float x[L::ROW_BLOCKS][L::STEP * 2][4];
        sum_over_owned<D, M>(x, left, right + n * 32);
        if (t->sink == SINK_PARTIAL)
            store_partial<D, M>(stage, x, t, row, n * 16, lane);
        else
            stage_sums<D, M>(stage + row * L::SUM_ROW + n * 64, x, t->scale, lane);
    }
}

DEV float *target_row(const struct target *t, int i)
{
    return t->rows + (t->keys ? (int64_t)t->keys[i] : t->first + i) * t->dim;
}

/* Adds the staged rows; all threads, after a barrier. Bulk: threads first.. first + TILE - 1 ask
 * for a row each, and wait for it (bulk_settled) before anyone stages again. */
template <int D, int M>
DEV void add_staged(const unsigned char *stage, const struct target *t, int first)
{
    using L = plan<D, M>;
    int thread = threadIdx.x;
    if (t->sink == SINK_BULK) {
        int i = thread - first;
        if (i >= 0 && i < t->count)
            dev_bulk_add(target_row(t, i), dev_smem(stage) + i * L::SUM_ROW, t->dim * 4);
    } else if (t->sink == SINK_VECTOR) {
        int each = t->dim / 4;
        for (int i = thread; i < t->count * each; i += L::THREADS) {
            int r = i / each, c = i % each;
            dev_add4(target_row(t, r) + 4 * c, (const float *)(stage + r * L::SUM_ROW + c * 16));
        }
    } else {
        for (int i = thread; i < t->count * t->dim; i += L::THREADS) {
            int r = i / t->dim, c = i % t->dim;
            dev_add(target_row(t, r) + c, *(const float *)(stage + r * L::SUM_ROW + c * 4));
        }
    }
}

/* ---- queries own ----------------------------------------------------------------------------- */

/* P and dS of a warp's 16 queries, in place of S and dP. Keys from `count` on are padding, whose
 * logit of 0 would be as good as any. */
DEV void probabilities(float s[TILE / 8][4], float d[TILE / 8][4], const struct stat stat[2],
                       float log2_scale, int count, int lane)
{
#pragma unroll
    for (int n = 0; n < TILE / 8; n++)
#pragma unroll
        for (int i = 0; i < 4; i++) {
            bool key = n * 8 + (lane & 3) * 2 + (i & 1) < count;
            float p = key ? dev_exp2(fmaf(s[n][i], log2_scale, -stat[i >> 1].lse)) : 0;
            s[n][i] = p;
            d[n][i] = p * (d[n][i] - stat[i >> 1].delta);
        }
}

/* lse and delta of rows `row` and `row` + 8 of the unit. */
DEV void load_stats(struct stat stat[2], const struct piece *p, const struct unit *u, int row)
{
#pragma unroll
    for (int h = 0; h < 2; h++) {
        stat[h].lse = INFINITY;
        stat[h].delta = 0;
        if (row + 8 * h < u->rows)
            stat[h] = p->stat[u->row + row + 8 * h];
    }
}

/* dV and dK of tile t, whose P and dS the warps have written. */
template <int D, int M>
DEV void sums_of_keys(unsigned char *shared, const struct piece *p, const struct batch *b,
                      const int32_t *keys, int t, int count)
{
    using L = plan<D, M>;
    uint32_t base = dev_smem(shared);
    unsigned char *stage = shared + L::SUMS,
                  *stage_dk = stage + TILE * (b->sink == SINK_PARTIAL ? L::ROW : L::SUM_ROW);
    struct target dv = {p->dv, keys, 0, NULL, count, b->dim, b->sink, 1};
    struct target dk = {p->dk, keys, 0, NULL, count, b->dim, b->sink, b->scale};
    if (b->sink == SINK_PARTIAL) {
        dk.partial = p->partial + (blockIdx.x * p->stride + (int64_t)t * TILE) * 2 * b->dim;
        dv.partial = dk.partial + b->dim;
    }
    if (b->sink == SINK_BULK)
        dev_bulk_wait_read<0>();
    __syncthreads(); /* P and dS are whole, the sums of the tile before are away */
    sums_of_tile<D, M>(stage, base + L::P, base + L::B, &dv);
    sums_of_tile<D, M>(stage_dk, base + L::DS, base + L::A, &dk);
    if (b->sink == SINK_PARTIAL)
        return;
    if (b->sink == SINK_BULK)
        dev_fence_async();
    __syncthreads();
    add_staged<D, M>(stage, &dv, 0);
    add_staged<D, M>(stage_dk, &dk, TILE);
    if (b->sink == SINK_BULK)
        dev_bulk_commit();
}

template <int D, int M>
__global__ void __launch_bounds__(2 * M) groups_kernel(const __grid_constant__ struct batch b)
{
    using L = plan<D, M>;
    const struct piece *p = &b.piece[blockIdx.y];
    if ((int)blockIdx.x >= p->units)
        return;
    struct unit u = unit_of(p, M, p->first + (int)blockIdx.x);
    unsigned char *shared = dev_shared();
    uint32_t base = dev_smem(shared);
    int32_t *keys = (int32_t *)(shared + L::KEYS);
    int *counts = (int *)(shared + L::COUNTS);
    int lane = threadIdx.x & 31, warp = threadIdx.x >> 5, row = warp * WARP_ROWS;

    load_rows<D, M, L::THREADS>(base + L::A, p->q, u.row, u.rows, b.dim);
    load_rows<D, M, L::THREADS>(base + L::B, p->d_o, u.row, u.rows, b.dim);
    struct key_stream<TILE> stream;
    if (warp == 0) {
        keys_open(&stream, &p->keys, u.group, lane);
        ring_fill(&stream, keys, counts, 0, lane);
        ring_fill(&stream, keys, counts, 1, lane);
    }
    struct stat stat[2];
    load_stats(stat, p, &u, row + (lane >> 2));
    float dq[D / 8][4];
    zero(dq);
    __syncthreads();
    load_gathered<D, L::THREADS>(base + L::TILES, p, keys, b.dim);
    dev_copy_commit();
    dev_copy_wait<0>();
    __syncthreads();
    struct owned<D, L::HOLD> q, d_o;
    q.at = base + L::A + row * L::ROW + block_by_rows(lane, L::ROW);
    d_o.at = base + L::B + row * L::ROW + block_by_rows(lane, L::ROW);
    owned_load(&q);
    owned_load(&d_o);

    for (int t = 0, slot = 0;; t++) {
        int count = counts[slot], next = slot == RING - 1 ? 0 : slot + 1;
        if (count == 0)
            break;
        uint32_t tile = base + L::TILES + (t & 1) * 2 * L::TILE_BYTES;
        dev_copy_wait<0>();
        __syncthreads(); /* this tile is here, and nobody uses the one before */
        if (counts[next])
            load_gathered<D, L::THREADS>(base + L::TILES + (~t & 1) * 2 * L::TILE_BYTES, p,
                                         keys + next * TILE, b.dim);
        dev_copy_commit();
        if (warp == 0)
            ring_fill(&stream, keys, counts, next == RING - 1 ? 0 : next + 1, lane);

        float s[TILE / 8][4], d[TILE / 8][4];
        uint32_t pairs[TILE / 8][2];
        products(s, d, &q, &d_o, tile + block_by_columns(lane, L::ROW));
        probabilities(s, d, stat, b.log2_scale, count, lane);
        if (b.sink != SINK_NONE) {
            to_pairs(pairs, s);
            store_pairs(shared + L::P + row * L::P_ROW, pairs, lane);
        }
        to_pairs(pairs, d);
        if (b.sink != SINK_NONE)
            store_pairs(shared + L::DS + row * L::P_ROW, pairs, lane);
        add_product<D>(dq, pairs, tile + block_by_rows(lane, L::ROW));

        if (b.sink != SINK_NONE)
            sums_of_keys<D, M>(shared, p, &b, keys + slot * TILE, t, count);
        slot = next;
    }
    add_owned<D>(p->dq + u.row * b.dim, dq, row, u.rows, b.dim, b.scale, lane);
    if (b.sink == SINK_BULK)
        dev_bulk_wait<0>();
}

/* ---- keys own -------------------------------------------------------------------------------- */

/* P^T and dS^T of a warp's 16 keys, in place of S^T and dP^T; lane's rows `key` and `key` + 8 of
 * `keys`. Queries that are padding have lse = infinity. */
DEV void probabilities_of_keys(float s[TILE / 8][4], float d[TILE / 8][4], const struct stat *stat,
                               float log2_scale, int key, int keys, int lane)
{
#pragma unroll
    for (int n = 0; n < TILE / 8; n++) {
        float4 two = *(const float4 *)(stat + n * 8 + (lane & 3) * 2);
#pragma unroll
        for (int i = 0; i < 4; i++) {
            float lse = i & 1 ? two.z : two.x, delta = i & 1 ? two.w : two.y;
            bool there = key + 8 * (i >> 1) < keys;
            float p = there ? dev_exp2(fmaf(s[n][i], log2_scale, -lse)) : 0;
            s[n][i] = p;
            d[n][i] = p * (d[n][i] - delta);
        }
    }
}

/* Queries t * TILE ... of a head, and what is known of them. */
template <int D, int M>
DEV void load_queries(uint32_t tile, uint32_t stat, const struct piece *p, int t, int dim)
{
    using L = plan<D, M>;
    int64_t first = (int64_t)t * TILE;
    int rows = (int)min((int64_t)TILE, p->q_rows - first);
    load_rows<D, TILE, L::THREADS>(tile, p->q, first, rows, dim);
    load_rows<D, TILE, L::THREADS>(tile + L::TILE_BYTES, p->d_o, first, rows, dim);
    if (threadIdx.x < TILE * sizeof *p->stat / 16) /* stat has whole tiles */
        dev_copy16(stat + threadIdx.x * 16,
                   (const unsigned char *)(p->stat + first) + threadIdx.x * 16, 16);
}

/* dQ of a tile, whose dS^T the warps have written. */
template <int D, int M>
DEV void sums_of_queries(unsigned char *shared, const struct piece *p, const struct batch *b, int t)
{
    using L = plan<D, M>;
    uint32_t base = dev_smem(shared);
    int64_t query = (int64_t)t * TILE;
    int count = (int)min((int64_t)TILE, p->q_rows - query);
    struct target dq = {p->dq, NULL, query, NULL, count, b->dim, b->sink, b->scale};
    if (b->sink == SINK_BULK)
        dev_bulk_wait_read<0>();
    __syncthreads(); /* dS is whole, the sums of the tile before are away */
    sums_of_tile<D, M>(shared + L::SUMS, base + L::DS, base + L::A, &dq);
    if (b->sink == SINK_BULK)
        dev_fence_async();
    __syncthreads();
    add_staged<D, M>(shared + L::SUMS, &dq, 0);
    if (b->sink == SINK_BULK)
        dev_bulk_commit();
}

template <int D, int M>
__global__ void __launch_bounds__(2 * M, 1) keys_kernel(const __grid_constant__ struct batch b)
{
    using L = plan<D, M>;
    constexpr int STAT_BYTES = TILE * sizeof(struct stat);
    static_assert(2 * STAT_BYTES <= M * L::P_ROW, "the place of P is free");
    const struct piece *p = &b.piece[blockIdx.y];
    int64_t first = (int64_t)blockIdx.x * M;
    if (first >= p->keys.kv_rows)
        return;
    int keys = (int)min((int64_t)M, p->keys.kv_rows - first);
    unsigned char *shared = dev_shared();
    uint32_t base = dev_smem(shared);
    int lane = threadIdx.x & 31, row = (int)(threadIdx.x >> 5) * WARP_ROWS;

    load_rows<D, M, L::THREADS>(base + L::A, p->k, first, keys, b.dim);
    load_rows<D, M, L::THREADS>(base + L::B, p->v, first, keys, b.dim);
    load_queries<D, M>(base + L::TILES, base + L::P, p, 0, b.dim);
    dev_copy_commit();
    struct owned<D, false> k, v;
    k.at = base + L::A + row * L::ROW + block_by_rows(lane, L::ROW);
    v.at = base + L::B + row * L::ROW + block_by_rows(lane, L::ROW);
    float dk[D / 8][4], dv[D / 8][4];
    zero(dk);
    zero(dv);

    int tiles = (p->q_rows + TILE - 1) / TILE;
    for (int t = 0; t < tiles; t++) {
        int stage = t & 1;
        uint32_t tile = base + L::TILES + stage * 2 * L::TILE_BYTES;
        dev_copy_wait<0>();
        __syncthreads(); /* this tile is here, and nobody uses the one before */
        if (t + 1 < tiles)
            load_queries<D, M>(base + L::TILES + (stage ^ 1) * 2 * L::TILE_BYTES,
                               base + L::P + (stage ^ 1) * STAT_BYTES, p, t + 1, b.dim);
        dev_copy_commit();

        float s[TILE / 8][4], d[TILE / 8][4];
        uint32_t pairs[TILE / 8][2];
        products(s, d, &k, &v, tile + block_by_columns(lane, L::ROW));
        probabilities_of_keys(s, d, (const struct stat *)(shared + L::P + stage * STAT_BYTES),
                              b.log2_scale, row + (lane >> 2), keys, lane);
        to_pairs(pairs, s);
        add_product<D>(dv, pairs, tile + L::TILE_BYTES + block_by_rows(lane, L::ROW));
        to_pairs(pairs, d);
        if (b.sink != SINK_NONE)
            store_pairs(shared + L::DS + row * L::P_ROW, pairs, lane);
        add_product<D>(dk, pairs, tile + block_by_rows(lane, L::ROW));

        if (b.sink != SINK_NONE)
            sums_of_queries<D, M>(shared, p, &b, t);
    }
    add_owned<D>(p->dk + first * b.dim, dk, row, keys, b.dim, b.scale, lane);
    add_owned<D>(p->dv + first * b.dim, dv, row, keys, b.dim, 1, lane);
    if (b.sink == SINK_BULK)
        dev_bulk_wait<0>();
}

/* ---- delta and lse --------------------------------------------------------------------------- */

struct stat_head {
    const uint16_t *o, *d_o;
    const float *o32, *lse;
    struct stat *out; /* rows rounded up to TILE */
    int64_t rows;
};

struct stat_batch {
    struct stat_head head[BATCH];
    int dim;
};

/* Sum over 8 columns from `at` on of dO * O. */
DEV float product8(const struct stat_head *h, int64_t at)
{
    uint4 g = *(const uint4 *)(h->d_o + at);
    float x[8];
    if (h->o32) {
        float4 a = *(const float4 *)(h->o32 + at), c = *(const float4 *)(h->o32 + at + 4);
        x[0] = a.x, x[1] = a.y, x[2] = a.z, x[3] = a.w, x[4] = c.x, x[5] = c.y, x[6] = c.z,
        x[7] = c.w;
    } else {
        uint4 o = *(const uint4 *)(h->o + at);
        x[0] = dev_low(o.x), x[1] = dev_high(o.x), x[2] = dev_low(o.y), x[3] = dev_high(o.y),
        x[4] = dev_low(o.z), x[5] = dev_high(o.z), x[6] = dev_low(o.w), x[7] = dev_high(o.w);
    }
    return dev_low(g.x) * x[0] + dev_high(g.x) * x[1] + dev_low(g.y) * x[2] + dev_high(g.y) * x[3] +
           dev_low(g.z) * x[4] + dev_high(g.z) * x[5] + dev_low(g.w) * x[6] + dev_high(g.w) * x[7];
}

/* Half a warp a row. */
__global__ void __launch_bounds__(256) stat_kernel(const __grid_constant__ struct stat_batch b)
{
    const struct stat_head *h = &b.head[blockIdx.y];
    int64_t row = ((int64_t)blockIdx.x * 256 + threadIdx.x) / 16,
            rows = (h->rows + TILE - 1) / TILE;
    bool keys = row < h->rows && h->lse[row] != -INFINITY;
    float sum = 0;
    if (keys)
        for (int c = threadIdx.x % 16; 8 * c < b.dim; c += 16)
            sum += product8(h, row * b.dim + 8 * c);
    for (int d = 8; d > 0; d /= 2)
        sum += __shfl_xor_sync(~0u, sum, d);
    if (threadIdx.x % 16 == 0 && row < rows * TILE)
        h->out[row] = {keys ? h->lse[row] : INFINITY, sum};
}

/* ---- partials: whose they are, and their sums ------------------------------------------------ */

struct sum_job {
    struct key_source keys;
    uint2 *index; /* [words][groups]: a group's keys in a word, and how many it has before; NULL:
                     all. United groups are one. */
    const uint16_t *partial; /* as in struct piece */
    int64_t stride;
    float *dk, *dv;
    int32_t first_group, groups, first, units, tiles, words, dim;
};

/* A warp's group: how many of a list's keys are less than 32 * word. */
DEV int list_before(const int32_t *list, int count, int word)
{
    int low = 0, high = count;
    while (low < high) {
        int middle = low + (high - low) / 2;
        if (__ldg(list + middle) >> 5 < word)
            low = middle + 1;
        else
            high = middle;
    }
    return low;
}

DEV void index_list(const struct sum_job *j, int group, int lane)
{
    const struct key_source *k = &j->keys;
    int64_t g = j->first_group + group;
    const int32_t *list = k->list + g * k->stride;
    int count = (int)min((int64_t)(k->count ? __ldg(k->count + g) : k->list_count), k->stride);
    for (int w = lane; w < j->words; w += 32) {
        int before = list_before(list, count, w);
        uint32_t bits = 0;
        for (int i = before; i < count && __ldg(list + i) >> 5 == w; i++)
            bits |= 1u << (__ldg(list + i) & 31);
        j->index[(int64_t)w * j->groups + group] = make_uint2(bits, (uint32_t)before);
    }
}

DEV void index_bitmap(const struct sum_job *j, int group, int lane)
{
    int64_t first = (int64_t)(j->first_group + group) * j->keys.united;
    int before = 0;
    for (int w = lane; w - lane < j->words; w += 32) {
        uint32_t bits = w < j->words ? source_word(&j->keys, first, w) : 0;
        int mine = __popc(bits), upto = mine;
        for (int d = 1; d < 32; d *= 2) {
            int below = __shfl_up_sync(~0u, upto, d);
            upto += lane >= d ? below : 0;
        }
        if (w < j->words)
            j->index[(int64_t)w * j->groups + group] =
                make_uint2(bits, (uint32_t)(before + upto - mine));
        before += __shfl_sync(~0u, upto, 31);
    }
}

__global__ void __launch_bounds__(256) index_kernel(const __grid_constant__ struct sum_job j)
{
    int group = (int)(blockIdx.x * 8 + threadIdx.x / 32), lane = threadIdx.x & 31;
    if (group >= j.groups)
        return;
    if (j.keys.list)
        index_list(&j, group, lane);
    else
        index_bitmap(&j, group, lane);
}

/* The most keys that a group has, of a bitmap, or that united groups have; `groups` of them. */
__global__ void __launch_bounds__(256)
    count_kernel(const __grid_constant__ struct key_source k, int groups, int *most)
{
    int group = (int)(blockIdx.x * 8 + threadIdx.x / 32), lane = threadIdx.x & 31, count = 0;
    if (group >= groups)
        return;
    for (int w = lane; w < (k.kv_rows + 31) / 32; w += 32)
        count += __popc(source_word(&k, (int64_t)group * k.united, w));
    count = __reduce_add_sync(~0u, count);
    if (lane == 0)
        atomicMax(most, count);
}

DEV void add8(float sum[8], uint4 x)
{
    sum[0] += dev_low(x.x), sum[1] += dev_high(x.x), sum[2] += dev_low(x.y),
        sum[3] += dev_high(x.y), sum[4] += dev_low(x.z), sum[5] += dev_high(x.z),
        sum[6] += dev_low(x.w), sum[7] += dev_high(x.w);
}

/* The rows of partials that belong to bit `bit` of word `word` of each of up to 32 units, one unit
 * a lane: which units (mask), and this lane's row. */
DEV uint32_t partial_rows(const struct sum_job *j, int word, int bit, int unit, int64_t *row)
{
    uint2 x = make_uint2(0, 0);
    if (unit < j->units) {
        int group = (j->first + unit) / j->tiles - j->first_group;
        x = j->index ? __ldg(j->index + (int64_t)word * j->groups + group)
                     : make_uint2(~0u, (uint32_t)word * 32);
    }
    *row = unit * j->stride + x.y + __popc(x.x & ~(~0u << bit));
    return __ballot_sync(~0u, x.x >> bit & 1);
}

/* Adds the partials of one key to dK and dV in the order of the units. A lane has 8 columns of the
 * 2 dim of a row (dK, then dV), or 16: SETS of 8. */
template <int SETS> DEV void sum_key(const struct sum_job *j, int word, int bit, int lane)
{
    enum { DEEP = 4 }; /* rows under way */
    int64_t key = (int64_t)word * 32 + bit;
    float sum[SETS][8];
    float *to[SETS];
#pragma unroll
    for (int s = 0; s < SETS; s++) {
        int c = (lane + 32 * s) * 8;
        to[s] = c < j->dim ? j->dk + key * j->dim + c : j->dv + key * j->dim + c - j->dim;
        for (int i = 0; i < 8; i++)
            sum[s][i] = c < 2 * j->dim ? to[s][i] : 0;
    }
    for (int unit = 0; unit < j->units; unit += 32) {
        int64_t mine;
        uint32_t mask = partial_rows(j, word, bit, unit + lane, &mine);
        while (mask) {
            uint4 x[DEEP][SETS];
#pragma unroll
            for (int i = 0; i < DEEP; i++) {
                int64_t row = __shfl_sync(~0u, mine, mask ? __ffs((int)mask) - 1 : 0);
#pragma unroll
                for (int s = 0; s < SETS; s++) {
                    int c = (lane + 32 * s) * 8;
                    x[i][s] = mask && c < 2 * j->dim
                                  ? __ldcs((const uint4 *)(j->partial + row * 2 * j->dim + c))
                                  : make_uint4(0, 0, 0, 0);
                }
                mask &= mask - 1;
            }
#pragma unroll
            for (int i = 0; i < DEEP; i++)
#pragma unroll
                for (int s = 0; s < SETS; s++)
                    add8(sum[s], x[i][s]);
        }
    }
#pragma unroll
    for (int s = 0; s < SETS; s++)
        if ((lane + 32 * s) * 8 < 2 * j->dim)
            for (int i = 0; i < 8; i++)
                to[s][i] = sum[s][i];
}

/* A block per word of keys, 4 keys a warp. */
template <int SETS>
__global__ void __launch_bounds__(256) sum_kernel(const __grid_constant__ struct sum_job j)
{
    int lane = threadIdx.x & 31, word = (int)blockIdx.x;
    for (int bit = threadIdx.x / 32; bit < 32; bit += 8)
        if ((int64_t)word * 32 + bit < j.keys.kv_rows)
            sum_key<SETS>(&j, word, bit, lane);
}

/* ---- host ------------------------------------------------------------------------------------ */

#define INSTANCE(kernel, D, M)                                                                     \
    {                                                                                              \
        D, M, 2 * M, kernel<D, M>, plan<D, M>::shared                                              \
    }
static const struct instance groups_instances[] = {
    INSTANCE(groups_kernel, 64, 32),   INSTANCE(groups_kernel, 64, 64),
    INSTANCE(groups_kernel, 64, 128),  INSTANCE(groups_kernel, 96, 32),
    INSTANCE(groups_kernel, 96, 64),   INSTANCE(groups_kernel, 96, 128),
    INSTANCE(groups_kernel, 128, 32),  INSTANCE(groups_kernel, 128, 64),
    INSTANCE(groups_kernel, 128, 128), INSTANCE(groups_kernel, 256, 32),
    INSTANCE(groups_kernel, 256, 64),
};
static const struct instance keys_instances[] = {
    INSTANCE(keys_kernel, 64, 128),
    INSTANCE(keys_kernel, 96, 128),
    INSTANCE(keys_kernel, 128, 128),
};
#undef INSTANCE

struct variant {
    const char *name;
    enum sink sink;
    int sm, sm_end; /* compute capabilities x 10 that have it: from, and up to but not */
    bool wgmma;     /* where there is a kernel for it */
    int united; /* groups in a unit, at most, where they have a bitmap and a kernel takes them */
};
static const struct variant variants[] = {
    /* The first is what cuda_backward takes. */
    {"ordered", SINK_PARTIAL, DEV_SM_COPY, INT_MAX, false, 1},
    {"wgmma", SINK_PARTIAL, DEV_SM_BULK, DEV_SM_BULK + 1, true, 1},
    {"wgmma-pairs", SINK_PARTIAL, DEV_SM_BULK, DEV_SM_BULK + 1, true, 2},
    {"wgmma-fours", SINK_PARTIAL, DEV_SM_BULK, DEV_SM_BULK + 1, true, UNITED},
    {"bulk", SINK_BULK, DEV_SM_BULK, INT_MAX, false, 1},
    {"vector", SINK_VECTOR, DEV_SM_BULK, INT_MAX, false, 1},
    {"atomic", SINK_ATOMIC, DEV_SM_COPY, INT_MAX, false, 1},
};

static const char what[] = "attention backward";

/* Scratch for partials: no more than this, and no less than one unit's, in steps of half of it when
 * memory is short. Sums do not depend on it. */
static const int64_t partial_bytes_max = 3500ll << 20;

struct call { /* of cuda_backward */
    const struct kern_attention *a;
    struct cuda_device device;
    enum sink sink;
    bool wgmma;
    int united;           /* as in struct variant */
    struct stat *stat;    /* of all heads, each rounded up to whole tiles */
    struct batch batch;   /* not started yet */
    int pieces;           /* in it */
    int blocks_x, blocks; /* of the largest piece, and of all */
    const struct instance *instance;
};

static int64_t stat_rows(const struct kern_head *h)
{
    return (h->q_rows + TILE - 1) / TILE * TILE;
}

static struct stat *stat_of(const struct call *c, int head)
{
    int64_t before = 0;
    for (int i = 0; i < head; i++)
        before += stat_rows(&c->a->heads[i]);
    return c->stat + before;
}

static bool is_dense(const struct kern_head *h)
{
    return !h->keys.list && !h->keys.bitmap;
}

static bool is_empty(const struct kern_head *h)
{
    return h->q_rows == 0 || h->kv_rows == 0;
}

/* The largest block that is not larger than the group asks for and that this device can hold. */
static const struct instance *instance_of(const struct call *c, const struct instance *from,
                                          int count, int64_t group, enum sink sink)
{
    const struct instance *best = NULL;
    for (int i = 0; i < count; i++) {
        const struct instance *v = &from[i];
        bool columns = c->a->dim <= v->dim && (!best || best->dim == v->dim);
        bool rows = !best || best->rows < group;
        if (columns && rows && v->shared(sink) <= c->device.shared_bytes_per_block)
            best = v;
    }
    return best;
}

/* The head's keys, with as many groups united as the variant has a kernel for. */
static struct key_source keys_of(const struct call *c, const struct kern_head *h)
{
    struct key_source k = key_source_of(h);
    const struct instance *v = NULL;
    if (c->united > 1)
        v = instance_of(c, backward_united, 2, 1, SINK_PARTIAL);
    if (v)
        k.united = united_of(&k, h->keys.group, v->rows, c->united);
    return k;
}

static struct piece piece_of(const struct call *c, int head, int rows)
{
    const struct kern_head *h = &c->a->heads[head];
    struct piece p = {};
    p.keys = keys_of(c, h);
    p.q = h->q, p.k = h->k, p.v = h->v, p.d_o = h->d_o;
    p.stat = stat_of(c, head);
    p.dq = h->dq, p.dk = h->dk, p.dv = h->dv;
    p.q_rows = (int32_t)h->q_rows;
    p.group = is_dense(h) ? p.q_rows : (int32_t)std::min(h->keys.group, h->q_rows);
    int64_t tiles = kern_groups(p.group, rows), whole = (p.q_rows - 1) / p.group;
    p.tiles = (int32_t)tiles; /* the last group may have fewer */
    p.units = (int32_t)(whole * tiles + kern_groups(p.q_rows - whole * p.group, rows));
    if (p.keys.united > 1)
        p.units = (int32_t)kern_groups(p.keys.groups, p.keys.united);
    return p;
}

/* NULL and ERR_INPUT if the device has too little shared memory. */
static const struct instance *groups_instance(const struct call *c, int head, enum sink sink,
                                              struct err *e)
{
    const struct kern_head *h = &c->a->heads[head];
    int64_t group = is_dense(h) ? h->q_rows : h->keys.group;
    int count = sizeof groups_instances / sizeof *groups_instances;
    const struct instance *v = NULL;
    if (sink == SINK_PARTIAL && keys_of(c, h).united > 1)
        v = instance_of(c, backward_united, 2, 1, sink);
    else if (c->wgmma && sink == SINK_PARTIAL && group > 32)
        v = instance_of(c, c->a->dim > 128 ? &backward_wide : backward_wgmma,
                        c->a->dim > 128 ? 1 : 2, group, sink);
    if (!v)
        v = instance_of(c, groups_instances, count, group, sink);
    if (!v)
        err_set(
            e, ERR_INPUT, err_at_name(what),
            "head dimension %d takes more shared memory than the %d bytes that a block may have "
            "on this device (compute capability %d.%d)",
            c->a->dim, c->device.shared_bytes_per_block, c->device.sm / 10, c->device.sm % 10);
    return v;
}

static const struct instance *keys_instance(const struct call *c, enum sink sink)
{
    return instance_of(c, keys_instances, sizeof keys_instances / sizeof *keys_instances, 0, sink);
}

/* Starts what the batch holds. */
static bool flush(struct call *c, enum sink sink, struct err *e)
{
    if (c->pieces == 0)
        return true;
    float scale = kern_scale(c->a);
    c->batch.scale = scale;
    c->batch.log2_scale = scale * 1.44269504f;
    c->batch.dim = c->a->dim;
    c->batch.sink = sink;
    dim3 grid((unsigned)c->blocks_x, (unsigned)c->pieces);
    cudaError_t bad = dev_launch(c->instance->kernel, grid, dim3((unsigned)c->instance->threads),
                                 (size_t)c->instance->shared(sink), CUDA_STREAM, c->batch);
    c->pieces = c->blocks_x = c->blocks = 0;
    return cuda_ok(bad, what, e);
}

/* Adds a piece to the batch, which is started first if it is full or of another kind. */
static bool add_piece(struct call *c, const struct instance *v, const struct piece *p, int blocks,
                      enum sink sink, struct err *e)
{
    if ((c->pieces == BATCH || c->instance != v) && !flush(c, sink, e))
        return false;
    c->instance = v;
    c->batch.piece[c->pieces++] = *p;
    c->blocks_x = std::max(c->blocks_x, blocks);
    c->blocks += blocks;
    return true;
}

/* ---- partials ---- */

struct pool { /* scratch of a batch of pieces with partials */
    unsigned char *base;
    int64_t size, used;
    struct sum_job job[BATCH];
};

static int64_t unit_bytes(const struct call *c, const struct piece *p)
{
    return p->stride * 4 * c->a->dim + kern_words(p->keys.kv_rows) * (int64_t)sizeof(uint2);
}

static void *pool_take(struct pool *pool, int64_t bytes)
{
    void *p = pool->base + pool->used;
    pool->used += (bytes + 255) / 256 * 256;
    return p;
}

/* How many of the units of p from `first` on come next: as many as the pool has room for, but, if
 * those are not all, only such that the batch fills the device (two blocks on a multiprocessor) a
 * whole number of times. 0 if the pool has to be emptied first. */
static int pool_units(const struct call *c, const struct pool *pool, const struct piece *p,
                      int first)
{
    int64_t each = unit_bytes(c, p), room = pool->size - pool->used - each - 512;
    int64_t left = p->units - first, units = std::max((int64_t)0, std::min(left, room / each));
    int64_t wave = 2 * c->device.processors, blocks = c->blocks + units;
    if (units < left && blocks >= wave)
        units -= std::min(units, blocks % wave);
    return (int)units;
}

/* Scratch for p's units first .. first + units - 1, and the job that adds them up. */
static struct sum_job pool_job(const struct call *c, struct pool *pool, struct piece *p, int first,
                               int units)
{
    struct sum_job j = {};
    j.keys = p->keys;
    j.stride = p->stride;
    j.dk = p->dk, j.dv = p->dv;
    j.first_group = first / p->tiles;
    j.groups = (first + units - 1) / p->tiles - j.first_group + 1;
    j.first = p->first = first;
    j.units = p->units = units;
    j.tiles = p->tiles;
    j.words = (int32_t)kern_words(p->keys.kv_rows);
    j.dim = c->a->dim;
    p->partial = (uint16_t *)pool_take(pool, units * p->stride * 4 * c->a->dim);
    j.partial = p->partial;
    if (p->keys.list || p->keys.bitmap)
        j.index = (uint2 *)pool_take(pool, (int64_t)j.words * j.groups * (int64_t)sizeof *j.index);
    return j;
}

/* Starts the batch and the sums of its partials; the pool is free again. */
static bool flush_partials(struct call *c, struct pool *pool, struct err *e)
{
    int jobs = c->pieces;
    bool ok = flush(c, SINK_PARTIAL, e);
    for (int i = 0; ok && i < jobs; i++) {
        const struct sum_job *j = &pool->job[i];
        cudaError_t bad = cudaSuccess;
        if (j->index)
            bad = dev_launch(index_kernel, dim3((unsigned)(j->groups + 7) / 8), dim3(256), 0,
                             CUDA_STREAM, *j);
        if (bad == cudaSuccess)
            bad = dev_launch(j->dim > 128 ? sum_kernel<2> : sum_kernel<1>, dim3((unsigned)j->words),
                             dim3(256), 0, CUDA_STREAM, *j);
        ok = cuda_ok(bad, what, e);
    }
    pool->used = 0;
    return ok;
}

static bool partials_of_head(struct call *c, struct pool *pool, int head, int64_t stride,
                             struct err *e)
{
    const struct instance *v = groups_instance(c, head, SINK_PARTIAL, e);
    if (!v)
        return false;
    struct piece whole = piece_of(c, head, v->rows);
    whole.stride = stride;
    for (int first = 0, units; stride > 0 && first < whole.units; first += units) {
        units = pool_units(c, pool, &whole, first);
        if (c->pieces == BATCH || (c->pieces && (c->instance != v || units == 0))) {
            if (!flush_partials(c, pool, e))
                return false;
            units = pool_units(c, pool, &whole, first);
        }
        struct piece p = whole;
        pool->job[c->pieces] = pool_job(c, pool, &p, first, units);
        if (!add_piece(c, v, &p, units, SINK_PARTIAL, e))
            return false;
    }
    return true;
}

/* The most keys of a group of each head, in host memory; `scratch` holds a number per head. */
static bool count_bitmaps(const struct call *c, int *most, int *scratch, struct err *e)
{
    const struct kern_attention *a = c->a;
    size_t bytes = (size_t)a->head_count * sizeof *most;
    cudaError_t bad = cudaMemsetAsync(scratch, 0, bytes, CUDA_STREAM);
    for (int i = 0; bad == cudaSuccess && i < a->head_count; i++) {
        const struct kern_head *h = &a->heads[i];
        if (is_empty(h) || is_dense(h) || h->keys.list)
            continue;
        struct key_source k = keys_of(c, h);
        int groups = (int)kern_groups(k.groups, k.united);
        bad = dev_launch(count_kernel, dim3((unsigned)(groups + 7) / 8), dim3(256), 0, CUDA_STREAM,
                         k, groups, scratch + i);
    }
    if (bad == cudaSuccess)
        bad = cudaMemcpyAsync(most, scratch, bytes, cudaMemcpyDeviceToHost, CUDA_STREAM);
    if (bad == cudaSuccess)
        bad = cudaStreamSynchronize(CUDA_STREAM);
    return cuda_ok(bad, what, e);
}

/* most[head]: the most keys of a group, or as good a bound as the host can know. */
static bool most_keys(const struct call *c, int *most, struct err *e)
{
    const struct kern_attention *a = c->a;
    bool bitmaps = false;
    for (int i = 0; i < a->head_count; i++)
        bitmaps |= !is_dense(&a->heads[i]) && !a->heads[i].keys.list;
    void *scratch = NULL;
    bool ok = !bitmaps || (cuda_scratch((size_t)a->head_count * sizeof *most, &scratch, what, e) &&
                           count_bitmaps(c, most, (int *)scratch, e));
    cuda_scratch_free(scratch);
    for (int i = 0; i < a->head_count; i++) {
        const struct kern_head *h = &a->heads[i];
        if (is_dense(h))
            most[i] = (int)h->kv_rows;
        else if (h->keys.list)
            most[i] = h->keys.count ? (int)std::min(h->keys.list_stride, (int64_t)INT32_MAX)
                                    : h->keys.list_count;
    }
    return ok;
}

/* Dense heads, unless they are too wide. */
static bool takes_keys_kernel(const struct call *c, const struct kern_head *h, enum sink sink)
{
    return is_dense(h) && keys_instance(c, sink);
}

static bool takes_partials(const struct call *c, const struct kern_head *h)
{
    return !is_empty(h) && !takes_keys_kernel(c, h, SINK_NONE);
}

/* Bytes that the partials of all heads would like, and that one unit must have. */
static bool pool_sizes(const struct call *c, const int *most, int64_t *all, int64_t *least,
                       struct err *e)
{
    *all = *least = 0;
    for (int i = 0; i < c->a->head_count; i++) {
        if (!takes_partials(c, &c->a->heads[i]))
            continue;
        const struct instance *v = groups_instance(c, i, SINK_PARTIAL, e);
        if (!v)
            return false;
        struct piece p = piece_of(c, i, v->rows);
        p.stride = most[i];
        int64_t each = unit_bytes(c, &p);
        *all += each * (p.units + 1) + 1024;
        *least = std::max(*least, 2 * each + 1024);
    }
    return true;
}

/* What the backward of sparse heads needs when it is to be ordered; *most is per head, host. */
static bool pool_open(struct pool *pool, const struct call *c, const int *most, struct err *e)
{
    int64_t all, least;
    if (!pool_sizes(c, most, &all, &least, e))
        return false;
    if (all == 0)
        return true;
    pool->size = std::max(least, std::min(all, partial_bytes_max));
    for (;;) {
        void *p = NULL;
        struct err none = {};
        if (cuda_scratch((size_t)pool->size, &p, what, &none)) {
            pool->base = (unsigned char *)p;
            return true;
        }
        if (none.code != ERR_SYSTEM || pool->size == least) {
            *e = none;
            return false;
        }
        pool->size = std::max(least, pool->size / 2);
    }
}

/* ---- the three ways ---- */

/* Heads in a launch may not own the same dK and dV. */
static bool in_batch(const struct call *c, const struct kern_head *h)
{
    for (int i = 0; i < c->pieces; i++)
        if (c->batch.piece[i].dk == h->dk || c->batch.piece[i].dv == h->dv)
            return true;
    return false;
}

static bool dense_heads(struct call *c, struct err *e)
{
    enum sink sink = c->sink == SINK_PARTIAL ? SINK_NONE : c->sink;
    for (int i = 0; i < c->a->head_count; i++) {
        const struct kern_head *h = &c->a->heads[i];
        if (is_empty(h) || !takes_keys_kernel(c, h, sink))
            continue;
        const struct instance *v = keys_instance(c, sink);
        struct piece p = piece_of(c, i, v->rows);
        if (in_batch(c, h) && !flush(c, sink, e))
            return false;
        if (!add_piece(c, v, &p, (int)kern_groups(h->kv_rows, v->rows), sink, e))
            return false;
    }
    return flush(c, sink, e);
}

/* dQ of dense heads whose dK and dV are done. */
static bool dense_queries(struct call *c, struct err *e)
{
    for (int i = 0; i < c->a->head_count; i++) {
        const struct kern_head *h = &c->a->heads[i];
        if (is_empty(h) || !takes_keys_kernel(c, h, SINK_NONE))
            continue;
        const struct instance *v = groups_instance(c, i, SINK_NONE, e);
        if (!v)
            return false;
        struct piece p = piece_of(c, i, v->rows);
        if (!add_piece(c, v, &p, p.units, SINK_NONE, e))
            return false;
    }
    return flush(c, SINK_NONE, e);
}

static bool sparse_heads(struct call *c, struct err *e)
{
    for (int i = 0; i < c->a->head_count; i++) {
        const struct kern_head *h = &c->a->heads[i];
        if (is_empty(h) || takes_keys_kernel(c, h, c->sink))
            continue;
        const struct instance *v = groups_instance(c, i, c->sink, e);
        if (!v)
            return false;
        struct piece p = piece_of(c, i, v->rows);
        if (!add_piece(c, v, &p, p.units, c->sink, e))
            return false;
    }
    return flush(c, c->sink, e);
}

static bool sparse_heads_with(struct call *c, const int *most, struct err *e)
{
    struct pool pool = {};
    bool ok = pool_open(&pool, c, most, e);
    for (int i = 0; ok && i < c->a->head_count; i++) {
        if (takes_partials(c, &c->a->heads[i]))
            ok = partials_of_head(c, &pool, i, most[i], e);
    }
    ok = ok && flush_partials(c, &pool, e);
    cuda_scratch_free(pool.base);
    return ok;
}

static bool ordered(struct call *c, struct err *e)
{
    int *most = (int *)calloc((size_t)c->a->head_count + 1, sizeof *most);
    if (!most)
        return err_set(e, ERR_SYSTEM, err_at_name(what), "out of memory");
    bool ok = most_keys(c, most, e) && dense_heads(c, e) && dense_queries(c, e) &&
              sparse_heads_with(c, most, e);
    free(most);
    return ok;
}

static bool stats(struct call *c, struct err *e)
{
    const struct kern_attention *a = c->a;
    for (int i = 0; i < a->head_count; i += BATCH) {
        struct stat_batch b = {};
        int heads = std::min((int)BATCH, a->head_count - i);
        int64_t rows = 0;
        b.dim = a->dim;
        for (int n = 0; n < heads; n++) {
            const struct kern_head *h = &a->heads[i + n];
            b.head[n] = {h->o, h->d_o, h->o32, h->lse, stat_of(c, i + n), h->q_rows};
            rows = std::max(rows, stat_rows(h));
        }
        if (rows > 0 &&
            !cuda_ok(dev_launch(stat_kernel, dim3((unsigned)(rows / 16), (unsigned)heads),
                                dim3(256), 0, CUDA_STREAM, b),
                     what, e))
            return false;
    }
    return true;
}

/* Rows are read and added 16 bytes at a time. */
static bool all_usable(const struct kern_attention *a, struct err *e)
{
    for (int i = 0; i < a->head_count; i++) {
        const struct kern_head *h = &a->heads[i];
        if (is_empty(h))
            continue;
        const void *o = h->o32 ? (const void *)h->o32 : h->o;
        if (!(cuda_aligned(h->q, 16, i, "q", e) && cuda_aligned(h->k, 16, i, "k", e) &&
              cuda_aligned(h->v, 16, i, "v", e) && cuda_aligned(h->d_o, 16, i, "d_o", e) &&
              cuda_aligned(o, 16, i, h->o32 ? "o32" : "o", e) &&
              cuda_aligned(h->dq, 16, i, "dq", e) && cuda_aligned(h->dk, 16, i, "dk", e) &&
              cuda_aligned(h->dv, 16, i, "dv", e) && cuda_words_aligned(h, i, e)))
            return false;
    }
    return true;
}

/* NULL with ERR_INPUT if the device has no such variant. */
static const struct variant *variant_of(const char *name, const struct cuda_device *d,
                                        struct err *e)
{
    char known[80] = "";
    for (size_t i = 0; i < sizeof variants / sizeof *variants; i++) {
        const struct variant *v = &variants[i];
        if (d->sm < v->sm || d->sm >= v->sm_end)
            continue;
        if (!name || strcmp(name, v->name) == 0)
            return v;
        strcat(strcat(known, *known ? ", " : ""), v->name);
    }
    err_set(e, ERR_INPUT, err_at_name(what), "variant '%s': this device has %s", name ? name : "",
            known);
    return NULL;
}

bool cuda_backward_by(const char *variant, const struct kern_attention *a, struct err *e)
{
    struct call c = {};
    c.a = a;
    if (variant && strcmp(variant, "cudnn") == 0) /* dense heads only; makes a plan each time */
        return cuda_cudnn_backward(a, e);
    if (!kern_attention_check(a, true, e) || !all_usable(a, e) || !cuda_device(&c.device, e))
        return false;
    const struct variant *v = variant_of(variant, &c.device, e);
    if (!v)
        return false;
    c.sink = v->sink;
    c.wgmma = v->wgmma;
    c.united = v->united;
    for (int i = 0; i < a->head_count; i++)
        if (!takes_keys_kernel(&c, &a->heads[i], c.sink) && !groups_instance(&c, i, c.sink, e))
            return false;
    int64_t rows = stat_of(&c, a->head_count) - c.stat;
    void *stat = NULL;
    if (rows == 0)
        return true;
    if (!cuda_scratch((size_t)rows * sizeof *c.stat, &stat, what, e))
        return false;
    c.stat = (struct stat *)stat;
    bool ok = stats(&c, e) &&
              (c.sink == SINK_PARTIAL ? ordered(&c, e) : dense_heads(&c, e) && sparse_heads(&c, e));
    cuda_scratch_free(stat);
    return ok;
}

bool cuda_backward(const struct kern_attention *a, struct err *e)
{
    return cuda_backward_by(NULL, a, e);
}
