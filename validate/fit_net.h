/* Fits the profile of a network: measured curves, counts and GPUs that were not measured, and the
 * leave-out residuals that the error bars come from (docs/calibration.md has the protocol). */
#ifndef VALIDATE_FIT_NET_H
#define VALIDATE_FIT_NET_H

#include "base/arena.h"
#include "model/prof.h"
#include "validate/point.h"

struct residual {         /* of a point that the prediction had not seen */
    const char *protocol; /* "sizes", "size beyond", "count", "anchors", ... */
    const char *group;    /* what one error has in common: GPU, curve */
    int kind;             /* enum point_kind */
    enum prof_class class;
    bool large; /* from 1 MB or 1 ms on */
    double x;   /* bytes, tokens, ...: the plot's axis */
    double measured_s, predicted_s;
    const char *what; /* the operation or kernel */
    int group_id;     /* set by residuals_add: equal for equal groups, 0 and up */
};
struct residuals {
    int count, room;
    struct residual *r;
    struct arena *a;
};
struct residuals residuals_new(struct arena *a);
void residuals_add(struct residuals *list, struct residual r);
double residual_log(const struct residual *r); /* ln(predicted / measured) */

/* 90 % half-width (|ln|) of the n residuals of one size class, without those of group `but` (-1: of
 * all); of both size classes where one has too few for a quantile. Wider where few groups support
 * it: times Student's t with as many degrees of freedom as the rows are worth, over t with n. n
 * rows of G groups are worth between G (errors common to a group) and n (errors of their own), by
 * what their products say, and G where they are too few for a quantile; twice as wide for a single
 * group (an assumption). 0 when nothing is left. room: n doubles. The report's coverage and the
 * shipped profiles both follow it. */
double residuals_width(const struct residual *const *v, int n, bool large, int but, double *room);

/* The same over those of one kind and class. */
double residuals_half(const struct residuals *list, int kind, enum prof_class class, bool large,
                      struct arena *scratch);

struct fit_net_options {
    const char *name, *source;
    const struct prof_net *relative; /* for what was not measured; NULL: none */
    bool nvls; /* the switch reduces (NVLink SHARP): half-precision all-reduce gains from it on 8
                  GPUs */
};

/* Keeps what a fit may see. */
struct point_filter {
    const char *gpu;          /* exact table name */
    const char *const *roles; /* NULL-terminated; NULL: all */
    double without_bytes;     /* > 0: this size is left out */
    int most_gpus;            /* > 0: counts above are left out */
};

/* The measured curves alone: points of one operation and set of GPUs by size, repeats replaced by
 * their median, falling stretches levelled (pool adjacent violators). *conflicts counts sizes whose
 * repeats differ by more than half. */
int fit_curves(const struct points *pts, const struct point_filter *f, struct prof_curve **out,
               int *conflicts, struct arena *a);

/* The whole profile. ERR_INPUT when there is neither a measured operation nor a relative for one
 * that is needed. */
bool fit_net(const struct points *const *tables, int table_count, const struct point_filter *f,
             const struct fit_net_options *o, struct prof_net *out, struct arena *a, struct err *e);

/* The relative's curve through the first and last anchor: its time over its latency is stretched to
 * span theirs. */
void fit_warp(const struct prof_curve *relative, const struct prof_curve *anchors,
              struct prof_curve *out, struct arena *a);

/* Twice the GPUs of `half`; `quarter` may be NULL. From 16 MB on by this curve's own rule: work and
 * wire are straight in 1/n (coll_work_share), so two counts give the third without any constant,
 * t(n) = t(n/2) + (t(n/2) - t(n/4)) / 2, and one gives the next in proportion to its work. Below,
 * where latency and protocols rule, half by what doubling did to the relative (if it has the
 * counts) and half by what it did here before, fading in from 16 MB down to 1 MB. With `nvls`, half
 * of what the relative's half-precision all-reduce gained on 8 GPUs and more over int8, which the
 * switch cannot reduce: one generation's gain says little of another's. */
void fit_doubled(const struct prof_net *relative, const struct prof_curve *half,
                 const struct prof_curve *quarter, bool nvls, struct prof_curve *out,
                 struct arena *a);

/* Pooled form of several nodes out of all rows with nodes > 1. */
bool fit_between(const struct points *pts, const struct prof_net *local, const char *but_source,
                 struct prof_between *out, struct arena *scratch, struct err *e);

const struct prof_curve *fit_find(const struct prof_curve *c, int count,
                                  const struct prof_curve *like, int gpus);

#endif
