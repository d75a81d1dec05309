/* How the rates are kept exact and cheap.
 *
 * Flows that share a link are neighbours; a component is a connected set of them with one entry in
 * the queue, its first end. A start or a new link rate dissolves the components it touches: their
 * flows are brought up to date and go to `loose`; settle() finds the new components among the loose
 * flows before time moves on. Ends can only split a component, and one that is really two is merely
 * dearer, so it is kept until half of its flows are gone and only its rates are found anew.
 *
 * A component is filled progressively: the link with the least fair share (what is left of its rate
 * by its unfixed flows) closes at that share, its level, which fixes its flows, and so on. Shares
 * only grow while filling, so a heap with stale keys finds the next link; all links of equal share
 * close as one step, so that the sums do not depend on their order. The rate of a flow is the least
 * level of its links: nothing is written to flows. A flow of two links, the usual case, names in
 * each the other one, so that filling reads flows in the order of the links' lists and the links,
 * which are few, out of order; longer routes are looked up.
 *
 * A solution costs O(flows x route length + links log links).
 */
#include "sim/net.h"

#include <assert.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

struct flow { /* what is read only when it starts and ends */
    double total;
    uint64_t tag;
    uint32_t route;
    int32_t comp;  /* -1: loose */
    uint16_t refs; /* link lists that name this cell; the cell is free for reuse at 0 */
};

/* The links of a flow: both ends of a route of two; the same twice for a route of one. */
struct pair {
    uint32_t one, two; /* MANY, no matter: more links than two */
};
#define MANY    UINT32_MAX
#define NO_LINK UINT32_MAX

struct link {
    double rate; /* bytes per ps */
    double carried;
    uint32_t *cells, *others; /* flows, dead ones included until they are swept; struct pair's other
                                 link */
    size_t count, cell_room, other_room;
    uint64_t mark;
    uint32_t alive;
    uint32_t parent; /* while components are found: union-find */
    int32_t comp;    /* at a root while they are found; then of every link that has flows */
};

struct share {    /* a link while its component is filled, and until the next time */
    double left;  /* of its rate */
    double open;  /* flows not fixed */
    double taken; /* 1; 0 of a link at its level, from which nothing more is taken */
};

struct comp {
    sim_time since;
    uint32_t version; /* queue entries of older versions are stale */
    bool stale;       /* flows have ended since its rates were found */
    size_t found;     /* flows when it was found */
    uint32_t *flows, *links;
    size_t count, room, link_count, link_room;
};

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
    double merge, largest; /* bytes of the largest flow so far */
    uint64_t epoch;
    uint64_t events, solutions;
    int active;
    VEC(struct link) links;
    VEC(struct share) shares;  /* by link */
    VEC(double) level;         /* by link; infinite: it limits none of its flows */
    VEC(uint32_t) route_links; /* routes one after another */
    VEC(uint32_t) route_start; /* routes + 1 entries */
    VEC(struct flow) flows;    /* by cell, as the next three */
    VEC(double) left;          /* bytes */
    VEC(struct pair) pairs;
    VEC(bool) alive;
    VEC(uint32_t) spare; /* free flow cells */
    VEC(struct comp) comps;
    VEC(uint32_t) spare_comps, new_comps, stale_comps;
    VEC(uint32_t) fresh, loose, touched;  /* flows, flows, links to settle */
    VEC(uint32_t) comp_links, step_links; /* scratch of one solution */
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
    for (size_t i = 0; i < n->links.count; i++) {
        free(n->links.at[i].cells);
        free(n->links.at[i].others);
    }
    for (size_t i = 0; i < n->comps.count; i++) {
        free(n->comps.at[i].flows);
        free(n->comps.at[i].links);
    }
    void *blocks[] = {n->links.at,       n->shares.at,      n->level.at,      n->route_links.at,
                      n->route_start.at, n->flows.at,       n->left.at,       n->pairs.at,
                      n->alive.at,       n->spare.at,       n->comps.at,      n->spare_comps.at,
                      n->new_comps.at,   n->stale_comps.at, n->fresh.at,      n->loose.at,
                      n->touched.at,     n->comp_links.at,  n->step_links.at, n->levels.at,
                      n->ended.at};
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
    PUSH(n->level, INFINITY);
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
    const uint32_t *start = &n->route_start.at[n->flows.at[cell].route];
    return (struct route){n->route_links.at + start[0], n->route_links.at + start[1]};
}

static double least_level(const struct net *n, uint32_t cell)
{
    struct route r = route_of(n, cell);
    double rate = INFINITY;
    for (const uint32_t *l = r.begin; l < r.end; l++)
        rate = fmin(rate, n->level.at[*l]);
    return rate;
}

static inline double flow_rate(const struct net *n, uint32_t cell)
{
    struct pair p = n->pairs.at[cell];
    if (p.one == MANY)
        return least_level(n, cell);
    double one = n->level.at[p.one], two = n->level.at[p.two];
    return one < two ? one : two;
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
        uint32_t cell = l->cells[i];
        if (n->alive.at[cell]) {
            l->others[keep] = l->others[i];
            l->cells[keep++] = cell;
        } else {
            cell_unref(n, cell);
        }
    }
    l->count = keep;
}

static void flow_finish(struct net *n, uint32_t cell)
{
    struct flow *f = &n->flows.at[cell];
    n->alive.at[cell] = false;
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

/* Brings the flows of a component up to now. */
static void comp_advance(struct net *n, struct comp *c)
{
    double passed = (double)(n->now - c->since);
    c->since = n->now;
    c->version++;
    if (passed == 0)
        return;
    for (size_t i = 0; i < c->count; i++)
        n->left.at[c->flows[i]] -= flow_rate(n, c->flows[i]) * passed;
}

static void comp_dissolve(struct net *n, uint32_t id)
{
    struct comp *c = &n->comps.at[id];
    comp_advance(n, c);
    for (size_t i = 0; i < c->count; i++) {
        n->flows.at[c->flows[i]].comp = -1;
        PUSH(n->loose, c->flows[i]);
    }
    c->count = c->link_count = 0;
    c->stale = false;
    PUSH(n->spare_comps, id);
}

/* Brings a component up to now; its flows that are at their end finish, and its rates are to be
 * found anew. */
static void comp_fire(struct net *n, uint32_t id)
{
    struct comp *c = &n->comps.at[id];
    double passed = (double)(n->now - c->since), near = n->merge * n->largest;
    size_t keep = 0;
    for (size_t i = 0; i < c->count; i++) {
        uint32_t cell = c->flows[i];
        double rate = flow_rate(n, cell), left = n->left.at[cell] - rate * passed;
        n->left.at[cell] = left;
        c->flows[keep++] = cell;
        if (left <= rate || (left <= near && left <= n->merge * n->flows.at[cell].total)) {
            keep--;
            flow_finish(n, cell);
        }
    }
    c->since = n->now;
    c->version++;
    c->count = keep;
    c->stale = true;
    PUSH(n->stale_comps, id);
}

static void link_dissolve(struct net *n, struct link *l)
{
    if (l->mark == n->epoch)
        return;
    l->mark = n->epoch;
    link_sweep(n, l);
    for (size_t i = 0; i < l->count; i++) { /* all settled flows of a link are in one component */
        int32_t comp = n->flows.at[l->cells[i]].comp;
        if (comp >= 0) {
            comp_dissolve(n, (uint32_t)comp);
            return;
        }
    }
}

/* ---- progressive filling ---- */

/* levels.at[count] is a sentinel, so that the lesser child is found without a branch. */
static void levels_sift(struct level *h, size_t count, size_t i)
{
    struct level x = h[i];
    for (size_t k; (k = 2 * i + 1) < count; i = k) {
        k += h[k + 1].share < h[k].share;
        if (x.share <= h[k].share)
            break;
        h[i] = h[k];
    }
    h[i] = x;
}

static void levels_pop(struct net *n)
{
    struct level *h = n->levels.at;
    h[0] = h[--n->levels.count];
    h[n->levels.count].share = INFINITY;
    if (n->levels.count)
        levels_sift(h, n->levels.count, 0);
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
        double share = s->left > 0 ? s->left / s->open : 0;
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

/* Takes a flow off a link, if that has not closed: without a branch, which no processor could
 * guess.
 */
static inline void share_take(struct share *s, double rate)
{
    s->left -= s->taken * rate;
    s->open -= s->taken;
}

/* Takes a flow of many links off all of them, unless one that has closed had fixed it. */
static void take_many(struct net *n, uint32_t cell, double rate)
{
    struct route r = route_of(n, cell);
    for (const uint32_t *l = r.begin; l < r.end; l++)
        if (n->shares.at[*l].taken == 0)
            return;
    for (const uint32_t *l = r.begin; l < r.end; l++)
        share_take(&n->shares.at[*l], rate);
}

/* Closes a link at `rate`: takes its unfixed flows off the other links they use. */
static void link_close(struct net *n, uint32_t id, double rate)
{
    const struct link *l = &n->links.at[id];
    for (size_t i = 0; i < l->count; i++) {
        if (l->others[i] == MANY)
            take_many(n, l->cells[i], rate);
        else
            share_take(&n->shares.at[l->others[i]], rate);
    }
    n->shares.at[id] = (struct share){0};
    n->level.at[id] = rate;
}

/* The component's links that still have flows, with nothing taken yet. */
static void comp_open(struct net *n, struct comp *c, uint32_t id)
{
    size_t keep = 0;
    n->levels.count = 0;
    for (size_t i = 0; i < c->link_count; i++) {
        uint32_t link = c->links[i];
        struct link *l = &n->links.at[link];
        if (l->alive == 0 || l->comp != (int32_t)id)
            continue;
        link_sweep(n, l);
        c->links[keep++] = link;
        n->level.at[link] = INFINITY;
        n->shares.at[link] = (struct share){l->rate, l->alive, 1};
        PUSH(n->levels, ((struct level){l->rate / l->alive, link}));
    }
    c->link_count = keep;
}

static void comp_fill(struct net *n, uint32_t id)
{
    comp_open(n, &n->comps.at[id], id);
    PUSH(n->levels, ((struct level){INFINITY, NO_LINK})); /* the sentinel */
    n->levels.count--;
    for (size_t i = n->levels.count / 2; i-- > 0;)
        levels_sift(n->levels.at, n->levels.count, i);
    for (double rate; (rate = levels_next(n)) >= 0;)
        for (size_t i = 0; i < n->step_links.count; i++)
            link_close(n, n->step_links.at[i], rate);
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
            l->comp = -1;
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
    if (root->comp < 0) {
        root->comp = (int32_t)comp_take(n);
        n->comps.at[root->comp].since = n->now;
        PUSH(n->new_comps, (uint32_t)root->comp);
    }
    struct comp *c = &n->comps.at[root->comp];
    c->flows = sim_grow(c->flows, c->count + 1, &c->room, sizeof *c->flows);
    c->flows[c->count++] = cell;
    n->flows.at[cell].comp = root->comp;
}

static void comp_add_link(struct net *n, uint32_t link)
{
    int32_t id = n->links.at[link].comp = n->links.at[root_of(n, link)].comp;
    struct comp *c = &n->comps.at[id];
    c->links = sim_grow(c->links, c->link_count + 1, &c->link_room, sizeof *c->links);
    c->links[c->link_count++] = link;
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
    for (size_t i = 0; i < n->comp_links.count; i++)
        comp_add_link(n, n->comp_links.at[i]);
}

static void comp_schedule(struct net *n, uint32_t id)
{
    const struct comp *c = &n->comps.at[id];
    double wait = 9e18; /* rate 0, a link that is down: never */
    for (size_t i = 0; i < c->count; i++) {
        double left = n->left.at[c->flows[i]], rate = flow_rate(n, c->flows[i]);
        if (left <= wait * rate)
            wait = left <= 0 ? 0 : left / rate;
    }
    if (wait < 9e18 - (double)n->now)
        sim_queue_push(n->queue, (struct sim_event){.time = n->now + (sim_time)llrint(wait),
                                                    .who = (int)id,
                                                    .what = c->version});
}

static void comp_solve(struct net *n, uint32_t id)
{
    comp_fill(n, id);
    comp_schedule(n, id);
}

/* A component that lost flows is kept while it has half of them. */
static void comp_renew(struct net *n, uint32_t id)
{
    struct comp *c = &n->comps.at[id];
    if (!c->stale)
        return;
    c->stale = false;
    if (2 * c->count > c->found)
        comp_solve(n, id);
    else
        comp_dissolve(n, id);
}

static void settle(struct net *n)
{
    if (n->fresh.count + n->loose.count + n->touched.count + n->stale_comps.count == 0)
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
    for (size_t i = 0; i < n->stale_comps.count; i++)
        comp_renew(n, n->stale_comps.at[i]);
    n->epoch++;
    comps_find(n);
    for (size_t i = 0; i < n->new_comps.count; i++) {
        n->comps.at[n->new_comps.at[i]].found = n->comps.at[n->new_comps.at[i]].count;
        comp_solve(n, n->new_comps.at[i]);
    }
    n->fresh.count = n->loose.count = n->touched.count = n->stale_comps.count = 0;
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

static uint32_t cell_take(struct net *n)
{
    if (n->spare.count)
        return n->spare.at[--n->spare.count];
    PUSH(n->flows, (struct flow){0});
    PUSH(n->left, 0);
    PUSH(n->pairs, ((struct pair){0, 0}));
    PUSH(n->alive, false);
    return (uint32_t)n->flows.count - 1;
}

static void link_add_flow(struct net *n, uint32_t id, uint32_t cell)
{
    struct link *l = &n->links.at[id];
    struct pair p = n->pairs.at[cell];
    l->cells = sim_grow(l->cells, l->count + 1, &l->cell_room, sizeof *l->cells);
    l->others = sim_grow(l->others, l->count + 1, &l->other_room, sizeof *l->others);
    l->cells[l->count] = cell;
    l->others[l->count++] = p.one == id ? p.two : p.one; /* MANY is `one` */
    l->alive++;
}

void net_flow(struct net *n, sim_time now, int route, double bytes, uint64_t tag)
{
    assert(bytes >= 0 && route >= 0 && (size_t)route + 1 < n->route_start.count);
    move_to(n, now);
    uint32_t cell = cell_take(n);
    n->flows.at[cell] =
        (struct flow){.total = bytes, .tag = tag, .route = (uint32_t)route, .comp = -1};
    struct route r = route_of(n, cell);
    n->flows.at[cell].refs = (uint16_t)(r.end - r.begin);
    n->left.at[cell] = bytes;
    n->largest = fmax(n->largest, bytes);
    n->alive.at[cell] = true;
    n->pairs.at[cell] =
        r.end - r.begin > 2 ? (struct pair){MANY, MANY} : (struct pair){r.begin[0], r.end[-1]};
    for (const uint32_t *i = r.begin; i < r.end; i++)
        link_add_flow(n, *i, cell);
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
            comp_fire(n, (uint32_t)ev->who);
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
    const struct share s = n->shares.at[link];
    if (l->alive == 0 || l->rate == 0)
        return 0;
    return 1 - fmax(0, s.left) / l->rate;
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
    ADD(n->links), ADD(n->shares), ADD(n->level), ADD(n->route_links), ADD(n->route_start);
    ADD(n->flows), ADD(n->left), ADD(n->pairs), ADD(n->alive), ADD(n->spare);
    ADD(n->comps), ADD(n->spare_comps), ADD(n->new_comps), ADD(n->stale_comps);
    ADD(n->fresh), ADD(n->loose), ADD(n->touched), ADD(n->comp_links), ADD(n->step_links);
    ADD(n->levels), ADD(n->ended);
#undef ADD
    for (size_t i = 0; i < n->links.count; i++)
        sum += (n->links.at[i].cell_room + n->links.at[i].other_room) * sizeof(uint32_t);
    for (size_t i = 0; i < n->comps.count; i++)
        sum += (n->comps.at[i].room + n->comps.at[i].link_room) * sizeof(uint32_t);
    return sum;
}
