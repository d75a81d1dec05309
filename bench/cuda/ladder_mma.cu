/* Step 3 of the ladder, mma: tensor cores (mma.sync), operands by plain loads.
 *
 * A warp has 16 queries, Q in registers as the instruction wants it. 64 rows of K and V lie in
 * shared memory as they are in global memory; a lane picks the two bf16 of each operand register
 * itself: 4 bytes of a row of K, two single elements of V, whose rows are the summed index.
 *
 * Bounds, per warp and 64 keys (16 queries: 524,288 FLOP), in wavefronts of shared memory: the rows
 * of K are a multiple of 128 bytes apart, so the eight rows of a load are in the same banks.
 *     Q K^T  128 loads of 4 bytes, 8 ways of conflict                              1,024
 *     P V    256 loads of 2 bytes, 4 ways                                          1,024
 * against 524,288 / 2,676: 196 clocks. 524,288 / 2,048 = 256 FLOP a clock and SM: 59 TFLOP/s.
 * Tensor cores alone gain little over step 2: feeding them is the work. */
#include "bench/cuda/ladder.cuh"

struct by_plain_loads {
    static constexpr bool swizzled = false;

    /* s = Q K^T: b is columns 2t, 2t + 1 (and 8 on) of key g. */
    DEV void scores(float (&s)[1][LADDER_TILE / 8][4], const struct ladder_rows *w,
                    const unsigned char *k, int lane)
    {
        k += lane / 4 * LADDER_PITCH + lane % 4 * 4;
#pragma unroll
        for (int n = 0; n < LADDER_TILE / 8; n++) {
            s[0][n][0] = s[0][n][1] = s[0][n][2] = s[0][n][3] = 0;
#pragma unroll
            for (int c = 0; c < LADDER_DIM / 16; c++) {
                const uint32_t *at = (const uint32_t *)(k + n * 8 * LADDER_PITCH + c * 32);
                uint32_t b[2] = {at[0], at[4]};
                dev_mma(s[0][n], w->q[c], b);
            }
        }
    }

    /* O += P V: b is keys 2t, 2t + 1 (and 8 on) of column g. */
    DEV void weigh(struct ladder_rows *w, const float (&s)[1][LADDER_TILE / 8][4],
                   const unsigned char *v, int lane)
    {
        v += lane % 4 * 2 * LADDER_PITCH + lane / 4 * 2;
#pragma unroll
        for (int n = 0; n < LADDER_TILE / 16; n++) {
            uint32_t p[4];
            ladder_pack(p, s, n);
#pragma unroll
            for (int c = 0; c < LADDER_DIM / 8; c++) {
                uint32_t b[2];
#pragma unroll
                for (int i = 0; i < 2; i++) {
                    const unsigned char *at = v + (n * 16 + i * 8) * LADDER_PITCH + c * 16;
                    b[i] = *(const uint16_t *)at |
                           (uint32_t) * (const uint16_t *)(at + LADDER_PITCH) << 16;
                }
                dev_mma(w->o[0][c], p, b);
            }
        }
    }
};

__global__ void __launch_bounds__(LADDER_ROWS_MAX * 2)
    mma(const __grid_constant__ struct forward_batch b)
{
    ladder_attend<by_plain_loads>(&b);
}

bool ladder_mma(const struct kern_attention *a, struct err *e)
{
    static const struct ladder_kernel kernel = {mma, 16, LADDER_STAGE, 0};
    return ladder_forward(&kernel, a, e);
}
