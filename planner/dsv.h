/* The cost model of DSV's released solver (NetX-lab/DSV, branch ae, DSV/optim_solve/solver.cc),
 * restated from its arithmetic so that a plan can be compared with it. Its known defects are kept
 * and named: docs/model.md, section "DSV's solver". */
#ifndef PLANNER_DSV_H
#define PLANNER_DSV_H

#include <stdbool.h>
#include <stdint.h>

struct dsv_case {
    double flop_per_s;                          /* its own test: 1979e12 (the 2:4 sparse peak) */
    double compute_efficiency, comm_efficiency; /* 0.3, 0.7 */
    double near_bytes_per_s, far_bytes_per_s;   /* one direction, a GPU */
    double scp_overhead_s;                      /* 0.5 ms */
    double memory_bytes;
    int gpus, gpus_per_node, heads, head_dim;
    int64_t tokens;
    const double *sparsity; /* [heads] */
    bool mended; /* correct min(,1), integer division, 32-bit overflow; the rest as published */
};

struct dsv_pick {
    int head_groups, seq_groups;
    bool heads_inside;
    double total_s, compute_s, comm_s;
};

/* Its estimate of one configuration. */
struct dsv_pick dsv_estimate(const struct dsv_case *c, int head_groups, int seq_groups);

/* Its choice over all head_groups that divide the GPUs; {0} when its memory formula refuses all. */
struct dsv_pick dsv_choose(const struct dsv_case *c);

#endif
