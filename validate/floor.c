/* The scatter of measured tables. */
#include "validate/floor.h"

#include <math.h>
#include <string.h>

static bool belongs(const struct point *p, const char *gpu)
{
    bool big = p->kind == POINT_COLLECTIVE ? p->coll.bytes >= 1048576 : p->time_s >= 1e-3;
    return big && *p->role && !strcmp(p->gpu, gpu) && !p->attention.backward;
}

static double octaves(double a, double b)
{
    return fabs(log2(a / b));
}

static bool neighbours(const struct point *p, const struct point *q)
{
    if (p->kind == POINT_GEMM)
        return octaves(p->m, q->m) + octaves(p->n, q->n) + octaves(p->k, q->k) <= 2;
    const struct attention_query *a = &p->attention, *b = &q->attention;
    return a->causal == b->causal && a->head_dim == b->head_dim &&
           octaves(a->keys, b->keys) + octaves(a->batch * a->heads, b->batch * b->heads) <= 2;
}

static double left_over(const struct point *p, const struct prof_kernels *fit)
{
    struct prediction r;
    return point_predict(p, NULL, fit, &r) ? log(r.time.value_s / p->time_s) : NAN;
}

/* Adds the pairs of p with the rows before it. */
static void pair_up(const struct points *pts, int i, const char *gpu,
                    const struct prof_kernels *fit, struct scatter *s)
{
    double own = left_over(&pts->point[i], fit);
    for (int k = 0; k < i; k++) {
        if (!belongs(&pts->point[k], gpu) || !neighbours(&pts->point[i], &pts->point[k]))
            continue;
        double gap = fabs(own - left_over(&pts->point[k], fit));
        if (isnan(gap))
            continue;
        s->neighbour_gap += gap;
        s->pairs++;
    }
}

struct scatter scatter_of(const struct points *pts, const char *gpu, const struct prof_kernels *fit)
{
    struct scatter s = {0};
    for (int i = 0; i < pts->count; i++) {
        const struct point *p = &pts->point[i];
        if (!belongs(p, gpu))
            continue;
        s.rows++;
        if (p->least_s > 0) {
            s.run_gap += log(p->most_s / p->least_s);
            s.twice++;
        }
        if (fit)
            pair_up(pts, i, gpu, fit, &s);
    }
    s.run_gap = s.twice ? s.run_gap / s.twice : NAN;
    s.neighbour_gap = s.pairs ? s.neighbour_gap / s.pairs : NAN;
    s.floor = (s.pairs ? s.neighbour_gap : s.run_gap) / sqrt(2);
    return s;
}
