/* Heads to ranks: the public functions. */
#include "planner/assign.h"
#include "planner/assign_core.h"

#include <assert.h>
#include <stdlib.h>
#include <string.h>

const char *const assign_proof_names[] = {"unproved", "within tolerance", "exact", NULL};

static double larger(double a, double b)
{
    return a > b ? a : b;
}

/* --- what an assignment costs --- */

double assign_cost_s(const struct assign_problem *p, const int *rank_of_head)
{
    double load[ASSIGN_MOST_RANKS] = {0}, before = 0, ready = 0, out = 0;
    int count[ASSIGN_MOST_RANKS] = {0}, rank_of_unit[ASSIGN_MOST_HEADS];
    memset(rank_of_unit, -1, sizeof rank_of_unit);
    for (int h = 0; h < p->heads; h++) {
        int r = rank_of_head[h], u = p->unit_of_head ? p->unit_of_head[h] : h;
        assert(r >= 0 && r < p->ranks);
        assert(rank_of_unit[u] == -1 || rank_of_unit[u] == r);
        count[r] += rank_of_unit[u] == -1;
        rank_of_unit[u] = r;
        load[r] += p->work_s[h];
    }
    for (int r = 0; r < p->ranks; r++) {
        ready = larger(ready, load[r] + (p->in_s ? p->in_s[count[r]] : 0));
        out = larger(out, p->out_s ? p->out_s[count[r]] : 0);
        before = larger(before, p->before_s ? p->before_s[count[r]] : 0);
    }
    return before + ready + out;
}

/* --- from a draft to a result --- */

void assign_ranks_rename(int *rank_of_head, int heads)
{
    int name[ASSIGN_MOST_RANKS], named = 0;
    memset(name, -1, sizeof name);
    for (int h = 0; h < heads; h++) {
        int *n = &name[rank_of_head[h]];
        if (*n < 0)
            *n = named++;
        rank_of_head[h] = *n;
    }
}

static void result_fill(const struct assign_problem *p, const struct assign_core *c,
                        const struct assign_draft *d, struct assign_result *out, struct arena *a)
{
    int rank_of_unit[ASSIGN_MOST_HEADS];
    for (int i = 0; i < c->units; i++)
        rank_of_unit[c->unit[i]] = d->rank_of[i];
    *out = (struct assign_result){.rank_of_head = ARENA_ARRAY(a, int, p->heads),
                                  .quantum_s = c->quantum_s};
    for (int h = 0; h < p->heads; h++)
        out->rank_of_head[h] = rank_of_unit[c->unit_of_head[h]];
    assign_ranks_rename(out->rank_of_head, p->heads);
    out->cost_s = assign_cost_s(p, out->rank_of_head);
}

/* Bounds come back to seconds with the rounding of the grid taken off: half a tick for every unit
 * and table entry. */
static void result_prove(const struct assign_core *c, const struct assign_draft *d, int64_t bound,
                         double tolerance, struct assign_result *out)
{
    out->bound_s = out->cost_s;
    out->proof = ASSIGN_EXACT;
    if (bound >= d->cost)
        return;
    double low = assign_core_seconds(c, bound - c->units - 3);
    out->bound_s = low > 0 ? (low < out->cost_s ? low : out->cost_s) : 0;
    out->proof = out->cost_s <= (1 + tolerance) * out->bound_s ? ASSIGN_WITHIN : ASSIGN_UNPROVED;
}

/* --- the three ways --- */

static void contiguous_draft(const struct assign_core *c, struct assign_draft *d)
{
    int rank_of_unit[ASSIGN_MOST_HEADS], even = c->units / c->ranks, more = c->units % c->ranks;
    for (int u = 0, r = 0, room = 0; u < c->units; u++, room--) {
        if (room == 0)
            room = even + (r++ < more);
        rank_of_unit[u] = r - 1;
    }
    for (int i = 0; i < c->units; i++)
        d->rank_of[i] = rank_of_unit[c->unit[i]];
    assign_draft_sum(c, d);
}

static bool by_start(const struct assign_problem *p,
                     void (*start)(const struct assign_core *, struct assign_draft *),
                     struct assign_result *out, struct arena *a, struct err *e)
{
    struct arena *scratch = arena_new();
    struct assign_core c;
    bool ok = assign_core_make(p, &c, scratch, e);
    if (ok) {
        struct assign_draft d = assign_draft_new(&c, scratch);
        start(&c, &d);
        result_fill(p, &c, &d, out, a);
    }
    arena_free(scratch);
    return ok;
}

bool assign_contiguous(const struct assign_problem *p, struct assign_result *out, struct arena *a,
                       struct err *e)
{
    return by_start(p, contiguous_draft, out, a, e);
}

bool assign_lpt(const struct assign_problem *p, struct assign_result *out, struct arena *a,
                struct err *e)
{
    return by_start(p, assign_start_lpt, out, a, e);
}

bool assign_exact(const struct assign_problem *p, struct assign_limits limits,
                  struct assign_result *out, struct arena *a, struct arena *scratch, struct err *e)
{
    assert(a != scratch && limits.nodes >= 0 && limits.tolerance >= 0);
    struct assign_core c;
    if (!assign_core_make(p, &c, scratch, e))
        return false;
    struct assign_draft best = assign_draft_new(&c, scratch), other = assign_draft_new(&c, scratch);
    assign_start_lpt(&c, &best);
    assign_start_improve(&c, &best);
    contiguous_draft(&c, &other);
    if (assign_draft_better(&other, &best))
        assign_draft_copy(&c, &best, &other);
    struct assign_found f = assign_search(&c, limits.nodes ? limits.nodes : ASSIGN_NODES,
                                          limits.tolerance, &best, scratch);
    result_fill(p, &c, &best, out, a);
    out->nodes = f.nodes;
    result_prove(&c, &best, f.bound, limits.tolerance, out);
    return true;
}

/* --- tables of an all-to-all --- */

double assign_wire_in_s(const struct assign_wire *w, int ranks, double x, double k, double x_sum,
                        double k_sum)
{
    return larger((ranks - 1) * (w->q_s * x + w->kv_s * k),
                  w->q_s * (x_sum - x) + w->kv_s * (k_sum - k));
}

double assign_wire_out_s(const struct assign_wire *w, int ranks, double x, double x_sum)
{
    return w->o_s * larger((ranks - 1) * x, x_sum - x);
}

void assign_wire_fill(const struct assign_wire *w, int ranks, int units, int heads_per_unit,
                      double *in_s, double *out_s)
{
    for (int n = 0; n <= units; n++) {
        double x = (double)n * heads_per_unit, x_sum = (double)units * heads_per_unit;
        in_s[n] = assign_wire_in_s(w, ranks, x, n, x_sum, units);
        out_s[n] = assign_wire_out_s(w, ranks, x, x_sum);
    }
}
