/* The least cost B + T + O, B = max before, T = max (in + load), O = max out.
 *
 * For each pair of values B and O that the tables take (a gate) only counts n with before[n] <= B
 * and out[n] <= O are allowed, and planner/assign_decide.c answers whether all ranks can end by T.
 * A yes improves the best assignment, a no raises the bound of that gate; the bound of the cost is
 * the least over gates. */
#include "planner/assign_decide.h"

#include <assert.h>
#include <stdlib.h>
#include <string.h>

struct gate {
    struct assign_caps caps; /* B and O */
    int64_t cost;            /* B + O */
    int64_t low;             /* proved: T >= low, or the cost is no better than the best */
    bool summed;             /* low takes the counts of all ranks into account */
};

/* What is known of the least cost: bound <= optimum <= best->cost. */
struct hunt {
    struct assign_decide d;
    struct assign_draft *best;
    int gates;
    struct gate *gate; /* out rising */
    int64_t bound, limit;
    double tolerance;
};

static int64_t larger(int64_t a, int64_t b)
{
    return a > b ? a : b;
}

static int64_t smaller(int64_t a, int64_t b)
{
    return a < b ? a : b;
}

/* --- bounds of a gate --- */

/* Least T >= time of the form in[n] + a multiple of step. */
static int64_t lift(const struct assign_decide *d, int64_t time)
{
    const struct assign_core *c = d->c;
    if (c->step == 1)
        return time;
    int64_t least = ASSIGN_NEVER;
    for (int n = larger(d->first, 0); n <= d->last; n++)
        if (d->spend[n] < ASSIGN_NEVER)
            least = smaller(least, c->in[n] + (larger(time - c->in[n], 0) + c->step - 1) / c->step *
                                                  c->step);
    return least;
}

/* Some rank has at least the mean count, some rank at most. */
static int64_t count_bound(const struct assign_decide *d)
{
    const struct assign_core *c = d->c;
    int floor = c->units / c->ranks, ceil = (c->units + c->ranks - 1) / c->ranks;
    int64_t many = ASSIGN_NEVER, few = ASSIGN_NEVER;
    for (int n = d->first; n <= d->last; n++) {
        if (d->spend[n] >= ASSIGN_NEVER)
            continue;
        int64_t end = c->in[n] + assign_lightest(c, n);
        many = n >= ceil ? smaller(many, end) : many;
        few = n <= floor ? smaller(few, end) : few;
    }
    return larger(many, few);
}

/* Some rank must hold a count whose before is B and some rank one whose out is O; otherwise a lower
 * gate has the same assignments. */
static bool gate_matters(const struct assign_decide *d, struct assign_caps caps)
{
    const struct assign_core *c = d->c;
    bool before = false, out = false;
    for (int n = d->first; n <= d->last; n++)
        if (d->spend[n] < ASSIGN_NEVER && (c->ranks - 1) * d->first <= c->units - n &&
            (c->ranks - 1) * d->last >= c->units - n) {
            before |= c->before[n] == caps.before;
            out |= c->out[n] == caps.out;
        }
    return before && out;
}

static int64_t counts_bound(const struct assign_decide *d)
{
    const struct assign_core *c = d->c;
    int64_t mean = c->prefix[c->units] / c->ranks + d->rest[0];
    int64_t heavy = assign_heavy_bound(d, c->prefix, c->units, c->ranks);
    return lift(d, larger(mean, larger(heavy, count_bound(d))));
}

static struct gate gate_new(struct hunt *h, struct assign_caps caps)
{
    struct gate g = {.caps = caps, .cost = caps.before + caps.out, .low = ASSIGN_NEVER};
    if (h->best->cost - 1 < g.cost)
        return g;
    assign_decide_counts(&h->d, h->best->cost - 1 - g.cost, caps, false);
    if (gate_matters(&h->d, caps))
        g.low = counts_bound(&h->d);
    return g;
}

/* The mean bound with counts that add up; dearer, so only for gates that are looked into. */
static void gate_sum(struct hunt *h, struct gate *g)
{
    struct assign_decide *d = &h->d;
    const struct assign_core *c = d->c;
    g->summed = true;
    assign_decide_counts(d, h->best->cost - 1 - g->cost, g->caps, false);
    if (d->last < 0) {
        g->low = ASSIGN_NEVER;
        return;
    }
    assign_decide_need(d);
    int64_t in = d->need[c->ranks * (c->units + 1) + c->units];
    int64_t mean = (c->prefix[c->units] + in + c->ranks - 1) / c->ranks;
    g->low = in < ASSIGN_NEVER ? larger(g->low, lift(d, mean)) : ASSIGN_NEVER;
}

static int rising(const void *x, const void *y)
{
    int64_t a = *(const int64_t *)x, b = *(const int64_t *)y;
    return (a > b) - (a < b);
}

/* The values that a table takes, rising, each once; returns how many. */
static int values_of(const struct assign_core *c, const int64_t *table, int64_t *value)
{
    int n = c->most - c->least + 1, kept = 0;
    memcpy(value, table + c->least, (size_t)n * sizeof *value);
    qsort(value, (size_t)n, sizeof *value, rising);
    for (int i = 0; i < n; i++)
        if (i == 0 || value[i] != value[i - 1])
            value[kept++] = value[i];
    return kept;
}

/* Gates that cannot hold anything cheaper than the best are left out. */
static void gates_make(struct hunt *h, struct arena *scratch)
{
    const struct assign_core *c = h->d.c;
    int n = c->most - c->least + 1;
    int64_t *before = ARENA_ARRAY(scratch, int64_t, n), *out = ARENA_ARRAY(scratch, int64_t, n);
    int befores = values_of(c, c->before, before), outs = values_of(c, c->out, out);
    assign_decide_counts(&h->d, h->best->cost, (struct assign_caps){ASSIGN_NEVER, ASSIGN_NEVER},
                         false);
    int64_t least = counts_bound(&h->d);
    h->gate = ARENA_ARRAY(scratch, struct gate, befores * outs);
    for (int i = 0; i < befores; i++)
        for (int k = 0; k < outs && before[i] + out[k] + least < h->best->cost; k++) {
            struct gate g = gate_new(h, (struct assign_caps){before[i], out[k]});
            if (g.low + g.cost < h->best->cost)
                h->gate[h->gates++] = g;
        }
}

static void bound_update(struct hunt *h)
{
    h->bound = h->best->cost;
    for (int i = 0; i < h->gates; i++)
        h->bound = smaller(h->bound, h->gate[i].low + h->gate[i].cost);
}

/* --- asking --- */

static bool hunt_done(const struct hunt *h)
{
    int64_t gap = h->best->cost - h->bound;
    return gap <= 0 || (double)gap <= h->tolerance * (double)h->bound || h->d.nodes >= h->limit;
}

static void take_trial(struct hunt *h)
{
    assign_draft_sum(h->d.c, &h->d.trial);
    assert(h->d.trial.cost < h->best->cost);
    assign_start_improve(h->d.c, &h->d.trial);
    assign_draft_copy(h->d.c, h->best, &h->d.trial);
}

/* Is there an assignment with B + T + O <= cost through this gate? YES has improved best, NO has
 * raised the gate's bound. */
static enum assign_answer ask_gate(struct hunt *h, struct gate *g, int64_t cost, int64_t nodes)
{
    if (g->low + g->cost <= cost && !g->summed)
        gate_sum(h, g);
    if (g->low + g->cost > cost)
        return ASSIGN_NO;
    enum assign_answer a = assign_decide(&h->d, cost - g->cost, g->caps, nodes);
    if (a == ASSIGN_YES)
        take_trial(h);
    if (a == ASSIGN_NO)
        g->low = larger(g->low, cost - g->cost + 1);
    return a;
}

/* Asks all gates for a cost that lies `share` of the way from the bound to just below the best. */
static enum assign_answer ask(struct hunt *h, double share, int64_t slice)
{
    int64_t most = h->best->cost - 1,
            within = h->bound + (int64_t)(h->tolerance * (double)h->bound);
    int64_t cost = share >= 1 ? most : h->bound + (int64_t)(share * (double)(most - h->bound));
    cost = smaller(larger(cost, within), most);
    enum assign_answer all = ASSIGN_NO;
    for (int i = 0; i < h->gates && all != ASSIGN_YES; i++) {
        enum assign_answer a =
            ask_gate(h, &h->gate[i], cost, smaller(slice, h->limit - h->d.nodes));
        all = a == ASSIGN_NO ? all : a;
    }
    bound_update(h);
    return all;
}

/* --- hunting --- */

/* Cheaper assignments: down by halves of the gap while the answer is yes, then in smaller steps. */
static bool improve(struct hunt *h, int64_t slice)
{
    static const double shares[] = {0.5, 0.75, 0.9, 0.97};
    bool better = false;
    for (size_t k = 0; k < sizeof shares / sizeof *shares && !hunt_done(h);) {
        bool yes = ask(h, shares[k], slice) == ASSIGN_YES;
        better |= yes;
        k = yes ? 0 : k + 1;
    }
    return better;
}

/* Higher bounds, for the gap that is told when the proof is not reached. */
static void tighten(struct hunt *h, int64_t slice)
{
    for (double share = 0.25; share > 0.01 && !hunt_done(h); share /= 3)
        if (ask(h, share, slice) != ASSIGN_UNKNOWN)
            return;
}

struct assign_found assign_search(const struct assign_core *c, int64_t node_limit, double tolerance,
                                  struct assign_draft *best, struct arena *scratch)
{
    struct hunt h = {.d = assign_decide_new(c, scratch),
                     .best = best,
                     .limit = node_limit,
                     .tolerance = tolerance};
    gates_make(&h, scratch);
    bound_update(&h);
    for (int64_t slice = 1000; !hunt_done(&h);) {
        enum assign_answer a = ask(&h, 1, slice); /* nothing cheaper: that is the proof */
        if (improve(&h, slice / 4) || a != ASSIGN_UNKNOWN)
            continue;
        tighten(&h, slice / 4);
        slice *= 4;
    }
    return (struct assign_found){.bound = h.bound, .nodes = h.d.nodes};
}
