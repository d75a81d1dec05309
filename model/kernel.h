/* What a GPU's kernels cost: a few numbers per direction, from a profile file (presets/kernel/). */
#ifndef MODEL_KERNEL_H
#define MODEL_KERNEL_H

#include <stdint.h>

#include "base/arena.h"
#include "base/cfg.h"
#include "base/err.h"
#include "base/json.h"
#include "model/hw.h"

/* Dense attention: launch + FLOP / (share of the GPU's bf16 peak). FLOP: 4 s_q s_k D forward, 10
 * backward per head. */
struct kern_dense {
    const char *name; /* "fa3" */
    double forward_share, backward_share;
};

/* Query-grouped sparse attention: row_s per (query, head) + pair_s per kept (query, key, head) at
 * head_dim 128, scaled by head_dim / 128. Measured in seconds on one GPU: on another one the
 * profile is an assumption. */
struct kern_sparse {
    const char *name; /* "dsv-triton" */
    double forward_row_s, forward_pair_s;
    double backward_row_s, backward_pair_s;
    double select_score_s; /* per (group, key, head) score, top-k included */
    int tile;              /* kept keys are rounded up to this */
    int group;             /* queries that shared a list when it was measured */
};

struct kern_profile {
    const char *name;
    const char *source;
    const char *measured_on; /* GPUs by name, "h100 h200"; "" = not said */
    struct kern_dense dense; /* the baseline that is run */
    struct kern_dense best;  /* best dense kernel known: break-even is stated against it */
    struct kern_sparse sparse;
    double gemm_share;     /* of bf16 peak, large GEMMs */
    double hbm_share;      /* of HBM bandwidth, copies */
    double gathered_row_s; /* packing and unpacking a gathered K+V row of 512 B, beyond the wire */
    double overlap_share;  /* of the SMs, taken by a hop that runs under attention */
    double launch_s;       /* one kernel */
};

/* Seconds; 0 for no work at all. dense: rows = queries x heads, keys each. sparse: rows and pairs
 * summed over heads, launches are in row_s. copy: bytes read plus bytes written. */
double kern_dense_s(const struct kern_profile *k, const struct hw_gpu *g, bool backward,
                    double rows, double keys, int head_dim);
double kern_sparse_s(const struct kern_profile *k, bool backward, double rows, double pairs,
                     int head_dim);
double kern_select_s(const struct kern_profile *k, double scores);
double kern_gemm_s(const struct kern_profile *k, const struct hw_gpu *g, double flop);
double kern_copy_s(const struct kern_profile *k, const struct hw_gpu *g, double bytes);

/* Was it measured on this GPU, or does it not say? Elsewhere sparse times and shares of peak are
 * assumptions. */
bool kern_measured_on(const struct kern_profile *k, const struct hw_gpu *g);

/* Kept keys rounded up to the kernel's tile. */
double kern_tiled(const struct kern_profile *k, double keys);

/* Sparsity above which the sparse kernels, selection included, beat the dense kernel `d` on forward
 * + backward (full recompute counts the forward twice, the selection once: its indices are kept); 0
 * when they always do, 2 when they never do. Without launches, so it is the same for any number of
 * heads. */
double kern_breakeven(const struct kern_profile *k, const struct kern_dense *d,
                      const struct hw_gpu *g, double tokens, int head_dim, int query_group,
                      bool recompute);

/* A preset of kind "kernel", or a path. The result lives in `a`. */
const struct kern_profile *kern_load(const char *name, struct err_at at, struct arena *a,
                                     struct err *e);

/* A profile inside another document: writes the object `key`, and reads it back with every bit the
 * same. */
void kern_json(const struct kern_profile *k, struct json *j, const char *key);
const struct kern_profile *kern_read(const struct cfg *map, struct arena *a, struct err *e);

#endif
