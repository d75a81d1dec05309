/* Branch and bound on the grid.
 *
 * The cost is T + O with T = max (in + load), O = max out. For each value O that the table takes (a gate), only counts n
 * with out[n] <= O are allowed, and the question is the least T. decide() answers "can all ranks end by T?":
 *
 *   Ranks are filled one by one. The next rank takes the heaviest unit that is left (ranks are alike, so some rank must),
 *   then every choice of n - 1 others, n over the allowed counts, whose sum lies in a window: no more than room(n) = T -
 *   in[n], and no less than what the ranks after it cannot hold. What they can hold at most is (b T - need[b][m]), need
 *   being the least sum of in over b allowed counts that add up to m (a min-plus power of the table).
 *
 *   A choice is skipped when one of its units could be exchanged for a heavier one that was left over and still fit: in
 *   any assignment that ends by T the two can trade places, the counts stay, and the other rank gets lighter. So the
 *   last unit of a choice is always the heaviest that fits.
 *
 *   Sets of left-over units that were refuted are remembered.
 *
 * The idea of closing ranks one after the other around a narrow window is Korf's and Schreiber's (Optimal multi-way number
 * partitioning, JACM 65(4), 2018); counts, gates and the trade rule with counts are worked out here. */
#include "planner/assign_core.h"

#include <assert.h>
#include <stdlib.h>
#include <string.h>

enum answer { ANSWER_NO, ANSWER_YES, ANSWER_UNKNOWN };

struct gate {
    int64_t out; /* O */
    int64_t low; /* proved: T >= low */
    bool summed; /* low takes the counts of all ranks into account */
};

/* One rank to fill, and what is left for it and those after it. */
struct level {
    int size, ranks;
    int64_t *work, *prefix; /* [size], falling; [size + 1] */
    int *unit;              /* [size]: index in the core's order */
    int *chosen;            /* indices into work, rising; the first is 0 */
    int count;              /* units of the choice that is being made */
    int64_t room, low;      /* window of its sum */
    uint64_t left;          /* the units as bits, when there are at most 64 */
};

enum { MEMO_BITS = 12 };
struct memo {
    uint64_t left;
    int ranks;
    uint32_t round; /* the decide() that wrote it */
};

struct search {
    const struct assign_core *c;
    struct assign_draft *best, trial;
    struct level *level; /* [ranks] */
    struct memo *memo;
    uint32_t round;
    int64_t nodes, stop; /* stop: give up this decide() there */
    int64_t time;        /* T */
    int64_t *spend;      /* [units + 1]: T - room(n); NEVER when n is not allowed */
    int64_t *need;       /* [ranks + 1][units + 1] */
    int first, last;     /* allowed counts lie in first..last */
};

static int64_t larger(int64_t a, int64_t b)
{
    return a > b ? a : b;
}

static int64_t smaller(int64_t a, int64_t b)
{
    return a < b ? a : b;
}

/* --- what counts cost -------------------------------------------------------------------------------------- */

static int64_t lightest(const struct assign_core *c, int n)
{
    return c->prefix[c->units] - c->prefix[c->units - n];
}

static bool allowed(const struct assign_core *c, int n, int64_t out)
{
    return n >= c->least && n <= c->most && c->out[n] <= out;
}

/* spend[n] = in[n], rounded up so that T - spend[n] is a sum that work can have; raw: not rounded. */
static void spend_fill(struct search *s, int64_t out, bool raw)
{
    const struct assign_core *c = s->c;
    s->first = c->units + 1;
    s->last = -1;
    for (int n = 0; n <= c->units; n++) {
        s->spend[n] = ASSIGN_NEVER;
        if (!allowed(c, n, out) || c->in[n] + lightest(c, n) > s->time)
            continue;
        s->spend[n] = raw ? c->in[n] : s->time - (s->time - c->in[n]) / c->step * c->step;
        s->first = n < s->first ? n : s->first;
        s->last = n;
    }
}

/* Only the sums that both the ranks filled and those to come can have. */
static void need_fill(struct search *s)
{
    int units = s->c->units, ranks = s->c->ranks, row = units + 1;
    for (int i = 0; i < row; i++)
        s->need[i] = i == 0 ? 0 : ASSIGN_NEVER;
    for (int b = 1; b <= ranks; b++) {
        const int64_t *before = s->need + (b - 1) * row;
        int64_t *now = s->need + b * row;
        for (int m = 0; m < row; m++)
            now[m] = ASSIGN_NEVER;
        int low = larger(b * s->first, units - (ranks - b) * s->last);
        int high = smaller(b * s->last, units - (ranks - b) * s->first);
        for (int n = s->first; n <= s->last; n++)
            for (int m = larger(low, n); s->spend[n] < ASSIGN_NEVER && m <= high; m++)
                now[m] = smaller(now[m], before[m - n] + s->spend[n]);
    }
}

static int64_t need(const struct search *s, int ranks, int units)
{
    return s->need[ranks * (s->c->units + 1) + units];
}

/* --- bounds of a gate -------------------------------------------------------------------------------------- */

/* Least T >= time of the form in[n] + a multiple of step. */
static int64_t lift(const struct search *s, int64_t time)
{
    const struct assign_core *c = s->c;
    if (c->step == 1)
        return time;
    int64_t least = ASSIGN_NEVER;
    for (int n = s->first; n <= s->last; n++) {
        if (s->spend[n] >= ASSIGN_NEVER)
            continue;
        int64_t above = larger(time - c->in[n], 0);
        least = smaller(least, c->in[n] + (above + c->step - 1) / c->step * c->step);
    }
    return least;
}

static int64_t least_in(const struct search *s, int from, int to, bool with_lightest)
{
    int64_t least = ASSIGN_NEVER;
    for (int n = larger(from, s->first); n <= smaller(to, s->last); n++)
        if (s->spend[n] < ASSIGN_NEVER)
            least = smaller(least, s->c->in[n] + (with_lightest ? lightest(s->c, n) : 0));
    return least;
}

/* Of the kR + 1 heaviest units, some rank has k + 1: at least the lightest k + 1 of these. */
static int64_t heavy_bound(const struct search *s)
{
    const struct assign_core *c = s->c;
    int64_t bound = 0;
    for (int k = 0; k * c->ranks < c->units; k++) {
        int top = k * c->ranks + 1;
        bound = larger(bound, c->prefix[top] - c->prefix[top - k - 1] + least_in(s, k + 1, c->units, false));
    }
    return bound;
}

/* Some rank has at least the mean count, some rank at most. */
static int64_t count_bound(const struct search *s)
{
    const struct assign_core *c = s->c;
    int floor = c->units / c->ranks, ceil = (c->units + c->ranks - 1) / c->ranks;
    return larger(least_in(s, ceil, c->units, true), least_in(s, 0, floor, true));
}

/* Some rank must hold a count whose out is O; otherwise a lower gate has the same assignments. */
static bool gate_matters(const struct search *s, int64_t out)
{
    const struct assign_core *c = s->c;
    for (int n = s->first; n <= s->last; n++)
        if (c->out[n] == out && s->spend[n] < ASSIGN_NEVER && (c->ranks - 1) * s->first <= c->units - n &&
            (c->ranks - 1) * s->last >= c->units - n)
            return true;
    return false;
}

/* T that beats the best cost lies in low..best - 1 - out. */
static void gate_open(struct search *s, struct gate *g)
{
    const struct assign_core *c = s->c;
    s->time = s->best->cost - 1 - g->out;
    g->low = ASSIGN_NEVER;
    if (s->time < 0)
        return;
    spend_fill(s, g->out, true);
    if (!gate_matters(s, g->out))
        return;
    int64_t mean = c->prefix[c->units] / c->ranks + least_in(s, 0, c->units, false);
    g->low = lift(s, larger(mean, larger(heavy_bound(s), count_bound(s))));
}

/* The mean bound with counts that add up; dearer, so only for gates that are looked into. */
static void gate_sum(struct search *s, struct gate *g)
{
    const struct assign_core *c = s->c;
    g->summed = true;
    s->time = s->best->cost - 1 - g->out;
    spend_fill(s, g->out, true);
    need_fill(s);
    int64_t in = s->last < 0 ? ASSIGN_NEVER : need(s, c->ranks, c->units);
    int64_t mean = in < ASSIGN_NEVER ? (c->prefix[c->units] + in + c->ranks - 1) / c->ranks : ASSIGN_NEVER;
    g->low = in < ASSIGN_NEVER ? larger(g->low, lift(s, mean)) : ASSIGN_NEVER;
}

/* --- one rank after the other ------------------------------------------------------------------------------ */

static enum answer fill(struct search *s, int depth);

static bool memo_knows(const struct search *s, const struct level *v)
{
    const struct memo *m = &s->memo[(v->left * 0x9e3779b97f4a7c15u) >> (64 - MEMO_BITS)];
    return m->round == s->round && m->left == v->left && m->ranks == v->ranks;
}

static void memo_write(struct search *s, const struct level *v)
{
    s->memo[(v->left * 0x9e3779b97f4a7c15u) >> (64 - MEMO_BITS)] =
        (struct memo){.left = v->left, .ranks = v->ranks, .round = s->round};
}

/* The trade rule: some chosen unit could be exchanged for a heavier one that is left over. */
static bool tradable(const struct level *v, int64_t slack)
{
    for (int k = v->count - 1, taken = k; k > 0; k--) {
        int i = v->chosen[k], j = i - 1;
        for (taken = k - 1; taken >= 0; j--) {
            if (j == v->chosen[taken])
                taken--;
            else if (v->work[j] > v->work[i])
                break;
        }
        if (j >= 0 && v->work[j] - v->work[i] <= slack)
            return true;
    }
    return false;
}

/* What the choice leaves, for the next level. */
static void level_next(const struct level *v, struct level *next)
{
    int taken = 0, size = 0;
    for (int i = 0; i < v->size; i++) {
        if (taken < v->count && v->chosen[taken] == i) {
            taken++;
            continue;
        }
        next->work[size] = v->work[i];
        next->unit[size] = v->unit[i];
        next->prefix[size + 1] = next->prefix[size] + v->work[i];
        size++;
    }
    next->size = size;
    next->ranks = v->ranks - 1;
    next->left = v->left;
    for (int k = 0; k < v->count; k++)
        next->left &= ~(UINT64_C(1) << (v->unit[v->chosen[k]] & 63));
}

static enum answer close_rank(struct search *s, struct level *v, int64_t sum)
{
    if (tradable(v, v->room - sum))
        return ANSWER_NO;
    int depth = s->c->ranks - v->ranks;
    for (int k = 0; k < v->count; k++)
        s->trial.rank_of[v->unit[v->chosen[k]]] = depth;
    if (v->ranks == 1)
        return ANSWER_YES;
    level_next(v, &s->level[depth + 1]);
    return fill(s, depth + 1);
}

/* First index at or after `from` whose work is at most `most`. */
static int first_within(const struct level *v, int from, int64_t most)
{
    int low = from, high = v->size;
    while (low < high) {
        int mid = (low + high) / 2;
        if (v->work[mid] <= most)
            high = mid;
        else
            low = mid + 1;
    }
    return low;
}

/* k units have been chosen and sum up to `sum`; the rest lie at or after `from`. */
static enum answer choose(struct search *s, struct level *v, int k, int from, int64_t sum)
{
    if (++s->nodes > s->stop)
        return ANSWER_UNKNOWN;
    int more = v->count - k;
    if (more == 0)
        return close_rank(s, v, sum);
    int64_t tail = v->prefix[v->size] - v->prefix[v->size - more + 1]; /* the lightest more - 1 */
    for (int i = first_within(v, from, v->room - sum - tail); i + more <= v->size; i++) {
        if (sum + v->prefix[i + more] - v->prefix[i] < v->low)
            break;
        if (i > from && v->work[i] == v->work[i - 1])
            continue;
        v->chosen[k] = i;
        enum answer a = choose(s, v, k + 1, i + 1, sum + v->work[i]);
        if (a != ANSWER_NO)
            return a;
        if (more == 1)
            break; /* a lighter last unit could be traded for this one */
    }
    return ANSWER_NO;
}

static enum answer fill_count(struct search *s, struct level *v, int n)
{
    int64_t after = need(s, v->ranks - 1, v->size - n);
    if (s->spend[n] >= ASSIGN_NEVER || after >= ASSIGN_NEVER)
        return ANSWER_NO;
    v->count = n;
    v->room = s->time - s->spend[n];
    v->low = v->prefix[v->size] + after - (v->ranks - 1) * s->time;
    if (v->work[0] > v->room || v->prefix[n] < v->low)
        return ANSWER_NO;
    v->chosen[0] = 0;
    return choose(s, v, 1, 1, v->work[0]);
}

/* Can the ranks from `depth` on take what is left? */
static enum answer fill(struct search *s, int depth)
{
    struct level *v = &s->level[depth];
    bool small = s->c->units <= 64;
    if (v->size == 0)
        return need(s, v->ranks, 0) < ASSIGN_NEVER ? ANSWER_YES : ANSWER_NO;
    if (small && memo_knows(s, v))
        return ANSWER_NO;
    for (int n = larger(s->first, 1); n <= smaller(s->last, v->size); n++) {
        enum answer a = fill_count(s, v, n);
        if (a != ANSWER_NO)
            return a;
    }
    if (small)
        memo_write(s, v);
    return ANSWER_NO;
}

/* --- driving ----------------------------------------------------------------------------------------------- */

static void take_trial(struct search *s)
{
    assign_draft_sum(s->c, &s->trial);
    assert(s->trial.cost < s->best->cost);
    assign_start_improve(s->c, &s->trial);
    assign_draft_copy(s->c, s->best, &s->trial);
}

/* Is there an assignment with T + O <= cost? YES has improved best, NO has raised the gate's bound. */
static enum answer decide(struct search *s, struct gate *g, int64_t cost, int64_t nodes)
{
    const struct assign_core *c = s->c;
    s->time = cost - g->out;
    s->stop = s->nodes + nodes;
    s->round++;
    spend_fill(s, g->out, false);
    if (s->last < 0) {
        g->low = s->time + 1;
        return ANSWER_NO;
    }
    need_fill(s);
    int64_t in = need(s, c->ranks, c->units);
    enum answer a = ANSWER_NO;
    if (in < ASSIGN_NEVER && c->prefix[c->units] + in <= c->ranks * s->time)
        a = fill(s, 0);
    if (a == ANSWER_YES)
        take_trial(s);
    if (a == ANSWER_NO)
        g->low = larger(g->low, s->time + 1);
    return a;
}

struct gates {
    int count;
    struct gate *gate; /* out rising */
};

static int rising(const void *x, const void *y)
{
    int64_t a = *(const int64_t *)x, b = *(const int64_t *)y;
    return (a > b) - (a < b);
}

static struct gates gates_make(struct search *s, struct arena *scratch)
{
    const struct assign_core *c = s->c;
    int64_t *out = ARENA_ARRAY(scratch, int64_t, c->units + 1);
    int n = 0;
    for (int k = c->least; k <= c->most; k++)
        out[n++] = c->out[k];
    qsort(out, (size_t)n, sizeof *out, rising);
    struct gates gs = {.gate = ARENA_ARRAY(scratch, struct gate, n)};
    for (int i = 0; i < n; i++) {
        if (i > 0 && out[i] == out[i - 1])
            continue;
        struct gate *g = &gs.gate[gs.count++];
        g->out = out[i];
        gate_open(s, g);
    }
    return gs;
}

static int64_t gates_bound(const struct gates *gs)
{
    int64_t bound = ASSIGN_NEVER;
    for (int i = 0; i < gs->count; i++)
        bound = smaller(bound, gs->gate[i].low + gs->gate[i].out);
    return bound;
}

/* Asks all gates. */
static enum answer attempt(struct search *s, struct gates *gs, int64_t cost, int64_t nodes)
{
    enum answer sum = ANSWER_NO;
    for (int i = 0; i < gs->count; i++) {
        struct gate *g = &gs->gate[i];
        if (g->low + g->out <= cost && !g->summed)
            gate_sum(s, g);
        if (g->low + g->out > cost)
            continue;
        enum answer a = decide(s, g, cost, nodes);
        if (a == ANSWER_YES)
            return a;
        if (a == ANSWER_UNKNOWN)
            sum = a;
    }
    return sum;
}

static struct search search_new(const struct assign_core *c, struct assign_draft *best, struct arena *scratch)
{
    struct search s = {.c = c, .best = best, .trial = assign_draft_new(c, scratch)};
    s.spend = ARENA_ARRAY(scratch, int64_t, c->units + 1);
    s.need = ARENA_ARRAY(scratch, int64_t, (c->ranks + 1) * (c->units + 1));
    s.memo = ARENA_ARRAY(scratch, struct memo, 1 << MEMO_BITS);
    s.level = ARENA_ARRAY(scratch, struct level, c->ranks);
    for (int d = 0; d < c->ranks && d < c->units; d++) {
        struct level *v = &s.level[d];
        v->work = ARENA_ARRAY(scratch, int64_t, c->units - d);
        v->prefix = ARENA_ARRAY(scratch, int64_t, c->units - d + 1);
        v->unit = ARENA_ARRAY(scratch, int, c->units - d);
        v->chosen = ARENA_ARRAY(scratch, int, c->units - d);
    }
    struct level *root = &s.level[0];
    root->size = c->units;
    root->ranks = c->ranks;
    memcpy(root->work, c->work, (size_t)c->units * sizeof *c->work);
    memcpy(root->prefix, c->prefix, (size_t)(c->units + 1) * sizeof *c->prefix);
    for (int i = 0; i < c->units; i++) {
        root->unit[i] = i;
        root->left |= UINT64_C(1) << (i & 63);
    }
    return s;
}

/* What is known of the least cost: bound <= optimum <= best->cost. */
struct hunt {
    struct search s;
    struct gates gates;
    int64_t bound, limit;
    double tolerance;
};

static bool hunt_done(const struct hunt *h)
{
    int64_t gap = h->s.best->cost - h->bound;
    return gap <= 0 || (double)gap <= h->tolerance * (double)h->bound || h->s.nodes >= h->limit;
}

/* Asks for a cost that lies `share` of the way from the bound to just below the best. */
static enum answer ask(struct hunt *h, double share, int64_t slice)
{
    int64_t most = h->s.best->cost - 1, within = h->bound + (int64_t)(h->tolerance * (double)h->bound);
    int64_t cost = share >= 1 ? most : h->bound + (int64_t)(share * (double)(most - h->bound));
    cost = smaller(larger(cost, within), most);
    enum answer a = attempt(&h->s, &h->gates, cost, smaller(slice, h->limit - h->s.nodes));
    h->bound = smaller(gates_bound(&h->gates), h->s.best->cost);
    return a;
}

/* Cheaper assignments: down by halves of the gap while that is answered, then in smaller steps. */
static bool improve(struct hunt *h, int64_t slice)
{
    static const double shares[] = {0.5, 0.75, 0.9, 0.97};
    bool better = false;
    for (size_t k = 0; k < sizeof shares / sizeof *shares && !hunt_done(h);) {
        bool yes = ask(h, shares[k], slice) == ANSWER_YES;
        better |= yes;
        k = yes ? 0 : k + 1;
    }
    return better;
}

/* Higher bounds, for a gap that is told when the proof is not reached. */
static void tighten(struct hunt *h, int64_t slice)
{
    for (double share = 0.25; share > 0.01 && !hunt_done(h); share /= 3)
        if (ask(h, share, slice) != ANSWER_UNKNOWN)
            return;
}

struct assign_found assign_search(const struct assign_core *c, int64_t node_limit, double tolerance,
                                  struct assign_draft *best, struct arena *scratch)
{
    struct hunt h = {.s = search_new(c, best, scratch), .limit = node_limit, .tolerance = tolerance};
    h.gates = gates_make(&h.s, scratch);
    h.bound = smaller(gates_bound(&h.gates), best->cost);
    for (int64_t slice = 1000; !hunt_done(&h);) {
        enum answer a = ask(&h, 1, slice); /* nothing cheaper: that is the proof */
        if (improve(&h, slice / 4) || a != ANSWER_UNKNOWN)
            continue;
        tighten(&h, slice / 4);
        slice *= 4;
    }
    return (struct assign_found){.bound = h.bound, .nodes = h.s.nodes};
}
