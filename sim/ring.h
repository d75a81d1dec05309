/* Ring attention with two KV buffers, as tasks: rank r computes step k on the KV of rank (r - k)
 * mod n while that KV travels on; step k + 1 begins when the step is done and the hop with both
 * neighbours is. A hop begins for two neighbours when both have begun the step (their second buffer
 * is free). With hops of equal time p this is s_r(k+1) = max(s_r(k) + b_r(k), max(s_{r-1}, s_r,
 * s_{r+1})(k) + p)      (KA09) */
#ifndef SIM_RING_H
#define SIM_RING_H

#include "sim/play.h"

struct ring {
    int n;
    const int *gpus;
    const double *compute_s; /* [r * n + k]; 0 is a skipped block: no kernel, the hop stays */
    const double *merge_s;   /* [r] on the HBM lane after each step but the first; NULL: none */
    const double *hop_bytes; /* [k]: what each rank sends under step k, and [n] behind the last step
                                (the last gradients of a backward); 0: none */
    bool no_sms;             /* compute_s holds what hops take of the SMs */
    int inner; /* 0, or w: a ring of w members inside n / w outer places; the KV of the next outer
                  place travels (outer_bytes) under all w inner steps (LoongTrain's and MTraining's
                  double ring) */
    double outer_bytes;
    double calls, extra_s; /* as in play_exchange, for each hop */
    int compute_phase, hop_phase;
};

/* Adds the ring; the tasks after which each rank begins, and with which it ends, are begin[r] and
 * end[r]. */
void ring_add(struct play_graph *g, const struct ring *r, int *begin, int *end,
              struct arena *scratch);

/* db-SP's published formula, kept to compare with: L = a2a + (max(comp, p2p) (steps - 1) + comp)
 * rho. It multiplies the network by the imbalance too and takes a barrier for each step (KA16). */
double ring_dbsp_s(double a2a_s, double comp_s, double p2p_s, int steps, double rho);

#endif
