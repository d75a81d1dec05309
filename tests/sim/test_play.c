/* Graphs of work and exchanges: order, contention, stragglers, the critical path. */
#include "sim/play.h"

#include <gsl/gsl_test.h>
#include <math.h>
#include <string.h>

#include "base/rng.h"

/* Eight GPUs, 100 GB/s each way; 1 MB alone takes 10 us. */
static struct topo *node(struct arena *a, double latency_s)
{
    struct err e = {0};
    struct hw_cluster c = {.name = "t",
                           .nodes = 1,
                           .gpus_per_node = 8,
                           .gpus_per_nic = 1,
                           .nvlink = {latency_s, 100e9, 1}};
    return topo_of_cluster(&c, NULL, a, err_at_name("t"), &e);
}

static double us(sim_time t)
{
    return sim_seconds(t) * 1e6;
}

static struct play_result play(struct play_graph *g, struct topo *t, const struct play_what *what,
                               struct arena *a)
{
    static const struct play_what usual;
    struct play_result r;
    struct err e = {0};
    play_graph_finish(g);
    bool ok = play_run(g, t, what ? what : &usual, &r, a, err_at_name("test"), &e);
    gsl_test(!ok, "it ends %s", e.text);
    return r;
}

static int swap_messages(struct play_graph *g, double bytes, bool together, int phase)
{
    struct play_message m[] = {{0, 1, bytes}, {1, 0, bytes}};
    struct play_exchange x = {.members = 2,
                              .gpus = (int[]){0, 1},
                              .phase = phase,
                              .together = together,
                              .calls = 1,
                              .messages = m,
                              .message_count = 2};
    return play_exchange(g, &x);
}

static void a_lane_works_in_turn_and_lanes_work_at_once(void)
{
    struct arena *a = arena_new();
    struct play_graph *g = play_graph_new(a);
    int first = play_work(g, 0, PLAY_SM, 3e-6, 0), second = play_work(g, 0, PLAY_SM, 2e-6, 0);
    int copy = play_work(g, 0, PLAY_HBM, 4e-6, 1), both = play_mark(g, 0, 2);
    play_after(g, both, second), play_after(g, both, copy);
    struct play_result r = play(g, node(a, 0), NULL, a);
    gsl_test_rel(us(r.end_at[first]), 3, 1e-9, "first");
    gsl_test_rel(us(r.begin_at[second]), 3, 1e-9, "second waits");
    gsl_test_rel(us(r.end_at[both]), 5, 1e-9, "copying did not wait");
    arena_free(a);
}

/* KA17: host 5; stages (comm 4, calc 3), (comm 2, calc 6), MagiAttention's overlap: 14; merged 15;
 * one by one 20. */
static void overlapped_stages_take_what_ka17_says(void)
{
    struct arena *a = arena_new();
    struct play_graph *g = play_graph_new(a);
    int host = play_work(g, 0, PLAY_HOST, 5e-6, 0), comm = swap_messages(g, 4e5, false, 0);
    int calc = play_work(g, 0, PLAY_SM, 3e-6, 0), comm2 = swap_messages(g, 2e5, false, 0);
    int calc2 = play_work(g, 0, PLAY_SM, 6e-6, 0), start = play_mark(g, 0, 0);
    play_after(g, start, host), play_after(g, start, comm);
    play_after(g, calc, start);
    play_after(g, comm2, start), play_after(g, comm2 + 1, start);
    play_after(g, calc2, calc), play_after(g, calc2, comm2);
    gsl_test_rel(us(play(g, node(a, 0), NULL, a).end), 14, 1e-9, "KA17a");
    g = play_graph_new(a);
    host = play_work(g, 0, PLAY_HOST, 5e-6, 0), comm = swap_messages(g, 6e5, false, 0);
    calc = play_work(g, 0, PLAY_SM, 9e-6, 0);
    play_after(g, calc, host), play_after(g, calc, comm);
    gsl_test_rel(us(play(g, node(a, 0), NULL, a).end), 15, 1e-9, "KA17b");
    arena_free(a);
}

/* Rank 1 arrives 7 us after rank 0; a swap takes 10 us and 2 us of latency; rank 0 waits for it. */
static void an_exchange_waits_for_its_last_member(void)
{
    struct arena *a = arena_new();
    for (int together = 0; together < 2; together++) {
        struct play_graph *g = play_graph_new(a);
        int late = play_work(g, 1, PLAY_SM, 7e-6, 0), swap = swap_messages(g, 1e6, together, 1);
        play_after(g, swap + 1, late);
        struct play_result r = play(g, node(a, 2e-6), NULL, a);
        gsl_test_rel(us(r.end_at[swap]), 19, 1e-9, "7 + 2 + 10");
        gsl_test_int(r.gate[swap], swap + 1, "rank 1 was the one waited for");
        double phase[2] = {0};
        play_critical(g, &r, phase, 2);
        gsl_test_rel(phase[0] * 1e6, 7, 1e-9, "critical: the late work");
        gsl_test_rel(phase[1] * 1e6, 12, 1e-9, "critical: the exchange");
    }
    arena_free(a);
}

/* Ranks 0 and 1 swap; rank 2's swap with rank 0 begins later: pairs go as they come, a `together`
 * exchange does not. */
static void pairs_do_not_wait_for_strangers(void)
{
    struct arena *a = arena_new();
    for (int together = 0; together < 2; together++) {
        struct play_graph *g = play_graph_new(a);
        struct play_message m[] = {{0, 1, 1e6}, {1, 0, 1e6}, {0, 2, 1e6}, {2, 0, 1e6}};
        struct play_exchange x = {.members = 3,
                                  .gpus = (int[]){0, 1, 2},
                                  .together = together,
                                  .messages = m,
                                  .message_count = 4};
        int first = play_exchange(g, &x);
        play_after(g, first + 2, play_work(g, 2, PLAY_SM, 50e-6, 0));
        struct play_result r = play(g, node(a, 0), NULL, a);
        gsl_test_rel(us(r.end_at[first + 1]), together ? 70 : 10, 1e-9, "rank 1");
        gsl_test_rel(us(r.end_at[first]), together ? 70 : 60, 1e-9, "rank 0");
    }
    arena_free(a);
}

/* 100 us of compute beside a swap of 40 us that takes a fifth of the SMs: 32 us of work are done
 * meanwhile, 68 remain. */
static void a_collective_slows_the_kernel_beside_it(void)
{
    struct arena *a = arena_new();
    struct play_graph *g = play_graph_new(a);
    int work = play_work(g, 0, PLAY_SM, 100e-6, 0);
    swap_messages(g, 4e6, false, 1);
    struct play_what what = {.sm_share = 0.2};
    struct play_result r = play(g, node(a, 0), &what, a);
    gsl_test_rel(us(r.end_at[work]), 108, 1e-9, "40 at 0.8, 68 at 1");
    what = (struct play_what){.comm_waits = true};
    struct play_result w = play(g, node(a, 0), &what, a);
    gsl_test_rel(us(w.end), 140, 1e-9, "a persistent kernel keeps the swap waiting");
    arena_free(a);
}

static void slow_gpus_and_links_slow_what_uses_them(void)
{
    struct arena *a = arena_new();
    struct topo *t = node(a, 0);
    struct play_graph *g = play_graph_new(a);
    int work = play_work(g, 0, PLAY_SM, 10e-6, 0), other = play_work(g, 1, PLAY_SM, 10e-6, 0);
    int swap = swap_messages(g, 1e6, false, 1);
    play_after(g, swap, work);
    const double speed[] = {0.5, 1, 1, 1, 1, 1, 1, 1};
    struct play_fault flap[] = {{.edge = 0, .at_s = 22e-6, .share = 0},
                                {.edge = 0, .at_s = 25e-6, .share = 1}};
    struct play_what what = {.gpu_speed = speed, .faults = flap, .fault_count = 2};
    struct play_result r = play(g, t, &what, a);
    gsl_test_rel(us(r.end_at[work]), 20, 1e-9, "half the speed");
    gsl_test_rel(us(r.end_at[other]), 10, 1e-9, "the neighbour as usual");
    gsl_test_rel(us(r.end), 33, 1e-9, "10 us of message with 3 us of outage");
    struct err e = {0};
    what.fault_count = 1;
    gsl_test(play_run(g, t, &what, &r, a, err_at_name("--fault"), &e) ||
                 !strstr(e.text, "link that is down"),
             "down for ever: %s", e.text);
    arena_free(a);
}

/* PCIe at 50 GB/s: 1 MB out and 2 MB back at once, 20 and 40 us; the kernel beside them does not
 * care. */
static void copies_run_beside_kernels(void)
{
    struct arena *a = arena_new();
    struct err e = {0};
    struct hw_cluster c = {.name = "t",
                           .nodes = 1,
                           .gpus_per_node = 2,
                           .gpus_per_nic = 1,
                           .nvlink = {0, 100e9, 1},
                           .pcie_bytes_per_s = 50e9};
    struct topo *t =
        topo_of_cluster(&c, &(struct topo_fabric){.host = true}, a, err_at_name("t"), &e);
    struct play_graph *g = play_graph_new(a);
    int work = play_work(g, 0, PLAY_SM, 30e-6, 0), out = play_copy(g, 0, true, 1e6, 1),
        in = play_copy(g, 0, false, 2e6, 1), late = play_copy(g, 0, true, 0, 1);
    play_after(g, late, work);
    struct play_what what = {.sm_share = 0.5};
    struct play_result r = play(g, t, &what, a);
    gsl_test_rel(us(r.end_at[work]), 30, 1e-9, "the kernel");
    gsl_test_rel(us(r.end_at[out]), 20, 1e-9, "to the host");
    gsl_test_rel(us(r.end_at[in]), 40, 1e-9, "back");
    gsl_test_rel(us(r.end_at[late]), 30, 1e-9, "nothing to copy");
    arena_free(a);
}

static void a_circle_of_tasks_is_an_error_and_not_a_hang(void)
{
    struct arena *a = arena_new();
    struct play_graph *g = play_graph_new(a);
    int x = play_work(g, 0, PLAY_SM, 1e-6, 0), y = play_work(g, 0, PLAY_SM, 1e-6, 0);
    play_after(g, x, y), play_after(g, y, x);
    play_graph_finish(g);
    struct play_result r;
    struct play_what what = {0};
    struct err e = {0};
    gsl_test(play_run(g, node(a, 0), &what, &r, a, err_at_name("t"), &e) ||
                 !strstr(e.text, "circle"),
             "%s", e.text);
    arena_free(a);
}

/* A random layered graph of 8 GPUs: 20 rounds of work and a shift by a random stride; GPU i of the
 * graph is name[i]. */
static struct play_graph *random_graph(const int *name, struct arena *a)
{
    struct rng r = rng_stream(11, "graph", 0, 0, 0);
    struct play_graph *g = play_graph_new(a);
    int last[8];
    for (int round = 0; round < 20; round++) {
        struct play_message m[8];
        int stride = 1 + (int)rng_below(&r, 7), work[8];
        for (int i = 0; i < 8; i++) {
            work[i] = play_work(g, name[i], PLAY_SM, 1e-6 * (double)rng_below(&r, 50), 0);
            m[i] = (struct play_message){i, (i + stride) % 8, 1e4 * (double)rng_below(&r, 90)};
            if (round)
                play_after(g, work[i], last[i]);
        }
        struct play_exchange x = {
            .members = 8, .gpus = name, .phase = 1, .calls = 1, .messages = m, .message_count = 8};
        int first = play_exchange(g, &x);
        for (int i = 0; i < 8; i++) {
            play_after(g, first + i, work[i]);
            last[i] = first + i;
        }
    }
    return g;
}

static void renaming_ranks_changes_nothing_and_the_critical_path_adds_up(void)
{
    struct arena *a = arena_new();
    struct topo *t = node(a, 1e-6);
    const int plain[] = {0, 1, 2, 3, 4, 5, 6, 7}, other[] = {3, 6, 1, 0, 7, 5, 2, 4};
    struct play_graph *g = random_graph(plain, a);
    struct play_result x = play(g, t, NULL, a), y = play(random_graph(other, a), t, NULL, a);
    int differ = 0;
    for (int i = 0; i < play_tasks(g); i++)
        differ += x.begin_at[i] != y.begin_at[i] || x.end_at[i] != y.end_at[i];
    gsl_test_int(differ, 0, "every task at the same picosecond under other rank names");
    double phase[2] = {0};
    play_critical(g, &x, phase, 2);
    gsl_test_abs(phase[0] + phase[1], sim_seconds(x.end), 1e-15, "parts of the critical path");
    arena_free(a);
}

static void jitter_is_the_same_for_the_same_seed_and_run(void)
{
    struct arena *a = arena_new();
    struct topo *t = node(a, 1e-6);
    const int plain[] = {0, 1, 2, 3, 4, 5, 6, 7};
    struct play_graph *g = random_graph(plain, a);
    struct play_what what = {.jitter = 0.1, .seed = 5, .run = 3};
    sim_time first = play(g, t, &what, a).end;
    struct play_result r;
    struct err e = {0};
    play_run(g, t, &what, &r, a, err_at_name("t"), &e);
    gsl_test(r.end != first, "same seed and run");
    what.run = 4;
    play_run(g, t, &what, &r, a, err_at_name("t"), &e);
    gsl_test(r.end == first, "another run");
    arena_free(a);
}

int main(void)
{
    a_lane_works_in_turn_and_lanes_work_at_once();
    overlapped_stages_take_what_ka17_says();
    an_exchange_waits_for_its_last_member();
    pairs_do_not_wait_for_strangers();
    a_collective_slows_the_kernel_beside_it();
    slow_gpus_and_links_slow_what_uses_them();
    copies_run_beside_kernels();
    a_circle_of_tasks_is_an_error_and_not_a_hang();
    renaming_ranks_changes_nothing_and_the_critical_path_adds_up();
    jitter_is_the_same_for_the_same_seed_and_run();
    return gsl_test_summary();
}
