/* Can all ranks end by T? For planner/assign_search.c only. */
#ifndef PLANNER_ASSIGN_DECIDE_H
#define PLANNER_ASSIGN_DECIDE_H

#include "planner/assign_core.h"

enum assign_answer { ASSIGN_NO, ASSIGN_YES, ASSIGN_UNKNOWN };

struct assign_memo {
    uint64_t left; /* units as bits */
    int ranks;
    uint32_t round; /* the question that it answers with no */
};

/* One rank to fill, and what is left for it and those after it. */
struct assign_level {
    int size, ranks;
    int64_t *work, *prefix; /* [size], falling; [size + 1] */
    int *unit;              /* [size]: index in the core's order */
    int *chosen;            /* indices into work, rising; the first is 0 */
    int count;              /* units of the choice that is being made */
    int64_t room, low;      /* window of its sum */
    uint64_t left;          /* units as bits, when there are at most 64 */
};

/* Which counts of units are allowed: those with before and out up to these. */
struct assign_caps {
    int64_t before, out;
};

/* A question (T, and which counts are allowed) and the room to answer it in. */
struct assign_decide {
    const struct assign_core *c;
    struct arena *scratch;
    int64_t time;   /* T */
    int64_t *spend; /* [units + 1]: T less the work that n units may do; NEVER: n is not allowed */
    int64_t *rest;  /* [units + 2]: least spend of n units or more */
    int64_t *need;  /* [ranks + 1][units + 1]: least sum of spend of b ranks with m units in all */
    int64_t *hold;  /* [ranks + 1][units + 1]: most that the b ranks of fewest units can hold */
    int *order, orders;         /* [orders]: allowed counts above 0 in the order of trying */
    int first, last;            /* allowed counts lie in first..last; last < 0: none is allowed */
    int64_t relief;             /* a unit at least this heavy may leave any rank */
    struct assign_level *level; /* [ranks] */
    struct assign_memo *memo;
    uint32_t round;
    int64_t nodes, stop;       /* steps taken; give up there */
    struct assign_draft trial; /* a YES: rank_of is filled */
};

struct assign_decide assign_decide_new(const struct assign_core *c, struct arena *scratch);

/* Sets T and the allowed counts: fills spend, rest, first, last. Loads of allowed counts are
 * multiples of core's step: `lifted` takes that into spend. */
void assign_decide_counts(struct assign_decide *d, int64_t time, struct assign_caps caps,
                          bool lifted);
void assign_decide_need(struct assign_decide *d); /* fills need */

/* Of kR + 1 units some rank takes k + 1: the lightest k + 1 of the heaviest, with the least spend,
 * over all k >= 0. prefix: sums of the units, heaviest first. */
int64_t assign_heavy_bound(const struct assign_decide *d, const int64_t *prefix, int units,
                           int ranks);

/* Answers within `nodes` steps. */
enum assign_answer assign_decide(struct assign_decide *d, int64_t time, struct assign_caps caps,
                                 int64_t nodes);

static inline int64_t assign_lightest(const struct assign_core *c, int n) /* the n lightest units */
{
    return c->prefix[c->units] - c->prefix[c->units - n];
}

#endif
