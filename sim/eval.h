/* The evaluator `sim`: model/eval.h by simulation. `shardwise plan --eval sim` re-ranks the best of
 * `cost` with it. */
#ifndef SIM_EVAL_H
#define SIM_EVAL_H

#include "model/eval.h"
#include "sim/step.h"

/* `o` must outlive the evaluator; NULL: sim_options_default. */
struct plan_eval sim_eval(const struct sim_options *o);

#endif
