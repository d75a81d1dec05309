#include "sim/step.h"

#include <assert.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "sim/coll.h"
#include "sim/regime.h"
#include "sim/ring.h"

struct sim_options sim_options_default(void)
{
    return (struct sim_options){.sm_share = 8.0 / 132, .sync_s = 15e-6};
}

struct build {
    struct step *s;
    struct play_graph *g;
    const struct hw_cluster *cluster;
    const struct sim_options *o;
    const struct cp_conf *conf; /* of the program at hand */
    const struct cp_program *p;
    int base;                /* GPU of rank 0 of the replica at hand */
    int *tail;               /* [gpu]: last task, -1 none */
    int *host_tail;          /* [gpu]: last that the host did */
    int *out_tail, *in_tail; /* [gpu]: last copy to and from the host */
    int *begun,
        *begun_before; /* [gpu]: where the backward of this block and of the last one began */
    int label_room;
    bool by_place; /* labels are places in the program */
    bool record;   /* fill spans */
    struct arena *a, *scratch;
};

/* ---- labels ---- */

static int label_of(struct build *b, const char *name, enum cp_pass pass, enum cost_class cost,
                    bool exchange)
{
    struct step *s = b->s;
    for (int i = 0; i < s->label_count; i++)
        if (s->labels[i].pass == pass && strcmp(s->labels[i].name, name) == 0)
            return i;
    if (s->label_count == b->label_room) {
        b->label_room = b->label_room ? 2 * b->label_room : 64;
        struct step_label *more = ARENA_ARRAY(b->a, struct step_label, b->label_room);
        for (int i = 0; i < s->label_count; i++)
            more[i] = s->labels[i];
        s->labels = more;
    }
    s->labels[s->label_count] = (struct step_label){arena_strdup(b->a, name), pass, cost, exchange};
    return s->label_count++;
}

/* Labels of a phase: its own, its hops', its sync's. */
struct labels {
    int own, hops, sync;
};

static struct labels labels_of(struct build *b, int place)
{
    const struct cp_phase *p = &b->p->phases[place];
    int n = b->p->phase_count;
    if (b->by_place)
        return (struct labels){place, n + place, 2 * n};
    struct labels l = {.own = label_of(b, p->name, p->pass, p->cost,
                                       p->kind != PHASE_COMPUTE && p->kind != PHASE_RING)};
    if (p->kind == PHASE_RING)
        l.hops =
            label_of(b, arena_printf(b->scratch, "%s hops", p->name), p->pass, CLASS_P2P, true);
    if (strcmp(p->name, "index exchange") == 0)
        l.sync = label_of(b, "host sync", p->pass, CLASS_SELECT, false);
    return l;
}

static void label_places(struct build *b)
{
    int n = b->p->phase_count;
    b->s->label_count = 2 * n + 1;
    b->s->labels = ARENA_ARRAY(b->a, struct step_label, b->s->label_count);
    for (int i = 0; i < n; i++) {
        const struct cp_phase *p = &b->p->phases[i];
        bool moves = p->kind != PHASE_COMPUTE && p->kind != PHASE_RING;
        b->s->labels[i] = (struct step_label){p->name, p->pass, p->cost, moves};
        b->s->labels[n + i] = (struct step_label){p->name, p->pass, CLASS_P2P, true};
    }
    b->s->labels[2 * n] = (struct step_label){"host sync", PASS_FORWARD, CLASS_SELECT, false};
}

/* ---- one rank's chain ---- */

static void span(struct build *b, int place, int rank, int first, int last)
{
    if (b->record)
        b->s->spans[place * b->p->ranks + rank] = (struct step_span){b->base + rank, first, last};
}

static void chain(struct build *b, int gpu, int first, int last)
{
    if (b->tail[gpu] >= 0)
        play_after(b->g, first, b->tail[gpu]);
    b->tail[gpu] = last;
}

/* `task` begins when the host has issued it: `calls` launches after what it did before. */
static void launched(struct build *b, int gpu, int task, int calls)
{
    if (b->o->launch_s <= 0)
        return;
    int label = b->by_place ? 2 * b->p->phase_count
                            : label_of(b, "host launch", PASS_FORWARD, CLASS_SELECT, false);
    int launch = play_work(b->g, gpu, PLAY_HOST, calls * b->o->launch_s, label);
    if (b->host_tail[gpu] >= 0)
        play_after(b->g, launch, b->host_tail[gpu]);
    b->host_tail[gpu] = launch;
    play_after(b->g, task, launch);
}

static void add_work(struct build *b, int gpu, enum play_lane lane, double seconds, int label)
{
    int task = play_work(b->g, gpu, lane, seconds, label);
    if (lane == PLAY_HOST)
        b->host_tail[gpu] = task;
    else
        launched(b, gpu, task, 1);
    chain(b, gpu, task, task);
}

/* ---- rows and columns ---- */

/* The ranks of `rank`'s row, column or tensor group, in order. */
static int members_of(const struct build *b, enum phase_scope scope, int rank, int *ranks)
{
    int h = cp_head_rank(b->conf, rank), s = cp_seq_rank(b->conf, rank), g = b->conf->head_groups;
    int n = scope == SCOPE_ROW      ? g
            : scope == SCOPE_COLUMN ? b->conf->seq_groups
                                    : cp_tensor(b->conf);
    for (int i = 0; i < n; i++)
        ranks[i] = scope == SCOPE_ROW      ? cp_rank_at(b->conf, h - h % g + i, s)
                   : scope == SCOPE_COLUMN ? cp_rank_at(b->conf, h, i)
                                           : rank - rank % n + i;
    return n;
}

struct members {
    int n, *ranks, *gpus, *hosts;
};

static struct members members_new(struct build *b, enum phase_scope scope, int rank)
{
    struct members m = {.ranks = ARENA_ARRAY(b->scratch, int, b->p->ranks)};
    m.n = members_of(b, scope, rank, m.ranks);
    m.gpus = ARENA_ARRAY(b->scratch, int, m.n);
    m.hosts = ARENA_ARRAY(b->scratch, int, m.n);
    for (int i = 0; i < m.n; i++) {
        m.gpus[i] = b->base + m.ranks[i];
        m.hosts[i] = m.gpus[i] / b->cluster->gpus_per_node;
    }
    return m;
}

static double *pick(struct build *b, const double *v, const struct members *m)
{
    double *out = ARENA_ARRAY(b->a, double, m->n);
    for (int i = 0; i < m->n; i++)
        out[i] = v[m->ranks[i]];
    return out;
}

static double *pick_matrix(struct build *b, const double *v, const struct members *m)
{
    double *out = ARENA_ARRAY(b->a, double, (size_t)m->n *(size_t)m->n);
    for (int i = 0; i < m->n * m->n; i++)
        out[i] = v[(size_t)m->ranks[i / m->n] * (size_t)b->p->ranks + (size_t)m->ranks[i % m->n]];
    return out;
}

static struct regime regime(const struct build *b, enum coll_op op, const struct coll *c,
                            const int *hosts, double bytes, int calls)
{
    struct regime_source s = {
        .cluster = b->cluster, .net = b->o->net ? b->o->net : b->cluster->net, .nccl = b->o->nccl};
    return regime_of(&s, op, c, hosts, bytes, calls);
}

static void scaled(double *v, int count, double scale)
{
    for (int i = 0; i < count && scale != 1; i++)
        v[i] *= scale;
}

/* What the fullest member sends or receives. */
static double most_product(const double *from, const double *to, int n)
{
    double from_all = 0, to_all = 0, most = 0;
    for (int i = 0; i < n; i++) {
        from_all += from[i];
        to_all += to[i];
    }
    for (int i = 0; i < n; i++)
        most = fmax(most, fmax(from[i] * (to_all - to[i]), (from_all - from[i]) * to[i]));
    return most;
}

static double most_matrix(const double *v, int n)
{
    double most = 0;
    for (int i = 0; i < n; i++) {
        double out = 0, in = 0;
        for (int j = 0; j < n; j++) {
            out += i == j ? 0 : v[i * n + j];
            in += i == j ? 0 : v[j * n + i];
        }
        most = fmax(most, fmax(out, in));
    }
    return most;
}

/* Members of each server when two levels are asked for and possible: several servers with as many
 * members each, more than one, neighbours in the group; else 0. */
static int level_of(const struct build *b, const struct members *m)
{
    int w = 1;
    while (w < m->n && m->hosts[w] == m->hosts[0])
        w++;
    if (!b->o->two_level || w < 2 || w == m->n || m->n % w != 0)
        return 0;
    for (int i = 0; i < m->n; i++)
        if (m->hosts[i] != m->hosts[i / w * w] ||
            (i % w == 0 && i > 0 && m->hosts[i] == m->hosts[i - 1]))
            return 0;
    return w;
}

/* Rows that several GPUs of a server want go there once. */
static struct coll_tasks add_groupcast(struct build *b, const struct cp_phase *p,
                                       const struct members *m, int label)
{
    int n = m->n;
    double *need = ARENA_ARRAY(b->scratch, double, n *n),
           *unions = ARENA_ARRAY(b->scratch, double, n *n), most;
    if (p->matrix) {
        need = pick_matrix(b, p->matrix, m);
        unions = pick_matrix(b, p->server_matrix, m);
        most = most_matrix(need, n);
    } else {
        const double *from = pick(b, p->from, m), *to = pick(b, p->to, m),
                     *server = pick(b, p->server, m);
        for (int i = 0; i < n * n; i++) {
            need[i] = i / n == i % n ? 0 : from[i / n] * to[i % n];
            unions[i] = i / n == i % n ? 0 : from[i / n] * server[i % n];
        }
        most = most_product(from, to, n);
    }
    struct coll c = coll_groupcast(n, need, unions, m->hosts, b->scratch);
    struct regime r = regime(b, COLL_ALLTOALL, &c, m->hosts, most, p->calls);
    return coll_add(b->g, &c, m->gpus, label, r.calls, r.extra_s, r.scale);
}

static int add_alltoall(struct build *b, const struct cp_phase *p, const struct members *m,
                        int label)
{
    struct play_exchange x = {.members = m->n, .gpus = m->gpus, .phase = label};
    bool far = m->hosts[0] != m->hosts[m->n - 1];
    struct coll shape = {
        .members = m->n, .stage_count = 1, .stage = {{.near_steps = !far, .far_steps = far}}};
    struct regime r;
    if (p->matrix) {
        double *v = pick_matrix(b, p->matrix, m);
        r = regime(b, COLL_ALLTOALL, &shape, m->hosts, most_matrix(v, m->n), p->calls);
        scaled(v, m->n * m->n, r.scale);
        x.matrix = v;
    } else {
        double *from = pick(b, p->from, m), *to = pick(b, p->to, m);
        r = regime(b, COLL_ALLTOALL, &shape, m->hosts, most_product(from, to, m->n), p->calls);
        scaled(from, m->n, r.scale);
        x.product_from = from;
        x.product_to = to;
    }
    x.calls = r.calls;
    x.extra_s = r.extra_s;
    return play_exchange(b->g, &x);
}

static struct coll_tasks add_gather(struct build *b, const struct cp_phase *p,
                                    const struct members *m, int label)
{
    const double *share = pick(b, p->from, m);
    double sent = (m->n - 1) * share[0];
    struct coll c;
    enum coll_op op;
    if (p->kind == PHASE_ALLGATHER) {
        op = COLL_ALL_GATHER;
        c = level_of(b, m) ? coll_allgather_levels(m->n, share, m->hosts, b->scratch)
                           : coll_allgather(m->n, share, m->hosts, b->scratch);
    } else if (p->kind == PHASE_REDUCESCATTER) {
        op = COLL_REDUCE_SCATTER;
        c = coll_reduce_scatter(m->n, share, m->hosts, b->scratch);
    } else {
        op = COLL_ALL_REDUCE;
        sent *= 2;
        c = coll_allreduce_ring(m->n, m->n * share[0], m->hosts, b->scratch);
    }
    struct regime r = regime(b, op, &c, m->hosts, sent, p->calls);
    return coll_add(b->g, &c, m->gpus, label, r.calls, r.extra_s, r.scale);
}

/* A hop of `bytes` to the next of `n` members. */
static struct regime hop_regime(const struct build *b, const struct members *m, int n, double bytes,
                                int calls)
{
    struct coll shape = {
        .members = n, .stage_count = 1, .stage = {{.near_steps = m->hosts[0] == m->hosts[n - 1]}}};
    shape.stage[0].far_steps = !shape.stage[0].near_steps;
    return regime(b, COLL_SEND_RECV, &shape, m->hosts, bytes, calls);
}

static void add_ring(struct build *b, int place, const struct members *m, struct labels l)
{
    const struct cp_phase *p = &b->p->phases[place];
    int n = m->n, *begin = ARENA_ARRAY(b->scratch, int, n), *end = ARENA_ARRAY(b->scratch, int, n);
    double *compute = ARENA_ARRAY(b->scratch, double, n *n),
           *hops = ARENA_ARRAY(b->scratch, double, n + 1);
    bool back = p->pass == PASS_BACKWARD;
    for (int i = 0; i < n * n; i++)
        compute[i] = p->seconds[m->ranks[i / n]];
    cp_ring_hops(p, m->ranks[0], n, hops);
    double outer = back ? p->to[m->ranks[0]] : p->from[m->ranks[0]];
    outer *= hop_regime(b, m, n, outer, p->calls).scale;
    /* In two levels hops stay inside the server, but for one that has the time of an inner ring. */
    int inner = level_of(b, m), near = inner ? inner : n;
    struct regime w = hop_regime(b, m, near, hops[0], p->calls);
    for (int k = 0; k <= n; k++)
        hops[k] *= hop_regime(b, m, near, hops[k], p->calls).scale;
    struct ring r = {.n = n,
                     .inner = inner,
                     .outer_bytes = outer,
                     .gpus = m->gpus,
                     .compute_s = compute,
                     .hop_bytes = hops,
                     .no_sms = p->hop_sms,
                     .calls = w.calls,
                     .extra_s = w.extra_s,
                     .compute_phase = l.own,
                     .hop_phase = l.hops};
    ring_add(b->g, &r, begin, end, b->scratch);
    int launches = 2 * n - 1 + back + p->hop_home; /* steps and hops */
    for (int i = 0; i < n; i++) {
        launched(b, m->gpus[i], begin[i], launches);
        chain(b, m->gpus[i], begin[i], end[i]);
        span(b, place, m->ranks[i], begin[i], end[i]);
    }
}

/* ---- phases ---- */

static void add_group(struct build *b, int place, int rank, struct labels l)
{
    const struct cp_phase *p = &b->p->phases[place];
    struct members m = members_new(b, p->scope, rank);
    if (m.ranks[0] != rank)
        return; /* the first member adds its group */
    if (p->kind == PHASE_RING) {
        add_ring(b, place, &m, l);
        return;
    }
    if (m.n < 2)
        return;
    struct coll_tasks t;
    if (p->kind == PHASE_ALLTOALL && (p->server || p->server_matrix) && level_of(b, &m))
        t = add_groupcast(b, p, &m, l.own);
    else if (p->kind == PHASE_ALLTOALL)
        t.first = t.last = add_alltoall(b, p, &m, l.own);
    else
        t = add_gather(b, p, &m, l.own);
    for (int i = 0; i < m.n; i++) {
        launched(b, m.gpus[i], t.first + i, p->calls);
        chain(b, m.gpus[i], t.first + i, t.last + i);
        span(b, place, m.ranks[i], t.first + i, t.last + i);
        if (strcmp(p->name, "index exchange") == 0 && b->o->sync_s > 0)
            add_work(b, m.gpus[i], PLAY_HOST, b->o->sync_s, l.sync);
    }
}

/* Bound by memory: what runs beside it on the SMs does not slow it. */
static bool by_hbm(enum cost_class cost)
{
    return cost == CLASS_COPY || cost == CLASS_POINTWISE;
}

/* To the host behind the block's work; from there one block ahead, as soon as the backward of the
 * last block begins, and the block waits for it. */
static void add_copies(struct build *b, const struct cp_phase *p, int label)
{
    for (int r = 0; r < b->p->ranks; r++) {
        int gpu = b->base + r, before = p->from ? b->tail[gpu] : b->begun_before[gpu];
        int *stream = p->from ? &b->out_tail[gpu] : &b->in_tail[gpu];
        int task = play_copy(b->g, gpu, p->from != NULL, p->from ? p->from[r] : p->to[r], label);
        if (before >= 0)
            play_after(b->g, task, before);
        if (*stream >= 0)
            play_after(b->g, task, *stream);
        *stream = task;
        if (p->from)
            continue;
        if (b->out_tail[gpu] >= 0)
            play_after(b->g, task, b->out_tail[gpu]);
        int mark = play_mark(b->g, gpu, label);
        play_after(b->g, mark, task);
        chain(b, gpu, mark, mark);
    }
}

static void add_phase(struct build *b, int place)
{
    const struct cp_phase *p = &b->p->phases[place];
    struct labels l = labels_of(b, place);
    if (p->kind == PHASE_HOST) {
        add_copies(b, p, l.own);
        return;
    }
    for (int r = 0; r < b->p->ranks; r++) {
        if (p->kind != PHASE_COMPUTE) {
            add_group(b, place, r, l);
        } else if (p->seconds[r] > 0) {
            int gpu = b->base + r;
            enum play_lane lane = p->host ? PLAY_HOST : by_hbm(p->cost) ? PLAY_HBM : PLAY_SM;
            add_work(b, gpu, lane, p->seconds[r], l.own);
            span(b, place, r, b->tail[gpu], b->tail[gpu]);
        }
    }
}

static void add_passes(struct build *b, const struct cp_program *p, const struct cp_conf *conf,
                       bool forward)
{
    b->p = p;
    b->conf = conf;
    for (int r = 0; r < p->ranks && !forward; r++) {
        b->begun_before[b->base + r] = b->begun[b->base + r];
        b->begun[b->base + r] = b->tail[b->base + r];
    }
    for (int i = 0; i < p->phase_count; i++)
        if ((p->phases[i].pass == PASS_FORWARD) == forward)
            add_phase(b, i);
    arena_reset(b->scratch);
}

static int *minus_ones(struct arena *a, int count)
{
    int *v = ARENA_ARRAY(a, int, count);
    for (int i = 0; i < count; i++)
        v[i] = -1;
    return v;
}

static struct build build_new(struct step *s, const struct hw_cluster *cluster,
                              const struct sim_options *o, int gpus, struct arena *a)
{
    *s = (struct step){.graph = play_graph_new(a), .gpus = gpus, .folded = 1};
    struct build b = {.s = s,
                      .g = s->graph,
                      .cluster = cluster,
                      .o = o,
                      .a = a,
                      .scratch = arena_new(),
                      .tail = minus_ones(a, gpus),
                      .host_tail = minus_ones(a, gpus),
                      .out_tail = minus_ones(a, gpus),
                      .in_tail = minus_ones(a, gpus),
                      .begun = minus_ones(a, gpus),
                      .begun_before = minus_ones(a, gpus)};
    return b;
}

/* Does it copy to or from the host? Then the wires must have one. */
static bool uses_host(const struct cp_program *p)
{
    for (int i = 0; i < p->phase_count; i++)
        if (p->phases[i].kind == PHASE_HOST)
            return true;
    return false;
}

bool step_of_program(const struct cp_program *p, const struct cp_conf *conf,
                     const struct hw_cluster *cluster, const struct sim_options *o,
                     struct step *out, struct arena *a, struct err *e)
{
    struct hw_cluster used = *cluster;
    used.nodes = (p->ranks + used.gpus_per_node - 1) / used.gpus_per_node;
    struct build b = build_new(out, cluster, o, p->ranks, a);
    struct topo_fabric fabric = o->fabric;
    fabric.host = uses_host(p);
    out->topo = topo_of_cluster(&used, &fabric, a, err_at_name(cluster->name), e);
    b.by_place = b.record = true;
    b.p = p;
    out->ranks = p->ranks;
    out->span_count = p->phase_count * p->ranks;
    out->spans = ARENA_ARRAY(a, struct step_span, out->span_count);
    for (int i = 0; i < out->span_count; i++)
        out->spans[i] = (struct step_span){-1, -1, -1};
    label_places(&b);
    add_passes(&b, p, conf, true);
    add_passes(&b, p, conf, false);
    arena_free(b.scratch);
    play_graph_finish(out->graph);
    return out->topo != NULL;
}

/* ---- the step around the blocks ---- */

/* GPUs that exchange weights or gradients in a ring: `count` of them, every `stride`th. Rings as in
 * sim/coll.h: one for each member of a server. */
struct line {
    int count, stride, per_server;
    int gpus; /* simulated */
};

static struct line line_of(const struct build *b, int count, int stride)
{
    int w = b->cluster->gpus_per_node / stride;
    w = w > 1 ? w : 1;
    return (struct line){count, stride, count <= w ? count : count % w == 0 ? w : 1, b->s->gpus};
}

/* Members of a line that are simulated; those beyond are images of the first ones. */
static int line_members(const struct line *l)
{
    int most = l->gpus / l->stride;
    return l->count < most ? l->count : most > 0 ? most : 1;
}

/* The latency and protocol of a ring over all members, simulated or not. */
static struct regime line_regime(struct build *b, const struct line *l, enum coll_op op,
                                 double sent)
{
    int *hosts = ARENA_ARRAY(b->scratch, int, l->count), far = l->count / l->per_server - 1;
    for (int i = 0; i < l->count; i++)
        hosts[i] = i / l->per_server;
    struct coll shape = {.members = l->count,
                         .stage_count = 1,
                         .stage = {{.near_steps = l->count - 1 - far, .far_steps = far}}};
    return regime(b, op, &shape, hosts, sent, 1);
}

/* What member i sends: `each` bytes, to its neighbour over NVLink and over its NIC to its place in
 * the next server, or to the image of that. */
static int line_messages(const struct line *l, int i, double each, struct play_message *m)
{
    int count = 0, w = l->per_server, n = line_members(l), base = i / w * w;
    bool far = l->count > w;
    if (w > 1)
        m[count++] =
            (struct play_message){i, base + (i - base + 1) % w, far ? each * (w - 1) / w : each};
    if (far)
        m[count++] = (struct play_message){i, (i + w) % n, each / w};
    return count;
}

/* Adds a ring exchange in which every GPU sends `sent` bytes, for every line; its member tasks by
 * GPU in task[]. */
static void add_line_ring(struct build *b, const struct line *l, enum coll_op op, double sent,
                          int label, int *task)
{
    int n = line_members(l);
    struct regime r = line_regime(b, l, op, sent);
    for (int first = 0; first < l->gpus; first++) {
        if (first / l->stride % n != 0)
            continue;
        struct play_message *m = ARENA_ARRAY(b->scratch, struct play_message, 2 * n);
        int *gpus = ARENA_ARRAY(b->scratch, int, n), count = 0;
        for (int i = 0; i < n; i++) {
            gpus[i] = first + i * l->stride;
            count += line_messages(l, i, sent * r.scale, m + count);
        }
        struct play_exchange x = {.members = n,
                                  .gpus = gpus,
                                  .phase = label,
                                  .together = true,
                                  .calls = r.calls,
                                  .extra_s = r.extra_s,
                                  .messages = m,
                                  .message_count = count};
        int tasks = play_exchange(b->g, &x);
        for (int i = 0; i < n; i++)
            task[gpus[i]] = tasks + i;
    }
}

/* Sent by each member when `bytes` are shared out over n, gathered or scattered in a ring. */
static double ring_sent(double bytes, int n)
{
    return bytes * (n - 1) / n;
}

struct weights { /* FSDP's two streams */
    const struct plan *p;
    struct line shards;                 /* GPUs that share the weights of a tensor rank */
    struct line between;                /* those that hold the same shard (HSDP) */
    double gather_bytes, scatter_bytes; /* of one block's weights on a tensor rank */
    int unit;                           /* blocks */
    int *gathered, *scattered;          /* [gpu]: last of each stream, -1 none */
    int *old_tail,
        *older_tail; /* [gpu]: where the last units' compute ended: two units may be gathered */
    int *task;
    int gather_label[2], scatter_label, between_label;
};

static void link_stream(struct build *b, int *last, const int *task, const int *also)
{
    for (int i = 0; i < b->s->gpus; i++) {
        if (last[i] >= 0)
            play_after(b->g, task[i], last[i]);
        if (also && also[i] >= 0)
            play_after(b->g, task[i], also[i]);
        last[i] = task[i];
    }
}

/* Compute of this unit waits for its weights, which are asked for when the unit before the last one
 * is done with its own. */
static void gather_weights(struct build *b, struct weights *w, int blocks, bool back)
{
    if (w->p->memory.sharding != SHARD_FSDP || w->shards.count < 2)
        return;
    add_line_ring(b, &w->shards, COLL_ALL_GATHER,
                  ring_sent(w->gather_bytes * blocks, w->shards.count), w->gather_label[back],
                  w->task);
    link_stream(b, w->gathered, w->task, w->older_tail);
    for (int i = 0; i < b->s->gpus; i++) {
        int mark = play_mark(b->g, i, w->gather_label[back]);
        play_after(b->g, mark, w->task[i]);
        w->older_tail[i] = w->old_tail[i];
        chain(b, i, mark, mark);
    }
}

static void unit_done(struct build *b, struct weights *w)
{
    for (int i = 0; i < b->s->gpus; i++)
        w->old_tail[i] = b->tail[i];
}

/* Inside the sharding groups, then each shard between the groups. */
static void scatter_gradients(struct build *b, struct weights *w, int blocks)
{
    double times = w->p->memory.sharding == SHARD_DDP ? 2 : 1; /* all-reduce: scatter and gather */
    double bytes = w->scatter_bytes * blocks;
    if (w->shards.count > 1) {
        add_line_ring(b, &w->shards, COLL_REDUCE_SCATTER, times * ring_sent(bytes, w->shards.count),
                      w->scatter_label, w->task);
        link_stream(b, w->scattered, w->task, b->tail);
    }
    if (w->between.count > 1) {
        add_line_ring(b, &w->between, COLL_ALL_REDUCE,
                      2 * ring_sent(bytes / w->shards.count, w->between.count), w->between_label,
                      w->task);
        link_stream(b, w->scattered, w->task, b->tail);
    }
}

static void finish_training(struct build *b, struct weights *w)
{
    int label = label_of(b, "optimizer", PASS_BACKWARD, CLASS_COPY, false);
    for (int i = 0; i < b->s->gpus; i++) {
        int task = play_work(b->g, i, PLAY_HBM, w->p->optimizer_s, label);
        if (w->scattered[i] >= 0)
            play_after(b->g, task, w->scattered[i]);
        chain(b, i, task, task);
    }
    if (w->p->memory.sharding == SHARD_ZERO1 ||
        w->p->memory.sharding == SHARD_ZERO2) { /* updated weights go out */
        if (w->shards.count < 2)
            return;
        add_line_ring(b, &w->shards, COLL_ALL_GATHER,
                      ring_sent(w->gather_bytes * w->p->block_count, w->shards.count),
                      w->gather_label[0], w->task);
        link_stream(b, w->gathered, w->task, b->tail);
    }
}

static struct weights weights_new(struct build *b, const struct plan *p)
{
    int tensor = p->tensor > 1 ? p->tensor : 1, shards = p->memory.shard_ranks;
    int groups = p->phase == PLAN_STEP && !p->c.options.inference ? p->gpus / tensor / shards : 1;
    double params = dit_block_params(p->c.model) / tensor;
    int n = b->s->gpus, unit = p->memory.fsdp_units > 0 ? p->memory.fsdp_units : p->block_count;
    struct weights w = {.p = p,
                        .shards = line_of(b, shards, tensor),
                        .between = line_of(b, groups, shards * tensor),
                        .gather_bytes = 2 * params,
                        .unit = unit,
                        .scatter_bytes = (p->c.options.grad_fp32 ? 4 : 2) * params,
                        .gathered = minus_ones(b->a, n),
                        .scattered = minus_ones(b->a, n),
                        .task = minus_ones(b->a, n),
                        .old_tail = minus_ones(b->a, n),
                        .older_tail = minus_ones(b->a, n)};
    w.gather_label[0] = label_of(b, "weights all-gather", PASS_FORWARD, CLASS_FSDP, true);
    if (!p->c.options.inference) {
        w.gather_label[1] = label_of(b, "weights all-gather", PASS_RECOMPUTE, CLASS_FSDP, true);
        w.scatter_label = label_of(b, "gradients reduce-scatter", PASS_BACKWARD, CLASS_FSDP, true);
        if (groups > 1)
            w.between_label = label_of(b, "gradients all-reduce", PASS_BACKWARD, CLASS_FSDP, true);
    }
    return w;
}

static void add_block(struct build *b, const struct plan *p, const struct cp_program *programs,
                      int block, bool forward)
{
    for (b->base = 0; b->base < b->s->gpus; b->base += plan_ranks(p))
        add_passes(b, &programs[block], &p->blocks[block].conf, forward);
}

static void add_forward(struct build *b, const struct plan *p, const struct cp_program *programs,
                        struct weights *w)
{
    for (int first = 0; first < p->block_count; first += w->unit) {
        int end = first + w->unit < p->block_count ? first + w->unit : p->block_count;
        gather_weights(b, w, end - first, false);
        for (int i = first; i < end; i++)
            add_block(b, p, programs, i, true);
        unit_done(b, w);
    }
}

static void add_backward(struct build *b, const struct plan *p, const struct cp_program *programs,
                         struct weights *w)
{
    int units = (p->block_count + w->unit - 1) / w->unit;
    for (int u = units - 1; u >= 0; u--) {
        int first = u * w->unit,
            end = first + w->unit < p->block_count ? first + w->unit : p->block_count;
        gather_weights(b, w, end - first, true);
        for (int i = end - 1; i >= first; i--)
            add_block(b, p, programs, i, false);
        unit_done(b, w);
        scatter_gradients(b, w, end - first);
    }
    finish_training(b, w);
}

/* GPUs to simulate: all, or when replicas are alike, one replica filled up to whole servers. On an
 * ideal fabric nothing else differs between them; a server's neighbours are then its own image. */
static int unit_gpus(const struct plan *p, const struct sim_options *o, bool all,
                     const struct topo *topo)
{
    int w = p->c.cluster->gpus_per_node, ranks = plan_ranks(p), unit = ranks < w ? w : ranks;
    int sharing = p->memory.shard_ranks * (p->tensor > 1 ? p->tensor : 1);
    bool ideal = o->fabric.leaf_nodes == 0 && !o->fabric.rails && !topo;
    bool fits = unit % w == 0 && unit % ranks == 0 && p->gpus % unit == 0;
    bool shared_alike = sharing == p->gpus || (sharing <= w && w % sharing == 0);
    return !all && ideal && fits && shared_alike && unit < p->gpus ? unit : p->gpus;
}

static bool topo_fits(const struct plan *p, const struct topo *t, struct err_at at, struct err *e)
{
    return t->gpu_count == p->gpus ||
           err_set(
               e, ERR_INPUT, at,
               "has %d GPUs, but the plan is for %d on %s; want a topology of the plan's cluster",
               t->gpu_count, p->gpus, p->c.cluster->name);
}

bool step_of_plan(const struct plan *p, const struct sim_options *o, int runs, bool all,
                  const struct topo *topo, struct step *out, struct arena *a, struct err_at at,
                  struct err *e)
{
    if (topo && !topo_fits(p, topo, at, e))
        return false;
    int unit = unit_gpus(p, o, all, topo);
    struct hw_cluster used = *p->c.cluster;
    if (unit < p->gpus) /* a second server gives the first one a neighbour to be the image of */
        used.nodes = unit > used.gpus_per_node ? unit / used.gpus_per_node : 2;
    struct build b = build_new(out, p->c.cluster, o, unit, a);
    out->folded = p->gpus / unit;
    struct cp_program *programs = ARENA_ARRAY(a, struct cp_program, p->block_count);
    struct topo_fabric fabric = o->fabric;
    struct cp_case c = p->c;
    c.server_unions = o->two_level;
    for (int i = 0; i < p->block_count; i++) {
        programs[i] = cp_program_of(&c, i, &p->blocks[i].conf, a);
        fabric.host |= uses_host(&programs[i]);
    }
    out->topo = topo ? topo : topo_of_cluster(&used, &fabric, a, at, e);
    if (topo && fabric.host && !topo_has_host(topo)) {
        arena_free(b.scratch);
        return err_set(e, ERR_INPUT, at,
                       "no CPU in the topology to offload to; want one, or a plan with --offload "
                       "none");
    }
    struct weights w = weights_new(&b, p);
    for (int k = 0; k < (p->c.options.inference ? runs : 1); k++)
        add_forward(&b, p, programs, &w);
    if (!p->c.options.inference)
        add_backward(&b, p, programs, &w);
    arena_free(b.scratch);
    play_graph_finish(out->graph);
    return out->topo != NULL;
}
