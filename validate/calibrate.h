/* `shardwise calibrate`: measurements in, a profile out, and what a person needs to judge it: every
 * point with its fitted time and the time that a fit without it would have said, outliers by name,
 * a gnuplot script of fit against points. */
#ifndef VALIDATE_CALIBRATE_H
#define VALIDATE_CALIBRATE_H

#include <stdio.h>

#include "base/arena.h"
#include "base/table.h"
#include "validate/fit_net.h"
#include "validate/nccl_log.h"
#include "validate/point.h"

struct calibrate_options {
    const char *const *files; /* tables (.csv) and nccl-tests logs, NULL-terminated */
    const char *gpu;  /* rows of this GPU; for logs the name to give; NULL: the only one there is */
    const char *name; /* of the profile */
    const char *relative;     /* preset that lends what was not measured: "h100"; NULL: none */
    const char *const *roles; /* rows that may be fitted; NULL: all */
    struct nccl_facts facts;  /* for logs */
    int sms;                  /* of the GPU, for kernels */
    bool nvls;
};

struct calibrated {
    bool net; /* a network profile; else kernels */
    struct prof_net network;
    struct prof_kernels kernels;
    struct points points; /* what was fitted */
    double *fitted_s,
        *unseen_s; /* per point; unseen: by a fit without it, NaN where there is none */
    bool *outlier;
    int skipped, broken, wrong, conflicts;
    double mape, unseen_mape;
};

/* ERR_INPUT for no usable row, rows of several GPUs without a choice, collectives and kernels
 * mixed, a curve of one row and no relative to lend its shape. */
bool calibrate(const struct calibrate_options *o, struct calibrated *out, struct arena *a,
               struct err *e);

/* The points as a table: what, x, measured, fitted, error, unseen error, "outlier". */
struct table *calibrate_table(const struct calibrated *c, struct arena *a);

/* A gnuplot script that holds its data and writes `image` (.svg or .png): fitted curves and points,
 * double logarithmic. */
void calibrate_plot(const struct calibrated *c, const char *image, FILE *out);

/* Rebuilds every shipped profile from the tables in `data` into `presets`/net and /curve. */
bool calibrate_shipped(const char *data, const char *presets, const char *made_by, struct arena *a,
                       struct err *e);

#endif
