/* replan: how often a plan must be made anew while sparsity moves, and what a stale one costs. */
#include <math.h>
#include <string.h>

#include "cli/schedule.h"
#include "cli/whatif.h"
#include "planner/batch.h"
#include "planner/budget.h"
#include "planner/replan.h"
#ifdef SHARDWISE_TRACES
#include "traces/measured.h"
#endif

enum { POINTS_MOST = 129, POINTS_USUAL = 17 };

static const struct arg_group run_options = {
    "The run",
    (const struct arg_option[]){
#ifdef SHARDWISE_TRACES
        SCHEDULE_OPTION,
        OPTION_QTY("train-steps", QTY_NUMBER, "N", "with --schedule: optimizer steps: 300k"),
        OPTION_INT("points", 2, POINTS_MOST, "N", "with --schedule: steps that are looked at (17)"),
#endif
        OPTION_QTY("replan-time", QTY_SECONDS, "TIME", "all GPUs wait, at each new plan: 60 s"),
        OPTION_END}};

struct point { /* one step of the run that is looked at */
    struct plan_request r;
    const struct plan *plan;
    double keep;
};

struct replan {
    struct cli *c;
    struct replan_run run;
    struct point *point;
    double batch;
    int best, *best_at, pace, *pace_at, always, *always_at;
};

/* ---- the points ---- */

/* The request as the command line has it, at another step of its trace. Inputs were noted before.
 */
static bool request_at(const struct cli *c, int64_t step, struct plan_request *r, struct err *e)
{
    struct arg_setting set = {"step", arena_printf(c->a, "%lld", (long long)step)};
    struct cli quiet = *c;
    quiet.prov = prov_new(c->a, 0, NULL, 0);
    return whatif_request(&quiet, &set, step < 0 ? 0 : 1, c->a, r, e);
}

static bool trace_steps(const char *name, struct err_at at, struct arena *a, int64_t **steps,
                        int *count, struct err *e)
{
#ifdef SHARDWISE_TRACES
    if (measured_is_trace(name))
        return measured_steps(name, a, steps, count, e);
#endif
    return sparsity_steps(name, at, a, steps, count, e);
}

static bool trace_points(struct replan *k, double *step, struct err *e)
{
    const struct args *g = k->c->args;
    const char *name = args_text(g, "trace");
    struct err_at at = args_at(g, "trace");
    int64_t *steps;
    int count;
    if (!name || args_given(g, "step"))
        return err_set(e, ERR_INPUT, err_at_name("replan"),
                       "want a --trace of several steps (without --step), or --schedule");
    if (!trace_steps(name, at, k->c->a, &steps, &count, e))
        return false;
    if (count == 0)
        return err_set(e, ERR_INPUT, at,
                       "'%s' does not say at which steps it was taken; want a CSV with a column "
                       "'step', or an HDF5 trace, of 2 to %d steps; or --schedule",
                       name, POINTS_MOST);
    if (count < 2 || count > POINTS_MOST)
        return err_set(e, ERR_INPUT, at, "%d steps in '%s'; want 2 to %d", count, name,
                       POINTS_MOST);
    k->run.count = count;
    for (int i = 0; i < count; i++) {
        step[i] = (double)steps[i];
        if (!request_at(k->c, steps[i], &k->point[i].r, e))
            return false;
    }
    return true;
}

#ifdef SHARDWISE_TRACES
static bool schedule_points(struct replan *k, double *step, struct err *e)
{
    const struct args *g = k->c->args;
    struct profile p;
    double steps = args_qty_or(g, "train-steps", 0);
    if (!args_given(g, "schedule"))
        return trace_points(k, step, e);
    if (!schedule_read(k->c, &p, e))
        return false;
    if (!(steps >= 2 && steps < 1e15))
        return err_set(e, ERR_INPUT, args_at(g, "train-steps"),
                       "want the steps of the run with --schedule, 2 or more");
    k->run.count = (int)args_int_or(g, "points", POINTS_USUAL);
    budget_bounds(0, steps, k->run.count - 1, step);
    for (int i = 0; i < k->run.count; i++) {
        k->point[i].r = k->point[0].r;
        k->point[i].r.c.sparsity = schedule_at(k->c, &p, k->point[0].r.c.sparsity, step[i]);
    }
    return true;
}
#endif

static bool read_points(struct replan *k, struct err *e)
{
    double *step = ARENA_ARRAY(k->c->a, double, POINTS_MOST);
    struct plan_request *first;
    k->point = ARENA_ARRAY(k->c->a, struct point, POINTS_MOST);
    first = &k->point[0].r;
    if (!whatif_request(k->c, NULL, 0, k->c->a, first, e) ||
        !args_need(k->c->args, "replan-time", e))
        return false;
    if (first->phase != PLAN_STEP || first->c.options.inference)
        return err_set(e, ERR_INPUT,
                       err_at_name(first->c.options.inference ? "--inference" : "--phase"),
                       "a training run is made of whole steps");
    k->run.replan_s = args_qty_or(k->c->args, "replan-time", 0);
    if (!(k->run.replan_s > 0))
        return err_set(e, ERR_INPUT, args_at(k->c->args, "replan-time"), "want it above 0");
    k->run.step = step;
#ifdef SHARDWISE_TRACES
    return schedule_points(k, step, e);
#else
    return trace_points(k, step, e);
#endif
}

/* ---- plans, and their times later on ---- */

static bool plan_points(struct replan *k, struct err *e)
{
    k->batch = k->point[0].r.batch;
    for (int i = 0; i < k->run.count; i++) {
        struct plan_found f;
        whatif_progress("planning each point");
        k->point[i].r.batch = k->batch;
        if (!plan_search(&k->point[i].r, &f, k->c->a, e))
            return false;
        k->point[i].plan = f.plan;
        k->point[i].keep = schedule_mean_keep(k->point[i].r.c.sparsity);
        if (!(k->batch > 0)) /* the first plan's, and then every plan's */
            k->batch = k->point[0].r.batch = plan_step_samples(&k->point[0].r, f.plan->replicas);
    }
    return true;
}

static bool price_stale(struct replan *k, struct err *e)
{
    size_t n = (size_t)k->run.count;
    double *s = ARENA_ARRAY(k->c->a, double, n *n);
    for (size_t i = 0; i < n; i++)
        for (size_t j = i; j < n; j++) {
            struct plan now;
            arena_reset(k->c->scratch);
            if (!plan_reprice(&k->point[j].r, k->point[i].plan, &now, k->c->scratch, e))
                return false;
            bool fits = now.memory_peak.total <= now.c.cluster->gpu.memory_bytes;
            s[i * n + j] = fits ? plan_batch_s(&k->point[0].r, &now) : INFINITY;
        }
    k->run.step_s = s;
    return true;
}

static void choose(struct replan *k)
{
    int n = k->run.count;
    k->best_at = ARENA_ARRAY(k->c->a, int, n);
    k->pace_at = ARENA_ARRAY(k->c->a, int, n);
    k->always_at = ARENA_ARRAY(k->c->a, int, n);
    k->best = replan_best(&k->run, k->best_at, k->c->a);
    k->pace = replan_by_pace(&k->run, k->pace_at);
    for (k->always = 0; k->always < n - 1; k->always++)
        k->always_at[k->always] = k->always;
}

/* ---- output ---- */

static bool among(const int *at, int count, int i)
{
    bool is = false;
    for (int k = 0; k < count; k++)
        is = is || at[k] == i;
    return is;
}

static struct table *points_table(const struct replan *k)
{
    static const struct table_col cols[] = {
        {"step", "step", TABLE_QTY, QTY_NUMBER},
        {"keep", "mean keep", TABLE_QTY, QTY_RATIO},
        {"cp", "CP", TABLE_INT, 0},
        {"step_s", "its own plan", TABLE_QTY, QTY_SECONDS},
        {"first_step_s", "the first plan", TABLE_QTY, QTY_SECONDS},
        {"first_regret", "longer by", TABLE_QTY, QTY_RATIO},
        {"slope_s", "a, a step", TABLE_QTY, QTY_SECONDS},
        {"interval_steps", "new plan after, steps", TABLE_QTY, QTY_NUMBER},
        {"new_plan", "best: new plan", TABLE_STR, 0}};
    struct table *t = table_new(k->c->a, cols, sizeof cols / sizeof *cols);
    size_t n = (size_t)k->run.count;
    for (size_t i = 0; i < n; i++) {
        struct replan_pace pace = replan_pace(&k->run, (int)i);
        double own = k->run.step_s[i * n + i], first = k->run.step_s[i];
        table_num(t, k->run.step[i]);
        table_num(t, k->point[i].keep);
        table_int(t, k->point[i].plan->cp);
        table_num(t, own);
        table_num(t, isfinite(first) ? first : NAN);
        table_num(t, isfinite(first) ? replan_regret(&k->run, 0, (int)i) / own : NAN);
        table_num(t, i + 1 < n ? pace.slope : NAN);
        table_num(t, isfinite(pace.interval) ? pace.interval : NAN);
        table_str(t, among(k->best_at, k->best, (int)i) ? "yes" : "no");
    }
    return t;
}

static struct table *policies_table(const struct replan *k)
{
    static const struct table_col cols[] = {{"policy", "new plans", TABLE_STR, 0},
                                            {"plans", "plans", TABLE_INT, 0},
                                            {"run_s", "steps and waits", TABLE_QTY, QTY_SECONDS},
                                            {"over_best", "over best", TABLE_QTY, QTY_RATIO}};
    static const int only_first[1] = {0};
    const struct {
        const char *name;
        const int *at;
        int count;
    } of[] = {{"best of these points", k->best_at, k->best},
              {"when age x regret pays", k->pace_at, k->pace},
              {"at every point", k->always_at, k->always},
              {"never", only_first, 1}};
    struct table *t = table_new(k->c->a, cols, sizeof cols / sizeof *cols);
    double best = replan_total_s(&k->run, k->best_at, k->best);
    for (size_t i = 0; i < sizeof of / sizeof *of; i++) {
        double s = replan_total_s(&k->run, of[i].at, of[i].count);
        table_str(t, of[i].name);
        table_int(t, of[i].count);
        table_num(t, isfinite(s) ? s : NAN);
        table_num(t, isfinite(s) ? s / best - 1 : NAN);
    }
    return t;
}

#define NUMBER(n) qty_text((n), QTY_NUMBER, QTY_BUF)
#define TIME(s)   qty_text((s), QTY_SECONDS, QTY_BUF)

static void put_words(const void *data, FILE *out)
{
    const struct replan *k = data;
    const struct plan *p = k->point[0].plan;
    double best = replan_total_s(&k->run, k->best_at, k->best), never;
    static const int only_first[1] = {0};
    never = replan_total_s(&k->run, only_first, 1);
    fprintf(out, "%s, %s tokens on %s: steps %s to %s of %s samples; a new plan takes %s.\n",
            p->c.model->name, NUMBER((double)p->c.video_tokens), p->c.cluster->name,
            NUMBER(k->run.step[0]), NUMBER(k->run.step[k->run.count - 1]), NUMBER(k->batch),
            TIME(k->run.replan_s));
    if (k->best == 1) {
        fputs("The first plan is good for all of them: no other pays for its wait.\n", out);
        return;
    }
    fprintf(out, "Plan anew %d times, at step", k->best - 1);
    for (int i = 1; i < k->best; i++)
        fprintf(out, "%s %s",
                i == 1             ? ""
                : i + 1 == k->best ? " and"
                                   : ",",
                NUMBER(k->run.step[k->best_at[i]]));
    fprintf(out, ": %s of steps and waits. ", TIME(best));
    if (isfinite(never))
        fprintf(out, "The first plan throughout: %s, %s more.\n", TIME(never),
                qty_text(never / best - 1, QTY_RATIO, QTY_BUF));
    else
        fputs("The first plan would not fit in memory all along.\n", out);
}

static bool run(struct cli *c, struct err *e)
{
    struct replan k = {.c = c};
    if (!read_points(&k, e) || !plan_points(&k, e) || !price_stale(&k, e))
        return false;
    choose(&k);
    whatif_progress(NULL);
    const struct table *points = points_table(&k);
    const struct cli_fact facts[] = {{"batch", k.batch}, {"replan_s", k.run.replan_s}, {0}};
    const struct cli_part parts[] = {
        {"policies", NULL, policies_table(&k)}, {"points", NULL, points}, {0}};
    return cli_answer(c, &(struct cli_answer){put_words, &k, facts, parts, points}, e);
}

const struct command cmd_replan = {
    .name = "replan",
    .brief = "say how often to plan anew while sparsity moves, and what a stale plan costs",
    .usage = "--model M --cluster C (--clip HxWxF | --grid TxHxW | --tokens S) (--schedule PROFILE "
             "--train-steps N | --trace FILE) --replan-time TIME [options]",
    .example = "shardwise replan --model dsv-2.7b --cluster 1x8-h100 --cp 8 --tokens 128k "
               "--kernels dsv-triton --schedule dsv --train-steps 300k --replan-time 60s",
    .about =
        "Plans at several steps of the run - those of a trace, or of a schedule, closer in the "
        "beginning - and prices each plan under the sparsity of every later one. The regret of a "
        "stale plan grows with its age. With waits of C at each new plan, the best age is where "
        "age "
        "x regret less the regret so far makes C: sqrt(2C/a) for a regret that grows by a each "
        "step. Which of the points are best is also found exactly, beside new plans at every point "
        "and never.\n\n"
        "Between points, times are straight lines. A new plan may have another CP degree unless "
        "--cp is given: the wait must cover it.",
    .groups = (const struct arg_group *const[]){&workload_clip, &run_options, &workload_place,
                                                &workload_sparsity, &workload_training,
                                                &whatif_eval, &cli_output_options, NULL},
    .run = run,
};
