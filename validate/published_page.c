/* Writes the published runs beside the predictions. */
#include "validate/published_page.h"

#include <gsl/gsl_sort.h>
#include <gsl/gsl_statistics_double.h>
#include <math.h>
#include <string.h>
#include <unistd.h>

/* A paragraph a line; none where there is no such file. */
static bool read_remarks(const char *path, struct published_set *out, struct arena *a,
                         struct err *e)
{
    enum { REMARKS_MOST = 50, REMARK_BYTES = 8192 };
    char line[REMARK_BYTES];
    const char **remarks = ARENA_ARRAY(a, const char *, REMARKS_MOST);
    FILE *f = fopen(path, "r");
    bool ok = true;
    for (int at = 1; f && ok && fgets(line, sizeof line, f); at++) {
        size_t bytes = strcspn(line, "\n");
        ok = out->remark_count < REMARKS_MOST && bytes + 1 < sizeof line;
        line[bytes] = 0;
        if (!ok)
            err_set(e, ERR_INPUT, (struct err_at){path, at, 0},
                    "want at most %d lines of at most %d bytes", REMARKS_MOST, REMARK_BYTES - 2);
        else if (bytes > 0)
            remarks[out->remark_count++] = arena_strdup(a, line);
    }
    if (f)
        fclose(f);
    out->remarks = remarks;
    return ok;
}

bool published_all(const char *folder, struct published_set *out, struct arena *a, struct err *e)
{
    const char *path = arena_printf(a, "%s/published_runs.csv", folder);
    struct published_run *runs;
    int count;
    *out = (struct published_set){0};
    if (access(path, F_OK) != 0)
        return true;
    if (!published_read(path, &runs, &count, a, e))
        return false;
    struct published_answer *answers = ARENA_ARRAY(a, struct published_answer, count + 1);
    struct arena *scratch = arena_new();
    bool ok = true;
    for (int i = 0; i < count && ok; i++) {
        arena_reset(scratch);
        ok = published_answer(&runs[i], &answers[i], scratch, e);
    }
    arena_free(scratch);
    *out = (struct published_set){.count = count, .runs = runs, .answers = answers};
    return ok && read_remarks(arena_printf(a, "%s/published_runs.txt", folder), out, a, e);
}

/* ---- scores ---- */

enum published_kind published_kind(const struct published_run *r)
{
    if (r->unit == PUBLISHED_GB)
        return KIND_MEMORY;
    if (r->training)
        return KIND_TRAINING;
    return hw_gpus(r->cluster) > 1 ? KIND_SEVERAL : KIND_ONE_GPU;
}

/* Of the time: a rate that is 25% too high is a time that is 20% too short. */
static double time_off(const struct published_run *r, const struct published_answer *w)
{
    bool rate = r->unit == PUBLISHED_TFLOPS || r->unit == PUBLISHED_TOKENS;
    return rate ? 1 / (1 + w->off) - 1 : w->off;
}

static bool counts(const struct published_run *r, const struct published_ask *q)
{
    enum published_kind k = published_kind(r);
    return (q->kind == PUBLISHED_KINDS ? k != KIND_MEMORY : k == q->kind) &&
           (!q->project || !strcmp(q->project, r->project)) &&
           (!q->alone || !strncmp(r->beyond, "nothing", 7));
}

static double median(double *x, int n)
{
    gsl_sort(x, 1, (size_t)n);
    return n ? gsl_stats_median_from_sorted_data(x, 1, (size_t)n) : NAN;
}

void published_medians(double *off, struct published_score *k)
{
    k->bias = median(off, k->rows);
    for (int i = 0; i < k->rows; i++)
        off[i] = fabs(off[i]);
    k->median_off = median(off, k->rows);
}

struct published_score published_score(const struct published_set *s,
                                       const struct published_ask *ask, struct arena *a)
{
    struct published_score out = {0};
    double *off = ARENA_ARRAY(a, double, s->count + 1);
    for (int i = 0; i < s->count; i++) {
        bool seen = false;
        if (!counts(&s->runs[i], ask))
            continue;
        for (int k = 0; k < i && !seen; k++)
            seen = counts(&s->runs[k], ask) && !strcmp(s->runs[k].project, s->runs[i].project);
        out.projects += !seen;
        out.inside += s->answers[i].inside;
        off[out.rows] = time_off(&s->runs[i], &s->answers[i]);
        out.rows++;
    }
    published_medians(off, &out);
    return out;
}

/* ---- the section ---- */

static void score_row(const struct page *p, const char *name, const struct published_score *k,
                      bool memory, struct arena *a)
{
    const char *cells[] = {name,
                           arena_printf(a, "%d", k->rows),
                           arena_printf(a, "%d", k->projects),
                           arena_printf(a, "%.0f%%", 100 * k->median_off),
                           arena_printf(a, "%+.0f%%", 100 * k->bias),
                           memory ? "" : arena_printf(a, "%d of %d", k->inside, k->rows)};
    if (k->rows)
        page_row(p, cells, 6, false);
}

static void scores(const struct page *p, const struct published_set *s, struct arena *a)
{
    static const char *const head[] = {"which",        "rows",        "projects",
                                       "median error", "median bias", "in the 90% interval"};
    page_table_begin(p, head, 6);
    for (int k = 0; k < PUBLISHED_KINDS + 2; k++) {
        static const struct {
            const char *name;
            struct published_ask ask;
        } lines[PUBLISHED_KINDS + 2] = {
            {"all times", {PUBLISHED_KINDS, NULL, false}},
            {"of them, numbers that hold the passes alone", {PUBLISHED_KINDS, NULL, true}},
            {"inference, one GPU", {KIND_ONE_GPU, NULL, false}},
            {"inference, 2 to 8 GPUs", {KIND_SEVERAL, NULL, false}},
            {"training", {KIND_TRAINING, NULL, false}},
            {"memory", {KIND_MEMORY, NULL, false}},
        };
        struct published_score score = published_score(s, &lines[k].ask, a);
        score_row(p, lines[k].name, &score, lines[k].ask.kind == KIND_MEMORY, a);
    }
    for (int i = 0; i < s->count; i++) {
        bool seen = false;
        for (int k = 0; k < i && !seen; k++)
            seen = !strcmp(s->runs[k].project, s->runs[i].project);
        if (seen)
            continue;
        struct published_ask ask = {PUBLISHED_KINDS, s->runs[i].project, false};
        struct published_score score = published_score(s, &ask, a);
        score_row(p, arena_printf(a, "times of %s", s->runs[i].project), &score, false, a);
    }
    page_table_end(p);
}

static const char *number(double x, struct arena *a)
{
    return arena_printf(a, x < 10 ? "%.3g" : "%.0f", x);
}

static const char *range(double from, double to, struct arena *a)
{
    return to - from > 0.005 * from ? arena_printf(a, "%s to %s", number(from, a), number(to, a))
                                    : number(from, a);
}

static void run_row(const struct page *p, const struct published_run *r,
                    const struct published_answer *w, struct arena *a)
{
    bool memory = r->unit == PUBLISHED_GB, over = !memory && w->need_gb > w->has_gb;
    const char *cells[] = {r->id,
                           arena_printf(a, "%s %s", number(r->value, a), published_units[r->unit]),
                           range(w->least, w->most, a),
                           memory ? "" : range(w->low, w->high, a),
                           arena_printf(a, "%+.0f%%", 100 * w->off),
                           memory      ? ""
                           : w->inside ? "yes"
                                       : "no",
                           r->beyond,
                           over ? arena_printf(a, "%s; by our count it needs %.0f of %.0f GB",
                                               r->assumed, w->need_gb, w->has_gb)
                                : r->assumed};
    page_row(p, cells, 8, false);
}

static void runs(const struct page *p, const struct published_set *s, struct arena *a)
{
    static const char *const head[] = {"run",
                                       "published",
                                       "predicted",
                                       "90% interval",
                                       "error",
                                       "inside",
                                       "what else the number holds",
                                       "assumed"};
    page_table_begin(p, head, 8);
    for (int i = 0; i < s->count; i++)
        run_row(p, &s->runs[i], &s->answers[i], a);
    page_table_end(p);
}

static void sources(const struct page *p, const struct published_set *s, struct arena *a)
{
    const char *text = "Sources:";
    for (int i = 0; i < s->count; i++) {
        bool seen = false;
        for (int k = 0; k < i && !seen; k++)
            seen = !strcmp(s->runs[k].source, s->runs[i].source);
        if (!seen)
            text = arena_printf(a, "%s%s %s: %s", text, i ? ";" : "", s->runs[i].project,
                                s->runs[i].source);
    }
    page_paragraph(p, arena_printf(a, "%s.", text));
}

static const char intro_text[] =
    "Whole inference runs, training steps and peak memory as other projects published them, beside "
    "what `shardwise plan` says with the options that the publication names. Nothing is fitted to "
    "these rows. Where kernels, exchange or checkpointing are not said the row names what may be "
    "meant and the prediction is a range over it; its error is taken from the middle of the range.";

void published_page(const struct page *p, const struct published_set *s, struct arena *a)
{
    if (!s->count)
        return;
    page_heading(p, "Runs that others published");
    page_paragraph(p, intro_text);
    scores(p, s, a);
    for (int i = 0; i < s->remark_count; i++)
        page_paragraph(p, s->remarks[i]);
    runs(p, s, a);
    sources(p, s, a);
}
