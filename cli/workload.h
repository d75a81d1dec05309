/* What most commands ask for: a model, a clip, GPUs, sparsity, and how training is set up. The
 * option tables, and the request that they add up to. */
#ifndef CLI_WORKLOAD_H
#define CLI_WORKLOAD_H

#include "cli/cli.h"
#include "planner/search.h"

enum {
    WORKLOAD_TOKENS_MOST = 1 << 30, /* video tokens of a sample */
    WORKLOAD_SAMPLES_MOST = 4096,
    WORKLOAD_QUERY_GROUP = 32 /* default of --group */
};

/* --samples and --batch */
#define WORKLOAD_SAMPLES                                                                           \
    OPTION_INT("samples", 1, WORKLOAD_SAMPLES_MOST, "N",                                           \
               "samples of each replica in a pass, forward and backward (1)"),                     \
        OPTION_INT("batch", 1, 1 << 30, "B",                                                       \
                   "samples of an optimizer step over all replicas, in whole passes: gradient "    \
                   "accumulation (one pass)")

extern const struct arg_group
    workload_clip; /* --model, --clip, --grid, --tokens, --samples, --batch */
extern const struct arg_group
    workload_place; /* --cluster, --gpus, --cp, --degrees, --strategies, --dispatch, --group */
extern const struct arg_group
    workload_sparsity; /* --trace, --keep, --sparsity, --head-sparsity, --union */
extern const struct arg_group
    workload_training; /* --kernels, --phase, --checkpointing, --sharding, ... */

/* Needs all four groups in the command's tables. Everything lives in c->a; inputs are noted in
 * c->prov. */
bool workload_request(struct cli *c, struct plan_request *r, struct err *e);

/* The cluster of --cluster, cut to --gpus; the model of --model. */
const struct hw_cluster *workload_cluster(struct cli *c, struct err *e);
const struct dit_model *workload_model(struct cli *c, struct err *e);

#endif
