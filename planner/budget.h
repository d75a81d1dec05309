/* What a training run takes: stages of a run while its sparsity moves, and the time that is not
 * steps. Arithmetic only; who asks fills in what a plan says of each stage. */
#ifndef PLANNER_BUDGET_H
#define PLANNER_BUDGET_H

#include "base/err.h"
#include "model/interval.h"

/* One stage: steps [from, to) of the run under one plan. */
struct budget_stage {
    double from, to;              /* steps; fractions are allowed */
    struct interval gpu_s_sample; /* GPU-seconds of a sample */
};

/* Boundaries of `count` stages over steps [from, to]: quadratic, from + (to - from) (k / count)^2,
 * because sparsity moves most in the beginning (1 - keep = s_inf - (s_inf - s_0) exp(-t / tau)).
 * bounds[count + 1]. */
void budget_bounds(double from, double to, int count, double *bounds);

/* GPU-seconds of the stages' steps, `batch` samples each. The stages' errors have the same causes,
 * so low ends add up to the low end. */
struct interval budget_gpu_s(const struct budget_stage *s, int count, double batch);

/* Time beside the steps; all 0 by default. */
struct budget_extra {
    double overhead;     /* share of the steps' time: evaluation, data, logging */
    double replan_s;     /* at each change of stage, all GPUs wait */
    double save_every_s; /* between two checkpoints; 0: none */
    double save_s;       /* to write one, all GPUs wait */
    double gpu_mtbf_s;   /* mean time between failures of one GPU; 0: no failures */
    double restart_s;    /* from a failure until steps go on */
};

/* Expected wall time of `work_s` seconds of steps on `gpus` GPUs:
 *   busy = work (1 + overhead) (1 + save / save_every) + replan (stages - 1)
 *   wall = busy / (1 - lost),  lost = gpus / mtbf (restart + save_every / 2)
 * to first order in the rate of failures: each throws half an interval between checkpoints away
 * (Young, CACM 1974; Daly, FGCS 2006). ERR_INFEASIBLE when lost >= 1: the run never ends. */
bool budget_wall_s(double work_s, int gpus, int stages, const struct budget_extra *x,
                   double *wall_s, struct err *e);

#endif
