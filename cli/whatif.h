/* What the what-if commands (size, max-clip, cost, sweep) share: a request with some options of the
 * command line replaced, limits on time, and how their answers are worded. */
#ifndef CLI_WHATIF_H
#define CLI_WHATIF_H

#include "cli/workload.h"
#include "planner/fit.h"

/* Options of a request: workload.h's four groups and --eval, for args_over. */
extern const struct arg_group *const whatif_groups[];
extern const struct arg_group whatif_eval;   /* --eval, --measured */
extern const struct arg_group whatif_target; /* --max-step, --min-rate, --sure */

/* The request of c->args with `set` over it; everything lives in `a`. Equal to what `plan` would be
 * given with these options. */
bool whatif_request(const struct cli *c, const struct arg_setting *set, int count, struct arena *a,
                    struct plan_request *r, struct err *e);

/* --measured: an evaluator whose kernels and links are fitted to runs; the fit lives in c->a. */
bool whatif_measured(struct cli *c, const struct hw_cluster *cluster, struct plan_eval *out,
                     struct err *e);

/* Configurations of attention that no run had are left out, unless --dispatch says otherwise: r's
 * evaluator is whatif_measured's. *kept: the kind that is compared, NULL when both are. */
void whatif_keep_to_measured(const struct cli *c, struct plan_request *r, const char **kept);

struct plan_limits whatif_limits(const struct args *g); /* of whatif_target */

/* " (90%: 27.1 s to 32.0 s)" in `a`. */
const char *whatif_range(const struct interval *t, struct arena *a);

/* "720x1280": height and width in pixels. */
struct whatif_sides {
    int height, width;
};
bool whatif_resolution(const char *text, struct err_at at, struct whatif_sides *out, struct err *e);

/* "TP 2, " where tensor ranks share the model, else "". */
const char *whatif_tensor(const struct plan_request *r, struct arena *a);

/* "for 64 samples in 8 passes " where --batch was given, else "". */
const char *whatif_batch(const struct plan_request *r, const struct plan_fit *f, struct arena *a);

/* Columns that every such table begins with, and their cells. */
#define WHATIF_COLUMNS                                                                             \
    {"gpus", "GPUs", TABLE_INT, 0}, {"cp", "CP", TABLE_INT, 0},                                    \
        {"replicas", "replicas", TABLE_INT, 0}, {"configuration", "split", TABLE_STR, 0},          \
        {"step_s", "step", TABLE_QTY, QTY_SECONDS},                                                \
        {"step_low_s", "from", TABLE_QTY, QTY_SECONDS},                                            \
        {"step_high_s", "to", TABLE_QTY, QTY_SECONDS},                                             \
        {"samples_per_s", "samples/s", TABLE_QTY, QTY_NUMBER},                                     \
    {                                                                                              \
        "memory_bytes", "memory", TABLE_QTY, QTY_BYTES                                             \
    }
void whatif_cells(const struct plan_fit *f, struct table *t);

/* What only csv and json have room for. */
#define WHATIF_MORE_COLUMNS                                                                        \
    {"fits", "fits", TABLE_STR, 0}, {"memory_part", "largest part", TABLE_STR, 0},                 \
        {"short_bytes", "short", TABLE_QTY, QTY_BYTES}, {"rank", "rank", TABLE_INT, 0},            \
        {"block", "block", TABLE_INT, 0}, {"part_bytes", "part", TABLE_QTY, QTY_BYTES},            \
        {"time_part", "most of the time", TABLE_STR, 0},                                           \
        {"time_share", "share", TABLE_QTY, QTY_RATIO},                                             \
    {                                                                                              \
        "passes", "passes", TABLE_QTY, QTY_NUMBER                                                  \
    }
void whatif_more_cells(const struct plan_fit *f, struct table *t);

/* On a terminal: what is being looked at now, on one line of standard error; NULL wipes it. */
void whatif_progress(const char *what);

/* What limits it, two sentences: "Memory: rank 0 at block 0, largest part states 25.6 GB. Time: 86%
 * dense attention." */
void whatif_limiting(const struct plan_fit *f, FILE *out);

#endif
