/* Fits kernel profiles. */
#include "validate/fit_kernel.h"

#include <gsl/gsl_fit.h>
#include <math.h>
#include <string.h>

#include "validate/lsq.h"

bool fit_sees(const struct fit_view *v, const struct point *p)
{
    return !v->keep || v->keep(p, v->data);
}

/* Rows under 1 ms are noisier and matter less: their residuals count with the root of their length,
 * a tenth at least. */
static double weight(double time_s)
{
    return fmin(fmax(sqrt(time_s / 1e-3), 0.1), 1);
}

/* GEMM: what takes under a millisecond is launch and tile choice by the library; the long ones set
 * the rate. */
static double gemm_weight(double time_s)
{
    return fmin(fmax(time_s / 1e-3, 0.05), 3);
}

/* Query and key tiles of FlashAttention-3 on Hopper by head width and mask (hopper/tile_size.h of
 * Dao-AILab/flash-attention). */
static void tiles(int head_dim, bool causal, int *q, int *k)
{
    *q = head_dim <= 96 ? 192 : 128;
    *k = causal ? 128 : head_dim <= 64 ? 192 : head_dim <= 96 ? 144 : 176;
}

/* ---- attention: x = shared constants, then tile and block of each entry, all logarithms but heat
 * ---- */

enum { A_LAUNCH, A_WAVE, A_TAIL, A_HEAT, A_HEAT_S, A_SHARED };
static const double attention_prior[A_SHARED] = {-12.02, 3, 0, 0.12, -5.8};
static const double attention_sure[A_SHARED] = {0.01, 0.006, 0.006, 0.2, 0.04};

struct attention_data {
    const struct fit_view *v;
    struct prof_kernels *p;
    struct prof_attention *entries;
    double *start; /* block prior of each entry */
    int *rows;     /* that each entry is fitted on */
    int *entry;    /* of each point; -1: not seen */
};

static double unit(double x)
{
    return 1 / (1 + exp(-x));
}

static void attention_set(const double *x, const struct attention_data *d)
{
    struct prof_kernels *p = d->p;
    p->launch_s = exp(x[A_LAUNCH]);
    p->wave = unit(x[A_WAVE]);
    p->tail = unit(x[A_TAIL]);
    p->heat = fmax(x[A_HEAT], 0);
    p->heat_s = exp(x[A_HEAT_S]);
    for (int i = 0; i < p->attention_count; i++) {
        d->entries[i].tile_s = exp(x[A_SHARED + 2 * i]);
        d->entries[i].block_s = exp(x[A_SHARED + 2 * i + 1]);
    }
}

static void attention_residuals(const double *x, const void *data, double *r)
{
    const struct attention_data *d = data;
    attention_set(x, d);
    int n = 0;
    for (int i = 0; i < d->v->pts->count; i++) {
        const struct point *pt = &d->v->pts->point[i];
        if (d->entry[i] >= 0)
            r[n++] =
                weight(pt->time_s) *
                log(prof_attention_s(d->p, &d->entries[d->entry[i]], &pt->attention) / pt->time_s);
    }
    for (int i = 0; i < A_SHARED; i++)
        r[n++] = attention_sure[i] * (x[i] - attention_prior[i]);
    for (int i = 0; i < d->p->attention_count; i++) {
        r[n++] = (d->rows[i] < 8 ? 0.5 : 0.012) *
                 (x[A_SHARED + 2 * i] - log(6e-6)); /* two rows cannot tell both parts */
        r[n++] = 0.001 * (x[A_SHARED + 2 * i + 1] - d->start[i]);
    }
}

static int entry_of(struct attention_data *d, const struct point *pt)
{
    const struct attention_query *q = &pt->attention;
    for (int i = 0; i < d->p->attention_count; i++)
        if (d->entries[i].causal == q->causal && d->entries[i].head_dim == q->head_dim)
            return i;
    struct prof_attention k = {
        .kernel = pt->kernel, .causal = q->causal, .head_dim = q->head_dim, .origin = PROF_INSIDE};
    tiles(q->head_dim, q->causal, &k.tile_q, &k.tile_k);
    d->entries[d->p->attention_count] = k;
    return d->p->attention_count++;
}

static int attention_entries(struct attention_data *d)
{
    int seen = 0;
    for (int i = 0; i < d->v->pts->count; i++) {
        const struct point *pt = &d->v->pts->point[i];
        d->entry[i] = -1;
        if (pt->kind != POINT_ATTENTION || pt->attention.backward || !fit_sees(d->v, pt))
            continue;
        int k = d->entry[i] = entry_of(d, pt);
        d->rows[k]++;
        d->entries[k].longest = fmax(d->entries[k].longest, pt->attention.keys);
        seen++;
    }
    return seen;
}

/* Mean log ratio of the backward rows to the fitted forward: one figure for the profile's kernels,
 * which share a family. */
static void attention_backward(const struct attention_data *d)
{
    double sum = 0;
    int n = 0;
    for (int i = 0; i < d->v->pts->count; i++) {
        const struct point *pt = &d->v->pts->point[i];
        if (pt->kind != POINT_ATTENTION || !pt->attention.backward || !fit_sees(d->v, pt))
            continue;
        struct attention_query forward = pt->attention;
        forward.backward = false;
        sum += log(pt->time_s / prof_attention(d->p, &forward).time.value_s);
        n++;
    }
    for (int i = 0; i < d->p->attention_count; i++)
        d->entries[i].backward = n ? exp(sum / n) : 0;
}

bool fit_attention(const struct fit_view *v, struct prof_kernels *p, struct arena *a, struct err *e)
{
    int room = v->pts->count + 1;
    struct attention_data d = {.v = v,
                               .p = p,
                               .entries = ARENA_ARRAY(a, struct prof_attention, room),
                               .start = ARENA_ARRAY(a, double, room),
                               .rows = ARENA_ARRAY(a, int, room),
                               .entry = ARENA_ARRAY(a, int, room)};
    p->attention_count = 0;
    p->attention = d.entries;
    int seen = attention_entries(&d);
    if (seen < 3)
        return err_set(e, ERR_INPUT, err_at_name(v->pts->path),
                       "%d rows of forward attention; a fit needs 3, 8 to be useful", seen);
    int unknowns = A_SHARED + 2 * p->attention_count;
    double *x = ARENA_ARRAY(a, double, unknowns);
    memcpy(x, attention_prior, sizeof attention_prior);
    for (int i = 0; i < p->attention_count; i++) {
        const struct prof_attention *k = &d.entries[i]; /* start at 600 TFLOP/s over all SMs */
        d.start[i] = log(4.0 * k->tile_q * k->tile_k * k->head_dim * p->sms / 600e12);
        x[A_SHARED + 2 * i] = log(4e-6);
        x[A_SHARED + 2 * i + 1] = d.start[i];
    }
    if (!lsq_fit(attention_residuals, &d, seen + unknowns, x, unknowns, 0.05, e))
        return false;
    attention_set(x, &d);
    attention_backward(&d);
    return true;
}

/* ---- gemm ---- */

enum {
    G_LAUNCH,
    G_WAVE,
    G_HEAT,
    G_HEAT_S,
    G_RATE,
    G_TILE,
    G_HBM,
    G_WIDE,
    G_NARROW,
    G_THIN,
    G_COUNT
};
static const double gemm_prior[G_COUNT] = {-12.7, 1, 0.05, -6.9, 34.29, -13.8, 28.55, 0, 0.1, 0.3};
static const double gemm_sure[G_COUNT] = {0.01,  0.006, 0.16, 0.02, 0.02,
                                          0.006, 0.02,  0.12, 0.02, 0.02};

struct gemm_data {
    const struct fit_view *v;
    int sms;
};

static void gemm_of(const double *x, struct prof_gemm *g)
{
    double narrow = exp(-fabs(x[G_NARROW]));
    *g = (struct prof_gemm){.launch_s = exp(x[G_LAUNCH]),
                            .wave = unit(x[G_WAVE]),
                            .heat = fmax(x[G_HEAT], 0),
                            .heat_s = exp(x[G_HEAT_S]),
                            .rate = exp(x[G_RATE]),
                            .tile_s = exp(x[G_TILE]),
                            .hbm_bytes_per_s = exp(x[G_HBM]),
                            .wide = fmax(x[G_WIDE], 0),
                            .narrow = {narrow, narrow * exp(-fabs(x[G_THIN]))},
                            .origin = PROF_INSIDE};
}

static bool gemm_seen(const struct fit_view *v, const struct point *p)
{
    return p->kind == POINT_GEMM && fit_sees(v, p);
}

static void gemm_residuals(const double *x, const void *data, double *r)
{
    const struct gemm_data *d = data;
    struct prof_gemm g;
    gemm_of(x, &g);
    int n = 0;
    for (int i = 0; i < d->v->pts->count; i++) {
        const struct point *p = &d->v->pts->point[i];
        if (gemm_seen(d->v, p))
            r[n++] =
                gemm_weight(p->time_s) * log(prof_gemm_s(&g, d->sms, p->m, p->n, p->k) / p->time_s);
    }
    for (int i = 0; i < G_COUNT; i++)
        r[n++] = gemm_sure[i] * (x[i] - gemm_prior[i]);
}

bool fit_gemm(const struct fit_view *v, int sms, struct prof_gemm *out, struct arena *a,
              struct err *e)
{
    (void)a;
    struct gemm_data d = {.v = v, .sms = sms};
    double x[G_COUNT], longest = 0;
    int seen = 0;
    for (int i = 0; i < v->pts->count; i++)
        if (gemm_seen(v, &v->pts->point[i])) {
            seen++;
            longest = fmax(longest, v->pts->point[i].time_s);
        }
    if (seen < 8)
        return err_set(e, ERR_INPUT, err_at_name(v->pts->path), "%d rows of GEMM; a fit needs 8",
                       seen);
    memcpy(x, gemm_prior, sizeof x);
    if (!lsq_fit(gemm_residuals, &d, seen + G_COUNT, x, G_COUNT, 0.05, e))
        return false;
    gemm_of(x, out);
    out->longest_s = longest;
    return true;
}

/* ---- sparse ---- */

struct sparse_rows {
    double x[512], y[512], w[512]; /* pairs, seconds, 1 / seconds^2: relative errors count alike */
    double rows;
    int n;
};

static bool sparse_row(const struct fit_view *v, const struct point *p, enum sparse_part part,
                       bool backward)
{
    return p->kind == POINT_SPARSE && p->part == part && p->backward == backward && fit_sees(v, p);
}

/* row_s and pair_s of one direction. The forward takes the rows with the shortest sequence and
 * leaves longer ones to cache_slope; the backward, bound by atomic adds and not by the cache, takes
 * all. */
static bool sparse_line(const struct fit_view *v, bool backward, struct prof_sparse *out,
                        double *held, struct err *e)
{
    struct sparse_rows s = {0};
    *held = INFINITY;
    for (int i = 0; i < v->pts->count; i++)
        if (sparse_row(v, &v->pts->point[i], PART_SPARSE, backward))
            *held = fmin(*held, v->pts->point[i].keys_held);
    for (int i = 0; i < v->pts->count && s.n < 512; i++) {
        const struct point *p = &v->pts->point[i];
        if (!sparse_row(v, p, PART_SPARSE, backward))
            continue;
        out->longest = fmax(out->longest, p->keys_held);
        if (!backward && p->keys_held > *held)
            continue;
        s.x[s.n] = p->pairs / p->rows;
        s.y[s.n] = p->time_s / p->rows;
        s.w[s.n] = 1 / (s.y[s.n] * s.y[s.n]);
        out->least_keys = fmin(out->least_keys, p->kept);
        out->most_keys = fmax(out->most_keys, p->kept);
        s.n++;
    }
    double c00, c01, c11, chi;
    if (s.n < 2)
        return err_set(e, ERR_INPUT, err_at_name(v->pts->path), "%d sparse %s rows; a line needs 2",
                       s.n, backward ? "backward" : "forward");
    gsl_fit_wlinear(s.x, 1, s.w, 1, s.y, 1, (size_t)s.n, &out->row_s[backward],
                    &out->pair_s[backward], &c00, &c01, &c11, &chi);
    if (out->row_s[backward] < 0 || !(out->pair_s[backward] > 0))
        return err_set(e, ERR_INPUT, err_at_name(v->pts->path),
                       "sparse %s: times do not rise with the kept keys",
                       backward ? "backward" : "forward");
    return true;
}

static double mean_log(const struct fit_view *v, enum sparse_part part, bool backward)
{
    double sum = 0;
    int n = 0;
    for (int i = 0; i < v->pts->count; i++) {
        const struct point *p = &v->pts->point[i];
        if (sparse_row(v, p, part, backward)) {
            sum += log(p->time_s / (part == PART_SELECT ? p->scores : p->pairs));
            n++;
        }
    }
    return n ? exp(sum / n) : 0;
}

/* What the forward of longer sequences takes beyond the line: their keys and values fall out of the
 * cache. */
static double cache_slope(const struct fit_view *v, const struct prof_sparse *k, double held)
{
    double sum = 0;
    int n = 0;
    for (int i = 0; i < v->pts->count; i++) {
        const struct point *p = &v->pts->point[i];
        double missed = 1 - k->cache_bytes / (p->keys_held * p->attention.head_dim * 4.0);
        if (!sparse_row(v, p, PART_SPARSE, false) || p->keys_held <= held || !(missed > 0))
            continue;
        sum += ((p->time_s - k->row_s[0] * p->rows) / (k->pair_s[0] * p->pairs) - 1) / missed;
        n++;
    }
    return n ? fmax(sum / n, 0) : 0;
}

bool fit_sparse(const struct fit_view *v, struct prof_sparse *out, struct err *e)
{
    /* 25 MB: one of the two halves of an H100's L2; keys beyond it come from the far half or from
     * memory. */
    struct prof_sparse k = {.kernel = "dsv-triton",
                            .cache_bytes = 25e6,
                            .tile = 256,
                            .group = 32,
                            .origin = PROF_INSIDE,
                            .least_keys = INFINITY};
    double held;
    if (!sparse_line(v, false, &k, &held, e) || !sparse_line(v, true, &k, &held, e))
        return false;
    for (int backward = 0; backward < 2; backward++)
        k.dense_pair_s[backward] = mean_log(v, PART_DENSE, backward);
    k.score_s = mean_log(v, PART_SELECT, false);
    k.cache_slope = cache_slope(v, &k, held);
    *out = k;
    return true;
}

/* ---- another GPU ---- */

/* The factor on tile_s and block_s that makes the entry meet the anchor; heat and launch do not
 * scale, so by iteration. */
static double entry_scale(const struct prof_kernels *p, struct prof_attention k,
                          const struct point *anchor)
{
    double scale = 1;
    struct prof_attention base = k;
    for (int i = 0; i < 30; i++) {
        k.tile_s = base.tile_s * scale;
        k.block_s = base.block_s * scale;
        scale *= anchor->time_s / prof_attention_s(p, &k, &anchor->attention);
    }
    return scale;
}

static bool scale_attention(const struct fit_view *v, struct prof_kernels *p, struct arena *a)
{
    struct prof_attention *k = ARENA_ARRAY(a, struct prof_attention, p->attention_count);
    double *own = ARENA_ARRAY(a, double, p->attention_count), sum = 0;
    int n = 0;
    memcpy(k, p->attention, (size_t)p->attention_count * sizeof *k);
    for (int j = 0; j < p->attention_count; j++)
        for (int i = 0; i < v->pts->count; i++) {
            const struct point *pt = &v->pts->point[i];
            if (pt->kind != POINT_ATTENTION || !fit_sees(v, pt) || pt->attention.backward ||
                pt->attention.causal != k[j].causal || pt->attention.head_dim != k[j].head_dim)
                continue;
            own[j] = log(entry_scale(p, k[j], pt));
            sum += own[j];
            n++;
            k[j].kernel = pt->kernel;
        }
    for (int j = 0; n && j < p->attention_count; j++) {
        double scale = exp(own[j] != 0 ? sum / n + 0.7 * (own[j] - sum / n) : sum / n);
        k[j].tile_s *= scale;
        k[j].block_s *= scale;
        k[j].origin = PROF_BORROWED;
    }
    p->attention = k;
    return n > 0;
}

/* The mean log factor on the rate that the anchors ask for, each met by iteration, and how far they
 * disagree. */
static int rate_scale(const struct fit_view *v, int sms, const struct prof_gemm *g, double *mean,
                      double *spread)
{
    double sum = 0, squares = 0;
    int n = 0;
    for (int i = 0; i < v->pts->count; i++) {
        const struct point *pt = &v->pts->point[i];
        if (!gemm_seen(v, pt))
            continue;
        struct prof_gemm k = *g;
        for (int step = 0; step < 30; step++)
            k.rate *= prof_gemm_s(&k, sms, pt->m, pt->n, pt->k) / pt->time_s;
        double scale = log(k.rate / g->rate);
        sum += scale;
        squares += scale * scale;
        n++;
    }
    *mean = n ? sum / n : 0;
    *spread = n ? squares / n - *mean * *mean : 0;
    return n;
}

/* A cooler GPU loses less rate on long runs: of half, all and none of the relative's loss, what the
 * anchors agree on best. */
static bool scale_gemm(const struct fit_view *v, int sms, struct prof_gemm *g)
{
    static const double share[] = {1, 0.5, 0, 1.5};
    struct prof_gemm best = *g;
    double least = INFINITY;
    for (int i = 0; i < 4; i++) {
        struct prof_gemm k = *g;
        double mean, spread;
        k.heat *= share[i];
        if (!rate_scale(v, sms, &k, &mean, &spread))
            return false;
        k.rate *= exp(mean);
        k.tile_s *= exp(-mean);
        if (spread < least) {
            least = spread;
            best = k;
        }
    }
    *g = best;
    g->origin = PROF_BORROWED;
    return true;
}

bool fit_scaled(const struct prof_kernels *relative, const struct fit_view *attention,
                const struct fit_view *gemm, int sms, struct prof_kernels *out, struct arena *a,
                struct err *e)
{
    struct prof_kernels p = *relative;
    p.sms = sms;
    p.sparse.pair_s[0] =
        0; /* a gather kernel does not scale with dense attention: better no answer */
    bool any = scale_attention(attention, &p, a);
    if (!scale_gemm(gemm, sms, &p.gemm))
        p.gemm.rate = 0;
    else
        any = true;
    if (!any)
        return err_set(e, ERR_INPUT, err_at_name("anchors"),
                       "no attention or GEMM row that the relative '%s' has a kernel for",
                       relative->name);
    *out = p;
    return true;
}
