/* One attention block of a plan, carried out by its ranks with real kernels and real messages,
 * phase by phase with the names of model/program.h. Linear layers and the predictor's projections
 * are carried out for their time only (Q_lr and K_lr are inputs here).
 *
 * Sequence shards begin at multiples of the query group, so that groups are those of the
 * single-rank computation; shards may differ by one group. A split head is cut at query groups too.
 */
#ifndef VALIDATE_EXEC_H
#define VALIDATE_EXEC_H

#include "kernels/comm.h"
#include "kernels/kern.h"
#include "model/conf.h"
#include "model/program.h"

struct exec_case {
    int heads, kv_heads, head_dim;
    int64_t tokens;
    int block;
    struct cp_conf conf;
    const double *keep; /* [heads]; sparse dispatch: round(keep * tokens) keys, at least 1 */
    struct cp_options options;
    uint64_t seed;
    /* The block's linear layers, carried out as products of a rank's tokens with width x width
     * weights, as many as have their FLOPs: how long they take, not what they compute. */
    double linear_flop; /* of the forward pass of all ranks; 0: none */
    int width; /* of the hidden states, which the predictor projects too; 0: no predictor */
    /* A rank's clock is the CPU time of its thread, as if it had a core of its own; an exchange
     * begins at the latest of its members' clocks. For machines whose cores are shared. */
    bool cpu_clock;
};

/* One phase of one rank as measured. */
struct exec_row {
    const char *phase; /* a name of model/program.h */
    enum cp_pass pass;
    enum cost_class cost;
    double seconds;        /* at work, or in the exchange once all members were there */
    double wait_s;         /* for the other members, before an exchange */
    double sent, received; /* bytes to and from other ranks */
    double work; /* attention: (query, key, head) pairs; select: scores; copies: bytes read and
                    written; unite selections: entries of lists; linear layers: FLOP */
};

struct exec;

/* Checks the case (ERR_INPUT), allocates, makes the rank's part of the inputs. NULL on failure;
 * call on all ranks. */
struct exec *exec_new(const struct exec_case *c, const struct kern_backend *b, struct comm *world,
                      struct err *e);
void exec_free(struct exec *x); /* accepts NULL */

/* All passes once. Copies to the host's memory and back (options.offload) are done and timed by
 * themselves, though the model has them beside the work of the block. */
bool exec_once(struct exec *x, struct err *e);

/* Phases of the last exec_once, in order. */
int exec_rows(const struct exec *x, const struct exec_row **rows);

/* Results for this rank's tokens in host memory, from malloc: o [rows][heads][dim] bf16, dq
 * [heads][rows][dim], dk and dv [kv_heads][rows][dim] fp32 (zero for inference). */
struct exec_result {
    int64_t begin, rows;
    uint16_t *o;
    float *dq, *dk, *dv;
};
bool exec_result(struct exec *x, struct exec_result *r, struct err *e);
void exec_result_free(struct exec_result *r);

/* Rows of the union of the rank's selections over rows in reach of it, as a share; 1 where nothing
 * is selected. */
double exec_union(const struct exec *x);

/* Keys that a query group of the head attends to. */
int64_t exec_keep(const struct exec_case *c, int head);

#endif
