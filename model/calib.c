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
