/* Calibrated costs: fitted curves of collectives and kernels as plain data, and what they predict.
 * Every prediction carries a 90 % interval, the class of error that the interval comes from, and
 * whether the question lies within what was measured. Nothing here fits anything:
 * validate/calibrate.h makes the files in presets/net and presets/curve; docs/calibration.md has
 * the forms, their sources and the leave-out protocol. All times in seconds, sizes in bytes;
 * predictions cost well under 1 us and are monotone in bytes, tokens and kept keys. */
#ifndef MODEL_PROF_H
#define MODEL_PROF_H

#include <stdbool.h>
#include <stdint.h>

#include "base/arena.h"
#include "base/err.h"
#include "model/interval.h"

/* Where a prediction stands to the measurements, best first. Each class has its own leave-out
 * error. */
enum prof_class {
    PROF_POINT,    /* a measured point itself: the interval is the spread of repeats */
    PROF_INSIDE,   /* between measured points */
    PROF_OUTSIDE,  /* beyond the largest or below the smallest point, or a shape the kernel was not
                      measured at */
    PROF_COUNT,    /* a GPU count that was not measured, from other counts */
    PROF_BORROWED, /* another GPU: a relative's shape, scaled through a few anchors */
    PROF_BETWEEN,  /* several nodes without a measured curve: pooled form of other sites */
    PROF_CLASSES
};
extern const char *const prof_class_names[]; /* "point", "inside", ...; NULL-terminated */

struct prediction {
    struct interval time;
    enum prof_class class;
    bool in_range;      /* false: extrapolated, and the interval is wider for it */
    const char *regime; /* what rules the time here: "latency", "bandwidth", "two protocols",
                           "waves", ... */
};

/* ---- collectives ---- */

enum coll_op {
    COLL_ALL_GATHER,
    COLL_REDUCE_SCATTER,
    COLL_ALL_REDUCE,
    COLL_ALLTOALL,
    COLL_SEND_RECV,
    COLL_OPS
};
extern const char *const coll_op_names[]; /* "all_gather", ...; NULL-terminated */
enum coll_type {
    COLL_ANY,
    COLL_HALF,
    COLL_INT8,
    COLL_TYPES
}; /* bf16 and fp16 count as half; it matters to reductions only */
extern const char *const coll_type_names[];

/* bytes is the "size" of nccl-tests: all_gather the whole receive buffer, reduce_scatter and
 * alltoall the whole send buffer of a rank, all_reduce the buffer, send_recv the message. */
struct coll_query {
    enum coll_op op;
    enum coll_type type;
    double bytes;
    int gpus, nodes;        /* gpus in all, nodes >= 1 divides them */
    double nic_bytes_per_s; /* of one GPU's share of the NICs; used when nodes > 1 */
};

/* Measured or derived times of one operation on one set of GPUs; both arrays rise. */
struct prof_curve {
    enum coll_op op;
    enum coll_type type;
    enum prof_class
        origin; /* PROF_INSIDE: measured; PROF_COUNT, PROF_BORROWED: derived by calibrate */
    int gpus, nodes;
    double nic_bytes_per_s; /* 0 when nodes == 1 */
    int count;
    const double *bytes, *time_s;
};

/* Several nodes, no measured curve: latency + wire + excess wire / (wire + knee), wire = NIC bytes
 * / (rate * efficiency). */
struct prof_between {
    double latency_s, node_latency_s; /* first two nodes; each further doubling */
    double excess_s, knee_s;
    double efficiency[COLL_OPS];
    double pair_gain; /* two nodes reduce in a tree, not a ring: rate factor of all_reduce there
                         (NCCL's NVLSTree) */
    double half[2];   /* below 1 MB, from 1 MB on */
};

struct prof_net {
    const char *name, *source;
    int curve_count;
    const struct prof_curve *curves; /* by op, type, nodes, gpus */
    double half[PROF_CLASSES][2];    /* 90 % half-widths (natural log): below 1 MB, from 1 MB on */
    double gap_octaves; /* distance to the nearest point at which half[PROF_INSIDE] was found */
    struct prof_between between;
};

/* A preset of kind "net" ("h100") or a path; lives in `a`. NULL with ERR_INPUT at `at` or in the
 * file. */
const struct prof_net *prof_net_load(const char *name, struct err_at at, struct arena *a,
                                     struct err *e);

/* query: positive bytes, gpus >= 2, nodes >= 1 dividing gpus (asserted). An operation the profile
 * lacks is answered through a related one (send_recv: an all-to-all of two). */
struct prediction prof_collective(const struct prof_net *p, const struct coll_query *q);

/* Interpolation on one curve, without interval: inside, between the chord and the lower of the two
 * neighbouring straight pieces carried on, by operation (NCCL changes protocol somewhere between;
 * docs/calibration.md); below the first point the first piece carried
 * on (flat where it is all latency), beyond the last the last piece
 * carried on. */
double prof_curve_s(const struct prof_curve *c, double bytes);

/* Share of the buffer that leaves a rank, times passes: (n-1)/n; all_reduce 2(n-1)/n; send_recv 1
 * (nccl-tests PERFORMANCE.md). */
double coll_wire_share(enum coll_op op, int gpus);

/* The same plus what the rank's SMs pass on: in n steps of 1/n each the whole buffer once,
 * all_reduce (2n-1)/n (the steps of NCCL's ring kernels, src/device/{all_gather,all_reduce}.h; an
 * all-to-all copies its own part too). Link and SMs run at about the same rate, so large messages
 * take time in proportion: (2n-1)/n, all_reduce (4n-3)/n. send_recv 1. */
double coll_work_share(enum coll_op op, int gpus);

/* ---- kernels ---- */

/* Dense attention by tiles and waves. One (head, query tile) costs tile_s + block_s * key blocks on
 * one SM; a full machine takes `sms` of them at a time. Causal masks visit half the blocks.
 * Backward = forward * backward. */
struct prof_attention {
    const char *kernel;
    bool causal;
    int head_dim, tile_q, tile_k;
    double tile_s, block_s;
    double backward; /* time ratio; 0 = not known */
    double longest;  /* tokens: the longest sequence that was measured */
    enum prof_class origin;
};
/* C[m,n] = A[m,k] B[k,n]: the best of three tile sizes by waves, or memory, whichever is longer. */
struct prof_gemm {
    double launch_s, wave, rate, tile_s, hbm_bytes_per_s, wide; /* wide: exponent on 1 + n/8192 */
    double narrow[2]; /* rate of 128x128 and 64x128 tiles against 128x256 */
    double heat, heat_s, longest_s;
    enum prof_class origin;
};
/* Query-grouped sparse attention: row_s per (query, head) + pair_s per kept (query, key, head), D =
 * 128. Forward gathers miss the cache when one head's K and V outgrow it: pair_s * (1 + cache_slope
 * * missed share), missed share = 1 - cache_bytes / kv. */
struct prof_sparse {
    const char *kernel;
    double row_s[2], pair_s[2]; /* forward, backward */
    double dense_pair_s[2];     /* the same source's dense kernel */
    double cache_bytes, cache_slope;
    double score_s; /* selection, per (group, key, head) */
    int tile, group;
    double least_keys, most_keys; /* kept by a query */
    double longest;               /* tokens: keys of one head on a GPU */
    enum prof_class origin;
};
enum prof_kind { KIND_ATTENTION, KIND_GEMM, KIND_SPARSE, PROF_KINDS };

struct prof_kernels {
    const char *name, *source;
    const char *asked; /* the preset or path that it was loaded by */
    int sms;
    double launch_s, wave,
        tail;            /* share of an unfilled last wave that is paid: full mask, causal mask */
    double heat, heat_s; /* clocks fall under load: time * (1 + heat * t / (t + heat_s)) */
    int attention_count;
    const struct prof_attention *attention;
    struct prof_gemm gemm;                 /* rate == 0: none */
    struct prof_sparse sparse;             /* pair_s[0] == 0: none */
    double half[PROF_KINDS][PROF_CLASSES]; /* from 1 ms on */
    double half_short; /* added in squares at 10 us and below, fading to 0 at 1 ms */
};

const struct prof_kernels *prof_kernels_load(const char *name, struct err_at at, struct arena *a,
                                             struct err *e);

struct attention_query {
    bool causal, backward;
    double batch, heads, queries, keys; /* queries and keys per sequence */
    int head_dim;
};
struct prediction prof_attention(const struct prof_kernels *p, const struct attention_query *q);
struct prediction prof_gemm(const struct prof_kernels *p, double m, double n, double k);

/* rows = queries x heads, pairs = kept (query, key, head), keys_held = keys of one head on this
 * rank. */
struct prediction prof_sparse(const struct prof_kernels *p, bool backward, double rows,
                              double pairs, double keys_held, int head_dim);
struct prediction prof_dense_like(const struct prof_kernels *p, bool backward, double pairs,
                                  int head_dim); /* sparse's rival */
struct prediction prof_select(const struct prof_kernels *p, double scores);

/* The model forms without interval or lookup: what calibrate fits. */
double prof_attention_s(const struct prof_kernels *p, const struct prof_attention *a,
                        const struct attention_query *q);
double prof_gemm_s(const struct prof_gemm *g, int sms, double m, double n, double k);

#endif
