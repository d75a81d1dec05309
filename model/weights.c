#include "model/weights.h"

#include <assert.h>
#include <math.h>

/* ---- three lanes that share links ---- */

enum { LANE_BLOCKS, LANE_WEIGHTS, LANE_GRADIENTS, LANES };

struct lane {
    struct cost_use left;       /* of what it is at */
    const struct cost_use *job; /* in order; lanes of weights only */
    int asked, done;
};

struct lanes {
    struct lane lane[LANES];
    double now_s;
};

static bool idle(const struct cost_use *u)
{
    return !(u->compute_s > 0 || u->link[LINK_NEAR].s > 0 || u->link[LINK_FAR].s > 0);
}

static bool on_link(const struct cost_use *u, int link)
{
    return u->link[link].s > 0 && !(u->link[link].wait_s > 0);
}

/* Seconds until something ends if nothing else begins; messages[] are those on each link. */
static double next_end_s(const struct lanes *l, const double *messages)
{
    double next = INFINITY;
    for (int i = 0; i < LANES; i++) {
        const struct cost_use *u = &l->lane[i].left;
        if (u->compute_s > 0)
            next = fmin(next, u->compute_s);
        for (int k = 0; k < COST_LINKS; k++)
            if (on_link(u, k))
                next = fmin(next, u->link[k].s * messages[k] / u->link[k].messages);
            else if (u->link[k].s > 0)
                next = fmin(next, u->link[k].wait_s);
    }
    return next;
}

static void spend(double *left, double s)
{
    *left = *left > s * (1 + 1e-12) ? *left - s : 0;
}

static void spend_use(struct cost_use *u, double s, const double *messages)
{
    spend(&u->compute_s, s);
    for (int k = 0; k < COST_LINKS; k++)
        if (on_link(u, k))
            spend(&u->link[k].s, s * u->link[k].messages / messages[k]);
        else
            spend(&u->link[k].wait_s, s);
}

/* A lane that is done with a job takes the next one that was asked for; some have nothing to move.
 */
static void take_job(struct lane *n)
{
    while (n->done < n->asked && idle(&n->left))
        if (++n->done < n->asked)
            n->left = n->job[n->done];
}

/* The lane's next `count` jobs may begin. */
static void ask(struct lane *n, int count)
{
    if (n->done == n->asked)
        n->left = n->job[n->done];
    n->asked += count;
    take_job(n);
}

/* Links so slow that their seconds are beyond a double. */
static void end_never(struct lanes *l)
{
    l->now_s = INFINITY;
    for (int i = 0; i < LANES; i++) {
        l->lane[i].left = (struct cost_use){0};
        l->lane[i].done = l->lane[i].asked;
    }
}

/* Goes on until something ends. */
static void advance(struct lanes *l)
{
    double messages[COST_LINKS] = {0};
    for (int i = 0; i < LANES; i++)
        for (int k = 0; k < COST_LINKS; k++)
            if (on_link(&l->lane[i].left, k))
                messages[k] += l->lane[i].left.link[k].messages;
    double s = next_end_s(l, messages);
    if (!isfinite(s)) {
        end_never(l);
        return;
    }
    l->now_s += s;
    for (int i = 0; i < LANES; i++)
        spend_use(&l->lane[i].left, s, messages);
    for (int i = LANE_WEIGHTS; i < LANES; i++)
        take_job(&l->lane[i]);
}

static void run_uses(struct lanes *l, const struct cost_use *use, int count)
{
    for (int i = 0; i < count; i++)
        for (l->lane[LANE_BLOCKS].left = use[i]; !idle(&l->lane[LANE_BLOCKS].left);)
            advance(l);
}

static void run_seconds(struct lanes *l, double s)
{
    run_uses(l, &(struct cost_use){.compute_s = s}, 1);
}

static void wait_for(struct lanes *l, int lane, int done)
{
    while (l->lane[lane].done < done)
        advance(l);
}

/* ---- a block's phases ---- */

struct block_uses {
    struct cost_use *use[2]; /* forward; recompute and backward */
    int count[2], room;
};

/* What computes one after the other is one. */
static void add_use(struct block_uses *b, int way, struct cost_use u)
{
    struct cost_use *last = b->count[way] ? &b->use[way][b->count[way] - 1] : NULL;
    bool alone = u.link[LINK_NEAR].s <= 0 && u.link[LINK_FAR].s <= 0;
    if (last && alone && last->link[LINK_NEAR].s <= 0 && last->link[LINK_FAR].s <= 0) {
        last->compute_s += u.compute_s;
        return;
    }
    assert(b->count[way] < b->room);
    b->use[way][b->count[way]++] = u;
}

/* A phase's share of the slowest path, in the proportions that it has alone. */
static void add_phase(struct block_uses *b, int way, struct cost_use *use, int count, double share)
{
    double alone = 0;
    for (int i = 0; i < count; i++)
        alone += cost_use_s(&use[i]);
    if (!(alone > 0)) {
        add_use(b, way, (struct cost_use){.compute_s = share});
        return;
    }
    for (int i = 0; i < count; i++) {
        use[i].compute_s *= share / alone;
        for (int k = 0; k < COST_LINKS; k++) {
            use[i].link[k].wait_s *= share / alone;
            use[i].link[k].s *= share / alone;
        }
        add_use(b, way, use[i]);
    }
}

/* What an evaluator has beyond its phases (host syncs) comes behind them. Lives in `a`. */
static struct block_uses block_uses_of(const struct cp_case *c, int block,
                                       const struct cp_conf *conf, const struct program_time *t,
                                       struct arena *a, struct arena *scratch)
{
    struct cp_program p = cp_program_of(c, block, conf, scratch);
    int most = cost_uses_most(conf);
    struct block_uses b = {.room = p.phase_count + 3 * most + 1};
    struct cost_use *one = ARENA_ARRAY(scratch, struct cost_use, most);
    double rest[2] = {t->pass_s[PASS_FORWARD],
                      t->pass_s[PASS_RECOMPUTE] + t->pass_s[PASS_BACKWARD]};
    b.use[0] = ARENA_ARRAY(a, struct cost_use, b.room);
    b.use[1] = ARENA_ARRAY(a, struct cost_use, b.room);
    assert(p.phase_count == t->phase_count);
    for (int i = 0; i < p.phase_count; i++) {
        int way = p.phases[i].pass != PASS_FORWARD;
        double share = t->phase[i].critical_s;
        if (!(share > 0))
            continue;
        add_phase(&b, way, one, cost_phase_uses(&p.phases[i], conf, c->cluster, one, scratch),
                  share);
        rest[way] -= share;
    }
    for (int way = 0; way < 2; way++)
        if (rest[way] > 1e-9 * t->total_s)
            add_use(&b, way, (struct cost_use){.compute_s = rest[way]});
    return b;
}

/* ---- what weights and gradients move ---- */

struct traffic {
    const struct cp_case *c;
    const struct mem_options *memory;
    int shards, groups, tensor;         /* groups: that hold the same shards (HSDP) */
    double gather_bytes, scatter_bytes; /* of one block on a tensor rank */
};

static struct traffic traffic_of(const struct cp_case *c, const struct mem_options *m, int gpus,
                                 int tensor)
{
    int t = tensor > 1 ? tensor : 1;
    double params = dit_block_params(c->model) / t;
    return (struct traffic){.c = c,
                            .memory = m,
                            .shards = m->shard_ranks,
                            .groups = c->options.inference ? 1 : gpus / t / m->shard_ranks,
                            .tensor = t,
                            .gather_bytes = 2 * params,
                            .scatter_bytes = (c->options.grad_fp32 ? 4 : 2) * params};
}

static bool gathers(const struct traffic *w)
{
    return w->memory->sharding == SHARD_FSDP && w->shards > 1;
}

static struct cost_use gather_use(const struct traffic *w, int blocks)
{
    return cost_line_use(w->c->cluster, COLL_ALL_GATHER, w->shards, w->tensor,
                         w->gather_bytes * blocks);
}

enum { SCATTER_JOBS = 2 };

/* Inside the sharding groups, then each shard between the groups. DDP's groups scatter and gather.
 */
static void scatter_uses(const struct traffic *w, int blocks, struct cost_use *use)
{
    const struct hw_cluster *c = w->c->cluster;
    double bytes = w->scatter_bytes * blocks, times = w->memory->sharding == SHARD_DDP ? 2 : 1;
    use[0] = cost_line_use(c, COLL_REDUCE_SCATTER, w->shards, w->tensor, times * bytes);
    use[1] = cost_line_use(c, COLL_ALL_REDUCE, w->groups, w->shards * w->tensor, bytes / w->shards);
}

/* ---- a step ---- */

struct step {
    const struct plan *p;
    struct traffic w;
    struct lanes l;
    struct block_uses *blocks;
    int unit, units;
};

static int unit_first(const struct step *s, int u)
{
    return u * s->unit;
}

static int unit_end(const struct step *s, int u)
{
    int end = (u + 1) * s->unit;
    return end < s->p->block_count ? end : s->p->block_count;
}

/* The unit that is k-th to compute: forward, then from the last one back. */
static int unit_at(const struct step *s, int k)
{
    return k < s->units ? k : 2 * s->units - 1 - k;
}

static void put_jobs(struct step *s, int passes, struct arena *a)
{
    struct cost_use *in = ARENA_ARRAY(a, struct cost_use, passes),
                    *out = ARENA_ARRAY(a, struct cost_use, SCATTER_JOBS * s->units);
    for (int k = 0; k < passes; k++) {
        int u = unit_at(s, k), blocks = unit_end(s, u) - unit_first(s, u);
        in[k] = gather_use(&s->w, blocks);
        if (k >= s->units)
            scatter_uses(&s->w, blocks, &out[SCATTER_JOBS * (k - s->units)]);
    }
    s->l.lane[LANE_WEIGHTS].job = in;
    s->l.lane[LANE_GRADIENTS].job = out;
}

static void run_unit(struct step *s, int k)
{
    int u = unit_at(s, k), first = unit_first(s, u), end = unit_end(s, u), way = k >= s->units;
    for (int i = first; i < end; i++) {
        const struct block_uses *b = &s->blocks[way ? end - 1 - (i - first) : i];
        run_uses(&s->l, b->use[way], b->count[way]);
    }
    if (way)
        ask(&s->l.lane[LANE_GRADIENTS], SCATTER_JOBS);
}

static void run_passes(struct step *s, int passes)
{
    struct lane *in = &s->l.lane[LANE_WEIGHTS];
    bool gather = gathers(&s->w);
    if (gather)
        ask(in, passes < 2 ? passes : 2);
    for (int k = 0; k < passes; k++) {
        if (gather)
            wait_for(&s->l, LANE_WEIGHTS, k + 1);
        run_unit(s, k);
        if (gather && k + 2 < passes)
            ask(in, 1);
    }
}

double weights_end_s(const struct plan *p)
{
    enum sharding how = p->memory.sharding;
    if (p->phase != PLAN_STEP || p->c.options.inference ||
        (how != SHARD_ZERO1 && how != SHARD_ZERO2))
        return 0;
    struct traffic w = traffic_of(&p->c, &p->memory, p->gpus, p->tensor);
    struct cost_use all = gather_use(&w, p->block_count);
    return cost_use_s(&all);
}

static void run_optimizer(struct step *s)
{
    wait_for(&s->l, LANE_GRADIENTS, SCATTER_JOBS * s->units);
    run_seconds(&s->l, s->p->optimizer_s + weights_end_s(s->p));
}

/* Blocks that were found together (planner/search.h) have one time, and one list of phases here. */
static double put_blocks(struct step *s, struct arena *a)
{
    const struct plan *p = s->p;
    struct arena *scratch = arena_new();
    double alone = 0;
    s->blocks = ARENA_ARRAY(a, struct block_uses, p->block_count);
    for (int b = 0; b < p->block_count; b++) {
        const struct plan_block *at = &p->blocks[b];
        alone += at->time.total_s;
        if (b > 0 && at->time.phase == at[-1].time.phase && at->conf.pieces == at[-1].conf.pieces) {
            s->blocks[b] = s->blocks[b - 1];
            continue;
        }
        arena_reset(scratch);
        s->blocks[b] = block_uses_of(&p->c, b, &at->conf, &at->time, a, scratch);
    }
    arena_free(scratch);
    return alone;
}

double weights_step_s(const struct plan *p)
{
    struct step s = {.p = p, .w = traffic_of(&p->c, &p->memory, p->gpus, p->tensor)};
    if (p->phase != PLAN_STEP || (s.w.shards < 2 && s.w.groups < 2))
        return 0;
    struct arena *a = arena_new();
    s.unit = p->memory.fsdp_units > 0 ? p->memory.fsdp_units : p->block_count;
    s.units = (p->block_count + s.unit - 1) / s.unit;
    double alone = put_blocks(&s, a) + p->optimizer_s;
    int passes = p->c.options.inference ? s.units : 2 * s.units;
    put_jobs(&s, passes, a);
    run_passes(&s, passes);
    if (!p->c.options.inference)
        run_optimizer(&s);
    arena_free(a);
    return fmax(0, s.l.now_s - alone);
}

/* ---- one block of many ---- */

double weights_block_s(const struct weights_case *k, const struct cp_case *c, int block,
                       const struct cp_conf *conf, const struct program_time *t,
                       struct arena *scratch)
{
    struct traffic w = traffic_of(c, k->memory, k->gpus, k->tensor);
    struct lanes l = {0};
    if ((w.shards < 2 && w.groups < 2) || k->memory->fsdp_units == 0)
        return 0;
    struct block_uses b = block_uses_of(c, block, conf, t, scratch, scratch);
    int unit = k->memory->fsdp_units;
    struct cost_use gather[2], scatter[SCATTER_JOBS];
    gather[0] = gather[1] = gather_use(&w, unit);
    scatter_uses(&w, unit, scatter);
    l.lane[LANE_WEIGHTS].job = gather;
    l.lane[LANE_GRADIENTS].job = scatter;
    for (int way = 0; way < (c->options.inference ? 1 : 2); way++) {
        if (gathers(&w))
            ask(&l.lane[LANE_WEIGHTS], 1);
        if (way)
            ask(&l.lane[LANE_GRADIENTS], SCATTER_JOBS);
        for (int i = 0; i < unit; i++)
            run_uses(&l, b.use[way], b.count[way]);
        wait_for(&l, LANE_WEIGHTS, l.lane[LANE_WEIGHTS].asked);
        wait_for(&l, LANE_GRADIENTS, l.lane[LANE_GRADIENTS].asked);
    }
    return fmax(0, l.now_s / unit - t->total_s);
}
