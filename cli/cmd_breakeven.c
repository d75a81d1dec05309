/* breakeven: from which sparsity on sparse attention beats dense attention, by kernel profile, for
 * each pass. */
#include <math.h>
#include <string.h>

#include "base/preset.h"
#include "cli/cli.h"
#include "model/calib.h"
#include "model/hw.h"
#include "model/kernel.h"

enum { TOKENS_MOST = 1 << 30 };

struct question {
    const struct hw_cluster *cluster; /* one GPU */
    double tokens;
    int head_dim, group; /* group 0: the profile's */
    bool recompute;
    const char *noted[16]; /* curves among the inputs */
    int noted_count;
};

static const struct table_col cols[] = {
    {"kernels", "kernels", TABLE_STR, 0},
    {"sparse", "sparse", TABLE_STR, 0},
    {"group", "group", TABLE_INT, 0},
    {"dense", "against", TABLE_STR, 0},
    {"forward", "forward + selection", TABLE_QTY, QTY_RATIO},
    {"backward", "backward", TABLE_QTY, QTY_RATIO},
    {"both", "both + selection", TABLE_QTY, QTY_RATIO},
    {"other_gpu", "of another GPU", TABLE_STR, 0},
};

/* 2 says never; an empty cell does in a table. */
static void cell(struct table *t, double sparsity)
{
    table_num(t, sparsity <= 1 ? sparsity : (double)NAN);
}

static void add_row(struct table *t, const struct question *q, const struct kern_profile *k,
                    const struct kern_dense *d)
{
    const struct hw_gpu *g = &q->cluster->gpu;
    int group = q->group > 0 ? q->group : k->sparse.group;
    table_str(t, k->name);
    table_str(t, k->sparse.name);
    table_int(t, group);
    table_str(t, d->name);
    cell(t, kern_breakeven_pass(k, d, g, q->tokens, q->head_dim, group, false));
    cell(t, kern_breakeven_pass(k, d, g, q->tokens, q->head_dim, group, true));
    cell(t, kern_breakeven(k, d, g, q->tokens, q->head_dim, group, q->recompute));
    table_str(t, kern_assumed(k, g) ? "yes" : "no");
}

static bool same_dense(const struct kern_dense *a, const struct kern_dense *b)
{
    return strcmp(a->name, b->name) == 0 && !(a->forward_share < b->forward_share) &&
           !(a->forward_share > b->forward_share) && !(a->backward_share < b->backward_share) &&
           !(a->backward_share > b->backward_share);
}

/* Each fitted curve is an input once. */
static bool note_curve(struct cli *c, struct question *q, const struct kern_curve *curve,
                       struct err *e)
{
    const char *name = curve->of ? curve->of->asked : NULL;
    for (int i = 0; name && i < q->noted_count; i++)
        if (strcmp(q->noted[i], name) == 0)
            return true;
    if (!name || q->noted_count == (int)(sizeof q->noted / sizeof *q->noted))
        return true;
    q->noted[q->noted_count++] = name;
    return cli_input(c, "curve", name, e);
}

static bool add_profile(struct cli *c, struct table *t, struct question *q, const char *name,
                        struct err *e)
{
    struct err_at at = args_at(c->args, "kernels");
    const struct kern_profile *k = kern_load(name, at, c->a, e);
    if (!k || !cli_input(c, "kernel", name, e) ||
        !(k = calib_kernels(k, q->cluster, at, c->a, e)) || !note_curve(c, q, &k->dense.curve, e) ||
        !note_curve(c, q, &k->best.curve, e) || !note_curve(c, q, &k->sparse.curve, e))
        return false;
    add_row(t, q, k, &k->dense);
    if (!same_dense(&k->dense, &k->best))
        add_row(t, q, k, &k->best);
    return true;
}

static bool read_question(struct cli *c, struct question *q, struct err *e)
{
    const char *gpu = args_given(c->args, "gpu") ? args_text(c->args, "gpu") : "h100";
    struct hw_cluster *one = ARENA_NEW(c->a, struct hw_cluster);
    const struct hw_gpu *g = hw_gpu_load(gpu, args_at(c->args, "gpu"), c->a, e);
    if (!g || !cli_input(c, "gpu", gpu, e))
        return false;
    one->gpu = *g;
    one->nodes = one->gpus_per_node = 1;
    if (!calib_cluster(one, c->a, e))
        return false;
    *q = (struct question){.cluster = one,
                           .tokens = (double)args_int_or(c->args, "tokens", 64000),
                           .head_dim = (int)args_int_or(c->args, "head-dim", 128),
                           .group = (int)args_int_or(c->args, "group", 0),
                           .recompute = args_given(c->args, "recompute")};
    return true;
}

static bool run(struct cli *c, struct err *e)
{
    struct question q;
    struct table *t = table_new(c->a, cols, sizeof cols / sizeof *cols);
    if (!read_question(c, &q, e))
        return false;
    if (args_given(c->args, "kernels")) {
        if (!add_profile(c, t, &q, args_text(c->args, "kernels"), e))
            return false;
    } else {
        const char **names = preset_list("kernel", c->a, e);
        for (int i = 0; names && names[i]; i++)
            if (!add_profile(c, t, &q, names[i], e))
                return false;
        if (!names)
            return err_set(e, ERR_SYSTEM, err_at_name("--kernels"),
                           "the presets cannot be listed; name a profile");
    }
    FILE *out = cli_out(c, e);
    if (out)
        cli_table(c, t, "breakeven", out);
    return out != NULL;
}

static const struct arg_group options = {
    "Kernels and shapes",
    (const struct arg_option[]){
        OPTION_TEXT("kernels", "NAME", "kernels",
                    "one kernel profile: a preset or a YAML file (all presets)"),
        OPTION_TEXT("gpu", "NAME", "gpus", "the GPU (h100)"),
        OPTION_INT("tokens", 1, TOKENS_MOST, "S", "length of the sequence (64000)"),
        OPTION_INT("head-dim", 1, 1024, "D", "width of a head (128)"),
        OPTION_INT("group", 1, TOKENS_MOST, "Q", "queries that share a selection (the profile's)"),
        OPTION_FLAG("recompute", "count the forward pass twice, as full recomputation does"),
        OPTION_END}};

const struct command cmd_breakeven = {
    .name = "breakeven",
    .brief = "say from which sparsity on sparse attention is faster than dense",
    .usage = "[--kernels NAME] [--gpu NAME] [--tokens S] [options]",
    .example = "shardwise breakeven --gpu h100 --tokens 64000\n"
               "shardwise breakeven --kernels fa3+dsv --gpu h200 --tokens 128k",
    .about =
        "For each kernel profile: the sparsity above which its sparse kernels beat its dense "
        "baseline, and the best dense kernel known if that is another one. Selection is counted "
        "with the forward pass; kept keys are whole tiles. An empty cell: sparse never wins.\n\n"
        "Times are those that `plan` uses: the fitted curve of the GPU where a profile names one "
        "and there is one, else the profile's own numbers. Sparse times of a profile that was "
        "measured on another GPU are longer where this one has fewer SMs, less memory bandwidth or "
        "a lower peak, and never shorter. `validate/on_gpu` makes a profile for each "
        "group size that it measures.",
    .groups = (const struct arg_group *const[]){&options, &cli_output_options, NULL},
    .operands_least = 0,
    .operands_most = 0,
    .run = run,
};
