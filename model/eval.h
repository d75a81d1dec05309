/* The interface of an evaluator: how long does a block take under a configuration? Three exist, as
 * FFTW has ESTIMATE and MEASURE: `cost` (closed forms, model/), `sim` (simulation, sim/),
 * `measured` (a measurements file, validate/). The planner does not know which one it drives. */
#ifndef MODEL_EVAL_H
#define MODEL_EVAL_H

#include "model/cost.h"

struct plan_eval {
    const char *name; /* "cost", "sim" or "measured" */
    const void *data; /* the evaluator's own */
    /* Time of one block on one replica; *out lives in `a`. */
    bool (*block)(const struct plan_eval *self, const struct cp_case *c, int block,
                  const struct cp_conf *conf, struct program_time *out, struct arena *a,
                  struct arena *scratch, struct err *e);
};

extern const struct plan_eval eval_cost;

#endif
