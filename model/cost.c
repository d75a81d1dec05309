#include "model/cost.h"

#include <math.h>
#include <string.h>

#include "model/calib.h"

/* ---- bytes ---- */

/* Ranks of one row, column or tensor group: start + i * stride, i = 0..count-1. */
struct group {
    int start, stride, count;
};

static struct group group_of(const struct cp_conf *c, enum phase_scope scope, int rank)
{
    int h = cp_head_rank(c, rank), s = cp_seq_rank(c, rank), tensor = cp_tensor(c);
    if (scope == SCOPE_TENSOR)
        return (struct group){rank - rank % tensor, 1, tensor};
    if (scope == SCOPE_ROW)
        return (struct group){cp_rank_at(c, h - h % c->head_groups, s),
                              tensor * (c->heads_inside ? 1 : c->seq_groups), c->head_groups};
    return (struct group){cp_rank_at(c, h, 0), tensor * (c->heads_inside ? c->head_groups : 1),
                          c->seq_groups};
}

static bool group_first(const struct cp_conf *c, enum phase_scope scope, int rank)
{
    return group_of(c, scope, rank).start == rank;
}

static void add_pair(struct cp_bytes *bytes, int from, int to, int per_node, double n)
{
    if (from / per_node == to / per_node) {
        bytes[from].send_near += n;
        bytes[to].recv_near += n;
    } else {
        bytes[from].send_far += n;
        bytes[to].recv_far += n;
    }
}

/* Nodes that a group spans; 0 when they hold unequal numbers of it, which a profile cannot say. */
static int group_nodes(struct group g, int per_node)
{
    int nodes = 0, held = 0, first = 0, last = -1;
    for (int i = 0; i <= g.count; i++) {
        int node = i < g.count ? (g.start + i * g.stride) / per_node : -2;
        if (node == last) {
            held++;
            continue;
        }
        if (nodes == 1)
            first = held;
        if (nodes > 0 && held != first)
            return 0;
        nodes += i < g.count;
        held = 1;
        last = node;
    }
    return nodes;
}

/* from[i] * to[j] over all pairs of a group, by sums per node: O(members). Members of a node are
 * neighbours in the group. */
static void product_bytes(const struct cp_phase *p, struct group g, int per_node,
                          struct cp_bytes *bytes)
{
    double from_all = 0, to_all = 0;
    for (int i = 0; i < g.count; i++) {
        from_all += p->from[g.start + i * g.stride];
        to_all += p->to[g.start + i * g.stride];
    }
    for (int i = 0, next; i < g.count; i = next) {
        int node = (g.start + i * g.stride) / per_node;
        double from_near = 0, to_near = 0;
        for (next = i; next < g.count && (g.start + next * g.stride) / per_node == node; next++) {
            from_near += p->from[g.start + next * g.stride];
            to_near += p->to[g.start + next * g.stride];
        }
        for (int k = i; k < next; k++) {
            int r = g.start + k * g.stride;
            bytes[r].send_near += p->from[r] * (to_near - p->to[r]);
            bytes[r].recv_near += (from_near - p->from[r]) * p->to[r];
            bytes[r].send_far += p->from[r] * (to_all - to_near);
            bytes[r].recv_far += (from_all - from_near) * p->to[r];
        }
    }
}

static void matrix_bytes(const struct cp_phase *p, struct group g, int ranks, int per_node,
                         struct cp_bytes *bytes)
{
    for (int i = 0; i < g.count; i++)
        for (int j = 0; j < g.count; j++) {
            int from = g.start + i * g.stride, to = g.start + j * g.stride;
            if (i != j)
                add_pair(bytes, from, to, per_node,
                         p->matrix[(size_t)from * (size_t)ranks + (size_t)to]);
        }
}

/* What member i of a group passes on: `near` to its successor (inside its node if there are several
 * rings) and `far` to its place in the next node. */
struct passes {
    int near_to, far_to; /* members */
    double near, far;
};

/* The ring schedule. A collective over nodes of w members each runs w rings, one leaving a node by
 * each member's own NIC (NCCL's channels), so every NIC carries 1/w; ring attention and groups with
 * other shapes have one ring in the order of members. */
static struct passes passes_of(struct group g, int per_node, enum phase_kind kind, int i,
                               double bytes)
{
    int nodes = kind == PHASE_RING ? 0 : group_nodes(g, per_node), w = nodes ? g.count / nodes : 0;
    if (nodes < 2 || w < 2)
        return (struct passes){.near_to = (i + 1) % g.count, .near = bytes};
    return (struct passes){.near_to = i / w * w + (i + 1) % w,
                           .far_to = (i + w) % g.count,
                           .near = bytes * (w - 1) / w,
                           .far = bytes / w};
}

static void ring_bytes(struct group g, double bytes_on, enum phase_kind kind, int per_node,
                       struct cp_bytes *bytes)
{
    for (int i = 0; i < g.count; i++) {
        struct passes p = passes_of(g, per_node, kind, i, bytes_on);
        int from = g.start + i * g.stride;
        add_pair(bytes, from, g.start + p.near_to * g.stride, per_node, p.near);
        if (p.far > 0)
            add_pair(bytes, from, g.start + p.far_to * g.stride, per_node, p.far);
    }
}

/* Bytes that a ring phase moves over all its hops (KA12). */
static double ring_total(const struct cp_phase *p, int rank, int n)
{
    if (p->pass != PASS_BACKWARD)
        return (n - 1) * p->from[rank];
    return (n - 1) * p->to[rank] + (p->hop_home ? p->to[rank] - p->from[rank] : 0);
}

/* Bytes that member `first` of a ring phase passes to its successor. */
static double passed_on(const struct cp_phase *p, int first, int n)
{
    if (p->kind == PHASE_RING)
        return ring_total(p, first, n);
    return p->from[first] * (p->kind == PHASE_ALLREDUCE ? 2 : 1) * (n - 1);
}

static double pair_bytes(const struct cp_phase *p, int ranks, int from, int to)
{
    return p->matrix ? p->matrix[(size_t)from * (size_t)ranks + (size_t)to]
                     : p->from[from] * p->to[to];
}

/* What rank r sends in its group, added to its row of the matrix. */
static void matrix_row(const struct cp_phase *p, struct group g, int gpus_per_node, int ranks,
                       int r, double *row)
{
    int at = (r - g.start) / g.stride;
    for (int j = 0; j < g.count && p->kind == PHASE_ALLTOALL; j++)
        if (j != at)
            row[g.start + j * g.stride] = pair_bytes(p, ranks, r, g.start + j * g.stride);
    if (p->kind == PHASE_ALLTOALL || g.count < 2)
        return;
    struct passes on = passes_of(g, gpus_per_node, p->kind, at, passed_on(p, g.start, g.count));
    row[g.start + on.near_to * g.stride] += on.near;
    row[g.start + on.far_to * g.stride] += on.far;
}

void cost_phase_matrix(const struct cp_phase *p, const struct cp_conf *conf, int gpus_per_node,
                       double *m)
{
    int ranks = cp_ranks(conf);
    memset(m, 0, (size_t)ranks * (size_t)ranks * sizeof *m);
    if (p->kind == PHASE_COMPUTE || p->scope == SCOPE_NONE)
        return;
    for (int r = 0; r < ranks; r++)
        matrix_row(p, group_of(conf, p->scope, r), gpus_per_node, ranks, r,
                   m + (size_t)r * (size_t)ranks);
}

void cost_phase_bytes(const struct cp_phase *p, const struct cp_conf *conf, int gpus_per_node,
                      struct cp_bytes *bytes)
{
    int ranks = cp_ranks(conf);
    memset(bytes, 0, (size_t)ranks * sizeof *bytes);
    if (p->kind == PHASE_COMPUTE || p->scope == SCOPE_NONE)
        return;
    for (int r = 0; r < ranks; r++) {
        if (!group_first(conf, p->scope, r))
            continue;
        struct group g = group_of(conf, p->scope, r);
        if (g.count < 2)
            continue;
        if (p->kind != PHASE_ALLTOALL)
            ring_bytes(g, passed_on(p, r, g.count), p->kind, gpus_per_node, bytes);
        else if (p->matrix)
            matrix_bytes(p, g, ranks, gpus_per_node, bytes);
        else
            product_bytes(p, g, gpus_per_node, bytes);
    }
}

void cost_program_bytes(const struct cp_program *p, const struct cp_conf *conf, int gpus_per_node,
                        enum cp_pass pass, struct cp_bytes *bytes, struct arena *scratch)
{
    struct cp_bytes *one = ARENA_ARRAY(scratch, struct cp_bytes, p->ranks);
    memset(bytes, 0, (size_t)p->ranks * sizeof *bytes);
    for (int i = 0; i < p->phase_count; i++) {
        if (pass != PASSES && p->phases[i].pass != pass)
            continue;
        cost_phase_bytes(&p->phases[i], conf, gpus_per_node, one);
        for (int r = 0; r < p->ranks; r++) {
            bytes[r].send_near += one[r].send_near;
            bytes[r].recv_near += one[r].recv_near;
            bytes[r].send_far += one[r].send_far;
            bytes[r].recv_far += one[r].recv_far;
        }
    }
}

/* ---- seconds ---- */

static double link_s(const struct hw_link *l, double bytes_per_s, double bytes, int calls)
{
    return bytes > 0 ? calls * l->latency_s + bytes / bytes_per_s : 0;
}

double cost_exchange_s(const struct hw_cluster *c, struct cp_bytes b, int calls)
{
    double near = fmax(b.send_near, b.recv_near), far = fmax(b.send_far, b.recv_far);
    return fmax(link_s(&c->nvlink, hw_nvlink_bytes_per_s(c), near, calls),
                link_s(&c->nic, hw_nic_bytes_per_s(c), far, calls));
}

/* A hop of all ranks that begins at s[]: when each one's own and its neighbours' are over. */
static void ring_hop(const double *s, int n, double hop_s, double *out)
{
    for (int r = 0; r < n; r++)
        out[r] = fmax(s[r], fmax(s[(r + n - 1) % n], s[(r + 1) % n])) + hop_s;
}

double cost_ring_s(const double *compute, int n, const double *hop_s, double *end,
                   struct arena *scratch)
{
    double *s = ARENA_ARRAY(scratch, double, 2 * n), *hop = s + n, last = 0;
    for (int k = 0; k < n; k++) {
        bool hops = k + 1 < n || hop_s[k] > 0;
        ring_hop(s, n, hop_s[k], hop);
        for (int r = 0; r < n; r++)
            s[r] = fmax(s[r] + compute[r * n + k], hops ? hop[r] : 0);
    }
    if (hop_s[n] > 0) {
        ring_hop(s, n, hop_s[n], hop);
        memcpy(s, hop, (size_t)n * sizeof *s);
    }
    for (int r = 0; r < n; r++) {
        last = fmax(last, s[r]);
        if (end)
            end[r] = s[r];
    }
    return last;
}

/* ---- the walk ---- */

struct walk {
    const struct cp_program *p;
    const struct cp_conf *conf;
    const struct hw_cluster *cluster;
    double *clock, *busy, *wait; /* [ranks]; busy and wait of the phase at hand */
    struct cp_bytes *bytes;
    struct arena *scratch;
    double nic_use; /* of the phase at hand: GPUs that send through the fullest NIC over those that
                       share it */
};

/* ---- calibrated exchanges ---- */

static double calibrated_s(const struct hw_cluster *c, struct coll_query q, int calls)
{
    q.type = COLL_HALF;
    q.bytes /= calls;
    return q.bytes > 0 ? calls * calib_collective(c, &q).time.value_s : 0;
}

static struct coll_query collective_query(enum phase_kind kind, int members, int nodes,
                                          struct cp_bytes b)
{
    static const enum coll_op ops[] = {[PHASE_ALLTOALL] = COLL_ALLTOALL,
                                       [PHASE_ALLGATHER] = COLL_ALL_GATHER,
                                       [PHASE_REDUCESCATTER] = COLL_REDUCE_SCATTER,
                                       [PHASE_ALLREDUCE] = COLL_ALL_REDUCE};
    double n = members, far = fmax(b.send_far, b.recv_far);
    double bytes = fmax(b.send_near + b.send_far, b.recv_near + b.recv_far) * n / (n - 1);
    bytes /= kind == PHASE_ALLREDUCE ? 2 : 1; /* a ring goes round twice */
    if (kind == PHASE_ALLTOALL && nodes > 1)
        bytes = fmax(bytes, far * n / (n - n / nodes));
    return (struct coll_query){
        .op = ops[kind], .type = COLL_HALF, .bytes = bytes, .gpus = members, .nodes = nodes};
}

double cost_collective_s(const struct hw_cluster *c, enum phase_kind kind, int members, int nodes,
                         struct cp_bytes b, int calls)
{
    return nodes < 1 || !c->net ? cost_exchange_s(c, b, calls)
                                : calibrated_s(c, collective_query(kind, members, nodes, b), calls);
}

static double collective_s(const struct walk *w, const struct cp_phase *p, struct group g,
                           struct cp_bytes b)
{
    int nodes = w->cluster->net ? group_nodes(g, w->cluster->gpus_per_node) : 0;
    return cost_collective_s(w->cluster, p->kind, g.count, nodes, b, p->calls);
}

/* All members of a server pass at once, as in NCCL's ring all-gather: where they share wires (PCIe,
 * sockets) a hop is a step of that, which a message between two alone does not show. NVLink's pairs
 * are slower than its rings. */
static double gather_step_s(const struct walk *w, const struct cp_phase *p, int count, double bytes)
{
    struct coll_query q = {
        .op = COLL_ALL_GATHER, .bytes = bytes * count, .gpus = count, .nodes = 1};
    return count > 2 ? calibrated_s(w->cluster, q, p->calls) / (count - 1) : 0;
}

/* A hop between nodes has as much of the NIC as those leave it that cross with it. */
static double hop_s(const struct walk *w, const struct cp_phase *p, struct group g, double bytes)
{
    int node = g.start / w->cluster->gpus_per_node,
        end_node = (g.start + (g.count - 1) * g.stride) / w->cluster->gpus_per_node;
    bool far = node != end_node;
    double use = far ? w->nic_use : 1;
    if (!w->cluster->net) {
        struct cp_bytes b = {0};
        *(far ? &b.send_far : &b.send_near) = bytes * use;
        return cost_exchange_s(w->cluster, b, p->calls);
    }
    struct coll_query q = {.op = COLL_SEND_RECV, .bytes = bytes, .gpus = 2, .nodes = far ? 2 : 1};
    double whole = calibrated_s(w->cluster, q, p->calls), least = whole;
    if (!far)
        return fmax(whole, gather_step_s(w, p, g.count, bytes));
    q.bytes = p->calls; /* a byte a call: what no share of the NIC shortens, its latency */
    if (use < 1)
        least = fmin(whole, calibrated_s(w->cluster, q, p->calls));
    return least + use * (whole - least);
}

static bool members_alike(const double *v, struct group g)
{
    for (int i = 1; i < g.count; i++)
        if (fabs(v[g.start + i * g.stride] - v[g.start]) > 1e-12 * v[g.start])
            return false;
    return true;
}

/* Seconds of each hop of a ring phase: [n + 1]. */
static double *hops_s(struct walk *w, const struct cp_phase *p, struct group g)
{
    double *hop = ARENA_ARRAY(w->scratch, double, g.count + 1);
    cp_ring_hops(p, g.start, g.count, hop);
    for (int k = 0; k <= g.count; k++)
        hop[k] = hop[k] > 0 ? hop_s(w, p, g, hop[k]) : 0;
    return hop;
}

/* Ranks of unequal work: the recurrence itself. */
static void walk_uneven_ring(struct walk *w, const struct cp_phase *p, struct group g,
                             const double *hop)
{
    int n = g.count;
    double *compute = ARENA_ARRAY(w->scratch, double, n *n),
           *end = ARENA_ARRAY(w->scratch, double, n);
    for (int i = 0; i < n * n; i++)
        compute[i] = p->seconds[g.start + i / n * g.stride];
    cost_ring_s(compute, n, hop, end, w->scratch);
    for (int i = 0; i < n; i++)
        w->busy[g.start + i * g.stride] = end[i];
}

/* Where all ranks of a column are alike the recurrence collapses to the sum of max(step, hop) once
 * they start together (KA09b), and the hop behind the last step. */
static void walk_ring(struct walk *w, const struct cp_phase *p, struct group g, double start)
{
    const double *hop = hops_s(w, p, g);
    double alike = hop[g.count];
    for (int k = 0; k < g.count; k++)
        alike += fmax(p->seconds[g.start], hop[k]);
    for (int i = 0; i < g.count; i++) {
        int r = g.start + i * g.stride;
        w->wait[r] = start - w->clock[r];
        w->busy[r] = alike;
    }
    if (!members_alike(p->seconds, g))
        walk_uneven_ring(w, p, g, hop);
}

/* GPUs that share a NIC get the rate of one (hw_nic_bytes_per_s) when all of them send: what their
 * NIC carries, in equal parts. */
static void share_nics(struct walk *w)
{
    int k = w->cluster->gpus_per_nic;
    w->nic_use = 0;
    for (int first = 0; first < w->p->ranks; first += k) {
        int end = first + k < w->p->ranks ? first + k : w->p->ranks, users = 0;
        double sent = 0, received = 0;
        for (int r = first; r < end; r++) {
            sent += w->bytes[r].send_far;
            received += w->bytes[r].recv_far;
            users += w->bytes[r].send_far > 0;
        }
        for (int r = first; r < end; r++) {
            w->bytes[r].send_far = w->bytes[r].send_far > 0 ? sent / k : 0;
            w->bytes[r].recv_far = w->bytes[r].recv_far > 0 ? received / k : 0;
        }
        w->nic_use = fmax(w->nic_use, (double)users / k);
    }
}

static void walk_collective(struct walk *w, const struct cp_phase *p)
{
    cost_phase_bytes(p, w->conf, w->cluster->gpus_per_node, w->bytes);
    share_nics(w);
    for (int r = 0; r < w->p->ranks; r++) {
        if (!group_first(w->conf, p->scope, r))
            continue;
        struct group g = group_of(w->conf, p->scope, r);
        double start = 0;
        for (int i = 0; i < g.count; i++)
            start = fmax(start, w->clock[g.start + i * g.stride]);
        if (p->kind == PHASE_RING) {
            walk_ring(w, p, g, start);
            continue;
        }
        for (int i = 0; i < g.count; i++) {
            int m = g.start + i * g.stride;
            w->wait[m] = start - w->clock[m];
            w->busy[m] = g.count < 2 ? 0 : collective_s(w, p, g, w->bytes[m]);
        }
    }
}

/* Copies to and from the host run beside all else. */
static void walk_host(struct walk *w, const struct cp_phase *p, struct phase_time *out)
{
    for (int r = 0; r < w->p->ranks; r++) {
        double busy = (p->from ? p->from[r] : p->to[r]) / w->cluster->pcie_bytes_per_s;
        out->busy_max_s = fmax(out->busy_max_s, busy);
        out->busy_mean_s += busy / w->p->ranks;
    }
}

/* What the copies of a direction take beyond the passes they run beside: blocks follow each other,
 * so that one block's copies have the time of one block. */
static void expose_host(const struct cp_program *p, struct program_time *t)
{
    double room[2] = {t->pass_s[PASS_FORWARD],
                      t->pass_s[PASS_RECOMPUTE] + t->pass_s[PASS_BACKWARD]};
    for (int i = 0; i < p->phase_count; i++) {
        const struct cp_phase *ph = &p->phases[i];
        if (ph->kind != PHASE_HOST)
            continue;
        double *left = &room[ph->pass != PASS_FORWARD];
        double exposed = fmax(0, t->phase[i].busy_max_s - *left);
        *left = fmax(0, *left - t->phase[i].busy_max_s);
        t->phase[i].critical_s = exposed;
        t->pass_s[ph->pass] += exposed;
        t->class_s[ph->cost] += exposed;
        t->total_s += exposed;
    }
}

/* What of a phase is computing; the rest of its time is exchange that nothing hides. */
static double phase_compute_s(const struct cp_phase *p, const struct cp_conf *conf, int rank)
{
    if (p->kind == PHASE_COMPUTE)
        return p->seconds[rank];
    return p->kind == PHASE_RING ? conf->seq_groups * p->seconds[rank] : 0;
}

static void walk_phase(struct walk *w, const struct cp_phase *p, struct phase_time *out,
                       struct program_time *t)
{
    int ranks = w->p->ranks;
    if (p->kind == PHASE_HOST) {
        walk_host(w, p, out);
        return;
    }
    if (p->kind == PHASE_COMPUTE)
        for (int r = 0; r < ranks; r++) {
            w->busy[r] = p->seconds[r];
            w->wait[r] = 0;
        }
    else
        walk_collective(w, p);
    for (int r = 0; r < ranks; r++) {
        w->clock[r] += w->wait[r] + w->busy[r];
        t->wait_s[r] += w->wait[r];
        double compute = phase_compute_s(p, w->conf, r);
        t->compute_s[r] += compute;
        t->comm_s[r] += w->busy[r] - compute;
        out->busy_max_s = fmax(out->busy_max_s, w->busy[r]);
        out->busy_mean_s += w->busy[r] / ranks;
        out->wait_max_s = fmax(out->wait_max_s, w->wait[r]);
    }
}

static double clock_max(const struct walk *w)
{
    double m = 0;
    for (int r = 0; r < w->p->ranks; r++)
        m = fmax(m, w->clock[r]);
    return m;
}

/* A phase's share of the slowest rank's path, by class: what a ring's hops do not hide is not
 * attention. */
static void count_share(const struct walk *w, const struct cp_phase *p, double share,
                        struct program_time *t)
{
    double hops = 0;
    for (int r = 0, slowest = -1; r < w->p->ranks && p->kind == PHASE_RING; r++)
        if (slowest < 0 || w->clock[r] > w->clock[slowest]) {
            slowest = r;
            hops = fmin(share, w->busy[r] - phase_compute_s(p, w->conf, r));
        }
    hops = fmax(hops, 0);
    t->pass_s[p->pass] += share;
    t->class_s[p->cost] += share - hops;
    t->doubt_s[p->cost] += (share - hops) * p->half;
    t->class_s[CLASS_P2P] += hops;
    t->doubt_s[CLASS_P2P] += hops * w->p->half[CLASS_P2P];
    t->outside_s += p->outside ? share - hops : 0;
    t->total_s += share;
}

struct program_time cost_program_time(const struct cp_program *p, const struct cp_conf *conf,
                                      const struct hw_cluster *cluster, struct arena *a,
                                      struct arena *scratch)
{
    struct program_time t = {.phase_count = p->phase_count,
                             .phase = ARENA_ARRAY(a, struct phase_time, p->phase_count),
                             .compute_s = ARENA_ARRAY(a, double, p->ranks),
                             .comm_s = ARENA_ARRAY(a, double, p->ranks),
                             .wait_s = ARENA_ARRAY(a, double, p->ranks)};
    struct walk w = {p,
                     conf,
                     cluster,
                     ARENA_ARRAY(scratch, double, p->ranks),
                     ARENA_ARRAY(scratch, double, p->ranks),
                     ARENA_ARRAY(scratch, double, p->ranks),
                     ARENA_ARRAY(scratch, struct cp_bytes, p->ranks),
                     scratch,
                     0};
    for (int i = 0; i < p->phase_count; i++) {
        const struct cp_phase *ph = &p->phases[i];
        double before = clock_max(&w);
        walk_phase(&w, ph, &t.phase[i], &t);
        double share = clock_max(&w) - before; /* how far this phase pushed the slowest rank */
        t.phase[i].critical_s = share;
        count_share(&w, ph, share, &t);
    }
    expose_host(p, &t);
    return t;
}

/* ---- what is on the links, for exchanges that share them ---- */

/* Makes the links' seconds those of `whole_s`, of which `least_s` is latency. */
static void use_calibrated(struct cost_use *u, double whole_s, double least_s)
{
    double wire = fmax(u->link[LINK_NEAR].s, u->link[LINK_FAR].s);
    least_s = fmin(least_s, whole_s);
    for (int l = 0; l < COST_LINKS; l++) {
        u->link[l].s *= wire > 0 ? (whole_s - least_s) / wire : 0;
        u->link[l].wait_s = u->link[l].s > 0 ? least_s : 0;
    }
}

static struct cost_use use_of(const struct hw_cluster *c, double near, double far, int calls)
{
    struct cost_use u = {0};
    if (near > 0) {
        u.link[LINK_NEAR].wait_s = calls * c->nvlink.latency_s;
        u.link[LINK_NEAR].s = near / hw_nvlink_bytes_per_s(c);
    }
    if (far > 0) {
        u.link[LINK_FAR].wait_s = calls * c->nic.latency_s;
        u.link[LINK_FAR].s = far / hw_nic_bytes_per_s(c);
    }
    u.link[LINK_NEAR].messages = 1;
    u.link[LINK_FAR].messages = c->gpus_per_nic;
    return u;
}

double cost_use_s(const struct cost_use *u)
{
    double s = u->compute_s;
    for (int l = 0; l < COST_LINKS; l++)
        s = fmax(s, u->link[l].s > 0 ? u->link[l].wait_s + u->link[l].s : 0);
    return s;
}

/* The latency of a calibrated exchange: its time for a byte a call. */
static double least_s(const struct hw_cluster *c, struct coll_query q, int calls)
{
    q.bytes = calls;
    return calibrated_s(c, q, calls);
}

/* All-to-alls have a message for each peer at once, rings one. */
static void count_messages(const struct walk *w, const struct cp_phase *p, struct group g, int rank,
                           struct cost_use *u)
{
    int near = 0;
    if (p->kind != PHASE_ALLTOALL)
        return;
    for (int i = 0; i < g.count; i++)
        near += (g.start + i * g.stride) / w->cluster->gpus_per_node ==
                rank / w->cluster->gpus_per_node;
    u->link[LINK_NEAR].messages *= near - 1;
    u->link[LINK_FAR].messages *= g.count - near;
}

static struct cost_use member_use(const struct walk *w, const struct cp_phase *p, struct group g,
                                  int rank)
{
    const struct hw_cluster *c = w->cluster;
    struct cp_bytes b = w->bytes[rank];
    struct cost_use u =
        use_of(c, fmax(b.send_near, b.recv_near), fmax(b.send_far, b.recv_far), p->calls);
    int nodes = c->net ? group_nodes(g, c->gpus_per_node) : 0;
    if (nodes > 0) {
        struct coll_query q = collective_query(p->kind, g.count, nodes, b);
        use_calibrated(&u, calibrated_s(c, q, p->calls), least_s(c, q, p->calls));
    }
    count_messages(w, p, g, rank, &u);
    return u;
}

static bool same_bytes(const struct cp_bytes *a, const struct cp_bytes *b)
{
    return a->send_near == b->send_near && a->recv_near == b->recv_near &&
           a->send_far == b->send_far && a->recv_far == b->recv_far;
}

/* Of the member that takes longest; neighbours of equal bytes are alike. */
static struct cost_use exchange_use(const struct walk *w, const struct cp_phase *p)
{
    struct cost_use most = {0};
    for (int r = 0; r < w->p->ranks; r++) {
        struct group g = group_of(w->conf, p->scope, r);
        if (g.count < 2 || (r > 0 && same_bytes(&w->bytes[r], &w->bytes[r - 1])))
            continue;
        struct cost_use u = member_use(w, p, g, r);
        if (cost_use_s(&u) > cost_use_s(&most))
            most = u;
    }
    return most;
}

/* A hop of a ring between nodes is on both links: most members' neighbours are in their node. */
static struct cost_use hop_use(const struct walk *w, const struct cp_phase *p, struct group g,
                               double bytes)
{
    int per_node = w->cluster->gpus_per_node;
    bool far = g.start / per_node != (g.start + (g.count - 1) * g.stride) / per_node;
    bool near = g.start / per_node == (g.start + g.stride) / per_node;
    struct cost_use u =
        use_of(w->cluster, near ? bytes : 0, far ? bytes * w->nic_use : 0, p->calls);
    u.link[LINK_FAR].messages *= w->nic_use;
    if (w->cluster->net && bytes > 0) {
        struct coll_query q = {.op = COLL_SEND_RECV, .gpus = 2, .nodes = far ? 2 : 1};
        use_calibrated(&u, hop_s(w, p, g, bytes), least_s(w->cluster, q, p->calls));
    }
    return u;
}

/* Of the ring that takes longest, alone. */
static int ring_uses(struct walk *w, const struct cp_phase *p, struct cost_use *out)
{
    int n = w->conf->seq_groups;
    double longest = -1, *hop = ARENA_ARRAY(w->scratch, double, n + 1);
    struct cost_use *u = ARENA_ARRAY(w->scratch, struct cost_use, n + 1);
    for (int r = 0; r < w->p->ranks; r++) {
        struct group g = group_of(w->conf, p->scope, r);
        double s = 0;
        if (g.start != r)
            continue;
        cp_ring_hops(p, r, n, hop);
        for (int k = 0; k <= n; k++) {
            u[k] = k > 0 && hop[k] == hop[k - 1] ? u[k - 1] : hop_use(w, p, g, hop[k]);
            u[k].compute_s = k < n ? p->seconds[r] : 0;
            s += cost_use_s(&u[k]);
        }
        if (s > longest)
            memcpy(out, u, (size_t)(n + 1) * sizeof *u);
        longest = fmax(longest, s);
    }
    return n + 1;
}

int cost_uses_most(const struct cp_conf *conf)
{
    return conf->seq_groups + 1;
}

int cost_phase_uses(const struct cp_phase *p, const struct cp_conf *conf,
                    const struct hw_cluster *c, struct cost_use *out, struct arena *scratch)
{
    int ranks = cp_ranks(conf);
    struct cp_program of = {.ranks = ranks};
    struct walk w = {.p = &of, .conf = conf, .cluster = c, .scratch = scratch};
    if (p->kind == PHASE_HOST)
        return 0;
    *out = (struct cost_use){0};
    for (int r = 0; r < ranks && p->kind == PHASE_COMPUTE; r++)
        out->compute_s = fmax(out->compute_s, p->seconds[r]);
    if (p->kind == PHASE_COMPUTE)
        return 1;
    w.bytes = ARENA_ARRAY(scratch, struct cp_bytes, ranks);
    cost_phase_bytes(p, conf, c->gpus_per_node, w.bytes);
    share_nics(&w);
    if (p->kind == PHASE_RING)
        return ring_uses(&w, p, out);
    *out = exchange_use(&w, p);
    return 1;
}

struct cost_use cost_line_use(const struct hw_cluster *c, enum coll_op op, int ranks, int stride,
                              double bytes)
{
    int members = c->gpus_per_node > stride ? c->gpus_per_node / stride : 1,
        w = ranks <= members       ? ranks
            : ranks % members == 0 ? members
                                   : 1;
    if (ranks < 2)
        return (struct cost_use){0};
    double sent = bytes * coll_wire_share(op, ranks);
    bool far = ranks > w;
    struct cost_use u = use_of(c,
                               w < 2 ? 0
                               : far ? sent * (w - 1) / w
                                     : sent,
                               far ? sent / w : 0, 1);
    struct coll_query q = {
        .op = op, .type = COLL_HALF, .bytes = bytes, .gpus = ranks, .nodes = ranks / w};
    if (c->net)
        use_calibrated(&u, calibrated_s(c, q, 1), least_s(c, q, 1));
    return u;
}

/* ---- published formulas ---- */

double cost_dsv_v1_hcp(double held, int ranks, double tokens, int head_dim)
{
    return 4 * held * (tokens / ranks) * (ranks - 1) / ranks * head_dim;
}

double cost_dsv_v3_hcp(double held, int heads, int ranks, double tokens, int head_dim)
{
    return 4 * tokens * head_dim * fmax(held * (ranks - 1) / ranks, (heads - held) / ranks);
}

double cost_breakeven_union(double row_bytes, double bytes_per_s, double row_s, int ranks)
{
    double remote = (double)(ranks - 1) / ranks, wire = 2 * row_bytes / bytes_per_s * remote;
    return wire / (row_s + wire);
}
