/* trace: sparsity traces, made, imported, shown, and their statistics. */
#include <errno.h>
#include <math.h>
#include <string.h>
#include <sys/stat.h>

#include "cli/cli.h"
#include "planner/assign.h"
#include "traces/generate.h"
#include "traces/import.h"
#include "traces/measured.h"
#include "traces/report.h"

static const char *const actions[] = {"stats", "generate", "import", "show", "patterns", NULL};

enum what { WHAT_ALL, WHAT_KEEP, WHAT_UNIONS, WHAT_FITS, WHAT_HEADS };
static const char *const what_names[] = {"all", "keep", "unions", "fits", "heads", NULL};

static const struct arg_group stats_options = {
    "Statistics",
    (const struct arg_option[]){
        OPTION_CHOICE("what", what_names, "PART",
                      "of the statistics; CSV prints one part (all; CSV: unions)"),
        OPTION_INT("step", 0, INT64_MAX / 2, "STEP", "only this training step (all)"),
        OPTION_INT("block", 0, TRACE_LAYERS_MOST, "BLOCK", "only this block (all)"),
        OPTION_INT("ranks", 1, 1024, "N",
                   "ranks that take whole heads, for skew; shards of the need matrix (8)"),
        OPTION_TEXT("plot", "FOLDER", "file", "write gnuplot scripts there"), OPTION_END}};

static const struct arg_group grid_options = {
    "Tokens",
    (const struct arg_option[]){
        OPTION_TEXT("grid", "TxHxW", NULL, "video tokens (generate: 16x16x16)"),
        OPTION_TEXT("query-group", "TxHxW", NULL, "queries that share a list of keys (4x4x4)"),
        OPTION_TEXT("kv-block", "TxHxW", NULL,
                    "keys kept or dropped together (4x4x4; imports without a grid: 64 tokens)"),
        OPTION_TEXT("name", "NAME", "models", "model's name, stored in the trace"), OPTION_END}};

static const struct arg_group generate_options = {
    "Generate",
    (const struct arg_option[]){
        OPTION_TEXT("pattern", "P[+P..]", NULL,
                    "pattern of the heads, as `shardwise trace patterns` lists them (dsv)"),
        OPTION_TEXT("profile", "P", NULL,
                    "keep over depth and training: own, dsv, webvid, videogen, anneal, levels, "
                    "constant (own)"),
        OPTION_INT("blocks", 1, TRACE_LAYERS_MOST, "N", "transformer blocks (1)"),
        OPTION_INT("heads", 1, TRACE_HEADS_MOST, "N", "heads of a block (1)"),
        OPTION_INT("steps", 1, 1000000, "N", "records of each block (1)"),
        OPTION_INT("first-step", 0, INT64_MAX / 4, "STEP", "training step of the first record (0)"),
        OPTION_INT("stride", 1, INT64_MAX / 4000000, "STEPS", "between records (1000)"),
        OPTION_INT("level", 0, 2, "L", "0 keep, 1 with unions of atoms, 2 with bitmaps (1)"),
        OPTION_INT("seed", 0, INT64_MAX, "S", "of the random streams (0)"), OPTION_END}};

static const struct arg_group import_options = {
    "Import",
    (const struct arg_option[]){
        OPTION_CHOICE("as", import_as_names, "KIND", "what an array holds (auto: by its name)"),
        OPTION_TEXT("array", "NAME", NULL, "the array, when a file has several"), OPTION_END}};

static const struct arg_group *const groups[] = {
    &stats_options, &grid_options, &generate_options, &import_options, &cli_output_options, NULL};

/* ---- what all share ---- */

static bool cube_option(struct cli *c, const char *name, int side[3], struct err *e)
{
    return !args_given(c->args, name) ||
           tiling_parse_cube(args_text(c->args, name), name, args_at(c->args, name), side, e);
}

static bool grid_option(struct cli *c, struct grid *grid, int group[3], int block[3], struct err *e)
{
    int side[3] = {grid->t, grid->h, grid->w};
    if (!cube_option(c, "grid", side, e) || !cube_option(c, "query-group", group, e) ||
        !cube_option(c, "kv-block", block, e))
        return false;
    if (args_given(c->args, "grid"))
        *grid = (struct grid){side[0], side[1], side[2]};
    return true;
}

static const char *file_operand(struct cli *c, const char *action, struct err *e)
{
    if (args_operands(c->args) == 2)
        return args_operand(c->args, 1);
    err_set(e, ERR_INPUT, err_at_name("trace"), "%s needs a file: shardwise trace %s FILE", action,
            action);
    return NULL;
}

static const char *output_file(struct cli *c, const char *action, struct err *e)
{
    const char *path = args_text(c->args, "output");
    if (path && strcmp(path, "-") != 0)
        return path;
    err_set(e, ERR_INPUT, err_at_name("trace"), "%s writes an HDF5 file: give -o FILE", action);
    return NULL;
}

static struct trace_reader *reader(struct cli *c, const char *path, struct err *e)
{
    struct trace_reader *r = trace_open(path, e);
    if (r && trace_unclosed(r))
        fprintf(stderr,
                "shardwise: %s: its writer died or is at work; the %d records so far are whole\n",
                path, trace_records(r));
    else if (r && !prov_input(c->prov, path, e)) {
        trace_close(r);
        return NULL;
    }
    return r;
}

/* ---- stats ---- */

struct parts {
    struct table *keep, *unions, *fits, *heads;
    struct report_union rows[LAYOUT_KINDS * REPORT_SIZES];
    int count;
};

/* report_assign: the optimum for keep as the work. A rank takes a head at most when there are as
 * many, so further ranks change nothing. */
static bool whole_heads(const double *keep, int heads, int ranks, struct report_whole *out,
                        struct err *e)
{
    struct assign_problem p = {
        .heads = heads, .ranks = ranks < heads ? ranks : heads, .work_s = keep};
    struct assign_result found;
    if (p.heads > ASSIGN_MOST_HEADS || p.ranks > ASSIGN_MOST_RANKS)
        return true;
    struct arena *a = arena_new(), *scratch = arena_new();
    bool ok = assign_exact(&p, (struct assign_limits){0}, &found, a, scratch, e);
    if (ok)
        *out = (struct report_whole){found.cost_s, found.bound_s, assign_proof_names[found.proof]};
    arena_free(scratch);
    arena_free(a);
    return ok;
}

static bool parts_make(struct cli *c, struct trace_reader *r, enum what what,
                       struct report_range range, struct parts *p, struct err *e)
{
    int level = (int)trace_info_of(r)->level, ranks = (int)args_int_or(c->args, "ranks", 8);
    if ((what == WHAT_ALL || what == WHAT_KEEP) &&
        !report_keep(r, range, ranks, whole_heads, c->a, &p->keep, e))
        return false;
    if (what == WHAT_UNIONS || what == WHAT_FITS || (what == WHAT_ALL && level >= 1)) {
        if (!report_unions(r, range, p->rows, &p->count, e))
            return false;
        if (what != WHAT_FITS)
            p->unions = report_union_table(p->rows, p->count, c->a);
        if (what != WHAT_UNIONS)
            p->fits = report_fits(p->rows, p->count, trace_tiling_of(r)->group.count, c->a);
    }
    return (what != WHAT_HEADS && !(what == WHAT_ALL && level >= 2)) ||
           report_heads(r, range, c->a, &p->heads, e);
}

static void parts_print(struct cli *c, const struct parts *p, FILE *out)
{
    const struct {
        struct table *t;
        const char *key, *title;
    } all[] = {{p->keep, "keep", "Keep over heads, and skew of whole heads"},
               {p->unions, "unions", "Unions, mean over heads and records"},
               {p->fits, "fits", "Models of the union, fitted to the remote need"},
               {p->heads, "heads", "Heads"}};
    struct json j = json_to(out);
    if (c->format == TABLE_JSON) {
        json_object(&j, NULL);
        prov_json(c->prov, &j);
    } else {
        prov_comment(c->prov, out);
    }
    for (size_t i = 0; i < sizeof all / sizeof all[0]; i++) {
        if (!all[i].t)
            continue;
        if (c->format == TABLE_JSON) {
            table_json(all[i].t, &j, all[i].key);
            continue;
        }
        if (c->format == TABLE_TEXT)
            fprintf(out, "\n%s\n", all[i].title);
        table_print(all[i].t, c->format, out);
    }
    if (c->format == TABLE_JSON) {
        json_end(&j);
        fputc('\n', out);
    }
}

static FILE *plot_file(struct cli *c, const char *name, struct outfile **f, struct err *e)
{
    *f = outfile_open(arena_printf(c->a, "%s/%s.gp", args_text(c->args, "plot"), name), c->a, e);
    return *f ? outfile_stream(*f) : NULL;
}

static bool plots(struct cli *c, struct trace_reader *r, const char *path,
                  struct report_range range, const struct parts *p, struct err *e)
{
    struct outfile *f;
    const char *folder = args_text(c->args, "plot");
    int shards = (int)args_int_or(c->args, "ranks", 8), layer = range.layer < 0 ? 0 : range.layer;
    if (mkdir(folder, 0777) != 0 && errno != EEXIST)
        return err_set(e, ERR_SYSTEM, args_at(c->args, "plot"), "'%s': %s", folder,
                       strerror(errno));
    if (!plot_file(c, "keep-blocks", &f, e) ||
        !report_plot_blocks(r, range, outfile_stream(f), e) || !outfile_done(f, e) ||
        !plot_file(c, "keep-heads", &f, e) || !report_plot_heads(r, layer, outfile_stream(f), e) ||
        !outfile_done(f, e))
        return false;
    if (p->count == 0)
        return true;
    const double *need;
    if (!measured_need(path, range.step, layer, 0, LAYOUT_SLABS, shards, c->a, &need, e) ||
        !plot_file(c, "union", &f, e))
        return false;
    report_plot_unions(p->rows, p->count, outfile_stream(f));
    if (!outfile_done(f, e) || !plot_file(c, "need", &f, e))
        return false;
    report_plot_need(need, shards, outfile_stream(f));
    return outfile_done(f, e);
}

static bool run_stats(struct cli *c, struct err *e)
{
    const char *path = file_operand(c, "stats", e);
    struct trace_reader *r = path ? reader(c, path, e) : NULL;
    if (!r)
        return false;
    struct report_range range = {args_int_or(c->args, "step", -1),
                                 (int)args_int_or(c->args, "block", -1)};
    struct parts p = {0};
    enum what what =
        (enum what)args_choice_or(c->args, "what", c->format == TABLE_CSV ? WHAT_UNIONS : WHAT_ALL);
    bool ok = !(what == WHAT_ALL && c->format == TABLE_CSV) ||
              err_set(e, ERR_INPUT, args_at(c->args, "what"),
                      "CSV prints one part: keep, unions, fits or heads");
    ok = ok && parts_make(c, r, what, range, &p, e) &&
         (!args_given(c->args, "plot") || plots(c, r, path, range, &p, e));
    trace_close(r);
    FILE *out = ok ? cli_out(c, e) : NULL;
    if (out)
        parts_print(c, &p, out);
    return out != NULL;
}

/* ---- generate ---- */

/* FILE.csv is the summary tier: what --trace and a spreadsheet read. */
static bool write_generated(struct cli *c, const struct generate_job *j, const char *to,
                            struct err *e)
{
    const char *dot = strrchr(to, '.');
    if (!dot || strcmp(dot, ".csv") != 0)
        return generate_trace(j, to, e);
    FILE *out = cli_out(c, e);
    if (!out)
        return false;
    prov_comment(c->prov, out);
    return generate_summary(j, out, e);
}

static bool run_generate(struct cli *c, struct err *e)
{
    struct generate_job j = generate_default();
    const char *pattern = args_text(c->args, "pattern"), *profile = args_text(c->args, "profile");
    j.layers = (int)args_int_or(c->args, "blocks", 1);
    j.heads = (int)args_int_or(c->args, "heads", 1);
    j.steps = (int)args_int_or(c->args, "steps", 1);
    j.step = args_int_or(c->args, "first-step", 0);
    j.stride = args_int_or(c->args, "stride", 1000);
    j.level = (int)args_int_or(c->args, "level", 1);
    j.seed = (uint64_t)args_int_or(c->args, "seed", 0);
    j.model = args_text(c->args, "name");
    const char *to = output_file(c, "generate", e);
    return to && grid_option(c, &j.grid, j.group, j.block, e) &&
           generate_patterns(pattern ? pattern : "dsv", args_at(c->args, "pattern"), &j, e) &&
           profile_parse(profile ? profile : "own", args_at(c->args, "profile"), c->a, &j.profile,
                         e) &&
           write_generated(c, &j, to, e);
}

/* ---- import ---- */

static bool run_import(struct cli *c, struct err *e)
{
    struct import_job j = import_default();
    const char *from = file_operand(c, "import", e),
               *to = from ? output_file(c, "import", e) : NULL;
    if (args_given(c->args, "grid"))
        for (int i = 0; i < 3; i++)
            j.group[i] = j.block[i] = 4;
    j.as = (enum import_as)args_choice_or(c->args, "as", IMPORT_AUTO);
    j.array = args_text(c->args, "array");
    j.model = args_text(c->args, "name");
    j.step = args_int_or(c->args, "first-step", 0);
    j.stride = args_int_or(c->args, "stride", 1);
    return to && grid_option(c, &j.grid, j.group, j.block, e) && import_file(from, &j, to, e);
}

/* ---- show and patterns ---- */

static const struct table_col fact_cols[] = {{"property", "property", TABLE_STR, 0},
                                             {"value", "value", TABLE_STR, 0}};

static void fact(struct table *t, const char *name, const char *value)
{
    table_str(t, name);
    table_str(t, value);
}

static struct table *facts(struct cli *c, struct trace_reader *r)
{
    const struct trace_info *i = trace_info_of(r);
    const struct tiling *t = trace_tiling_of(r);
    struct table *out = table_new(c->a, fact_cols, 2);
#define TEXT(...) arena_printf(c->a, __VA_ARGS__)
    fact(out, "schema", TRACE_SCHEMA);
    fact(out, "model", *i->model ? i->model : NULL);
    fact(out, "method", i->method);
    fact(out, "created by", i->created_by);
    fact(out, "records",
         TEXT("%d of %lld blocks x %lld heads", trace_records(r), (long long)i->layers,
              (long long)i->heads));
    fact(out, "level", TEXT("%lld", (long long)i->level));
    fact(out, "closed", trace_unclosed(r) ? "no: its writer died or is at work" : "yes");
    if (t->tokens == 1) { /* keeps alone: a file without a grid has one of one token */
        fact(out, "tokens", NULL);
        return out;
    }
    fact(out, "tokens",
         TEXT("%dx%dx%d = %lld", t->grid.t, t->grid.h, t->grid.w, (long long)t->tokens));
    fact(out, "query groups",
         TEXT("%d of %dx%dx%d tokens", t->group.count, t->group.side[0], t->group.side[1],
              t->group.side[2]));
    fact(out, "KV blocks",
         TEXT("%d of %dx%dx%d tokens", t->block.count, t->block.side[0], t->block.side[1],
              t->block.side[2]));
    fact(out, "atoms",
         TEXT("%lldx%lldx%lld", (long long)i->atom_grid[0], (long long)i->atom_grid[1],
              (long long)i->atom_grid[2]));
    fact(out, "sampled",
         i->proxies ? TEXT("%lld query groups an atom", (long long)i->proxies)
                    : "all query groups");
#undef TEXT
    return out;
}

static bool run_show(struct cli *c, struct err *e)
{
    const char *path = file_operand(c, "show", e);
    if (!path || !trace_check(path, e))
        return false;
    struct trace_reader *r = reader(c, path, e);
    if (!r)
        return false;
    struct table *t = facts(c, r);
    trace_close(r);
    FILE *out = cli_out(c, e);
    if (out)
        cli_table(c, t, "trace", out);
    return out != NULL;
}

static bool run_patterns(struct cli *c, struct err *e)
{
    static const struct table_col cols[] = {{"name", "name", TABLE_STR, 0},
                                            {"pattern", "pattern", TABLE_STR, 0},
                                            {"source", "source", TABLE_STR, 0}};
    struct table *t = table_new(c->a, cols, 3);
    for (int i = 0; pattern_names[i]; i++) {
        table_str(t, pattern_names[i]);
        table_str(t, pattern_names[i]);
        table_str(t, "family; docs/sparsity-traces.md lists its parameters");
    }
    for (const struct pattern_preset *p = pattern_presets; p->name; p++) {
        table_str(t, p->name);
        table_str(t, p->text);
        table_str(t, p->source);
    }
    FILE *out = cli_out(c, e);
    if (out)
        cli_table(c, t, "patterns", out);
    return out != NULL;
}

static bool run(struct cli *c, struct err *e)
{
    static bool (*const runs[])(struct cli *, struct err *) = {run_stats, run_generate, run_import,
                                                               run_show, run_patterns};
    for (int i = 0; actions[i]; i++)
        if (strcmp(actions[i], args_operand(c->args, 0)) == 0)
            return runs[i](c, e);
    return err_set(e, ERR_INPUT, err_at_name("trace"),
                   "no '%s'; there are stats, generate, import, show, patterns",
                   args_operand(c->args, 0));
}

const struct command cmd_trace = {
    .name = "trace",
    .brief = "sparsity traces: statistics, generate, import, show",
    .usage = "stats FILE [options]\ngenerate -o FILE [options]\nimport FILE -o FILE "
             "[options]\nshow FILE\npatterns",
    .example =
        "shardwise trace generate --pattern dsv --profile webvid --blocks 4 --heads 8 -o trace.h5\n"
        "shardwise trace stats trace.h5 --what unions",
    .about = "A trace says which keys each query group of a head needs, step by step. The keep "
             "ratio is what papers "
             "print; what a rank fetches is the union over its query groups, which stats prints "
             "for slabs, bricks and "
             "Hilbert runs, with the error of the fitted models.\n\ngenerate writes HDF5, or the "
             "keeps alone as CSV where FILE ends in .csv; `plan --trace` reads both. show checks a "
             "file from end to end and names what is wrong and where.",
    .groups = groups,
    .operands_least = 1,
    .operands_most = 2,
    .operands = actions,
    .run = run,
};
