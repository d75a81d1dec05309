/* The leave-out protocols. */
#include "validate/accuracy.h"

#include <gsl/gsl_cdf.h>
#include <math.h>
#include <string.h>

#include "validate/lsq.h"

static const char *const calib_role[] = {"calib", NULL};
static const char *const sweeps[] = {"h100_sxm", "a100_sxm",
                                     "b200_sxm"}; /* GPUs with whole sweeps */
enum { SWEEPS = 3 };

/* ---- tables ---- */

static bool table(const char *folder, const char *name, struct points *out, struct arena *a,
                  struct err *e)
{
    return points_read(arena_printf(a, "%s/%s.csv", folder, name), a, out, e);
}

static void join(struct points *a, const struct points *b, struct arena *arena)
{
    struct point *both = ARENA_ARRAY(arena, struct point, a->count + b->count + 1);
    memcpy(both, a->point, (size_t)a->count * sizeof *both);
    memcpy(both + a->count, b->point, (size_t)b->count * sizeof *both);
    a->point = both;
    a->count += b->count;
}

bool accuracy_tables_read(const char *folder, struct accuracy_tables *t, struct arena *a,
                          struct err *e)
{
    *t = (struct accuracy_tables){.folder = folder};
    if (!table(folder, "collectives_intranode", &t->local, a, e) ||
        !table(folder, "collectives_multinode", &t->nodes, a, e) ||
        !table(folder, "attention_dense", &t->attention, a, e) ||
        !table(folder, "attention_published", &t->published, a, e) ||
        !table(folder, "gemm_bf16", &t->gemm, a, e) ||
        !table(folder, "dsv_kernel", &t->sparse, a, e))
        return false;
    join(&t->attention, &t->published, a);
    return true;
}

/* ---- collectives ---- */

static void add(struct residuals *out, const char *protocol, const char *group,
                const struct point *p, enum prof_class class, double predicted_s)
{
    bool collective = p->kind == POINT_COLLECTIVE;
    residuals_add(
        out, (struct residual){.protocol = protocol,
                               .group = group,
                               .kind = (int)p->kind,
                               .class = class,
                               .large = collective ? p->coll.bytes >= 1048576 : p->time_s >= 1e-3,
                               .x = collective                   ? p->coll.bytes
                                    : p->kind == POINT_ATTENTION ? p->attention.keys
                                                                 : p->time_s,
                               .measured_s = p->time_s,
                               .predicted_s = predicted_s,
                               .what = collective ? coll_op_names[p->coll.op] : p->kernel});
}

static const struct prof_curve *curve_for(const struct prof_curve *c, int n,
                                          const struct coll_query *q)
{
    struct prof_curve like = {.op = q->op, .type = q->type, .nodes = q->nodes};
    return fit_find(c, n, &like, q->gpus);
}

/* Visible tests: curves of the calib rows, asked for the sizes of the test rows (up to four octaves
 * between points). */
static void sizes_by_role(const struct points *pts, struct residuals *out, struct arena *a)
{
    for (int g = 0; g < SWEEPS; g++) {
        struct point_filter f = {.gpu = sweeps[g], .roles = calib_role};
        struct prof_curve *c;
        int conflicts = 0, n = fit_curves(pts, &f, &c, &conflicts, a);
        for (int i = 0; i < pts->count; i++) {
            const struct point *p = &pts->point[i];
            const struct prof_curve *k = curve_for(c, n, &p->coll);
            if (k && !strcmp(p->gpu, sweeps[g]) && !strcmp(p->role, "test"))
                add(out, "collectives: test rows from calib rows", sweeps[g], p, PROF_POINT,
                    prof_curve_s(k, p->coll.bytes));
        }
    }
}

static struct prof_curve without(const struct prof_curve *c, int skip, struct arena *a)
{
    double *bytes = ARENA_ARRAY(a, double, c->count), *t = ARENA_ARRAY(a, double, c->count);
    int n = 0;
    for (int i = 0; i < c->count; i++)
        if (i != skip) {
            bytes[n] = c->bytes[i];
            t[n++] = c->time_s[i];
        }
    struct prof_curve r = *c;
    r.count = n;
    r.bytes = bytes;
    r.time_s = t;
    return r;
}

static void leave_size(const struct prof_curve *c, const char *group, struct residuals *out,
                       struct arena *a)
{
    for (int i = 1; i < c->count; i++) {
        struct prof_curve w = without(c, i, a);
        bool last = i == c->count - 1;
        residuals_add(
            out,
            (struct residual){
                .protocol = last ? "collectives: largest size left out"
                                 : "collectives: one size left out, neighbours four octaves apart",
                .group = group,
                .kind = POINT_COLLECTIVE,
                .class = last ? PROF_OUTSIDE : PROF_INSIDE,
                .large = c->bytes[i] >= 1048576,
                .x = c->bytes[i],
                .measured_s = c->time_s[i],
                .predicted_s = prof_curve_s(&w, c->bytes[i]),
                .what = coll_op_names[c->op]});
    }
}

static void leave_sizes(const struct points *pts, struct residuals *out, struct arena *a)
{
    for (int g = 0; g < SWEEPS; g++) {
        struct point_filter f = {.gpu = sweeps[g]};
        struct prof_curve *c;
        int conflicts = 0, n = fit_curves(pts, &f, &c, &conflicts, a);
        for (int i = 0; i < n; i++)
            leave_size(&c[i], sweeps[g], out, a);
    }
}

/* Every other size out of its neighbours, in the sweeps that double the size at each step. */
static void leave_halves(const struct prof_curve *c, const char *group, struct residuals *out,
                         struct arena *a)
{
    double *bytes = ARENA_ARRAY(a, double, c->count), *t = ARENA_ARRAY(a, double, c->count);
    for (int odd = 0; odd < 2 && c->count >= 12; odd++) {
        struct prof_curve w = *c;
        w.count = 0;
        w.bytes = bytes;
        w.time_s = t;
        for (int i = odd; i < c->count; i += 2, w.count++) {
            bytes[w.count] = c->bytes[i];
            t[w.count] = c->time_s[i];
        }
        for (int i = odd + 1; i + 1 < c->count; i += 2)
            residuals_add(out,
                          (struct residual){.protocol = "collectives: every other size left out",
                                            .group = group,
                                            .kind = POINT_COLLECTIVE,
                                            .class = PROF_POINT,
                                            .large = c->bytes[i] >= 1048576,
                                            .x = c->bytes[i],
                                            .measured_s = c->time_s[i],
                                            .predicted_s = prof_curve_s(&w, c->bytes[i]),
                                            .what = coll_op_names[c->op]});
    }
}

static void leave_every_other(const struct points *nodes, struct residuals *out, struct arena *a)
{
    static const char *const gpus[] = {"h100_sxm", "unnamed_8x400g_gcp"};
    for (int g = 0; g < 2; g++) {
        struct point_filter f = {.gpu = gpus[g]};
        struct prof_curve *c;
        int conflicts = 0, n = fit_curves(nodes, &f, &c, &conflicts, a);
        for (int i = 0; i < n; i++)
            leave_halves(&c[i],
                         arena_printf(a, "%s %s %d", gpus[g], coll_op_names[c[i].op], c[i].gpus),
                         out, a);
    }
}

/* Sizes beyond 256 MB out of those up to it, in the sweeps that go on from there. */
static void beyond_of(const struct prof_curve *c, const char *group, struct residuals *out)
{
    struct prof_curve w = *c;
    while (w.count > 0 && w.bytes[w.count - 1] > 268435456)
        w.count--;
    for (int i = w.count; i < c->count && w.count >= 4; i++)
        residuals_add(out, (struct residual){.protocol = "collectives: beyond 256 MB from below",
                                             .group = group,
                                             .kind = POINT_COLLECTIVE,
                                             .class = PROF_OUTSIDE,
                                             .large = true,
                                             .x = c->bytes[i],
                                             .measured_s = c->time_s[i],
                                             .predicted_s = prof_curve_s(&w, c->bytes[i]),
                                             .what = coll_op_names[c->op]});
}

static void leave_large(const struct points *nodes, struct residuals *out, struct arena *a)
{
    for (int i = 0; i < nodes->count; i++) { /* one site of one GPU at a time */
        const struct point *p = &nodes->point[i];
        struct points site = {.count = 0, .point = ARENA_ARRAY(a, struct point, nodes->count)};
        bool seen = false;
        for (int k = 0; k < nodes->count; k++) {
            const struct point *q = &nodes->point[k];
            bool same = !strcmp(q->source, p->source) && !strcmp(q->gpu, p->gpu);
            seen = seen || (same && k < i);
            if (same)
                site.point[site.count++] = *q;
        }
        struct point_filter f = {.gpu = p->gpu};
        struct prof_curve *c;
        int conflicts = 0, n = seen ? 0 : fit_curves(&site, &f, &c, &conflicts, a);
        for (int j = 0; j < n; j++)
            beyond_of(&c[j], p->source, out);
    }
}

static bool whole(const struct points *pts, const char *gpu, struct prof_net *out, struct arena *a,
                  struct err *e)
{
    struct point_filter f = {.gpu = gpu};
    struct fit_net_options o = {.name = gpu, .source = "", .nvls = true};
    return fit_net(&pts, 1, &f, &o, out, a, e);
}

/* Twice the GPUs of `half` where that was measured too; from `from` bytes on and below `to`. */
static void doubled(const struct prof_net *own, const struct prof_net *relative, int gpus,
                    const char *protocol, const char *gpu, double from, double to,
                    struct residuals *out, struct arena *a)
{
    for (int i = 0; i < own->curve_count; i++) {
        const struct prof_curve *c = &own->curves[i];
        const struct prof_curve *half = fit_find(own->curves, own->curve_count, c, gpus / 2);
        if (c->gpus != gpus || !half)
            continue;
        struct prof_curve p;
        fit_doubled(relative, half, fit_find(own->curves, own->curve_count, c, gpus / 4), true, &p,
                    a);
        for (int k = 0; k < c->count; k++)
            if (c->bytes[k] >= from && c->bytes[k] < to)
                residuals_add(out, (struct residual){.protocol = protocol,
                                                     .group = gpu,
                                                     .kind = POINT_COLLECTIVE,
                                                     .class = PROF_COUNT,
                                                     .large = c->bytes[k] >= 1048576,
                                                     .x = c->bytes[k],
                                                     .measured_s = c->time_s[k],
                                                     .predicted_s = prof_curve_s(&p, c->bytes[k]),
                                                     .what = coll_op_names[c->op]});
    }
}

/* 4 GPUs out of 2: below 16 MB from each other GPU as the relative; from there on no relative is
 * asked, so once. 8 out of 2 and 4 on the only GPU with 8; no relative has 8, so by its own rule
 * alone. */
static void counts_of(const struct prof_net *own, const struct prof_net *relative, bool first,
                      const char *gpu, struct residuals *out, struct arena *a)
{
    doubled(own, relative, 4, "collectives: 4 GPUs from 2, below 16 MB", gpu, 0, 16777216, out, a);
    if (!first)
        return;
    doubled(own, relative, 4, "collectives: 4 GPUs from 2, 16 MB on", gpu, 16777216, INFINITY, out,
            a);
    doubled(own, relative, 8, "collectives: 8 GPUs from 2 and 4, 16 MB on", gpu, 16777216, INFINITY,
            out, a);
    doubled(own, relative, 8, "collectives: 8 GPUs from 2 and 4, below 16 MB", gpu, 0, 16777216,
            out, a);
}

/* 4 GPUs out of 2 and 8, as if they had not been measured. */
static void among_of(const struct prof_net *own, const char *gpu, struct residuals *out,
                     struct arena *a)
{
    struct prof_net without = *own;
    struct prof_curve *left = ARENA_ARRAY(a, struct prof_curve, own->curve_count + 1);
    without.curves = left;
    without.curve_count = 0;
    for (int i = 0; i < own->curve_count; i++)
        if (own->curves[i].gpus != 4)
            left[without.curve_count++] = own->curves[i];
    for (int i = 0; i < own->curve_count; i++) {
        const struct prof_curve *c = &own->curves[i];
        if (c->gpus != 4 || !fit_find(left, without.curve_count, c, 8))
            continue;
        for (int k = 0; k < c->count; k++) {
            struct coll_query q = {
                .op = c->op, .type = c->type, .bytes = c->bytes[k], .gpus = 4, .nodes = 1};
            residuals_add(
                out, (struct residual){.protocol = "collectives: 4 GPUs from 2 and 8",
                                       .group = gpu,
                                       .kind = POINT_COLLECTIVE,
                                       .class = PROF_POINT,
                                       .large = c->bytes[k] >= 1048576,
                                       .x = c->bytes[k],
                                       .measured_s = c->time_s[k],
                                       .predicted_s = prof_collective(&without, &q).time.value_s,
                                       .what = coll_op_names[c->op]});
        }
    }
}

/* The ends of each curve as the two anchors a site would measure first. */
static void anchors_of(const struct prof_net *own, const struct prof_net *relative, const char *gpu,
                       struct residuals *out, struct arena *a)
{
    for (int i = 0; i < own->curve_count; i++) {
        const struct prof_curve *c = &own->curves[i];
        const struct prof_curve *r = fit_find(relative->curves, relative->curve_count, c, c->gpus);
        if (!r)
            continue;
        double bytes[2] = {c->bytes[0], c->bytes[c->count - 1]},
               t[2] = {c->time_s[0], c->time_s[c->count - 1]};
        struct prof_curve two = *c, p;
        two.count = 2;
        two.bytes = bytes;
        two.time_s = t;
        fit_warp(r, &two, &p, a);
        for (int k = 1; k + 1 < c->count; k++)
            residuals_add(
                out, (struct residual){.protocol = "collectives: new generation from two anchors",
                                       .group = gpu,
                                       .kind = POINT_COLLECTIVE,
                                       .class = PROF_BORROWED,
                                       .large = c->bytes[k] >= 1048576,
                                       .x = c->bytes[k],
                                       .measured_s = c->time_s[k],
                                       .predicted_s = prof_curve_s(&p, c->bytes[k]),
                                       .what = coll_op_names[c->op]});
    }
}

static bool pairs(const struct points *pts, struct residuals *out, struct arena *a, struct err *e)
{
    struct prof_net net[SWEEPS];
    for (int g = 0; g < SWEEPS; g++)
        if (!whole(pts, sweeps[g], &net[g], a, e))
            return false;
    for (int own = 0; own < SWEEPS; own++)
        among_of(&net[own], sweeps[own], out, a);
    for (int own = 0; own < SWEEPS; own++)
        for (int other = 0; other < SWEEPS; other++)
            if (own != other) {
                counts_of(&net[own], &net[other], other == (own == 0 ? 1 : 0), sweeps[own], out, a);
                if (other ==
                    (own == 0
                         ? 2
                         : 0)) /* the H100 lends its shape to the others, the B200 to the H100 */
                    anchors_of(&net[own], &net[other], sweeps[own], out, a);
            }
    return true;
}

/* Each site out of the others. */
static bool sites(const struct accuracy_tables *t, struct residuals *out, struct arena *a,
                  struct err *e)
{
    struct prof_net local;
    if (!whole(&t->local, "h100_sxm", &local, a, e))
        return false;
    for (int i = 0; i < t->nodes.count; i++) {
        const struct point *p = &t->nodes.point[i];
        if (p->coll.nodes < 2 || p->coll.gpus / p->coll.nodes != 8)
            continue;
        struct prof_net net = local;
        if (!fit_between(&t->nodes, &local, p->source, &net.between, a, e))
            return false;
        for (; i < t->nodes.count && !strcmp(t->nodes.point[i].source, p->source); i++) {
            const struct point *q = &t->nodes.point[i];
            if (q->coll.nodes > 1 && q->coll.gpus / q->coll.nodes == 8)
                add(out, "collectives: several nodes, one site left out", p->source, q,
                    PROF_BETWEEN, prof_collective(&net, &q->coll).time.value_s);
        }
        i--;
    }
    return true;
}

/* ---- kernels ---- */

struct leave { /* what a fit may not see */
    const char *gpu;
    bool by_role, by_length, by_heads, beyond, by_m, by_row;
    bool causal;
    double value;
    const struct point *row;
};

static bool left_out(const struct point *p, const struct leave *l)
{
    bool mask = p->attention.causal == l->causal;
    return (l->by_role && !strcmp(p->role, "test")) ||
           (l->by_length && mask && p->attention.keys == l->value) ||
           (l->by_heads && mask && p->attention.heads == l->value) ||
           (l->beyond && p->attention.keys > l->value) || (l->by_m && p->m == l->value) ||
           (l->by_row && p == l->row);
}

static bool table_row(const struct point *p, const struct leave *l)
{
    return !strcmp(p->gpu, l->gpu) &&
           *p->role; /* published rows have no role: other benches, other noise */
}

static bool keep(const struct point *p, const void *data)
{
    const struct leave *l = data;
    return !strcmp(p->gpu, l->gpu) && !left_out(p, l);
}

static const char *mask_name(bool causal)
{
    return causal ? "causal" : "full mask";
}

static bool attention_round(const struct points *pts, const struct leave *l, const char *protocol,
                            enum prof_class class, const char *group, struct residuals *out,
                            struct arena *a, struct err *e)
{
    struct prof_kernels p = {.sms = 132};
    struct fit_view v = {.pts = pts, .keep = keep, .data = l};
    if (!fit_attention(&v, &p, a, e))
        return false;
    for (int i = 0; i < pts->count; i++) {
        const struct point *q = &pts->point[i];
        if (!table_row(q, l) || !left_out(q, l) || q->attention.backward)
            continue;
        struct point named = *q;
        named.kernel = mask_name(q->attention.causal);
        add(out, protocol,
            group ? group : arena_printf(a, "%s %g", named.kernel, q->attention.keys), &named,
            class, prof_attention(&p, &q->attention).time.value_s);
    }
    return true;
}

static bool seen_before(const double *v, int n, double x)
{
    for (int i = 0; i < n; i++)
        if (v[i] == x)
            return true;
    return false;
}

/* One fit for each length or number of heads of a mask. */
static bool attention_each(const struct points *pts, bool heads, bool causal, struct residuals *out,
                           struct arena *a, struct err *e)
{
    double *values = ARENA_ARRAY(a, double, pts->count + 1);
    int n = 0;
    for (int i = 0; i < pts->count; i++) {
        const struct point *p = &pts->point[i];
        double x = heads ? p->attention.heads : p->attention.keys;
        if (strcmp(p->gpu, "h100_sxm") || !*p->role || p->attention.causal != causal ||
            seen_before(values, n, x))
            continue;
        values[n++] = x;
        struct leave l = {.gpu = "h100_sxm",
                          .by_length = !heads,
                          .by_heads = heads,
                          .causal = causal,
                          .value = x};
        if (!attention_round(
                pts, &l, heads ? "attention: heads left out" : "attention: lengths left out",
                PROF_INSIDE, arena_printf(a, "%s %g", mask_name(causal), x), out, a, e))
            return false;
    }
    return true;
}

/* Another GPU: H100 shapes through all anchors but one, asked for that one. */
static bool anchor_each(const struct points *pts, const struct prof_kernels *h100,
                        struct residuals *out, struct arena *a, struct err *e)
{
    for (int i = 0; i < pts->count; i++) {
        const struct point *p = &pts->point[i];
        int sms = strstr(p->gpu, "b200") ? 148 : strstr(p->gpu, "a100") ? 108 : 132, same = 0;
        for (int k = 0; k < pts->count; k++)
            same += !strcmp(pts->point[k].gpu, p->gpu) && !strcmp(pts->point[k].role, "anchor");
        if (strcmp(p->role, "anchor") || same < 2)
            continue;
        struct leave l = {.gpu = p->gpu, .by_row = true, .row = p};
        struct fit_view v = {.pts = pts, .keep = keep, .data = &l};
        struct prof_kernels k;
        struct prediction r;
        if (!fit_scaled(h100, &v, &v, sms, &k, a, e))
            return false;
        if (point_predict(p, NULL, &k, &r))
            add(out,
                p->kind == POINT_GEMM ? "gemm: another GPU, one anchor left out"
                                      : "attention: another GPU, one anchor left out",
                p->gpu, p, PROF_BORROWED, r.time.value_s);
    }
    return true;
}

static bool h100_kernels(const struct accuracy_tables *t, struct prof_kernels *out, struct arena *a,
                         struct err *e)
{
    struct leave all = {.gpu = "h100_sxm"};
    struct fit_view attention = {.pts = &t->attention, .keep = keep, .data = &all};
    struct fit_view gemm = {.pts = &t->gemm, .keep = keep, .data = &all};
    *out = (struct prof_kernels){.name = "h100", .sms = 132};
    return fit_attention(&attention, out, a, e) && fit_gemm(&gemm, 132, &out->gemm, a, e);
}

static bool attention_all(const struct accuracy_tables *t, struct residuals *out, struct arena *a,
                          struct err *e)
{
    const struct points *pts = &t->attention;
    struct leave role = {.gpu = "h100_sxm", .by_role = true},
                 beyond = {.gpu = "h100_sxm", .beyond = true, .value = 8192};
    bool ok = attention_round(pts, &role, "attention: test rows from calib rows", PROF_POINT, NULL,
                              out, a, e) &&
              attention_round(pts, &beyond, "attention: beyond 8K tokens from below", PROF_OUTSIDE,
                              NULL, out, a, e);
    for (int i = 0; ok && i < 4; i++)
        ok = attention_each(pts, i & 1, i & 2, out, a, e);
    return ok;
}

static bool gemm_round(const struct points *pts, const struct leave *l, const char *protocol,
                       enum prof_class class, const char *group, struct residuals *out,
                       struct arena *a, struct err *e)
{
    struct prof_gemm g;
    struct fit_view v = {.pts = pts, .keep = keep, .data = l};
    if (!fit_gemm(&v, 132, &g, a, e))
        return false;
    for (int i = 0; i < pts->count; i++) {
        const struct point *p = &pts->point[i];
        if (!strcmp(p->gpu, l->gpu) && left_out(p, l))
            add(out, protocol, group, p, class, prof_gemm_s(&g, 132, p->m, p->n, p->k));
    }
    return true;
}

/* Long rows one by one: what other shapes of the same grid may expect. */
static bool gemm_rows(const struct points *pts, struct residuals *out, struct arena *a,
                      struct err *e)
{
    for (int i = 0; i < pts->count; i++) {
        const struct point *p = &pts->point[i];
        if (strcmp(p->gpu, "h100_sxm") || p->time_s < 1e-3)
            continue;
        struct leave l = {.gpu = "h100_sxm", .by_row = true, .row = p};
        if (!gemm_round(pts, &l, "gemm: one row left out", PROF_POINT, arena_printf(a, "row %d", i),
                        out, a, e))
            return false;
    }
    return true;
}

static bool gemm_all(const struct points *pts, struct residuals *out, struct arena *a,
                     struct err *e)
{
    struct leave role = {.gpu = "h100_sxm", .by_role = true};
    if (!gemm_round(pts, &role, "gemm: test rows from calib rows", PROF_POINT, "test", out, a, e))
        return false;
    if (!gemm_rows(pts, out, a, e))
        return false;
    double *values = ARENA_ARRAY(a, double, pts->count + 1);
    int n = 0;
    for (int i = 0; i < pts->count; i++) {
        const struct point *p = &pts->point[i];
        if (strcmp(p->gpu, "h100_sxm") || seen_before(values, n, p->m))
            continue;
        values[n++] = p->m;
        struct leave l = {.gpu = "h100_sxm", .by_m = true, .value = p->m};
        if (!gemm_round(pts, &l, "gemm: rows m left out", PROF_INSIDE,
                        arena_printf(a, "m %g", p->m), out, a, e))
            return false;
    }
    return true;
}

/* DSV: exp2 fits (its forward's cache term needs exp1's), exp1 is asked; and each row of exp2 out
 * of the others. */
static bool keep_exp2(const struct point *p, const void *row)
{
    return p != row && strcmp(p->role, "test");
}

static bool sparse_all(const struct points *pts, struct residuals *out, struct err *e)
{
    for (int i = -1; i < pts->count; i++) {
        const struct point *row = i < 0 ? NULL : &pts->point[i];
        if (row && (!strcmp(row->role, "test") || row->part == PART_SELECT))
            continue;
        struct fit_view v = {.pts = pts, .keep = keep_exp2, .data = row};
        struct prof_kernels k = {.name = "h100"};
        struct prediction r;
        if (!fit_sparse(&v, &k.sparse, e))
            return false;
        for (int j = 0; j < pts->count; j++) {
            const struct point *p = &pts->point[j];
            if ((row ? p == row : !strcmp(p->role, "test") && p->part != PART_SELECT) &&
                point_predict(p, NULL, &k, &r))
                add(out,
                    row ? "dsv: exp2, one row left out" : "dsv: exp1 from exp2 (no cache term)",
                    row ? "exp2" : "exp1", p, row ? PROF_INSIDE : PROF_OUTSIDE, r.time.value_s);
        }
    }
    return true;
}

bool accuracy_run(const struct accuracy_tables *t, struct residuals *out, struct arena *a,
                  struct err *e)
{
    struct prof_kernels h100;
    sizes_by_role(&t->local, out, a);
    leave_sizes(&t->local, out, a);
    leave_every_other(&t->nodes, out, a);
    leave_large(&t->nodes, out, a);
    return pairs(&t->local, out, a, e) && sites(t, out, a, e) && attention_all(t, out, a, e) &&
           gemm_all(&t->gemm, out, a, e) && h100_kernels(t, &h100, a, e) &&
           anchor_each(&t->attention, &h100, out, a, e) &&
           anchor_each(&t->gemm, &h100, out, a, e) && sparse_all(&t->sparse, out, e);
}

bool accuracy_floors(const struct accuracy_tables *t, struct scatter out[FLOORS], struct arena *a,
                     struct err *e)
{
    struct prof_kernels fit;
    if (!h100_kernels(t, &fit, a, e))
        return false;
    out[FLOOR_COLLECTIVES] = scatter_of(&t->local, "h100_sxm", NULL);
    out[FLOOR_ATTENTION] = scatter_of(&t->attention, "h100_sxm", &fit);
    out[FLOOR_GEMM] = scatter_of(&t->gemm, "h100_sxm", &fit);
    return true;
}

/* ---- summary ---- */

static bool asked_for(const struct residual *x, const struct accuracy_ask *ask)
{
    return (!ask->what || !strcmp(x->what, ask->what)) && (!ask->large_only || x->large);
}

/* How many of v[n] have an interval from the other groups' residuals among them and the m after
 * them, and how many lie within it. */
static void coverage(const struct residual *const *v, int n, int m, struct accuracy_line *line,
                     struct arena *scratch)
{
    double *room = ARENA_ARRAY(scratch, double, n + m + 1);
    for (int i = 0; i < n; i++) {
        double half = residuals_width(v, n, v[i]->large, v[i]->group_id, room);
        if (half <= 0)
            half = residuals_width(v, n + m, v[i]->large, v[i]->group_id, room);
        line->judged += half > 0;
        line->inside += half > 0 && fabs(residual_log(v[i])) <= half;
    }
    line->coverage = line->judged ? (double)line->inside / line->judged : NAN;
    /* the middle 95 % of the counts that a true 90 % interval shows */
    unsigned k = 0, judged = (unsigned)line->judged;
    while (judged && gsl_cdf_binomial_P(k, 0.9, judged) <= 0.025)
        k++;
    line->least = (int)k;
    while (k < judged && gsl_cdf_binomial_Q(k, 0.9, judged) > 0.025)
        k++;
    line->most = (int)k;
}

struct accuracy_line accuracy_of(const struct residuals *r, const struct accuracy_ask *ask,
                                 struct arena *scratch)
{
    const struct residual **v = ARENA_ARRAY(scratch, const struct residual *, 2 * r->count + 1);
    double *off = ARENA_ARRAY(scratch, double, r->count + 1);
    struct accuracy_line line = {.protocol = ask->protocol};
    for (int i = 0; i < r->count; i++) {
        const struct residual *x = &r->r[i];
        if (strcmp(x->protocol, ask->protocol) || !asked_for(x, ask))
            continue;
        v[line.count] = x;
        off[line.count++] = fabs(x->predicted_s / x->measured_s - 1);
        line.mape += fabs(x->predicted_s / x->measured_s - 1);
        line.bias += x->predicted_s / x->measured_s - 1;
    }
    int peers = 0;
    for (int i = 0; ask->peers && i < r->count; i++)
        if (!strcmp(r->r[i].protocol, ask->peers) && asked_for(&r->r[i], ask))
            v[line.count + peers++] = &r->r[i];
    line.mape /= fmax(line.count, 1);
    line.bias /= fmax(line.count, 1);
    coverage(v, line.count, peers, &line, scratch);
    line.p95 = quantile(off, line.count, 0.95);
    return line;
}
