#include "sim/fault.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "base/qty.h"

static const char *const part_names[FAULT_PARTS] = {"gpu", "nic", "nvlink"};

/* ---- reading ---- */

static bool wrong(const char *item, struct err_at at, struct err *e)
{
    return err_set(e, ERR_INPUT, at,
                   "'%.60s': want a part, its GPU and its share, such as gpu5=0.8, nic3=0.5, "
                   "nvlink2=0.25, nic3=0@10ms-12ms or nic3=0@10ms-12ms/50ms",
                   item);
}

static bool parse_times(char *text, struct err_at at, struct fault *f, struct err *e)
{
    char *dash = strchr(text, '-');
    if (!dash)
        return err_set(e, ERR_INPUT, at, "'@%.40s': want from when to when, such as @10ms-12ms",
                       text);
    *dash = '\0';
    char *slash = strchr(dash + 1, '/');
    if (slash)
        *slash = '\0';
    if (slash && !qty_parse(slash + 1, QTY_SECONDS, "period of the fault", at, &f->every_s, e))
        return false;
    if (!qty_parse(text, QTY_SECONDS, "begin of the fault", at, &f->from_s, e) ||
        !qty_parse(dash + 1, QTY_SECONDS, "end of the fault", at, &f->until_s, e))
        return false;
    if (slash && !(f->every_s > f->until_s - f->from_s))
        return err_set(e, ERR_INPUT, at,
                       "'@%.40s-%.40s/%.40s': want a period longer than the fault", text, dash + 1,
                       slash + 1);
    return f->until_s > f->from_s ||
           err_set(e, ERR_INPUT, at, "'@%.40s-%.40s': ends before it begins", text, dash + 1);
}

/* `item` is cut up. */
static bool parse_item(char *item, struct err_at at, struct arena *a, struct fault *f,
                       struct err *e)
{
    const char *whole = arena_strdup(a, item);
    char *equals = strchr(item, '='), *times = strchr(item, '@');
    size_t digits = strcspn(item, "0123456789");
    int64_t gpu;
    *f = (struct fault){.part = FAULT_PARTS, .until_s = INFINITY};
    for (int i = 0; i < FAULT_PARTS; i++)
        if (strlen(part_names[i]) == digits && strncmp(item, part_names[i], digits) == 0)
            f->part = (enum fault_part)i;
    if (f->part == FAULT_PARTS || !equals || (times && times < equals))
        return wrong(whole, at, e);
    *equals = '\0';
    if (times)
        *times = '\0';
    if (!qty_parse_int(item + digits, 0, 1 << 20, "GPU", at, &gpu, e) ||
        !qty_parse(equals + 1, QTY_RATIO, "share of the usual speed", at, &f->share, e) ||
        (times && !parse_times(times + 1, at, f, e)))
        return false;
    f->gpu = (int)gpu;
    if (!(f->share <= 1))
        return err_set(e, ERR_INPUT, at, "'%.60s': a share of at most 1", whole);
    if (f->part == FAULT_GPU && (times || f->share == 0))
        return err_set(e, ERR_INPUT, at, "'%.60s': a GPU is slow all the time, at a share above 0",
                       whole);
    return true;
}

bool fault_parse(const char *text, struct err_at at, struct arena *a, struct fault **out,
                 int *count, struct err *e)
{
    char *copy = arena_strdup(a, text), *next = copy;
    struct fault *f = ARENA_ARRAY(a, struct fault, FAULTS_MOST);
    int n = 0;
    while (next) {
        char *item = next, *comma = strchr(item, ',');
        next = comma ? comma + 1 : NULL;
        if (comma)
            *comma = '\0';
        if (n == FAULTS_MOST)
            return err_set(e, ERR_INPUT, at, "over %d faults", FAULTS_MOST);
        if (!parse_item(item, at, a, &f[n++], e))
            return false;
    }
    *out = f;
    *count = n;
    return true;
}

/* ---- onto a topology ---- */

/* The edges of a GPU's port, both ways: NVLink's at the GPU; the NIC's own on the way to another
 * server. */
static int port_edges(const struct topo *t, const struct fault *f, int *edges, int room)
{
    int count = 0, me = t->gpus[f->gpu];
    if (f->part == FAULT_NVLINK) {
        for (int i = 0; i < t->edge_count && count < room; i++) {
            const struct topo_edge *g = &t->edges[i];
            int other = g->from == me ? g->to : g->to == me ? g->from : -1;
            if (other >= 0 &&
                (t->nodes[other].kind == TOPO_NVSWITCH || t->nodes[other].kind == TOPO_GPU))
                edges[count++] = i;
        }
        return count;
    }
    int far = 0, way[256], steps, nic = -1;
    while (far < t->gpu_count && t->nodes[t->gpus[far]].host == t->nodes[me].host)
        far++;
    if (far == t->gpu_count)
        return 0;
    struct wire *w = wire_new(t);
    steps = wire_edges(w, f->gpu, far, way, 256);
    wire_free(w);
    for (int i = 0; i < steps && i < 256 && nic < 0; i++)
        if (t->nodes[t->edges[way[i]].to].kind == TOPO_NIC)
            nic = t->edges[way[i]].to;
    for (int i = 0; i < t->edge_count && count < room && nic >= 0; i++) {
        const struct topo_edge *g = &t->edges[i];
        int other = g->from == nic ? g->to : g->to == nic ? g->from : -1;
        if (other >= 0 && t->nodes[other].kind == TOPO_SWITCH)
            edges[count++] = i;
    }
    return count;
}

static int by_time(const void *x, const void *y)
{
    const struct play_fault *a = x, *b = y;
    if (a->at_s != b->at_s)
        return a->at_s < b->at_s ? -1 : 1;
    return b->share < a->share ? -1
                               : b->share > a->share; /* up before down: what touches is down */
}

struct faults {
    struct play_fault *at;
    int count, room;
    struct arena *a;
};

static void faults_push(struct faults *l, struct play_fault f)
{
    if (l->count == l->room) {
        struct play_fault *more =
            ARENA_ARRAY(l->a, struct play_fault, (size_t)(l->room = 2 * l->room + 64));
        if (l->count)
            memcpy(more, l->at, (size_t)l->count * sizeof *more);
        l->at = more;
    }
    l->at[l->count++] = f;
}

static void faults_add(struct faults *l, const struct fault *f, int edge)
{
    for (int i = 0; i < (f->every_s > 0 ? FAULT_REPEATS : 1); i++) {
        double from = f->from_s + i * f->every_s, until = f->until_s + i * f->every_s;
        faults_push(l, (struct play_fault){edge, from, f->share});
        if (isfinite(until))
            faults_push(l, (struct play_fault){edge, until, 1});
    }
}

bool fault_apply(const struct fault *f, int count, const struct topo *t, struct play_what *what,
                 struct arena *a, struct err_at at, struct err *e)
{
    enum { PORT_EDGES = 64 };
    double *speed = ARENA_ARRAY(a, double, t->gpu_count);
    struct faults all = {.a = a};
    for (int g = 0; g < t->gpu_count; g++)
        speed[g] = 1;
    for (int i = 0; i < count; i++) {
        if (f[i].gpu >= t->gpu_count)
            return err_set(e, ERR_INPUT, at, "%s%d: there are GPUs 0 to %d", part_names[f[i].part],
                           f[i].gpu, t->gpu_count - 1);
        if (f[i].part == FAULT_GPU) {
            speed[f[i].gpu] *= f[i].share;
            continue;
        }
        int edges[PORT_EDGES], found = port_edges(t, &f[i], edges, PORT_EDGES);
        if (found == 0)
            return err_set(e, ERR_INPUT, at, "%s%d: a link in no path; GPU %d has no %s",
                           part_names[f[i].part], f[i].gpu, f[i].gpu,
                           f[i].part == FAULT_NIC ? "way to another server" : "NVLink");
        for (int k = 0; k < found; k++)
            faults_add(&all, &f[i], edges[k]);
    }
    if (all.count)
        qsort(all.at, (size_t)all.count, sizeof *all.at, by_time);
    what->gpu_speed = speed;
    what->faults = all.at;
    what->fault_count = all.count;
    return true;
}
