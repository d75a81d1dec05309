/* calibrate: measurements in, a profile out. */
#include <string.h>

#include "cli/cli.h"
#include "validate/calibrate.h"
#include "validate/profile_write.h"

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

static bool run(struct cli *c, struct err *e)
{
    if (args_given(c->args, "shipped"))
        return shipped(c, e);
    if (!args_operands(c->args))
        return err_set(e, ERR_INPUT, err_at_name(NULL),
                       "no file: name tables (.csv) or nccl-tests logs");
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

static const char *const formats[] = {"text", "csv", "json", NULL};

static const struct arg_group options = {
    "Calibration",
    (const struct arg_option[]){
        OPTION_OUTPUT("write the profile to FILE (YAML)"),
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
    .brief = "fit a profile on measurements: nccl-tests logs and tables",
    .usage = "FILE... [-o PROFILE.yaml] [options]\n--shipped DIR -o DIR",
    .example =
        "shardwise calibrate presets/data/collectives_intranode.csv --gpu h100_sxm\n"
        "shardwise calibrate all_reduce.log alltoall.log --relative h100 --nvls -o ours.yaml",
    .about = "Logs of nccl-tests and rccl-tests: all programs, old and new columns, one process or "
             "MPI, warnings between lines; cut lines "
             "are counted and left out. Tables: docs/formats.md. Each point is printed with the "
             "fitted time's error and with the error of a "
             "fit without it; outliers are named.",
    .groups = (const struct arg_group *const[]){&options, NULL},
    .operands_least = 0,
    .operands_most = 1 << 16,
    .run = run,
};
