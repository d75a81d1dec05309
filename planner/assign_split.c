/* Heads split by query range: candidates, and the best of them.
 *
 * A candidate leaves the light KV groups whole, shares them out by LPT, and pours the heads of the
 * heavy ones, in one row, into what room is left: cuts fall where a rank is full, R - 1 at most.
 * With all groups heavy that is McNaughton's rule. Then pieces are cut off the rank that ends last
 * as long as that pays. */
#include "planner/assign_cuts.h"
#include "planner/assign_core.h"

#include <assert.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

struct split_work { /* everything that a search needs, allocated once */
    const struct assign_split_problem *p;
    int groups;
    double *group_work;       /* [groups] */
    int *group_heads;         /* [groups]: query heads in it */
    int *order;               /* groups, heaviest first */
    int *heads;               /* heads by group, groups as in `order` */
    int *first;               /* [groups + 1]: of group order[i] in heads */
    int *rank_of_group;       /* [groups]: of those that stay whole */
    struct assign_rank *rank; /* [ranks]: with the groups that stay whole */
    int *turn;                /* [ranks]: in the order of pouring */
    double *turn_end;
    double least_end, least_out; /* proved */
    struct assign_cuts whole, best, now, spare;
};

/* --- the problem --- */

static bool split_check(const struct assign_split_problem *p, struct err *e)
{
    const struct {
        const char *name;
        double value;
    } number[] = {
        {"wire.q_s", p->wire.q_s}, {"wire.kv_s", p->wire.kv_s}, {"wire.o_s", p->wire.o_s}};
    struct err_at at = err_at_name("assignment");
    for (size_t i = 0; i < sizeof number / sizeof *number; i++)
        if (!(number[i].value >= 0 && number[i].value <= 1e300))
            return err_set(e, ERR_INPUT, at, "%s = %g: want seconds, zero or more and finite",
                           number[i].name, number[i].value);
    for (int h = 0; p->piece_s && h < p->heads; h++)
        if (!(p->piece_s[h] >= 0 && p->piece_s[h] <= 1e300))
            return err_set(e, ERR_INPUT, at,
                           "piece_s[%d] = %g: want seconds, zero or more and finite", h,
                           p->piece_s[h]);
    if (p->query_groups < 0 || p->most_groups < 0)
        return err_set(e, ERR_INPUT, at, "query_groups = %d, most_groups = %d: want zero or more",
                       p->query_groups, p->most_groups);
    return true;
}

struct ordered {
    double work;
    int group;
};

static int heavier_first(const void *x, const void *y)
{
    const struct ordered *a = x, *b = y;
    if (a->work != b->work)
        return a->work > b->work ? -1 : 1;
    return (a->group > b->group) - (a->group < b->group);
}

static void order_fill(struct split_work *s, struct arena *scratch)
{
    struct ordered *o = ARENA_ARRAY(scratch, struct ordered, s->groups);
    for (int g = 0; g < s->groups; g++)
        o[g] = (struct ordered){s->group_work[g], g};
    qsort(o, (size_t)s->groups, sizeof *o, heavier_first);
    int at = 0;
    for (int i = 0; i < s->groups; i++) {
        s->order[i] = o[i].group;
        s->first[i] = at;
        for (int h = 0; h < s->p->heads; h++)
            if (assign_group(s->p, h) == o[i].group)
                s->heads[at++] = h;
    }
    s->first[s->groups] = at;
}

/* Means over ranks, which the largest cannot be below. */
static void bounds_fill(struct split_work *s)
{
    const struct assign_split_problem *p = s->p;
    double others = (p->ranks - 1.0) / p->ranks, work = 0;
    for (int h = 0; h < p->heads; h++)
        work += p->work_s[h];
    s->least_end = work / p->ranks + others * (p->wire.q_s * p->heads + p->wire.kv_s * s->groups);
    s->least_out = others * p->wire.o_s * p->heads;
}

static struct split_work split_new(const struct assign_split_problem *p, int groups,
                                   struct arena *scratch)
{
    struct split_work s = {.p = p, .groups = groups};
    s.group_work = ARENA_ARRAY(scratch, double, groups);
    s.group_heads = ARENA_ARRAY(scratch, int, groups);
    s.order = ARENA_ARRAY(scratch, int, groups);
    s.heads = ARENA_ARRAY(scratch, int, p->heads);
    s.first = ARENA_ARRAY(scratch, int, groups + 1);
    s.rank_of_group = ARENA_ARRAY(scratch, int, groups);
    s.rank = ARENA_ARRAY(scratch, struct assign_rank, p->ranks);
    s.turn = ARENA_ARRAY(scratch, int, p->ranks);
    s.turn_end = ARENA_ARRAY(scratch, double, p->ranks);
    for (int h = 0; h < p->heads; h++) {
        s.group_work[assign_group(p, h)] += p->work_s[h];
        s.group_heads[assign_group(p, h)]++;
    }
    order_fill(&s, scratch);
    bounds_fill(&s);
    s.whole = assign_cuts_new(p, groups, scratch);
    s.best = assign_cuts_new(p, groups, scratch);
    s.now = assign_cuts_new(p, groups, scratch);
    s.spare = assign_cuts_new(p, groups, scratch);
    return s;
}

static void offer(struct split_work *s)
{
    assign_cuts_price(&s->now);
    if (assign_cuts_better(&s->now, &s->best))
        assign_cuts_copy(&s->best, &s->now);
}

/* --- whole heads --- */

static bool capped(const struct assign_cuts *c)
{
    for (int r = 0; c->p->most_groups && r < c->p->ranks; r++)
        if (c->k[r] > c->p->most_groups)
            return false;
    return true;
}

static void offer_whole(struct split_work *s, const int *rank_of_head)
{
    assign_cuts_clear(&s->now);
    for (int h = 0; h < s->p->heads; h++)
        assign_cuts_add(&s->now, h, rank_of_head[h], 1);
    if (capped(&s->now))
        offer(s);
}

/* By unit: KV groups keep K and V from travelling twice, single heads balance better. Tables are
 * those of units of the mean size, the offer is priced as it is. */
static bool whole_heads(struct split_work *s, const int *unit_of_head, int units, int most,
                        struct assign_limits limits, struct arena *a, struct arena *scratch,
                        struct err *e)
{
    const struct assign_split_problem *p = s->p;
    double *in = ARENA_ARRAY(scratch, double, units + 1),
           *out = ARENA_ARRAY(scratch, double, units + 1);
    for (int n = 0; n <= units; n++) {
        double x = (double)n * p->heads / units;
        in[n] = assign_wire_in_s(&p->wire, p->ranks, x, n, p->heads, units);
        out[n] = assign_wire_out_s(&p->wire, p->ranks, x, p->heads);
    }
    struct assign_problem whole = {.heads = p->heads,
                                   .ranks = p->ranks,
                                   .work_s = p->work_s,
                                   .unit_of_head = unit_of_head,
                                   .in_s = in,
                                   .out_s = out,
                                   .most = most};
    struct assign_result r;
    if (!assign_exact(&whole, limits, &r, a, scratch, e))
        return false;
    offer_whole(s, r.rank_of_head);
    return true;
}

/* --- pouring --- */

/* Light groups whole, one by one to the rank that then ends first, none with more than x_cap
 * shares. */
static bool place_whole(struct split_work *s, int from, double x_cap)
{
    const struct assign_split_problem *p = s->p;
    const struct assign_wire *w = &p->wire;
    for (int i = from; i < s->groups; i++) {
        int g = s->order[i], best = -1;
        double best_end = INFINITY;
        for (int r = 0; r < p->ranks; r++) {
            double x = s->rank[r].x + s->group_heads[g];
            double end = s->rank[r].work + s->group_work[g] +
                         (p->ranks - 1) * (w->q_s * x + w->kv_s * (s->rank[r].k + 1));
            bool full = x > x_cap || (p->most_groups && s->rank[r].k >= p->most_groups);
            if (!full && end < best_end) {
                best = r;
                best_end = end;
            }
        }
        if (best < 0)
            return false;
        struct assign_rank *r = &s->rank[best];
        *r = (struct assign_rank){r->x + s->group_heads[g], r->work + s->group_work[g], r->k + 1};
        s->rank_of_group[g] = best;
    }
    return true;
}

/* Ranks with the most room first. */
static void turns_fill(struct split_work *s)
{
    const struct assign_split_problem *p = s->p;
    for (int i = 0; i < p->ranks; i++) {
        const struct assign_rank *r = &s->rank[i];
        double end = r->work + (p->ranks - 1) * (p->wire.q_s * r->x + p->wire.kv_s * r->k);
        int at = i;
        for (; at > 0 && s->turn_end[at - 1] > end; at--) {
            s->turn[at] = s->turn[at - 1];
            s->turn_end[at] = s->turn_end[at - 1];
        }
        s->turn[at] = i;
        s->turn_end[at] = end;
    }
}

/* The heads of the heaviest groups in one row, poured into the ranks in turn, none of which ends
 * later than `time`: cuts fall where a rank is full. keep: put the pieces into now. */
static bool pour(struct split_work *s, int count, double time, double x_cap, bool keep)
{
    const struct assign_split_problem *p = s->p;
    int at = 0, group = -1, k_sum = s->groups + p->ranks - 1;
    struct assign_rank rank = s->rank[s->turn[0]];
    for (int i = 0; i < count; i++) {
        int head = s->heads[i];
        for (double left = 1; left > 0;) {
            bool held = assign_group(p, head) == group;
            double f = assign_cuts_fit(p, &rank, head, held, time, x_cap, k_sum, left);
            f = left - f < 1e-13 ? left : f;
            if (f > 0 && keep)
                assign_cuts_add(&s->now, head, s->turn[at], f);
            if (f > 0) {
                rank.x += f;
                rank.work += assign_cuts_fixed_s(p, head) + f * assign_cuts_shared_s(p, head);
                rank.k += !held;
                group = assign_group(p, head);
                left -= f;
            }
            if (left > 0) {
                if (++at == p->ranks)
                    return false;
                rank = s->rank[s->turn[at]];
                group = -1;
            }
        }
    }
    return true;
}

/* Pours at the least time, found by bisection below the one that could still beat the best. */
static bool pour_tight(struct split_work *s, int count, double x_cap)
{
    double low = s->least_end, high = (1 + 1e-9) * s->best.cost - s->least_out;
    if (!pour(s, count, high, x_cap, false))
        return false;
    for (int i = 0; i < 60 && high - low > 1e-12 * high; i++) {
        double mid = (low + high) / 2;
        *(pour(s, count, mid, x_cap, false) ? &high : &low) = mid;
    }
    return pour(s, count, high, x_cap, true);
}

/* The `heavy` heaviest groups poured over the others. */
static void candidate(struct split_work *s, int heavy, double x_cap)
{
    assign_cuts_clear(&s->now);
    memset(s->rank, 0, (size_t)s->p->ranks * sizeof *s->rank);
    if (!place_whole(s, heavy, x_cap))
        return;
    turns_fill(s);
    if (!pour_tight(s, s->first[heavy], x_cap))
        return;
    for (int j = s->first[heavy]; j < s->p->heads; j++)
        assign_cuts_add(&s->now, s->heads[j], s->rank_of_group[assign_group(s->p, s->heads[j])], 1);
    offer(s);
    assign_cuts_peel(&s->now, &s->spare);
    offer(s);
}

/* 1 to 8 heavy groups, then by halves more, then all (McNaughton's rule); with and without caps on
 * the shares of a rank, which the exchange of O pays for. */
static void candidates(struct split_work *s)
{
    const struct assign_split_problem *p = s->p;
    double even = (double)p->heads / p->ranks;
    double caps[] = {INFINITY, even, floor(even) + 1, ceil(even) + 1};
    int kinds = p->wire.o_s > 0 ? (ceil(even) > floor(even) ? 4 : 3) : 1;
    for (int heavy = 1; heavy <= s->groups;) {
        for (int k = 0; k < kinds; k++)
            candidate(s, heavy, caps[k]);
        int next = heavy < 8 ? heavy + 1 : 3 * heavy / 2;
        heavy = next > s->groups && heavy < s->groups ? s->groups : next;
    }
}

/* --- the result --- */

double assign_split_cost_s(const struct assign_split_problem *p, const struct cp_piece *pieces,
                           int count)
{
    struct arena *scratch = arena_new();
    int groups = 0;
    for (int h = 0; h < p->heads; h++)
        groups = assign_group(p, h) >= groups ? assign_group(p, h) + 1 : groups;
    struct assign_cuts c = assign_cuts_new(p, groups, scratch);
    for (int i = 0; i < count; i++)
        assign_cuts_add(&c, pieces[i].head, pieces[i].head_rank, pieces[i].share);
    assign_cuts_price(&c);
    arena_free(scratch);
    return c.cost;
}

static void result_fill(struct split_work *s, struct assign_split *out, struct arena *a)
{
    const struct assign_split_problem *p = s->p;
    assign_cuts_finish(&s->best);
    assign_cuts_finish(&s->whole);
    double cost = assign_split_cost_s(p, s->best.piece, s->best.count);
    bool keep = cost < s->whole.cost;
    const struct assign_cuts *c = keep ? &s->best : &s->whole;
    *out = (struct assign_split){
        .count = c->count, .cost_s = keep ? cost : s->whole.cost, .whole_s = s->whole.cost};
    out->pieces = ARENA_ARRAY(a, struct cp_piece, c->count);
    memcpy(out->pieces, c->piece, (size_t)c->count * sizeof *c->piece);
    out->bound_s = fmin(s->least_end + s->least_out, out->cost_s);
}

static bool split_solve(struct split_work *s, struct assign_limits limits, struct arena *a,
                        struct arena *scratch, struct err *e)
{
    const struct assign_split_problem *p = s->p;
    if (p->rank_of_head)
        offer_whole(s, p->rank_of_head);
    if ((!p->rank_of_head &&
         !whole_heads(s, p->group_of_head, s->groups, p->most_groups, limits, a, scratch, e)) ||
        (s->groups < p->heads && !whole_heads(s, NULL, p->heads, 0, limits, a, scratch, e)))
        return false;
    assign_cuts_copy(&s->whole, &s->best);
    if (p->ranks == 1 || s->best.cost <= (1 + limits.tolerance) * (s->least_end + s->least_out))
        return true;
    candidates(s);
    assign_cuts_copy(&s->now, &s->whole);
    assign_cuts_peel(&s->now, &s->spare);
    offer(s);
    return true;
}

bool assign_split(const struct assign_split_problem *p, struct assign_limits limits,
                  struct assign_split *out, struct arena *a, struct arena *scratch, struct err *e)
{
    assert(a != scratch);
    struct assign_core c; /* checks heads, ranks, work and groups */
    struct assign_problem whole = {.heads = p->heads,
                                   .ranks = p->ranks,
                                   .work_s = p->work_s,
                                   .unit_of_head = p->group_of_head,
                                   .most = p->most_groups};
    if (!assign_core_make(&whole, &c, scratch, e) || !split_check(p, e))
        return false;
    struct split_work s = split_new(p, c.units, scratch);
    if (!split_solve(&s, limits, a, scratch, e))
        return false;
    result_fill(&s, out, a);
    return true;
}
