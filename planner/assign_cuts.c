/* Heads shared out by queries: what a rank holds, how much more it can take, cutting pieces off. */
#include "planner/assign_cuts.h"

#include <assert.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

static const double sliver = 1e-6; /* smaller shares are rounding */

struct assign_cuts assign_cuts_new(const struct assign_split_problem *p, int groups,
                                   struct arena *scratch)
{
    struct assign_cuts c = {.p = p, .groups = groups, .most = p->heads + 3 * p->ranks};
    c.piece = ARENA_ARRAY(scratch, struct cp_piece, c.most);
    c.x = ARENA_ARRAY(scratch, double, p->ranks);
    c.work = ARENA_ARRAY(scratch, double, p->ranks);
    c.k = ARENA_ARRAY(scratch, int, p->ranks);
    c.held = ARENA_ARRAY(scratch, int16_t, p->ranks * groups);
    c.at = ARENA_ARRAY(scratch, int16_t, p->heads * p->ranks);
    c.cost = INFINITY;
    return c;
}

void assign_cuts_clear(struct assign_cuts *c)
{
    size_t ranks = (size_t)c->p->ranks;
    memset(c->x, 0, ranks * sizeof *c->x);
    memset(c->work, 0, ranks * sizeof *c->work);
    memset(c->k, 0, ranks * sizeof *c->k);
    memset(c->held, 0, ranks * (size_t)c->groups * sizeof *c->held);
    memset(c->at, 0, ranks * (size_t)c->p->heads * sizeof *c->at);
    c->count = c->k_sum = 0;
    c->cost = INFINITY;
}

void assign_cuts_copy(struct assign_cuts *to, const struct assign_cuts *from)
{
    size_t ranks = (size_t)from->p->ranks;
    memcpy(to->piece, from->piece, (size_t)from->count * sizeof *to->piece);
    memcpy(to->x, from->x, ranks * sizeof *to->x);
    memcpy(to->work, from->work, ranks * sizeof *to->work);
    memcpy(to->k, from->k, ranks * sizeof *to->k);
    memcpy(to->held, from->held, ranks * (size_t)from->groups * sizeof *to->held);
    memcpy(to->at, from->at, ranks * (size_t)from->p->heads * sizeof *to->at);
    to->count = from->count;
    to->k_sum = from->k_sum;
    to->cost = from->cost;
}

/* --- adding, pricing --- */

double assign_cuts_fixed_s(const struct assign_split_problem *p, int head)
{
    return p->piece_s ? assign_smaller(p->piece_s[head], p->work_s[head]) : 0;
}

double assign_cuts_shared_s(const struct assign_split_problem *p, int head)
{
    return p->work_s[head] - assign_cuts_fixed_s(p, head);
}

/* 1 + index of the head's piece on the rank, 0 when there is none. */
static int16_t *piece_at(const struct assign_cuts *c, int head, int rank)
{
    return &c->at[head * c->p->ranks + rank];
}

static void hold(struct assign_cuts *c, int head, int rank, int pieces)
{
    int16_t *held = &c->held[rank * c->groups + assign_group(c->p, head)];
    int before = *held > 0;
    *held = (int16_t)(*held + pieces);
    int change = (*held > 0) - before;
    c->k[rank] += change;
    c->k_sum += change;
    c->work[rank] += pieces * assign_cuts_fixed_s(c->p, head);
}

static void piece_drop(struct assign_cuts *c, int i)
{
    *piece_at(c, c->piece[i].head, c->piece[i].head_rank) = 0;
    c->count--;
    if (i == c->count)
        return;
    c->piece[i] = c->piece[c->count];
    *piece_at(c, c->piece[i].head, c->piece[i].head_rank) = (int16_t)(i + 1);
}

void assign_cuts_add(struct assign_cuts *c, int head, int rank, double share)
{
    int16_t *at = piece_at(c, head, rank);
    if (*at == 0) {
        assert(c->count < c->most && share > 0);
        c->piece[c->count++] = (struct cp_piece){.head = head, .head_rank = rank};
        *at = (int16_t)c->count;
        hold(c, head, rank, 1);
    }
    struct cp_piece *piece = &c->piece[*at - 1];
    bool gone = piece->share + share < sliver;
    share = gone ? -piece->share : share;
    piece->share += share;
    c->x[rank] += share;
    c->work[rank] += share * assign_cuts_shared_s(c->p, head);
    if (gone) {
        hold(c, head, rank, -1);
        piece_drop(c, *at - 1);
    }
}

static double end_s(const struct assign_cuts *c, double x, int k, double work, int k_sum)
{
    return assign_wire_in_s(&c->p->wire, c->p->ranks, x, k, c->p->heads, k_sum) + work;
}

double assign_cuts_end(const struct assign_cuts *c, int rank)
{
    return end_s(c, c->x[rank], c->k[rank], c->work[rank], c->k_sum);
}

void assign_cuts_price(struct assign_cuts *c)
{
    double end = 0, out = 0;
    for (int r = 0; r < c->p->ranks; r++) {
        end = assign_larger(end, assign_cuts_end(c, r));
        out = assign_larger(out, assign_wire_out_s(&c->p->wire, c->p->ranks, c->x[r], c->p->heads));
    }
    c->cost = end + out;
}

bool assign_cuts_room(const struct assign_cuts *c)
{
    return c->count < c->most;
}

bool assign_cuts_better(const struct assign_cuts *x, const struct assign_cuts *y)
{
    if (isinf(y->cost) || fabs(x->cost - y->cost) > 1e-9 * y->cost)
        return x->cost < y->cost;
    return x->count < y->count;
}

/* --- how much fits --- */

/* Largest f >= 0 with base + slope * f <= time. */
static double reach(double base, double slope, double time)
{
    if (base > time)
        return 0;
    return slope > 0 ? (time - base) / slope : INFINITY;
}

double assign_cuts_fit(const struct assign_split_problem *p, const struct assign_rank *r, int head,
                       bool held, double time, double x_cap, int k_sum, double most)
{
    const struct assign_wire *w = &p->wire;
    int k = r->k + !held;
    if (p->most_groups && k > p->most_groups)
        return 0;
    double work = r->work + assign_cuts_fixed_s(p, head), slope = assign_cuts_shared_s(p, head);
    double receive = (p->ranks - 1) * (w->q_s * r->x + w->kv_s * k) + work;
    double send = w->q_s * (p->heads - r->x) + w->kv_s * (k_sum - k) + work;
    double f = assign_smaller(assign_smaller(most, x_cap - r->x),
                              reach(receive, (p->ranks - 1) * w->q_s + slope, time));
    if (slope > w->q_s) /* otherwise a larger share sends less than it works: no limit */
        f = assign_smaller(f, reach(send, slope - w->q_s, time));
    return f > sliver ? f : 0;
}

/* --- peeling --- */

struct peel {
    int piece, rank; /* of the rank that ends last, and where the share goes */
    double share, end;
};

/* The rank that ends last, and when. */
static int last_rank(const struct assign_cuts *c, double *end)
{
    int last = 0;
    *end = assign_cuts_end(c, 0);
    for (int r = 1; r < c->p->ranks; r++) {
        double of = assign_cuts_end(c, r);
        if (of > *end) {
            last = r;
            *end = of;
        }
    }
    return last;
}

/* The end of a rank as a share moves: the larger of two straight lines, receive and send. */
struct ends {
    double at[2], slope[2];
};

static struct ends ends_of(const struct assign_split_problem *p, double x, int k, double work,
                           int k_sum, double work_slope, double x_slope)
{
    const struct assign_wire *w = &p->wire;
    double others = p->ranks - 1;
    return (struct ends){{others * (w->q_s * x + w->kv_s * k) + work,
                          w->q_s * (p->heads - x) + w->kv_s * (k_sum - k) + work},
                         {work_slope + others * w->q_s * x_slope, work_slope - w->q_s * x_slope}};
}

static double ends_after(const struct ends *e, double share)
{
    return assign_larger(e->at[0] + share * e->slope[0], e->at[1] + share * e->slope[1]);
}

/* The share at which a falling and a rising end meet: for each line of the one that falls the first
 * line of the other that reaches it, and of these the last. */
static double meeting(const struct ends *falls, const struct ends *rises)
{
    double last = 0;
    for (int i = 0; i < 2; i++) {
        double first = INFINITY;
        for (int j = 0; j < 2; j++)
            first = assign_smaller(first, (falls->at[i] - rises->at[j]) /
                                              (rises->slope[j] - falls->slope[i]));
        last = assign_larger(last, first);
    }
    return last;
}

/* Moves part of a piece so that both ranks end together, or all of it. */
static struct peel peel_price(const struct assign_cuts *c, int i, int to)
{
    const struct assign_split_problem *p = c->p;
    const struct cp_piece *piece = &c->piece[i];
    int from = piece->head_rank, group = assign_group(p, piece->head);
    int gain = c->held[to * c->groups + group] == 0, loss = c->held[from * c->groups + group] == 1;
    double fixed = assign_cuts_fixed_s(p, piece->head),
           shared = assign_cuts_shared_s(p, piece->head);
    double there = c->work[to] + (*piece_at(c, piece->head, to) == 0 ? fixed : 0);
    int k = c->k_sum + gain;
    struct ends falls = ends_of(p, c->x[from], c->k[from], c->work[from], k, -shared, -1);
    struct ends rises = ends_of(p, c->x[to], c->k[to] + gain, there, k, shared, 1);
    double share = shared > p->wire.q_s ? meeting(&falls, &rises) : piece->share;
    struct peel part = {i, to, share, ends_after(&rises, share)};
    if (share > sliver && share < piece->share - sliver)
        return part;
    double here = end_s(c, c->x[from] - piece->share, c->k[from] - loss,
                        c->work[from] - fixed - piece->share * shared, k - loss);
    there =
        end_s(c, c->x[to] + piece->share, c->k[to] + gain, there + piece->share * shared, k - loss);
    return (struct peel){i, to, piece->share, assign_larger(here, there)};
}

/* A rank that takes a share ends no sooner for it, but for a KV group that is then sent once less.
 */
static struct peel peel_find(const struct assign_cuts *c, int last, double end)
{
    const struct assign_split_problem *p = c->p;
    struct peel best = {.end = end, .rank = -1};
    for (int r = 0; r < p->ranks; r++) {
        if (r == last || assign_cuts_end(c, r) - p->wire.kv_s >= best.end)
            continue;
        for (int i = 0; i < c->count; i++) {
            if (c->piece[i].head_rank != last)
                continue;
            int k = c->k[r] + (c->held[r * c->groups + assign_group(p, c->piece[i].head)] == 0);
            if (p->most_groups && k > p->most_groups)
                continue;
            struct peel x = peel_price(c, i, r);
            if (x.end < best.end * (1 - 1e-9))
                best = x;
        }
    }
    return best;
}

void assign_cuts_peel(struct assign_cuts *c, struct assign_cuts *spare)
{
    assign_cuts_price(c);
    assign_cuts_copy(spare, c);
    for (int step = 0; step < 2 * c->p->ranks && assign_cuts_room(c); step++) {
        double end;
        int last = last_rank(c, &end);
        struct peel x = peel_find(c, last, end);
        if (x.rank < 0)
            break;
        int head = c->piece[x.piece].head;
        assign_cuts_add(c, head, x.rank, x.share);
        assign_cuts_add(c, head, last, -x.share);
        assign_cuts_price(c);
        if (assign_cuts_better(c, spare))
            assign_cuts_copy(spare, c);
    }
    assign_cuts_copy(c, spare);
}

/* --- the end --- */

static int by_head_and_rank(const void *x, const void *y)
{
    const struct cp_piece *a = x, *b = y;
    if (a->head != b->head)
        return a->head < b->head ? -1 : 1;
    return (a->head_rank > b->head_rank) - (a->head_rank < b->head_rank);
}

static double rounded(const struct assign_cuts *c, double at)
{
    int parts = c->p->query_groups;
    return parts > 0 ? round(at * parts) / parts : at;
}

/* Cut points are rounded, not shares, so that a head's shares still add up to 1; a piece between
 * equal points goes. */
void assign_cuts_finish(struct assign_cuts *c)
{
    int count = c->count;
    qsort(c->piece, (size_t)count, sizeof *c->piece, by_head_and_rank);
    c->count = 0;
    for (int i = 0; i < count;) {
        int head = c->piece[i].head;
        double at = 0, from = 0;
        for (; i < count && c->piece[i].head == head; i++) {
            bool last = i + 1 == count || c->piece[i + 1].head != head;
            at += c->piece[i].share;
            double to = last ? 1 : rounded(c, at);
            if (to > from)
                c->piece[c->count++] =
                    (struct cp_piece){head, c->piece[i].head_rank, from, to - from};
            from = to;
        }
    }
}
