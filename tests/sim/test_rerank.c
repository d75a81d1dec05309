/* The planner driven by two evaluators: closed forms find, simulation judges the best again. */
#include <gsl/gsl_test.h>
#include <math.h>

#include "planner/search.h"
#include "sim/eval.h"

struct world {
    struct arena *a;
    struct sparsity sparsity;
    struct plan_request r;
    struct err e;
};

static void world_init(struct world *w)
{
    *w = (struct world){.a = arena_new()};
    struct err_at at = err_at_name("test");
    struct cp_case c = {.cluster = hw_cluster_load("2x8-h100-400g", at, w->a, &w->e),
                        .model = dit_load("dsv-2.7b", at, w->a, &w->e),
                        .kernels = kern_load("fa3+dsv", at, w->a, &w->e),
                        .options = cp_options_default(),
                        .video_tokens = 64000,
                        .samples = 1};
    sparsity_uniform(0.1, dit_blocks(c.model), c.model->heads, w->a, &w->sparsity, &w->e);
    w->sparsity.model = (struct union_model){.kind = UNION_FIXED, .fixed = 0.2};
    c.sparsity = &w->sparsity;
    w->r = (struct plan_request){.c = c,
                                 .memory = mem_options_default(16),
                                 .phase = PLAN_BLOCK,
                                 .cp = 16,
                                 .query_group = 32,
                                 .eval = &eval_cost,
                                 .keep_candidates = 6};
}

static void simulation_puts_the_best_candidates_in_its_own_order(void)
{
    struct world w;
    world_init(&w);
    struct plan_found plain, again;
    struct plan_eval sim = sim_eval(NULL);
    gsl_test(!plan_search(&w.r, &plain, w.a, &w.e), "plan %s", w.e.text);
    w.r.rerank = &sim;
    gsl_test(!plan_search(&w.r, &again, w.a, &w.e), "plan by simulation %s", w.e.text);
    const struct plan_compared *x = &plain.compared[0], *y = &again.compared[0];
    gsl_test_int(y->count, x->count, "the same number of candidates");
    int found = 0, rising = 1;
    struct arena *scratch = arena_new();
    for (int i = 0; i < y->count; i++) {
        struct program_time t = {0};
        struct cp_conf conf = y->best[i].conf;
        sim.block(&sim, &again.plan->c, 0, &conf, &t, w.a, scratch, &w.e);
        gsl_test_rel(y->best[i].time.total_s, t.total_s, 1e-12,
                     "candidate %d has the simulation's time", i);
        rising &= i == 0 || y->best[i].time.total_s >= y->best[i - 1].time.total_s * (1 - 1e-12);
        for (int k = 0; k < x->count; k++)
            found += x->best[k].conf.strategy == conf.strategy &&
                     x->best[k].conf.head_groups == conf.head_groups &&
                     x->best[k].conf.heads_inside == conf.heads_inside &&
                     x->best[k].conf.sparse == conf.sparse;
    }
    gsl_test(!rising, "fastest first");
    gsl_test_int(found, x->count, "of the candidates that the closed forms liked");
    gsl_test_rel(again.plan->blocks[0].time.total_s, y->best[0].time.total_s, 1e-15,
                 "the plan takes the first");
    gsl_test(again.plan->evaluator != sim.name, "and says who judged");
    arena_free(scratch);
    arena_free(w.a);
}

int main(void)
{
    simulation_puts_the_best_candidates_in_its_own_order();
    return gsl_test_summary();
}
