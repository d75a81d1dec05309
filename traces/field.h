/* Content-driven attention scores of one head: G(x, y) = u(x) . v(y) / sqrt(rank), where u and v
 * are low-rank smooth Gaussian fields over the token grid (covariance exp(-d^2 / (2 l^2)) per
 * axis), v = rho u + sqrt(1 - rho^2) w, and u(x), v(y) have unit root mean square at every
 * position, as after qk-norm. l_q sets the overlap of neighbouring queries, rho pulls keys near,
 * `sinks` adds a smooth column term. Four parameters meet DSV's five published statistics at once
 * (docs/sparsity-traces.md). */
#ifndef TRACES_FIELD_H
#define TRACES_FIELD_H

#include "traces/tiling.h"

struct field_law {
    int rank;
    double query_length, key_length; /* correlation lengths in tokens ... */
    bool length_is_share;            /* ... or as a share of each axis */
    double rho;                      /* 0..1 */
    double sinks;                    /* variance of the column term */
};

/* Names the random streams: the same key gives the same field on any machine and thread count. */
struct field_key {
    uint64_t seed;
    int block, head;
    int64_t step;
};

struct field {
    int rank, groups, blocks;
    const float *query;  /* [group][rank], at the middle of each query group */
    const float *key;    /* [rank][block], at the middle of each KV block; divided by sqrt(rank) */
    const float *column; /* [block] */
};

void field_make(const struct tiling *t, const struct field_law *law, struct field_key key,
                struct arena *a, struct field *out);

void field_scores(const struct field *f, int group, float *scores); /* [blocks] */

/* One smooth field of variance 1 at the middles of cubes: [count]. `name` and `part` name its
 * random stream. */
void field_sample(const struct cubes *cubes, struct grid grid, double length, bool length_is_share,
                  const char *name, struct field_key key, int part, struct arena *scratch,
                  double *out);

#endif
