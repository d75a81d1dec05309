/* Step 1 of the ladder, naive: one thread per query row, in fp32.
 *
 * A thread walks its group's keys one by one: the logit as a dot product, the running softmax, O +=
 * p v with the row of O in registers. Nothing is shared between threads; K and V are read as the
 * list has them, which is the same address in a whole warp, so the level-1 cache serves both.
 *
 * Bounds, per warp and key (32 queries: 16,384 FLOP):
 *     level-1 cache  Q is read again for each key, 32 rows a load: 32 lines x 16 loads = 512 clocks
 *     instructions   256 multiply-adds and about 400 to unpack bf16, 4 schedulers: 164 clocks
 * 16,384 / 512 = 32 FLOP a clock and SM: 7.4 TFLOP/s. */
#include "bench/cuda/ladder.cuh"

enum { THREADS = 128 };

/* Eight bf16 as floats. */
DEV void unpack(float x[8], const uint4 chunk)
{
    uint32_t pair[4] = {chunk.x, chunk.y, chunk.z, chunk.w};
#pragma unroll
    for (int i = 0; i < 8; i++)
        x[i] = i % 2 ? dev_high(pair[i / 2]) : dev_low(pair[i / 2]);
}

DEV float dot(const uint4 *q, const uint4 *k)
{
    float sum = 0;
#pragma unroll 4
    for (int c = 0; c < LADDER_DIM / 8; c++) {
        float x[8], y[8];
        unpack(x, __ldg(q + c));
        unpack(y, __ldg(k + c));
#pragma unroll
        for (int i = 0; i < 8; i++)
            sum = fmaf(x[i], y[i], sum);
    }
    return sum;
}

/* o = o factor + p v */
DEV void add_value(float o[LADDER_DIM], float factor, float p, const uint4 *v)
{
#pragma unroll
    for (int c = 0; c < LADDER_DIM / 8; c++) {
        float x[8];
        unpack(x, __ldg(v + c));
#pragma unroll
        for (int i = 0; i < 8; i++)
            o[c * 8 + i] = fmaf(p, x[i], o[c * 8 + i] * factor);
    }
}

__global__ void __launch_bounds__(THREADS) naive(const __grid_constant__ struct forward_batch b)
{
    struct ladder_block x;
    if (!ladder_block_of(&x, &b) || (int)threadIdx.x >= x.mine.rows)
        return;
    const struct forward_head *h = x.h;
    int64_t row = x.mine.first + (int64_t)threadIdx.x;
    const uint4 *q = (const uint4 *)(h->q + row * LADDER_DIM);
    float o[LADDER_DIM];
    struct softmax_row soft = {-INFINITY, 0};
#pragma unroll
    for (int i = 0; i < LADDER_DIM; i++)
        o[i] = 0;
    for (int i = 0; i < x.keys.count; i++) {
        int64_t at = (int64_t)ladder_key(&x.keys, i) * LADDER_DIM;
        float logit = dot(q, (const uint4 *)(h->k + at)) * b.scale;
        float factor = softmax_raise(&soft, logit);
        float p = dev_exp2(logit - softmax_offset(&soft));
        soft.sum += p;
        add_value(o, factor, p, (const uint4 *)(h->v + at));
    }
    float inverse = softmax_inverse(soft.sum);
    h->lse[row] = softmax_lse(&soft, soft.sum);
#pragma unroll
    for (int i = 0; i < LADDER_DIM; i += 2)
        ladder_store(h, row * LADDER_DIM + i, o[i] * inverse, o[i + 1] * inverse);
}

bool ladder_naive(const struct kern_attention *a, struct err *e)
{
    static const struct ladder_kernel kernel = {naive, 32, 0, 0};
    return ladder_forward(&kernel, a, e);
}
