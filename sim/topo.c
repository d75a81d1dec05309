/* Routing is by destination, as InfiniBand forwarding tables are: one tree a destination GPU, found
 * backwards. */
#include "sim/topo.h"

#include <assert.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

struct topo *topo_new(struct arena *a)
{
    struct topo *t = ARENA_NEW(a, struct topo);
    t->arena = a;
    return t;
}

int topo_add(struct topo *t, enum topo_kind kind, int host, const char *name)
{
    t->nodes = arena_widen(t->arena, t->nodes, t->node_count, &t->node_room, sizeof *t->nodes);
    t->nodes[t->node_count] = (struct topo_node){arena_strdup(t->arena, name), kind, host};
    t->gpu_count += kind == TOPO_GPU;
    return t->node_count++;
}

void topo_edge(struct topo *t, int from, int to, double bytes_per_s, double latency_s)
{
    assert(from != to && from < t->node_count && to < t->node_count);
    t->edges = arena_widen(t->arena, t->edges, t->edge_count, &t->edge_room, sizeof *t->edges);
    t->edges[t->edge_count++] = (struct topo_edge){from, to, bytes_per_s, latency_s};
}

void topo_join(struct topo *t, int x, int y, double bytes_per_s, double latency_s)
{
    topo_edge(t, x, y, bytes_per_s, latency_s);
    topo_edge(t, y, x, bytes_per_s, latency_s);
}

/* ---- checks ---- */

static bool edges_check(const struct topo *t, struct err_at at, struct err *e)
{
    for (int i = 0; i < t->edge_count; i++) {
        const struct topo_edge *g = &t->edges[i];
        if (!(g->bytes_per_s > 0) || !isfinite(g->bytes_per_s))
            return err_set(e, ERR_INPUT, at,
                           "the link from %s to %s has %g bytes/s; a link needs a rate above zero",
                           t->nodes[g->from].name, t->nodes[g->to].name, g->bytes_per_s);
        if (!(g->latency_s >= 0) || g->latency_s > 1)
            return err_set(e, ERR_INPUT, at,
                           "the link from %s to %s has a latency of %g s; want 0 to 1 s",
                           t->nodes[g->from].name, t->nodes[g->to].name, g->latency_s);
    }
    return true;
}

/* Marks what reaches GPU 0 (or is reached from it) in `seen`. */
static void flood(const struct topo *t, bool forward, bool *seen, struct arena *scratch)
{
    memset(seen, 0, (size_t)t->node_count);
    int *stack = ARENA_ARRAY(scratch, int, t->node_count), depth = 0;
    int *start = ARENA_ARRAY(scratch, int, t->node_count + 2),
        *list = ARENA_ARRAY(scratch, int, t->edge_count);
    for (int i = 0; i < t->edge_count; i++)
        start[(forward ? t->edges[i].from : t->edges[i].to) + 2]++;
    for (int v = 0; v < t->node_count; v++)
        start[v + 2] += start[v + 1];
    for (int i = 0; i < t->edge_count; i++)
        list[start[(forward ? t->edges[i].from : t->edges[i].to) + 1]++] =
            forward ? t->edges[i].to : t->edges[i].from;
    stack[depth++] = t->gpus[0];
    seen[t->gpus[0]] = true;
    while (depth) {
        int v = stack[--depth];
        for (int k = start[v]; k < start[v + 1]; k++)
            if (!seen[list[k]]) {
                seen[list[k]] = true;
                stack[depth++] = list[k];
            }
    }
}

static bool connected(const struct topo *t, struct err_at at, struct err *e)
{
    struct arena *scratch = arena_new();
    bool *seen = ARENA_ARRAY(scratch, bool, t->node_count), ok = true;
    for (int pass = 0; pass < 2 && ok; pass++) {
        flood(t, pass == 0, seen, scratch);
        for (int g = 0; g < t->gpu_count && ok; g++)
            if (!seen[t->gpus[g]])
                ok = err_set(e, ERR_INPUT, at, "not connected: no path from %s to %s",
                             t->nodes[t->gpus[pass == 0 ? 0 : g]].name,
                             t->nodes[t->gpus[pass == 0 ? g : 0]].name);
    }
    arena_free(scratch);
    return ok;
}

static bool no_dead_ends(const struct topo *t, struct err_at at, struct err *e)
{
    for (int v = 0; v < t->node_count; v++) {
        int first = -1;
        bool through = false;
        for (int k = t->in_start[v]; k < t->in_start[v + 1]; k++) {
            int from = t->edges[t->in_edges[k]].from;
            through |= first >= 0 && from != first;
            first = from;
        }
        enum topo_kind kind = t->nodes[v].kind;
        if ((kind == TOPO_NVSWITCH || kind == TOPO_SWITCH) && !through)
            return err_set(e, ERR_INPUT, at,
                           "%s joins nothing: its links are in no path between GPUs",
                           t->nodes[v].name);
    }
    return true;
}

bool topo_finish(struct topo *t, struct err_at at, struct err *e)
{
    if (t->gpu_count == 0)
        return err_set(e, ERR_INPUT, at, "no GPU in the topology");
    t->gpus = ARENA_ARRAY(t->arena, int, t->gpu_count);
    for (int v = 0, g = 0; v < t->node_count; v++)
        if (t->nodes[v].kind == TOPO_GPU)
            t->gpus[g++] = v;
    t->in_start = ARENA_ARRAY(t->arena, int, t->node_count + 2);
    t->in_edges = ARENA_ARRAY(t->arena, int, t->edge_count + 1);
    for (int i = 0; i < t->edge_count; i++)
        t->in_start[t->edges[i].to + 2]++;
    for (int v = 0; v < t->node_count; v++)
        t->in_start[v + 2] += t->in_start[v + 1];
    for (int i = 0; i < t->edge_count; i++)
        t->in_edges[t->in_start[t->edges[i].to + 1]++] = i;
    return edges_check(t, at, e) && connected(t, at, e) && no_dead_ends(t, at, e);
}

/* ---- a preset's wires ---- */

struct build {
    struct topo *t;
    const struct hw_cluster *c;
    struct topo_fabric f;
    int nics;  /* per server */
    int *leaf; /* switch of each (server, NIC) */
};

static void name_add(struct build *b, enum topo_kind kind, int host, const char *what, int i,
                     int *out)
{
    const char *name = host < 0 ? arena_printf(b->t->arena, "%s%d", what, i)
                                : arena_printf(b->t->arena, "node%d/%s%d", host, what, i);
    *out = topo_add(b->t, kind, host, name);
}

static void add_leaves(struct build *b)
{
    int per = b->f.leaf_nodes ? b->f.leaf_nodes : b->c->nodes;
    int groups = (b->c->nodes + per - 1) / per, leaves = b->f.rails ? groups * b->nics : groups;
    int *ids = ARENA_ARRAY(b->t->arena, int, leaves);
    for (int i = 0; i < leaves; i++)
        name_add(b, TOPO_SWITCH, -1, "leaf", i, &ids[i]);
    for (int h = 0; h < b->c->nodes; h++)
        for (int k = 0; k < b->nics; k++)
            b->leaf[h * b->nics + k] = ids[b->f.rails ? h / per * b->nics + k : h / per];
    int spines = leaves > 1 ? b->f.spines : 0;
    for (int s = 0; s < spines; s++) {
        int spine;
        name_add(b, TOPO_SWITCH, -1, "spine", s, &spine);
        for (int i = 0; i < leaves; i++) {
            int group = b->f.rails ? i / b->nics : i;
            int servers = group == groups - 1 ? b->c->nodes - per * (groups - 1) : per;
            double below = (double)servers * (b->f.rails ? 1 : b->nics) * b->c->nic.bytes_per_s *
                           b->c->nic.efficiency;
            topo_join(b->t, ids[i], spine, below / (b->f.oversubscription * spines), b->f.hop_s);
        }
    }
}

static double pcie_rate(const struct hw_cluster *c)
{
    return c->pcie_bytes_per_s > 0 ? c->pcie_bytes_per_s : c->nic.bytes_per_s * c->nic.efficiency;
}

static int add_nic(struct build *b, int host, int k)
{
    int nic;
    name_add(b, TOPO_NIC, host, "nic", k, &nic);
    topo_join(b->t, nic, b->leaf[host * b->nics + k], b->c->nic.bytes_per_s * b->c->nic.efficiency,
              0);
    return nic;
}

/* The CPU, below it a PCIe switch for each NIC, below that the NIC and the GPUs that share it: the
 * links of GPUs carry what they send through the NIC and to the host. */
static void add_host(struct build *b, int host, const int *gpu)
{
    const struct hw_cluster *c = b->c;
    int cpu, pci = -1, nic;
    name_add(b, TOPO_CPU, host, "cpu", 0, &cpu);
    for (int l = 0; l < c->gpus_per_node; l++) {
        if (l % c->gpus_per_nic == 0) {
            int k = l / c->gpus_per_nic;
            name_add(b, TOPO_PCI, host, "pci", k, &pci);
            topo_join(b->t, pci, cpu, pcie_rate(c), 0);
            if (b->nics > 0) {
                nic = add_nic(b, host, k);
                topo_edge(b->t, pci, nic, pcie_rate(c), c->nic.latency_s);
                topo_edge(b->t, nic, pci, pcie_rate(c), 0);
            }
        }
        topo_join(b->t, gpu[l], pci, pcie_rate(c), 0);
    }
}

static void add_server(struct build *b, int host)
{
    const struct hw_cluster *c = b->c;
    int *gpu = ARENA_ARRAY(b->t->arena, int, c->gpus_per_node), nvswitch, nic;
    for (int l = 0; l < c->gpus_per_node; l++)
        name_add(b, TOPO_GPU, host, "gpu", l, &gpu[l]);
    if (c->gpus_per_node > 1) {
        name_add(b, TOPO_NVSWITCH, host, "nvswitch", 0, &nvswitch);
        for (int l = 0; l < c->gpus_per_node; l++) {
            double rate = c->nvlink.bytes_per_s * c->nvlink.efficiency;
            topo_edge(b->t, gpu[l], nvswitch, rate, c->nvlink.latency_s);
            topo_edge(b->t, nvswitch, gpu[l], rate, 0);
        }
    }
    if (b->f.host) {
        add_host(b, host, gpu);
        return;
    }
    for (int k = 0; k < b->nics; k++) {
        nic = add_nic(b, host, k);
        for (int l = k * c->gpus_per_nic; l < c->gpus_per_node && l < (k + 1) * c->gpus_per_nic;
             l++) {
            topo_edge(b->t, gpu[l], nic, pcie_rate(c), c->nic.latency_s);
            topo_edge(b->t, nic, gpu[l], pcie_rate(c), 0);
        }
    }
}

static bool fabric_check(const struct topo_fabric *f, struct err_at at, struct err *e)
{
    if (f->leaf_nodes < 0 || f->spines < 0 || f->spines > 4096)
        return err_set(e, ERR_INPUT, at,
                       "%d servers a leaf and %d spines: want 0 or more, at most 4096 spines",
                       f->leaf_nodes, f->spines);
    if (f->oversubscription < 0 || (f->oversubscription > 0 && f->oversubscription < 1) ||
        !isfinite(f->oversubscription))
        return err_set(e, ERR_INPUT, at, "oversubscription %g: want 1 (full bisection) or more",
                       f->oversubscription);
    return true;
}

struct topo *topo_of_cluster(const struct hw_cluster *c, const struct topo_fabric *f,
                             struct arena *a, struct err_at at, struct err *e)
{
    struct build b = {.t = topo_new(a), .c = c};
    if (f) {
        if (!fabric_check(f, at, e))
            return NULL;
        b.f = *f;
    }
    if (b.f.spines == 0)
        b.f.spines = 1;
    if (b.f.oversubscription == 0)
        b.f.oversubscription = 1;
    b.t->pxn = b.f.pxn;
    if (c->nodes > 1) {
        b.nics = (c->gpus_per_node + c->gpus_per_nic - 1) / c->gpus_per_nic;
        b.leaf = ARENA_ARRAY(a, int, c->nodes *b.nics);
        add_leaves(&b);
    }
    for (int h = 0; h < c->nodes; h++)
        add_server(&b, h);
    return topo_finish(b.t, at, e) ? b.t : NULL;
}

/* ---- routes ---- */

enum {
    ROUTE_MOST = 1024
}; /* edges of one route; far above any real fabric; XML_DEPTH bounds what a file can make */

struct wire {
    const struct topo *t;
    struct net *net;
    int *link_of;      /* [edge]: link of the net; the edges of a row of them share one */
    double *rate;      /* [edge] bytes/s, as set last */
    int **next;        /* [destination GPU][node]: edge to take, -1 none; made when first used */
    int *routes;       /* [from * gpus + to]: net route + 1, or 0 */
    int *loops;        /* [gpu]: net route + 1, or 0 */
    int *hosts;        /* [2 * gpu + to host]: net route + 1, or 0 */
    sim_time *latency; /* by net route */
    size_t latency_room;
    int *hops, *order; /* scratch of one tree */
    double *width;
};

static void *zeroed(size_t count, size_t size)
{
    size_t none = 0;
    void *p = sim_grow(NULL, count ? count : 1, &none, size);
    memset(p, 0, (count ? count : 1) * size);
    return p;
}

/* The only edge out of a NIC's node that does not lead back to where `edge` came from; -1: more or
 * none, or not a NIC. What comes in over `edge` all goes on over it: the two are one link, the
 * slower. */
static int only_way_on(const struct topo *t, const int *out_start, const int *out_edges, int edge)
{
    int v = t->edges[edge].to, on = -1, back = 0;
    if (t->nodes[v].kind != TOPO_NIC || t->in_start[v + 1] - t->in_start[v] != 2)
        return -1;
    for (int k = out_start[v]; k < out_start[v + 1]; k++) {
        if (t->edges[out_edges[k]].to == t->edges[edge].from)
            back++;
        else
            on = on < 0 ? out_edges[k] : t->edge_count;
    }
    return back == 1 && on < t->edge_count ? on : -1;
}

static void links_make(struct wire *w)
{
    const struct topo *t = w->t;
    int *start = zeroed((size_t)t->node_count + 2, sizeof *start),
        *out = zeroed((size_t)t->edge_count, sizeof *out);
    for (int i = 0; i < t->edge_count; i++) {
        start[t->edges[i].from + 2]++;
        w->link_of[i] = -1;
        w->rate[i] = t->edges[i].bytes_per_s;
    }
    for (int v = 0; v < t->node_count; v++)
        start[v + 2] += start[v + 1];
    for (int i = 0; i < t->edge_count; i++)
        out[start[t->edges[i].from + 1]++] = i;
    for (int i = 0; i < t->edge_count; i++) {
        int on = only_way_on(t, start, out, i);
        if (on >= 0)
            w->link_of[on] = w->link_of[i] = net_link(w->net, fmin(w->rate[i], w->rate[on]));
    }
    for (int i = 0; i < t->edge_count; i++)
        if (w->link_of[i] < 0)
            w->link_of[i] = net_link(w->net, w->rate[i]);
    free(start);
    free(out);
}

struct wire *wire_new(const struct topo *t)
{
    struct wire *w = zeroed(1, sizeof *w);
    w->t = t;
    w->net = net_new();
    w->link_of = zeroed((size_t)t->edge_count, sizeof *w->link_of);
    w->rate = zeroed((size_t)t->edge_count, sizeof *w->rate);
    links_make(w);
    w->next = zeroed((size_t)t->gpu_count, sizeof *w->next);
    w->routes = zeroed((size_t)t->gpu_count * (size_t)t->gpu_count, sizeof *w->routes);
    w->loops = zeroed((size_t)t->gpu_count, sizeof *w->loops);
    w->hosts = zeroed(2 * (size_t)t->gpu_count, sizeof *w->hosts);
    w->hops = zeroed((size_t)t->node_count, sizeof *w->hops);
    w->order = zeroed((size_t)t->node_count, sizeof *w->order);
    w->width = zeroed((size_t)t->node_count, sizeof *w->width);
    return w;
}

void wire_free(struct wire *w)
{
    if (!w)
        return;
    for (int g = 0; g < w->t->gpu_count; g++)
        free(w->next[g]);
    void *blocks[] = {w->link_of, w->rate,    w->next, w->routes, w->loops,
                      w->hosts,   w->latency, w->hops, w->order,  w->width};
    for (size_t i = 0; i < sizeof blocks / sizeof *blocks; i++)
        free(blocks[i]);
    net_free(w->net);
    free(w);
}

struct net *wire_net(struct wire *w)
{
    return w->net;
}

void wire_rate_set(struct wire *w, sim_time now, int edge, double bytes_per_s)
{
    int link = w->link_of[edge];
    w->rate[edge] = bytes_per_s;
    for (int i = 0; i < w->t->edge_count; i++)
        if (w->link_of[i] == link)
            bytes_per_s = fmin(bytes_per_s, w->rate[i]);
    net_link_set(w->net, now, link, bytes_per_s);
}

double wire_carried(const struct wire *w, int edge)
{
    return net_carried(w->net, w->link_of[edge]);
}

double wire_load(const struct wire *w, int edge)
{
    int link = w->link_of[edge];
    return w->rate[edge] > 0 ? net_load(w->net, link) * net_link_rate(w->net, link) / w->rate[edge]
                             : 0;
}

struct pick { /* of a node: the edges that lead nearer by the widest way */
    double width;
    int count, seen;
};

/* GPUs forward nothing unless there is no other way: seen through one, a node is this much farther.
 */
enum { THROUGH_GPU = 100000 };

static int level_of(const struct wire *w, int u, int root)
{
    bool through = u != root && w->t->nodes[u].kind == TOPO_GPU;
    return w->hops[u] + (through ? THROUGH_GPU : 0);
}

static void tree_expand(struct wire *w, int u, int root, struct pick *picks, int *tail)
{
    const struct topo *t = w->t;
    int level = level_of(w, u, root);
    w->width[u] = u == root ? INFINITY : picks[u].width;
    for (int k = t->in_start[u]; k < t->in_start[u + 1]; k++) {
        const struct topo_edge *g = &t->edges[t->in_edges[k]];
        if (w->hops[g->from] < 0) {
            w->hops[g->from] = level + 1;
            w->order[(*tail)++] = g->from;
        }
        if (w->hops[g->from] != level + 1)
            continue;
        struct pick *p = &picks[g->from];
        double width = fmin(g->bytes_per_s, w->width[u]);
        if (width > p->width)
            *p = (struct pick){.width = width};
        p->count += width == p->width;
    }
}

/* Breadth first from the destination, along edges backwards; hops first, then width. Returns how
 * many nodes. */
static int tree_grow(struct wire *w, int root, struct pick *picks)
{
    int head = 0, late = 0, tail = 0;
    w->hops[root] = 0;
    w->order[tail++] = root;
    while (late < tail) {
        while (head < tail) {
            int u = w->order[head++];
            if (u == root || w->t->nodes[u].kind != TOPO_GPU)
                tree_expand(w, u, root, picks, &tail);
        }
        int u = w->order[late++];
        if (u != root && w->t->nodes[u].kind == TOPO_GPU)
            tree_expand(w, u, root, picks, &tail);
    }
    return tail;
}

/* The edge that each node takes to a destination. Equal ways are shared out by destination: GPU
 * number plus server number, so that the GPUs of one rail do not all meet on one spine. */
static int *tree_make(struct wire *w, int to_gpu)
{
    const struct topo *t = w->t;
    int root = t->gpus[to_gpu],
        spread = to_gpu + (t->nodes[root].host > 0 ? t->nodes[root].host : 0);
    int *next = zeroed((size_t)t->node_count, sizeof *next);
    struct pick *picks = zeroed((size_t)t->node_count, sizeof *picks);
    for (int v = 0; v < t->node_count; v++)
        next[v] = w->hops[v] = -1;
    int count = tree_grow(w, root, picks);
    for (int i = 0; i < count; i++) {
        int u = w->order[i], level = level_of(w, u, root);
        for (int k = t->in_start[u]; k < t->in_start[u + 1]; k++) {
            int edge = t->in_edges[k], v = t->edges[edge].from;
            struct pick *p = &picks[v];
            if (w->hops[v] == level + 1 &&
                fmin(t->edges[edge].bytes_per_s, w->width[u]) == p->width &&
                p->seen++ == spread % p->count)
                next[v] = edge;
        }
    }
    free(picks);
    return next;
}

static const int *tree_of(struct wire *w, int to_gpu)
{
    if (!w->next[to_gpu])
        w->next[to_gpu] = tree_make(w, to_gpu);
    return w->next[to_gpu];
}

/* From any node of its tree to a GPU. */
static int walk_node(struct wire *w, int v, int to_gpu, int *edges)
{
    const int *next = tree_of(w, to_gpu);
    int count = 0;
    while (v != w->t->gpus[to_gpu]) {
        int edge = next[v];
        assert(edge >= 0 && count < ROUTE_MOST); /* topo_finish saw that all GPUs are connected */
        edges[count++] = edge;
        v = w->t->edges[edge].to;
    }
    return count;
}

static int walk(struct wire *w, int from_gpu, int to_gpu, int *edges)
{
    return walk_node(w, w->t->gpus[from_gpu], to_gpu, edges);
}

/* The sender's neighbour on the rail of `to`: the GPU of its own server whose route there ends at
 * the same leaf; -1 when the sender is on that rail or in the same server. */
static int pxn_via(const struct wire *w, int from_gpu, int to_gpu)
{
    const struct topo *t = w->t;
    int host = t->nodes[t->gpus[from_gpu]].host, other = t->nodes[t->gpus[to_gpu]].host;
    if (!t->pxn || host == other)
        return -1;
    int first = from_gpu, place = to_gpu;
    while (first > 0 && t->nodes[t->gpus[first - 1]].host == host)
        first--;
    while (place > 0 && t->nodes[t->gpus[place - 1]].host == other)
        place--;
    int via = first + to_gpu - place;
    bool there = via < t->gpu_count && t->nodes[t->gpus[via]].host == host;
    return there && via != from_gpu ? via : -1;
}

static int full_walk(struct wire *w, int from_gpu, int to_gpu, int *edges)
{
    int via = pxn_via(w, from_gpu, to_gpu);
    if (via < 0)
        return walk(w, from_gpu, to_gpu, edges);
    int count = walk(w, from_gpu, via, edges);
    return count + walk(w, via, to_gpu, edges + count);
}

/* `edges` become links. */
static int route_add(struct wire *w, int *edges, int count)
{
    double sum = 0;
    int used = 0;
    for (int i = 0; i < count; i++) {
        int link = w->link_of[edges[i]];
        sum += w->t->edges[edges[i]].latency_s;
        if (used == 0 || edges[used - 1] != link)
            edges[used++] = link;
    }
    int route = net_route(w->net, edges, used);
    w->latency = sim_grow(w->latency, (size_t)route + 1, &w->latency_room, sizeof *w->latency);
    w->latency[route] = sim_time_of(sum);
    return route;
}

int wire_route(struct wire *w, int from_gpu, int to_gpu, sim_time *latency)
{
    assert(from_gpu != to_gpu);
    int edges[2 * ROUTE_MOST],
        *slot = &w->routes[(size_t)from_gpu * (size_t)w->t->gpu_count + (size_t)to_gpu];
    if (*slot == 0)
        *slot = route_add(w, edges, full_walk(w, from_gpu, to_gpu, edges)) + 1;
    if (latency)
        *latency = w->latency[*slot - 1];
    return *slot - 1;
}

/* Out as to the GPU's image on the next server, in as from there; the way's two halves have equal
 * lengths. */
int wire_loop(struct wire *w, int gpu, sim_time *latency)
{
    if (w->loops[gpu] == 0) {
        int host = w->t->nodes[w->t->gpus[gpu]].host, other = 0, first = 0, edges[ROUTE_MOST],
            back[ROUTE_MOST];
        while (w->t->nodes[w->t->gpus[first]].host != host)
            first++;
        while (other < w->t->gpu_count && w->t->nodes[w->t->gpus[other]].host == host)
            other++;
        other = other < w->t->gpu_count ? other + gpu - first
                                        : gpu == 0; /* one server: by way of a neighbour */
        int count = walk(w, gpu, other, edges), in = walk(w, other, gpu, back);
        memcpy(edges + count / 2, back + in / 2, (size_t)(in - in / 2) * sizeof *edges);
        w->loops[gpu] = route_add(w, edges, count / 2 + in - in / 2) + 1;
    }
    if (latency)
        *latency = w->latency[w->loops[gpu] - 1];
    return w->loops[gpu] - 1;
}

/* The same way back. False where a link goes one way only. */
static bool turn_round(const struct topo *t, int *edges, int count)
{
    for (int i = 0; i < count; i++) {
        const struct topo_edge *g = &t->edges[edges[i]];
        int back = -1;
        for (int k = t->in_start[g->from]; k < t->in_start[g->from + 1]; k++)
            if (t->edges[t->in_edges[k]].from == g->to)
                back = t->in_edges[k];
        if (back < 0)
            return false;
        edges[i] = back;
    }
    for (int i = 0; i < count / 2; i++) {
        int edge = edges[i];
        edges[i] = edges[count - 1 - i];
        edges[count - 1 - i] = edge;
    }
    return true;
}

int wire_host(struct wire *w, int gpu, bool to_host)
{
    const struct topo *t = w->t;
    int *slot = &w->hosts[2 * gpu + to_host], edges[ROUTE_MOST], least = 0, near = -1;
    for (int v = 0; *slot == 0 && v < t->node_count; v++) {
        if (t->nodes[v].kind != TOPO_CPU || t->nodes[v].host != t->nodes[t->gpus[gpu]].host ||
            !tree_of(w, gpu) || w->next[gpu][v] < 0)
            continue;
        int count = walk_node(w, v, gpu, edges);
        if (near < 0 || count < least) {
            near = v;
            least = count;
        }
    }
    if (*slot == 0 && near < 0)
        return -1;
    if (*slot == 0) {
        int count = walk_node(w, near, gpu, edges);
        if (to_host && !turn_round(t, edges, count))
            return -1;
        *slot = route_add(w, edges, count) + 1;
    }
    return *slot - 1;
}

bool topo_has_host(const struct topo *t)
{
    struct wire *w = wire_new(t);
    bool all = true;
    for (int g = 0; g < t->gpu_count && all; g++)
        all = wire_host(w, g, true) >= 0 && wire_host(w, g, false) >= 0;
    wire_free(w);
    return all;
}

int wire_edges(struct wire *w, int from_gpu, int to_gpu, int *edges, int room)
{
    int all[2 * ROUTE_MOST], count = full_walk(w, from_gpu, to_gpu, all);
    for (int i = 0; i < count && i < room; i++)
        edges[i] = all[i];
    return count;
}
