/* What the heads of a block take on the ranks of a row, between the points at which these wait for
 * each other: the phases of model/program.h as sums over heads and tables by their number, which an
 * assignment of heads is chosen by.
 *
 * A row waits at every all-to-all to the heads and to the tokens. In between a rank takes what its
 * column fetches for its heads and their attention. Three simplifications, for the assignment
 * alone: messages to a rank's peers are as many inside its node as outside for all ranks; the time
 * to fetch rows is a straight line, through the calibrated times of half the mean rank's rows and
 * of all of them; NICs that GPUs share carry what the rank at hand does. */
#ifndef PLANNER_HEAD_TIMES_H
#define PLANNER_HEAD_TIMES_H

#include "model/program.h"
#include "planner/assign.h"

/* One tensor rank's part of a block: its heads, in nodes of its GPUs alone. */
struct head_slice {
    struct cp_case c; /* model and cluster are those of the slice, the sparsity is not */
    int block;
    int first; /* the sparsity's head that the slice's head 0 is */
};

struct head_times {
    int units, heads_per_unit; /* units: KV groups if they can be shared out whole, else heads */
    int passes;                /* stages: forward, recompute, backward, as the options have it */
    struct assign_stage pass[PASSES];
    double *before_s, *out_s; /* [units + 1]: selection; all ways back to the tokens */
    double *work_s;           /* [heads]: selection and all passes */
    double *fetch_s; /* [heads]: of work_s, what each rank pays that has a piece of the head */
    struct assign_wire wire;
};

struct head_times head_times_of(const struct head_slice *s, const struct cp_conf *conf,
                                struct arena *a);

/* Seconds of one head on one rank, selection and attention of all passes: its share of the sequence
 * as queries, all keys. */
double head_work_s(const struct head_slice *s, int head, const struct cp_conf *conf);

#endif
