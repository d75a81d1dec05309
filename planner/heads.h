/* Puts the heads of a block onto the head ranks of a configuration: evenly, or balanced by what
 * they cost. */
#ifndef PLANNER_HEADS_H
#define PLANNER_HEADS_H

#include "base/err.h"
#include "model/program.h"

/* Fills conf->pieces (in `a`), piece_count and assign_gap from the other fields of *conf. Balanced
 * strategies minimise the sum of what ranks wait for (planner/head_times.h): selection, forward,
 * recompute, backward, the ways back to the tokens. nodes: limit of the exact search, 0 = the
 * default. assign_gap: that sum over its proved bound. With options.split_heads, heads are cut by
 * query range where the block's exchanges and attention gain more than 1%; assign_gap is then
 * against the mean, which no plan may reach. */
bool plan_assign_heads(const struct cp_case *c, int block, int64_t nodes, struct cp_conf *conf,
                       struct arena *a, struct arena *scratch, struct err *e);

#endif
