/* compare: what a plan said beside what shardwise-run measured of it. */
#include <math.h>

#include "cli/cli.h"
#include "validate/compare.h"

static bool run(struct cli *c, struct err *e)
{
    const char *plan = args_operand(c->args, 0), *rows = args_operand(c->args, 1);
    struct comparison r;
    if (!compare_files(plan, rows, c->a, &r, e) || !prov_input(c->prov, plan, e) ||
        !prov_input(c->prov, rows, e))
        return false;
    FILE *out = cli_out(c, e);
    if (!out)
        return false;
    cli_table(c, compare_table(&r, c->a), "phases", out);
    if (c->format == TABLE_TEXT)
        compare_words(&r, out);
    else
        compare_turns(&r, stderr);
    /* Outside the tolerance is an answer with a table. */
    return cli_finish(c, e) &&
           compare_judge(&r, args_qty_or(c->args, "tolerance", (double)INFINITY), e);
}

static const struct arg_group options = {
    "Compare", (const struct arg_option[]){
                   OPTION_QTY("tolerance", QTY_RATIO, "T",
                              "how far a whole block may be off, either way: 25% (any)"),
                   OPTION_END}};

const struct command cmd_compare = {
    .name = "compare",
    .brief = "set what was measured beside what the plan said, phase by phase",
    .usage = "PLAN ROWS [--tolerance T]",
    .example = "shardwise compare plan.json measured.tsv --tolerance 25%",
    .about =
        "PLAN is a plan file and ROWS what `shardwise-run PLAN -o ROWS` wrote of it. A phase's "
        "time is the longest over ranks, the median over repeats; the last line of a block is "
        "the block as a whole, waits included, of the phases that were run. Then, in "
        "sentences: which phase explains most of the difference, and what is faster than the "
        "plan's hardware allows. Rows of more ranks than cores say so and no tolerance judges "
        "them: ranks that take turns hold up each other.\n\n"
        "Exit status 5: a whole block is off by more than --tolerance, or something is faster "
        "than it can be. The results appear all the same.",
    .groups = (const struct arg_group *const[]){&options, &cli_output_options, NULL},
    .operands_least = 2,
    .operands_most = 2,
    .run = run,
};
