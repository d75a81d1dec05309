/* A study file: a grid over parameters of a plan (docs/formats.md, "Study").
 *
 *   name: longer-clips                        # optional
 *   parameters:
 *     model: hunyuanvideo-13b                 # one value: the same at every point
 *     gpus: [8, 16, 32]                       # a list is an axis of the grid
 *     frames: {from: 61, to: 253, by: 64}     # so is a range: by, times, or count with a scale
 *   cases:                                    # optional: an axis of parameters that go together
 *     - {kernels: fa3+dsv, dispatch: dense}
 *     - {kernels: dsv-triton}
 *
 * Points are numbered in the order of the file, the last axis fastest. */
#ifndef PLANNER_STUDY_H
#define PLANNER_STUDY_H

#include <stdint.h>

#include "base/arena.h"
#include "base/cfg.h"
#include "base/err.h"
#include "base/qty.h"

enum { STUDY_VALUES_MOST = 100000, STUDY_POINTS_MOST = 1000000 };

/* What the parameters are: the program knows, a study file does not. */
struct study_terms {
    const char *const *names; /* NULL-terminated */
    const void *data;         /* of the two functions below */
    /* Is it a number that ranges can be made of? Then its dimension, and whether it is whole. */
    bool (*number)(const void *data, const char *name, enum qty_dim *dim, bool *whole);
    /* Can the parameter be this text? An error names `at`. */
    bool (*check)(const void *data, const char *name, const char *text, struct err_at at,
                  struct err *e);
};

struct study_axis {
    bool cases; /* values set all the parameters of `cases`; else `param` alone */
    int param, count;
    const char **text; /* [count] of `param`; of cases: [count * params], NULL where not set */
};

struct study {
    const char *path, *name;
    int params;
    const char **param; /* names, in the order of the file */
    int axes;
    struct study_axis *axis;
    int64_t points;
};

/* NULL and an error with file, line and column for what is no study. The result lives in `a`. */
const struct study *study_read(const char *path, const struct study_terms *terms, struct arena *a,
                               struct err *e);
const struct study *study_read_text(const char *name, const char *text, size_t length,
                                    const struct study_terms *terms, struct arena *a,
                                    struct err *e);

/* text[params]: the point's parameters, NULL where it does not set one. */
void study_point(const struct study *s, int64_t point, const char **text);

/* FNV-1a over the names and texts that are set, in the order of their names: the same parameters in
 * another order are the same point. */
uint64_t study_point_hash(const struct study *s, int64_t point, struct arena *scratch);

/* Which value of an axis a point has: for tables and plots. */
int study_axis_value(const struct study *s, int64_t point, int axis);

/* The parameter differs between points. */
bool study_varies(const struct study *s, int param);

#endif
