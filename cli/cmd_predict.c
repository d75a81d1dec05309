/* predict: one collective or one kernel, in one line; or every row of a measured table. */
#include <math.h>
#include <string.h>

#include "base/nearest.h"
#include "base/preset.h"
#include "cli/cli.h"
#include "model/calib.h"
#include "model/hw.h"
#include "model/prof.h"
#include "validate/predict_table.h"

enum { GPUS_MOST = 1 << 20, TOKENS_MOST = 1 << 30 };

/* ---- one answer ---- */

static const char *const kernel_names[] = {"dense", "sparse", "select", "gemm", NULL};

static int place_in(const char *const *names, const char *name)
{
    for (int i = 0; names[i]; i++)
        if (strcmp(names[i], name) == 0)
            return i;
    return -1;
}

/* --op is of the kind that is predicted, and only that kind's names are offered; `fallback` without
 * it. */
static bool read_op(struct cli *c, bool kernel, int fallback, int *op, struct err *e)
{
    const char *name = args_text(c->args, "op");
    const char *const *ours = kernel ? kernel_names : coll_op_names;
    *op = name ? place_in(ours, name) : fallback;
    if (*op >= 0)
        return true;
    bool other = place_in(kernel ? coll_op_names : kernel_names, name) >= 0;
    const char *near = other ? NULL : nearest_name(name, ours), *list = arena_strdup(c->a, *ours);
    for (int i = 1; ours[i]; i++)
        list = arena_printf(c->a, "%s, %s", list, ours[i]);
    return err_set(e, ERR_INPUT, args_at(c->args, "op"), "'%.80s' is %s %s; want one of %s%s%s%s",
                   name, other ? "a" : "no", kernel == other ? "collective" : "kernel", list,
                   near ? "; did you mean '" : "", near ? near : "", near ? "'?" : "");
}

static const struct table_col answer_cols[] = {
    {"what", "what", TABLE_STR, 0},
    {"time_s", "time", TABLE_QTY, QTY_SECONDS},
    {"low_s", "from", TABLE_QTY, QTY_SECONDS},
    {"high_s", "to (90%)", TABLE_QTY, QTY_SECONDS},
    {"rate", "rate", TABLE_STR, 0},
    {"class", "class", TABLE_STR, 0},
    {"in_range", "in range", TABLE_STR, 0},
    {"regime", "regime", TABLE_STR, 0},
    {"profile", "profile", TABLE_STR, 0},
};

static bool answer(struct cli *c, const char *what, const struct prediction *r, const char *rate,
                   const char *profile, struct err *e)
{
    struct table *t = table_new(c->a, answer_cols, sizeof answer_cols / sizeof *answer_cols);
    table_str(t, what);
    table_num(t, r->time.value_s);
    table_num(t, r->time.low_s);
    table_num(t, r->time.high_s);
    table_str(t, rate);
    table_str(t, prof_class_names[r->class]);
    table_str(t, r->in_range ? "yes" : "no");
    table_str(t, r->regime);
    table_str(t, profile);
    FILE *out = cli_out(c, e);
    if (out)
        cli_table(c, t, "predictions", out);
    return out != NULL;
}

/* The profile that was asked for, or the preset that bears the GPU's name. */
static const char *profile_name(struct cli *c, const char *kind, const char *gpu, struct err *e)
{
    if (args_given(c->args, "profile"))
        return args_text(c->args, "profile");
    const char *name = point_profile(kind, gpu, c->a, e);
    if (!name && e->code == ERR_NONE)
        err_set(e, ERR_INPUT, err_at_name("--profile"),
                "no calibrated profile of '%s'; name a relative's (`shardwise show` lists them), "
                "or calibrate one",
                gpu);
    return name;
}

/* ---- collectives ---- */

static bool predict_collective(struct cli *c, struct err *e)
{
    if (!args_need(c->args, "bytes", e) || !args_need(c->args, "cluster", e))
        return false;
    const struct hw_cluster *whole =
        hw_cluster_load(args_text(c->args, "cluster"), args_at(c->args, "cluster"), c->a, e);
    struct hw_cluster k;
    if (!whole || !hw_cluster_take(whole, (int)args_int_or(c->args, "gpus", hw_gpus(whole)), &k,
                                   c->a, args_at(c->args, "gpus"), e))
        return false;
    bool asked = args_given(c->args, "profile");
    const char *name =
        !asked && k.net_name ? k.net_name : profile_name(c, "net", hw_net_name(&k), e);
    const struct prof_net *net =
        name ? prof_net_load(name, args_at(c->args, "profile"), c->a, e) : NULL;
    if (!net || !cli_input(c, "net", name, e) || (!asked && !calib_cluster(&k, c->a, e)))
        return false;
    int op;
    if (!read_op(c, false, COLL_ALLTOALL, &op, e))
        return false;
    struct coll_query q = {.op = (enum coll_op)op,
                           .type = COLL_HALF,
                           .bytes = args_qty_or(c->args, "bytes", 0),
                           .gpus = hw_gpus(&k),
                           .nodes = k.nodes,
                           .nic_bytes_per_s = k.nic.bytes_per_s / k.gpus_per_nic};
    if (q.gpus < 2)
        return err_set(e, ERR_INPUT, args_at(c->args, "gpus"),
                       "one GPU exchanges nothing; want 2 or more");
    if (!(q.bytes > 0))
        return err_set(e, ERR_INPUT, args_at(c->args, "bytes"), "0 bytes; want more");
    struct prediction r = asked || !k.net ? prof_collective(net, &q) : calib_collective(&k, &q);
    const char *rate = qty_text(q.bytes * coll_wire_share(q.op, q.gpus) / r.time.value_s,
                                QTY_BYTES_PER_S, QTY_BUF);
    return answer(c,
                  arena_printf(c->a, "%s of %s on %d GPUs", coll_op_names[q.op],
                               qty_text(q.bytes, QTY_BYTES, QTY_BUF), q.gpus),
                  &r, arena_printf(c->a, "%s bus", rate), net->name, e);
}

/* ---- kernels ---- */

enum { DENSE, SPARSE, SELECT, GEMM };
struct kernel_case {
    const struct prof_kernels *p;
    double tokens, heads, batch, keep, group, m, n, k;
    int kernel, head_dim;
    bool backward, causal;
};

static bool ratio_ok(struct cli *c, double keep, struct err *e)
{
    return (keep > 0 && keep <= 1) ||
           err_set(e, ERR_INPUT, args_at(c->args, "keep"),
                   "'%s' is out of range; want 0 < keep <= 1", args_text(c->args, "keep"));
}

static bool read_case(struct cli *c, struct kernel_case *x, struct err *e)
{
    int op;
    if (!read_op(c, true, DENSE, &op, e))
        return false;
    *x = (struct kernel_case){.kernel = args_choice_or(c->args, "kernel", op),
                              .tokens = (double)args_int_or(c->args, "tokens", 0),
                              .heads = (double)args_int_or(c->args, "heads", 1),
                              .batch = (double)args_int_or(c->args, "batch", 1),
                              .keep = args_qty_or(c->args, "keep", 1),
                              .group = (double)args_int_or(c->args, "group", 32),
                              .m = (double)args_int_or(c->args, "m", 0),
                              .n = (double)args_int_or(c->args, "n", 0),
                              .k = (double)args_int_or(c->args, "k", 0),
                              .head_dim = (int)args_int_or(c->args, "head-dim", 128),
                              .backward = args_given(c->args, "backward"),
                              .causal = args_given(c->args, "causal")};
    static const char *const gemm_needs[] = {"m", "n", "k"};
    for (int i = 0; x->kernel == GEMM && i < 3; i++)
        if (!args_need(c->args, gemm_needs[i], e))
            return false;
    if ((x->kernel != GEMM && !args_need(c->args, "tokens", e)) || !ratio_ok(c, x->keep, e))
        return false;
    const char *gpu = args_given(c->args, "gpu") ? args_text(c->args, "gpu") : "h100",
               *name = profile_name(c, "curve", gpu, e);
    x->p = name ? prof_kernels_load(name, args_at(c->args, "profile"), c->a, e) : NULL;
    if (!x->p || !cli_input(c, "curve", name, e))
        return false;
    bool sparse = x->kernel == SPARSE || x->kernel == SELECT;
    if (sparse && !(x->p->sparse.pair_s[0] > 0))
        return err_set(e, ERR_INPUT, args_at(c->args, "kernel"),
                       "the profile '%s' has no sparse kernel", x->p->name);
    if (x->kernel == GEMM && !(x->p->gemm.rate > 0))
        return err_set(e, ERR_INPUT, args_at(c->args, "kernel"), "the profile '%s' has no GEMM",
                       x->p->name);
    return true;
}

/* Useful FLOP: 2 m n k; attention 4 (backward 10) per query, key and head dimension, of kept pairs;
 * a causal mask keeps half. */
static struct prediction kernel_time(const struct kernel_case *x, double *flop)
{
    double rows = x->batch * x->tokens * x->heads, keys = x->tokens, tile = x->p->sparse.tile;
    *flop = (x->backward ? 10 : 4) * rows * keys * x->head_dim * (x->causal ? 0.5 : 1);
    if (x->kernel == GEMM) {
        *flop = 2 * x->m * x->n * x->k;
        return prof_gemm(x->p, x->m, x->n, x->k);
    }
    if (x->kernel == DENSE) {
        struct attention_query q = {.causal = x->causal,
                                    .backward = x->backward,
                                    .batch = x->batch,
                                    .heads = x->heads,
                                    .queries = x->tokens,
                                    .keys = x->tokens,
                                    .head_dim = x->head_dim};
        return prof_attention(x->p, &q);
    }
    if (x->kernel == SELECT) {
        *flop = 0;
        return prof_select(x->p, rows / x->group * x->tokens);
    }
    double kept = fmin(ceil(x->keep * keys / tile) * tile, keys);
    *flop *= kept / keys;
    return prof_sparse(x->p, x->backward, rows, rows * kept, x->tokens, x->head_dim);
}

static bool predict_kernel(struct cli *c, struct err *e)
{
    struct kernel_case x;
    double flop;
    if (!read_case(c, &x, e))
        return false;
    struct prediction r = kernel_time(&x, &flop);
    const char *what =
        x.kernel == GEMM
            ? arena_printf(c->a, "gemm %.0f x %.0f x %.0f", x.m, x.n, x.k)
            : arena_printf(c->a, "%s %s, %.0f tokens, %.0f heads", kernel_names[x.kernel],
                           x.backward ? "backward" : "forward", x.tokens, x.heads);
    const char *rate = flop > 0 ? qty_text(flop / r.time.value_s, QTY_FLOP_PER_S, QTY_BUF) : "";
    return answer(c, what, &r, arena_strdup(c->a, rate), x.p->name, e);
}

/* ---- tables ---- */

static bool predict_rows(struct cli *c, struct err *e)
{
    const char *path = args_text(c->args, "table");
    const char *profile = args_given(c->args, "profile") ? args_text(c->args, "profile") : NULL;
    struct table_scores s;
    FILE *out = cli_out(c, e);
    if (!out || !prov_input(c->prov, path, e))
        return false;
    prov_comment(c->prov, out);
    if (!predict_table(path, profile, out, &s, c->a, e))
        return false;
    fprintf(stderr,
            "%s: %d rows, %d predicted, %d of them outside what was measured; %d without a model "
            "or a profile\n",
            path, s.rows, s.predicted, s.outside_range, s.skipped);
    if (s.skipped)
        fprintf(stderr, "%s:%d: no answer: %s\n", path, s.skipped_line, s.skipped_why);
    table_print(predict_summary(&s, c->a), TABLE_TEXT, stderr);
    return true;
}

/* ---- the command ---- */

static const char *const subjects[] = {"collective", "kernel", NULL};

static bool run(struct cli *c, struct err *e)
{
    const char *what = args_operand(c->args, 0);
    bool collective = strcmp(what, "collective") == 0;
    if (!collective && strcmp(what, "kernel") != 0)
        return err_set(e, ERR_INPUT, err_at_name(NULL),
                       "'%.80s' cannot be predicted; want collective or kernel", what);
    if (args_given(c->args, "table"))
        return predict_rows(c, e);
    return collective ? predict_collective(c, e) : predict_kernel(c, e);
}

static const struct arg_group table_options = {
    "Tables and profiles",
    (const struct arg_option[]){
        OPTION_TEXT(
            "table", "FILE", "file",
            "answer every row of a measured table (CSV; docs/formats.md); summary on stderr"),
        OPTION_TEXT("profile", "NAME", "file",
                    "calibrated profile: a preset or a YAML file (the GPU's)"),
        OPTION_END}};

static const struct arg_group collective_options = {
    "Collectives",
    (const struct arg_option[]){
        {.name = "op", /* checked with the kind at hand; the list is for help and completion */
         .kind = ARG_TEXT,
         .value = "OP",
         .choices = coll_op_names,
         .help = "which collective (alltoall)"},
        OPTION_QTY("bytes", QTY_BYTES, "SIZE",
                   "the buffer of a rank as nccl-tests counts it: 64 MiB"),
        OPTION_TEXT("cluster", "NAME", "clusters", "NODESxGPUS-KIND[-RATEg] or a YAML file"),
        OPTION_INT("gpus", 1, GPUS_MOST, "N", "use only N GPUs of the cluster (all)"),
        OPTION_END}};

static const struct arg_group kernel_options = {
    "Kernels",
    (const struct arg_option[]){
        OPTION_CHOICE("kernel", kernel_names, "NAME", "which kernel, or --op (dense)"),
        OPTION_INT("tokens", 1, TOKENS_MOST, "S", "length of the sequence: 64k"),
        OPTION_INT("heads", 1, 65536, "N", "heads (1)"),
        OPTION_INT("batch", 1, 65536, "N", "sequences (1)"),
        OPTION_INT("head-dim", 1, 1024, "D", "width of a head (128)"),
        OPTION_QTY("keep", QTY_RATIO, "K", "share of kept pairs (1)"),
        OPTION_INT("group", 1, TOKENS_MOST, "Q", "queries that share a list (32)"),
        OPTION_FLAG("backward", "the backward pass"), OPTION_FLAG("causal", "a causal mask"),
        OPTION_INT("m", 1, TOKENS_MOST, "M", "gemm: rows of the result"),
        OPTION_INT("n", 1, TOKENS_MOST, "N", "gemm: columns"),
        OPTION_INT("k", 1, TOKENS_MOST, "K", "gemm: the dimension that is summed"),
        OPTION_TEXT("gpu", "NAME", "gpus", "a GPU with a profile (h100)"), OPTION_END}};

const struct command cmd_predict = {
    .name = "predict",
    .brief = "say how long one collective or one kernel takes, with an error bar",
    .usage = "collective --bytes SIZE --cluster C [options]\nkernel --tokens S "
             "[options]\ncollective|kernel --table FILE [-o FILE]",
    .example =
        "shardwise predict collective --op alltoall --bytes 64MiB --cluster 1x8-h100\n"
        "shardwise predict kernel --kernel sparse --tokens 64k --heads 4 --keep 0.1 --backward",
    .about = "The time is that of a calibrated profile and the interval holds nine times out of "
             "ten: its width comes from measured points "
             "that the fit had not seen, by class (inside the table, beyond it, another GPU count, "
             "a borrowed GPU, several nodes). "
             "docs/calibration.md has the forms.\n\n"
             "--table appends prediction, interval, error and class to every row and ends with a "
             "summary by class. Class `point` is a "
             "row that the profile was fitted on: it says nothing about new ones.",
    .groups = (const struct arg_group *const[]){&collective_options, &kernel_options,
                                                &table_options, &cli_output_options, NULL},
    .operands_least = 1,
    .operands_most = 1,
    .operands = subjects,
    .run = run,
};
