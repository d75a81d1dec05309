/* The problem on a grid of whole numbers: what the files of planner/assign share, for nobody else.
 */
#ifndef PLANNER_ASSIGN_CORE_H
#define PLANNER_ASSIGN_CORE_H

#include "planner/assign.h"

/* Times are in ticks. Everything of a problem sums to less than 2^51 ticks, ranks times that to
 * less than 2^60. */
#define ASSIGN_NEVER (INT64_MAX / 4) /* more than any time; two of them still add up */

struct assign_core {
    int units, ranks, least, most; /* most >= 1 */
    int64_t *work;   /* [units], falling; equal work in index order; above a base that all share */
    int64_t *prefix; /* [units + 1]: sums of the heaviest */
    int64_t *before, *in, *out; /* [units + 1]; in has the shared base of each unit in it */
    int64_t step;               /* divides all work; >= 1 */
    int *unit;                  /* [units]: the caller's index of each */
    int *unit_of_head;          /* [heads] */
    double quantum_s;           /* 0 when there is none */
    int shift;                  /* a tick is quantum (or 1 s) / 2^shift */
};

/* Checks heads, ranks and units of a problem, and counts the units. */
bool assign_core_units(const struct assign_problem *p, int *units, struct err *e);

/* Checks the problem and puts it on the grid. */
bool assign_core_make(const struct assign_problem *p, struct assign_core *c, struct arena *scratch,
                      struct err *e);
double assign_core_seconds(const struct assign_core *c, int64_t ticks);

/* An assignment of the sorted units, with what its cost is made of. */
struct assign_draft {
    int *rank_of;  /* [units] */
    int *count;    /* [ranks] */
    int64_t *load; /* [ranks] */
    int64_t cost;
    int fullest; /* units on the fullest rank */
};
struct assign_draft assign_draft_new(const struct assign_core *c, struct arena *scratch);
void assign_draft_copy(const struct assign_core *c, struct assign_draft *to,
                       const struct assign_draft *from);
/* Fills all from rank_of; fills cost and fullest from count and load. */
void assign_draft_sum(const struct assign_core *c, struct assign_draft *d);
void assign_draft_price(const struct assign_core *c, struct assign_draft *d);
/* The documented order of starts. */
bool assign_draft_better(const struct assign_draft *x, const struct assign_draft *y);

/* Starts: LPT; then moves and swaps to a local optimum. */
void assign_start_lpt(const struct assign_core *c, struct assign_draft *d);
void assign_start_improve(const struct assign_core *c, struct assign_draft *d);

/* Renames ranks in the order of their lowest head. */
void assign_ranks_rename(int *rank_of_head, int heads);

/* Search. `best` comes in as a start and leaves improved. `bound` is proved: no cost below it. */
struct assign_found {
    int64_t bound, nodes;
};
struct assign_found assign_search(const struct assign_core *c, int64_t node_limit, double tolerance,
                                  struct assign_draft *best, struct arena *scratch);

#endif
