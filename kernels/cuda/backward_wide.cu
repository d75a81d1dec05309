/* Attention backward of query groups by wgmma for head dimensions above 128, on sm_90a only: units
 * of M = 64 queries and partials, turned as in backward_wgmma.cu, with tiles of D = 256 columns, of
 * which those beyond the head's dimension are zeros.
 *
 * Q and dO take 64 KB and so do K and V of a tile: there is room for one block on a processor, and
 * in it for two tiles. So two warpgroups ("sides") share Q and dO. Each takes every other tile of
 * 64 keys, with one buffer of K and V and a dQ of its own; side 1's is added to side 0's at the
 * end. V is fetched anew once dP is there, K once dQ is; meanwhile, and while one side waits for
 * its keys, the other multiplies. Each side lists all tiles for itself and leaves out the other's.
 *
 * Registers: dQ takes 128 of 255. S and dP 64; then P and dS as left factors 32, and dV or dK 64
 * columns at a time, 32. What follows from the thread's number is made again where it is used
 * (dev_again): kept all through the loop, it spilled.
 *
 * Bounds per 64 keys and 64 queries (cycles of an SM; H200):
 *     tensor cores   5 x 64 x 64 x 512 FLOP / 4,096:                          2,560
 *     shared memory  (S, dP: 4 x 32 KB; dV, dK, dQ: 3 x 32 KB; dS 2 x 8 KB; K and V in 64 KB;
 *                    partials 2 x 64 KB) / 128 B:                             3,456
 *     memory         64 KB of partials / 18.6 B (4.3 TB/s):                   3,520
 *     level-2 cache  64 KB in and 64 KB out / 42 B:                           3,120
 *     instructions   of a scheduler, as compiled (1,340 for the warp that lists keys):  1,220
 * With LSE, delta and lists, 3,867 cycles of shared memory are counted: 5.3 ms for 64000 rows, 4
 * heads, 5120 keys of 64 queries, and 4.9 ms for sum_kernel. By mma.sync one block of four warps
 * runs on a processor, and 9,454 are counted: 13.1 ms.
 *
 * Shared memory: Q, dO, two buffers of K and V, two of dS and of sums to be stored, lists, LSE and
 * delta: 230,912 of 232,448 bytes. */
#include "kernels/cuda/backward_wgmma.cuh"

enum {
    SIDES = 2, /* warpgroups of a block */
    SIDE = 128,
    SIDE_BARRIER = 1 /* of side 0; 2 of side 1 */
};

template <int D> struct wide {
    static constexpr int MATRIX = D / 64 * HALF;
    static constexpr int Q = 0, D_O = MATRIX, TILES = 2 * MATRIX; /* [SIDES]{K, V} */
    static constexpr int DS = TILES + SIDES * 2 * MATRIX;         /* of a warp: [16 keys][64] */
    static constexpr int STAGE = DS + SIDES * HALF;               /* the same, of sums */
    static constexpr int KEYS = STAGE + SIDES * HALF;             /* [SIDES][2 tiles] */
    static constexpr int STATS = KEYS + SIDES * 2 * ROWS * 4;     /* of the queries */
    static constexpr int BYTES = STATS + ROWS * (int)sizeof(struct stat);
    static int shared(int)
    {
        return BYTES;
    }
};

/* Two tiles' keys, of which the side's are the second. By its first warp. */
DEV void list_next(struct key_stream<ROWS> *stream, int32_t *to, int lane)
{
#pragma unroll 1
    for (int i = 0; i < 2; i++) {
        keys_next(stream, to, lane);
        __syncwarp();
    }
}

/* Rows keys[0 .. ROWS) of K or V, if there are any, zeros for what names none. By a side. */
template <int D>
DEV void fetch(uint32_t to, const uint16_t *from, const struct piece *p, int dim,
               const int32_t *keys)
{
    int thread = dev_again((int)threadIdx.x), chunk = thread % 8, first = thread % SIDE / 8;
    to += (uint32_t)swizzled(first, chunk);
#pragma unroll 2
    for (int i = 0; i < ROWS && keys[0] >= 0; i += SIDE / 8) {
        int key = keys[first + i];
        bool there = (uint32_t)key < (uint32_t)p->keys.kv_rows;
        const uint16_t *row = dev_row(from + chunk * 8, max(key, 0), dim * 2);
#pragma unroll
        for (int quarter = 0; quarter < D / 64; quarter++)
            dev_copy16(to + quarter * HALF + i * 128, row + quarter * 64,
                       there && quarter * 64 + chunk * 8 < dim ? 16 : 0);
    }
    dev_copy_commit();
}

/* The largest of P, which is not negative, known when all of P is. */
DEV float largest(const float (&p)[8][4])
{
    float most = 0;
#pragma unroll
    for (int i = 0; i < 32; i++)
        most = fmaxf(most, p[i / 4][i % 4]);
    return most;
}

/* P^T and scale dS^T of a tile as left factors; dS to shared memory, too. */
template <int D>
DEV void weights(uint32_t (&left)[4][4], uint32_t (&left_d)[4][4], uint32_t k, uint32_t q,
                 uint32_t ds, const struct stat *stats, const struct batch *b, int count)
{
    int thread = dev_again((int)threadIdx.x), lane = thread % 32, warp = thread % SIDE / 32;
    float p[8][4], d[8][4];
    dev_wgmma_fence();
    ask_scores<D>(p, k, q);
    ask_scores<D>(d, k + wide<D>::MATRIX, q + wide<D>::MATRIX);
    dev_wgmma_wait<1>();
    dev_wgmma_result<32>(&p[0][0]);
    probabilities(p, stats + lane % 4 * 2, b->log2_scale);
    if (count < ROWS)
        mask_beyond(p, warp * 16 + lane / 4, count);
    dev_wgmma_wait_after<0>(largest(p));
    dev_wgmma_result<32>(&d[0][0]);
    score_gradients(d, p, stats + lane % 4 * 2, b->scale);
    to_left(left, p);
    to_left(left_d, d);
    store_rows(ds + warp * (HALF / 4), left_d, lane);
}

/* dq += dS K. */
template <int D> DEV void add_queries(float (&dq)[D / 8][4], uint32_t ds, uint32_t k)
{
    uint32_t across[4][4];
    uint64_t first = dev_matrix(k, HALF, 1024);
    static_assert(D == 256, "one wgmma's columns");
    int thread = dev_again((int)threadIdx.x);
    load_turned(across, ds, thread % SIDE / 32, thread % 32);
    dev_wgmma_fence();
#pragma unroll
    for (int n = 0; n < 4; n++)
        dev_wgmma_64x256_reg(&dq[0][0], across[n], dev_matrix_at(first, n * 16 * 128));
    dev_wgmma_commit();
    dev_wgmma_wait<0>();
    dev_wgmma_result<D / 2>(&dq[0][0]);
}

/* `left` times Q or dO, the warp's `rows` to scratch: 64 columns at a time. */
template <int D>
DEV void product(uint16_t *to, const uint32_t (&left)[4][4], uint32_t x, unsigned char *stage,
                 int count, int dim)
{
    int thread = dev_again((int)threadIdx.x), lane = thread % 32, warp = thread % SIDE / 32;
    uint64_t first = dev_matrix(x, HALF, 1024);
#pragma unroll
    for (int quarter = 0; quarter < D / 64; quarter++) {
        float sum[8][4];
        dev_wgmma_fence();
#pragma unroll
        for (int k = 0; k < 4; k++)
            dev_wgmma_64x64_reg(&sum[0][0], left[k],
                                dev_matrix_at(first, quarter * HALF + k * 16 * 128), k > 0);
        dev_wgmma_commit();
        dev_wgmma_wait<0>();
        dev_wgmma_result<32>(&sum[0][0]);
        store_sums<64>(to + quarter * 64, stage + warp * (HALF / 4), sum, count - warp * 16,
                       dim - quarter * 64, dim, lane);
    }
}

/* Side 1's sums become part of side 0's, by way of `room`, where its K and V were. */
template <int D> DEV void merge_sides(float (&dq)[D / 8][4], float *room, int side)
{
    room += threadIdx.x % SIDE;
    __syncthreads(); /* nobody multiplies */
#pragma unroll
    for (int i = 0; i < D / 2 && side == 1; i++)
        room[i * SIDE] = dq[i / 4][i % 4];
    __syncthreads();
#pragma unroll
    for (int i = 0; i < D / 2 && side == 0; i++)
        dq[i / 4][i % 4] += room[i * SIDE];
}

template <int D>
__global__ void __launch_bounds__(SIDES *SIDE, 1)
    groups_wide_kernel(const __grid_constant__ struct batch b)
{
    typedef wide<D> L;
    const struct piece *p = &b.piece[blockIdx.y];
    int index = p->first + (int)blockIdx.x;
    if ((int)blockIdx.x >= p->units)
        return;
    struct unit u = unit_of(p, ROWS, index);
    unsigned char *shared = dev_shared();
    uint32_t base = dev_smem(shared);
    int side =
        __shfl_sync(~0u, (int)threadIdx.x / SIDE, 0); /* uniform, as the compiler then sees */
    int lane = (int)threadIdx.x % 32, warp = (int)threadIdx.x % SIDE / 32;
    int32_t *keys = (int32_t *)(shared + L::KEYS) + side * 2 * ROWS;
    struct stat *stats = (struct stat *)(shared + L::STATS);
    unsigned char *stage = shared + L::STAGE + side * HALF;
    uint32_t k = base + L::TILES + side * 2 * L::MATRIX, v = k + L::MATRIX;
    uint32_t ds = base + L::DS + side * HALF;

    struct key_stream<ROWS> stream;
    if (warp == 0) {
        keys_open(&stream, &p->keys, u.group, lane);
        if (side == 0)
            keys_next(&stream, keys, lane);
        else
            list_next(&stream, keys, lane);
        list_next(&stream, keys + ROWS, lane);
    }
    load_unit<D, SIDES * SIDE, 1>(base + L::Q, p, &u, b.dim);
    dev_copy_commit();
    load_stats<1>(stats, p, &u, b.scale);
    float dq[D / 8][4];
    zero(dq);
    dev_copy_wait<0>();
    __syncthreads();
    fetch<D>(v, p->v, p, b.dim, keys);
    fetch<D>(k, p->k, p, b.dim, keys);

    uint16_t *partial = p->partial +
                        (blockIdx.x * p->stride + side * ROWS + warp * 16 + lane / 8) * 2 * b.dim +
                        lane % 8 * 8;
    for (int t = 0;; t++) {
        int32_t *mine = keys + (t & 1) * ROWS, *next = keys + (~t & 1) * ROWS;
        int count = count_keys<1>(mine, dev_again((int)threadIdx.x) % 32);
        if (count == 0)
            break;
        uint32_t left[4][4], left_d[4][4];
        dev_copy_wait<0>();
        dev_fence_async();                            /* wgmma reads what copies wrote */
        dev_named_barrier(SIDE_BARRIER + side, SIDE); /* this tile is here */
        weights<D>(left, left_d, k, base + L::Q, ds, stats, &b, count);
        dev_named_barrier(SIDE_BARRIER + side, SIDE); /* dS is whole, V is free */
        fetch<D>(v, p->v, p, b.dim, next);
        add_queries<D>(dq, ds, k);
        dev_named_barrier(SIDE_BARRIER + side, SIDE); /* K is free, and dS */
        if (warp == 0)
            list_next(&stream, mine, dev_again((int)threadIdx.x) % 32);
        fetch<D>(k, p->k, p, b.dim, next);
        product<D>(partial + b.dim, left, base + L::D_O, stage, count, b.dim);
        product<D>(partial, left_d, base + L::Q, stage, count, b.dim);
        partial += (int64_t)(SIDES * ROWS) * 2 * b.dim;
    }
    merge_sides<D>(dq, (float *)(shared + L::TILES + 2 * L::MATRIX), side);
    u = unit_of(p, ROWS, dev_again(index)); /* not kept in registers meanwhile */
    warp = dev_again((int)threadIdx.x) % SIDE / 32;
    struct source own = source_of<1>(p, &u, warp * 16);
    if (side == 0)
        add_owned<D>(p->dq + u.row * b.dim, dq, own.row, own.end, b.dim, 1, lane);
}

extern const struct instance backward_wide = {256, ROWS, SIDES *SIDE, groups_wide_kernel<256>,
                                              wide<256>::shared};
