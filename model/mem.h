/* Memory of one GPU during a training step, part by part: docs/model.md, "Memory". */
#ifndef MODEL_MEM_H
#define MODEL_MEM_H

#include "model/program.h"

enum mem_part {
    MEM_STATES,      /* weights, gradients, Adam moments, fp32 master, as sharded */
    MEM_GATHERED,    /* two units of gathered weights (FSDP) */
    MEM_CHECKPOINTS, /* block inputs (and O, LSE if selective) of all blocks */
    MEM_BLOCK, /* activations of the one block in recompute; of all blocks without checkpointing */
    MEM_ATTENTION, /* Q, K, V, O and LSE of the heads a rank holds */
    MEM_STAGING,   /* all-to-all send and receive buffers */
    MEM_KV,        /* gathered KV and its gradients */
    MEM_INDEX,     /* critical-KV indices */
    MEM_AUX,       /* CUDA context, NCCL, allocator slack, VAE and text encoder if resident */
    MEM_PARTS
};
extern const char *const mem_part_names[MEM_PARTS];

enum sharding { SHARD_DDP, SHARD_ZERO1, SHARD_ZERO2, SHARD_FSDP };
extern const char *const sharding_names[]; /* "ddp", "zero1", "zero2", "fsdp"; NULL-terminated */

/* What autograd keeps of a block until its backward: every torch operation its inputs, fp32 norms
 * among them, or what fused kernels keep (docs/model.md, "Memory", lists their tensors). */
enum activations { ACTIVATIONS_PLAIN, ACTIVATIONS_FUSED };
extern const char *const activations_names[]; /* "plain", "fused"; NULL-terminated */

struct mem_options {
    enum sharding sharding;
    enum activations activations;
    int shard_ranks;   /* GPUs that share the states (of a tensor rank's part of the model) */
    int fsdp_units;    /* blocks per FSDP unit; 0: the whole model is one unit */
    bool ema;          /* an fp32 running average of the weights, sharded */
    bool index_bitmap; /* indices as bitmaps (S/8 B a group) instead of int32 lists */
    double aux_bytes;  /* resident beside the model; default 6 GB, docs/model.md says of what */
};
struct mem_options
mem_options_default(int gpus); /* FSDP over all GPUs, one block a unit, lists, 6 GB */

struct mem_use {
    double part[MEM_PARTS]; /* bytes, of the rank that needs most */
    double total;
    int rank;  /* that rank */
    int block; /* the block whose working set decides; set by mem_plan */
};

/* One block's peak on the rank that needs most, with what all blocks share (states, checkpoints,
 * aux). */
struct mem_use mem_of_block(const struct cp_case *c, const struct mem_options *o, int block,
                            const struct cp_conf *conf, struct arena *scratch);

/* The part that would have to shrink: the largest one that depends on the configuration or
 * sharding. */
enum mem_part mem_limiting(const struct mem_use *m);

/* Whether what is resident beside the model is alone more than a GPU of `limit` bytes has: no
 * configuration, sharding or number of GPUs will do. */
bool mem_hopeless(const struct mem_use *m, double limit);

#endif
