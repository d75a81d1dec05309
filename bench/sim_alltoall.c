/* All-to-alls on the network: CPU time (topology and routes included), flow events a second and
 * memory; and the same exchange in SimGrid in the same run, if it was found at build time.
 * SimGrid's own time counts from the end of platform loading. Usage: bench_sim_alltoall [ranks for
 * SimGrid, default 64] [GPUs a server, 8] [equal | heads | differ]. One line a case. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "sim/topo.h"
#ifdef WITH_SIMGRID
#include "tests/sim/simgrid.h"
#endif

struct result {
    double cpu_s, end_s, bytes;
    uint64_t events, solutions;
};

static double cpu_s(void)
{
    return (double)clock() / CLOCKS_PER_SEC;
}

static struct hw_cluster cluster(int gpus, int per)
{
    return (struct hw_cluster){.name = "bench",
                               .nodes = gpus / per,
                               .gpus_per_node = per,
                               .nvlink = {0, 450e9, 1},
                               .nic = {0, 50e9, 1},
                               .gpus_per_nic = 1};
}

typedef double (*size_rule)(int from, int to, int ranks);

static double equal(int from, int to, int ranks)
{
    (void)from, (void)to;
    return 64e6 / ranks;
}

static double by_heads(int from, int to,
                       int ranks) /* what uneven heads make: the receiver's heads decide (KA22) */
{
    static const double heads[8] = {1, 1, 2, 2, 2, 2, 3, 3};
    return equal(from, to, ranks) * heads[(to * 5 + to / 8) % 8];
}

static double all_differ(int from, int to, int ranks)
{
    unsigned long x = (unsigned long)(from * ranks + to) * 2654435761u % 1000003u;
    return equal(from, to, ranks) * (0.5 + (double)x / 1000003.0);
}

static struct result ours(int ranks, int per, size_rule size, double merge)
{
    double begin = cpu_s();
    struct arena *a = arena_new();
    struct err e = {0};
    struct hw_cluster c = cluster(ranks, per);
    struct wire *w = wire_new(topo_of_cluster(&c, NULL, a, err_at_name("bench"), &e));
    struct net *n = wire_net(w);
    net_merge(n, merge);
    for (int i = 0; i < ranks; i++)
        for (int j = 0; j < ranks; j++)
            if (i != j)
                net_flow(n, 0, wire_route(w, i, j, NULL), size(i, j, ranks), (uint64_t)i);
    sim_time last = 0, t;
    uint64_t tag;
    while ((t = net_next(n)) != SIM_NEVER)
        while (net_end(n, last = t, &tag))
            ;
    struct result r = {0, sim_seconds(last), (double)net_bytes(n) + (double)arena_bytes(a),
                       net_events(n), net_solutions(n)};
    wire_free(w);
    arena_free(a);
    r.cpu_s = cpu_s() - begin;
    return r;
}

static void line(const char *what, int ranks, struct result r)
{
    printf("%-28s %4d ranks %8.2f ms CPU %8llu events %6.2f M/s %7llu solutions %6.1f MB   end "
           "%.6f ms\n",
           what, ranks, r.cpu_s * 1e3, (unsigned long long)r.events,
           (double)r.events / r.cpu_s * 1e-6, (unsigned long long)r.solutions, r.bytes * 1e-6,
           r.end_s * 1e3);
}

/* Many small components: hops between neighbours, each pair on links of its own, started as the
 * last one ends. */
static void chains(int pairs, int hops)
{
    double begin = cpu_s();
    struct net *n = net_new();
    sim_time t;
    uint64_t tag, left = (uint64_t)pairs * (uint64_t)hops;
    for (int i = 0; i < pairs; i++) {
        int out = net_link(n, 50e9), in = net_link(n, 50e9);
        net_flow(n, 0, net_route(n, (int[]){out, in}, 2), 1e6 + i, (uint64_t)i);
    }
    while ((t = net_next(n)) != SIM_NEVER)
        while (net_end(n, t, &tag))
            if (--left >= (uint64_t)pairs)
                net_flow(n, t, (int)tag, 1e6 + (double)tag, tag);
    printf("%-28s %4d pairs %8.2f ms CPU %8llu events %6.2f M/s\n", "single flows, one by one",
           pairs, (cpu_s() - begin) * 1e3, (unsigned long long)net_events(n),
           (double)net_events(n) / (cpu_s() - begin) * 1e-6);
    net_free(n);
}

/* `per` GPUs a server: 8, or all in one (a single crossbar, one component of flows). */
static void against_simgrid(const char *program, int ranks, int per, const char *name,
                            size_rule size)
{
#ifdef WITH_SIMGRID
    struct result best = ours(ranks, per, size, 0);
    for (int i = 0; i < 9; i++) {
        struct result r = ours(ranks, per, size, 0);
        best = r.cpu_s < best.cpu_s ? r : best;
    }
    double cpu, end = sg_run_alltoall(program, ranks, per, 450e9, 50e9, size, &cpu);
    printf("SimGrid, %s, %d ranks in servers of %d: %.2f ms CPU, end %.6f ms; ours %.2f ms, end "
           "%.6f ms: %.0f times faster\n",
           name, ranks, per, cpu * 1e3, end * 1e3, best.cpu_s * 1e3, best.end_s * 1e3,
           cpu / best.cpu_s);
#else
    (void)program, (void)ranks, (void)per, (void)name, (void)size;
    puts("SimGrid was not found when this was built: no comparison");
#endif
}

int main(int argc, char **argv)
{
    int ranks = argc > 1 ? atoi(argv[1]) : 64, per = argc > 2 ? atoi(argv[2]) : 8;
    const char *name = argc > 3 ? argv[3] : "equal";
    size_rule size = strcmp(name, "heads") == 0    ? by_heads
                     : strcmp(name, "differ") == 0 ? all_differ
                                                   : equal;
    if (ranks < 2 || per < 1 || ranks % per) {
        fputs("usage: bench_sim_alltoall [ranks for SimGrid, 64] [GPUs a server, 8] [equal | heads "
              "| differ]\n",
              stderr);
        return 2;
    }
    chains(1000, 300);
    against_simgrid(argv[0], ranks, per, name, size);
    for (int n = 64; n <= 512; n *= 2)
        line("equal", n, ours(n, 8, equal, 0));
    line("equal, one crossbar", 512, ours(512, 512, equal, 0));
    for (int n = 64; n <= 512; n *= 2)
        line("uneven heads", n, ours(n, 8, by_heads, 0));
    line("uneven heads, one crossbar", 512, ours(512, 512, by_heads, 0));
    line("all sizes differ", 64, ours(64, 8, all_differ, 0));
    for (int n = 64; n <= 512; n *= 2)
        line("all sizes differ, merge 1%", n, ours(n, 8, all_differ, 0.01));
    return 0;
}
