/* Blocks and steps: against the closed forms where both must agree, bounds, symmetry, and the same
 * bytes on any threads. */
#include <gsl/gsl_sort.h>
#include <gsl/gsl_test.h>
#include <math.h>
#include <string.h>
#ifdef _OPENMP
#include <omp.h>
#endif

#include "model/calib.h"
#include "sim/eval.h"
#include "sim/step.h"

struct world {
    struct arena *a, *scratch;
    struct err e;
    struct sparsity sparsity;
    struct cp_case c;
};

static struct world world_new(const char *cluster, const char *model)
{
    struct world w = {.a = arena_new(), .scratch = arena_new()};
    struct err_at at = err_at_name("test");
    w.c = (struct cp_case){.cluster = hw_cluster_load(cluster, at, w.a, &w.e),
                           .model = dit_load(model, at, w.a, &w.e),
                           .kernels = kern_load("fa3+dsv", at, w.a, &w.e),
                           .options = cp_options_default(),
                           .video_tokens = 64000,
                           .samples = 1,
                           .linear = true};
    gsl_test(w.e.code != ERR_NONE, "presets %s", w.e.text);
    sparsity_uniform(0.1, dit_blocks(w.c.model), w.c.model->heads, w.a, &w.sparsity, &w.e);
    w.sparsity.model = (struct union_model){.kind = UNION_FIXED, .fixed = 0.3};
    return w;
}

static void world_free(struct world *w)
{
    arena_free(w->a);
    arena_free(w->scratch);
}

static struct cp_conf conf_of(struct world *w, enum cp_strategy how, int head_groups,
                              int seq_groups, bool sparse)
{
    int heads = w->c.model->heads;
    w->c.sparsity = &w->sparsity;
    return (struct cp_conf){.strategy = how,
                            .head_groups = head_groups,
                            .seq_groups = seq_groups,
                            .heads_inside = true,
                            .sparse = sparse,
                            .query_group = 32,
                            .piece_count = heads,
                            .pieces = cp_pieces_even(heads, head_groups, w->a)};
}

static void set_tensor(struct world *w, struct cp_conf *c, int tensor)
{
    c->tensor = tensor;
    c->pieces = cp_pieces_even(c->piece_count, cp_head_ranks(c), w->a);
}

static struct program_time eval(struct world *w, const struct plan_eval *ev,
                                const struct cp_conf *conf)
{
    struct program_time t = {0};
    gsl_test(!ev->block(ev, &w->c, 0, conf, &t, w->a, w->scratch, &w->e), "%s: %s", ev->name,
             w->e.text);
    return t;
}

/* Inside one server, ranks alike: nothing contends and nobody waits, so events and closed forms
 * must say the same. The host's sync (only simulated) is set to zero; SM contention too. */
static void one_server_of_equal_ranks_agrees_with_the_closed_forms(void)
{
    const struct {
        enum cp_strategy how;
        int g_h, g_s, tensor;
        bool sparse;
        const char *what;
    } cases[] = {{CP_ULYSSES, 8, 1, 1, false, "ulysses 8x1, dense"},
                 {CP_ULYSSES, 8, 1, 1, true, "ulysses 8x1, sparse"},
                 {CP_SCP, 1, 8, 1, true, "scp 1x8"},
                 {CP_SCP_DENSE, 1, 8, 1, true, "scp-dense 1x8"},
                 {CP_HYBRID, 4, 2, 1, true, "hybrid 4x2"},
                 {CP_ALLGATHER, 1, 8, 1, false, "all-gather 1x8"},
                 {CP_SINGLE, 1, 1, 8, false, "8 tensor ranks"},
                 {CP_ULYSSES, 2, 1, 4, true, "ulysses 2x1, 4 tensor ranks"},
                 {CP_HYBRID, 2, 2, 2, true, "hybrid 2x2, 2 tensor ranks"}};
    struct sim_options o = {0};
    struct plan_eval sim = sim_eval(&o);
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        struct world w = world_new("1x8-h100-400g", "hunyuanvideo-13b");
        struct cp_conf conf =
            conf_of(&w, cases[i].how, cases[i].g_h, cases[i].g_s, cases[i].sparse);
        set_tensor(&w, &conf, cases[i].tensor);
        w.c.options.tensor_allreduce = cases[i].tensor == 4;
        struct program_time cost = eval(&w, &eval_cost, &conf), ours = eval(&w, &sim, &conf);
        gsl_test_rel(ours.total_s, cost.total_s, 1e-6, "%s: total", cases[i].what);
        for (int p = 0; p < ours.phase_count; p++)
            gsl_test_abs(ours.phase[p].critical_s, cost.phase[p].critical_s, 1e-6 * cost.total_s,
                         "%s: phase %d", cases[i].what, p);
        double parts = 0;
        for (int p = 0; p < COST_CLASSES; p++)
            parts += ours.class_s[p];
        gsl_test_rel(parts, ours.total_s, 1e-9, "%s: classes add up", cases[i].what);
        world_free(&w);
    }
}

/* With calibrated collectives both ask the same profile; equal exchanges then take its time in
 * both. */
static void calibrated_clusters_agree_too(void)
{
    struct sim_options o = {0};
    struct plan_eval sim = sim_eval(&o);
    struct world w = world_new("2x8-h100-400g", "dsv-2.7b");
    struct hw_cluster c = *w.c.cluster;
    gsl_test(!calib_cluster(&c, w.a, &w.e) || !c.net, "h100 is calibrated %s", w.e.text);
    w.c.cluster = &c;
    const struct {
        int g_h, g_s;
        enum cp_strategy how;
        const char *what;
    } cases[] = {{8, 1, CP_ULYSSES, "ulysses 8x1"},
                 {16, 1, CP_ULYSSES, "ulysses 16x1"},
                 {1, 16, CP_ALLGATHER, "all-gather 1x16"},
                 {4, 2, CP_HYBRID_DENSE, "hybrid-dense 4x2"}};
    for (int i = 0; i < 4; i++) {
        struct cp_conf conf = conf_of(&w, cases[i].how, cases[i].g_h, cases[i].g_s, false);
        struct program_time cost = eval(&w, &eval_cost, &conf), ours = eval(&w, &sim, &conf);
        gsl_test_rel(ours.total_s, cost.total_s, 1e-3, "%s", cases[i].what);
    }
    world_free(&w);
}

/* Two servers: an all-to-all's NVLink and NIC parts overlap in both; the closed form adds the
 * larger latency to the larger time, the simulation each to its own: equal within the latencies. */
static void two_servers_agree_within_the_latencies(void)
{
    struct sim_options o = {0};
    struct plan_eval sim = sim_eval(&o);
    struct world w = world_new("2x8-h100-400g", "dsv-2.7b");
    struct cp_conf conf = conf_of(&w, CP_ULYSSES, 16, 1, false);
    struct program_time cost = eval(&w, &eval_cost, &conf), ours = eval(&w, &sim, &conf);
    gsl_test_rel(ours.total_s, cost.total_s, 0.01, "ulysses 16x1");
    conf = conf_of(&w, CP_RING, 1, 16, false);
    cost = eval(&w, &eval_cost, &conf), ours = eval(&w, &sim, &conf);
    gsl_test_rel(ours.total_s, cost.total_s, 0.02, "ring 1x16");
    world_free(&w);
}

static void a_block_takes_at_least_its_busiest_rank_and_at_most_the_sum(void)
{
    struct world w = world_new("2x8-h100-400g", "hunyuanvideo-13b");
    struct cp_conf conf = conf_of(&w, CP_USP, 4, 4, false);
    struct plan_eval sim = sim_eval(NULL);
    struct program_time t = eval(&w, &sim, &conf);
    double most = 0, serial = 0;
    for (int r = 0; r < 16; r++)
        most = fmax(most, t.compute_s[r] + t.comm_s[r]);
    for (int p = 0; p < t.phase_count; p++)
        serial += t.phase[p].busy_max_s;
    gsl_test(t.total_s < most * (1 - 1e-9), "busiest rank %g s, total %g s", most, t.total_s);
    gsl_test(t.total_s > serial * (1 + 1e-9), "serial sum %g s, total %g s", serial, t.total_s);
    world_free(&w);
}

/* ---- whole steps ---- */

static struct plan plan_of(struct world *w, struct cp_conf conf, int blocks)
{
    int gpus = hw_gpus(w->c.cluster), tensor = cp_tensor(&conf), cp = cp_ranks(&conf) / tensor;
    struct plan p = {.c = w->c,
                     .memory = mem_options_default(gpus / tensor),
                     .phase = PLAN_STEP,
                     .evaluator = "cost",
                     .tensor = tensor,
                     .gpus = gpus,
                     .cp = cp,
                     .replicas = gpus / cp / tensor,
                     .block_count = blocks,
                     .optimizer_s = 1e-3,
                     .blocks = ARENA_ARRAY(w->a, struct plan_block, blocks)};
    for (int i = 0; i < blocks; i++)
        p.blocks[i].conf = conf;
    return p;
}

static double step_s(struct world *w, const struct plan *p, const struct sim_options *o, bool all,
                     int *folded)
{
    struct step s;
    struct play_result r;
    struct play_what what = {.sm_share = o->sm_share};
    struct err_at at = err_at_name("test");
    bool ok = step_of_plan(p, o, 2, all, NULL, &s, w->a, at, &w->e) &&
              play_run(s.graph, s.topo, &what, &r, w->a, at, &w->e);
    gsl_test(!ok, "the step runs %s", w->e.text);
    if (folded)
        *folded = s.folded;
    struct step_report report = step_report(&s, &r, w->a);
    double critical = 0;
    for (int l = 0; l < s.label_count; l++)
        critical += report.rows[l].critical_s;
    gsl_test_rel(critical, report.total_s, 1e-9, "critical parts add up to %g s", report.total_s);
    for (int l = 0; l < report.link_count; l++)
        gsl_test(report.links[l].busy_share > 1 + 1e-9, "link %d is busy %g of the time", l,
                 report.links[l].busy_share);
    return report.total_s;
}

/* 4 servers: replicas of 8, of 4 in a server, of 16 over two; FSDP over all 32 GPUs. */
static void identical_replicas_are_simulated_once_with_the_same_result(void)
{
    const int degrees[3][2] = {{8, 1}, {4, 1}, {8, 2}}, folds[] = {4, 4, 2};
    struct sim_options o = sim_options_default();
    for (int i = 0; i < 3; i++) {
        struct world w = world_new("4x8-h100-400g", "hunyuanvideo-13b");
        struct cp_conf conf =
            conf_of(&w, i == 2 ? CP_USP : CP_ULYSSES, degrees[i][0], degrees[i][1], false);
        struct plan p = plan_of(&w, conf, 3);
        int folded, all;
        double once = step_s(&w, &p, &o, false, &folded), each = step_s(&w, &p, &o, true, &all);
        gsl_test_int(folded, folds[i], "folded");
        gsl_test_int(all, 1, "not folded");
        gsl_test_rel(once, each, 1e-9, "%d x %d: same step time", degrees[i][0], degrees[i][1]);
        world_free(&w);
    }
}

/* The same with tensor ranks and with several sharding groups (HSDP): inside a server, one a
 * server. */
static void tensor_ranks_and_sharding_groups_fold_too(void)
{
    const struct {
        int cp, tensor, shards, folds;
    } cases[] = {{4, 2, 16, 4}, {2, 4, 2, 4}, {8, 1, 4, 4}, {8, 1, 8, 4}, {2, 2, 4, 4}};
    struct sim_options o = sim_options_default();
    for (int i = 0; i < 5; i++) {
        struct world w = world_new("4x8-h100-400g", "hunyuanvideo-13b");
        struct cp_conf conf = conf_of(&w, CP_ULYSSES, cases[i].cp, 1, false);
        set_tensor(&w, &conf, cases[i].tensor);
        struct plan p = plan_of(&w, conf, 3);
        p.memory.shard_ranks = cases[i].shards;
        int folded, all;
        double once = step_s(&w, &p, &o, false, &folded), each = step_s(&w, &p, &o, true, &all);
        gsl_test_int(folded, cases[i].folds, "folded");
        gsl_test_int(all, 1, "not folded");
        gsl_test_rel(once, each, 1e-9, "case %d: same step time", i);
        world_free(&w);
    }
}

/* Bytes on the way from GPU to NIC of the busiest and the idlest GPU. */
static void nic_bytes(const struct step *s, const struct play_result *r, double *least,
                      double *most)
{
    *least = INFINITY, *most = 0;
    for (int i = 0; i < s->topo->edge_count; i++) {
        const struct topo_edge *g = &s->topo->edges[i];
        if (s->topo->nodes[g->from].kind != TOPO_GPU || s->topo->nodes[g->to].kind != TOPO_NIC)
            continue;
        *least = fmin(*least, r->carried[i]);
        *most = fmax(*most, r->carried[i]);
    }
}

/* Weights shared out over the 8 GPUs of each of 4 servers, replicas of 8: only the all-reduce of
 * gradient shards leaves a server. By hand: 2 x 3/4 of a block's 4 P / 8 bytes, 3 blocks. */
static void sharding_groups_all_reduce_their_gradients(void)
{
    struct sim_options o = sim_options_default();
    struct world w = world_new("4x8-h100-400g", "hunyuanvideo-13b");
    struct plan p = plan_of(&w, conf_of(&w, CP_ULYSSES, 8, 1, false), 3);
    struct play_what what = {.sm_share = o.sm_share};
    struct err_at at = err_at_name("test");
    double want = 2 * 0.75 * 4 * dit_block_params(w.c.model) / 8 * 3, least, most;
    p.memory.shard_ranks = 8;
    struct step s;
    struct play_result r;
    bool ok = step_of_plan(&p, &o, 1, true, NULL, &s, w.a, at, &w.e) &&
              play_run(s.graph, s.topo, &what, &r, w.a, at, &w.e);
    gsl_test(!ok, "runs %s", w.e.text);
    nic_bytes(&s, &r, &least, &most);
    gsl_test_rel(least, want, 1e-9, "the idlest NIC");
    gsl_test_rel(most, want, 1e-9, "the busiest NIC");
    world_free(&w);
}

/* Forward of one block, all KV rows of 16 shards on 2 servers fetched: flat, a rank's shard leaves
 * its server 8 times, in two levels once (KA25's rule); ring and all-gather carry the same bytes as
 * before but over all NICs at once. */
static void in_two_levels_rows_travel_to_a_server_once(void)
{
    const enum cp_strategy how[] = {CP_SCP_DENSE, CP_RING, CP_ALLGATHER};
    double seconds[3][2];
    for (int i = 0; i < 6; i++) {
        struct sim_options o = sim_options_default();
        struct world w = world_new("2x8-h100-400g", "dsv-2.7b");
        struct err_at at = err_at_name("test");
        struct play_what what = {.sm_share = o.sm_share};
        struct step s;
        struct play_result r;
        double least, most;
        o.two_level = i % 2;
        struct cp_conf conf = conf_of(&w, how[i / 2], 1, 16, false);
        w.c.options.inference = true;
        struct plan p = plan_of(&w, conf, 1);
        p.memory.shard_ranks = 1;
        bool ok = step_of_plan(&p, &o, 1, true, NULL, &s, w.a, at, &w.e) &&
                  play_run(s.graph, s.topo, &what, &r, w.a, at, &w.e);
        gsl_test(!ok, "runs %s", w.e.text);
        nic_bytes(&s, &r, &least, &most);
        seconds[i / 2][i % 2] = sim_seconds(r.end);
        double shard = 2.0 * 16 * 4000 * 128 * 2; /* 64000 tokens, 16 heads */
        if (i < 2)
            gsl_test_rel(most, shard * (i ? 1 : 8), 1e-9, "%s", i ? "once" : "eight times");
        if (i == 3)
            gsl_test_rel(least, shard, 1e-9, "every NIC carries one outer hop");
        world_free(&w);
    }
    gsl_test(seconds[0][1] > seconds[0][0], "rows: %g s, flat %g s", seconds[0][1], seconds[0][0]);
    gsl_test(seconds[1][1] > seconds[1][0], "ring: %g s, flat %g s", seconds[1][1], seconds[1][0]);
}

/* No more rows in all, but more than half of them of one owner: its port is the longest. */
static void an_owner_of_hot_rows_is_slower_than_its_mean(void)
{
    const int shards[1] = {8};
    struct sim_options o = {0};
    struct plan_eval sim = sim_eval(&o);
    double extra[2][2];
    for (int hot = 0; hot < 2; hot++) {
        struct world w = world_new("1x8-h100", "dsv-2.7b");
        struct cp_conf conf = conf_of(&w, CP_SCP, 1, 8, true);
        size_t heads = (size_t)w.sparsity.blocks * 16;
        double *need = ARENA_ARRAY(w.a, double, heads * 64),
               *value = ARENA_ARRAY(w.a, double, heads);
        for (size_t i = 0; i < heads * 64; i++)
            need[i] = !hot ? 0.2 : i % 8 == 0 ? 0.8 : 0.1;
        w.sparsity.model.kind = UNION_MEASURED;
        w.sparsity.table = (struct union_table){1, shards, value, 1, need};
        w.c.options.inference = true;
        extra[hot][0] = eval(&w, &eval_cost, &conf).total_s;
        extra[hot][1] = eval(&w, &sim, &conf).total_s;
        world_free(&w);
    }
    /* The owner sends 7 x 0.8 shards of 8,000 rows, 16 heads, 512 bytes, instead of 7 x 0.2. */
    double more = 7 * 0.6 * 8000 * 16 * 512 / (0.68 * 450e9);
    gsl_test(extra[1][0] < extra[0][0] + more, "closed form: %g s more, at least %g s",
             extra[1][0] - extra[0][0], more);
    gsl_test(extra[1][1] < extra[0][1] + more, "simulated: %g s more, at least %g s",
             extra[1][1] - extra[0][1], more);
}

static void slow_nics_expose_the_weights(void)
{
    struct sim_options o = sim_options_default();
    struct world w = world_new("4x8-h100-400g", "hunyuanvideo-13b");
    w.c.video_tokens = 8000; /* little compute to hide behind */
    struct plan p = plan_of(&w, conf_of(&w, CP_ULYSSES, 8, 1, false), 3);
    double fast = step_s(&w, &p, &o, false, NULL);
    struct hw_cluster slow = *w.c.cluster;
    slow.nic.bytes_per_s /= 100;
    p.c.cluster = &slow;
    double late = step_s(&w, &p, &o, false, NULL);
    /* by hand: 3 gathers forward, 3 again, 2 B a weight, an eighth of 31/32 of them through each
     * NIC: at least this long */
    double gathers = 6 * 2 * dit_block_params(w.c.model) * 31 / 32 / 8 / hw_nic_bytes_per_s(&slow);
    gsl_test(late < gathers || late < 2 * fast, "%g s becomes %g s, gathers alone %g s", fast, late,
             gathers);
    p.memory.sharding = SHARD_DDP;
    gsl_test(step_s(&w, &p, &o, false, NULL) <= fast,
             "all-reduce over slow NICs is no faster than fast FSDP");
    world_free(&w);
}

static void twice_as_fast_everything_takes_half_the_time(void)
{
    struct sim_options o = {0};
    struct world w = world_new("4x8-h100-400g", "hunyuanvideo-13b");
    struct hw_cluster fast = *w.c.cluster, slow = fast;
    struct kern_profile k = *w.c.kernels;
    slow.nvlink.latency_s = slow.nic.latency_s = fast.nvlink.latency_s = fast.nic.latency_s = 0;
    fast.nvlink.bytes_per_s *= 2, fast.nic.bytes_per_s *= 2, fast.pcie_bytes_per_s *= 2;
    fast.gpu.bf16_flop_per_s *= 2, fast.gpu.hbm_bytes_per_s *= 2;
    k.launch_s = 0;
    w.c.kernels = &k;
    w.c.cluster = &slow;
    struct plan p = plan_of(&w, conf_of(&w, CP_USP, 8, 2, false), 2);
    double long_s = step_s(&w, &p, &o, false, NULL);
    p.c.cluster = &fast;
    p.optimizer_s /= 2;
    gsl_test_rel(step_s(&w, &p, &o, false, NULL) * 2, long_s, 1e-9, "up to the picoseconds");
    world_free(&w);
}

/* The host runs ahead of the GPU: while it is faster nothing changes but the first launch; when it
 * is far slower, the run takes what the launches take, and the last phase. */
static void a_slow_host_sets_the_pace(void)
{
    struct sim_options o = {0};
    struct world w = world_new("1x8-h100-400g", "dsv-2.7b");
    struct cp_conf conf = conf_of(&w, CP_ULYSSES, 8, 1, false);
    w.c.options.inference = true;
    struct plan p = plan_of(&w, conf, 2);
    p.memory.shard_ranks = 1;
    struct cp_program one = cp_program_of(&w.c, 0, &conf, w.a);
    int calls = 0;
    for (int i = 0; i < one.phase_count; i++)
        calls += one.phases[i].calls;
    double free = step_s(&w, &p, &o, false, NULL);
    o.launch_s = 1e-6;
    gsl_test_rel(step_s(&w, &p, &o, false, NULL), free + 1e-6, 1e-6, "a fast host");
    o.launch_s = 1;
    double slow = step_s(&w, &p, &o, false, NULL), issued = 4.0 * calls; /* 2 blocks, 2 runs */
    gsl_test(slow < issued || slow > issued + free, "%g s, %g s of launches", slow, issued);
    w.c.options.inference = false;
    world_free(&w);
}

static void inference_runs_forward_only_and_scales_with_its_steps(void)
{
    struct sim_options o = sim_options_default();
    struct world w = world_new("1x8-h100-400g", "hunyuanvideo-13b");
    struct cp_conf conf = conf_of(&w, CP_ULYSSES, 8, 1, false);
    w.c.options.inference = true;
    struct plan p = plan_of(&w, conf, 4);
    double two = step_s(&w, &p, &o, false, NULL);
    w.c.options.inference = false;
    p = plan_of(&w, conf, 4);
    double training = step_s(&w, &p, &o, false, NULL);
    gsl_test(!(two < training), "two forward passes %g s, one training step %g s", two, training);
    world_free(&w);
}

static void runs_give_the_same_bytes_on_one_and_on_eight_threads(void)
{
    struct sim_options o = sim_options_default();
    struct world w = world_new("2x8-h100-400g", "dsv-2.7b");
    struct plan p = plan_of(&w, conf_of(&w, CP_ULYSSES, 8, 1, true), 2);
    struct step s;
    struct err_at at = err_at_name("test");
    double one[40], eight[40];
    struct play_what what = {.jitter = 0.05, .seed = 7, .sm_share = 0.06};
    step_of_plan(&p, &o, 1, true, NULL, &s, w.a, at, &w.e);
#ifdef _OPENMP
    omp_set_num_threads(1);
#endif
    gsl_test(!step_runs(&s, &what, 40, one, at, &w.e), "one thread");
#ifdef _OPENMP
    omp_set_num_threads(8);
#endif
    gsl_test(!step_runs(&s, &what, 40, eight, at, &w.e), "eight threads");
    gsl_test(memcmp(one, eight, sizeof one) != 0, "40 runs, bit for bit");
    what.jitter = 0;
    double still[2];
    step_runs(&s, &what, 2, still, at, &w.e);
    gsl_sort(one, 1, 40);
    gsl_test(step_quantile(one, 40, 0.5) < still[0],
             "stragglers cost time: everybody waits for the slowest");
    world_free(&w);
}

static void quantiles_are_those_of_r(void)
{
    const double v[] = {1, 2, 4, 8};
    gsl_test_rel(step_quantile(v, 4, 0.5), 3, 1e-15, "quantile(c(1,2,4,8), .5)");
    gsl_test_rel(step_quantile(v, 4, 0.9), 6.8, 1e-15, "quantile(c(1,2,4,8), .9)");
    gsl_test_rel(step_quantile(v, 4, 1), 8, 1e-15, "the largest");
}

static void another_cluster_than_the_plans_is_refused(void)
{
    struct sim_options o = sim_options_default();
    struct world w = world_new("2x8-h100-400g", "dsv-2.7b");
    struct plan p = plan_of(&w, conf_of(&w, CP_ULYSSES, 8, 1, true), 1);
    const struct hw_cluster *other = hw_cluster_load("1x8-h100-400g", err_at_name("t"), w.a, &w.e);
    struct topo *t = topo_of_cluster(other, NULL, w.a, err_at_name("t"), &w.e);
    struct step s;
    gsl_test(step_of_plan(&p, &o, 1, true, t, &s, w.a, err_at_name("node.xml"), &w.e) ||
                 w.e.code != ERR_INPUT,
             "%s", w.e.text);
    world_free(&w);
}

int main(void)
{
    one_server_of_equal_ranks_agrees_with_the_closed_forms();
    calibrated_clusters_agree_too();
    two_servers_agree_within_the_latencies();
    a_block_takes_at_least_its_busiest_rank_and_at_most_the_sum();
    identical_replicas_are_simulated_once_with_the_same_result();
    tensor_ranks_and_sharding_groups_fold_too();
    sharding_groups_all_reduce_their_gradients();
    in_two_levels_rows_travel_to_a_server_once();
    an_owner_of_hot_rows_is_slower_than_its_mean();
    slow_nics_expose_the_weights();
    twice_as_fast_everything_takes_half_the_time();
    a_slow_host_sets_the_pace();
    inference_runs_forward_only_and_scales_with_its_steps();
    runs_give_the_same_bytes_on_one_and_on_eight_threads();
    quantiles_are_those_of_r();
    another_cluster_than_the_plans_is_refused();
    return gsl_test_summary();
}
