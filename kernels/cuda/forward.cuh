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
    int heads;
    int32_t tiles; /* of queries, in the head that has most of them */
    struct forward_head head[FORWARD_HEADS];
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

/* The same where groups are united: their rows, in number `block`. Of M rows of a tile each group
 * has M / united, so that whoever has 16 of them (a multiple of 16) has those of one group. */
DEV struct forward_queries forward_united_of(const struct forward_head *h, int block)
{
    int32_t united = h->keys.united, rows = united * h->group;
    int64_t first = (int64_t)block * rows;
    struct forward_queries q;
    q.group = block * united;
    q.first = (int32_t)min(first, (int64_t)h->q_rows);
    q.rows = min(rows, h->q_rows - q.first);
    return q;
}

/* The rows that a warp has of a tile: `rows` of them exist (less than 1: none), from row `first`
 * of the head; all are of the united groups' `member`. */
struct warp_queries {
    int64_t first;
    int32_t rows, member;
};

template <int M, bool UNITED_GROUPS>
DEV struct warp_queries warp_queries_of(const struct forward_head *h, struct forward_queries q,
                                        int row)
{
    struct warp_queries w = {(int64_t)q.first + row, q.rows - row, 0};
    if (UNITED_GROUPS) {
        int width = M / h->keys.united;
        w.member = row / width;
        int begin = w.member * h->group, within = row % width;
        w.first = (int64_t)q.first + begin + within;
        w.rows = min(h->group, q.rows - begin) - within;
    }
    return w;
}

/* Softmax of one row over keys that come in pieces: weights so far are 2^(scale s - max), sum is
 * their sum over this thread's columns. */
struct softmax_row {
    float max, sum;
};

/* A new piece whose largest logit is `top` (the same in all threads of the row): returns the factor
 * for what was summed before. The maximum follows at once: the largest weight is then 1, which bf16
 * has exactly. (Following only rises of 2^8 or more, as some kernels do, rounds it, and at logits
 * of standard deviation 10 dQ was three times as far off as rounding P puts it.) */
DEV float softmax_raise(struct softmax_row *r, float top)
{
    if (!(top > r->max))
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

/* 1 / sum and the row's LSE; a row without keys has O = 0 and LSE = -infinity. */
DEV float softmax_inverse(float sum)
{
    return sum == 0 ? 0 : 1 / sum;
}

DEV float softmax_lse(const struct softmax_row *r, float sum)
{
    return sum == 0 ? -INFINITY : r->max + dev_log2(sum);
}

/* ---- fragments of 16 WM queries in one warp: the c of dev_mma, which wgmma has too ---- */

/* Columns whose key is -1 leave the softmax. */
template <int WM, int KEYS>
DEV void mask_missing(float (&s)[WM][KEYS / 8][4], const int32_t *keys, int lane)
{
#pragma unroll
    for (int n = 0; n < KEYS / 8; n++)
#pragma unroll
        for (int j = 0; j < 2; j++)
            if (keys[n * 8 + lane % 4 * 2 + j] < 0)
#pragma unroll
                for (int a = 0; a < WM; a++)
                    s[a][n][j] = s[a][n][j + 2] = -INFINITY;
}

/* Largest logit of each row. */
template <int WM, int KEYS, int R>
DEV void tops(float (&top)[WM][R], const float (&s)[WM][KEYS / 8][4])
{
#pragma unroll
    for (int a = 0; a < WM; a++)
#pragma unroll
        for (int r = 0; r < R; r++) {
            float two[2]; /* shorter chains */
#pragma unroll
            for (int n = 0; n < KEYS / 8; n++) {
                float x = fmaxf(s[a][n][2 * r], s[a][n][2 * r + 1]);
                two[n % 2] = n < 2 ? x : fmaxf(two[n % 2], x);
            }
            top[a][r] = fmaxf(two[0], two[1]);
        }
#pragma unroll
    for (int with = 1; with < 4; with *= 2)
#pragma unroll
        for (int i = 0; i < WM * R; i++)
            top[i / R][i % R] =
                fmaxf(top[i / R][i % R], __shfl_xor_sync(~0u, top[i / R][i % R], with));
}

/* Logits become weights, in the first R of a thread's two rows. False in all threads of the warp if
 * nothing that was summed before needs to follow (by `factor`). */
template <int WM, int KEYS, int R = 2>
DEV bool softmax(float (&s)[WM][KEYS / 8][4], struct softmax_row (&row)[WM][R],
                 float (&factor)[WM][R], float scale)
{
    bool moved = false;
    float top[WM][R];
    tops<WM, KEYS, R>(top, s);
#pragma unroll
    for (int a = 0; a < WM; a++)
#pragma unroll
        for (int r = 0; r < R; r++) {
            float sum[2];
            factor[a][r] = softmax_raise(&row[a][r], top[a][r] * scale);
            moved |= factor[a][r] != 1;
            float offset = softmax_offset(&row[a][r]);
#pragma unroll
            for (int n = 0; n < KEYS / 8; n++)
#pragma unroll
                for (int j = 0; j < 2; j++) {
                    float *x = &s[a][n][2 * r + j];
                    *x = dev_exp2(fmaf(*x, scale, -offset));
                    sum[j] = n == 0 ? *x : sum[j] + *x;
                }
            row[a][r].sum += sum[0] + sum[1];
        }
    return __any_sync(~0u, moved);
}

template <int D, int WM, int R = 2>
DEV void rescale(float (&o)[WM][D / 8][4], const float (&factor)[WM][R])
{
#pragma unroll
    for (int a = 0; a < WM; a++)
#pragma unroll
        for (int i = 0; i < D * R / 4; i++)
            o[a][i / (2 * R)][i % (2 * R)] *= factor[a][i % (2 * R) / 2];
}

/* Row r of 16 queries (r * 8 + lane / 4) over some keys, to be merged with the same over others;
 * `room` has PART_FLOATS(D) floats for each lane, 32 apart. */
#define PART_FLOATS(dim) ((dim) / 4 + 2)

template <int D>
DEV void part_put(float *room, const float (&o)[D / 8][4], const struct softmax_row &row, int r)
{
    room[0] = row.max;
    room[32] = row.sum;
#pragma unroll
    for (int i = 0; i < D / 4; i++)
        room[64 + 32 * i] = o[i / 2][2 * r + i % 2];
}

template <int D>
DEV void part_add(const float *room, float (&o)[D / 8][4], struct softmax_row &row, int r)
{
    float max = fmaxf(row.max, room[0]), offset = max == -INFINITY ? 0 : max;
    float mine = dev_exp2(row.max - offset), other = dev_exp2(room[0] - offset);
    row.max = max;
    row.sum = row.sum * mine + room[32] * other;
#pragma unroll
    for (int i = 0; i < D / 4; i++) {
        float *x = &o[i / 2][2 * r + i % 2];
        *x = *x * mine + room[64 + 32 * i] * other;
    }
}

/* This lane's columns of one row of the output, from element `at` on: 8 d + {0, 1} for all d. */
template <int D>
DEV void store_row(const struct forward_head *h, int64_t at, int dim, const float (&o)[D / 8][4],
                   int r, float factor)
{
    if (h->o) {
        uint32_t *to = (uint32_t *)(h->o + at);
#pragma unroll
        for (int d = 0; d < D / 8; d++)
            if (d / 2 * 16 < dim)
                to[d * 4] = dev_pack(o[d][2 * r] * factor, o[d][2 * r + 1] * factor);
    }
    if (h->o32) {
        float2 *to = (float2 *)(h->o32 + at);
#pragma unroll
        for (int d = 0; d < D / 8; d++)
            if (d / 2 * 16 < dim)
                to[d * 4] = make_float2(o[d][2 * r] * factor, o[d][2 * r + 1] * factor);
    }
}

/* Rows `first`, ... of the head, of which `rows` exist. */
template <int D, int WM, int R = 2>
DEV void store(const struct forward_head *h, int dim, int64_t first, int rows,
               float (&o)[WM][D / 8][4], struct softmax_row (&row)[WM][R], int lane)
{
#pragma unroll
    for (int a = 0; a < WM; a++)
#pragma unroll
        for (int r = 0; r < R; r++) {
            float sum = row[a][r].sum;
            sum += __shfl_xor_sync(~0u, sum, 1);
            sum += __shfl_xor_sync(~0u, sum, 2);
            int i = a * 16 + r * 8 + lane / 4;
            if (i >= rows)
                continue;
            if (lane % 4 == 0)
                h->lse[first + i] = softmax_lse(&row[a][r], sum);
            store_row<D>(h, (first + i) * dim + lane % 4 * 2, dim, o[a], r, softmax_inverse(sum));
        }
}

/* A compiled kernel: which (dimension, rows) it serves and what it needs. */
struct forward_kernel {
    int dim, rows; /* a smaller dim runs with columns of zeros */
    int threads, shared_bytes;
    int blocks;    /* per processor, for which it was made */
    bool resident; /* its blocks take one tile of queries after the other, else each one only */
    void (*run)(struct forward_batch);
};

/* forward_wgmma.cu: NULL if it has no kernel for this. */
const struct forward_kernel *forward_wgmma_for(int dim, int rows, const struct cuda_device *d);
/* forward_wide.cu: for dimensions above 128, tiles of 64 or 128 rows. */
const struct forward_kernel *forward_wide_for(int dim, int rows, const struct cuda_device *d);
/* The same without the consumers' order of asking, to be measured beside it. */
const struct forward_kernel *forward_wgmma_free_for(int dim, int rows, const struct cuda_device *d);
/* For united groups: 64 or 128 rows. */
const struct forward_kernel *forward_united_for(int dim, int rows, const struct cuda_device *d);

#endif
