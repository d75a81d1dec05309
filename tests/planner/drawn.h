/* Plans to ask for, drawn at random but realistic: models, clusters, tokens, keeps, options; the
 * same for the same seed and number. */
#ifndef TESTS_PLANNER_DRAWN_H
#define TESTS_PLANNER_DRAWN_H

#include <math.h>

#include "base/rng.h"
#include "model/calib.h"
#include "planner/search.h"

static const char *const models[] = {"wan2.1-1.3b",
                                     "wan2.1-14b",
                                     "hunyuanvideo-13b",
                                     "dsv-2.7b",
                                     "dsv-30b",
                                     "cogvideox-5b",
                                     "mochi-1-10b",
                                     "moviegen-30b",
                                     "ltx-video-13b",
                                     "allegro-2.8b",
                                     "step-video-t2v-30b",
                                     "open-sora-2.0-11b",
                                     "cosmos-predict2-14b",
                                     "magi-1-24b",
                                     "latte-1"};
static const char *const clusters[] = {"h100-400g", "h200-400g", "a100-200g",
                                       "b200-400g", "h20-400g",  "h800-400g"};
static const char *const profiles[] = {"fa3+dsv", "fa3+target", "dsv-triton"};

struct drawn {
    struct rng rng;
    struct arena *a;
    struct err e;
    struct sparsity sparsity;
    struct hw_cluster cluster;
    struct plan_request r;
    bool alike; /* all heads and shards have the same work */
    bool calibrated;
    const char *text;
};

static inline int below(struct drawn *d, int limit)
{
    return (int)rng_below(&d->rng, (uint64_t)limit);
}

#define PICK(d, list) (list)[below((d), (int)(sizeof(list) / sizeof *(list)))]

/* One to eight servers of 8 GPUs; one in four has a NIC for two GPUs. Memory is no limit here. */
static inline bool draw_cluster(struct drawn *d, int gpus_most)
{
    int nodes = 1 << below(d, 4);
    while (nodes > 1 && 8 * nodes > gpus_most)
        nodes /= 2;
    const char *name = arena_printf(d->a, "%dx8-%s", nodes, PICK(d, clusters));
    const struct hw_cluster *c = hw_cluster_load(name, err_at_name("test"), d->a, &d->e);
    if (!c)
        return false;
    d->cluster = *c;
    d->cluster.gpu.memory_bytes = 1e15;
    d->cluster.gpus_per_nic = below(d, 4) ? 1 : 2;
    d->calibrated = below(d, 2);
    return !d->calibrated || calib_cluster(&d->cluster, d->a, &d->e);
}

/* Keeps from 3% to all, the same or log-normal over the heads; unions up to five times as much. */
static inline void draw_sparsity(struct drawn *d, const struct dit_model *m)
{
    double base = pow(10, -1.5 * rng_uniform(&d->rng)),
           skew = below(d, 2) ? 2 * rng_uniform(&d->rng) : 0,
           fixed = fmin(1, base * (1 + 4 * rng_uniform(&d->rng)));
    int heads = m->heads, all = dit_blocks(m) * heads;
    double *keep = ARENA_ARRAY(d->a, double, all);
    sparsity_uniform(base, dit_blocks(m), heads, d->a, &d->sparsity, &d->e);
    for (int i = 0; i < all; i++)
        keep[i] = i < heads ? fmin(1, fmax(0.005, base * exp(skew * rng_normal(&d->rng))))
                            : keep[i - heads];
    d->sparsity.keep = keep;
    d->sparsity.model = (struct union_model){.kind = UNION_FIXED, .fixed = fixed};
    d->sparsity.shard_skew = below(d, 3) == 0 ? 1 + rng_uniform(&d->rng) / 2 : 1;
    d->alike = !(skew > 0) && !(d->sparsity.shard_skew > 1);
}

static inline struct cp_options draw_options(struct drawn *d)
{
    struct cp_options o = cp_options_default();
    o.checkpointing = (enum checkpointing)below(d, 3);
    o.keep_kv = below(d, 2);
    o.grad_fp32 = below(d, 2);
    o.offload = OFFLOAD_NONE;
    o.tensor_allreduce = below(d, 2);
    o.inference = below(d, 4) == 0;
    return o;
}

static inline void draw_degrees(struct drawn *d, const struct dit_model *m)
{
    int gpus = hw_gpus(&d->cluster), tensor = below(d, 4) == 0 ? 1 << below(d, 3) : 1;
    if (m->heads % tensor || (m->kv_heads % tensor && tensor % m->kv_heads))
        tensor = 1;
    int cp = gpus / tensor;
    while (cp > 1 && below(d, 4) == 0)
        cp /= 2;
    d->r.tensor = tensor;
    d->r.cp = cp;
    d->r.memory = mem_options_default(gpus / tensor);
}

static inline void describe(struct drawn *d, uint64_t k)
{
    const struct cp_options *o = &d->r.c.options;
    d->text =
        arena_printf(d->a, "%d: %s %s%s%s, %lld tokens, %d samples, cp %d tp %d, %s%s%s", (int)k,
                     d->r.c.model->name, d->cluster.name, d->calibrated ? " calibrated" : "",
                     d->cluster.gpus_per_nic > 1 ? " shared NICs" : "",
                     (long long)d->r.c.video_tokens, d->r.c.samples, d->r.cp, d->r.tensor,
                     o->inference ? "inference" : checkpointing_names[o->checkpointing],
                     o->grad_fp32 ? " fp32" : "", d->alike ? "" : " uneven");
}

/* Case `k` of `seed`, on up to gpus_most GPUs; *d must not move, its arena is the caller's to free.
 */
static inline bool draw_request(struct drawn *d, uint64_t seed, uint64_t k, int gpus_most)
{
    *d = (struct drawn){.rng = rng_stream(seed, "agree", k, 0, 0), .a = arena_new()};
    struct err_at at = err_at_name("test");
    const struct dit_model *m = dit_load(PICK(d, models), at, d->a, &d->e);
    if (!m || !draw_cluster(d, gpus_most))
        return false;
    const struct kern_profile *kernels = kern_load(PICK(d, profiles), at, d->a, &d->e);
    if (kernels && d->calibrated)
        kernels = calib_kernels(kernels, &d->cluster, at, d->a, &d->e);
    draw_sparsity(d, m);
    d->r =
        (struct plan_request){.c = {.cluster = &d->cluster,
                                    .model = m,
                                    .kernels = kernels,
                                    .sparsity = &d->sparsity,
                                    .options = draw_options(d),
                                    .video_tokens = (int64_t)(3000 * pow(60, rng_uniform(&d->rng))),
                                    .samples = 1 + below(d, 2),
                                    .linear = true},
                              .phase = PLAN_BLOCK,
                              .query_group = 32,
                              .assign_nodes = 1000,
                              .eval = &eval_cost,
                              .keep_candidates = 400};
    draw_degrees(d, m);
    describe(d, k);
    return kernels && d->e.code == ERR_NONE;
}

#endif
