/* See rounding.h. */
#include "tests/kernels/rounding.h"

#include <stdlib.h>

static double bf16(double x)
{
    return (double)kern_float_of(kern_bf16_of((float)x));
}

static double product(const uint16_t *a, const uint16_t *b, int n)
{
    double sum = 0;
    for (int d = 0; d < n; d++)
        sum += (double)kern_float_of(a[d]) * (double)kern_float_of(b[d]);
    return sum;
}

struct row { /* one query: its keys and logits; room for a row of O */
    int64_t n;
    int64_t *key;
    double *s, *out;
};

static void keys_of(const struct kern_head *h, int64_t i, struct row *r)
{
    const struct kern_keys *k = &h->keys;
    if (!k->list) {
        r->n = h->kv_rows;
        for (int64_t j = 0; j < r->n; j++)
            r->key[j] = j;
        return;
    }
    int64_t group = i / k->group;
    r->n = k->count ? k->count[group] : k->list_count;
    for (int64_t j = 0; j < r->n; j++)
        r->key[j] = k->list[group * k->list_stride + j];
}

static void forward(const struct kern_attention *a, const struct kern_head *h, int64_t i,
                    struct row *r)
{
    double most = -(double)INFINITY, sum = 0;
    int dim = a->dim;
    for (int64_t j = 0; j < r->n; j++) {
        r->s[j] = (double)kern_scale(a) * product(h->q + i * dim, h->k + r->key[j] * dim, dim);
        most = fmax(most, r->s[j]);
    }
    memset(r->out, 0, (size_t)dim * sizeof *r->out);
    for (int64_t j = 0; j < r->n; j++) {
        double p = exp(r->s[j] - most), rounded = bf16(p);
        sum += p;
        for (int d = 0; d < dim; d++)
            r->out[d] += rounded * (double)kern_float_of(h->v[r->key[j] * dim + d]);
    }
    for (int d = 0; d < dim; d++) {
        h->o32[i * dim + d] = r->n ? (float)(r->out[d] / sum) : 0;
        h->o[i * dim + d] = kern_bf16_of(h->o32[i * dim + d]);
    }
    h->lse[i] = r->n ? (float)((most + log(sum)) / log(2)) : -INFINITY;
}

static void backward(const struct kern_attention *a, const struct kern_head *h, int64_t i,
                     const struct row *r)
{
    double delta = 0, scale = (double)kern_scale(a);
    int dim = a->dim;
    const uint16_t *d_o = h->d_o + i * dim, *q = h->q + i * dim;
    for (int d = 0; d < dim; d++)
        delta += (double)kern_float_of(d_o[d]) * (double)h->o32[i * dim + d];
    for (int64_t j = 0; j < r->n; j++) {
        int64_t at = r->key[j] * dim;
        double p = exp(r->s[j] - (double)h->lse[i] * log(2));
        double ds = scale * bf16(p * (product(d_o, h->v + at, dim) - delta)), rounded = bf16(p);
        for (int d = 0; d < dim; d++) {
            h->dq[i * dim + d] += (float)(ds * (double)kern_float_of(h->k[at + d]));
            h->dk[at + d] += (float)(ds * (double)kern_float_of(q[d]));
            h->dv[at + d] += (float)(rounded * (double)kern_float_of(d_o[d]));
        }
    }
}

static void round_all(float *x, int64_t n)
{
    for (int64_t i = 0; i < n; i++)
        x[i] = (float)bf16((double)x[i]);
}

void rounding_run(struct problem *p)
{
    size_t keys = (size_t)p->shape.kv_rows + 1;
    struct row r = {.key = malloc(keys * sizeof *r.key),
                    .s = malloc(keys * sizeof *r.s),
                    .out = malloc((size_t)p->shape.dim * sizeof *r.out)};
    if (!r.key || !r.s || !r.out)
        abort();
    for (int h = 0; h < p->shape.heads; h++)
        for (int64_t i = 0; i < p->shape.q_rows; i++) {
            keys_of(&p->head[h], i, &r);
            forward(&p->a, &p->head[h], i, &r);
            backward(&p->a, &p->head[h], i, &r);
        }
    for (int h = 0; h < p->shape.heads; h++) {
        round_all(p->head[h].dk, p->head[h].kv_rows * p->shape.dim);
        round_all(p->head[h].dv, p->head[h].kv_rows * p->shape.dim);
    }
    free(r.key);
    free(r.s);
    free(r.out);
}

static double far(double most, double x, double y)
{
    double d = fabs(x - y);
    return most != most || d != d ? (double)NAN : fmax(most, d);
}

static double farthest(double most, const float *x, const float *y, int64_t n)
{
    for (int64_t i = 0; i < n; i++)
        most = far(most, (double)x[i], (double)y[i]);
    return most;
}

struct rounding_errors rounding_errors(const struct problem *p, const struct problem *exact)
{
    struct rounding_errors r = {0};
    int64_t dim = p->shape.dim, q = p->shape.q_rows * dim, kv = p->shape.kv_rows * dim;
    for (int h = 0; h < p->shape.heads; h++) {
        const struct kern_head *x = &p->head[h], *y = &exact->head[h];
        for (int64_t i = 0; i < q; i++)
            r.o = far(r.o, (double)kern_float_of(x->o[i]), (double)y->o32[i]);
        r.dq = farthest(r.dq, x->dq, y->dq, q);
        r.dk = farthest(r.dk, x->dk, y->dk, kv);
        r.dv = farthest(r.dv, x->dv, y->dv, kv);
    }
    return r;
}
