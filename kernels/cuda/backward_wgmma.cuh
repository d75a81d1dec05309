/* What the wgmma kernels of the backward pass share (backward_wgmma.cu, which opens with the maths
 * of a turned tile, and backward_wide.cu). Matrices in shared memory are pieces of 64 columns, HALF
 * bytes each. */
#ifndef KERNELS_CUDA_BACKWARD_WGMMA_CUH
#define KERNELS_CUDA_BACKWARD_WGMMA_CUH

#include "kernels/cuda/backward.cuh"

enum {
    ROWS = 64, /* queries of a unit, and keys of a tile: the M of wgmma */
    HALF = ROWS * 128
};

/* Byte of (row, 16-byte chunk) in a half. */
DEV int swizzled(int row, int chunk)
{
    return row * 128 + ((chunk ^ (row & 7)) << 4);
}

/* One row to a matrix, by 8 threads; zeros beyond dim or if it is not `there`. */
template <int D>
DEV void load_row(uint32_t to, const uint16_t *from, int64_t row, bool there, int at, int dim)
{
    int chunk = (int)threadIdx.x % 8;
#pragma unroll
    for (int half = 0; half < D / 64; half++) {
        int column = half * 64 + chunk * 8;
        bool use = there && column < dim;
        dev_copy16(to + half * HALF + swizzled(at, chunk), from + (use ? row * dim + column : 0),
                   use ? 16 : 0);
    }
}

/* Where row i of a tile comes from: so many rows after the unit's first, if there is one (below
 * `end`). Of united groups each has ROWS / united rows of the tile. */
struct source {
    int row, end;
};

template <int U> DEV struct source source_of(const struct piece *p, const struct unit *u, int i)
{
    if (U == 1)
        return {i, u->rows};
    int width = ROWS / p->keys.united, begin = i / width * p->group;
    return {begin + i % width, min(begin + p->group, u->rows)};
}

/* Q to `q` and dO behind it, by all THREADS of the block. */
template <int D, int THREADS, int U>
DEV void load_unit(uint32_t q, const struct piece *p, const struct unit *u, int dim)
{
#pragma unroll 2
    for (int i = (int)threadIdx.x / 8; i < ROWS; i += THREADS / 8) {
        struct source s = source_of<U>(p, u, i);
        load_row<D>(q, p->q, u->row + s.row, s.row < s.end, i, dim);
        load_row<D>(q + D / 64 * HALF, p->d_o, u->row + s.row, s.row < s.end, i, dim);
    }
}

/* c[64 keys][64 queries] = a b^T, asked for. */
template <int D> DEV void ask_scores(float (&c)[8][4], uint32_t a, uint32_t b)
{
    uint64_t left = dev_matrix(a, 16, 1024), right = dev_matrix(b, 16, 1024);
#pragma unroll
    for (int k = 0; k < D / 16; k++) {
        int at = k / 4 * HALF + k % 4 * 32;
        dev_wgmma_64x64(&c[0][0], dev_matrix_at(left, at), dev_matrix_at(right, at), k > 0);
    }
    dev_wgmma_commit();
}

/* Accumulators as the left factor of the next product. */
DEV void to_left(uint32_t (&to)[4][4], const float (&from)[8][4])
{
#pragma unroll
    for (int k = 0; k < 4; k++)
#pragma unroll
        for (int i = 0; i < 4; i++)
            to[k][i] = dev_pack(from[2 * k + i / 2][i % 2 * 2], from[2 * k + i / 2][i % 2 * 2 + 1]);
}

/* 16 rows of 64 columns to shared memory, `to` (a multiple of 1,024 bytes): x[k] is columns 16 k,
 * as a left factor. */
DEV void store_rows(uint32_t to, const uint32_t (&x)[4][4], int lane)
{
    to += (uint32_t)swizzled(lane % 16, lane / 16);
#pragma unroll
    for (int k = 0; k < 4; k++)
        dev_stmatrix4(to ^ (uint32_t)(k << 5), x[k]);
}

/* This warp's 16 queries of its transpose. */
DEV void load_turned(uint32_t (&to)[4][4], uint32_t from, int warp, int lane)
{
#pragma unroll
    for (int k = 0; k < 4; k++)
        dev_ldmatrix4_t(
            to[k], from + swizzled(k * 16 + lane % 8 + lane / 16 * 8, warp * 2 + lane / 8 % 2));
}

/* A warp's 16 rows of dV or dK, of which `rows` are keys and
 * `columns` exist, to scratch: by way of shared memory, 64
 * columns at a time, for whole lines. `to`: this lane's 16 bytes of row lane / 8. */
template <int D>
DEV void store_sums(uint16_t *to, unsigned char *stage, const float (&x)[D / 8][4], int rows,
                    int columns, int dim, int lane)
{
    int row = lane / 8, column = lane % 8 * 8;
#pragma unroll
    for (int half = 0; half < D / 64; half++) {
        uint32_t pairs[4][4];
#pragma unroll
        for (int k = 0; k < 4; k++)
#pragma unroll
            for (int i = 0; i < 4; i++) {
                const float *two = &x[half * 8 + 2 * k + i / 2][i % 2 * 2];
                pairs[k][i] = dev_pack(two[0], two[1]);
            }
        store_rows(dev_smem(stage), pairs, lane);
        __syncwarp();
#pragma unroll
        for (int i = 0; i < 4; i++)
            dev_store16((void *)(dev_row(to, i * 4, dim * 4) + half * 64),
                        *(const uint4 *)(stage + swizzled(i * 4 + row, lane % 8)),
                        i * 4 + row < rows && half * 64 + column < columns);
        __syncwarp();
    }
}

/* delta times the scale, as dS is from the beginning: then dK and dQ need no more. */
template <int U>
DEV void load_stats(struct stat *to, const struct piece *p, const struct unit *u, float scale)
{
    int i = (int)threadIdx.x;
    struct source from = source_of<U>(p, u, i);
    struct stat s = {INFINITY, 0};
    if (from.row < from.end && i < ROWS)
        s = p->stat[u->row + from.row];
    s.delta *= scale;
    if (i < ROWS)
        to[i] = s;
}

/* Keys of a tile: before the barrier after which it is overwritten. */
template <int U> DEV int count_keys(const int32_t *tile, int lane)
{
    return __popc(__ballot_sync(~0u, entry_there<U>(tile[lane]))) +
           __popc(__ballot_sync(~0u, entry_there<U>(tile[lane + 32])));
}

/* P^T in place of S^T. `stat`: of the lane's columns 8 n + 2 (lane % 4) + {0, 1}. */
DEV void probabilities(float (&s)[8][4], const struct stat *stat, float log2_scale)
{
#pragma unroll
    for (int n = 0; n < 8; n++) {
        float4 two = *(const float4 *)(stat + 8 * n);
#pragma unroll
        for (int i = 0; i < 4; i++)
            s[n][i] = dev_exp2(fmaf(s[n][i], log2_scale, i & 1 ? -two.z : -two.x));
    }
}

/* The lane's rows are `key` and key + 8, and those from `count` on are no keys. */
DEV void mask_beyond(float (&p)[8][4], int key, int count)
{
#pragma unroll
    for (int n = 0; n < 8; n++)
#pragma unroll
        for (int i = 0; i < 4; i++)
            p[n][i] = key + (i >> 1) * 8 < count ? p[n][i] : 0;
}

/* Something that is not negative, as P is not, and known when all of P is. */
DEV float all_of(const uint32_t (&p)[4][4])
{
    uint32_t all = 0;
#pragma unroll
    for (int i = 0; i < 16; i++)
        all |= p[i / 4][i % 4];
    return __uint_as_float(all);
}

/* scale dS^T in place of dP^T. */
DEV void score_gradients(float (&d)[8][4], const float (&p)[8][4], const struct stat *stat,
                         float scale)
{
#pragma unroll
    for (int n = 0; n < 8; n++) {
        float4 two = *(const float4 *)(stat + 8 * n);
#pragma unroll
        for (int i = 0; i < 4; i++)
            d[n][i] = p[n][i] * fmaf(d[n][i], scale, i & 1 ? -two.w : -two.y);
    }
}

#endif
