/* What a GPU's kernels cost: the curve that was fitted to them on that GPU (model/prof.h) where the
 * profile names one and there is one, else a few numbers per direction from the profile's file
 * (presets/kernel/). kern_*_time make that choice, and nobody else: `plan` asks them and `predict
 * kernel` the curve itself, so the two cannot disagree. */
#ifndef MODEL_KERNEL_H
#define MODEL_KERNEL_H

#include <stdint.h>

#include "base/arena.h"
#include "base/cfg.h"
#include "base/err.h"
#include "base/json.h"
#include "model/hw.h"
#include "model/prof.h"

/* The fitted curve that a part of a profile asks for. */
struct kern_curve {
    const char *name; /* a preset of kind "curve" or a path, in which GPU stands for the GPU's name:
                         "GPU", "GPU-cudnn"; NULL: none */
    const struct prof_kernels *of; /* set by calib_kernels (model/calib.h); NULL: the shares rule */
};

/* Shares measured on another GPU, which calib_kernels puts in place there. */
struct kern_dense_on {
    const char *gpu;
    double forward_share, backward_share;
};

/* Dense attention: launch + FLOP / (share of the GPU's bf16 peak). FLOP: 4 s_q s_k D forward, 10
 * backward per head. */
struct kern_dense {
    const char *name; /* "fa3" */
    double forward_share, backward_share;
    struct kern_curve curve;
    int on_count;
    const struct kern_dense_on *on;
};

/* Query-grouped sparse attention: row_s per (query, head) + pair_s per kept (query, key, head) at
 * head_dim 128, scaled by head_dim / 128. Measured in seconds on one GPU: on another one the
 * profile is an assumption, and slower where that one has fewer SMs, less memory bandwidth or a
 * lower peak. */
struct kern_sparse {
    const char *name; /* "dsv-triton" */
    double forward_row_s, forward_pair_s;
    double backward_row_s, backward_pair_s;
    double select_score_s; /* per (group, key, head) score, top-k included */
    int tile;              /* kept keys are rounded up to this */
    int group;             /* queries that shared a list when it was measured */
    struct kern_curve curve;
    /* On a chip that it was not measured on, set by calib_kernels, not part of files; 0: as
     * measured. Pairs and selection take sm_ratio times as long, rows hbm_ratio times, and a pair
     * at least least_pair_s (forward, backward; head_dim 128). */
    double sm_ratio, hbm_ratio, least_pair_s[2];
};

enum { POINTWISE_MOST = 1000 };

struct kern_profile {
    const char *name;
    const char *source;
    const char *measured_on; /* GPUs by name, "h100 h200"; "" = not said */
    struct kern_dense dense; /* the baseline that is run */
    struct kern_dense best;  /* best dense kernel known: break-even is stated against it */
    struct kern_sparse sparse;
    double gemm_share; /* of bf16 peak, large GEMMs */
    struct kern_curve gemm_curve;
    double hbm_share; /* of HBM bandwidth, copies */
    /* Norms, rotary embedding, activations, residuals: how often over the least traffic there is
     * (dit_pointwise) a framework reads and writes it. Between all of it fused, 1, and torch's one
     * kernel an operation, about 8; the time is for the geometric middle. 0: not priced. */
    double pointwise_least, pointwise_most;
    double gathered_row_s; /* packing and unpacking a gathered K+V row of 512 B, beyond the wire */
    /* Of CPU ranks and of machines measured with shardwise-run; 0: not given. */
    double
        scattered_row_s; /* adding a returned row of K and V gradients of 1 KB; 0: gathered_row_s */
    double sum_bytes_per_s; /* read plus written where gradients of gathered KV are added after the
                               messages; 0: a collective adds as it goes (NCCL), copies elsewhere */
    double list_s;          /* an entry of a list of critical KV that becomes a row among those at
                               hand (SCP); 0: hidden */
    double overlap_share;   /* of the SMs, taken by a hop that runs under attention */
    double launch_s;        /* one kernel */
};

/* A kernel's seconds, and how well they are known. */
struct kern_time {
    double s;
    double half;  /* 90% half-width (natural log) from the curve; 0: no curve, see the cost class */
    bool outside; /* beyond what the curve was measured at */
};

/* By the part's curve, else by its numbers. 0 s for no work at all. sparse: rows = queries x heads,
 * pairs = kept (query, key, head), keys_held = keys of one head on this rank. gemm: C[m,n] = A[m,k]
 * B[k,n]. */
struct kern_time kern_dense_time(const struct kern_profile *k, const struct kern_dense *d,
                                 const struct hw_gpu *g, const struct attention_query *q);
struct kern_time kern_sparse_time(const struct kern_profile *k, bool backward, double rows,
                                  double pairs, double keys_held, int head_dim);
struct kern_time kern_select_time(const struct kern_profile *k, double scores);
struct kern_time kern_pointwise_time(const struct kern_profile *k, const struct hw_gpu *g,
                                     double least_bytes);
struct kern_time kern_gemm_time(const struct kern_profile *k, const struct hw_gpu *g, double m,
                                double n, double kk);

/* One kernel after another: errors of one class have one sign, so half-widths average by time. */
struct kern_time kern_then(struct kern_time a, struct kern_time b);

/* The profile's own numbers, without curves. Seconds; 0 for no work at all. dense: rows = queries x
 * heads, keys each. sparse: rows and pairs summed over heads, launches are in row_s. copy: bytes
 * read plus bytes written. */
double kern_dense_s(const struct kern_profile *k, const struct hw_gpu *g, bool backward,
                    double rows, double keys, int head_dim);
double kern_sparse_s(const struct kern_profile *k, bool backward, double rows, double pairs,
                     int head_dim);
double kern_select_s(const struct kern_profile *k, double scores);
double kern_gemm_s(const struct kern_profile *k, const struct hw_gpu *g, double flop);
double kern_copy_s(const struct kern_profile *k, const struct hw_gpu *g, double bytes);
double kern_sum_s(const struct kern_profile *k, const struct hw_gpu *g, double bytes);

/* Was it measured on this GPU, or does it not say? Elsewhere sparse times and shares of peak are
 * assumptions. */
bool kern_measured_on(const struct kern_profile *k, const struct hw_gpu *g);

/* Is any part neither on a fitted curve of this GPU nor measured on it? */
bool kern_assumed(const struct kern_profile *k, const struct hw_gpu *g);

/* Kept keys rounded up to the kernel's tile. */
double kern_tiled(const struct kern_profile *k, double keys);

/* Sparsity above which the sparse kernels, selection included, beat the dense kernel `d` on forward
 * + backward (full recompute counts the forward twice, the selection once: its indices are kept); 0
 * when they always do, 2 when they never do. Without launches (a curve: with every SM busy), so it
 * is the same for any number of heads. */
double kern_breakeven(const struct kern_profile *k, const struct kern_dense *d,
                      const struct hw_gpu *g, double tokens, int head_dim, int query_group,
                      bool recompute);

/* The same of the forward pass alone, with the selection, or of the backward pass alone. */
double kern_breakeven_pass(const struct kern_profile *k, const struct kern_dense *d,
                           const struct hw_gpu *g, double tokens, int head_dim, int query_group,
                           bool backward);

/* A preset of kind "kernel", or a path. The result lives in `a`. */
const struct kern_profile *kern_load(const char *name, struct err_at at, struct arena *a,
                                     struct err *e);

/* A profile inside another document: writes the object `key`, and reads it back with every bit the
 * same. */
void kern_json(const struct kern_profile *k, struct json *j, const char *key);
const struct kern_profile *kern_read(const struct cfg *map, struct arena *a, struct err *e);

#endif
