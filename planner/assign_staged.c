/* Heads to ranks that wait for each other between stages: moves and swaps from the best assignment
 * with all stages in one. */
#include "planner/assign_core.h"

#include <assert.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "base/rng.h"

/* Where the ranks are. What depends on counts alone, before and out, are stages without work. */
struct staged {
    const struct assign_staged *p;
    int units, stages;    /* stages: the problem's, before, out */
    int *rank_of;         /* [units] */
    int *count;           /* [ranks] */
    const double **table; /* [stages][units + 1]; NULL: zero */
    double *work;         /* [stages][units] */
    double *load;         /* [stages][ranks] */
    double *end;          /* [stages][ranks]: table[count] + load */
    int *latest;          /* [stages][LATEST]: ranks, latest end first */
    double cost;
    int steps; /* changes that were priced */
};

enum { LATEST = 3 }; /* two ranks change at a time: the latest of the others is among three */

/* Of 728 small cases priced in full, shaking leaves 6 more than 0.1% above the best instead of 16;
 * twice the steps leave 6 as well. */
enum { STEPS_MOST = 2000 };
#define NEAR 0.001 /* a bound no further away is near enough */

static int unit_of(const struct assign_problem *p, int head)
{
    return p->unit_of_head ? p->unit_of_head[head] : head;
}

static double larger(double a, double b)
{
    return a > b ? a : b;
}

static double at(const double *table, int n)
{
    return table ? table[n] : 0;
}

/* --- what an assignment costs --- */

static void latest_fill(struct staged *s, int k)
{
    int ranks = s->p->p.ranks, *latest = &s->latest[k * LATEST];
    const double *end = &s->end[k * ranks];
    for (int i = 0; i < LATEST; i++)
        latest[i] = -1;
    for (int r = 0; r < ranks; r++) {
        int i = LATEST;
        for (; i > 0 && (latest[i - 1] < 0 || end[r] > end[latest[i - 1]]); i--)
            if (i < LATEST)
                latest[i] = latest[i - 1];
        if (i < LATEST)
            latest[i] = r;
    }
}

/* Everything from rank_of, sums in index order. */
static void sum_up(struct staged *s)
{
    int ranks = s->p->p.ranks;
    memset(s->count, 0, (size_t)ranks * sizeof *s->count);
    memset(s->load, 0, (size_t)(s->stages * ranks) * sizeof *s->load);
    for (int u = 0; u < s->units; u++) {
        s->count[s->rank_of[u]]++;
        for (int k = 0; k < s->stages; k++)
            s->load[k * ranks + s->rank_of[u]] += s->work[k * s->units + u];
    }
    s->cost = 0;
    for (int k = 0; k < s->stages; k++) {
        for (int r = 0; r < ranks; r++)
            s->end[k * ranks + r] = s->load[k * ranks + r] + at(s->table[k], s->count[r]);
        latest_fill(s, k);
        s->cost += s->end[k * ranks + s->latest[k * LATEST]];
    }
}

static struct staged staged_new(const struct assign_staged *p, int units, const int *rank_of_head,
                                struct arena *scratch)
{
    struct staged s = {.p = p, .units = units, .stages = p->stages + 2};
    int ranks = p->p.ranks;
    s.rank_of = ARENA_ARRAY(scratch, int, s.units);
    s.count = ARENA_ARRAY(scratch, int, ranks);
    s.table = ARENA_ARRAY(scratch, const double *, s.stages);
    s.work = ARENA_ARRAY(scratch, double, s.stages *s.units);
    s.load = ARENA_ARRAY(scratch, double, s.stages *ranks);
    s.end = ARENA_ARRAY(scratch, double, s.stages *ranks);
    s.latest = ARENA_ARRAY(scratch, int, s.stages *LATEST);
    for (int k = 0; k < p->stages; k++) {
        s.table[k] = p->stage[k].in_s;
        for (int h = 0; h < p->p.heads; h++)
            s.work[k * s.units + unit_of(&p->p, h)] += p->stage[k].work_s[h];
    }
    s.table[p->stages] = p->p.before_s;
    s.table[p->stages + 1] = p->p.out_s;
    for (int h = 0; h < p->p.heads; h++)
        s.rank_of[unit_of(&p->p, h)] = rank_of_head[h];
    sum_up(&s);
    return s;
}

double assign_staged_cost_s(const struct assign_staged *p, const int *rank_of_head)
{
    struct arena *scratch = arena_new();
    struct err e = {0};
    int units = 0;
    bool ok = assign_core_units(&p->p, &units, &e);
    assert(ok);
    double cost = ok ? staged_new(p, units, rank_of_head, scratch).cost : INFINITY;
    arena_free(scratch);
    return cost;
}

/* --- moves and swaps --- */

/* `give` goes from its rank to `to`, `take` (-1: none) from there to its rank. */
struct swap {
    int give, take, to;
    double cost;
};

/* The latest end of a stage on other ranks than these. */
static double others_end(const struct staged *s, int k, int here, int there)
{
    const int *latest = &s->latest[k * LATEST];
    for (int i = 0; i < LATEST && latest[i] >= 0; i++)
        if (latest[i] != here && latest[i] != there)
            return s->end[k * s->p->p.ranks + latest[i]];
    return 0;
}

static double swap_cost(const struct staged *s, const struct swap *x)
{
    int ranks = s->p->p.ranks, here = s->rank_of[x->give], there = x->to, more = x->take < 0;
    double cost = 0;
    for (int k = 0; k < s->stages && cost < s->cost; k++) {
        const double *work = &s->work[k * s->units], *load = &s->load[k * ranks];
        double moved = work[x->give] - (more ? 0 : work[x->take]);
        double end = larger(load[here] - moved + at(s->table[k], s->count[here] - more),
                            load[there] + moved + at(s->table[k], s->count[there] + more));
        cost += larger(end, others_end(s, k, here, there));
    }
    return cost;
}

static bool may_move(const struct staged *s, int here, int there)
{
    const struct assign_problem *p = &s->p->p;
    return s->count[here] > p->least && (!p->most || s->count[there] < p->most);
}

/* Only a rank that ends last in some stage can lower the cost by what it gives away. */
static bool ends_last(const struct staged *s, int rank)
{
    for (int k = 0; k < s->stages; k++)
        if (s->end[k * s->p->p.ranks + rank] >= s->end[k * s->p->p.ranks + s->latest[k * LATEST]])
            return true;
    return false;
}

/* Some stage that `here` ends last has less work with v than with u. */
static bool relieves(const struct staged *s, int here, int u, int v)
{
    int ranks = s->p->p.ranks;
    for (int k = 0; k < s->p->stages; k++)
        if (s->work[k * s->units + v] < s->work[k * s->units + u] &&
            s->end[k * ranks + here] >= s->end[k * ranks + s->latest[k * LATEST]])
            return true;
    return false;
}

static void offer(struct staged *s, struct swap *best, struct swap x)
{
    s->steps++;
    x.cost = swap_cost(s, &x);
    if (x.cost < best->cost * (1 - 1e-12))
        *best = x;
}

/* The cheapest change; give = -1 when none is cheaper than what is. */
static struct swap swap_find(struct staged *s)
{
    struct swap best = {.give = -1, .take = -1, .cost = s->cost};
    for (int u = 0; u < s->units; u++) {
        int here = s->rank_of[u];
        if (!ends_last(s, here))
            continue;
        for (int r = 0; r < s->p->p.ranks; r++)
            if (r != here && may_move(s, here, r))
                offer(s, &best, (struct swap){.give = u, .take = -1, .to = r});
        for (int v = 0; v < s->units; v++)
            if (s->rank_of[v] != here && relieves(s, here, u, v))
                offer(s, &best, (struct swap){.give = u, .take = v, .to = s->rank_of[v]});
    }
    return best;
}

/* Each change lowers the cost: it ends. */
static void improve(struct staged *s)
{
    for (int round = 0; round < 8 * s->units; round++) {
        struct swap x = swap_find(s);
        if (x.give < 0)
            return;
        if (x.take >= 0)
            s->rank_of[x.take] = s->rank_of[x.give];
        s->rank_of[x.give] = x.to;
        sum_up(s);
    }
}

/* Two swaps of drawn units, and improved again. */
static void shake(struct staged *s, struct rng *r)
{
    for (int i = 0; i < 2; i++) {
        int u = (int)rng_below(r, (uint64_t)s->units), v = (int)rng_below(r, (uint64_t)s->units);
        int rank = s->rank_of[u];
        s->rank_of[u] = s->rank_of[v];
        s->rank_of[v] = rank;
    }
    s->steps++;
    sum_up(s);
    improve(s);
}

/* Shakes, from the cheapest so far, while there is something to gain. */
static void improve_further(struct staged *s, double bound, struct arena *scratch)
{
    size_t size = (size_t)s->units * sizeof *s->rank_of;
    int *best = ARENA_ARRAY(scratch, int, s->units);
    double cost = s->cost;
    struct rng r = rng_stream(0, "staged", (uint64_t)s->units, (uint64_t)s->p->p.ranks, 0);
    memcpy(best, s->rank_of, size);
    while (s->steps < STEPS_MOST && cost > (1 + NEAR) * bound) {
        shake(s, &r);
        if (s->cost < cost) {
            cost = s->cost;
            memcpy(best, s->rank_of, size);
        }
        memcpy(s->rank_of, best, size);
    }
    sum_up(s);
}

/* --- stages by themselves --- */

static int heavier_first(const void *x, const void *y)
{
    double a = *(const double *)x, b = *(const double *)y;
    return (a < b) - (a > b);
}

/* Of m R + 1 units some rank takes m + 1: the lightest m + 1 of the heaviest, with the least that a
 * rank of so many units or more takes beside them. */
static double heavy_bound(const double *work, int units, int ranks, const double *rest)
{
    double bound = 0;
    for (int m = 0; m * ranks < units; m++) {
        double sum = rest[m + 1];
        for (int i = m * ranks - m; i <= m * ranks; i++)
            sum += work[i];
        bound = larger(bound, sum);
    }
    return bound;
}

/* What the latest end of one stage is at least, whatever the others: the mean, heavy units, and
 * that some rank has at least the mean count and some rank at most. */
static double stage_bound(const struct staged *s, int k, struct arena *scratch)
{
    const struct assign_problem *p = &s->p->p;
    int units = s->units, ranks = p->ranks, most = p->most && p->most < units ? p->most : units;
    double *work = ARENA_ARRAY(scratch, double, units), sum = 0, few = INFINITY,
           *rest = ARENA_ARRAY(scratch, double, units + 2);
    for (int n = units + 1; n >= 0; n--) { /* the least of the table at n or more */
        bool allowed = n >= p->least && n <= most;
        rest[n] = n > units ? INFINITY : fmin(rest[n + 1], allowed ? at(s->table[k], n) : INFINITY);
        few = allowed && n <= units / ranks ? fmin(few, at(s->table[k], n)) : few;
    }
    for (int u = 0; u < units; u++)
        sum += work[u] = s->work[k * units + u];
    qsort(work, (size_t)units, sizeof *work, heavier_first);
    double mean = larger(sum / ranks + rest[0], larger(rest[(units + ranks - 1) / ranks], few));
    return larger(mean, heavy_bound(work, units, ranks, rest));
}

/* The sum of those; rounding taken off. */
static double stages_bound(const struct staged *s, struct arena *scratch)
{
    double bound = 0;
    for (int k = 0; k < s->stages; k++)
        bound += stage_bound(s, k, scratch);
    return bound * (1 - 1e-12);
}

/* --- all stages in one --- */

static struct assign_problem in_one(const struct assign_staged *p, int units, struct arena *scratch)
{
    struct assign_problem one = p->p;
    double *work = ARENA_ARRAY(scratch, double, p->p.heads);
    double *in = ARENA_ARRAY(scratch, double, units + 1);
    for (int k = 0; k < p->stages; k++) {
        for (int h = 0; h < p->p.heads; h++)
            work[h] += p->stage[k].work_s[h];
        for (int n = 0; n <= units; n++)
            in[n] += at(p->stage[k].in_s, n);
    }
    one.work_s = work;
    one.in_s = in;
    return one;
}

bool assign_staged(const struct assign_staged *p, struct assign_limits limits,
                   struct assign_result *out, struct arena *a, struct arena *scratch, struct err *e)
{
    assert(p->stages >= 1);
    int units;
    if (!assign_core_units(&p->p, &units, e))
        return false;
    struct assign_problem one = in_one(p, units, scratch);
    if (!assign_exact(&one, limits, out, a, scratch, e))
        return false;
    struct staged s = staged_new(p, units, out->rank_of_head, scratch);
    out->bound_s = larger(out->bound_s, stages_bound(&s, scratch));
    improve(&s);
    improve_further(&s, out->bound_s, scratch);
    for (int h = 0; h < p->p.heads; h++)
        out->rank_of_head[h] = s.rank_of[unit_of(&p->p, h)];
    assign_ranks_rename(out->rank_of_head, p->p.heads);
    out->cost_s = s.cost;
    out->bound_s = fmin(out->bound_s, s.cost);
    out->proof = s.cost <= (1 + 1e-11) * out->bound_s              ? ASSIGN_EXACT
                 : s.cost <= (1 + limits.tolerance) * out->bound_s ? ASSIGN_WITHIN
                                                                   : ASSIGN_UNPROVED;
    return true;
}
