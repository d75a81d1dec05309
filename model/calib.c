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

bool calib_cluster(struct hw_cluster *c, struct arena *a, struct err *e)
{
    struct err_at at = err_at_name(c->name);
    bool net, curves;
    if (!has("net", c->gpu.name, &net, a, e) || !has("curve", c->gpu.name, &curves, a, e))
        return false;
    if (net && !(c->net = prof_net_load(c->gpu.name, at, a, e)))
        return false;
    return !curves || (c->curves = prof_kernels_load(c->gpu.name, at, a, e)) != NULL;
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
    const char *own = name_for(curve->name, c->gpu.name, a), *name = own ? own : curve->name;
    if (own && !has("curve", name, &found, a, e))
        return false;
    if (!found)
        return true;
    curve->of =
        c->curves && strcmp(name, c->gpu.name) == 0 ? c->curves : prof_kernels_load(name, at, a, e);
    return curve->of != NULL;
}

const struct kern_profile *calib_kernels(const struct kern_profile *k, const struct hw_cluster *c,
                                         struct err_at at, struct arena *a, struct err *e)
{
    struct kern_profile *own = ARENA_NEW(a, struct kern_profile);
    *own = *k;
    if (!find_curve(&own->dense.curve, c, at, a, e) || !find_curve(&own->best.curve, c, at, a, e) ||
        !find_curve(&own->sparse.curve, c, at, a, e) || !find_curve(&own->gemm_curve, c, at, a, e))
        return NULL;
    if (own->sparse.curve.of && !(own->sparse.curve.of->sparse.pair_s[0] > 0))
        own->sparse.curve.of = NULL;
    if (own->gemm_curve.of && !(own->gemm_curve.of->gemm.rate > 0))
        own->gemm_curve.of = NULL;
    return own;
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
    bool far = c->nodes > 1, borrowed = c->net->curves[0].origin == PROF_BORROWED;
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
