/* Heads shared out by queries: bookkeeping for planner/assign_split.c only. */
#ifndef PLANNER_ASSIGN_CUTS_H
#define PLANNER_ASSIGN_CUTS_H

#include "planner/assign.h"

/* Who holds which share of which head, and what that makes of each rank. */
struct assign_cuts {
    const struct assign_split_problem *p;
    int groups;
    int count, most;        /* pieces, and room for them */
    struct cp_piece *piece; /* `begin` is set by assign_cuts_finish */
    double *x, *work;       /* [ranks]: shares summed; seconds */
    int *k;                 /* [ranks]: KV groups */
    int16_t *held;          /* [ranks][groups]: pieces of the group */
    int16_t *at;            /* [heads][ranks]: 1 + index of the piece, 0: none */
    int k_sum;
    double cost;
};

struct assign_cuts assign_cuts_new(const struct assign_split_problem *p, int groups,
                                   struct arena *scratch);
void assign_cuts_clear(struct assign_cuts *c);
void assign_cuts_copy(struct assign_cuts *to, const struct assign_cuts *from);

/* Adds a share (or takes it away, when negative) of a head on a rank. A piece whose share becomes 0
 * goes. */
void assign_cuts_add(struct assign_cuts *c, int head, int rank, double share);
double assign_cuts_end(const struct assign_cuts *c, int rank); /* in + work */
void assign_cuts_price(struct assign_cuts *c);                 /* cost */
bool assign_cuts_room(const struct assign_cuts *c);            /* for one more piece */

/* Cheaper first, then fewer pieces. Costs that differ by less than 1e-9 count as equal. */
bool assign_cuts_better(const struct assign_cuts *x, const struct assign_cuts *y);

/* A rank while it is filled. */
struct assign_rank {
    double x, work;
    int k;
};

/* Seconds of a piece: fixed + share * shared. */
double assign_cuts_fixed_s(const struct assign_split_problem *p, int head);
double assign_cuts_shared_s(const struct assign_split_problem *p, int head);

/* The largest share of a head, 0..most, that the rank can take as a new piece and still end by
 * `time`, with `x_cap` the most shares and k_sum groups on all ranks together. `held`: it holds a
 * piece of the head's group already. */
double assign_cuts_fit(const struct assign_split_problem *p, const struct assign_rank *r, int head,
                       bool held, double time, double x_cap, int k_sum, double most);

/* Cuts pieces off the rank that ends last, while that makes it end sooner; keeps the cheapest state
 * met. spare: a second one of the same problem. */
void assign_cuts_peel(struct assign_cuts *c, struct assign_cuts *spare);

/* Rounds to query groups, orders the pieces, sets begin. */
void assign_cuts_finish(struct assign_cuts *c);

/* fmax and fmin of numbers, without a call. */
static inline double assign_larger(double a, double b)
{
    return a > b ? a : b;
}

static inline double assign_smaller(double a, double b)
{
    return a < b ? a : b;
}

static inline int assign_group(const struct assign_split_problem *p, int head)
{
    return p->group_of_head ? p->group_of_head[head] : head;
}

#endif
