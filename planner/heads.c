#include "planner/heads.h"

#include <math.h>

#include "model/cost.h"
#include "planner/head_times.h"

static int *kv_groups(const struct dit_model *m, struct arena *a)
{
    int *group = ARENA_ARRAY(a, int, m->heads);
    for (int h = 0; h < m->heads; h++)
        group[h] = h / (m->heads / m->kv_heads);
    return group;
}

/* Whole heads; units are whole KV groups while there are enough of them, so that K and V travel
 * once. */
static bool assign_whole(const struct dit_model *m, const struct head_times *t, int64_t nodes,
                         const struct cp_conf *conf, struct assign_result *out, struct arena *a,
                         struct arena *scratch, struct err *e)
{
    struct assign_staged p = {
        .p = {.heads = m->heads,
              .ranks = conf->head_groups,
              .unit_of_head = t->units < m->heads ? kv_groups(m, scratch) : NULL,
              .before_s = t->before_s,
              .out_s = t->out_s},
        .stages = t->passes,
        .stage = t->pass};
    return assign_staged(&p, (struct assign_limits){.nodes = nodes}, out, a, scratch, e);
}

/* Cutting heads must gain more than this to be worth the extra pieces of K and V in every kernel.
 */
#define LEAST_GAIN 0.01

/* What a rank would take if work, queries and KV heads could all be shared out evenly. */
static double even_share_s(const struct dit_model *m, const struct head_times *t,
                           const struct cp_conf *conf)
{
    int r = conf->head_groups;
    double work = 0, q = m->heads, kv = m->kv_heads;
    for (int h = 0; h < m->heads; h++)
        work += t->work_s[h];
    return work / r + assign_wire_in_s(&t->wire, r, q / r, kv / r, q, kv) +
           assign_wire_out_s(&t->wire, r, q / r, q);
}

/* Heads cut by query range, where whole heads, in *conf now, leave the busiest rank well above the
 * mean. */
static bool assign_cut(const struct head_slice *s, const struct head_times *t,
                       const int *rank_of_head, int64_t nodes, struct cp_conf *conf,
                       struct arena *a, struct arena *scratch, struct err *e)
{
    const struct dit_model *m = s->c.model;
    double tokens = (double)dit_attention_tokens(m, s->block, s->c.video_tokens);
    if (!s->c.options.split_heads)
        return true;
    struct assign_split_problem p = {.heads = m->heads,
                                     .ranks = conf->head_groups,
                                     .work_s = t->work_s,
                                     .group_of_head = kv_groups(m, scratch),
                                     .wire = t->wire,
                                     .piece_s = t->fetch_s,
                                     .rank_of_head = rank_of_head,
                                     .query_groups =
                                         (int)(tokens / conf->seq_groups / conf->query_group)};
    struct assign_split cut;
    double whole_s = assign_split_cost_s(&p, conf->pieces, conf->piece_count);
    if (whole_s <= (1 + LEAST_GAIN) * even_share_s(m, t, conf))
        return true;
    if (!assign_split(&p, (struct assign_limits){.nodes = nodes}, &cut, a, scratch, e))
        return false;
    if (cut.cost_s > (1 - LEAST_GAIN) * whole_s)
        return true;
    conf->pieces = cut.pieces;
    conf->piece_count = cut.count;
    conf->assign_gap = cut.bound_s > 0 ? cut.cost_s / cut.bound_s - 1 : 0;
    return true;
}

/* What a slice's case points at. */
struct slice {
    struct dit_model model;
    struct hw_cluster cluster;
    struct head_slice s;
};

static void slice_of(struct slice *s, const struct cp_case *c, int block, int tensor, int rank)
{
    int heads = c->model->heads / tensor;
    s->model = *c->model;
    s->model.heads = heads;
    s->model.kv_heads = c->model->kv_heads > tensor ? c->model->kv_heads / tensor : 1;
    s->cluster = *c->cluster;
    s->cluster.gpus_per_node = c->cluster->gpus_per_node / tensor;
    s->s = (struct head_slice){.c = *c, .block = block, .first = rank * heads};
    s->s.c.model = &s->model;
    s->s.c.cluster = &s->cluster;
}

/* db-SP's rule: the heaviest head that is left goes to the rank with the least work that still has
 * room, as many on each. */
static void assign_equal_counts(const struct head_slice *s, struct cp_conf *conf, struct arena *a,
                                struct arena *scratch)
{
    int heads = s->c.model->heads, r = conf->head_groups, *count = ARENA_ARRAY(scratch, int, r);
    double *load = ARENA_ARRAY(scratch, double, r), *work = ARENA_ARRAY(scratch, double, heads);
    struct cp_piece *pieces = ARENA_ARRAY(a, struct cp_piece, heads);
    for (int h = 0; h < heads; h++)
        work[h] = head_work_s(s, h, conf);
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

/* Whole heads into *conf; heads cut where that seems to pay into *cut, else the same. */
static bool assign_slice(const struct head_slice *s, int64_t nodes, struct cp_conf *conf,
                         struct cp_conf *cut, struct arena *a, struct arena *scratch, struct err *e)
{
    int heads = s->c.model->heads;
    bool balanced = conf->head_groups > 1 && cp_strategies[conf->strategy].balanced;
    conf->piece_count = heads;
    conf->assign_gap = 0;
    if (conf->head_groups > 1 && cp_strategies[conf->strategy].permutes)
        assign_equal_counts(s, conf, a, scratch);
    else if (!balanced)
        conf->pieces = cp_pieces_even(heads, conf->head_groups, a);
    *cut = *conf;
    if (!balanced)
        return true;
    struct head_times t = head_times_of(s, conf, scratch);
    struct assign_result r;
    if (!assign_whole(s->c.model, &t, nodes, conf, &r, a, scratch, e))
        return false;
    struct cp_piece *pieces = ARENA_ARRAY(a, struct cp_piece, heads);
    for (int h = 0; h < heads; h++)
        pieces[h] = (struct cp_piece){.head = h, .head_rank = r.rank_of_head[h], .share = 1};
    conf->pieces = pieces;
    conf->assign_gap = r.bound_s > 0 && r.proof == ASSIGN_UNPROVED ? r.cost_s / r.bound_s - 1 : 0;
    *cut = *conf;
    return assign_cut(s, &t, r.rank_of_head, nodes, cut, a, scratch, e);
}

/* The pieces of all tensor ranks, as those of one configuration. */
static void join_slices(const struct cp_conf *own, int heads, struct cp_conf *out, struct arena *a)
{
    int tensor = cp_tensor(out);
    out->piece_count = 0;
    out->assign_gap = 0;
    for (int t = 0; t < tensor; t++) {
        out->piece_count += own[t].piece_count;
        out->assign_gap = fmax(out->assign_gap, own[t].assign_gap);
    }
    struct cp_piece *piece = ARENA_ARRAY(a, struct cp_piece, out->piece_count);
    out->pieces = piece;
    for (int t = 0; t < tensor; t++)
        for (int i = 0; i < own[t].piece_count; i++) {
            *piece = own[t].pieces[i];
            piece->head += t * heads;
            piece++->head_rank += t * out->head_groups;
        }
}

/* Each tensor rank shares out its own heads. */
static bool assign_tensor(const struct cp_case *c, int block, int64_t nodes, struct cp_conf *conf,
                          struct cp_conf *cut, struct arena *a, struct arena *scratch,
                          struct err *e)
{
    int tensor = cp_tensor(conf), heads = c->model->heads / tensor;
    struct cp_conf *own = ARENA_ARRAY(scratch, struct cp_conf, 2 * tensor);
    struct slice *s = ARENA_NEW(scratch, struct slice);
    bool any = false;
    for (int t = 0; t < tensor; t++) {
        own[t] = *conf;
        own[t].tensor = 1;
        slice_of(s, c, block, tensor, t);
        if (!assign_slice(&s->s, nodes, &own[t], &own[tensor + t], a, scratch, e))
            return false;
        any |= own[tensor + t].pieces != own[t].pieces;
    }
    join_slices(own, heads, conf, a);
    *cut = *conf;
    if (any)
        join_slices(own + tensor, heads, cut, a);
    return true;
}

/* What a block's exchanges and attention take. */
static double block_s(const struct cp_case *c, int block, const struct cp_conf *conf,
                      struct arena *scratch)
{
    struct cp_case attention = *c;
    attention.linear = false;
    struct cp_program p = cp_program_of(&attention, block, conf, scratch);
    return cost_program_time(&p, conf, c->cluster, scratch, scratch).total_s;
}

bool plan_assign_heads(const struct cp_case *c, int block, int64_t nodes, struct cp_conf *conf,
                       struct arena *a, struct arena *scratch, struct err *e)
{
    struct cp_conf cut;
    struct head_slice s = {.c = *c, .block = block};
    if (!(cp_tensor(conf) > 1 ? assign_tensor(c, block, nodes, conf, &cut, a, scratch, e)
                              : assign_slice(&s, nodes, conf, &cut, a, scratch, e)))
        return false;
    if (cut.pieces != conf->pieces &&
        block_s(c, block, &cut, scratch) < (1 - LEAST_GAIN) * block_s(c, block, conf, scratch))
        *conf = cut;
    return true;
}
