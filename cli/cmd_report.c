/* report: the page "How far off are we", made from the tables. */
#include <stdio.h>

#include "cli/cli.h"
#include "validate/report.h"

static bool run(struct cli *c, struct err *e)
{
    const char *folder = args_operand(c->args, 0);
    const char *data = args_given(c->args, "data") ? args_text(c->args, "data") : "presets/data";
    struct report_made made;
    if (!report_write(data, folder,
                      arena_printf(c->a, "shardwise report %s --data %s", folder, data), &made,
                      c->a, e))
        return false;
    fprintf(stderr, "%s/accuracy.md and accuracy.html: %d lines, %d plots%s\n", folder, made.lines,
            made.plots, made.gnuplot ? "" : " (no gnuplot: the scripts are there)");
    return true;
}

static const struct arg_group options = {
    "Report",
    (const struct arg_option[]){
        OPTION_TEXT("data", "DIR", "file", "folder of the tables (presets/data)"), OPTION_END}};

const struct command cmd_report = {
    .name = "report",
    .brief = "write how far predictions are off, by class, with plots",
    .usage = "DIR [--data DIR]",
    .example = "shardwise report .",
    .about = "Leaves rows of the published tables out, fits, predicts them, and writes "
             "accuracy.md, accuracy.html and gnuplot plots into DIR. "
             "A folder of your own needs the same file names and columns (docs/formats.md).",
    .groups = (const struct arg_group *const[]){&options, NULL},
    .operands_least = 1,
    .operands_most = 1,
    .run = run,
};
