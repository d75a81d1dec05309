/* What one attention block does under a configuration, phase by phase: the one description that the
 * closed forms price, the simulator plays and shardwise-run executes. Formulas: docs/model.md
 * (volumes), after DSV section 6, Ulysses, TransformerEngine's p2p ring and all-gather.
 *
 * Forward, sparse dispatch, head_groups > 1 and seq_groups > 1 (others leave phases out):
 *   select exchange (row a2a of Q_lr, K_lr), K_lr gather (column), select,
 *   pack, qkv a2a (row), index a2a, kv gather (column), attention, o a2a (row)
 * Backward: do a2a (row), kv gather again unless kept, attention, dkv return (column), dqkv a2a
 * (row).
 *
 * db-SP moves blocks inside a column: masks (a bit for each query and key block of query_group
 * tokens) go to all, the host plans, then Q, K, V, later O, dO and dQ, dK, dV travel there and
 * back.
 *
 * Tensor parallelism (Megatron-LM, arXiv 1909.08053 and 2205.05198) adds, around the linear layers,
 * hidden states of the tensor group: an all-gather before and a reduce-scatter after attention and
 * after the FFN, and the same in the backward, where the gathered inputs are fetched once more for
 * the weights' gradients; or, without sequence parallelism, one all-reduce after each. */
#ifndef MODEL_PROGRAM_H
#define MODEL_PROGRAM_H

#include <stdint.h>

#include "base/arena.h"
#include "model/conf.h"
#include "model/dit.h"
#include "model/hw.h"
#include "model/kernel.h"
#include "model/sparsity.h"

enum cp_pass { PASS_FORWARD, PASS_RECOMPUTE, PASS_BACKWARD, PASSES };

enum phase_kind {
    PHASE_COMPUTE,   /* seconds per rank */
    PHASE_ALLTOALL,  /* uneven all-to-all within each row or column; starts when all members are
                        there */
    PHASE_ALLGATHER, /* ring-schedule collectives on equal shares */
    PHASE_REDUCESCATTER,
    PHASE_ALLREDUCE,
    PHASE_HOST, /* bytes to or from the host's memory over PCIe, beside the work of the block */
    PHASE_RING  /* seq_groups steps of compute, KV passed on beneath; docs/model.md, "Time" */
};

enum phase_scope { SCOPE_NONE, SCOPE_ROW, SCOPE_COLUMN, SCOPE_TENSOR };

/* Which part of the cost model a phase's time comes from: errors are alike within a class. */
enum cost_class {
    CLASS_ATTENTION_DENSE,
    CLASS_ATTENTION_SPARSE,
    CLASS_SELECT,
    CLASS_GEMM,
    CLASS_COPY,       /* pack, unpack, merges: HBM */
    CLASS_COLLECTIVE, /* all-to-all, gathers */
    CLASS_P2P,        /* ring hops */
    CLASS_FSDP,
    CLASS_POINTWISE, /* norms, rotary embedding, activations, residuals: HBM */
    COST_CLASSES
};

struct cp_phase {
    const char *name; /* "qkv all-to-all" */
    enum cp_pass pass;
    enum phase_kind kind;
    enum phase_scope scope;
    enum cost_class cost;
    /* PHASE_COMPUTE: seconds of each rank. PHASE_RING: seconds of each rank and step (the same in
     * every step). */
    const double *seconds;
    /* PHASE_ALLTOALL: rank i sends from[i] * to[j] bytes to rank j of its row or column (i != j).
     * If `matrix` is set (ranks x ranks, bytes i -> j) it is used instead: gathers and returns of
     * rows where the sparsity says who needs what of whom (sparsity_need).
     * PHASE_ALLGATHER, PHASE_REDUCESCATTER, PHASE_ALLREDUCE: from[i] is each rank's own share in
     * bytes (1 / n of the whole), equal within a group. PHASE_HOST: from[i] bytes go to the host,
     * or to[i] come back. PHASE_RING: from[i] is bytes a hop, to[i] bytes a hop in the backward's
     * middle steps. */
    const double *from, *to;
    const double *matrix;
    /* Gathers of rows, if the case asks for them: bytes that server[j], the ranks of j's server in
     * its column together, want of each rank of another server. NULL: not known. */
    const double *server;
    /* The same where `matrix` is set (ranks x ranks): bytes of i that the ranks of j's server want
     * together. Between two servers exact; among the owners of a server, between the most that one
     * reader wants and what all want in sum. */
    const double *server_matrix;
    bool host;     /* PHASE_COMPUTE: on the host, the GPU waits */
    bool hop_home; /* PHASE_RING, backward: gradients take one more hop, of to - from bytes */
    bool hop_sms;  /* PHASE_RING: `seconds` hold what a hop takes of the SMs */
    int calls;     /* collective calls it stands for: each pays the latency */
    double half;   /* 90% half-width of its time (natural log): its curve's, else its class's */
    bool outside;  /* beyond what its curve was measured at */
};

enum checkpointing { CHECKPOINT_NONE, CHECKPOINT_SELECTIVE, CHECKPOINT_FULL };
extern const char *const checkpointing_names[]; /* "none", "selective", "full" */

/* What waits in the host's memory for the backward. Indices: two blocks' are on the GPU. KV: what a
 * rank gathered comes back from the host instead of from its peers. */
enum offload { OFFLOAD_NONE, OFFLOAD_INDICES, OFFLOAD_KV };
extern const char *const offload_names[]; /* "none", "indices", "kv": indices and KV */

/* Choices that are the same for all blocks. */
struct cp_options {
    enum checkpointing checkpointing;
    bool keep_kv;       /* gathered KV is kept for the backward, not fetched again */
    bool grad_fp32;     /* dK, dV travel as fp32; a ring then also takes them home in an extra hop
                         * (yunchang), while in bf16 the last step's hop is saved
                         * (TransformerEngine): docs/known-answers.md, KA12 */
    bool split_heads;   /* heads may be split by query range */
    int predictor_rank; /* r: width of Q_lr, K_lr per head (DSV: 16) */
    enum offload offload;
    bool index_bitmap;   /* lists of critical KV are bitmaps, S/8 bytes a group, not int32 lists */
    bool inference;      /* forward only */
    double moved_blocks; /* db-SP: share of a rank's blocks that go to other ranks of its column;
                          * below 0: (g_s - 1) / g_s, each block lands anywhere */
    bool tensor_allreduce; /* tensor parallelism without sequence parallelism: norms and residuals
                            * on every tensor rank */
};
struct cp_options cp_options_default(void); /* full checkpointing, fp32 gradients, split, rank 16 */

struct cp_case { /* one block on one replica */
    const struct hw_cluster *cluster;
    const struct dit_model *model;
    const struct kern_profile *kernels;
    const struct sparsity *sparsity;
    struct cp_options options;
    int64_t video_tokens;
    struct grid grid;   /* t == 0: unknown */
    int samples;        /* per replica and step */
    bool server_unions; /* programs say what whole servers want (cp_phase.server) */
    bool linear;        /* the block's linear layers are phases too */
};

/* Bytes of `rank`'s hops in a PHASE_RING of n ranks: hop[k] beneath step k, hop[n] behind the last
 * one, n + 1 in all (KA12). Forward: KV, but beneath the last step. Backward: KV; KV and the
 * gradients of the step before; beneath the last step gradients alone; with hop_home the gradients
 * of the last step go home behind it, with nothing to hide beneath (yunchang, shardwise-run). */
void cp_ring_hops(const struct cp_phase *p, int rank, int n, double *hop);

enum { CP_PHASES_MOST = 96 };

struct cp_program {
    int ranks, phase_count;
    const struct cp_phase *phases; /* in order; forward, recompute, backward */
    double half[COST_CLASSES];     /* calib_half_widths of the cluster */
};

/* The phases of `block` under `conf`; all memory in `a`. */
struct cp_program cp_program_of(const struct cp_case *c, int block, const struct cp_conf *conf,
                                struct arena *a);

#endif
