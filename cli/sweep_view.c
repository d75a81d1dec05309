#include "cli/sweep_view.h"

#include <math.h>
#include <string.h>

#include "base/outfile.h"
#include "planner/explain.h"

enum { ROWS_SHOWN = 60, LINES_MOST = 64 };

/* The columns of results: as they are in the file, and as people see them. */
static const struct {
    struct table_col col;
    bool shown; /* in text */
} results[] = {
    {{"verdict", "fits", TABLE_STR, 0}, true},
    {{"n_gpus", "GPUs", TABLE_INT, 0}, true},
    {{"cp_degree", "CP", TABLE_INT, 0}, true},
    {{"replicas", "replicas", TABLE_INT, 0}, false},
    {{"split", "split", TABLE_STR, 0}, true},
    {{"video_tokens", "tokens", TABLE_QTY, QTY_NUMBER}, true},
    {{"step_s", "step", TABLE_QTY, QTY_SECONDS}, true},
    {{"step_low_s", "from", TABLE_QTY, QTY_SECONDS}, false},
    {{"step_high_s", "to", TABLE_QTY, QTY_SECONDS}, false},
    {{"samples_per_s", "samples/s", TABLE_QTY, QTY_NUMBER}, true},
    {{"gpu_s_per_sample", "GPU time/sample", TABLE_QTY, QTY_SECONDS}, true},
    {{"memory_bytes", "memory", TABLE_QTY, QTY_BYTES}, true},
    {{"memory_limit_bytes", "of", TABLE_QTY, QTY_BYTES}, false},
    {{"short_bytes", "short", TABLE_QTY, QTY_BYTES}, false},
    {{"memory_part", "largest part", TABLE_STR, 0}, false},
    {{"part_bytes", "part", TABLE_QTY, QTY_BYTES}, false},
    {{"rank", "rank", TABLE_INT, 0}, false},
    {{"block", "block", TABLE_INT, 0}, false},
    {{"time_part", "most of the time", TABLE_STR, 0}, false},
    {{"time_share", "share", TABLE_QTY, QTY_RATIO}, false},
    {{"reason", "why not", TABLE_STR, 0}, true},
};
enum { RESULTS = sizeof results / sizeof *results };

const char *const sweep_view_columns[] = {"verdict",
                                          "n_gpus",
                                          "cp_degree",
                                          "replicas",
                                          "split",
                                          "video_tokens",
                                          "step_s",
                                          "step_low_s",
                                          "step_high_s",
                                          "samples_per_s",
                                          "gpu_s_per_sample",
                                          "memory_bytes",
                                          "memory_limit_bytes",
                                          "short_bytes",
                                          "memory_part",
                                          "part_bytes",
                                          "rank",
                                          "block",
                                          "time_part",
                                          "time_share",
                                          "reason",
                                          NULL};
_Static_assert(sizeof sweep_view_columns / sizeof *sweep_view_columns == RESULTS + 1,
               "one name for each result");

/* ---- cells ---- */

struct cells {
    const char **cell;
    struct arena *a;
};

static void put_text(struct cells *c, const char *text)
{
    *c->cell++ = text && *text ? arena_strdup(c->a, text) : NULL;
}

static void put_num(struct cells *c, double value)
{
    char text[32];
    put_text(c, isnan(value) ? NULL : qty_exact(value, text, sizeof text));
}

void sweep_view_cells(const struct plan_fit *f, int64_t video_tokens, const char **cells,
                      struct arena *a)
{
    struct cells c = {cells, a};
    bool known = f->verdict != FIT_IMPOSSIBLE, timed = f->verdict < FIT_MEMORY;
    enum mem_part part = mem_limiting(&f->memory);
    char conf[96];
    put_text(&c, fit_verdict_names[f->verdict]);
    put_num(&c, f->gpus ? f->gpus : NAN);
    put_num(&c, known ? f->cp : NAN);
    put_num(&c, known ? f->replicas : NAN);
    put_text(&c, known ? cp_conf_text(&f->conf, conf, sizeof conf) : NULL);
    put_num(&c, video_tokens ? (double)video_tokens : NAN);
    put_num(&c, timed ? f->step.value_s : NAN);
    put_num(&c, timed ? f->step.low_s : NAN);
    put_num(&c, timed ? f->step.high_s : NAN);
    put_num(&c, timed ? f->samples_per_s : NAN);
    put_num(&c, timed ? f->gpus / f->samples_per_s : NAN);
    put_num(&c, known ? f->memory.total : NAN);
    put_num(&c, known ? f->memory_limit : NAN);
    put_num(&c, known ? fmax(fit_short(f), 0) : NAN);
    put_text(&c, known ? mem_part_names[part] : NULL);
    put_num(&c, known ? f->memory.part[part] : NAN);
    put_num(&c, known ? f->memory.rank : NAN);
    put_num(&c, known ? f->memory.block : NAN);
    put_text(&c, timed ? plan_class_names[f->slow] : NULL);
    put_num(&c, timed ? f->slow_share : NAN);
    put_text(&c, f->reason);
}

/* ---- printing ---- */

static const char *cell_of(const struct sweep_view *v, int row, const char *column)
{
    int c = csv_column(&v->rows, column);
    return c < 0 ? "" : csv_cell(&v->rows, row, c);
}

static void put_cell(struct table *t, const struct table_col *col, const char *text)
{
    struct err e = {0};
    double value;
    if (!*text)
        table_str(t, NULL);
    else if (col->kind == TABLE_STR)
        table_str(t, text);
    else if (!qty_parse(text, QTY_NUMBER, col->key, err_at_name(NULL), &value, &e))
        table_str(t, NULL); /* a row that someone has changed */
    else if (col->kind == TABLE_INT)
        table_int(t, (int64_t)value);
    else
        table_num(t, value);
}

/* Parameters first: those that vary (text), or all. */
static struct table *rows_table(const struct sweep_view *v, bool text, struct arena *a)
{
    const struct study *s = v->study;
    struct table_col *cols = ARENA_ARRAY(a, struct table_col, s->params + RESULTS + 1);
    int count = 0, rows = text && v->rows.rows > ROWS_SHOWN ? ROWS_SHOWN : v->rows.rows;
    if (!text)
        cols[count++] = (struct table_col){"point", "point", TABLE_STR, 0};
    for (int p = 0; p < s->params; p++)
        if (!text || study_varies(s, p))
            cols[count++] = (struct table_col){s->param[p], s->param[p], TABLE_STR, 0};
    for (int k = 0; k < RESULTS; k++)
        if (!text || results[k].shown)
            cols[count++] = results[k].col;
    struct table *t = table_new(a, cols, count);
    for (int row = 0; row < rows; row++)
        for (int k = 0; k < count; k++)
            put_cell(t, &cols[k], cell_of(v, row, cols[k].key));
    return t;
}

static int count_verdict(const struct sweep_view *v, enum fit_verdict verdict)
{
    int count = 0;
    for (int row = 0; row < v->rows.rows; row++)
        count += strcmp(cell_of(v, row, "verdict"), fit_verdict_names[verdict]) == 0;
    return count;
}

static void print_text(const struct sweep_view *v, FILE *out, struct arena *a)
{
    fprintf(out, "%s: %d points, %d fit, %d do not, %d are impossible; rows in %s", v->study->name,
            v->rows.rows, count_verdict(v, FIT_YES), count_verdict(v, FIT_MEMORY),
            count_verdict(v, FIT_IMPOSSIBLE), v->path);
    if (v->already > 0)
        fprintf(out, ", %lld of them from before", (long long)v->already);
    fputs(".\n\n", out);
    table_print(rows_table(v, true, a), TABLE_TEXT, out);
    if (v->rows.rows > ROWS_SHOWN)
        fprintf(out, "and %d rows more\n", v->rows.rows - ROWS_SHOWN);
}

void sweep_view_print(const struct sweep_view *v, enum table_format format, FILE *out,
                      struct arena *a)
{
    if (format != TABLE_JSON)
        prov_comment(v->prov, out);
    if (format == TABLE_TEXT) {
        print_text(v, out, a);
        return;
    }
    if (format == TABLE_CSV) {
        table_print(rows_table(v, false, a), TABLE_CSV, out);
        return;
    }
    struct json j = json_to(out);
    json_object(&j, NULL);
    prov_json(v->prov, &j);
    json_text(&j, "study", v->study->name);
    json_text(&j, "rows_file", v->path);
    table_json(rows_table(v, false, a), &j, "points");
    json_end(&j);
    fputc('\n', out);
}

bool sweep_view_verdict(const struct sweep_view *v, struct err *e)
{
    int nearest = -1;
    double least = INFINITY;
    if (count_verdict(v, FIT_YES) > 0 || v->rows.rows == 0)
        return true;
    for (int row = 0; row < v->rows.rows; row++) {
        double bytes = 0;
        struct err none = {0};
        if (qty_parse(cell_of(v, row, "short_bytes"), QTY_NUMBER, "", err_at_name(NULL), &bytes,
                      &none) &&
            bytes < least) {
            least = bytes;
            nearest = row;
        }
    }
    if (nearest < 0)
        return err_set(e, ERR_INPUT, err_at_name(v->path), "no point is possible; the first: %s",
                       cell_of(v, 0, "reason"));
    return err_set(e, ERR_INFEASIBLE, err_at_name(v->path),
                   "no point fits; nearest, in line %d: %s", v->rows.line[nearest],
                   cell_of(v, nearest, "reason"));
}

/* ---- gnuplot ---- */

/* The others' values: which line a row belongs to. */
static const char *series_of(const struct sweep_view *v, int row, int x, struct arena *a)
{
    char *text = arena_strdup(a, "");
    for (int p = 0; p < v->study->params; p++)
        if (p != x && study_varies(v->study, p))
            text = arena_printf(a, "%s%s%s %s", text, *text ? ", " : "", v->study->param[p],
                                cell_of(v, row, v->study->param[p]));
    return text;
}

/* Backslashes and quotes end or change a gnuplot string. */
static void put_quoted(FILE *out, const char *text)
{
    fputc('\'', out);
    for (; *text; text++)
        fputs(*text == '\'' ? "''" : (char[]){*text, 0}, out);
    fputc('\'', out);
}

/* Lines and which one each row is on. */
struct lines {
    int count, *of_row;
    const char *name[LINES_MOST];
};

static bool find_lines(const struct sweep_view *v, int x, const char *y, struct lines *l,
                       struct arena *a, struct err *e)
{
    l->of_row = ARENA_ARRAY(a, int, v->rows.rows + 1);
    for (int row = 0; row < v->rows.rows; row++) {
        if (!*cell_of(v, row, y))
            continue;
        const char *text = series_of(v, row, x, a);
        int k = 0;
        while (k < l->count && strcmp(l->name[k], text) != 0)
            k++;
        if (k == LINES_MOST)
            return err_set(e, ERR_INPUT, err_at_name("--plot"),
                           "more than %d lines; a study of fewer varying parameters can be drawn",
                           LINES_MOST);
        if (k == l->count)
            l->name[l->count++] = text;
        l->of_row[row] = k;
    }
    return l->count > 0 ||
           err_set(e, ERR_INFEASIBLE, err_at_name("--plot"), "no point has a %s", y);
}

static void put_data(FILE *out, const struct sweep_view *v, int x, enum qty_dim dim, const char *y,
                     const struct lines *l, int line)
{
    double value;
    for (int row = 0; row < v->rows.rows; row++) {
        const char *height = cell_of(v, row, y);
        struct err e = {0};
        if (*height && l->of_row[row] == line &&
            qty_parse(cell_of(v, row, v->study->param[x]), dim, "", err_at_name(NULL), &value, &e))
            fprintf(out, "%s %s\n", qty_exact(value, QTY_BUF), height);
    }
}

/* The picture stands where gnuplot is run, named as the script: plots/clips.gp draws clips.svg. */
static void put_picture(FILE *out, const char *script, struct arena *a)
{
    const char *slash = strrchr(script, '/'), *name = slash ? slash + 1 : script;
    const char *dot = strrchr(name, '.');
    size_t length = dot && dot > name ? (size_t)(dot - name) : strlen(name);
    fputs("set terminal svg size 1100,540 font 'sans,14' background rgb 'white'\nset output ", out);
    put_quoted(out, arena_printf(a, "%.*s.svg", (int)length, name));
    fputc('\n', out);
}

/* Values over more than a decade, as a range with `scale: log` has them. */
static bool wide_range(const struct sweep_view *v, int x, enum qty_dim dim)
{
    double least = INFINITY, most = 0, value;
    for (int row = 0; row < v->rows.rows; row++) {
        struct err e = {0};
        if (!qty_parse(cell_of(v, row, v->study->param[x]), dim, "", err_at_name(NULL), &value, &e))
            continue;
        least = fmin(least, value);
        most = fmax(most, value);
    }
    return least > 0 && most > 15 * least;
}

static void put_script(FILE *out, const struct sweep_view *v, int x, enum qty_dim dim,
                       const char *y, const struct lines *l)
{
    for (int k = 0; k < l->count; k++) {
        fprintf(out, "$d%d << EOD\n", k);
        put_data(out, v, x, dim, y, l, k);
        fputs("EOD\n", out);
    }
    fprintf(out,
            "set key outside noenhanced\nset xlabel '%s' noenhanced\nset ylabel '%s' "
            "noenhanced\nset title ",
            v->study->param[x], y);
    put_quoted(out, v->study->name);
    fprintf(out, " noenhanced\nset logscale %s\nset grid\nplot ",
            wide_range(v, x, dim) ? "xy" : "y");
    for (int k = 0; k < l->count; k++) {
        fprintf(out, "%s$d%d using 1:2 with linespoints title ", k ? ", \\\n     " : "", k);
        put_quoted(out, l->name[k]);
    }
    fputc('\n', out);
}

bool sweep_view_plot(const struct sweep_view *v, const char *path, const char *y,
                     bool (*number)(const void *data, const char *name, enum qty_dim *dim,
                                    bool *whole),
                     struct arena *a, struct err *e)
{
    enum qty_dim dim = QTY_NUMBER;
    bool whole;
    int x = 0;
    while (x < v->study->params &&
           !(study_varies(v->study, x) && number(NULL, v->study->param[x], &dim, &whole)))
        x++;
    if (x == v->study->params)
        return err_set(e, ERR_INPUT, err_at_name("--plot"),
                       "no parameter of the study is a number and varies");
    struct lines l = {0};
    struct outfile *f = find_lines(v, x, y, &l, a, e) ? outfile_open(path, a, e) : NULL;
    if (!f)
        return false;
    fprintf(outfile_stream(f), "# gnuplot %s; rows of %s\n", path, v->path);
    put_picture(outfile_stream(f), path, a);
    put_script(outfile_stream(f), v, x, dim, y, &l);
    return outfile_done(f, e);
}
