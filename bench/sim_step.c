/* One training step of HunyuanVideo-13B (60 blocks, forward, recompute, backward, FSDP): time to
 * build and play it, and memory. Usage: bench_sim_step. One line a case; the first is the issue's
 * size. */
#include <stdio.h>
#include <sys/resource.h>
#include <time.h>

#include "sim/step.h"

static double cpu_s(void)
{
    return (double)clock() / CLOCKS_PER_SEC;
}

static void run(const char *cluster, enum cp_strategy how, int g_h, int g_s, bool all)
{
    struct arena *a = arena_new();
    struct err e = {0};
    struct err_at at = err_at_name("bench");
    struct cp_case c = {.cluster = hw_cluster_load(cluster, at, a, &e),
                        .model = dit_load("hunyuanvideo-13b", at, a, &e),
                        .kernels = kern_load("fa3+dsv", at, a, &e),
                        .options = cp_options_default(),
                        .video_tokens = 118800,
                        .samples = 1,
                        .linear = true};
    struct sparsity sparse;
    if (e.code || !sparsity_uniform(0.1, dit_blocks(c.model), c.model->heads, a, &sparse, &e)) {
        puts(e.text);
        return;
    }
    sparse.model = (struct union_model){.kind = UNION_FIXED, .fixed = 0.3};
    c.sparsity = &sparse;
    struct cp_conf conf = {.strategy = how,
                           .head_groups = g_h,
                           .seq_groups = g_s,
                           .heads_inside = true,
                           .sparse = how == CP_HYBRID,
                           .query_group = 32,
                           .piece_count = c.model->heads,
                           .pieces = cp_pieces_even(c.model->heads, g_h, a)};
    int gpus = hw_gpus(c.cluster), blocks = dit_blocks(c.model);
    struct plan p = {.c = c,
                     .memory = mem_options_default(gpus),
                     .gpus = gpus,
                     .cp = g_h * g_s,
                     .replicas = gpus / (g_h * g_s),
                     .block_count = blocks,
                     .blocks = ARENA_ARRAY(a, struct plan_block, blocks),
                     .optimizer_s = 1e-3};
    for (int i = 0; i < blocks; i++)
        p.blocks[i].conf = conf;
    struct sim_options o = sim_options_default();
    struct step s;
    struct play_result r;
    struct play_what what = {.sm_share = o.sm_share};
    double begin = cpu_s();
    bool ok = step_of_plan(&p, &o, 1, all, NULL, &s, a, at, &e);
    double built = cpu_s();
    ok = ok && play_run(s.graph, s.topo, &what, &r, a, at, &e);
    struct rusage use;
    getrusage(RUSAGE_SELF, &use);
    if (!ok)
        puts(e.text);
    else
        printf("%-18s %-8s %2dx%-3d simulated %4d of %4d GPUs: build %.3f s, play %.3f s CPU, %9d "
               "tasks, %9llu flow events "
               "(%.2f M/s), peak %4ld MB; step %.3f s\n",
               cluster, cp_strategies[how].name, g_h, g_s, s.gpus, gpus, built - begin,
               cpu_s() - built, play_tasks(s.graph), (unsigned long long)r.flow_events,
               (double)r.flow_events / (cpu_s() - built) * 1e-6, use.ru_maxrss / 1024,
               sim_seconds(r.end));
    arena_free(a);
}

int main(void)
{
    run("16x8-h100-400g", CP_ULYSSES, 8, 1, false);
    run("16x8-h100-400g", CP_HYBRID, 8, 2, false);
    run("16x8-h100-400g", CP_USP, 8, 16, false);
    run("16x8-h100-400g", CP_HYBRID, 8, 16, false);
    run("16x8-h100-400g", CP_ULYSSES, 8, 1, true);
    run("128x8-h100-400g", CP_ULYSSES, 8, 1, false);
    run("128x8-h100-400g", CP_HYBRID, 8, 16, false);
    run("128x8-h100-400g", CP_ULYSSES, 8, 1, true);
    return 0;
}
