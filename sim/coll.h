/* Collectives as messages: what each of `n` members sends to whom, in stages. Bytes are off-rank;
 * what a member keeps is no message. `host[i]` is the server of member i; members of a server are
 * neighbours in the order of members. */
#ifndef SIM_COLL_H
#define SIM_COLL_H

#include "base/arena.h"
#include "sim/play.h"

struct coll_stage {
    struct play_message *messages;
    int count;
    bool together; /* starts when all members are there; otherwise each message when its two ends
                      are */
    int near_steps,
        far_steps; /* dependent hops inside and between servers on the longest chain: latency */
};

/* Stages follow each other member by member: a member goes on when its own messages have ended. */
struct coll {
    int members, stage_count;
    struct coll_stage stage[2];
};

/* Grouped send and receive: bytes[i*n + j] from i to j, all at once (NCCL's all-to-all(v)). */
struct coll coll_alltoallv(int n, const double *bytes, const int *host, struct arena *a);

/* One hop of a ring: member i sends bytes[i] to its successor. */
struct coll coll_shift(int n, const double *bytes, const int *host, struct arena *a);

/* Ring schedules, chunks in a pipeline, so each edge carries its bytes evenly: all-gather(v): the
 * edge into i carries all shares but that of i; reduce-scatter: the edge out of i all but the share
 * of i; all-reduce: both, of equal parts. On k servers of w members each there are w rings, one
 * leaving each server by each member's own NIC (NCCL's channels); otherwise one ring in the order
 * of members. */
struct coll coll_allgather(int n, const double *share, const int *host, struct arena *a);
struct coll coll_reduce_scatter(int n, const double *share, const int *host, struct arena *a);
struct coll coll_allreduce_ring(int n, double bytes, const int *host, struct arena *a);

/* Double binary trees between servers (Sanders, Speck, Traeff, "Two-tree algorithms for full
 * bandwidth broadcast, reduction and scan", 2009; NCCL's Tree), chains inside; one tree a member of
 * the server, odd ones mirrored. */
struct coll coll_allreduce_tree(int n, double bytes, const int *host, struct arena *a);

/* Two levels: each member exchanges its share with the members of its place on the other servers,
 * then hands on inside its server what it got. Needs servers of equal numbers of members. */
struct coll coll_allgather_levels(int n, const double *share, const int *host, struct arena *a);

/* Rows that several members of a server want travel there once and are copied on over NVLink:
 * need[i*n + j] bytes of i for j, unions[i*n + j] bytes of i wanted by anyone on the server of j
 * (KA25). The copy of (i, server) is received by the member there that has i's place. */
struct coll coll_groupcast(int n, const double *need, const double *unions, const int *host,
                           struct arena *a);

/* Adds the exchange to a graph. *first[s] is the task of member 0 in stage s; stages are joined.
 * `scale` multiplies the bytes (1 / efficiency), extra_s is software latency. */
struct coll_tasks {
    int first, last; /* task of member 0 in the first and the last stage */
};
struct coll_tasks coll_add(struct play_graph *g, const struct coll *c, const int *gpus, int phase,
                           double calls, double extra_s, double scale);

/* NCCL's regimes (its tuning model: time = base + steps x hop + bytes / (efficiency x rate); Hopper
 * constants). */
struct coll_protocol {
    const char *name;
    double base_s, near_hop_s, far_hop_s;
    double efficiency;
};
enum { COLL_LL, COLL_LL128, COLL_SIMPLE, COLL_PROTOCOLS };
extern const struct coll_protocol coll_protocols[COLL_PROTOCOLS];

/* The fastest protocol for `bytes` through a port of bytes_per_s; its software latency in *extra_s.
 */
const struct coll_protocol *coll_protocol_best(const struct coll *c, double bytes,
                                               double bytes_per_s, double *extra_s);

#endif
