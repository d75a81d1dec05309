#include "planner/head_times.h"

#include <math.h>

#include "model/cost.h"

/* Ranks that exchange: a row or a column. */
struct peers {
    int count, near; /* near: that share a node */
};

struct times {
    const struct head_slice *s;
    const struct cp_case *c;
    const struct cp_conf *conf;
    struct peers row, column;
    double tokens, samples;
    double shard, local; /* tokens of a sequence rank, of a rank */
    int units, per_unit, kv_heads;
    struct arena *a;
};

enum { BF16 = 2, FP32 = 4 };

/* ---- how often ---- */

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

/* What a pass does between the way to the heads and the way back. */
struct pass {
    int q_in, kv_in; /* tensors that come to the heads */
    int q_out, kv_out;
    bool first, gather, attention, backward;
};

static int passes_of(const struct cp_options *o, const struct hw_cluster *k, struct pass *out)
{
    int n = 0;
    bool offload_kv = o->offload == OFFLOAD_KV && k->pcie_bytes_per_s > 0;
    enum checkpointing how = o->checkpointing;
    out[n++] = (struct pass){
        .q_in = 1, .kv_in = 2, .q_out = 1, .first = true, .gather = true, .attention = true};
    if (o->inference)
        return n;
    if (how != CHECKPOINT_NONE)
        out[n++] = (struct pass){.q_in = 1,
                                 .kv_in = 2,
                                 .q_out = how == CHECKPOINT_FULL,
                                 .gather = !offload_kv,
                                 .attention = how == CHECKPOINT_FULL};
    out[n++] = (struct pass){.q_in = 1,
                             .q_out = 1,
                             .kv_out = 2,
                             .gather = how == CHECKPOINT_NONE && !o->keep_kv && !offload_kv,
                             .attention = true,
                             .backward = true};
    return n;
}

/* ---- exchanges ---- */

static struct peers row_of(const struct cp_conf *conf, int per_node)
{
    int near = conf->heads_inside ? per_node : per_node / conf->seq_groups, r = conf->head_groups;
    return (struct peers){r, near < 1 ? 1 : near < r ? near : r};
}

static struct peers column_of(const struct cp_conf *conf, int per_node)
{
    int near = conf->heads_inside ? per_node / conf->head_groups : per_node, n = conf->seq_groups;
    return (struct peers){n, near < 1 ? 1 : near < n ? near : n};
}

static double collective_s(const struct times *t, enum phase_kind kind, struct peers p,
                           struct cp_bytes b, int calls)
{
    int nodes = p.count % p.near == 0 ? p.count / p.near : 0;
    return cost_collective_s(t->c->cluster, kind, p.count, nodes, b, calls);
}

/* All-to-all of a rank that receives and sends so many bytes, the same from and to each peer. */
static double exchange_s(const struct times *t, struct peers p, double recv, double send, int calls)
{
    if (p.count < 2)
        return 0;
    double near = (p.near - 1.0) / (p.count - 1);
    struct cp_bytes b = {.send_near = send * near,
                         .recv_near = recv * near,
                         .send_far = send * (1 - near),
                         .recv_far = recv * (1 - near)};
    return collective_s(t, PHASE_ALLTOALL, p, b, calls);
}

/* `share` bytes of each rank to all of its column: rings as model/cost.c has them. */
static double gather_all_s(const struct times *t, double share)
{
    struct peers p = t->column;
    double bytes = share * (p.count - 1), far = p.near < p.count ? 1.0 / p.near : 0;
    if (p.count < 2)
        return 0;
    struct cp_bytes b = {.send_near = bytes * (1 - far),
                         .recv_near = bytes * (1 - far),
                         .send_far = bytes * far,
                         .recv_far = bytes * far};
    return collective_s(t, PHASE_ALLGATHER, p, b, 1);
}

/* q Q-like and kv K-like tensors to a rank that holds n units, `width` numbers a token and head:
 * its heads come from all peers, theirs go from its tokens. */
static double to_heads_s(const struct times *t, int n, int q, int kv, double width, int calls)
{
    double held = q * n * t->per_unit + kv * fmin(n, t->kv_heads), other = t->units - n;
    double others =
        q * other * t->per_unit + kv * fmin(other, (double)(t->row.count - 1) * t->kv_heads);
    double bytes = t->local * width * BF16 * t->samples;
    return exchange_s(t, t->row, held * bytes * (t->row.count - 1), others * bytes, calls);
}

static double copy_s(const struct times *t, double heads, double width)
{
    return kern_copy_s(t->c->kernels, &t->c->cluster->gpu,
                       2 * heads * t->shard * width * BF16 * t->samples);
}

/* Packing or unpacking at the heads. */
static double heads_copy_s(const struct times *t, int n, int q, int kv, double width)
{
    return copy_s(t, q * n * t->per_unit + kv * fmin(n, t->kv_heads), width);
}

/* K and V rows, or their gradients, of `width` bytes a number. */
static double rows_s(const struct times *t, double rows, int width)
{
    double bytes = rows * 2 * t->c->model->head_dim * width;
    return exchange_s(t, t->column, bytes, bytes, 2);
}

/* ---- kernels ---- */

static double keep_of(const struct head_slice *s, int head)
{
    return sparsity_keep(s->c.sparsity, s->block, s->first + head);
}

static double tokens_of(const struct head_slice *s)
{
    return (double)dit_attention_tokens(s->c.model, s->block, s->c.video_tokens);
}

/* One head's part of a rank that holds its even share of heads: they run side by side. */
static double dense_head_s(const struct cp_case *c, double tokens, const struct cp_conf *conf,
                           bool backward)
{
    const struct kern_profile *k = c->kernels;
    struct attention_query q = {.backward = backward,
                                .batch = c->samples,
                                .heads = fmax((double)c->model->heads / conf->head_groups, 1),
                                .queries = tokens / conf->seq_groups,
                                .keys = tokens,
                                .head_dim = c->model->head_dim};
    return kern_dense_time(k, &k->dense, &c->cluster->gpu, &q).s / q.heads;
}

/* `held`: keys of the head that the rank has. The busiest sequence shard's time, where one is. */
static double attention_s(const struct head_slice *s, int head, const struct cp_conf *conf,
                          bool backward, double held)
{
    const struct cp_case *c = &s->c;
    double tokens = tokens_of(s), rows = tokens / conf->seq_groups * c->samples,
           skew = c->sparsity->shard_skew;
    if (!conf->sparse)
        return dense_head_s(c, tokens, conf, backward);
    skew = skew > 1 ? fmin(skew, conf->seq_groups) : 1;
    double keys = fmin(kern_tiled(c->kernels, keep_of(s, head) * tokens), tokens);
    return kern_sparse_time(c->kernels, backward, rows, rows * keys * skew, held,
                            c->model->head_dim)
        .s;
}

static double select_s(const struct head_slice *s, double heads, const struct cp_conf *conf)
{
    double tokens = tokens_of(s), rows = tokens / conf->seq_groups * s->c.samples;
    return conf->sparse
               ? kern_select_time(s->c.kernels, heads * rows / conf->query_group * tokens).s
               : 0;
}

double head_work_s(const struct head_slice *s, int head, const struct cp_conf *conf)
{
    struct trips t = trips_of(&s->c.options);
    double tokens = tokens_of(s);
    return select_s(s, 1, conf) + t.forwards * attention_s(s, head, conf, false, tokens) +
           t.backwards * attention_s(s, head, conf, true, tokens);
}

/* ---- rows that a column fetches ---- */

static bool fetches_rows(const struct cp_conf *conf)
{
    return conf->seq_groups > 1 && conf->sparse && cp_strategies[conf->strategy].move == MOVE_ROWS;
}

/* Rows that a rank fetches of all its peers for heads that share their KV, of the busiest sequence
 * rank where it is known who wants what of whom: as reader or as owner. */
static double union_rows(const struct times *t, int first, int count)
{
    const struct sparsity *s = t->c->sparsity;
    int n = t->conf->seq_groups, block = t->s->block;
    double unwanted = 1, most = 0;
    if (!sparsity_need(s, block, 0, n)) {
        for (int h = first; h < first + count; h++)
            unwanted *= 1 - sparsity_union(s, block, t->s->first + h, (int64_t)t->tokens,
                                           t->c->grid, n, t->conf->query_group);
        return (1 - unwanted) * (n - 1) * t->shard * t->samples;
    }
    for (int i = 0; i < n; i++) {
        double read = 0, sent = 0;
        for (int j = 0; j < n; j++) {
            double not_read = 1, not_sent = 1;
            for (int h = first; h < first + count; h++) {
                const double *need = sparsity_need(s, block, t->s->first + h, n);
                not_read *= 1 - need[i * n + j];
                not_sent *= 1 - need[j * n + i];
            }
            read += i == j ? 0 : 1 - not_read;
            sent += i == j ? 0 : 1 - not_sent;
        }
        most = fmax(most, fmax(read, sent));
    }
    return most * t->shard * t->samples;
}

/* [heads]; heads of a KV group share its rows out evenly. All zero where KV moves otherwise. */
static double *rows_of_heads(const struct times *t)
{
    double *rows = ARENA_ARRAY(t->a, double, t->c->model->heads);
    for (int u = 0; u < t->units && fetches_rows(t->conf); u++) {
        double of_unit = union_rows(t, u * t->per_unit, t->per_unit);
        for (int h = 0; h < t->per_unit; h++)
            rows[u * t->per_unit + h] = of_unit / t->per_unit;
    }
    return rows;
}

/* Seconds of fetching or returning rows: fixed + rows * each. */
struct line {
    double fixed, each;
};

static struct line rows_line(const struct times *t, double mean_rows, int width, double row_s)
{
    if (!(mean_rows > 0))
        return (struct line){0};
    double half = rows_s(t, mean_rows / 2, width), all = rows_s(t, mean_rows, width);
    double each = fmax(0, (all - half) / (mean_rows / 2));
    return (struct line){.fixed = fmax(0, all - each * mean_rows),
                         .each = each + row_s * t->c->model->head_dim / 128.0};
}

/* ---- tables by the number of units ---- */

/* Numbers of the K and V that n units have on a rank. */
static double kv_numbers(const struct times *t, int n)
{
    return 2 * fmin(n, t->kv_heads) * t->shard * t->c->model->head_dim * t->samples;
}

/* What a column moves whatever the heads are: lists of wanted rows, or all rows of their KV. */
static double column_in_s(const struct times *t, const struct pass *p, int n)
{
    double others = t->column.count - 1, heads = (double)n * t->per_unit;
    if (others < 1)
        return 0;
    if (!fetches_rows(t->conf))
        return p->gather ? rows_s(t, others * fmin(n, t->kv_heads) * t->shard * t->samples, BF16)
                         : 0;
    double bytes = heads * t->shard / 8 * t->samples * others;
    return p->first ? exchange_s(t, t->column, bytes, bytes, 1) : 0;
}

/* Gradients of KV: sent as rows, summed (12 bytes a number in fp32, 24 in bf16) and rounded (6). */
static double column_back_s(const struct times *t, int n)
{
    double others = t->column.count - 1, kv = fmin(n, t->kv_heads), numbers = kv_numbers(t, n);
    bool fp32 = t->c->options.grad_fp32;
    const struct kern_profile *k = t->c->kernels;
    const struct hw_gpu *g = &t->c->cluster->gpu;
    if (others < 1)
        return 0;
    double s = kern_copy_s(k, g, 6 * numbers);
    if (!fetches_rows(t->conf))
        s += rows_s(t, others * kv * t->shard * t->samples, fp32 ? FP32 : BF16) +
             kern_sum_s(k, g, (fp32 ? 12 : 24) * others * numbers);
    return s;
}

static double pass_in_s(const struct times *t, const struct pass *p, int n)
{
    double dim = t->c->model->head_dim;
    return to_heads_s(t, n, p->q_in, p->kv_in, dim, p->q_in + p->kv_in) +
           heads_copy_s(t, n, p->q_in, p->kv_in, dim) + column_in_s(t, p, n) +
           (p->backward ? column_back_s(t, n) : 0) + heads_copy_s(t, n, p->q_out, p->kv_out, dim);
}

/* The way back to the tokens is the way to the heads with sides changed. */
static double out_s(const struct times *t, const struct pass *p, int n)
{
    int tensors = p->q_out + p->kv_out;
    return tensors > 0 ? to_heads_s(t, n, p->q_out, p->kv_out, t->c->model->head_dim, tensors) : 0;
}

static double before_s(const struct times *t, int n)
{
    double width = t->c->options.predictor_rank;
    if (!t->conf->sparse)
        return 0;
    return to_heads_s(t, n, 1, 1, width, 2) + heads_copy_s(t, n, 1, 1, width) +
           gather_all_s(t, fmin(n, t->kv_heads) * t->shard * width * BF16 * t->samples) +
           select_s(t->s, (double)n * t->per_unit, t->conf);
}

/* ---- passes ---- */

/* Uniting the selections of the heads, where the kernels are priced with it. */
static double lists_s(const struct times *t, int head)
{
    return t->shard / t->conf->query_group * keep_of(t->s, head) * t->tokens * t->samples *
           t->c->kernels->list_s;
}

static void pass_fill(const struct times *t, const struct pass *p, const double *rows,
                      double mean_rows, struct head_times *out)
{
    const struct kern_profile *k = t->c->kernels;
    int heads = t->c->model->heads, width = t->c->options.grad_fp32 ? FP32 : BF16;
    double *work = ARENA_ARRAY(t->a, double, heads), *in = ARENA_ARRAY(t->a, double, t->units + 1);
    struct line fetch = {0}, back = {0};
    if (p->gather)
        fetch = rows_line(t, mean_rows, BF16, k->gathered_row_s);
    if (p->backward)
        back = rows_line(t, mean_rows, width,
                         k->scattered_row_s > 0 ? k->scattered_row_s : k->gathered_row_s);
    for (int n = 0; n <= t->units; n++) {
        in[n] = pass_in_s(t, p, n) + (n > 0 ? fetch.fixed + back.fixed : 0);
        out->out_s[n] += out_s(t, p, n);
    }
    for (int h = 0; h < heads; h++) {
        double fetched = rows[h] * (fetch.each + back.each);
        double held =
            fetches_rows(t->conf) ? t->shard + rows[h] * t->per_unit / t->samples : t->tokens;
        work[h] = fetched + (p->attention ? attention_s(t->s, h, t->conf, p->backward, held) : 0);
        if (p->first && fetches_rows(t->conf))
            work[h] += lists_s(t, h);
        out->fetch_s[h] += fetched;
        out->work_s[h] += work[h];
    }
    out->pass[out->passes++] = (struct assign_stage){work, in};
}

/* Seconds that the shard of one head takes to each peer of a row, NVLink and NIC working side by
 * side. */
static double shard_s(const struct times *t)
{
    double bytes = t->local * t->c->model->head_dim * BF16 * t->samples;
    int r = t->row.count, near = t->row.near;
    double near_s = (near - 1) / hw_nvlink_bytes_per_s(t->c->cluster),
           far_s = (r - near) / hw_nic_bytes_per_s(t->c->cluster);
    return bytes * fmax(near_s, far_s) / (r - 1);
}

static struct assign_wire wire_of(const struct times *t)
{
    struct trips n = trips_of(&t->c->options);
    double s = shard_s(t);
    return (struct assign_wire){
        .q_s = n.q_in * s, .kv_s = n.kv_in * s, .o_s = (n.q_out + n.kv_out) * s};
}

static struct times times_of(const struct head_slice *s, const struct cp_conf *conf,
                             struct arena *a)
{
    struct times t = {.s = s, .c = &s->c, .conf = conf, .samples = s->c.samples, .a = a};
    const struct dit_model *m = s->c.model;
    bool by_group = conf->head_groups <= m->kv_heads;
    t.kv_heads = m->kv_heads;
    t.units = by_group ? m->kv_heads : m->heads;
    t.per_unit = m->heads / t.units;
    t.row = row_of(conf, s->c.cluster->gpus_per_node);
    t.column = column_of(conf, s->c.cluster->gpus_per_node);
    t.tokens = tokens_of(s);
    t.shard = t.tokens / conf->seq_groups;
    t.local = t.shard / conf->head_groups;
    return t;
}

struct head_times head_times_of(const struct head_slice *s, const struct cp_conf *conf,
                                struct arena *a)
{
    struct times t = times_of(s, conf, a);
    int heads = s->c.model->heads;
    struct head_times out = {.units = t.units, .heads_per_unit = t.per_unit, .wire = wire_of(&t)};
    out.before_s = ARENA_ARRAY(a, double, t.units + 1);
    out.out_s = ARENA_ARRAY(a, double, t.units + 1);
    out.work_s = ARENA_ARRAY(a, double, heads);
    out.fetch_s = ARENA_ARRAY(a, double, heads);
    for (int n = 0; n <= t.units; n++)
        out.before_s[n] = before_s(&t, n);
    for (int h = 0; h < heads; h++)
        out.work_s[h] = select_s(s, 1, conf);
    const double *rows = rows_of_heads(&t);
    double mean = 0;
    for (int h = 0; h < heads; h++)
        mean += rows[h] / conf->head_groups;
    struct pass pass[PASSES];
    int passes = passes_of(&s->c.options, s->c.cluster, pass);
    for (int i = 0; i < passes; i++)
        pass_fill(&t, &pass[i], rows, mean, &out);
    return out;
}
