/* Writes a plan file for tests: make_plan MODEL CLUSTER KERNELS TOKENS STRATEGY GHxGS dense|sparse
 * KEEP[,KEEP..] OUT [block]. "block": with the linear layers. The keeps are those of the heads, in
 * turn, the same in every block. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "planner/search.h"

static bool make(char **argv, struct arena *a, struct err *e)
{
    struct err_at at = err_at_name("make_plan");
    struct plan_request r = {.phase = argv[10] ? PLAN_BLOCK : PLAN_ATTENTION,
                             .query_group = 32,
                             .eval = &eval_cost,
                             .keep_candidates = 1};
    struct sparsity s;
    struct hw_cluster whole;
    struct plan_found found;
    bool use[CP_STRATEGIES] = {false};
    double keep[256], sparsity[256];
    r.c.model = dit_load(argv[1], at, a, e);
    const struct hw_cluster *c = r.c.model ? hw_cluster_load(argv[2], at, a, e) : NULL;
    r.c.kernels = c ? kern_load(argv[3], at, a, e) : NULL;
    if (!r.c.kernels || sscanf(argv[6], "%dx%d", &r.head_groups, &r.seq_groups) != 2 ||
        cp_strategy_of(argv[5]) < 0)
        return err_set(e, ERR_INPUT, at, "see the head of make_plan.c");
    int heads = r.c.model->heads, n = 0;
    for (char *k = strtok(argv[8], ","); k && n < heads && n < 256; k = strtok(NULL, ","))
        keep[n++] = atof(k);
    for (int h = 0; h < heads; h++)
        sparsity[h] = 1 - keep[h % n];
    r.cp = r.head_groups * r.seq_groups;
    use[cp_strategy_of(argv[5])] = true;
    r.strategies = use;
    r.dispatch = strcmp(argv[7], "sparse") == 0 ? DISPATCH_SPARSE : DISPATCH_DENSE;
    r.memory = mem_options_default(r.cp);
    r.memory.aux_bytes = 0;
    r.c.options = cp_options_default();
    r.c.video_tokens = atoll(argv[4]);
    r.c.samples = 1;
    r.c.cluster = &whole;
    r.c.sparsity = &s;
    if (!hw_cluster_take(c, r.cp, &whole, a, at, e) ||
        !sparsity_of_heads(sparsity, heads, dit_blocks(r.c.model), heads, at, a, &s, e) ||
        !plan_search(&r, &found, a, e))
        return false;
    return plan_write(found.plan, NULL, argv[9], a, e);
}

int main(int argc, char **argv)
{
    struct err e = {0};
    struct arena *a = arena_new();
    bool ok = argc == 10 || (argc == 11 && strcmp(argv[10], "block") == 0)
                  ? make(argv, a, &e)
                  : err_set(&e, ERR_INPUT, err_at_name("usage"), "see the head of make_plan.c");
    if (!ok)
        fprintf(stderr, "make_plan: %s\n", e.text);
    arena_free(a);
    return (int)e.code;
}
