/* Which rank computes which attention heads, exactly.
 *
 * R ranks share H heads (Ulysses with uneven heads; DSV, arXiv 2502.07590, section 5). Rank r first
 * does what depends on the number of its heads alone (sparse attention: it selects their critical
 * keys) and waits for the others. Then it takes part in the all-to-all of Q, K, V, computes its
 * heads, waits again, and takes part in the all-to-all of O. With n_r the heads that it holds and
 * work_r the sum of work_s over them:
 *
 *     cost = max_r before_s[n_r] + max_r (in_s[n_r] + work_r) + max_r out_s[n_r]
 *
 * Both all-to-alls are uneven: a rank receives n_r shards from each of R-1 peers and sends the
 * H - n_r heads that it does not keep, so in_s and out_s fall and then rise (assign_wire_fill); any
 * non-negative table is accepted.
 *
 * Same problem, same answer, on every machine. Heads of equal work are interchangeable and are
 * dealt out in index order; ranks are named in the order of their lowest head, so rank 0 holds
 * head 0. Of two starts of equal cost the one with fewer heads on its fullest rank is kept, then
 * LPT; the search replaces it only by something cheaper. */
#ifndef PLANNER_ASSIGN_H
#define PLANNER_ASSIGN_H

#include <stdint.h>

#include "base/arena.h"
#include "base/err.h"
#include "model/conf.h"

enum { ASSIGN_MOST_HEADS = 256, ASSIGN_MOST_RANKS = 256 };

struct assign_problem {
    int heads, ranks;     /* 1..256 each; heads may be fewer than ranks */
    const double *work_s; /* [heads], >= 0: seconds of a head on one rank */
    /* [heads], 0..units-1, each used: heads that must stay together (GQA: the head's KV group);
     * NULL: every head by itself. */
    const int *unit_of_head;
    /* [units + 1], >= 0, by the units of a rank; NULL: all zero */
    const double *before_s, *in_s, *out_s;
    int least, most; /* units on every rank (memory); most = 0: no cap */
};

struct assign_limits {
    int64_t nodes;    /* steps of the search, not seconds; 0: ASSIGN_NODES */
    double tolerance; /* stop when cost <= (1 + tolerance) * bound; 0: go on to the true optimum */
};
#define ASSIGN_NODES 15000 /* some 0.1 to 0.3 ms for 40 heads on 8 ranks (bench_assign) */

enum assign_proof {
    ASSIGN_UNPROVED, /* the node limit came first: the optimum lies between bound_s and cost_s */
    ASSIGN_WITHIN,   /* cost_s <= (1 + tolerance) * bound_s */
    ASSIGN_EXACT /* cost_s = bound_s: none is cheaper by more than 1e-11 of the cost, see below */
};
extern const char *const assign_proof_names[]; /* "unproved", "within tolerance", "exact" */

struct assign_result {
    int *rank_of_head; /* [heads] */
    double cost_s;
    double bound_s; /* proved: no assignment costs less */
    enum assign_proof proof;
    int64_t nodes; /* steps that were taken */
    /* All work is whole multiples of it (tiles), or these above a base that all share (a kernel's
     * fixed time); 0 when there is none. Lifts bounds. */
    double quantum_s;
};

/* cost of any assignment, sums in head order. rank_of_head entries in 0..ranks-1. */
double assign_cost_s(const struct assign_problem *p, const int *rank_of_head);

/* Consecutive units in index order: the first units mod ranks ranks hold one unit more. What
 * Ulysses does when ranks divides the heads. Does not look at work; fails only when the problem is
 * wrong. */
bool assign_contiguous(const struct assign_problem *p, struct assign_result *out, struct arena *a,
                       struct err *e);

/* Longest processing time first (Graham 1969) on the true objective: the heaviest unit goes where
 * load plus the least in_s that this rank can still end with is smallest; then fewest units, then
 * lowest rank. */
bool assign_lpt(const struct assign_problem *p, struct assign_result *out, struct arena *a,
                struct err *e);

/* The minimum, by branch and bound from LPT improved by moves and swaps. Works on whole numbers:
 * work and tables are rounded to a grid of total/2^50 (or a fraction of the common quantum when
 * there is one), so that sums are exact in any order; that rounding is the 1e-11 above. Time grows
 * with `limits.nodes`, memory with heads * ranks.
 *
 * All three: ERR_INPUT for numbers outside the ranges above; ERR_INFEASIBLE when `least` and `most`
 * leave no assignment. Results live in `a`, working memory in `scratch` (reset by the caller, a !=
 * scratch). */
bool assign_exact(const struct assign_problem *p, struct assign_limits limits,
                  struct assign_result *out, struct arena *a, struct arena *scratch, struct err *e);

/* --- work in stages ---
 *
 * Ranks may wait for each other several times (a block's forward, recompute and backward each end
 * in an all-to-all), and a head that weighs little in one stage may weigh much in another. With
 * tables and work of each stage,
 *
 *     cost = max_r before_s[n_r] + sum over stages of max_r (in_s[n_r] + work_r) + max_r out_s[n_r]
 *
 * which is not below the cost of all stages in one, so that the minimum of that bounds it. */
struct assign_stage {
    const double *work_s; /* [heads], as in struct assign_problem */
    const double *in_s;   /* [units + 1] */
};
struct assign_staged {
    struct assign_problem p; /* work_s, in_s: not looked at */
    int stages;              /* at least 1 */
    const struct assign_stage *stage;
};
double assign_staged_cost_s(const struct assign_staged *p, const int *rank_of_head);

/* The minimum with all stages in one by assign_exact, then moves and swaps while they lower the
 * staged cost, and again from what a few drawn swaps make of it while more than 0.1% above bound_s.
 * bound_s is proved, from all stages in one and from each by itself; ASSIGN_EXACT: cost_s is not
 * above it by more than 1e-11. Errors and memory as assign_exact. */
bool assign_staged(const struct assign_staged *p, struct assign_limits limits,
                   struct assign_result *out, struct arena *a, struct arena *scratch,
                   struct err *e);

/* Seconds that the shard (one rank's share of the sequence) of one head takes on a rank's link.
 * Ordinary attention: kv_s = 2 q_s, o_s = q_s. With x_i heads of Q and O and k_i KV heads on rank
 * i, X and K their sums over ranks, receiving and sending at the same time:
 *
 *     in  = max((R-1)(q_s x_i + kv_s k_i), q_s (X - x_i) + kv_s (K - k_i))
 *     out = max(o_s (X - x_i), (R-1) o_s x_i) */
struct assign_wire {
    double q_s, kv_s, o_s;
};
double assign_wire_in_s(const struct assign_wire *w, int ranks, double x, double k, double x_sum,
                        double k_sum);
double assign_wire_out_s(const struct assign_wire *w, int ranks, double x, double x_sum);

/* Tables for whole units: n units are n * heads_per_unit query heads and n KV heads. in_s, out_s:
 * [units + 1]. */
void assign_wire_fill(const struct assign_wire *w, int ranks, int units, int heads_per_unit,
                      double *in_s, double *out_s);

/* --- heads split by query range ---
 *
 * A head may be computed by several ranks, each for a range of its queries against all of its
 * keys: no rank then needs more than the mean, whatever the heaviest head (McNaughton 1959: wrap
 * the row of heads around the ranks, at most R - 1 cuts). Q and O travel by the share, K and V
 * whole to every rank that has a piece of the group: with x_i the shares of rank i summed, k_i the
 * KV groups that it holds pieces of, and in and out those of struct assign_wire,
 *
 *     cost = max_i (in(x_i, k_i) + work_i) + max_i out(x_i) */
struct assign_split_problem {
    int heads, ranks;         /* as in struct assign_problem */
    const double *work_s;     /* [heads]: all queries */
    const int *group_of_head; /* [heads], 0..groups-1, each used: KV groups; NULL: one a head */
    struct assign_wire wire;
    /* [heads], of work_s: what every piece takes, however small; the rest is shared out. NULL: 0 */
    const double *piece_s;
    /* [heads]: a good assignment of whole KV groups to begin with; NULL: one is searched for */
    const int *rank_of_head;
    int query_groups; /* cuts lie at multiples of 1/query_groups; 0: anywhere */
    int most_groups;  /* KV groups on a rank (memory); 0: no cap */
};

struct assign_split {
    int count;
    struct cp_piece *pieces; /* by head, then by begin; shares of a head add up to 1 */
    double cost_s;
    double whole_s; /* the best assignment of whole heads that was found; cost_s is not above it */
    double bound_s; /* proved: the mean work and the mean of what must be received */
};

double assign_split_cost_s(const struct assign_split_problem *p, const struct cp_piece *pieces,
                           int count);

/* Candidates: whole heads (rank_of_head, or assign_exact within `limits`, by KV group; by head);
 * for many j, the j heaviest groups poured in one row over the others, which stay whole (j = all is
 * McNaughton's rule); then pieces cut off the rank that ends last. The best by cost_s, K and V of
 * every cut counted; within 1e-9 the one with the fewest pieces. Not proved to be the least:
 * bound_s says how far it can be. Whole heads within limits.tolerance of bound_s are returned at
 * once. Errors and memory as assign_exact. */
bool assign_split(const struct assign_split_problem *p, struct assign_limits limits,
                  struct assign_split *out, struct arena *a, struct arena *scratch, struct err *e);

#endif
