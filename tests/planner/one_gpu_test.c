/* A plan's time from the same run on one GPU: by hand, and against the search. */
#include "planner/one_gpu.h"

#include <gsl/gsl_test.h>

#include "planner/batch.h"
#include "tests/model/fixture.h"

/* 100 s on one GPU, 80 of them predicted: 20 stay, or all takes 1.25 times as long. 60 s where 80
 * were predicted: nothing can stay, all takes 0.75 times as long. */
static void what_one_gpu_took_beyond_its_passes_stays_or_scales(void)
{
    struct plan_one_gpu more = plan_from_one_gpu(100, 80, 20), less = plan_from_one_gpu(60, 80, 20);
    gsl_test_rel(more.stays_s, 20 + 20, 1e-15, "the rest stays");
    gsl_test_rel(more.scales_s, 20 * 1.25, 1e-15, "the passes scale");
    gsl_test_rel(less.stays_s, 20 * 0.75, 1e-15, "a negative rest scales");
    gsl_test_rel(less.scales_s, 20 * 0.75, 1e-15, "as the passes do");
}

/* Eight GPUs of one node, 16 alike heads, inference in the whole step; memory for nothing. */
static void request_init(struct fixture *f, struct plan_request *r, struct arena *a)
{
    fixture_init(f, 16, 16, 64000, 1, 8, 1, 1, a);
    f->c.options = cp_options_default();
    f->c.options.inference = true;
    f->cluster.name = "one node";
    f->c.linear = true;
    *r = (struct plan_request){.c = f->c,
                               .memory = mem_options_default(8),
                               .phase = PLAN_STEP,
                               .cp = 4,
                               .query_group = 32,
                               .dispatch = DISPATCH_DENSE,
                               .eval = &eval_cost,
                               .keep_candidates = 2};
    r->memory.sharding = SHARD_DDP;
    r->memory.aux_bytes = 0;
}

/* Two replicas of four GPUs make 10 samples in 5 passes; one GPU makes them in 10, each of the
 * plan of one GPU, which is asked for here by hand. */
static void one_gpu_makes_all_samples_of_the_step(struct arena *a)
{
    static const bool only[CP_STRATEGIES] = {[CP_ULYSSES] = true};
    struct fixture f, g;
    struct plan_request r, single;
    struct plan_found found, alone;
    struct plan_one_gpu got;
    struct err e = {0};
    request_init(&f, &r, a);
    r.strategies = only;
    r.batch = 10;
    request_init(&g, &single, a);
    g.cluster.gpus_per_node = 1;
    single.memory.shard_ranks = single.cp = 1;
    gsl_test(!plan_search(&r, &found, a, &e) || !plan_search(&single, &alone, a, &e), "%s", e.text);
    gsl_test(!plan_one_gpu(&r, found.plan, 1000, &got, a, &e), "%s", e.text);
    gsl_test_rel(got.predicted_s, 10 * alone.plan->step_s, 1e-12, "ten passes on one GPU");
    gsl_test_rel(got.scales_s, 5 * found.plan->step_s * 1000 / got.predicted_s, 1e-12, "scales");
    gsl_test_rel(got.stays_s, 5 * found.plan->step_s + 1000 - got.predicted_s, 1e-12, "stays");
}

/* A GPU of 1 byte holds no model: a plan on it is refused, what one took is asked all the same. */
static void one_gpu_is_asked_whether_it_fits_or_not(struct arena *a)
{
    struct fixture f;
    struct plan_request r;
    struct plan_found found;
    struct plan_one_gpu got;
    struct err e = {0};
    request_init(&f, &r, a);
    gsl_test(!plan_search(&r, &found, a, &e), "%s", e.text);
    f.cluster.gpu.memory_bytes = 1;
    gsl_test(!plan_one_gpu(&r, found.plan, 1, &got, a, &e) || !(got.predicted_s > 0), "%s", e.text);
}

int main(void)
{
    struct arena *a = arena_new();
    what_one_gpu_took_beyond_its_passes_stays_or_scales();
    one_gpu_makes_all_samples_of_the_step(a);
    one_gpu_is_asked_whether_it_fits_or_not(a);
    arena_free(a);
    return gsl_test_summary();
}
