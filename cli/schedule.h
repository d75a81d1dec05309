/* Sparsity that moves over a training run: --schedule of `cost` and `replan`. */
#ifndef CLI_SCHEDULE_H
#define CLI_SCHEDULE_H

#include "cli/cli.h"
#include "model/sparsity.h"

double schedule_mean_keep(const struct sparsity *s); /* over blocks and heads */

#ifdef SHARDWISE_TRACES
#include "traces/profile.h"

#define SCHEDULE_OPTION                                                                            \
    OPTION_TEXT("schedule", "PROFILE", NULL,                                                       \
                "sparsity over the run: dsv, webvid, videogen, levels:keep=0.2, "                  \
                "anneal:start=1,end=0.1,from=0,to=50000")

/* --schedule, without the noise of single steps; no other sparsity may be given beside it. */
bool schedule_read(const struct cli *c, struct profile *p, struct err *e);

/* The schedule at a step; shape and union model of `given`. */
const struct sparsity *schedule_at(const struct cli *c, const struct profile *p,
                                   const struct sparsity *given, double step);
#endif
#endif
