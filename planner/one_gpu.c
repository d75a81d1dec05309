/* A plan's time from the same run on one GPU. */
#include "planner/one_gpu.h"

#include <assert.h>

#include "model/calib.h"
#include "planner/batch.h"

struct plan_one_gpu plan_from_one_gpu(double measured_s, double predicted_one_s, double predicted_s)
{
    double rest = measured_s - predicted_one_s, scales = predicted_s * measured_s / predicted_one_s,
           stays = rest > 0 ? predicted_s + rest : scales;
    return (struct plan_one_gpu){.measured_s = measured_s,
                                 .predicted_s = predicted_one_s,
                                 .scales_s = scales,
                                 .stays_s = stays};
}

/* One GPU, with memory for anything: a model that was measured there fitted somehow. */
static const struct hw_cluster *one_of(const struct hw_cluster *c, struct arena *a, struct err *e)
{
    struct hw_cluster *one = ARENA_NEW(a, struct hw_cluster);
    if (!hw_cluster_take(c, 1, one, a, err_at_name("--one-gpu"), e) || !calib_cluster(one, a, e))
        return NULL;
    one->gpu.memory_bytes = 1e15;
    return one;
}

bool plan_one_gpu(const struct plan_request *r, const struct plan *p, double measured_s,
                  struct plan_one_gpu *out, struct arena *a, struct err *e)
{
    struct plan_request one = *r;
    struct plan_found f;
    assert(r->c.options.inference);
    one.c.cluster = one_of(r->c.cluster, a, e);
    one.memory.shard_ranks = one.tensor = one.cp = 1;
    one.batch = plan_step_samples(r, p->replicas);
    one.strategies = NULL;
    one.head_groups = one.seq_groups = 0;
    one.rows_inside = false;
    one.alike = ALIKE_NO;
    one.program = NULL;
    one.rerank = NULL;
    if (!one.c.cluster || !plan_search(&one, &f, a, e))
        return false;
    *out = plan_from_one_gpu(measured_s, plan_batch_s(&one, f.plan), plan_batch_s(r, p));
    return true;
}
