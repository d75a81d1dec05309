/* A profile of this machine as ranks see it when all of them work at once: kernel and cluster files
 * (docs/formats.md) from short measurements, so that a plan can be made for it, run and compared.
 */
#ifndef VALIDATE_MACHINE_H
#define VALIDATE_MACHINE_H

#include "kernels/comm.h"
#include "kernels/kern.h"

/* What one rank gets: the slowest of all ranks, medians over repeats. */
struct machine {
    int ranks;
    double dense_flop_per_s[2]; /* forward, backward */
    double row_s[2],
        pair_s[2];           /* sparse attention: per (query, head), per kept (query, key, head) */
    double score_s;          /* selection, per (group, key, head) */
    double copy_bytes_per_s; /* read plus written, tokens to heads and back */
    double gathered_row_s;   /* packing one K and V row of head_dim 128 */
    double scattered_row_s;  /* adding one row of their gradients */
    double sum_bytes_per_s;  /* adding arrays of gradients: read plus written */
    double host_bytes_per_s; /* to the host's memory or back */
    double list_s;           /* an entry of a list of keys that becomes a row of the union */
    double latency_s, link_bytes_per_s; /* of an all-to-all call; of what a rank sends */
};

/* On all ranks; the same result everywhere. cpu_clock: the ranks' CPU time, not the wall's. */
bool machine_measure(struct comm *world, const struct kern_backend *b, int repeats, bool cpu_clock,
                     struct machine *out, struct err *e);

/* Writes PREFIX-kernels.yaml and PREFIX-cluster.yaml. */
bool machine_write(const struct machine *m, const struct kern_backend *b, const char *prefix,
                   struct err *e);

#endif
