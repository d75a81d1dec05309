/* Runs on several GPUs, predicted from the same run on one. */
#include "validate/published_anchor.h"

#include <math.h>
#include <string.h>

#include "planner/one_gpu.h"

static bool passes_alone(const struct published_run *r)
{
    return !strncmp(r->beyond, "nothing", 7);
}

double anchor_predict(const struct published_set *s, int i, enum anchor_rule rule)
{
    const struct published_run *r = &s->runs[i];
    const struct published_answer *w = &s->answers[i];
    if (rule == ANCHOR_NONE)
        return sqrt(w->least * w->most);
    if (r->one_gpu < 0)
        return NAN;
    if (rule == ANCHOR_MIDDLE)
        return sqrt(anchor_predict(s, i, ANCHOR_REST) * anchor_predict(s, i, ANCHOR_RATIO));
    const struct published_answer *one = &s->answers[r->one_gpu];
    double least = INFINITY, most = 0;
    int each = w->picks / r->kernel_count;
    bool ratio = rule == ANCHOR_RATIO || (rule == ANCHOR_ROW && passes_alone(r));
    for (int k = 0; k < w->picks; k++) {
        struct plan_one_gpu from =
            plan_from_one_gpu(s->runs[r->one_gpu].value, one->pick[k / each], w->pick[k]);
        double t = ratio ? from.scales_s : from.stays_s;
        least = fmin(least, t);
        most = fmax(most, t);
    }
    return sqrt(least * most);
}

static bool wanted(const struct published_run *r, const char *project)
{
    return r->one_gpu >= 0 && (!project || !strcmp(project, r->project));
}

/* The first of its project among the runs that have a row of one GPU. */
static bool is_first(const struct published_set *s, int i)
{
    for (int k = 0; k < i; k++)
        if (wanted(&s->runs[k], s->runs[i].project))
            return false;
    return true;
}

struct published_score anchor_score(const struct published_set *s, enum anchor_rule rule,
                                    const char *project, struct arena *a)
{
    struct published_score out = {0};
    double *off = ARENA_ARRAY(a, double, s->count + 1);
    for (int i = 0; i < s->count; i++) {
        if (!wanted(&s->runs[i], project))
            continue;
        double rest = anchor_predict(s, i, ANCHOR_REST), ratio = anchor_predict(s, i, ANCHOR_RATIO);
        out.projects += is_first(s, i);
        out.inside +=
            s->runs[i].value >= fmin(rest, ratio) && s->runs[i].value <= fmax(rest, ratio);
        off[out.rows] = anchor_predict(s, i, rule) / s->runs[i].value - 1;
        out.rows++;
    }
    published_medians(off, &out);
    return out;
}

/* ---- the section ---- */

static const char *off_text(const struct published_score *k, struct arena *a)
{
    return arena_printf(a, "%.0f%% (%+.0f%%)", 100 * k->median_off, 100 * k->bias);
}

static void score_row(const struct page *p, const struct published_set *s, const char *name,
                      const char *project, struct arena *a)
{
    const char *cells[ANCHOR_RULES + 3] = {name};
    for (int rule = 0; rule < ANCHOR_RULES; rule++) {
        struct published_score k = anchor_score(s, (enum anchor_rule)rule, project, a);
        cells[1] = arena_printf(a, "%d", k.rows);
        cells[2 + rule] = off_text(&k, a);
        cells[2 + ANCHOR_RULES] = arena_printf(a, "%d of %d", k.inside, k.rows);
    }
    page_row(p, cells, ANCHOR_RULES + 3, false);
}

static void scores(const struct page *p, const struct published_set *s, struct arena *a)
{
    static const char *const head[ANCHOR_RULES + 3] = {
        "which",      "rows",         "not measured", "by the rule",
        "rest stays", "passes scale", "their middle", "between the two"};
    page_table_begin(p, head, ANCHOR_RULES + 3);
    score_row(p, s, "all", NULL, a);
    for (int i = 0; i < s->count; i++)
        if (s->runs[i].one_gpu >= 0 && is_first(s, i))
            score_row(p, s, s->runs[i].project, s->runs[i].project, a);
    page_table_end(p);
}

static void run_rows(const struct page *p, const struct published_set *s, struct arena *a)
{
    static const char *const head[] = {
        "run",          "one GPU, published", "one GPU, predicted",       "published",
        "not measured", "by the rule",        "passes scale, rest stays", "their middle",
        "its error"};
    page_table_begin(p, head, 9);
    for (int i = 0; i < s->count; i++) {
        const struct published_run *r = &s->runs[i];
        double t[ANCHOR_RULES];
        for (int rule = 0; rule < ANCHOR_RULES; rule++)
            t[rule] = anchor_predict(s, i, (enum anchor_rule)rule);
        if (r->one_gpu < 0)
            continue;
        const char *cells[] = {r->id,
                               arena_printf(a, "%.4g s", s->runs[r->one_gpu].value),
                               arena_printf(a, "%.4g", anchor_predict(s, r->one_gpu, ANCHOR_NONE)),
                               arena_printf(a, "%.4g s", r->value),
                               arena_printf(a, "%.4g", t[ANCHOR_NONE]),
                               arena_printf(a, "%.4g", t[ANCHOR_ROW]),
                               arena_printf(a, "%.4g to %.4g", t[ANCHOR_RATIO], t[ANCHOR_REST]),
                               arena_printf(a, "%.4g", t[ANCHOR_MIDDLE]),
                               arena_printf(a, "%+.0f%%", 100 * (t[ANCHOR_MIDDLE] / r->value - 1))};
        page_row(p, cells, 9, false);
    }
    page_table_end(p);
}

static const char intro_text[] =
    "Who has timed a run on one GPU knows what the passes do not hold. Runs on several GPUs whose "
    "publication has the same run on one, predicted again with that time at hand. The rule, "
    "written down before it was tried: published less predicted on one GPU stays as it is on any "
    "number (VAE, text encoders, host); where it is negative, or where the number holds the passes "
    "alone, the passes scale by published over predicted. Beside it either half for all rows. "
    "Their geometric middle was added when the first 25 rows were seen, and then tried on the rows "
    "of ML.ENERGY, entered later. Median error, and median bias in brackets; \"between\": the "
    "published time lies between the halves. `plan --one-gpu TIME` gives both halves.";

void anchor_page(const struct page *p, const struct published_set *s, struct arena *a)
{
    if (!anchor_score(s, ANCHOR_NONE, NULL, a).rows)
        return;
    page_heading(p, "From one measured GPU to several");
    page_paragraph(p, intro_text);
    scores(p, s, a);
    run_rows(p, s, a);
}
