#include "planner/batch.h"

#include <math.h>

static double pass_samples(const struct plan_request *r, int replicas)
{
    return (double)replicas * r->c.samples;
}

double plan_passes(const struct plan_request *r, int replicas)
{
    return r->batch > 0 ? ceil(r->batch / pass_samples(r, replicas)) : 1;
}

double plan_step_samples(const struct plan_request *r, int replicas)
{
    return r->batch > 0 ? r->batch : pass_samples(r, replicas);
}

double plan_batch_s(const struct plan_request *r, const struct plan *p)
{
    enum sharding s = p->memory.sharding;
    bool each = s == SHARD_FSDP || s == SHARD_ZERO2;
    double again = plan_passes(r, p->replicas) - 1;
    return p->step_s + again * (p->blocks_s + (each ? p->fsdp_s - p->fsdp_end_s : 0));
}
