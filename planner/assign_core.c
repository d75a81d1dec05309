/* The problem on a grid of whole numbers: checks, units, the common quantum of work, drafts. */
#include "planner/assign_core.h"

#include <assert.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

enum { TOTAL_BITS = 50 };

/* --- checks --- */

static bool number_bad(double x)
{
    return !(x >= 0 && x <= 1e300);
}

static bool numbers_check(const double *x, int count, const char *name, struct err *e)
{
    for (int i = 0; x && i < count; i++)
        if (number_bad(x[i]))
            return err_set(e, ERR_INPUT, err_at_name("assignment"),
                           "%s[%d] = %g: want seconds, zero or more and finite", name, i, x[i]);
    return true;
}

static bool sizes_check(const struct assign_problem *p, struct err *e)
{
    struct err_at at = err_at_name("assignment");
    if (p->heads < 1 || p->heads > ASSIGN_MOST_HEADS)
        return err_set(e, ERR_INPUT, at, "heads = %d: want 1 to %d", p->heads, ASSIGN_MOST_HEADS);
    if (p->ranks < 1 || p->ranks > ASSIGN_MOST_RANKS)
        return err_set(e, ERR_INPUT, at, "ranks = %d: want 1 to %d", p->ranks, ASSIGN_MOST_RANKS);
    if (p->least < 0 || p->most < 0)
        return err_set(e, ERR_INPUT, at, "least = %d, most = %d: want zero or more", p->least,
                       p->most);
    return true;
}

/* Units must be 0..n-1 without holes, since tables are indexed by how many of them a rank holds. */
static bool units_count(const struct assign_problem *p, int *units, struct err *e)
{
    bool used[ASSIGN_MOST_HEADS] = {false};
    int top = -1;
    for (int h = 0; h < p->heads; h++) {
        int u = p->unit_of_head ? p->unit_of_head[h] : h;
        if (u < 0 || u >= p->heads)
            return err_set(e, ERR_INPUT, err_at_name("assignment"),
                           "unit_of_head[%d] = %d: want 0 to %d", h, u, p->heads - 1);
        used[u] = true;
        top = u > top ? u : top;
    }
    for (int u = 0; u <= top; u++)
        if (!used[u])
            return err_set(e, ERR_INPUT, err_at_name("assignment"),
                           "unit %d has no head: want units numbered without holes", u);
    *units = top + 1;
    return true;
}

bool assign_core_units(const struct assign_problem *p, int *units, struct err *e)
{
    return sizes_check(p, e) && units_count(p, units, e);
}

static bool counts_check(const struct assign_core *c, struct err *e)
{
    struct err_at at = err_at_name("assignment");
    if ((int64_t)c->ranks * c->most < c->units)
        return err_set(e, ERR_INFEASIBLE, at,
                       "%d units on %d ranks with at most %d on each: %d would be left over",
                       c->units, c->ranks, c->most, c->units - c->ranks * c->most);
    if ((int64_t)c->ranks * c->least > c->units)
        return err_set(e, ERR_INFEASIBLE, at,
                       "%d ranks with at least %d units on each need %lld, there are %d", c->ranks,
                       c->least, (long long)c->ranks * c->least, c->units);
    return true;
}

/* --- the quantum --- */

enum { QUANTUM_BITS = 20, NOISE_BITS = 44 }; /* the heaviest unit is at most 2^20 quanta */

/* work[u] = base + a whole number of quanta, for all u, to 2^-44 of the heaviest. Kernels take a
 * fixed time and a time for each tile; the fixed part only shifts the table of in by count. */
struct quantum {
    double base, size; /* size 0: there is none */
};

static double least_of(const double *x, int n)
{
    double least = x[0];
    for (int i = 1; i < n; i++)
        least = x[i] < least ? x[i] : least;
    return least;
}

static double most_of(const double *x, int n)
{
    double most = 0;
    for (int i = 0; x && i < n; i++)
        most = x[i] > most ? x[i] : most;
    return most;
}

/* Euclid's algorithm on work - base: remainders below `small` are rounding. 0 when the divisor
 * becomes so small that the work cannot be told from continuous. Rounding of 2^-52 in the input
 * grows at most by the quotient 2^20, so `small` lies safely between noise and quantum. */
static double common_divisor(const double *work, int n, double base, double top)
{
    double g = 0, span = top - base, least = ldexp(span, -QUANTUM_BITS);
    double small = ldexp(span, -QUANTUM_BITS - 6), noise = ldexp(top, -30);
    if (span > 0 && small < noise)
        return 0; /* all nearly alike */
    for (int i = 0; i < n; i++) {
        double a = work[i] - base, b = g;
        while (b > small) {
            double rest = fmod(a, b);
            rest = rest > b - rest ? b - rest : rest;
            a = b;
            b = rest;
        }
        g = a > small ? a : g;
        if (g > 0 && g < least)
            return 0;
    }
    return g;
}

static struct quantum quantum_above(const double *work, int n, double base, double top)
{
    struct quantum none = {0}, q = {.base = base};
    double g = common_divisor(work, n, base, top), sum = 0, pieces = 0;
    if (g == 0)
        return none;
    for (int i = 0; i < n; i++) {
        sum += work[i] - base;
        pieces += round((work[i] - base) / g);
    }
    q.size = sum / pieces; /* averages out the rounding that g has picked up */
    for (int i = 0; i < n; i++)
        if (fabs(work[i] - base - round((work[i] - base) / q.size) * q.size) >
            ldexp(top, -NOISE_BITS))
            return none;
    return q;
}

/* The larger of the quantum of work and that of work above the least. */
static struct quantum quantum_find(const double *work, int n)
{
    double top = most_of(work, n);
    if (top < 1e-250)
        return (struct quantum){0};
    struct quantum plain = quantum_above(work, n, 0, top);
    struct quantum above = quantum_above(work, n, least_of(work, n), top);
    return above.size > 1.5 * plain.size ? above : plain;
}

/* --- the grid --- */

struct grid {
    struct quantum q;
    int shift; /* ticks = round(seconds / quantum * 2^shift) */
};

static int64_t grid_ticks(const struct grid *g, double seconds)
{
    return llround(ldexp(g->q.size > 0 ? seconds / g->q.size : seconds, g->shift));
}

/* As fine as lets everything sum to less than 2^51 ticks. With a quantum, work stays whole: shift
 * >= 0. */
static struct grid grid_choose(const double *work, int units, double scale)
{
    int exponent;
    struct grid g = {.q = quantum_find(work, units)};
    if (g.q.size > 0) {
        frexp(scale / g.q.size, &exponent);
        g.shift = TOTAL_BITS - exponent;
        if (g.shift >= 0)
            return g;
    }
    frexp(scale, &exponent);
    return (struct grid){.shift = scale > 0 ? TOTAL_BITS - exponent : 0};
}

static int64_t ticks_of_work(const struct grid *g, double seconds)
{
    if (g->q.size == 0)
        return grid_ticks(g, seconds);
    return (int64_t)ldexp(round((seconds - g->q.base) / g->q.size), g->shift);
}

static int64_t divisor(int64_t a, int64_t b)
{
    while (b) {
        int64_t r = a % b;
        a = b;
        b = r;
    }
    return a;
}

/* --- units --- */

struct unit_work {
    int64_t work;
    int unit;
};

static int heavier_first(const void *x, const void *y)
{
    const struct unit_work *a = x, *b = y;
    if (a->work != b->work)
        return a->work > b->work ? -1 : 1;
    return (a->unit > b->unit) - (a->unit < b->unit);
}

static void units_sort(struct assign_core *c, const struct grid *g, const double *work,
                       struct arena *scratch)
{
    struct unit_work *order = ARENA_ARRAY(scratch, struct unit_work, c->units);
    for (int u = 0; u < c->units; u++)
        order[u] = (struct unit_work){.work = ticks_of_work(g, work[u]), .unit = u};
    qsort(order, (size_t)c->units, sizeof *order, heavier_first);
    for (int i = 0; i < c->units; i++) {
        c->work[i] = order[i].work;
        c->unit[i] = order[i].unit;
        c->prefix[i + 1] = c->prefix[i] + order[i].work;
        c->step = divisor(order[i].work, c->step);
    }
    c->step = c->step > 0 ? c->step : 1;
}

static double *units_sum(const struct assign_problem *p, struct assign_core *c,
                         struct arena *scratch)
{
    double *work = ARENA_ARRAY(scratch, double, c->units);
    c->unit_of_head = ARENA_ARRAY(scratch, int, p->heads);
    for (int h = 0; h < p->heads; h++) {
        c->unit_of_head[h] = p->unit_of_head ? p->unit_of_head[h] : h;
        work[c->unit_of_head[h]] += p->work_s[h];
    }
    return work;
}

static void tables_fill(struct assign_core *c, const struct assign_problem *p, const struct grid *g)
{
    for (int n = 0; n <= c->units; n++) {
        c->in[n] = grid_ticks(g, n * g->q.base + (p->in_s ? p->in_s[n] : 0));
        c->out[n] = p->out_s ? grid_ticks(g, p->out_s[n]) : 0;
        c->before[n] = p->before_s ? grid_ticks(g, p->before_s[n]) : 0;
    }
}

bool assign_core_make(const struct assign_problem *p, struct assign_core *c, struct arena *scratch,
                      struct err *e)
{
    *c = (struct assign_core){.ranks = p->ranks, .least = p->least};
    if (!assign_core_units(p, &c->units, e) || !numbers_check(p->work_s, p->heads, "work_s", e) ||
        !numbers_check(p->before_s, c->units + 1, "before_s", e) ||
        !numbers_check(p->in_s, c->units + 1, "in_s", e) ||
        !numbers_check(p->out_s, c->units + 1, "out_s", e))
        return false;
    c->most = p->most && p->most < c->units ? p->most : c->units;
    if (!counts_check(c, e))
        return false;
    c->work = ARENA_ARRAY(scratch, int64_t, c->units);
    c->prefix = ARENA_ARRAY(scratch, int64_t, c->units + 1);
    c->before = ARENA_ARRAY(scratch, int64_t, c->units + 1);
    c->in = ARENA_ARRAY(scratch, int64_t, c->units + 1);
    c->out = ARENA_ARRAY(scratch, int64_t, c->units + 1);
    c->unit = ARENA_ARRAY(scratch, int, c->units);
    double *work = units_sum(p, c, scratch), scale = 0;
    for (int u = 0; u < c->units; u++)
        scale += work[u];
    scale += most_of(p->before_s, c->units + 1) + most_of(p->in_s, c->units + 1) +
             most_of(p->out_s, c->units + 1);
    struct grid g = grid_choose(work, c->units, scale);
    c->shift = g.shift;
    c->quantum_s = g.q.size;
    units_sort(c, &g, work, scratch);
    tables_fill(c, p, &g);
    return true;
}

double assign_core_seconds(const struct assign_core *c, int64_t ticks)
{
    return ldexp((double)ticks, -c->shift) * (c->quantum_s > 0 ? c->quantum_s : 1);
}

/* --- drafts --- */

struct assign_draft assign_draft_new(const struct assign_core *c, struct arena *scratch)
{
    return (struct assign_draft){.rank_of = ARENA_ARRAY(scratch, int, c->units),
                                 .count = ARENA_ARRAY(scratch, int, c->ranks),
                                 .load = ARENA_ARRAY(scratch, int64_t, c->ranks),
                                 .cost = ASSIGN_NEVER};
}

void assign_draft_copy(const struct assign_core *c, struct assign_draft *to,
                       const struct assign_draft *from)
{
    memcpy(to->rank_of, from->rank_of, (size_t)c->units * sizeof *to->rank_of);
    memcpy(to->count, from->count, (size_t)c->ranks * sizeof *to->count);
    memcpy(to->load, from->load, (size_t)c->ranks * sizeof *to->load);
    to->cost = from->cost;
    to->fullest = from->fullest;
}

void assign_draft_price(const struct assign_core *c, struct assign_draft *d)
{
    int64_t before = 0, ready = 0, out = 0;
    d->fullest = 0;
    for (int r = 0; r < c->ranks; r++) {
        int n = d->count[r];
        int64_t end = c->in[n] + d->load[r];
        ready = end > ready ? end : ready;
        out = c->out[n] > out ? c->out[n] : out;
        before = c->before[n] > before ? c->before[n] : before;
        d->fullest = n > d->fullest ? n : d->fullest;
    }
    d->cost = before + ready + out;
}

void assign_draft_sum(const struct assign_core *c, struct assign_draft *d)
{
    memset(d->count, 0, (size_t)c->ranks * sizeof *d->count);
    memset(d->load, 0, (size_t)c->ranks * sizeof *d->load);
    for (int i = 0; i < c->units; i++) {
        assert(d->rank_of[i] >= 0 && d->rank_of[i] < c->ranks);
        d->count[d->rank_of[i]]++;
        d->load[d->rank_of[i]] += c->work[i];
    }
    assign_draft_price(c, d);
}

bool assign_draft_better(const struct assign_draft *x, const struct assign_draft *y)
{
    return x->cost != y->cost ? x->cost < y->cost : x->fullest < y->fullest;
}
