/* Step 4 of the ladder, ldmatrix: operands by ldmatrix from swizzled shared memory.
 *
 * As step 3, but the 16-byte chunks of a row are permuted by its number (c ^ (r % 8)), so that one
 * chunk of eight rows lies in all 32 banks, and one instruction brings a lane four operand
 * registers, transposed for V: no conflicts, no picking apart.
 *
 * Bounds, per warp and 64 keys (16 queries: 524,288 FLOP): 2 x 32 ldmatrix of 4 wavefronts each,
 * 256 clocks: 2,048 FLOP a clock and SM, 475 TFLOP/s. But a block does nothing while it waits for
 * its tile and fetches nothing while it computes: l = 32 KB / 42 B = 780 clocks of loading, about
 * 1,000 of latency (the list, then the rows) and c = M x 64 x 512 / 2,048 of work add up, and only
 * the other blocks of the SM fill the gap. M = 64: c = 1,024, two blocks (by registers) take max(2
 * c, 2 l, 1,000 + l + c) = 2,804 clocks for 2 x 2,097,152 FLOP: 1,496 a clock, 347 TFLOP/s. */
#include "bench/cuda/ladder.cuh"

__global__ void __launch_bounds__(LADDER_ROWS_MAX * 2)
    ldmatrix(const __grid_constant__ struct forward_batch b)
{
    ladder_attend<ladder_by_ldmatrix>(&b);
}

bool ladder_ldmatrix(const struct kern_attention *a, struct err *e)
{
    static const struct ladder_kernel kernel = {ldmatrix, 16, LADDER_STAGE, 0};
    return ladder_forward(&kernel, a, e);
}
