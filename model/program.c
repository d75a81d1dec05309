#include "model/program.h"

#include <assert.h>
#include <math.h>
#include <string.h>

#include "model/calib.h"

const char *const checkpointing_names[] = {"none", "selective", "full", NULL};

const char *const offload_names[] = {"none", "indices", "kv", NULL};

struct cp_options cp_options_default(void)
{
    return (struct cp_options){.checkpointing = CHECKPOINT_FULL,
                               .grad_fp32 = true,
                               .split_heads = true,
                               .moved_blocks = -1,
                               .offload = OFFLOAD_INDICES,
                               .predictor_rank = 16};
}

enum { BF16 = 2, FP32 = 4 };

/* What the phases of one block are made from. Per-head-rank arrays are indexed by head rank. */
struct build {
    const struct cp_case *c;
    const struct cp_conf *conf;
    const struct dit_model *m;
    struct cp_held held;
    int block, ranks;
    double tokens; /* S: length of self-attention, times samples where a volume is meant */
    double samples;
    double shard;    /* tokens of a sequence rank: S / g_s */
    double local;    /* tokens of a context rank outside attention: S / (g_h g_s) */
    double *pairs;   /* kept (query, key) pairs of a head rank, tile-rounded, its S / g_s queries */
    double *fetched; /* KV rows a head rank fetches from each peer of its column, summed over KV
                        heads */
    double *rows;    /* [head rank][i][j]: rows that shard i fetches of shard j; NULL: as many from
                        each */
    struct cp_phase *phases;
    int count;
    double half[COST_CLASSES];
    struct arena *a;
};

/* ---- per head rank ---- */

static void count_pairs(struct build *b)
{
    for (int i = 0; i < b->conf->piece_count; i++) {
        const struct cp_piece *p = &b->conf->pieces[i];
        double keep = sparsity_keep(b->c->sparsity, b->block, p->head);
        double keys = fmin(kern_tiled(b->c->kernels, keep * b->tokens), b->tokens);
        b->pairs[p->head_rank] += p->share * b->shard * keys * b->samples;
    }
}

/* Rows of each other shard that a holder of one of `shards` shards fetches, by head rank. Query
 * heads that share a KV head (GQA) choose their keys independently: a row stays behind only if none
 * wants it. */
static double *count_fetched(const struct build *b, int shards)
{
    int kv_heads = b->m->kv_heads, per_kv = b->m->heads / kv_heads;
    bool all = cp_strategies[b->conf->strategy].move != MOVE_ROWS || !b->conf->sparse;
    int head_ranks = cp_head_ranks(b->conf);
    double *unwanted = ARENA_ARRAY(b->a, double, (size_t)head_ranks *(size_t)kv_heads),
           *fetched = ARENA_ARRAY(b->a, double, head_ranks);
    for (int i = 0; i < head_ranks * kv_heads; i++)
        unwanted[i] = 1;
    for (int i = 0; i < b->conf->piece_count; i++) {
        const struct cp_piece *p = &b->conf->pieces[i];
        double u = all ? 1
                       : sparsity_union(b->c->sparsity, b->block, p->head, (int64_t)b->tokens,
                                        b->c->grid, shards, b->conf->query_group);
        unwanted[p->head_rank * kv_heads + p->head / per_kv] *= 1 - u;
    }
    for (int g = 0; g < head_ranks; g++)
        for (int k = 0; k < kv_heads; k++)
            fetched[g] += (1 - unwanted[g * kv_heads + k]) * b->shard * b->samples;
    return fetched;
}

static bool needs_known(const struct build *b)
{
    const struct cp_conf *c = b->conf;
    return cp_strategies[c->strategy].move == MOVE_ROWS && c->sparse && c->seq_groups > 1 &&
           sparsity_need(b->c->sparsity, b->block, 0, c->seq_groups);
}

/* Share of shard j's keys that shard i wants of a KV head, [head rank][KV head][i][j] at sequence
 * degree n; where only the mean over pairs is known, that. */
static double *wanted_shares(const struct build *b, int n)
{
    int kv_heads = b->m->kv_heads, per_kv = b->m->heads / kv_heads;
    size_t pairs = (size_t)n * (size_t)n,
           all = (size_t)cp_head_ranks(b->conf) * (size_t)kv_heads * pairs;
    double *share = ARENA_ARRAY(b->a, double, all);
    for (int i = 0; i < b->conf->piece_count; i++) {
        const struct cp_piece *p = &b->conf->pieces[i];
        const double *need = sparsity_need(b->c->sparsity, b->block, p->head, n);
        double mean = need ? 0
                           : sparsity_union(b->c->sparsity, b->block, p->head, (int64_t)b->tokens,
                                            b->c->grid, n, b->conf->query_group);
        double *of = &share[(size_t)(p->head_rank * kv_heads + p->head / per_kv) * pairs];
        for (size_t k = 0; k < pairs; k++)
            of[k] = 1 - (1 - of[k]) * (1 - (need ? need[k] : mean));
    }
    return share;
}

/* As count_fetched, for each pair of shards: an owner of hot rows sends them to every peer (KA24).
 */
static double *count_rows(const struct build *b)
{
    size_t n = (size_t)b->conf->seq_groups, pairs = n * n, ranks = (size_t)cp_head_ranks(b->conf),
           kv_heads = (size_t)b->m->kv_heads;
    const double *share = wanted_shares(b, (int)n);
    double *rows = ARENA_ARRAY(b->a, double, ranks *pairs);
    for (size_t g = 0; g < ranks * kv_heads; g++)
        for (size_t k = 0; k < pairs; k++)
            rows[g / kv_heads * pairs + k] += share[g * pairs + k] * b->shard * b->samples;
    return rows;
}

/* What a server's `near` shards, the first of them `reader`, want together of each of the `near`
 * shards from `owner` on, in out[]; `pairs` is [n][n]. An owner's part lies between the most that
 * one reader wants and what all want in sum, at the place between the two, the same for all, that
 * makes their mean `together`: what a shard as large as a server wants of another. */
static void server_wants(const double *pairs, int n, int near, int reader, int owner,
                         double together, double *out)
{
    double low = 0, high = 0;
    for (int j = 0; j < near; j++) {
        double most = 0, sum = 0;
        for (int i = 0; i < near; i++) {
            double one = pairs[(size_t)(reader + i) * (size_t)n + (size_t)(owner + j)];
            most = fmax(most, one);
            sum += one;
        }
        out[j] = most;
        out[near + j] = fmin(1, sum) - most;
        low += most / near;
        high += fmin(1, sum) / near;
    }
    double place = high > low ? fmin(1, fmax(0, (together - low) / (high - low))) : 0;
    for (int j = 0; j < near; j++)
        out[j] += place * out[near + j];
}

/* Rows of each shard that each server's `near` shards want together: [head rank][server][j]. */
static double *count_server_rows(const struct build *b, int near)
{
    size_t n = (size_t)b->conf->seq_groups, servers = n / (size_t)near,
           ranks = (size_t)cp_head_ranks(b->conf), kv_heads = (size_t)b->m->kv_heads;
    const double *one = wanted_shares(b, (int)n), *all = wanted_shares(b, (int)servers);
    double *rows = ARENA_ARRAY(b->a, double, ranks *servers *n),
           *wants = ARENA_ARRAY(b->a, double, 2 * near);
    for (size_t g = 0; g < ranks * kv_heads; g++)
        for (size_t k = 0; k < servers * servers; k++) {
            size_t to = k / servers, from = k % servers;
            server_wants(&one[g * n * n], (int)n, near, (int)to * near, (int)from * near,
                         all[g * servers * servers + k], wants);
            for (int j = 0; j < near; j++)
                rows[(g / kv_heads * servers + to) * n + from * (size_t)near + (size_t)j] +=
                    wants[j] * b->shard * b->samples;
        }
    return rows;
}

/* Rows that rank `reader` fetches of rank `owner` of its column. */
static double rows_between(const struct build *b, int owner, int reader)
{
    size_t n = (size_t)b->conf->seq_groups, h = (size_t)cp_head_rank(b->conf, reader);
    return b->rows[(h * n + (size_t)cp_seq_rank(b->conf, reader)) * n +
                   (size_t)cp_seq_rank(b->conf, owner)];
}

/* Rows that a rank fetches of all its peers, or sends to them. */
static double rows_of(const struct build *b, int rank, bool sent)
{
    int h = cp_head_rank(b->conf, rank), n = b->conf->seq_groups;
    double sum = 0;
    if (!b->rows)
        return b->fetched[h] * (n - 1);
    for (int j = 0; j < n; j++) {
        int peer = cp_rank_at(b->conf, h, j);
        sum += peer == rank ? 0 : sent ? rows_between(b, rank, peer) : rows_between(b, peer, rank);
    }
    return sum;
}

/* Members of a column that share a node. */
static int column_in_node(const struct build *b)
{
    int node = b->c->cluster->gpus_per_node / cp_tensor(b->conf), n = b->conf->seq_groups;
    int near = b->conf->heads_inside ? node / b->conf->head_groups : node;
    return near < 1 ? 1 : near < n ? near : n;
}

/* ---- phases ---- */

static struct cp_phase *add(struct build *b, const char *name, enum cp_pass pass,
                            enum phase_kind kind, enum phase_scope scope, enum cost_class cost)
{
    assert(b->count < CP_PHASES_MOST);
    struct cp_phase *p = &b->phases[b->count++];
    *p = (struct cp_phase){
        .name = name, .pass = pass, .kind = kind, .scope = scope, .cost = cost, .calls = 1};
    p->half = b->half[cost];
    return p;
}

static double *per_rank(struct build *b)
{
    return ARENA_ARRAY(b->a, double, b->ranks);
}

static double *all_ranks(struct build *b, double value)
{
    double *v = per_rank(b);
    for (int r = 0; r < b->ranks; r++)
        v[r] = value;
    return v;
}

static int head_rank(const struct build *b, int rank)
{
    return cp_head_rank(b->conf, rank);
}

static void add_compute(struct build *b, const char *name, enum cp_pass pass, enum cost_class cost,
                        double seconds)
{
    add(b, name, pass, PHASE_COMPUTE, SCOPE_NONE, cost)->seconds = all_ranks(b, seconds);
}

/* What a kernel's curve says of the phase's time; without one the class's half-width stays. */
static void know(struct cp_phase *p, struct kern_time t)
{
    p->half = t.half > 0 ? t.half : p->half;
    p->outside = t.outside;
}

static void add_kernel(struct build *b, const char *name, enum cp_pass pass, enum cost_class cost,
                       struct kern_time t)
{
    struct cp_phase *p = add(b, name, pass, PHASE_COMPUTE, SCOPE_NONE, cost);
    p->seconds = all_ranks(b, t.s);
    know(p, t);
}

/* q Q-like and kv K-like tensors from sequence shards to head shards: rank j gets its heads of
 * every peer's tokens. */
static void add_to_heads(struct build *b, const char *name, enum cp_pass pass, int q, int kv,
                         double width, int calls)
{
    if (b->conf->head_groups < 2)
        return;
    struct cp_phase *p = add(b, name, pass, PHASE_ALLTOALL, SCOPE_ROW, CLASS_COLLECTIVE);
    double *to = per_rank(b);
    for (int r = 0; r < b->ranks; r++) {
        int h = head_rank(b, r);
        to[r] = (q * b->held.q[h] + kv * b->held.kv[h]) * b->local * width * BF16 * b->samples;
    }
    p->from = all_ranks(b, 1);
    p->to = to;
    p->calls = calls;
}

/* The way back: each rank sends its heads' results to where the tokens live. */
static void add_to_tokens(struct build *b, const char *name, enum cp_pass pass, int q, int kv,
                          int calls)
{
    if (b->conf->head_groups < 2)
        return;
    struct cp_phase *p = add(b, name, pass, PHASE_ALLTOALL, SCOPE_ROW, CLASS_COLLECTIVE);
    double *from = per_rank(b);
    for (int r = 0; r < b->ranks; r++) {
        int h = head_rank(b, r);
        from[r] =
            (q * b->held.q[h] + kv * b->held.kv[h]) * b->local * b->m->head_dim * BF16 * b->samples;
    }
    p->from = from;
    p->to = all_ranks(b, 1);
    p->calls = calls;
}

/* Heads that the tokens of a rank have: its own and those of its row's other ranks. A KV head that
 * several of them hold goes to each. */
static double row_heads(const struct build *b, int rank, bool kv)
{
    int first = head_rank(b, rank) / b->conf->head_groups * b->conf->head_groups;
    double sum = 0;
    for (int h = first; h < first + b->conf->head_groups; h++)
        sum += kv ? b->held.kv[h] : b->held.q[h];
    return sum;
}

enum copy_side { AT_TOKENS, AT_HEADS };

/* Reading and writing q Q-like and kv K-like tensors once, between messages and where a rank has
 * them: what packing for an all-to-all costs. */
static void add_copy(struct build *b, const char *name, enum cp_pass pass, enum copy_side side,
                     int q, int kv, double width)
{
    if (b->conf->head_groups < 2)
        return;
    double *s = per_rank(b);
    for (int r = 0; r < b->ranks; r++) {
        int h = head_rank(b, r);
        double heads = side == AT_HEADS ? q * b->held.q[h] + kv * b->held.kv[h]
                                        : q * row_heads(b, r, false) + kv * row_heads(b, r, true);
        double bytes =
            2 * heads * (side == AT_HEADS ? b->shard : b->local) * width * BF16 * b->samples;
        s[r] = kern_copy_s(b->c->kernels, &b->c->cluster->gpu, bytes);
    }
    add(b, name, pass, PHASE_COMPUTE, SCOPE_NONE, CLASS_COPY)->seconds = s;
}

static void add_select(struct build *b)
{
    const struct cp_options *o = &b->c->options;
    double r = o->predictor_rank, heads = (double)b->m->heads / cp_tensor(b->conf);
    add_kernel(b, "predictor", PASS_FORWARD, CLASS_GEMM,
               kern_gemm_time(b->c->kernels, &b->c->cluster->gpu, b->local * b->samples,
                              2 * r * heads, b->m->width));
    add_copy(b, "pack q_lr, k_lr", PASS_FORWARD, AT_TOKENS, 1, 1, r);
    add_to_heads(b, "q_lr, k_lr all-to-all", PASS_FORWARD, 1, 1, r, 2);
    add_copy(b, "unpack q_lr, k_lr", PASS_FORWARD, AT_HEADS, 1, 1, r);
    if (b->conf->seq_groups > 1) {
        struct cp_phase *p = add(b, "k_lr all-gather", PASS_FORWARD, PHASE_ALLGATHER, SCOPE_COLUMN,
                                 CLASS_COLLECTIVE);
        double *share = per_rank(b);
        for (int i = 0; i < b->ranks; i++)
            share[i] = b->held.kv[head_rank(b, i)] * b->shard * r * BF16 * b->samples;
        p->from = share;
    }
    struct cp_phase *p = add(b, "select", PASS_FORWARD, PHASE_COMPUTE, SCOPE_NONE, CLASS_SELECT);
    double *s = per_rank(b);
    for (int i = 0; i < b->ranks; i++) {
        struct kern_time t =
            kern_select_time(b->c->kernels, b->held.q[head_rank(b, i)] * b->shard /
                                                b->conf->query_group * b->tokens * b->samples);
        s[i] = t.s;
        know(p, t);
    }
    p->seconds = s;
}

/* Bytes of rows between each pair of a column: from the owner, or back to it. */
static double *rows_matrix(const struct build *b, double row_bytes, bool back)
{
    size_t ranks = (size_t)b->ranks;
    double *m = ARENA_ARRAY(b->a, double, ranks *ranks);
    for (int r = 0; r < b->ranks; r++)
        for (int j = 0; j < b->conf->seq_groups; j++) {
            int owner = cp_rank_at(b->conf, head_rank(b, r), j);
            size_t at =
                back ? (size_t)r * ranks + (size_t)owner : (size_t)owner * ranks + (size_t)r;
            m[at] = owner == r ? 0 : rows_between(b, owner, r) * row_bytes;
        }
    return m;
}

/* Bytes of each owner that the server of each other rank of its column wants. */
static double *server_matrix(const struct build *b, int near, double row_bytes)
{
    size_t ranks = (size_t)b->ranks, n = (size_t)b->conf->seq_groups, servers = n / (size_t)near;
    const double *rows = count_server_rows(b, near);
    double *m = ARENA_ARRAY(b->a, double, ranks *ranks);
    for (int r = 0; r < b->ranks; r++)
        for (int j = 0; j < b->conf->seq_groups; j++) {
            size_t owner = (size_t)cp_rank_at(b->conf, head_rank(b, r), j),
                   to = (size_t)(cp_seq_rank(b->conf, r) / near);
            m[owner * ranks + (size_t)r] =
                rows[((size_t)head_rank(b, r) * servers + to) * n + (size_t)j] * row_bytes;
        }
    return m;
}

/* Rows of a column's exchange: from[i] * to[j] with the count on the receiver (gather) or the
 * sender (return), or what each pair exchanges where that is known. */
static void add_rows(struct build *b, const char *name, enum cp_pass pass, double row_bytes,
                     bool back)
{
    struct cp_phase *p = add(b, name, pass, PHASE_ALLTOALL, SCOPE_COLUMN, CLASS_COLLECTIVE);
    double *rows = per_rank(b);
    for (int r = 0; r < b->ranks; r++)
        rows[r] = b->fetched[head_rank(b, r)] * row_bytes;
    p->from = back ? rows : all_ranks(b, 1);
    p->to = back ? all_ranks(b, 1) : rows;
    p->calls = 2;
    if (b->rows)
        p->matrix = rows_matrix(b, row_bytes, back);
    int near = column_in_node(b);
    if (back || !b->c->server_unions || near < 2 || b->conf->seq_groups % near != 0 ||
        near == b->conf->seq_groups)
        return;
    if (b->rows) {
        p->server_matrix = server_matrix(b, near, row_bytes);
        return;
    }
    const double *wanted = count_fetched(b, b->conf->seq_groups / near);
    double *server = per_rank(b);
    for (int r = 0; r < b->ranks; r++)
        server[r] = wanted[head_rank(b, r)] * row_bytes;
    p->server = server;
}

/* Packing at the owner and unpacking at the reader, per fetched row: random 256-byte accesses, not
 * streams. Half of a row's price each: an owner of hot rows packs more than it unpacks. */
static double *row_seconds(struct build *b, double row_s)
{
    double *s = per_rank(b);
    for (int r = 0; r < b->ranks; r++)
        s[r] = (rows_of(b, r, false) + rows_of(b, r, true)) / 2 * row_s * (b->m->head_dim / 128.0);
    return s;
}

static double kv_share_bytes(const struct build *b, int rank, int width)
{
    return 2.0 * b->held.kv[head_rank(b, rank)] * b->shard * b->m->head_dim * width * b->samples;
}

static void add_collective(struct build *b, const char *name, enum cp_pass pass,
                           enum phase_kind kind, int width)
{
    struct cp_phase *p = add(b, name, pass, kind, SCOPE_COLUMN, CLASS_COLLECTIVE);
    double *share = per_rank(b);
    for (int r = 0; r < b->ranks; r++)
        share[r] = kv_share_bytes(b, r, width);
    p->from = share;
    p->calls = 2;
}

/* Kept (query group, key) pairs of each rank. */
static double *list_entries(struct build *b)
{
    double *held = ARENA_ARRAY(b->a, double, cp_head_ranks(b->conf)), *of = per_rank(b);
    for (int i = 0; i < b->conf->piece_count; i++) {
        const struct cp_piece *p = &b->conf->pieces[i];
        held[p->head_rank] += p->share * b->shard / b->conf->query_group *
                              sparsity_keep(b->c->sparsity, b->block, p->head) * b->tokens *
                              b->samples;
    }
    for (int r = 0; r < b->ranks; r++)
        of[r] = held[head_rank(b, r)];
    return of;
}

/* Which rows the selections touch, and the lists in terms of the rows at hand. */
static void add_lists(struct build *b)
{
    if (!(b->c->kernels->list_s > 0))
        return;
    double *s = list_entries(b);
    for (int r = 0; r < b->ranks; r++)
        s[r] *= b->c->kernels->list_s;
    add(b, "unite selections", PASS_FORWARD, PHASE_COMPUTE, SCOPE_NONE, CLASS_COPY)->seconds = s;
}

/* Wanted rows by bitmap: S / g_s / 8 bytes for each head and owner (KA05d). */
static void add_index(struct build *b)
{
    struct cp_phase *p =
        add(b, "index exchange", PASS_FORWARD, PHASE_ALLTOALL, SCOPE_COLUMN, CLASS_COLLECTIVE);
    double *from = per_rank(b);
    for (int r = 0; r < b->ranks; r++)
        from[r] = b->held.q[head_rank(b, r)] * b->shard / 8 * b->samples;
    p->from = from;
    p->to = all_ranks(b, 1);
}

static void add_gather(struct build *b, enum cp_pass pass)
{
    enum cp_move move = cp_strategies[b->conf->strategy].move;
    if (b->conf->seq_groups < 2 || move == MOVE_NONE || move == MOVE_RING)
        return;
    if (move == MOVE_ALLGATHER) {
        add_collective(b, "kv all-gather", pass, PHASE_ALLGATHER, BF16);
        return;
    }
    if (move == MOVE_ROWS && b->conf->sparse && pass == PASS_FORWARD) {
        add_lists(b);
        add_index(b);
    }
    if (move == MOVE_ROWS)
        add(b, "pack kv rows", pass, PHASE_COMPUTE, SCOPE_NONE, CLASS_COPY)->seconds =
            row_seconds(b, b->c->kernels->gathered_row_s);
    add_rows(b, "kv gather", pass, 2.0 * b->m->head_dim * BF16, false);
}

/* Gradients of whole shards, after they have come: read, added to the own and written, 12 bytes a
 * number; in bf16 rounded before and widened again, 6 each. A collective that adds as it goes has
 * no such phase. */
static void add_sums(struct build *b, bool in_collective)
{
    const struct kern_profile *k = b->c->kernels;
    double bytes = b->c->options.grad_fp32 ? 12 : 24, *s = per_rank(b);
    if (in_collective && !(k->sum_bytes_per_s > 0))
        return;
    for (int r = 0; r < b->ranks; r++)
        s[r] = kern_sum_s(k, &b->c->cluster->gpu,
                          bytes * (b->conf->seq_groups - 1) * kv_share_bytes(b, r, 1));
    add(b, "sum dkv", PASS_BACKWARD, PHASE_COMPUTE, SCOPE_NONE, CLASS_COPY)->seconds = s;
}

/* What linear layers take: 6 bytes a number. */
static void add_rounding(struct build *b)
{
    double *s = per_rank(b);
    for (int r = 0; r < b->ranks; r++)
        s[r] = kern_copy_s(b->c->kernels, &b->c->cluster->gpu, 6 * kv_share_bytes(b, r, 1));
    add(b, "round dkv", PASS_BACKWARD, PHASE_COMPUTE, SCOPE_NONE, CLASS_COPY)->seconds = s;
}

static void add_gradient_return(struct build *b)
{
    const struct kern_profile *k = b->c->kernels;
    enum cp_move move = cp_strategies[b->conf->strategy].move;
    int width = b->c->options.grad_fp32 ? FP32 : BF16;
    if (b->conf->seq_groups < 2 || move == MOVE_NONE || move == MOVE_RING)
        return;
    if (move == MOVE_ALLGATHER)
        add_collective(b, "dkv reduce-scatter", PASS_BACKWARD, PHASE_REDUCESCATTER, width);
    else
        add_rows(b, "dkv return", PASS_BACKWARD, 2.0 * b->m->head_dim * width, true);
    if (move == MOVE_ROWS)
        add(b, "scatter dkv rows", PASS_BACKWARD, PHASE_COMPUTE, SCOPE_NONE, CLASS_COPY)->seconds =
            row_seconds(b, k->scattered_row_s > 0 ? k->scattered_row_s : k->gathered_row_s);
    else
        add_sums(b, move == MOVE_ALLGATHER);
    add_rounding(b);
}

/* ---- the host's memory ---- */

static bool offloads(const struct build *b, enum offload least)
{
    return b->c->options.offload >= least && !b->c->options.inference &&
           b->c->cluster->pcie_bytes_per_s > 0;
}

static void add_host(struct build *b, const char *name, enum cp_pass pass, const double *bytes,
                     bool to_host)
{
    struct cp_phase *p = add(b, name, pass, PHASE_HOST, SCOPE_NONE, CLASS_COPY);
    *(to_host ? &p->from : &p->to) = bytes;
}

/* 4 bytes for each query group and kept key (KA15c), or a bit for each key. */
static void add_index_host(struct build *b, const char *name, enum cp_pass pass, bool to_host)
{
    if (!offloads(b, OFFLOAD_INDICES) || !b->conf->sparse)
        return;
    double *held = ARENA_ARRAY(b->a, double, cp_head_ranks(b->conf)), *bytes = per_rank(b);
    for (int i = 0; i < b->conf->piece_count; i++) {
        const struct cp_piece *p = &b->conf->pieces[i];
        double keep = sparsity_keep(b->c->sparsity, b->block, p->head);
        double list = b->c->options.index_bitmap ? b->tokens / 8 : 4 * keep * b->tokens;
        held[p->head_rank] += p->share * b->shard / b->conf->query_group * list * b->samples;
    }
    for (int r = 0; r < b->ranks; r++)
        bytes[r] = held[head_rank(b, r)];
    add_host(b, name, pass, bytes, to_host);
}

static bool offloads_kv(const struct build *b)
{
    enum cp_move move = cp_strategies[b->conf->strategy].move;
    const struct cp_options *o = &b->c->options;
    bool kept = o->checkpointing == CHECKPOINT_NONE && o->keep_kv; /* on the GPU */
    return offloads(b, OFFLOAD_KV) && !kept && b->conf->seq_groups > 1 && move != MOVE_NONE &&
           move != MOVE_RING;
}

static void add_kv_host(struct build *b, const char *name, enum cp_pass pass, bool to_host)
{
    if (!offloads_kv(b))
        return;
    double *bytes = per_rank(b);
    for (int r = 0; r < b->ranks; r++)
        bytes[r] = rows_of(b, r, false) * 2.0 * b->m->head_dim * BF16;
    add_host(b, name, pass, bytes, to_host);
}

/* Gathered KV for the second time. */
static void add_gather_again(struct build *b, enum cp_pass pass)
{
    if (offloads_kv(b))
        add_kv_host(b, "fetch kv", pass, false);
    else
        add_gather(b, pass);
}

/* ---- db-SP ---- */

/* Its greedy planner runs on the host: milliseconds for each new mask (docs/model.md). */
#define PLAN_BLOCKS_S 1e-3

/* What it leaves of the skew between sequence shards (arXiv 2511.23113, after balancing blocks). */
#define LEVELLED_SKEW 1.05

static bool permutes(const struct build *b)
{
    return cp_strategies[b->conf->strategy].permutes && b->conf->sparse && b->conf->seq_groups > 1;
}

/* `q` Q-like and `kv` K-like tensors: a rank's moved blocks spread over its column. */
static void add_permute(struct build *b, const char *name, enum cp_pass pass, int q, int kv)
{
    if (!permutes(b))
        return;
    int n = b->conf->seq_groups;
    double moved = b->c->options.moved_blocks, share = moved < 0 ? (n - 1.0) / n : moved;
    struct cp_phase *p = add(b, name, pass, PHASE_ALLTOALL, SCOPE_COLUMN, CLASS_COLLECTIVE);
    double *from = per_rank(b);
    for (int r = 0; r < b->ranks; r++) {
        int h = head_rank(b, r);
        from[r] = share / (n - 1) * (q * b->held.q[h] + kv * b->held.kv[h]) * b->shard *
                  b->m->head_dim * BF16 * b->samples;
    }
    p->from = from;
    p->to = all_ranks(b, 1);
    p->calls = q + kv;
}

/* Each rank tells its column which key blocks its query blocks keep, and plans where blocks go. */
static void add_block_plan(struct build *b)
{
    if (!permutes(b))
        return;
    struct cp_phase *p =
        add(b, "mask exchange", PASS_FORWARD, PHASE_ALLTOALL, SCOPE_COLUMN, CLASS_COLLECTIVE);
    double *from = per_rank(b), block = b->conf->query_group;
    for (int r = 0; r < b->ranks; r++)
        from[r] =
            b->held.q[head_rank(b, r)] * b->shard / block * b->tokens / block / 8 * b->samples;
    p->from = from;
    p->to = all_ranks(b, 1);
    add_compute(b, "plan blocks", PASS_FORWARD, CLASS_SELECT, PLAN_BLOCKS_S);
    b->phases[b->count - 1].host = true;
}

/* The first sequence shard has shard_skew times the mean work, the others share the rest. */
static double shard_factor(const struct build *b, bool first)
{
    int n = b->conf->seq_groups;
    double skew = b->c->sparsity->shard_skew;
    if (n < 2 || !(skew > 1))
        return 1;
    skew = fmin(skew, permutes(b) ? LEVELLED_SKEW : n);
    return first ? skew : (n - skew) / (n - 1);
}

/* Keys of one head that lie on a rank: what its gathers read from. */
static double keys_held(const struct build *b, int h, double keys_share)
{
    if (cp_strategies[b->conf->strategy].move != MOVE_ROWS || b->conf->seq_groups < 2 ||
        !(b->held.kv[h] > 0))
        return b->tokens * keys_share;
    return b->shard + (b->conf->seq_groups - 1) * b->fetched[h] / b->held.kv[h] / b->samples;
}

/* Attention of a head rank on `keys_share` of the keys: all (1), or one ring step's (1 / g_s). */
static struct kern_time attention_time(const struct build *b, int h, bool first, bool backward,
                                       double keys_share)
{
    const struct kern_profile *k = b->c->kernels;
    if (b->conf->sparse)
        return kern_sparse_time(k, backward, b->held.q[h] * b->shard * b->samples,
                                b->pairs[h] * keys_share * shard_factor(b, first),
                                keys_held(b, h, keys_share), b->m->head_dim);
    struct attention_query q = {.backward = backward,
                                .batch = b->samples,
                                .heads = b->held.q[h],
                                .queries = b->shard,
                                .keys = b->tokens * keys_share,
                                .head_dim = b->m->head_dim};
    return kern_dense_time(k, &k->dense, &b->c->cluster->gpu, &q);
}

/* Seconds of each rank: those of one head rank differ only in whether they hold the first sequence
 * shard. The phase is known as well as its slowest rank's time. */
static double *attention_seconds(const struct build *b, struct cp_phase *p, double keys_share)
{
    int groups = cp_head_ranks(b->conf);
    double *s = ARENA_ARRAY(b->a, double, b->ranks), *of = ARENA_ARRAY(b->a, double, 2 * groups),
           most = -1;
    for (int i = 0; i < 2 * groups; i++) {
        struct kern_time t =
            attention_time(b, i / 2, i % 2 == 0, p->pass == PASS_BACKWARD, keys_share);
        of[i] = t.s;
        if (t.s > most)
            know(p, t);
        most = fmax(most, t.s);
    }
    for (int r = 0; r < b->ranks; r++)
        s[r] = of[2 * head_rank(b, r) + (cp_seq_rank(b->conf, r) > 0)];
    return s;
}

/* A ring step: the hop takes SMs from the attention above it, and partial results are merged after
 * each step: O read and written in fp32. */
static void add_hops(struct build *b, struct cp_phase *p, double *s)
{
    double *hop = per_rank(b), *hop_back = per_rank(b);
    bool backward = p->pass == PASS_BACKWARD;
    int grad = b->c->options.grad_fp32 ? FP32 : BF16;
    for (int r = 0; r < b->ranks; r++) {
        double merge =
            3 * b->held.q[head_rank(b, r)] * b->shard * b->m->head_dim * FP32 * b->samples;
        s[r] /= 1 - b->c->kernels->overlap_share;
        s[r] += backward ? 0 : kern_copy_s(b->c->kernels, &b->c->cluster->gpu, merge);
        hop[r] = kv_share_bytes(b, r, BF16);
        hop_back[r] = hop[r] + kv_share_bytes(b, r, grad);
    }
    p->from = hop;
    p->to = hop_back;
    p->hop_home = backward && b->c->options.grad_fp32;
    p->hop_sms = b->c->kernels->overlap_share > 0;
}

void cp_ring_hops(const struct cp_phase *p, int rank, int n, double *hop)
{
    bool back = p->pass == PASS_BACKWARD;
    double kv = p->from[rank], gradients = back ? p->to[rank] - kv : 0;
    for (int k = 0; k <= n; k++)
        hop[k] = (k + 1 < n ? kv : 0) + (k > 0 && (k < n || p->hop_home) ? gradients : 0);
}

static void add_attention(struct build *b, enum cp_pass pass)
{
    bool ring = cp_strategies[b->conf->strategy].move == MOVE_RING && b->conf->seq_groups > 1;
    struct cp_phase *p = add(b, pass == PASS_BACKWARD ? "attention backward" : "attention", pass,
                             ring ? PHASE_RING : PHASE_COMPUTE, ring ? SCOPE_COLUMN : SCOPE_NONE,
                             b->conf->sparse ? CLASS_ATTENTION_SPARSE : CLASS_ATTENTION_DENSE);
    double *s = attention_seconds(b, p, ring ? 1.0 / b->conf->seq_groups : 1);
    p->seconds = s;
    if (ring)
        add_hops(b, p, s);
}

/* ---- linear layers ---- */

/* Rows of a rank: tensor ranks share out the layers, not the tokens. */
static double layer_rows(const struct build *b, double tokens)
{
    return tokens * cp_tensor(b->conf) / b->ranks * b->samples;
}

/* y = x W forward; dx = dy W^T and dW = x^T dy backward. */
static struct kern_time layer_time(const struct build *b, const struct dit_layer *l, bool backward)
{
    const struct kern_profile *k = b->c->kernels;
    const struct hw_gpu *g = &b->c->cluster->gpu;
    double rows = layer_rows(b, l->text ? b->m->text_tokens : (double)b->c->video_tokens),
           split = cp_tensor(b->conf), in = l->in / (l->ends ? split : 1),
           out = l->out / (l->ends ? 1 : split);
    if (!backward)
        return kern_gemm_time(k, g, rows, out, in);
    return kern_then(kern_gemm_time(k, g, rows, in, out), kern_gemm_time(k, g, in, out, rows));
}

/* Cross-attention's core: every query on the text. */
static struct kern_time cross_time(const struct build *b, bool backward)
{
    struct attention_query q = {.backward = backward,
                                .batch = 1,
                                .heads = (double)b->m->heads / cp_tensor(b->conf),
                                .queries = layer_rows(b, (double)b->c->video_tokens),
                                .keys = b->m->text_tokens,
                                .head_dim = b->m->head_dim};
    return kern_dense_time(b->c->kernels, &b->c->kernels->dense, &b->c->cluster->gpu, &q);
}

/* Layer by layer on the GPU's GEMM curve. A model whose file gives params_per_token has layers that
 * its shape does not tell: its own stand for them in proportion. */
static struct kern_time layers_time(const struct build *b, bool backward)
{
    struct dit_layer layer[DIT_LAYERS_MOST];
    struct kern_time t = {0};
    int n = dit_layers(b->m, b->block, layer);
    for (int i = 0; i < n; i++)
        t = kern_then(t, layer_time(b, &layer[i], backward));
    t.s *= b->m->params_per_token / dit_params_per_token(b->m);
    return dit_is_cross(b->m, b->block) ? kern_then(t, cross_time(b, backward)) : t;
}

/* All FLOPs at one share of the peak. */
static struct kern_time flops_time(const struct build *b, bool backward)
{
    double flop = dit_linear_flop(b->m, b->c->video_tokens) / dit_blocks(b->m) +
                  dit_cross_flop(b->m, b->block, b->c->video_tokens);
    flop *= (backward ? 2.0 : 1.0) / b->ranks * b->samples;
    return (struct kern_time){.s = kern_gemm_s(b->c->kernels, &b->c->cluster->gpu, flop)};
}

static void add_linear(struct build *b, const char *name, enum cp_pass pass)
{
    bool backward = pass == PASS_BACKWARD;
    if (b->c->linear)
        add_kernel(b, name, pass, CLASS_GEMM,
                   b->c->kernels->gemm_curve.of ? layers_time(b, backward)
                                                : flops_time(b, backward));
}

/* Norms, rotary embedding, activations, residuals: video and text tokens where both are in the
 * block. Without sequence parallelism norms and residuals are on every tensor rank whole. */
static void add_pointwise(struct build *b, const char *name, enum cp_pass pass)
{
    struct dit_pointwise p = dit_pointwise(b->m, b->block, pass == PASS_BACKWARD);
    double tensor = cp_tensor(b->conf), whole = b->c->options.tensor_allreduce ? tensor : 1;
    double bytes =
        (p.whole * whole + p.shared) * b->local / tensor * b->m->width * BF16 * b->samples;
    struct kern_time t = kern_pointwise_time(b->c->kernels, &b->c->cluster->gpu, bytes);
    if (b->c->linear && t.s > 0)
        add_kernel(b, name, pass, CLASS_POINTWISE, t);
}

/* ---- tensor parallelism ---- */

/* `times` tensors of hidden states, shared out over the tensor group. */
static void add_tensor(struct build *b, const char *name, enum cp_pass pass, enum phase_kind kind,
                       int times)
{
    if (!b->c->linear || cp_tensor(b->conf) < 2)
        return;
    struct cp_phase *p = add(b, name, pass, kind, SCOPE_TENSOR, CLASS_COLLECTIVE);
    p->from = all_ranks(b, times * b->local * b->m->width * BF16 * b->samples / cp_tensor(b->conf));
    p->calls = times;
}

/* With sequence parallelism, hidden states are gathered before the layers that they enter. */
static void add_tensor_in(struct build *b, const char *name, enum cp_pass pass, int times)
{
    if (!b->c->options.tensor_allreduce)
        add_tensor(b, name, pass, PHASE_ALLGATHER, times);
}

/* What the layers of all tensor ranks give is summed. */
static void add_tensor_out(struct build *b, const char *scatter, const char *reduce,
                           enum cp_pass pass, int times)
{
    if (b->c->options.tensor_allreduce)
        add_tensor(b, reduce, pass, PHASE_ALLREDUCE, times);
    else
        add_tensor(b, scatter, pass, PHASE_REDUCESCATTER, times);
}

/* The FFN, and cross-attention where a block has it, one after the other. */
static int after_attention(const struct build *b)
{
    return dit_is_cross(b->m, b->block) ? 2 : 1;
}

/* ---- passes ---- */

static void forward(struct build *b)
{
    add_tensor_in(b, "hidden all-gather", PASS_FORWARD, 1);
    if (b->conf->sparse)
        add_select(b);
    add_index_host(b, "offload indices", PASS_FORWARD, true);
    add_copy(b, "pack qkv", PASS_FORWARD, AT_TOKENS, 1, 2, b->m->head_dim);
    add_to_heads(b, "qkv all-to-all", PASS_FORWARD, 1, 2, b->m->head_dim, 3);
    add_copy(b, "unpack qkv", PASS_FORWARD, AT_HEADS, 1, 2, b->m->head_dim);
    add_gather(b, PASS_FORWARD);
    add_kv_host(b, "offload kv", PASS_FORWARD, true);
    add_block_plan(b);
    add_permute(b, "permute qkv blocks", PASS_FORWARD, 1, 2);
    add_attention(b, PASS_FORWARD);
    add_permute(b, "permute o blocks", PASS_FORWARD, 1, 0);
    add_copy(b, "pack o", PASS_FORWARD, AT_HEADS, 1, 0, b->m->head_dim);
    add_to_tokens(b, "o all-to-all", PASS_FORWARD, 1, 0, 1);
    add_copy(b, "unpack o", PASS_FORWARD, AT_TOKENS, 1, 0, b->m->head_dim);
    add_tensor_out(b, "attention reduce-scatter", "attention all-reduce", PASS_FORWARD, 1);
    add_tensor_in(b, "ffn all-gather", PASS_FORWARD, after_attention(b));
    add_linear(b, "linear", PASS_FORWARD);
    add_pointwise(b, "pointwise", PASS_FORWARD);
    add_tensor_out(b, "ffn reduce-scatter", "ffn all-reduce", PASS_FORWARD, after_attention(b));
}

/* Full: all of the forward but the selection, whose indices are kept. Selective: O and LSE are
 * kept, so attention and O's way back are not repeated, but the backward still needs Q, K, V at the
 * heads. */
static void recompute(struct build *b)
{
    enum checkpointing how = b->c->options.checkpointing;
    if (how == CHECKPOINT_NONE)
        return;
    add_tensor_in(b, "hidden all-gather again", PASS_RECOMPUTE, 1);
    add_tensor_in(b, "ffn all-gather again", PASS_RECOMPUTE, after_attention(b));
    add_linear(b, "linear again", PASS_RECOMPUTE);
    add_pointwise(b, "pointwise again", PASS_RECOMPUTE);
    add_tensor_out(b, "attention reduce-scatter again", "attention all-reduce again",
                   PASS_RECOMPUTE, 1);
    add_tensor_out(b, "ffn reduce-scatter again", "ffn all-reduce again", PASS_RECOMPUTE,
                   after_attention(b));
    add_copy(b, "pack qkv again", PASS_RECOMPUTE, AT_TOKENS, 1, 2, b->m->head_dim);
    add_to_heads(b, "qkv all-to-all again", PASS_RECOMPUTE, 1, 2, b->m->head_dim, 3);
    add_copy(b, "unpack qkv again", PASS_RECOMPUTE, AT_HEADS, 1, 2, b->m->head_dim);
    if (how == CHECKPOINT_FULL)
        add_index_host(b, "fetch indices", PASS_RECOMPUTE, false);
    add_gather_again(b, PASS_RECOMPUTE);
    add_permute(b, "permute qkv blocks again", PASS_RECOMPUTE, 1, 2);
    if (how == CHECKPOINT_SELECTIVE)
        return;
    add_attention(b, PASS_RECOMPUTE);
    add_permute(b, "permute o blocks again", PASS_RECOMPUTE, 1, 0);
    add_copy(b, "pack o again", PASS_RECOMPUTE, AT_HEADS, 1, 0, b->m->head_dim);
    add_to_tokens(b, "o all-to-all again", PASS_RECOMPUTE, 1, 0, 1);
    add_copy(b, "unpack o again", PASS_RECOMPUTE, AT_TOKENS, 1, 0, b->m->head_dim);
}

static void backward(struct build *b)
{
    add_tensor_in(b, "ffn gradient all-gather", PASS_BACKWARD, 2 * after_attention(b));
    add_linear(b, "linear backward", PASS_BACKWARD);
    add_pointwise(b, "pointwise backward", PASS_BACKWARD);
    add_tensor_out(b, "ffn gradient reduce-scatter", "ffn gradient all-reduce", PASS_BACKWARD,
                   after_attention(b));
    add_tensor_in(b, "attention gradient all-gather", PASS_BACKWARD, 2);
    add_copy(b, "pack do", PASS_BACKWARD, AT_TOKENS, 1, 0, b->m->head_dim);
    add_to_heads(b, "do all-to-all", PASS_BACKWARD, 1, 0, b->m->head_dim, 1);
    add_copy(b, "unpack do", PASS_BACKWARD, AT_HEADS, 1, 0, b->m->head_dim);
    if (b->c->options.checkpointing != CHECKPOINT_FULL)
        add_index_host(b, "fetch indices", PASS_BACKWARD, false);
    if (b->c->options.checkpointing == CHECKPOINT_NONE && !b->c->options.keep_kv)
        add_gather_again(b, PASS_BACKWARD);
    add_permute(b, "permute do blocks", PASS_BACKWARD, 1, 0);
    add_attention(b, PASS_BACKWARD);
    add_gradient_return(b);
    add_permute(b, "permute dqkv blocks", PASS_BACKWARD, 1, 2);
    add_copy(b, "pack dqkv", PASS_BACKWARD, AT_HEADS, 1, 2, b->m->head_dim);
    add_to_tokens(b, "dqkv all-to-all", PASS_BACKWARD, 1, 2, 3);
    add_copy(b, "unpack dqkv", PASS_BACKWARD, AT_TOKENS, 1, 2, b->m->head_dim);
    add_tensor_out(b, "hidden gradient reduce-scatter", "hidden gradient all-reduce", PASS_BACKWARD,
                   1);
}

struct cp_program cp_program_of(const struct cp_case *c, int block, const struct cp_conf *conf,
                                struct arena *a)
{
    struct build b = {
        .c = c, .conf = conf, .m = c->model, .block = block, .ranks = cp_ranks(conf), .a = a};
    b.held = cp_conf_held(conf, c->model->heads, c->model->kv_heads, a);
    b.tokens = (double)dit_attention_tokens(c->model, block, c->video_tokens);
    b.samples = c->samples;
    b.shard = b.tokens / conf->seq_groups;
    b.local = b.tokens * cp_tensor(conf) / b.ranks;
    b.pairs = ARENA_ARRAY(a, double, cp_head_ranks(conf));
    b.phases = ARENA_ARRAY(a, struct cp_phase, CP_PHASES_MOST);
    calib_half_widths(c->cluster, b.half);
    if (conf->sparse)
        count_pairs(&b);
    if (conf->seq_groups > 1)
        b.fetched = count_fetched(&b, conf->seq_groups);
    if (needs_known(&b))
        b.rows = count_rows(&b);
    forward(&b);
    if (!c->options.inference) {
        recompute(&b);
        backward(&b);
    }
    struct cp_program p = {.ranks = b.ranks, .phase_count = b.count, .phases = b.phases};
    memcpy(p.half, b.half, sizeof p.half);
    return p;
}
