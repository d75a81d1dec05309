/* Step 2 of the ladder, staged: keys in shared memory, a warp for eight query rows.
 *
 * All threads of the block fetch 32 rows of K and of V once, whole rows at a time; each warp uses
 * them for its eight queries. For the logits a lane has one key and the eight queries are broadcast
 * from shared memory (as fp32, converted once); for O a lane has four columns and the weights
 * travel by shuffles. The softmax moves on once in 32 keys, not with each.
 *
 * Bounds, per warp and 32 keys (8 queries: 131,072 FLOP), in wavefronts of shared memory, through
 * which shuffles go too:
 *     Q K^T  16 chunks x (4 for the lanes' own rows of K + 16 broadcasts of Q)     320
 *     P V    32 keys x (2 for the row of V + 8 shuffles)                           320
 * against 2,048 multiply-adds / 4 = 512 clocks. 131,072 / 640 = 205 FLOP a clock and SM: 47
 * TFLOP/s, of the 59 that fp32 can reach at all. */
#include "bench/cuda/ladder.cuh"

enum {
    KEYS = 32,
    ROWS = 8, /* of a warp */
    THREADS_MAX = LADDER_ROWS_MAX / ROWS * 32,
    K_PITCH = LADDER_DIM * 2 + 16, /* bytes: chunk c of 8 consecutive rows in different banks */
    V_PITCH = LADDER_DIM * 2,
    Q_PITCH = LADDER_DIM * 4,
    V_AT = KEYS * K_PITCH,
    Q_AT = V_AT + KEYS * V_PITCH
};

/* Q of the group in fp32, zeros beyond `rows`. */
DEV void stage_queries(unsigned char *shared, const uint16_t *q, int rows, int padded)
{
    for (int i = (int)threadIdx.x; i < padded * LADDER_DIM; i += (int)blockDim.x) {
        float x = i < rows * LADDER_DIM ? __uint_as_float((uint32_t)__ldg(q + i) << 16) : 0;
        *(float *)(shared + Q_AT + i * 4) = x;
    }
}

DEV void stage_keys(unsigned char *shared, const struct forward_head *h,
                    const struct ladder_keys *keys, int first)
{
    for (int i = (int)threadIdx.x; i < KEYS * LADDER_DIM / 8; i += (int)blockDim.x) {
        struct ladder_chunk c = ladder_chunk_of(keys, first, i);
        *(uint4 *)(shared + c.row * K_PITCH + c.chunk * 16) = ladder_load(h->k, &c);
        *(uint4 *)(shared + V_AT + c.row * V_PITCH + c.chunk * 16) = ladder_load(h->v, &c);
    }
}

/* s[r] = <q_r, k of this lane> */
DEV void logits(float s[ROWS], const unsigned char *q, const unsigned char *k)
{
#pragma unroll
    for (int r = 0; r < ROWS; r++)
        s[r] = 0;
#pragma unroll 2
    for (int c = 0; c < LADDER_DIM / 8; c++) {
        uint4 chunk = *(const uint4 *)(k + c * 16);
        uint32_t pair[4] = {chunk.x, chunk.y, chunk.z, chunk.w};
#pragma unroll
        for (int half = 0; half < 2; half++) {
            float k4[4] = {dev_low(pair[2 * half]), dev_high(pair[2 * half]),
                           dev_low(pair[2 * half + 1]), dev_high(pair[2 * half + 1])};
#pragma unroll
            for (int r = 0; r < ROWS; r++) {
                float4 x = *(const float4 *)(q + r * Q_PITCH + c * 32 + half * 16);
                s[r] = fmaf(x.x, k4[0], fmaf(x.y, k4[1], fmaf(x.z, k4[2], fmaf(x.w, k4[3], s[r]))));
            }
        }
    }
}

DEV float warp_max(float x)
{
#pragma unroll
    for (int d = 16; d > 0; d /= 2)
        x = fmaxf(x, __shfl_xor_sync(~0u, x, d));
    return x;
}

DEV float warp_sum(float x)
{
#pragma unroll
    for (int d = 16; d > 0; d /= 2)
        x += __shfl_xor_sync(~0u, x, d);
    return x;
}

/* Logits become weights; the sums of `row` are this lane's keys only. */
DEV void weights(float s[ROWS], struct softmax_row row[ROWS], float o[ROWS][4], float scale,
                 bool there)
{
#pragma unroll
    for (int r = 0; r < ROWS; r++) {
        float x = there ? s[r] * scale : -INFINITY, factor = softmax_raise(&row[r], warp_max(x));
        s[r] = dev_exp2(x - softmax_offset(&row[r]));
        row[r].sum += s[r];
#pragma unroll
        for (int i = 0; i < 4; i++)
            o[r][i] *= factor;
    }
}

/* o[r] += p_r V of this lane's four columns. */
DEV void add_values(float o[ROWS][4], const float p[ROWS], const unsigned char *v)
{
#pragma unroll 4
    for (int key = 0; key < KEYS; key++) {
        uint2 pair = *(const uint2 *)(v + key * V_PITCH);
        float v4[4] = {dev_low(pair.x), dev_high(pair.x), dev_low(pair.y), dev_high(pair.y)};
#pragma unroll
        for (int r = 0; r < ROWS; r++) {
            float weight = __shfl_sync(~0u, p[r], key);
#pragma unroll
            for (int i = 0; i < 4; i++)
                o[r][i] = fmaf(weight, v4[i], o[r][i]);
        }
    }
}

__global__ void __launch_bounds__(THREADS_MAX)
    staged(const __grid_constant__ struct forward_batch b)
{
    struct ladder_block x;
    if (!ladder_block_of(&x, &b))
        return;
    unsigned char *shared = dev_shared();
    int lane = (int)threadIdx.x % 32, first_row = (int)threadIdx.x / 32 * ROWS;
    struct softmax_row row[ROWS];
    float o[ROWS][4], s[ROWS];
#pragma unroll
    for (int r = 0; r < ROWS; r++) {
        row[r].max = -INFINITY, row[r].sum = 0;
        o[r][0] = o[r][1] = o[r][2] = o[r][3] = 0;
    }
    stage_queries(shared, x.h->q + (int64_t)x.mine.first * LADDER_DIM, x.mine.rows,
                  (int)blockDim.x / 32 * ROWS);
    for (int first = 0; first < x.keys.count; first += KEYS) {
        __syncthreads(); /* nobody reads the tile before any more */
        stage_keys(shared, x.h, &x.keys, first);
        __syncthreads();
        logits(s, shared + Q_AT + first_row * Q_PITCH, shared + lane * K_PITCH);
        weights(s, row, o, b.scale, first + lane < x.keys.count);
        add_values(o, s, shared + V_AT + lane * 8);
    }
#pragma unroll
    for (int r = 0; r < ROWS; r++) {
        float sum = warp_sum(row[r].sum), inverse = softmax_inverse(sum);
        int64_t at = x.mine.first + first_row + r;
        if (first_row + r >= x.mine.rows)
            continue;
        if (lane == 0)
            x.h->lse[at] = softmax_lse(&row[r], sum);
        ladder_store(x.h, at * LADDER_DIM + lane * 4, o[r][0] * inverse, o[r][1] * inverse);
        ladder_store(x.h, at * LADDER_DIM + lane * 4 + 2, o[r][2] * inverse, o[r][3] * inverse);
    }
}

bool ladder_staged(const struct kern_attention *a, struct err *e)
{
    static const struct ladder_kernel kernel = {staged, ROWS, Q_AT, Q_PITCH};
    return ladder_forward(&kernel, a, e);
}
