/* Ring attention against the known answers KA09-KA11, KA16, and a random check of the recurrence
 * itself. */
#include "sim/ring.h"

#include <gsl/gsl_test.h>
#include <math.h>
#include <string.h>

#include "base/rng.h"

enum { MOST = 32 };

/* n GPUs in one server, or in servers of `per`; a hop of 1 MB takes near_ms inside and far_ms
 * between servers. */
static double ring_ms(int n, int per, const double *compute_ms, double near_ms, double far_ms,
                      int inner)
{
    struct arena *a = arena_new();
    struct err e = {0};
    double off = 1e6 / 1e-15; /* a rate at which 1 MB takes a femtosecond */
    struct hw_cluster c = {.name = "test",
                           .nodes = n / per,
                           .gpus_per_node = per,
                           .gpus_per_nic = 1,
                           .nvlink = {0, near_ms > 0 ? 1e9 / near_ms : off, 1},
                           .nic = {0, far_ms > 0 ? 1e9 / far_ms : off, 1},
                           .pcie_bytes_per_s = off};
    double compute_s[MOST * MOST], hops[MOST + 1] = {0};
    int gpus[MOST], begin[MOST], end[MOST];
    for (int i = 0; i < n * n; i++)
        compute_s[i] = compute_ms[i] * 1e-3;
    for (int i = 0; i < n; i++) {
        gpus[i] = i;
        hops[i] = i + 1 < n ? 1e6 : 0;
    }
    struct play_graph *g = play_graph_new(a);
    struct ring r = {.n = n,
                     .gpus = gpus,
                     .compute_s = compute_s,
                     .hop_bytes = hops,
                     .inner = inner,
                     .outer_bytes = 1e6};
    ring_add(g, &r, begin, end, a);
    play_graph_finish(g);
    struct play_what what = {0};
    struct play_result out;
    struct topo *t = topo_of_cluster(&c, NULL, a, err_at_name("test"), &e);
    gsl_test(!play_run(g, t, &what, &out, a, err_at_name("test"), &e), "the ring ends: %s", e.text);
    double ms = sim_seconds(out.end) * 1e3;
    arena_free(a);
    return ms;
}

static double uniform_ms(int n, double b, double p)
{
    double compute[MOST * MOST];
    for (int i = 0; i < n * n; i++)
        compute[i] = b;
    return ring_ms(n, n, compute, p, 0, 0);
}

static void uniform_rings_take_the_larger_of_step_and_hop(void)
{
    gsl_test_abs(uniform_ms(4, 1, .5), 4, 1e-8, "KA09a: N4 b=1 p=.5");
    gsl_test_abs(uniform_ms(4, 1, 3), 10, 1e-8, "KA09b: N4 b=1 p=3");
}

static void uneven_rings_follow_the_recurrence_and_not_the_barrier(void)
{
    const double two[] = {3, 1, 1, 3}, four[] = {4, 1, 1, 2, 1, 4, 2, 1, 2, 1, 4, 1, 1, 2, 1, 4};
    const double four_ms[] = {9, 10, 12, 14};
    gsl_test_abs(ring_ms(2, 2, two, 0, 0, 0), 4, 1e-8, "KA09c: p=0, where a barrier says 6");
    gsl_test_abs(ring_ms(2, 2, two, 2, 0, 0), 5, 1e-8, "KA09e: p=2");
    gsl_test_abs(ring_ms(2, 2, two, 4, 0, 0), 7, 1e-8, "KA09f: p=4");
    for (int p = 0; p < 4; p++)
        gsl_test_abs(ring_ms(4, 4, four, p, 0, 0), four_ms[p], 1e-8,
                     "KA09g-j: p=%d, where a barrier says 16", p);
}

static void random_rings_follow_the_recurrence(void)
{
    struct rng r = rng_stream(4, "rings", 0, 0, 0);
    for (int trial = 0; trial < 20; trial++) {
        int n = 2 + (int)rng_below(&r, 7);
        double b[64], p = 0.1 * (double)(1 + rng_below(&r, 30)), s[8] = {0}, next[8], want = 0;
        for (int i = 0; i < n * n; i++)
            b[i] = 0.1 * (double)(1 + rng_below(&r, 40));
        for (int k = 0; k + 1 < n; k++, memcpy(s, next, sizeof s))
            for (int i = 0; i < n; i++)
                next[i] = fmax(s[i] + b[i * n + k],
                               fmax(s[i], fmax(s[(i + 1) % n], s[(i + n - 1) % n])) + p);
        for (int i = 0; i < n; i++)
            want = fmax(want, s[i] + b[i * n + n - 1]);
        gsl_test_abs(ring_ms(n, n, b, p, 0, 0), want, 1e-7, "ring of %d, hop %.1f", n, p);
    }
}

/* MTraining, 32 A100 in 4 servers: step .51 ms, hop .13 ms inside and .98 ms between servers, 1.13
 * + 2.08 ms of index building and CPU time before (arXiv 2510.18830). */
static void mtraining_takes_its_two_published_times(void)
{
    double compute[MOST * MOST];
    for (int i = 0; i < 32 * 32; i++)
        compute[i] = .51;
    gsl_test_abs(ring_ms(32, 8, compute, .13, .98, 0) + 3.21, 34.10, 1e-6, "KA10a: flat ring");
    gsl_test_abs(ring_ms(32, 8, compute, .13, .98, 8) + 3.21, 19.53, 1e-6, "KA10b: ring in ring");
}

/* Causal attention in contiguous shards: rank r has whole blocks for the r shards before it and
 * half of its own. */
static void contiguous_causal_rings_lose_what_ka11_says(void)
{
    double compute[64], all = 0;
    for (int r = 0; r < 8; r++)
        for (int k = 0; k < 8; k++)
            all += compute[r * 8 + k] = k == 0 ? .5 : k <= r ? 1 : 0;
    double ms = ring_ms(8, 8, compute, 0, 0, 0);
    gsl_test_abs(ms / (all / 8), 1.875, 1e-8, "KA11a: slowest over mean");
    gsl_test_abs(100 * (all / 8) / ms, 53.3333, 1e-4, "KA11b: efficiency, measured 52.1 to 53.9%%");
}

static void dbsp_formula_overstates_a_ring_that_waits_for_its_links(void)
{
    const double b[] = {1.25, .75, .75, 1.25}; /* rho = 1.25 at mean 1 */
    gsl_test_rel(ring_dbsp_s(1, 3, 2, 2, 1.25), 8.5, 1e-12, "KA16a");
    gsl_test_rel(ring_dbsp_s(1, 1, 3, 2, 1), 5, 1e-12, "by hand: 1 + 3 + 1");
    gsl_test_rel(ring_dbsp_s(1, 1, 3, 2, 1.25), 6, 1e-12, "KA16b");
    gsl_test_abs(1 + ring_ms(2, 2, b, 3, 0, 0), 5.25, 1e-8, "KA16c: event truth");
}

int main(void)
{
    uniform_rings_take_the_larger_of_step_and_hop();
    uneven_rings_follow_the_recurrence_and_not_the_barrier();
    random_rings_follow_the_recurrence();
    mtraining_takes_its_two_published_times();
    contiguous_causal_rings_lose_what_ka11_says();
    dbsp_formula_overstates_a_ring_that_waits_for_its_links();
    return gsl_test_summary();
}
