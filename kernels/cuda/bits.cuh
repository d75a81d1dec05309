/* Bitmaps to lists, by a warp: 32 words (1,024 keys) a step, one word a lane. Entries go through
 * shared memory of the warp (BITS_KEYS words), so that whoever reads or stores them does it in
 * whole lines.
 *
 * Super-groups: m = 2 to 4 adjacent query groups run as one tile of m times the rows over the union
 * of their keys; each key carries a tag that says which of the m groups has it, so that the tile
 * masks the logits of the others. With u = |union| / |list of one| the tile multiplies u times as
 * much and fetches u / m times as much as the groups alone: at u(4) = 1.6 the gather, which bounds
 * groups of 32 rows, falls to 0.4. */
#ifndef KERNELS_CUDA_BITS_CUH
#define KERNELS_CUDA_BITS_CUH

#include "kernels/cuda/prim.cuh"

enum {
    BITS_KEYS = 1024,    /* of one step */
    BITS_TAG_SHIFT = 28, /* an entry of a super-group is key | tag << 28; bit i of tag: group i */
    BITS_GROUPS_MAX = 4
};

/* Sum over the lanes up to and with this one. */
DEV int bits_sum_up_to(int x, int lane)
{
    for (int by = 1; by < 32; by *= 2) {
        int other = __shfl_up_sync(~0u, x, by);
        x += lane >= by ? other : 0;
    }
    return x;
}

/* The entries of keys 32 first .. 32 first + 1,023 of a super-group, ascending, into room; how many
 * there are, in every lane. `bitmap` is the first group's, `stride` words from group to group,
 * `groups` of them (1 to M: the last super-group may be short), `words` of each. Keys below 2^28.
 * The warp may read room at once, and has to __syncwarp() before the next step. */
template <int M>
DEV int bits_super_step(uint32_t *room, const uint32_t *bitmap, int64_t stride, int groups,
                        int64_t words, int64_t first, int lane)
{
    uint32_t of[M], any = 0;
    int64_t w = first + lane;
#pragma unroll
    for (int i = 0; i < M; i++) {
        of[i] = i < groups && w < words ? __ldg(bitmap + i * stride + w) : 0;
        any |= of[i];
    }
    int upto = bits_sum_up_to(__popc(any), lane), at = upto - __popc(any);
    for (uint32_t rest = any; rest; rest &= rest - 1) {
        int bit = __ffs((int)rest) - 1;
        uint32_t tag = 0;
#pragma unroll
        for (int i = 0; i < M; i++)
            tag |= (of[i] >> bit & 1) << i;
        room[at++] = (uint32_t)(w * 32 + bit) | tag << BITS_TAG_SHIFT;
    }
    __syncwarp();
    return __shfl_sync(~0u, upto, 31);
}

#endif
