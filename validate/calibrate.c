/* From files to a profile. */
#include "validate/calibrate.h"

#include <math.h>
#include <string.h>

#include "base/outfile.h"
#include "validate/accuracy.h"
#include "validate/lsq.h"
#include "validate/profile_write.h"

/* ---- reading ---- */

static bool is_table(const char *path)
{
    const char *dot = strrchr(path, '.');
    return dot && !strcmp(dot, ".csv");
}

static void append(struct points *all, const struct points *more, struct arena *a)
{
    struct point *both = ARENA_ARRAY(a, struct point, all->count + more->count + 1);
    if (all->count)
        memcpy(both, all->point, (size_t)all->count * sizeof *both);
    if (more->count)
        memcpy(both + all->count, more->point, (size_t)more->count * sizeof *both);
    all->point = both;
    all->count += more->count;
    all->skipped += more->skipped;
}

static bool read_one(const char *path, const struct calibrate_options *o, struct points *out,
                     struct calibrated *c, struct arena *a, struct err *e)
{
    struct nccl_log log;
    if (is_table(path))
        return points_read(path, a, out, e);
    if (!nccl_log_read(path, a, &log, e) ||
        !nccl_points(path, &log, &o->facts, o->gpu ? o->gpu : "measured", a, out, e))
        return false;
    c->broken += log.broken;
    c->wrong += log.wrong;
    return true;
}

static bool allowed(const struct point *p, const struct calibrate_options *o)
{
    if (o->gpu && strcmp(p->gpu, o->gpu))
        return false;
    for (int i = 0; o->roles && o->roles[i]; i++)
        if (!strcmp(p->role, o->roles[i]))
            return true;
    return !o->roles || !*p->role;
}

/* Keeps the rows asked for, all of one GPU and either all collectives or all kernels. */
static bool choose(struct points *all, const struct calibrate_options *o, struct err *e)
{
    int n = 0;
    for (int i = 0; i < all->count; i++)
        if (allowed(&all->point[i], o))
            all->point[n++] = all->point[i];
    all->count = n;
    if (!n)
        return err_set(e, ERR_INPUT, err_at_name(all->path), "no usable row%s%s",
                       o->gpu ? " of GPU " : "", o->gpu ? o->gpu : "");
    const struct point *first = &all->point[0];
    for (int i = 1; i < n; i++) {
        const struct point *p = &all->point[i];
        if (strcmp(p->gpu, first->gpu))
            return err_set(e, ERR_INPUT, err_at_name(all->path),
                           "rows of '%s' and of '%s': say which with --gpu", first->gpu, p->gpu);
        if ((p->kind == POINT_COLLECTIVE) != (first->kind == POINT_COLLECTIVE))
            return err_set(e, ERR_INPUT, err_at_name(all->path),
                           "collectives and kernels make two profiles: calibrate them apart");
    }
    return true;
}

/* ---- fitting ---- */

static bool seen(const struct point *p, const void *skip)
{
    return p != skip;
}

static bool fit_kernels(const struct points *pts, const struct point *skip,
                        const struct calibrate_options *o, const struct prof_kernels *relative,
                        struct prof_kernels *out, struct arena *a, struct err *e)
{
    struct fit_view v = {.pts = pts, .keep = seen, .data = skip};
    int rows[POINT_KINDS] = {0};
    for (int i = 0; i < pts->count; i++)
        rows[pts->point[i].kind] += &pts->point[i] != skip;
    if (relative && rows[POINT_ATTENTION] < 8 && rows[POINT_GEMM] < 8)
        return fit_scaled(relative, &v, &v, o->sms, out, a, e);
    struct prof_kernels p = relative ? *relative : (struct prof_kernels){0};
    p.sms = o->sms;
    bool ok = (!rows[POINT_ATTENTION] || fit_attention(&v, &p, a, e)) &&
              (!rows[POINT_GEMM] || fit_gemm(&v, o->sms, &p.gemm, a, e)) &&
              (!rows[POINT_SPARSE] || fit_sparse(&v, &p.sparse, e));
    if (ok && !p.attention_count)
        return err_set(e, ERR_INPUT, err_at_name(pts->path),
                       "no attention row, and no --relative to lend its attention");
    *out = p;
    return ok;
}

static bool fit_network(const struct points *pts, const struct calibrate_options *o,
                        const struct prof_net *relative, struct calibrated *c, struct arena *a,
                        struct err *e)
{
    struct point_filter f = {.gpu = pts->point[0].gpu};
    struct prof_curve *curves;
    int n = fit_curves(pts, &f, &curves, &c->conflicts, a);
    unsigned ops = 0;
    for (int i = 0; i < n; i++) {
        ops |= curves[i].nodes == 1 ? 1u << curves[i].op : 0;
        if (curves[i].count < 3 && !relative)
            return err_set(
                e, ERR_INPUT, err_at_name(pts->path),
                "%s on %d GPUs: %d size%s make no curve; measure more or name a --relative",
                coll_op_names[curves[i].op], curves[i].gpus, curves[i].count,
                curves[i].count == 1 ? "" : "s");
    }
    for (int op = 0; op < COLL_SEND_RECV && !relative; op++)
        if (!(ops & 1u << op))
            return err_set(e, ERR_INPUT, err_at_name(pts->path),
                           "no %s within one node; measure it or name a --relative",
                           coll_op_names[op]);
    struct fit_net_options options = {
        .name = o->name, .source = "measured here", .relative = relative, .nvls = o->nvls};
    return fit_net(&pts, 1, &f, &options, &c->network, a, e);
}

/* Without a relative the error bars come from the sizes left out here; the other classes get twice
 * that. */
static void own_halves(struct calibrated *c, struct arena *a)
{
    double *v[2] = {ARENA_ARRAY(a, double, c->points.count + 1),
                    ARENA_ARRAY(a, double, c->points.count + 1)};
    int n[2] = {0};
    for (int i = 0; i < c->points.count; i++) {
        int large = c->points.point[i].coll.bytes >= 1048576;
        if (!isnan(c->unseen_s[i]))
            v[large][n[large]++] = fabs(log(c->unseen_s[i] / c->points.point[i].time_s));
    }
    for (int large = 0; large < 2; large++) {
        double inside = fmax(quantile(v[large], n[large], 0.9), 0.05);
        c->network.half[PROF_POINT][large] = 0.05;
        c->network.half[PROF_INSIDE][large] = inside;
        for (int k = PROF_OUTSIDE; k < PROF_BETWEEN; k++)
            c->network.half[k][large] = fmax(c->network.half[k][large], 2 * inside);
    }
}

/* What the curve says to a size without its own rows. */
static double unseen_collective(const struct calibrated *c, const struct point *p,
                                struct arena *scratch)
{
    struct point_filter f = {.gpu = p->gpu, .without_bytes = p->coll.bytes};
    struct prof_curve *curves;
    int conflicts = 0, n = fit_curves(&c->points, &f, &curves, &conflicts, scratch);
    struct prof_curve like = {.op = p->coll.op, .type = p->coll.type, .nodes = p->coll.nodes};
    const struct prof_curve *k = fit_find(curves, n, &like, p->coll.gpus);
    return k && k->count >= 2 ? prof_curve_s(k, p->coll.bytes) : NAN;
}

static double unseen_kernel(const struct calibrated *c, int i, const struct calibrate_options *o,
                            const struct prof_kernels *relative, struct arena *scratch)
{
    struct prof_kernels p;
    struct prediction r;
    struct err ignored = {0};
    const struct point *point = &c->points.point[i];
    if (!fit_kernels(&c->points, point, o, relative, &p, scratch, &ignored) ||
        !point_predict(point, NULL, &p, &r))
        return NAN;
    return r.time.value_s;
}

/* Beyond five median absolute deviations, and off by more than a tenth. */
static void find_outliers(struct calibrated *c, struct arena *a)
{
    double *off = ARENA_ARRAY(a, double, c->points.count + 1),
           *sorted = ARENA_ARRAY(a, double, c->points.count + 1);
    for (int i = 0; i < c->points.count; i++) {
        double told = isnan(c->unseen_s[i]) ? c->fitted_s[i] : c->unseen_s[i];
        off[i] = sorted[i] = fabs(log(told / c->points.point[i].time_s));
    }
    double limit = fmax(5 * quantile(sorted, c->points.count, 0.5), 0.1);
    for (int i = 0; i < c->points.count; i++)
        c->outlier[i] = off[i] > limit;
}

static void judge(struct calibrated *c, const struct calibrate_options *o,
                  const struct prof_kernels *relative, struct arena *a)
{
    int n = c->points.count, unseen = 0;
    c->fitted_s = ARENA_ARRAY(a, double, n);
    c->unseen_s = ARENA_ARRAY(a, double, n);
    c->outlier = ARENA_ARRAY(a, bool, n);
    struct arena *scratch = arena_new();
    for (int i = 0; i < n; i++) {
        const struct point *p = &c->points.point[i];
        struct prediction r;
        bool has = point_predict(p, c->net ? &c->network : NULL, c->net ? NULL : &c->kernels, &r);
        c->fitted_s[i] = has ? r.time.value_s : NAN;
        c->unseen_s[i] = c->net     ? unseen_collective(c, p, scratch)
                         : n <= 600 ? unseen_kernel(c, i, o, relative, scratch)
                                    : NAN;
        c->mape += fabs(c->fitted_s[i] / p->time_s - 1) / n;
        if (!isnan(c->unseen_s[i])) {
            c->unseen_mape += fabs(c->unseen_s[i] / p->time_s - 1);
            unseen++;
        }
        arena_reset(scratch);
    }
    c->unseen_mape = unseen ? c->unseen_mape / unseen : NAN;
    find_outliers(c, scratch);
    arena_free(scratch);
}

static bool fit(const struct calibrate_options *o, struct calibrated *c, struct arena *a,
                struct err *e)
{
    const struct prof_kernels *relative = NULL;
    struct err_at at = err_at_name("--relative");
    if (c->net) {
        const struct prof_net *net = o->relative ? prof_net_load(o->relative, at, a, e) : NULL;
        if ((o->relative && !net) || !fit_network(&c->points, o, net, c, a, e))
            return false;
        if (!net) {
            const struct prof_net *pooled =
                prof_net_load("h100", at, a, e); /* several nodes: the pooled form */
            if (!pooled)
                return false;
            c->network.between = pooled->between;
        }
        judge(c, o, NULL, a);
        if (!net)
            own_halves(c, a);
        return true;
    }
    relative = o->relative ? prof_kernels_load(o->relative, at, a, e)
                           : prof_kernels_load("h100", at, a, e);
    if (!relative ||
        !fit_kernels(&c->points, NULL, o, o->relative ? relative : NULL, &c->kernels, a, e))
        return false;
    memcpy(c->kernels.half, relative->half, sizeof relative->half);
    c->kernels.half_short = relative->half_short;
    c->kernels.name = o->name;
    c->kernels.source = "measured here";
    judge(c, o, o->relative ? relative : NULL, a);
    return true;
}

bool calibrate(const struct calibrate_options *o, struct calibrated *out, struct arena *a,
               struct err *e)
{
    struct calibrated c = {.points = {.path = o->files[0]}};
    for (int i = 0; o->files[i]; i++) {
        struct points more;
        if (!read_one(o->files[i], o, &more, &c, a, e))
            return false;
        append(&c.points, &more, a);
    }
    if (!choose(&c.points, o, e))
        return false;
    c.skipped = c.points.skipped;
    c.net = c.points.point[0].kind == POINT_COLLECTIVE;
    if (!fit(o, &c, a, e))
        return false;
    *out = c;
    return true;
}

/* ---- showing ---- */

static const char *what(const struct point *p, struct arena *a)
{
    static const char *const parts[] = {"sparse", "dense", "select"};
    if (p->kind == POINT_COLLECTIVE)
        return arena_printf(a, "%s %s %d GPUs%s", coll_op_names[p->coll.op],
                            coll_type_names[p->coll.type], p->coll.gpus,
                            p->coll.nodes > 1 ? arena_printf(a, " %d nodes", p->coll.nodes) : "");
    if (p->kind == POINT_ATTENTION)
        return arena_printf(a, "%s %s b%g h%g d%d", p->attention.causal ? "causal" : "full",
                            p->attention.backward ? "bwd" : "fwd", p->attention.batch,
                            p->attention.heads, p->attention.head_dim);
    if (p->kind == POINT_GEMM)
        return arena_printf(a, "gemm %gx%g", p->n, p->k);
    return arena_printf(a, "%s %s", parts[p->part], p->backward ? "bwd" : "fwd");
}

static double axis(const struct point *p)
{
    return p->kind == POINT_COLLECTIVE  ? p->coll.bytes
           : p->kind == POINT_ATTENTION ? p->attention.keys
           : p->kind == POINT_GEMM      ? p->m
                                        : p->kept;
}

struct table *calibrate_table(const struct calibrated *c, struct arena *a)
{
    static const struct table_col cols[] = {
        {"what", "what", TABLE_STR, QTY_NUMBER},
        {"x", "size", TABLE_QTY, QTY_NUMBER},
        {"measured_s", "measured", TABLE_QTY, QTY_SECONDS},
        {"fitted_s", "fitted", TABLE_QTY, QTY_SECONDS},
        {"error", "error", TABLE_QTY, QTY_NUMBER},
        {"unseen_error", "left out", TABLE_QTY, QTY_NUMBER},
        {"note", "", TABLE_STR, QTY_NUMBER},
    };
    struct table *t = table_new(a, cols, 7);
    for (int i = 0; i < c->points.count; i++) {
        const struct point *p = &c->points.point[i];
        table_str(t, what(p, a));
        table_num(t, axis(p));
        table_num(t, p->time_s);
        table_num(t, c->fitted_s[i]);
        table_num(t, c->fitted_s[i] / p->time_s - 1);
        table_num(t, c->unseen_s[i] / p->time_s - 1);
        table_str(t, c->outlier[i] ? "outlier" : "");
    }
    return t;
}

static void plot_block(const struct calibrated *c, const char *name, bool fitted, struct arena *a,
                       FILE *out)
{
    const char *last = "";
    fprintf(out, "$%s << EOD\n", name);
    for (int i = 0; i < c->points.count; i++) {
        const struct point *p = &c->points.point[i];
        const char *now = what(p, a);
        if (strcmp(now, last))
            fprintf(out, "\n");
        last = now;
        fprintf(out, "%.9g %.9g\n", axis(p), (fitted ? c->fitted_s[i] : p->time_s) * 1e6);
    }
    fprintf(out, "EOD\n");
}

void calibrate_plot(const struct calibrated *c, const char *image, FILE *out)
{
    struct arena *a = arena_new();
    const char *dot = strrchr(image, '.');
    fprintf(out, "set terminal %s size 1000,700\nset output '%s'\nset logscale xy\nset grid\n",
            dot && !strcmp(dot, ".png") ? "pngcairo" : "svg", image);
    fprintf(out, "set xlabel '%s'\nset ylabel 'time, us'\nset key left top\n",
            c->net ? "size, bytes" : "tokens, rows or kept keys");
    plot_block(c, "measured", false, a, out);
    plot_block(c, "fitted", true, a, out);
    fprintf(out, "plot $fitted with lines lc rgb '#1f77b4' title 'fitted', "
                 "$measured with points pt 7 ps 0.5 lc rgb '#d62728' title 'measured'\n");
    arena_free(a);
}

/* ---- the shipped profiles ---- */

static const char *fitted_text(const struct residuals *r, bool net, struct arena *a)
{
    struct arena *s = arena_new();
    static const char *const of_net[] = {
        "collectives: one size left out, neighbours four octaves apart",
        "collectives: new generation from two anchors"};
    static const char *const of_kernels[] = {"attention: lengths left out",
                                             "attention: another GPU, one anchor left out"};
    const char *const *names = net ? of_net : of_kernels;
    struct accuracy_line
        x = accuracy_of(r, &(struct accuracy_ask){.protocol = names[0], .large_only = true}, s),
        y = accuracy_of(r, &(struct accuracy_ask){.protocol = names[1], .large_only = true}, s);
    const char *text = arena_printf(
        a, "%s: %.1f%%; %s: %.1f%% (mean absolute, %s); every row of the tables is in the fit",
        names[0], 100 * x.mape, names[1], 100 * y.mape, net ? "1 MB and above" : "over 1 ms");
    arena_free(s);
    return text;
}

static bool write_net(const struct accuracy_tables *t, const struct residuals *r,
                      const struct shipped *s, const char *folder, const char *made_by,
                      struct arena *a, struct err *e)
{
    struct prof_net p;
    if (!shipped_net(t, r, s, &p, a, e))
        return false;
    struct outfile *f = outfile_open(arena_printf(a, "%s/net/%s.yaml", folder, s->name), a, e);
    if (!f)
        return false;
    profile_write_net(&p, made_by, fitted_text(r, true, a), outfile_stream(f));
    return outfile_done(f, e);
}

static bool write_curve(const struct accuracy_tables *t, const struct residuals *r,
                        const struct shipped *s, const char *folder, const char *made_by,
                        struct arena *a, struct err *e)
{
    struct prof_kernels p;
    if (!shipped_kernels(t, r, s, &p, a, e))
        return false;
    struct outfile *f = outfile_open(arena_printf(a, "%s/curve/%s.yaml", folder, s->name), a, e);
    if (!f)
        return false;
    profile_write_kernels(&p, made_by, fitted_text(r, false, a), outfile_stream(f));
    return outfile_done(f, e);
}

bool calibrate_shipped(const char *data, const char *presets, const char *made_by, struct arena *a,
                       struct err *e)
{
    struct accuracy_tables t;
    struct residuals r = residuals_new(a);
    if (!accuracy_tables_read(data, &t, a, e) || !accuracy_run(&t, &r, a, e))
        return false;
    for (const struct shipped *s = shipped_nets; s->name; s++)
        if (!write_net(&t, &r, s, presets, made_by, a, e))
            return false;
    for (const struct shipped *s = shipped_curves; s->name; s++)
        if (!write_curve(&t, &r, s, presets, made_by, a, e))
            return false;
    return true;
}
