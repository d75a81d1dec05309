/* Selection of critical keys: against sorting (the reference backend) and by properties. Usage as
 * test_kernels_attention. */
#include "tests/check.h"

#include <stdio.h>
#include <stdlib.h>

#include "base/rng.h"
#include "kernels/kern.h"

static const struct kern_backend *backend;
static const char *label;

struct scores {
    int rank;
    int64_t groups, keys, words;
    uint16_t *q, *k;
    uint32_t *bits;
    float *threshold;
};

static void *there(const void *here, size_t bytes)
{
    void *p = NULL;
    struct err e = {0};
    if (!backend->allocate(bytes, &p, &e) || !backend->put(p, here, bytes, &e)) {
        fprintf(stderr, "%s\n", e.text);
        exit(1);
    }
    return p;
}

static struct scores scores_new(int rank, int64_t groups, int64_t keys)
{
    struct scores s = {.rank = rank, .groups = groups, .keys = keys, .words = kern_words(keys) + 1};
    s.q = calloc((size_t)(groups * rank), sizeof *s.q);
    s.k = calloc((size_t)(keys * rank), sizeof *s.k);
    s.bits = calloc((size_t)(groups * s.words), sizeof *s.bits);
    s.threshold = calloc((size_t)groups, sizeof *s.threshold);
    return s;
}

static void scores_free(struct scores *s)
{
    free(s->q);
    free(s->k);
    free(s->bits);
    free(s->threshold);
}

static void fill_normal(uint16_t *x, int64_t n, const char *name)
{
    struct rng r = rng_stream(1, name, 0, 0, 0);
    for (int64_t i = 0; i < n; i++)
        x[i] = kern_bf16_of((float)rng_normal(&r));
}

/* Small whole numbers: every backend's sums are exact, and there are many ties. */
static void fill_whole(uint16_t *x, int64_t n, const char *name)
{
    struct rng r = rng_stream(2, name, 0, 0, 0);
    for (int64_t i = 0; i < n; i++)
        x[i] = kern_bf16_of((float)rng_below(&r, 7) - 3);
}

static bool choose(const struct kern_backend *b, struct scores *s, int64_t keep)
{
    size_t bits = (size_t)(s->groups * s->words) * sizeof *s->bits,
           groups = (size_t)s->groups * sizeof(float);
    memset(s->bits, 0xff, bits);
    struct kern_select_head h = {
        .groups = s->groups, .keys = s->keys, .keep = keep, .bitmap_words = s->words};
    void *q = there(s->q, (size_t)(s->groups * s->rank) * 2),
         *k = there(s->k, (size_t)(s->keys * s->rank) * 2);
    void *map = there(s->bits, bits), *threshold = there(s->threshold, groups);
    h.q_lr = q, h.k_lr = k, h.bitmap = map, h.threshold = threshold;
    struct kern_select call = {.rank = s->rank, .head_count = 1, .heads = &h};
    struct err e = {0};
    bool ok = b->select(&call, &e) && b->wait(&e) && b->get(s->bits, map, bits, &e) &&
              b->get(s->threshold, threshold, groups, &e);
    gsl_test(!ok, "%s: select %lld of %lld: %s", label, (long long)keep, (long long)s->keys,
             e.text);
    b->release(q);
    b->release(k);
    b->release(map);
    b->release(threshold);
    return ok;
}

static bool has(const struct scores *s, int64_t g, int64_t j)
{
    return s->bits[g * s->words + j / 32] >> j % 32 & 1;
}

static int64_t count_of(const struct scores *s, int64_t g)
{
    int64_t n = 0;
    for (int64_t w = 0; w < s->words; w++)
        n += __builtin_popcount(s->bits[g * s->words + w]);
    return n;
}

static double score_of(const struct scores *s, int64_t g, int64_t j)
{
    double sum = 0;
    for (int d = 0; d < s->rank; d++)
        sum += (double)kern_float_of(s->q[g * s->rank + d]) *
               (double)kern_float_of(s->k[j * s->rank + d]);
    return sum;
}

/* Selected scores lie above all others but for the rounding of fp32 sums. */
static void expect_best(const struct scores *s, int64_t keep, double slack, const char *what)
{
    for (int64_t g = 0; g < s->groups; g++) {
        gsl_test(count_of(s, g) != keep, "%s: %s: group %lld selects %lld keys", label, what,
                 (long long)g, (long long)keep);
        double least = (double)INFINITY, most = -(double)INFINITY;
        for (int64_t j = 0; j < s->keys; j++) {
            double x = score_of(s, g, j);
            if (has(s, g, j))
                least = x < least ? x : least;
            else
                most = x > most ? x : most;
        }
        gsl_test(!(least >= most - slack), "%s: %s: group %lld: worst chosen %g, best left out %g",
                 label, what, (long long)g, least, most);
    }
}

static void the_best_keys_are_chosen_at_every_size(void)
{
    static const int64_t keys[] = {1, 31, 32, 33, 1000, 4095, 4096, 5000, 20000};
    for (size_t i = 0; i < sizeof keys / sizeof *keys; i++) {
        int64_t n = keys[i], keeps[] = {0, 1, n / 12, n / 2, n - 1, n};
        struct scores s = scores_new(16, 5, n);
        fill_normal(s.q, 5 * 16, "q");
        fill_normal(s.k, n * 16, "k");
        for (int k = 0; k < 6; k++)
            if (choose(backend, &s, keeps[k]))
                expect_best(&s, keeps[k], 1e-4, "normal scores");
        scores_free(&s);
    }
}

/* Chooses with both backends; scores must be exact. */
static void expect_reference(struct scores *s, int64_t keep, const char *what)
{
    struct err e = {0};
    size_t bytes = (size_t)(s->groups * s->words) * sizeof *s->bits,
           floats = (size_t)s->groups * sizeof(float);
    uint32_t *bits = malloc(bytes);
    float *threshold = malloc(floats);
    struct kern_select_head h = {.groups = s->groups,
                                 .keys = s->keys,
                                 .keep = keep,
                                 .q_lr = s->q,
                                 .k_lr = s->k,
                                 .bitmap = bits,
                                 .bitmap_words = s->words,
                                 .threshold = threshold};
    struct kern_select call = {.rank = s->rank, .head_count = 1, .heads = &h};
    gsl_test(!kern_backend_of("reference", &e)->select(&call, &e), "reference: %s", e.text);
    choose(backend, s, keep);
    gsl_test(memcmp(s->bits, bits, bytes) != 0, "%s: %s, rank %d, %lld of %lld: same bitmap", label,
             what, s->rank, (long long)keep, (long long)s->keys);
    gsl_test(memcmp(s->threshold, threshold, floats) != 0,
             "%s: %s, rank %d, %lld of %lld: same threshold", label, what, s->rank, (long long)keep,
             (long long)s->keys);
    free(bits);
    free(threshold);
}

/* 8% of half a million keys, as for a long video: the sum of set bits over the groups is that of K
 * (expect_best). */
static void the_best_of_half_a_million_are_chosen(void)
{
    int64_t n = 520000, keep = n * 8 / 100;
    struct scores s = scores_new(16, 3, n);
    fill_normal(s.q, 3 * 16, "q");
    fill_normal(s.k, n * 16, "k");
    if (choose(backend, &s, keep))
        expect_best(&s, keep, 1e-4, "520,000 keys");
    scores_free(&s);
}

static void exact_scores_with_ties_give_the_reference_byte_for_byte(void)
{
    static const int ranks[] = {1, 3, 16, 64};
    for (int i = 0; i < 4; i++)
        for (int64_t keep = 0; keep <= 6000; keep += 1500) {
            struct scores s = scores_new(ranks[i], 6, 6000);
            fill_whole(s.q, 6 * ranks[i], "q");
            fill_whole(s.k, 6000 * (int64_t)ranks[i], "k");
            expect_reference(&s, keep, "ties");
            scores_free(&s);
        }
}

/* Whole numbers up to 127: sums up to 2^20 are exact, and few are alike. */
static void fill_wide(uint16_t *x, int64_t n, const char *name)
{
    struct rng r = rng_stream(3, name, 0, 0, 0);
    for (int64_t i = 0; i < n; i++)
        x[i] = kern_bf16_of((float)rng_below(&r, 255) - 127);
}

static void exact_scores_of_any_rank_give_the_reference_byte_for_byte(void)
{
    static const struct {
        int rank;
        int64_t groups, keys, keep;
    } cases[] = {{16, 145, 4999, 400}, {16, 17, 8192, 1},   {16, 3, 8193, 8192},
                 {8, 5, 4096, 4000},   {17, 18, 4500, 450}, {24, 4, 5000, 77},
                 {32, 4, 5000, 2500},  {33, 4, 4200, 420},  {40, 20, 4300, 300},
                 {64, 16, 4100, 1000}, {5, 2, 70000, 7000}, {2, 1, 5000, 600}};
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        struct scores s = scores_new(cases[i].rank, cases[i].groups, cases[i].keys);
        fill_wide(s.q, s.groups * s.rank, "q");
        fill_wide(s.k, s.keys * s.rank, "k");
        expect_reference(&s, cases[i].keep, "wide");
        scores_free(&s);
    }
}

/* Heads of all sizes in one call, with and without a threshold, at addresses that are multiples of
 * 2 only. Each must be as if alone. */
static void many_heads_are_chosen_in_one_call(void)
{
    enum { HEADS = 35, RANK = 16 };
    struct scores s[HEADS];
    struct kern_select_head h[HEADS];
    uint32_t *bits[HEADS];
    void *mine[HEADS][4];
    struct err e = {0};
    for (int i = 0; i < HEADS; i++) {
        int64_t keys = i % 7 == 3 ? 4096 + 67 * i : 13 * i, groups = i % 5 * (i % 3 + 1);
        s[i] = scores_new(RANK, groups, keys);
        uint16_t *q = calloc((size_t)groups * RANK + 1, 2), *k = calloc((size_t)keys * RANK + 1, 2);
        fill_wide(q + i % 2, groups * RANK, "q");
        fill_wide(k + i % 2, keys * RANK, "k");
        memcpy(s[i].q, q + i % 2, (size_t)(groups * RANK) * 2);
        memcpy(s[i].k, k + i % 2, (size_t)(keys * RANK) * 2);
        size_t bytes = (size_t)(groups * s[i].words) * sizeof *s[i].bits;
        mine[i][0] = there(q, ((size_t)groups * RANK + 1) * 2);
        mine[i][1] = there(k, ((size_t)keys * RANK + 1) * 2);
        mine[i][2] = there(s[i].bits, bytes);
        mine[i][3] = there(s[i].threshold, (size_t)groups * sizeof(float));
        bits[i] = malloc(bytes + 1);
        h[i] = (struct kern_select_head){.groups = groups,
                                         .keys = keys,
                                         .keep = keys / (i % 4 + 1),
                                         .q_lr = (uint16_t *)mine[i][0] + i % 2,
                                         .k_lr = (uint16_t *)mine[i][1] + i % 2,
                                         .bitmap = mine[i][2],
                                         .bitmap_words = s[i].words,
                                         .threshold = i % 3 ? mine[i][3] : NULL};
        free(q);
        free(k);
    }
    struct kern_select call = {.rank = RANK, .head_count = HEADS, .heads = h};
    gsl_test(!backend->select(&call, &e) || !backend->wait(&e), "%s: %d heads: %s", label, HEADS,
             e.text);
    for (int i = 0; i < HEADS; i++) {
        size_t bytes = (size_t)(s[i].groups * s[i].words) * sizeof *s[i].bits;
        backend->get(bits[i], mine[i][2], bytes, &e);
        if (s[i].groups > 0 && s[i].keys > 0) {
            expect_reference(&s[i], h[i].keep, "one of many heads");
            gsl_test(memcmp(bits[i], s[i].bits, bytes) != 0, "%s: head %d as if alone", label, i);
        }
        for (int m = 0; m < 4; m++)
            backend->release(mine[i][m]);
        free(bits[i]);
        scores_free(&s[i]);
    }
}

/* One column of K is given the scores themselves (q = 1). */
static struct scores column(int64_t n, float (*score)(int64_t))
{
    struct scores s = scores_new(1, 2, n);
    s.q[0] = s.q[1] = kern_bf16_of(1);
    for (int64_t j = 0; j < n; j++)
        s.k[j] = kern_bf16_of(score(j));
    return s;
}

static float constant(int64_t j)
{
    (void)j;
    return 2.5f;
}

static float one_outlier(int64_t j)
{
    return j == 7777 ? 3.0f : -1.0f;
}

static float huge_range(int64_t j)
{
    return ldexpf(j % 2 ? -1.0f : 1.0f, (int)(j * 37 % 200) - 100);
}

static float some_nan(int64_t j)
{
    return j % 3 == 0 ? NAN : (float)(j % 101);
}

/* Few finite scores, and infinities of both signs. */
static float mostly_nan(int64_t j)
{
    return j % 5 == 0      ? (float)(j % 97)
           : j % 1001 == 0 ? INFINITY
           : j % 1003 == 0 ? -INFINITY
                           : NAN;
}

/* A few keys a thousand times as large as the rest. */
static float heavy_tail(int64_t j)
{
    float x = (float)(j * 7919 % 5003) / 5003.0f;
    return j % 1511 == 0 ? 1000 + x : x;
}

static void constant_scores_choose_the_first_keys(void)
{
    struct scores s = column(9000, constant);
    choose(backend, &s, 4321);
    for (int64_t j = 0; j < s.keys; j++)
        if (has(&s, 1, j) != (j < 4321)) {
            gsl_test(1, "%s: constant scores: key %lld", label, (long long)j);
            break;
        }
    gsl_test_abs((double)s.threshold[0], 2.5, 0, "%s: threshold of constant scores", label);
    scores_free(&s);
}

static void adversarial_scores_are_still_exact(void)
{
    struct scores s = column(10000, one_outlier);
    choose(backend, &s, 2);
    gsl_test(!has(&s, 0, 7777) || !has(&s, 0, 0) || count_of(&s, 0) != 2,
             "%s: the outlier and the first", label);
    scores_free(&s);
    s = column(10000, huge_range);
    choose(backend, &s, 3000);
    expect_best(&s, 3000, 0, "200 binades");
    scores_free(&s);
}

static void special_scores_give_the_reference_byte_for_byte(void)
{
    static const int64_t keeps[] = {1, 9, 1500, 3000, 8999, 9000};
    for (int i = 0; i < 6; i++) {
        struct scores s = column(9000, mostly_nan);
        expect_reference(&s, keeps[i], "mostly NaN");
        scores_free(&s);
        s = column(9000, heavy_tail);
        expect_reference(&s, keeps[i], "heavy tail");
        scores_free(&s);
    }
}

/* 256 a + b from two columns: a heavy tail without ties. */
static void a_heavy_tail_without_ties_gives_the_reference_byte_for_byte(void)
{
    struct scores s = scores_new(2, 2, 12000);
    for (int g = 0; g < 2; g++)
        s.q[2 * g] = kern_bf16_of(256), s.q[2 * g + 1] = kern_bf16_of(g ? -1.0f : 1.0f);
    for (int64_t j = 0; j < s.keys; j++) {
        int64_t n = j * 7919 % 12007;
        s.k[2 * j] = kern_bf16_of((float)(n < 100 ? n + 150 : n % 50));
        s.k[2 * j + 1] = kern_bf16_of((float)(n / 50));
    }
    for (int64_t keep = 50; keep < s.keys; keep *= 3)
        expect_reference(&s, keep, "256 a + b");
    scores_free(&s);
}

static void nan_scores_come_last(void)
{
    struct scores s = column(9000, some_nan);
    choose(backend, &s, 6000);
    for (int64_t j = 0; j < s.keys; j++)
        if (has(&s, 0, j) != (j % 3 != 0)) {
            gsl_test(1, "%s: NaN scores: key %lld", label, (long long)j);
            break;
        }
    scores_free(&s);
}

static void expect_refused(const struct kern_select *s, const char *what)
{
    struct err e = {0};
    gsl_test(backend->select(s, &e) || e.code != ERR_INPUT, "%s: %s: %s", label, what, e.text);
}

static void bad_counts_are_refused(void)
{
    uint16_t x[4] = {0};
    uint32_t bits[1];
    struct kern_select_head h = {
        .groups = 1, .keys = 4, .keep = 5, .q_lr = x, .k_lr = x, .bitmap = bits, .bitmap_words = 1};
    struct kern_select s = {.rank = 1, .head_count = 1, .heads = &h};
    expect_refused(&s, "5 of 4 keys");
    s.rank = 100;
    expect_refused(&s, "rank 100");
    s.rank = 1, h.keep = -1;
    expect_refused(&s, "-1 keys");
    h.keep = 2, h.bitmap_words = 0;
    expect_refused(&s, "no room for bits");
    h.bitmap_words = 1, s.heads = NULL;
    expect_refused(&s, "heads that are nowhere");
    s.heads = &h;
    if (backend->host)
        return;
    h.k_lr = NULL;
    expect_refused(&s, "no keys' address");
    h.k_lr = x, h.q_lr = NULL;
    expect_refused(&s, "no queries' address");
    h.q_lr = (uint16_t *)((char *)x + 1);
    expect_refused(&s, "queries at an odd address");
    h.q_lr = x, h.bitmap = NULL;
    expect_refused(&s, "no bitmap");
    h.bitmap = (uint32_t *)((char *)bits + 2);
    expect_refused(&s, "a bitmap beside its place");
    h.bitmap = bits, h.threshold = (float *)((char *)bits + 2);
    expect_refused(&s, "thresholds beside their place");
}

int main(int argc, char **argv)
{
    const char *name = argc > 1 ? argv[1] : "cpu", *isa = strchr(name, '/');
    char base[32];
    snprintf(base, sizeof base, "%.*s", isa ? (int)(isa - name) : (int)strlen(name), name);
    if (isa)
        setenv("SHARDWISE_CPU_ISA", isa + 1, 1);
    struct err e = {0};
    backend = kern_backend_of(base, &e);
    label = name;
    struct kern_select none = {.rank = 1};
    if (!backend || !backend->select(&none, &e)) {
        printf("skipped: %s: %s\n", name, e.text);
        return 77;
    }
    the_best_keys_are_chosen_at_every_size();
    the_best_of_half_a_million_are_chosen();
    exact_scores_with_ties_give_the_reference_byte_for_byte();
    exact_scores_of_any_rank_give_the_reference_byte_for_byte();
    many_heads_are_chosen_in_one_call();
    constant_scores_choose_the_first_keys();
    special_scores_give_the_reference_byte_for_byte();
    a_heavy_tail_without_ties_gives_the_reference_byte_for_byte();
    adversarial_scores_are_still_exact();
    nan_scores_come_last();
    bad_counts_are_refused();
    return gsl_test_summary();
}
