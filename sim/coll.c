#include "sim/coll.h"

#include <assert.h>
#include <math.h>

/* NCCL src/graph/tuning.cc, Hopper: base latencies of rings, hop latencies of NVLink and network.
 */
const struct coll_protocol coll_protocols[COLL_PROTOCOLS] = {
    [COLL_LL] = {"LL", 6.6e-6, 0.6e-6, 2.7e-6, 0.5}, /* 4 of 8 bytes are flags */
    [COLL_LL128] = {"LL128", 14e-6, 1.9e-6, 4.0e-6, 0.92},
    [COLL_SIMPLE] = {"Simple", 8.4e-6, 3.4e-6, 14e-6, 1},
};

const struct coll_protocol *coll_protocol_best(const struct coll *c, double bytes,
                                               double bytes_per_s, double *extra_s)
{
    const struct coll_protocol *best = NULL;
    double least = INFINITY;
    int near = 0, far = 0;
    for (int s = 0; s < c->stage_count; s++) {
        near += c->stage[s].near_steps;
        far += c->stage[s].far_steps;
    }
    for (int i = 0; i < COLL_PROTOCOLS; i++) {
        const struct coll_protocol *p = &coll_protocols[i];
        double latency = p->base_s + near * p->near_hop_s + far * p->far_hop_s;
        double s = latency + bytes / (p->efficiency * bytes_per_s);
        if (s < least) {
            least = s;
            best = p;
            *extra_s = latency;
        }
    }
    return best;
}

/* ---- making lists ---- */

static struct coll_stage *stage_add(struct coll *c, int most, bool together, struct arena *a)
{
    struct coll_stage *s = &c->stage[c->stage_count++];
    s->messages = ARENA_ARRAY(a, struct play_message, most > 0 ? most : 1);
    s->together = together;
    return s;
}

static void say(struct coll_stage *s, int from, int to, double bytes)
{
    if (from != to && bytes > 0)
        s->messages[s->count++] = (struct play_message){from, to, bytes};
}

static bool crosses(int n, const int *host)
{
    for (int i = 1; i < n; i++)
        if (host[i] != host[0])
            return true;
    return false;
}

/* Members a server when all servers have the same number and their members are neighbours; else 0.
 */
static int per_server(int n, const int *host)
{
    int w = 1;
    while (w < n && host[w] == host[0])
        w++;
    for (int i = 0; i < n; i++)
        if (n % w || host[i] != host[i / w * w] || (i % w == 0 && i > 0 && host[i] == host[i - 1]))
            return 0;
    return w;
}

struct coll coll_alltoallv(int n, const double *bytes, const int *host, struct arena *a)
{
    struct coll c = {.members = n};
    struct coll_stage *s = stage_add(&c, n * n, false, a);
    for (int i = 0; i < n; i++)
        for (int j = 0; j < n; j++)
            say(s, i, j, bytes[(size_t)i * (size_t)n + (size_t)j]);
    s->near_steps = !crosses(n, host);
    s->far_steps = !s->near_steps;
    return c;
}

struct coll coll_shift(int n, const double *bytes, const int *host, struct arena *a)
{
    struct coll c = {.members = n};
    struct coll_stage *s = stage_add(&c, n, false, a);
    for (int i = 0; i < n; i++)
        say(s, i, (i + 1) % n, bytes[i]);
    s->near_steps = !crosses(n, host);
    s->far_steps = !s->near_steps;
    return c;
}

/* Rings whose edge i -> next carries `whole` less less_from[i] and less_to[next]. */
static struct coll rings(int n, double whole, const double *less_from, const double *less_to,
                         const int *host, int laps, struct arena *a)
{
    struct coll c = {.members = n};
    int w = per_server(n, host), k = w ? n / w : 0;
    struct coll_stage *s = stage_add(&c, 2 * n, true, a);
    bool many = w > 1 && k > 1;
    for (int i = 0; i < n; i++) {
        int near = many ? i / w * w + (i + 1) % w : (i + 1) % n, far = (i + w) % n;
        double near_bytes = whole - (less_from ? less_from[i] : 0) - (less_to ? less_to[near] : 0);
        if (!many) {
            say(s, i, near, near_bytes);
            continue;
        }
        double far_bytes = whole - (less_from ? less_from[i] : 0) - (less_to ? less_to[far] : 0);
        say(s, i, near, near_bytes * (w - 1) / w);
        say(s, i, far, far_bytes / w);
    }
    s->far_steps = laps * (k > 1 ? k - 1 : 0);
    s->near_steps = laps * (n - 1) - s->far_steps;
    return c;
}

static double sum_of(const double *v, int n)
{
    double sum = 0;
    for (int i = 0; i < n; i++)
        sum += v[i];
    return sum;
}

struct coll coll_allgather(int n, const double *share, const int *host, struct arena *a)
{
    return rings(n, sum_of(share, n), NULL, share, host, 1, a);
}

struct coll coll_reduce_scatter(int n, const double *share, const int *host, struct arena *a)
{
    return rings(n, sum_of(share, n), share, NULL, host, 1, a);
}

struct coll coll_allreduce_ring(int n, double bytes, const int *host, struct arena *a)
{
    return rings(n, 2 * bytes * (n - 1) / n, NULL, NULL, host, 2, a);
}

/* In-order binary tree over 0..k-1: odd ones are leaves; the parent of i differs in the two lowest
 * bits from its lowest set bit on. 0 is the root. */
static int tree_parent(int i, int k)
{
    int bit = i & -i;
    if (i == 0)
        return -1;
    int up = (i ^ bit) | (bit << 1);
    return up < k ? up : i ^ bit;
}

static int tree_depth(int i, int k)
{
    int depth = 0;
    for (; i > 0; depth++)
        i = tree_parent(i, k);
    return depth;
}

/* One tree: servers in the tree of `parent`, a chain over the server's members starting at place
 * `lead`. */
static void tree_say(struct coll_stage *s, int w, int k, int lead, bool mirrored, double bytes)
{
    for (int server = 0; server < k; server++) {
        int up = tree_parent(mirrored ? k - 1 - server : server, k);
        if (up >= 0) {
            int parent = (mirrored ? k - 1 - up : up) * w + lead;
            say(s, server * w + lead, parent, bytes);
            say(s, parent, server * w + lead, bytes);
        }
        for (int i = 0; i + 1 < w; i++) {
            int x = server * w + (lead + i) % w, y = server * w + (lead + i + 1) % w;
            say(s, y, x, bytes);
            say(s, x, y, bytes);
        }
    }
}

struct coll coll_allreduce_tree(int n, double bytes, const int *host, struct arena *a)
{
    struct coll c = {.members = n};
    int w = per_server(n, host);
    if (w == 0 || w == n)
        w = 1; /* one server or uneven ones: a tree over all members */
    int k = n / w, trees = w == 1 ? 2 : w, depth = 0;
    struct coll_stage *s = stage_add(&c, 2 * trees * n, true, a);
    for (int t = 0; t < trees; t++)
        tree_say(s, w, k, w == 1 ? 0 : t, t % 2 == 1, bytes / trees);
    for (int i = 0; i < k; i++)
        depth = tree_depth(i, k) > depth ? tree_depth(i, k) : depth;
    bool far = crosses(n, host);
    s->far_steps = far ? 2 * depth : 0;
    s->near_steps = 2 * (w - 1) + (far ? 0 : 2 * depth);
    return c;
}

struct coll coll_allgather_levels(int n, const double *share, const int *host, struct arena *a)
{
    struct coll c = {.members = n};
    int w = per_server(n, host);
    assert(w > 0);
    struct coll_stage *far = stage_add(&c, n * (n / w), false, a),
                      *near = stage_add(&c, n * w, false, a);
    for (int i = 0; i < n; i++) {
        double held = 0;
        for (int j = i % w; j < n; j += w) {
            say(far, i, j, share[i]);
            held += share[j];
        }
        for (int j = i / w * w; j < i / w * w + w; j++)
            say(near, i, j, held);
    }
    far->far_steps = n > w;
    near->near_steps = w > 1;
    return c;
}

struct coll coll_groupcast(int n, const double *need, const double *unions, const int *host,
                           struct arena *a)
{
    struct coll c = {.members = n};
    int w = per_server(n, host);
    assert(w > 0);
    struct coll_stage *far = stage_add(&c, n * n, false, a), *near = stage_add(&c, n * n, false, a);
    for (int i = 0; i < n; i++)
        for (int j = 0; j < n; j++) {
            size_t at = (size_t)i * (size_t)n + (size_t)j;
            int via = j / w * w + i % w;
            if (j / w == i / w)
                say(far, i, j, need[at]); /* a server's own members need no relay */
            else if (j == via)
                say(far, i, j, unions[at]);
            else
                say(near, via, j, need[at]);
        }
    far->far_steps = n > w;
    near->near_steps = w > 1;
    return c;
}

struct coll_tasks coll_add(struct play_graph *g, const struct coll *c, const int *gpus, int phase,
                           double calls, double extra_s, double scale)
{
    struct coll_tasks t = {0};
    for (int s = 0; s < c->stage_count; s++) {
        const struct coll_stage *stage = &c->stage[s];
        for (int i = 0; i < stage->count && scale != 1; i++)
            stage->messages[i].bytes *= scale;
        struct play_exchange x = {.members = c->members,
                                  .gpus = gpus,
                                  .phase = phase,
                                  .together = stage->together,
                                  .calls = calls,
                                  .extra_s = s == 0 ? extra_s : 0,
                                  .messages = stage->messages,
                                  .message_count = stage->count};
        int first = play_exchange(g, &x);
        for (int i = 0; s > 0 && i < c->members; i++)
            play_after(g, first + i, t.last + i);
        t.first = s == 0 ? first : t.first;
        t.last = first;
    }
    return t;
}
