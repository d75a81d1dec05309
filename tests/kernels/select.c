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
    struct err e = {0};
    for (int i = 0; i < 4; i++)
        for (int64_t keep = 0; keep <= 6000; keep += 1500) {
            struct scores s = scores_new(ranks[i], 6, 6000), r = s;
            fill_whole(s.q, 6 * ranks[i], "q");
            fill_whole(s.k, 6000 * (int64_t)ranks[i], "k");
            size_t bytes = (size_t)(s.groups * s.words) * sizeof *s.bits;
            r.bits = malloc(bytes);
            r.threshold = malloc((size_t)s.groups * sizeof(float));
            memset(r.bits, 0, bytes);
            struct kern_select_head h = {.groups = 6,
                                         .keys = 6000,
                                         .keep = keep,
                                         .q_lr = s.q,
                                         .k_lr = s.k,
                                         .bitmap = r.bits,
                                         .bitmap_words = s.words,
                                         .threshold = r.threshold};
            struct kern_select call = {.rank = ranks[i], .head_count = 1, .heads = &h};
            gsl_test(!kern_backend_of("reference", &e)->select(&call, &e), "reference: %s", e.text);
            choose(backend, &s, keep);
            gsl_test(memcmp(s.bits, r.bits, bytes) != 0, "%s: rank %d, %lld of 6000: same bitmap",
                     label, ranks[i], (long long)keep);
            gsl_test(memcmp(s.threshold, r.threshold, 6 * sizeof(float)) != 0, "%s: same threshold",
                     label);
            free(r.bits);
            free(r.threshold);
            scores_free(&s);
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

static void bad_counts_are_refused(void)
{
    uint16_t x[4] = {0};
    uint32_t bits[1];
    struct kern_select_head h = {
        .groups = 1, .keys = 4, .keep = 5, .q_lr = x, .k_lr = x, .bitmap = bits, .bitmap_words = 1};
    struct kern_select s = {.rank = 1, .head_count = 1, .heads = &h};
    struct err e = {0}, wide = {0};
    gsl_test(backend->select(&s, &e) || e.code != ERR_INPUT, "%s: 5 of 4 keys: %s", label, e.text);
    s.rank = 100;
    gsl_test(backend->select(&s, &wide) || wide.code != ERR_INPUT, "%s: rank 100: %s", label,
             wide.text);
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
    constant_scores_choose_the_first_keys();
    adversarial_scores_are_still_exact();
    nan_scores_come_last();
    bad_counts_are_refused();
    return gsl_test_summary();
}
