#include "model/mem.h"

#include <math.h>

const char *const mem_part_names[MEM_PARTS] = {
    "states",    "gathered weights",   "checkpoints", "block activations",
    "attention", "all-to-all staging", "gathered KV", "KV indices",
    "resident"};
const char *const activations_names[] = {"plain", "fused", NULL};
const char *const sharding_names[] = {"ddp", "zero1", "zero2", "fsdp", NULL};

enum { BF16 = 2, FP32 = 4 };

struct mem_options mem_options_default(int gpus)
{
    return (struct mem_options){
        .sharding = SHARD_FSDP, .shard_ranks = gpus, .fsdp_units = 1, .aux_bytes = 6e9};
}

/* Bytes per parameter: whole on every GPU, and shared out. bf16 weights and gradients, fp32 master,
 * Adam's two moments; FSDP shards fp32 weights, gradients and moments (docs/model.md,
 * "Memory"). */
static const struct {
    double whole, shared;
} state_bytes[] = {
    [SHARD_DDP] = {16, 0},
    [SHARD_ZERO1] = {4, 12},
    [SHARD_ZERO2] = {2, 14},
    [SHARD_FSDP] = {0, 16},
};

static void states(const struct cp_case *c, const struct mem_options *o, int tensor, double *part)
{
    double params = c->model->params / tensor, n = o->shard_ranks;
    if (c->options.inference) {
        part[MEM_STATES] = o->sharding == SHARD_FSDP ? BF16 * params / n : BF16 * params;
    } else {
        part[MEM_STATES] =
            params * (state_bytes[o->sharding].whole + state_bytes[o->sharding].shared / n);
        part[MEM_STATES] += o->ema ? FP32 * params / n : 0;
    }
    if (o->sharding == SHARD_FSDP && n > 1) { /* one unit in use, the next on its way */
        double unit =
            o->fsdp_units > 0 ? o->fsdp_units * dit_block_params(c->model) / tensor : params;
        part[MEM_GATHERED] = BF16 * fmin(2 * unit, params);
    }
}

/* Bytes that a block keeps until its backward, per token and unit of width. `whole`: what tensor
 * parallelism shares out only with sequence parallelism (norms, their inputs, residuals). */
struct kept {
    double whole, shared;
};

/* 34 for norms, attention and residuals in bf16 (Korthikanti et al., arXiv 2205.05198: 10 of them
 * whole), 10 for norms kept in fp32, 2 for each hidden unit of each feed-forward matrix
 * (docs/model.md, "Memory"; 60 for a plain 4d FFN, the value that meets FastVideo issue 121's 4- to
 * 8-GPU difference within 3%). */
static struct kept kept_plain(const struct dit_model *m)
{
    return (struct kept){20, 24 + 2.0 * m->ffn_mats * m->ffn / m->width};
}

/* Tensors that TransformerEngine's linear layers and norms, flash-attn and the gates between them
 * save where a norm and its modulation are one kernel: docs/model.md, "Memory", names each and its
 * source. Where O comes back from other ranks the projection keeps it once more. */
static struct kept kept_fused(const struct dit_model *m, int block, bool exchanged)
{
    double q = (double)m->heads * m->head_dim / m->width,
           kv = (double)m->kv_heads * m->head_dim / m->width,
           hidden = (double)m->ffn_mats * m->ffn / m->width,
           lse = (double)FP32 * m->heads / m->width;
    bool cross = dit_is_cross(m, block);
    return (struct kept){.whole = BF16 * (6 + (cross ? 2 : 0)),
                         .shared = BF16 * (q + kv + q + 2 * kv + q + (exchanged ? q : 0) + hidden) +
                                   lse + (cross ? BF16 * 3 * q + lse : 0)};
}

/* Bytes of a token and unit of width on a tensor rank. */
static double block_bytes(const struct cp_case *c, const struct mem_options *o, int block,
                          const struct cp_conf *conf)
{
    int tensor = cp_tensor(conf);
    struct kept k = o->activations == ACTIVATIONS_FUSED
                        ? kept_fused(c->model, block, conf->head_groups > 1)
                        : kept_plain(c->model);
    return c->options.tensor_allreduce ? k.shared / tensor + k.whole
                                       : (k.shared + k.whole) / tensor;
}

/* What a tensor rank gathers is on it whole, once. */
static void activations(const struct cp_case *c, const struct mem_options *o, int block_at,
                        const struct cp_conf *conf, double local, double *part)
{
    const struct dit_model *m = c->model;
    int tensor = cp_tensor(conf);
    double parts = c->options.tensor_allreduce ? 1 : tensor;
    double stream = local * m->width * BF16 / parts;
    double gathered = tensor > 1 && !c->options.tensor_allreduce ? BF16 * local * m->width : 0;
    double block = block_bytes(c, o, block_at, conf) * local * m->width + gathered;
    int blocks = dit_blocks(m);
    if (c->options.inference) {
        part[MEM_BLOCK] = block;
        return;
    }
    switch (c->options.checkpointing) {
    case CHECKPOINT_NONE:
        for (int b = 0; b < blocks; b++)
            part[MEM_BLOCK] += block_bytes(c, o, b, conf) * local * m->width;
        part[MEM_BLOCK] += gathered;
        return;
    case CHECKPOINT_SELECTIVE:
        part[MEM_CHECKPOINTS] =
            blocks * (stream + (BF16 * local * m->width + FP32 * local * m->heads) / tensor);
        break;
    case CHECKPOINT_FULL:
        part[MEM_CHECKPOINTS] = blocks * stream;
        break;
    }
    part[MEM_BLOCK] = block;
}

/* Share of all keys of a head that the rank keeps that needs most. */
static double union_held(const struct cp_case *c, const struct cp_conf *conf, int block, int head,
                         double tokens)
{
    int n = conf->seq_groups;
    const double *need = sparsity_need(c->sparsity, block, head, n);
    double most =
        sparsity_union(c->sparsity, block, head, (int64_t)tokens, c->grid, n, conf->query_group);
    for (int i = 0; need && i < n; i++) {
        double sum = 1 - need[i * n + i]; /* its own shard is there whole */
        for (int j = 0; j < n; j++)
            sum += need[i * n + j];
        most = fmax(most, sum / n);
    }
    return most;
}

bool mem_hopeless(const struct mem_use *m, double limit)
{
    return m->part[MEM_AUX] >= limit;
}

/* Rows of KV that a head rank keeps of all shards, its own included. */
static double kv_rows(const struct cp_case *c, const struct cp_conf *conf, int block, int head_rank,
                      double tokens, double heads_held)
{
    enum cp_move move = cp_strategies[conf->strategy].move;
    if (conf->seq_groups < 2 || move == MOVE_NONE)
        return 0;
    if (move == MOVE_RING)
        return 2 * heads_held * tokens / conf->seq_groups; /* two slots */
    if (move != MOVE_ROWS || !conf->sparse)
        return heads_held * tokens;
    double rows = 0;
    for (int i = 0; i < conf->piece_count; i++)
        if (conf->pieces[i].head_rank == head_rank)
            rows += tokens * union_held(c, conf, block, conf->pieces[i].head, tokens);
    return rows;
}

/* int32 lists padded to the densest head, or one bit a key; two blocks' are on the GPU if they are
 * offloaded. Inference needs one block's. */
static double index_bytes(const struct cp_case *c, const struct mem_options *o,
                          const struct cp_conf *conf, int block, double tokens, double heads_held)
{
    double most = 0, groups = tokens / conf->seq_groups / conf->query_group;
    for (int h = 0; h < c->model->heads; h++)
        most = fmax(most, sparsity_keep(c->sparsity, block, h));
    double list = o->index_bitmap ? tokens / 8 : 4 * most * tokens;
    int blocks = c->options.inference                 ? 1
                 : c->options.offload == OFFLOAD_NONE ? dit_blocks(c->model)
                                                      : 2;
    return conf->sparse ? blocks * heads_held * groups * list : 0;
}

static void attention(const struct cp_case *c, const struct mem_options *o,
                      const struct cp_conf *conf, int block, double tokens, int head_rank,
                      const struct cp_held *held, double *part)
{
    const struct dit_model *m = c->model;
    double q = held->q[head_rank], kv = held->kv[head_rank], shard = tokens / conf->seq_groups,
           d = m->head_dim;
    bool training = !c->options.inference;
    double tensors = (2 * q + 2 * kv) * shard * d * BF16;
    part[MEM_ATTENTION] =
        tensors + (training ? tensors + FP32 * shard * q : 0); /* gradients and LSE */
    if (conf->head_groups > 1)
        part[MEM_STAGING] = (m->heads + 2.0 * m->kv_heads) * tokens / cp_ranks(conf) * d * BF16 +
                            (q + 2 * kv) * shard * d * BF16;
    if (cp_strategies[conf->strategy].permutes && conf->sparse) /* blocks on their way */
        part[MEM_STAGING] += (q + 2 * kv) * shard * d * BF16;
    double rows = kv_rows(c, conf, block, head_rank, tokens, kv);
    part[MEM_KV] = rows * 2 * d * (training ? BF16 + FP32 : BF16); /* dK, dV add up in fp32 */
    part[MEM_INDEX] = index_bytes(c, o, conf, block, tokens, q);
}

struct mem_use mem_of_block(const struct cp_case *c, const struct mem_options *o, int block,
                            const struct cp_conf *conf, struct arena *scratch)
{
    double tokens = (double)dit_attention_tokens(c->model, block, c->video_tokens);
    struct cp_held held = cp_conf_held(conf, c->model->heads, c->model->kv_heads, scratch);
    struct mem_use worst = {.block = block};
    int tensor = cp_tensor(conf);
    for (int h = 0; h < cp_head_ranks(conf); h++) {
        struct mem_use u = {.rank = cp_rank_at(conf, h, 0), .block = block};
        attention(c, o, conf, block, tokens, h, &held, u.part);
        activations(c, o, block, conf, tokens * tensor / cp_ranks(conf), u.part);
        for (int p = 0; p < MEM_PARTS; p++)
            u.part[p] *= c->samples;
        states(c, o, tensor, u.part);
        u.part[MEM_AUX] = o->aux_bytes;
        for (int p = 0; p < MEM_PARTS; p++)
            u.total += u.part[p];
        if (u.total > worst.total)
            worst = u;
    }
    return worst;
}

enum mem_part mem_limiting(const struct mem_use *m)
{
    enum mem_part most = 0;
    for (int p = 1; p < MEM_PARTS; p++)
        if (p != MEM_AUX && m->part[p] > m->part[most])
            most = (enum mem_part)p;
    return most;
}
