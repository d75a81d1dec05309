#include "planner/alike.h"

#include <math.h>
#include <string.h>

struct hunt {
    struct plan_request r; /* with what is shared at hand */
    bool strategies[CP_STRATEGIES];
    struct plan_found *out;
    struct err why; /* of the miss that came nearest to fitting; bad input if there is none */
    struct plan_found miss; /* that one's */
    double miss_bytes;
    struct arena *a;
};

static bool pair(int strategy) /* it has two exchanges */
{
    return cp_strategies[strategy].rows && cp_strategies[strategy].columns;
}

/* Bytes of the block that would not fit. */
static double missed_bytes(const struct plan_found *f)
{
    for (int b = 0; b < f->plan->block_count; b++)
        if (f->compared[b].tried > 0 && f->compared[b].count == 0)
            return f->compared[b].nearest.memory.total;
    return INFINITY;
}

static bool note_miss(struct hunt *h, const struct plan_found *f, const struct err *e)
{
    double bytes = e->code == ERR_INFEASIBLE ? missed_bytes(f) : INFINITY;
    bool nearer = e->code == ERR_INFEASIBLE && (!h->miss.plan || bytes < h->miss_bytes);
    if (nearer || !h->miss.plan)
        h->why = *e;
    if (nearer) {
        h->miss = *f;
        h->miss_bytes = bytes;
    }
    return e->code == ERR_INFEASIBLE || e->code == ERR_INPUT;
}

/* One search, kept in its place among the kinds; false for errors that end it all. */
static bool hunt_one(struct hunt *h)
{
    struct plan_found f;
    struct err e = {0};
    if (!plan_search(&h->r, &f, h->a, &e))
        return note_miss(h, &f, &e);
    int i = h->out->kind_count++;
    for (; i > 0 && f.plan->step_s < h->out->kinds[i - 1]->step_s * (1 - 1e-12); i--)
        h->out->kinds[i] = h->out->kinds[i - 1];
    h->out->kinds[i] = f.plan;
    if (i == 0) {
        h->out->plan = f.plan;
        h->out->compared = f.compared;
    }
    return true;
}

/* One strategy by itself: at the one pair of degrees that it has, or at every pair. */
static bool hunt_strategy(struct hunt *h, int strategy)
{
    const struct plan_request asked = h->r;
    bool ok = true;
    memset(h->strategies, 0, sizeof h->strategies);
    h->strategies[strategy] = true;
    if (!pair(strategy))
        return hunt_one(h);
    for (int g_h = asked.cp / 2; g_h >= 2 && ok; g_h--) {
        bool possible = asked.cp % g_h == 0 && (!asked.head_groups || g_h == asked.head_groups);
        if (!possible)
            continue;
        h->r.head_groups = g_h;
        h->r.seq_groups = asked.cp / g_h;
        ok = hunt_one(h);
    }
    h->r = asked;
    return ok;
}

/* The strategies that may be chosen; those of one exchange are tried together unless all blocks
 * are to be alike. */
static bool hunt_all(struct hunt *h, const struct plan_request *r)
{
    bool allowed[CP_STRATEGIES], together = false, ok = true;
    for (int s = 0; s < CP_STRATEGIES; s++) {
        allowed[s] = r->strategies ? r->strategies[s]
                                   : !cp_strategies[s].permutes || r->c.sparsity->shard_skew > 1;
        h->strategies[s] = allowed[s] && r->alike == ALIKE_PAIRS && !pair(s);
        together = together || h->strategies[s];
    }
    if (together)
        ok = hunt_one(h);
    for (int s = 0; s < CP_STRATEGIES && ok; s++)
        if (allowed[s] && (r->alike == ALIKE_ALL || pair(s)))
            ok = hunt_strategy(h, s);
    return ok;
}

bool plan_search_alike(const struct plan_request *r, int cp, struct plan_found *out,
                       struct arena *a, struct err *e)
{
    struct hunt h = {.r = *r, .out = out, .a = a};
    h.r.cp = cp;
    h.r.alike = ALIKE_NO;
    h.r.strategies = h.strategies;
    out->kinds = ARENA_ARRAY(a, const struct plan *, CP_STRATEGIES *cp);
    out->kind_count = 0;
    if (hunt_all(&h, r) && out->kind_count > 0)
        return true;
    out->plan = h.miss.plan;
    out->compared = h.miss.compared;
    *e = h.why;
    return false;
}
