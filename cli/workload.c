#include "cli/workload.h"
#ifdef SHARDWISE_TRACES
#include "traces/measured.h"
#endif

#include <string.h>

#include "model/calib.h"
#include "planner/launch.h"

enum { GPUS_MOST = 1 << 20 };

static const char *const index_names[] = {"list", "bitmap", NULL};
static const char *const grad_names[] = {"bf16", "fp32", NULL};

const struct arg_group workload_clip = {
    "Model and clip",
    (const struct arg_option[]){
        OPTION_TEXT(
            "model", "NAME", "models",
            "a preset (`shardwise show models`), a YAML file like `show model NAME --file`, or a "
            "diffusers transformer's config.json"),
        OPTION_TEXT("clip", "HxWxF", NULL, "height and width in pixels, frames: 720x1280x129"),
        OPTION_TEXT("grid", "TxHxW", NULL, "the grid of tokens instead: 33x45x80"),
        OPTION_INT("tokens", 1, WORKLOAD_TOKENS_MOST, "S",
                   "the number of video tokens instead: 128k"),
        WORKLOAD_SAMPLES, OPTION_END}};

const struct arg_group workload_place = {
    "GPUs and configurations",
    (const struct arg_option[]){
        OPTION_TEXT("cluster", "NAME", "clusters",
                    "NODESxGPUS-KIND[-RATEg], such as 2x8-h100-400g, or a YAML file like "
                    "`show cluster NAME --file`"),
        OPTION_INT("gpus", 1, GPUS_MOST, "N", "use only N GPUs of the cluster (all)"),
        OPTION_INT("cp", 1, GPUS_MOST, "N",
                   "the degree of context parallelism (every possible one, best throughput)"),
        OPTION_INT(
            "tp", 1, GPUS_MOST, "N",
            "the degree of tensor parallelism, inside a node, with sequence parallelism (1)"),
        OPTION_FLAG("tp-all-reduce",
                    "without sequence parallelism: all-reduces instead of gathers and scatters"),
        OPTION_TEXT("degrees", "HxS", NULL, "only H head groups times S sequence groups: 4x2"),
        OPTION_CHOICES("strategies", cp_strategy_names, "A,B,..", "only these (all)"),
        OPTION_TEXT("for", "NAME", "programs",
                    "only what this program can run (`shardwise show programs`); `plan` says with "
                    "which settings"),
        OPTION_CHOICE("dispatch", dispatch_names, "KIND", "attention kernels of a block (auto)"),
        OPTION_INT("group", 1, WORKLOAD_TOKENS_MOST, "Q",
                   "adjacent queries that share one list of critical KV (32)"),
        OPTION_FLAG("whole-heads", "never split a head over ranks"), OPTION_END}};

const struct arg_group workload_sparsity = {
    "Sparsity (none given: dense)",
    (const struct arg_option[]){
        OPTION_TEXT("trace", "FILE", "sparsities",
                    "a CSV with the keep of each block and head, or a preset (`shardwise show "
                    "sparsities`)"),
        OPTION_INT("step", 0, INT64_MAX, "N", "the training step of the trace (its last)"),
        OPTION_QTY("keep", QTY_RATIO, "K", "the same share of kept pairs in all heads: 0.1"),
        OPTION_QTY("sparsity", QTY_RATIO, "S", "the same as 1 - keep: 90%"),
        OPTION_LIST("head-sparsity", QTY_RATIO, "A,B,..",
                    "the sparsity of each head, in all blocks"),
        OPTION_QTY("shard-skew", QTY_NUMBER, "R",
                   "work of the busiest sequence shard over the mean, sparse attention (1)"),
        OPTION_QTY("moved-blocks", QTY_RATIO, "S",
                   "db-sp: share of a rank's blocks that go to other ranks (all that may)"),
        OPTION_TEXT("union", "MODEL", NULL,
                    "what a rank must fetch: field:length=5.5, field:share=0.34, "
                    "markov:rho=0.8,omega=0.4, independent, fixed:0.3, full"),
        OPTION_END}};

const struct arg_group workload_training = {
    "Training",
    (const struct arg_option[]){
        OPTION_TEXT("kernels", "NAME", "kernels",
                    "kernel profile, a preset or a YAML file (fa3+dsv)"),
        OPTION_QTY(
            "pointwise", QTY_NUMBER, "X",
            "norms, rotary embedding, activations, residuals move X times the least bytes: 1 "
            "all fused, 8 plain torch, 0 leaves them out (the profile's range)"),
        OPTION_CHOICE("phase", plan_phase_names, "PART", "what the times cover (step)"),
        OPTION_CHOICE("checkpointing", checkpointing_names, "KIND",
                      "activation checkpointing (full)"),
        OPTION_CHOICE("activations", activations_names, "KIND",
                      "what a block keeps for its backward: plain torch, or fused kernels "
                      "(TransformerEngine, flash-attn; plain)"),
        OPTION_CHOICE("sharding", sharding_names, "KIND",
                      "of weights, gradients and optimizer (fsdp)"),
        OPTION_INT(
            "shard-ranks", 1, GPUS_MOST, "N",
            "GPUs that share them (all); groups of fewer all-reduce gradients between them (HSDP)"),
        OPTION_INT("fsdp-units", 0, 100000, "N",
                   "blocks of one FSDP unit (1); 0: the whole model is one"),
        OPTION_FLAG("ema", "keep an fp32 running average of the weights"),
        OPTION_FLAG("keep-kv", "keep gathered KV for the backward instead of fetching it again"),
        OPTION_CHOICE("grads", grad_names, "TYPE", "type that gradients of KV travel in (fp32)"),
        OPTION_CHOICE("indices", index_names, "FORM", "how lists of critical KV are kept (list)"),
        OPTION_CHOICE("offload", offload_names, "WHAT",
                      "to the host for the backward: lists of critical KV, with kv gathered KV as "
                      "well (indices)"),
        OPTION_INT("predictor-rank", 1, 4096, "R", "width of the low-rank Q and K of a head (16)"),
        OPTION_QTY("resident", QTY_BYTES, "BYTES",
                   "other memory of each GPU: CUDA context, NCCL, VAE, text encoder (6 GB)"),
        OPTION_FLAG("inference", "the forward pass only"), OPTION_END}};

/* ---- model and cluster ---- */

const struct dit_model *workload_model(struct cli *c, struct err *e)
{
    if (!args_need(c->args, "model", e))
        return NULL;
    const char *name = args_text(c->args, "model");
    const struct dit_model *m = dit_load(name, args_at(c->args, "model"), c->a, e);
    return m && cli_input(c, "model", name, e) ? m : NULL;
}

/* "2x8-h100-400g" is no file: its nodes are the preset "h100". A cluster's own file may describe
 * its GPU itself. */
static void cluster_inputs(struct cli *c, const struct hw_cluster *cluster, const char *name)
{
    struct err no_file = {0}, no_preset = {0};
    if (!cli_input(c, "cluster", name, &no_file))
        cli_input(c, "cluster", cluster->gpu.name, &no_preset);
    cli_input(c, "gpu", cluster->gpu.name, &no_preset);
}

const struct hw_cluster *workload_cluster(struct cli *c, struct err *e)
{
    if (!args_need(c->args, "cluster", e))
        return NULL;
    const char *name = args_text(c->args, "cluster");
    const struct hw_cluster *whole = hw_cluster_load(name, args_at(c->args, "cluster"), c->a, e);
    if (!whole)
        return NULL;
    cluster_inputs(c, whole, name);
    int64_t gpus = args_int_or(c->args, "gpus", hw_gpus(whole));
    struct hw_cluster *part = ARENA_NEW(c->a, struct hw_cluster);
    if (!hw_cluster_take(whole, (int)gpus, part, c->a, args_at(c->args, "gpus"), e) ||
        !calib_cluster(part, c->a, e) ||
        (part->net && !cli_input(c, "net", hw_net_name(part), e)) ||
        (part->curves && !cli_input(c, "curve", hw_curve_name(&part->gpu), e)))
        return NULL;
    return part;
}

/* ---- tokens ---- */

static bool read_clip(struct cli *c, const struct dit_model *m, const char *form,
                      struct cp_case *out, struct err *e)
{
    struct err_at at = args_at(c->args, form);
    struct clip clip;
    if (strcmp(form, "tokens") == 0) {
        out->video_tokens = args_int_or(c->args, "tokens", 0);
        return true;
    }
    if (strcmp(form, "grid") == 0) {
        if (!grid_parse(args_text(c->args, "grid"), at, &out->grid, e))
            return false;
    } else if (!clip_parse(args_text(c->args, "clip"), at, &clip, e) ||
               !dit_grid(m, clip, at, &out->grid, e))
        return false;
    out->video_tokens = grid_tokens(out->grid);
    return true;
}

static bool read_tokens(struct cli *c, struct cp_case *out, struct err *e)
{
    static const char *const forms[] = {"clip", "grid", "tokens", NULL};
    const char *form = args_one_of(c->args, forms, true, e);
    if (!form || !read_clip(c, out->model, form, out, e))
        return false;
    out->samples = (int)args_int_or(c->args, "samples", 1);
    if (out->video_tokens > WORKLOAD_TOKENS_MOST)
        return err_set(e, ERR_INPUT, args_at(c->args, form), "%lld tokens are too many; at most %d",
                       (long long)out->video_tokens, WORKLOAD_TOKENS_MOST);
    return true;
}

/* ---- sparsity ---- */

static bool uniform(struct cli *c, const char *option, double keep, int blocks, int heads,
                    struct sparsity *s, struct err *e)
{
    if (option && !(keep > 0 && keep <= 1))
        return err_set(e, ERR_INPUT, args_at(c->args, option), "'%s' is out of range; want %s",
                       args_text(c->args, option),
                       strcmp(option, "keep") == 0 ? "0 < keep <= 1" : "0 <= sparsity < 1");
    return sparsity_uniform(keep, blocks, heads, c->a, s, e);
}

static bool read_sparsity_form(struct cli *c, const char *form, int blocks, int heads,
                               struct sparsity *s, struct err *e)
{
    if (!form)
        return uniform(c, NULL, 1, blocks, heads, s, e);
    if (strcmp(form, "keep") == 0)
        return uniform(c, form, args_qty_or(c->args, form, 1), blocks, heads, s, e);
    if (strcmp(form, "sparsity") == 0)
        return uniform(c, form, 1 - args_qty_or(c->args, form, 0), blocks, heads, s, e);
    struct err_at at = args_at(c->args, form);
    if (strcmp(form, "head-sparsity") == 0) {
        int count;
        const double *list = args_list(c->args, form, &count);
        return sparsity_of_heads(list, count, blocks, heads, at, c->a, s, e);
    }
    const char *name = args_text(c->args, form);
#ifdef SHARDWISE_TRACES
    if (measured_is_trace(name)) /* keep and measured unions of an HDF5 trace */
        return measured_sparsity(name, args_int_or(c->args, "step", -1), blocks, heads,
                                 LAYOUT_SLABS, c->a, s, e) &&
               prov_input(c->prov, name, e);
#endif
    return sparsity_load(name, args_int_or(c->args, "step", -1), blocks, heads, at, c->a, s, e) &&
           cli_input(c, "sparsity", name, e);
}

static bool read_sparsity(struct cli *c, const struct dit_model *m, const struct sparsity **out,
                          struct err *e)
{
    static const char *const forms[] = {"trace", "keep", "sparsity", "head-sparsity", NULL};
    const char *form = args_one_of(c->args, forms, false, e);
    struct sparsity *s = ARENA_NEW(c->a, struct sparsity);
    if (e->code != ERR_NONE || !read_sparsity_form(c, form, dit_blocks(m), m->heads, s, e))
        return false;
    if (args_given(c->args, "union") &&
        !union_parse(args_text(c->args, "union"), args_at(c->args, "union"), &s->model, e))
        return false;
    if (args_qty_or(c->args, "moved-blocks", 0) > 1)
        return err_set(e, ERR_INPUT, args_at(c->args, "moved-blocks"),
                       "'%s' is out of range; want a share up to 1",
                       args_text(c->args, "moved-blocks"));
    s->shard_skew = args_qty_or(c->args, "shard-skew", 1);
    if (!(s->shard_skew >= 1))
        return err_set(e, ERR_INPUT, args_at(c->args, "shard-skew"),
                       "'%s' is out of range; want 1 or more", args_text(c->args, "shard-skew"));
    *out = s;
    return true;
}

/* ---- how it runs ---- */

static struct cp_options read_options(const struct args *g)
{
    struct cp_options o = cp_options_default();
    o.checkpointing = (enum checkpointing)args_choice_or(g, "checkpointing", (int)o.checkpointing);
    o.keep_kv = args_given(g, "keep-kv");
    o.grad_fp32 = args_choice_or(g, "grads", o.grad_fp32);
    o.split_heads = !args_given(g, "whole-heads");
    o.predictor_rank = (int)args_int_or(g, "predictor-rank", o.predictor_rank);
    o.inference = args_given(g, "inference");
    o.moved_blocks = args_qty_or(g, "moved-blocks", o.moved_blocks);
    o.offload = (enum offload)args_choice_or(g, "offload", (int)o.offload);
    o.index_bitmap = args_choice_or(g, "indices", o.index_bitmap);
    o.tensor_allreduce = args_given(g, "tp-all-reduce");
    return o;
}

static bool read_memory(const struct args *g, int gpus, struct mem_options *out, struct err *e)
{
    struct mem_options o = mem_options_default(gpus); /* those of a tensor rank */
    o.sharding = (enum sharding)args_choice_or(g, "sharding", (int)o.sharding);
    o.activations = (enum activations)args_choice_or(g, "activations", (int)o.activations);
    o.shard_ranks = (int)args_int_or(g, "shard-ranks", o.shard_ranks);
    o.fsdp_units = (int)args_int_or(g, "fsdp-units", o.fsdp_units);
    o.ema = args_given(g, "ema");
    o.index_bitmap = args_choice_or(g, "indices", o.index_bitmap);
    o.aux_bytes = args_qty_or(g, "resident", o.aux_bytes);
    if (o.sharding == SHARD_DDP && o.shard_ranks != gpus)
        return err_set(e, ERR_INPUT, args_at(g, "shard-ranks"),
                       "ddp shares nothing out; want another --sharding");
    if (gpus % o.shard_ranks != 0)
        return err_set(e, ERR_INPUT, args_at(g, "shard-ranks"), "%d does not divide the %d GPUs",
                       o.shard_ranks, gpus);
    *out = o;
    return true;
}

static bool read_degrees(const struct args *g, int *head_groups, int *seq_groups, struct err *e)
{
    const char *text = args_text(g, "degrees");
    char rest;
    if (!text)
        return true;
    if (sscanf(text, "%7dx%7d%c", head_groups, seq_groups, &rest) == 2 && *head_groups > 0 &&
        *seq_groups > 0)
        return true;
    return err_set(e, ERR_INPUT, args_at(g, "degrees"),
                   "'%.80s' is not head groups x sequence groups, such as 4x2", text);
}

/* Curves other than the GPU's own, which workload_cluster has noted. */
static bool curve_inputs(struct cli *c, const struct kern_profile *k, const struct hw_cluster *own,
                         struct err *e)
{
    const struct prof_kernels *of[] = {k->dense.curve.of, k->best.curve.of, k->sparse.curve.of,
                                       k->gemm_curve.of};
    for (int i = 0; i < 4; i++) {
        bool noted = !of[i] || of[i] == own->curves;
        for (int j = 0; j < i && !noted; j++)
            noted = of[j] && strcmp(of[j]->asked, of[i]->asked) == 0;
        if (!noted && !cli_input(c, "curve", of[i]->asked, e))
            return false;
    }
    return true;
}

static bool read_pointwise(struct cli *c, struct kern_profile *k, struct err *e)
{
    double x = args_qty_or(c->args, "pointwise", 0);
    if (!args_given(c->args, "pointwise"))
        return true;
    k->pointwise_least = k->pointwise_most = x;
    return x == 0 || (x >= 1 && x <= POINTWISE_MOST) ||
           err_set(e, ERR_INPUT, args_at(c->args, "pointwise"),
                   "'%s' is out of range; want 0, or 1 to %d", args_text(c->args, "pointwise"),
                   POINTWISE_MOST);
}

static const struct kern_profile *read_kernels(struct cli *c, const struct hw_cluster *cluster,
                                               struct err *e)
{
    struct err_at at = args_at(c->args, "kernels");
    const char *name = args_given(c->args, "kernels") ? args_text(c->args, "kernels") : "fa3+dsv";
    const struct kern_profile *k = kern_load(name, at, c->a, e);
    struct kern_profile *own = ARENA_NEW(c->a, struct kern_profile);
    if (!k || !cli_input(c, "kernel", name, e) || !(k = calib_kernels(k, cluster, at, c->a, e)))
        return NULL;
    *own = *k;
    return read_pointwise(c, own, e) && curve_inputs(c, own, cluster, e) ? own : NULL;
}

static bool read_case(struct cli *c, struct cp_case *out, struct err *e)
{
    *out = (struct cp_case){.options = read_options(c->args)};
    out->model = workload_model(c, e);
    out->cluster = out->model ? workload_cluster(c, e) : NULL;
    out->kernels = out->cluster ? read_kernels(c, out->cluster, e) : NULL;
    return out->kernels && read_tokens(c, out, e) &&
           read_sparsity(c, out->model, &out->sparsity, e);
}

/* --for: the program that is to run it. */
static bool read_program(struct cli *c, struct plan_request *r, struct err *e)
{
    const char *name = args_text(c->args, "for");
    if (!name)
        return true;
    const struct launch *l = launch_load(name, args_at(c->args, "for"), c->a, e);
    return l && cli_input(c, "program", name, e) && launch_limit(l, r, c->a, e);
}

bool workload_request(struct cli *c, struct plan_request *r, struct err *e)
{
    const struct args *g = c->args;
    *r = (struct plan_request){
        .phase = (enum plan_phase)args_choice_or(g, "phase", PLAN_STEP),
        .tensor = (int)args_int_or(g, "tp", 1),
        .cp = (int)args_int_or(g, "cp", 0),
        .strategies = args_choices(g, "strategies"),
        .dispatch = (enum dispatch)args_choice_or(g, "dispatch", DISPATCH_AUTO),
        .batch = (double)args_int_or(g, "batch", 0),
        .query_group = (int)args_int_or(g, "group", WORKLOAD_QUERY_GROUP),
        .eval = &eval_cost,
        .keep_candidates = 5,
    };
    if (!read_degrees(g, &r->head_groups, &r->seq_groups, e) || !read_case(c, &r->c, e))
        return false;
    int node = r->c.cluster->gpus_per_node;
    if (node % r->tensor != 0)
        return err_set(e, ERR_INPUT, args_at(g, "tp"),
                       "%d does not divide the %d GPUs of a node; tensor ranks share a node",
                       r->tensor, node);
    return read_program(c, r, e) &&
           read_memory(g, hw_gpus(r->c.cluster) / r->tensor, &r->memory, e);
}
