/* Blocks, training steps and inference runs as graphs: each phase of a block's program
 * (model/program.h) becomes work on a lane or an exchange over real wires, rank by rank; FSDP's
 * gathers and scatters run beside them on the same links.
 *
 * Order within a rank is the program's. A rank enters an all-to-all when its own work is done and
 * leaves it with its own last message, so stragglers hold up only whom they exchange with. */
#ifndef SIM_STEP_H
#define SIM_STEP_H

#include "model/mem.h"
#include "model/plan.h"
#include "model/prof.h"
#include "sim/play.h"

struct sim_options {
    struct topo_fabric fabric;
    double sm_share; /* of the SMs, taken by a running collective (NCCL: 4 to 24 of 132) */
    bool comm_waits; /* kernels fill the GPU: collectives begin only between them */
    double sync_s;   /* host reads the counts of an index exchange before it can post the gather */
    double launch_s; /* host time to issue what one phase, or one collective call, takes on the GPU;
                      * the host runs ahead of the GPU until it must wait for it (a sync) */
    const struct prof_net *net; /* calibrated collectives instead of the cluster's own profile */
    bool nccl;    /* NCCL's protocols instead of a profile; neither: the preset (sim/regime.h) */
    double merge; /* net_merge; 0 is exact */
    /* Between servers in two levels: all-gathers by place, then inside; rings of rings; rows that
     * several GPUs of a server want travel there once and are copied on over NVLink (sim/coll.h).
     */
    bool two_level;
};
struct sim_options sim_options_default(void); /* ideal fabric, 8 of 132 SMs, 15 us sync, exact */

/* A label that tasks carry: what reports have a line for. */
struct step_label {
    const char *name;
    enum cp_pass pass;
    enum cost_class cost;
    bool exchange;
};

struct step_span {        /* one phase of one rank */
    int gpu, first, last; /* tasks */
};

struct step { /* a graph with what is needed to read its result; immutable once built */
    struct play_graph *graph;
    const struct topo *topo;
    int label_count;
    struct step_label *labels;
    int gpus;              /* simulated */
    int folded;            /* each stands for so many identical ones; 1: all are simulated */
    int ranks, span_count; /* spans[phase * ranks + rank] of the first program added */
    struct step_span *spans;
};

/* One block on one replica at the first GPUs of the cluster, its phases labelled by their place in
 * the program; ring hops by phase_count + place, syncs by 2 phase_count. */
bool step_of_program(const struct cp_program *p, const struct cp_conf *conf,
                     const struct hw_cluster *cluster, const struct sim_options *o,
                     struct step *out, struct arena *a, struct err *e);

/* A whole step of a plan: all blocks forward, then back (recompute and backward), weights gathered
 * one unit ahead and gradients scattered behind as the plan's sharding says, the optimizer last.
 * Inference: `runs` forward passes (denoising steps). Replicas that are alike are simulated once
 * unless `all`; then every GPU is. `topo` NULL: the plan's cluster; otherwise ERR_INPUT at `at` if
 * its GPUs are not those of the plan. */
bool step_of_plan(const struct plan *p, const struct sim_options *o, int runs, bool all,
                  const struct topo *topo, struct step *out, struct arena *a, struct err_at at,
                  struct err *e);

/* ---- reading results ---- */

struct step_row { /* one label */
    double busy_max_s,
        busy_mean_s;   /* over GPUs, sums over the step; exchanges: from the last arrival on */
    double wait_max_s; /* in exchanges, for their last member */
    double critical_s; /* on the critical path; rows add up to the total */
};
struct step_link { /* one edge of the topology */
    int edge;
    double bytes, busy_share; /* bytes over rate x total */
};
struct step_report {
    double total_s, compute_critical_s, exposed_s; /* critical path: work, exchanges */
    struct step_row *rows;                         /* [label_count] */
    int link_count;
    struct step_link *links; /* the fullest edge of each kind of link ("gpu to nvswitch") */
    int bottleneck;          /* label with the most critical time */
};
struct step_report step_report(const struct step *s, const struct play_result *r, struct arena *a);

/* All edges that carried anything, in the topology's order; `count` of them, in `a`. */
const struct step_link *step_links(const struct step *s, const struct play_result *r, int *count,
                                   struct arena *a);

/* Many runs with jitter, in parallel with OpenMP; seconds[run] does not depend on the threads.
 * False if a run fails. */
bool step_runs(const struct step *s, const struct play_what *what, int runs, double *seconds,
               struct err_at at, struct err *e);

/* The q-quantile of sorted values, by linear interpolation (R's type 7). */
double step_quantile(const double *sorted, int count, double q);

#endif
