/* A plan as the settings of the program that will run it: presets/program, docs/formats.md "Program".
 *
 * Most programs have one setting for all blocks, some a word for each; none splits heads unevenly
 * or gathers only the keys it needs, so a plan is made for a program (launch_search) or refused
 * (launch_refusal). */
#ifndef PLANNER_LAUNCH_H
#define PLANNER_LAUNCH_H

#include "planner/search.h"

struct launch {
    const char *name, *about, *source;
    const char *settings; /* placeholders as {u}; NULL: only `also` */
    const char *tensor;   /* added under tensor parallelism; NULL: the program has none */
    const char *sharding[SHARD_FSDP + 1]; /* added when weights are sharded so, or NULL */
    bool strategies[CP_STRATEGIES];       /* what it can run */
    bool each_block;                      /* it has a word for each block's exchange: {exchange} */
    const char *exchange[CP_STRATEGIES];  /* that word; NULL where it has none */
    const char *also[CP_STRATEGIES];      /* added once if any block runs so, or NULL */
};

/* A preset or a file of the user's: ERR_INPUT with its place for strategies that do not exist, for
 * placeholders that do not exist, and when a strategy is left without any setting. In `a`. */
const struct launch *launch_load(const char *name, struct err_at at, struct arena *a,
                                 struct err *e);

/* Why the program cannot run `p`, a clause in `a`: "blocks differ: .."; NULL when it can. */
const char *launch_refusal(const struct launch *l, const struct plan *p, struct arena *a);

/* The settings, in `a`: "--ulysses_degree 8 --ring_degree 1". Only for plans that are not refused.
 */
const char *launch_settings(const struct launch *l, const struct plan *p, struct arena *a);

/* Blocks that run sparse attention in `p`: launch programs say how data moves, not which kernels
 * run. */
int launch_sparse_blocks(const struct plan *p);

struct launch_found {
    struct plan_found found; /* the best */
    int count;
    struct launch_row { /* all that fit, the best throughput first */
        const struct plan *plan;
        double samples_per_s;
    } * rows;
};

/* plan_search among what the program can run: rows inside nodes, and one configuration for all
 * blocks, or, where each block has a word of its own, one pair of degrees for those that have two
 * exchanges. Every such plan is looked at; with each_block, plans that mix USP with other
 * strategies are not. The errors are plan_search's. */
bool launch_search(const struct launch *l, const struct plan_request *r, struct launch_found *out,
                   struct arena *a, struct err *e);

#endif
