/* What the wgmma kernels of the forward pass share (forward_wgmma.cu, forward_wide.cu): a producer
 * that fills a ring of buffers, consumers that use them, who is next at the tensor cores, and which
 * queries a block that stays has. `shape` is the kernel's budget: stages, barriers_at, rows, ... */
#ifndef KERNELS_CUDA_FORWARD_WGMMA_CUH
#define KERNELS_CUDA_FORWARD_WGMMA_CUH

#include "kernels/cuda/forward.cuh"

enum {
    WARPGROUP = 128,
    CONSUMERS = 2,        /* warpgroups 0 and 1; 2 is the producer */
    CONSUMER_BARRIER = 1, /* named barriers; 0 is __syncthreads */
    TURN_BARRIER = 2,     /* of consumer 0; 3 of consumer 1 */
    PRODUCER_BARRIER = 4,
    QUERIES_BARRIER = 5 /* of consumer 0; 6 of consumer 1 */
};

/* The buffers, as seen by either side. */
template <class shape> struct ring {
    uint32_t base; /* shared memory */
    int32_t *counts;
    uint32_t *seen; /* united groups: which of a buffer's keys each has */
};

/* One of them: which, and whether it is the even or odd time around. */
struct place {
    uint32_t stage, parity;
};

template <class shape> DEV struct place place_after(struct place at, unsigned by)
{
    at.stage += by;
    if (at.stage >= shape::stages) {
        at.stage -= shape::stages;
        at.parity ^= 1;
    }
    return at;
}

template <class shape> DEV uint32_t ring_full(const struct ring<shape> *r, struct place at)
{
    return r->base + shape::barriers_at + at.stage * 16;
}

template <class shape> DEV uint32_t ring_empty(const struct ring<shape> *r, struct place at)
{
    return r->base + shape::barriers_at + at.stage * 16 + 8;
}

/* Waits for a buffer; how many keys it has. What the producer's copies wrote is then visible to
 * wgmma. */
template <class shape> DEV int ring_take(const struct ring<shape> *r, struct place at)
{
    dev_barrier_wait(ring_full(r, at), (int)at.parity);
    dev_fence_async();
    return r->counts[at.stage];
}

/* The warp is done with a buffer: its lanes have read the count too, which lane 0 cannot know. */
template <class shape> DEV void ring_release(const struct ring<shape> *r, struct place at, int lane)
{
    __syncwarp();
    if (lane == 0)
        dev_barrier_arrive(ring_empty(r, at));
}

/* Consumers that use the same buffers ask equally often, and each gives the turn to the other. */
template <class shape> DEV void turn_wait(int consumer)
{
    if (shape::ordered)
        dev_named_barrier(TURN_BARRIER + consumer, CONSUMERS * WARPGROUP);
}

template <class shape> DEV void turn_give(int consumer)
{
    if (shape::ordered)
        dev_named_barrier_arrive(TURN_BARRIER + consumer, CONSUMERS * WARPGROUP);
}

/* ---- queries and their softmax ---- */

/* A warp's 8 R queries, of which `rows` exist, as its part of A of wgmma: row lane / 4, and, if R
 * is 2, that + 8. */
template <int D, int R>
DEV void load_q(uint32_t (&q)[D / 16][4], const uint16_t *from, int rows, int dim, uint32_t flip,
                int lane)
{
    int row = lane / 4;
    const uint16_t *at = from + (int64_t)row * dim + lane % 4 * 2;
#pragma unroll
    for (int c = 0; c < D / 16; c++)
#pragma unroll
        for (int i = 0; i < 4; i++) {
            q[c][i] = i % 2 < R ? 0 : dev_anything();
            if (i % 2 < R && row + i % 2 * 8 < rows && c * 16 < dim)
                q[c][i] =
                    __ldg((const uint32_t *)(at + i % 2 * 8 * dim + c * 16 + i / 2 * 8)) ^ flip;
        }
}

/* Weights of the first R of a thread's two rows; the others' are 0 from the beginning. */
template <int N, int R>
DEV void pack_weights(uint32_t (&p)[N / 16][4], const float (&s)[1][N / 8][4])
{
#pragma unroll
    for (int n = 0; n < N / 16; n++)
#pragma unroll
        for (int i = 0; i < 4; i += 3 - R)
            p[n][i] = dev_pack(s[0][2 * n + i / 2][i % 2 * 2], s[0][2 * n + i / 2][i % 2 * 2 + 1]);
}

/* Columns from `count` on leave the softmax. */
template <int N, int R> DEV void mask_beyond(float (&s)[1][N / 8][4], int count, int lane)
{
    count -= lane % 4 * 2;
#pragma unroll
    for (int n = 0; n < N / 8; n++)
#pragma unroll
        for (int j = 0; j < 2; j++)
            if (n * 8 + j >= count)
                s[0][n][j] = s[0][n][j + 2 * R - 2] = -INFINITY;
}

/* Both consumers: the second's sums become part of the first's. Half of the rows at a time, to need
 * half of the room. */
template <int D, int R>
DEV void merge_consumers(float *room, float (&o)[1][D / 8][4], struct softmax_row (&row)[1][R],
                         int thread)
{
    float *mine = room + thread % WARPGROUP / 32 * PART_FLOATS(D) * 32 + thread % 32;
#pragma unroll
    for (int r = 0; r < R; r++) {
        dev_named_barrier(CONSUMER_BARRIER, CONSUMERS * WARPGROUP);
        if (thread >= WARPGROUP)
            part_put<D>(mine, o[0], row[0][r], r);
        dev_named_barrier(CONSUMER_BARRIER, CONSUMERS * WARPGROUP);
        if (thread < WARPGROUP)
            part_add<D>(mine, o[0], row[0][r], r);
    }
}

/* ---- the kernel ---- */

template <class shape> DEV void make_barriers(const struct ring<shape> *r)
{
    for (struct place at = {0, 0}; at.stage < shape::stages; at.stage++) {
        dev_barrier_init(ring_full(r, at), WARPGROUP + shape::tellers);
        dev_barrier_init(ring_empty(r, at),
                         (shape::rows + 63) / 64 * 4); /* one of each warp that uses it */
    }
}

/* This block's next tile of queries from number `work` on that has any; false at the end. */
template <class shape>
DEV bool next_queries(const struct forward_batch *b, int *work, const struct forward_head **h,
                      struct forward_queries *mine)
{
    for (; *work < b->tiles * b->heads; *work += (int)gridDim.x) {
        *h = &b->head[*work / b->tiles];
        *mine = shape::united > 1 ? forward_united_of(*h, *work % b->tiles)
                                  : forward_queries_of(*h, shape::rows, *work % b->tiles);
        if (mine->rows > 0)
            return true;
    }
    return false;
}

#endif
