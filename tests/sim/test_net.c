/* Max-min fair sharing against hand arithmetic, and the properties that every run must have. The
 * independent oracle is SimGrid, in test_simgrid.c. */
#include "sim/net.h"

#include <gsl/gsl_test.h>
#include <math.h>
#include <stdlib.h>

#include "base/rng.h"

enum { MOST = 4096 };

/* Runs the net until nothing ends; end times by tag. */
static sim_time run(struct net *n, sim_time *end)
{
    sim_time t, last = 0;
    uint64_t tag;
    while ((t = net_next(n)) != SIM_NEVER)
        while (net_end(n, last = t, &tag))
            end[tag] = t;
    return last;
}

static double ms(sim_time t)
{
    return sim_seconds(t) * 1e3;
}

static void one_flow_takes_bytes_over_rate(void)
{
    struct net *n = net_new();
    sim_time end[1];
    net_flow(n, 0, net_route(n, (int[]){net_link(n, 50e9)}, 1), 50e6, 0);
    run(n, end);
    gsl_test_rel(ms(end[0]), 1, 1e-12, "50 MB at 50 GB/s");
    net_free(n);
}

/* Links of 10 and 20 GB/s in a row; flow 0 uses both, 1 the first, 2 the second. Max-min: 5, 5 and
 * 15 GB/s. 15 MB on flow 2 end at 1 ms, 10 MB on flow 1 at 2 ms; flow 0 then has 10 of 20 MB left
 * and the first link alone: 1 ms. */
static void the_parking_lot_shares_as_computed_by_hand(void)
{
    struct net *n = net_new();
    int near = net_link(n, 10e9), far = net_link(n, 20e9);
    sim_time end[3];
    net_flow(n, 0, net_route(n, (int[]){near, far}, 2), 20e6, 0);
    net_flow(n, 0, net_route(n, (int[]){near}, 1), 10e6, 1);
    net_flow(n, 0, net_route(n, (int[]){far}, 1), 15e6, 2);
    gsl_test_rel(ms(run(n, end)), 3, 1e-12, "all done at 3 ms");
    gsl_test_rel(ms(end[2]), 1, 1e-12, "flow 2 at 15 GB/s");
    gsl_test_rel(ms(end[1]), 2, 1e-12, "flow 1 at 5 GB/s");
    gsl_test_rel(net_carried(n, near), 30e6, 1e-15, "bytes over the near link");
    gsl_test_rel(net_carried(n, far), 35e6, 1e-15, "bytes over the far link");
    net_free(n);
}

/* 10 GB/s: 10 MB alone for 0.5 ms (5 MB left), then shared with a newcomer of 2.5 MB, which ends
 * 0.5 ms later; the last 2.5 MB alone take 0.25 ms. */
static void a_late_flow_slows_the_early_one(void)
{
    struct net *n = net_new();
    int route = net_route(n, (int[]){net_link(n, 10e9)}, 1);
    sim_time end[2];
    net_flow(n, 0, route, 10e6, 0);
    net_flow(n, sim_time_of(0.5e-3), route, 2.5e6, 1);
    run(n, end);
    gsl_test_rel(ms(end[1]), 1, 1e-12, "the newcomer");
    gsl_test_rel(ms(end[0]), 1.25, 1e-12, "the first");
    net_free(n);
}

static void a_link_that_goes_down_holds_its_flows_until_it_is_up(void)
{
    struct net *n = net_new();
    int link = net_link(n, 10e9), other = net_link(n, 10e9);
    sim_time end[2], t;
    uint64_t tag;
    net_flow(n, 0, net_route(n, (int[]){link}, 1), 10e6, 0);
    net_flow(n, 0, net_route(n, (int[]){other}, 1), 10e6, 1);
    net_link_set(n, sim_time_of(0.25e-3), link, 0);
    t = net_next(n);
    gsl_test(!net_end(n, t, &tag) || tag != 1, "the other link does not care");
    gsl_test(net_next(n) != SIM_NEVER, "nothing more will end while the link is down");
    net_link_set(n, sim_time_of(2e-3), link, 30e9);
    run(n, end);
    gsl_test_rel(ms(end[0]), 2.25, 1e-12, "7.5 MB left at 30 GB/s");
    net_free(n);
}

static void nothing_takes_no_time(void)
{
    struct net *n = net_new();
    sim_time end[1] = {-1};
    net_flow(n, 7, net_route(n, (int[]){net_link(n, 1e9)}, 1), 0, 0);
    run(n, end);
    gsl_test(end[0] != 7, "0 bytes end when they start");
    gsl_test_int(net_active(n), 0, "and are gone");
    net_free(n);
}

/* ---- random traffic ---- */

struct traffic {
    int links, flows;
    double rate[64], bytes[MOST];
    int route[MOST][4], hops[MOST];
    sim_time start[MOST];
};

static void draw(struct traffic *t, uint64_t seed, int links, int flows)
{
    struct rng r = rng_stream(seed, "traffic", 0, 0, 0);
    t->links = links;
    t->flows = flows;
    for (int i = 0; i < links; i++)
        t->rate[i] = 1e9 * (double)(1 + rng_below(&r, 50));
    for (int f = 0; f < flows; f++) {
        t->bytes[f] = 1e5 * (double)(1 + rng_below(&r, 100));
        t->start[f] = (sim_time)rng_below(&r, 5) * 1000000000;
        t->hops[f] = 1 + (int)rng_below(&r, 4);
        for (int k = 0; k < t->hops[f]; k++)
            t->route[f][k] =
                (int)(rng_below(&r, (uint64_t)links / 4)) * 4 + k; /* never one link twice */
    }
}

/* Starts in order of time, ends as they come; link i of the net is link name[i] of the traffic, and
 * flows start in the order of turn[]. */
static sim_time play(const struct traffic *t, const int *name, const int *turn, double speed,
                     sim_time *end, double *carried)
{
    struct net *n = net_new();
    int back[64];
    uint64_t tag;
    sim_time next, last = 0;
    for (int i = 0; i < t->links; i++) {
        net_link(n, t->rate[name[i]] * speed);
        back[name[i]] = i;
    }
    for (sim_time wave = 0; wave < 5; wave++) {
        sim_time at = (sim_time)((double)(wave * 1000000000) / speed);
        while ((next = net_next(n)) < at)
            while (net_end(n, last = next, &tag))
                end[tag] = next;
        for (int k = 0; k < t->flows; k++) {
            int f = turn[k], links[4];
            for (int h = 0; h < t->hops[f]; h++)
                links[h] = back[t->route[f][h]];
            if (t->start[f] == wave * 1000000000)
                net_flow(n, at, net_route(n, links, t->hops[f]), t->bytes[f], (uint64_t)f);
        }
    }
    last = run(n, end);
    for (int i = 0; i < t->links && carried; i++)
        carried[name[i]] = net_carried(n, i);
    net_free(n);
    return last;
}

static void shuffle(int *order, int count, uint64_t seed)
{
    struct rng r = rng_stream(seed, "shuffle", 0, 0, 0);
    for (int i = 0; i < count; i++)
        order[i] = i;
    for (int i = count - 1; seed && i > 0; i--) {
        int k = (int)rng_below(&r, (uint64_t)i + 1), x = order[i];
        order[i] = order[k];
        order[k] = x;
    }
}

static void renaming_links_and_flows_changes_nothing(void)
{
    static struct traffic t;
    static sim_time one[MOST], two[MOST];
    int name[64], turn[MOST], differ = 0;
    for (uint64_t seed = 1; seed <= 20; seed++) {
        draw(&t, seed, 24, 150);
        shuffle(name, 24, 0), shuffle(turn, 150, 0);
        play(&t, name, turn, 1, one, NULL);
        shuffle(name, 24, seed), shuffle(turn, 150, seed);
        play(&t, name, turn, 1, two, NULL);
        for (int f = 0; f < 150; f++)
            differ += one[f] != two[f];
    }
    gsl_test_int(differ, 0, "3000 flows end at the same picosecond under other names");
}

static void every_byte_arrives_on_every_link(void)
{
    static struct traffic t;
    static sim_time end[MOST];
    double carried[64], want[64] = {0};
    int name[64], turn[MOST];
    draw(&t, 5, 24, 200);
    shuffle(name, 24, 0), shuffle(turn, 200, 0);
    play(&t, name, turn, 1, end, carried);
    for (int f = 0; f < 200; f++)
        for (int h = 0; h < t.hops[f]; h++)
            want[t.route[f][h]] += t.bytes[f];
    for (int i = 0; i < 24; i++)
        gsl_test_rel(carried[i], want[i], 1e-12, "link %d", i);
}

static void no_run_beats_its_busiest_link_or_loses_to_one_flow_at_a_time(void)
{
    static struct traffic t;
    static sim_time end[MOST];
    int name[64], turn[MOST];
    for (uint64_t seed = 1; seed <= 20; seed++) {
        draw(&t, seed, 16, 60);
        for (int f = 0; f < 60; f++)
            t.start[f] = 0;
        shuffle(name, 16, 0), shuffle(turn, 60, 0);
        double last = sim_seconds(play(&t, name, turn, 1, end, NULL)), busiest = 0, serial = 0,
               load[64] = {0};
        for (int f = 0; f < 60; f++) {
            double least = INFINITY;
            for (int h = 0; h < t.hops[f]; h++) {
                load[t.route[f][h]] += t.bytes[f];
                least = fmin(least, t.rate[t.route[f][h]]);
            }
            serial += t.bytes[f] / least;
        }
        for (int i = 0; i < 16; i++)
            busiest = fmax(busiest, load[i] / t.rate[i]);
        gsl_test(last < busiest * (1 - 1e-9), "not before the busiest link could finish");
        gsl_test(last > serial * (1 + 1e-9), "not after the serial sum");
    }
}

/* Exact where all ends are multiples of 2 ps; 1 ps of rounding an end otherwise. */
static void twice_the_rates_take_half_the_time(void)
{
    static struct traffic t;
    static sim_time slow[MOST], fast[MOST];
    int name[64], turn[MOST], off = 0;
    draw(&t, 9, 24, 150);
    shuffle(name, 24, 0), shuffle(turn, 150, 0);
    play(&t, name, turn, 1, slow, NULL);
    play(&t, name, turn, 2, fast, NULL);
    for (int f = 0; f < 150; f++)
        off += llabs(slow[f] - 2 * fast[f]) > 150;
    gsl_test_int(off, 0, "half, up to the rounding of 150 ends");
    struct net *n = net_new();
    int route[2];
    sim_time end[4];
    for (int k = 0; k < 2; k++)
        route[k] = net_route(n, (int[]){net_link(n, k ? 32e9 : 16e9)}, 1);
    for (int k = 0; k < 4; k++)
        net_flow(n, 0, route[k / 2], k % 2 ? 48e6 : 16e6, (uint64_t)k);
    run(n, end);
    gsl_test(end[0] != 2 * end[2] || end[1] != 2 * end[3], "to the picosecond");
    net_free(n);
}

static void merging_ends_stays_within_its_share(void)
{
    struct rng r = rng_stream(3, "merge", 0, 0, 0);
    enum { N = 24 };
    static double bytes[N][N];
    sim_time last[2];
    uint64_t solutions[2];
    for (int i = 0; i < N * N; i++)
        bytes[i / N][i % N] = 1e6 * (0.5 + rng_uniform(&r));
    for (int pass = 0; pass < 2; pass++) {
        struct net *n = net_new();
        sim_time t;
        uint64_t tag;
        for (int i = 0; i < 2 * N; i++)
            net_link(n, 50e9);
        net_merge(n, pass ? 0.01 : 0);
        for (int i = 0; i < N * N; i++)
            net_flow(n, 0, net_route(n, (int[]){i / N, N + i % N}, 2), bytes[i / N][i % N], 0);
        while ((t = net_next(n)) != SIM_NEVER)
            while (net_end(n, last[pass] = t, &tag))
                ;
        solutions[pass] = net_solutions(n);
        net_free(n);
    }
    gsl_test(solutions[1] * 4 > solutions[0], "%d solutions become %d", (int)solutions[0],
             (int)solutions[1]);
    gsl_test(fabs((double)last[1] / (double)last[0] - 1) > 0.01,
             "and the end moves by less than 1%%");
}

int main(void)
{
    one_flow_takes_bytes_over_rate();
    the_parking_lot_shares_as_computed_by_hand();
    a_late_flow_slows_the_early_one();
    a_link_that_goes_down_holds_its_flows_until_it_is_up();
    nothing_takes_no_time();
    renaming_links_and_flows_changes_nothing();
    every_byte_arrives_on_every_link();
    no_run_beats_its_busiest_link_or_loses_to_one_flow_at_a_time();
    twice_the_rates_take_half_the_time();
    merging_ends_stays_within_its_share();
    return gsl_test_summary();
}
