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
 * United groups (attention.cuh) are a tile of 64 or 128 rows, each group an equal part of it. The
 * four warps of the producer list the keys of the union together; of each buffer a warp tells for
 * one group which of the keys it has, and consumers mask by that.
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
 * 215,168 bytes at D = 128 with 6 stages; with united groups 205,376 and 222,784. */
#include "kernels/cuda/forward_wgmma.cuh"

enum { PRODUCER_REGISTERS = 88, CONSUMER_REGISTERS = 208 };

/* U: groups in a tile, at most. */
template <int D, int M, int N, int STAGES, bool ORDERED, int U> struct wg_shape {
    static constexpr int dim = D, rows = M, n = N, stages = STAGES, united = U;
    static constexpr bool ordered = ORDERED;
    static constexpr int turns = M < 128 ? CONSUMERS : 1; /* consumers take buffers by turns */
    static constexpr int lane_rows = M == 32 ? 1 : 2;     /* of wgmma's, that have queries */
    static constexpr int tile_bytes = N * D * 2;
    static constexpr int keys_at = STAGES * 2 * tile_bytes; /* of a buffer, by producer's warp */
    static constexpr int queue =
        2048 + N; /* or, of united groups, of all: of a round and a buffer */
    static constexpr int counts_at =
        keys_at + (U > 1 ? queue : WARPGROUP / 32 * N) * 4; /* of each buffer's keys */
    static constexpr int seen_at =
        counts_at + (STAGES * 4 + 15) / 16 * 16; /* [STAGES][U][N] bits */
    static constexpr int barriers_at = seen_at + (U > 1 ? STAGES * U * N / 8 : 0);
    static constexpr int tellers = U; /* warps of the producer that tell what is no copy */
    static_assert(U == 1 || U == WARPGROUP / 32, "a warp of the producer for each united group");
    static constexpr int merge_at = barriers_at + STAGES * 16; /* {full, empty} of each buffer */
    static constexpr int merge_bytes = M < 128 ? PART_FLOATS(D) * 4 * WARPGROUP : 0;
    static constexpr int shared_bytes = merge_at + merge_bytes;
};

template <class shape> DEV uint32_t ring_k(const struct ring<shape> *r, struct place at)
{
    return r->base + at.stage * 2 * shape::tile_bytes;
}

template <class shape>
DEV uint32_t *ring_seen(const struct ring<shape> *r, struct place at, int member)
{
    return r->seen + (at.stage * shape::united + (unsigned)member) * (shape::n / 32);
}

/* ---- producer ---- */

/* United groups: which of a buffer's keys the group of the warp's number has. By lane 0. */
template <class shape>
DEV void tell_seen(const struct ring<shape> *r, struct place at, const int32_t *keys, int thread)
{
#pragma unroll
    for (int i = 0; i < shape::n / 32; i++) {
        int32_t entry = keys[thread % 32 + 32 * i];
        uint32_t seen = __ballot_sync(~0u, entry >> (UNITED_SHIFT + thread / 32) & 1);
        if (thread % 32 == 0)
            ring_seen(r, at, thread / 32)[i] = seen;
    }
}

/* Fills the next buffer with the rows of `count` entries, and says so. */
template <class shape>
DEV void fill(const struct ring<shape> *r, struct place at, const struct forward_head *h, int dim,
              const int32_t *keys, int count, int thread)
{
    dev_barrier_wait(ring_empty(r, at), (int)at.parity ^ 1); /* at once in the first round */
    if (count > 0)
        gather_halves<shape::dim, shape::n, shape::united>(ring_k(r, at), h->k, h->v,
                                                           h->keys.kv_rows, dim, keys, thread);
    dev_barrier_arrive_copied(ring_full(r, at));
    if (shape::united > 1)
        tell_seen<shape>(r, at, keys, thread);
    if (shape::united > 1 ? thread % 32 == 0 : thread == 0) { /* what is no copy */
        if (thread == 0)
            r->counts[at.stage] = count;
        dev_barrier_arrive(ring_full(r, at));
    }
}

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
    keys += thread / 32 * N;
    keys_open(&stream, &h.keys, group, lane);
    for (int ended = 0; ended < shape::turns; at = place_after<shape>(at, 1)) {
        int count = keys_next(&stream, keys, lane);
        __syncwarp();
        fill<shape>(r, at, &h, dim, keys, count, thread);
        ended += count == 0;
        __syncwarp(); /* all have read the keys */
    }
    return at;
}

/* Of united groups the warps list the keys together, in rounds of 64 words of each group's bitmap:
 * a warp those of 16 words, half a word a lane. (One alone would take as long for a tile as the
 * consumers.) The entries go to the end of the queue, number `end`; how many there are. */
template <class shape>
DEV int list_round(struct key_stream<64, shape::united> *s, int32_t *queue, int end, int thread)
{
    int lane = thread % 32, half = thread / 64, from = thread % 64 / 2, first = lane % 2 * 16;
    uint32_t any[2] = {0, 0}, of[shape::united], bits = 0;
#pragma unroll
    for (int g = 0; g < 2 * shape::united; g++)
        any[g % 2] |= (uint32_t)s->ahead[g % 2][g / 2];
    int mine = __popc(any[0]) | __popc(any[1]) << 16; /* of both halves of the 64 */
    int upto = mine;
#pragma unroll
    for (int d = 1; d < 32; d *= 2) {
        int below = __shfl_up_sync(~0u, upto, d);
        upto += lane >= d ? below : 0;
    }
    int all = __shfl_sync(~0u, upto, 31), before = upto - mine;
    end += __shfl_sync(~0u, half ? (all & 0xffff) + (before >> 16) : before & 0xffff, from);
#pragma unroll
    for (int g = 0; g < shape::united; g++) {
        of[g] = (uint32_t)__shfl_sync(~0u, half ? s->ahead[1][g] : s->ahead[0][g], from);
        bits |= of[g];
    }
    int32_t key = (s->next + half * 32 + from) * 32;
    s->next += 64;
    keys_load_word(s, 0, lane);
    keys_load_word(s, 1, lane);
    end += __popc(bits & ((1u << first) - 1));
    end -= end >= shape::queue ? shape::queue : 0;
    for (bits &= 0xffffu << first; bits; bits &= bits - 1) {
        queue[end] = keys_entry(key, bits, of);
        end = end + 1 == shape::queue ? 0 : end + 1;
    }
    return (all & 0xffff) + (all >> 16);
}

/* The same as produce for united groups. The queue holds the `waiting` entries from number `first`
 * on; behind the last of all there are none for the rest of a buffer. */
template <class shape>
DEV struct place produce_united(const struct ring<shape> *r, const struct forward_head *head,
                                int dim, int group, int32_t *queue, struct place at, int thread)
{
    constexpr int N = shape::n;
    const struct forward_head h = *head;
    int first = 0, waiting = 0;
    struct key_stream<64, shape::united> stream;
    keys_open(&stream, &h.keys, group, thread % 32);
    for (int ended = 0; ended < shape::turns; at = place_after<shape>(at, 1)) {
        while (waiting < N && stream.next < stream.end) {
            dev_named_barrier(PRODUCER_BARRIER, WARPGROUP); /* all have read what is in the way */
            waiting += list_round<shape>(&stream, queue, first + waiting, thread);
            if (stream.next >= stream.end && thread < (N - waiting % N) % N)
                queue[(first + waiting + thread) % shape::queue] = UNITED_NONE;
            dev_named_barrier(PRODUCER_BARRIER, WARPGROUP);
        }
        int count = min(waiting, N);
        fill<shape>(r, at, &h, dim, queue + first, count, thread);
        ended += count == 0;
        waiting -= count;
        first = first + N == shape::queue ? 0 : first + N;
    }
    return at;
}

/* ---- consumer ---- */

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

/* Columns whose bit is not set leave the softmax. */
template <int N>
DEV void mask_unseen(float (&s)[1][N / 8][4], const uint32_t (&seen)[N / 32], int lane)
{
#pragma unroll
    for (int n = 0; n < N / 8; n++) {
        uint32_t bits = seen[n / 4] >> lane % 4 * 2;
#pragma unroll
        for (int j = 0; j < 2; j++)
            if (!(bits & 1u << (n % 4 * 8 + j)))
                s[0][n][j] = s[0][n][j + 2] = -INFINITY;
    }
}

/* United groups: which of a buffer's keys the warp's queries see. */
template <class shape>
DEV void take_seen(uint32_t (&seen)[shape::n / 32], const struct ring<shape> *r, struct place at,
                   int member)
{
#pragma unroll
    for (int i = 0; i < shape::n / 32 && shape::united > 1; i++)
        seen[i] = ring_seen(r, at, member)[i];
}

/* Only what the warp's queries see stays in the softmax. */
template <class shape, int R>
DEV void mask(float (&s)[1][shape::n / 8][4], int count, const uint32_t (&seen)[shape::n / 32],
              int lane)
{
    if (shape::united > 1)
        mask_unseen<shape::n>(s, seen, lane);
    else if (count < shape::n)
        mask_beyond<shape::n, R>(s, count, lane);
}

/* All buffers of a tile of queries that are this consumer's, from `at` on; the place of its next
 * one. */
template <class shape, int D, int R>
DEV struct place consume(const struct ring<shape> *r, const uint32_t (&q)[D / 16][4],
                         float (&o)[1][D / 8][4], struct softmax_row (&row)[1][R], float scale,
                         struct place at, int consumer, int member, int lane)
{
    constexpr int N = shape::n;
    float factor[1][R];
    uint32_t p[N / 16][4], seen[N / 32];
#pragma unroll
    for (int i = 0; i < N / 4; i++)
        p[i / 4][i % 4] = dev_anything();
    int count = ring_take<shape>(r, at);
    if (count > 0) {
        float s[1][N / 8][4];
        dev_wgmma_fence();
        ask_scores<D, N>(s, q, ring_k(r, at));
        take_seen<shape>(seen, r, at, member);
        dev_wgmma_wait<0>();
        dev_wgmma_result<N / 2>(&s[0][0][0]);
        mask<shape, R>(s, count, seen, lane);
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
            take_seen<shape>(seen, r, next, member);
            dev_wgmma_wait<1>();
            dev_wgmma_result<N / 2>(&s[0][0][0]);
            mask<shape, R>(s, count, seen, lane);
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

template <class shape>
DEV struct place attend(const struct ring<shape> *r, float *room, const struct forward_batch *b,
                        const struct forward_head *h, struct forward_queries mine, struct place at,
                        int thread)
{
    constexpr int D = shape::dim, M = shape::rows, R = shape::lane_rows;
    int consumer = thread / WARPGROUP, lane = thread % 32;
    struct warp_queries rows = warp_queries_of<M, (shape::united > 1)>(
        h, mine, (M < 128 ? 0 : consumer * 64) + thread % WARPGROUP / 32 * 8 * R);
    uint32_t q[D / 16][4];
    float o[1][D / 8][4];
    struct softmax_row row[1][R];
#pragma unroll
    for (int r = 0; r < R; r++)
        row[0][r] = {-INFINITY, 0};
    load_q<D, R>(q, h->q + rows.first * b->dim, rows.rows, b->dim, b->flip, lane);
#pragma unroll
    for (int i = 0; i < D / 2; i++)
        o[0][i / 4][i % 4] = 0;
    at = consume<shape, D, R>(r, q, o, row, b->scale, at, consumer, rows.member, lane);
    if (M < 128)
        merge_consumers<D, R>(room, o, row, thread);
    if (M == 128 || thread < WARPGROUP)
        store<D, 1, R>(h, b->dim, rows.first, rows.rows, o, row, lane);
    return at;
}

/* ---- the kernel ---- */

template <int D, int M, int N, int STAGES, bool ORDERED, int U>
__global__ void __launch_bounds__((CONSUMERS + 1) * WARPGROUP, 1)
    forward_wgmma(const __grid_constant__ struct forward_batch b)
{
    typedef wg_shape<D, M, N, STAGES, ORDERED, U> shape;
    unsigned char *shared = dev_shared();
    struct ring<shape> r = {
        dev_smem(shared), (int32_t *)(shared + shape::counts_at),
            (uint32_t *)(shared + shape::seen_at)
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
        int32_t *keys = (int32_t *)(shared + shape::keys_at);
        for (; next_queries<shape>(&b, &work, &h, &mine); work += (int)gridDim.x)
            at = U > 1 ? produce_united<shape>(&r, h, b.dim, mine.group, keys, at, thread)
                       : produce<shape>(&r, h, b.dim, mine.group, keys, at, thread);
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

#define WGMMA(d, m, n, stages, ordered, u)                                                         \
    {                                                                                              \
        d, m, (CONSUMERS + 1) * WARPGROUP, wg_shape<d, m, n, stages, ordered, u>::shared_bytes, 1, \
            true, forward_wgmma<d, m, n, stages, ordered, u>                                       \
    }

static const struct forward_kernel wgmma_kernels[] = {
    WGMMA(64, 128, 128, 6, true, 1), WGMMA(64, 64, 128, 6, false, 1),
    WGMMA(64, 32, 128, 6, false, 1), WGMMA(128, 128, 64, 6, true, 1),
    WGMMA(128, 64, 64, 6, false, 1), WGMMA(128, 32, 64, 6, false, 1),
};

/* Consumers that ask whenever they can. */
static const struct forward_kernel free_kernels[] = {
    WGMMA(64, 128, 128, 6, false, 1),
    WGMMA(128, 128, 64, 6, false, 1),
};

static const struct forward_kernel united_kernels[] = {
    WGMMA(64, 128, 128, 6, true, UNITED),
    WGMMA(64, 64, 128, 6, false, UNITED),
    WGMMA(128, 128, 64, 6, true, UNITED),
    WGMMA(128, 64, 64, 6, false, UNITED),
};

/* The first of them; they are in ascending order of dimensions. */
template <int COUNT>
static const struct forward_kernel *first_for(const struct forward_kernel (&of)[COUNT], int dim,
                                              int rows, const struct cuda_device *d)
{
    for (const struct forward_kernel &k : of)
        if (dim <= k.dim && k.rows == rows && k.shared_bytes <= d->shared_bytes_per_block)
            return &k;
    return NULL;
}

const struct forward_kernel *forward_wgmma_for(int dim, int rows, const struct cuda_device *d)
{
    return first_for(wgmma_kernels, dim, rows, d);
}

const struct forward_kernel *forward_wgmma_free_for(int dim, int rows, const struct cuda_device *d)
{
    const struct forward_kernel *k = first_for(free_kernels, dim, rows, d);
    return k ? k : forward_wgmma_for(dim, rows, d);
}

const struct forward_kernel *forward_united_for(int dim, int rows, const struct cuda_device *d)
{
    return first_for(united_kernels, dim, rows, d);
}
