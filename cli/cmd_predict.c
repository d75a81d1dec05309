/* predict: one collective or one kernel, in one line. */
#include <math.h>
#include <string.h>

#include "cli/cli.h"
#include "model/cost.h"
#include "model/kernel.h"

enum { GPUS_MOST = 1 << 16, TOKENS_MOST = 1 << 30 };

/* ---- collectives ---- */

/* `bytes` is what nccl-tests calls size: the buffer of a rank; for all-gather the received one, for
 * reduce-scatter the sent one. `share` is what of it each rank owns; an all-reduce is a
 * reduce-scatter and an all-gather. */
static const struct collective {
    const char *name;
    enum phase_kind kind;
    int times;
} collectives[] = {
    {"alltoall", PHASE_ALLTOALL, 1},
    {"allgather", PHASE_ALLGATHER, 1},
    {"reducescatter", PHASE_REDUCESCATTER, 1},
    {"allreduce", PHASE_ALLGATHER, 2},
};

static double collective_s(const struct collective *op, const struct hw_cluster *k, int ranks,
                           double bytes, struct arena *a)
{
    struct cp_conf conf = {.strategy = CP_ALLGATHER, .head_groups = 1, .seq_groups = ranks};
    double *from = ARENA_ARRAY(a, double, ranks), *to = ARENA_ARRAY(a, double, ranks), most = 0;
    struct cp_bytes *moved = ARENA_ARRAY(a, struct cp_bytes, ranks);
    for (int r = 0; r < ranks; r++) {
        from[r] = bytes / ranks;
        to[r] = 1; /* an all-to-all sends from[i] * to[j] */
    }
    struct cp_phase p = {
        .kind = op->kind, .scope = SCOPE_COLUMN, .from = from, .to = to, .calls = 1};
    cost_phase_bytes(&p, &conf, k->gpus_per_node, moved);
    for (int r = 0; r < ranks; r++)
        most = fmax(most, cost_exchange_s(k, moved[r], 1));
    return op->times * most;
}

static bool predict_collective(struct cli *c, struct err *e)
{
    const struct collective *op = &collectives[args_choice_or(c->args, "op", 0)];
    if (!args_need(c->args, "bytes", e) || !args_need(c->args, "cluster", e))
        return false;
    const struct hw_cluster *whole =
        hw_cluster_load(args_text(c->args, "cluster"), args_at(c->args, "cluster"), c->a, e);
    struct hw_cluster k;
    if (!whole || !hw_cluster_take(whole, (int)args_int_or(c->args, "gpus", hw_gpus(whole)), &k,
                                   c->a, args_at(c->args, "gpus"), e))
        return false;
    int ranks = hw_gpus(&k);
    double bytes = args_qty_or(c->args, "bytes", 0), s = collective_s(op, &k, ranks, bytes, c->a);
    static const struct table_col cols[] = {
        {"op", "op", TABLE_STR, 0},
        {"cluster", "cluster", TABLE_STR, 0},
        {"gpus", "GPUs", TABLE_INT, 0},
        {"bytes", "size", TABLE_QTY, QTY_BYTES},
        {"time_s", "time", TABLE_QTY, QTY_SECONDS},
        {"bytes_per_s", "size/time", TABLE_QTY, QTY_BYTES_PER_S}};
    struct table *t = table_new(c->a, cols, 6);
    table_str(t, op->name);
    table_str(t, k.name);
    table_int(t, ranks);
    table_num(t, bytes);
    table_num(t, s);
    table_num(t, s > 0 ? bytes / s : NAN);
    FILE *out = cli_out(c, e);
    if (out)
        cli_table(c, t, "predictions", out);
    return out != NULL;
}

/* ---- kernels ---- */

struct kernel_case {
    const struct kern_profile *k;
    const struct hw_gpu *gpu;
    double tokens, heads, keep, group;
    int head_dim;
    bool backward;
};

static double dense_s(const struct kernel_case *x)
{
    return kern_dense_s(x->k, x->gpu, x->backward, x->tokens * x->heads, x->tokens, x->head_dim);
}

static double sparse_s(const struct kernel_case *x)
{
    double keys = fmin(kern_tiled(x->k, x->keep * x->tokens), x->tokens),
           rows = x->tokens * x->heads;
    return kern_sparse_s(x->k, x->backward, rows, rows * keys, x->head_dim);
}

static double select_s(const struct kernel_case *x)
{
    return kern_select_s(x->k, x->tokens / x->group * x->tokens * x->heads);
}

static const struct kernel {
    const char *name;
    double (*seconds)(const struct kernel_case *x);
} kernels[] = {{"dense", dense_s}, {"sparse", sparse_s}, {"select", select_s}};

static bool read_kernel_case(struct cli *c, struct kernel_case *x, struct err *e)
{
    const char *profile =
        args_given(c->args, "kernels") ? args_text(c->args, "kernels") : "fa3+dsv";
    const char *gpu = args_given(c->args, "gpu") ? args_text(c->args, "gpu") : "h100";
    *x = (struct kernel_case){.heads = (double)args_int_or(c->args, "heads", 1),
                              .tokens = (double)args_int_or(c->args, "tokens", 0),
                              .keep = args_qty_or(c->args, "keep", 1),
                              .group = (double)args_int_or(c->args, "group", 32),
                              .head_dim = (int)args_int_or(c->args, "head-dim", 128),
                              .backward = args_given(c->args, "backward")};
    if (!args_need(c->args, "tokens", e))
        return false;
    if (!(x->keep > 0 && x->keep <= 1))
        return err_set(e, ERR_INPUT, args_at(c->args, "keep"),
                       "'%s' is out of range; want 0 < keep <= 1", args_text(c->args, "keep"));
    x->k = kern_load(profile, args_at(c->args, "kernels"), c->a, e);
    x->gpu = x->k ? hw_gpu_load(gpu, args_at(c->args, "gpu"), c->a, e) : NULL;
    return x->gpu && cli_input(c, "kernel", profile, e) && cli_input(c, "gpu", gpu, e);
}

static bool predict_kernel(struct cli *c, struct err *e)
{
    const struct kernel *op = &kernels[args_choice_or(c->args, "kernel", 0)];
    struct kernel_case x;
    if (!read_kernel_case(c, &x, e))
        return false;
    static const struct table_col cols[] = {{"kernel", "kernel", TABLE_STR, 0},
                                            {"profile", "profile", TABLE_STR, 0},
                                            {"gpu", "GPU", TABLE_STR, 0},
                                            {"direction", "direction", TABLE_STR, 0},
                                            {"tokens", "tokens", TABLE_INT, 0},
                                            {"heads", "heads", TABLE_INT, 0},
                                            {"head_dim", "head dim", TABLE_INT, 0},
                                            {"keep", "keep", TABLE_QTY, QTY_RATIO},
                                            {"time_s", "time", TABLE_QTY, QTY_SECONDS}};
    struct table *t = table_new(c->a, cols, sizeof cols / sizeof *cols);
    table_str(t, op->name);
    table_str(t, x.k->name);
    table_str(t, x.gpu->name);
    table_str(t, x.backward ? "backward" : "forward");
    table_int(t, (int64_t)x.tokens);
    table_int(t, (int64_t)x.heads);
    table_int(t, x.head_dim);
    table_num(t, x.keep);
    table_num(t, op->seconds(&x));
    FILE *out = cli_out(c, e);
    if (out)
        cli_table(c, t, "predictions", out);
    return out != NULL;
}

/* ---- the command ---- */

static const char *const ops[] = {"alltoall", "allgather", "reducescatter", "allreduce", NULL};
static const char *const kernel_names[] = {"dense", "sparse", "select", NULL};
static const char *const subjects[] = {"collective", "kernel", NULL};

static bool run(struct cli *c, struct err *e)
{
    const char *what = args_operand(c->args, 0);
    if (strcmp(what, "collective") == 0)
        return predict_collective(c, e);
    if (strcmp(what, "kernel") == 0)
        return predict_kernel(c, e);
    return err_set(e, ERR_INPUT, err_at_name(NULL),
                   "'%.80s' cannot be predicted; want collective or kernel", what);
}

static const struct arg_group collective_options = {
    "Collectives",
    (const struct arg_option[]){
        OPTION_CHOICE("op", ops, "OP", "which (alltoall)"),
        OPTION_QTY("bytes", QTY_BYTES, "SIZE",
                   "the buffer of a rank as nccl-tests counts it: 64 MiB"),
        OPTION_TEXT("cluster", "NAME", "clusters", "NODESxGPUS-KIND[-RATEg] or a YAML file"),
        OPTION_INT("gpus", 1, GPUS_MOST, "N", "use only N GPUs of the cluster (all)"), OPTION_END}};

static const struct arg_group kernel_options = {
    "Kernels",
    (const struct arg_option[]){
        OPTION_CHOICE("kernel", kernel_names, "NAME", "which (dense)"),
        OPTION_INT("tokens", 1, TOKENS_MOST, "S", "length of the sequence: 64k"),
        OPTION_INT("heads", 1, 65536, "N", "heads (1)"),
        OPTION_INT("head-dim", 1, 1024, "D", "width of a head (128)"),
        OPTION_QTY("keep", QTY_RATIO, "K", "share of kept pairs (1)"),
        OPTION_INT("group", 1, TOKENS_MOST, "Q", "queries that share a list (32)"),
        OPTION_FLAG("backward", "the backward pass"),
        OPTION_TEXT("gpu", "NAME", "gpus", "a preset or a YAML file (h100)"),
        OPTION_TEXT("kernels", "NAME", "kernels", "kernel profile (fa3+dsv)"), OPTION_END}};

const struct command cmd_predict = {
    .name = "predict",
    .brief = "say how long one collective or one kernel takes",
    .usage = "collective --bytes SIZE --cluster C [options]\nkernel --tokens S [options]",
    .example =
        "shardwise predict collective --op alltoall --bytes 64MiB --cluster 1x8-h100\n"
        "shardwise predict kernel --kernel sparse --tokens 64k --heads 4 --keep 0.1 --backward",
    .about = "Collectives: bytes of the fuller direction of each rank's port over what collectives "
             "reach of the link, and a latency. "
             "Kernels: the straight lines of the kernel profile.",
    .groups = (const struct arg_group *const[]){&collective_options, &kernel_options,
                                                &cli_output_options, NULL},
    .operands_least = 1,
    .operands_most = 1,
    .operands = subjects,
    .run = run,
};
