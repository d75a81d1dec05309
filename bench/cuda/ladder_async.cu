/* Step 5 of the ladder, async: two tiles of keys, one is fetched by cp.async while the other is
 * used.
 *
 * The copies go from the level-2 cache to shared memory without passing through registers, and the
 * warps that asked for them compute meanwhile; what is waited for is the longer of the two.
 *
 * Bounds, per 64 keys and M queries, in clocks of an SM:
 *     tensor cores   M x 64 x 512 / 2,676            M = 32, 64, 128: 392, 784, 1,568
 *     shared memory  M / 16 warps x 256 + 256 written:                768, 1,280, 2,304
 *     level-2 cache  32 KB / 42 B:                                    780
 * M = 128: shared memory, 4,194,304 FLOP / 2,304 = 1,820 a clock: 420 TFLOP/s; M = 64: 380, M = 32
 * by the cache: 310. What the winner of mma.sync (kernels/cuda/forward.cu) does beyond: 32 queries
 * a warp, which halves the reads of shared memory; lists read ahead of the copies that need them; a
 * third tile; warps that share a group's keys where a group is short. */
#include "bench/cuda/ladder.cuh"

DEV void ask_tile(unsigned char *stage, const struct forward_head *h,
                  const struct ladder_keys *keys, int first)
{
    uint32_t to = dev_smem(stage);
    for (int i = (int)threadIdx.x; i < LADDER_TILE * LADDER_DIM / 8; i += (int)blockDim.x) {
        struct ladder_chunk c = ladder_chunk_of(keys, first, i);
        uint32_t place = to + ladder_at<true>(c.row, c.chunk);
        dev_copy16(place, h->k + c.at, c.key >= 0 ? 16 : 0);
        dev_copy16(place + LADDER_V, h->v + c.at, c.key >= 0 ? 16 : 0);
        if (c.chunk == 0)
            *(int32_t *)(stage + LADDER_KEYS + c.row * 4) = c.key;
    }
    dev_copy_commit();
}

__global__ void __launch_bounds__(LADDER_ROWS_MAX * 2)
    async(const __grid_constant__ struct forward_batch b)
{
    typedef ladder_by_ldmatrix by;
    struct ladder_block x;
    if (!ladder_block_of(&x, &b))
        return;
    unsigned char *shared = dev_shared();
    int lane = (int)threadIdx.x % 32, row = (int)threadIdx.x / 32 * 16;
    struct ladder_rows w;
    ask_tile(shared, x.h, &x.keys, 0);
    ladder_open(&w, x.h->q + (int64_t)(x.mine.first + row) * LADDER_DIM, x.mine.rows - row, lane);
    for (int t = 0; t * LADDER_TILE < x.keys.count; t++) {
        float s[1][LADDER_TILE / 8][4];
        unsigned char *stage = shared + t % 2 * LADDER_STAGE;
        dev_copy_wait<0>();
        __syncthreads(); /* tile t is here, nobody reads tile t - 1 any more */
        ask_tile(shared + (t + 1) % 2 * LADDER_STAGE, x.h, &x.keys, (t + 1) * LADDER_TILE);
        by::scores(s, &w, stage, lane);
        ladder_weights(&w, s, (const int32_t *)(stage + LADDER_KEYS), b.scale, lane);
        by::weigh(&w, s, stage + LADDER_V, lane);
    }
    ladder_close(&w, x.h, (int64_t)x.mine.first + row, x.mine.rows - row, lane);
    dev_copy_wait<0>(); /* of the tile beyond the end: zeros */
}

bool ladder_async(const struct kern_attention *a, struct err *e)
{
    static const struct ladder_kernel kernel = {async, 16, 2 * LADDER_STAGE, 0};
    return ladder_forward(&kernel, a, e);
}
