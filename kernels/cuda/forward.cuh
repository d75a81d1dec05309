/* What the variants of the forward kernel share: how heads travel to a kernel, which queries a
 * block has, the softmax of a row piece by piece, and the way out. */
#ifndef KERNELS_CUDA_FORWARD_CUH
#define KERNELS_CUDA_FORWARD_CUH

#include "kernels/cuda/attention.cuh"
#include "kernels/cuda/cuda.h"

enum { FORWARD_HEADS = 32 }; /* of one launch: kernel parameters have room for 4 KB */

struct forward_head {
    const uint16_t *q, *k, *v;
    uint16_t *o;
    float *o32, *lse;
    struct key_source keys;
    int32_t q_rows, group; /* group: 1 .. q_rows; all queries where every key is seen */
};

struct forward_batch {
    int dim;
    float scale;   /* of logits in log2 units, without its sign */
    uint32_t flip; /* sign bits of a bf16 pair of Q to turn over: scale < 0 */
    struct forward_head head[FORWARD_HEADS]; /* blockIdx.y */
};

/* Queries of a block: `rows` of them (0: none), from row `first`, all of one group. Groups are cut
 * into tiles of `tile` rows; block numbers run along the rows. */
struct forward_queries {
    int32_t group, first, rows;
};

DEV struct forward_queries forward_queries_of(const struct forward_head *h, int tile, int block)
{
    int parts = (h->group + tile - 1) / tile;
    struct forward_queries q;
    q.group = block / parts;
    int64_t begin = (int64_t)q.group * h->group, first = begin + (int64_t)(block % parts) * tile;
    int64_t end = begin + h->group < h->q_rows ? begin + h->group : h->q_rows;
    q.first = (int32_t)first;
    q.rows = (int32_t)(first >= end ? 0 : end - first < tile ? end - first : tile);
    return q;
}

/* Softmax of one row over keys that come in pieces: weights so far are 2^(scale s - max), sum is
 * their sum over this thread's columns. */
struct softmax_row {
    float max, sum;
};

/* A new piece whose largest logit is `top` (the same in all threads of the row): returns the factor
 * for what was summed before. The maximum follows only when it rises by more than 2^8, since any
 * value near it keeps 2^(...) in range, and most tiles then leave the sums as they are. */
DEV float softmax_raise(struct softmax_row *r, float top)
{
    const float slack = 8;
    if (!(top > r->max + slack))
        return 1;
    float factor = dev_exp2(r->max - top); /* 2^-infinity = 0 at the first piece */
    r->max = top;
    r->sum *= factor;
    return factor;
}

/* What to subtract: a row that has seen only logits of -infinity has no finite maximum. */
DEV float softmax_offset(const struct softmax_row *r)
{
    return r->max == -INFINITY ? 0 : r->max;
}

/* Two columns of one row of the output, already divided. */
DEV void forward_store(const struct forward_head *h, int64_t at, float x0, float x1)
{
    if (h->o)
        *(uint32_t *)(h->o + at) = dev_pack(x0, x1);
    if (h->o32)
        *(float2 *)(h->o32 + at) = make_float2(x0, x1);
}

/* 1 / sum and the row's LSE; a row without keys has O = 0 and LSE = -infinity. */
DEV float softmax_inverse(float sum)
{
    return sum == 0 ? 0 : 1 / sum;
}

DEV float softmax_lse(const struct softmax_row *r, float sum)
{
    return sum == 0 ? -INFINITY : r->max + dev_log2(sum);
}

/* A compiled kernel: which (dimension, rows) it serves and what it needs. */
struct forward_kernel {
    int dim, rows; /* a smaller dim runs with columns of zeros */
    int threads, shared_bytes;
    int blocks; /* per processor, for which it was made */
    void (*run)(struct forward_batch);
};

#endif
