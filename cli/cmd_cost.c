/* cost: GPU-hours, days and money of a training run, dense beside sparse, while sparsity moves over
 * the run. Work is counted in samples of one batch, so runs of different CP degrees compare. */
#include <math.h>
#include <string.h>

#include "cli/schedule.h"
#include "cli/whatif.h"
#include "planner/budget.h"

enum { STAGES_MOST = 1000, STAGES_USUAL = 16, RUNS = 2 };

static const struct arg_group run_options = {
    "The run",
    (const struct arg_option[]){
        OPTION_QTY("train-samples", QTY_NUMBER, "N", "samples to train on: 1M"),
        OPTION_QTY("train-tokens", QTY_NUMBER, "N", "video tokens to train on instead: 100G"),
        OPTION_QTY("train-steps", QTY_NUMBER, "N", "optimizer steps instead: 300k"),
#ifdef SHARDWISE_TRACES
        SCHEDULE_OPTION,
        OPTION_INT("stages", 1, STAGES_MOST, "N", "with --schedule: times it is planned anew (16)"),
#endif
        OPTION_QTY("dense-first", QTY_NUMBER, "N", "steps that run dense before sparse ones (0)"),
        OPTION_END}};

static const struct arg_group price_options = {
    "Price, and time that is not steps (none unless given)",
    (const struct arg_option[]){
        OPTION_QTY("price", QTY_NUMBER, "P", "of a GPU-hour (the cluster file's, else none)"),
        OPTION_QTY("overhead", QTY_RATIO, "SHARE", "evaluation, data, logging: 3%"),
        OPTION_QTY("replan-time", QTY_SECONDS, "TIME", "all GPUs wait, at each new plan"),
        OPTION_QTY("save-every", QTY_SECONDS, "TIME", "between checkpoints: 1h"),
        OPTION_QTY("save-time", QTY_SECONDS, "TIME", "to write one, all GPUs wait"),
        OPTION_QTY("gpu-mtbf", QTY_SECONDS, "TIME",
                   "mean time between failures of one GPU; needs --save-every and --restart"),
        OPTION_QTY("restart", QTY_SECONDS, "TIME", "from a failure until steps go on"),
        OPTION_END}};

struct stage { /* what a plan says of steps [from, to) */
    struct budget_stage budget;
    struct plan_fit fit;
    double keep; /* mean over blocks and heads */
};

struct run_cost {
    const char *name;
    int stages;
    struct stage *stage;
    struct interval gpu_s; /* of the steps alone */
    double wall_s, low_s, high_s;
};

struct cost {
    struct cli *c;
    struct plan_request r;
    struct budget_extra extra;
    double batch, samples, steps, price; /* price NaN: none */
    const char *price_from;
    struct run_cost run[RUNS]; /* dense, sparse */
};

/* ---- what is asked ---- */

static bool read_extra(struct cost *k, struct err *e)
{
    const struct args *g = k->c->args;
    k->extra = (struct budget_extra){.overhead = args_qty_or(g, "overhead", 0),
                                     .replan_s = args_qty_or(g, "replan-time", 0),
                                     .save_every_s = args_qty_or(g, "save-every", 0),
                                     .save_s = args_qty_or(g, "save-time", 0),
                                     .gpu_mtbf_s = args_qty_or(g, "gpu-mtbf", 0),
                                     .restart_s = args_qty_or(g, "restart", 0)};
    if (args_given(g, "save-time") && !(k->extra.save_every_s > 0))
        return err_set(e, ERR_INPUT, args_at(g, "save-time"), "needs --save-every above 0");
    if (args_given(g, "gpu-mtbf") &&
        !(k->extra.gpu_mtbf_s > 0 && k->extra.save_every_s > 0 && args_given(g, "restart")))
        return err_set(e, ERR_INPUT, args_at(g, "gpu-mtbf"),
                       "want it above 0, together with --save-every and --restart");
    if (args_given(g, "restart") && !args_given(g, "gpu-mtbf"))
        return err_set(e, ERR_INPUT, args_at(g, "restart"), "goes with --gpu-mtbf");
    return true;
}

static void read_price(struct cost *k)
{
    double listed = k->r.c.cluster->usd_per_gpu_hour;
    k->price = args_qty_or(k->c->args, "price", listed > 0 ? listed : NAN);
    k->price_from = args_given(k->c->args, "price") ? "--price" : k->r.c.cluster->source;
}

static bool read_run(struct cost *k, struct err *e)
{
    if (!whatif_request(k->c, NULL, 0, k->c->a, &k->r, e))
        return false;
    if (k->r.phase != PLAN_STEP || k->r.c.options.inference)
        return err_set(e, ERR_INPUT,
                       err_at_name(k->r.c.options.inference ? "--inference" : "--phase"),
                       "a training run is made of whole steps");
    read_price(k);
    return read_extra(k, e);
}

/* The batch is the dense plan's unless it was given, and is then every plan's; then the run in
 * samples and in steps. */
static bool read_length(struct cost *k, const struct plan_fit *dense, struct err *e)
{
    static const char *const forms[] = {"train-samples", "train-tokens", "train-steps", NULL};
    const struct args *g = k->c->args;
    const char *form = args_one_of(g, forms, true, e);
    if (!form)
        return false;
    double n = args_qty_or(g, form, 0);
    k->batch = k->r.batch > 0 ? k->r.batch : dense->replicas * dense->samples;
    k->r.batch = k->batch;
    k->samples = strcmp(form, "train-samples") == 0  ? n
                 : strcmp(form, "train-tokens") == 0 ? n / (double)k->r.c.video_tokens
                                                     : n * k->batch;
    k->steps = k->samples / k->batch;
    if (k->samples > 0 && k->samples < 1e18)
        return true;
    return err_set(e, ERR_INPUT, args_at(g, form), "'%s' is out of range: want above 0",
                   args_text(g, form));
}

/* ---- plans ---- */

static struct plan_request stage_request(const struct cost *k, const struct sparsity *s,
                                         enum dispatch dispatch)
{
    struct plan_request r = k->r;
    r.c.sparsity = s;
    r.dispatch = dispatch;
    return r;
}

/* ERR_INFEASIBLE with the nearest miss when it does not fit. */
static bool take_fit(const struct sparsity *s, const struct plan_fit *f, struct stage *out,
                     struct err *e)
{
    if (f->verdict != FIT_YES)
        return err_set(e, f->verdict == FIT_MEMORY ? ERR_INFEASIBLE : ERR_INPUT, err_at_name(NULL),
                       "%s%s", f->verdict == FIT_MEMORY ? "it does not fit: " : "", f->reason);
    double gpus = f->gpus / f->samples_per_s / f->step.value_s; /* of a sample */
    out->fit = *f;
    out->keep = schedule_mean_keep(s);
    out->budget.gpu_s_sample =
        (struct interval){gpus * f->step.value_s, gpus * f->step.low_s, gpus * f->step.high_s};
    return true;
}

static bool plan_stage(struct cost *k, const struct sparsity *s, enum dispatch dispatch,
                       struct stage *out, struct err *e)
{
    struct plan_request r = stage_request(k, s, dispatch);
    struct plan_fit f;
    whatif_progress("planning");
    return plan_fit_all(&r, 1, &(struct plan_limits){0}, &f, e) && take_fit(s, &f, out, e);
}

static bool dense_stage(struct cost *k, struct stage *out, struct err *e)
{
    struct sparsity *s = ARENA_NEW(k->c->a, struct sparsity);
    const struct sparsity *given = k->r.c.sparsity;
    return sparsity_uniform(1, given->blocks, given->heads, k->c->a, s, e) &&
           plan_stage(k, s, DISPATCH_DENSE, out, e);
}

static bool plan_dense(struct cost *k, struct err *e)
{
    struct run_cost *d = &k->run[0];
    *d = (struct run_cost){.name = "dense", .stages = 1, .stage = ARENA_NEW(k->c->a, struct stage)};
    if (!dense_stage(k, d->stage, e) || !read_length(k, &d->stage->fit, e))
        return false;
    d->stage->budget.to = k->steps;
    return true;
}

#ifdef SHARDWISE_TRACES
/* Keeps at the middle of each stage. */
static void scheduled_requests(const struct cost *k, const struct profile *p, const double *bounds,
                               int count, struct plan_request *r)
{
    for (int i = 0; i < count; i++)
        r[i] = stage_request(
            k, schedule_at(k->c, p, k->r.c.sparsity, 0.5 * (bounds[i] + bounds[i + 1])),
            k->r.dispatch);
}

static bool same_keeps(const struct sparsity *a, const struct sparsity *b)
{
    size_t n = (size_t)a->blocks * (size_t)a->heads;
    return memcmp(a->keep, b->keep, n * sizeof *a->keep) == 0;
}

/* Plans of r[0 .. count - 1]; a run of equal keeps, as `levels` has them, is planned once. */
static bool plan_requests(const struct cost *k, const struct plan_request *r, int count,
                          struct plan_fit *out, struct err *e)
{
    struct plan_request *distinct = ARENA_ARRAY(k->c->a, struct plan_request, count);
    struct plan_fit *f = ARENA_ARRAY(k->c->a, struct plan_fit, count);
    int *of = ARENA_ARRAY(k->c->a, int, count), n = 0;
    for (int i = 0; i < count; i++) {
        if (i == 0 || !same_keeps(r[i].c.sparsity, r[i - 1].c.sparsity))
            distinct[n++] = r[i];
        of[i] = n - 1;
    }
    whatif_progress(arena_printf(k->c->a, "planning %d stages", n));
    if (!plan_fit_all(distinct, n, &(struct plan_limits){0}, f, e))
        return false;
    for (int i = 0; i < count; i++)
        out[i] = f[of[i]];
    return true;
}

static bool plan_scheduled(struct cost *k, double dense_first, struct run_cost *s, struct err *e)
{
    struct profile p;
    int count = (int)args_int_or(k->c->args, "stages", STAGES_USUAL);
    double *bounds = ARENA_ARRAY(k->c->a, double, count + 1);
    struct plan_request *r = ARENA_ARRAY(k->c->a, struct plan_request, count);
    struct plan_fit *f = ARENA_ARRAY(k->c->a, struct plan_fit, count);
    if (!schedule_read(k->c, &p, e))
        return false;
    budget_bounds(dense_first, k->steps, count, bounds);
    scheduled_requests(k, &p, bounds, count, r);
    if (!plan_requests(k, r, count, f, e))
        return false;
    for (int i = 0; i < count; i++) {
        struct stage *t = &s->stage[s->stages++];
        if (!take_fit(r[i].c.sparsity, &f[i], t, e))
            return false;
        t->budget.from = bounds[i];
        t->budget.to = bounds[i + 1];
    }
    return true;
}
#endif

/* The keeps of the command line for the whole run. */
static bool plan_constant(struct cost *k, double dense_first, struct run_cost *s, struct err *e)
{
    struct stage *t = &s->stage[s->stages++];
    if (!plan_stage(k, k->r.c.sparsity, k->r.dispatch, t, e))
        return false;
    t->budget.from = dense_first;
    t->budget.to = k->steps;
    return true;
}

static bool plan_sparse(struct cost *k, struct err *e)
{
    struct run_cost *s = &k->run[1];
    double dense_first = fmin(args_qty_or(k->c->args, "dense-first", 0), k->steps);
    *s = (struct run_cost){.name = "sparse",
                           .stage = ARENA_ARRAY(k->c->a, struct stage, STAGES_MOST + 1)};
    if (dense_first > 0) {
        s->stage[s->stages] = k->run[0].stage[0];
        s->stage[s->stages++].budget.to = dense_first;
    }
    if (dense_first >= k->steps)
        return true;
#ifdef SHARDWISE_TRACES
    if (args_given(k->c->args, "schedule"))
        return plan_scheduled(k, dense_first, s, e);
#endif
    return plan_constant(k, dense_first, s, e);
}

static bool add_up(struct cost *k, struct run_cost *s, struct err *e)
{
    int gpus = hw_gpus(k->r.c.cluster);
    struct budget_stage *b = ARENA_ARRAY(k->c->a, struct budget_stage, s->stages);
    for (int i = 0; i < s->stages; i++)
        b[i] = s->stage[i].budget;
    s->gpu_s = budget_gpu_s(b, s->stages, k->batch);
    return budget_wall_s(s->gpu_s.value_s / gpus, gpus, s->stages, &k->extra, &s->wall_s, e) &&
           budget_wall_s(s->gpu_s.low_s / gpus, gpus, s->stages, &k->extra, &s->low_s, e) &&
           budget_wall_s(s->gpu_s.high_s / gpus, gpus, s->stages, &k->extra, &s->high_s, e);
}

/* ---- output ---- */

static struct table *runs_table(const struct cost *k)
{
    static const struct table_col cols[] = {{"run", "run", TABLE_STR, 0},
                                            {"gpu_hours", "GPU-hours", TABLE_QTY, QTY_NUMBER},
                                            {"gpu_hours_low", "from", TABLE_QTY, QTY_NUMBER},
                                            {"gpu_hours_high", "to", TABLE_QTY, QTY_NUMBER},
                                            {"wall_s", "wall time", TABLE_QTY, QTY_SECONDS},
                                            {"cost", "cost", TABLE_QTY, QTY_NUMBER},
                                            {"cost_low", "from", TABLE_QTY, QTY_NUMBER},
                                            {"cost_high", "to", TABLE_QTY, QTY_NUMBER},
                                            {"of_dense", "of dense", TABLE_QTY, QTY_RATIO},
                                            {"steps_share", "in steps", TABLE_QTY, QTY_RATIO},
                                            {"stages", "stages", TABLE_INT, 0}};
    struct table *t = table_new(k->c->a, cols, sizeof cols / sizeof *cols);
    double gpus = hw_gpus(k->r.c.cluster);
    for (int i = 0; i < RUNS; i++) {
        const struct run_cost *s = &k->run[i];
        double hours = gpus * s->wall_s / 3600, low = gpus * s->low_s / 3600,
               high = gpus * s->high_s / 3600;
        table_str(t, s->name);
        table_num(t, hours);
        table_num(t, low);
        table_num(t, high);
        table_num(t, s->wall_s);
        table_num(t, hours * k->price);
        table_num(t, low * k->price);
        table_num(t, high * k->price);
        table_num(t, s->wall_s / k->run[0].wall_s);
        table_num(t, s->gpu_s.value_s / (gpus * s->wall_s));
        table_int(t, s->stages);
    }
    return t;
}

static struct table *stages_table(const struct cost *k)
{
    static const struct table_col cols[] = {
        {"from_step", "from step", TABLE_QTY, QTY_NUMBER},
        {"to_step", "to step", TABLE_QTY, QTY_NUMBER},
        {"keep", "mean keep", TABLE_QTY, QTY_RATIO},
        {"sparse_blocks", "sparse blocks", TABLE_INT, 0},
        {"cp", "CP", TABLE_INT, 0},
        {"replicas", "replicas", TABLE_INT, 0},
        {"configuration", "split", TABLE_STR, 0},
        {"step_s", "step", TABLE_QTY, QTY_SECONDS},
        {"gpu_s_per_sample", "GPU time/sample", TABLE_QTY, QTY_SECONDS},
        {"memory_bytes", "memory", TABLE_QTY, QTY_BYTES},
        {"gpu_hours", "GPU-hours of steps", TABLE_QTY, QTY_NUMBER}};
    struct table *t = table_new(k->c->a, cols, sizeof cols / sizeof *cols);
    const struct run_cost *s = &k->run[1];
    char conf[96];
    for (int i = 0; i < s->stages; i++) {
        const struct stage *g = &s->stage[i];
        table_num(t, g->budget.from);
        table_num(t, g->budget.to);
        table_num(t, g->keep);
        table_int(t, g->fit.sparse_blocks);
        table_int(t, g->fit.cp);
        table_int(t, g->fit.replicas);
        table_str(t, cp_conf_text(&g->fit.conf, conf, sizeof conf));
        table_num(t, g->fit.step.value_s);
        table_num(t, g->budget.gpu_s_sample.value_s);
        table_num(t, g->fit.memory.total);
        table_num(t, budget_gpu_s(&g->budget, 1, k->batch).value_s / 3600);
    }
    return t;
}

#define NUMBER(n) qty_text((n), QTY_NUMBER, QTY_BUF)

static bool any_sparsity(const struct cost *k)
{
    for (int i = 0; i < k->run[1].stages; i++)
        if (k->run[1].stage[i].keep < 1)
            return true;
    return false;
}

/* Against the best dense kernel, whichever the profile runs: a saving over a slow one is not news.
 */
static void put_saving(const struct cost *k, FILE *out)
{
    const struct cp_case *c = &k->r.c;
    double saved = 1 - k->run[1].wall_s / k->run[0].wall_s,
           even = kern_breakeven(c->kernels, &c->kernels->best, &c->cluster->gpu,
                                 (double)dit_attention_tokens(c->model, 0, c->video_tokens),
                                 c->model->head_dim, k->r.query_group,
                                 c->options.checkpointing == CHECKPOINT_FULL);
    if (!any_sparsity(k)) {
        fprintf(out, "Both runs are dense: %s.\n",
                args_given(k->c->args, "dense-first")
                    ? "--dense-first covers all steps, or no sparsity was given"
                    : "no sparsity was given (--schedule, --keep, --trace)");
        return;
    }
    if (saved > 1e-6)
        fprintf(out, "Sparse attention saves %s of the run. ", qty_text(saved, QTY_RATIO, QTY_BUF));
    else
        fputs("Sparse attention saves nothing here. ", out);
    fprintf(out, "Kernels %s, dense %s: ", c->kernels->name, c->kernels->dense.name);
    if (even < 1)
        fprintf(out, "sparse beats the best dense kernel (%s) above %s sparsity.\n",
                c->kernels->best.name, qty_text(even, QTY_RATIO, QTY_BUF));
    else
        fprintf(out, "sparse never beats the best dense kernel (%s).\n", c->kernels->best.name);
}

static void put_words(const void *data, FILE *out)
{
    const struct cost *k = data;
    const struct run_cost *d = &k->run[0], *s = &k->run[1];
    fprintf(out, "%s, %s tokens on %s: %s samples in %s steps of %s.\n", k->r.c.model->name,
            NUMBER((double)k->r.c.video_tokens), k->r.c.cluster->name, NUMBER(k->samples),
            NUMBER(k->steps), NUMBER(k->batch));
    if (isnan(k->price))
        fputs("No price was given (--price, or usd_per_gpu_hour of a cluster file).\n", out);
    else
        fprintf(out, "A GPU-hour costs %s (%s).\n", NUMBER(k->price), k->price_from);
    put_saving(k, out);
    fputs("Dense. ", out);
    whatif_limiting(&d->stage->fit, out);
    if (!any_sparsity(k))
        return;
    fputs("Sparse, last stage. ", out);
    whatif_limiting(&s->stage[s->stages - 1].fit, out);
}

static bool run(struct cli *c, struct err *e)
{
    struct cost k = {.c = c};
    if (!read_run(&k, e) || !plan_dense(&k, e) || !plan_sparse(&k, e))
        return false;
    for (int i = 0; i < RUNS; i++)
        if (!add_up(&k, &k.run[i], e))
            return false;
    whatif_progress(NULL);
    const struct table *runs = runs_table(&k);
    const struct cli_fact facts[] = {
        {"samples", k.samples}, {"steps", k.steps}, {"batch", k.batch}, {"price", k.price}, {0}};
    const struct cli_part parts[] = {
        {"runs", NULL, runs}, {"stages", "The sparse run, stage by stage:", stages_table(&k)}, {0}};
    return cli_answer(c, &(struct cli_answer){put_words, &k, facts, parts, runs}, e);
}

const struct command cmd_cost = {
    .name = "cost",
    .brief = "count GPU-hours, days and money of a training run, dense and sparse",
    .usage =
        "--model M --cluster C (--clip HxWxF | --grid TxHxW | --tokens S) (--train-samples N | "
        "--train-tokens N | --train-steps N) [--schedule PROFILE] [--price P] [options]",
    .example =
        "shardwise cost --model dsv-2.7b --cluster 4x8-h100 --tokens 128k --train-steps 300k "
        "--batch 32 --schedule dsv --dense-first 5k --price 2.5\n"
        "shardwise cost --model hunyuanvideo-13b --cluster 8x8-h100 --clip 720x1280x129 "
        "--train-samples 1M --overhead 3% --gpu-mtbf 50000h --save-every 1h --restart 15min",
    .about = "Plans the run dense, and sparse with the sparsity that is given: the same for the "
             "whole run, or moving by a --schedule that is planned anew in stages, each at the "
             "middle of its steps. A block runs sparse only where that is faster. A step makes "
             "--batch samples in whole passes of the replicas: a plan of few replicas makes "
             "several, and replicas beyond the batch would wait, so that the CP degree is chosen "
             "for it.\n\n"
             "Nothing is added that was not asked for: prices, overheads, checkpoints and failures "
             "come from options, and only a cluster file that names a price has one. Failures cost "
             "their restart and half an interval between checkpoints each, to first order.",
    .groups =
        (const struct arg_group *const[]){&workload_clip, &run_options, &price_options,
                                          &workload_place, &workload_sparsity, &workload_training,
                                          &whatif_eval, &cli_output_options, NULL},
    .run = run,
};
