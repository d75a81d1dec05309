/* How long a whole model takes to plan: every block with keeps of its own (seeded, Beta-like: a
 * mean of 10%, heavy tail), all strategies, degrees, placements and dispatches, closed forms. CPU
 * seconds of one core and peak memory of the process. */
#include <math.h>
#include <stdio.h>
#include <sys/resource.h>
#include <time.h>

#include "base/rng.h"
#include "planner/search.h"

static const struct {
    const char *model, *cluster;
    int64_t tokens;
} cases[] = {
    {"dsv-2.7b", "1x8-h100-400g", 128000},
    {"dsv-2.7b", "2x8-h100-400g", 128000},
    {"wan2.1-14b", "4x8-h100-400g", 75600},
    {"hunyuanvideo-13b", "16x8-h100-400g", 118800},
};

static void draw_keeps(struct sparsity *s, double *keep)
{
    struct rng r = rng_stream(1, "bench keeps", (uint64_t)s->blocks, (uint64_t)s->heads, 0);
    for (int i = 0; i < s->blocks * s->heads; i++)
        keep[i] = fmin(1, 0.01 + 0.09 * -log(1 - rng_uniform(&r)));
    s->keep = keep;
}

static double cpu_s(void)
{
    struct timespec t;
    clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &t);
    return (double)t.tv_sec + 1e-9 * (double)t.tv_nsec;
}

static bool run(int i, struct arena *a, struct err *e)
{
    const struct hw_cluster *k = hw_cluster_load(cases[i].cluster, err_at_name("cluster"), a, e);
    const struct dit_model *m = k ? dit_load(cases[i].model, err_at_name("model"), a, e) : NULL;
    const struct kern_profile *p = m ? kern_load("dsv-triton", err_at_name("kernels"), a, e) : NULL;
    struct sparsity s;
    struct plan_found found;
    if (!p || !sparsity_uniform(0.1, dit_blocks(m), m->heads, a, &s, e))
        return false;
    draw_keeps(&s, ARENA_ARRAY(a, double, s.blocks *s.heads));
    struct plan_request r = {.c = {.cluster = k,
                                   .model = m,
                                   .kernels = p,
                                   .sparsity = &s,
                                   .options = cp_options_default(),
                                   .video_tokens = cases[i].tokens,
                                   .samples = 1},
                             .memory = mem_options_default(hw_gpus(k)),
                             .phase = PLAN_STEP,
                             .cp = hw_gpus(k),
                             .query_group = 32,
                             .eval = &eval_cost,
                             .keep_candidates = 5};
    double start = cpu_s();
    if (!plan_search(&r, &found, a, e))
        return false;
    double took = cpu_s() - start, tried = 0;
    for (int b = 0; b < found.plan->block_count; b++)
        tried += found.compared[b].tried;
    printf("%-18s %-16s %4d blocks %6.0f configurations %8.3f s %8.1f us each\n", cases[i].model,
           cases[i].cluster, found.plan->block_count, tried, took, 1e6 * took / tried);
    return true;
}

int main(void)
{
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        struct arena *a = arena_new();
        struct err e = {0};
        if (!run((int)i, a, &e)) {
            fprintf(stderr, "bench_plan: %s\n", e.text);
            return e.code;
        }
        arena_free(a);
    }
    struct rusage u;
    getrusage(RUSAGE_SELF, &u);
    printf("peak memory %.1f MB\n", (double)u.ru_maxrss / 1024);
    return 0;
}
