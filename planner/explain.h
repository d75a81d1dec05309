/* Says why: what each strategy alone would take, the winner against the runner-up phase by phase,
 * what the union would have to be for the choice to flip, what head balancing gains, break-even
 * sparsity, and where DSV's published solver would have gone wrong. */
#ifndef PLANNER_EXPLAIN_H
#define PLANNER_EXPLAIN_H

#include <stdio.h>

#include "planner/search.h"

extern const char *const plan_class_names[COST_CLASSES]; /* "dense attention", .. */

/* Prose and small tables for people, one section for each distinct configuration of the plan. */
void plan_explain(const struct plan_request *r, const struct plan_found *f, FILE *out,
                  struct arena *scratch);

#endif
