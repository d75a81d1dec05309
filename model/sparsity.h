/* How sparse attention is, per block and head, and what that makes a rank fetch.
 *
 * keep    kappa_h = 1 - sparsity of head h: the share of (query, key) pairs that are computed.
 * union   U_h: share of a remote shard's keys of head h that at least one query group of a rank
 * needs. It prices selective sequence-wise CP; the keep ratio does not (a rank holds hundreds of
 * groups). */
#ifndef MODEL_SPARSITY_H
#define MODEL_SPARSITY_H

#include <stdint.h>

#include "base/arena.h"
#include "base/err.h"
#include "model/dit.h"

enum union_kind {
    UNION_FIELD,       /* smooth content field, closed form fitted to DSV's published statistics */
    UNION_MARKOV,      /* (kappa, rho, omega) model, below */
    UNION_INDEPENDENT, /* 1 - (1-kappa)^G */
    UNION_FIXED,       /* a number the user measured or assumes */
    UNION_FULL,        /* 1: everything is fetched */
    UNION_MEASURED     /* from a full-tier trace: table by (block, head, g_s) */
};

struct union_model {
    enum union_kind kind;
    double rho;   /* MARKOV: share of keys that adjacent groups have in common; 0..1 */
    double omega; /* MARKOV: share that far-apart groups of a shard have in common; kappa..rho */
    double fixed; /* FIXED: U, 0..1 */
    double
        length; /* FIELD: correlation length in tokens per axis if length_is_share is false ... */
    bool length_is_share; /* ... or as a share of each axis of the grid */
};

/* Measured unions: value[(block*heads + head)*shard_count + i] at sequence degree shards[i], the
 * mean over ranks and peers. At the first need_count degrees also who needs what of whom: for each
 * degree n in turn, [block][head][i][j] = share of shard j's keys that shard i needs, n x n. */
struct union_table {
    int shard_count;
    const int *shards; /* ascending */
    const double *value;
    int need_count;
    const double *need;
};

struct sparsity {
    const char *name; /* "webvid-2.7b-28k", a file, "--keep 0.1" */
    const char *source;
    int blocks, heads;
    struct grid grid;   /* of tokens, that a trace was taken on; t == 0: not known */
    const double *keep; /* [block][head], 0 < keep <= 1 */
    double shard_skew;  /* work of the busiest sequence shard over the mean; up to 1: all alike */
    struct union_model model;
    struct union_table table; /* for UNION_MEASURED */
};

double sparsity_keep(const struct sparsity *s, int block, int head);

/* 1 - (1-keep)^draws, exact for small keep: DSV's artifact draws `draws` random sets (KA07a). */
double union_independent(double keep, double draws);

/* U(G) = 1 - E_p[(1-p)(1-(1-c)p)^(G-1)], p ~ Beta(keep*nu, (1-keep)*nu), nu =
 * (1-omega)/(omega-keep), c = (rho-omega)/(1-omega): a key's popularity varies, its membership
 * along the scan order is a Markov chain. Integrated by the trapezoidal rule over log(p/(1-p));
 * error below 1e-6 (KA07; closed form for c = 0). omega is clamped to [keep, 1), rho to [omega, 1).
 * groups >= 1. */
double union_markov(double keep, double groups, double rho, double omega);

/* Smooth fields: 1 - (1-keep)^n, n = 1.12 prod_axis (1 + extent/(1.84 length)): as in
 * docs/sparsity.md, fitted on 144 points (rms 0.07, worst 0.17). extent: the shard's tokens along
 * each axis. */
double union_field(double keep, const double extent[3], const double length[3]);

/* The union of (block, head) for a rank that holds 1/seq_groups of the tokens in frame slabs.
 * grid.t == 0 means unknown: a cube of the same number of tokens is taken. group: queries per
 * group. */
double sparsity_union(const struct sparsity *s, int block, int head, int64_t tokens,
                      struct grid grid, int seq_groups, int group);

/* The n x n needs of (block, head) at sequence degree n: row i, what shard i needs of each shard j,
 * as a share of j's keys. NULL where only the mean is known. */
const double *sparsity_need(const struct sparsity *s, int block, int head, int seq_groups);

/* Numbers in the needs of the first `count` degrees of `t`, for `heads` heads of all blocks. */
size_t union_need_size(const struct union_table *t, int count, size_t heads);

/* Share of all KV that an interior rank needs when `shards` ranks hold slabs of `frames` frames and
 * every query sees a centred window of `window` frames: min(T, shard + 2 floor(window/2)) / T
 * (KA08: 7 of 32 frames, 4 slabs: 14/32). */
double union_window(int frames, int window, int shards);

/* "field:length=5.5", "field:share=0.34", "markov:rho=0.8,omega=0.4", "independent", "fixed:0.3",
 * "full". */
bool union_parse(const char *text, struct err_at at, struct union_model *out, struct err *e);
const char *union_text(const struct union_model *m, char *text, size_t size);

/* Sources of a sparsity; each checks 0 < keep <= 1 and finite (sparsity 1 keeps nothing: refused).
 */
bool sparsity_uniform(double keep, int blocks, int heads, struct arena *a, struct sparsity *out,
                      struct err *e);
bool sparsity_of_heads(const double *head_sparsity, int count, int blocks, int heads,
                       struct err_at at, struct arena *a, struct sparsity *out, struct err *e);

/* Sorts steps and drops what stands twice; returns how many are left. */
int sparsity_steps_sorted(int64_t *steps, int count);

/* The steps that a summary with a column `step` has, rising; *count 0 without one. */
bool sparsity_steps(const char *name, struct err_at at, struct arena *a, int64_t **steps,
                    int *count, struct err *e);

/* CSV summary tier: a preset name of kind "sparsity" or a path. Columns, by header: block, head,
 * keep (optional step: the last step is taken unless `step` >= 0, which has to be there), or block,
 * heads, median, q1, q3, whisker_lo, whisker_hi, outliers as in a box plot of per-head sparsity
 * (heads are then placed at that distribution's quantiles). ERR_INPUT with line when blocks or
 * heads differ from the model's.
 */
bool sparsity_load(const char *name, int64_t step, int blocks, int heads, struct err_at at,
                   struct arena *a, struct sparsity *out, struct err *e);

#endif
