/* An optimizer step of a batch: the samples of all replicas together, made in whole passes of them
 * (gradient accumulation). The one place for the rule; plan, size, cost, replan and sweep use it.
 *
 * A pass is one forward and backward of --samples on every replica. Each pass runs the blocks, and
 * under FSDP fetches weights and reduce-scatters gradients anew (ZeRO-2 reduces them in each pass
 * as well, since it holds a shard of them only). Once in a step are the optimizer, ZeRO's weights
 * behind it, and what ddp and ZeRO-1 exchange: their gradients add up in place until the last pass.
 * A replica without a sample of its own in the last pass waits, so replicas beyond the batch add
 * nothing. */
#ifndef PLANNER_BATCH_H
#define PLANNER_BATCH_H

#include "planner/search.h"

/* Passes of a step: 1 where r->batch is 0, else batch / (replicas x samples), rounded up. */
double plan_passes(const struct plan_request *r, int replicas);

/* Samples of a step: r->batch, or those of one pass. */
double plan_step_samples(const struct plan_request *r, int replicas);

/* Seconds of a whole step of r->batch samples; p->step_s where that is one pass. */
double plan_batch_s(const struct plan_request *r, const struct plan *p);

#endif
