/* The independent oracle: on random topologies and traffic, flows end when SimGrid says so, within
 * 0.1%. Both share links max-min fairly; SimGrid keeps time in doubles of seconds and ends flows
 * within its precision of 1e-12 s and 1e-6 bytes, we in whole picoseconds: hence 0.1% and not
 * equality. Usage: test_simgrid SEED (SimGrid allows one simulation a process). */
#include <gsl/gsl_test.h>
#include <math.h>
#include <stdlib.h>

#include "base/rng.h"
#include "sim/net.h"
#include "tests/sim/simgrid.h"

enum { FLOWS = 300, LINKS = 60, MOST_HOPS = 6 };

static int compare(const void *x, const void *y)
{
    const struct sg_flow *a = x, *b = y;
    return (a->start_s > b->start_s) - (a->start_s < b->start_s);
}

/* Layers of links, one of each per route at most; from 2 to LINKS/MOST_HOPS links a layer, so that
 * some seeds give one crowded component and some many small ones. Rates and sizes spread over three
 * decades; a third start together. */
static void draw(uint64_t seed, double *rate, struct sg_flow *flows)
{
    struct rng r = rng_stream(seed, "simgrid", 0, 0, 0);
    uint64_t wide = 2 + rng_below(&r, LINKS / MOST_HOPS - 1);
    for (int l = 0; l < LINKS; l++)
        rate[l] = 1e8 * pow(10, 3 * rng_uniform(&r));
    for (int i = 0; i < FLOWS; i++) {
        struct sg_flow *f = &flows[i];
        f->hops = 0;
        for (int layer = 0; layer < MOST_HOPS; layer++)
            if (rng_below(&r, 2) || (layer == MOST_HOPS - 1 && f->hops == 0))
                f->links[f->hops++] = layer * (LINKS / MOST_HOPS) + (int)rng_below(&r, wide);
        f->start_s = rng_below(&r, 3) ? 0.2 * rng_uniform(&r) : 0;
        f->bytes = floor(1e5 * pow(10, 3 * rng_uniform(&r)));
    }
    qsort(flows, FLOWS, sizeof *flows, compare);
}

static void run_ours(const double *rate, const struct sg_flow *flows, double *end_s)
{
    struct net *n = net_new();
    sim_time next;
    uint64_t tag;
    for (int l = 0; l < LINKS; l++)
        net_link(n, rate[l]);
    for (int i = 0; i < FLOWS; i++) {
        sim_time start = sim_time_of(flows[i].start_s);
        while ((next = net_next(n)) < start)
            while (net_end(n, next, &tag))
                end_s[tag] = sim_seconds(next);
        net_flow(n, start, net_route(n, flows[i].links, flows[i].hops), flows[i].bytes,
                 (uint64_t)i);
    }
    while ((next = net_next(n)) != SIM_NEVER)
        while (net_end(n, next, &tag))
            end_s[tag] = sim_seconds(next);
    net_free(n);
}

int main(int argc, char **argv)
{
    static struct sg_flow flows[FLOWS];
    static double ours[FLOWS];
    double rate[LINKS], worst = 0;
    draw(argc > 1 ? strtoull(argv[1], NULL, 10) : 1, rate, flows);
    sg_run_flows(argv[0], rate, LINKS, flows, FLOWS);
    run_ours(rate, flows, ours);
    for (int i = 0; i < FLOWS; i++)
        worst = fmax(worst, fabs(ours[i] - flows[i].end_s) / (flows[i].end_s - flows[i].start_s));
    gsl_test(!(worst < 1e-3), "%d flows on %d links: worst difference in duration %.2e", FLOWS,
             LINKS, worst);
    return gsl_test_summary();
}
