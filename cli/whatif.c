#include "cli/whatif.h"

#include <math.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "model/calib.h"
#include "planner/explain.h"
#include "sim/eval.h"
#include "validate/measured.h"

#define TIME(s)  qty_text((s), QTY_SECONDS, QTY_BUF)
#define BYTES(b) qty_text((b), QTY_BYTES, QTY_BUF)

enum { EVAL_COST, EVAL_SIM, EVAL_MEASURED };
static const char *const eval_names[] = {"cost", "sim", "measured", NULL};

const struct arg_group whatif_eval = {
    "Evaluator",
    (const struct arg_option[]){
        OPTION_CHOICE("eval", eval_names, "WHO",
                      "closed forms; simulation as the last word on the 5 best; or closed forms "
                      "with kernels and links fitted to --measured (cost)"),
        OPTION_TEXT("measured", "FIT", "file",
                    "with --eval measured: what `calibrate` fitted to shardwise-run's rows; or "
                    "PLAN,ROWS[,PLAN,ROWS..] to fit now"),
        OPTION_END}};

const struct arg_group whatif_target = {
    "Targets",
    (const struct arg_option[]){
        OPTION_QTY("max-step", QTY_SECONDS, "TIME", "a step may take at most this: 12 s"),
        OPTION_QTY("min-rate", QTY_NUMBER, "RATE", "samples a second, of all replicas, at least"),
        OPTION_FLAG("sure", "targets must hold at the slow end of the 90% interval"), OPTION_END}};

const struct arg_group *const whatif_groups[] = {
    &workload_clip, &workload_place, &workload_sparsity, &workload_training, &whatif_eval, NULL};

/* The text up to the next comma, or NULL at the end; *rest moves behind it. */
static const char *next_name(struct cli *c, const char **rest)
{
    size_t n = strcspn(*rest, ",");
    const char *name = n ? arena_strndup(c->a, *rest, n) : NULL;
    *rest += n + ((*rest)[n] == ',');
    return name;
}

/* Fits kernels and links to the runs named by --measured, or reads such a fit. */
static bool fit_measured(struct cli *c, struct measured_fit *fit, struct err *e)
{
    const char *rest = args_text(c->args, "measured");
    struct measured *m = measured_new(c->a);
    if (!rest)
        return err_set(e, ERR_INPUT, err_at_name("--eval"),
                       "measured needs --measured FIT.json of `shardwise calibrate`, or PLAN,ROWS: "
                       "a plan and the rows of its run");
    if (!strchr(rest, ','))
        return measured_load(rest, fit, c->a, e) && prov_input(c->prov, rest, e);
    while (*rest) {
        const char *plan = next_name(c, &rest), *rows = next_name(c, &rest);
        if (!plan || !rows)
            return err_set(e, ERR_INPUT, err_at_name("--measured"),
                           "want pairs PLAN,ROWS with a comma between all files");
        if (!measured_add(m, plan, rows, e) || !prov_input(c->prov, plan, e) ||
            !prov_input(c->prov, rows, e))
            return false;
    }
    return measured_solve(m, fit, e);
}

/* Kernels that no run had keep the GPU's curves. */
static bool unmeasured_curves(struct cli *c, const struct hw_cluster *cluster,
                              struct measured_fit *fit, struct err *e)
{
    const struct kern_profile *k =
        calib_kernels(&fit->kernels, cluster, args_at(c->args, "measured"), c->a, e);
    if (k)
        fit->kernels = *k;
    return k != NULL;
}

bool whatif_measured(struct cli *c, const struct hw_cluster *cluster, struct plan_eval *out,
                     struct err *e)
{
    struct measured_fit *fit = ARENA_NEW(c->a, struct measured_fit);
    if (!fit_measured(c, fit, e) || !unmeasured_curves(c, cluster, fit, e))
        return false;
    *out = measured_eval(fit);
    return true;
}

void whatif_keep_to_measured(const struct cli *c, struct plan_request *r, const char **kept)
{
    bool sparse;
    *kept = NULL;
    if (args_given(c->args, "dispatch") || !measured_one_kind(r->eval->data, &sparse))
        return;
    r->dispatch = sparse ? DISPATCH_SPARSE : DISPATCH_DENSE;
    *kept = dispatch_names[r->dispatch];
}

/* --eval of a request that is otherwise made. */
static bool set_eval(struct cli *c, struct plan_request *r, struct err *e)
{
    int eval = args_choice_or(c->args, "eval", EVAL_COST);
    struct plan_eval *who = ARENA_NEW(c->a, struct plan_eval);
    if (args_given(c->args, "measured") && eval != EVAL_MEASURED)
        return err_set(e, ERR_INPUT, err_at_name("--measured"), "goes with --eval measured");
    if (eval == EVAL_SIM) {
        *who = sim_eval(NULL);
        r->rerank = who;
    }
    if (eval != EVAL_MEASURED)
        return true;
    if (!whatif_measured(c, r->c.cluster, who, e))
        return false;
    const char *kept;
    r->eval = who;
    whatif_keep_to_measured(c, r, &kept);
    return true;
}

bool whatif_request(const struct cli *c, const struct arg_setting *set, int count, struct arena *a,
                    struct plan_request *r, struct err *e)
{
    struct cli with = *c;
    with.a = a;
    with.args = args_over(c->args, c->command->name, whatif_groups, set, count, a, e);
    return with.args && workload_request(&with, r, e) && set_eval(&with, r, e);
}

struct plan_limits whatif_limits(const struct args *g)
{
    return (struct plan_limits){.step_s = args_qty_or(g, "max-step", 0),
                                .samples_per_s = args_qty_or(g, "min-rate", 0),
                                .sure = args_given(g, "sure")};
}

const char *whatif_range(const struct interval *t, struct arena *a)
{
    return arena_printf(a, " (90%%: %s to %s)", TIME(t->low_s), TIME(t->high_s));
}

const char *whatif_tensor(const struct plan_request *r, struct arena *a)
{
    return r->tensor > 1 ? arena_printf(a, "TP %d, ", r->tensor) : "";
}

const char *whatif_batch(const struct plan_request *r, const struct plan_fit *f, struct arena *a)
{
    return !(r->batch > 0)
               ? ""
               : arena_printf(a, "for %s samples in %s pass%s ",
                              qty_text(r->batch, QTY_NUMBER, QTY_BUF),
                              qty_text(f->passes, QTY_NUMBER, QTY_BUF), f->passes > 1 ? "es" : "");
}

bool whatif_resolution(const char *text, struct err_at at, struct whatif_sides *out, struct err *e)
{
    struct whatif_sides s;
    char rest;
    if (sscanf(text, "%7dx%7d%c", &s.height, &s.width, &rest) != 2 || s.height < 1 || s.width < 1 ||
        s.height > DIT_SIDE_MAX || s.width > DIT_SIDE_MAX)
        return err_set(e, ERR_INPUT, at,
                       "'%.40s' is no resolution, want HEIGHTxWIDTH such as 720x1280", text);
    *out = s;
    return true;
}

static bool timed(const struct plan_fit *f)
{
    return f->verdict == FIT_YES || f->verdict == FIT_SLOW;
}

void whatif_cells(const struct plan_fit *f, struct table *t)
{
    bool known = f->verdict != FIT_IMPOSSIBLE;
    char conf[96];
    table_int(t, f->gpus);
    if (!known) {
        for (int i = 0; i < 3; i++)
            table_str(t, NULL);
    } else {
        table_int(t, f->cp);
        table_int(t, f->replicas);
        table_str(t, cp_conf_text(&f->conf, conf, sizeof conf));
    }
    table_num(t, timed(f) ? f->step.value_s : NAN);
    table_num(t, timed(f) ? f->step.low_s : NAN);
    table_num(t, timed(f) ? f->step.high_s : NAN);
    table_num(t, timed(f) ? f->samples_per_s : NAN);
    table_num(t, known ? f->memory.total : NAN);
}

void whatif_more_cells(const struct plan_fit *f, struct table *t)
{
    bool known = f->verdict != FIT_IMPOSSIBLE;
    table_str(t, timed(f) ? "yes" : "no");
    table_str(t, known ? mem_part_names[mem_limiting(&f->memory)] : NULL);
    table_num(t, known ? fmax(fit_short(f), 0) : NAN);
    if (known) {
        table_int(t, f->memory.rank);
        table_int(t, f->memory.block);
    } else {
        table_str(t, NULL);
        table_str(t, NULL);
    }
    table_num(t, known ? f->memory.part[mem_limiting(&f->memory)] : NAN);
    table_str(t, timed(f) ? plan_class_names[f->slow] : NULL);
    table_num(t, timed(f) ? f->slow_share : NAN);
    table_num(t, timed(f) ? f->passes : NAN);
}

void whatif_limiting(const struct plan_fit *f, FILE *out)
{
    enum mem_part part = mem_limiting(&f->memory);
    fprintf(out, "Memory: rank %d at block %d, largest part %s %s. Time: %s %s.\n", f->memory.rank,
            f->memory.block, mem_part_names[part], BYTES(f->memory.part[part]),
            qty_text(f->slow_share, QTY_RATIO, QTY_BUF), plan_class_names[f->slow]);
}

void whatif_progress(const char *what)
{
    if (isatty(STDERR_FILENO)) /* erases the rest of the line */
        fprintf(stderr, "\r%s\033[K", what ? what : "");
}
