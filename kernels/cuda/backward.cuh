/* What the backward kernels share: their parameters, and what becomes of sums. Internal to
 * backward.cu, which opens with the maths, and backward_wgmma.cu. */
#ifndef KERNELS_CUDA_BACKWARD_CUH
#define KERNELS_CUDA_BACKWARD_CUH

#include "kernels/cuda/cuda.h"

#include "kernels/cuda/attention.cuh"

enum {
    RING = 3,  /* lists of keys: of the tile in use, of the next, and one being made */
    BATCH = 16 /* heads of a launch */
};

/* What becomes of the rows that other blocks add to as well. */
enum sink { SINK_NONE, SINK_PARTIAL, SINK_ATOMIC, SINK_VECTOR, SINK_BULK };

struct stat { /* of a query */
    float lse, delta;
};

/* Units of one head: blocks of groups_kernel; of keys_kernel, 128 keys each. */
struct piece {
    struct key_source keys;
    const uint16_t *q, *k, *v, *d_o;
    const struct stat *stat; /* [q_rows] */
    float *dq, *dk, *dv;
    uint16_t *partial; /* [units][stride][2][dim]: of entry i of the unit's keys, dK and dV */
    int64_t stride;
    int32_t q_rows, group, tiles; /* units per group; 1 where groups are united */
    int32_t first, units;
};

struct batch {
    struct piece piece[BATCH];
    float scale, log2_scale;
    int dim, sink;
};
static_assert(sizeof(struct batch) <= 4096, "kernel parameters");

/* Accumulators to zero. */
template <int N> DEV void zero(float (&x)[N][4])
{
#pragma unroll
    for (int n = 0; n < N; n++)
#pragma unroll
        for (int i = 0; i < 4; i++)
            x[n][i] = 0;
}

/* Rows [16][D] in accumulators of the warp, to += of a gradient that this block owns. */
template <int D>
DEV void add_owned(float *to, const float x[D / 8][4], int row, int rows, int dim, float scale,
                   int lane)
{
    row += lane >> 2;
#pragma unroll
    for (int n = 0; n < D / 8; n++) {
        int c = n * 8 + (lane & 3) * 2;
#pragma unroll
        for (int h = 0; h < 2; h++)
            if (row + 8 * h < rows && c < dim) {
                float2 *at = (float2 *)(to + (int64_t)(row + 8 * h) * dim + c), old = *at;
                *at = make_float2(old.x + x[n][2 * h] * scale, old.y + x[n][2 * h + 1] * scale);
            }
    }
}

struct unit { /* the queries of a block */
    int64_t group, row;
    int rows;
};

DEV struct unit unit_of(const struct piece *p, int M, int index)
{
    struct unit u;
    int tile = index % p->tiles * M;
    u.group = index / p->tiles;
    u.row = u.group * p->group + tile;
    int64_t left = min((int64_t)(p->group - tile), p->q_rows - u.row);
    u.rows = (int)min(left, (int64_t)M);
    return u;
}

/* The same where a unit is united groups; their rows follow one another. */
DEV struct unit united_unit_of(const struct piece *p, int index)
{
    struct unit u;
    int rows = p->keys.united * p->group;
    u.group = (int64_t)index * p->keys.united;
    u.row = (int64_t)index * rows;
    u.rows = (int)min((int64_t)rows, p->q_rows - u.row);
    return u;
}

/* Makes the list of a tile of N keys in the ring; the first warp. */
template <int N>
DEV void ring_fill(struct key_stream<N> *from, int32_t *keys, int *counts, int slot, int lane)
{
    int n = keys_next(from, keys + slot * N, lane);
    if (lane == 0)
        counts[slot] = n;
}

typedef void batch_kernel(struct batch);

struct instance {
    int dim, rows, threads; /* the most columns; owned rows */
    batch_kernel *kernel;
    int (*shared)(int sink);
};

/* groups_kernel by wgmma, SINK_PARTIAL only; sm_90. The second: of united groups, which have 64 /
 * united rows of a unit each. */
extern const struct instance backward_wgmma[2], backward_united[2];

/* The same for dimensions above 128. */
extern const struct instance backward_wide;

#endif
