/* Weights and gradients beside the blocks: what FSDP, ZeRO and DDP add to a step, in closed form by
 * phases (docs/model.md, "Time").
 *
 * One GPU stands for all. It has three lanes: the blocks' phases in order (their seconds are those
 * of the slowest path, program_time), a stream of gathered weights and one of scattered gradients.
 * Phases that compute leave the links to the streams. Exchanges and transfers that are on the same
 * link (NVLink, NIC) at the same time share it by message. What begins when is what sim/step.h
 * plays: a unit's weights are asked for when the last but one unit is done, gradients leave behind
 * their unit, the optimizer waits for them, and ZeRO gathers its weights after that. */
#ifndef MODEL_WEIGHTS_H
#define MODEL_WEIGHTS_H

#include "model/plan.h"

/* Seconds that weights and gradients add to the blocks and the optimizer of a step: waits for them,
 * and the time by which they slow the blocks' own exchanges. 0 unless PLAN_STEP. */
double weights_step_s(const struct plan *p);

/* Of that, behind the optimizer, once a step: ZeRO-1 and 2 gather their weights. */
double weights_end_s(const struct plan *p);

/* How weights travel in a job; `gpus` = tensor x replicas x CP. */
struct weights_case {
    const struct mem_options *memory;
    int gpus, tensor;
};

/* What they add to one block of a row of blocks like it, for choosing between configurations: the
 * next unit's weights under the forward and under the backward, a unit's gradients under the
 * backward, all of them done by the end of the unit. Never below 0. This leaves out blocks that
 * differ and the ends of the step: weights_step_s has them. A model that is one unit hides nothing
 * whatever its blocks do: 0. */
double weights_block_s(const struct weights_case *w, const struct cp_case *c, int block,
                       const struct cp_conf *conf, const struct program_time *t,
                       struct arena *scratch);

#endif
