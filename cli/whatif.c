#include "cli/whatif.h"

#include <math.h>
#include <stdio.h>
#include <unistd.h>

#include "planner/explain.h"
#include "sim/eval.h"

#define TIME(s)  qty_text((s), QTY_SECONDS, QTY_BUF)
#define BYTES(b) qty_text((b), QTY_BYTES, QTY_BUF)

enum { EVAL_COST, EVAL_SIM };
static const char *const eval_names[] = {"cost", "sim", NULL};

const struct arg_group whatif_eval = {
    "Evaluator",
    (const struct arg_option[]){
        OPTION_CHOICE("eval", eval_names, "WHO",
                      "closed forms, or simulation as the last word on the 5 best (cost)"),
        OPTION_END}};

const struct arg_group whatif_target = {
    "Targets",
    (const struct arg_option[]){
        OPTION_QTY("max-step", QTY_SECONDS, "TIME", "a step may take at most this: 12 s"),
        OPTION_QTY("min-rate", QTY_NUMBER, "RATE", "samples a second, of all replicas, at least"),
        OPTION_FLAG("sure", "targets must hold at the slow end of the 90% interval"), OPTION_END}};

const struct arg_group *const whatif_groups[] = {
    &workload_clip, &workload_place, &workload_sparsity, &workload_training, &whatif_eval, NULL};

bool whatif_request(const struct cli *c, const struct arg_setting *set, int count, struct arena *a,
                    struct plan_request *r, struct err *e)
{
    struct cli with = *c;
    with.a = a;
    with.args = args_over(c->args, c->command->name, whatif_groups, set, count, a, e);
    if (!with.args || !workload_request(&with, r, e))
        return false;
    if (args_choice_or(with.args, "eval", EVAL_COST) == EVAL_SIM) {
        struct plan_eval *sim = ARENA_NEW(a, struct plan_eval);
        *sim = sim_eval(NULL);
        r->rerank = sim;
    }
    return true;
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
