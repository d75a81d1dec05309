#include "traces/field.h"

#include <gsl/gsl_linalg.h>
#include <math.h>
#include <string.h>

#include "base/rng.h"

/* Middle of every cube along one axis, in tokens. */
static void axis_middles(const struct cubes *c, struct grid grid, int axis, double *x)
{
    int stride = axis == 0 ? c->axis[1] * c->axis[2] : axis == 1 ? c->axis[2] : 1;
    for (int i = 0; i < c->axis[axis]; i++) {
        int first, end;
        cubes_range(c, grid, i * stride, axis, &first, &end);
        x[i] = 0.5 * (first + end - 1);
    }
}

/* Lower Cholesky factor of exp(-d^2 / (2 l^2)), row-major n x n. The kernel is singular in doubles
 * when the length is many steps, so a jitter of 1e-9 (a noise of 3e-5) keeps it positive. */
static double *axis_factor(const double *x, int n, double length, struct arena *a)
{
    double *k = ARENA_ARRAY(a, double, (size_t)n *(size_t)n);
    for (int i = 0; i < n; i++)
        for (int j = 0; j < n; j++) {
            double d = (x[i] - x[j]) / length;
            k[i * n + j] = exp(-0.5 * d * d) + (i == j ? 1e-9 : 0.0);
        }
    gsl_matrix_view m = gsl_matrix_view_array(k, (size_t)n, (size_t)n);
    gsl_linalg_cholesky_decomp1(&m.matrix);
    return k;
}

/* field <- L field along one axis, in place (last row first, as L is lower triangular). */
static void axis_apply(const double *l, int n, int outer, int inner, double *field)
{
    for (int o = 0; o < outer; o++) {
        double *base = field + (size_t)o * (size_t)n * (size_t)inner;
        for (int i = n - 1; i >= 0; i--) {
            double *to = base + (size_t)i * (size_t)inner;
            for (int x = 0; x < inner; x++)
                to[x] *= l[i * n + i];
            for (int j = 0; j < i; j++)
                for (int x = 0; x < inner; x++)
                    to[x] += l[i * n + j] * base[(size_t)j * (size_t)inner + (size_t)x];
        }
    }
}

struct smoother { /* one factor per axis, made once per field family */
    int axis[3];
    double *factor[3];
};

static struct smoother smoother_make(const struct cubes *c, struct grid grid, double length,
                                     bool share, struct arena *a)
{
    struct smoother s;
    int tokens[3] = {grid.t, grid.h, grid.w};
    for (int i = 0; i < 3; i++) {
        double *x = ARENA_ARRAY(a, double, c->axis[i]);
        axis_middles(c, grid, i, x);
        s.axis[i] = c->axis[i];
        s.factor[i] = axis_factor(x, c->axis[i], share ? length * tokens[i] : length, a);
    }
    return s;
}

static void smoother_draw(const struct smoother *s, struct rng *r, double *out)
{
    int n = s->axis[0] * s->axis[1] * s->axis[2];
    for (int i = 0; i < n; i++)
        out[i] = rng_normal(r);
    axis_apply(s->factor[0], s->axis[0], 1, s->axis[1] * s->axis[2], out);
    axis_apply(s->factor[1], s->axis[1], s->axis[0], s->axis[2], out);
    axis_apply(s->factor[2], s->axis[2], s->axis[0] * s->axis[1], 1, out);
}

static struct rng field_stream(const char *name, struct field_key key, int part)
{
    uint64_t place = (uint64_t)key.block << 32 | (uint32_t)key.head;
    return rng_stream(key.seed, name, place, (uint64_t)key.step, (uint64_t)part);
}

void field_sample(const struct cubes *cubes, struct grid grid, double length, bool length_is_share,
                  const char *name, struct field_key key, int part, struct arena *scratch,
                  double *out)
{
    struct smoother s = smoother_make(cubes, grid, length, length_is_share, scratch);
    struct rng r = field_stream(name, key, part);
    smoother_draw(&s, &r, out);
}

/* Queries and keys at once: u is needed at the middles of groups and of blocks. When the two
 * tilings differ, one field is drawn over the union of both sets of middles per axis, so that u is
 * the same field at both. */
struct places {
    int axis[3];
    double *x[3];
    int *of_group[3], *of_block[3]; /* index of each cube's middle in x */
};

static int middle_order(const void *l, const void *r)
{
    double a = *(const double *)l, b = *(const double *)r;
    return (a > b) - (a < b);
}

static int *middle_find(const double *x, int n, const double *of, int count, struct arena *a)
{
    int *index = ARENA_ARRAY(a, int, count);
    for (int i = 0, k = 0; i < count; i++) {
        while (k < n - 1 && x[k] < of[i])
            k++;
        index[i] = k;
    }
    return index;
}

static struct places places_make(const struct tiling *t, struct arena *a)
{
    struct places p;
    for (int i = 0; i < 3; i++) {
        int ng = t->group.axis[i], nb = t->block.axis[i], n = 0;
        double *g = ARENA_ARRAY(a, double, ng), *b = ARENA_ARRAY(a, double, nb);
        axis_middles(&t->group, t->grid, i, g);
        axis_middles(&t->block, t->grid, i, b);
        double *x = ARENA_ARRAY(a, double, ng + nb);
        memcpy(x, g, (size_t)ng * sizeof *x);
        memcpy(x + ng, b, (size_t)nb * sizeof *x);
        qsort(x, (size_t)(ng + nb), sizeof *x, middle_order);
        for (int k = 0; k < ng + nb; k++)
            if (n == 0 || x[k] > x[n - 1])
                x[n++] = x[k];
        p.axis[i] = n;
        p.x[i] = x;
        p.of_group[i] = middle_find(x, n, g, ng, a);
        p.of_block[i] = middle_find(x, n, b, nb, a);
    }
    return p;
}

static struct smoother smoother_at(const struct places *p, struct grid grid, double length,
                                   bool share, struct arena *a)
{
    struct smoother s;
    int tokens[3] = {grid.t, grid.h, grid.w};
    for (int i = 0; i < 3; i++) {
        s.axis[i] = p->axis[i];
        s.factor[i] = axis_factor(p->x[i], p->axis[i], share ? length * tokens[i] : length, a);
    }
    return s;
}

static size_t place_of(const struct places *p, const struct cubes *c, int *const of[3], int cube)
{
    int w = cube % c->axis[2], h = cube / c->axis[2] % c->axis[1],
        t = cube / c->axis[2] / c->axis[1];
    return ((size_t)of[0][t] * (size_t)p->axis[1] + (size_t)of[1][h]) * (size_t)p->axis[2] +
           (size_t)of[2][w];
}

/* Divides each position's vector by its root mean square over the rank; stride between components.
 */
static void unit_rms(float *v, int rank, size_t stride, double scale)
{
    double sum = 0;
    for (int k = 0; k < rank; k++)
        sum += (double)v[(size_t)k * stride] * v[(size_t)k * stride];
    double by = scale / sqrt(sum / rank);
    for (int k = 0; k < rank; k++)
        v[(size_t)k * stride] = (float)(v[(size_t)k * stride] * by);
}

static void field_columns(const struct tiling *t, const struct field_law *law, struct field_key key,
                          struct arena *scratch, float *column)
{
    if (law->sinks <= 0)
        return;
    double *s = ARENA_ARRAY(scratch, double, t->block.count);
    field_sample(&t->block, t->grid, law->key_length, law->length_is_share, "field-sinks", key, 0,
                 scratch, s);
    for (int b = 0; b < t->block.count; b++)
        column[b] = (float)(sqrt(law->sinks) * s[b]);
}

void field_make(const struct tiling *t, const struct field_law *law, struct field_key key,
                struct arena *a, struct field *out)
{
    struct arena *scratch = arena_new();
    struct places p = places_make(t, scratch);
    struct smoother smooth_u =
        smoother_at(&p, t->grid, law->query_length, law->length_is_share, scratch);
    struct smoother smooth_w =
        smoother_at(&p, t->grid, law->key_length, law->length_is_share, scratch);
    size_t n = (size_t)p.axis[0] * (size_t)p.axis[1] * (size_t)p.axis[2];
    double *u = ARENA_ARRAY(scratch, double, n), *w = ARENA_ARRAY(scratch, double, n);
    int rank = law->rank, groups = t->group.count, blocks = t->block.count;
    float *query = ARENA_ARRAY(a, float, (size_t)groups *(size_t)rank);
    float *keys = ARENA_ARRAY(a, float, (size_t)blocks *(size_t)rank);
    float *column = ARENA_ARRAY(a, float, blocks);
    for (int k = 0; k < rank; k++) {
        struct rng ru = field_stream("field-u", key, k), rw = field_stream("field-w", key, k);
        smoother_draw(&smooth_u, &ru, u);
        smoother_draw(&smooth_w, &rw, w);
        for (int g = 0; g < groups; g++)
            query[(size_t)g * (size_t)rank + (size_t)k] =
                (float)u[place_of(&p, &t->group, p.of_group, g)];
        for (int b = 0; b < blocks; b++) {
            size_t at = place_of(&p, &t->block, p.of_block, b);
            keys[(size_t)k * (size_t)blocks + (size_t)b] =
                (float)(law->rho * u[at] + sqrt(1 - law->rho * law->rho) * w[at]);
        }
    }
    for (int g = 0; g < groups; g++)
        unit_rms(query + (size_t)g * (size_t)rank, rank, 1, 1.0);
    for (int b = 0; b < blocks; b++)
        unit_rms(keys + b, rank, (size_t)blocks, 1.0 / sqrt(rank));
    field_columns(t, law, key, scratch, column);
    *out = (struct field){rank, groups, blocks, query, keys, column};
    arena_free(scratch);
}

void field_scores(const struct field *f, int group, float *scores)
{
    memcpy(scores, f->column, (size_t)f->blocks * sizeof *scores);
    const float *u = f->query + (size_t)group * (size_t)f->rank;
    for (int k = 0; k < f->rank; k++) {
        const float *v = f->key + (size_t)k * (size_t)f->blocks;
        for (int b = 0; b < f->blocks; b++)
            scores[b] += u[k] * v[b];
    }
}
