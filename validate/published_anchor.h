/* From one measured GPU to several: who has timed a run on one GPU and asks how long it takes on
 * eight. Rows of presets/data/published_runs.csv that name a row of one GPU (`one_gpu`) are
 * predicted again with that row's published time at hand (planner/one_gpu.h).
 *
 * Rules, written down before a result was looked at. Rest: what one GPU took beyond its prediction
 * stays as it is on any number of GPUs, and scales where it is negative. Ratio: it scales with the
 * passes. Row, the rule that was meant: ratio where the published number holds the passes alone
 * (`beyond` begins with "nothing"), else rest.
 *
 * Middle, the geometric middle of rest and ratio, was added when the results of the first 25 rows
 * were seen, and tried on the 22 of ML.ENERGY, which were entered later.
 *
 * The page gives all. Choices of kernels (`fa2+dsv;fa3+dsv`) are anchored each for itself: what is
 * open about the kernel then cancels in most part. */
#ifndef VALIDATE_PUBLISHED_ANCHOR_H
#define VALIDATE_PUBLISHED_ANCHOR_H

#include "validate/published_page.h"

enum anchor_rule {
    ANCHOR_NONE,
    ANCHOR_ROW,
    ANCHOR_REST,
    ANCHOR_RATIO,
    ANCHOR_MIDDLE,
    ANCHOR_RULES
};

/* The prediction for run `i` under a rule, the geometric middle of its choices; a run without
 * one_gpu has only ANCHOR_NONE, else NAN. */
double anchor_predict(const struct published_set *s, int i, enum anchor_rule rule);

/* Runs that have a row of one GPU: errors under a rule; of `project`, or of all (NULL). `inside`
 * counts those whose published time lies between rest and ratio. */
struct published_score anchor_score(const struct published_set *s, enum anchor_rule rule,
                                    const char *project, struct arena *a);

/* The section; nothing where no run has a row of one GPU. */
void anchor_page(const struct page *p, const struct published_set *s, struct arena *a);

#endif
