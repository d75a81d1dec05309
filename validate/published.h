/* Runs that others published - training steps, inference runs, peak memory - and what the planner
 * says of them: presets/data/published_runs.csv, docs/formats.md. Nothing in this project is fitted
 * to these rows. */
#ifndef VALIDATE_PUBLISHED_H
#define VALIDATE_PUBLISHED_H

#include "base/arena.h"
#include "base/csv.h"
#include "model/interval.h"
#include "planner/search.h"

enum published_unit { PUBLISHED_S, PUBLISHED_TFLOPS, PUBLISHED_TOKENS, PUBLISHED_GB };
extern const char *const published_units[]; /* "s", "TFLOP/s/GPU", "tokens/s/GPU", "GB" */

enum { PUBLISHED_CHOICES = 4, PUBLISHED_PICKS = 64 }; /* of kernels, strategies, checkpointing */

/* One row. Where the publication leaves kernels, exchange or checkpointing open the row names all
 * that may be meant, and the prediction is a range over them. */
struct published_run {
    const char *id, *project, *source;
    bool training;
    const char *beyond;  /* what the number holds that is not in the model: "VAE" */
    const char *assumed; /* what the publication does not say */
    enum published_unit unit;
    double value;      /* in the unit */
    double pointwise;  /* as --pointwise; 0: the profile's range */
    double passes;     /* forward passes, or training steps, in the number */
    const char *place; /* "published_runs.csv:12", for messages */
    int one_gpu;       /* the row that has the same run on one GPU, or -1: published_anchor.h */
    /* What is asked of the planner, for each choice. */
    const struct dit_model *model;
    const struct hw_cluster *cluster;
    int64_t tokens;
    struct grid grid;
    int samples, tensor, cp;
    enum sharding sharding;
    enum activations activations;
    int kernel_count, strategy_count, checkpoint_count;
    const char *kernels[PUBLISHED_CHOICES];
    int strategies[PUBLISHED_CHOICES], checkpoints[PUBLISHED_CHOICES];
};

/* What we say, in the row's unit. */
struct published_answer {
    double least, most; /* over the choices */
    double low, high;   /* 90% interval, over the choices; memory has none: least and most */
    int picks;          /* choices, and the value of each: kernels outermost */
    double pick[PUBLISHED_PICKS];
    double off;  /* sqrt(least most) / published - 1 */
    bool inside; /* published lies in low..high */
    double need_gb,
        has_gb; /* memory that the plan needs and a GPU has: more is priced all the same */
};

/* Reads a table in these columns. Presets of clusters, models and their curves are loaded.
 * ERR_INPUT with file, line and what would be right. Lives in `a`. */
bool published_read(const char *path, struct published_run **out, int *count, struct arena *a,
                    struct err *e);

/* Plans every choice of a row, as `shardwise plan` does (closed forms), and converts. */
bool published_answer(const struct published_run *r, struct published_answer *out, struct arena *a,
                      struct err *e);

/* FLOPs of one forward pass of a sample: linear layers, attention, cross-attention; a training step
 * is counted as three, without recompute, which is how TFLOP/s per GPU are published. */
double published_forward_flop(const struct dit_model *m, int64_t tokens);

#endif
