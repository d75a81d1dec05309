/* When to plan anew while sparsity moves: what a stale plan costs, and how often a new one pays.
 *
 * A plan of step t0 is best for the statistics of t0. Later each step takes longer than with a plan
 * of its own time, by a regret r(t) of its age t. A new plan every tau steps at a cost of C seconds
 * loses (C + integral of r up to tau) / tau a step, which is least where tau r(tau) - integral = C;
 * for a regret a t that is tau = sqrt(2 C / a), at a loss of sqrt(2 a C) (KA21: C = 2 s, a = 1e-6 s
 * a step and step: 2,000 steps). The regret changes over the run, so the rule holds from each new
 * plan on; the exact minimum over the points that were looked at is found beside it. */
#ifndef PLANNER_REPLAN_H
#define PLANNER_REPLAN_H

#include "base/arena.h"

struct replan_run {
    int count;            /* points, 2 or more; the run goes from the first to the last */
    const double *step;   /* [count] training steps, rising */
    const double *step_s; /* [i * count + j], j >= i: seconds of a step with the plan of point i
                             under the statistics of point j; INFINITY where it does not fit */
    double replan_s;      /* C: all GPUs wait at each new plan but the first */
};

/* Seconds by which a step with point i's plan is longer at point j than with j's own; at least 0.
 */
double replan_regret(const struct replan_run *r, int i, int j);

struct replan_pace {
    double slope;    /* a: regret over age, at the interval or where it is last known */
    double interval; /* steps, above replan_s = 0; INFINITY: the run ends before */
};
struct replan_pace replan_pace(const struct replan_run *r, int i); /* of point i's plan */

/* Seconds of all steps, straight lines between points, with new plans at the points
 * at[0..count - 1], at[0] = 0, rising; and of the waits. */
double replan_total_s(const struct replan_run *r, const int *at, int count);

/* The points of the least total, exactly (dynamic programming); returns how many. at[r->count]. */
int replan_best(const struct replan_run *r, int *at, struct arena *scratch);

/* The points that lie nearest to a pace's interval after the last one. */
int replan_by_pace(const struct replan_run *r, int *at);

#endif
