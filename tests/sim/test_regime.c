/* Regimes: with a calibrated profile an equal exchange alone takes the profile's time; NCCL's model
 * by hand. */
#include "sim/regime.h"

#include <gsl/gsl_test.h>
#include <math.h>

enum { MOST = 64 };

static double play_s(const struct coll *c, const struct hw_cluster *hw, struct regime r,
                     struct arena *a)
{
    struct err e = {0};
    struct err_at at = err_at_name("test");
    struct play_graph *g = play_graph_new(a);
    struct play_what what = {0};
    struct play_result out;
    int gpus[MOST];
    for (int i = 0; i < c->members; i++)
        gpus[i] = i;
    coll_add(g, c, gpus, 0, r.calls, r.extra_s, r.scale);
    play_graph_finish(g);
    bool ok = play_run(g, topo_of_cluster(hw, NULL, a, at, &e), &what, &out, a, at, &e);
    gsl_test(!ok, "it runs %s", e.text);
    return sim_seconds(out.end);
}

/* The prediction is the oracle: prof_collective, asked directly. */
static void equal_exchanges_take_the_profiles_time(void)
{
    const struct {
        const char *cluster;
        int gpus, servers;
    } cases[] = {{"1x8-h100-400g", 8, 1}, {"4x8-h100-400g", 32, 4}};
    const enum coll_op ops[] = {COLL_ALLTOALL, COLL_ALL_GATHER, COLL_REDUCE_SCATTER};
    for (int i = 0; i < 2; i++)
        for (int k = 0; k < 3; k++)
            for (double whole = 1e4; whole < 2e9; whole *= 30) {
                struct arena *a = arena_new();
                struct err e = {0};
                struct err_at at = err_at_name("test");
                const struct hw_cluster *hw = hw_cluster_load(cases[i].cluster, at, a, &e);
                const struct prof_net *net = prof_net_load("h100", at, a, &e);
                int n = cases[i].gpus, hosts[MOST];
                double bytes[MOST * MOST], share[MOST];
                for (int r = 0; r < n; r++) {
                    hosts[r] = r / 8;
                    share[r] = whole / n;
                }
                for (int r = 0; r < n * n; r++)
                    bytes[r] = whole / n;
                struct coll c = k == 0   ? coll_alltoallv(n, bytes, hosts, a)
                                : k == 1 ? coll_allgather(n, share, hosts, a)
                                         : coll_reduce_scatter(n, share, hosts, a);
                struct regime_source s = {.cluster = hw, .net = net};
                struct regime r = regime_of(&s, ops[k], &c, hosts, whole * (n - 1) / n, 1);
                struct coll_query q = {.op = ops[k],
                                       .type = COLL_HALF,
                                       .bytes = whole,
                                       .gpus = n,
                                       .nodes = cases[i].servers,
                                       .nic_bytes_per_s = hw->nic.bytes_per_s};
                double want = prof_collective(net, &q).time.value_s;
                gsl_test_rel(play_s(&c, hw, r, a), want, 1e-3, "%s, %s of %.0g B", cases[i].cluster,
                             coll_op_names[ops[k]], whole);
                arena_free(a);
            }
}

static void uneven_exchanges_stay_uneven_under_a_profile(void)
{
    struct arena *a = arena_new();
    struct err e = {0};
    struct err_at at = err_at_name("test");
    const struct hw_cluster *hw = hw_cluster_load("1x8-h100-400g", at, a, &e);
    const struct prof_net *net = prof_net_load("h100", at, a, &e);
    double bytes[64];
    int hosts[8] = {0};
    for (int i = 0; i < 64; i++)
        bytes[i] = i % 8 == 3 ? 40e6 : 10e6; /* member 3 receives four times as much */
    struct coll c = coll_alltoallv(8, bytes, hosts, a);
    struct regime_source s = {.cluster = hw, .net = net};
    struct regime r = regime_of(&s, COLL_ALLTOALL, &c, hosts, 6 * 10e6 + 40e6, 1);
    double wire = 7 * 40e6 / hw_nvlink_bytes_per_s(hw) * r.scale + r.extra_s;
    gsl_test_rel(play_s(&c, hw, r, a), wire, 1e-3,
                 "the full member sets the time, at the profile's rate");
    arena_free(a);
}

static void nccls_model_by_hand(void)
{
    struct hw_cluster hw = {
        .gpus_per_node = 8, .nvlink = {0, 400e9, 1}, .nic = {0, 50e9, 1}, .gpus_per_nic = 1};
    struct regime_source s = {.cluster = &hw, .nccl = true};
    struct coll shape = {.members = 8, .stage_count = 1, .stage = {{.near_steps = 7}}};
    int hosts[8] = {0};
    struct regime r = regime_of(&s, COLL_ALL_GATHER, &shape, hosts, 1e9, 2);
    gsl_test_rel(r.extra_s, 2 * (8.4e-6 + 7 * 3.4e-6), 1e-12,
                 "two large calls: Simple, base and seven hops each");
    gsl_test_rel(r.scale, 1, 1e-15, "Simple has no flags");
    s.nccl = false;
    r = regime_of(&s, COLL_ALL_GATHER, &shape, hosts, 1e9, 2);
    gsl_test_rel(r.calls, 2, 1e-15, "the preset: the routes' latency, twice");
}

int main(void)
{
    equal_exchanges_take_the_profiles_time();
    uneven_exchanges_stay_uneven_under_a_profile();
    nccls_model_by_hand();
    return gsl_test_summary();
}
