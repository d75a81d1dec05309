/* A case without presets: round numbers, no latency, links at full rate, so that answers follow by
 * hand. */
#ifndef TESTS_MODEL_FIXTURE_H
#define TESTS_MODEL_FIXTURE_H

#include <string.h>

#include "model/cost.h"
#include "model/mem.h"

struct fixture {
    struct hw_cluster cluster;
    struct dit_model model;
    struct kern_profile kernels;
    struct sparsity sparsity;
    struct cp_case c;
};

/* One block of self-attention: `heads` heads of width 128 over `tokens` tokens on nodes of
 * `per_node` GPUs with 400 GB/s NVLink and a NIC of 25 GB/s each; every head keeps `keep`; unions
 * are `fixed`. Gradients travel as bf16 and nothing is recomputed. *f must not move afterwards. */
static inline void fixture_init(struct fixture *f, int heads, int kv_heads, int64_t tokens,
                                int nodes, int per_node, double keep, double fixed, struct arena *a)
{
    struct err e = {0};
    f->cluster = (struct hw_cluster){
        .name = "test", .nodes = nodes, .gpus_per_node = per_node, .gpus_per_nic = 1};
    f->cluster.gpu = (struct hw_gpu){
        .name = "gpu", .bf16_flop_per_s = 1e15, .memory_bytes = 80e9, .hbm_bytes_per_s = 3e12};
    f->cluster.nvlink = (struct hw_link){.bytes_per_s = 400e9, .efficiency = 1};
    f->cluster.nic = (struct hw_link){.bytes_per_s = 25e9, .efficiency = 1};
    f->model = (struct dit_model){.name = "one block",
                                  .cross_blocks = 1,
                                  .width = heads * 128,
                                  .heads = heads,
                                  .kv_heads = kv_heads,
                                  .head_dim = 128,
                                  .ffn = heads * 512,
                                  .ffn_mats = 2,
                                  .params = 1e9,
                                  .params_per_token = 1e9};
    f->kernels = (struct kern_profile){.dense = {"dense", 0.6, 0.5},
                                       .best = {"dense", 0.6, 0.5},
                                       .sparse = {"sparse", 0, 1e-12, 0, 5e-12, 1e-11, 1, 32},
                                       .gemm_share = 0.6,
                                       .hbm_share = 0.8};
    sparsity_uniform(keep, 1, heads, a, &f->sparsity, &e);
    f->sparsity.model = (struct union_model){.kind = UNION_FIXED, .fixed = fixed};
    f->c = (struct cp_case){.cluster = &f->cluster,
                            .model = &f->model,
                            .kernels = &f->kernels,
                            .sparsity = &f->sparsity,
                            .options = cp_options_default(),
                            .video_tokens = tokens,
                            .samples = 1};
    f->c.options.checkpointing = CHECKPOINT_NONE;
    f->c.options.keep_kv = true;
    f->c.options.grad_fp32 = false;
}

static inline struct cp_conf fixture_conf(enum cp_strategy strategy, int head_groups,
                                          int seq_groups, bool sparse, int heads, struct arena *a)
{
    return (struct cp_conf){.strategy = strategy,
                            .head_groups = head_groups,
                            .seq_groups = seq_groups,
                            .heads_inside = true,
                            .sparse = sparse,
                            .query_group = 32,
                            .piece_count = heads,
                            .pieces = cp_pieces_even(heads, head_groups, a)};
}

/* The phase of that name, or NULL. */
static inline const struct cp_phase *fixture_phase(const struct cp_program *p, const char *name)
{
    for (int i = 0; i < p->phase_count; i++)
        if (strcmp(p->phases[i].name, name) == 0)
            return &p->phases[i];
    return NULL;
}

static inline double bytes_received(struct cp_bytes b)
{
    return b.recv_near + b.recv_far;
}

static inline double bytes_sent(struct cp_bytes b)
{
    return b.send_near + b.send_far;
}

#endif
