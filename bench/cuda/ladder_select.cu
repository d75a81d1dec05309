/* The ladder of selection: rank 16, scores written to memory, three ways. The winner
 * (kernels/cuda/select.cu) makes the scores twice and never writes them.
 *
 *   step 1, bisect   Scores by a thread each, in fp32: 4 bytes written for each. Then, a block for
 *                    each group, the keep-th largest bit by bit from the top: 32 passes that count,
 *                    one that marks. 33 reads of 4 bytes, and about 40 instructions to unpack 16 +
 *                    16 bf16 and multiply: a row of 64,000 scores is 256 KB, which the level-2
 *                    cache serves at 9.7 TB/s, 7.3e10 scores a second on an H200.
 *   step 2, radix    The same with a histogram of eight bits in each pass: 4 passes and one that
 *                    marks, 20 bytes from the cache for each score, 4.9e11 a second. Atomic
 *                    additions to shared memory bound it instead: the first pass counts every
 *                    score, at one a clock and SM 2.3e11 a second.
 *   step 3, tensor   As step 2, scores by mma.sync: 16 groups x 8 keys at a time. */
#include "bench/cuda/ladder.cuh"

enum { RANK = 16, THREADS = 256, WARPS = THREADS / 32, BINS = 256, SCORE_KEYS = 512 };

struct job { /* one head */
    const uint16_t *q, *k;
    float *score; /* [groups][keys] */
    uint32_t *bitmap;
    int64_t words;
    int32_t groups, keys, keep;
};

/* ---- scores ---- */

__global__ void __launch_bounds__(THREADS) plain_scores(const struct job j)
{
    int key = (int)(blockIdx.x * THREADS + threadIdx.x), group = (int)blockIdx.y;
    if (key >= j.keys)
        return;
    const uint32_t *q = (const uint32_t *)(j.q + (int64_t)group * RANK);
    const uint32_t *k = (const uint32_t *)(j.k + (int64_t)key * RANK);
    float sum = 0;
#pragma unroll
    for (int i = 0; i < RANK / 2; i++) {
        uint32_t x = __ldg(q + i), y = __ldg(k + i);
        sum = fmaf(dev_low(x), dev_low(y), sum);
        sum = fmaf(dev_high(x), dev_high(y), sum);
    }
    j.score[(int64_t)group * j.keys + key] = sum;
}

/* Elements `column` and one more of row `row` of x, zeros beyond `rows`. */
DEV uint32_t pair_of(const uint16_t *x, int row, int rows, int column)
{
    return row < rows ? __ldg((const uint32_t *)(x + (int64_t)row * RANK + column)) : 0;
}

/* A warp makes 16 groups x 64 keys, with dev_mma's registers: A is Q, B is K. */
__global__ void __launch_bounds__(THREADS) tensor_scores(const struct job j)
{
    int lane = (int)threadIdx.x % 32, g = lane / 4, t = lane % 4, group = (int)blockIdx.y * 16 + g;
    int first = (int)blockIdx.x * SCORE_KEYS + (int)threadIdx.x / 32 * (SCORE_KEYS / WARPS);
    uint32_t a[4];
#pragma unroll
    for (int i = 0; i < 4; i++)
        a[i] = pair_of(j.q, group + i % 2 * 8, j.groups, 2 * t + i / 2 * 8);
#pragma unroll
    for (int n = 0; n < SCORE_KEYS / WARPS; n += 8) {
        float c[4] = {0, 0, 0, 0};
        uint32_t b[2] = {pair_of(j.k, first + n + g, j.keys, 2 * t),
                         pair_of(j.k, first + n + g, j.keys, 2 * t + 8)};
        dev_mma(c, a, b);
#pragma unroll
        for (int i = 0; i < 4; i++) {
            int row = group + i / 2 * 8, key = first + n + 2 * t + i % 2;
            if (row < j.groups && key < j.keys)
                j.score[(int64_t)row * j.keys + key] = c[i];
        }
    }
}

/* ---- the keep-th largest of a row ---- */

/* Grows with x; NaN is -infinity, -0 is +0. */
DEV uint32_t rank_of(float x)
{
    uint32_t bits = __float_as_uint(fmaxf(x, -INFINITY) + 0.0f);
    return bits & 0x80000000u ? ~bits : bits | 0x80000000u;
}

/* How many are at least `limit`, to all threads. */
DEV int count_from(const float *score, int keys, uint32_t limit, int *room)
{
    int mine = 0;
    for (int i = (int)threadIdx.x; i < keys; i += THREADS)
        mine += rank_of(score[i]) >= limit;
    __syncthreads(); /* room may still be read */
    if (threadIdx.x == 0)
        *room = 0;
    __syncthreads();
    atomicAdd(room, mine);
    __syncthreads();
    return *room;
}

struct by_bisection {
    DEV uint32_t threshold(const float *score, int keys, int keep, int *room)
    {
        uint32_t limit = 0;
        for (int bit = 31; bit >= 0; bit--)
            if (count_from(score, keys, limit | 1u << bit, room) >= keep)
                limit |= 1u << bit;
        return limit;
    }
};

struct by_radix {
    DEV uint32_t threshold(const float *score, int keys, int keep, int *bins)
    {
        uint32_t prefix = 0, known = 0;
        for (int shift = 24; shift >= 0; shift -= 8) {
            __syncthreads(); /* bins may still be read */
            bins[threadIdx.x] = 0;
            __syncthreads();
            for (int i = (int)threadIdx.x; i < keys; i += THREADS) {
                uint32_t x = rank_of(score[i]);
                if ((x & known) == prefix)
                    atomicAdd(&bins[x >> shift & (BINS - 1)], 1);
            }
            __syncthreads();
            int digit = BINS - 1; /* all threads alike */
            for (; digit > 0 && bins[digit] < keep; digit--)
                keep -= bins[digit];
            prefix |= (uint32_t)digit << shift;
            known |= (uint32_t)(BINS - 1) << shift;
        }
        return prefix;
    }
};

/* ---- marking ---- */

/* Each warp has a run of words: bits above the limit, and ties in ascending order as far as they
 * are needed. `room` has a number for each warp. */
DEV void mark(uint32_t *bitmap, const float *score, int keys, int words, int keep, uint32_t limit,
              int *room)
{
    int lane = (int)threadIdx.x % 32, warp = (int)threadIdx.x / 32, ties = 0;
    int each = (words + WARPS - 1) / WARPS, from = min(warp * each, words),
        to = min(from + each, words);
    int above = limit == ~0u ? 0 : count_from(score, keys, limit + 1, room);
    for (int w = from; w < to; w++)
        ties += __popc(
            __ballot_sync(~0u, w * 32 + lane < keys && rank_of(score[w * 32 + lane]) == limit));
    __syncthreads(); /* room may still be read */
    if (lane == 0)
        room[warp] = ties;
    __syncthreads();
    int left = keep - above;
    for (int i = 0; i < warp; i++)
        left -= room[i];
    for (int w = from; w < to; w++) {
        uint32_t x = w * 32 + lane < keys ? rank_of(score[w * 32 + lane]) : 0;
        bool there = w * 32 + lane < keys;
        uint32_t equal = __ballot_sync(~0u, there && x == limit);
        bool take =
            there && (x > limit || (x == limit && __popc(equal & ((1u << lane) - 1)) < left));
        uint32_t bits = __ballot_sync(~0u, take);
        left -= __popc(equal);
        if (lane == 0)
            bitmap[w] = bits;
    }
}

template <class how> __global__ void __launch_bounds__(THREADS) choose(const struct job j)
{
    int *room = (int *)dev_shared(), group = (int)blockIdx.x, words = (j.keys + 31) / 32;
    const float *score = j.score + (int64_t)group * j.keys;
    uint32_t *bitmap = j.bitmap + group * j.words;
    uint32_t limit = how::threshold(score, j.keys, j.keep, room);
    mark(bitmap, score, j.keys, words, j.keep, limit, room);
    for (int64_t w = words + (int64_t)threadIdx.x; w < j.words; w += THREADS)
        bitmap[w] = 0;
}

/* ---- the host's side ---- */

static bool head_takes(const struct kern_select *s, int i, struct err *e)
{
    const struct kern_select_head *h = &s->heads[i];
    if (s->rank == RANK && h->keep >= 1 && h->groups <= 65535 && h->keys < 1 << 30 && !h->threshold)
        return true;
    return err_set(
        e, ERR_INPUT, err_at_name("ladder"),
        "head %d: want rank %d, at least 1 key kept, at most 65535 groups, no thresholds", i, RANK);
}

static bool run(const struct kern_select *s, bool tensor, void (*choose_kernel)(const struct job),
                struct err *e)
{
    bool ok = kern_select_check(s, e);
    for (int i = 0; ok && i < s->head_count; i++) {
        const struct kern_select_head *h = &s->heads[i];
        struct job j = {h->q_lr,          h->k_lr,         NULL,
                        h->bitmap,        h->bitmap_words, (int32_t)h->groups,
                        (int32_t)h->keys, (int32_t)h->keep};
        void *score = NULL;
        ok = head_takes(s, i, e) &&
             cuda_scratch((size_t)(h->groups * h->keys) * 4, &score, "scores", e);
        if (!ok)
            break;
        j.score = (float *)score;
        dim3 plain((unsigned)((h->keys + THREADS - 1) / THREADS), (unsigned)h->groups);
        dim3 tiled((unsigned)((h->keys + SCORE_KEYS - 1) / SCORE_KEYS),
                   (unsigned)((h->groups + 15) / 16));
        ok = cuda_ok(dev_launch(tensor ? tensor_scores : plain_scores, tensor ? tiled : plain,
                                dim3(THREADS), 0, CUDA_STREAM, j),
                     "scores", e) &&
             cuda_ok(dev_launch(choose_kernel, dim3((unsigned)h->groups), dim3(THREADS), BINS * 4,
                                CUDA_STREAM, j),
                     "choose", e);
        cuda_scratch_free(score);
    }
    return ok;
}

bool ladder_bisect(const struct kern_select *s, struct err *e)
{
    return run(s, false, choose<by_bisection>, e);
}

bool ladder_radix(const struct kern_select *s, struct err *e)
{
    return run(s, false, choose<by_radix>, e);
}

bool ladder_tensor_radix(const struct kern_select *s, struct err *e)
{
    return run(s, true, choose<by_radix>, e);
}
