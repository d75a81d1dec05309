/* launch: a plan as the settings of the program that will run it. */
#include "base/preset.h"
#include "cli/cli.h"
#include "cli/launch_view.h"
#include "model/plan.h"
#include "planner/launch.h"

static const struct arg_group options = {
    "Launch",
    (const struct arg_option[]){
        OPTION_TEXT("for", "NAME", "programs",
                    "only this program's settings, one line for a script: a preset (`shardwise "
                    "show programs`) or a YAML file"),
        OPTION_END}};

static const struct table_col cols[] = {{"program", "program", TABLE_STR, 0},
                                        {"settings", "settings", TABLE_STR, 0},
                                        {"refusal", "why not", TABLE_STR, 0}};

static void add_row(struct cli *c, struct table *t, const struct launch *l, const struct plan *p)
{
    const char *refusal = launch_refusal(l, p, c->a);
    table_str(t, l->name);
    table_str(t, refusal ? NULL : launch_settings(l, p, c->a));
    table_str(t, refusal);
}

static bool print_all(struct cli *c, const struct plan *p, struct err *e)
{
    const char **names = preset_list("program", c->a, e);
    struct table *t = table_new(c->a, cols, sizeof cols / sizeof *cols);
    for (int i = 0; names && names[i]; i++) {
        const struct launch *l = launch_load(names[i], err_at_name("--for"), c->a, e);
        if (!l)
            return false;
        add_row(c, t, l, p);
    }
    FILE *out = names ? cli_out(c, e) : NULL;
    if (out)
        cli_table(c, t, "programs", out);
    return out != NULL;
}

static bool print_one(struct cli *c, const struct plan *p, const char *name, struct err *e)
{
    struct err_at at = args_at(c->args, "for");
    const struct launch *l = launch_load(name, at, c->a, e);
    const char *refusal = l ? launch_refusal(l, p, c->a) : NULL;
    if (!l || !cli_input(c, "program", name, e))
        return false;
    if (refusal)
        return err_set(e, ERR_INFEASIBLE, err_at_name(args_operand(c->args, 0)),
                       "%s cannot run this plan: %s; `shardwise plan --for %s` plans what it can",
                       l->name, refusal, name);
    struct table *t = table_new(c->a, cols, sizeof cols / sizeof *cols);
    FILE *out = cli_out(c, e);
    if (!out)
        return false;
    add_row(c, t, l, p);
    if (c->format == TABLE_TEXT)
        fprintf(out, "%s\n", launch_settings(l, p, c->a));
    else
        cli_table(c, t, "programs", out);
    return true;
}

static bool run(struct cli *c, struct err *e)
{
    const char *path = args_operand(c->args, 0), *name = args_text(c->args, "for");
    const struct plan *p = plan_read(path, c->a, e);
    if (!p || !prov_input(c->prov, path, e))
        return false;
    if (!(name ? print_one(c, p, name, e) : print_all(c, p, e)))
        return false;
    launch_note(p, stderr);
    return true;
}

const struct command cmd_launch = {
    .name = "launch",
    .brief = "say with which settings xDiT, Megatron, diffusers and others run a plan",
    .usage = "PLAN [--for NAME] [-o FILE]",
    .example =
        "shardwise plan --model wan2.1-14b --cluster 1x8-h100 --clip 720x1280x81 --inference "
        "--for xdit -o plan.json\n"
        "shardwise launch plan.json\n"
        "shardwise launch plan.json --for xdit",
    .about =
        "The degrees and exchanges of a plan in the words of the program that will run it, for "
        "each program that has them; for the others, why not. Programs split heads evenly and "
        "mostly have one setting for all blocks: `shardwise plan --for NAME` chooses among what "
        "one of them can do. What else a run needs (model, clip, precision, attention kernels) is "
        "the program's business.\n\n"
        "`shardwise-run` runs every plan but those with tensor parallelism and db-sp.",
    .groups = (const struct arg_group *const[]){&options, &cli_output_options, NULL},
    .operands_least = 1,
    .operands_most = 1,
    .run = run,
};
