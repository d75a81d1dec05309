/* show: what presets and strategies there are, and one of them in detail. */
#include <string.h>

#include "base/cfg.h"
#include "base/nearest.h"
#include "base/preset.h"
#include "cli/cli.h"
#include "model/conf.h"
#include "model/dit.h"
#include "model/hw.h"
#include "model/kernel.h"
#include "model/prof.h"
#include "model/sparsity.h"
#include "planner/launch.h"

#define QTY(value, dim) qty_text((value), (dim), QTY_BUF)

/* What can be shown. Names come from `preset`, a kind of preset files, or from `names`. */
struct shown {
    const char *plural, *singular, *preset;
    const char *const *names;
    const struct table_col *cols;
    int col_count;
    bool (*row)(struct cli *c, const char *name, struct table *t,
                struct err *e); /* one line of the list */
    bool (*facts)(struct cli *c, const char *name, struct table *t,
                  struct err *e); /* one item: property, value */
};

static void fact(struct table *t, const char *name, const char *value)
{
    table_str(t, name);
    table_str(t, value);
}

/* ---- models ---- */

static const struct table_col model_cols[] = {{"name", "model", TABLE_STR, 0},
                                              {"blocks", "blocks", TABLE_INT, 0},
                                              {"width", "width", TABLE_INT, 0},
                                              {"heads", "heads", TABLE_INT, 0},
                                              {"kv_heads", "KV heads", TABLE_INT, 0},
                                              {"head_dim", "head dim", TABLE_INT, 0},
                                              {"params", "weights", TABLE_QTY, QTY_NUMBER},
                                              {"frames", "frames", TABLE_STR, 0},
                                              {"attention", "attention", TABLE_STR, 0}};

static bool model_row(struct cli *c, const char *name, struct table *t, struct err *e)
{
    const struct dit_model *m = dit_load(name, err_at_name(NULL), c->a, e);
    if (!m)
        return false;
    table_str(t, m->name);
    table_int(t, dit_blocks(m));
    table_int(t, m->width);
    table_int(t, m->heads);
    table_int(t, m->kv_heads);
    table_int(t, m->head_dim);
    table_num(t, m->params);
    table_str(t, m->frames.name);
    table_str(t, m->attention);
    return true;
}

static bool model_facts(struct cli *c, const char *name, struct table *t, struct err *e)
{
    const struct dit_model *m = dit_load(name, err_at_name(NULL), c->a, e);
    if (!m)
        return false;
    fact(t, "name", m->name);
    fact(t, "blocks",
         arena_printf(c->a, "%d dual, %d single, %d cross, %d plain", m->dual_blocks,
                      m->single_blocks, m->cross_blocks, m->plain_blocks));
    fact(t, "width", arena_printf(c->a, "%d", m->width));
    fact(t, "heads", arena_printf(c->a, "%d of %d, %d for KV", m->heads, m->head_dim, m->kv_heads));
    fact(t, "feed-forward", arena_printf(c->a, "%d, %d matrices", m->ffn, m->ffn_mats));
    fact(t, "text tokens", arena_printf(c->a, "%d", m->text_tokens));
    fact(t, "weights", QTY(m->params, QTY_NUMBER));
    fact(t, "weights a token meets", QTY(m->params_per_token, QTY_NUMBER));
    fact(t, "VAE strides", arena_printf(c->a, "%d x %d x %d", m->vae_t, m->vae_h, m->vae_w));
    fact(t, "patch", arena_printf(c->a, "%d x %d x %d", m->patch_t, m->patch_h, m->patch_w));
    fact(t, "frame rule", m->frames.name);
    fact(t, "attention", m->attention);
    fact(t, "source", m->source);
    return true;
}

/* ---- clusters ---- */

static const struct table_col cluster_cols[] = {
    {"name", "cluster", TABLE_STR, 0},
    {"gpus_per_node", "GPUs a node", TABLE_INT, 0},
    {"nvlink_bytes_per_s", "NVLink, one way", TABLE_QTY, QTY_BYTES_PER_S},
    {"nic_bytes_per_s", "NIC", TABLE_QTY, QTY_BYTES_PER_S},
    {"gpus_per_nic", "GPUs a NIC", TABLE_INT, 0},
    {"example", "write", TABLE_STR, 0}};

/* One whole node of a kind: the preset says how many GPUs it has. */
static const struct hw_cluster *node_preset(struct cli *c, const char *name, struct err *e)
{
    int64_t gpus;
    const char *path = preset_find("cluster", name, err_at_name(NULL), c->a, e);
    const struct cfg *map = path ? cfg_read_file(path, c->a, e) : NULL;
    if (!map || !cfg_int(map, "gpus_per_node", 1, HW_GPUS_MAX, &gpus, e))
        return NULL;
    return hw_cluster_load(arena_printf(c->a, "1x%d-%s", (int)gpus, name), err_at_name(NULL), c->a,
                           e);
}

static bool cluster_row(struct cli *c, const char *name, struct table *t, struct err *e)
{
    const struct hw_cluster *k = node_preset(c, name, e);
    if (!k)
        return false;
    table_str(t, name);
    table_int(t, k->gpus_per_node);
    table_num(t, k->nvlink.bytes_per_s);
    table_num(t, k->nic.bytes_per_s);
    table_int(t, k->gpus_per_nic);
    table_str(t, arena_printf(c->a, "2x%d-%s-%.0fg", k->gpus_per_node, name,
                              8e-9 * k->nic.bytes_per_s / k->gpus_per_nic));
    return true;
}

static const char *link_text(struct cli *c, const struct hw_link *l)
{
    return arena_printf(c->a, "%s one way, %s of it reached, latency %s",
                        QTY(l->bytes_per_s, QTY_BYTES_PER_S), QTY(l->efficiency, QTY_RATIO),
                        QTY(l->latency_s, QTY_SECONDS));
}

/* The kind of node ("h100") or a whole cluster ("2x8-h100-400g", a file). */
static bool cluster_facts(struct cli *c, const char *name, struct table *t, struct err *e)
{
    struct err not_whole = {0};
    const struct hw_cluster *k = hw_cluster_load(name, err_at_name(NULL), c->a, &not_whole);
    if (!k && !(k = node_preset(c, name, e)))
        return false;
    fact(t, "name", k->name);
    fact(t, "GPUs", arena_printf(c->a, "%d x %d %s", k->nodes, k->gpus_per_node, k->gpu.name));
    fact(t, "NVLink", link_text(c, &k->nvlink));
    fact(t, "NIC", link_text(c, &k->nic));
    fact(t, "GPUs a NIC", arena_printf(c->a, "%d", k->gpus_per_nic));
    fact(t, "PCIe, one way", QTY(k->pcie_bytes_per_s, QTY_BYTES_PER_S));
    if (k->usd_per_gpu_hour > 0)
        fact(t, "price", arena_printf(c->a, "%.2f USD a GPU hour", k->usd_per_gpu_hour));
    fact(t, "source", k->source);
    return true;
}

/* ---- GPUs ---- */

static const struct table_col gpu_cols[] = {
    {"name", "GPU", TABLE_STR, 0},
    {"bf16_flop_per_s", "bf16 dense", TABLE_QTY, QTY_FLOP_PER_S},
    {"memory_bytes", "memory", TABLE_QTY, QTY_BYTES},
    {"hbm_bytes_per_s", "HBM", TABLE_QTY, QTY_BYTES_PER_S},
    {"sm_count", "SMs", TABLE_INT, 0}};

static bool gpu_row(struct cli *c, const char *name, struct table *t, struct err *e)
{
    const struct hw_gpu *g = hw_gpu_load(name, err_at_name(NULL), c->a, e);
    if (!g)
        return false;
    table_str(t, g->name);
    table_num(t, g->bf16_flop_per_s);
    table_num(t, g->memory_bytes);
    table_num(t, g->hbm_bytes_per_s);
    table_int(t, g->sm_count);
    return true;
}

static bool gpu_facts(struct cli *c, const char *name, struct table *t, struct err *e)
{
    const struct hw_gpu *g = hw_gpu_load(name, err_at_name(NULL), c->a, e);
    if (!g)
        return false;
    fact(t, "name", g->name);
    fact(t, "bf16, dense", QTY(g->bf16_flop_per_s, QTY_FLOP_PER_S));
    fact(t, "memory", QTY(g->memory_bytes, QTY_BYTES));
    fact(t, "HBM", QTY(g->hbm_bytes_per_s, QTY_BYTES_PER_S));
    fact(t, "SMs", arena_printf(c->a, "%d", g->sm_count));
    fact(t, "source", g->source);
    return true;
}

/* ---- kernels ---- */

static const struct table_col kernel_cols[] = {
    {"name", "profile", TABLE_STR, 0},
    {"dense", "dense", TABLE_STR, 0},
    {"forward_share", "forward", TABLE_QTY, QTY_RATIO},
    {"backward_share", "backward", TABLE_QTY, QTY_RATIO},
    {"sparse", "sparse", TABLE_STR, 0},
    {"forward_pair_s", "forward pair", TABLE_QTY, QTY_SECONDS},
    {"backward_pair_s", "backward pair", TABLE_QTY, QTY_SECONDS},
    {"best", "best dense", TABLE_STR, 0}};

static bool kernel_row(struct cli *c, const char *name, struct table *t, struct err *e)
{
    const struct kern_profile *k = kern_load(name, err_at_name(NULL), c->a, e);
    if (!k)
        return false;
    table_str(t, k->name);
    table_str(t, k->dense.name);
    table_num(t, k->dense.forward_share);
    table_num(t, k->dense.backward_share);
    table_str(t, k->sparse.name);
    table_num(t, k->sparse.forward_pair_s);
    table_num(t, k->sparse.backward_pair_s);
    table_str(t, k->best.name);
    return true;
}

static const char *dense_text(struct cli *c, const struct kern_dense *d)
{
    return arena_printf(c->a, "%s: %s of bf16 peak forward, %s backward", d->name,
                        QTY(d->forward_share, QTY_RATIO), QTY(d->backward_share, QTY_RATIO));
}

static bool kernel_facts(struct cli *c, const char *name, struct table *t, struct err *e)
{
    const struct kern_profile *k = kern_load(name, err_at_name(NULL), c->a, e);
    if (!k)
        return false;
    const struct kern_sparse *s = &k->sparse;
    fact(t, "name", k->name);
    fact(t, "dense", dense_text(c, &k->dense));
    fact(t, "best dense", dense_text(c, &k->best));
    fact(t, "sparse", s->name);
    fact(t, "sparse forward",
         arena_printf(c->a, "%s a row + %s a pair", QTY(s->forward_row_s, QTY_SECONDS),
                      QTY(s->forward_pair_s, QTY_SECONDS)));
    fact(t, "sparse backward",
         arena_printf(c->a, "%s a row + %s a pair", QTY(s->backward_row_s, QTY_SECONDS),
                      QTY(s->backward_pair_s, QTY_SECONDS)));
    fact(t, "selection", arena_printf(c->a, "%s a score", QTY(s->select_score_s, QTY_SECONDS)));
    fact(t, "tile", arena_printf(c->a, "%d keys", s->tile));
    fact(t, "GEMM", arena_printf(c->a, "%s of bf16 peak", QTY(k->gemm_share, QTY_RATIO)));
    fact(t, "copies", arena_printf(c->a, "%s of HBM", QTY(k->hbm_share, QTY_RATIO)));
    if (k->pointwise_most > 0)
        fact(t, "norms, activations",
             arena_printf(c->a, "%g to %g times the least traffic", k->pointwise_least,
                          k->pointwise_most));
    fact(t, "gathered row", QTY(k->gathered_row_s, QTY_SECONDS));
    fact(t, "launch", QTY(k->launch_s, QTY_SECONDS));
    fact(t, "source", k->source);
    return true;
}

/* ---- sparsity profiles ---- */

static const struct table_col sparsity_cols[] = {{"name", "profile", TABLE_STR, 0},
                                                 {"what", "what it is", TABLE_STR, 0}};

/* The comment that the file begins with: its first line, or all of it. */
static const char *comment_of(struct cli *c, const char *path, bool whole, struct err *e)
{
    char line[512];
    char *text = arena_strdup(c->a, "");
    FILE *in = fopen(path, "r");
    if (!in) {
        err_open(e, err_at_name(path));
        return NULL;
    }
    for (int n = 0; n < (whole ? 20 : 1) && fgets(line, sizeof line, in) && line[0] == '#'; n++) {
        line[strcspn(line, "\n")] = '\0';
        text = arena_printf(c->a, "%s%s%s", text, n ? " " : "", line + 1 + strspn(line + 1, " "));
    }
    fclose(in);
    return text;
}

static bool sparsity_row(struct cli *c, const char *name, struct table *t, struct err *e)
{
    const char *path = preset_find("sparsity", name, err_at_name(NULL), c->a, e);
    const char *text = path ? comment_of(c, path, false, e) : NULL;
    if (!text)
        return false;
    table_str(t, name);
    table_str(t, text);
    return true;
}

static bool sparsity_facts(struct cli *c, const char *name, struct table *t, struct err *e)
{
    const char *path = preset_find("sparsity", name, err_at_name(NULL), c->a, e);
    const char *text = path ? comment_of(c, path, true, e) : NULL;
    if (!text)
        return false;
    fact(t, "name", name);
    fact(t, "what it is", text);
    return true;
}

/* ---- calibrated collectives ---- */

static const struct table_col net_cols[] = {{"name", "net", TABLE_STR, 0},
                                            {"curves", "curves", TABLE_INT, 0},
                                            {"source", "source", TABLE_STR, 0}};

static bool net_row(struct cli *c, const char *name, struct table *t, struct err *e)
{
    const struct prof_net *p = prof_net_load(name, err_at_name(NULL), c->a, e);
    if (!p)
        return false;
    table_str(t, name);
    table_int(t, p->curve_count);
    table_str(t, p->source);
    return true;
}

static bool net_facts(struct cli *c, const char *name, struct table *t, struct err *e)
{
    const struct prof_net *p = prof_net_load(name, err_at_name(NULL), c->a, e);
    if (!p)
        return false;
    fact(t, "name", name);
    for (int i = 0; i < p->curve_count; i++) {
        const struct prof_curve *k = &p->curves[i];
        fact(t,
             arena_printf(c->a, "%s, %d GPUs, %d nodes", coll_op_names[k->op], k->gpus, k->nodes),
             arena_printf(c->a, "%d points, %s to %s", k->count, QTY(k->bytes[0], QTY_BYTES),
                          QTY(k->bytes[k->count - 1], QTY_BYTES)));
    }
    fact(t, "source", p->source);
    return true;
}

/* ---- strategies ---- */

static const struct table_col strategy_cols[] = {{"name", "strategy", TABLE_STR, 0},
                                                 {"what", "what it does", TABLE_STR, 0}};

static bool strategy_row(struct cli *c, const char *name, struct table *t, struct err *e)
{
    (void)c;
    (void)e;
    table_str(t, name);
    table_str(t, cp_strategies[cp_strategy_of(name)].what);
    return true;
}

static const char *const moves[] = {[MOVE_NONE] = "stays",
                                    [MOVE_ROWS] = "needed rows by all-to-all",
                                    [MOVE_ALL_ROWS] = "all rows by all-to-all",
                                    [MOVE_ALLGATHER] = "all-gather",
                                    [MOVE_RING] = "ring"};

static bool strategy_facts(struct cli *c, const char *name, struct table *t, struct err *e)
{
    (void)c;
    int s = cp_strategy_of(name);
    if (s < 0) {
        const char *near = nearest_name(name, cp_strategy_names);
        return err_set(e, ERR_INPUT, err_at_name(NULL),
                       "no strategy '%.80s'%s%s%s `shardwise show strategies` lists them", name,
                       near ? "; did you mean '" : "", near ? near : "", near ? "'?" : ";");
    }
    const struct cp_strategy_info *i = &cp_strategies[s];
    fact(t, "name", i->name);
    fact(t, "what it does", i->what);
    fact(t, "head groups",
         i->rows ? i->balanced   ? "balanced by work"
                   : i->permutes ? "equal counts by work"
                                 : "equal counts"
                 : "none");
    fact(t, "sequence groups", i->columns ? "yes" : "none");
    fact(t, "KV between sequence groups", moves[i->move]);
    return true;
}

/* ---- programs ---- */

static const struct table_col program_cols[] = {{"name", "program", TABLE_STR, 0},
                                                {"about", "what for", TABLE_STR, 0},
                                                {"strategies", "runs", TABLE_STR, 0}};

static const char *strategies_of(struct cli *c, const struct launch *l)
{
    const char *text = "";
    for (int s = 0; s < CP_STRATEGIES; s++)
        if (l->strategies[s])
            text = arena_printf(c->a, "%s%s%s", text, *text ? ", " : "", cp_strategies[s].name);
    return text;
}

static bool program_row(struct cli *c, const char *name, struct table *t, struct err *e)
{
    const struct launch *l = launch_load(name, err_at_name(NULL), c->a, e);
    if (!l)
        return false;
    table_str(t, l->name);
    table_str(t, l->about);
    table_str(t, strategies_of(c, l));
    return true;
}

static bool program_facts(struct cli *c, const char *name, struct table *t, struct err *e)
{
    const struct launch *l = launch_load(name, err_at_name(NULL), c->a, e);
    if (!l)
        return false;
    fact(t, "name", l->name);
    fact(t, "what for", l->about);
    fact(t, "runs", strategies_of(c, l));
    fact(t, "each block", l->each_block ? "a word of its own" : "the same");
    if (l->settings)
        fact(t, "settings", l->settings);
    for (int s = 0; s < CP_STRATEGIES; s++)
        if (l->also[s])
            fact(t, arena_printf(c->a, "with %s", cp_strategies[s].name), l->also[s]);
    if (l->tensor)
        fact(t, "with TP", *l->tensor ? l->tensor : "nothing more");
    for (int s = 0; sharding_names[s]; s++)
        if (l->sharding[s])
            fact(t, arena_printf(c->a, "with %s", sharding_names[s]), l->sharding[s]);
    fact(t, "source", l->source);
    return true;
}

/* ---- the command ---- */

#define COLS(c) (c), sizeof(c) / sizeof *(c)

static const struct shown shown[] = {
    {"models", "model", "model", NULL, COLS(model_cols), model_row, model_facts},
    {"clusters", "cluster", "cluster", NULL, COLS(cluster_cols), cluster_row, cluster_facts},
    {"gpus", "gpu", "gpu", NULL, COLS(gpu_cols), gpu_row, gpu_facts},
    {"kernels", "kernel", "kernel", NULL, COLS(kernel_cols), kernel_row, kernel_facts},
    {"sparsities", "sparsity", "sparsity", NULL, COLS(sparsity_cols), sparsity_row, sparsity_facts},
    {"nets", "net", "net", NULL, COLS(net_cols), net_row, net_facts},
    {"strategies", "strategy", NULL, cp_strategy_names, COLS(strategy_cols), strategy_row,
     strategy_facts},
    {"programs", "program", "program", NULL, COLS(program_cols), program_row, program_facts},
};
enum { SHOWN = sizeof shown / sizeof *shown };
static const char *const plurals[] = {"models", "clusters",   "gpus",     "kernels", "sparsities",
                                      "nets",   "strategies", "programs", NULL};

static const struct shown *shown_find(const char *name, struct err *e)
{
    for (int i = 0; i < SHOWN; i++)
        if (strcmp(name, shown[i].plural) == 0 || strcmp(name, shown[i].singular) == 0)
            return &shown[i];
    const char *near = nearest_name(name, plurals);
    err_set(e, ERR_INPUT, err_at_name(NULL),
            "'%.80s' cannot be shown%s%s%s there are models, clusters, gpus, kernels, "
            "sparsities, nets, strategies and programs",
            name, near ? "; did you mean '" : "", near ? near : "", near ? "'?" : ";");
    return NULL;
}

static struct table *show_list(struct cli *c, const struct shown *s, const char *const *names,
                               struct err *e)
{
    struct table *t = table_new(c->a, s->cols, s->col_count);
    for (int i = 0; names[i]; i++)
        if (!s->row(c, names[i], t, e))
            return NULL;
    return t;
}

static struct table *show_one(struct cli *c, const struct shown *s, const char *name, struct err *e)
{
    static const struct table_col cols[] = {{"property", "property", TABLE_STR, 0},
                                            {"value", "value", TABLE_STR, 0}};
    struct table *t = table_new(c->a, cols, 2);
    if (s->preset) { /* noted if it is a file; a cluster's name need not be one */
        struct err no_file = {0};
        cli_input(c, s->preset, name, &no_file);
    }
    return s->facts(c, name, t, e) ? t : NULL;
}

/* ---- as a file ---- */

static void put_link(FILE *out, const char *key, const struct hw_link *l, const char *more)
{
    fprintf(out, "%s: {rate: %s, latency: %s, efficiency: %s%s}\n", key,
            QTY(l->bytes_per_s, QTY_BYTES_PER_S), QTY(l->latency_s, QTY_SECONDS),
            QTY(l->efficiency, QTY_RATIO), more);
}

/* Presets leave nodes and rate to the name: a file has both. */
static bool cluster_file(struct cli *c, const char *name, FILE *out, struct err *e)
{
    struct err not_whole = {0};
    const struct hw_cluster *k = hw_cluster_load(name, err_at_name(NULL), c->a, &not_whole);
    if (!k && !(k = node_preset(c, name, e)))
        return false;
    fprintf(out, "name: ours\nsource: \"%s\"\ngpu: %s\nnodes: %d\ngpus_per_node: %d\n", k->source,
            k->gpu.name, k->nodes, k->gpus_per_node);
    put_link(out, "nvlink", &k->nvlink, "");
    put_link(out, "nic", &k->nic, arena_printf(c->a, ", gpus_per_nic: %d", k->gpus_per_nic));
    fprintf(out, "pcie: %s\n", QTY(k->pcie_bytes_per_s, QTY_BYTES_PER_S));
    return true;
}

static bool put_file(struct cli *c, const struct shown *s, const char *name, struct err *e)
{
    FILE *out = cli_out(c, e), *in;
    if (!out || strcmp(s->singular, "cluster") == 0)
        return out && cluster_file(c, name, out, e);
    const char *path = preset_find(s->preset, name, err_at_name(NULL), c->a, e);
    if (!path)
        return false;
    if (!(in = fopen(path, "r")))
        return err_open(e, err_at_name(path));
    char buffer[4096];
    for (size_t n; (n = fread(buffer, 1, sizeof buffer, in)) > 0;)
        fwrite(buffer, 1, n, out);
    fclose(in);
    return true;
}

static bool run(struct cli *c, struct err *e)
{
    const struct shown *s = shown_find(args_operand(c->args, 0), e);
    const char *one = args_operands(c->args) > 1 ? args_operand(c->args, 1) : NULL;
    const char *const *names = !s          ? NULL
                               : s->preset ? (const char *const *)preset_list(s->preset, c->a, e)
                                           : s->names;
    if (!names)
        return false;
    if (args_given(c->args, "file") && !(one && s->preset))
        return err_set(e, ERR_INPUT, err_at_name("--file"),
                       "needs the name of one that is a file: show cluster 24x8-b200 --file");
    if (args_given(c->args, "file"))
        return put_file(c, s, one, e);
    bool only_names = args_given(c->args, "names");
    struct table *t = only_names ? NULL : one ? show_one(c, s, one, e) : show_list(c, s, names, e);
    FILE *out = t || only_names ? cli_out(c, e) : NULL;
    if (!out)
        return false;
    if (t)
        cli_table(c, t, one ? s->singular : s->plural, out);
    for (int i = 0; only_names && names[i]; i++)
        fprintf(out, "%s\n", names[i]);
    return true;
}

static const struct arg_group show_options = {
    "Options", (const struct arg_option[]){
                   OPTION_FLAG("names", "only the names, one a line"),
                   OPTION_FLAG("file", "one as a file, to change and to plan with"), OPTION_END}};

const struct command cmd_show = {
    .name = "show",
    .brief = "list models, clusters, GPUs, kernels, programs and the like; or one in detail",
    .usage = "models|clusters|gpus|kernels|sparsities|nets|strategies|programs [NAME]",
    .example = "shardwise show models\nshardwise show cluster 2x8-h100-400g\n"
               "shardwise show cluster 24x8-b200 --file > ours.yaml",
    .about = "Presets are files: a folder named by the environment variable SHARDWISE_PRESETS is "
             "looked into first. Each number's "
             "source stands in its file; --file prints it, as a beginning of your own "
             "(docs/formats.md).",
    .groups = (const struct arg_group *const[]){&show_options, &cli_output_options, NULL},
    .operands_least = 1,
    .operands_most = 2,
    .operands = plurals,
    .run = run,
};
