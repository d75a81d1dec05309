/* Attention forward by wgmma, on sm_90a only: the maths and shapes of forward.cu for tiles of M =
 * 32, 64 or 128 queries and dimensions up to 128, at the rate that mma.sync cannot reach there.
 *
 * One block of three warpgroups per processor. The producer gathers N rows of K and V at a time
 * with 16-byte copies into STAGES buffers, as many ahead as are free; a full and an empty barrier
 * (in shared memory) for each buffer say whose turn it is. Two consumers multiply: M = 128: each
 * has 64 of the queries, and both use every buffer; M <= 64: both have the same queries and use the
 * buffers by turns, each with a softmax of its own; merged at the end. M = 32: a thread has queries
 * in one of its two rows only, and does the softmax of that. A consumer keeps Q in registers
 * (loaded from global memory, 32 at D = 128), so that QK^T reads shared memory for K alone: with
 * both operands there, m64n64k16 would need all of its bandwidth. It asks for the scores of its
 * next buffer before the product P V of this one, and works on the softmax of the one while the
 * tensor cores do the other.
 *
 * Blocks stay and take one tile of queries after the other: while the consumers write O, the
 * producer already fetches the next tile's keys.
 *
 * A buffer's half of K or V (64 of the D columns) is [N rows][128 bytes], 16-byte chunks swizzled
 * as wgmma has it (dev_matrix). K is K-major, V as it lies is MN-major.
 *
 * Bounds at D = 128, per 64 keys and M = 128 (cycles of an SM; H200):
 *     tensor cores   M x 64 x 512 FLOP / 4,096:                                 1024
 *     level-2 cache  32 KB / 42 B (9.7 TB/s over 132 SMs at 1.755 GHz):          780
 *     shared memory  (2 x 32 KB read + 32 KB written) / 128 B:                   768
 *     exponentials   M x 64 / 16:                                                512
 *     instructions   of a scheduler, as compiled: 2 x 258 of the consumers (and 64 where a maximum
 *                    rises), 152 of the producer (from lists):                 668
 * At M = 64 tensor cores need 512 (as at M = 32), instructions 424 (346) and the cache is the bound
 * (64 FLOP per byte: 620 TFLOP/s at 9.7 TB/s; half of that at M = 32). Registers: O D/2, Q D/4, S
 * N/2, P N/4 = 64 + 32 + 32 + 16 of a consumer's 208 at D = 128, N = 64. Shared memory: STAGES N D
 * 4 + 16 N (keys) + 20 STAGES (counts, barriers), and the merge's part at M <= 64: 197,760 and
 * 215,168 bytes at D = 128 with 6 stages. */
#include "kernels/cuda/forward.cuh"

enum {
    WARPGROUP = 128,
    CONSUMERS = 2, /* warpgroups 0 and 1; 2 is the producer */
    PRODUCER_REGISTERS = 88,
    CONSUMER_REGISTERS = 208,
    CONSUMER_BARRIER = 1, /* named barriers; 0 is __syncthreads */
    TURN_BARRIER = 2      /* of consumer 0; 3 of consumer 1 */
};

template <int D, int M, int N, int STAGES, bool ORDERED> struct wg_shape {
    static constexpr int dim = D, rows = M, n = N, stages = STAGES;
    static constexpr bool ordered = ORDERED;
    static constexpr int turns = M < 128 ? CONSUMERS : 1; /* consumers take buffers by turns */
    static constexpr int lane_rows = M == 32 ? 1 : 2;     /* of wgmma's, that have queries */
    static constexpr int tile_bytes = N * D * 2;
    static constexpr int keys_at = STAGES * 2 * tile_bytes; /* of a buffer, by producer's warp */
    static constexpr int counts_at = keys_at + WARPGROUP / 32 * N * 4; /* of each buffer's keys */
    static constexpr int barriers_at = counts_at + (STAGES * 4 + 15) / 16 * 16;
    static constexpr int merge_at = barriers_at + STAGES * 16; /* {full, empty} of each buffer */
    static constexpr int merge_bytes = M < 128 ? PART_FLOATS(D) * 4 * WARPGROUP : 0;
    static constexpr int shared_bytes = merge_at + merge_bytes;
};

/* The buffers, as seen by either side. */
template <class shape> struct ring {
    uint32_t base; /* shared memory */
    int32_t *counts;
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

template <class shape> DEV uint32_t ring_k(const struct ring<shape> *r, struct place at)
{
    return r->base + at.stage * 2 * shape::tile_bytes;
}

/* ---- producer ---- */

/* The buffers of one tile of queries, and one without keys for each consumer that takes turns: it
 * ends the tile. Returns the place of the next buffer. Each warp makes the list of keys for itself,
 * in `keys`: they need not wait for one another. */
template <class shape>
DEV struct place produce(const struct ring<shape> *r, const struct forward_head *head, int dim,
                         int group, int32_t *keys, struct place at, int thread)
{
    constexpr int N = shape::n;
    const struct forward_head h = *head;
    int lane = thread % 32;
    struct key_stream<N> stream;
    keys_open<N>(&stream, &h.keys, group, lane);
    for (int ended = 0; ended < shape::turns; at = place_after<shape>(at, 1)) {
        int count = keys_next<N>(&stream, keys, lane);
        __syncwarp();
        dev_barrier_wait(ring_empty(r, at), (int)at.parity ^ 1); /* at once in the first round */
        if (count > 0)
            gather_halves<shape::dim, N>(ring_k(r, at), h.k, h.v, h.keys.kv_rows, dim, keys,
                                         thread);
        else
            ended++;
        dev_barrier_arrive_copied(ring_full(r, at));
        if (thread == 0) { /* the count is no copy */
            r->counts[at.stage] = count;
            dev_barrier_arrive(ring_full(r, at));
        }
        __syncwarp(); /* all have read the keys */
    }
    return at;
}

/* ---- consumer ---- */

/* This thread's part of 32 R queries as A of wgmma: row 8 R w + lane / 4, and, if R is 2, that + 8.
 */
template <int D, int R>
DEV void load_q(uint32_t (&q)[D / 16][4], const uint16_t *from, int rows, int dim, uint32_t flip,
                int thread)
{
    int row = thread / 32 * 8 * R + thread % 32 / 4;
    const uint16_t *at = from + (int64_t)row * dim + thread % 4 * 2;
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

/* s = Q K^T, asked for. */
template <int D, int N>
DEV void ask_scores(float (&s)[1][N / 8][4], const uint32_t (&q)[D / 16][4], uint32_t k)
{
    uint64_t first = dev_matrix(k, 16, 1024);
#pragma unroll
    for (int n = 0; n < N / 64; n++)
#pragma unroll
        for (int c = 0; c < D / 16; c++)
            dev_wgmma_64x64_reg_k(&s[0][8 * n][0], q[c],
                                  dev_matrix_at(first, c / 4 * N * 128 + n * 64 * 128 + c % 4 * 32),
                                  c > 0);
    dev_wgmma_commit();
}

/* o += P V, asked for. */
template <int D, int N>
DEV void ask_weigh(float (&o)[1][D / 8][4], const uint32_t (&p)[N / 16][4], uint32_t v)
{
    uint64_t first = dev_matrix(v, N * 128, 1024);
#pragma unroll
    for (int n = 0; n < N / 16; n++) {
        uint64_t rows = dev_matrix_at(first, n * 16 * 128);
        if (D == 128)
            dev_wgmma_64x128_reg(&o[0][0][0], p[n], rows);
        else
            dev_wgmma_64x64_reg(&o[0][0][0], p[n], rows);
    }
    dev_wgmma_commit();
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

/* All buffers of a tile of queries that are this consumer's, from `at` on; the place of its next
 * one. */
template <class shape, int D, int R>
DEV struct place consume(const struct ring<shape> *r, const uint32_t (&q)[D / 16][4],
                         float (&o)[1][D / 8][4], struct softmax_row (&row)[1][R], float scale,
                         struct place at, int consumer, int lane)
{
    constexpr int N = shape::n;
    float factor[1][R];
    uint32_t p[N / 16][4];
#pragma unroll
    for (int i = 0; i < N / 4; i++)
        p[i / 4][i % 4] = dev_anything();
    int count = ring_take<shape>(r, at);
    if (count > 0) {
        float s[1][N / 8][4];
        dev_wgmma_fence();
        ask_scores<D, N>(s, q, ring_k(r, at));
        dev_wgmma_wait<0>();
        dev_wgmma_result<N / 2>(&s[0][0][0]);
        if (count < N)
            mask_beyond<N, R>(s, count, lane);
        softmax<1, N, R>(s, row, factor, scale); /* o is zero yet */
        pack_weights<N, R>(p, s);
        for (;;) {
            struct place next = place_after<shape>(at, shape::turns);
            count = ring_take<shape>(r, next);
            if (count == 0)
                break;
            turn_wait<shape>(consumer);
            float s[1][N / 8]
                   [4]; /* a new one: if the old were to go on, the compiler would move it */
            dev_wgmma_fence();
            ask_scores<D, N>(s, q, ring_k(r, next));
            ask_weigh<D, N>(o, p, ring_k(r, at) + shape::tile_bytes);
            turn_give<shape>(1 - consumer);
            dev_wgmma_wait<1>();
            dev_wgmma_result<N / 2>(&s[0][0][0]);
            if (count < N)
                mask_beyond<N, R>(s, count, lane);
            bool moved = softmax<1, N, R>(s, row, factor, scale);
            dev_wgmma_wait_after<0>(row[0][0].sum + row[0][R - 1].sum);
            dev_wgmma_result<D / 2>(&o[0][0][0]);
            ring_release(r, at, lane);
            if (moved)
                rescale<D, 1, R>(o, factor);
            pack_weights<N, R>(p, s);
            at = next;
        }
        dev_wgmma_fence();
        ask_weigh<D, N>(o, p, ring_k(r, at) + shape::tile_bytes);
        dev_wgmma_wait<0>();
        dev_wgmma_result<D / 2>(&o[0][0][0]);
        ring_release(r, at, lane);
        at = place_after<shape>(at, shape::turns);
    }
    ring_release(r, at, lane); /* the one without keys */
    return place_after<shape>(at, shape::turns);
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

template <class shape>
DEV struct place attend(const struct ring<shape> *r, float *room, const struct forward_batch *b,
                        const struct forward_head *h, struct forward_queries mine, struct place at,
                        int thread)
{
    constexpr int D = shape::dim, M = shape::rows, R = shape::lane_rows;
    int consumer = thread / WARPGROUP, lane = thread % 32, first = M < 128 ? 0 : consumer * 64;
    uint32_t q[D / 16][4];
    float o[1][D / 8][4];
    struct softmax_row row[1][R];
#pragma unroll
    for (int r = 0; r < R; r++)
        row[0][r] = {-INFINITY, 0};
    load_q<D, R>(q, h->q + (int64_t)(mine.first + first) * b->dim, mine.rows - first, b->dim,
                 b->flip, thread % WARPGROUP);
#pragma unroll
    for (int i = 0; i < D / 2; i++)
        o[0][i / 4][i % 4] = 0;
    at = consume<shape, D, R>(r, q, o, row, b->scale, at, consumer, lane);
    if (M < 128)
        merge_consumers<D, R>(room, o, row, thread);
    first += thread % WARPGROUP / 32 * 8 * R;
    if (M == 128 || thread < WARPGROUP)
        store<D, 1, R>(h, b->dim, (int64_t)mine.first + first, mine.rows - first, o, row, lane);
    return at;
}

/* ---- the kernel ---- */

template <class shape> DEV void make_barriers(const struct ring<shape> *r)
{
    for (struct place at = {0, 0}; at.stage < shape::stages; at.stage++) {
        dev_barrier_init(ring_full(r, at), WARPGROUP + 1);
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
        *mine = forward_queries_of(*h, shape::rows, *work % b->tiles);
        if (mine->rows > 0)
            return true;
    }
    return false;
}

template <int D, int M, int N, int STAGES, bool ORDERED>
__global__ void __launch_bounds__((CONSUMERS + 1) * WARPGROUP, 1)
    forward_wgmma(const __grid_constant__ struct forward_batch b)
{
    typedef wg_shape<D, M, N, STAGES, ORDERED> shape;
    unsigned char *shared = dev_shared();
    struct ring<shape> r = {
        dev_smem(shared), (int32_t *)(shared + shape::counts_at)
    };
    const struct forward_head *h;
    struct forward_queries mine;
    int thread = (int)threadIdx.x, consumer = thread / WARPGROUP, work = (int)blockIdx.x;
    if (thread == 0)
        make_barriers<shape>(&r);
    __syncthreads();
    if (consumer == CONSUMERS) {
        dev_registers_fewer<PRODUCER_REGISTERS>();
        struct place at = {0, 0};
        thread -= CONSUMERS * WARPGROUP;
        int32_t *keys = (int32_t *)(shared + shape::keys_at) + thread / 32 * N;
        for (; next_queries<shape>(&b, &work, &h, &mine); work += (int)gridDim.x)
            at = produce<shape>(&r, h, b.dim, mine.group, keys, at, thread);
    } else {
        dev_registers_more<CONSUMER_REGISTERS>();
        struct place at = {shape::turns == 1 ? 0 : (unsigned)consumer, 0};
        float *room = (float *)(shared + shape::merge_at);
        if (consumer == 1)
            turn_give<shape>(0);
        for (; next_queries<shape>(&b, &work, &h, &mine); work += (int)gridDim.x)
            at = attend<shape>(&r, room, &b, h, mine, at, thread);
        if (consumer == 0)
            turn_wait<shape>(0); /* the last turn is taken, though not used */
    }
}

/* ---- the host's side ---- */

#define WGMMA(d, m, n, stages, ordered)                                                            \
    {                                                                                              \
        d, m, (CONSUMERS + 1) * WARPGROUP, wg_shape<d, m, n, stages, ordered>::shared_bytes, 1,    \
            true, forward_wgmma<d, m, n, stages, ordered>                                          \
    }

static const struct forward_kernel wgmma_kernels[] = {
    WGMMA(64, 128, 128, 6, true), WGMMA(64, 64, 128, 6, false), WGMMA(64, 32, 128, 6, false),
    WGMMA(128, 128, 64, 6, true), WGMMA(128, 64, 64, 6, false), WGMMA(128, 32, 64, 6, false),
};

/* Consumers that ask whenever they can. */
static const struct forward_kernel free_kernels[] = {
    WGMMA(64, 128, 128, 6, false),
    WGMMA(128, 128, 64, 6, false),
};

const struct forward_kernel *forward_wgmma_for(int dim, int rows, const struct cuda_device *d)
{
    for (const struct forward_kernel &k : wgmma_kernels)
        if (dim <= k.dim && k.rows == rows && k.shared_bytes <= d->shared_bytes_per_block)
            return &k;
    return NULL;
}

const struct forward_kernel *forward_wgmma_free_for(int dim, int rows, const struct cuda_device *d)
{
    for (const struct forward_kernel &k : free_kernels)
        if (dim <= k.dim && rows > 64 && k.shared_bytes <= d->shared_bytes_per_block)
            return &k;
    return forward_wgmma_for(dim, rows, d);
}
