/* Chooses: for every block, the configuration whose slowest rank finishes first and whose memory
 * fits. */
#ifndef PLANNER_SEARCH_H
#define PLANNER_SEARCH_H

#include "model/eval.h"
#include "model/interval.h"
#include "model/plan.h"

enum dispatch { DISPATCH_AUTO, DISPATCH_DENSE, DISPATCH_SPARSE };
extern const char *const dispatch_names[]; /* "auto", "dense", "sparse"; NULL-terminated */

/* Whether blocks may run different configurations. Dispatch and heads are each block's own. */
enum plan_alike {
    ALIKE_NO,
    ALIKE_PAIRS, /* blocks with two exchanges (usp, hybrids) have one strategy and pair of degrees;
                    plans in which some blocks have two and others one are not looked at */
    ALIKE_ALL    /* one strategy and pair of degrees */
};

struct launch;

struct plan_request {
    struct cp_case c; /* the cluster holds exactly the GPUs of the job */
    struct mem_options memory;
    enum plan_phase phase;
    int tensor; /* degree of tensor parallelism, inside a node; 0 counts as 1 */
    int cp;     /* degree; 0: every divisor of the GPUs is tried, best throughput wins */
    double
        batch; /* samples of an optimizer step, over all replicas; 0: one pass (planner/batch.h) */
    const bool *strategies;      /* [CP_STRATEGIES]; NULL: all */
    int head_groups, seq_groups; /* only this degree; 0: all */
    bool rows_inside;            /* only placements with rows inside nodes */
    enum plan_alike alike;
    const struct launch *program; /* that the plan is for, by launch_limit; NULL: none */
    enum dispatch dispatch;
    int query_group;      /* q */
    int64_t assign_nodes; /* search limit of one exact assignment; 0: the default */
    const struct plan_eval *eval;
    const struct plan_eval
        *rerank;         /* NULL, or a finer one that judges the keep_candidates best again */
    int keep_candidates; /* best configurations to report for each block, at least 1 */
};

/* One configuration that was looked at for a block. */
struct plan_candidate {
    struct cp_conf conf;
    struct program_time time;
    double
        weights_s; /* what weights and gradients add beside it: weights_block_s; PLAN_STEP only */
    struct mem_use memory;
    bool fits;
};
double plan_candidate_s(const struct plan_candidate *c); /* both times */

/* What was compared for one block: the best `count` in order (both times, then the documented
 * order: fewer phases that communicate, larger head_groups, heads inside). refused counts those
 * that memory ruled out. */
struct plan_compared {
    int count, tried, refused;
    struct plan_candidate *best;
    struct plan_candidate nearest; /* the one that came nearest to fitting, when nothing did */
};

struct plan_found {
    struct plan *plan;              /* of one pass */
    struct plan_compared *compared; /* [block_count] */
    const struct plan **kinds;      /* with blocks alike: the plans of this degree, the least step
                                       first; the first is `plan` */
    int kind_count;
    struct degree_row { /* one for each CP degree tried */
        int cp, replicas;
        bool fits;     /* has a plan: what follows is set */
        bool too_much; /* has none because of memory, not for want of a configuration */
        double step_s, samples_per_s; /* of a whole step: every pass of the batch */
        double class_s[COST_CLASSES]; /* what step_s is made of; the rest of it counts as weights */
        double half[COST_CLASSES];    /* 90% half-widths of class_s (model/calib.h) */
        struct interval step;         /* 90% interval of step_s (model/calib.h) */
        bool tie;  /* its time a sample and the chosen degree's cannot be told apart */
        int doubt; /* enum cost_class that would tell them apart if measured; -1 */
        struct mem_use memory;
    } * degrees;
    int degree_count;
};

/* What to add to "short": "; nothing will fit: .." where the resident part alone is too much, else
 * "". */
const char *plan_no_hope(const struct mem_use *m, double limit);

/* ERR_INPUT for degrees and strategies that cannot be (heads not divisible, N not a product);
 * ERR_INFEASIBLE with the nearest miss ("14.2 GB short on rank 3 at block 12: gathered KV"). The
 * result lives in `a`. */
bool plan_search(const struct plan_request *r, struct plan_found *out, struct arena *a,
                 struct err *e);

/* The comparison of one block alone at degree `cp`, with the request's limits; for questions of the
 * kind "what if". */
bool plan_compare_block(const struct plan_request *r, int cp, int block, struct plan_compared *out,
                        struct arena *a, struct err *e);

/* `p`'s configurations where keeps and unions have moved on to those of r->c: times, memory and the
 * step anew, nothing is chosen. r is otherwise the request that found `p`. memory_peak may be more
 * than a GPU has: who asks looks. Lives in `a`. */
bool plan_reprice(const struct plan_request *r, const struct plan *p, struct plan *out,
                  struct arena *a, struct err *e);

#endif
