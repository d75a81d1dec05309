/* Attention forward by wgmma for head dimensions above 128, on sm_90a only: the maths and shapes of
 * forward.cu for tiles of M = 64 or 128 queries. The tile has D = 256 columns; those beyond the
 * head's dimension are zeros.
 *
 * One block of three warpgroups per processor that stays, as in forward_wgmma.cu. The producer
 * gathers N = 64 rows of K, then the same of V, into buffers of 32 KB. M = 128: two consumers have
 * 64 of the queries each and use every buffer, by turns at the tensor cores; the scores of the next
 * K are asked for before the product with this V. M = 64: both have the same queries and each has
 * every other 64 keys, in a ring of buffers of its own; they are merged at the end, where Q was.
 * There a consumer takes one product after the other: it is the cache that all wait for, and asking
 * ahead would hold the buffer of V until the next K is here.
 *
 * What differs from forward_wgmma.cu follows from O, which takes half of a consumer's registers.
 * All of Q (64 more) does not fit beside it, so columns 64 .. 255 of Q lie in shared memory. An
 * m64n64k16 with both operands there needs all of its bandwidth; with one in registers, half. Room
 * is left for five or six buffers: of K or V alone, since pairs would be two, both in use, and
 * nothing would be fetched ahead; and a buffer of K is free as soon as the scores are there.
 *
 * Bounds per 64 keys (cycles of an SM; H200), M = 64 and 128:
 *     tensor cores   M x 64 x 1,024 FLOP / 4,096:                            1,024   2,048
 *     level-2 cache  64 KB / 42 B (9.7 TB/s over 132 SMs at 1.755 GHz):      1,560   1,560
 *                    at the 5.9 TB/s that others have shown:                 2,580   2,580
 *     shared memory  (M / 64 x (K, V, 24 KB of Q) read + K, V) / 128 B:      1,216   1,920
 *     exponentials   M x 64 / 16:                                              256     512
 *     instructions   of a scheduler, as compiled: M / 64 x 340 of consumers
 *                    (128 more where a maximum rises), 260 of the producer:    600     940
 *
 * M = 64 is bound by the cache: 375 to 620 TFLOP/s. M = 128 has tensor cores and shared memory busy
 * at once: 949 TFLOP/s if nothing ever waited, 753 by the slower cache. mma.sync needs 3,072 and
 * 5,632 cycles of shared memory: 315 and 345. At M = 32 it needs 1,790, and wgmma would need the
 * cache's 1,560 to 2,580: there is no kernel for that.
 *
 * Registers: O D / 2, S N / 2, P N / 4, Q 16 = 128 + 32 + 16 + 16 of a consumer's 224 (217 are used
 * at M = 128). Shared memory: buffers 6 (M = 64) or 5 x 32 KB, Q 24 KB or twice that (M = 64: the
 * merge, 33 KB), keys 1 KB, 20 a buffer for counts and barriers: 231,552 and 214,128 bytes. */
#include "kernels/cuda/forward_wgmma.cuh"

enum { PRODUCER_REGISTERS = 56, CONSUMER_REGISTERS = 224 };

/* RING: buffers of a consumer that takes turns, or of both. */
template <int M, int RING> struct wide_shape {
    static constexpr int dim = 256, rows = M, n = 64, ring = RING, united = 1;
    static constexpr int held = 64; /* columns of Q in registers */
    static constexpr bool ordered = M == 128;
    static constexpr int turns = M < 128 ? CONSUMERS : 1; /* consumers take buffers by turns */
    static constexpr int stages = turns * RING;
    static constexpr int tellers = 1; /* threads of the producer that tell what is no copy */
    static constexpr int buffer_bytes = n * dim * 2;
    static constexpr int q_at = stages * buffer_bytes;
    static constexpr int q_bytes = 64 * (dim - held) * 2; /* of a consumer, or, M < 128, of both */
    static constexpr int merge_bytes = PART_FLOATS(dim) * 4 * WARPGROUP;
    static constexpr int keys_at = q_at + (M < 128 ? merge_bytes : CONSUMERS * q_bytes);
    static constexpr int counts_at = keys_at + WARPGROUP / 32 * n * 4; /* of each buffer's keys */
    static constexpr int barriers_at = counts_at + (stages * 4 + 15) / 16 * 16;
    static constexpr int shared_bytes = barriers_at + stages * 16; /* {full, empty} of each */
    static_assert(merge_bytes >= q_bytes, "the merge takes the place of Q");
};

/* The buffer after this one in a consumer's ring. (A ring of both, in which they take turns, would
 * let one wait for a round of a buffer while the round before, which is the other's, is under way:
 * of two rounds ahead a barrier does not tell.) */
template <class shape> DEV struct place ring_next(struct place at)
{
    if (++at.stage % shape::ring == 0) {
        at.stage -= shape::ring;
        at.parity ^= 1;
    }
    return at;
}

template <class shape> DEV uint32_t ring_buffer(const struct ring<shape> *r, struct place at)
{
    return r->base + at.stage * shape::buffer_bytes;
}

/* ---- producer ---- */

/* Rows keys[0 .. N) of K or V, zeros for what names none, as wgmma wants them (dev_matrix):
 * quarters of 64 columns, [N rows][128 bytes] each. 8 threads fetch 128 bytes of a row. */
template <class shape>
DEV void gather(uint32_t to, const uint16_t *from, int32_t kv_rows, int dim, const int32_t *keys,
                int thread)
{
    enum { STEP = WARPGROUP / 8, N = shape::n };
    int chunk = thread % 8, first = thread / 8;
    to += (uint32_t)(first * 128 + ((chunk ^ (first & 7)) << 4));
#pragma unroll
    for (int i = 0; i < N / STEP; i++) {
        int key = keys[first + i * STEP];
        bool there = (uint32_t)key < (uint32_t)kv_rows;
        const uint16_t *row = dev_row(from + chunk * 8, max(key, 0), dim * 2);
#pragma unroll
        for (int quarter = 0; quarter < shape::dim / 64; quarter++)
            dev_copy16(to + (quarter * N + i * STEP) * 128, row + quarter * 64,
                       there && quarter * 64 + chunk * 8 < dim ? 16 : 0);
    }
}

/* Fills the next buffer with rows of K or V, `count` of them, and says so; the place after it. */
template <class shape>
DEV struct place fill(const struct ring<shape> *r, struct place at, const uint16_t *from,
                      int32_t kv_rows, int dim, const int32_t *keys, int count, int thread)
{
    dev_barrier_wait(ring_empty(r, at), (int)at.parity ^ 1); /* at once in the first round */
    if (count > 0)
        gather<shape>(ring_buffer(r, at), from, kv_rows, dim, keys, thread);
    dev_barrier_arrive_copied(ring_full(r, at));
    if (thread == 0) { /* what is no copy */
        r->counts[at.stage] = count;
        dev_barrier_arrive(ring_full(r, at));
    }
    return ring_next<shape>(at);
}

/* The next buffer of the consumer whose turn it is, and of the other one. */
struct places {
    struct place now, other;
};

template <class shape> DEV void places_turn(struct places *at)
{
    struct place now = at->now;
    at->now = shape::turns > 1 ? at->other : now;
    at->other = now;
}

/* The buffers of one tile of queries, and two without keys for each consumer that takes turns: they
 * end the tile. Consumer 0 has the first. Each warp makes the list of keys for itself, in `keys`:
 * they need not wait for one another. */
template <class shape>
DEV void produce(const struct ring<shape> *r, const struct forward_head *head, int dim, int group,
                 int32_t *keys, struct places *at, int thread)
{
    const struct forward_head h = *head;
    int lane = thread % 32, tiles = 0;
    struct key_stream<shape::n> stream;
    keys += thread / 32 * shape::n;
    keys_open(&stream, &h.keys, group, lane);
    for (int ended = 0; ended < shape::turns; tiles++) {
        int count = keys_next(&stream, keys, lane);
        __syncwarp();
        at->now = fill<shape>(r, at->now, h.k, h.keys.kv_rows, dim, keys, count, thread);
        at->now = fill<shape>(r, at->now, h.v, h.keys.kv_rows, dim, keys, count, thread);
        places_turn<shape>(at);
        ended += count == 0;
        __syncwarp(); /* all have read the keys */
    }
    if (tiles % shape::turns > 0)
        places_turn<shape>(at);
}

/* ---- consumer ---- */

/* 64 rows of Q, of which `rows` exist, to shared memory, from column `held` on: quarters of 64
 * columns, [64 rows][128 bytes] each, as wgmma wants them. By the consumer whose they are, or by
 * both. */
template <class shape>
DEV void load_queries(unsigned char *q, const uint16_t *from, int rows, int dim, uint32_t flip,
                      int thread)
{
    constexpr int threads = shape::turns * WARPGROUP;
    int barrier = QUERIES_BARRIER + (shape::turns > 1 ? 0 : thread / WARPGROUP);
    int chunk = thread % 8, first = thread % threads / 8;
    dev_named_barrier(barrier, threads); /* nobody reads what was there */
#pragma unroll
    for (int row = first; row < first + 64; row += threads / 8)
#pragma unroll
        for (int quarter = 0; quarter < (shape::dim - shape::held) / 64; quarter++) {
            int column = shape::held + quarter * 64 + chunk * 8;
            uint4 x = make_uint4(0, 0, 0, 0);
            if (row < rows && column < dim)
                x = __ldg((const uint4 *)(from + (int64_t)row * dim + column));
            x.x ^= flip, x.y ^= flip, x.z ^= flip, x.w ^= flip;
            *(uint4 *)(q + (quarter * 64 + row) * 128 + ((chunk ^ (row & 7)) << 4)) = x;
        }
    dev_fence_async();
    dev_named_barrier(barrier, threads);
}

/* s = Q K^T, asked for. */
template <int D, int HELD, int N>
DEV void ask_scores(float (&s)[1][N / 8][4], const uint32_t (&held)[HELD / 16][4], uint32_t q,
                    uint32_t k)
{
    uint64_t rows = dev_matrix(q, 16, 1024), keys = dev_matrix(k, 16, 1024);
    static_assert(N == 64, "one wgmma's columns");
#pragma unroll
    for (int c = 0; c < D / 16; c++) {
        uint64_t b = dev_matrix_at(keys, c / 4 * N * 128 + c % 4 * 32);
        int more = c - HELD / 16;
        if (more < 0)
            dev_wgmma_64x64_reg_k(&s[0][0][0], held[c], b, c > 0);
        else
            dev_wgmma_64x64(&s[0][0][0], dev_matrix_at(rows, more / 4 * 64 * 128 + more % 4 * 32),
                            b, c > 0);
    }
    dev_wgmma_commit();
}

/* o += P V, asked for. */
template <int D, int N>
DEV void ask_weigh(float (&o)[1][D / 8][4], const uint32_t (&p)[N / 16][4], uint32_t v)
{
    uint64_t first = dev_matrix(v, N * 128, 1024);
    static_assert(D == 256, "one wgmma's columns");
#pragma unroll
    for (int n = 0; n < N / 16; n++)
        dev_wgmma_64x256_reg(&o[0][0][0], p[n], dev_matrix_at(first, n * 16 * 128));
    dev_wgmma_commit();
}

/* The logits of a buffer's `count` keys, waited for; the buffer is given back. */
template <class shape, int HELD>
DEV void scores_of(const struct ring<shape> *r, float (&s)[1][shape::n / 8][4],
                   const uint32_t (&held)[HELD / 16][4], uint32_t q, struct place k, int count,
                   int lane)
{
    constexpr int N = shape::n;
    dev_wgmma_fence();
    ask_scores<shape::dim, HELD, N>(s, held, q, ring_buffer(r, k));
    dev_wgmma_wait<0>();
    dev_wgmma_result<N / 2>(&s[0][0][0]);
    ring_release(r, k, lane);
    if (count < N)
        mask_beyond<N, 2>(s, count, lane);
}

/* The same of o += P V. */
template <class shape, int D>
DEV void weigh_by(const struct ring<shape> *r, float (&o)[1][D / 8][4],
                  const uint32_t (&p)[shape::n / 16][4], struct place v, int lane)
{
    dev_wgmma_fence();
    ask_weigh<D, shape::n>(o, p, ring_buffer(r, v));
    dev_wgmma_wait<0>();
    dev_wgmma_result<D / 2>(&o[0][0][0]);
    ring_release(r, v, lane);
}

/* Gives back the two buffers without keys, once they are filled like any others; the place of this
 * consumer's next one. */
template <class shape>
DEV struct place after_tile(const struct ring<shape> *r, struct place at, int lane)
{
    ring_release(r, at, lane);
    at = ring_next<shape>(at);
    ring_take<shape>(r, at);
    ring_release(r, at, lane);
    return ring_next<shape>(at);
}

/* All buffers of a tile of queries that are this consumer's, from `at` on, one product after the
 * other; the place of its next one. */
template <class shape, int D, int HELD>
DEV struct place consume_in_turn(const struct ring<shape> *r, const uint32_t (&held)[HELD / 16][4],
                                 uint32_t q, float (&o)[1][D / 8][4],
                                 struct softmax_row (&row)[1][2], float scale, struct place at,
                                 int lane)
{
    constexpr int N = shape::n;
    for (;;) {
        at.stage = __shfl_sync(~0u, at.stage, 0); /* uniform, as the compiler then sees */
        float s[1][N / 8][4], factor[1][2];
        uint32_t p[N / 16][4];
        int count = ring_take<shape>(r, at);
        if (count == 0)
            break;
        scores_of<shape, HELD>(r, s, held, q, at, count, lane);
        if (softmax<1, N>(s, row, factor, scale))
            rescale<D, 1>(o, factor);
        pack_weights<N, 2>(p, s);
        at = ring_next<shape>(at);
        ring_take<shape>(r, at);
        weigh_by<shape, D>(r, o, p, at, lane);
        at = ring_next<shape>(at);
    }
    return after_tile<shape>(r, at, lane);
}

/* The same where both consumers use all buffers: the scores of the next K are asked for before the
 * product with this V. */
template <class shape, int D, int HELD>
DEV struct place consume_ahead(const struct ring<shape> *r, const uint32_t (&held)[HELD / 16][4],
                               uint32_t q, float (&o)[1][D / 8][4], struct softmax_row (&row)[1][2],
                               float scale, struct place at, int consumer, int lane)
{
    constexpr int N = shape::n;
    float factor[1][2];
    uint32_t p[N / 16][4];
    int count = ring_take<shape>(r, at);
    if (count > 0) {
        float s[1][N / 8][4];
        scores_of<shape, HELD>(r, s, held, q, at, count, lane);
        softmax<1, N>(s, row, factor, scale); /* o is zero yet */
        pack_weights<N, 2>(p, s);
        struct place v = ring_next<shape>(at);
        for (;;) {
            at = ring_next<shape>(v);
            dev_barrier_wait(ring_full(r, v), (int)v.parity); /* fenced with the next: */
            count = ring_take<shape>(r, at);
            if (count == 0)
                break;
            turn_wait<shape>(consumer);
            float s[1][N / 8][4]; /* a new one: the compiler would move the old if it went on */
            dev_wgmma_fence();
            ask_scores<D, HELD, N>(s, held, q, ring_buffer(r, at));
            ask_weigh<D, N>(o, p, ring_buffer(r, v));
            turn_give<shape>(1 - consumer);
            dev_wgmma_wait<1>();
            dev_wgmma_result<N / 2>(&s[0][0][0]);
            ring_release(r, at, lane);
            if (count < N)
                mask_beyond<N, 2>(s, count, lane);
            bool moved = softmax<1, N>(s, row, factor, scale);
            dev_wgmma_wait_after<0>(row[0][0].sum + row[0][1].sum);
            dev_wgmma_result<D / 2>(&o[0][0][0]);
            ring_release(r, v, lane);
            if (moved)
                rescale<D, 1>(o, factor);
            pack_weights<N, 2>(p, s);
            v = ring_next<shape>(at);
        }
        weigh_by<shape, D>(r, o, p, v, lane);
    }
    return after_tile<shape>(r, at, lane);
}

template <class shape>
DEV struct place attend(const struct ring<shape> *r, unsigned char *q,
                        const struct forward_batch *b, const struct forward_head *h,
                        struct forward_queries mine, struct place at, int consumer, int thread)
{
    constexpr int D = shape::dim, M = shape::rows, HELD = shape::held;
    int lane = thread % 32, first = M < 128 ? 0 : consumer * 64; /* of the tile */
    const uint16_t *from = h->q + ((int64_t)mine.first + first) * b->dim;
    uint32_t held[HELD / 16][4];
    float o[1][D / 8][4];
    struct softmax_row row[1][2] = {{{-INFINITY, 0}, {-INFINITY, 0}}};
    q += M < 128 ? 0 : consumer * shape::q_bytes;
    load_queries<shape>(q, from, mine.rows - first, b->dim, b->flip, thread);
    int warp = thread % WARPGROUP / 32 * 16; /* its first row of the 64 */
    load_q<HELD, 2>(held, from + (int64_t)warp * b->dim, mine.rows - first - warp, b->dim, b->flip,
                    lane);
#pragma unroll
    for (int i = 0; i < D / 2; i++)
        o[0][i / 4][i % 4] = 0;
    if (M < 128)
        at = consume_in_turn<shape, D, HELD>(r, held, dev_smem(q), o, row, b->scale, at, lane);
    else
        at = consume_ahead<shape, D, HELD>(r, held, dev_smem(q), o, row, b->scale, at, consumer,
                                           lane);
    if (M < 128)
        merge_consumers<D, 2>((float *)q, o, row, thread);
    first += warp;
    if (M == 128 || thread < WARPGROUP)
        store<D, 1>(h, b->dim, (int64_t)mine.first + first, mine.rows - first, o, row, lane);
    return at;
}

/* ---- the kernel ---- */

template <int M, int RING>
__global__ void __launch_bounds__((CONSUMERS + 1) * WARPGROUP, 1)
    forward_wide(const __grid_constant__ struct forward_batch b)
{
    typedef wide_shape<M, RING> shape;
    unsigned char *shared = dev_shared();
    struct ring<shape> r = {
        dev_smem(shared), (int32_t *)(shared + shape::counts_at), NULL
    };
    const struct forward_head *h;
    struct forward_queries mine;
    int thread = (int)threadIdx.x, work = (int)blockIdx.x;
    int consumer = __shfl_sync(~0u, thread / WARPGROUP, 0); /* uniform, as the compiler sees */
    if (thread == 0)
        make_barriers<shape>(&r);
    __syncthreads();
    if (consumer == CONSUMERS) {
        dev_registers_fewer<PRODUCER_REGISTERS>();
        struct places at = {{0, 0}, {shape::ring, 0}};
        thread -= CONSUMERS * WARPGROUP;
        int32_t *keys = (int32_t *)(shared + shape::keys_at);
        for (; next_queries<shape>(&b, &work, &h, &mine); work += (int)gridDim.x)
            produce<shape>(&r, h, b.dim, mine.group, keys, &at, thread);
    } else {
        dev_registers_more<CONSUMER_REGISTERS>();
        struct place at = {shape::turns == 1 ? 0 : (unsigned)(consumer * shape::ring), 0};
        if (consumer == 1)
            turn_give<shape>(0);
        for (; next_queries<shape>(&b, &work, &h, &mine); work += (int)gridDim.x)
            at = attend<shape>(&r, shared + shape::q_at, &b, h, mine, at, consumer, thread);
        if (consumer == 0)
            turn_wait<shape>(0); /* the last turn is taken, though not used */
    }
}

/* ---- the host's side ---- */

#define WIDE(m, ring)                                                                              \
    {                                                                                              \
        256, m, (CONSUMERS + 1) * WARPGROUP, wide_shape<m, ring>::shared_bytes, 1, true,           \
            forward_wide<m, ring>                                                                  \
    }

static const struct forward_kernel wide_kernels[] = {WIDE(128, 5), WIDE(64, 3)};

const struct forward_kernel *forward_wide_for(int dim, int rows, const struct cuda_device *d)
{
    for (const struct forward_kernel &k : wide_kernels)
        if (dim <= k.dim && k.rows == rows && k.shared_bytes <= d->shared_bytes_per_block)
            return &k;
    return NULL;
}
