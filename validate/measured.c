#include "validate/measured.h"

#include <inttypes.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "model/plan.h"
#include "validate/rows.h"

const char *const measured_names[MEASURED_KINDS] = {"dense attention forward",
                                                    "dense attention backward",
                                                    "sparse attention forward",
                                                    "sparse attention backward",
                                                    "select",
                                                    "linear layers",
                                                    "copies",
                                                    "gathered rows",
                                                    "scattered rows",
                                                    "sums of gradients",
                                                    "lists of rows",
                                                    "copies to the host",
                                                    "exchanges"};

struct point { /* seconds = per_call * calls + per_unit * units */
    double calls, units, seconds;
    int fold; /* one for each block of each run: its points leave the fit together */
    const char *rows;
    const struct run_row *row;   /* the first of its phase */
    double fitted_s, left_out_s; /* by the fit, and by one without the fold (NaN: none) */
};

struct list {
    struct point *points;
    int count, room;
    bool rings; /* all points are phases of rings: they make room for others */
};

struct measured {
    struct arena *a;
    const struct plan *first;
    struct list list[MEASURED_KINDS];
    int folds, took_turns;
    const char *rows; /* the file at hand and its phase at hand */
    const struct run_row *row;
};

struct measured *measured_new(struct arena *a)
{
    struct measured *m = ARENA_NEW(a, struct measured);
    m->a = a;
    return m;
}

/* A ring's phase has its hops and merges in it: it counts while nothing else tells of the kind. */
static bool makes_room(struct list *l, bool ring)
{
    if (ring && l->count && !l->rings)
        return false;
    if (l->rings && !ring)
        l->count = 0;
    l->rings = ring;
    return true;
}

static void add_point(struct measured *m, enum measured_kind kind, bool ring, double calls,
                      double units, double seconds)
{
    struct list *l = &m->list[kind];
    if (!(seconds > 0) || !(units > 0) || !makes_room(l, ring))
        return;
    if (l->count == l->room) {
        l->room = 2 * l->room + 64;
        struct point *more = ARENA_ARRAY(m->a, struct point, l->room);
        if (l->count)
            memcpy(more, l->points, (size_t)l->count * sizeof *more);
        l->points = more;
    }
    l->points[l->count++] = (struct point){.calls = calls,
                                           .units = units,
                                           .seconds = seconds,
                                           .fold = m->folds,
                                           .rows = m->rows,
                                           .row = m->row};
}

/* ---- rows to points ---- */

static int by_value(const void *x, const void *y)
{
    double a = *(const double *)x, b = *(const double *)y;
    return a < b ? -1 : a > b;
}

/* Seconds of one phase of one rank: the median over repeats of the sum over rows of that name;
 * `like` is its first row. */
static double median_of(const struct run_result *r, int first, double *work, double *moved,
                        struct arena *a)
{
    const struct run_row *like = &r->rows[first];
    int repeats = 1;
    for (int i = first; i < r->row_count && r->rows[i].block == like->block; i++)
        repeats = r->rows[i].repeat >= repeats ? r->rows[i].repeat + 1 : repeats;
    double *t = ARENA_ARRAY(a, double, repeats);
    *work = *moved = 0;
    for (int i = first; i < r->row_count && r->rows[i].block == like->block; i++) {
        const struct run_row *x = &r->rows[i];
        if (x->rank != like->rank || x->pass != like->pass || strcmp(x->phase, like->phase) != 0)
            continue;
        t[x->repeat] += x->seconds;
        *work += x->repeat == 0 ? x->work : 0;
        *moved += x->repeat == 0 ? fmax(x->sent, x->received) : 0;
    }
    qsort(t, (size_t)repeats, sizeof *t, by_value);
    return t[repeats / 2];
}

static int calls_of(const struct plan *p, const struct run_row *row, struct arena *a)
{
    struct cp_program program = cp_program_of(&p->c, row->block, &p->blocks[row->block].conf, a);
    for (int i = 0; i < program.phase_count; i++)
        if ((int)program.phases[i].pass == row->pass &&
            strcmp(program.phases[i].name, row->phase) == 0)
            return program.phases[i].calls;
    return 1;
}

/* Rows of queries times heads that a rank attends with. */
static double query_rows(const struct plan *p, const struct run_row *row, struct arena *a)
{
    const struct cp_conf *c = &p->blocks[row->block].conf;
    struct cp_held held = cp_conf_held(c, p->c.model->heads, p->c.model->kv_heads, a);
    double tokens = (double)dit_attention_tokens(p->c.model, row->block, p->c.video_tokens);
    return held.q[cp_head_rank(c, row->rank)] * tokens / c->seq_groups;
}

/* Of what a phase of copies counts in its column `work`, so many are one unit of the kind; rows are
 * K and V at head_dim 128: read and written, or read, added and written as fp32. */
static void add_copies(struct measured *m, const struct run_row *row, double work, double seconds)
{
    static const struct {
        const char *phase;
        enum measured_kind kind;
        double per_unit;
    } of[] = {{"pack kv rows", MEASURED_GATHERED, 8 * 128},
              {"scatter dkv rows", MEASURED_SCATTERED, 24 * 128},
              {"sum dkv", MEASURED_SUMS, 1},
              {"unite selections", MEASURED_LISTS, 1},
              {"offload indices", MEASURED_HOST, 1},
              {"fetch indices", MEASURED_HOST, 1},
              {"offload kv", MEASURED_HOST, 1},
              {"fetch kv", MEASURED_HOST, 1}};
    for (size_t i = 0; i < sizeof of / sizeof *of; i++)
        if (strcmp(row->phase, of[i].phase) == 0) {
            add_point(m, of[i].kind, false, 0, work / of[i].per_unit, seconds);
            return;
        }
    add_point(m, MEASURED_COPY, false, 0, work, seconds);
}

static void add_phase(struct measured *m, const struct plan *p, const struct run_result *r,
                      int first)
{
    const struct run_row *row = m->row = &r->rows[first];
    double work, moved, seconds = median_of(r, first, &work, &moved, m->a),
                        scale = p->c.model->head_dim / 128.0;
    int backward = row->pass == PASS_BACKWARD;
    switch (row->cost) {
    case CLASS_ATTENTION_DENSE:
        add_point(m, backward ? MEASURED_DENSE_BACKWARD : MEASURED_DENSE_FORWARD, moved > 0, 0,
                  (backward ? 10.0 : 4.0) * work * p->c.model->head_dim, seconds);
        break;
    case CLASS_ATTENTION_SPARSE:
        add_point(m, backward ? MEASURED_SPARSE_BACKWARD : MEASURED_SPARSE_FORWARD, moved > 0,
                  scale * query_rows(p, row, m->a), scale * work, seconds);
        break;
    case CLASS_SELECT:
        add_point(m, MEASURED_SELECT, false, 0, work, seconds);
        break;
    case CLASS_GEMM:
        add_point(m, MEASURED_LINEAR, false, 0, work, seconds);
        break;
    case CLASS_COPY:
        add_copies(m, row, work, seconds);
        break;
    case CLASS_COLLECTIVE:
        add_point(m, MEASURED_EXCHANGE, false, calls_of(p, row, m->a), moved, seconds);
        break;
    default:
        break;
    }
}

static bool first_of_phase(const struct run_result *r, int i)
{
    const struct run_row *x = &r->rows[i];
    for (int k = i - 1; k >= 0 && r->rows[k].block == x->block && r->rows[k].rank == x->rank; k--)
        if (r->rows[k].pass == x->pass && strcmp(r->rows[k].phase, x->phase) == 0)
            return false;
    return x->repeat == 0;
}

static bool add_rows(struct measured *m, const struct plan *p, const struct run_result *r,
                     const struct rows_head *head, const char *rows, struct err *e)
{
    m->first = m->first ? m->first : p;
    m->took_turns += rows_take_turns(head);
    m->rows = rows;
    for (int i = 0; i < r->row_count; i++) {
        const struct run_row *x = &r->rows[i];
        if (x->block >= p->block_count || x->rank >= p->cp)
            return err_set(e, ERR_INPUT, err_at_name(rows),
                           "block %d, rank %d: the plan has %d blocks on %d ranks", x->block,
                           x->rank, p->block_count, p->cp);
        if (i == 0 || x->block != r->rows[i - 1].block)
            m->folds++;
        if (first_of_phase(r, i))
            add_phase(m, p, r, i);
    }
    return true;
}

bool measured_add(struct measured *m, const char *plan, const char *rows, struct err *e)
{
    struct run_result r;
    struct rows_head head;
    const struct plan *p = plan_read(plan, m->a, e);
    if (!p || !rows_read(rows, m->a, &r, &head, e))
        return false;
    if (head.signature != plan_signature(p))
        return err_set(e, ERR_INPUT, err_at_name(rows), "measured with another plan than %s", plan);
    return add_rows(m, p, &r, &head, rows, e);
}

/* The plan that the rows name, from here or from their own folder; NULL if it is in neither. */
static const char *named_plan(const char *rows, const char *name, struct arena *a)
{
    const char *slash = strrchr(rows, '/');
    if (!name || access(name, R_OK) == 0 || !slash)
        return name && access(name, R_OK) == 0 ? name : NULL;
    const char *beside = arena_printf(a, "%.*s/%s", (int)(slash - rows), rows, name);
    return access(beside, R_OK) == 0 ? beside : NULL;
}

bool measured_add_rows(struct measured *m, const char *const *plans, const char *rows,
                       const char **plan, struct err *e)
{
    struct run_result r;
    struct rows_head head;
    const struct plan *p = NULL;
    if (!rows_read(rows, m->a, &r, &head, e))
        return false;
    for (*plan = NULL; plans && *plans && !*plan; plans++) {
        if (!(p = plan_read(*plans, m->a, e)))
            return false;
        *plan = plan_signature(p) == head.signature ? *plans : NULL;
    }
    const char *named = *plan ? NULL : named_plan(rows, head.plan, m->a);
    if (named) {
        if (!(p = plan_read(named, m->a, e)))
            return false;
        *plan = plan_signature(p) == head.signature ? named : NULL;
    }
    if (!*plan)
        return err_set(e, ERR_INPUT, err_at_name(rows),
                       "measured with %s of signature %016" PRIx64 ", which is not %s: want --plan",
                       head.plan ? head.plan : "a plan", head.signature,
                       named ? "that file now" : "there");
    return add_rows(m, p, &r, &head, rows, e);
}

/* ---- fits ---- */

/* Minimises the sum of (1 - prediction / seconds)^2 over points that are not of `fold`; false when
 * there are none. */
static bool fit_line(const struct list *l, int fold, double *per_call, double *per_unit)
{
    double cc = 0, cu = 0, uu = 0, c = 0, u = 0;
    int n = 0;
    for (int i = 0; i < l->count; i++) {
        const struct point *p = &l->points[i];
        double x = p->calls / p->seconds, y = p->units / p->seconds;
        if (p->fold == fold)
            continue;
        cc += x * x, cu += x * y, uu += y * y, c += x, u += y, n++;
    }
    double det = cc * uu - cu * cu;
    *per_call = 0, *per_unit = n ? u / uu : 0;
    if (n && det > 1e-9 * cc * uu) {
        double a = (c * uu - u * cu) / det, b = (u * cc - c * cu) / det;
        if (a >= 0 && b > 0)
            *per_call = a, *per_unit = b;
        else if (b <= 0) /* all latency */
            *per_call = c / cc, *per_unit = 0;
    }
    return n > 0;
}

static double middle(double *values, int n)
{
    qsort(values, (size_t)n, sizeof *values, by_value);
    return n ? values[n / 2] : (double)NAN;
}

static void solve_line(const struct measured *m, enum measured_kind kind,
                       struct measured_line *line)
{
    const struct list *l = &m->list[kind];
    double *off = ARENA_ARRAY(m->a, double, l->count + 1), a = 0, b = 0;
    int n = 0;
    bool others = false; /* than the fold */
    *line = (struct measured_line){
        .points = l->count, .rings = l->rings && l->count, .left_out_worst = (double)NAN};
    fit_line(l, -1, &line->per_call, &line->per_unit);
    for (int i = 0; i < l->count; i++) {
        struct point *p = &l->points[i];
        p->fitted_s = line->per_call * p->calls + line->per_unit * p->units;
        off[i] = fabs(p->fitted_s / p->seconds - 1);
    }
    line->error_median = middle(off, l->count);
    for (int i = 0; i < l->count; i++) {
        struct point *p = &l->points[i];
        if (i == 0 || p->fold != l->points[i - 1].fold)
            others = fit_line(l, p->fold, &a, &b);
        p->left_out_s = others ? a * p->calls + b * p->units : (double)NAN;
        if (others)
            off[n++] = fabs(p->left_out_s / p->seconds - 1);
    }
    line->left_out_median = middle(off, n);
    if (n)
        line->left_out_worst = off[n - 1];
}

/* Shares are of the first plan's hardware; where that turns out too small it is raised, so that no
 * share passes 1. */
static double share(double rate, double *roof)
{
    if (rate > *roof)
        *roof = rate;
    return rate / *roof;
}

/* No curve and no share of other runs stands before a fitted number, and sparse times are this
 * chip's: calib_kernels is not to make them longer for another one. */
static void what_was_measured_rules(const struct measured_line *l, struct kern_profile *k,
                                    const struct hw_gpu *g)
{
    if (l[MEASURED_DENSE_FORWARD].points || l[MEASURED_DENSE_BACKWARD].points) {
        k->dense.curve = (struct kern_curve){0};
        k->dense.on_count = 0;
    }
    if (l[MEASURED_LINEAR].points)
        k->gemm_curve = (struct kern_curve){0};
    if (l[MEASURED_SPARSE_FORWARD].points || l[MEASURED_SPARSE_BACKWARD].points ||
        l[MEASURED_SELECT].points) {
        k->sparse.curve = (struct kern_curve){0};
        k->measured_on = g->name;
    }
}

static void apply(const struct measured_line *line, struct kern_profile *k, struct hw_cluster *c)
{
    const struct measured_line *l = line;
    double forward = l[MEASURED_DENSE_FORWARD].per_unit,
           backward = l[MEASURED_DENSE_BACKWARD].per_unit, linear = l[MEASURED_LINEAR].per_unit;
    double peak = c->gpu.bf16_flop_per_s, link = l[MEASURED_EXCHANGE].per_unit;
    peak = forward > 0 && 1 / forward > peak ? 1 / forward : peak;
    peak = backward > 0 && 1 / backward > peak ? 1 / backward : peak;
    peak = linear > 0 && 1 / linear > peak ? 1 / linear : peak;
    c->gpu.bf16_flop_per_s = peak;
    what_was_measured_rules(line, k, &c->gpu);
    k->dense.forward_share = forward > 0 ? 1 / forward / peak : k->dense.forward_share;
    k->dense.backward_share = backward > 0 ? 1 / backward / peak : k->dense.backward_share;
    if (l[MEASURED_SPARSE_FORWARD].points)
        k->sparse.forward_row_s = fmax(l[MEASURED_SPARSE_FORWARD].per_call, 1e-15),
        k->sparse.forward_pair_s = fmax(l[MEASURED_SPARSE_FORWARD].per_unit, 1e-18);
    if (l[MEASURED_SPARSE_BACKWARD].points)
        k->sparse.backward_row_s = fmax(l[MEASURED_SPARSE_BACKWARD].per_call, 1e-15),
        k->sparse.backward_pair_s = fmax(l[MEASURED_SPARSE_BACKWARD].per_unit, 1e-18);
    if (l[MEASURED_SELECT].points)
        k->sparse.select_score_s = l[MEASURED_SELECT].per_unit;
    k->gemm_share = linear > 0 ? 1 / linear / peak : k->gemm_share;
    if (l[MEASURED_COPY].points)
        k->hbm_share = share(1 / l[MEASURED_COPY].per_unit, &c->gpu.hbm_bytes_per_s);
    if (l[MEASURED_GATHERED].points)
        k->gathered_row_s = l[MEASURED_GATHERED].per_unit;
    if (l[MEASURED_SCATTERED].points)
        k->scattered_row_s = l[MEASURED_SCATTERED].per_unit;
    if (l[MEASURED_SUMS].points)
        k->sum_bytes_per_s = 1 / l[MEASURED_SUMS].per_unit;
    if (l[MEASURED_LISTS].points)
        k->list_s = l[MEASURED_LISTS].per_unit;
    if (l[MEASURED_HOST].points)
        c->pcie_bytes_per_s = 1 / l[MEASURED_HOST].per_unit;
    if (l[MEASURED_EXCHANGE].points && link > 0)
        c->nvlink.efficiency = share(1 / link, &c->nvlink.bytes_per_s),
        c->nic.efficiency = share(1 / link * c->gpus_per_nic, &c->nic.bytes_per_s);
    if (l[MEASURED_EXCHANGE].points)
        c->nvlink.latency_s = c->nic.latency_s = fmax(l[MEASURED_EXCHANGE].per_call, 1e-9);
}

bool measured_solve(const struct measured *m, struct measured_fit *fit, struct err *e)
{
    int points = 0;
    for (int i = 0; i < MEASURED_KINDS; i++)
        points += m->list[i].count;
    if (points == 0)
        return err_set(e, ERR_INPUT, err_at_name("calibrate"), "no measured phases");
    fit->kernels = *m->first->c.kernels;
    fit->cluster = *m->first->c.cluster;
    fit->took_turns = m->took_turns;
    fit->kernels.name = fit->cluster.name = "measured";
    fit->kernels.source = fit->cluster.source = "fitted to rows of shardwise-run";
    for (int i = 0; i < MEASURED_KINDS; i++)
        solve_line(m, (enum measured_kind)i, &fit->line[i]);
    apply(fit->line, &fit->kernels, &fit->cluster);
    fit->kernels.best = fit->kernels.dense;
    return true;
}

/* ---- the evaluator ---- */

static struct cp_case measured_own(const struct plan_eval *self, const struct cp_case *c,
                                   struct arena *a)
{
    const struct measured_fit *fit = self->data;
    struct cp_case own = *c;
    struct hw_cluster *cluster = ARENA_NEW(a, struct hw_cluster);
    *cluster = fit->cluster; /* its numbers, in the shape of the question's */
    cluster->nodes = c->cluster->nodes, cluster->gpus_per_node = c->cluster->gpus_per_node;
    own.kernels = &fit->kernels;
    own.cluster = cluster;
    return own;
}

static bool measured_block(const struct plan_eval *self, const struct cp_case *c, int block,
                           const struct cp_conf *conf, struct program_time *out, struct arena *a,
                           struct arena *scratch, struct err *e)
{
    struct cp_case own = measured_own(self, c, scratch);
    return eval_cost.block(&eval_cost, &own, block, conf, out, a, scratch, e);
}

struct plan_eval measured_eval(const struct measured_fit *fit)
{
    return (struct plan_eval){
        .name = "measured", .data = fit, .block = measured_block, .own = measured_own};
}

/* ---- tables and words ---- */

/* "begin: name, name" of the kinds without points, or of those that rings alone tell of. */
static void put_kinds(const struct measured_fit *fit, bool rings, const char *begin, FILE *out)
{
    const char *before = begin;
    for (int k = 0; k < MEASURED_KINDS; k++)
        if (rings ? fit->line[k].rings : fit->line[k].points == 0) {
            fprintf(out, "%s%s", before, measured_names[k]);
            before = ", ";
        }
    if (before != begin)
        fputc('\n', out);
}

bool measured_one_kind(const struct measured_fit *fit, bool *sparse)
{
    bool dense = fit->line[MEASURED_DENSE_FORWARD].points > 0;
    *sparse = fit->line[MEASURED_SPARSE_FORWARD].points > 0;
    return dense != *sparse;
}

void measured_warn(const struct measured_fit *fit, FILE *out)
{
    put_kinds(fit, false, "shardwise: not measured, so as the profile says: ", out);
    put_kinds(fit, true,
              "shardwise: from rings alone, with what of their hops and merges shows, so "
              "at most this: ",
              out);
    if (fit->took_turns)
        fprintf(out,
                "shardwise: in %d of the runs ranks took turns on fewer cores: their times hold "
                "each other's work\n",
                fit->took_turns);
}

struct table *measured_points(const struct measured *m, struct arena *a)
{
    static const struct table_col cols[] = {{"what", "what", TABLE_STR, QTY_NUMBER},
                                            {"rows", "rows", TABLE_STR, QTY_NUMBER},
                                            {"block", "block", TABLE_INT, QTY_NUMBER},
                                            {"rank", "rank", TABLE_INT, QTY_NUMBER},
                                            {"pass", "pass", TABLE_STR, QTY_NUMBER},
                                            {"phase", "phase", TABLE_STR, QTY_NUMBER},
                                            {"measured_s", "measured", TABLE_QTY, QTY_SECONDS},
                                            {"fitted_s", "fitted", TABLE_QTY, QTY_SECONDS},
                                            {"error", "error", TABLE_QTY, QTY_RATIO},
                                            {"left_out_error", "left out", TABLE_QTY, QTY_RATIO}};
    struct table *t = table_new(a, cols, 10);
    for (int k = 0; k < MEASURED_KINDS; k++)
        for (int i = 0; i < m->list[k].count; i++) {
            const struct point *p = &m->list[k].points[i];
            table_str(t, measured_names[k]);
            table_str(t, p->rows);
            table_int(t, p->row->block);
            table_int(t, p->row->rank);
            table_str(t, rows_pass_names[p->row->pass]);
            table_str(t, p->row->phase);
            table_num(t, p->seconds);
            table_num(t, p->fitted_s);
            table_num(t, p->fitted_s / p->seconds - 1);
            table_num(t, p->left_out_s / p->seconds - 1);
        }
    return t;
}

void measured_print(const struct measured_fit *fit, enum table_format format, FILE *out,
                    struct arena *a)
{
    static const struct table_col cols[] = {
        {"what", "fitted", TABLE_STR, QTY_NUMBER},
        {"points", "points", TABLE_INT, QTY_NUMBER},
        {"per_call_s", "per row or call", TABLE_QTY, QTY_SECONDS},
        {"per_unit_s", "per unit", TABLE_STR, QTY_NUMBER},
        {"error_median", "error", TABLE_QTY, QTY_RATIO},
        {"left_out_median", "left-out error", TABLE_QTY, QTY_RATIO},
        {"left_out_worst", "worst", TABLE_QTY, QTY_RATIO}};
    struct table *t = table_new(a, cols, 7);
    for (int i = 0; i < MEASURED_KINDS; i++) {
        char unit[32];
        const struct measured_line *l = &fit->line[i];
        if (!l->points)
            continue;
        snprintf(unit, sizeof unit, "%.4g", l->per_unit);
        table_str(t, measured_names[i]);
        table_int(t, l->points);
        table_num(t, l->per_call);
        table_str(t, unit);
        table_num(t, l->error_median);
        table_num(t, l->left_out_median);
        table_num(t, l->left_out_worst);
    }
    table_print(t, format, out);
    if (format == TABLE_TEXT)
        fputs("Units: FLOP, (query, key, head) pair at head_dim 128, score, FLOP, byte, K+V row, "
              "byte, entry of a list, byte, byte; seconds each.\n"
              "Errors are fitted over measured, signs dropped: the median; then by a fit without "
              "all points of the block and run: median and worst.\n",
              out);
}
