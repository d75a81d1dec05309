/* How much each head keeps, block by block and step by step: what drives the generator over depth and training.
 *
 *   own                    the pattern decides
 *   constant:keep=0.1      one number
 *   dsv                    DSV's median over training: sparsity 0.45 -> 0.925, tau 35,000 steps (0.81 at 50k, 0.92 at
 *                          300k), heads spread by 0.6 in logit
 *   webvid, videogen       DSV's measured depth profiles (presets/sparsity), each head moving through its measured
 *                          value: webvid's at step 28,000, videogen's late in training
 *   anneal:start=1,end=0.1,from=0,to=50000    linear in steps (VSA, BSA)
 *   levels:keep=0.2        AdaSpa: by thirds of the heads sparsity (1+s)/2, s, (3s-1)/2
 *
 * Sparsity moves as s(t) = s_end - (s_end - s_start) exp(-t / tau); heads differ by fixed normal draws in logit, and
 * every step adds `noise` (0.1 in logit) of its own. */
#ifndef TRACES_PROFILE_H
#define TRACES_PROFILE_H

#include <stdint.h>

#include "base/arena.h"
#include "base/err.h"

enum profile_kind {
    PROFILE_OWN,
    PROFILE_CONSTANT,
    PROFILE_DSV,
    PROFILE_WEBVID,
    PROFILE_VIDEOGEN,
    PROFILE_ANNEAL,
    PROFILE_LEVELS,
    PROFILE_KINDS
};
extern const char *const profile_names[PROFILE_KINDS + 1];

struct profile {
    enum profile_kind kind;
    double keep, start, end, from, to, noise;
    int blocks, heads;      /* of the measured table */
    const double *measured; /* [blocks][heads] keep */
};

bool profile_parse(const char *text, struct err_at at, struct arena *a, struct profile *out,
                   struct err *e);

/* keep of (layer, head) at a step, in (0, 1]; NaN for PROFILE_OWN. Measured tables of another depth or head count are
 * read at the same relative depth and head. */
double profile_keep(const struct profile *p, int layer, int layers, int head, int heads,
                    int64_t step, uint64_t seed);

#endif
