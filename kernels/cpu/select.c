/* Critical keys on the CPU: scores of four groups at a time stay in the cache; the exact threshold
 * comes from a sampled bracket and a radix selection of the few scores inside it. */
#include "kernels/cpu/cpu.h"

#include <stdlib.h>

#include "kernels/cpu/tile.h"

enum { SELECT_GROUPS = 4, SAMPLES = 1024, RADIX_BITS = 11, RADIX = 1 << RADIX_BITS };

/* Order-preserving: a < b as floats exactly if key(a) < key(b); -0 is made +0. */
static uint32_t key_of(float x)
{
    x += 0.0f;
    uint32_t bits;
    memcpy(&bits, &x, sizeof bits);
    return bits & 0x80000000u ? ~bits : bits | 0x80000000u;
}

static float float_of(uint32_t key)
{
    uint32_t bits = key & 0x80000000u ? key & 0x7fffffffu : ~key;
    float x;
    memcpy(&x, &bits, sizeof x);
    return x;
}

/* Radix selection by digits of 11, 11 and 10 bits from the top: three passes whatever the values
 * are. */
static float radix_select(const float *x, int64_t n, int64_t keep)
{
    uint32_t prefix = 0, mask = 0;
    for (int shift = 32 - RADIX_BITS; mask != 0xffffffffu;
         shift = shift > RADIX_BITS ? shift - RADIX_BITS : 0) {
        uint32_t digit = ~mask >> shift << shift;
        int64_t count[RADIX] = {0};
        for (int64_t i = 0; i < n; i++) {
            uint32_t key = key_of(x[i]);
            count[(key & digit) >> shift] += (key & mask) == prefix;
        }
        uint32_t d = digit >> shift;
        while (count[d] < keep)
            keep -= count[d--];
        prefix |= d << shift;
        mask |= digit;
    }
    return float_of(prefix);
}

/* Bracket [lo, hi) that holds the keep-th largest with high probability: four standard deviations
 * around its rank in every n/SAMPLES-th value. */
static void sample_bracket(const float *x, int64_t n, int64_t keep, float *lo, float *hi)
{
    float sample[SAMPLES];
    for (int64_t i = 0; i < SAMPLES; i++)
        sample[i] = x[i * n / SAMPLES];
    double share = (double)keep / (double)n, rank = share * SAMPLES;
    double spread = 4 * sqrt(SAMPLES * share * (1 - share)) + 1;
    int64_t above = (int64_t)(rank - spread), below = (int64_t)(rank + spread) + 1;
    *hi = above < 1 ? INFINITY : radix_select(sample, SAMPLES, above);
    *lo = below > SAMPLES ? -INFINITY : radix_select(sample, SAMPLES, below);
}

static float nth_largest(const struct tile_isa *isa, const float *x, int64_t n, int64_t keep,
                         float *room)
{
    if (n < 4 * SAMPLES)
        return radix_select(x, n, keep);
    float lo, hi;
    int64_t inside;
    sample_bracket(x, n, keep, &lo, &hi);
    int64_t above = isa->bracket(x, n, lo, hi, room, n, &inside);
    if (above < keep && keep <= above + inside)
        return radix_select(room, inside, keep - above);
    return radix_select(x, n, keep);
}

/* Adds the first `missing` keys whose score equals the threshold. */
static void take_ties(const float *x, int64_t n, float threshold, int64_t missing, uint32_t *bits)
{
    for (int64_t i = 0; i < n && missing > 0; i++)
        if (x[i] == threshold) {
            bits[i / 32] |= 1u << i % 32;
            missing--;
        }
}

struct selection {
    const struct tile_isa *isa;
    int rank;
    int64_t padded;  /* keys, up to whole panels */
    const float *kt; /* panels [rank][panel] of K_lr */
};

static void choose(const struct selection *s, const struct kern_select_head *h, int64_t group,
                   const float *x, float *room)
{
    uint32_t *bits = h->bitmap + group * h->bitmap_words;
    float threshold = INFINITY;
    memset(bits, 0, (size_t)h->bitmap_words * sizeof *bits);
    if (h->keep > 0) {
        int64_t set, equal;
        threshold = nth_largest(s->isa, x, h->keys, h->keep, room);
        s->isa->above(x, h->keys, threshold, bits, &set, &equal);
        take_ties(x, h->keys, threshold, h->keep - set, bits);
    }
    if (h->threshold)
        h->threshold[group] = threshold;
}

static void select_groups(const struct selection *s, const struct kern_select_head *h,
                          int64_t first, float *room)
{
    float q[SELECT_GROUPS * KERN_RANK_MAX] = {0};
    int n = h->groups - first < SELECT_GROUPS ? (int)(h->groups - first) : SELECT_GROUPS;
    for (int i = 0; i < n * s->rank; i++)
        q[i] = kern_float_of(h->q_lr[first * s->rank + i]);
    s->isa->scores(q, n, s->rank, s->kt, h->keys, room, s->padded);
    for (int g = 0; g < n; g++)
        choose(s, h, first + g, room + g * s->padded, room + SELECT_GROUPS * s->padded);
}

static void transpose_keys(const struct selection *s, const struct kern_select_head *h, float *kt)
{
    int64_t panel = s->isa->panel;
#pragma omp parallel for schedule(static)
    for (int64_t at = 0; at < s->padded; at += panel)
        for (int64_t j = 0; j < panel; j++)
            for (int d = 0; d < s->rank; d++)
                kt[at * s->rank + d * panel + j] =
                    at + j < h->keys ? kern_float_of(h->k_lr[(at + j) * s->rank + d]) : 0;
}

static bool select_head(const struct tile_isa *isa, int rank, const struct kern_select_head *h,
                        struct err *e)
{
    int threads = cpu_threads();
    struct selection s = {
        .isa = isa, .rank = rank, .padded = kern_groups(h->keys, isa->panel) * isa->panel};
    size_t room_floats = (size_t)(SELECT_GROUPS + 1) * (size_t)s.padded;
    void *kt = NULL, *room = NULL;
    bool ok = cpu_allocate((size_t)s.padded * (size_t)rank * sizeof(float), &kt, e) &&
              cpu_allocate((size_t)threads * room_floats * sizeof(float), &room, e);
    if (ok) {
        transpose_keys(&s, h, kt);
        s.kt = kt;
#pragma omp parallel for schedule(dynamic, 1) num_threads(threads)
        for (int64_t g = 0; g < h->groups; g += SELECT_GROUPS)
            select_groups(&s, h, g, (float *)room + (size_t)cpu_thread() * room_floats);
    }
    free(kt);
    free(room);
    return ok;
}

bool cpu_select(const struct kern_select *s, struct err *e)
{
    if (!kern_select_check(s, e))
        return false;
    const struct tile_isa *isa = cpu_isa(e);
    if (!isa)
        return false;
    for (int h = 0; h < s->head_count; h++)
        if (!select_head(isa, s->rank, &s->heads[h], e))
            return false;
    return true;
}
