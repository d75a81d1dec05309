/* Collectives as messages: bytes by hand and by the known answers; times on a network. */
#include "sim/coll.h"

#include <gsl/gsl_test.h>
#include <math.h>

enum { MOST = 64 };

struct load { /* of one member */
    double near_out, far_out, in;
};

static void loads(const struct coll *c, const int *host, struct load *l)
{
    for (int i = 0; i < c->members; i++)
        l[i] = (struct load){0};
    for (int s = 0; s < c->stage_count; s++)
        for (int i = 0; i < c->stage[s].count; i++) {
            const struct play_message *m = &c->stage[s].messages[i];
            *(host[m->from] == host[m->to] ? &l[m->from].near_out : &l[m->from].far_out) +=
                m->bytes;
            l[m->to].in += m->bytes;
        }
}

static void servers(int n, int per, int *host)
{
    for (int i = 0; i < n; i++)
        host[i] = i / per;
}

/* KA22: heads 1 1 2 2 2 2 3 3 over 8 ranks, S 64000, D 128, bf16: the bottleneck rank receives its
 * 3 heads of 7/8 of the tokens: 43,008,000 B; with 2 heads each 28,672,000. */
static void uneven_heads_load_ranks_as_ka22_says(void)
{
    const double heads[] = {1, 1, 2, 2, 2, 2, 3, 3};
    double bytes[64], most = 0;
    int host[8];
    struct load l[8];
    struct arena *a = arena_new();
    servers(8, 8, host);
    for (int even = 0; even < 2; even++) {
        for (int i = 0; i < 64; i++)
            bytes[i] = (even ? 2 : heads[i % 8]) * 8000 * 128 * 2;
        struct coll c = coll_alltoallv(8, bytes, host, a);
        loads(&c, host, l);
        most = 0;
        for (int i = 0; i < 8; i++)
            most = fmax(most, fmax(l[i].in, l[i].near_out));
        gsl_test_rel(most, even ? 28672000 : 43008000, 1e-12,
                     even ? "KA22b: even" : "KA22: uneven");
    }
    arena_free(a);
}

/* KA25: 4000 K and V rows of 512 B in 2 x 8 GPUs, wanted by all others. */
static void groupcast_sends_a_row_to_a_server_once(void)
{
    double need[256], rows = 4000 * 512;
    int host[16];
    struct load l[16];
    struct arena *a = arena_new();
    servers(16, 8, host);
    for (int i = 0; i < 256; i++)
        need[i] = rows;
    struct coll flat = coll_alltoallv(16, need, host, a),
                once = coll_groupcast(16, need, need, host, a);
    loads(&flat, host, l);
    gsl_test_rel(l[0].far_out, 16384000, 1e-12, "KA25a: flat");
    loads(&once, host, l);
    gsl_test_rel(l[0].far_out, 2048000, 1e-12, "KA25b: once a server");
    double copies = 0;
    for (int i = 0; i < once.stage[1].count; i++)
        if (once.stage[1].messages[i].from == 8)
            copies += once.stage[1].messages[i].bytes;
    gsl_test_rel(copies, 14336000, 1e-12,
                 "KA25c: NVLink copies of rank 0's rows inside the far server");
    for (int i = 0; i < 16; i++)
        gsl_test_rel(l[i].in, 15 * rows, 1e-12, "rank %d still gets everything", i);
    arena_free(a);
}

static void every_member_of_a_gather_receives_what_it_lacks(void)
{
    double share[24], all = 0;
    int host[24];
    struct load l[24];
    struct arena *a = arena_new();
    for (int i = 0; i < 24; i++)
        all += share[i] = 100 * (1 + i % 5);
    for (int per = 1; per <= 24; per *= 2) {
        int w = per > 8 ? 24 : per;
        servers(24, w, host);
        struct coll ways[] = {coll_allgather(24, share, host, a),
                              coll_allgather_levels(24, share, host, a)};
        double far[2] = {0};
        for (int k = 0; k < 2; k++) {
            loads(&ways[k], host, l);
            for (int i = 0; i < 24; i++)
                far[k] += l[i].far_out;
            if (k == 1 || w == 24 || w == 1)
                for (int i = 0; i < 24; i++)
                    gsl_test_rel(l[i].in, all - share[i], 1e-12, "%d a server, member %d", w, i);
        }
        double servers_n = 24.0 / w;
        gsl_test_rel(far[1], w == 24 ? 0 : (servers_n - 1) * all, 1e-12,
                     "two levels: each byte to each other server once");
        if (w > 1 && w < 24)
            gsl_test_rel(far[0], servers_n * all - all / w, 0.02, "rings: nearly so");
    }
    arena_free(a);
}

/* Reduce-scatter is all-gather backwards; all-reduce moves 2 (n-1)/n of the buffer over each ring
 * edge; two trees move each half twice over each tree edge. */
static void reductions_move_what_their_schedules_say(void)
{
    double share[8];
    int host[8];
    struct load l[8], r[8];
    struct arena *a = arena_new();
    servers(8, 8, host);
    for (int i = 0; i < 8; i++)
        share[i] = 10 * (i + 1);
    struct coll gather = coll_allgather(8, share, host, a),
                scatter = coll_reduce_scatter(8, share, host, a);
    loads(&gather, host, l);
    loads(&scatter, host, r);
    for (int i = 0; i < 8; i++)
        gsl_test_rel(r[i].near_out, l[i].in, 1e-12,
                     "member %d sends in one what it receives in the other", i);
    struct coll ring = coll_allreduce_ring(8, 800, host, a),
                tree = coll_allreduce_tree(8, 800, host, a);
    loads(&ring, host, l);
    loads(&tree, host, r);
    double sum = 0;
    for (int i = 0; i < 8; i++) {
        gsl_test_rel(l[i].near_out, 1400, 1e-12, "ring: 2 x 7/8 x 800");
        sum += r[i].near_out;
    }
    gsl_test_rel(sum, 2 * 7 * 800, 1e-12,
                 "trees: 7 edges, up and down, half the buffer each, twice");
    gsl_test_int(tree.stage[0].near_steps, 6, "eight members: depth 3, up and down");
    arena_free(a);
}

static double play_ms(const struct coll *c, int n, int per, double near, double far)
{
    struct arena *a = arena_new();
    struct err e = {0};
    struct hw_cluster hw = {.name = "test",
                            .nodes = n / per,
                            .gpus_per_node = per,
                            .gpus_per_nic = 1,
                            .nvlink = {0, near, 1},
                            .nic = {0, far, 1},
                            .pcie_bytes_per_s = 1e13};
    struct play_graph *g = play_graph_new(a);
    int gpus[MOST];
    for (int i = 0; i < n; i++)
        gpus[i] = i;
    coll_add(g, c, gpus, 0, 1, 0, 1);
    play_graph_finish(g);
    struct play_result out;
    struct play_what what = {0};
    play_run(g, topo_of_cluster(&hw, NULL, a, err_at_name("t"), &e), &what, &out, a,
             err_at_name("t"), &e);
    double ms = sim_seconds(out.end) * 1e3;
    arena_free(a);
    return ms;
}

/* 16 members in 2 servers, shares of 1 MB. Rings: 15 MB over each edge, 7/8 of the rings on NVLink,
 * 1/8 on each NIC. Two levels: 1 MB over each NIC, then 7 x 2 MB over each NVLink port. */
static void gathers_take_the_time_of_their_fullest_port(void)
{
    double share[16];
    int host[16];
    struct arena *a = arena_new();
    servers(16, 8, host);
    for (int i = 0; i < 16; i++)
        share[i] = 1e6;
    struct coll rings = coll_allgather(16, share, host, a),
                levels = coll_allgather_levels(16, share, host, a);
    gsl_test_rel(play_ms(&rings, 16, 8, 400e9, 25e9), 15e6 / 8 / 25e9 * 1e3, 1e-6,
                 "rings wait for the NICs");
    gsl_test_rel(play_ms(&rings, 16, 8, 100e9, 50e9), 15e6 * 7 / 8 / 100e9 * 1e3, 1e-6,
                 "or for NVLink");
    gsl_test_rel(play_ms(&levels, 16, 8, 400e9, 25e9), (1e6 / 25e9 + 14e6 / 400e9) * 1e3, 1e-6,
                 "levels, one after the other");
    arena_free(a);
}

static void small_messages_take_the_low_latency_protocol(void)
{
    struct coll c = {.members = 8, .stage_count = 1, .stage = {{.near_steps = 7}}};
    double extra;
    gsl_test(coll_protocol_best(&c, 1e3, 400e9, &extra) != &coll_protocols[COLL_LL], "1 kB");
    gsl_test_rel(extra, 6.6e-6 + 7 * 0.6e-6, 1e-12, "base and seven hops");
    gsl_test(coll_protocol_best(&c, 1e9, 400e9, &extra) != &coll_protocols[COLL_SIMPLE], "1 GB");
    double last = 0, s;
    bool falls = false;
    for (double b = 1e3; b < 1e10; b *= 1.3, last = s) {
        const struct coll_protocol *p = coll_protocol_best(&c, b, 400e9, &extra);
        s = extra + b / (p->efficiency * 400e9);
        falls |= s < last;
    }
    gsl_test(falls, "more bytes never take less time");
}

int main(void)
{
    uneven_heads_load_ranks_as_ka22_says();
    groupcast_sends_a_row_to_a_server_once();
    every_member_of_a_gather_receives_what_it_lacks();
    reductions_move_what_their_schedules_say();
    gathers_take_the_time_of_their_fullest_port();
    small_messages_take_the_low_latency_protocol();
    return gsl_test_summary();
}
