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
#include "kernels/cuda/backward_wgmma.cuh"

enum { THREADS = 128 };

template <int D> struct turned {
    static constexpr int MATRIX = D / 64 * HALF;
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

/* c[64][D] (+)= a b, asked for; a [64][64] in registers, b [64][D] in shared memory. */
template <int D>
DEV void ask_product(float (&c)[D / 8][4], const uint32_t (&a)[4][4], uint32_t b, bool add)
{
    uint64_t first = dev_matrix(b, HALF, 1024);
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

/* United groups: bit q says that queries 16 q .. 16 q + 15 of the unit see the entry's key. */
DEV uint32_t seen_by(int32_t entry, int united)
{
    uint32_t tag = (uint32_t)entry >> UNITED_SHIFT;
    return united == UNITED ? tag : (tag & 1) * 3 | (tag & 2) * 6;
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
    unsigned char *stage = shared + L::STAGE + warp * (HALF / 4);

    struct key_stream<ROWS, U> stream;
    if (warp == 0) {
        keys_open(&stream, &p->keys, u.group, lane);
        keys_next(&stream, keys, lane);
        keys_next(&stream, keys + ROWS, lane);
    }
    load_unit<D, THREADS, U>(base + L::Q, p, &u, b.dim);
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
        store_rows(base + L::DS + warp * (HALF / 4), left_d, lane);

        dev_wgmma_fence();
        ask_product<D>(dv, left, base + L::D_O, false);
        __syncthreads(); /* dS is whole */
        load_turned(across, base + L::DS, warp, lane);
        dev_wgmma_wait<0>();
        dev_wgmma_result<D / 2>(&dv[0][0]);
        store_sums<D>(partial + b.dim, stage, dv, count - warp * 16, b.dim, b.dim, lane);
        dev_wgmma_fence();
        ask_product<D>(dk, left_d, base + L::Q, false);
        ask_product<D>(dq, across, k, true);
        dev_wgmma_wait<1>();
        dev_wgmma_result<D / 2>(&dk[0][0]);
        store_sums<D>(partial, stage, dk, count - warp * 16, b.dim, b.dim, lane);
        dev_wgmma_wait<0>();
        dev_wgmma_result<D / 2>(&dq[0][0]);
        partial += (int64_t)count * 2 * b.dim;
    }
    struct source own = source_of<U>(p, &u, warp * 16);
    add_owned<D>(p->dq + u.row * b.dim, dq, own.row, own.end, b.dim, 1, lane);
}

extern const struct instance backward_wgmma[2] = {
    {64, ROWS, THREADS, groups_wgmma_kernel<64, 1>, turned<64>::shared},
    {128, ROWS, THREADS, groups_wgmma_kernel<128, 1>, turned<128>::shared},
};
extern const struct instance backward_united[2] = {
    {64, ROWS, THREADS, groups_wgmma_kernel<64, UNITED>, turned<64>::shared},
    {128, ROWS, THREADS, groups_wgmma_kernel<128, UNITED>, turned<128>::shared},
};
