/* Attention tiles for one instruction set; compiled once for each with TILE_LANES (floats in a
 * vector), TILE_VECTORS (vectors in a panel), TILE_ROWS (rows of the register tile), TILE_DOT (1:
 * VDPBF16PS, which multiplies pairs of bf16 exactly and adds in fp32, for the products of two
 * stored matrices) and TILE_ISA (name of the table).
 *
 * Forward, per block of keys (K, V as rows, Q^T as panels [dim][P], S^T in log2 units):
 *   S^T[j][i] = sum_d K[j][d] Q^T[d][i];  m' = max(m, max_j S^T);  a = 2^(m - m')
 *   P^T = 2^(S^T - m');  l = l a + sum_j P^T;  O^T[d][i] = a O^T[d][i] + sum_j V[j][d] P^T[j][i]
 * Backward, with LSE and delta_i = sum_d dO_id O_id (FlashAttention-2, Dao 2023, section 2.3.2):
 *   P^T = 2^(S^T - LSE);  dP^T = V dO^T;  dS^T = P^T (dP^T - delta)
 *   dQ^T += K^T dS^T;  dV += P^T dO;  dK += dS^T Q. */
#include "kernels/cpu/tile.h"

#ifdef __AVX__
#include <immintrin.h>
#endif

enum { LANES = TILE_LANES, VECTORS = TILE_VECTORS, ROWS = TILE_ROWS, P = LANES * VECTORS };
_Static_assert((int)TILE_KEYS % (int)ROWS == 0 && (int)KERN_DIM_STEP % (int)ROWS == 0 &&
                   (int)P <= (int)TILE_PANEL_MAX,
               "register tile");

typedef float vec __attribute__((vector_size(4 * TILE_LANES)));
typedef int32_t veci __attribute__((vector_size(4 * TILE_LANES)));
typedef float vec_at __attribute__((vector_size(4 * TILE_LANES), aligned(4), may_alias));
typedef uint16_t half_at __attribute__((vector_size(2 * TILE_LANES), aligned(2), may_alias));

#define INLINE      static inline __attribute__((always_inline))
#define UNROLL_ROWS _Pragma("GCC unroll 16")

INLINE vec load(const float *p)
{
    return *(const vec_at *)p;
}

INLINE void store(float *p, vec x)
{
    *(vec_at *)p = x;
}

INLINE vec splat(float x)
{
    return x - (vec){0}; /* exact, and the one scalar-to-vector form of the C extension */
}

INLINE vec vmax(vec a, vec b) /* b where either is NaN */
{
#if defined __AVX512F__ && TILE_LANES == 16
    return (vec)_mm512_max_ps((__m512)a, (__m512)b);
#elif defined __AVX__ && TILE_LANES == 8
    return (vec)_mm256_max_ps((__m256)a, (__m256)b);
#else
    veci greater = a > b;
    return (vec)((greater & (veci)a) | (~greater & (veci)b));
#endif
}

/* 2^x for x <= 0, 0 below -126.5: minimax polynomial of degree 5, relative error 1e-7. Adding 1.5 *
 * 2^23 rounds to a whole number that sits in the low bits. */
INLINE vec exp2_vec(vec x)
{
    x = vmax(splat(-127.0f), x);
    vec shifted = x + 12582912.0f;
    vec f = x - (shifted - 12582912.0f);
    vec p = f * 1.3276470126e-3f + 9.6755409613e-3f;
    p = p * f + 5.5507134646e-2f;
    p = p * f + 2.4022120237e-1f;
    p = p * f + 6.9314694405e-1f;
    p = p * f + 1.0f;
    return p * (vec)(((veci)shifted + 127) << 23);
}

/* acc[i][v] += sum_k a[i * ai + k * ak] * b[k * bk + v * LANES]. */
INLINE void multiply(vec acc[ROWS][VECTORS], const float *a, long ai, long ak, const float *b,
                     long bk, int n)
{
    for (int k = 0; k < n; k++) {
        vec row[VECTORS];
        UNROLL_ROWS
        for (int v = 0; v < VECTORS; v++)
            row[v] = load(b + k * bk + v * LANES);
        UNROLL_ROWS
        for (int i = 0; i < ROWS; i++) {
            float x = a[i * ai + k * ak];
            UNROLL_ROWS
            for (int v = 0; v < VECTORS; v++)
                acc[i][v] += x * row[v];
        }
    }
}

/* ---- c[i][lane] = by * sum_d a[i][d] * panel[d][lane], a and panel from bf16: S^T and dP^T ----
 */

#if TILE_DOT

typedef uint16_t stored;   /* rows as they lie in memory */
typedef uint32_t panelled; /* [dim/2][P] pairs of bf16 */

INLINE void scores_ld(const stored *a, long lda, int rows, const panelled *b, int dim, float by,
                      float *c)
{
    for (int r = 0; r < rows; r += ROWS) {
        __m512 acc[ROWS][VECTORS];
        UNROLL_ROWS
        for (int i = 0; i < ROWS; i++)
            UNROLL_ROWS
        for (int v = 0; v < VECTORS; v++)
            acc[i][v] = _mm512_setzero_ps();
        for (int d = 0; d < dim / 2; d++) {
            __m512bh row[VECTORS];
            UNROLL_ROWS
            for (int v = 0; v < VECTORS; v++)
                row[v] = (__m512bh)_mm512_loadu_si512(b + d * P + v * LANES);
            UNROLL_ROWS
            for (int i = 0; i < ROWS; i++) {
                int32_t pair;
                memcpy(&pair, a + (r + i) * lda + 2 * d, sizeof pair);
                __m512bh x = (__m512bh)_mm512_set1_epi32(pair);
                UNROLL_ROWS
                for (int v = 0; v < VECTORS; v++)
                    acc[i][v] = _mm512_dpbf16_ps(acc[i][v], x, row[v]);
            }
        }
        UNROLL_ROWS
        for (int i = 0; i < ROWS; i++)
            UNROLL_ROWS
        for (int v = 0; v < VECTORS; v++)
            store(c + (r + i) * P + v * LANES, (vec)acc[i][v] * by);
    }
}

/* Lanes beyond `rows` are zero. */
static void panel_load(panelled *panel, const uint16_t *x, int64_t rows, int dim)
{
    int n = rows < P ? (int)rows : P;
    if (n < P)
        memset(panel, 0, sizeof *panel * (size_t)dim / 2 * P);
    for (int i = 0; i < n; i++)
        for (int d = 0; d < dim / 2; d++)
            memcpy(&panel[(long)d * P + i], x + (long)i * dim + 2 * d, sizeof *panel);
}

#else

typedef float stored;
typedef float panelled; /* [dim][P] */

INLINE void scores_ld(const stored *a, long lda, int rows, const panelled *b, int dim, float by,
                      float *c)
{
    for (int r = 0; r < rows; r += ROWS) {
        vec acc[ROWS][VECTORS] = {0};
        multiply(acc, a + r * lda, lda, 1, b, P, dim);
        UNROLL_ROWS
        for (int i = 0; i < ROWS; i++)
            UNROLL_ROWS
        for (int v = 0; v < VECTORS; v++)
            store(c + (r + i) * P + v * LANES, acc[i][v] * by);
    }
}

/* Lanes beyond `rows` are zero. */
static void panel_load(panelled *panel, const uint16_t *x, int64_t rows, int dim)
{
    int n = rows < P ? (int)rows : P;
    if (n < P)
        memset(panel, 0, sizeof *panel * (size_t)dim * P);
    for (int i = 0; i < n; i++)
        for (int d = 0; d < dim; d++)
            panel[(long)d * P + i] = kern_float_of(x[(long)i * dim + d]);
}

#endif

/* Constant strides let the compiler address all rows from one register. */
static void scores(const stored *a, int dim, int rows, const panelled *b, float by, float *c)
{
    if (dim == 128)
        scores_ld(a, 128, rows, b, 128, by, c);
    else if (dim == 64)
        scores_ld(a, 64, rows, b, 64, by, c);
    else
        scores_ld(a, dim, rows, b, dim, by, c);
}

/* c[d][lane] = c[d][lane] * by[lane] + sum_j a[j][d] * b[j][lane]; by NULL is 1. */
INLINE void columns_by_panel_ld(const float *a, long lda, int keys, const float *b, const float *by,
                                float *c, int dim)
{
    for (int d = 0; d < dim; d += ROWS) {
        vec acc[ROWS][VECTORS];
        UNROLL_ROWS
        for (int i = 0; i < ROWS; i++)
            UNROLL_ROWS
        for (int v = 0; v < VECTORS; v++) {
            acc[i][v] = load(c + (d + i) * P + v * LANES);
            if (by)
                acc[i][v] *= load(by + v * LANES);
        }
        multiply(acc, a + d, 1, lda, b, P, keys);
        UNROLL_ROWS
        for (int i = 0; i < ROWS; i++)
            UNROLL_ROWS
        for (int v = 0; v < VECTORS; v++)
            store(c + (d + i) * P + v * LANES, acc[i][v]);
    }
}

static void columns_by_panel(const float *a, int dim, int keys, const float *b, const float *by,
                             float *c)
{
    columns_by_panel_ld(a, dim, keys, b, by, c, dim);
}

/* out[row(j)][d] += sum over panels and lanes of a[panel][j][lane] * b[panel * P + lane][d]: keys
 * `j0..j0+ROWS-1` and columns d..d+P-1. Rows beyond `keys` are computed on zeros and not stored. */
INLINE void key_gradient_rows(const float *a, int panels, const float *b, int dim,
                              float *const out[ROWS], int keys, int d)
{
    vec acc[ROWS][VECTORS] = {0};
    for (int p = 0; p < panels; p++)
        multiply(acc, a + (long)p * TILE_KEYS * P, P, 1, b + (long)p * P * dim + d, dim, P);
    UNROLL_ROWS
    for (int i = 0; i < ROWS; i++) {
        if (i >= keys)
            break;
        UNROLL_ROWS
        for (int v = 0; v < VECTORS; v++) {
            float *at = out[i] + d + v * LANES;
            if (d + (v + 1) * LANES <= dim)
                store(at, load(at) + acc[i][v]);
        }
    }
}

/* ---- a block of keys ---- */

struct block {
    int keys, padded;            /* padded: up to a multiple of ROWS, the rest is zeros */
    float *k, *v;                /* [TILE_KEYS][dim]; NULL: not needed */
    stored *k_stored, *v_stored; /* for scores; NULL: not needed */
    const int32_t *list;
    int64_t first; /* without a list: row of key 0 */
};

static int64_t block_row(const struct block *b, int j)
{
    return b->list ? b->list[j] : b->first + j;
}

INLINE void widen(float *dst, const uint16_t *src, int n)
{
    for (int d = 0; d < n; d += LANES) {
        half_at h = *(const half_at *)(src + d);
        *(vec_at *)(dst + d) = (vec)(__builtin_convertvector(h, veci) << 16);
    }
}

#if TILE_DOT
INLINE void keep_stored(stored *dst, const uint16_t *src, int n)
{
    memcpy(dst, src, (size_t)n * sizeof *dst);
}
#else
#define keep_stored widen
#endif

/* One matrix of the block, as fp32 (if `wide`) and as scores() takes it (if `kept`; without
 * TILE_DOT the same array). */
static void block_rows(const struct tile *t, const struct block *b, const uint16_t *x, float *wide,
                       stored *kept)
{
    enum { AHEAD = 8 };
    long dim = t->dim;
    for (int j = 0; j < b->keys; j++) {
        if (b->list && j + AHEAD < b->keys)
            for (int d = 0; d < dim; d += 32)
                __builtin_prefetch(x + (int64_t)b->list[j + AHEAD] * dim + d);
        const uint16_t *row = x + block_row(b, j) * dim;
        if (wide)
            widen(wide + j * dim, row, t->dim);
        if (kept && (void *)kept != (void *)wide)
            keep_stored(kept + j * dim, row, t->dim);
    }
    size_t rest = (size_t)(b->padded - b->keys) * (size_t)dim;
    if (wide)
        memset(wide + b->keys * dim, 0, rest * sizeof *wide);
    if (kept)
        memset(kept + b->keys * dim, 0, rest * sizeof *kept);
}

static void block_load(const struct tile *t, struct block *b, int64_t at)
{
    int64_t left = t->key_count - at;
    b->keys = left < TILE_KEYS ? (int)left : TILE_KEYS;
    b->padded = (b->keys + ROWS - 1) / ROWS * ROWS;
    b->list = t->list ? t->list + at : NULL;
    b->first = t->key_begin + at;
    block_rows(t, b, t->head->k, b->k, b->k_stored);
    block_rows(t, b, t->head->v, b->v, b->v_stored);
}

/* Takes `count` items from the scratch of a tile. */
#define TAKE(at, type, count) ((type *)scratch_take(&(at), sizeof(type) * (size_t)(count)))

static void *scratch_take(char **at, size_t bytes)
{
    void *p = *at;
    *at += (bytes + 63) / 64 * 64;
    return p;
}

static struct block block_new(const struct tile *t, char **at, bool backward)
{
    long size = (long)TILE_KEYS * t->dim;
    struct block b = {0};
#if TILE_DOT
    b.k_stored = TAKE(*at, stored, size);
    if (backward) {
        b.v_stored = TAKE(*at, stored, size);
        b.k = TAKE(*at, float, size);
    } else {
        b.v = TAKE(*at, float, size);
    }
#else
    (void)backward;
    b.k = b.k_stored = TAKE(*at, float, size);
    b.v = b.v_stored = TAKE(*at, float, size);
#endif
    return b;
}

static int panels_of(const struct tile *t)
{
    return (int)((t->q_count + P - 1) / P);
}

static const float log2_e = 1.4426950408889634f;

/* ---- forward ---- */

struct softmax { /* per lane of one panel */
    float max[TILE_PANEL_MAX], sum[TILE_PANEL_MAX], by[TILE_PANEL_MAX];
};

static void softmax_step(struct softmax *s, float *st, int keys)
{
    vec sum[VECTORS], top[VECTORS];
    UNROLL_ROWS
    for (int v = 0; v < VECTORS; v++)
        top[v] = load(s->max + v * LANES);
    for (int j = 0; j < keys; j++)
        UNROLL_ROWS
    for (int v = 0; v < VECTORS; v++)
        top[v] = vmax(load(st + j * P + v * LANES), top[v]);
    UNROLL_ROWS
    for (int v = 0; v < VECTORS; v++) {
        vec by = exp2_vec(load(s->max + v * LANES) - top[v]);
        store(s->by + v * LANES, by);
        store(s->max + v * LANES, top[v]);
        sum[v] = load(s->sum + v * LANES) * by;
    }
    for (int j = 0; j < keys; j++)
        UNROLL_ROWS
    for (int v = 0; v < VECTORS; v++) {
        vec p = exp2_vec(load(st + j * P + v * LANES) - top[v]);
        store(st + j * P + v * LANES, p);
        sum[v] += p;
    }
    UNROLL_ROWS
    for (int v = 0; v < VECTORS; v++)
        store(s->sum + v * LANES, sum[v]);
}

static void store_row(const struct kern_head *h, int64_t row, int dim, const float *ot, float by)
{
    for (int d = 0; d < dim; d++) {
        float x = ot[(long)d * P] * by;
        if (h->o32)
            h->o32[row * dim + d] = x;
        if (h->o)
            h->o[row * dim + d] = kern_bf16_of(x);
    }
}

static void forward_store(const struct tile *t, const struct softmax *s, const float *ot, int panel)
{
    int64_t left = t->q_count - (int64_t)panel * P;
    for (int i = 0; i < P && i < left; i++) {
        int64_t row = t->q_begin + (int64_t)panel * P + i;
        bool empty = t->key_count == 0;
        store_row(t->head, row, t->dim, ot + i, empty ? 0 : 1 / s->sum[i]);
        t->head->lse[row] = empty ? -INFINITY : s->max[i] + log2f(s->sum[i]);
    }
}

static void tile_forward(const struct tile *t)
{
    int panels = panels_of(t);
    long size = (long)t->dim * P; /* of one panel of Q^T or O^T */
    char *at = (char *)t->scratch;
    panelled *qt = TAKE(at, panelled, TILE_QUERIES * t->dim);
    float *ot = TAKE(at, float, TILE_QUERIES * t->dim), *st = TAKE(at, float, TILE_KEYS *P);
    struct block b = block_new(t, &at, false);
    struct softmax s[TILE_QUERIES / P];
    for (int p = 0; p < panels; p++) {
        panel_load(qt + p * size, t->head->q + (t->q_begin + (int64_t)p * P) * t->dim,
                   t->q_count - (int64_t)p * P, t->dim);
        for (int i = 0; i < P; i++)
            s[p].max[i] = -INFINITY, s[p].sum[i] = 0;
    }
    memset(ot, 0, sizeof(float) * (size_t)(panels * size));
    for (int64_t key = 0; key < t->key_count; key += TILE_KEYS) {
        block_load(t, &b, key);
        for (int p = 0; p < panels; p++) {
            scores(b.k_stored, t->dim, b.padded, qt + p * size, t->scale * log2_e, st);
            softmax_step(&s[p], st, b.keys);
            columns_by_panel(b.v, t->dim, b.keys, st, s[p].by, ot + p * size);
        }
    }
    for (int p = 0; p < panels; p++)
        forward_store(t, &s[p], ot + p * size, p);
}

/* ---- backward ---- */

struct grad {           /* scratch of one tile */
    panelled *qt, *dot; /* [panel][dim][P]: Q^T, dO^T */
    float *dqt;         /* [panel][dim][P] */
    float *q, *d_o;     /* [TILE_QUERIES][dim]: Q times scale, dO */
    float *p, *ds;      /* [panel][TILE_KEYS][P] */
    float lse[TILE_QUERIES], delta[TILE_QUERIES];
};

/* delta_i = sum_d dO_id O_id, and the row copies; rows beyond the tile are zero, so that they add
 * nothing. */
static void grad_rows(const struct tile *t, struct grad *g, int rows)
{
    const struct kern_head *h = t->head;
    for (int i = 0; i < rows; i++) {
        int64_t row = (t->q_begin + i) * t->dim;
        float *q = g->q + (long)i * t->dim, *d_o = g->d_o + (long)i * t->dim;
        float delta = 0;
        g->lse[i] = g->delta[i] = 0;
        if (i >= t->q_count) {
            memset(q, 0, sizeof(float) * (size_t)t->dim);
            memset(d_o, 0, sizeof(float) * (size_t)t->dim);
            continue;
        }
        for (int d = 0; d < t->dim; d++) {
            q[d] = kern_float_of(h->q[row + d]) * t->scale;
            d_o[d] = kern_float_of(h->d_o[row + d]);
            delta += d_o[d] * (h->o32 ? h->o32[row + d] : kern_float_of(h->o[row + d]));
        }
        g->delta[i] = delta;
        g->lse[i] = h->lse[t->q_begin + i];
    }
}

static void grad_scores(float *p, float *ds, const float *lse, const float *delta, int keys,
                        int padded)
{
    for (int j = 0; j < keys; j++)
        UNROLL_ROWS
    for (int v = 0; v < VECTORS; v++) {
        long at = (long)j * P + v * LANES;
        vec x = exp2_vec(load(p + at) - load(lse + v * LANES));
        store(p + at, x);
        store(ds + at, x * (load(ds + at) - load(delta + v * LANES)));
    }
    size_t rest = (size_t)(padded - keys) * P * sizeof(float);
    memset(p + (long)keys * P, 0, rest);
    memset(ds + (long)keys * P, 0, rest);
}

/* out[key] += a^T b for the block's keys, in their own rows of `out`. */
static void key_gradient(const struct tile *t, const struct block *b, const float *a,
                         const float *rows, int panels, float *out)
{
    for (int r = 0; r < b->padded; r += ROWS) {
        int keys = b->keys - r < ROWS ? b->keys - r : ROWS;
        float *to[ROWS];
        for (int i = 0; i < ROWS; i++)
            to[i] = out + block_row(b, i < keys ? r + i : r) * t->dim;
        for (int d = 0; d < t->dim; d += P)
            if (t->dim == 128)
                key_gradient_rows(a + (long)r * P, panels, rows, 128, to, keys, d);
            else
                key_gradient_rows(a + (long)r * P, panels, rows, t->dim, to, keys, d);
    }
}

static void backward_block(const struct tile *t, struct grad *g, const struct block *b, int panels)
{
    long size = (long)t->dim * P, keys = (long)TILE_KEYS * P;
    for (int i = 0; i < panels; i++) {
        float *p = g->p + i * keys, *ds = g->ds + i * keys;
        scores(b->k_stored, t->dim, b->padded, g->qt + i * size, t->scale * log2_e, p);
        scores(b->v_stored, t->dim, b->padded, g->dot + i * size, 1, ds);
        grad_scores(p, ds, g->lse + (long)i * P, g->delta + (long)i * P, b->keys, b->padded);
        columns_by_panel(b->k, t->dim, b->keys, ds, NULL, g->dqt + i * size);
    }
    key_gradient(t, b, g->p, g->d_o, panels, t->dv);
    key_gradient(t, b, g->ds, g->q, panels, t->dk);
}

static void grad_store(const struct tile *t, const float *dqt)
{
    for (int64_t i = 0; i < t->q_count; i++) {
        float *dq = t->head->dq + (t->q_begin + i) * t->dim;
        const float *from = dqt + i / P * P * t->dim + i % P;
        for (int d = 0; d < t->dim; d++)
            dq[d] += from[(long)d * P] * t->scale;
    }
}

static struct grad grad_new(const struct tile *t, char **at)
{
    long all = (long)TILE_QUERIES * t->dim, square = (long)TILE_KEYS * TILE_QUERIES;
    struct grad g = {0};
    g.qt = TAKE(*at, panelled, all);
    g.dot = TAKE(*at, panelled, all);
    g.dqt = TAKE(*at, float, all);
    g.p = TAKE(*at, float, square);
    g.ds = TAKE(*at, float, square);
    g.q = TAKE(*at, float, all + P); /* the last panel of a row may be read past its end */
    g.d_o = TAKE(*at, float, all + P);
    return g;
}

static void tile_backward(const struct tile *t)
{
    long size = (long)t->dim * P;
    int panels = panels_of(t);
    char *at = (char *)t->scratch;
    struct grad g = grad_new(t, &at);
    struct block b = block_new(t, &at, true);
    for (int p = 0; p < panels; p++) {
        int64_t row = t->q_begin + (int64_t)p * P, left = t->q_count - (int64_t)p * P;
        panel_load(g.qt + p * size, t->head->q + row * t->dim, left, t->dim);
        panel_load(g.dot + p * size, t->head->d_o + row * t->dim, left, t->dim);
    }
    grad_rows(t, &g, panels * P);
    memset(g.dqt, 0, sizeof(float) * (size_t)(panels * size));
    for (int64_t key = 0; key < t->key_count; key += TILE_KEYS) {
        block_load(t, &b, key);
        backward_block(t, &g, &b, panels);
    }
    grad_store(t, g.dqt);
}

/* ---- selection ---- */

INLINE vec nan_to_least(vec x)
{
    veci number = x == x;
    return (vec)((number & (veci)x) | (~number & (veci)splat(-INFINITY)));
}

static void tile_scores(const float *q, int groups, int rank, const float *kt, int64_t count,
                        float *scores, int64_t stride)
{
    enum { GROUPS = 4 };
    for (int64_t at = 0; at < count; at += P) {
        const float *panel = kt + at * rank;
        vec acc[GROUPS][VECTORS] = {0};
        for (int d = 0; d < rank; d++)
            UNROLL_ROWS
        for (int g = 0; g < GROUPS; g++)
            UNROLL_ROWS
        for (int v = 0; v < VECTORS; v++)
            acc[g][v] += q[g * rank + d] * load(panel + d * P + v * LANES);
        for (int g = 0; g < groups; g++)
            for (int v = 0; v < VECTORS; v++)
                store(scores + g * stride + at + v * LANES, nan_to_least(acc[g][v]));
    }
}

#if defined __AVX512F__ && TILE_LANES == 16

static int64_t tile_bracket(const float *x, int64_t n, float lo, float hi, float *inside,
                            int64_t room, int64_t *inside_count)
{
    int64_t above = 0, found = 0;
    __m512 low = _mm512_set1_ps(lo), high = _mm512_set1_ps(hi);
    for (int64_t i = 0; i < n; i += 16) {
        __mmask16 valid = n - i < 16 ? (__mmask16)((1u << (n - i)) - 1) : 0xffff;
        __m512 s = _mm512_maskz_loadu_ps(valid, x + i);
        __mmask16 ge = _mm512_mask_cmp_ps_mask(valid, s, high, _CMP_GE_OQ);
        __mmask16 in = _mm512_mask_cmp_ps_mask((__mmask16)(valid & ~ge), s, low, _CMP_GE_OQ);
        above += __builtin_popcount(ge);
        if (!in)
            continue;
        int k = __builtin_popcount(in);
        if (found + k <= room)
            _mm512_mask_compressstoreu_ps(inside + found, in, s);
        found += k;
    }
    *inside_count = found;
    return above;
}

static void tile_above(const float *x, int64_t n, float threshold, uint32_t *words, int64_t *set,
                       int64_t *equal)
{
    __m512 t = _mm512_set1_ps(threshold);
    *set = *equal = 0;
    for (int64_t i = 0; i < n; i += 32) {
        uint32_t valid = n - i < 32 ? (1u << (n - i)) - 1 : 0xffffffff;
        __mmask16 v0 = (__mmask16)valid, v1 = (__mmask16)(valid >> 16);
        __m512 a = _mm512_maskz_loadu_ps(v0, x + i), b = _mm512_maskz_loadu_ps(v1, x + i + 16);
        uint32_t gt = _mm512_mask_cmp_ps_mask(v0, a, t, _CMP_GT_OQ) |
                      (uint32_t)_mm512_mask_cmp_ps_mask(v1, b, t, _CMP_GT_OQ) << 16;
        uint32_t eq = _mm512_mask_cmp_ps_mask(v0, a, t, _CMP_EQ_OQ) |
                      (uint32_t)_mm512_mask_cmp_ps_mask(v1, b, t, _CMP_EQ_OQ) << 16;
        words[i / 32] = gt;
        *set += __builtin_popcount(gt);
        *equal += __builtin_popcount(eq);
    }
}

#else

static int64_t tile_bracket(const float *x, int64_t n, float lo, float hi, float *inside,
                            int64_t room, int64_t *inside_count)
{
    int64_t above = 0, found = 0;
    for (int64_t i = 0; i < n; i++) {
        above += x[i] >= hi;
        if (x[i] >= lo && !(x[i] >= hi)) {
            if (found < room)
                inside[found] = x[i];
            found++;
        }
    }
    *inside_count = found;
    return above;
}

static void tile_above(const float *x, int64_t n, float threshold, uint32_t *words, int64_t *set,
                       int64_t *equal)
{
    *set = *equal = 0;
    for (int64_t i = 0; i < n; i += 32) {
        uint32_t word = 0;
        int64_t end = n - i < 32 ? n - i : 32;
        for (int64_t j = 0; j < end; j++) {
            word |= (uint32_t)(x[i + j] > threshold) << j;
            *equal += x[i + j] == threshold;
        }
        words[i / 32] = word;
        *set += __builtin_popcount(word);
    }
}

#endif

/* ---- linear layers: the rows are the lanes, as queries are ---- */

/* Rows j0..j0+rows-1 of w as scores() takes them. */
static const stored *weights(const struct tile_linear *t, int j0, int rows, float *room)
{
    const uint16_t *w = t->w + (int64_t)j0 * t->in;
#if TILE_DOT
    (void)rows, (void)room;
    return w;
#else
    for (int j = 0; j < rows; j++)
        widen(room + (long)j * t->in, w + (long)j * t->in, t->in);
    return room;
#endif
}

static void tile_linear(const struct tile_linear *t)
{
    panelled *panel = (panelled *)t->scratch;
    float *c = t->scratch + (long)t->in * TILE_PANEL_MAX, *wide = c + TILE_KEYS * TILE_PANEL_MAX;
    panel_load(panel, t->x, t->rows, t->in);
    for (int j0 = 0; j0 < t->out; j0 += TILE_KEYS) {
        int n = t->out - j0 < TILE_KEYS ? t->out - j0 : TILE_KEYS;
        scores(weights(t, j0, n, wide), t->in, n, panel, 1, c);
        for (int i = 0; i < t->rows; i++)
            for (int j = 0; j < n; j++)
                t->y[(int64_t)i * t->out + j0 + j] = kern_bf16_of(c[j * P + i]);
    }
}

#define TEXT_OF(x)  #x
#define NAME_OF(x)  TEXT_OF(x)
#define TABLE_OF(x) tile_##x
#define TABLE(x)    TABLE_OF(x)

static bool isa_available(void)
{
    return TILE_AVAILABLE;
}

const struct tile_isa TABLE(TILE_ISA) = {
    .name = NAME_OF(TILE_ISA),
    .panel = P,
    .available = isa_available,
    .forward = tile_forward,
    .backward = tile_backward,
    .linear = tile_linear,
    .scores = tile_scores,
    .bracket = tile_bracket,
    .above = tile_above,
};
