/* "Does it fit" and "how long" in one answer: a search whose "no" is data with its nearest miss,
 * and whose choice of the CP degree keeps limits on time. For the questions of the kind "what if".
 */
#ifndef PLANNER_FIT_H
#define PLANNER_FIT_H

#include "planner/search.h"

/* What is asked beside fitting in memory; 0 asks nothing. */
struct plan_limits {
    double step_s;        /* a step takes at most this */
    double samples_per_s; /* all replicas together make at least this */
    bool sure;            /* it must hold at the slow end of the 90% interval too */
};

enum fit_verdict {
    FIT_YES,
    FIT_SLOW,      /* fits in memory and breaks a limit */
    FIT_MEMORY,    /* no degree fits */
    FIT_IMPOSSIBLE /* degrees, strategies or GPUs that cannot be: only `reason` is set */
};
extern const char *const fit_verdict_names[]; /* "yes", "slow", "memory", "impossible" */

struct plan_fit {
    enum fit_verdict verdict;
    int gpus, cp, replicas;
    double samples;        /* of a replica and pass */
    double passes;         /* of a step (planner/batch.h) */
    struct cp_conf conf;   /* of the slowest block; where nothing fits, the nearest to fitting */
    int sparse_blocks;     /* blocks that run sparse kernels */
    struct mem_use memory; /* peak, or the nearest miss's */
    double memory_limit;   /* bytes of a GPU */
    struct interval step;  /* 90%; not set where nothing fits */
    double samples_per_s;  /* as above */
    enum cost_class slow;  /* takes most of the step (plan_class_names) */
    double slow_share;     /* of the step */
    char reason[1024];     /* why not, for people; "" for FIT_YES */
};

/* Of the degrees that fit and keep the limits, the best throughput (ties: the smaller degree), as
 * plan_search chooses. When none keeps them: the shortest step if that is limited, else the best
 * throughput. When none fits: the least memory. False only for errors that are no answer. */
bool plan_fit(const struct plan_request *r, const struct plan_limits *l, struct plan_fit *out,
              struct arena *a, struct err *e);

/* plan_fit of each of `count` requests, on as many threads as there are cores; out[i] is the same
 * on any number. out[i].conf has no pieces. The error is that of the first request that has one. */
bool plan_fit_all(const struct plan_request *r, int count, const struct plan_limits *l,
                  struct plan_fit *out, struct err *e);

/* Bytes over the limit; 0 or less when it fits. */
double fit_short(const struct plan_fit *f);

#endif
