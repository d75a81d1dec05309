/* What an exchange pays besides wire time: software latency, and the protocol's share of the rate.
 * Three sources:
 *
 *   the cluster preset     latency of the routes, rates times their efficiency; nothing more
 *   NCCL's own model       protocols LL, LL128 and Simple (sim/coll.h)
 *   a calibrated profile   (model/prof.h) an equal exchange, alone on its links, takes the
 *                          profile's time exactly; unevenness and contention are still simulated */
#ifndef SIM_REGIME_H
#define SIM_REGIME_H

#include "model/hw.h"
#include "model/prof.h"
#include "sim/coll.h"

struct regime_source {
    const struct hw_cluster *cluster;
    const struct prof_net *net; /* a profile; or NULL */
    bool nccl;                  /* NCCL's model, even if there is a profile */
};

struct regime { /* fields of play_exchange, and what to multiply the bytes by */
    double calls, extra_s, scale;
};

/* `op` says what the profile is asked for, `shape` how many hops follow each other; `bytes` is what
 * the fullest member sends in all of its `calls`. A profile cannot say for servers with unequal
 * numbers of members: then the preset is used. */
struct regime regime_of(const struct regime_source *s, enum coll_op op, const struct coll *shape,
                        const int *hosts, double bytes, int calls);

#endif
