/* One context-parallel configuration of one attention block: N = head_groups x seq_groups ranks.
 *
 * Ranks 0..N-1 are numbered as the hardware has them: node = (first rank + r) / gpus_per_node. A
 * rank has a head rank (which heads) and a sequence rank (which tokens): heads_inside:  head rank =
 * r % head_groups,  sequence rank = r / head_groups   (rows lie inside nodes) otherwise: sequence
 * rank = r % seq_groups, head rank = r / seq_groups      (columns lie inside nodes) A row is the
 * head_groups ranks that share a sequence rank (HCP's all-to-all); a column is the seq_groups ranks
 * that share a head rank (SCP's gather, the ring).
 *
 * With tensor parallelism of degree T (Megatron-LM) each of these ranks is T GPUs, neighbours that
 * share the weights of the linear layers: rank r is tensor rank r % T of context rank r / T. Tensor
 * rank t has the heads of head ranks t * head_groups up to (t + 1) * head_groups - 1, and rows and
 * columns join ranks of one tensor rank. */
#ifndef MODEL_CONF_H
#define MODEL_CONF_H

#include "base/arena.h"
#include "base/err.h"

enum cp_strategy {
    CP_SINGLE,       /* N = 1 */
    CP_ULYSSES,      /* even heads; head_groups divides the heads */
    CP_HCP,          /* heads balanced by work, uneven all-to-all */
    CP_SCP,          /* queries stay; the KV rows that local queries need are fetched */
    CP_SCP_DENSE,    /* queries stay; all KV rows are fetched by all-to-all, gradients sent back as
                        rows */
    CP_ALLGATHER,    /* queries stay; all-gather of KV, reduce-scatter of its gradients */
    CP_RING,         /* queries stay; KV travels around */
    CP_USP,          /* even heads in rows, ring in columns */
    CP_HYBRID,       /* balanced heads in rows, selective gather in columns */
    CP_HYBRID_DENSE, /* balanced heads in rows, dense gather in columns */
    CP_DB_SP, /* db-SP (arXiv 2511.23113): USP, with as many heads of equal work on each rank, and
                 blocks of queries and keys moved inside a column so that its ring is level */
    CP_STRATEGIES
};

enum cp_move {
    MOVE_NONE,
    MOVE_ROWS,
    MOVE_ALL_ROWS,
    MOVE_ALLGATHER,
    MOVE_RING
}; /* how KV moves in a column */

struct cp_strategy_info {
    const char *name;   /* "hcp" */
    bool balanced;      /* heads go where the work is least; otherwise equal counts */
    bool rows, columns; /* uses head groups, sequence groups */
    enum cp_move move;
    bool permutes;    /* blocks change ranks inside a column before attention, and back after it */
    const char *what; /* one line for people */
};
extern const struct cp_strategy_info cp_strategies[CP_STRATEGIES];

extern const char *const cp_strategy_names[]; /* NULL-terminated, in the order of the enum */
int cp_strategy_of(const char *name);         /* -1 when there is no such name */

/* A head, or a range of its queries, on one head rank. A whole head has share 1. */
struct cp_piece {
    int head, head_rank;
    double begin, share; /* of the head's queries, 0..1 */
};

struct cp_conf {
    enum cp_strategy strategy;
    int head_groups, seq_groups; /* g_h, g_s */
    int tensor;                  /* T; 0 counts as 1 */
    bool heads_inside;           /* placement: rows inside nodes */
    bool sparse;     /* dispatch: sparse kernels on critical KV; otherwise dense attention */
    int query_group; /* q: adjacent queries that share one list of critical KV */
    int piece_count;
    const struct cp_piece *pieces; /* every head whole or split; each row's ranks share them out */
    double assign_gap; /* the assignment is within this share of the optimum; 0 = proved optimal */
};

int cp_tensor(const struct cp_conf *c);     /* T */
int cp_ranks(const struct cp_conf *c);      /* T x head_groups x seq_groups */
int cp_head_ranks(const struct cp_conf *c); /* T x head_groups: head ranks 0 .. that - 1 */
int cp_head_rank(const struct cp_conf *c, int rank);
int cp_seq_rank(const struct cp_conf *c, int rank);
int cp_rank_at(const struct cp_conf *c, int head_rank, int seq_rank);

/* What each head rank holds; arrays of cp_head_ranks entries in `a`. */
struct cp_held {
    const double *q; /* heads, split ones as fractions: Q and O travel by this */
    const int *kv;   /* distinct KV heads: K and V travel by this */
    double q_sum;
    int kv_sum; /* over head ranks; more than kv_heads when KV is replicated */
};
struct cp_held cp_conf_held(const struct cp_conf *c, int heads, int kv_heads, struct arena *a);

/* Degrees positive and their product right (`ranks` with the tensor ranks); heads divisible where
 * heads are even; T divides the heads and each tensor rank holds its own; head_groups <= heads of a
 * tensor rank; every head covered exactly once. `heads` are the model's query heads. */
bool cp_conf_check(const struct cp_conf *c, int ranks, int heads, struct err_at at, struct err *e);

/* "hybrid 4x2, heads inside, sparse" */
const char *cp_conf_text(const struct cp_conf *c, char *text, size_t size);

/* Even pieces: head h on head rank h * head_ranks / heads. */
const struct cp_piece *cp_pieces_even(int heads, int head_ranks, struct arena *a);

#endif
