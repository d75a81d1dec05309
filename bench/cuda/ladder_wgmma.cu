/* Step 6 of the ladder, wgmma: four warps multiply 64 queries at a time, K and V straight from
 * shared memory. sm_90a, groups of 64 and 128.
 *
 * The tensor cores read their right operand from shared memory themselves, once for four warps and
 * without ldmatrix, and run at their full rate: 4,096 FLOP a clock instead of the 2,676 of
 * mma.sync. The rest is step 5: all threads ask for the next tile, wait for this one, and take one
 * product after the other with the softmax in between. No producer warps, no second consumer.
 *
 * Bounds, per 64 keys and M queries, in clocks of an SM:
 *     tensor cores   M x 64 x 512 / 4,096       M = 64, 128: 512, 1,024
 *     shared memory  M / 64 x 256 read + 256 written:        512, 768
 *     level-2 cache  32 KB / 42 B:                           780
 *     the softmax    M x 64 x about 8 instructions / 128:    256, 512, while the tensor cores wait
 * M = 128 is one block an SM (by registers) whose warps meet at each tile, so that softmax and
 * products tend to add up: 1,536 clocks, 2,730 FLOP a clock, 630 TFLOP/s; M = 64 is three blocks,
 * whose phases interleave, and is bound by the cache: 620. What the winner
 * (kernels/cuda/forward_wgmma.cu) does beyond: a producer warpgroup with six tiles in flight, the
 * scores of the next tile asked for before the softmax of this one, consumers that take turns at
 * the tensor cores, blocks that stay. */
#include "bench/cuda/ladder.cuh"

enum {
    LINE = 128,                /* bytes of a row's half: wgmma's swizzle spans 64 columns */
    HALF = LADDER_TILE * LINE, /* [TILE][64] of K or V, two of them each */
    STAGE = 4 * HALF,          /* K, V */
    KEYS_AT = 2 * STAGE,       /* [2][TILE] */
    SHARED = KEYS_AT + 2 * LADDER_TILE * 4
};

DEV void ask_tile(unsigned char *shared, int slot, const struct forward_head *h,
                  const struct ladder_keys *keys, int first)
{
    uint32_t to = dev_smem(shared) + slot * STAGE;
    for (int i = (int)threadIdx.x; i < LADDER_TILE * LADDER_DIM / 8; i += (int)blockDim.x) {
        struct ladder_chunk c = ladder_chunk_of(keys, first, i);
        uint32_t place = to + c.chunk / 8 * HALF + c.row * LINE + ((c.chunk % 8 ^ c.row % 8) << 4);
        dev_copy16(place, h->k + c.at, c.key >= 0 ? 16 : 0);
        dev_copy16(place + 2 * HALF, h->v + c.at, c.key >= 0 ? 16 : 0);
        if (c.chunk == 0)
            *(int32_t *)(shared + KEYS_AT + (slot * LADDER_TILE + c.row) * 4) = c.key;
    }
    dev_copy_commit();
}

DEV void scores(float (&s)[1][LADDER_TILE / 8][4], const struct ladder_rows *w, uint32_t k)
{
    dev_wgmma_fence();
#pragma unroll
    for (int c = 0; c < LADDER_DIM / 16; c++) /* K-major: the next 16 columns are 32 bytes on */
        dev_wgmma_64x64_reg_k(&s[0][0][0], w->q[c],
                              dev_matrix(k + c / 4 * HALF + c % 4 * 32, 16, 8 * LINE), c > 0);
    dev_wgmma_commit();
    dev_wgmma_wait<0>();
    dev_wgmma_result<LADDER_TILE / 2>(&s[0][0][0]);
}

DEV void weigh(struct ladder_rows *w, const float (&s)[1][LADDER_TILE / 8][4], uint32_t v)
{
    uint32_t p[LADDER_TILE / 16][4];
#pragma unroll
    for (int n = 0; n < LADDER_TILE / 16; n++)
        ladder_pack(p[n], s, n);
    dev_wgmma_fence();
#pragma unroll
    for (int n = 0; n < LADDER_TILE / 16; n++) /* MN-major: the other 64 columns are HALF on */
        dev_wgmma_64x128_reg(&w->o[0][0][0], p[n], dev_matrix(v + n * 16 * LINE, HALF, 8 * LINE));
    dev_wgmma_commit();
    dev_wgmma_wait<0>();
    dev_wgmma_result<LADDER_DIM / 2>(&w->o[0][0][0]);
}

__global__ void __launch_bounds__(LADDER_ROWS_MAX * 2)
    wgmma(const __grid_constant__ struct forward_batch b)
{
    struct ladder_block x;
    if (!ladder_block_of(&x, &b))
        return;
    unsigned char *shared = dev_shared();
    int lane = (int)threadIdx.x % 32, row = (int)threadIdx.x / 32 * 16;
    struct ladder_rows w;
    ask_tile(shared, 0, x.h, &x.keys, 0);
    ladder_open(&w, x.h->q + (int64_t)(x.mine.first + row) * LADDER_DIM, x.mine.rows - row, lane);
    for (int t = 0; t * LADDER_TILE < x.keys.count; t++) {
        float s[1][LADDER_TILE / 8][4];
        uint32_t stage = dev_smem(shared) + t % 2 * STAGE;
        const int32_t *now = (const int32_t *)(shared + KEYS_AT) + t % 2 * LADDER_TILE;
        dev_copy_wait<0>();
        dev_fence_async(); /* what this thread copied is for the tensor cores to see */
        __syncthreads();   /* tile t is here, nobody reads tile t - 1 any more */
        ask_tile(shared, (t + 1) % 2, x.h, &x.keys, (t + 1) * LADDER_TILE);
        scores(s, &w, stage);
        ladder_weights(&w, s, now, b.scale, lane);
        weigh(&w, s, stage + 2 * HALF);
    }
    ladder_close(&w, x.h, (int64_t)x.mine.first + row, x.mine.rows - row, lane);
    dev_copy_wait<0>(); /* of the tile beyond the end: zeros */
}

bool ladder_wgmma(const struct kern_attention *a, struct err *e)
{
    static const struct ladder_kernel kernel = {wgmma, 16, SHARED, 0};
    for (int i = 0; i < a->head_count; i++)
        if (a->heads[i].keys.group % 64 != 0)
            return err_set(e, ERR_INPUT, err_at_name("ladder"),
                           "groups of %lld queries, want a multiple of 64",
                           (long long)a->heads[i].keys.group);
    return ladder_forward(&kernel, a, e);
}
