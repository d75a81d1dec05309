/* Critical keys: of each query group the `keep` keys with the largest score.
 *
 *   score[g][j] = sum_d q_lr[g][d] k_lr[j][d]     q_lr [groups][rank], k_lr [keys][rank], bf16
 *
 * Scores are made twice, by tensor cores, and never written. One mma makes 16 groups x 8 keys of a
 * rank up to 16 (more: 2 or 4 of them in a row, the missing columns zero), so a lane has 2 groups x
 * 2 keys of each. The same instruction on the same numbers gives the same bits each time, on which
 * the exactness below rests.
 *
 *   pad      rows of K that are no multiple of 16 bytes are copied, with zeros behind
 *   sample   of each group, every 16th key or so: a bracket around the keep-th largest score, five
 *            standard deviations to either side, as a line: BINS bins are whole numbers of
 *            coordinate(x) = scale x + shift, which grows with x whatever is rounded
 *   count    all keys: how many lie above the bracket, and a histogram inside it
 *   choose   the bin with the keep-th largest; its ends [from, top) as scores
 *   mark     all keys again: bits of those from top on; keys of the bin are candidates (about 40)
 *   finish   the candidates' scores once more, sorted by (score, key): the rest of the bits, and
 *            the exact threshold
 *   exact    groups for which that did not do: the sample missed (once in a million groups), more
 *            candidates than there is room for (ties), NaN, or less than EXACT_KEYS keys. Radix
 *            selection by digits of 8 bits over all keys, then ties in ascending order
 *
 * What bounds it: instructions. A lane issues for each score 6.4 in count (two comparisons, what
 * each brings, the mma and the loop; the histogram takes 5 % of the scores) and 6.2 in mark (two
 * comparisons, two bits, the words), as compiled; 132 processors issue 132 x 128 x 1.7e9 = 2.9e13 a
 * second, so the roof of the two is 2.3e12 scores a second, and 2/3 of it is expected. Bytes: keys
 * x rank x 2 from L2 for each tile of 128 groups, keys / 8 to memory for each group. Matrix work is
 * 2 x 2 x 16 x scores, 1/8 of the time.
 *
 * Shared memory of count: two stages of 256 keys (8 KiB each for rank 16), and for each warp 4 KiB
 * of waiting scores and 16 groups x 64 bins of 16 bits: 64 KiB, three blocks of 8 warps on a
 * processor, up to 85 registers a thread. */
#include "kernels/cuda/cuda.h"

enum {
    WARPS = 8,
    THREADS = 32 * WARPS,
    STRIP = 16,           /* groups of a warp: rows of one mma */
    TILE = STRIP * WARPS, /* groups of a block */
    SPAN_STEP = 256,      /* keys of a block are a multiple of it, and it of a stage's */
    BLOCK_KEYS = 128,     /* whose bits are stored together, 16 bytes of each group */
    BINS = 64,
    QUEUE = 32,       /* scores of a lane that wait: twice what 32 keys can bring */
    QUEUE_STEP = 128, /* bytes from one to the next */
    COUNT_WORDS = QUEUE * 32 + STRIP * BINS / 2, /* shared memory of a warp of count */
    SPAN_MAX = 32768,                            /* keys of a block: bins of 16 bits */
    KEYS_MAX = 1 << 30,                          /* at most 65,535 spans */
    SAMPLE_BINS = 512,
    SAMPLES_MIN = 1024,
    SAMPLES_MAX = 16384,
    SAMPLES_UNIT = 256, /* of 8 warps, 8 keys each, 4 times */
    SAMPLE_STEP = 16,
    EXACT_KEYS = 4096,
    EXACT_WARPS = 16,
    RADIX = 256,
    CANDIDATES_MIN = 128,
    CANDIDATES_MAX = 512,
    HEADS = 32, /* in one launch */
    BLOCKS = 3  /* on a processor, at rank 16 */
};

#define BIN_ZERO      8388608.0f  /* 2^23: from here on floats are whole numbers ... */
#define BIN_ZERO_BITS 0x4b000000u /* ... and their bits count up by one */

/* What is known of a group. */
enum { OPEN_TOP = 1, OPEN_BOTTOM = 2, NEEDS_EXACT = 4 };
struct select_state {
    float low, high;          /* the bracket */
    float scale, shift;       /* of its coordinate */
    float from, top;          /* candidates: from <= score < top; top NaN: all from `from` on */
    uint32_t above;           /* scores beyond the bracket */
    uint32_t expected, found; /* candidates by the histogram, and met */
    uint32_t need;            /* how many of them are taken */
    uint32_t ends;            /* OPEN_...: the bracket's first or last bin has no end */
};

struct select_head {
    const uint16_t *q, *k; /* [groups][rank], [keys][pitch] */
    const uint16_t *raw;   /* K as it was given, if k is a padded copy */
    uint32_t *bitmap;
    float *threshold;
    int64_t words;        /* of a group's bitmap */
    int64_t first;        /* its groups' place in the scratch arrays */
    uint64_t sample_step; /* keys from sample to sample, 2^-20 */
    int32_t groups, keys, keep;
    int32_t pitch;   /* of k: a multiple of 8 elements, rows aligned to 16 bytes */
    int32_t samples; /* 0: exact only */
    int32_t span;    /* keys of one block */
    int32_t first_tile, first_strip;
};

struct select_call {
    struct select_head head[HEADS];
    int32_t heads, rank;
    int32_t capacity;           /* room for candidates of a group */
    int64_t groups;             /* of all heads */
    struct select_state *state; /* [groups] */
    uint32_t *histogram;        /* [groups][BINS] */
    int32_t *candidate;         /* [groups][capacity] keys */
};

/* ---- order ----------------------------------------------------------------------------------- */

/* a < b as floats exactly if ordered(a) < ordered(b); NaN is -infinity, -0 is +0. */
DEV uint32_t ordered(float x)
{
    uint32_t bits = __float_as_uint(fmaxf(x, -INFINITY) + 0.0f);
    return bits & 0x80000000u ? ~bits : bits | 0x80000000u;
}

DEV float of_ordered(uint32_t u)
{
    return __uint_as_float(u & 0x80000000u ? u & 0x7fffffffu : ~u);
}

/* ---- operands -------------------------------------------------------------------------------- */

/* Columns d and d + 1 of a row; zero from `rank` on. */
DEV uint32_t pair_of(const uint16_t *row, int d, int rank)
{
    uint32_t low = d < rank ? row[d] : 0u;
    uint32_t high = d + 1 < rank ? row[d + 1] : 0u;
    return low | high << 16;
}

/* Rows first.. of Q as the mma's A; rows beyond the last group are zero. */
template <int STEPS>
DEV void load_queries(uint32_t a[STEPS][4], const struct select_head *h, int rank, int first,
                      int lane)
{
#pragma unroll
    for (int i = 0; i < 4 * STEPS; i++) {
        int row = first + lane / 4 + i % 2 * 8, d = i / 4 * 16 + lane % 4 * 2 + i / 2 % 2 * 8;
        a[i / 4][i % 4] = row < h->groups ? pair_of(h->q + (int64_t)row * rank, d, rank) : 0u;
    }
}

/* One key per column of the mma's B, straight from memory; lane / 4 is the column. */
template <int STEPS>
DEV void load_key(uint32_t b[STEPS][2], const struct select_head *h, int key, int lane)
{
    const uint16_t *row = h->k + (int64_t)key * h->pitch;
#pragma unroll
    for (int i = 0; i < 2 * STEPS; i++) {
        int d = i / 2 * 16 + lane % 4 * 2 + i % 2 * 8;
        b[i / 2][i % 2] = d < h->pitch ? __ldg((const uint32_t *)(row + d)) : 0u;
    }
}

template <int STEPS>
DEV void score8(float c[4], const uint32_t a[STEPS][4], const uint32_t b[STEPS][2])
{
    c[0] = c[1] = c[2] = c[3] = 0;
#pragma unroll
    for (int s = 0; s < STEPS; s++)
        dev_mma(c, a[s], b[s]);
}

/* ---- padding --------------------------------------------------------------------------------- */

/* Rows of K that are no multiple of 16 bytes, or begin at none, are copied first, with zeros
 * behind: 16 bytes a thread. */
__global__ void __launch_bounds__(THREADS)
    select_pad(const __grid_constant__ struct select_call call)
{
    const struct select_head *h = &call.head[blockIdx.y];
    int64_t i = (int64_t)blockIdx.x * THREADS + threadIdx.x, key = i / (h->pitch / 8);
    int d = (int)(i % (h->pitch / 8)) * 8;
    if (!h->raw || key >= h->keys)
        return;
    const uint16_t *row = h->raw + key * call.rank;
    ((uint4 *)h->k)[i] = make_uint4(pair_of(row, d, call.rank), pair_of(row, d + 2, call.rank),
                                    pair_of(row, d + 4, call.rank), pair_of(row, d + 6, call.rank));
}

/* ---- keys in shared memory ------------------------------------------------------------------- */

/* Rows of 2 STEPS chunks of 16 bytes, swizzled so that the 8 rows of an ldmatrix tile lie in
 * different banks. */
template <int STEPS> DEV int chunk_at(int row, int chunk)
{
    constexpr int chunks = 2 * STEPS;
    return (row * chunks + (chunk ^ (row * chunks / 8 & (chunks - 1)))) * 16;
}

template <int STEPS> struct stage_of {
    enum { KEYS = STEPS == 4 ? 128 : 256, BYTES = KEYS * STEPS * 32 };
};

/* Keys first.. of the head; a key from `end` on is NaN, which no comparison takes for a score. */
template <int STEPS>
DEV void load_stage(unsigned char *stage, const struct select_head *h, int first, int end)
{
    uint32_t smem = dev_smem(stage);
    for (int i = (int)threadIdx.x; i < stage_of<STEPS>::KEYS * 2 * STEPS; i += THREADS) {
        int row = i / (2 * STEPS), chunk = i % (2 * STEPS), at = chunk_at<STEPS>(row, chunk);
        const uint16_t *key = h->k + (int64_t)(first + row) * h->pitch;
        bool there = chunk * 8 < h->pitch;
        if (first + row < end)
            dev_copy16(smem + at, there ? key + chunk * 8 : key, there ? 16 : 0);
        else
            *(uint4 *)(stage + at) = make_uint4(~0u, ~0u, ~0u, ~0u);
    }
    dev_copy_commit();
}

/* Scores of the strip's groups with keys row.. of the stage: c[0] keys 0 to 7, c[1] keys 8 to 15.
 */
template <int STEPS>
DEV void score16(float c[2][4], const uint32_t a[STEPS][4], uint32_t stage, int row, int lane)
{
#pragma unroll
    for (int i = 0; i < 8; i++)
        c[i / 4][i % 4] = 0;
#pragma unroll
    for (int s = 0; s < STEPS; s++) {
        uint32_t b[4];
        int at = chunk_at<STEPS>(lane % 8 + lane / 16 * 8, 2 * s + lane / 8 % 2);
        dev_ldmatrix4(b, stage + row * STEPS * 32 + at);
        dev_mma(c[0], a[s], b);
        dev_mma(c[1], a[s], b + 2);
    }
}

/* Calls each(stage, first key) for each stage of the block's keys, in order; `stages` is double. */
template <int STEPS, class F>
DEV void each_stage(unsigned char *stages, const struct select_head *h, int first, int last, F each)
{
    load_stage<STEPS>(stages, h, first, last);
    for (int at = first, n = 0; at < last; at += stage_of<STEPS>::KEYS, n ^= 1) {
        dev_copy_wait<0>();
        __syncthreads(); /* this stage is there, and nobody reads the other any more */
        if (at + stage_of<STEPS>::KEYS < last)
            load_stage<STEPS>(stages + (n ^ 1) * stage_of<STEPS>::BYTES, h,
                              at + stage_of<STEPS>::KEYS, last);
        each(dev_smem(stages + n * stage_of<STEPS>::BYTES), at);
    }
}

/* ---- where a block is ------------------------------------------------------------------------ */

DEV const struct select_head *head_of_tile(const struct select_call *c, int tile)
{
    int i = 0;
    while (i + 1 < c->heads && tile >= c->head[i + 1].first_tile)
        i++;
    return &c->head[i];
}

DEV const struct select_head *head_of_strip(const struct select_call *c, int strip)
{
    int i = 0;
    while (i + 1 < c->heads && strip >= c->head[i + 1].first_strip)
        i++;
    return &c->head[i];
}

DEV const struct select_head *head_of_group(const struct select_call *c, int64_t group)
{
    int i = 0;
    while (i + 1 < c->heads && group >= c->head[i + 1].first)
        i++;
    return &c->head[i];
}

/* ---- sample ---------------------------------------------------------------------------------- */

/* Sample i is one key at a scattered place in the i-th part of the keys, so that no regular pattern
 * of the tokens is met in step: where the part begins, in 2^-20 keys, and multiples of the golden
 * ratio. Both are only added up. */
struct sample {
    uint64_t part;
    uint32_t scatter;
};

DEV int sample_key(const struct select_head *h, struct sample s)
{
    uint64_t within = (uint64_t)s.scatter * (uint32_t)(h->sample_step >> 20) >> 32;
    return (int)(s.part >> 20) + (int)within;
}

/* Calls each(score, row 0 or 1 of the lane) for all samples, shared out among the warps; AHEAD
 * loads are under way at a time. */
template <int STEPS, class F>
DEV void each_sample(const struct select_head *h, const uint32_t a[STEPS][4], int warp, int lane,
                     F each)
{
    constexpr int AHEAD = STEPS == 1 ? 4 : STEPS == 2 ? 2 : 1;
    uint32_t first = (uint32_t)(warp * 8 + lane / 4);
    struct sample s = {first * h->sample_step, first * 2654435761u};
    for (int i = warp * 8; i < h->samples; i += AHEAD * WARPS * 8) {
        uint32_t b[AHEAD][STEPS][2];
#pragma unroll
        for (int n = 0; n < AHEAD; n++) {
            load_key<STEPS>(b[n], h, sample_key(h, s), lane);
            s.part += WARPS * 8 * h->sample_step;
            s.scatter += WARPS * 8 * 2654435761u;
        }
#pragma unroll
        for (int n = 0; n < AHEAD; n++) {
            float c[4];
            score8<STEPS>(c, a, b[n]);
#pragma unroll
            for (int j = 0; j < 4; j++)
                each(c[j], j / 2);
        }
    }
}

struct line {
    float scale, shift;
    bool good; /* finite, and fine enough */
};

/* The bin of a score inside the bracket; it grows with x, whatever is rounded. */
DEV uint32_t bin_of(float x, float scale, float shift)
{
    float at = fminf(fmaxf(fmaf(x, scale, shift), BIN_ZERO), BIN_ZERO + (BINS - 1));
    return __float_as_uint(at) - BIN_ZERO_BITS;
}

/* Coordinate BIN_ZERO at low, BIN_ZERO + bins at high. */
DEV struct line line_through(float low, float high, int bins)
{
    struct line l;
    l.scale = (float)bins / (high - low);
    l.shift = BIN_ZERO - low * l.scale;
    l.good = l.scale > 0 && l.scale < 1e37f && fabsf(low * l.scale) < BIN_ZERO / 2;
    return l;
}

/* Least and greatest sample of each group; every warp gets those of its lane's two rows. */
template <int STEPS>
DEV void sample_range(float low[2], float high[2], const struct select_head *h,
                      const uint32_t a[STEPS][4], float *room, int warp, int lane)
{
    low[0] = low[1] = INFINITY;
    high[0] = high[1] = -INFINITY;
    each_sample<STEPS>(h, a, warp, lane, [&](float x, int r) {
        low[r] = fminf(low[r], x);
        high[r] = fmaxf(high[r], x);
    });
    for (int r = 0; r < 2; r++) {
        for (int with = 1; with < 4; with *= 2) {
            low[r] = fminf(low[r], __shfl_xor_sync(~0u, low[r], with));
            high[r] = fmaxf(high[r], __shfl_xor_sync(~0u, high[r], with));
        }
        if (lane % 4 == 0) {
            room[warp * 32 + lane / 4 + 8 * r] = low[r];
            room[warp * 32 + lane / 4 + 8 * r + 16] = high[r];
        }
    }
    __syncthreads();
    for (int r = 0; r < 2; r++)
        for (int w = 0; w < WARPS; w++) {
            low[r] = fminf(low[r], room[w * 32 + lane / 4 + 8 * r]);
            high[r] = fmaxf(high[r], room[w * 32 + lane / 4 + 8 * r + 16]);
        }
}

/* The greatest bin from which on there are at least `rank` entries; -1 if there are not so many.
 * By a warp. */
DEV int bin_of_rank(const uint32_t *histogram, int bins, uint32_t rank, int lane)
{
    uint32_t above = 0;
    for (int first = bins - 32; first >= 0; first -= 32) {
        uint32_t sum = histogram[first + 31 - lane]; /* lane 0 has the greatest bin */
        for (int by = 1; by < 32; by *= 2) {
            uint32_t other = __shfl_up_sync(~0u, sum, by);
            sum += lane >= by ? other : 0;
        }
        unsigned reached = __ballot_sync(~0u, above + sum >= rank);
        if (reached)
            return first + 32 - __ffs((int)reached);
        above += __shfl_sync(~0u, sum, 31);
    }
    return -1;
}

/* A group's bracket from the histogram of its samples; by a warp. */
DEV void choose_bracket(struct select_state *s, const struct select_head *h,
                        const uint32_t *histogram, float low, float high, struct line l, int lane)
{
    float n = (float)h->samples, share = (float)h->keep / (float)h->keys;
    float spread = 5 * sqrtf(n * share * (1 - share)) + 1, rank = share * n;
    struct select_state out = {};
    float from = low, to = high;
    if (rank - spread < 1)
        out.ends |= OPEN_TOP;
    else /* less than rank - spread samples lie above the end of this bin */
        to = low +
             ((float)bin_of_rank(histogram, SAMPLE_BINS, (uint32_t)(rank - spread), lane) + 0.5f) /
                 l.scale;
    if (rank + spread > n - 1)
        out.ends |= OPEN_BOTTOM;
    else
        from =
            low + ((float)bin_of_rank(histogram, SAMPLE_BINS, (uint32_t)(rank + spread) + 1, lane) -
                   0.5f) /
                      l.scale;
    struct line bracket = line_through(from, to, BINS);
    out.low = from;
    out.high = to;
    out.scale = bracket.scale;
    out.shift = bracket.shift;
    if (!l.good || !bracket.good)
        out.ends = NEEDS_EXACT;
    if (lane == 0)
        *s = out;
}

template <int STEPS>
__global__ void __launch_bounds__(THREADS, STEPS == 1 ? BLOCKS : 2)
    select_sample(const __grid_constant__ struct select_call call)
{
    const struct select_head *h = head_of_strip(&call, (int)blockIdx.x);
    int first = ((int)blockIdx.x - h->first_strip) * STRIP;
    int warp = (int)threadIdx.x / 32, lane = (int)threadIdx.x % 32;
    if (h->samples == 0)
        return;
    uint32_t *histogram = (uint32_t *)dev_shared(); /* [STRIP][SAMPLE_BINS] */
    float *range = (float *)(histogram + STRIP * SAMPLE_BINS);
    for (int i = (int)threadIdx.x; i < STRIP * SAMPLE_BINS; i += THREADS)
        histogram[i] = 0;
    uint32_t a[STEPS][4];
    load_queries<STEPS>(a, h, call.rank, first, lane);
    float low[2], high[2];
    sample_range<STEPS>(low, high, h, a, range, warp, lane);
    struct line l[2] = {line_through(low[0], high[0], SAMPLE_BINS - 1),
                        line_through(low[1], high[1], SAMPLE_BINS - 1)};
    each_sample<STEPS>(h, a, warp, lane, [&](float x, int r) {
        float at = fminf(fmaxf(fmaf(x, l[r].scale, l[r].shift), BIN_ZERO), /* NaN: the first bin */
                         BIN_ZERO + (SAMPLE_BINS - 1));
        atomicAdd(
            &histogram[(lane / 4 + 8 * r) * SAMPLE_BINS + __float_as_uint(at) - BIN_ZERO_BITS], 1u);
    });
    __syncthreads();
    for (int row = warp; row < STRIP; row += WARPS) { /* warp w has rows w and w + 8: lane 4 w's */
        int64_t group = h->first + first + row;
        int from = 4 * warp, r = row / 8;
        struct line of = r ? l[1] : l[0]; /* no index at run time: arrays stay in registers */
        float lo = __shfl_sync(~0u, r ? low[1] : low[0], from);
        float hi = __shfl_sync(~0u, r ? high[1] : high[0], from);
        of.scale = __shfl_sync(~0u, of.scale, from);
        of.good = __shfl_sync(~0u, (int)of.good, from);
        if (first + row >= h->groups)
            break;
        choose_bracket(&call.state[group], h, histogram + row * SAMPLE_BINS, lo, hi, of, lane);
        for (int i = lane; i < BINS; i += 32)
            call.histogram[group * BINS + i] = 0;
    }
}

/* ---- count ----------------------------------------------------------------------------------- */

/* What one warp of count and mark works on: 16 groups and a part of the keys. */
struct strip {
    const struct select_head *h;
    struct select_state
        *state[2];          /* of the lane's two rows; NULL: no such group, or left to exact */
    int first, begin, last; /* group; keys */
    bool busy;              /* some row of the strip has work */
};

DEV bool strip_of(struct strip *p, const struct select_call *c, int lane) /* false: no keys */
{
    const struct select_head *h = head_of_tile(c, (int)blockIdx.x);
    int64_t begin = (int64_t)blockIdx.y * h->span;
    p->h = h;
    p->first = ((int)blockIdx.x - h->first_tile) * TILE + (int)threadIdx.x / 32 * STRIP;
    if (h->samples == 0 || begin >= h->keys)
        return false;
    p->begin = (int)begin;
    p->last = (int)min(begin + h->span, (int64_t)h->keys);
    for (int r = 0; r < 2; r++) {
        int group = p->first + lane / 4 + 8 * r;
        struct select_state *s = c->state + h->first + group;
        p->state[r] = group < h->groups && !(s->ends & NEEDS_EXACT) ? s : NULL;
    }
    p->busy = __any_sync(~0u, p->state[0] || p->state[1]);
    return true;
}

/* A lane's scores inside the bracket wait in shared memory, those of its first row from the front,
 * those of its second from the back, until some lane has no room for those of 32 keys more:
 * one histogram entry at a time would cost a jump each. */
struct queue {
    uint32_t start[2], next[2];
};

DEV struct queue queue_new(const float *warps, int lane) /* [QUEUE][32] of this warp */
{
    struct queue q;
    q.start[0] = q.next[0] = dev_smem(warps + lane);
    q.start[1] = q.next[1] = dev_smem(warps + (QUEUE - 1) * 32 + lane);
    return q;
}

/* histogram: [STRIP][BINS] of 16 bits */
DEV void queue_empty(struct queue *q, const float *warps, uint32_t *histogram, const float scale[2],
                     const float shift[2], int lane)
{
    for (int r = 0; r < 2; r++) {
        const float *x = warps + lane + (r ? (QUEUE - 1) * 32 : 0);
        int n = (int)(r ? q->start[r] - q->next[r] : q->next[r] - q->start[r]) / QUEUE_STEP;
        uint32_t *row = histogram + (lane / 4 + 8 * r) * (BINS / 2);
        for (int i = 0; i < n; i++) {
            uint32_t bin = bin_of(x[r ? -i * 32 : i * 32], scale[r], shift[r]);
            atomicAdd(&row[bin / 2], bin % 2 ? 0x10000u : 1u);
        }
        q->next[r] = q->start[r];
    }
}

/* 32 keys of the stage. */
template <int STEPS>
DEV void count32(uint32_t above[2], struct queue *q, const uint32_t a[STEPS][4], const float low[2],
                 const float high[2], uint32_t stage, int key, int lane)
{
#pragma unroll
    for (int half = 0; half < 2; half++) {
        float c[2][4];
        score16<STEPS>(c, a, stage, key + 16 * half, lane);
#pragma unroll
        for (int i = 0; i < 8; i++) {
            int r = i / 2 % 2;
            dev_sort_out(&above[r], &q->next[r], r ? -QUEUE_STEP : QUEUE_STEP, c[i / 4][i % 4],
                         low[r], high[r]);
        }
    }
}

/* Adds the strip's counts to those in memory; by the warp that made them. */
DEV void add_counts(const struct select_call *call, const struct strip *p,
                    const uint32_t *histogram, uint32_t above[2], int lane)
{
    for (int r = 0; r < 2; r++) {
        above[r] += __shfl_xor_sync(~0u, above[r], 1);
        above[r] += __shfl_xor_sync(~0u, above[r], 2);
        if (lane % 4 == 0 && p->state[r])
            atomicAdd(&p->state[r]->above, above[r]);
    }
    __syncwarp();
    uint32_t *to = call->histogram + (p->h->first + p->first) * BINS;
    for (int i = lane; i < min(STRIP, p->h->groups - p->first) * BINS; i += 32) {
        uint32_t n = histogram[i / 2] >> i % 2 * 16 & 0xffff;
        if (n)
            atomicAdd(&to[i], n);
    }
}

template <int STEPS>
__global__ void __launch_bounds__(THREADS, STEPS == 1 ? BLOCKS : 2)
    select_count(const __grid_constant__ struct select_call call)
{
    int warp = (int)threadIdx.x / 32, lane = (int)threadIdx.x % 32;
    struct strip p;
    if (!strip_of(&p, &call, lane))
        return;
    float *waiting = (float *)(dev_shared() + 2 * stage_of<STEPS>::BYTES) + warp * COUNT_WORDS;
    uint32_t *histogram = (uint32_t *)waiting + QUEUE * 32;
    for (int i = lane; i < STRIP * BINS / 2; i += 32)
        histogram[i] = 0;
    __syncwarp();
    struct queue q = queue_new(waiting, lane);
    float low[2], high[2], scale[2], shift[2]; /* a row without work: no score reaches NaN */
    uint32_t above[2] = {0, 0}, a[STEPS][4];
    for (int r = 0; r < 2; r++) {
        low[r] = p.state[r] ? p.state[r]->low : NAN;
        high[r] = p.state[r] ? p.state[r]->high : NAN;
        scale[r] = p.state[r] ? p.state[r]->scale : 0;
        shift[r] = p.state[r] ? p.state[r]->shift : 0;
    }
    load_queries<STEPS>(a, p.h, call.rank, p.first, lane);
    each_stage<STEPS>(dev_shared(), p.h, p.begin, p.last, [&](uint32_t stage, int) {
#pragma unroll 2
        for (int key = 0; p.busy && key < stage_of<STEPS>::KEYS; key += 32) {
            if (__any_sync(~0u, (int)(q.next[1] - q.next[0]) < (QUEUE / 2 - 1) * QUEUE_STEP))
                queue_empty(&q, waiting, histogram, scale, shift, lane);
            count32<STEPS>(above, &q, a, low, high, stage, key, lane);
        }
    });
    queue_empty(&q, waiting, histogram, scale, shift, lane);
    if (p.busy)
        add_counts(&call, &p, histogram, above, lane);
}

/* ---- choose ---------------------------------------------------------------------------------- */

/* The least score that lies in this bin or beyond, bin > 0. */
DEV float edge(float scale, float shift, int bin)
{
    uint32_t low = ordered(-INFINITY), high = ordered(INFINITY);
    while (low < high) {
        uint32_t middle = low + (high - low) / 2;
        if (bin_of(of_ordered(middle), scale, shift) >= (uint32_t)bin)
            high = middle;
        else
            low = middle + 1;
    }
    return of_ordered(low);
}

/* A warp's sum. */
DEV uint32_t sum_of(uint32_t x)
{
    for (int with = 16; with > 0; with /= 2)
        x += __shfl_xor_sync(~0u, x, with);
    return x;
}

/* The bin of the keep-th largest score. Lane l has bins 2 l and 2 l + 1. */
DEV void choose_bin(struct select_state *s, const uint32_t *histogram, const struct select_head *h,
                    int capacity, int lane)
{
    uint32_t bin[2] = {histogram[2 * lane], histogram[2 * lane + 1]};
    uint32_t above = s->above, below = (uint32_t)h->keys - above - sum_of(bin[0] + bin[1]);
    if (s->ends & OPEN_BOTTOM && lane == 0)
        bin[0] += below;
    if (s->ends & OPEN_TOP) {
        bin[1] += lane == 31 ? above : 0;
        above = 0;
    }
    uint32_t from = bin[0] + bin[1]; /* entries of this lane's bins and all greater ones */
    for (int by = 1; by < 32; by *= 2) {
        uint32_t other = __shfl_down_sync(~0u, from, by);
        from += lane + by < 32 ? other : 0;
    }
    uint32_t keep = (uint32_t)h->keep, beyond = above + from - bin[0] - bin[1];
    bool here = beyond < keep && keep <= above + from;
    int high = beyond + bin[1] >= keep; /* which of the two */
    uint32_t before = high ? beyond : beyond + bin[1];
    if (__ballot_sync(~0u, here) == 0) { /* the sample was wrong */
        if (lane == 0)
            s->ends = NEEDS_EXACT;
    } else if (here) {
        int at = 2 * lane + high;
        s->expected = bin[high];
        s->need = keep - before;
        s->from = at > 0                  ? fmaxf(s->low, edge(s->scale, s->shift, at))
                  : s->ends & OPEN_BOTTOM ? -INFINITY
                                          : s->low;
        s->top = at < BINS - 1        ? fminf(s->high, edge(s->scale, s->shift, at + 1))
                 : s->ends & OPEN_TOP ? NAN
                                      : s->high;
        if (s->expected > (uint32_t)capacity)
            s->ends = NEEDS_EXACT;
    }
}

__global__ void __launch_bounds__(THREADS)
    select_choose(const __grid_constant__ struct select_call call)
{
    int64_t group = (int64_t)blockIdx.x * WARPS + threadIdx.x / 32;
    if (group >= call.groups)
        return;
    const struct select_head *h = head_of_group(&call, group);
    if (h->samples && !(call.state[group].ends & NEEDS_EXACT))
        choose_bin(&call.state[group], call.histogram + group * BINS, h, call.capacity,
                   (int)threadIdx.x % 32);
}

/* ---- mark ------------------------------------------------------------------------------------ */

/* The four lanes of a quad have parts of the same four words: lane t gets the whole of word t. */
DEV uint32_t gather_words(const uint32_t part[4], int t)
{
    uint32_t two[2];
#pragma unroll
    for (int i = 0; i < 2; i++) {
        uint32_t other = __shfl_xor_sync(~0u, t & 2 ? part[i] : part[i + 2], 2);
        two[i] = (t & 2 ? part[i + 2] : part[i]) | other;
    }
    uint32_t other = __shfl_xor_sync(~0u, t & 1 ? two[0] : two[1], 1);
    return (t & 1 ? two[1] : two[0]) | other;
}

/* Of 32 keys of the stage: bit 8 i + j of at_top and at_from is key 8 i + 2 (lane % 4) + j. */
template <int STEPS>
DEV void compare32(uint32_t at_top[2], uint32_t at_from[2], const uint32_t a[STEPS][4],
                   const float top[2], const float from[2], uint32_t stage, int key, int lane)
{
    at_top[0] = at_top[1] = at_from[0] = at_from[1] = 0;
#pragma unroll
    for (int half = 0; half < 2; half++) {
        float c[2][4];
        score16<STEPS>(c, a, stage, key + 16 * half, lane);
#pragma unroll
        for (int i = 0; i < 8; i++) {
            int r = i / 2 % 2;
            uint32_t bit = 1u << (16 * half + i / 4 * 8 + i % 2);
            dev_flag(&at_top[r], c[i / 4][i % 4], top[r], bit);
            dev_flag(&at_from[r], c[i / 4][i % 4], from[r], bit);
        }
    }
}

/* Notes the keys of the set bits; bit 8 i + j is key first + 8 i + j. */
DEV void note_candidates(const struct select_call *c, struct select_state *s, uint32_t bits,
                         int first)
{
    for (; bits; bits &= bits - 1) {
        uint32_t n = atomicAdd(&s->found, 1u);
        if (n < (uint32_t)c->capacity)
            c->candidate[(s - c->state) * c->capacity + n] = first + __ffs((int)bits) - 1;
    }
}

/* 128 keys of the stage; the stage's first is key `at` of the head. */
template <int STEPS>
DEV void mark128(const struct select_call *call, const struct strip *p, const uint32_t a[STEPS][4],
                 const float top[2], const float from[2], uint32_t stage, int key, int at, int lane)
{
    int t = lane % 4;
    uint32_t word[2][4];
#pragma unroll
    for (int w = 0; w < 4; w++) {
        uint32_t at_top[2], at_from[2];
        compare32<STEPS>(at_top, at_from, a, top, from, stage, key + 32 * w, lane);
        word[0][w] = at_top[0] << 2 * t;
        word[1][w] = at_top[1] << 2 * t;
        if ((at_from[0] & ~at_top[0]) | (at_from[1] & ~at_top[1]))
            for (int r = 0; r < 2; r++)
                note_candidates(call, p->state[r], at_from[r] & ~at_top[r],
                                at + key + 32 * w + 2 * t);
    }
    int64_t to = (at + key) / 32 + t;
#pragma unroll
    for (int r = 0; r < 2; r++) {
        uint32_t bits = gather_words(word[r], t);
        if (p->state[r] && to < p->h->words)
            p->h->bitmap[(p->first + lane / 4 + 8 * r) * p->h->words + to] = bits;
    }
}

/* Zeros behind the last block of keys. */
DEV void clear_rest(const struct select_head *h, int first, int lane)
{
    int64_t from = (int64_t)(h->keys + BLOCK_KEYS - 1) / BLOCK_KEYS * (BLOCK_KEYS / 32);
    for (int row = first; row < min(first + STRIP, h->groups); row++)
        for (int64_t w = from + lane; w < h->words; w += 32)
            h->bitmap[row * h->words + w] = 0;
}

template <int STEPS>
__global__ void __launch_bounds__(THREADS, STEPS == 1 ? BLOCKS : 2)
    select_mark(const __grid_constant__ struct select_call call)
{
    int lane = (int)threadIdx.x % 32;
    struct strip p;
    if (!strip_of(&p, &call, lane))
        return;
    float top[2], from[2];
    for (int r = 0; r < 2; r++) {
        top[r] = p.state[r] ? p.state[r]->top : NAN; /* which no score reaches */
        from[r] = p.state[r] ? p.state[r]->from : NAN;
    }
    uint32_t a[STEPS][4];
    load_queries<STEPS>(a, p.h, call.rank, p.first, lane);
    each_stage<STEPS>(dev_shared(), p.h, p.begin, p.last, [&](uint32_t stage, int at) {
        for (int key = 0; p.busy && key < stage_of<STEPS>::KEYS && at + key < p.last;
             key += BLOCK_KEYS)
            mark128<STEPS>(&call, &p, a, top, from, stage, key, at, lane);
    });
    if (p.last == p.h->keys)
        clear_rest(p.h, p.first, lane);
}

/* ---- finish ---------------------------------------------------------------------------------- */

/* The candidates' scores and keys into shared memory. All rows of A are this group's. */
template <int STEPS>
DEV void load_candidates(float *score, int *key, const struct select_head *h, int rank, int group,
                         const int32_t *candidate, int n, int lane)
{
    uint32_t a[STEPS][4], b[STEPS][2];
    const uint16_t *q = h->q + (int64_t)group * rank;
#pragma unroll
    for (int i = 0; i < 4 * STEPS; i++)
        a[i / 4][i % 4] = pair_of(q, i / 4 * 16 + lane % 4 * 2 + i / 2 % 2 * 8, rank);
    for (int i = 0; i < n; i += 8) {
        float c[4];
        int at = i + 2 * (lane % 4);
        load_key<STEPS>(b, h, candidate[min(i + lane / 4, n - 1)], lane);
        score8<STEPS>(c, a, b);
        for (int j = 0; j < 2; j++)
            if (lane < 4 && at + j < n) {
                score[at + j] = c[j];
                key[at + j] = candidate[at + j];
            }
    }
    __syncwarp();
}

template <int STEPS>
__global__ void __launch_bounds__(THREADS)
    select_finish(const __grid_constant__ struct select_call call)
{
    int64_t group = (int64_t)blockIdx.x * WARPS + threadIdx.x / 32;
    int warp = (int)threadIdx.x / 32, lane = (int)threadIdx.x % 32;
    if (group >= call.groups)
        return;
    const struct select_head *h = head_of_group(&call, group);
    struct select_state *s = &call.state[group];
    if (h->samples == 0 || s->ends & NEEDS_EXACT)
        return;
    if (s->found != s->expected) { /* NaN scores are in no bin but the lowest's count */
        s->ends = NEEDS_EXACT;
        return;
    }
    float *score = (float *)dev_shared() + warp * 2 * call.capacity;
    int *key = (int *)(score + call.capacity), n = (int)s->found, row = (int)(group - h->first);
    load_candidates<STEPS>(score, key, h, call.rank, row, call.candidate + group * call.capacity, n,
                           lane);
    uint32_t *bitmap = h->bitmap + row * h->words;
    for (int i = lane; i < n; i += 32) {
        uint32_t before = 0;
        for (int j = 0; j < n; j++)
            before += score[j] > score[i] || (score[j] == score[i] && key[j] < key[i]);
        if (before < s->need)
            atomicOr(&bitmap[key[i] / 32], 1u << key[i] % 32);
        if (before == s->need - 1 && h->threshold)
            h->threshold[row] = score[i] + 0.0f;
    }
}

/* ---- exact ----------------------------------------------------------------------------------- */

struct exact_shared {
    uint32_t histogram[STRIP][RADIX];
    uint32_t prefix[STRIP], need[STRIP]; /* digits found so far; keys to take of those */
    uint32_t ties[EXACT_WARPS][STRIP];
};

/* Calls each(scores, first key) for 32 keys at a time of the warp's part of the keys: score[i][j]
 * is row j / 2, key 8 i + 2 (lane % 4) + j % 2. Keys beyond the last are the last. */
template <int STEPS, class F>
DEV void each_word(const struct select_head *h, const uint32_t a[STEPS][4], int warp, int lane,
                   F each)
{
    int64_t part = ((int64_t)h->keys + 32 * EXACT_WARPS - 1) / (32 * EXACT_WARPS) * 32;
    int64_t last = min(part * (warp + 1), (int64_t)h->keys);
    for (int64_t at = part * warp; at < last; at += 32) {
        float score[4][4];
#pragma unroll
        for (int i = 0; i < 4; i++) {
            uint32_t b[STEPS][2];
            int key = (int)min(at + 8 * i + lane / 4, (int64_t)h->keys - 1);
            load_key<STEPS>(b, h, key, lane);
            score8<STEPS>(score[i], a, b);
        }
        each(score, (int)at);
    }
}

/* Which of this lane's bits of the word at `at` are keys (bit 8 i + j as above). */
DEV uint32_t keys_of_lane(const struct select_head *h, int at, int lane)
{
    uint32_t all = h->keys - at >= 32 ? ~0u : (1u << (h->keys - at)) - 1;
    return all >> 2 * (lane % 4) & 0x03030303u;
}

/* Digit by digit from the top: the digit of the need-th largest among those with the prefix. One
 * warp a row. */
DEV void choose_digit(struct exact_shared *s, int row, int shift, int lane)
{
    uint32_t *histogram = s->histogram[row], need = s->need[row];
    int digit = bin_of_rank(histogram, RADIX, need, lane);
    uint32_t above = 0;
    for (int i = lane; i < RADIX; i += 32)
        above += i > digit ? histogram[i] : 0;
    above = sum_of(above);
    __syncwarp(); /* all have read need */
    if (lane == 0) {
        s->prefix[row] |= (uint32_t)digit << shift;
        s->need[row] = need - above;
    }
}

/* The exact threshold of every row into prefix, and how many of the keys that have it are taken. */
template <int STEPS>
DEV void radix_select(struct exact_shared *s, const struct select_head *h,
                      const uint32_t a[STEPS][4], int warp, int lane)
{
    if (threadIdx.x < STRIP) {
        s->prefix[threadIdx.x] = 0;
        s->need[threadIdx.x] = (uint32_t)h->keep;
    }
    for (int shift = 24; shift >= 0; shift -= 8) {
        for (int i = (int)threadIdx.x; i < STRIP * RADIX; i += 32 * EXACT_WARPS)
            s->histogram[i / RADIX][i % RADIX] = 0;
        __syncthreads();
        uint32_t mask = shift == 24 ? 0 : ~0u << (shift + 8);
        each_word<STEPS>(h, a, warp, lane, [&](const float score[4][4], int at) {
            uint32_t keys = keys_of_lane(h, at, lane);
#pragma unroll
            for (int i = 0; i < 16; i++) {
                int row = lane / 4 + i % 4 / 2 * 8;
                uint32_t u = ordered(score[i / 4][i % 4]);
                if (keys >> (i / 4 * 8 + i % 2) & 1 && (u & mask) == s->prefix[row])
                    atomicAdd(&s->histogram[row][u >> shift & (RADIX - 1)], 1u);
            }
        });
        __syncthreads();
        choose_digit(s, warp, shift, lane);
        __syncthreads();
    }
}

/* This lane's bits of row r: scores above the threshold, and at it. */
DEV void compare_exact(uint32_t *above, uint32_t *equal, const float score[4][4], int r,
                       uint32_t threshold)
{
    *above = *equal = 0;
#pragma unroll
    for (int i = 0; i < 8; i++) {
        uint32_t u = ordered(score[i / 2][2 * r + i % 2]), bit = 1u << (i / 2 * 8 + i % 2);
        *above |= u > threshold ? bit : 0;
        *equal |= u == threshold ? bit : 0;
    }
}

/* How many keys of each warp's part are at the threshold. */
template <int STEPS>
DEV void count_ties(struct exact_shared *s, const struct select_head *h, const uint32_t a[STEPS][4],
                    int warp, int lane)
{
    uint32_t ties[2] = {0, 0};
    each_word<STEPS>(h, a, warp, lane, [&](const float score[4][4], int at) {
        uint32_t keys = keys_of_lane(h, at, lane), above, equal;
#pragma unroll
        for (int r = 0; r < 2; r++) {
            compare_exact(&above, &equal, score, r, s->prefix[lane / 4 + 8 * r]);
            ties[r] += (uint32_t)__popc(equal & keys);
        }
    });
    for (int r = 0; r < 2; r++) {
        ties[r] += __shfl_xor_sync(~0u, ties[r], 1);
        ties[r] += __shfl_xor_sync(~0u, ties[r], 2);
        if (lane % 4 == 0)
            s->ties[warp][lane / 4 + 8 * r] = ties[r];
    }
    __syncthreads();
}

/* The lowest n set bits. */
DEV uint32_t lowest(uint32_t bits, int n)
{
    if (n <= 0)
        return 0;
    while (__popc(bits) > n)
        bits &= ~(0x80000000u >> __clz((int)bits));
    return bits;
}

DEV uint32_t or_of_quad(uint32_t x)
{
    x |= __shfl_xor_sync(~0u, x, 1);
    return x | __shfl_xor_sync(~0u, x, 2);
}

/* Bits above the threshold, and the first `need` at it. */
template <int STEPS>
DEV void mark_exact(const struct exact_shared *s, const struct select_head *h,
                    const uint32_t a[STEPS][4], const bool mine[2], int first, int warp, int lane)
{
    int room[2];
    for (int r = 0; r < 2; r++) {
        int row = lane / 4 + 8 * r;
        room[r] = (int)s->need[row];
        for (int w = 0; w < warp; w++)
            room[r] -= (int)s->ties[w][row];
    }
    each_word<STEPS>(h, a, warp, lane, [&](const float score[4][4], int at) {
        uint32_t keys = keys_of_lane(h, at, lane), above, equal;
#pragma unroll
        for (int r = 0; r < 2; r++) {
            int row = lane / 4 + 8 * r;
            compare_exact(&above, &equal, score, r, s->prefix[row]);
            above = or_of_quad((above & keys) << 2 * (lane % 4));
            equal = or_of_quad((equal & keys) << 2 * (lane % 4));
            uint32_t bits = above | lowest(equal, room[r]);
            room[r] -= __popc(equal);
            if (mine[r] && lane % 4 == r)
                h->bitmap[(first + row) * h->words + at / 32] = bits;
        }
    });
}

/* Zeros from word `from` on in the rows that are this block's. */
DEV void clear_exact(const struct select_head *h, unsigned rows, int first, int64_t from)
{
    for (int row = 0; row < STRIP; row++)
        for (int64_t w = from + threadIdx.x; rows >> row & 1 && w < h->words; w += 32 * EXACT_WARPS)
            h->bitmap[(first + row) * h->words + w] = 0;
}

template <int STEPS>
__global__ void __launch_bounds__(32 * EXACT_WARPS, STEPS == 1 ? 2 : 1)
    select_exact(const __grid_constant__ struct select_call call)
{
    const struct select_head *h = head_of_strip(&call, (int)blockIdx.x);
    int first = ((int)blockIdx.x - h->first_strip) * STRIP;
    int warp = (int)threadIdx.x / 32, lane = (int)threadIdx.x % 32, group = first + lane % STRIP;
    bool wanted =
        group < h->groups && (h->samples == 0 || call.state[h->first + group].ends & NEEDS_EXACT);
    unsigned rows = __ballot_sync(~0u, wanted) & 0xffffu;
    if (rows == 0)
        return;
    struct exact_shared *s = (struct exact_shared *)dev_shared();
    bool mine[2] = {(rows >> lane / 4 & 1) != 0, (rows >> (lane / 4 + 8) & 1) != 0};
    if (h->keep > 0) {
        uint32_t a[STEPS][4];
        load_queries<STEPS>(a, h, call.rank, first, lane);
        radix_select<STEPS>(s, h, a, warp, lane);
        count_ties<STEPS>(s, h, a, warp, lane);
        mark_exact<STEPS>(s, h, a, mine, first, warp, lane);
    }
    clear_exact(h, rows, first, h->keep > 0 ? (h->keys + 31) / 32 : 0);
    if (threadIdx.x < STRIP && wanted && h->threshold)
        h->threshold[group] = h->keep > 0 ? of_ordered(s->prefix[threadIdx.x]) : INFINITY;
}

/* ---- start ----------------------------------------------------------------------------------- */

struct select_kernels {
    size_t stages; /* bytes of shared memory */
    void (*sample)(struct select_call), (*count)(struct select_call), (*mark)(struct select_call),
        (*finish)(struct select_call), (*exact)(struct select_call);
};

template <int STEPS> static struct select_kernels kernels_of(void)
{
    return {2 * stage_of<STEPS>::BYTES, select_sample<STEPS>, select_count<STEPS>,
            select_mark<STEPS>,         select_finish<STEPS>, select_exact<STEPS>};
}

static struct select_kernels kernels_for(int rank)
{
    return rank <= 16 ? kernels_of<1>() : rank <= 32 ? kernels_of<2>() : kernels_of<4>();
}

struct select_grid {
    int tiles, strips, splits;
    bool fast; /* some head has enough keys */
};

static int clamped(int64_t x, int low, int high)
{
    return x < low ? low : x > high ? high : (int)x;
}

/* Into how many parts to split the keys of a tile, so that the processors are evenly loaded: a
 * block costs its stages and about one more. */
static int best_splits(int tiles, int keys, int slots)
{
    int stages = (keys + SPAN_STEP - 1) / SPAN_STEP, first = (keys + SPAN_MAX - 1) / SPAN_MAX;
    int best = first;
    int64_t least = INT64_MAX;
    for (int n = first; n <= stages && n < first + 256; n++) {
        int64_t rounds = ((int64_t)tiles * n + slots - 1) / slots;
        int64_t cost = rounds * ((stages + n - 1) / n + 1);
        if (cost < least) {
            least = cost;
            best = n;
        }
    }
    return best;
}

static struct select_head head_of(const struct kern_select_head *k, int rank)
{
    struct select_head h = {};
    h.q = k->q_lr;
    h.k = k->k_lr;
    h.pitch = rank;
    if (k->groups > 0 && k->keep > 0 && (rank % 8 || (uintptr_t)k->k_lr % 16)) {
        h.raw = k->k_lr;
        h.pitch = (rank + 7) / 8 * 8;
    }
    h.bitmap = k->bitmap;
    h.threshold = k->threshold;
    h.words = k->bitmap_words;
    h.groups = (int32_t)k->groups;
    h.keys = (int32_t)k->keys;
    h.keep = (int32_t)k->keep;
    if (h.keep > 0 && h.keys >= EXACT_KEYS) {
        h.samples =
            clamped(h.keys / SAMPLE_STEP, SAMPLES_MIN, SAMPLES_MAX) / SAMPLES_UNIT * SAMPLES_UNIT;
        h.sample_step = ((uint64_t)h.keys << 20) / (uint64_t)h.samples;
    }
    return h;
}

/* Room for twice the candidates that the bracket leads one to expect when scores are spread evenly
 * in it: at the worst keep, half of the keys. */
static int capacity_of(const struct select_head *h)
{
    if (!h->samples)
        return CANDIDATES_MIN;
    double bracket = 2 * 5 * 0.5 / sqrt((double)h->samples) + 2.0 / SAMPLE_BINS;
    int64_t room = (int64_t)(2 * h->keys * bracket / BINS);
    return clamped((room + 31) / 32 * 32, CANDIDATES_MIN, CANDIDATES_MAX);
}

static struct select_grid lay_out(struct select_call *c, int slots)
{
    struct select_grid g = {0, 0, 1, false};
    int keys = 0;
    for (int i = 0; i < c->heads; i++) {
        struct select_head *h = &c->head[i];
        h->first = c->groups;
        h->first_tile = g.tiles;
        h->first_strip = g.strips;
        c->groups += h->groups;
        g.tiles += (h->groups + TILE - 1) / TILE;
        g.strips += (h->groups + STRIP - 1) / STRIP;
        g.fast = g.fast || (h->samples && h->groups);
        keys = h->samples && h->keys > keys ? h->keys : keys;
        int room = capacity_of(h);
        c->capacity = room > c->capacity ? room : c->capacity;
    }
    if (g.fast)
        g.splits = best_splits(g.tiles, keys, slots);
    for (int i = 0; i < c->heads; i++) {
        int64_t part = (c->head[i].keys + g.splits - 1) / g.splits;
        c->head[i].span = (int32_t)((part + SPAN_STEP - 1) / SPAN_STEP * SPAN_STEP);
    }
    return g;
}

static cudaError_t launch_all(const struct select_call *c, const struct select_grid *g)
{
    struct select_kernels k = kernels_for(c->rank);
    dim3 tiles((unsigned)g->tiles, (unsigned)g->splits), strips((unsigned)g->strips);
    dim3 groups((unsigned)((c->groups + WARPS - 1) / WARPS));
    size_t sample = (STRIP * SAMPLE_BINS + WARPS * 2 * STRIP) * sizeof(uint32_t),
           candidates = (size_t)WARPS * 2 * (size_t)c->capacity * sizeof(uint32_t);
    cudaError_t bad = cudaSuccess;
    if (g->fast) {
        bad = dev_launch(k.sample, strips, THREADS, sample, CUDA_STREAM, *c);
        if (bad == cudaSuccess)
            bad = dev_launch(k.count, tiles, THREADS,
                             k.stages + WARPS * COUNT_WORDS * sizeof(uint32_t), CUDA_STREAM, *c);
        if (bad == cudaSuccess)
            bad = dev_launch(select_choose, groups, THREADS, 0, CUDA_STREAM, *c);
        if (bad == cudaSuccess)
            bad = dev_launch(k.mark, tiles, THREADS, k.stages, CUDA_STREAM, *c);
        if (bad == cudaSuccess)
            bad = dev_launch(k.finish, groups, THREADS, candidates, CUDA_STREAM, *c);
    }
    return bad != cudaSuccess ? bad
                              : dev_launch(k.exact, strips, 32 * EXACT_WARPS,
                                           sizeof(struct exact_shared), CUDA_STREAM, *c);
}

/* Where the scratch arrays begin in the block at `base`; returns their bytes. */
static size_t place_scratch(struct select_call *c, uintptr_t base, bool fast)
{
    size_t n = fast ? (size_t)c->groups : 0, at = 0;
    size_t parts[3] = {n * sizeof *c->state, n * BINS * sizeof *c->histogram,
                       n * (size_t)c->capacity * sizeof *c->candidate};
    uintptr_t begin[3];
    for (int i = 0; i < 3; i++) {
        begin[i] = base + at;
        at += (parts[i] + 255) / 256 * 256;
    }
    c->state = (struct select_state *)begin[0];
    c->histogram = (uint32_t *)begin[1];
    c->candidate = (int32_t *)begin[2];
    for (int i = 0; i < c->heads; i++)
        if (c->head[i].raw) {
            c->head[i].k = (const uint16_t *)(base + at);
            at += ((size_t)c->head[i].keys * (size_t)c->head[i].pitch * 2 + 255) / 256 * 256;
        }
    return at;
}

static cudaError_t launch_pad(const struct select_call *c)
{
    int64_t chunks = 0;
    for (int i = 0; i < c->heads; i++) {
        int64_t n = c->head[i].raw ? (int64_t)c->head[i].keys * (c->head[i].pitch / 8) : 0;
        chunks = n > chunks ? n : chunks;
    }
    dim3 grid((unsigned)((chunks + THREADS - 1) / THREADS), (unsigned)c->heads);
    return chunks ? dev_launch(select_pad, grid, dim3(THREADS), 0, CUDA_STREAM, *c) : cudaSuccess;
}

static bool select_batch(struct select_call *c, int slots, struct err *e)
{
    struct select_grid g = lay_out(c, slots);
    void *scratch = NULL;
    if (c->groups == 0)
        return true;
    if (!cuda_scratch(place_scratch(c, 0, g.fast), &scratch, "select", e))
        return false;
    place_scratch(c, (uintptr_t)scratch, g.fast);
    bool ok = cuda_ok(launch_pad(c), "select", e) && cuda_ok(launch_all(c, &g), "select", e);
    cuda_scratch_free(scratch);
    return ok;
}

static bool check(const struct kern_select *s, struct err *e)
{
    if (!kern_select_check(s, e))
        return false;
    for (int i = 0; i < s->head_count; i++) {
        const struct kern_select_head *h = &s->heads[i];
        if (h->groups > INT32_MAX - TILE || h->keys > KEYS_MAX)
            return err_set(e, ERR_INPUT, err_at_name("select"),
                           "head %d: %lld groups and %lld keys, want less than 2^31 and 2^30", i,
                           (long long)h->groups, (long long)h->keys);
        if (h->groups > 0 && h->keep > 0 &&
            (!cuda_aligned(h->q_lr, 2, i, "q_lr", e) || !cuda_aligned(h->k_lr, 2, i, "k_lr", e)))
            return false;
        if (h->groups > 0 && h->bitmap_words > 0 && !cuda_aligned(h->bitmap, 4, i, "bitmap", e))
            return false;
        if (h->threshold && !cuda_aligned(h->threshold, 4, i, "threshold", e))
            return false;
    }
    return true;
}

bool cuda_select(const struct kern_select *s, struct err *e)
{
    static const int64_t groups_at_once = 1 << 18; /* bounds the scratch: 0.6 GB */
    struct cuda_device d;
    if (!check(s, e) || !cuda_device(&d, e))
        return false;
    for (int i = 0; i < s->head_count;) {
        struct select_call c = {};
        int64_t groups = 0;
        c.rank = s->rank;
        do {
            groups += s->heads[i].groups;
            c.head[c.heads++] = head_of(&s->heads[i++], s->rank);
        } while (i < s->head_count && c.heads < HEADS &&
                 groups + s->heads[i].groups <= groups_at_once);
        if (!select_batch(&c, d.processors * BLOCKS, e))
            return false;
    }
    return true;
}
