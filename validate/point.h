/* Measurements: one struct for every table that a profile can be fitted on or checked against. The
 * kind of a table is told by its header row (docs/formats.md, "Measured tables"):
 *
 *   collectives  gpu, op, n_gpus, size_bytes and lat_us | time_us | lat_us_median;
 *                optional nodes, network, dtype
 *   attention    gpu, mask, batch, seqlen, heads, head_dim, lat_us; optional pass_ (fwd, bwd)
 *   gemm         gpu, m, n, k, lat_us
 *   sparse       gpu, S, H, D, group, kernel, pass_, kept_kv, value, unit (DSV's kernels, in ms)
 *
 * Columns role, usable, kernel, source, n_rep, lat_us_min and lat_us_max are read when they are
 * there; others are ignored. */
#ifndef VALIDATE_POINT_H
#define VALIDATE_POINT_H

#include "base/csv.h"
#include "model/prof.h"

enum point_kind { POINT_COLLECTIVE, POINT_ATTENTION, POINT_GEMM, POINT_SPARSE, POINT_KINDS };
extern const char *const point_kind_names[];

enum sparse_part { PART_SPARSE, PART_DENSE, PART_SELECT };

struct point {
    enum point_kind kind;
    const char *gpu;  /* the table's name, lower case: "h100_sxm" */
    const char *role; /* "calib", "test", "anchor"; "" when the table has no such column */
    const char *kernel, *source; /* "" when not given */
    int line;
    double time_s;          /* > 0 */
    double least_s, most_s; /* of the runs merged into the row (n_rep > 1, lat_us_min, lat_us_max);
                               0: one run, or not said */
    struct coll_query coll;
    struct attention_query attention;
    double m, n, k;
    enum sparse_part part;
    double rows, pairs, keys_held, scores, kept;
    bool backward;
};

struct points {
    const char *path;
    enum point_kind kind;
    int count;
    struct point *point;
    int *row;         /* the table row of each point */
    int skipped;      /* rows marked unusable, or of an operation or kernel that no profile has */
    struct csv table; /* as read */
};

/* ERR_INPUT for a table of no known kind, a time or size that is not positive, an unknown word. An
 * empty result is not an error. */
bool points_read(const char *path, struct arena *a, struct points *out, struct err *e);

/* The name of the preset of `kind` ("net" or "curve") that serves this GPU: the longest preset name
 * that the table's name begins with; NULL when there is none. */
const char *point_profile(const char *kind, const char *gpu, struct arena *a, struct err *e);

/* Bytes per second of one GPU's share of the NICs out of names such as "8x400G_IB_NDR" on nodes of
 * `per_node`; 0 when the name does not say. */
double point_nic(const char *network, int per_node);

/* What the profiles say to a point. Needs net for collectives and kernels for the rest; false when
 * that one is NULL or lacks it. */
bool point_predict(const struct point *p, const struct prof_net *net,
                   const struct prof_kernels *kernels, struct prediction *out);

#endif
