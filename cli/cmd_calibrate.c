/* calibrate: measurements in, a profile out. */
#include <string.h>

#include "cli/cli.h"
#include "validate/calibrate.h"
#include "validate/measured.h"
#include "validate/profile_write.h"
#include "validate/rows.h"

static const char *stem(const char *path, struct arena *a)
{
    const char *slash = strrchr(path, '/'), *name = slash ? slash + 1 : path,
               *dot = strrchr(name, '.');
    return dot && dot > name ? arena_strndup(a, name, (size_t)(dot - name)) : name;
}

static const char **operands(struct cli *c)
{
    int n = args_operands(c->args);
    const char **files = ARENA_ARRAY(c->a, const char *, n + 1);
    for (int i = 0; i < n; i++)
        files[i] = args_operand(c->args, i);
    return files;
}

static const char *made_by(struct cli *c)
{
    const char *text = "shardwise calibrate";
    for (int i = 0; i < args_operands(c->args); i++)
        text = arena_printf(c->a, "%s %s", text, args_operand(c->args, i));
    if (args_given(c->args, "relative"))
        text = arena_printf(c->a, "%s --relative %s", text, args_text(c->args, "relative"));
    return strpbrk(text, "\"\\\n") ? "shardwise calibrate" : text;
}

static bool write_profile(struct cli *c, const struct calibrated *k, const char *path,
                          struct err *e)
{
    struct outfile *f = outfile_open(path, c->a, e);
    if (!f)
        return false;
    const char *fitted =
        arena_printf(c->a, "%d rows; mean absolute error %.1f%%, of rows left out %.1f%%",
                     k->points.count, 100 * k->mape, 100 * k->unseen_mape);
    if (k->net)
        profile_write_net(&k->network, made_by(c), fitted, outfile_stream(f));
    else
        profile_write_kernels(&k->kernels, made_by(c), fitted, outfile_stream(f));
    return outfile_done(f, e);
}

static bool write_plot(struct cli *c, const struct calibrated *k, struct err *e)
{
    const char *path = args_text(c->args, "plot");
    struct outfile *f = outfile_open(path, c->a, e);
    if (!f)
        return false;
    calibrate_plot(k, arena_printf(c->a, "%s.svg", stem(path, c->a)), outfile_stream(f));
    return outfile_done(f, e);
}

static bool shipped(struct cli *c, struct err *e)
{
    if (!args_need(c->args, "output", e))
        return false;
    const char *data = args_text(c->args, "shipped"), *to = args_text(c->args, "output");
    return calibrate_shipped(
        data, to, arena_printf(c->a, "shardwise calibrate --shipped %s -o %s", data, to), c->a, e);
}

/* ---- rows of shardwise-run ---- */

static int count_rows_files(const struct cli *c)
{
    int n = 0;
    for (int i = 0; i < args_operands(c->args); i++)
        n += rows_is_file(args_operand(c->args, i));
    return n;
}

/* The files of --plan, NULL-terminated. */
static const char *const *plans(struct cli *c)
{
    const char *rest = args_given(c->args, "plan") ? args_text(c->args, "plan") : "";
    const char **list = ARENA_ARRAY(c->a, const char *, strlen(rest) + 1);
    for (int n = 0; *rest; rest += *rest == ',') {
        size_t length = strcspn(rest, ",");
        if (length)
            list[n++] = arena_strndup(c->a, rest, length);
        rest += length;
    }
    return list;
}

/* Rows bring their own GPU, sizes and links with the plan. */
static bool only_rows(const struct cli *c, int files, struct err *e)
{
    static const char *const others[] = {"relative", "gpu", "op",   "gpus", "nodes",
                                         "nic",      "sms", "nvls", "plot", NULL};
    if (files < args_operands(c->args))
        return err_set(
            e, ERR_INPUT, err_at_name("calibrate"),
            "rows of shardwise-run and other files: want them fitted one kind at a time");
    for (int i = 0; others[i]; i++)
        if (args_given(c->args, others[i]))
            return err_set(e, ERR_INPUT, args_at(c->args, others[i]),
                           "does not go with rows of shardwise-run");
    return true;
}

static bool from_rows(struct cli *c, int files, struct err *e)
{
    struct measured *m = measured_new(c->a);
    struct measured_fit fit;
    const char *plan;
    if (!only_rows(c, files, e))
        return false;
    for (int i = 0; i < files; i++) {
        const char *rows = args_operand(c->args, i);
        if (!measured_add_rows(m, plans(c), rows, &plan, e) || !prov_input(c->prov, plan, e) ||
            !prov_input(c->prov, rows, e))
            return false;
    }
    if (!measured_solve(m, &fit, e))
        return false;
    if (args_given(c->args, "name"))
        fit.kernels.name = fit.cluster.name = args_text(c->args, "name");
    if (args_given(c->args, "output") &&
        !measured_save(&fit, c->prov, args_text(c->args, "output"), c->a, e))
        return false;
    cli_table(c, measured_points(m, c->a), "points", stdout);
    if (c->format == TABLE_TEXT)
        fputc('\n', stdout), measured_print(&fit, c->format, stdout, c->a);
    fflush(stdout); /* what follows is about it, and may go to the same terminal */
    measured_warn(&fit, stderr);
    return true;
}

/* ---- tables and logs ---- */

static bool from_tables(struct cli *c, struct err *e)
{
    const char *path = args_text(c->args, "output");
    struct calibrate_options o = {
        .files = operands(c),
        .gpu = args_text(c->args, "gpu"),
        .name = args_given(c->args, "name") ? args_text(c->args, "name")
                : path                      ? stem(path, c->a)
                                            : "measured",
        .relative = args_text(c->args, "relative"),
        .facts = {.op = args_text(c->args, "op"),
                  .gpus = (int)args_int_or(c->args, "gpus", 0),
                  .nodes = (int)args_int_or(c->args, "nodes", 0),
                  .nic_bytes_per_s = args_qty_or(c->args, "nic", 0)},
        .sms = (int)args_int_or(c->args, "sms", 132),
        .nvls = args_given(c->args, "nvls"),
    };
    struct calibrated k;
    if (!calibrate(&o, &k, c->a, e) || (path && !write_profile(c, &k, path, e)) ||
        (args_given(c->args, "plot") && !write_plot(c, &k, e)))
        return false;
    int outliers = 0;
    for (int i = 0; i < k.points.count; i++)
        outliers += k.outlier[i];
    cli_table(c, calibrate_table(&k, c->a), "points", stdout);
    fprintf(stderr,
            "%d rows fitted, mean absolute error %.1f%%; of rows left out %.1f%%. %d outliers, %d "
            "contradictory sizes; left out: "
            "%d rows without a model or unusable, %d cut or contradicting lines, %d that failed "
            "the check of their data.\n",
            k.points.count, 100 * k.mape, 100 * k.unseen_mape, outliers, k.conflicts, k.skipped,
            k.broken, k.wrong);
    return true;
}

static bool run(struct cli *c, struct err *e)
{
    if (args_given(c->args, "shipped"))
        return shipped(c, e);
    if (!args_operands(c->args))
        return err_set(e, ERR_INPUT, err_at_name(NULL),
                       "no file: name rows of shardwise-run, tables (.csv) or nccl-tests logs");
    int rows = count_rows_files(c);
    if (rows)
        return from_rows(c, rows, e);
    if (args_given(c->args, "plan"))
        return err_set(e, ERR_INPUT, args_at(c->args, "plan"),
                       "goes with rows of shardwise-run (shardwise-measured/1), and none is given");
    return from_tables(c, e);
}

static const char *const formats[] = {"text", "csv", "json", NULL};

static const struct arg_group options = {
    "Calibration",
    (const struct arg_option[]){
        OPTION_OUTPUT("write the profile to FILE (YAML; of rows: JSON)"),
        OPTION_TEXT("plan", "PLAN[,PLAN..]", "file",
                    "plans of the rows, if they are not where they were when run"),
        OPTION_TEXT("name", "NAME", NULL, "name of the profile (that of the file)"),
        OPTION_TEXT("relative", "NAME", "file", "profile that lends what was not measured: h100"),
        OPTION_TEXT("gpu", "NAME", NULL, "rows of this GPU (the only one)"),
        OPTION_CHOICE("op", coll_op_names, "OP",
                      "operation, for logs that do not name their program"),
        OPTION_INT("gpus", 2, 1 << 20, "N", "GPUs, for logs without a list of ranks"),
        OPTION_INT("nodes", 1, 1 << 20, "N", "nodes, for such logs"),
        OPTION_QTY("nic", QTY_BYTES_PER_S, "RATE",
                   "network of one GPU, for logs over several nodes: 400Gb/s"),
        OPTION_INT("sms", 1, 65536, "N", "multiprocessors of the GPU, for kernels (132)"),
        OPTION_FLAG("nvls", "the switch reduces (NVLink SHARP), as on H100 and B200"),
        OPTION_TEXT("plot", "FILE", "file", "write a gnuplot script of fit against points"),
        OPTION_TEXT("shipped", "DIR", "file",
                    "rebuild all shipped profiles from the tables in DIR into -o DIR"),
        OPTION_CHOICE("format", formats, "FORM", "of the table of points (text)"), OPTION_END}};

const struct command cmd_calibrate = {
    .name = "calibrate",
    .brief = "fit a profile on measurements: rows of shardwise-run, nccl-tests logs, tables",
    .usage = "ROWS... [--plan PLAN,..] [-o FIT.json]\nFILE... [-o PROFILE.yaml] "
             "[options]\n--shipped DIR -o DIR",
    .example =
        "shardwise calibrate measured.tsv -o fit.json\n"
        "shardwise calibrate presets/data/collectives_intranode.csv --gpu h100_sxm\n"
        "shardwise calibrate all_reduce.log alltoall.log --relative h100 --nvls -o ours.yaml",
    .about = "Rows that shardwise-run wrote of a plan: kernels and links are fitted to the median "
             "over repeats of each rank's phases. Each point is printed with the error of the fit "
             "and of a fit without its block and run, then a line for each fit. `plan --eval "
             "measured --measured FIT.json` plans with them. The plan of the rows is found where "
             "it was when they were run, or beside the rows, or by --plan; its signature must be "
             "theirs.\n\nLogs of nccl-tests and rccl-tests: all programs, old and new columns, one "
             "process or "
             "MPI, warnings between lines; cut lines "
             "are counted and left out. Tables: docs/formats.md. Each point is printed with the "
             "fitted time's error and with the error of a "
             "fit without it; outliers are named.",
    .groups = (const struct arg_group *const[]){&options, NULL},
    .operands_least = 0,
    .operands_most = 1 << 16,
    .run = run,
};
