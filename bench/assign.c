/* Heads to ranks: share proved, steps, CPU time, what LPT loses and what splitting heads gains, on
 * seeded families of instances.
 *
 * Usage: bench_assign [plan|exact|split [heads ranks [instances]]]
 *
 * "plan" is what the planner uses (default limits), "exact" goes on to the true optimum with as
 * many steps as fit into a second on this machine (measured at the start), "split" is assign_split.
 * gap: cost over proved bound. gain: over LPT (plan, exact) or over whole heads (split). steps: of
 * the search, or extra pieces (split). */
#include <math.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include <gsl/gsl_cdf.h>

#include "base/rng.h"
#include "planner/assign.h"
#include "tests/planner/dsv_heads.h"

static double cpu_s(void)
{
    struct timespec t;
    clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &t);
    return (double)t.tv_sec + 1e-9 * (double)t.tv_nsec;
}

/* --- families: keep of one head in instance i --- */

enum { MOST = 256 };

/* Beta with mean 0.1 and coefficient of variation cv, by inversion. */
static double beta(struct rng *r, double cv)
{
    double mean = 0.1, ab = (1 - mean) / (mean * cv * cv) - 1;
    return gsl_cdf_beta_Pinv(rng_uniform(r), mean * ab, (1 - mean) * ab);
}

static double beta_056(struct rng *r, int i)
{
    (void)i;
    return beta(r, 0.56);
}

static double beta_100(struct rng *r, int i)
{
    (void)i;
    return beta(r, 1.0);
}

static double beta_150(struct rng *r, int i)
{
    (void)i;
    return beta(r, 1.5);
}

static double tiles_of(double keep)
{
    return 0.0223 + ceil(keep * 1000) /
                        1000; /* 128,000 keys in tiles of 128, after a time that every head takes */
}

static double tiles_056(struct rng *r, int i)
{
    (void)i;
    return tiles_of(beta(r, 0.56));
}

static double tiles_150(struct rng *r, int i)
{
    (void)i;
    return tiles_of(beta(r, 1.5));
}

static double dsv(struct rng *r, int i)
{
    return 1 - dsv_sparsity[i % DSV_VECTORS][rng_below(r, DSV_HEADS)];
}

/* Whiskers and quartiles of blocks 4, 9, 14, 19, 24, 29 of DSV's profile at iteration 28000
 * (digitised, four decimals), a straight line between them. */
static double profile(struct rng *r, int i)
{
    static const double five[6][5] = {
        {0.6823, 0.8677, 0.9604, 0.979, 0.9913},  {0.67, 0.8307, 0.8863, 0.9419, 0.9913},
        {0.8059, 0.8183, 0.8368, 0.8677, 0.9048}, {0.534, 0.6205, 0.7627, 0.8307, 0.9543},
        {0.3826, 0.4073, 0.4166, 0.4413, 0.4536}, {0.293, 0.3208, 0.3239, 0.3486, 0.3548}};
    const double *q = five[i % 6];
    double u = 4 * rng_uniform(r);
    int k = (int)u;
    return 1 - round(1e4 * (q[k] + (u - k) * (q[k + 1] - q[k]))) / 1e4;
}

static const struct family {
    const char *name;
    double (*keep)(struct rng *r, int i);
} families[] = {{"DSV vectors", dsv},
                {"DSV profile, digitised", profile},
                {"Beta cv 0.56, tiles", tiles_056},
                {"Beta cv 1.5, tiles", tiles_150},
                {"Beta cv 0.56, continuous", beta_056},
                {"Beta cv 1.0, continuous", beta_100},
                {"Beta cv 1.5, continuous", beta_150}};

/* --- instances --- */

struct instance {
    int heads, ranks;
    double work[MOST], in[MOST + 1], out[MOST + 1];
    struct assign_wire wire;
};

/* `share`: what the even all-to-all of Q, K, V takes of the mean attention, so that
 * 3 u H/R = share * sum/R. */
static void instance_make(struct instance *x, const struct family *f, int i, double share)
{
    struct rng r = rng_stream(1, f->name, (uint64_t)x->heads, (uint64_t)x->ranks, (uint64_t)i);
    double sum = 0;
    for (int h = 0; h < x->heads; h++)
        sum += x->work[h] = f->keep(&r, i);
    double u = x->ranks > 1 ? share * sum / (3.0 * x->heads * (x->ranks - 1)) : 0;
    x->wire = (struct assign_wire){u, 2 * u, u};
    assign_wire_fill(&x->wire, x->ranks, x->heads, 1, x->in, x->out);
}

struct sample {
    double ms, steps, gap, gain;
    bool exact;
};

struct bench {
    struct arena *results, *scratch;
    struct assign_limits limits;
};

static struct sample run_exact(const struct bench *b, const struct instance *x)
{
    struct assign_problem p = {
        .heads = x->heads, .ranks = x->ranks, .work_s = x->work, .in_s = x->in, .out_s = x->out};
    struct assign_result exact, lpt;
    struct err e = {0};
    double start = cpu_s();
    if (!assign_exact(&p, b->limits, &exact, b->results, b->scratch, &e))
        exit(e.code);
    double ms = 1e3 * (cpu_s() - start);
    if (!assign_lpt(&p, &lpt, b->results, &e))
        exit(e.code);
    return (struct sample){.ms = ms,
                           .steps = (double)exact.nodes,
                           .gap = exact.cost_s / exact.bound_s - 1,
                           .gain = lpt.cost_s / exact.cost_s - 1,
                           .exact = exact.proof == ASSIGN_EXACT};
}

static struct sample run_split(const struct bench *b, const struct instance *x)
{
    struct assign_split_problem p = {
        .heads = x->heads, .ranks = x->ranks, .work_s = x->work, .wire = x->wire};
    struct assign_split s;
    struct err e = {0};
    double start = cpu_s();
    if (!assign_split(&p, b->limits, &s, b->results, b->scratch, &e))
        exit(e.code);
    return (struct sample){.ms = 1e3 * (cpu_s() - start),
                           .steps = s.count - x->heads,
                           .gap = s.cost_s / s.bound_s - 1,
                           .gain = s.whole_s / s.cost_s - 1,
                           .exact = s.cost_s <= s.bound_s * (1 + 1e-9)};
}

/* --- one line of the table --- */

enum { MOST_INSTANCES = 1000 };

static int rising(const void *x, const void *y)
{
    double a = *(const double *)x, b = *(const double *)y;
    return (a > b) - (a < b);
}

static void print_median_max(const struct sample *s, int n, size_t field, double unit,
                             const char *format)
{
    double x[MOST_INSTANCES];
    for (int i = 0; i < n; i++)
        x[i] = unit * *(const double *)((const char *)&s[i] + field);
    qsort(x, (size_t)n, sizeof *x, rising);
    printf(format, x[n / 2]);
    printf(format, x[n - 1]);
}

static void print_line(const struct sample *s, int n)
{
    int exact = 0, near = 0;
    for (int i = 0; i < n; i++) {
        exact += s[i].exact;
        near += s[i].gap <= 1e-4;
    }
    printf(" %4.0f%% %4.0f%% ", 100.0 * exact / n, 100.0 * near / n);
    print_median_max(s, n, offsetof(struct sample, gap), 100, " %8.4f%%");
    print_median_max(s, n, offsetof(struct sample, gain), 100, " %6.2f%%");
    print_median_max(s, n, offsetof(struct sample, steps), 1, " %10.0f");
    print_median_max(s, n, offsetof(struct sample, ms), 1, " %9.3f");
    printf("\n");
    fflush(stdout);
}

static struct sample run(const struct bench *b, const char *mode, const struct instance *x)
{
    arena_reset(b->results);
    arena_reset(b->scratch);
    return strcmp(mode, "split") == 0 ? run_split(b, x) : run_exact(b, x);
}

static void bench_size(const struct bench *b, const char *mode, int heads, int ranks, int instances)
{
    static struct sample s[MOST_INSTANCES];
    struct instance x = {.heads = heads, .ranks = ranks};
    for (size_t f = 0; f < sizeof families / sizeof *families; f++)
        for (int wire = 0; wire < 2; wire++) {
            for (int i = 0; i < instances; i++) {
                instance_make(&x, &families[f], i, 0.2 * wire);
                s[i] = run(b, mode, &x);
            }
            printf("%-5s %-24s %3d/%-3d %4.1f", mode, families[f].name, heads, ranks, 0.2 * wire);
            print_line(s, instances);
        }
}

/* Steps a second on an instance that cannot be finished. */
static double speed(struct bench b)
{
    struct instance x = {.heads = 40, .ranks = 8};
    instance_make(&x, &families[4], 0, 0);
    b.limits.nodes = 3000000;
    struct sample s = run(&b, "exact", &x);
    return s.steps / (1e-3 * s.ms);
}

static void bench_mode(struct bench b, const char *mode, int heads, int ranks, int instances)
{
    static const int sizes[][2] = {{16, 4}, {16, 8}, {24, 8}, {40, 8}, {40, 16}, {64, 8}};
    if (strcmp(mode, "exact") == 0)
        b.limits.nodes = (int64_t)speed(b);
    printf("mode  family                  heads/R wire exact 1e-4   gap: median      max    gain: "
           "med, max  steps: median        max ms: median       max\n");
    for (size_t k = 0; k < (heads ? 1 : sizeof sizes / sizeof *sizes); k++)
        bench_size(&b, mode, heads ? heads : sizes[k][0], ranks ? ranks : sizes[k][1], instances);
}

int main(int argc, char **argv)
{
    static const char *const modes[] = {"plan", "exact", "split"};
    const char *only = argc > 1 ? argv[1] : NULL;
    int heads = argc > 3 ? atoi(argv[2]) : 0, ranks = argc > 3 ? atoi(argv[3]) : 0;
    int instances = argc > 4 ? atoi(argv[4]) : 40;
    if (heads < 0 || heads > MOST || ranks < 0 || ranks > MOST || instances < 1 ||
        instances > MOST_INSTANCES) {
        fprintf(stderr, "usage: bench_assign [plan|exact|split [heads ranks [instances]]]\n");
        return 2;
    }
    struct bench b = {.results = arena_new(), .scratch = arena_new()};
    printf("%.0f M steps a second\n", speed(b) / 1e6);
    for (size_t m = 0; m < sizeof modes / sizeof *modes; m++)
        if (!only || strcmp(only, modes[m]) == 0)
            bench_mode(b, modes[m], heads, ranks, instances);
    arena_free(b.scratch);
    arena_free(b.results);
    return 0;
}
