/* What-ifs: how they read, which links they mean, what they do to an exchange. */
#include "sim/fault.h"

#include <gsl/gsl_test.h>
#include <math.h>
#include <string.h>

static struct topo *two_servers(struct arena *a)
{
    struct err e = {0};
    struct hw_cluster c = {.name = "t",
                           .nodes = 2,
                           .gpus_per_node = 2,
                           .gpus_per_nic = 1,
                           .nvlink = {0, 100e9, 1},
                           .nic = {0, 10e9, 1},
                           .pcie_bytes_per_s = 1e12};
    return topo_of_cluster(&c, NULL, a, err_at_name("t"), &e);
}

/* GPU 0 and GPU 2, on different servers, swap 10 MB: 1 ms; and 0 and 1 by NVLink: 0.1 ms. In ms. */
static double swap_ms(const char *faults, int peer, struct err *e)
{
    struct arena *a = arena_new();
    struct topo *t = two_servers(a);
    struct play_graph *g = play_graph_new(a);
    struct play_message m[] = {{0, 1, 10e6}, {1, 0, 10e6}};
    struct play_exchange x = {
        .members = 2, .gpus = (int[]){0, peer}, .messages = m, .message_count = 2};
    play_exchange(g, &x);
    play_graph_finish(g);
    struct play_what what = {0};
    struct play_result r = {0};
    struct fault *f;
    int count;
    struct err_at at = err_at_name("--fault");
    bool ok = fault_parse(faults, at, a, &f, &count, e) &&
              fault_apply(f, count, t, &what, a, at, e) && play_run(g, t, &what, &r, a, at, e);
    double ms = ok ? sim_seconds(r.end) * 1e3 : NAN;
    arena_free(a);
    return ms;
}

static void expect(const char *faults, int peer, double want)
{
    struct err e = {0};
    gsl_test_rel(swap_ms(faults, peer, &e), want, 1e-9, "%s %s", faults, e.text);
}

static void faults_slow_the_links_they_name(void)
{
    expect("nic3=0.5", 2, 1);
    expect("nic0=0.5", 2, 2);
    expect("nic2=25%", 2, 4);
    expect("nvlink0=0.5", 2, 1);
    expect("nvlink0=0.5", 1, 0.2);
    expect("gpu0=0.5", 2, 1);
    expect("nic0=0@0.5ms-2ms", 2, 2.5);
    expect("nic0=0@0.2ms-0.4ms,nic0=0@0.6ms-0.8ms", 2, 1.4);
    expect("nic0=0@0.2ms-0.4ms,nic0=0@0.4ms-0.6ms", 2, 1.4);
    /* down for 0.2 of every 0.4 ms from 0.2 ms on: 1 ms of sending ends with the fifth time up */
    expect("nic0=0@0.2ms-0.4ms/0.4ms", 2, 1.8);
    expect("nic0=0.5@0ms-0.1ms/0.2ms", 2, 1.35); /* by hand: 6 x 0.15, 0.05, 0.05 */
}

static void refused(const char *faults, const char *want)
{
    struct err e = {0};
    swap_ms(faults, 2, &e);
    gsl_test(e.code != ERR_INPUT || !strstr(e.text, want), "%s: '%s'", faults, e.text);
}

static void bad_faults_are_refused_with_the_reason(void)
{
    refused("", "want a part");
    refused("disk0=0.5", "want a part");
    refused("nic0", "want a part");
    refused("nic@1ms-2ms=3", "want a part");
    refused("nic0=2", "at most 1");
    refused("nic0=-1", "--fault");
    refused("nicx=0.5", "want a part");
    refused("nic0=0.5@3ms", "from when to when");
    refused("nic0=0.5@3ms-2ms", "ends before it begins");
    refused("nic0=0.5@3ms-2ms/x", "period of the fault");
    refused("nic0=0.5@3ms-5ms/2ms", "a period longer than the fault");
    refused("gpu0=0", "above 0");
    refused("gpu0=0.5@1ms-2ms", "all the time");
    refused("nic9=0.5", "there are GPUs 0 to 3");
    refused("nic0=0", "link that is down");
    refused("nic0=0.5,", "want a part");
}

static void a_link_in_no_path_is_an_error(void)
{
    struct arena *a = arena_new();
    struct err e = {0};
    struct hw_cluster c = {
        .name = "t", .nodes = 1, .gpus_per_node = 2, .gpus_per_nic = 1, .nvlink = {0, 100e9, 1}};
    struct topo *t = topo_of_cluster(&c, NULL, a, err_at_name("t"), &e);
    struct play_what what = {0};
    struct fault f = {.part = FAULT_NIC, .gpu = 1, .share = 0.5, .until_s = INFINITY};
    gsl_test(fault_apply(&f, 1, t, &what, a, err_at_name("--fault"), &e) ||
                 !strstr(e.text, "in no path"),
             "%s", e.text);
    arena_free(a);
}

int main(void)
{
    faults_slow_the_links_they_name();
    bad_faults_are_refused_with_the_reason();
    a_link_in_no_path_is_an_error();
    return gsl_test_summary();
}
