/* Exact assignment of heads to ranks: share proved, steps, CPU time and what LPT loses, on seeded families of instances.
 * Usage: bench_assign [seconds at most for one instance, default 1] [instances of a family, default 40]
 * Two modes: "plan" is what the planner uses (default limits), "exact" goes on to the true optimum with as many steps as
 * fit into the seconds on this machine (measured at the start). gap: cost over proved bound. */
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
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

/* --- families: keep of one head in instance i ---------------------------------------------------------------------------- */

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
    return 0.0223 + ceil(keep * 1000) / 1000; /* 128,000 keys in tiles of 128, after a time that every head takes */
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

/* Whiskers and quartiles of blocks 4, 9, 14, 19, 24, 29 of DSV's profile at iteration 28000 (digitised, four decimals),
 * a straight line between them. */
static double profile(struct rng *r, int i)
{
    static const double five[6][5] = {
        {0.6823, 0.8677, 0.9604, 0.979, 0.9913}, {0.67, 0.8307, 0.8863, 0.9419, 0.9913},
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
} families[] = {{"DSV vectors", dsv},           {"DSV profile, digitised", profile},
                {"Beta cv 0.56, tiles", tiles_056}, {"Beta cv 1.5, tiles", tiles_150},
                {"Beta cv 0.56, continuous", beta_056}, {"Beta cv 1.0, continuous", beta_100},
                {"Beta cv 1.5, continuous", beta_150}};

static const struct {
    int heads, ranks;
} sizes[] = {{16, 4}, {16, 8}, {24, 8}, {40, 4}, {40, 8}, {40, 16}, {64, 8}, {128, 32}, {256, 64}};

/* --- one line of the table --------------------------------------------------------------------------------- */

struct sample {
    double ms, nodes, gap, lpt; /* gap, lpt: over the bound, over the cost; as shares */
    bool exact;
};

static int rising(const void *x, const void *y)
{
    double a = *(const double *)x, b = *(const double *)y;
    return (a > b) - (a < b);
}

static void median_max(const struct sample *s, int n, size_t field, double *median, double *most)
{
    double x[1000];
    for (int i = 0; i < n; i++)
        x[i] = *(const double *)((const char *)&s[i] + field);
    qsort(x, (size_t)n, sizeof *x, rising);
    *median = x[n / 2];
    *most = x[n - 1];
}

static struct sample run(const struct assign_problem *p, struct assign_limits limits, struct arena *a, struct arena *scratch)
{
    struct assign_result exact, lpt;
    struct err e = {0};
    arena_reset(a);
    if (!assign_lpt(p, &lpt, a, &e))
        exit(e.code);
    double start = cpu_s();
    arena_reset(scratch);
    if (!assign_exact(p, limits, &exact, a, scratch, &e))
        exit(e.code);
    return (struct sample){.ms = 1e3 * (cpu_s() - start), .nodes = (double)exact.nodes,
                           .gap = exact.cost_s / exact.bound_s - 1, .lpt = lpt.cost_s / exact.cost_s - 1,
                           .exact = exact.proof == ASSIGN_EXACT};
}

static struct sample instance(const struct family *f, int heads, int ranks, int i, double wire, struct assign_limits limits,
                              struct arena *a, struct arena *scratch)
{
    struct rng r = rng_stream(1, f->name, (uint64_t)heads, (uint64_t)ranks, (uint64_t)i);
    double work[MOST], in[MOST + 1], out[MOST + 1], sum = 0;
    for (int h = 0; h < heads; h++)
        sum += work[h] = f->keep(&r, i);
    /* The even all-to-all of Q, K, V takes `wire` of the mean attention: 3 u H/R = wire sum / R. */
    double u = ranks > 1 ? wire * sum / (3.0 * heads * (ranks - 1)) : 0;
    assign_wire_fill(&(struct assign_wire){u, 2 * u, u}, ranks, heads, 1, in, out);
    struct assign_problem p = {.heads = heads, .ranks = ranks, .work_s = work, .in_s = in, .out_s = out};
    return run(&p, limits, a, scratch);
}

static void line(const struct family *f, int heads, int ranks, double wire, int instances, struct assign_limits limits,
                 const char *mode, struct arena *a, struct arena *scratch)
{
    struct sample s[1000];
    double ms[2], nodes[2], gap[2], lpt[2];
    int exact = 0, near = 0;
    for (int i = 0; i < instances; i++) {
        s[i] = instance(f, heads, ranks, i, wire, limits, a, scratch);
        exact += s[i].exact;
        near += s[i].gap <= 1e-4;
    }
    median_max(s, instances, offsetof(struct sample, ms), &ms[0], &ms[1]);
    median_max(s, instances, offsetof(struct sample, nodes), &nodes[0], &nodes[1]);
    median_max(s, instances, offsetof(struct sample, gap), &gap[0], &gap[1]);
    median_max(s, instances, offsetof(struct sample, lpt), &lpt[0], &lpt[1]);
    printf("%-5s %-24s %3d/%-3d %4.2f  %4.0f%% %4.0f%%  %8.1e %8.1e  %6.2f%% %6.2f%%  %9.0f %10.0f  %8.3f %9.3f\n", mode,
           f->name, heads, ranks, wire, 100.0 * exact / instances, 100.0 * near / instances, gap[0], gap[1], 100 * lpt[0],
           100 * lpt[1], nodes[0], nodes[1], ms[0], ms[1]);
    fflush(stdout);
}

/* Steps a second on an instance that cannot be finished. */
static double speed(struct arena *a, struct arena *scratch)
{
    struct sample s = instance(&families[4], 40, 8, 0, 0, (struct assign_limits){.nodes = 3000000}, a, scratch);
    return s.nodes / (1e-3 * s.ms);
}

int main(int argc, char **argv)
{
    double seconds = argc > 1 ? atof(argv[1]) : 1;
    int instances = argc > 2 ? atoi(argv[2]) : 40;
    if (seconds <= 0 || instances < 1 || instances > 1000) {
        fprintf(stderr, "usage: bench_assign [seconds > 0] [instances 1 to 1000]\n");
        return 2;
    }
    struct arena *a = arena_new(), *scratch = arena_new();
    double steps = speed(a, scratch);
    printf("%.1f M steps a second\n", steps / 1e6);
    printf("mode  family                  heads/R wire  exact 1e-4       gap: median, max   LPT: median, max   "
           "    steps: median, max    ms: median, max\n");
    struct assign_limits limits[2] = {{0}, {.nodes = (int64_t)(seconds * steps)}};
    for (int mode = 0; mode < 2; mode++)
        for (size_t k = 0; k < sizeof sizes / sizeof *sizes; k++)
            for (size_t f = 0; f < sizeof families / sizeof *families; f++)
                for (int wire = 0; wire < 2; wire++)
                    line(&families[f], sizes[k].heads, sizes[k].ranks, 0.2 * wire, instances, limits[mode],
                         mode ? "exact" : "plan", a, scratch);
    arena_free(scratch);
    arena_free(a);
    return 0;
}
