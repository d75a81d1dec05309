/* plan: the main job. Chooses a configuration for every block and says how long, how much memory,
 * and why. */
#include <string.h>

#include "cli/launch_view.h"
#include "cli/plan_view.h"
#include "cli/whatif.h"
#include "planner/explain.h"
#include "planner/one_gpu.h"
#include "sim/eval.h"
#include "validate/measured.h"

#define TIME(s) qty_text((s), QTY_SECONDS, QTY_BUF)

static const char *const format_names[] = {"text", "csv", "json",
                                           NULL}; /* in the order of enum table_format */

enum { EVAL_COST, EVAL_SIM, EVAL_MEASURED };
static const char *const eval_names[] = {"cost", "sim", "measured", NULL};

static const struct arg_group plan_options = {
    "Output",
    (const struct arg_option[]){
        OPTION_INT("top", 1, 1000, "K", "show the K best configurations of the slowest block (5)"),
        OPTION_CHOICE(
            "eval", eval_names, "WHO",
            "closed forms; simulation as the last word on the K best; or closed forms with "
            "kernels and links fitted to --measured (cost)"),
        OPTION_TEXT("measured", "FIT", "file",
                    "with --eval measured: what `calibrate` fitted to shardwise-run's rows; or "
                    "PLAN,ROWS[,PLAN,ROWS..] to fit now"),
        OPTION_QTY("one-gpu", QTY_SECONDS, "TIME",
                   "with --inference: what the same samples (--batch: one a forward pass) took on "
                   "one GPU; says in text what the plan takes then"),
        OPTION_FLAG(
            "explain",
            "say why: the runner-up, heads, unions, and where DSV's released solver differs"),
        OPTION_CHOICE("format", format_names, "FORM",
                      "text; csv has a row for each block, json is the plan file (text)"),
        OPTION_OUTPUT("write the plan to FILE, for `shardwise-run` and `shardwise simulate`; - is "
                      "standard output"),
        OPTION_END}};

static bool read_one_gpu(const struct args *g, const struct plan_request *r, struct err *e)
{
    struct err_at at = args_at(g, "one-gpu");
    if (!args_given(g, "one-gpu"))
        return true;
    if (!r->c.options.inference)
        return err_set(e, ERR_INPUT, at,
                       "goes with --inference: of training no such runs are known");
    return args_qty_or(g, "one-gpu", 0) > 0 || err_set(e, ERR_INPUT, at, "want a time above 0");
}

/* What was measured on one GPU, and what it says of the plan. */
static bool print_one_gpu(struct cli *c, const struct plan_request *r, const struct plan *p,
                          FILE *out, struct err *e)
{
    struct plan_one_gpu o;
    if (!args_given(c->args, "one-gpu"))
        return true;
    if (!plan_one_gpu(r, p, args_qty_or(c->args, "one-gpu", 0), &o, c->scratch, e))
        return false;
    fprintf(out, "\nOn one GPU %s were measured where %s are predicted", TIME(o.measured_s),
            TIME(o.predicted_s));
    if (o.stays_s > o.scales_s)
        fprintf(out,
                ": this plan then takes %s if all that is missing there is the passes' and scales, "
                "%s if none of it is and it stays.\n",
                TIME(o.scales_s), TIME(o.stays_s));
    else
        fprintf(out, ": this plan then takes %s.\n", TIME(o.scales_s));
    return true;
}

static bool print_text(struct cli *c, const struct plan_request *r, const struct plan_found *f,
                       FILE *out, struct err *e)
{
    int top = (int)args_int_or(c->args, "top", 5);
    prov_comment(c->prov, out);
    plan_view(r, f, top, out, c->scratch);
    if (!print_one_gpu(c, r, f->plan, out, e))
        return false;
    if (args_given(c->args, "explain")) {
        fputs("\nWhy\n", out);
        plan_explain(r, f, out, c->scratch);
    }
    if (r->program)
        launch_view(r->program, f, top, out, c->scratch);
    return true;
}

static bool print_plan(struct cli *c, const struct plan_request *r, const struct plan_found *f,
                       struct err *e)
{
    if (c->format == TABLE_JSON)
        return plan_write(f->plan, c->prov, "-", c->scratch, e);
    c->outfile = outfile_open("-", c->a, e);
    if (!c->outfile)
        return false;
    if (c->format == TABLE_CSV)
        cli_table(c, plan_view_rows(f->plan, c->a), "blocks", outfile_stream(c->outfile));
    else
        return print_text(c, r, f, outfile_stream(c->outfile), e);
    return true;
}

static bool run(struct cli *c, struct err *e)
{
    struct plan_request r;
    struct plan_found f;
    struct plan_eval measured;
    int eval = args_choice_or(c->args, "eval", EVAL_COST);
    if (!workload_request(c, &r, e) || !read_one_gpu(c->args, &r, e))
        return false;
    r.keep_candidates = (int)args_int_or(c->args, "top", 5);
    if (r.keep_candidates < 2)
        r.keep_candidates = 2; /* --explain compares with the runner-up */
    struct plan_eval sim = sim_eval(NULL);
    if (eval == EVAL_SIM)
        r.rerank = &sim;
    if (args_given(c->args, "measured") && eval != EVAL_MEASURED)
        return err_set(e, ERR_INPUT, err_at_name("--measured"), "goes with --eval measured");
    if (eval == EVAL_MEASURED) {
        if (!whatif_measured(c, r.c.cluster, &measured, e))
            return false;
        r.eval = &measured;
        measured_warn(measured.data, stderr);
        const char *kept;
        whatif_keep_to_measured(c, &r, &kept);
        if (kept)
            fprintf(stderr,
                    "shardwise: only %s attention was measured, so no other is compared; "
                    "--dispatch auto holds it against the profile's\n",
                    kept);
    }
    if (!plan_search(&r, &f, c->a, e))
        return false;
    if (r.program)
        launch_note(f.plan, stderr);
    const char *path = args_text(c->args, "output");
    if (path && !plan_write(f.plan, c->prov, path, c->scratch, e))
        return false;
    return (path && strcmp(path, "-") == 0) || print_plan(c, &r, &f, e);
}

const struct command cmd_plan = {
    .name = "plan",
    .brief = "choose the context-parallel configuration of every block",
    .usage = "--model M --cluster C (--clip HxWxF | --grid TxHxW | --tokens S) [options]",
    .example = "shardwise plan --model dsv-2.7b --cluster 1x8-h100 --cp 8 --tokens 128k --trace "
               "webvid-2.7b-28k --kernels dsv-triton\n"
               "shardwise plan --model hunyuanvideo-13b --cluster 2x8-h100-400g --clip "
               "720x1280x129 --sparsity 90% -o plan.json",
    .about = "Compares all ways to split attention over the ranks of a context-parallel group - "
             "heads, sequence, both, ring, "
             "all-gather - block by block, and takes the one whose slowest rank ends first and "
             "whose memory fits. Heads go to "
             "ranks by exact search on what they cost.\n\n"
             "Without --cp it tries every degree and takes the best throughput. The times are "
             "predictions from closed forms "
             "and kernel profiles; what they rest on is printed with them.",
    .groups = (const struct arg_group *const[]){&workload_clip, &workload_place, &workload_sparsity,
                                                &workload_training, &plan_options, NULL},
    .run = run,
};
