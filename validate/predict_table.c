/* Predictions beside measurements. */
#include "validate/predict_table.h"

#include <math.h>
#include <string.h>

#include "base/csv.h"
#include "validate/lsq.h"

struct cached { /* profiles by the GPU name of the table */
    const char *gpu, *name;
    const struct prof_net *net;
    const struct prof_kernels *kernels;
};
enum { MOST_GPUS = 256 };
struct cache {
    struct cached of[MOST_GPUS];
    int count;
};

static bool load(struct cached *c, const char *profile, bool net, struct arena *a, struct err *e)
{
    const char *kind = net ? "net" : "curve";
    c->name = profile ? profile : point_profile(kind, c->gpu, a, e);
    if (!c->name)
        return e->code == ERR_NONE;
    if (net)
        c->net = prof_net_load(c->name, err_at_name("--profile"), a, e);
    else
        c->kernels = prof_kernels_load(c->name, err_at_name("--profile"), a, e);
    return c->net || c->kernels;
}

static const struct cached *profile_of(struct cache *cache, const struct point *p,
                                       const char *profile, struct arena *a, struct err *e)
{
    for (int i = 0; i < cache->count; i++)
        if (!strcmp(cache->of[i].gpu, p->gpu))
            return &cache->of[i];
    if (cache->count == MOST_GPUS) {
        err_set(e, ERR_INPUT, err_at_name("gpu"), "more than %d GPU names in one table", MOST_GPUS);
        return NULL;
    }
    struct cached *c = &cache->of[cache->count++];
    c->gpu = p->gpu;
    return load(c, profile, p->kind == POINT_COLLECTIVE, a, e) ? c : NULL;
}

static void original(const struct csv *c, int row, FILE *out)
{
    for (int i = 0; i < c->columns; i++) {
        csv_put(row < 0 ? c->header[i] : csv_cell(c, row, i), out);
        fputc(',', out);
    }
}

struct sums {
    double *off[PROF_CLASSES];
    double *bias, *large;
};

static void count_row(struct table_scores *s, struct sums *sum, const struct point *p,
                      const struct prediction *r)
{
    struct table_score *k = &s->class[r->class];
    double off = r->time.value_s / p->time_s - 1;
    bool large = p->kind == POINT_COLLECTIVE ? p->coll.bytes >= 1048576 : p->time_s >= 1e-3;
    sum->off[r->class][k->rows++] = fabs(off);
    k->mape += fabs(off);
    k->bias += off;
    k->inside += p->time_s >= r->time.low_s && p->time_s <= r->time.high_s;
    k->large_rows += large;
    k->large_mape += large ? fabs(off) : 0;
    s->predicted++;
    s->outside_range += !r->in_range;
}

static void finish(struct table_scores *s, const struct sums *sum)
{
    for (int c = 0; c < PROF_CLASSES; c++) {
        struct table_score *k = &s->class[c];
        k->class = (enum prof_class)c;
        k->mape /= fmax(k->rows, 1);
        k->bias /= fmax(k->rows, 1);
        k->large_mape /= fmax(k->large_rows, 1);
        k->p95 = quantile(sum->off[c], k->rows, 0.95);
    }
}

static void answer(const struct point *p, const struct prediction *r, const char *profile,
                   FILE *out)
{
    fprintf(out, "%.6g,%.6g,%.6g,%.4f,%s,%s,%s,%s\n", r->time.value_s * 1e6, r->time.low_s * 1e6,
            r->time.high_s * 1e6, r->time.value_s / p->time_s - 1, prof_class_names[r->class],
            r->in_range ? "yes" : "no", r->regime, profile);
}

static const char *why_skipped(const struct point *p, const struct cached *c, struct arena *a)
{
    if (!p)
        return "unusable, an operation without a model, or several nodes without the rate of their "
               "network";
    if (!c->name)
        return *p->gpu
                   ? arena_printf(a, "no profile of GPU '%.60s'; --profile names another", p->gpu)
                   : "no GPU named; --profile names one";
    return "its profile has no such kernel";
}

bool predict_table(const char *path, const char *profile, FILE *out, struct table_scores *scores,
                   struct arena *a, struct err *e)
{
    struct points pts;
    struct cache *cache = ARENA_NEW(a, struct cache);
    struct table_scores s = {.path = path};
    struct sums sum = {0};
    if (!points_read(path, a, &pts, e))
        return false;
    for (int c = 0; c < PROF_CLASSES; c++)
        sum.off[c] = ARENA_ARRAY(a, double, pts.count + 1);
    original(&pts.table, -1, out);
    fputs("predicted_us,low_us,high_us,error,class,in_range,regime,profile\n", out);
    for (int row = 0, i = 0; row < pts.table.rows; row++) {
        const struct point *p = i < pts.count && pts.row[i] == row ? &pts.point[i++] : NULL;
        const struct cached *c = p ? profile_of(cache, p, profile, a, e) : NULL;
        struct prediction r;
        if (p && !c)
            return false;
        original(&pts.table, row, out);
        if (p && point_predict(p, c->net, c->kernels, &r)) {
            count_row(&s, &sum, p, &r);
            answer(p, &r, c->name, out);
        } else {
            fputs(",,,,,,,\n", out);
            if (!s.skipped++) {
                s.skipped_line = pts.table.line[row];
                s.skipped_why = why_skipped(p, c, a);
            }
        }
    }
    s.rows = pts.table.rows;
    finish(&s, &sum);
    *scores = s;
    return true;
}

struct table *predict_summary(const struct table_scores *s, struct arena *a)
{
    static const struct table_col cols[] = {
        {"class", "class", TABLE_STR, QTY_NUMBER},
        {"rows", "rows", TABLE_INT, QTY_NUMBER},
        {"mape", "mean abs. error", TABLE_QTY, QTY_RATIO},
        {"p95", "p95", TABLE_QTY, QTY_RATIO},
        {"bias", "bias", TABLE_QTY, QTY_NUMBER},
        {"large_rows", "large rows", TABLE_INT, QTY_NUMBER},
        {"large_mape", "mean abs. error, large", TABLE_QTY, QTY_RATIO},
        {"covered", "in interval", TABLE_QTY, QTY_RATIO},
    };
    struct table *t = table_new(a, cols, 8);
    for (int c = 0; c < PROF_CLASSES; c++) {
        const struct table_score *k = &s->class[c];
        if (!k->rows)
            continue;
        table_str(t, prof_class_names[c]);
        table_int(t, k->rows);
        table_num(t, k->mape);
        table_num(t, k->p95);
        table_num(t, k->bias);
        table_int(t, k->large_rows);
        table_num(t, k->large_rows ? k->large_mape : NAN);
        table_num(t, (double)k->inside / k->rows);
    }
    return t;
}
