#include "planner/search.h"

#include <math.h>
#include <stdio.h>
#include <string.h>

#include "base/qty.h"
#include "model/calib.h"
#include "model/weights.h"
#include "planner/alike.h"
#include "planner/batch.h"
#include "planner/heads.h"

const char *const dispatch_names[] = {"auto", "dense", "sparse", NULL};

/* One search: the request with the degree at hand, arenas, and the block being worked on. */
struct search {
    const struct plan_request *r;
    struct cp_case c;
    struct cp_case timed; /* that the evaluator's times are of: kernels and links may be its own */
    struct mem_options memory;
    int cp, tensor;
    int heads;                /* of a tensor rank */
    double limit;             /* bytes of one GPU */
    struct known_time *dense; /* what dense configurations took in blocks before */
    int dense_count;
    double least_sparse_s; /* of the block at hand: no sparse configuration is faster */
    struct arena *a;       /* results */
    struct arena *block;   /* candidates of the block at hand */
    struct arena *scratch;
    struct err *e;
};

enum { DENSE_MOST = 256 }; /* configurations x kinds of block */

/* Dense attention does not ask for keeps: blocks of one kind have the same pieces and take the same
 * time. */
struct known_time {
    struct cp_conf conf;
    bool joint, cross;
    struct program_time time;
    double weights_s; /* as a candidate's; below 0: not asked for yet */
};

/* ---- which configurations there are ---- */

/* Dense and sparse kernels make sense for a strategy: fetching needed rows only is what "sparse" is
 * for, and balanced heads without sequence groups are Ulysses, where that may be chosen, when work
 * is equal and heads divide. */
static bool dispatch_fits(const struct search *s, enum cp_strategy strategy, int g_h, bool sparse)
{
    if (s->r->dispatch != DISPATCH_AUTO && sparse != (s->r->dispatch == DISPATCH_SPARSE))
        return false;
    if (sparse)
        return true;
    if (cp_strategies[strategy].move == MOVE_ROWS || cp_strategies[strategy].permutes)
        return false;
    bool ulysses = !s->r->strategies || s->r->strategies[CP_ULYSSES];
    return !(ulysses && cp_strategies[strategy].balanced && g_h == s->cp && s->heads % g_h == 0);
}

static bool degrees_fit(const struct search *s, enum cp_strategy strategy, int g_h, int g_s)
{
    const struct cp_strategy_info *i = &cp_strategies[strategy];
    if (strategy == CP_SINGLE ? s->cp != 1 : (i->rows != (g_h > 1) || i->columns != (g_s > 1)))
        return false;
    if (g_h > s->heads || (i->rows && !i->balanced && s->heads % g_h != 0))
        return false;
    if (s->r->head_groups && (g_h != s->r->head_groups || g_s != s->r->seq_groups))
        return false;
    if (s->r->strategies)
        return s->r->strategies[strategy];
    return !i->permutes || s->c.sparsity->shard_skew > 1; /* else there is nothing to level */
}

/* Placement is a choice only when both degrees are real and the replica spans nodes. */
static int placements(const struct search *s, int g_h, int g_s)
{
    return !s->r->rows_inside && g_h > 1 && g_s > 1 &&
                   s->cp * s->tensor > s->c.cluster->gpus_per_node
               ? 2
               : 1;
}

/* ---- one block ---- */

struct found {
    struct plan_candidate *best; /* ascending; room for keep + 1 */
    int count, keep, tried, refused;
    struct plan_candidate nearest;
};

static int exchanges(const struct plan_candidate *c)
{
    return c->conf.head_groups > 1 ? (c->conf.seq_groups > 1 ? 2 : 1) : c->conf.seq_groups > 1;
}

double plan_candidate_s(const struct plan_candidate *c)
{
    return c->time.total_s + c->weights_s;
}

/* Time, then the documented order: fewer kinds of exchange, larger head_groups, heads inside,
 * dense, enum order. */
static bool better(const struct plan_candidate *a, const struct plan_candidate *b)
{
    double a_s = plan_candidate_s(a), b_s = plan_candidate_s(b), slack = 1e-12 * (a_s + b_s);
    if (fabs(a_s - b_s) > slack)
        return a_s < b_s;
    int order[5] = {exchanges(a) - exchanges(b), b->conf.head_groups - a->conf.head_groups,
                    b->conf.heads_inside - a->conf.heads_inside, a->conf.sparse - b->conf.sparse,
                    (int)a->conf.strategy - (int)b->conf.strategy};
    for (int i = 0; i < 5; i++)
        if (order[i] != 0)
            return order[i] < 0;
    return false;
}

static void keep_candidate(struct found *f, const struct plan_candidate *c)
{
    int i = f->count < f->keep ? f->count++ : f->keep;
    for (; i > 0 && better(c, &f->best[i - 1]); i--)
        f->best[i] = f->best[i - 1];
    f->best[i] = *c;
}

static struct known_time *known_time(struct search *s, int block, const struct cp_conf *conf)
{
    for (int i = 0; i < s->dense_count && !conf->sparse; i++) {
        struct known_time *k = &s->dense[i];
        if (k->conf.strategy == conf->strategy && k->conf.head_groups == conf->head_groups &&
            k->conf.heads_inside == conf->heads_inside &&
            k->joint == dit_is_joint(s->c.model, block) &&
            k->cross == dit_is_cross(s->c.model, block))
            return k;
    }
    return NULL;
}

static struct program_time own_time(const struct program_time *t, int ranks, struct arena *a);
static const struct cp_piece *own_pieces(const struct cp_conf *c, struct arena *a);

static void remember_dense(struct search *s, int block, const struct plan_candidate *c)
{
    if (c->conf.sparse || s->dense_count == DENSE_MOST)
        return;
    struct known_time *k = &s->dense[s->dense_count++];
    *k = (struct known_time){.conf = c->conf,
                             .joint = dit_is_joint(s->c.model, block),
                             .cross = dit_is_cross(s->c.model, block),
                             .time = own_time(&c->time, cp_ranks(&c->conf), s->a),
                             .weights_s = -1};
    k->conf.pieces = own_pieces(&c->conf, s->a);
}

static bool time_of(struct search *s, int block, struct plan_candidate *c)
{
    const struct known_time *known = known_time(s, block, &c->conf);
    if (known) {
        c->time = known->time;
        return true;
    }
    arena_reset(s->scratch);
    if (!s->r->eval->block(s->r->eval, &s->c, block, &c->conf, &c->time, s->block, s->scratch,
                           s->e))
        return false;
    remember_dense(s, block, c);
    return true;
}

static void add_weights(struct search *s, int block, struct plan_candidate *c)
{
    struct weights_case w = {&s->memory, hw_gpus(s->c.cluster), s->tensor};
    arena_reset(s->scratch);
    c->weights_s = s->r->phase == PLAN_STEP
                       ? weights_block_s(&w, &s->timed, block, &c->conf, &c->time, s->scratch)
                       : 0;
}

/* Weights and gradients only add: what is behind the last one kept without them stays behind. Dense
 * blocks of one kind are alike in this, too. */
static void price_weights(struct search *s, int block, const struct found *f,
                          struct plan_candidate *c)
{
    const struct plan_candidate *last = f->count == f->keep ? &f->best[f->keep - 1] : NULL;
    struct known_time *known = known_time(s, block, &c->conf);
    if (s->r->phase != PLAN_STEP || (last && !better(c, last)))
        return;
    if (known && known->weights_s >= 0) {
        c->weights_s = known->weights_s;
        return;
    }
    add_weights(s, block, c);
    if (known)
        known->weights_s = c->weights_s;
}

static bool try_conf(struct search *s, int block, const struct cp_conf *conf, struct found *f)
{
    struct plan_candidate c = {.conf = *conf};
    arena_reset(s->scratch);
    c.memory = mem_of_block(&s->c, &s->memory, block, conf, s->scratch);
    c.fits = c.memory.total <= s->limit;
    f->tried++;
    if (!c.fits) {
        f->refused++;
        if (f->nearest.memory.total == 0 || c.memory.total < f->nearest.memory.total)
            f->nearest = c;
        return true;
    }
    if (!time_of(s, block, &c))
        return false;
    price_weights(s, block, f, &c);
    keep_candidate(f, &c);
    return true;
}

static bool put_heads(struct search *s, int block, struct cp_conf *conf)
{
    const struct known_time *known = known_time(s, block, conf);
    if (known) {
        *conf = known->conf;
        return true;
    }
    arena_reset(s->scratch);
    return plan_assign_heads(&s->c, block, s->r->assign_nodes, conf, s->block, s->scratch, s->e);
}

/* What the rank with the most pairs needs at least for attention: the mean over ranks, since sparse
 * kernels take a sum of so much a row and so much a pair, on fewer keys no longer for each. */
static double least_sparse_s(const struct search *s, int block)
{
    const struct cp_case *c = &s->c;
    double tokens = (double)dit_attention_tokens(c->model, block, c->video_tokens), keys = 0;
    for (int h = 0; h < c->model->heads; h++)
        keys += fmin(kern_tiled(c->kernels, sparsity_keep(c->sparsity, block, h) * tokens), tokens);
    double shard = tokens * c->samples / ((double)s->cp * s->tensor),
           rows = shard * c->model->heads, pairs = shard * keys;
    int dim = c->model->head_dim,
        forwards = 1 + (!c->options.inference && c->options.checkpointing == CHECKPOINT_FULL);
    return forwards * kern_sparse_time(c->kernels, false, rows, pairs, 0, dim).s +
           (c->options.inference ? 0 : kern_sparse_time(c->kernels, true, rows, pairs, 0, dim).s);
}

/* Only where the best alone is asked for, and the closed forms of these kernels judge. */
static bool cannot_win(const struct search *s, bool sparse, const struct found *f)
{
    return sparse && f->keep == 1 && f->count == 1 && !s->r->rerank && s->r->eval == &eval_cost &&
           s->least_sparse_s > plan_candidate_s(&f->best[0]) * (1 + 1e-9);
}

static bool try_degrees(struct search *s, int block, enum cp_strategy strategy, int g_h, int g_s,
                        bool sparse, struct found *f)
{
    for (int place = 0; place < placements(s, g_h, g_s); place++) {
        if (!dispatch_fits(s, strategy, g_h, sparse))
            continue;
        if (cannot_win(s, sparse, f)) {
            f->tried++;
            continue;
        }
        struct cp_conf conf = {.strategy = strategy,
                               .head_groups = g_h,
                               .seq_groups = g_s,
                               .tensor = s->tensor,
                               .heads_inside = !place,
                               .sparse = sparse,
                               .query_group = s->r->query_group};
        if (!put_heads(s, block, &conf) || !try_conf(s, block, &conf, f))
            return false;
    }
    return true;
}

/* Dense before sparse; the order decides nothing (better). */
static bool try_all(struct search *s, int block, struct found *f)
{
    s->least_sparse_s = least_sparse_s(s, block);
    for (int sparse = 0; sparse < 2; sparse++)
        for (int strategy = 0; strategy < CP_STRATEGIES; strategy++)
            for (int g_h = s->cp; g_h >= 1; g_h--)
                if (s->cp % g_h == 0 &&
                    degrees_fit(s, (enum cp_strategy)strategy, g_h, s->cp / g_h) &&
                    !try_degrees(s, block, (enum cp_strategy)strategy, g_h, s->cp / g_h, sparse, f))
                    return false;
    return true;
}

/* ---- results outlive the block's arena ---- */

static double *copy_doubles(const double *from, int n, struct arena *a)
{
    double *to = ARENA_ARRAY(a, double, n);
    if (n > 0)
        memcpy(to, from, (size_t)n * sizeof *to);
    return to;
}

static struct program_time own_time(const struct program_time *t, int ranks, struct arena *a)
{
    struct program_time own = *t;
    struct phase_time *phase = ARENA_ARRAY(a, struct phase_time, t->phase_count);
    memcpy(phase, t->phase, (size_t)t->phase_count * sizeof *phase);
    own.phase = phase;
    own.compute_s = copy_doubles(t->compute_s, ranks, a);
    own.comm_s = copy_doubles(t->comm_s, ranks, a);
    own.wait_s = copy_doubles(t->wait_s, ranks, a);
    return own;
}

static const struct cp_piece *own_pieces(const struct cp_conf *c, struct arena *a)
{
    struct cp_piece *pieces = ARENA_ARRAY(a, struct cp_piece, c->piece_count);
    memcpy(pieces, c->pieces, (size_t)c->piece_count * sizeof *pieces);
    return pieces;
}

static void own(struct plan_candidate *c, struct arena *a)
{
    c->conf.pieces = own_pieces(&c->conf, a);
    if (c->time.phase)
        c->time = own_time(&c->time, cp_ranks(&c->conf), a);
}

/* The best candidates again, judged by the finer evaluator. */
static bool rerank(struct search *s, int block, struct found *f)
{
    const struct plan_eval *ev = s->r->rerank;
    int count = ev ? f->count : 0;
    for (int i = 0; i < count; i++) {
        struct plan_candidate c = f->best[i];
        arena_reset(s->scratch);
        if (!ev->block(ev, &s->c, block, &c.conf, &c.time, s->block, s->scratch, s->e))
            return false;
        f->count = i; /* those before are in their new order */
        add_weights(s, block, &c);
        keep_candidate(f, &c);
    }
    return true;
}

static bool search_block(struct search *s, int block, struct plan_compared *out)
{
    int keep = s->r->keep_candidates;
    struct found f = {.best = ARENA_ARRAY(s->a, struct plan_candidate, keep + 1), .keep = keep};
    arena_reset(s->block);
    if (!try_all(s, block, &f) || !rerank(s, block, &f))
        return false;
    for (int i = 0; i < f.count; i++)
        own(&f.best[i], s->a);
    if (f.refused > 0)
        own(&f.nearest, s->a);
    *out = (struct plan_compared){.count = f.count,
                                  .tried = f.tried,
                                  .refused = f.refused,
                                  .best = f.best,
                                  .nearest = f.nearest};
    return true;
}

static int tensor_of(const struct plan_request *r)
{
    return r->tensor > 1 ? r->tensor : 1;
}

static struct search search_new(const struct plan_request *r, int cp, struct arena *a,
                                struct err *e)
{
    struct search s = {.r = r,
                       .c = r->c,
                       .memory = r->memory,
                       .cp = cp,
                       .tensor = tensor_of(r),
                       .heads = r->c.model->heads / tensor_of(r),
                       .limit = r->c.cluster->gpu.memory_bytes,
                       .a = a,
                       .dense = ARENA_ARRAY(a, struct known_time, DENSE_MOST),
                       .block = arena_new(),
                       .scratch = arena_new(),
                       .e = e};
    s.c.linear = r->phase != PLAN_ATTENTION;
    s.timed = eval_case(r->rerank ? r->rerank : r->eval, &s.c, a);
    return s;
}

static void search_free(struct search *s)
{
    arena_free(s->block);
    arena_free(s->scratch);
}

bool plan_compare_block(const struct plan_request *r, int cp, int block, struct plan_compared *out,
                        struct arena *a, struct err *e)
{
    struct search s = search_new(r, cp, a, e);
    bool ok = search_block(&s, block, out);
    search_free(&s);
    return ok;
}

/* ---- one degree ---- */

/* Blocks of the same keeps and the same kind have the same answer. */
static int same_block_before(const struct cp_case *c, int block)
{
    const struct sparsity *s = c->sparsity;
    size_t row = (size_t)s->heads;
    for (int b = 0; b < block; b++)
        if (dit_is_joint(c->model, b) == dit_is_joint(c->model, block) &&
            dit_is_cross(c->model, b) == dit_is_cross(c->model, block) &&
            s->model.kind != UNION_MEASURED &&
            memcmp(&s->keep[(size_t)b * row], &s->keep[(size_t)block * row],
                   row * sizeof *s->keep) == 0)
            return b;
    return -1;
}

/* Nothing was left to try: says which head groups the model and the degree have in common. */
static bool no_configuration(const struct search *s)
{
    char common[128] = "";
    size_t used = 0;
    for (int g = 1; g <= s->cp && used + 8 < sizeof common; g++)
        if (s->cp % g == 0 && s->heads % g == 0)
            used +=
                (size_t)snprintf(common + used, sizeof common - used, "%s%d", used ? ", " : "", g);
    return err_set(s->e, ERR_INPUT, err_at_name("--strategies"),
                   "no configuration of %d ranks is left for %s by the strategies, degrees and "
                   "dispatch asked for; even head groups (ulysses, usp) divide both its %d heads "
                   "and the CP degree: %s",
                   s->cp, s->c.model->name, s->heads, common);
}

const char *plan_no_hope(const struct mem_use *m, double limit)
{
    return mem_hopeless(m, limit)
               ? "; nothing will fit: what is resident (--resident) is more than the GPU has"
               : "";
}

static bool no_plan(const struct search *s, int block, const struct plan_compared *c)
{
    if (c->tried == 0)
        return no_configuration(s);
    const struct mem_use *m = &c->nearest.memory;
    char conf[96];
    return err_set(s->e, ERR_INFEASIBLE, err_at_name(NULL),
                   "does not fit with CP %d on %s of %s: %s short on rank %d at block %d, largest "
                   "part %s (%s); nearest: %s%s",
                   s->cp, s->c.cluster->gpu.name, qty_text(s->limit, QTY_BYTES, QTY_BUF),
                   qty_text(m->total - s->limit, QTY_BYTES, QTY_BUF), m->rank, block,
                   mem_part_names[mem_limiting(m)],
                   qty_text(m->part[mem_limiting(m)], QTY_BYTES, QTY_BUF),
                   cp_conf_text(&c->nearest.conf, conf, sizeof conf), plan_no_hope(m, s->limit));
}

static bool search_blocks(struct search *s, struct plan *p, struct plan_compared *compared)
{
    for (int b = 0; b < p->block_count; b++) {
        int same = same_block_before(&s->c, b);
        if (same >= 0)
            compared[b] = compared[same];
        else if (!search_block(s, b, &compared[b]))
            return false;
        if (compared[b].count == 0)
            return no_plan(s, b, &compared[b]);
        const struct plan_candidate *w = &compared[b].best[0];
        p->blocks[b] = (struct plan_block){
            .conf = w->conf, .time = w->time, .memory = w->memory, .candidates = compared[b].tried};
        p->blocks[b].memory.block = b;
        p->blocks_s += w->time.total_s;
        if (w->memory.total > p->memory_peak.total)
            p->memory_peak = p->blocks[b].memory;
    }
    return true;
}

/* ---- the step around the blocks ---- */

/* Adam reads weights, gradients and moments and writes all but the gradients: 28 B for each
 * parameter it owns. */
static double optimizer_s(const struct search *s)
{
    double owners = s->memory.sharding == SHARD_DDP ? 1 : s->memory.shard_ranks;
    return s->c.options.inference
               ? 0
               : 28 * s->c.model->params / s->tensor / owners / s->c.cluster->gpu.hbm_bytes_per_s;
}

static void finish_step(const struct search *s, struct plan *p)
{
    struct plan timed;
    p->step_s = p->blocks_s;
    if (p->phase != PLAN_STEP)
        return;
    p->optimizer_s = optimizer_s(s);
    timed = *p;
    timed.c = s->timed;
    p->fsdp_s = weights_step_s(&timed);
    p->fsdp_end_s = weights_end_s(&timed);
    p->step_s += p->fsdp_s + p->optimizer_s;
}

static void take_batch(const struct plan_request *r, struct plan *p)
{
    p->batch.samples = r->batch;
    p->batch.passes = plan_passes(r, p->replicas);
    p->batch.step_s = plan_batch_s(r, p);
}

static bool search_degree(const struct plan_request *r, int cp, struct plan_found *out,
                          struct arena *a, struct err *e)
{
    if (r->alike != ALIKE_NO)
        return plan_search_alike(r, cp, out, a, e);
    struct search s = search_new(r, cp, a, e);
    struct plan *p = ARENA_NEW(a, struct plan);
    int gpus = hw_gpus(r->c.cluster), blocks = dit_blocks(r->c.model);
    *p = (struct plan){.c = s.c,
                       .memory = s.memory,
                       .phase = r->phase,
                       .evaluator = (r->rerank ? r->rerank : r->eval)->name,
                       .tensor = s.tensor,
                       .gpus = gpus,
                       .cp = cp,
                       .replicas = gpus / cp / s.tensor,
                       .block_count = blocks,
                       .blocks = ARENA_ARRAY(a, struct plan_block, blocks)};
    out->compared = ARENA_ARRAY(a, struct plan_compared, blocks);
    bool ok = search_blocks(&s, p, out->compared);
    if (ok) {
        finish_step(&s, p);
        take_batch(r, p);
    }
    out->plan = p;
    search_free(&s);
    return ok;
}

bool plan_reprice(const struct plan_request *r, const struct plan *p, struct plan *out,
                  struct arena *a, struct err *e)
{
    struct search s = search_new(r, p->cp, a, e);
    const struct plan_eval *eval = r->rerank ? r->rerank : r->eval;
    bool ok = true;
    *out = *p;
    out->c = s.c;
    out->blocks = ARENA_ARRAY(a, struct plan_block, p->block_count);
    out->blocks_s = out->fsdp_s = out->fsdp_end_s = 0;
    out->memory_peak = (struct mem_use){0};
    for (int b = 0; b < p->block_count && ok; b++) {
        struct plan_block *now = &out->blocks[b];
        arena_reset(s.scratch);
        now->conf = p->blocks[b].conf;
        now->memory = mem_of_block(&s.c, &s.memory, b, &now->conf, s.scratch);
        now->memory.block = b;
        ok = eval->block(eval, &s.c, b, &now->conf, &now->time, a, s.scratch, e);
        out->blocks_s += now->time.total_s;
        if (now->memory.total > out->memory_peak.total)
            out->memory_peak = now->memory;
    }
    if (ok) {
        finish_step(&s, out);
        take_batch(r, out);
    }
    search_free(&s);
    return ok;
}

/* ---- degrees ---- */

static bool tensor_check(const struct plan_request *r, struct err *e)
{
    int t = tensor_of(r), node = r->c.cluster->gpus_per_node, heads = r->c.model->heads;
    struct err_at at = err_at_name("--tp");
    if (node % t != 0)
        return err_set(e, ERR_INPUT, at,
                       "%d does not divide the %d GPUs of a node; tensor ranks share a node", t,
                       node);
    if (heads % t != 0)
        return err_set(e, ERR_INPUT, at, "%d does not divide the %d heads of %s", t, heads,
                       r->c.model->name);
    if (r->c.model->kv_heads % t != 0 && t % r->c.model->kv_heads != 0)
        return err_set(e, ERR_INPUT, at,
                       "%d neither divides the %d KV heads of %s nor the other way", t,
                       r->c.model->kv_heads, r->c.model->name);
    if (hw_gpus(r->c.cluster) / t % r->memory.shard_ranks != 0)
        return err_set(e, ERR_INPUT, err_at_name("--shard-ranks"),
                       t > 1 ? "%d does not divide the %d GPUs that --tp leaves"
                             : "%d does not divide the %d GPUs",
                       r->memory.shard_ranks, hw_gpus(r->c.cluster) / t);
    return true;
}

static bool request_check(const struct plan_request *r, struct err *e)
{
    if (!tensor_check(r, e))
        return false;
    int gpus = hw_gpus(r->c.cluster) / tensor_of(r),
        node = r->c.cluster->gpus_per_node / tensor_of(r);
    struct err_at cp = err_at_name("--cp");
    char each[64] = "";
    if (tensor_of(r) > 1)
        snprintf(each, sizeof each, " that --tp %d leaves of %d", tensor_of(r),
                 hw_gpus(r->c.cluster));
    if (r->cp < 0 || r->cp > gpus || (r->cp > 0 && gpus % r->cp != 0))
        return err_set(e, ERR_INPUT, cp, "%d does not divide the %d GPUs%s", r->cp, gpus, each);
    if (r->cp > node && r->cp % node != 0)
        return err_set(e, ERR_INPUT, cp,
                       "%d is more than one node of %d GPUs%s but not whole nodes", r->cp, node,
                       tensor_of(r) > 1 ? " (after --tp)" : "");
    if (r->head_groups && r->cp && (int64_t)r->head_groups * r->seq_groups != r->cp)
        return err_set(e, ERR_INPUT, err_at_name("--degrees"), "%dx%d is not the CP degree %d",
                       r->head_groups, r->seq_groups, r->cp);
    if (r->c.sparsity->blocks != dit_blocks(r->c.model) ||
        r->c.sparsity->heads != r->c.model->heads)
        return err_set(e, ERR_INPUT, err_at_name("--trace"),
                       "%d blocks of %d heads; %s has %d of %d", r->c.sparsity->blocks,
                       r->c.sparsity->heads, r->c.model->name, dit_blocks(r->c.model),
                       r->c.model->heads);
    if ((int64_t)r->query_group > dit_attention_tokens(r->c.model, 0, r->c.video_tokens))
        return err_set(e, ERR_INPUT, err_at_name("--group"),
                       "%d queries are more than the sequence", r->query_group);
    return true;
}

/* A degree that whole replicas can be built from: inside a node, or whole nodes. */
static bool degree_possible(const struct plan_request *r, int cp)
{
    int node = r->c.cluster->gpus_per_node / tensor_of(r);
    return hw_gpus(r->c.cluster) / tensor_of(r) % cp == 0 && (node % cp == 0 || cp % node == 0) &&
           (!r->head_groups || r->head_groups * r->seq_groups == cp);
}

/* Critical seconds of all blocks and passes by class. */
static void degree_classes(struct degree_row *row, const struct plan_found *f,
                           const struct plan_request *r)
{
    double fixed[COST_CLASSES], doubt[COST_CLASSES] = {0}, known = 0,
                                passes = plan_passes(r, f->plan->replicas);
    for (int b = 0; b < f->plan->block_count; b++) {
        const struct program_time *t = &f->compared[b].best[0].time;
        for (int k = 0; k < COST_CLASSES; k++) {
            row->class_s[k] += passes * t->class_s[k];
            doubt[k] += passes * t->doubt_s[k];
            known += passes * t->class_s[k];
        }
    }
    calib_half_widths(r->c.cluster, fixed);
    double rest = fmax(row->step_s - known, 0);
    row->class_s[CLASS_FSDP] += rest;
    doubt[CLASS_FSDP] += rest * fixed[CLASS_FSDP];
    calib_half(row->class_s, doubt, row->half);
    row->step = interval_sum(row->class_s, row->half, COST_CLASSES);
    row->step = interval_of(row->step_s, log(row->step.high_s / row->step.value_s));
}

/* Compares what a sample takes: degrees differ in how many samples a step makes. */
static void mark_ties(const struct plan_request *r, struct plan_found *out)
{
    double half[COST_CLASSES], chosen[COST_CLASSES], other[COST_CLASSES];
    const struct degree_row *best = NULL;
    for (int i = 0; i < out->degree_count; i++)
        if (out->degrees[i].fits && out->degrees[i].cp == out->plan->cp)
            best = &out->degrees[i];
    for (int i = 0; best && i < out->degree_count; i++) {
        struct degree_row *d = &out->degrees[i];
        d->doubt = -1;
        if (!d->fits || d == best)
            continue;
        for (int k = 0; k < COST_CLASSES; k++) {
            chosen[k] = best->class_s[k] / plan_step_samples(r, best->replicas);
            other[k] = d->class_s[k] / plan_step_samples(r, d->replicas);
        }
        calib_half_wider(best->half, d->half, half);
        d->tie = interval_tie(chosen, other, half, COST_CLASSES, &d->doubt);
    }
}

static void degree_add(struct plan_found *out, int cp, const struct plan_found *f,
                       enum err_code found, const struct plan_request *r)
{
    int replicas = hw_gpus(r->c.cluster) / cp / tensor_of(r);
    struct degree_row row = {.cp = cp,
                             .replicas = replicas,
                             .fits = found == ERR_NONE,
                             .too_much = found == ERR_INFEASIBLE};
    if (row.fits) {
        row.step_s = plan_batch_s(r, f->plan);
        row.samples_per_s = plan_step_samples(r, replicas) / row.step_s;
        row.memory = f->plan->memory_peak;
        degree_classes(&row, f, r);
    }
    out->degrees[out->degree_count++] = row;
}

/* Every degree; the best throughput wins, the smaller degree on a tie. The error kept when none
 * fits is the last one's: the largest degree comes nearest. Bad input ends it. */
static bool search_degrees(const struct plan_request *r, struct plan_found *out, struct arena *a,
                           struct err *e)
{
    struct err last = {0};
    double best = 0;
    int gpus = hw_gpus(r->c.cluster) / tensor_of(r);
    for (int cp = 1; cp <= gpus; cp++) {
        if (!degree_possible(r, cp))
            continue;
        struct plan_found f = {0};
        struct err at_hand = {0};
        bool ok = search_degree(r, cp, &f, a, &at_hand);
        if (!ok && at_hand.code != ERR_INFEASIBLE && at_hand.code != ERR_INPUT) {
            *e = at_hand;
            return false;
        }
        degree_add(out, cp, &f, ok ? ERR_NONE : at_hand.code, r);
        if (!ok && (last.code == ERR_NONE || at_hand.code == ERR_INFEASIBLE))
            last = at_hand;
        if (ok && out->degrees[out->degree_count - 1].samples_per_s > best * (1 + 1e-12)) {
            best = out->degrees[out->degree_count - 1].samples_per_s;
            out->plan = f.plan;
            out->compared = f.compared;
            out->kinds = f.kinds;
            out->kind_count = f.kind_count;
        }
    }
    if (!out->plan && last.code == ERR_NONE)
        err_set(&last, ERR_INPUT, err_at_name("--degrees"),
                "%dx%d is no CP degree of %d GPUs in nodes of %d", r->head_groups, r->seq_groups,
                gpus, r->c.cluster->gpus_per_node);
    if (!out->plan)
        *e = last;
    else
        mark_ties(r, out);
    return out->plan != NULL;
}

bool plan_search(const struct plan_request *r, struct plan_found *out, struct arena *a,
                 struct err *e)
{
    *out = (struct plan_found){.degrees = ARENA_ARRAY(a, struct degree_row, hw_gpus(r->c.cluster))};
    if (!request_check(r, e))
        return false;
    if (r->cp == 0)
        return search_degrees(r, out, a, e);
    bool ok = search_degree(r, r->cp, out, a, e);
    if (ok)
        degree_add(out, r->cp, out, ERR_NONE, r);
    return ok;
}
