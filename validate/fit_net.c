/* Fits network profiles. */
#include "validate/fit_net.h"

#include <gsl/gsl_cdf.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "validate/lsq.h"

struct residuals residuals_new(struct arena *a)
{
    return (struct residuals){.a = a};
}

static int group_of(const struct residuals *list, const char *group)
{
    int most = -1;
    for (int i = list->count - 1; i >= 0; i--) { /* the same group is mostly the last one added */
        if (!strcmp(list->r[i].group, group))
            return list->r[i].group_id;
        most = list->r[i].group_id > most ? list->r[i].group_id : most;
    }
    return most + 1;
}

void residuals_add(struct residuals *list, struct residual r)
{
    if (list->count == list->room) {
        list->room = list->room ? 2 * list->room : 256;
        struct residual *more = ARENA_ARRAY(list->a, struct residual, list->room);
        if (list->count)
            memcpy(more, list->r, (size_t)list->count * sizeof *more);
        list->r = more;
    }
    r.group_id = group_of(list, r.group);
    list->r[list->count++] = r;
}

double residual_log(const struct residual *r)
{
    return log(r->predicted_s / r->measured_s);
}

/* Residuals of one size class, or of both, that are not of one group. */
struct crowd {
    int count, groups;
    double squares;       /* sum of r^2 */
    double pairs, paired; /* over ordered pairs within a group: how many, and sum of r r' */
};

static bool counts(const struct residual *r, bool large, bool all, int but)
{
    return (all || r->large == large) && r->group_id != but;
}

/* Fills out[] with |ln|. */
static struct crowd collect(const struct residual *const *v, int n, bool large, bool all, int but,
                            double *out)
{
    struct crowd c = {0};
    for (int i = 0; i < n; i++) {
        if (!counts(v[i], large, all, but))
            continue;
        double r = residual_log(v[i]), before = c.pairs;
        for (int k = 0; k < i; k++)
            if (v[k]->group_id == v[i]->group_id && counts(v[k], large, all, but)) {
                c.pairs += 2;
                c.paired += 2 * r * residual_log(v[k]);
            }
        c.groups += c.pairs == before;
        c.squares += r * r;
        out[c.count++] = fabs(r);
    }
    return c;
}

/* Fewer residuals than this have no 90% quantile: its conformal rank lies beyond the last. */
enum { QUANTILE_NEEDS = 9 };

/* Errors of one group have a cause in common, so n rows say less than n: with a share rho of the
 * variance common to a group they are worth n / (1 + mates rho), where a row has `mates` others in
 * its group on average; no less than the number of groups. Student's t with that many degrees
 * against the one with n is what the quantile lacks, whose rank knows of n only. Rows too few for a
 * quantile do not show rho: they count as their groups, against the normal. One group shows nothing
 * of how groups differ: twice the width, an assumption. */
static double few_groups(const struct crowd *c)
{
    if (c->groups < 2)
        return 2;
    double seen =
        c->pairs > 0 && c->squares > 0 ? (c->paired / c->pairs) / (c->squares / c->count) : 0;
    bool few = c->count < QUANTILE_NEEDS;
    double rho = few ? 1 : fmin(fmax(seen, 0), 1);
    double worth = fmax(c->count / (1 + c->pairs / c->count * rho), 1);
    double known = few ? gsl_cdf_ugaussian_Pinv(0.95) : gsl_cdf_tdist_Pinv(0.95, c->count);
    return gsl_cdf_tdist_Pinv(0.95, worth) / known;
}

double residuals_width(const struct residual *const *v, int n, bool large, int but, double *room)
{
    struct crowd c = collect(v, n, large, false, but, room);
    if (c.count < QUANTILE_NEEDS)
        c = collect(v, n, large, true, but, room);
    return c.count ? quantile(room, c.count, 0.9) * few_groups(&c) : 0;
}

double residuals_half(const struct residuals *list, int kind, enum prof_class class, bool large,
                      struct arena *scratch)
{
    const struct residual **v = ARENA_ARRAY(scratch, const struct residual *, list->count + 1);
    int n = 0;
    for (int i = 0; i < list->count; i++)
        if (list->r[i].kind == kind && list->r[i].class == class)
            v[n++] = &list->r[i];
    return residuals_width(v, n, large, -1, ARENA_ARRAY(scratch, double, n + 1));
}

/* ---- measured curves ---- */

static bool allowed(const struct point *p, const struct point_filter *f)
{
    if (p->kind != POINT_COLLECTIVE || strcmp(p->gpu, f->gpu))
        return false;
    if ((f->without_bytes > 0 && p->coll.bytes == f->without_bytes) ||
        (f->most_gpus > 0 && p->coll.gpus > f->most_gpus))
        return false;
    for (int i = 0; f->roles && f->roles[i]; i++)
        if (!strcmp(p->role, f->roles[i]))
            return true;
    return !f->roles || !*p->role;
}

static int by_curve(const void *a, const void *b)
{
    const struct point *p = *(const struct point *const *)a, *q = *(const struct point *const *)b;
    const double key[6][2] = {{p->coll.op, q->coll.op},
                              {p->coll.type, q->coll.type},
                              {p->coll.nodes, q->coll.nodes},
                              {p->coll.gpus, q->coll.gpus},
                              {p->coll.nodes > 1 ? p->coll.nic_bytes_per_s : 0,
                               q->coll.nodes > 1 ? q->coll.nic_bytes_per_s : 0},
                              {p->coll.bytes, q->coll.bytes}};
    for (int i = 0; i < 6; i++)
        if (key[i][0] != key[i][1])
            return key[i][0] < key[i][1] ? -1 : 1;
    return p->time_s < q->time_s ? -1 : p->time_s > q->time_s ? 1 : p->line - q->line;
}

static bool same_curve(const struct point *p, const struct point *q)
{
    return p->coll.op == q->coll.op && p->coll.type == q->coll.type &&
           p->coll.nodes == q->coll.nodes && p->coll.gpus == q->coll.gpus &&
           (p->coll.nodes == 1 || p->coll.nic_bytes_per_s == q->coll.nic_bytes_per_s);
}

/* Levels falling stretches to their mean, in logarithms: the nearest rising curve in the
 * least-squares sense. */
static void level(double *t, int count, struct arena *a)
{
    double *sum = ARENA_ARRAY(a, double, count);
    int *size = ARENA_ARRAY(a, int, count), blocks = 0;
    for (int i = 0; i < count; i++) {
        sum[blocks] = log(t[i]);
        size[blocks++] = 1;
        while (blocks > 1 &&
               sum[blocks - 2] / size[blocks - 2] > sum[blocks - 1] / size[blocks - 1]) {
            blocks--;
            sum[blocks - 1] += sum[blocks];
            size[blocks - 1] += size[blocks];
        }
    }
    for (int b = 0, i = 0; b < blocks; b++)
        for (int k = 0; k < size[b]; k++, i++)
            if (size[b] > 1)
                t[i] = exp(sum[b] / size[b]);
}

static struct prof_curve curve_of(const struct point *const *p, int count, int *conflicts,
                                  struct arena *a)
{
    double *bytes = ARENA_ARRAY(a, double, count), *t = ARENA_ARRAY(a, double, count);
    int n = 0;
    for (int i = 0, j; i < count; i = j, n++) {
        for (j = i; j < count && p[j]->coll.bytes == p[i]->coll.bytes; j++)
            ;
        bytes[n] = p[i]->coll.bytes;
        t[n] = 0.5 * (p[(i + j - 1) / 2]->time_s + p[(i + j) / 2]->time_s);
        *conflicts += p[j - 1]->time_s > 1.5 * p[i]->time_s;
    }
    level(t, n, a);
    return (struct prof_curve){.op = p[0]->coll.op,
                               .type = p[0]->coll.type,
                               .origin = PROF_INSIDE,
                               .gpus = p[0]->coll.gpus,
                               .nodes = p[0]->coll.nodes,
                               .nic_bytes_per_s =
                                   p[0]->coll.nodes > 1 ? p[0]->coll.nic_bytes_per_s : 0,
                               .count = n,
                               .bytes = bytes,
                               .time_s = t};
}

int fit_curves(const struct points *pts, const struct point_filter *f, struct prof_curve **out,
               int *conflicts, struct arena *a)
{
    const struct point **p = ARENA_ARRAY(a, const struct point *, pts->count + 1);
    struct prof_curve *c = ARENA_ARRAY(a, struct prof_curve, pts->count + 1);
    int n = 0, curves = 0;
    for (int i = 0; i < pts->count; i++)
        if (allowed(&pts->point[i], f))
            p[n++] = &pts->point[i];
    qsort(p, (size_t)n, sizeof *p, by_curve);
    for (int i = 0, j; i < n; i = j) {
        for (j = i; j < n && same_curve(p[i], p[j]); j++)
            ;
        c[curves++] = curve_of(p + i, j - i, conflicts, a);
    }
    *out = c;
    return curves;
}

const struct prof_curve *fit_find(const struct prof_curve *c, int count,
                                  const struct prof_curve *like, int gpus)
{
    for (int i = 0; i < count; i++)
        if (c[i].op == like->op && c[i].type == like->type && c[i].nodes == like->nodes &&
            c[i].gpus == gpus)
            return &c[i];
    return NULL;
}

/* ---- what was not measured ---- */

void fit_warp(const struct prof_curve *relative, const struct prof_curve *anchors,
              struct prof_curve *out, struct arena *a)
{
    const struct prof_curve *r = relative;
    double *t = ARENA_ARRAY(a, double, r->count);
    int last = anchors->count - 1;
    double r0 = prof_curve_s(r, anchors->bytes[0]), r1 = prof_curve_s(r, anchors->bytes[last]);
    double a0 = anchors->time_s[0], a1 = anchors->time_s[last];
    for (int i = 0; i < r->count; i++) {
        bool line =
            last > 0 && r1 > r0 &&
            r->bytes[i] >= anchors->bytes[0]; /* below the first anchor it might turn negative */
        t[i] = line ? a0 + (a1 - a0) * (r->time_s[i] - r0) / (r1 - r0) : r->time_s[i] * a0 / r0;
    }
    level(t, r->count, a);
    *out = *r;
    out->origin = PROF_BORROWED;
    out->time_s = t;
}

static double ratio(const struct prof_curve *big, const struct prof_curve *small, double bytes)
{
    return log(prof_curve_s(big, bytes) / prof_curve_s(small, bytes));
}

struct doubled { /* the relative's curves of the same operation; NULL where it has none */
    const struct prof_curve *half, *whole;
    const struct prof_curve *switch_half, *switch_whole; /* reduced by the switch; else NULL */
};

static struct doubled doubled_of(const struct prof_net *r, const struct prof_curve *half, bool nvls)
{
    struct prof_curve like = *half;
    struct doubled d = {0};
    bool reduce = half->op == COLL_ALL_REDUCE;
    if (reduce && half->type == COLL_HALF && nvls && half->gpus >= 4) {
        d.switch_half = fit_find(r->curves, r->curve_count, &like, half->gpus);
        d.switch_whole = fit_find(r->curves, r->curve_count, &like, 2 * half->gpus);
    }
    if (reduce)
        like.type = COLL_INT8; /* without the switch: the comparison that holds everywhere */
    d.half = fit_find(r->curves, r->curve_count, &like, half->gpus);
    d.whole = fit_find(r->curves, r->curve_count, &like, 2 * half->gpus);
    return d;
}

/* What the switch saved the relative on twice the GPUs beyond what half precision does anyhow. */
static double switch_gain(const struct doubled *d, double bytes)
{
    if (!d->switch_half || !d->switch_whole || !d->half || !d->whole)
        return 0;
    return fmin(ratio(d->switch_whole, d->whole, bytes) - ratio(d->switch_half, d->half, bytes), 0);
}

/* ln(t(n) / t(n/2)) by this curve's own rule; large: 0 at 1 MB, 1 from 16 MB on. */
static double own_doubling(const struct prof_curve *half, const struct prof_curve *quarter,
                           double bytes, double large)
{
    if (!quarter)
        return log(coll_work_share(half->op, 2 * half->gpus) /
                   coll_work_share(half->op, half->gpus));
    double last = fmax(ratio(half, quarter, bytes), 0);
    return (1 - large) * last + large * log(1 + 0.5 * (1 - exp(-last)));
}

void fit_doubled(const struct prof_net *relative, const struct prof_curve *half,
                 const struct prof_curve *quarter, bool nvls, struct prof_curve *out,
                 struct arena *a)
{
    struct doubled d = doubled_of(relative, half, nvls);
    double *t = ARENA_ARRAY(a, double, half->count);
    for (int i = 0; i < half->count; i++) {
        double bytes = half->bytes[i], large = fmin(fmax(log2(bytes / 1048576) / 4, 0), 1);
        double lent = d.half && d.whole ? 0.5 * (1 - large) : 0;
        double other = lent > 0 ? ratio(d.whole, d.half, bytes) : 0;
        t[i] = half->time_s[i] *
               exp(lent * other + (1 - lent) * own_doubling(half, quarter, bytes, large) +
                   0.5 * switch_gain(&d, bytes));
    }
    level(t, half->count, a);
    *out = *half;
    out->gpus = 2 * half->gpus;
    out->origin = half->origin == PROF_BORROWED ? PROF_BORROWED : PROF_COUNT;
    out->time_s = t;
}

struct curve_list {
    struct prof_curve *c;
    int count;
};

static bool has_op(const struct curve_list *list, int count, const struct prof_curve *like)
{
    for (int i = 0; i < count; i++)
        if (list->c[i].op == like->op && list->c[i].type == like->type && list->c[i].nodes == 1)
            return true;
    return false;
}

/* The relative's times at a count that it was not measured at, at the sizes of `like`. */
static struct prof_curve at_count(const struct prof_net *r, const struct prof_curve *like, int gpus,
                                  struct arena *a)
{
    double *t = ARENA_ARRAY(a, double, like->count);
    struct prof_curve c = *like;
    for (int i = 0; i < like->count; i++) {
        struct coll_query q = {
            .op = like->op, .type = like->type, .bytes = like->bytes[i], .gpus = gpus, .nodes = 1};
        t[i] = prof_collective(r, &q).time.value_s;
    }
    c.gpus = gpus;
    c.time_s = t;
    return c;
}

/* A few points at a count that the relative lacks: its rule for counts lends the shape. */
static void shape_others(struct curve_list *list, const struct prof_net *r, struct arena *a)
{
    for (int i = 0; i < list->count; i++) {
        struct prof_curve *own = &list->c[i];
        struct prof_curve like = {.op = own->op, .type = own->type, .nodes = 1};
        const struct prof_curve *any = NULL;
        for (int gpus = 2; gpus <= 1024 && !any; gpus *= 2)
            any = fit_find(r->curves, r->curve_count, &like, gpus);
        if (own->nodes > 1 || own->count >= 4 || !any ||
            fit_find(r->curves, r->curve_count, own, own->gpus))
            continue;
        struct prof_curve shape = at_count(r, any, own->gpus, a);
        fit_warp(&shape, own, own, a);
    }
}

/* Adds to the measured curves what the relative has more: the same set of GPUs through anchors,
 * twice as many, or the relative's own curve where the operation was not measured at all. */
static void borrow(struct curve_list *list, const struct fit_net_options *o, struct arena *a)
{
    int measured = list->count;
    const struct prof_net *r = o->relative;
    shape_others(list, r, a);
    for (int i = 0; i < r->curve_count;
         i++) { /* by rising count within an operation: halves come first */
        const struct prof_curve *c = &r->curves[i];
        if (c->nodes > 1)
            continue;
        struct prof_curve *own = (struct prof_curve *)fit_find(list->c, list->count, c, c->gpus);
        const struct prof_curve *half = fit_find(list->c, list->count, c, c->gpus / 2);
        if (own && own->count < 4) {
            fit_warp(c, own, own, a);
        } else if (!own && !has_op(list, measured, c)) {
            list->c[list->count] = *c;
            list->c[list->count++].origin = PROF_BORROWED;
        } else if (!own && half) {
            struct prof_curve h = *half;
            fit_doubled(r, &h, fit_find(list->c, list->count, c, c->gpus / 4), o->nvls,
                        &list->c[list->count], a);
            list->count++;
        }
    }
}

static int by_use(const void *x, const void *y)
{
    const struct prof_curve *a = x, *b = y;
    if (a->op != b->op)
        return (int)a->op - (int)b->op;
    if (a->type != b->type)
        return (int)a->type - (int)b->type;
    return a->nodes != b->nodes ? a->nodes - b->nodes : a->gpus - b->gpus;
}

static int all_curves(const struct points *const *tables, int table_count,
                      const struct point_filter *f, struct curve_list *list, int room,
                      struct arena *a)
{
    int conflicts = 0;
    list->c = ARENA_ARRAY(a, struct prof_curve, room);
    for (int t = 0; t < table_count; t++) {
        struct prof_curve *c;
        int n = fit_curves(tables[t], f, &c, &conflicts, a);
        for (int i = 0; i < n; i++) /* the first table that has a curve wins */
            if (!fit_find(list->c, list->count, &c[i], c[i].gpus))
                list->c[list->count++] = c[i];
    }
    return conflicts;
}

bool fit_net(const struct points *const *tables, int table_count, const struct point_filter *f,
             const struct fit_net_options *o, struct prof_net *out, struct arena *a, struct err *e)
{
    int room = o->relative ? 4 * o->relative->curve_count : 0;
    for (int t = 0; t < table_count; t++)
        room += tables[t]->count;
    struct curve_list list = {0};
    all_curves(tables, table_count, f, &list, room + 1, a);
    if (o->relative)
        borrow(&list, o, a);
    if (!list.count)
        return err_set(e, ERR_INPUT, err_at_name(o->name), "no usable collective rows of GPU '%s'",
                       f->gpu);
    qsort(list.c, (size_t)list.count, sizeof *list.c, by_use);
    *out = (struct prof_net){.name = o->name,
                             .source = o->source,
                             .curve_count = list.count,
                             .curves = list.c,
                             .gap_octaves = 2};
    if (o->relative) {
        memcpy(out->half, o->relative->half, sizeof out->half);
        out->between = o->relative->between;
        out->gap_octaves = o->relative->gap_octaves;
    }
    return true;
}

/* ---- several nodes ---- */

enum { B_LATENCY, B_NODE, B_EXCESS, B_KNEE, B_REDUCE, B_GATHER, B_GAIN, B_COUNT };

struct between_data {
    const struct points *pts;
    const char *but;
    const struct prof_net *local;
};

static const double between_prior[B_COUNT] = {-10.6, -11.5, -8.7, -9.5, -0.17, -0.15, 0.25};
static const double between_sure[B_COUNT] = {0.6, 0.6, 0.3, 0.3, 1, 1, 1};

static void between_of(const double *x, struct prof_between *b)
{
    *b = (struct prof_between){.latency_s = exp(x[B_LATENCY]),
                               .node_latency_s = exp(x[B_NODE]),
                               .excess_s = exp(x[B_EXCESS]),
                               .knee_s = exp(x[B_KNEE]),
                               .pair_gain = exp(x[B_GAIN])};
    double reduce = fmin(exp(x[B_REDUCE]), 1), gather = fmin(exp(x[B_GATHER]), 1);
    double all[COLL_OPS] = {gather, gather, reduce, 0.8 * gather,
                            gather}; /* no public all-to-all sweep: docs/calibration.md */
    memcpy(b->efficiency, all, sizeof all);
}

static bool between_row(const struct point *p, const char *but)
{
    return p->kind == POINT_COLLECTIVE && p->coll.nodes > 1 && p->coll.gpus / p->coll.nodes == 8 &&
           (!but || strcmp(p->source, but));
}

static void between_residuals(const double *x, const void *data, double *r)
{
    const struct between_data *d = data;
    struct prof_net net = *d->local;
    between_of(x, &net.between);
    int n = 0;
    for (int i = 0; i < d->pts->count; i++) {
        const struct point *p = &d->pts->point[i];
        if (between_row(p, d->but))
            r[n++] = log(prof_collective(&net, &p->coll).time.value_s / p->time_s);
    }
    for (int i = 0; i < B_COUNT; i++)
        r[n++] = between_sure[i] * (x[i] - between_prior[i]);
}

bool fit_between(const struct points *pts, const struct prof_net *local, const char *but_source,
                 struct prof_between *out, struct arena *scratch, struct err *e)
{
    struct prof_net net = *local;
    struct prof_curve *inside = ARENA_ARRAY(scratch, struct prof_curve, local->curve_count + 1);
    net.curve_count = 0;
    for (int i = 0; i < local->curve_count;
         i++) /* measured several-node curves would answer for themselves */
        if (local->curves[i].nodes == 1)
            inside[net.curve_count++] = local->curves[i];
    net.curves = inside;
    struct between_data d = {.pts = pts, .but = but_source, .local = &net};
    int rows = B_COUNT;
    for (int i = 0; i < pts->count; i++)
        rows += between_row(&pts->point[i], but_source);
    double x[B_COUNT];
    memcpy(x, between_prior, sizeof x);
    if (!lsq_fit(between_residuals, &d, rows, x, B_COUNT, 0.2, e))
        return false;
    between_of(x, out);
    return true;
}
