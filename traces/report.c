#include "traces/report.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

static bool in_range(const struct report_range *range, const struct trace_record *rec)
{
    return (range->step < 0 || rec->step == range->step) &&
           (range->layer < 0 || rec->layer == range->layer);
}

/* The next record of the range at or after *at; false at the end or on an error. */
static bool next_record(struct trace_reader *r, const struct report_range *range, int *at,
                        struct trace_record *rec, struct err *e)
{
    for (; *at < trace_records(r); ++*at) {
        if (!trace_read_record(r, *at, rec, e))
            return false;
        if (in_range(range, rec))
            return true;
    }
    return false;
}

/* ---- keep ---- */

static const struct table_col keep_cols[] = {{"step", "step", TABLE_INT, 0},
                                             {"layer", "layer", TABLE_INT, 0},
                                             {"keep_mean", "keep", TABLE_QTY, QTY_RATIO},
                                             {"keep_least", "least", TABLE_QTY, QTY_RATIO},
                                             {"keep_q1", "q1", TABLE_QTY, QTY_RATIO},
                                             {"keep_median", "median", TABLE_QTY, QTY_RATIO},
                                             {"keep_q3", "q3", TABLE_QTY, QTY_RATIO},
                                             {"keep_most", "most", TABLE_QTY, QTY_RATIO},
                                             {"cv", "cv", TABLE_QTY, QTY_NUMBER},
                                             {"contiguous", "contiguous", TABLE_QTY, QTY_NUMBER},
                                             {"lpt", "LPT", TABLE_QTY, QTY_NUMBER},
                                             {"best", "best", TABLE_QTY, QTY_NUMBER},
                                             {"proof", "proof", TABLE_STR, 0},
                                             {"bound", "bound", TABLE_QTY, QTY_NUMBER}};

static void keep_row(const struct trace_record *rec, double *keep, int heads, int ranks,
                     const struct report_whole *whole, struct arena *scratch, struct table *t)
{
    struct skew s;
    static const double quantile[5] = {0, 0.25, 0.5, 0.75, 1};
    stats_skew(keep, heads, ranks, scratch, &s);
    double pace = s.mean * heads / ranks;
    qsort(keep, (size_t)heads, sizeof *keep, stats_double_order);
    table_int(t, rec->step);
    table_int(t, rec->layer);
    table_num(t, s.mean);
    for (int i = 0; i < 5; i++)
        table_num(t, stats_sorted_quantile(keep, heads, quantile[i]));
    table_num(t, s.cv);
    table_num(t, s.contiguous);
    table_num(t, s.lpt);
    table_num(t, whole->best / pace);
    table_str(t, pace > 0 ? whole->proof : NULL); /* no keep at all: no ratios */
    table_num(t, fmax(s.bound, whole->bound / pace));
}

bool report_keep(struct trace_reader *r, struct report_range range, int ranks,
                 report_assign *assign, struct arena *a, struct table **out, struct err *e)
{
    int heads = (int)trace_info_of(r)->heads;
    struct table *t = table_new(a, keep_cols, sizeof keep_cols / sizeof keep_cols[0]);
    double *keep = ARENA_ARRAY(a, double, heads);
    struct arena *scratch = arena_new();
    struct trace_record rec;
    bool ok = true;
    for (int i = 0; ok && next_record(r, &range, &i, &rec, e); i++) {
        arena_reset(scratch);
        struct report_whole whole = {.best = NAN};
        ok = trace_read_keep(r, i, keep, e) &&
             (!assign || assign(keep, heads, ranks, &whole, e));
        if (ok)
            keep_row(&rec, keep, heads, ranks, &whole, scratch, t);
    }
    arena_free(scratch);
    *out = t;
    return e->code == ERR_NONE;
}

/* ---- unions ---- */

struct union_job {
    struct trace_reader *r;
    const struct tiling *t;
    struct weigh weigh;
    bool full; /* bitmaps, not atoms */
    struct layout layout[LAYOUT_KINDS * REPORT_SIZES];
    const int32_t *atom_shard[LAYOUT_KINDS * REPORT_SIZES];
    int count;
};

static void union_layouts(struct union_job *j, struct report_union *rows, struct arena *a)
{
    const int tokens[3] = {j->t->grid.t, j->t->grid.h, j->t->grid.w};
    for (int kind = 0; kind < LAYOUT_KINDS; kind++)
        for (int n = 2; n <= 64; n *= 2) {
            struct err none = {0};
            int i = j->count;
            bool fits = j->full
                            ? layout_make(j->t, (enum layout_kind)kind, n, a, &j->layout[i], &none)
                            : layout_of_atoms(j->t, trace_atoms_of(j->r), (enum layout_kind)kind, n,
                                              a, &j->layout[i], &j->atom_shard[i], &none);
            if (!fits)
                continue;
            rows[i] = (struct report_union){.kind = (enum layout_kind)kind, .shards = n};
            for (int x = 0; x < 3; x++)
                rows[i].extent[x] =
                    kind == LAYOUT_SLABS    ? (x == 0 ? fmax(1, (double)tokens[0] / n) : tokens[x])
                    : kind == LAYOUT_BRICKS ? (double)tokens[x] / j->layout[i].axis[x]
                                            : tokens[x] / cbrt(n);
            j->count++;
        }
}

static void union_add(const struct union_job *j, int i, const struct mask *m,
                      const struct atom_rows *atoms, double keep, struct arena *scratch,
                      struct report_union *row)
{
    struct layout_stats s;
    if (j->full)
        stats_layout(j->t, &j->weigh, m, &j->layout[i], scratch, &s);
    else
        stats_layout_atoms(j->t, &j->weigh, atoms, j->atom_shard[i], &j->layout[i], scratch, &s);
    row->heads++;
    row->keep += keep;
    row->union_mean += s.union_mean;
    row->remote_mean += s.remote_mean;
    row->remote_most = fmax(row->remote_most, s.remote_most);
    row->work_skew += s.work_skew;
    row->omega += s.omega;
    row->groups = s.groups;
}

static bool union_record(const struct union_job *j, int record, const double *keep,
                         struct arena *scratch, struct report_union *rows, struct err *e)
{
    for (int h = 0; h < trace_info_of(j->r)->heads; h++) {
        struct mask m;
        struct atom_rows atoms;
        arena_reset(scratch);
        if (j->full ? !trace_read_mask(j->r, record, h, scratch, &m, e)
                    : !trace_read_atoms(j->r, record, h, scratch, &atoms, e))
            return false;
        for (int i = 0; i < j->count; i++)
            union_add(j, i, &m, &atoms, keep[h], scratch, &rows[i]);
    }
    return true;
}

bool report_unions(struct trace_reader *r, struct report_range range, struct report_union *rows,
                   int *count, struct err *e)
{
    if (trace_info_of(r)->level < 1)
        return err_set(e, ERR_INPUT, err_at_name("trace"),
                       "a trace of level 0 has keep only; unions need level 1");
    struct arena *a = arena_new(), *scratch = arena_new();
    struct union_job j = {.r = r, .t = trace_tiling_of(r), .full = trace_info_of(r)->level >= 2};
    j.weigh = weigh_make(&j.t->block, a);
    union_layouts(&j, rows, a);
    double *keep = ARENA_ARRAY(a, double, trace_info_of(r)->heads);
    struct trace_record rec;
    for (int i = 0; next_record(r, &range, &i, &rec, e); i++)
        if (!trace_read_keep(r, i, keep, e) || !union_record(&j, i, keep, scratch, rows, e))
            break;
    for (int i = 0; i < j.count && rows[i].heads > 0; i++) {
        double *means[] = {&rows[i].keep, &rows[i].union_mean, &rows[i].remote_mean,
                           &rows[i].work_skew, &rows[i].omega};
        for (int k = 0; k < 5; k++)
            *means[k] /= rows[i].heads;
    }
    *count = j.count > 0 && rows[0].heads > 0 ? j.count : 0;
    arena_free(scratch);
    arena_free(a);
    return e->code == ERR_NONE;
}

static const struct table_col union_cols[] = {{"layout", "layout", TABLE_STR, 0},
                                              {"shards", "shards", TABLE_INT, 0},
                                              {"keep", "keep", TABLE_QTY, QTY_RATIO},
                                              {"union", "union", TABLE_QTY, QTY_RATIO},
                                              {"remote", "remote need", TABLE_QTY, QTY_RATIO},
                                              {"remote_most", "most", TABLE_QTY, QTY_RATIO},
                                              {"work_skew", "work max/mean", TABLE_QTY, QTY_NUMBER},
                                              {"omega", "omega", TABLE_QTY, QTY_RATIO}};

struct table *report_union_table(const struct report_union *rows, int count, struct arena *a)
{
    struct table *t = table_new(a, union_cols, sizeof union_cols / sizeof union_cols[0]);
    for (int i = 0; i < count; i++) {
        table_str(t, layout_names[rows[i].kind]);
        table_int(t, rows[i].shards);
        table_num(t, rows[i].keep);
        table_num(t, rows[i].union_mean);
        table_num(t, rows[i].remote_mean);
        table_num(t, rows[i].remote_most);
        table_num(t, rows[i].work_skew);
        table_num(t, rows[i].omega);
    }
    return t;
}

/* ---- heads ---- */

static const struct table_col head_cols[] = {{"step", "step", TABLE_INT, 0},
                                             {"layer", "layer", TABLE_INT, 0},
                                             {"head", "head", TABLE_INT, 0},
                                             {"keep", "keep", TABLE_QTY, QTY_RATIO},
                                             {"queries", "queries", TABLE_QTY, QTY_RATIO},
                                             {"rho", "rho", TABLE_QTY, QTY_RATIO},
                                             {"overlap", "2x2x2 overlap", TABLE_QTY, QTY_RATIO},
                                             {"run_tokens", "run", TABLE_QTY, QTY_NUMBER},
                                             {"inflate_query", "x queries", TABLE_QTY, QTY_NUMBER},
                                             {"inflate_key", "x keys", TABLE_QTY, QTY_NUMBER},
                                             {"inflate_both", "x both", TABLE_QTY, QTY_NUMBER}};

static bool head_row(struct trace_reader *r, int record, const struct trace_record *rec, int head,
                     const struct weigh *w, struct arena *scratch, struct table *t, struct err *e)
{
    struct mask m;
    struct head_stats s;
    if (!trace_read_mask(r, record, head, scratch, &m, e))
        return false;
    stats_head(trace_tiling_of(r), w, &m, scratch, &s);
    table_int(t, rec->step);
    table_int(t, rec->layer);
    table_int(t, head);
    const double values[] = {s.keep,       s.queries,       s.rho,         s.overlap,
                             s.run_tokens, s.inflate_query, s.inflate_key, s.inflate_both};
    for (int i = 0; i < 8; i++)
        table_num(t, values[i]);
    return true;
}

bool report_heads(struct trace_reader *r, struct report_range range, struct arena *a,
                  struct table **out, struct err *e)
{
    struct table *t = table_new(a, head_cols, sizeof head_cols / sizeof head_cols[0]);
    struct weigh w = weigh_make(&trace_tiling_of(r)->block, a);
    struct arena *scratch = arena_new();
    struct trace_record rec;
    for (int i = 0; next_record(r, &range, &i, &rec, e); i++)
        for (int h = 0; h < trace_info_of(r)->heads && e->code == ERR_NONE; h++) {
            arena_reset(scratch);
            head_row(r, i, &rec, h, &w, scratch, t, e);
        }
    arena_free(scratch);
    *out = t;
    return e->code == ERR_NONE;
}

/* ---- fits ---- */

static const struct table_col fit_cols[] = {{"layout", "layout", TABLE_STR, 0},
                                            {"model", "model", TABLE_STR, 0},
                                            {"rho", "rho", TABLE_QTY, QTY_RATIO},
                                            {"omega", "omega", TABLE_QTY, QTY_RATIO},
                                            {"length", "length", TABLE_QTY, QTY_NUMBER},
                                            {"rms", "rms error", TABLE_QTY, QTY_RATIO},
                                            {"worst", "worst error", TABLE_QTY, QTY_RATIO}};

static void fit_row(struct table *t, int kind, const char *model, const struct union_fit *fit)
{
    bool field = fit->length > 0;
    table_str(t, layout_names[kind]);
    table_str(t, model);
    table_num(t, field ? NAN : fit->rho);
    table_num(t, field ? NAN : fit->omega);
    table_num(t, field ? fit->length : NAN);
    table_num(t, fit->rms);
    table_num(t, fit->worst);
}

struct table *report_fits(const struct report_union *rows, int count, int groups, struct arena *a)
{
    struct table *t = table_new(a, fit_cols, sizeof fit_cols / sizeof fit_cols[0]);
    for (int kind = 0; kind < LAYOUT_KINDS; kind++) {
        struct union_sample samples[REPORT_SIZES];
        struct union_fit fit;
        int n = 0;
        for (int i = 0; i < count; i++) {
            if ((int)rows[i].kind != kind)
                continue;
            samples[n] = (struct union_sample){.keep = fmin(fmax(rows[i].keep, 1e-6), 1 - 1e-6),
                                               .groups = fmax(1, (double)groups / rows[i].shards),
                                               .value = rows[i].remote_mean};
            memcpy(samples[n++].extent, rows[i].extent, sizeof rows[i].extent);
        }
        if (n == 0)
            continue;
        fit_union_markov(samples, n, &fit);
        fit_row(t, kind, "markov", &fit);
        fit_union_field(samples, n, &fit);
        fit_row(t, kind, "field", &fit);
    }
    return t;
}

/* ---- plots ---- */

static void plot_head(FILE *out, const char *name, const char *title, const char *x, const char *y)
{
    fprintf(out,
            "# gnuplot %s.gp\nset terminal svg size 900,540 font 'sans,14'\nset output '%s.svg'\n",
            name, name);
    fprintf(out, "set title '%s'\nset xlabel '%s'\nset ylabel '%s'\nset grid\n", title, x, y);
}

bool report_plot_blocks(struct trace_reader *r, struct report_range range, FILE *out, struct err *e)
{
    int heads = (int)trace_info_of(r)->heads;
    struct arena *a = arena_new();
    double *keep = ARENA_ARRAY(a, double, heads);
    struct trace_record rec;
    plot_head(out, "keep-blocks", "keep of the heads of each block", "block", "keep");
    fprintf(out, "set style data boxplot\nset style boxplot nooutliers\nset style fill solid "
                 "0.3\nunset key\n$data << EOD\n");
    for (int i = 0; next_record(r, &range, &i, &rec, e); i++) {
        if (!trace_read_keep(r, i, keep, e))
            break;
        for (int h = 0; h < heads; h++)
            fprintf(out, "%d %.6g\n", rec.layer, keep[h]);
    }
    fprintf(out, "EOD\nplot $data using (0):2:(0.6):1 linecolor rgb '#3465a4'\n");
    arena_free(a);
    return e->code == ERR_NONE;
}

bool report_plot_heads(struct trace_reader *r, int layer, FILE *out, struct err *e)
{
    int heads = (int)trace_info_of(r)->heads;
    struct arena *a = arena_new();
    double *keep = ARENA_ARRAY(a, double, heads);
    struct report_range range = {-1, layer};
    struct trace_record rec;
    plot_head(out, "keep-heads", "keep of each head over training", "step", "keep");
    fprintf(out, "unset key\nset style data linespoints\n$data << EOD\n");
    for (int i = 0; next_record(r, &range, &i, &rec, e); i++) {
        if (!trace_read_keep(r, i, keep, e))
            break;
        fprintf(out, "%lld", (long long)rec.step);
        for (int h = 0; h < heads; h++)
            fprintf(out, " %.6g", keep[h]);
        fprintf(out, "\n");
    }
    fprintf(out, "EOD\nplot for [h=2:%d] $data using 1:h pointtype 7 pointsize 0.4\n", heads + 1);
    arena_free(a);
    return e->code == ERR_NONE;
}

void report_plot_unions(const struct report_union *rows, int count, FILE *out)
{
    plot_head(out, "union", "keys that a rank fetches, against the keep ratio", "sequence shards",
              "share of remote keys");
    fprintf(out,
            "set logscale x 2\nset yrange [0:1]\nset key outside\nset style data linespoints\n");
    for (int kind = 0; kind < LAYOUT_KINDS; kind++) {
        fprintf(out, "$%s << EOD\n", layout_names[kind]);
        for (int i = 0; i < count; i++)
            if ((int)rows[i].kind == kind)
                fprintf(out, "%d %.6g %.6g\n", rows[i].shards, rows[i].remote_mean, rows[i].keep);
        fprintf(out, "EOD\n");
    }
    fprintf(out, "plot $slabs title 'slabs', $bricks title 'bricks', $hilbert title 'Hilbert', "
                 "$slabs using 1:3 with lines dashtype 2 title 'keep'\n");
}

void report_plot_need(const double *need, int shards, FILE *out)
{
    plot_head(out, "need", "share of shard j that shard i needs", "shard j", "shard i");
    fprintf(out,
            "set yrange [%d.5:-0.5]\nset xrange [-0.5:%d.5]\nset cbrange [0:1]\nset palette "
            "cubehelix negative\n"
            "unset grid\nunset key\n$data << EOD\n",
            shards - 1, shards - 1);
    for (int i = 0; i < shards; i++, fprintf(out, "\n"))
        for (int k = 0; k < shards; k++)
            fprintf(out, "%.6g ", need[i * shards + k]);
    fprintf(out, "EOD\nplot $data matrix with image\n");
}
