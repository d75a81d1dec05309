/* The profiles that ship: fitted on every row of the tables after the leave-out protocols have said
 * how well that works. */
#include <math.h>
#include <string.h>

#include "validate/accuracy.h"

const struct shipped shipped_nets[] = {
    {.name = "h100", .gpu = "h100_sxm", .nvls = true},
    {.name = "a100", .gpu = "a100_sxm", .relative = "h100"},
    {.name = "b200", .gpu = "b200_sxm", .relative = "h100", .nvls = true},
    {.name = "h200", .gpu = "h200_sxm", .relative = "h100", .nvls = true, .same_links = true},
    {.name = "l40s", .gpu = "l40s", .relative = "h100"},
    {.name = "rtx_pro_6000", .gpu = "rtx_pro_6000_server", .relative = "h100"},
    {.name = "gb200", .gpu = "gb200_nvl72", .relative = "b200", .nvls = true},
    {.name = NULL},
};
const struct shipped shipped_curves[] = {
    {.name = "h100", .gpu = "h100_sxm", .sms = 132},
    {.name = "h200", .gpu = "h200_sxm", .relative = "h100", .sms = 132},
    {.name = "b200", .gpu = "b200_sxm", .relative = "h100", .sms = 148},
    {.name = "a100", .gpu = "a100_sxm", .relative = "h100", .sms = 108},
    {.name = "h200-cudnn", .gpu = "h200-cudnn", .sms = 132},
    {.name = NULL},
};

/* Two runs of one collective: repeats in the tables, and H100 against H200, differ by 2 to 3 % on
 * average. */
static const double repeat_half[2] = {0.08, 0.05};

static const struct shipped *find(const struct shipped *list, const char *name)
{
    for (; list->name; list++)
        if (!strcmp(list->name, name))
            return list;
    return NULL;
}

static void net_halves(const struct residuals *r, struct prof_net *p, struct arena *a)
{
    for (int large = 0; large < 2; large++) {
        p->half[PROF_POINT][large] = repeat_half[large];
        for (int c = PROF_INSIDE; c < PROF_BETWEEN; c++)
            p->half[c][large] =
                fmax(residuals_half(r, POINT_COLLECTIVE, (enum prof_class)c, large, a),
                     repeat_half[large]);
    }
    for (int large = 0; large < 2; large++)
        p->between.half[large] = residuals_half(r, POINT_COLLECTIVE, PROF_BETWEEN, large, a);
}

bool shipped_net(const struct accuracy_tables *t, const struct residuals *r,
                 const struct shipped *s, struct prof_net *out, struct arena *a, struct err *e)
{
    struct prof_net *relative = NULL;
    if (s->relative) {
        relative = ARENA_NEW(a, struct prof_net);
        if (!shipped_net(t, r, find(shipped_nets, s->relative), relative, a, e))
            return false;
    }
    const struct points *tables[] = {&t->local, &t->nodes};
    struct point_filter f = {.gpu = s->gpu};
    struct fit_net_options o = {.name = s->name,
                                .relative = relative,
                                .nvls = s->nvls,
                                .source = "nccl-tests tables of ai-dynamo/aiconfigurator "
                                          "(Apache-2.0, NVIDIA); several nodes: public posts, see "
                                          "presets/data/README.md"};
    if (!fit_net(tables, 2, &f, &o, out, a, e))
        return false;
    if (!relative && !fit_between(&t->nodes, out, NULL, &out->between, a, e))
        return false;
    net_halves(r, out, a);
    for (int large = 0; s->same_links && large < 2; large++)
        out->half[PROF_BORROWED][large] = repeat_half[large];
    return true;
}

static void kernel_halves(const struct residuals *r, struct prof_kernels *p, struct arena *a)
{
    for (int k = 0; k < PROF_KINDS; k++) {
        double inside = fmax(residuals_half(r, POINT_ATTENTION + k, PROF_INSIDE, true, a), 0.02);
        double outside = residuals_half(r, POINT_ATTENTION + k, PROF_OUTSIDE, true, a);
        double borrowed = residuals_half(r, POINT_ATTENTION + k, PROF_BORROWED, true, a);
        p->half[k][PROF_POINT] = p->half[k][PROF_INSIDE] = inside;
        p->half[k][PROF_OUTSIDE] = outside > 0 ? fmax(outside, inside) : 1.5 * inside;
        p->half[k][PROF_BORROWED] = borrowed > 0 ? hypot(borrowed, inside) : 2 * inside;
    }
    double small = residuals_half(r, POINT_ATTENTION, PROF_INSIDE, false, a),
           large = p->half[KIND_ATTENTION][PROF_INSIDE];
    p->half_short = sqrt(fmax(small * small - large * large, 0));
}

static bool of_gpu(const struct point *p, const void *gpu)
{
    return !strcmp(p->gpu, gpu);
}

static bool sparse_source(const struct point *p, const void *none)
{
    (void)none;
    return !strcmp(p->gpu, "h100");
}

bool shipped_kernels(const struct accuracy_tables *t, const struct residuals *r,
                     const struct shipped *s, struct prof_kernels *out, struct arena *a,
                     struct err *e)
{
    struct fit_view attention = {&t->attention, of_gpu, s->gpu}, gemm = {&t->gemm, of_gpu, s->gpu};
    struct fit_view sparse = {&t->sparse, sparse_source, NULL};
    struct prof_kernels p = {.sms = s->sms};
    if (s->relative) {
        struct prof_kernels relative;
        if (!shipped_kernels(t, r, find(shipped_curves, s->relative), &relative, a, e) ||
            !fit_scaled(&relative, &attention, &gemm, s->sms, &p, a, e))
            return false;
    } else if (!fit_attention(&attention, &p, a, e)) {
        return false;
    }
    if (!strcmp(s->name, "h100") &&
        (!fit_gemm(&gemm, s->sms, &p.gemm, a, e) || !fit_sparse(&sparse, &p.sparse, e)))
        return false;
    p.name = s->name;
    p.source = "attention and GEMM: ai-dynamo/aiconfigurator (Apache-2.0, NVIDIA), "
               "FlashAttention-3 paper, MagiAttention and "
               "cudnn-frontend benchmarks; sparse: artifact of DSV (arXiv 2502.07590); see "
               "presets/data/README.md";
    kernel_halves(r, &p, a);
    *out = p;
    return true;
}
