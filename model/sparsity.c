#include "model/sparsity.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/csv.h"
#include "base/preset.h"
#include "base/qty.h"
#include "base/rng.h"

double sparsity_keep(const struct sparsity *s, int block, int head)
{
    return s->keep[(size_t)block * (size_t)s->heads + (size_t)head];
}

double union_independent(double keep, double draws)
{
    return keep >= 1 ? 1 : -expm1(draws * log1p(-keep));
}

/* log of the integrand of 1 - U in y = log(p/(1-p)): p^a (1-p)^(b+1) (1-(1-c)p)^(G-1) / B(a,b). */
struct markov {
    double a, b, x, power, log_beta; /* x = 1-c, power = G-1 */
};

static double markov_at(const struct markov *m, double y)
{
    double p = 1 / (1 + exp(-y));
    double log_p = y < -30 ? y : log(p), log_q = y > 30 ? -y : log1p(-p);
    return exp(m->a * log_p + (m->b + 1) * log_q + m->power * log1p(-m->x * p) - m->log_beta);
}

/* The trapezoidal rule converges exponentially on a smooth integrand that dies out at both ends.
 * Below y0 only f = exp(a y)/B is left: its integral is f(y0)/a, and Euler-Maclaurin gives what the
 * cut end costs the rule. */
static double markov_miss(const struct markov *m)
{
    double y0 = log(1e-9 / (m->power + m->b + 2)), y1 = 40 / (m->b + 1) + 3;
    double spread =
        sqrt(1 / (m->a + 0.25) + 1 / (m->b + 0.25)); /* about the width of the Beta in y */
    double step = fmin(0.25, 0.2 * spread), sum = 0;
    int n = (int)ceil((y1 - y0) / step);
    step = (y1 - y0) / n;
    for (int i = 0; i <= n; i++)
        sum += (i == 0 || i == n ? 0.5 : 1) * markov_at(m, y0 + i * step);
    double f0 = exp(m->a * y0 - m->log_beta), as = m->a * step;
    return sum * step + f0 * step * (as / 12 - as * as * as / 720) + f0 / m->a;
}

/* ln B(a, b). lgamma_r: without the global sign that lgamma writes; both arguments are positive. */
static double log_beta(double a, double b)
{
    int sign;
    return lgamma_r(a, &sign) + lgamma_r(b, &sign) - lgamma_r(a + b, &sign);
}

double union_markov(double keep, double groups, double rho, double omega)
{
    if (keep >= 1)
        return 1;
    omega = fmin(fmax(omega, keep), 1 - 1e-9);
    rho = fmin(fmax(rho, omega), 1 - 1e-12);
    double c = (rho - omega) / (1 - omega), nu = (1 - omega) / (omega - keep);
    if (!(nu < 1e6)) /* every key equally popular */
        return 1 - (1 - keep) * exp((groups - 1) * log1p(-(1 - c) * keep));
    struct markov m = {.a = keep * nu, .b = (1 - keep) * nu, .x = 1 - c, .power = groups - 1};
    m.log_beta = log_beta(m.a, m.b);
    return fmin(fmax(1 - markov_miss(&m), keep), 1);
}

double union_field(double keep, const double extent[3], const double length[3])
{
    double n = 1.12;
    for (int i = 0; i < 3; i++)
        n *= 1 + extent[i] / (1.84 * length[i]);
    return union_independent(keep, n);
}

double union_window(int frames, int window, int shards)
{
    double own = (double)frames / shards, reach = 2 * floor(window / 2.0);
    return fmin(frames, own + reach) / frames;
}

static double union_from_table(const struct sparsity *s, int block, int head, int seq_groups)
{
    const struct union_table *t = &s->table;
    const double *u =
        &t->value[((size_t)block * (size_t)s->heads + (size_t)head) * (size_t)t->shard_count];
    if (seq_groups <= t->shards[0])
        return seq_groups == t->shards[0] ? u[0] : 1; /* coarser than measured: take all */
    for (int i = 1; i < t->shard_count; i++)
        if (seq_groups <= t->shards[i]) {
            double w = log((double)seq_groups / t->shards[i - 1]) /
                       log((double)t->shards[i] / t->shards[i - 1]);
            return u[i - 1] + w * (u[i] - u[i - 1]);
        }
    return u[t->shard_count - 1]; /* finer than measured: the union can only be smaller */
}

static double union_from_field(const struct sparsity *s, double keep, int64_t tokens, struct grid g,
                               int seq_groups)
{
    double side = cbrt((double)tokens), length[3];
    double axis[3] = {side, side, side};
    if (g.t > 0) {
        axis[0] = g.t;
        axis[1] = g.h;
        axis[2] = g.w;
    }
    for (int i = 0; i < 3; i++)
        length[i] = s->model.length_is_share ? s->model.length * axis[i] : s->model.length;
    double extent[3] = {axis[0] / seq_groups, axis[1], axis[2]};
    return union_field(keep, extent, length);
}

double sparsity_union(const struct sparsity *s, int block, int head, int64_t tokens, struct grid g,
                      int seq_groups, int group)
{
    double keep = sparsity_keep(s, block, head);
    double groups = fmax(1, (double)tokens / ((double)seq_groups * group));
    switch (s->model.kind) {
    case UNION_FIELD:
        return fmax(keep, union_from_field(s, keep, tokens, g, seq_groups));
    case UNION_MARKOV:
        return union_markov(keep, groups, s->model.rho, s->model.omega);
    case UNION_INDEPENDENT:
        return union_independent(keep, groups);
    case UNION_FIXED:
        return fmax(keep, s->model.fixed);
    case UNION_MEASURED:
        return fmax(keep, union_from_table(s, block, head, seq_groups));
    case UNION_FULL:
        break;
    }
    return 1;
}

size_t union_need_size(const struct union_table *t, int count, size_t heads)
{
    size_t n = 0;
    for (int i = 0; i < count; i++)
        n += heads * (size_t)t->shards[i] * (size_t)t->shards[i];
    return n;
}

const double *sparsity_need(const struct sparsity *s, int block, int head, int seq_groups)
{
    const struct union_table *t = &s->table;
    size_t heads = (size_t)s->blocks * (size_t)s->heads,
           at = (size_t)block * (size_t)s->heads + (size_t)head;
    for (int i = 0; i < t->need_count && s->model.kind == UNION_MEASURED; i++)
        if (t->shards[i] == seq_groups)
            return &t->need[union_need_size(t, i, heads) +
                            at * (size_t)seq_groups * (size_t)seq_groups];
    return NULL;
}

/* ---- the union model as text ---- */

struct union_param {
    const char *key;
    double least, most;
};

static const struct union_form {
    const char *name;
    enum union_kind kind;
    const char *want;
} union_forms[] = {
    {"field", UNION_FIELD, "field:length=TOKENS or field:share=0..1"},
    {"markov", UNION_MARKOV, "markov:rho=0..1,omega=0..1"},
    {"independent", UNION_INDEPENDENT, "independent"},
    {"fixed", UNION_FIXED, "fixed:0..1"},
    {"full", UNION_FULL, "full"},
};
enum { UNION_FORMS = sizeof union_forms / sizeof union_forms[0] };

/* "key=number" at *p; moves past it and a following comma. */
static bool read_param(const char **p, const char *key, double most, double *value)
{
    size_t n = strlen(key);
    if (strncmp(*p, key, n) != 0)
        return false;
    char *end;
    double v = strtod(*p + n, &end);
    if (end == *p + n || !(v > 0 && v <= most) || (*end != ',' && *end != '\0'))
        return false;
    *value = v;
    *p = *end == ',' ? end + 1 : end;
    return true;
}

static bool union_params(const char *p, struct union_model *m)
{
    switch (m->kind) {
    case UNION_FIELD:
        m->length = 5.5;
        m->length_is_share = strncmp(p, "share=", 6) == 0;
        if (*p && !read_param(&p, "length=", 1e9, &m->length) &&
            !read_param(&p, "share=", 1e3, &m->length))
            return false;
        break;
    case UNION_MARKOV:
        if (!read_param(&p, "rho=", 1, &m->rho) || !read_param(&p, "omega=", 1, &m->omega) ||
            m->omega > m->rho)
            return false;
        break;
    case UNION_FIXED:
        if (!read_param(&p, "", 1, &m->fixed))
            return false;
        break;
    default:
        break;
    }
    return *p == '\0';
}

bool union_parse(const char *text, struct err_at at, struct union_model *out, struct err *e)
{
    for (int i = 0; i < UNION_FORMS; i++) {
        size_t n = strlen(union_forms[i].name);
        if (strncmp(text, union_forms[i].name, n) != 0 || (text[n] != '\0' && text[n] != ':'))
            continue;
        struct union_model m = {.kind = union_forms[i].kind};
        if (!union_params(text[n] ? text + n + 1 : "", &m))
            return err_set(e, ERR_INPUT, at, "'%s'; want %s", text, union_forms[i].want);
        *out = m;
        return true;
    }
    return err_set(e, ERR_INPUT, at,
                   "no union model '%s'; want field, markov, independent, fixed or full", text);
}

const char *union_text(const struct union_model *m, char *text, size_t size)
{
    switch (m->kind) {
    case UNION_FIELD:
        if (m->length_is_share)
            snprintf(text, size, "field:share=%g", m->length);
        else
            snprintf(text, size, "field:length=%g", m->length);
        break;
    case UNION_MARKOV:
        snprintf(text, size, "markov:rho=%g,omega=%g", m->rho, m->omega);
        break;
    case UNION_FIXED:
        snprintf(text, size, "fixed:%g", m->fixed);
        break;
    case UNION_INDEPENDENT:
        snprintf(text, size, "independent");
        break;
    case UNION_MEASURED:
        snprintf(text, size, "measured");
        break;
    case UNION_FULL:
        snprintf(text, size, "full");
        break;
    }
    return text;
}

/* ---- sources ---- */

/* DSV publishes no union; the field model meets its published statistics, at the correlation length
 * of its 16^3 grid taken as tokens: the careful choice, docs/sparsity.md. */
static const struct union_model default_union = {.kind = UNION_FIELD, .length = 5.5};

static double *keep_new(int blocks, int heads, struct arena *a)
{
    return ARENA_ARRAY(a, double, (size_t)blocks *(size_t)heads);
}

bool sparsity_uniform(double keep, int blocks, int heads, struct arena *a, struct sparsity *out,
                      struct err *e)
{
    if (!(keep > 0 && keep <= 1))
        return err_set(e, ERR_INPUT, err_at_name("--keep"), "%g; want a share above 0 and up to 1",
                       keep);
    double *k = keep_new(blocks, heads, a);
    for (int i = 0; i < blocks * heads; i++)
        k[i] = keep;
    *out = (struct sparsity){.name = arena_printf(a, "keep %g", keep),
                             .source = "given",
                             .blocks = blocks,
                             .heads = heads,
                             .keep = k,
                             .model = default_union};
    return true;
}

bool sparsity_of_heads(const double *head_sparsity, int count, int blocks, int heads,
                       struct err_at at, struct arena *a, struct sparsity *out, struct err *e)
{
    if (count != heads)
        return err_set(e, ERR_INPUT, at, "%d values; the model has %d heads, want one each", count,
                       heads);
    double *k = keep_new(blocks, heads, a);
    for (int b = 0; b < blocks; b++)
        for (int h = 0; h < heads; h++) {
            if (!(head_sparsity[h] >= 0 && head_sparsity[h] < 1))
                return err_set(e, ERR_INPUT, at,
                               "head %d: sparsity %g; want a share from 0 to below 1", h,
                               head_sparsity[h]);
            k[b * heads + h] = 1 - head_sparsity[h];
        }
    *out = (struct sparsity){.name = "head vector",
                             .source = "given",
                             .blocks = blocks,
                             .heads = heads,
                             .keep = k,
                             .model = default_union};
    return true;
}

/* ---- CSV, one keep per row ---- */

struct keep_columns {
    int step, block, head, keep;
    bool sparsity; /* column `keep` holds 1 - keep */
};

static bool place_of(const struct csv *c, int row, int column, const char *what, int count,
                     int64_t *place, struct err *e)
{
    if (!csv_int(c, row, column, 0, INT32_MAX, place, e))
        return false;
    return *place < count || err_set(e, ERR_INPUT, (struct err_at){c->path, c->line[row], 0},
                                     "%.40s: %lld; the model's %d %s are counted from 0 to %d",
                                     c->header[column], (long long)*place, count, what, count - 1);
}

static bool keep_of(const struct csv *c, int row, const struct keep_columns *col, double *keep,
                    struct err *e)
{
    double v;
    if (!csv_share(c, row, col->keep, &v, e))
        return false;
    *keep = col->sparsity ? 1 - v : v;
    return (*keep > 0 && *keep <= 1) ||
           err_set(e, ERR_INPUT, (struct err_at){c->path, c->line[row], 0},
                   "%.40s: %s; want a share %s, or percent such as 95%%", c->header[col->keep],
                   csv_cell(c, row, col->keep),
                   col->sparsity ? "from 0 to below 1" : "above 0 and up to 1");
}

static bool keep_row(const struct csv *c, int row, const struct keep_columns *col, int64_t step,
                     int blocks, int heads, double *keep, struct err *e)
{
    int64_t block, head, at_step;
    double value;
    if (col->step >= 0 &&
        (!csv_int(c, row, col->step, 0, INT64_MAX / 2, &at_step, e) || at_step != step))
        return e->code == ERR_NONE;
    if (!place_of(c, row, col->block, "blocks", blocks, &block, e) ||
        !place_of(c, row, col->head, "heads", heads, &head, e) || !keep_of(c, row, col, &value, e))
        return false;
    struct err_at at = {c->path, c->line[row], 0};
    double *slot = &keep[block * heads + head];
    if (*slot != 0)
        return err_set(e, ERR_INPUT, at, "block %lld, head %lld stands twice", (long long)block,
                       (long long)head);
    *slot = value;
    return true;
}

static bool last_step(const struct csv *c, int column, int64_t *step, struct err *e)
{
    int64_t last = -1, v;
    for (int r = 0; r < c->rows; r++) {
        if (!csv_int(c, r, column, 0, INT64_MAX / 2, &v, e))
            return false;
        last = v > last ? v : last;
    }
    *step = last;
    return true;
}

/* *step < 0 becomes the last one; any other has to be there. */
static bool find_step(const struct csv *c, int column, int64_t *step, struct err *e)
{
    int64_t v;
    if (*step < 0)
        return column < 0 || last_step(c, column, step, e);
    for (int r = 0; r < c->rows && column >= 0; r++) {
        if (!csv_int(c, r, column, 0, INT64_MAX / 2, &v, e))
            return false;
        if (v == *step)
            return true;
    }
    return err_set(e, ERR_INPUT, err_at_name(c->path),
                   column < 0 ? "has no column step to find step %lld in" : "has no step %lld",
                   (long long)*step);
}

/* `layer` says the same as `block`, and `sparsity` is 1 - `keep`. */
static bool find_columns(const struct csv *c, struct keep_columns *col, struct err *e)
{
    *col = (struct keep_columns){.step = csv_column(c, "step"),
                                 .block = csv_column(c, "layer"),
                                 .keep = csv_column(c, "sparsity")};
    col->sparsity = col->keep >= 0;
    if (col->sparsity && csv_column(c, "keep") >= 0)
        return err_set(e, ERR_INPUT, (struct err_at){c->path, c->header_line, 0},
                       "has both keep and sparsity, want one of them");
    return (col->block >= 0 || csv_need(c, "block", &col->block, e)) &&
           csv_need(c, "head", &col->head, e) &&
           (col->sparsity || csv_need(c, "keep", &col->keep, e));
}

static bool load_keeps(const struct csv *c, int64_t step, int blocks, int heads, double *keep,
                       struct err *e)
{
    struct keep_columns col;
    if (!find_columns(c, &col, e) || !find_step(c, col.step, &step, e))
        return false;
    for (int r = 0; r < c->rows; r++)
        if (!keep_row(c, r, &col, step, blocks, heads, keep, e))
            return false;
    for (int i = 0; i < blocks * heads; i++)
        if (keep[i] == 0)
            return err_set(e, ERR_INPUT, err_at_name(c->path),
                           "block %d, head %d is missing; want %d blocks of %d heads", i / heads,
                           i % heads, blocks, heads);
    return true;
}

/* ---- CSV, a box plot per block ---- */

struct box {
    double anchor_at[64], anchor[64]; /* sorted index -> sparsity: outliers, whiskers, quartiles */
    int count;
};

static void box_add(struct box *b, double at, double value)
{
    if (b->count < 64) {
        b->anchor_at[b->count] = at;
        b->anchor[b->count++] = value;
    }
}

static double box_value(const struct box *b, double at)
{
    int i = 1;
    while (i < b->count - 1 && b->anchor_at[i] < at)
        i++;
    double span = b->anchor_at[i] - b->anchor_at[i - 1];
    double w = span > 0 ? (at - b->anchor_at[i - 1]) / span : 1;
    return b->anchor[i - 1] + w * (b->anchor[i] - b->anchor[i - 1]);
}

/* matplotlib's box plot: quartiles by linear interpolation over sorted values (index (n-1) p),
 * whiskers at the last values within 1.5 quartile ranges, the rest listed as outliers. Anchors out
 * of order (a quartile beyond a whisker, where many values are outliers) are left out. */
static bool box_read(const struct csv *c, int row, const int col[6], int heads, struct box *b,
                     struct err *e)
{
    double v[5], low[32], high[32];
    int lows = 0, highs = 0;
    for (int i = 0; i < 5; i++)
        if (!csv_num(c, row, col[i], &v[i], e))
            return false;
    for (const char *p = csv_cell(c, row, col[5]); *p;) {
        char *end;
        double o = strtod(p, &end);
        if (end == p || (*end && *end != ';') || lows + highs >= 32)
            return err_set(e, ERR_INPUT, (struct err_at){c->path, c->line[row], 0},
                           "outliers: '%s'; want numbers with ';' between",
                           csv_cell(c, row, col[5]));
        if (o < v[3])
            low[lows++] = o;
        else
            high[highs++] = o;
        p = *end ? end + 1 : end;
    }
    b->count = 0;
    for (int i = 0; i < lows; i++)
        box_add(b, i, low[i]);
    double n = heads - 1, at[5] = {lows, 0.25 * n, 0.5 * n, 0.75 * n, n - highs};
    double value[5] = {v[3], v[1], v[0], v[2], v[4]};
    for (int i = 0; i < 5; i++)
        if (b->count == 0 || at[i] > b->anchor_at[b->count - 1])
            box_add(b, at[i], fmax(value[i], b->count ? b->anchor[b->count - 1] : 0));
    for (int i = 0; i < highs; i++)
        box_add(b, heads - highs + i, high[i]);
    return true;
}

/* A box plot does not say which head is which: heads are placed at the quantiles in a shuffled
 * order, the same each time. */
static void box_place(const struct box *b, int block, int heads, double *keep)
{
    struct rng r = rng_stream(0, "order of heads in a box plot", (uint64_t)block, 0, 0);
    for (int h = 0; h < heads; h++)
        keep[h] = fmin(1, fmax(1e-3, 1 - box_value(b, h)));
    for (int h = heads - 1; h > 0; h--) {
        int other = (int)rng_below(&r, (uint64_t)h + 1);
        double t = keep[h];
        keep[h] = keep[other];
        keep[other] = t;
    }
}

static bool load_boxes(const struct csv *c, int blocks, int heads, double *keep, struct err *e)
{
    static const char *const names[6] = {"median",     "q1",         "q3",
                                         "whisker_lo", "whisker_hi", "outliers"};
    int col[6], block_col, heads_col;
    if (!csv_need(c, "block", &block_col, e) || !csv_need(c, "heads", &heads_col, e))
        return false;
    for (int i = 0; i < 6; i++)
        if (!csv_need(c, names[i], &col[i], e))
            return false;
    if (c->rows != blocks)
        return err_set(e, ERR_INPUT, err_at_name(c->path), "%d blocks; the model has %d", c->rows,
                       blocks);
    for (int r = 0; r < c->rows; r++) {
        int64_t block, n;
        struct box b = {0};
        if (!csv_int(c, r, block_col, 0, blocks - 1, &block, e) ||
            !csv_int(c, r, heads_col, 1, 1024, &n, e))
            return false;
        if (n != heads)
            return err_set(e, ERR_INPUT, (struct err_at){c->path, c->line[r], 0},
                           "heads: %lld; the model has %d", (long long)n, heads);
        if (!box_read(c, r, col, heads, &b, e))
            return false;
        box_place(&b, (int)block, heads, &keep[block * heads]);
    }
    return true;
}

bool sparsity_load(const char *name, int64_t step, int blocks, int heads, struct err_at at,
                   struct arena *a, struct sparsity *out, struct err *e)
{
    struct csv c;
    const char *path = preset_find("sparsity", name, at, a, e);
    if (!path || !csv_read(path, a, &c, e))
        return false;
    double *keep = keep_new(blocks, heads, a);
    bool box = csv_column(&c, "median") >= 0;
    if (box && step >= 0)
        return err_set(e, ERR_INPUT, err_at_name(path),
                       "is a box plot of one step; step %lld cannot be asked of it",
                       (long long)step);
    if (!(box ? load_boxes(&c, blocks, heads, keep, e)
              : load_keeps(&c, step, blocks, heads, keep, e)))
        return false;
    *out = (struct sparsity){.name = arena_strdup(a, name),
                             .source = path,
                             .blocks = blocks,
                             .heads = heads,
                             .keep = keep,
                             .model = default_union};
    return true;
}

static int step_order(const void *left, const void *right)
{
    int64_t l = *(const int64_t *)left, r = *(const int64_t *)right;
    return (l > r) - (l < r);
}

int sparsity_steps_sorted(int64_t *steps, int count)
{
    int kept = 0;
    if (count > 0)
        qsort(steps, (size_t)count, sizeof *steps, step_order);
    for (int i = 0; i < count; i++)
        if (i == 0 || steps[i] != steps[kept - 1])
            steps[kept++] = steps[i];
    return kept;
}

bool sparsity_steps(const char *name, struct err_at at, struct arena *a, int64_t **steps,
                    int *count, struct err *e)
{
    struct csv c;
    const char *path = preset_find("sparsity", name, at, a, e);
    if (!path || !csv_read(path, a, &c, e))
        return false;
    int column = csv_column(&c, "step");
    *count = 0;
    if (column < 0)
        return true;
    *steps = ARENA_ARRAY(a, int64_t, c.rows + 1);
    for (int r = 0; r < c.rows; r++)
        if (!csv_int(&c, r, column, 0, INT64_MAX / 2, &(*steps)[r], e))
            return false;
    *count = sparsity_steps_sorted(*steps, c.rows);
    return true;
}
