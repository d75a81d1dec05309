/* DSV's published runs put together from calibrated parts: its kernels (exp1, exp2) and the
 * collectives of four H100. What each run is made of is written beside its time, so that a miss can
 * be traced to a part. */
#ifndef VALIDATE_DSV_H
#define VALIDATE_DSV_H

#include "base/arena.h"
#include "model/prof.h"

enum { DSV_TERMS = 12 };

struct dsv_term {
    const char *what;
    double time_s, half; /* half-width of its class */
    int class; /* terms of one class err together: 0 kernels, 1 collectives, 2 copies, 3 the stated
                  constant */
};
struct dsv_run {
    const char *name;
    struct dsv_term term[DSV_TERMS];
    int terms;
    struct interval predicted;
    double measured_s; /* median over the usable steps; NaN: not in the tables */
};

/* exp5 (dense gather), exp6 case 0 (naive HCP, naive SCP), exp7 (full, low rank). `folder` holds
 * dsv_cp.csv, dsv_e2e.csv and dsv_exp7_layers.csv. exp7's one constant (what is neither attention
 * nor exchange of QKVO) is what `full` leaves over. */
bool dsv_runs(const char *folder, const struct prof_net *net, const struct prof_kernels *k,
              struct dsv_run **out, int *count, struct arena *a, struct err *e);

#endif
