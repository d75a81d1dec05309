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
    /* The question with the evaluator's own kernels and links, if it has any: its phases are those
     * of this case. NULL: the question as it is. Lives in `a`. */
    struct cp_case (*own)(const struct plan_eval *self, const struct cp_case *c, struct arena *a);
};

extern const struct plan_eval eval_cost;

/* The case that the evaluator's times are of. */
struct cp_case eval_case(const struct plan_eval *ev, const struct cp_case *c, struct arena *a);

#endif
