/* A plan as the settings of the program that will run it: presets/program, docs/formats.md
 * "Program".
 *
 * Most programs have one setting for all blocks, some a word for each; none splits heads unevenly
 * or gathers only the keys it needs, so a plan is made for a program (launch_limit) or refused
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

/* Makes `r` a request for this program, with only what it can run: its strategies, rows inside
 * nodes, blocks alike. ERR_INPUT when r->strategies or r->tensor leave nothing. */
bool launch_limit(const struct launch *l, struct plan_request *r, struct arena *a, struct err *e);

#endif
