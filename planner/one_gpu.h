/* From one measured GPU to several: who has timed a run on one GPU knows what the passes do not
 * hold. The difference to the prediction is in part the passes' (kernels and frameworks that are
 * slower than predicted) and in part not (VAE, text encoders, host, weights from the host's
 * memory). Two answers hold it from both sides. It scales: all of it is the passes', which take
 * measured / predicted as long on any number of GPUs. It stays: none of it is, and it is added as
 * it is; where less was measured than predicted there is nothing to add, and it scales as well.
 *
 * docs/accuracy says what either is worth on runs that others published: most lie between the two,
 * nearer the first. */
#ifndef PLANNER_ONE_GPU_H
#define PLANNER_ONE_GPU_H

#include "planner/search.h"

struct plan_one_gpu {
    double measured_s, predicted_s; /* on one GPU */
    double scales_s, stays_s;       /* on the plan's */
};

/* From seconds on one GPU, measured and predicted, to those of what takes `predicted_s` on more. */
struct plan_one_gpu plan_from_one_gpu(double measured_s, double predicted_one_s,
                                      double predicted_s);

/* The same for a plan of `r`: the samples of its step (r->batch, or one pass of all replicas) are
 * planned on one GPU of its cluster, whether it has the memory or not. Inference only. */
bool plan_one_gpu(const struct plan_request *r, const struct plan *p, double measured_s,
                  struct plan_one_gpu *out, struct arena *a, struct err *e);

#endif
