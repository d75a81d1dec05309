/* Attention forward by wgmma, on sm_90a only: the maths and shapes of forward.cu for tiles of M =
 * 64 or 128 queries and dimensions up to 128, at the rate that mma.sync cannot reach there.
 *
 * One block of three warpgroups per processor. The producer gathers N rows of K and V at a time
 * with 16-byte copies into STAGES buffers, as many ahead as are free; a full and an empty barrier
 * (in shared memory) for each buffer say whose turn it is. Two consumers multiply: M = 128: each
 * has 64 of the queries, and both use every buffer; M =  64: both have the same 64 queries and use
 * the buffers by turns, each with a softmax of its own; merged at the end. A consumer keeps Q in
 * registers (loaded from global memory, 32 at D = 128), so that QK^T reads shared memory for K
 * alone: with both operands there, m64n64k16 would need all of its bandwidth. It asks for the
 * scores of its next buffer before the product P V of this one, and works on the softmax of the one
 * while the tensor cores do the other.
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
 * At M = 64 tensor cores need 512 and the cache is the bound (64 FLOP per byte: 620 TFLOP/s at 9.7
 * TB/s). Registers: O D/2, Q D/4, S N/2, P N/4 = 64 + 32 + 32 + 16 of a consumer's 224 at D = 128,
 * N = 64. Shared memory: STAGES N D 4 + (STAGES + 1) N 4 (keys) + 16 STAGES (barriers), and the
 * merge's part at M = 64: 198,496 and 215,904 bytes at D = 128 with 6 stages. */
#include "kernels/cuda/forward.cuh"

enum {
    WARPGROUP = 128,
    CONSUMERS = 2, /* warpgroups 0 and 1; 2 is the producer */
    PRODUCER_REGISTERS = 56,
    CONSUMER_REGISTERS = 224,
    PRODUCER_BARRIER = 1, /* named barriers; 0 is __syncthreads */
    CONSUMER_BARRIER = 2,
    TURN_BARRIER = 3 /* of consumer 0; 4 of consumer 1 */
};

template <int D, int M, int N, int STAGES, bool ORDERED> struct wg_shape {
    static constexpr int dim = D, rows = M, n = N, stages = STAGES;
    static constexpr bool ordered = ORDERED;
    static constexpr int slots = STAGES + 1; /* of keys: a buffer's are made one ahead */
    static constexpr int turns = M == 64 ? CONSUMERS : 1; /* consumers take buffers by turns */
    static constexpr int tile_bytes = N * D * 2;
    static constexpr int keys_at = STAGES * 2 * tile_bytes;
    static constexpr int barriers_at = keys_at + slots * N * 4;
    static constexpr int merge_at = barriers_at + STAGES * 16;
    static constexpr int merge_bytes = M == 64 ? PART_FLOATS(D) * 4 * WARPGROUP : 0;
    static constexpr int shared_bytes = merge_at + merge_bytes;
};

/* The buffers, as seen by either side. Buffer numbers count on over all tiles of queries. */
template <class shape> struct ring {
    uint32_t stages;
    int32_t *keys;
    uint32_t barriers; /* [stages] {full, empty} */
};

template <class shape> DEV struct ring<shape> ring_of(unsigned char *shared) {
    struct ring<shape> r;
    r.stages = dev_smem(shared);
    r.keys = (int32_t *)(shared + shape::keys_at);
    r.barriers = r.stages + shape::barriers_at;
    return r;
}

template <class shape>
DEV uint32_t ring_full(const struct ring<shape> *r, unsigned t)
{
    return r->barriers + t % shape::stages * 16;
}

template <class shape> DEV uint32_t ring_empty(const struct ring<shape> *r, unsigned t)
{
    return r->barriers + t % shape::stages * 16 + 8;
}

template <class shape> DEV uint32_t ring_k(const struct ring<shape> *r, unsigned t)
{
    return r->stages + t % shape::stages * 2 * shape::tile_bytes;
}

/* ---- producer ---- */

/* Rows of K and V named by keys[0 .. N), -1 (or anything that is no row) for none; 8 threads fetch
 * 128 bytes of a row. */
template <int D, int N>
DEV void gather_halves(uint32_t k, const struct forward_head *h, int dim, const int32_t *keys,
                       int thread)
{
    int chunk = thread % 8;
#pragma unroll
    for (int i = 0; i < N; i += WARPGROUP / 8) {
        int row = i + thread / 8, key = keys[row];
        bool there = (uint32_t)key < (uint32_t)h->keys.kv_rows;
        int64_t at = there ? (int64_t)key * dim : 0;
        uint32_t to = k + (uint32_t)(row * 128 + ((chunk ^ (row & 7)) << 4));
#pragma unroll
        for (int half = 0; half < D / 64; half++) {
            int column = half * 64 + chunk * 8;
            bool use = there && column < dim;
            int64_t from = use ? at + column : 0;
            dev_copy16(to + half * N * 128, h->k + from, use ? 16 : 0);
            dev_copy16(to + half * N * 128 + N * D * 2, h->v + from, use ? 16 : 0);
        }
    }
}

/* The buffers of one tile of queries, and one without keys for each consumer that takes turns: it
 * ends the tile. Returns the number of the next buffer. */
template <class shape>
DEV unsigned produce(const struct ring<shape> *r, const struct forward_head *h, int dim, int group,
                     unsigned t, int thread)
{
    constexpr int D = shape::dim, N = shape::n, STAGES = shape::stages;
    int lane = thread % 32;
    bool makes_keys = thread / 32 == 0;
    struct key_stream<N> stream;
    if (makes_keys) {
        keys_open<N>(&stream, &h->keys, group, lane);
        keys_next<N>(&stream, r->keys + t % shape::slots * N, lane);
    }
    dev_named_barrier(PRODUCER_BARRIER, WARPGROUP);
    for (int ended = 0; ended < shape::turns; t++) {
        const int32_t *keys = r->keys + t % shape::slots * N;
        if (t >= STAGES)
            dev_barrier_wait(ring_empty(r, t), (int)(t / STAGES - 1) & 1);
        if (keys[0] >= 0)
            gather_halves<D, N>(ring_k(r, t), h, dim, keys, thread);
        else
            ended++;
        dev_barrier_arrive_copied(ring_full(r, t));
        if (thread == 0) /* for the keys, which are not copies */
            dev_barrier_arrive(ring_full(r, t));
        if (makes_keys) /* consumers are done with buffer t - STAGES, which used this slot */
            keys_next<N>(&stream, r->keys + (t + 1) % shape::slots * N, lane);
        dev_named_barrier(PRODUCER_BARRIER, WARPGROUP);
    }
    return t;
}

/* ---- consumer ---- */

/* This thread's part of 64 queries as A of wgmma: rows 16 w + lane / 4 and 8 more. */
template <int D>
DEV void load_q(uint32_t (&q)[D / 16][4], const uint16_t *from, int rows, int dim, uint32_t flip,
                int thread)
{
#pragma unroll
    for (int c = 0; c < D / 16; c++)
#pragma unroll
        for (int i = 0; i < 4; i++) {
            int row = thread / 32 * 16 + thread % 32 / 4 + i % 2 * 8;
            int column = c * 16 + thread % 4 * 2 + i / 2 * 8;
            q[c][i] = 0;
            if (row < rows && column < dim)
                q[c][i] = __ldg((const uint32_t *)(from + (int64_t)row * dim + column)) ^ flip;
        }
}

/* s = Q K^T, asked for. */
template <int D, int N>
DEV void ask_scores(float (&s)[1][N / 8][4], const uint32_t (&q)[D / 16][4], uint32_t k)
{
#pragma unroll
    for (int n = 0; n < N / 64; n++)
#pragma unroll
        for (int c = 0; c < D / 16; c++)
            dev_wgmma_64x64_reg_k(
                &s[0][8 * n][0], q[c],
                dev_matrix(k + c / 4 * N * 128 + n * 64 * 128 + c % 4 * 32, 16, 1024), c > 0);
    dev_wgmma_commit();
}

/* o += P V, asked for. */
template <int D, int N>
DEV void ask_weigh(float (&o)[1][D / 8][4], const uint32_t (&p)[N / 16][4], uint32_t v)
{
#pragma unroll
    for (int n = 0; n < N / 16; n++) {
        uint64_t rows = dev_matrix(v + n * 16 * 128, N * 128, 1024);
        if (D == 128)
            dev_wgmma_64x128_reg(&o[0][0][0], p[n], rows);
        else
            dev_wgmma_64x64_reg(&o[0][0][0], p[n], rows);
    }
    dev_wgmma_commit();
}

template <int N> DEV void pack_weights(uint32_t (&p)[N / 16][4], const float (&s)[1][N / 8][4])
{
#pragma unroll
    for (int n = 0; n < N / 16; n++)
#pragma unroll
        for (int i = 0; i < 4; i++)
            p[n][i] = dev_pack(s[0][2 * n + i / 2][i % 2 * 2], s[0][2 * n + i / 2][i % 2 * 2 + 1]);
}

/* Waits for buffer t; its keys. What the producer's copies wrote is then visible to wgmma. */
template <int N, class shape> DEV const int32_t *ring_take(const struct ring<shape> *r, unsigned t)
{
    dev_barrier_wait(ring_full(r, t), (int)(t / shape::stages) & 1);
    dev_fence_async();
    return r->keys + t % shape::slots * N;
}

/* The warp is done with buffer t: its lanes have read the keys too, which lane 0 cannot know. */
template <class shape> DEV void ring_release(const struct ring<shape> *r, unsigned t, int lane)
{
    __syncwarp();
    if (lane == 0)
        dev_barrier_arrive(ring_empty(r, t));
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

/* All buffers of a tile of queries that are this consumer's, from number t; the number of its next
 * one. */
template <class shape, int D>
DEV unsigned consume(const struct ring<shape> *r, const uint32_t (&q)[D / 16][4],
                     float (&o)[1][D / 8][4], struct softmax_row (&row)[1][2], float scale,
                     unsigned t, int consumer, int lane)
{
    constexpr int N = shape::n;
    float s[1][N / 8][4], factor[1][2];
    uint32_t p[N / 16][4];
    const int32_t *keys = ring_take<N>(r, t);
    if (keys[0] >= 0) {
        dev_wgmma_fence();
        ask_scores<D, N>(s, q, ring_k(r, t));
        dev_wgmma_wait<0>();
        dev_wgmma_result<N / 2>(&s[0][0][0]);
        if (keys[N - 1] < 0)
            mask_missing<1, N>(s, keys, lane);
        softmax<1, N>(s, row, factor, scale); /* o is zero yet */
        pack_weights<N>(p, s);
        for (;;) {
            unsigned next = t + shape::turns;
            keys = ring_take<N>(r, next);
            if (keys[0] < 0)
                break;
            turn_wait<shape>(consumer);
            dev_wgmma_fence();
            ask_scores<D, N>(s, q, ring_k(r, next));
            ask_weigh<D, N>(o, p, ring_k(r, t) + shape::tile_bytes);
            turn_give<shape>(1 - consumer);
            dev_wgmma_wait<1>();
            dev_wgmma_result<N / 2>(&s[0][0][0]);
            if (keys[N - 1] < 0)
                mask_missing<1, N>(s, keys, lane);
            bool moved = softmax<1, N>(s, row, factor, scale);
            dev_wgmma_wait<0>();
            dev_wgmma_result<D / 2>(&o[0][0][0]);
            ring_release(r, t, lane);
            if (moved)
                rescale<D, 1>(o, factor);
            pack_weights<N>(p, s);
            t = next;
        }
        dev_wgmma_fence();
        ask_weigh<D, N>(o, p, ring_k(r, t) + shape::tile_bytes);
        dev_wgmma_wait<0>();
        dev_wgmma_result<D / 2>(&o[0][0][0]);
        ring_release(r, t, lane);
        t += shape::turns;
    }
    ring_release(r, t, lane); /* the one without keys */
    return t + shape::turns;
}

/* Both consumers: the second's sums become part of the first's. Half of the rows at a time, to need
 * half of the room. */
template <int D>
DEV void merge_consumers(float *room, float (&o)[1][D / 8][4], struct softmax_row (&row)[1][2],
                         int thread)
{
    float *mine = room + thread % WARPGROUP / 32 * PART_FLOATS(D) * 32 + thread % 32;
#pragma unroll
    for (int r = 0; r < 2; r++) {
        dev_named_barrier(CONSUMER_BARRIER, CONSUMERS * WARPGROUP);
        if (thread >= WARPGROUP)
            part_put<D>(mine, o[0], row[0][r], r);
        dev_named_barrier(CONSUMER_BARRIER, CONSUMERS * WARPGROUP);
        if (thread < WARPGROUP)
            part_add<D>(mine, o[0], row[0][r], r);
    }
}

template <class shape>
DEV unsigned attend(const struct ring<shape> *r, float *room, const struct forward_batch *b,
                    const struct forward_head *h, struct forward_queries mine, unsigned t,
                    int thread)
{
    constexpr int D = shape::dim, M = shape::rows;
    int consumer = thread / WARPGROUP, lane = thread % 32, first = M == 64 ? 0 : consumer * 64;
    uint32_t q[D / 16][4];
    float o[1][D / 8][4];
    struct softmax_row row[1][2] = {{{-INFINITY, 0}, {-INFINITY, 0}}};
    load_q<D>(q, h->q + (int64_t)(mine.first + first) * b->dim, mine.rows - first, b->dim, b->flip,
              thread % WARPGROUP);
#pragma unroll
    for (int i = 0; i < D / 2; i++)
        o[0][i / 4][i % 4] = 0;
    t = consume<shape, D>(r, q, o, row, b->scale, t, consumer, lane);
    if (M == 64)
        merge_consumers<D>(room, o, row, thread);
    first += thread % WARPGROUP / 32 * 16;
    if (M == 128 || thread < WARPGROUP)
        store<D, 1>(h, b->dim, (int64_t)mine.first + first, mine.rows - first, o, row, lane);
    return t;
}

/* ---- the kernel ---- */

template <class shape> DEV void make_barriers(const struct ring<shape> *r)
{
    for (unsigned i = 0; i < shape::stages; i++) {
        dev_barrier_init(ring_full(r, i), WARPGROUP + 1);
        dev_barrier_init(ring_empty(r, i),
                         shape::rows / 64 * 4); /* one of each warp that uses it */
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
    struct ring<shape> r = ring_of<shape>(shared);
    const struct forward_head *h;
    struct forward_queries mine;
    int thread = (int)threadIdx.x, consumer = thread / WARPGROUP, work = (int)blockIdx.x;
    if (thread == 0)
        make_barriers<shape>(&r);
    __syncthreads();
    if (consumer == CONSUMERS) {
        dev_registers_fewer<PRODUCER_REGISTERS>();
        unsigned t = 0;
        for (; next_queries<shape>(&b, &work, &h, &mine); work += (int)gridDim.x)
            t = produce<shape>(&r, h, b.dim, mine.group, t, thread - CONSUMERS * WARPGROUP);
    } else {
        dev_registers_more<CONSUMER_REGISTERS>();
        unsigned t = shape::turns == 1 ? 0 : (unsigned)consumer;
        float *room = (float *)(shared + shape::merge_at);
        if (consumer == 1)
            turn_give<shape>(0);
        for (; next_queries<shape>(&b, &work, &h, &mine); work += (int)gridDim.x)
            t = attend<shape>(&r, room, &b, h, mine, t, thread);
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
    WGMMA(64, 128, 128, 6, true),
    WGMMA(64, 64, 128, 6, false),
    WGMMA(128, 128, 64, 6, true),
    WGMMA(128, 64, 64, 6, false),
};

/* Consumers that ask whenever they can. */
static const struct forward_kernel free_kernels[] = {
    WGMMA(64, 128, 128, 6, false),
    WGMMA(128, 128, 64, 6, false),
};

const struct forward_kernel *forward_wgmma_for(int dim, int rows, const struct cuda_device *d)
{
    for (const struct forward_kernel &k : wgmma_kernels)
        if (dim <= k.dim && k.rows == (rows <= 64 ? 64 : 128) &&
            k.shared_bytes <= d->shared_bytes_per_block)
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
