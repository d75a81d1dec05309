/* Can all ranks end by T, with counts of units that are allowed?
 *
 * Ranks are filled one by one. The next rank takes the heaviest unit that is left (ranks are alike,
 * so some rank must), then every choice of n - 1 others, n over the allowed counts, whose sum lies
 * in a window: no more than room = T - spend[n], and no less than what the ranks after it cannot
 * hold. Those can hold b T - need[b][m] at most, need being the least sum of spend over b allowed
 * counts that add up to m (a min-plus power of the table). Where work is in quanta above a base
 * that each unit takes, counts differ in how much of T they cannot use: those that waste least come
 * first, and what ranks of few units can hold is also bounded by the heaviest units
 * (ranks_hold_all).
 *
 * Trades: a choice is skipped when one of its units could be exchanged for a heavier one that was
 * left over and would still fit. In any assignment that ends by T the two can change places: counts
 * stay, and the other rank gets lighter. So the last unit of a choice is always the heaviest that
 * fits. A choice is also skipped when one more unit would fit and no rank that loses it could end
 * later for that (relief).
 *
 * Sets of left-over units that were refuted are remembered.
 *
 * Closing ranks one after the other around a narrow window is an idea of Korf's and Schreiber's
 * (Optimal multi-way number partitioning, JACM 65(4), 2018), trades are in the spirit of Martello's
 * and Toth's dominance for bin packing (1990); windows and trades by count are worked out here. */
#include "planner/assign_decide.h"

#include <string.h>

enum { MEMO_BITS = 12 };

static int64_t larger(int64_t a, int64_t b)
{
    return a > b ? a : b;
}

static int64_t smaller(int64_t a, int64_t b)
{
    return a < b ? a : b;
}

/* --- what counts cost --- */

void assign_decide_counts(struct assign_decide *d, int64_t time, struct assign_caps caps,
                          bool lifted)
{
    const struct assign_core *c = d->c;
    d->time = time;
    d->first = c->units + 1;
    d->last = -1;
    d->rest[c->units + 1] = ASSIGN_NEVER;
    for (int n = c->units; n >= 0; n--) {
        bool allowed = n >= c->least && n <= c->most && c->before[n] <= caps.before &&
                       c->out[n] <= caps.out && c->in[n] + assign_lightest(c, n) <= time;
        d->spend[n] = !allowed ? ASSIGN_NEVER
                      : lifted ? time - (time - c->in[n]) / c->step * c->step
                               : c->in[n];
        d->rest[n] = smaller(d->rest[n + 1], d->spend[n]);
        if (allowed) {
            d->first = n;
            d->last = larger(d->last, n);
        }
    }
}

/* Only the sums that both the ranks filled and those to come can have. */
void assign_decide_need(struct assign_decide *d)
{
    int units = d->c->units, ranks = d->c->ranks, row = units + 1;
    for (int i = 0; i < row; i++)
        d->need[i] = i == 0 ? 0 : ASSIGN_NEVER;
    for (int b = 1; b <= ranks; b++) {
        const int64_t *before = d->need + (b - 1) * row;
        int64_t *now = d->need + b * row;
        for (int m = 0; m < row; m++)
            now[m] = ASSIGN_NEVER;
        int low = larger(b * d->first, units - (ranks - b) * d->last);
        int high = smaller(b * d->last, units - (ranks - b) * d->first);
        for (int n = d->first; n <= d->last; n++)
            for (int m = larger(low, n); d->spend[n] < ASSIGN_NEVER && m <= high; m++)
                now[m] = smaller(now[m], before[m - n] + d->spend[n]);
    }
}

/* Can ranks with allowed counts that add up hold all the work at all? hold[b][m]: the most that the
 * b ranks of fewest units can, with m units in all: no more than their room, and no more than the
 * heaviest m units. They have at most the mean count. */
static bool ranks_hold_all(struct assign_decide *d)
{
    const struct assign_core *c = d->c;
    int units = c->units, ranks = c->ranks, row = units + 1;
    for (int i = 0; i < (ranks + 1) * row; i++)
        d->hold[i] = i == 0 ? 0 : -ASSIGN_NEVER;
    for (int n = d->first; n <= d->last; n++)
        for (int b = 1; b <= ranks && d->spend[n] < ASSIGN_NEVER; b++) {
            const int64_t *before = d->hold + (b - 1) * row;
            int64_t *now = d->hold + b * row, room = d->time - d->spend[n];
            for (int m = larger(b * d->first, n); m <= b * units / ranks; m++)
                now[m] = larger(now[m], smaller(before[m - n] + room, c->prefix[m]));
        }
    return d->hold[ranks * row + units] >= c->prefix[units];
}

/* How much later a rank can end, at most, when it gives a unit away, that unit's work not counted.
 */
static int64_t relief(const struct assign_decide *d)
{
    int64_t most = 0;
    for (int n = larger(d->first, 1); n <= d->last; n++)
        if (d->spend[n] < ASSIGN_NEVER)
            most = larger(most, d->spend[n - 1] < ASSIGN_NEVER ? d->spend[n - 1] - d->spend[n]
                                                               : ASSIGN_NEVER);
    return most;
}

/* Allowed counts, those first that leave the least of a rank's time unused when all work is in
 * whole quanta: together ranks have little to spare. */
static void order_fill(struct assign_decide *d)
{
    const int64_t *in = d->c->in;
    d->orders = 0;
    for (int n = larger(d->first, 1); n <= d->last; n++) {
        if (d->spend[n] >= ASSIGN_NEVER)
            continue;
        int i = d->orders++;
        for (; i > 0 && d->spend[n] - in[n] < d->spend[d->order[i - 1]] - in[d->order[i - 1]]; i--)
            d->order[i] = d->order[i - 1];
        d->order[i] = n;
    }
}

static int64_t need(const struct assign_decide *d, int ranks, int units)
{
    return d->need[ranks * (d->c->units + 1) + units];
}

int64_t assign_heavy_bound(const struct assign_decide *d, const int64_t *prefix, int units,
                           int ranks)
{
    int64_t bound = 0;
    for (int k = 0, top = 1; top <= units; k++, top += ranks)
        bound = larger(bound, prefix[top] - prefix[top - k - 1] + d->rest[k + 1]);
    return bound;
}

/* --- choices that need not be tried --- */

/* Some chosen unit could be exchanged for a heavier one that is left over. */
static bool tradable(const struct assign_level *v, int64_t slack)
{
    for (int k = v->count - 1; k > 0; k--) {
        int i = v->chosen[k], j = i - 1;
        for (int taken = k - 1; taken >= 0; j--) {
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

/* One more unit would fit, and could leave the rank that has it. */
static bool addable(const struct assign_decide *d, const struct assign_level *v, int64_t sum)
{
    if (v->count >= d->last || d->spend[v->count + 1] >= ASSIGN_NEVER)
        return false;
    int64_t slack = d->time - d->spend[v->count + 1] - sum;
    if (slack < d->relief)
        return false;
    for (int i = v->size - 1, taken = v->count - 1; i > 0 && v->work[i] <= slack; i--) {
        if (v->chosen[taken] == i)
            taken--;
        else if (v->work[i] >= d->relief)
            return true;
    }
    return false;
}

static struct assign_memo *memo_of(const struct assign_decide *d, uint64_t left)
{
    return &d->memo[(left * 0x9e3779b97f4a7c15u) >> (64 - MEMO_BITS)];
}

static bool memo_knows(const struct assign_decide *d, const struct assign_level *v)
{
    const struct assign_memo *m = memo_of(d, v->left);
    return m->round == d->round && m->left == v->left && m->ranks == v->ranks;
}

static void memo_write(struct assign_decide *d, const struct assign_level *v)
{
    *memo_of(d, v->left) =
        (struct assign_memo){.left = v->left, .ranks = v->ranks, .round = d->round};
}

/* --- one rank after the other --- */

static enum assign_answer fill(struct assign_decide *d, int depth);

/* What the choice leaves, for the next level. */
static void level_next(const struct assign_level *v, struct assign_level *next)
{
    int taken = 0, size = 0;
    next->left = v->left;
    for (int i = 0; i < v->size; i++) {
        if (taken < v->count && v->chosen[taken] == i) {
            next->left &= ~(UINT64_C(1) << (v->unit[i] & 63));
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
}

static enum assign_answer close_rank(struct assign_decide *d, struct assign_level *v, int64_t sum)
{
    if (tradable(v, v->room - sum) || addable(d, v, sum))
        return ASSIGN_NO;
    int depth = d->c->ranks - v->ranks;
    for (int k = 0; k < v->count; k++)
        d->trial.rank_of[v->unit[v->chosen[k]]] = depth;
    if (v->ranks == 1)
        return ASSIGN_YES;
    struct assign_level *next = &d->level[depth + 1];
    level_next(v, next);
    if (assign_heavy_bound(d, next->prefix, next->size, next->ranks) > d->time)
        return ASSIGN_NO;
    return fill(d, depth + 1);
}

/* First index at or after `from` whose work is at most `most`. */
static int first_within(const struct assign_level *v, int from, int64_t most)
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

/* Two more units, the second the heaviest that fits: as the first gets lighter, the second gets
 * heavier. */
static enum assign_answer choose_two(struct assign_decide *d, struct assign_level *v, int from,
                                     int64_t sum)
{
    const int64_t *work = v->work;
    int64_t room = v->room - sum, low = v->low - sum;
    int i = first_within(v, from, room - work[v->size - 1]), j = v->size - 1;
    for (; i + 1 < v->size && work[i] + work[i + 1] >= low; i++) {
        d->nodes++;
        while (j - 1 > i && work[i] + work[j - 1] <= room)
            j--;
        int second = j > i ? j : i + 1;
        if ((i > from && work[i] == work[i - 1]) || work[i] + work[second] < low)
            continue;
        v->chosen[v->count - 2] = i;
        v->chosen[v->count - 1] = second;
        enum assign_answer a = close_rank(d, v, sum + work[i] + work[second]);
        if (a != ASSIGN_NO)
            return a;
    }
    return ASSIGN_NO;
}

static enum assign_answer choose_one(struct assign_decide *d, struct assign_level *v, int from,
                                     int64_t sum)
{
    int i = first_within(v, from, v->room - sum);
    if (i == v->size || sum + v->work[i] < v->low)
        return ASSIGN_NO;
    v->chosen[v->count - 1] = i;
    return close_rank(d, v, sum + v->work[i]);
}

/* k units have been chosen and sum up to `sum`; the rest lie at or after `from`. */
static enum assign_answer choose(struct assign_decide *d, struct assign_level *v, int k, int from,
                                 int64_t sum)
{
    if (++d->nodes > d->stop)
        return ASSIGN_UNKNOWN;
    int more = v->count - k;
    if (more == 0)
        return close_rank(d, v, sum);
    if (more == 1)
        return choose_one(d, v, from, sum);
    if (more == 2)
        return choose_two(d, v, from, sum);
    int64_t tail = v->prefix[v->size] - v->prefix[v->size - more + 1]; /* the lightest more - 1 */
    for (int i = first_within(v, from, v->room - sum - tail); i + more <= v->size; i++) {
        if (sum + v->prefix[i + more] - v->prefix[i] < v->low)
            break;
        if (i > from && v->work[i] == v->work[i - 1])
            continue;
        v->chosen[k] = i;
        enum assign_answer a = choose(d, v, k + 1, i + 1, sum + v->work[i]);
        if (a != ASSIGN_NO)
            return a;
    }
    return ASSIGN_NO;
}

static enum assign_answer fill_count(struct assign_decide *d, struct assign_level *v, int n)
{
    int64_t after = need(d, v->ranks - 1, v->size - n);
    if (d->spend[n] >= ASSIGN_NEVER || after >= ASSIGN_NEVER)
        return ASSIGN_NO;
    v->count = n;
    v->room = d->time - d->spend[n];
    v->low = v->prefix[v->size] + after - (v->ranks - 1) * d->time;
    if (v->work[0] > v->room || v->prefix[n] < v->low)
        return ASSIGN_NO;
    v->chosen[0] = 0;
    return choose(d, v, 1, 1, v->work[0]);
}

/* Can the ranks from `depth` on take what is left? */
static enum assign_answer fill(struct assign_decide *d, int depth)
{
    struct assign_level *v = &d->level[depth];
    bool small = d->c->units <= 64;
    if (v->size == 0)
        return need(d, v->ranks, 0) < ASSIGN_NEVER ? ASSIGN_YES : ASSIGN_NO;
    if (small && memo_knows(d, v))
        return ASSIGN_NO;
    for (int i = 0; i < d->orders; i++) {
        enum assign_answer a = d->order[i] <= v->size ? fill_count(d, v, d->order[i]) : ASSIGN_NO;
        if (a != ASSIGN_NO)
            return a;
    }
    if (small)
        memo_write(d, v);
    return ASSIGN_NO;
}

enum assign_answer assign_decide(struct assign_decide *d, int64_t time, struct assign_caps caps,
                                 int64_t nodes)
{
    const struct assign_core *c = d->c;
    assign_decide_counts(d, time, caps, true);
    if (d->last < 0)
        return ASSIGN_NO;
    assign_decide_need(d);
    int64_t spent = need(d, c->ranks, c->units);
    if (spent >= ASSIGN_NEVER || c->prefix[c->units] + spent > c->ranks * time)
        return ASSIGN_NO;
    if (c->step > 1 && !ranks_hold_all(d)) /* without quanta it never said no */
        return ASSIGN_NO;
    if (!d->memo) /* most problems are settled before a question gets this far */
        d->memo = ARENA_ARRAY(d->scratch, struct assign_memo, 1 << MEMO_BITS);
    d->relief = relief(d);
    order_fill(d);
    d->stop = d->nodes + nodes;
    d->round++;
    return fill(d, 0);
}

/* --- room --- */

static void root_fill(struct assign_level *root, const struct assign_core *c)
{
    root->size = c->units;
    root->ranks = c->ranks;
    memcpy(root->work, c->work, (size_t)c->units * sizeof *c->work);
    memcpy(root->prefix, c->prefix, (size_t)(c->units + 1) * sizeof *c->prefix);
    for (int i = 0; i < c->units; i++) {
        root->unit[i] = i;
        root->left |= UINT64_C(1) << (i & 63);
    }
}

struct assign_decide assign_decide_new(const struct assign_core *c, struct arena *scratch)
{
    struct assign_decide d = {.c = c, .scratch = scratch, .trial = assign_draft_new(c, scratch)};
    d.spend = ARENA_ARRAY(scratch, int64_t, c->units + 1);
    d.rest = ARENA_ARRAY(scratch, int64_t, c->units + 2);
    d.hold = ARENA_ARRAY(scratch, int64_t, (c->ranks + 1) * (c->units + 1));
    d.order = ARENA_ARRAY(scratch, int, c->units + 1);
    d.need = ARENA_ARRAY(scratch, int64_t, (c->ranks + 1) * (c->units + 1));
    d.level = ARENA_ARRAY(scratch, struct assign_level, c->ranks);
    for (int depth = 0; depth < c->ranks && depth < c->units;
         depth++) { /* each rank before took one at least */
        struct assign_level *v = &d.level[depth];
        v->work = ARENA_ARRAY(scratch, int64_t, c->units - depth);
        v->prefix = ARENA_ARRAY(scratch, int64_t, c->units - depth + 1);
        v->unit = ARENA_ARRAY(scratch, int, c->units - depth);
        v->chosen = ARENA_ARRAY(scratch, int, c->units - depth);
    }
    root_fill(&d.level[0], c);
    return d;
}
