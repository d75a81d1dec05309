/* What the steps of the ladder share: how a step is called, and what none of them is about.
 *
 * The forward steps compute what kernels/cuda/forward.cu does (its maths, its array shapes) for the
 * case that the ladder times: head dimension 128, lists of one length, query groups of 16 to 128
 * rows that are a multiple of 16, a positive scale. One block = one group of one head; a step is
 * complete and right, and changes one thing of the step before.
 *
 * Rates in the files' openings are of one multiprocessor (SM) of an H200 and per clock, 132 SMs at
 * 1.755 GHz: tensor cores 4,096 FLOP by wgmma and about 2,676 by mma.sync, fp32 128 fused
 * multiply-adds, shared memory 128 bytes (one "wavefront"), level-2 cache 42 bytes (9.7 TB/s). 1
 * FLOP per clock and SM is 0.232 TFLOP/s in all. Work is 4 D = 512 FLOP for each query and key. */
#ifndef BENCH_CUDA_LADDER_CUH
#define BENCH_CUDA_LADDER_CUH

#include "kernels/cuda/forward.cuh"

enum { LADDER_DIM = 128, LADDER_ROWS_MAX = 128, LADDER_TILE = 64 /* keys, from step 3 on */ };

typedef bool ladder_attention(const struct kern_attention *a, struct err *e);
typedef bool ladder_selection(const struct kern_select *s, struct err *e);

/* ladder_naive.cu, ... in the order of the steps */
bool ladder_naive(const struct kern_attention *a, struct err *e);
bool ladder_staged(const struct kern_attention *a, struct err *e);
bool ladder_mma(const struct kern_attention *a, struct err *e);
bool ladder_ldmatrix(const struct kern_attention *a, struct err *e);
bool ladder_async(const struct kern_attention *a, struct err *e);
bool ladder_wgmma(const struct kern_attention *a, struct err *e); /* groups of 64 and 128, sm_90a */
bool ladder_naive_backward(const struct kern_attention *a, struct err *e);
bool ladder_bisect(const struct kern_select *s, struct err *e);
bool ladder_radix(const struct kern_select *s, struct err *e);
bool ladder_tensor_radix(const struct kern_select *s, struct err *e);

/* ladder.cu: ERR_INPUT for what the ladder does not take. */
bool ladder_takes(const struct kern_attention *a, struct err *e);

/* Starts `run` with a block for each group of each head, a warp for `rows_per_warp` rows. */
struct ladder_kernel {
    void (*run)(struct forward_batch);
    int rows_per_warp;
    int shared_bytes, shared_bytes_per_row; /* of the group */
};
bool ladder_forward(const struct ladder_kernel *k, const struct kern_attention *a, struct err *e);

/* ---- on the device ---- */

struct ladder_keys { /* of a group */
    const int32_t *list;
    int count;
};

/* Key `i` of the list, -1 beyond its end. */
DEV int32_t ladder_key(const struct ladder_keys *k, int i)
{
    return i < k->count ? __ldg(k->list + i) : -1;
}

/* What a block of a forward step works on; false: nothing. */
struct ladder_block {
    const struct forward_head *h;
    struct forward_queries mine;
    struct ladder_keys keys;
};

DEV bool ladder_block_of(struct ladder_block *x, const struct forward_batch *b)
{
    x->h = &b->head[blockIdx.y];
    x->mine = forward_queries_of(x->h, LADDER_ROWS_MAX, (int)blockIdx.x);
    x->keys.list = x->h->keys.list + x->mine.group * x->h->keys.stride;
    x->keys.count = x->h->keys.list_count;
    return x->mine.rows > 0;
}

/* The i-th chunk of 16 bytes of the rows of keys first, ... of the list: neighbours have
 * neighbouring chunks. */
struct ladder_chunk {
    int row, chunk;
    int32_t key; /* -1: none, read nothing */
    int64_t at;  /* its first element in K and V */
};

DEV struct ladder_chunk ladder_chunk_of(const struct ladder_keys *k, int first, int i)
{
    struct ladder_chunk c;
    c.row = i / (LADDER_DIM / 8), c.chunk = i % (LADDER_DIM / 8);
    c.key = ladder_key(k, first + c.row);
    c.at = c.key >= 0 ? (int64_t)c.key * LADDER_DIM + c.chunk * 8 : 0;
    return c;
}

/* The same loaded; zeros for no key. */
DEV uint4 ladder_load(const uint16_t *x, const struct ladder_chunk *c)
{
    return c->key >= 0 ? __ldg((const uint4 *)(x + c->at)) : make_uint4(0, 0, 0, 0);
}

/* A warp's 16 queries on tensor cores: Q as the left factor of dev_mma, O as its result. */
struct ladder_rows {
    uint32_t q[LADDER_DIM / 16][4];
    float o[1][LADDER_DIM / 8][4];
    struct softmax_row row[1][2];
};

/* From global memory; rows beyond `rows` are zero. */
DEV void ladder_open(struct ladder_rows *w, const uint16_t *q, int rows, int lane)
{
#pragma unroll
    for (int c = 0; c < LADDER_DIM / 16; c++)
#pragma unroll
        for (int i = 0; i < 4; i++) {
            int row = lane / 4 + i % 2 * 8, column = c * 16 + lane % 4 * 2 + i / 2 * 8;
            w->q[c][i] = 0;
            if (row < rows)
                w->q[c][i] = __ldg((const uint32_t *)(q + (int64_t)row * LADDER_DIM + column));
        }
#pragma unroll
    for (int i = 0; i < LADDER_DIM / 2; i++)
        w->o[0][i / 4][i % 4] = 0;
#pragma unroll
    for (int r = 0; r < 2; r++)
        w->row[0][r].max = -INFINITY, w->row[0][r].sum = 0;
}

/* Logits of a tile become weights, and what was summed before follows their maximum. */
DEV void ladder_weights(struct ladder_rows *w, float (&s)[1][LADDER_TILE / 8][4],
                        const int32_t *keys, float scale, int lane)
{
    float factor[1][2];
    if (keys[LADDER_TILE - 1] < 0)
        mask_missing<1, LADDER_TILE>(s, keys, lane);
    if (softmax<1, LADDER_TILE>(s, w->row, factor, scale))
        rescale<LADDER_DIM, 1>(w->o, factor);
}

/* Four weights as the left factor of dev_mma: keys 16 n, ... of the tile. */
DEV void ladder_pack(uint32_t p[4], const float (&s)[1][LADDER_TILE / 8][4], int n)
{
#pragma unroll
    for (int i = 0; i < 4; i++)
        p[i] = dev_pack(s[0][2 * n + i / 2][i % 2 * 2], s[0][2 * n + i / 2][i % 2 * 2 + 1]);
}

DEV void ladder_close(struct ladder_rows *w, const struct forward_head *h, int64_t first, int rows,
                      int lane)
{
    store<LADDER_DIM, 1>(h, LADDER_DIM, first, rows, w->o, w->row, lane);
}

/* ---- tiles of keys in shared memory, from step 3 on: K [TILE][D], then V, then the keys ---- */

enum {
    LADDER_PITCH = LADDER_DIM * 2, /* bytes from row to row */
    LADDER_V = LADDER_TILE * LADDER_PITCH,
    LADDER_KEYS = 2 * LADDER_V,
    LADDER_STAGE = LADDER_KEYS + LADDER_TILE * 4
};

/* Where chunk c (16 bytes) of a row lies: at c, or, swizzled, at c ^ (row % 8). */
template <bool SWIZZLED> DEV uint32_t ladder_at(int row, int chunk)
{
    return (uint32_t)(row * LADDER_PITCH + ((SWIZZLED ? chunk ^ (row & 7) : chunk) << 4));
}

/* Keys first, ... of the list by plain loads and stores; rows of zeros beyond the end. All threads.
 */
template <bool SWIZZLED>
DEV void ladder_load_tile(unsigned char *stage, const struct forward_head *h,
                          const struct ladder_keys *keys, int first)
{
    for (int i = (int)threadIdx.x; i < LADDER_TILE * LADDER_DIM / 8; i += (int)blockDim.x) {
        struct ladder_chunk c = ladder_chunk_of(keys, first, i);
        unsigned char *to = stage + ladder_at<SWIZZLED>(c.row, c.chunk);
        *(uint4 *)to = ladder_load(h->k, &c);
        *(uint4 *)(to + LADDER_V) = ladder_load(h->v, &c);
        if (c.chunk == 0)
            *(int32_t *)(stage + LADDER_KEYS + c.row * 4) = c.key;
    }
}

/* Steps 3 and 4: load a tile, wait, compute, wait. `step` says how the operands of the two products
 * come out of shared memory. */
template <class step> DEV void ladder_attend(const struct forward_batch *b)
{
    struct ladder_block x;
    if (!ladder_block_of(&x, b))
        return;
    unsigned char *stage = dev_shared();
    int lane = (int)threadIdx.x % 32, row = (int)threadIdx.x / 32 * 16;
    struct ladder_rows w;
    ladder_open(&w, x.h->q + (int64_t)(x.mine.first + row) * LADDER_DIM, x.mine.rows - row, lane);
    for (int first = 0; first < x.keys.count; first += LADDER_TILE) {
        float s[1][LADDER_TILE / 8][4];
        __syncthreads(); /* nobody reads the tile before any more */
        ladder_load_tile<step::swizzled>(stage, x.h, &x.keys, first);
        __syncthreads();
        step::scores(s, &w, stage, lane);
        ladder_weights(&w, s, (const int32_t *)(stage + LADDER_KEYS), b->scale, lane);
        step::weigh(&w, s, stage + LADDER_V, lane);
    }
    ladder_close(&w, x.h, (int64_t)x.mine.first + row, x.mine.rows - row, lane);
}

/* The products by ldmatrix from swizzled tiles: steps 4 and 5. */
struct ladder_by_ldmatrix {
    static constexpr bool swizzled = true;

    /* s = Q K^T */
    DEV void scores(float (&s)[1][LADDER_TILE / 8][4], const struct ladder_rows *w,
                    const unsigned char *k, int lane)
    {
        uint32_t at = dev_smem(k) + ladder_at<true>(lane % 8 + lane / 16 * 8, lane / 8 % 2);
#pragma unroll
        for (int n = 0; n < LADDER_TILE / 8; n++)
            s[0][n][0] = s[0][n][1] = s[0][n][2] = s[0][n][3] = 0;
#pragma unroll
        for (int c = 0; c < LADDER_DIM / 16; c++)
#pragma unroll
            for (int n = 0; n < LADDER_TILE / 16; n++) {
                uint32_t b[4]; /* keys 16 n, ..., columns 16 c, ...; a swizzle is an exclusive or */
                dev_ldmatrix4(b, (at ^ (uint32_t)(c << 5)) + n * 16 * LADDER_PITCH);
                dev_mma(s[0][2 * n], w->q[c], b);
                dev_mma(s[0][2 * n + 1], w->q[c], b + 2);
            }
    }

    /* O += P V */
    DEV void weigh(struct ladder_rows *w, const float (&s)[1][LADDER_TILE / 8][4],
                   const unsigned char *v, int lane)
    {
        uint32_t at = dev_smem(v) + ladder_at<true>(lane % 16, lane / 16);
#pragma unroll
        for (int n = 0; n < LADDER_TILE / 16; n++) {
            uint32_t p[4];
            ladder_pack(p, s, n);
#pragma unroll
            for (int c = 0; c < LADDER_DIM / 16; c++) {
                uint32_t b[4];
                dev_ldmatrix4_t(b, (at ^ (uint32_t)(c << 5)) + n * 16 * LADDER_PITCH);
                dev_mma(w->o[0][2 * c], p, b);
                dev_mma(w->o[0][2 * c + 1], p, b + 2);
            }
        }
    }
};

/* Two columns of one row of the output, already divided. */
DEV void ladder_store(const struct forward_head *h, int64_t at, float x0, float x1)
{
    if (h->o)
        *(uint32_t *)(h->o + at) = dev_pack(x0, x1);
    if (h->o32)
        *(float2 *)(h->o32 + at) = make_float2(x0, x1);
}

#endif
