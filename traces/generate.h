/* Makes trace files from patterns: any family, per head, block and training step, seeded. Heads are drawn in parallel
 * (OpenMP) and written in order, so the bytes do not depend on the number of threads. */
#ifndef TRACES_GENERATE_H
#define TRACES_GENERATE_H

#include <stdio.h>

#include "traces/pattern.h"
#include "traces/profile.h"
#include "traces/trace.h"

enum { GENERATE_PATTERNS = 16 };

struct generate_job {
    struct pattern patterns[GENERATE_PATTERNS]; /* head h takes pattern h % pattern_count */
    int pattern_count;
    struct profile profile;
    struct grid grid;
    int group[3], block[3];
    int layers, heads, level;
    int64_t step, stride; /* records at step, step + stride, ... */
    int steps;
    uint64_t seed;
    const char *model;                          /* stored in the file; may be NULL */
    void (*progress)(void *self, double share); /* may be NULL */
    void *self;
};

/* One 64-token cube per group and block, one layer, head and step. */
struct generate_job generate_default(void);

/* "dsv", or several joined by '+': "svg-spatial+svg-temporal". */
bool generate_patterns(const char *text, struct err_at at, struct generate_job *job, struct err *e);

bool generate_trace(const struct generate_job *job, const char *path, struct err *e);

/* The summary tier: rows step,block,head,keep (the asked keep of fields, counted keeps of the others), as CSV. */
bool generate_summary(const struct generate_job *job, FILE *out, struct err *e);

/* The bitmap of one head, as generate_trace draws it. */
void generate_mask(const struct generate_job *job, const struct tiling *t, int layer, int head,
                   int64_t step, struct arena *a, struct mask *out);

#endif
