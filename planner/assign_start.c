/* Starts of the search: longest processing time first, then moves and swaps to a local optimum. */
#include "planner/assign_core.h"

#include <string.h>

/* --- LPT --- */

/* rest[n]: the least `in` of a rank that has n units now and may be given more. */
static void rest_fill(const struct assign_core *c, int64_t *rest)
{
    rest[c->most] = c->in[c->most];
    for (int n = c->most - 1; n >= 0; n--)
        rest[n] = c->in[n] < rest[n + 1] ? c->in[n] : rest[n + 1];
}

/* Units that must still go to ranks below `least`. */
static int owed(const struct assign_core *c, const int *count)
{
    int sum = 0;
    for (int r = 0; r < c->ranks; r++)
        sum += count[r] < c->least ? c->least - count[r] : 0;
    return sum;
}

static int lpt_rank(const struct assign_core *c, const struct assign_draft *d, const int64_t *rest,
                    int top)
{
    int best = -1;
    int64_t best_end = 0;
    for (int r = 0; r < c->ranks; r++) {
        if (d->count[r] >= top)
            continue;
        int64_t end = d->load[r] + rest[d->count[r] + 1];
        if (best < 0 || end < best_end || (end == best_end && d->count[r] < d->count[best])) {
            best = r;
            best_end = end;
        }
    }
    return best;
}

void assign_start_lpt(const struct assign_core *c, struct assign_draft *d)
{
    int64_t rest[ASSIGN_MOST_HEADS + 1];
    rest_fill(c, rest);
    memset(d->count, 0, (size_t)c->ranks * sizeof *d->count);
    memset(d->load, 0, (size_t)c->ranks * sizeof *d->load);
    for (int i = 0; i < c->units; i++) {
        bool all_owed = c->least > 0 && owed(c, d->count) == c->units - i;
        int r = lpt_rank(c, d, rest, all_owed ? c->least : c->most);
        d->rank_of[i] = r;
        d->count[r]++;
        d->load[r] += c->work[i];
    }
    assign_draft_price(c, d);
}

/* --- moves and swaps --- */

/* A change between the rank that ends last and another: `give` goes there, `take` comes back
 * (-1: none). */
struct change {
    int give, take, other;
    int64_t pair_end; /* the later end of the two ranks afterwards */
    int64_t cost;
};

static int last_rank(const struct assign_core *c, const struct assign_draft *d)
{
    int last = 0;
    for (int r = 1; r < c->ranks; r++)
        if (c->in[d->count[r]] + d->load[r] > c->in[d->count[last]] + d->load[last])
            last = r;
    return last;
}

static void change_apply(const struct assign_core *c, struct assign_draft *d,
                         const struct change *x, int last)
{
    if (x->give >= 0) {
        d->rank_of[x->give] = x->other;
        d->count[last]--, d->count[x->other]++;
        d->load[last] -= c->work[x->give], d->load[x->other] += c->work[x->give];
    }
    if (x->take >= 0) {
        d->rank_of[x->take] = last;
        d->count[last]++, d->count[x->other]--;
        d->load[last] += c->work[x->take], d->load[x->other] -= c->work[x->take];
    }
}

static int64_t end_after(const struct assign_core *c, const struct assign_draft *d, int r,
                         int count, int64_t load)
{
    int n = d->count[r] + count;
    return n < c->least || n > c->most ? ASSIGN_NEVER : c->in[n] + d->load[r] + load;
}

/* Fills pair_end and cost. The cost is worked out only where the pair ends sooner than the last
 * rank does now. */
static void change_price(const struct assign_core *c, struct assign_draft *d, struct change *x,
                         int last)
{
    int count = (x->take >= 0) - (x->give >= 0);
    int64_t load = (x->take >= 0 ? c->work[x->take] : 0) - (x->give >= 0 ? c->work[x->give] : 0);
    int64_t here = end_after(c, d, last, count, load),
            there = end_after(c, d, x->other, -count, -load);
    x->pair_end = here > there ? here : there;
    x->cost = ASSIGN_NEVER;
    if (x->pair_end >= c->in[d->count[last]] + d->load[last])
        return;
    if (count == 0) { /* no table entry changes: out stays, and in + load of the pair falls */
        x->cost = d->cost;
        return;
    }
    int64_t before = d->cost;
    int fullest = d->fullest;
    struct change back = {.give = x->take, .take = x->give, .other = x->other};
    change_apply(c, d, x, last);
    assign_draft_price(c, d);
    x->cost = d->cost;
    change_apply(c, d, &back, last);
    d->rank_of[x->give >= 0 ? x->give : x->take] = x->give >= 0 ? last : x->other;
    d->cost = before;
    d->fullest = fullest;
}

static void change_offer(const struct assign_core *c, struct assign_draft *d, struct change *best,
                         int last, struct change x)
{
    change_price(c, d, &x, last);
    if (x.cost <= d->cost && x.pair_end < best->pair_end)
        *best = x;
}

/* The change after which the pair ends soonest; pair_end stays NEVER when none helps. */
static struct change change_find(const struct assign_core *c, struct assign_draft *d, int last)
{
    struct change best = {.give = -1, .take = -1, .pair_end = ASSIGN_NEVER};
    for (int i = 0; i < c->units; i++) {
        if (d->rank_of[i] != last) {
            change_offer(c, d, &best, last,
                         (struct change){.give = -1, .take = i, .other = d->rank_of[i]});
            continue;
        }
        for (int r = 0; r < c->ranks; r++)
            if (r != last)
                change_offer(c, d, &best, last, (struct change){.give = i, .take = -1, .other = r});
        for (int j = i + 1; j < c->units; j++)
            if (d->rank_of[j] != last && c->work[j] < c->work[i])
                change_offer(c, d, &best, last,
                             (struct change){.give = i, .take = j, .other = d->rank_of[j]});
    }
    return best;
}

/* Each change lowers the latest end, or leaves fewer ranks that end then, and never raises the
 * cost: it ends. */
void assign_start_improve(const struct assign_core *c, struct assign_draft *d)
{
    for (int round = 0; round < 8 * c->units; round++) {
        int last = last_rank(c, d);
        struct change x = change_find(c, d, last);
        if (x.pair_end == ASSIGN_NEVER)
            return;
        change_apply(c, d, &x, last);
        assign_draft_price(c, d);
    }
}
