/* sweep: a study's grid of plans, a row for each point, kept in a file that a killed run goes on
 * with. A point is what `plan` would be given on its command line. */
#include <pthread.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/preset.h"
#include "cli/sweep_view.h"
#include "cli/whatif.h"
#include "planner/launch.h"
#include "planner/sweep.h"

enum { JOBS_MOST = 256 };

static const char *const plot_columns[] = {"step_s", "samples_per_s", "gpu_s_per_sample",
                                           "memory_bytes", NULL};
static const char *const format_names[] = {"text", "csv", "json", NULL};

static const struct arg_group sweep_options = {
    "Sweep",
    (const struct arg_option[]){
        OPTION_FLAG("resume", "go on with the rows that a killed sweep left"),
        OPTION_INT("jobs", 1, JOBS_MOST, "N", "points at a time (all processors); same bytes"),
        OPTION_TEXT("plot", "FILE", "file", "write a gnuplot script with the results in it"),
        OPTION_CHOICE("plot-y", plot_columns, "COLUMN", "what it draws (step_s)"),
        OPTION_CHOICE("format", format_names, "FORM", "of the results on standard output (text)"),
        OPTION_OUTPUT("the rows' file (the study's name with .csv, in this folder); - writes the "
                      "rows to standard output and nothing else"),
        OPTION_END}};

/* ---- what parameters are ---- */

static const struct arg_option *option_of(const char *name)
{
    for (int i = 0; whatif_groups[i]; i++)
        for (const struct arg_option *o = whatif_groups[i]->options; o->name; o++)
            if (strcmp(o->name, name) == 0)
                return o;
    return NULL;
}

static const char *const *parameter_names(struct arena *a)
{
    int count = 2;
    for (int i = 0; whatif_groups[i]; i++)
        for (const struct arg_option *o = whatif_groups[i]->options; o->name; o++)
            count++;
    const char **names = ARENA_ARRAY(a, const char *, count + 1);
    names[0] = "resolution";
    names[1] = "frames";
    count = 2;
    for (int i = 0; whatif_groups[i]; i++)
        for (const struct arg_option *o = whatif_groups[i]->options; o->name; o++)
            names[count++] = o->name;
    return names;
}

static bool is_number(const void *data, const char *name, enum qty_dim *dim, bool *whole)
{
    const struct arg_option *o = option_of(name);
    (void)data;
    *whole = !o || o->kind == ARG_INT;
    *dim = o && o->kind == ARG_QTY ? o->dim : QTY_NUMBER;
    return o ? o->kind == ARG_INT || o->kind == ARG_QTY : strcmp(name, "frames") == 0;
}

static bool flag_value(const char *name, const char *text, struct err_at at, bool *yes,
                       struct err *e)
{
    static const char *const words[] = {"no", "false", "yes", "true"};
    for (int i = 0; i < 4; i++)
        if (strcmp(text, words[i]) == 0) {
            *yes = i >= 2;
            return true;
        }
    return err_set(e, ERR_INPUT, at, "%s: '%.40s', want yes or no", name, text);
}

/* What the option's table says of the text, at the study's place. */
static bool check_option(const char *name, const char *text, struct err_at at, struct arena *a,
                         struct err *e)
{
    struct arg_setting set = {name, text};
    struct err found = {0};
    if (args_over(NULL, "plan", whatif_groups, &set, 1, a, &found))
        return true;
    return err_set(e, ERR_INPUT, at, "%s",
                   found.text + (strncmp(found.text, "--", 2) == 0 ? 2 : 0));
}

/* Names of files and presets must be there before the first point is. */
static bool check_file(const char *name, const char *text, struct err_at at, struct arena *a,
                       struct err *e)
{
    if (strcmp(name, "model") == 0)
        return dit_load(text, at, a, e);
    if (strcmp(name, "cluster") == 0)
        return hw_cluster_load(text, at, a, e);
    if (strcmp(name, "kernels") == 0)
        return kern_load(text, at, a, e);
    if (strcmp(name, "for") == 0)
        return launch_load(text, at, a, e);
    return strcmp(name, "trace") != 0 || preset_find("sparsity", text, at, a, e);
}

static bool check_value(const void *data, const char *name, const char *text, struct err_at at,
                        struct err *e)
{
    const struct arg_option *o = option_of(name);
    struct arena *scratch = arena_new();
    struct whatif_sides sides;
    int64_t frames;
    bool yes, ok;
    (void)data;
    if (strcmp(name, "resolution") == 0)
        ok = whatif_resolution(text, at, &sides, e);
    else if (!o)
        ok = qty_parse_int(text, 1, DIT_SIDE_MAX, name, at, &frames, e);
    else if (o->kind == ARG_FLAG)
        ok = flag_value(name, text, at, &yes, e);
    else
        ok = check_option(name, text, at, scratch, e) && check_file(name, text, at, scratch, e);
    arena_free(scratch);
    return ok;
}

/* ---- one point ---- */

struct job {
    struct cli *c;
    const struct study *study;
    pthread_mutex_t loading; /* files: HDF5 is not made for several threads */
    int64_t shown;
};

/* The options that a point's parameters stand for. */
static bool settings_of(const struct study *s, const char *const *text, struct arg_setting *set,
                        int *count, struct arena *a, struct err *e)
{
    const char *resolution = NULL, *frames = NULL;
    struct err_at at = err_at_name(NULL);
    bool yes = false;
    *count = 0;
    for (int i = 0; i < s->params; i++) {
        const struct arg_option *o = option_of(s->param[i]);
        if (!text[i])
            continue;
        if (!o)
            *(strcmp(s->param[i], "frames") == 0 ? &frames : &resolution) = text[i];
        else if (o->kind != ARG_FLAG)
            set[(*count)++] = (struct arg_setting){s->param[i], text[i]};
        else if (flag_value(s->param[i], text[i], at, &yes, e) && yes)
            set[(*count)++] = (struct arg_setting){s->param[i], ""};
    }
    if (!resolution != !frames)
        return err_set(e, ERR_INPUT, at, "resolution and frames go together");
    if (resolution)
        set[(*count)++] =
            (struct arg_setting){"clip", arena_printf(a, "%sx%s", resolution, frames)};
    return true;
}

static bool load_point(struct job *j, const char *const *text, struct prov *prov, struct arena *a,
                       struct plan_request *r, struct err *e)
{
    struct arg_setting *set = ARENA_ARRAY(a, struct arg_setting, j->study->params + 1);
    struct cli c = {.command = j->c->command, .a = a, .scratch = a, .prov = prov};
    int count;
    if (!settings_of(j->study, text, set, &count, a, e))
        return false;
    pthread_mutex_lock(&j->loading);
    bool ok = whatif_request(&c, set, count, a, r, e);
    pthread_mutex_unlock(&j->loading);
    return ok;
}

static bool solve(void *data, const char *const *text, const char **cells, struct arena *a,
                  struct err *e)
{
    struct job *j = data;
    struct plan_request r = {0};
    struct plan_fit f = {.verdict = FIT_IMPOSSIBLE};
    struct err refused = {0};
    bool loaded = load_point(j, text, prov_new(a, 0, NULL, 0), a, &r, &refused);
    if (!loaded && refused.code != ERR_INPUT) {
        *e = refused;
        return false;
    }
    if (!loaded)
        snprintf(f.reason, sizeof f.reason, "%s", refused.text);
    else if (!plan_fit(&r, &(struct plan_limits){0}, &f, a, e))
        return false;
    sweep_view_cells(&f, loaded ? r.c.video_tokens : 0, cells, a);
    return true;
}

static void show_progress(void *data, int64_t rows, int64_t all)
{
    struct job *j = data;
    if (!isatty(STDERR_FILENO) || (rows * 100 / all == j->shown && rows < all))
        return;
    j->shown = rows * 100 / all;
    fprintf(stderr, "\r%lld of %lld points%s", (long long)rows, (long long)all,
            rows == all ? "\n" : "");
}

/* ---- the sweep ---- */

/* Inputs of the points along an axis whose values name files; a point that cannot be is a row, not
 * an error. */
static void note_inputs(struct job *j, struct prov *prov)
{
    const struct study *s = j->study;
    static const char *const files[] = {"model", "cluster", "kernels", "trace", "measured", "for"};
    const char **text = ARENA_ARRAY(j->c->a, const char *, s->params);
    int64_t stride = 1;
    for (int x = s->axes - 1; x >= 0; stride *= s->axis[x--].count) {
        bool named = s->axis[x].cases || x == 0;
        for (size_t k = 0; k < sizeof files / sizeof *files; k++)
            named |= strcmp(s->param[s->axis[x].param], files[k]) == 0;
        for (int v = 0; v < (named ? s->axis[x].count : 0); v++) {
            struct plan_request r;
            struct err e = {0};
            arena_reset(j->c->scratch);
            study_point(s, v * stride, text);
            load_point(j, text, prov, j->c->scratch, &r, &e);
        }
    }
}

/* What rows rest on: version and inputs. The command is the study's alone, so that a resumed sweep
 * has the same head. */
static const char *head_of(struct job *j)
{
    char *words[] = {(char *)"shardwise", (char *)"sweep", (char *)args_operand(j->c->args, 0)};
    struct prov *prov = prov_new(j->c->a, 3, words, 0);
    char *text = NULL;
    size_t size;
    note_inputs(j, prov);
    FILE *out = open_memstream(&text, &size);
    prov_comment(prov, out);
    fclose(out);
    const char *copy = arena_strndup(j->c->a, text, size);
    free(text);
    return copy;
}

/* "dir/study.yaml" -> "study.csv" */
static const char *rows_path(const struct cli *c)
{
    const char *given = args_text(c->args, "output"), *study = args_operand(c->args, 0);
    if (given)
        return given;
    const char *slash = strrchr(study, '/'), *base = slash ? slash + 1 : study,
               *dot = strrchr(base, '.');
    return arena_printf(c->a, "%.*s.csv",
                        (int)(dot && dot > base ? dot - base : (long)strlen(base)), base);
}

static bool run_to(struct job *j, const struct sweep *s, const char *path, int64_t *already,
                   struct err *e)
{
    if (strcmp(path, "-") != 0)
        return sweep_file(s, path, args_given(j->c->args, "resume"), already, e);
    if (args_given(j->c->args, "resume"))
        return err_set(e, ERR_INPUT, args_at(j->c->args, "resume"),
                       "needs a file of rows, not standard output");
    return sweep_stream(s, "standard output", stdout, e);
}

static bool view(struct job *j, const char *path, int64_t already, struct err *e)
{
    struct sweep_view v = {.study = j->study, .path = path, .prov = j->c->prov, .already = already};
    struct cli *c = j->c;
    if (!prov_input(c->prov, args_operand(c->args, 0), e) || !csv_read(path, c->a, &v.rows, e))
        return false;
    sweep_view_print(&v, c->format, stdout, c->a);
    const char *plot = args_text(c->args, "plot");
    if (plot && !sweep_view_plot(&v, plot, plot_columns[args_choice_or(c->args, "plot-y", 0)],
                                 is_number, c->a, e))
        return false;
    return sweep_view_verdict(&v, e);
}

/* Without these every point would be impossible. */
static bool check_needed(const struct study *s, struct err *e)
{
    static const char *const needed[] = {"model", "cluster"};
    for (int k = 0; k < 2; k++) {
        bool found = false;
        for (int p = 0; p < s->params; p++)
            found |= strcmp(s->param[p], needed[k]) == 0;
        if (!found)
            return err_set(e, ERR_INPUT, err_at_name(s->path), "the parameter '%s' is missing",
                           needed[k]);
    }
    return true;
}

static bool run(struct cli *c, struct err *e)
{
    struct job j = {.c = c};
    struct study_terms terms = {parameter_names(c->a), NULL, is_number, check_value};
    const char *path = rows_path(c);
    int64_t already = 0;
    bool to_stdout = strcmp(path, "-") == 0;
    if (to_stdout && args_given(c->args, "plot"))
        return err_set(e, ERR_INPUT, args_at(c->args, "plot"), "needs a file of rows, not -o -");
    if (strcmp(args_operand(c->args, 0), "-") == 0)
        return err_set(e, ERR_INPUT, err_at_name("-"),
                       "want a study in a file: --resume reads it again");
    j.study = study_read(args_operand(c->args, 0), &terms, c->a, e);
    if (!j.study || !check_needed(j.study, e))
        return false;
    long processors = sysconf(_SC_NPROCESSORS_ONLN);
    int jobs = processors < 1 ? 1 : processors > JOBS_MOST ? JOBS_MOST : (int)processors;
    pthread_mutex_init(&j.loading, NULL);
    struct sweep s = {.study = j.study,
                      .columns = sweep_view_columns,
                      .head = head_of(&j),
                      .data = &j,
                      .solve = solve,
                      .jobs = (int)args_int_or(c->args, "jobs", jobs),
                      .done = show_progress};
    bool ok = run_to(&j, &s, path, &already, e);
    pthread_mutex_destroy(&j.loading);
    return ok && (to_stdout || view(&j, path, already, e));
}

const struct command cmd_sweep = {
    .name = "sweep",
    .brief = "plan every point of a study's grid; a row each, kept across a kill",
    .usage = "STUDY.yaml [--resume] [--jobs N] [-o ROWS.csv] [--plot FILE.gp]",
    .example = "shardwise sweep docs/study.yaml -o clips.csv --plot clips.gp\n"
               "shardwise sweep docs/study.yaml -o clips.csv --resume",
    .about =
        "A study gives parameters of `plan` one value, a list, or a range, and may list cases "
        "whose parameters go together; every combination is a point. Parameters are the "
        "options of `plan` that say what to plan, and resolution and frames for the clip. "
        "Each point's row says whether it fits and how long it takes, or what is short or "
        "impossible, and is written as soon as it is known, in the order of the points. A row "
        "has the same numbers as `plan` with these options.\n\n"
        "--resume goes on with the file of a sweep that was killed: points are known by a hash "
        "of their parameters, and a file of another study, version or input is refused. The "
        "file comes out as if the sweep had not been killed. docs/formats.md describes study "
        "and rows. Exit status 3 when no point fits.",
    .groups = (const struct arg_group *const[]){&sweep_options, NULL},
    .study = whatif_groups,
    .operands_least = 1,
    .operands_most = 1,
    .run = run,
};
