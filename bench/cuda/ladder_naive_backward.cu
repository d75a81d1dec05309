/* Step 1 of the backward ladder, naive: a warp for each query row, in fp32; every row of dK and dV
 * that it touches is added to at once, by single atomic additions.
 *
 *   P = 2^(s - lse)   dS = P (<dO, v> - delta)   dV += P dO   dK += scale dS q   dQ += scale dS k
 *
 * A lane has four columns. The next steps are variants of kernels/cuda/backward.cu, which opens
 * with their formulas: "atomic" sums over the query rows of a block on tensor cores first, and adds
 * only that sum, still by single floats; "vector" adds 16 bytes at a time; "bulk" leaves the
 * additions to the copy engine; "ordered" writes partial rows and adds them in order; "wgmma" is
 * that by wgmma.
 *
 * Bound: 2 D = 256 additions for each query and key, 10 D FLOP: at the 143e9 additions a second
 * that DSV's kernel shows, 1,280 / 256 x 143e9 = 0.7 TFLOP/s. */
#include "bench/cuda/ladder.cuh"

enum { WARPS = 8, HEADS = 16 };

struct head {
    const uint16_t *q, *k, *v, *o, *d_o;
    const float *lse;
    float *dq, *dk, *dv;
    const int32_t *list;
    int64_t stride, q_rows, group;
    int list_count;
};

struct heads {
    struct head head[HEADS];
    float scale, log2_scale;
};
static_assert(sizeof(struct heads) <= 4096, "kernel parameters");

/* This lane's columns lane, lane + 32, ... of a row: neighbours add to neighbours. */
DEV void load(float x[4], const uint16_t *row, int lane)
{
#pragma unroll
    for (int i = 0; i < 4; i++)
        x[i] = __uint_as_float((uint32_t)__ldg(row + lane + 32 * i) << 16);
}

DEV float dot(const float x[4], const float y[4])
{
    float sum = fmaf(x[0], y[0], fmaf(x[1], y[1], fmaf(x[2], y[2], x[3] * y[3])));
#pragma unroll
    for (int d = 16; d > 0; d /= 2)
        sum += __shfl_xor_sync(~0u, sum, d);
    return sum;
}

__global__ void __launch_bounds__(WARPS * 32) naive_backward(const __grid_constant__ struct heads b)
{
    const struct head *h = &b.head[blockIdx.y];
    int lane = (int)threadIdx.x % 32;
    int64_t row = (int64_t)blockIdx.x * WARPS + threadIdx.x / 32;
    if (row >= h->q_rows)
        return;
    const int32_t *list = h->list + row / h->group * h->stride;
    float q[4], d_o[4], o[4], dq[4] = {0, 0, 0, 0};
    load(q, h->q + row * LADDER_DIM, lane);
    load(d_o, h->d_o + row * LADDER_DIM, lane);
    load(o, h->o + row * LADDER_DIM, lane);
    float delta = dot(d_o, o), lse = h->lse[row];
    for (int j = 0; j < h->list_count; j++) {
        int64_t at = (int64_t)__ldg(list + j) * LADDER_DIM;
        float k[4], v[4];
        load(k, h->k + at, lane);
        load(v, h->v + at, lane);
        float p = dev_exp2(fmaf(dot(q, k), b.log2_scale, -lse));
        float ds = p * (dot(d_o, v) - delta) * b.scale;
#pragma unroll
        for (int i = 0; i < 4; i++) {
            dq[i] = fmaf(ds, k[i], dq[i]);
            dev_add(h->dk + at + lane + 32 * i, ds * q[i]);
            dev_add(h->dv + at + lane + 32 * i, p * d_o[i]);
        }
    }
#pragma unroll
    for (int i = 0; i < 4; i++)
        h->dq[row * LADDER_DIM + lane + 32 * i] += dq[i];
}

bool ladder_naive_backward(const struct kern_attention *a, struct err *e)
{
    struct heads b;
    int64_t rows = 0;
    if (!ladder_takes(a, e))
        return false;
    b.scale = kern_scale(a), b.log2_scale = b.scale * 1.4426950408889634f;
    for (int i = 0; i < a->head_count; i++) {
        const struct kern_head *h = &a->heads[i];
        b.head[i] = {h->q,
                     h->k,
                     h->v,
                     h->o,
                     h->d_o,
                     h->lse,
                     h->dq,
                     h->dk,
                     h->dv,
                     h->keys.list,
                     h->keys.list_stride,
                     h->q_rows,
                     h->keys.group,
                     h->keys.list_count};
        rows = h->q_rows > rows ? h->q_rows : rows;
    }
    dim3 grid((unsigned)((rows + WARPS - 1) / WARPS), (unsigned)a->head_count);
    return cuda_ok(dev_launch(naive_backward, grid, dim3(WARPS * 32), 0, CUDA_STREAM, b),
                   "naive backward", e);
}
