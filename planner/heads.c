#include "planner/heads.h"

#include <math.h>

#include "planner/assign.h"

/* How often each kind of tensor changes sides in one step, counted in shards of one head. */
struct trips {
    double q_in, kv_in;         /* to the heads: Q and dO; K and V */
    double q_out, kv_out;       /* back to the tokens: O and dQ; dK and dV */
    double forwards, backwards; /* times that attention runs */
};

static struct trips trips_of(const struct cp_options *o)
{
    if (o->inference)
        return (struct trips){.q_in = 1, .kv_in = 2, .q_out = 1, .forwards = 1};
    bool again = o->checkpointing != CHECKPOINT_NONE, full = o->checkpointing == CHECKPOINT_FULL;
    return (struct trips){.q_in = 2 + again,
                          .kv_in = 2 + 2 * again,
                          .q_out = 2 + full,
                          .kv_out = 2,
                          .forwards = 1 + full,
                          .backwards = 1};
}

/* One head's part of a rank that holds its even share of heads: they run side by side. */
static double dense_head_s(const struct cp_case *c, double tokens, const struct cp_conf *conf,
                           bool backward)
{
    const struct kern_profile *k = c->kernels;
    struct attention_query q = {.backward = backward,
                                .batch = c->samples,
                                .heads = fmax((double)c->model->heads / cp_head_ranks(conf), 1),
                                .queries = tokens / conf->seq_groups,
                                .keys = tokens,
                                .head_dim = c->model->head_dim};
    return kern_dense_time(k, &k->dense, &c->cluster->gpu, &q).s / q.heads;
}

/* Seconds of one head on one rank: its share of the sequence as queries, all keys. */
static double head_work_s(const struct cp_case *c, int block, int head, const struct cp_conf *conf)
{
    struct trips t = trips_of(&c->options);
    double tokens = (double)dit_attention_tokens(c->model, block, c->video_tokens);
    double rows = tokens / conf->seq_groups * c->samples;
    if (!conf->sparse)
        return t.forwards * dense_head_s(c, tokens, conf, false) +
               t.backwards * dense_head_s(c, tokens, conf, true);
    double keys =
        fmin(kern_tiled(c->kernels, sparsity_keep(c->sparsity, block, head) * tokens), tokens);
    int dim = c->model->head_dim;
    return kern_select_time(c->kernels, rows / conf->query_group * tokens).s +
           t.forwards * kern_sparse_time(c->kernels, false, rows, rows * keys, tokens, dim).s +
           t.backwards * kern_sparse_time(c->kernels, true, rows, rows * keys, tokens, dim).s;
}

/* Ranks of a row that share a node. */
static int row_in_node(const struct cp_conf *conf, int per_node)
{
    int near = conf->heads_inside ? per_node : per_node / conf->seq_groups;
    return near < 1 ? 1 : near < conf->head_groups ? near : conf->head_groups;
}

/* Seconds that the shard of one head takes to each peer of a row, NVLink and NIC working side by
 * side. */
static double shard_s(const struct cp_case *c, int block, const struct cp_conf *conf)
{
    double tokens = (double)dit_attention_tokens(c->model, block, c->video_tokens) / cp_ranks(conf);
    double bytes = tokens * c->model->head_dim * 2 * c->samples;
    int r = conf->head_groups, near = row_in_node(conf, c->cluster->gpus_per_node);
    double near_s = (near - 1) / hw_nvlink_bytes_per_s(c->cluster),
           far_s = (r - near) / hw_nic_bytes_per_s(c->cluster);
    return bytes * fmax(near_s, far_s) / (r - 1);
}

/* All queries of all heads, and what their shards take on the wire in one step. */
struct burden {
    double *work;
    struct assign_wire wire;
};

static struct burden burden_of(const struct cp_case *c, int block, const struct cp_conf *conf,
                               struct arena *a)
{
    struct trips t = trips_of(&c->options);
    double s = shard_s(c, block, conf);
    struct burden b = {.work = ARENA_ARRAY(a, double, c->model->heads)};
    b.wire = (struct assign_wire){
        .q_s = t.q_in * s, .kv_s = t.kv_in * s, .o_s = (t.q_out + t.kv_out) * s};
    for (int h = 0; h < c->model->heads; h++)
        b.work[h] = head_work_s(c, block, h, conf);
    return b;
}

static int *kv_groups(const struct dit_model *m, struct arena *a)
{
    int *group = ARENA_ARRAY(a, int, m->heads);
    for (int h = 0; h < m->heads; h++)
        group[h] = h / (m->heads / m->kv_heads);
    return group;
}

/* Whole heads; units are whole KV groups while there are enough of them, so that K and V travel
 * once. */
static bool assign_whole(const struct cp_case *c, const struct burden *b, int64_t nodes,
                         const struct cp_conf *conf, struct assign_result *out, struct arena *a,
                         struct arena *scratch, struct err *e)
{
    const struct dit_model *m = c->model;
    bool by_group = conf->head_groups <= m->kv_heads;
    int units = by_group ? m->kv_heads : m->heads;
    double *in = ARENA_ARRAY(scratch, double, units + 1);
    double *back = ARENA_ARRAY(scratch, double, units + 1);
    assign_wire_fill(&b->wire, conf->head_groups, units, m->heads / units, in, back);
    struct assign_problem p = {.heads = m->heads,
                               .ranks = conf->head_groups,
                               .work_s = b->work,
                               .unit_of_head = by_group ? kv_groups(m, scratch) : NULL,
                               .in_s = in,
                               .out_s = back};
    return assign_exact(&p, (struct assign_limits){.nodes = nodes}, out, a, scratch, e);
}

/* Cutting heads must gain more than this to be worth the extra pieces of K and V in every kernel.
 */
#define LEAST_GAIN 0.01

/* What a rank would take if work, queries and KV heads could all be shared out evenly. */
static double even_share_s(const struct dit_model *m, const struct burden *b,
                           const struct cp_conf *conf)
{
    int r = conf->head_groups;
    double work = 0, q = m->heads, kv = m->kv_heads;
    for (int h = 0; h < m->heads; h++)
        work += b->work[h];
    return work / r + assign_wire_in_s(&b->wire, r, q / r, kv / r, q, kv) +
           assign_wire_out_s(&b->wire, r, q / r, q);
}

/* Heads cut by query range where whole heads leave the busiest rank well above the mean. */
static bool assign_cut(const struct cp_case *c, int block, const struct burden *b, int64_t nodes,
                       struct cp_conf *conf, double whole_s, struct arena *a, struct arena *scratch,
                       struct err *e)
{
    double tokens = (double)dit_attention_tokens(c->model, block, c->video_tokens);
    if (!c->options.split_heads || whole_s <= (1 + LEAST_GAIN) * even_share_s(c->model, b, conf))
        return true;
    struct assign_split_problem p = {.heads = c->model->heads,
                                     .ranks = conf->head_groups,
                                     .work_s = b->work,
                                     .group_of_head = kv_groups(c->model, scratch),
                                     .wire = b->wire,
                                     .query_groups =
                                         (int)(tokens / conf->seq_groups / conf->query_group)};
    struct assign_split cut;
    if (!assign_split(&p, (struct assign_limits){.nodes = nodes}, &cut, a, scratch, e))
        return false;
    if (cut.cost_s > (1 - LEAST_GAIN) * whole_s)
        return true;
    conf->pieces = cut.pieces;
    conf->piece_count = cut.count;
    conf->assign_gap = cut.bound_s > 0 ? cut.cost_s / cut.bound_s - 1 : 0;
    return true;
}

/* One tensor rank's part of a case: its heads, in nodes of its GPUs alone. */
struct slice {
    struct dit_model model;
    struct hw_cluster cluster;
    struct sparsity sparsity;
    struct cp_case c;
};

static void slice_of(struct slice *s, const struct cp_case *c, int tensor, int rank,
                     struct arena *scratch)
{
    int heads = c->model->heads / tensor, blocks = c->sparsity->blocks;
    double *keep = ARENA_ARRAY(scratch, double, (size_t)blocks *(size_t)heads);
    for (int b = 0; b < blocks; b++)
        for (int h = 0; h < heads; h++)
            keep[b * heads + h] = sparsity_keep(c->sparsity, b, rank * heads + h);
    s->model = *c->model;
    s->model.heads = heads;
    s->model.kv_heads = c->model->kv_heads > tensor ? c->model->kv_heads / tensor : 1;
    s->cluster = *c->cluster;
    s->cluster.gpus_per_node = c->cluster->gpus_per_node / tensor;
    s->sparsity = *c->sparsity;
    s->sparsity.heads = heads;
    s->sparsity.keep = keep;
    s->c = *c;
    s->c.model = &s->model;
    s->c.cluster = &s->cluster;
    s->c.sparsity = &s->sparsity;
}

/* db-SP's rule: the heaviest head that is left goes to the rank with the least work that still has
 * room, as many on each. */
static void assign_equal_counts(const struct cp_case *c, int block, struct cp_conf *conf,
                                struct arena *a, struct arena *scratch)
{
    int heads = c->model->heads, r = conf->head_groups, *count = ARENA_ARRAY(scratch, int, r);
    double *load = ARENA_ARRAY(scratch, double, r), *work = ARENA_ARRAY(scratch, double, heads);
    struct cp_piece *pieces = ARENA_ARRAY(a, struct cp_piece, heads);
    for (int h = 0; h < heads; h++)
        work[h] = head_work_s(c, block, h, conf);
    for (int i = 0; i < heads; i++) {
        int head = 0, least = -1;
        for (int h = 1; h < heads; h++)
            head = work[h] > work[head] ? h : head;
        for (int g = 0; g < r; g++)
            if (count[g] < heads / r && (least < 0 || load[g] < load[least]))
                least = g;
        pieces[head] = (struct cp_piece){.head = head, .head_rank = least, .share = 1};
        load[least] += work[head];
        count[least]++;
        work[head] = -1;
    }
    conf->pieces = pieces;
}

/* Each tensor rank shares out its own heads. */
static bool assign_tensor(const struct cp_case *c, int block, int64_t nodes, struct cp_conf *conf,
                          struct arena *a, struct arena *scratch, struct err *e)
{
    int tensor = cp_tensor(conf), heads = c->model->heads / tensor, count = 0;
    struct cp_conf *own = ARENA_ARRAY(scratch, struct cp_conf, tensor);
    struct slice *s = ARENA_NEW(scratch, struct slice);
    conf->assign_gap = 0;
    for (int t = 0; t < tensor; t++) {
        own[t] = *conf;
        own[t].tensor = 1;
        slice_of(s, c, tensor, t, scratch);
        if (!plan_assign_heads(&s->c, block, nodes, &own[t], a, scratch, e))
            return false;
        count += own[t].piece_count;
        conf->assign_gap = fmax(conf->assign_gap, own[t].assign_gap);
    }
    struct cp_piece *pieces = ARENA_ARRAY(a, struct cp_piece, count);
    conf->piece_count = count;
    conf->pieces = pieces;
    for (int t = 0; t < tensor; t++)
        for (int i = 0; i < own[t].piece_count; i++) {
            *pieces = own[t].pieces[i];
            pieces->head += t * heads;
            pieces++->head_rank += t * conf->head_groups;
        }
    return true;
}

bool plan_assign_heads(const struct cp_case *c, int block, int64_t nodes, struct cp_conf *conf,
                       struct arena *a, struct arena *scratch, struct err *e)
{
    int heads = c->model->heads;
    conf->piece_count = heads;
    conf->assign_gap = 0;
    if (cp_tensor(conf) > 1)
        return assign_tensor(c, block, nodes, conf, a, scratch, e);
    if (conf->head_groups > 1 && cp_strategies[conf->strategy].permutes) {
        assign_equal_counts(c, block, conf, a, scratch);
        return true;
    }
    if (conf->head_groups == 1 || !cp_strategies[conf->strategy].balanced) {
        conf->pieces = cp_pieces_even(heads, conf->head_groups, a);
        return true;
    }
    struct burden b = burden_of(c, block, conf, scratch);
    struct assign_result r;
    if (!assign_whole(c, &b, nodes, conf, &r, a, scratch, e))
        return false;
    struct cp_piece *pieces = ARENA_ARRAY(a, struct cp_piece, heads);
    for (int h = 0; h < heads; h++)
        pieces[h] = (struct cp_piece){.head = h, .head_rank = r.rank_of_head[h], .share = 1};
    conf->pieces = pieces;
    conf->assign_gap = r.bound_s > 0 && r.proof == ASSIGN_UNPROVED ? r.cost_s / r.bound_s - 1 : 0;
    return assign_cut(c, block, &b, nodes, conf, r.cost_s, a, scratch, e);
}
