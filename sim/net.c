/* How the rates are kept exact and cheap.
 *
 * Flows that share a link are neighbours; a component is a connected set of them with one entry in
 * the queue, its first end. A start, an end or a new link rate dissolves the components it touches:
 * their flows are brought up to date and go to `loose`. Before time moves on, settle() finds the
 * new components among the loose flows and fills each progressively: the link with the least fair
 * share (what is left of its rate by its unfixed flows) fixes its flows at that share, and so on.
 * Shares only grow while filling, so a heap with stale keys finds the next link; all links of equal
 * share are fixed as one step, so that the sums do not depend on their order.
 *
 * A component is visited flow by flow once per solution: O(flows x route length + links log links).
 */
#include "sim/net.h"

#include <assert.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

struct flow {
    double left, total; /* bytes */
    uint64_t tag;
    int32_t comp;  /* -1: loose */
    uint16_t refs; /* link lists that name this cell; the cell is free for reuse at 0 */
    bool alive;
};

struct hot { /* what filling reads of a flow in no order: kept apart so that more of it is in the
                cache */
    double rate; /* bytes per ps; < 0: not fixed yet */
    uint32_t route;
};

struct link {
    double rate; /* bytes per ps */
    double carried;
    uint32_t *flows; /* cells, dead ones included until they are swept */
    size_t count, room;
    uint64_t mark;
    uint32_t alive;
    uint32_t parent, next; /* while components are found: union-find, links of one component */
    int32_t owner;         /* component, at a root */
};

struct share { /* a link while its component is filled */
    double left;
    uint32_t open, fixed_now;
};

struct comp {
    sim_time since;
    uint32_t version; /* queue entries of older versions are stale */
    uint32_t *flows;
    size_t count, room;
    uint32_t first_link; /* while it is new: its links, by link.next */
};

#define NO_LINK UINT32_MAX

struct level {
    double share;
    uint32_t link;
};

#define VEC(type)                                                                                  \
    struct {                                                                                       \
        type *at;                                                                                  \
        size_t count, room;                                                                        \
    }
#define PUSH(v, value)                                                                             \
    ((v).at = sim_grow((v).at, (v).count + 1, &(v).room, sizeof *(v).at),                          \
     (v).at[(v).count++] = (value))

struct net {
    sim_time now;
    double merge;
    uint64_t epoch;
    uint64_t events, solutions;
    int active;
    VEC(struct link) links;
    VEC(struct share) shares;
    VEC(uint32_t) route_links; /* routes one after another */
    VEC(uint32_t) route_start; /* routes + 1 entries */
    VEC(struct flow) flows;
    VEC(struct hot) hot; /* by flow cell */
    VEC(uint32_t) spare; /* free flow cells */
    VEC(struct comp) comps;
    VEC(uint32_t) spare_comps, new_comps;
    VEC(uint32_t) fresh, loose, touched;              /* flows, flows, links to settle */
    VEC(uint32_t) comp_links, step_links, step_fixed; /* scratch of one solution */
    VEC(struct level) levels;
    VEC(uint64_t) ended; /* tags, to be taken from `taken` on */
    size_t taken;
    struct sim_queue *queue; /* who = component, what = version */
};

struct net *net_new(void)
{
    size_t none = 0;
    struct net *n = sim_grow(NULL, 1, &none, sizeof *n);
    *n = (struct net){.queue = sim_queue_new()};
    PUSH(n->route_start, 0);
    return n;
}

void net_free(struct net *n)
{
    if (!n)
        return;
    for (size_t i = 0; i < n->links.count; i++)
        free(n->links.at[i].flows);
    for (size_t i = 0; i < n->comps.count; i++)
        free(n->comps.at[i].flows);
    void *blocks[] = {n->links.at,     n->shares.at,     n->route_links.at, n->route_start.at,
                      n->flows.at,     n->spare.at,      n->comps.at,       n->spare_comps.at,
                      n->new_comps.at, n->hot.at,        n->fresh.at,       n->loose.at,
                      n->touched.at,   n->comp_links.at, n->step_links.at,  n->step_fixed.at,
                      n->levels.at,    n->ended.at};
    for (size_t i = 0; i < sizeof blocks / sizeof *blocks; i++)
        free(blocks[i]);
    sim_queue_free(n->queue);
    free(n);
}

int net_link(struct net *n, double bytes_per_s)
{
    assert(bytes_per_s >= 0 && isfinite(bytes_per_s));
    PUSH(n->links, ((struct link){.rate = bytes_per_s * 1e-12}));
    PUSH(n->shares, (struct share){0});
    return (int)n->links.count - 1;
}

int net_route(struct net *n, const int *links, int count)
{
    assert(count > 0 && count < UINT16_MAX);
    for (int i = 0; i < count; i++) {
        assert(links[i] >= 0 && (size_t)links[i] < n->links.count);
        PUSH(n->route_links, (uint32_t)links[i]);
    }
    PUSH(n->route_start, (uint32_t)n->route_links.count);
    return (int)n->route_start.count - 2;
}

struct route {
    const uint32_t *begin, *end;
};

static struct route route_of(const struct net *n, uint32_t cell)
{
    const uint32_t *start = &n->route_start.at[n->hot.at[cell].route];
    return (struct route){n->route_links.at + start[0], n->route_links.at + start[1]};
}

/* ---- cells and link lists ---- */

static void cell_unref(struct net *n, uint32_t cell)
{
    if (--n->flows.at[cell].refs == 0)
        PUSH(n->spare, cell);
}

/* Drops the dead flows of a link's list. */
static void link_sweep(struct net *n, struct link *l)
{
    if (l->count == l->alive)
        return;
    size_t keep = 0;
    for (size_t i = 0; i < l->count; i++) {
        uint32_t cell = l->flows[i];
        if (n->flows.at[cell].alive)
            l->flows[keep++] = cell;
        else
            cell_unref(n, cell);
    }
    l->count = keep;
}

static void flow_finish(struct net *n, uint32_t cell)
{
    struct flow *f = &n->flows.at[cell];
    f->alive = false;
    n->active--;
    n->events++;
    PUSH(n->ended, f->tag);
    struct route r = route_of(n, cell);
    for (const uint32_t *l = r.begin; l < r.end; l++) {
        struct link *link = &n->links.at[*l];
        link->carried += f->total;
        if (--link->alive == 0)
            link_sweep(n, link);
    }
}

/* ---- components ---- */

static uint32_t comp_take(struct net *n)
{
    if (n->spare_comps.count)
        return n->spare_comps.at[--n->spare_comps.count];
    PUSH(n->comps, (struct comp){0});
    return (uint32_t)n->comps.count - 1;
}

/* Brings the flows of a component up to `now` and makes them loose; with `fire`, those at their end
 * finish. */
static void comp_dissolve(struct net *n, uint32_t id, sim_time now, bool fire)
{
    struct comp *c = &n->comps.at[id];
    double passed = (double)(now - c->since);
    for (size_t i = 0; i < c->count; i++) {
        struct flow *f = &n->flows.at[c->flows[i]];
        double rate = n->hot.at[c->flows[i]].rate;
        f->left -= rate * passed;
        f->comp = -1;
        if (fire && (f->left <= rate || f->left <= n->merge * f->total))
            flow_finish(n, c->flows[i]);
        else
            PUSH(n->loose, c->flows[i]);
    }
    c->count = 0;
    c->version++;
    PUSH(n->spare_comps, id);
}

static void link_dissolve(struct net *n, struct link *l)
{
    if (l->mark == n->epoch)
        return;
    l->mark = n->epoch;
    link_sweep(n, l);
    for (size_t i = 0; i < l->count; i++) { /* all settled flows of a link are in one component */
        int32_t comp = n->flows.at[l->flows[i]].comp;
        if (comp >= 0) {
            comp_dissolve(n, (uint32_t)comp, n->now, false);
            return;
        }
    }
}

/* ---- progressive filling ---- */

static void levels_sift(struct level *h, size_t count, size_t i)
{
    struct level x = h[i];
    for (size_t k; (k = 2 * i + 1) < count; i = k) {
        if (k + 1 < count && h[k + 1].share < h[k].share)
            k++;
        if (x.share <= h[k].share)
            break;
        h[i] = h[k];
    }
    h[i] = x;
}

static void levels_pop(struct net *n)
{
    n->levels.at[0] = n->levels.at[--n->levels.count];
    if (n->levels.count)
        levels_sift(n->levels.at, n->levels.count, 0);
}

/* Moves the links of the least share to step_links; their share, or -1 when none is left. Keys in
 * the heap may be too low, never too high. */
static double levels_next(struct net *n)
{
    double least = -1;
    n->step_links.count = 0;
    while (n->levels.count) {
        struct level *top = n->levels.at;
        const struct share *s = &n->shares.at[top->link];
        if (least >= 0 && top->share > least * (1 + 1e-12))
            break;
        if (s->open == 0) {
            levels_pop(n);
            continue;
        }
        double share = s->left / s->open;
        if (share > top->share && !(least >= 0 && share <= least * (1 + 1e-12))) {
            top->share = share;
            levels_sift(top, n->levels.count, 0);
            continue;
        }
        if (least < 0)
            least = share;
        PUSH(n->step_links, top->link);
        levels_pop(n);
    }
    return least;
}

static void flow_fix(struct net *n, uint32_t cell, double rate)
{
    n->hot.at[cell].rate = rate;
    struct route r = route_of(n, cell);
    for (const uint32_t *l = r.begin; l < r.end; l++)
        if (n->shares.at[*l].fixed_now++ == 0)
            PUSH(n->step_fixed, *l);
}

/* Fixes the flows of step_links at `rate` and takes them off all links they use. */
static void step_fix(struct net *n, double rate)
{
    n->step_fixed.count = 0;
    for (size_t i = 0; i < n->step_links.count; i++) {
        const struct link *l = &n->links.at[n->step_links.at[i]];
        const struct share *s = &n->shares.at[n->step_links.at[i]];
        for (size_t k = 0; k < l->count && s->fixed_now < s->open; k++) {
            if (n->hot.at[l->flows[k]].rate < 0)
                flow_fix(n, l->flows[k], rate);
        }
    }
    for (size_t i = 0; i < n->step_fixed.count; i++) {
        struct share *s = &n->shares.at[n->step_fixed.at[i]];
        s->left = fmax(0, s->left - s->fixed_now * rate);
        s->open -= s->fixed_now;
        s->fixed_now = 0;
    }
}

static void comp_fill(struct net *n, const struct comp *c)
{
    n->levels.count = 0;
    for (uint32_t id = c->first_link; id != NO_LINK; id = n->links.at[id].next) {
        const struct link *l = &n->links.at[id];
        n->shares.at[id] = (struct share){l->rate, l->alive, 0};
        PUSH(n->levels, ((struct level){l->rate / l->alive, id}));
    }
    for (size_t i = n->levels.count / 2; i-- > 0;)
        levels_sift(n->levels.at, n->levels.count, i);
    for (double rate; (rate = levels_next(n)) >= 0;)
        step_fix(n, rate);
    n->solutions++;
}

/* ---- settling ---- */

static uint32_t root_of(struct net *n, uint32_t link)
{
    struct link *l = n->links.at;
    while (l[link].parent != link)
        link = l[link].parent = l[l[link].parent].parent;
    return link;
}

/* Joins the links of a flow; a link met for the first time begins as a component of its own. */
static void links_join(struct net *n, uint32_t cell)
{
    struct route r = route_of(n, cell);
    uint32_t root = NO_LINK;
    for (const uint32_t *i = r.begin; i < r.end; i++) {
        struct link *l = &n->links.at[*i];
        if (l->mark != n->epoch) {
            l->mark = n->epoch;
            l->parent = *i;
            l->owner = -1;
            link_sweep(n, l);
            PUSH(n->comp_links, *i);
        }
        uint32_t mine = root_of(n, *i);
        if (root != NO_LINK)
            n->links.at[root].parent = mine;
        root = mine;
    }
}

static void comp_add_flow(struct net *n, uint32_t cell)
{
    struct link *root = &n->links.at[root_of(n, *route_of(n, cell).begin)];
    if (root->owner < 0) {
        root->owner = (int32_t)comp_take(n);
        n->comps.at[root->owner].since = n->now;
        n->comps.at[root->owner].first_link = NO_LINK;
        PUSH(n->new_comps, (uint32_t)root->owner);
    }
    struct comp *c = &n->comps.at[root->owner];
    c->flows = sim_grow(c->flows, c->count + 1, &c->room, sizeof *c->flows);
    c->flows[c->count++] = cell;
    n->flows.at[cell].comp = root->owner;
    n->hot.at[cell].rate = -1;
}

/* Sorts the loose flows, and the links they use, into new components. Flows are visited in the
 * order of their cells' making, link lists not at all: that is what the cache likes. */
static void comps_find(struct net *n)
{
    n->comp_links.count = n->new_comps.count = 0;
    for (size_t i = 0; i < n->loose.count; i++)
        links_join(n, n->loose.at[i]);
    for (size_t i = 0; i < n->loose.count; i++)
        comp_add_flow(n, n->loose.at[i]);
    for (size_t i = 0; i < n->comp_links.count; i++) {
        uint32_t id = n->comp_links.at[i];
        struct comp *c = &n->comps.at[n->links.at[root_of(n, id)].owner];
        n->links.at[id].next = c->first_link;
        c->first_link = id;
    }
}

static void comp_schedule(struct net *n, uint32_t id)
{
    const struct comp *c = &n->comps.at[id];
    double wait = INFINITY;
    for (size_t i = 0; i < c->count; i++) {
        const struct flow *f = &n->flows.at[c->flows[i]];
        double t =
            f->left <= 0
                ? 0
                : f->left / n->hot.at[c->flows[i]].rate; /* rate 0, a link that is down: never */
        wait = fmin(wait, t);
    }
    if (wait < 9e18 - (double)n->now)
        sim_queue_push(n->queue, (struct sim_event){.time = n->now + (sim_time)llrint(wait),
                                                    .who = (int)id,
                                                    .what = c->version});
}

static void settle(struct net *n)
{
    if (n->fresh.count + n->loose.count + n->touched.count == 0)
        return;
    n->epoch++;
    for (size_t i = 0; i < n->touched.count; i++)
        link_dissolve(n, &n->links.at[n->touched.at[i]]);
    for (size_t i = 0; i < n->fresh.count; i++) {
        struct route r = route_of(n, n->fresh.at[i]);
        for (const uint32_t *l = r.begin; l < r.end; l++)
            link_dissolve(n, &n->links.at[*l]);
        PUSH(n->loose, n->fresh.at[i]);
    }
    n->epoch++;
    comps_find(n);
    for (size_t i = 0; i < n->new_comps.count; i++) {
        comp_fill(n, &n->comps.at[n->new_comps.at[i]]);
        comp_schedule(n, n->new_comps.at[i]);
    }
    n->fresh.count = n->loose.count = n->touched.count = 0;
}

static void move_to(struct net *n, sim_time now)
{
    assert(now >= n->now);
    if (now > n->now)
        settle(n);
    n->now = now;
}

void net_link_set(struct net *n, sim_time now, int link, double bytes_per_s)
{
    assert(bytes_per_s >= 0 && isfinite(bytes_per_s));
    move_to(n, now);
    n->links.at[link].rate = bytes_per_s * 1e-12;
    PUSH(n->touched, (uint32_t)link);
}

void net_flow(struct net *n, sim_time now, int route, double bytes, uint64_t tag)
{
    assert(bytes >= 0 && route >= 0 && (size_t)route + 1 < n->route_start.count);
    move_to(n, now);
    uint32_t cell;
    if (n->spare.count) {
        cell = n->spare.at[--n->spare.count];
    } else {
        PUSH(n->flows, (struct flow){0});
        PUSH(n->hot, (struct hot){0});
        cell = (uint32_t)n->flows.count - 1;
    }
    struct flow *f = &n->flows.at[cell];
    *f = (struct flow){.left = bytes, .total = bytes, .tag = tag, .comp = -1, .alive = true};
    n->hot.at[cell] = (struct hot){0, (uint32_t)route};
    struct route r = route_of(n, cell);
    f->refs = (uint16_t)(r.end - r.begin);
    for (const uint32_t *i = r.begin; i < r.end; i++) {
        struct link *l = &n->links.at[*i];
        l->flows = sim_grow(l->flows, l->count + 1, &l->room, sizeof *l->flows);
        l->flows[l->count++] = cell;
        l->alive++;
    }
    n->active++;
    n->events++;
    PUSH(n->fresh, cell);
}

static const struct sim_event *next_end(struct net *n)
{
    const struct sim_event *ev;
    struct sim_event stale;
    while ((ev = sim_queue_peek(n->queue)) && n->comps.at[ev->who].version != (uint32_t)ev->what)
        sim_queue_pop(n->queue, &stale);
    return ev;
}

sim_time net_next(struct net *n)
{
    if (n->taken < n->ended.count)
        return n->now;
    settle(n);
    const struct sim_event *ev = next_end(n);
    return ev ? ev->time : SIM_NEVER;
}

bool net_end(struct net *n, sim_time now, uint64_t *tag)
{
    move_to(n, now);
    if (n->taken == n->ended.count) {
        n->taken = n->ended.count = 0;
        const struct sim_event *ev;
        while ((ev = next_end(n)) && ev->time <= now) {
            assert(ev->time == now);
            comp_dissolve(n, (uint32_t)ev->who, now, true);
        }
    }
    if (n->taken == n->ended.count)
        return false;
    *tag = n->ended.at[n->taken++];
    return true;
}

void net_merge(struct net *n, double share)
{
    assert(share >= 0 && share < 1);
    n->merge = share;
}

double net_load(const struct net *n, int link)
{
    const struct link *l = &n->links.at[link];
    return l->alive && l->rate > 0 ? 1 - n->shares.at[link].left / l->rate : 0;
}

double net_carried(const struct net *n, int link)
{
    return n->links.at[link].carried;
}

double net_link_rate(const struct net *n, int link)
{
    return n->links.at[link].rate * 1e12;
}

int net_links(const struct net *n)
{
    return (int)n->links.count;
}

int net_active(const struct net *n)
{
    return n->active;
}

uint64_t net_events(const struct net *n)
{
    return n->events;
}

uint64_t net_solutions(const struct net *n)
{
    return n->solutions;
}

size_t net_bytes(const struct net *n)
{
    size_t sum = sizeof *n;
#define ADD(v) sum += (v).room * sizeof *(v).at
    ADD(n->links), ADD(n->shares), ADD(n->route_links), ADD(n->route_start), ADD(n->flows),
        ADD(n->spare);
    ADD(n->comps), ADD(n->spare_comps), ADD(n->new_comps), ADD(n->hot), ADD(n->fresh),
        ADD(n->loose), ADD(n->touched), ADD(n->comp_links);
    ADD(n->step_links), ADD(n->step_fixed), ADD(n->levels), ADD(n->ended);
#undef ADD
    for (size_t i = 0; i < n->links.count; i++)
        sum += n->links.at[i].room * sizeof(uint32_t);
    for (size_t i = 0; i < n->comps.count; i++)
        sum += n->comps.at[i].room * sizeof(uint32_t);
    return sum;
}
