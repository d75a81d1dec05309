/* The wires of a preset: routes, hand-computed times on them, and what is refused. */
#include "sim/topo.h"

#include <gsl/gsl_test.h>
#include <string.h>

static struct hw_cluster cluster(int nodes, int gpus_per_nic)
{
    return (struct hw_cluster){.name = "test",
                               .nodes = nodes,
                               .gpus_per_node = 8,
                               .nvlink = {2e-6, 400e9, 1},
                               .nic = {5e-6, 25e9, 1},
                               .gpus_per_nic = gpus_per_nic,
                               .pcie_bytes_per_s = 1e12};
}

/* All pairs of 16 ranks send `bytes` each at once; the end in ms. */
static double exchange_ms(const struct hw_cluster *c, const struct topo_fabric *f, double bytes,
                          bool far)
{
    struct arena *a = arena_new();
    struct err e = {0};
    const struct topo *t = topo_of_cluster(c, f, a, err_at_name("test"), &e);
    struct wire *w = wire_new(t);
    struct net *n = wire_net(w);
    sim_time end = 0, next;
    uint64_t tag;
    for (int i = 0; i < t->gpu_count; i++)
        for (int j = 0; j < t->gpu_count; j++)
            if (i != j && (i / 8 != j / 8) == far)
                net_flow(n, 0, wire_route(w, i, j, NULL), bytes, 0);
    while ((next = net_next(n)) != SIM_NEVER)
        while (net_end(n, end = next, &tag))
            ;
    wire_free(w);
    arena_free(a);
    return sim_seconds(end) * 1e3;
}

/* KA13: Ulysses on 2 x 8 GPUs, S 128000, H 16, D 128: 65,536,000 B a GPU leave the node, 57,344,000
 * stay inside. A message is one sixteenth of one sixteenth of the four tensors: 4 x 128000 x 16 x
 * 128 x 2 B / 256 = 8,192,000 B. */
static void ulysses_on_two_nodes_takes_what_ka13_says(void)
{
    struct hw_cluster own = cluster(2, 1), shared = cluster(2, 8);
    gsl_test_rel(exchange_ms(&own, NULL, 8192000, true), 2.62144, 1e-9,
                 "KA13c: a 25 GB/s NIC for each GPU");
    gsl_test_rel(exchange_ms(&shared, NULL, 8192000, true), 20.97152, 1e-9,
                 "KA13d: 8 GPUs share one NIC");
    gsl_test_rel(exchange_ms(&own, NULL, 8192000, false), 0.14336, 1e-9,
                 "KA13e: inside at 400 GB/s");
}

/* Four servers, two a leaf, 2:1: the exchange between leaves (16 peers of 24 far ones) has half of
 * the NICs' rate: 16 messages x 8 NICs x 2 servers = 256 messages a leaf over 2 x 8 x 25 GB/s / 2.
 */
static void an_oversubscribed_leaf_is_the_bottleneck(void)
{
    struct hw_cluster c = cluster(4, 1);
    struct topo_fabric f = {.leaf_nodes = 2, .oversubscription = 2};
    double leaf_ms = 16 * 16 * 1e6 / 200e9 * 1e3, nic_ms = 24 * 1e6 / 25e9 * 1e3;
    gsl_test_rel(exchange_ms(&c, &f, 1e6, true), leaf_ms, 1e-9, "2:1");
    f.oversubscription = 1;
    gsl_test_rel(exchange_ms(&c, &f, 1e6, true), nic_ms, 1e-9, "full bisection: the NICs decide");
    f.spines = 8;
    gsl_test_rel(exchange_ms(&c, &f, 1e6, true), nic_ms, 1e-9,
                 "8 spines chosen by destination carry alike");
}

static void rails_keep_traffic_of_one_rail_off_the_spine(void)
{
    struct arena *a = arena_new();
    struct err e = {0};
    struct hw_cluster c = cluster(4, 1);
    struct topo_fabric rails = {.rails = true, .hop_s = 1e-6}, pxn = {.rails = true, .pxn = true};
    sim_time latency;
    struct wire *w = wire_new(topo_of_cluster(&c, &rails, a, err_at_name("test"), &e));
    wire_route(w, 3, 8 + 3, &latency);
    gsl_test_rel(sim_seconds(latency), 5e-6, 1e-9, "rail 3 to rail 3: one leaf");
    gsl_test_int(wire_edges(w, 3, 8 + 3, NULL, 0), 4, "GPU, NIC, leaf, NIC, GPU");
    wire_route(w, 3, 8 + 4, &latency);
    gsl_test_rel(sim_seconds(latency), 7e-6, 1e-9, "rail 3 to rail 4: two hops more over a spine");
    wire_free(w);
    w = wire_new(topo_of_cluster(&c, &pxn, a, err_at_name("test"), &e));
    gsl_test_int(wire_edges(w, 3, 8 + 4, NULL, 0), 6, "PXN: over NVLink to GPU 4, then its rail");
    wire_route(w, 3, 8 + 4, &latency);
    gsl_test_rel(sim_seconds(latency), 7e-6, 1e-9, "2 us of NVLink and 5 us of NIC");
    wire_free(w);
    arena_free(a);
}

static void refused(struct topo *t, const char *want, const char *what)
{
    struct err e = {0};
    gsl_test(topo_finish(t, err_at_name("t.xml"), &e) || e.code != ERR_INPUT ||
                 !strstr(e.text, want),
             "%s: '%s'", what, e.text);
}

/* 100 GB/s from a GPU to its PCIe switch. Alone a copy of 100 MB takes 1 ms; beside 100 MB that
 * leave by the same link for the NIC (also 100 GB/s) 2 ms. Where two GPUs share a NIC they share a
 * switch and its link to the CPU: 2 ms for both copies. Inwards nothing is shared with outwards. */
static void copies_to_the_host_share_pcie_with_the_nic(void)
{
    const struct {
        int sharers, far, copies;
        bool back;
        double ms;
    } cases[] = {{1, 0, 1, false, 1},
                 {1, 1, 1, false, 2},
                 {2, 0, 2, false, 2},
                 {1, 0, 2, false, 1},
                 {1, 1, 1, true, 1}};
    for (int i = 0; i < 5; i++) {
        struct arena *a = arena_new();
        struct err e = {0};
        struct hw_cluster c = cluster(2, cases[i].sharers);
        struct topo_fabric f = {.host = true};
        c.nic.bytes_per_s = c.pcie_bytes_per_s = 100e9;
        const struct topo *t = topo_of_cluster(&c, &f, a, err_at_name("test"), &e);
        gsl_test(!t || !topo_has_host(t), "there is a host %s", e.text);
        struct wire *w = wire_new(t);
        struct net *n = wire_net(w);
        sim_time end = 0, next;
        uint64_t tag;
        for (int k = 0; k < cases[i].copies; k++)
            net_flow(n, 0, wire_host(w, k, !cases[i].back), 100e6, 0);
        if (cases[i].far)
            net_flow(n, 0, wire_route(w, 0, 8, NULL), 100e6, 0);
        while ((next = net_next(n)) != SIM_NEVER)
            while (net_end(n, end = next, &tag))
                ;
        gsl_test_rel(sim_seconds(end) * 1e3, cases[i].ms, 1e-9, "case %d", i);
        wire_free(w);
        arena_free(a);
    }
}

static void a_cpu_out_of_reach_is_no_host(void)
{
    struct arena *a = arena_new();
    struct err e = {0};
    struct topo *t = topo_new(a);
    int x = topo_add(t, TOPO_GPU, 0, "gpu0"), y = topo_add(t, TOPO_GPU, 0, "gpu1");
    topo_add(t, TOPO_CPU, 0, "cpu0");
    topo_join(t, x, y, 1e9, 0);
    gsl_test(!topo_finish(t, err_at_name("t"), &e) || topo_has_host(t), "no way to cpu0");
    t = topo_new(a);
    x = topo_add(t, TOPO_GPU, 0, "gpu0"), y = topo_add(t, TOPO_CPU, 0, "cpu0");
    topo_edge(t, x, y, 1e9, 0);
    gsl_test(!topo_finish(t, err_at_name("t"), &e) || topo_has_host(t), "no way back");
    arena_free(a);
}

static void bad_wires_are_refused_with_the_reason(void)
{
    struct arena *a = arena_new();
    struct topo *t = topo_new(a);
    refused(t, "no GPU", "empty");
    t = topo_new(a);
    int x = topo_add(t, TOPO_GPU, 0, "gpu0"), y = topo_add(t, TOPO_GPU, 0, "gpu1");
    refused(t, "no path from gpu0 to gpu1", "not connected");
    t = topo_new(a);
    x = topo_add(t, TOPO_GPU, 0, "gpu0"), y = topo_add(t, TOPO_GPU, 0, "gpu1");
    topo_edge(t, x, y, 1e9, 0);
    refused(t, "no path from gpu1 to gpu0", "one way only");
    topo_edge(t, y, x, 0, 0);
    refused(t, "has 0 bytes/s", "zero bandwidth");
    t = topo_new(a);
    x = topo_add(t, TOPO_GPU, 0, "gpu0"), y = topo_add(t, TOPO_SWITCH, -1, "leaf7");
    topo_join(t, x, y, 1e9, 0);
    refused(t, "leaf7 joins nothing", "a link in no path");
    struct hw_cluster c = cluster(2, 1);
    struct err e = {0};
    c.nic.bytes_per_s = 0;
    gsl_test(topo_of_cluster(&c, NULL, a, err_at_name("--cluster"), &e) != NULL,
             "a NIC of no rate: %s", e.text);
    e = (struct err){0};
    c.nic.bytes_per_s = 1e9;
    gsl_test(topo_of_cluster(&c, &(struct topo_fabric){.oversubscription = 0.5}, a,
                             err_at_name("f"), &e) != NULL,
             "less than 1:1: %s", e.text);
    arena_free(a);
}

int main(void)
{
    ulysses_on_two_nodes_takes_what_ka13_says();
    an_oversubscribed_leaf_is_the_bottleneck();
    rails_keep_traffic_of_one_rail_off_the_spine();
    copies_to_the_host_share_pcie_with_the_nic();
    a_cpu_out_of_reach_is_no_host();
    bad_wires_are_refused_with_the_reason();
    return gsl_test_summary();
}
