/* Closed forms: what a phase moves and how long it takes. All bytes are off-rank: what a rank keeps
 * is not counted. */
#ifndef MODEL_COST_H
#define MODEL_COST_H

#include "model/prof.h"
#include "model/program.h"

/* One rank's share of one collective, split by where the peer is. */
struct cp_bytes {
    double send_near, recv_near; /* peers in the same node */
    double send_far, recv_far;   /* peers in other nodes */
};

/* bytes[r] for all ranks of a phase: an all-to-all, an all-gather, reduce-scatter or all-reduce
 * on the ring schedule (several rings where the group has as many members on each of its nodes, so
 * that all their NICs are used), all hops of a ring. Rank 0 sits at the start of a node. The sum of
 * sends equals the sum of receives. */
void cost_phase_bytes(const struct cp_phase *p, const struct cp_conf *conf, int gpus_per_node,
                      struct cp_bytes *bytes);

/* Bytes that each rank sends each other in a phase, m[from * ranks + to]: its rows and columns add
 * up to cost_phase_bytes. */
void cost_phase_matrix(const struct cp_phase *p, const struct cp_conf *conf, int gpus_per_node,
                       double *m);

/* Bytes of a whole program, per rank, phases of `pass` that use the network (all passes if PASSES).
 */
void cost_program_bytes(const struct cp_program *p, const struct cp_conf *conf, int gpus_per_node,
                        enum cp_pass pass, struct cp_bytes *bytes, struct arena *scratch);

/* Full-duplex ports: NVLink and NIC work at the same time, each as long as `calls` of its latencies
 * and its fuller direction. */
double cost_exchange_s(const struct hw_cluster *c, struct cp_bytes b, int calls);

/* A collective of `members` ranks, as many of them on each of `nodes` nodes, for the one that moves
 * `b`: where the cluster has a profile, its time of an equal exchange in which every member's
 * fuller direction carries what this member's does (across nodes, of one whose NIC carries as much,
 * if that is more). nodes = 0, what no profile can say, or no profile: cost_exchange_s. */
double cost_collective_s(const struct hw_cluster *c, enum phase_kind kind, int members, int nodes,
                         struct cp_bytes b, int calls);

/* Ring attention with a two-slot buffer, exactly: rank r computes step k for compute[r*n + k]
 * seconds on the KV of rank (r - k) mod n and passes it on; the hop beneath it takes hop_s[k] and
 * step k+1 may start when the step is done, the hop has arrived and the neighbours have freed their
 * slots:
 *   s_r(k+1) = max(s_r(k) + b_r(k), max(s_{r-1}, s_r, s_{r+1})(k) + hop_s[k]).
 * A hop of 0 s waits for nobody beneath the last step (k = n-1) and behind it (hop_s[n]).
 * Returns the last rank's end; end[r] is filled if not NULL. (KA09) */
double cost_ring_s(const double *compute, int n, const double *hop_s, double *end,
                   struct arena *scratch);

/* When each rank finishes the program, and per phase what the ranks did; times in seconds. */
struct phase_time {
    double busy_max_s, busy_mean_s; /* over ranks: the phase's own duration */
    double wait_max_s;              /* longest wait for peers before it */
    double critical_s; /* its share of the slowest rank's path: these add up to the total */
};
struct program_time {
    int phase_count;
    double total_s;
    double pass_s[PASSES];
    double class_s[COST_CLASSES]; /* critical_s by class, for intervals */
    double doubt_s[COST_CLASSES]; /* critical_s times half-width: calib_half */
    double outside_s;             /* critical_s beyond what a kernel's curve was measured at */
    struct phase_time *phase;     /* [phase_count] */
    double *compute_s, *comm_s, *wait_s; /* [ranks]: each rank's own sums */
};

/* Walks the program: compute adds to a rank's clock, a collective begins for all members of a row
 * or column when the last one arrives and ends for each after its own bytes. */
struct program_time cost_program_time(const struct cp_program *p, const struct cp_conf *conf,
                                      const struct hw_cluster *cluster, struct arena *a,
                                      struct arena *scratch);

/* What lasts until both are done: computing, and an exchange on the links of the rank that takes
 * longest when nothing else is on them. The exchange takes the longer of its links' wait_s + s:
 * latencies, then its bytes at the link's full rate, in `messages` at once. Where several exchanges
 * use a link it is shared by message (max-min fairly, as sim/net.h does), so that one of an
 * all-to-all's messages has what a ring's only one has. */
enum cost_link { LINK_NEAR, LINK_FAR, COST_LINKS }; /* NVLink; the NIC, of all that share it */
struct cost_use {
    double compute_s;
    struct {
        double wait_s, s, messages;
    } link[COST_LINKS];
};

/* A phase as `out`, one after the other: one, or each step of a ring and the hop behind the last.
 * `out` has room for cost_uses_most(conf). Their times when alone add up to the phase's for ranks
 * that are alike. */
int cost_uses_most(const struct cp_conf *conf);
int cost_phase_uses(const struct cp_phase *p, const struct cp_conf *conf,
                    const struct hw_cluster *c, struct cost_use *out, struct arena *scratch);
double cost_use_s(const struct cost_use *u); /* alone */

/* One of a line of `ranks` GPUs, every `stride`th, that exchange `bytes` in all (weights,
 * gradients): as the profile has it or by the links: of the w members of a node, each passes on
 * (w-1)/w over NVLink and 1/w by its own NIC. An all-reduce goes round twice. */
struct cost_use cost_line_use(const struct hw_cluster *c, enum coll_op op, int ranks, int stride,
                              double bytes);

/* Published formulas, kept to compare with (docs/model.md says where they are wrong). Elements of
 * one rank. v1: 4 H_i (S/N) (N-1)/N D; v3: 4 S D max(H_i (N-1)/N, (H - H_i)/N) (KA03). */
double cost_dsv_v1_hcp(double held, int ranks, double tokens, int head_dim);
double cost_dsv_v3_hcp(double held, int heads, int ranks, double tokens, int head_dim);

/* Union below which selective gather beats a dense one: t/(c+t), t = wire seconds of a row forward
 * and backward, c = row_s (KA23). remote_share = (n-1)/n. */
double cost_breakeven_union(double row_bytes, double bytes_per_s, double row_s, int ranks);

#endif
