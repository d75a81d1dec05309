#include "model/calib.h"

#include <math.h>
#include <string.h>

#include "base/preset.h"

static const double unknown = 0.4, share_model = 0.05;

static bool has(const char *kind, const char *name, bool *found, struct arena *a, struct err *e)
{
    const char **names = preset_list(kind, a, e);
    if (!names)
        return false;
    *found = false;
    for (int i = 0; names[i]; i++)
        *found = *found || !strcmp(names[i], name);
    return true;
}

/* The links of the preset cluster that bears the profile's name. */
static bool measured_links(struct hw_cluster *c, struct err_at at, struct arena *a, struct err *e)
{
    const char *name = hw_net_name(c);
    bool found;
    c->net_nvlink = c->nvlink;
    c->net_nic = c->nic;
    if (!has("cluster", name, &found, a, e))
        return false;
    if (!found)
        return true;
    const struct hw_cluster *k = hw_cluster_load(arena_printf(a, "1x1-%s", name), at, a, e);
    if (k) {
        c->net_nvlink = k->nvlink;
        c->net_nic = k->nic;
    }
    return k != NULL;
}

bool calib_cluster(struct hw_cluster *c, struct arena *a, struct err *e)
{
    struct err_at at = err_at_name(c->name);
    bool net, curves;
    if (!has("net", hw_net_name(c), &net, a, e) ||
        !has("curve", hw_curve_name(&c->gpu), &curves, a, e))
        return false;
    if ((net || c->net_name) &&
        (!(c->net = prof_net_load(hw_net_name(c), at, a, e)) || !measured_links(c, at, a, e)))
        return false;
    return !(curves || c->gpu.curve) ||
           (c->curves = prof_kernels_load(hw_curve_name(&c->gpu), at, a, e)) != NULL;
}

/* ---- a profile on other links ---- */

static double link_rate(const struct hw_link *l)
{
    return l->bytes_per_s * l->efficiency;
}

static bool same_link(const struct hw_link *a, const struct hw_link *b, bool rate)
{
    return a->latency_s == b->latency_s && a->efficiency == b->efficiency &&
           (!rate || a->bytes_per_s == b->bytes_per_s);
}

/* The form between nodes takes the NIC's rate as an argument, NVLink's it has measured. */
static bool other_links(const struct hw_cluster *c, int nodes)
{
    return !same_link(&c->nvlink, &c->net_nvlink, true) ||
           (nodes > 1 && !same_link(&c->nic, &c->net_nic, false));
}

static double near_s(const struct hw_cluster *c, const struct coll_query *q)
{
    double wire = q->bytes * coll_wire_share(q->op, q->gpus), rate = link_rate(&c->nvlink),
           s = prof_collective(c->net, q).time.value_s + wire / rate -
               wire / link_rate(&c->net_nvlink) + c->nvlink.latency_s - c->net_nvlink.latency_s;
    return fmax(s, wire / rate);
}

/* As model/prof.h between nodes: what the call would need inside a node, all of it in an
 * all-to-all, half of it elsewhere. */
static double far_s(const struct hw_cluster *c, const struct coll_query *q)
{
    struct coll_query local = *q;
    double s = prof_collective(c->net, q).time.value_s + c->nic.latency_s - c->net_nic.latency_s;
    s = fmax(s, q->bytes * (q->nodes - 1.0) / q->gpus / q->nic_bytes_per_s);
    local.nodes = 1;
    local.gpus = q->gpus / q->nodes;
    if (q->op == COLL_ALL_GATHER || q->op == COLL_REDUCE_SCATTER) /* rings: one NIC a member */
        s = fmax(s, q->bytes * coll_wire_share(q->op, q->gpus) * (local.gpus - 1) / local.gpus /
                        link_rate(&c->nvlink));
    local.bytes /= q->op == COLL_ALLTOALL ? q->nodes : 1;
    if (local.gpus < 2 || q->op == COLL_SEND_RECV)
        return s;
    return fmax(s, (q->op == COLL_ALLTOALL ? 1 : 0.5) * near_s(c, &local) + c->nic.latency_s);
}

struct prediction calib_collective(const struct hw_cluster *c, const struct coll_query *q)
{
    struct coll_query own = *q;
    own.nic_bytes_per_s = c->nic.bytes_per_s / c->gpus_per_nic;
    if (!other_links(c, q->nodes))
        return prof_collective(c->net, &own);
    own.nic_bytes_per_s *= c->nic.efficiency / c->net_nic.efficiency;
    struct prediction p = prof_collective(c->net, &own);
    double s = q->nodes > 1 ? far_s(c, &own) : near_s(c, &own);
    if (s == p.time.value_s) /* the network binds, not the link that differs */
        return p;
    double half = hypot(log(p.time.high_s / p.time.value_s),
                        c->net->half[PROF_BORROWED][q->bytes >= 1048576]);
    p.time = interval_of(s, half);
    p.class = p.class < PROF_BORROWED ? PROF_BORROWED : p.class;
    p.in_range = false;
    p.regime = "other links than measured";
    return p;
}

/* ---- kernels ---- */

/* "GPU-cudnn" for an h200 is "h200-cudnn". NULL when the name does not hold GPU. */
static const char *name_for(const char *name, const char *gpu, struct arena *a)
{
    const char *at = strstr(name, "GPU");
    return at ? arena_printf(a, "%.*s%s%s", (int)(at - name), name, gpu, at + 3) : NULL;
}

/* Sets curve->of, or leaves it NULL where this GPU has none. */
static bool find_curve(struct kern_curve *curve, const struct hw_cluster *c, struct err_at at,
                       struct arena *a, struct err *e)
{
    bool found = true;
    curve->of = NULL;
    if (!curve->name)
        return true;
    const char *own = name_for(curve->name, hw_curve_name(&c->gpu), a),
               *name = own ? own : curve->name;
    if (own && !has("curve", name, &found, a, e))
        return false;
    if (!found)
        return true;
    curve->of = c->curves && strcmp(name, hw_curve_name(&c->gpu)) == 0
                    ? c->curves
                    : prof_kernels_load(name, at, a, e);
    return curve->of != NULL;
}

/* Sparse kernels that were measured on another chip: an SM takes as long as one there, the memory
 * as many bytes, and nothing is faster than this GPU runs dense attention. Never faster than
 * measured: nobody knows how they would use more. */
static bool other_chip(struct kern_profile *k, const struct hw_gpu *g, struct arena *a,
                       struct err *e)
{
    struct kern_sparse *s = &k->sparse;
    bool found;
    s->sm_ratio = s->hbm_ratio = 1;
    s->least_pair_s[0] = s->least_pair_s[1] = 0;
    if (s->curve.of || kern_measured_on(k, g))
        return true;
    const char *name = arena_strndup(a, k->measured_on, strcspn(k->measured_on, " "));
    if (!has("gpu", name, &found, a, e))
        return false;
    s->least_pair_s[0] = 4 * 128.0 / (g->bf16_flop_per_s * k->dense.forward_share);
    s->least_pair_s[1] = 10 * 128.0 / (g->bf16_flop_per_s * k->dense.backward_share);
    const struct hw_gpu *of = found ? hw_gpu_load(name, err_at_name(k->name), a, e) : g;
    if (!of)
        return false;
    s->sm_ratio = fmax(1, (double)of->sm_count / g->sm_count);
    s->hbm_ratio = fmax(1, of->hbm_bytes_per_s / g->hbm_bytes_per_s);
    return true;
}

static void take_shares(struct kern_dense *d, const struct hw_gpu *g)
{
    for (int i = 0; i < d->on_count; i++)
        if (!strcmp(d->on[i].gpu, g->name)) {
            d->forward_share = d->on[i].forward_share;
            d->backward_share = d->on[i].backward_share;
        }
}

const struct kern_profile *calib_kernels(const struct kern_profile *k, const struct hw_cluster *c,
                                         struct err_at at, struct arena *a, struct err *e)
{
    struct kern_profile *own = ARENA_NEW(a, struct kern_profile);
    *own = *k;
    take_shares(&own->dense, &c->gpu);
    take_shares(&own->best, &c->gpu);
    if (!find_curve(&own->dense.curve, c, at, a, e) || !find_curve(&own->best.curve, c, at, a, e) ||
        !find_curve(&own->sparse.curve, c, at, a, e) || !find_curve(&own->gemm_curve, c, at, a, e))
        return NULL;
    if (own->sparse.curve.of && !(own->sparse.curve.of->sparse.pair_s[0] > 0))
        own->sparse.curve.of = NULL;
    if (own->gemm_curve.of && !(own->gemm_curve.of->gemm.rate > 0))
        own->gemm_curve.of = NULL;
    return other_chip(own, &c->gpu, a, e) ? own : NULL;
}

/* ---- half-widths ---- */

static double kernel_half(const struct prof_kernels *k, enum prof_kind kind, enum prof_class origin)
{
    return hypot(k->half[kind][origin == PROF_BORROWED ? PROF_BORROWED : PROF_INSIDE], share_model);
}

void calib_half_widths(const struct hw_cluster *c, double half[COST_CLASSES])
{
    const struct prof_kernels *k = c->curves;
    for (int i = 0; i < COST_CLASSES; i++)
        half[i] = unknown;
    if (k) {
        half[CLASS_ATTENTION_DENSE] = kernel_half(k, KIND_ATTENTION, k->attention[0].origin);
        if (k->gemm.rate > 0)
            half[CLASS_GEMM] = kernel_half(k, KIND_GEMM, k->gemm.origin);
        if (k->sparse.pair_s[0] > 0)
            half[CLASS_ATTENTION_SPARSE] = half[CLASS_SELECT] =
                hypot(k->half[KIND_SPARSE][PROF_OUTSIDE], share_model);
    }
    if (!c->net)
        return;
    bool far = c->nodes > 1,
         borrowed = c->net->curves[0].origin == PROF_BORROWED || other_links(c, c->nodes);
    double near = c->net->half[borrowed ? PROF_BORROWED : PROF_INSIDE][1];
    half[CLASS_COLLECTIVE] = half[CLASS_FSDP] = far ? c->net->between.half[1] : near;
    half[CLASS_P2P] = far ? c->net->between.half[1] : hypot(near, c->net->half[PROF_COUNT][1]);
}

void calib_half(const double *class_s, const double *doubt_s, double half[COST_CLASSES])
{
    for (int i = 0; i < COST_CLASSES; i++)
        half[i] = class_s[i] > 0 ? doubt_s[i] / class_s[i] : 0;
}

void calib_half_wider(const double *half_a, const double *half_b, double half[COST_CLASSES])
{
    for (int i = 0; i < COST_CLASSES; i++)
        half[i] = fmax(half_a[i], half_b[i]);
}
