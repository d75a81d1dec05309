/* The reference backend: attention and selection as the definitions say, in double precision, one
 * query at a time. It is what every other backend is compared with; speed is of no account. */
#include "kernels/cpu/cpu.h"

#include <stdlib.h>

static double dot(const uint16_t *a, const uint16_t *b, int n)
{
    double sum = 0;
    for (int d = 0; d < n; d++)
        sum += (double)kern_float_of(a[d]) * (double)kern_float_of(b[d]);
    return sum;
}

/* Keys that query `row` of the head sees; `room` holds kv_rows entries. */
static int64_t keys_of(const struct kern_head *h, int64_t row, int32_t *room)
{
    const struct kern_keys *k = &h->keys;
    if (!k->list && !k->bitmap) {
        for (int64_t j = 0; j < h->kv_rows; j++)
            room[j] = (int32_t)j;
        return h->kv_rows;
    }
    int64_t group = row / k->group;
    if (!k->list)
        return cpu_bits_to_list(k->bitmap + group * k->bitmap_words, h->kv_rows, room);
    int64_t n = k->count ? k->count[group] : k->list_count;
    memcpy(room, k->list + group * k->list_stride, (size_t)n * sizeof *room);
    return n;
}

struct row { /* one query */
    int64_t keys;
    int32_t *list;
    double *p;   /* logits, then probabilities */
    double *out; /* [dim] */
};

static void forward_row(const struct kern_attention *a, const struct kern_head *h, int64_t i,
                        struct row *r)
{
    double scale = (double)kern_scale(a), max = -(double)INFINITY, sum = 0;
    r->keys = keys_of(h, i, r->list);
    for (int64_t j = 0; j < r->keys; j++) {
        r->p[j] = scale * dot(h->q + i * a->dim, h->k + r->list[j] * (int64_t)a->dim, a->dim);
        max = r->p[j] > max ? r->p[j] : max;
    }
    memset(r->out, 0, (size_t)a->dim * sizeof *r->out);
    for (int64_t j = 0; j < r->keys; j++) {
        r->p[j] = exp(r->p[j] - max);
        sum += r->p[j];
        for (int d = 0; d < a->dim; d++)
            r->out[d] += r->p[j] * (double)kern_float_of(h->v[r->list[j] * (int64_t)a->dim + d]);
    }
    for (int d = 0; d < a->dim; d++) {
        float x = r->keys ? (float)(r->out[d] / sum) : 0;
        if (h->o)
            h->o[i * a->dim + d] = kern_bf16_of(x);
        if (h->o32)
            h->o32[i * a->dim + d] = x;
    }
    h->lse[i] = r->keys ? (float)((max + log(sum)) * 1.4426950408889634) : -INFINITY;
}

static void backward_row(const struct kern_attention *a, const struct kern_head *h, int64_t i,
                         struct row *r)
{
    double scale = (double)kern_scale(a), delta = 0;
    int64_t dim = a->dim;
    r->keys = keys_of(h, i, r->list);
    for (int64_t d = 0; d < dim; d++)
        delta += (double)kern_float_of(h->d_o[i * dim + d]) *
                 (double)(h->o32 ? h->o32[i * dim + d] : kern_float_of(h->o[i * dim + d]));
    for (int64_t n = 0; n < r->keys; n++) {
        int64_t j = r->list[n];
        double s = scale * dot(h->q + i * dim, h->k + j * dim, a->dim);
        double p = exp(s - (double)h->lse[i] * 0.6931471805599453);
        double ds = p * (dot(h->d_o + i * dim, h->v + j * dim, a->dim) - delta) * scale;
        for (int64_t d = 0; d < dim; d++) {
            h->dq[i * dim + d] += (float)(ds * (double)kern_float_of(h->k[j * dim + d]));
            h->dk[j * dim + d] += (float)(ds * (double)kern_float_of(h->q[i * dim + d]));
            h->dv[j * dim + d] += (float)(p * (double)kern_float_of(h->d_o[i * dim + d]));
        }
    }
}

typedef void row_fn(const struct kern_attention *, const struct kern_head *, int64_t, struct row *);

static bool each_row(const struct kern_attention *a, row_fn *f, struct err *e)
{
    int64_t keys = 0;
    for (int h = 0; h < a->head_count; h++)
        keys = a->heads[h].kv_rows > keys ? a->heads[h].kv_rows : keys;
    void *list = NULL, *p = NULL, *out = NULL;
    bool ok = cpu_allocate((size_t)keys * sizeof(int32_t), &list, e) &&
              cpu_allocate((size_t)keys * sizeof(double), &p, e) &&
              cpu_allocate((size_t)a->dim * sizeof(double), &out, e);
    struct row r = {.list = list, .p = p, .out = out};
    for (int h = 0; ok && h < a->head_count; h++)
        for (int64_t i = 0; i < a->heads[h].q_rows; i++)
            f(a, &a->heads[h], i, &r);
    free(list);
    free(p);
    free(out);
    return ok;
}

static bool reference_forward(const struct kern_attention *a, struct err *e)
{
    return kern_attention_check(a, false, e) && each_row(a, forward_row, e);
}

static bool reference_backward(const struct kern_attention *a, struct err *e)
{
    return kern_attention_check(a, true, e) && each_row(a, backward_row, e);
}

/* ---- selection by sorting ---- */

struct scored {
    float score;
    int64_t key;
};

static int best_first(const void *x, const void *y)
{
    const struct scored *a = x, *b = y;
    if (a->score != b->score)
        return a->score > b->score ? -1 : 1;
    return a->key < b->key ? -1 : a->key > b->key;
}

static void select_group(const struct kern_select_head *h, int rank, int64_t g, struct scored *s)
{
    for (int64_t j = 0; j < h->keys; j++) {
        float x = (float)dot(h->q_lr + g * rank, h->k_lr + j * rank, rank);
        s[j] = (struct scored){x == x ? x : -INFINITY, j};
    }
    qsort(s, (size_t)h->keys, sizeof *s, best_first);
    uint32_t *bits = h->bitmap + g * h->bitmap_words;
    memset(bits, 0, (size_t)h->bitmap_words * sizeof *bits);
    for (int64_t i = 0; i < h->keep; i++)
        bits[s[i].key / 32] |= 1u << s[i].key % 32;
    if (h->threshold)
        h->threshold[g] = h->keep ? s[h->keep - 1].score : INFINITY;
}

static bool reference_select(const struct kern_select *s, struct err *e)
{
    if (!kern_select_check(s, e))
        return false;
    for (int i = 0; i < s->head_count; i++) {
        const struct kern_select_head *h = &s->heads[i];
        void *room = NULL;
        if (!cpu_allocate((size_t)h->keys * sizeof(struct scored), &room, e))
            return false;
        for (int64_t g = 0; g < h->groups; g++)
            select_group(h, s->rank, g, room);
        free(room);
    }
    return true;
}

static bool reference_linear(const struct kern_linear *l, int count, struct err *e)
{
    if (!kern_linear_check(l, count, e))
        return false;
    for (int n = 0; n < count; n++)
        for (int64_t i = 0; i < l[n].rows; i++)
            for (int64_t j = 0; j < l[n].out; j++)
                l[n].y[i * l[n].out + j] =
                    kern_bf16_of((float)dot(l[n].x + i * l[n].in, l[n].w + j * l[n].in, l[n].in));
    return true;
}

const struct kern_backend kern_reference = {
    .name = "reference",
    .what = "double precision, one thread, by the definitions: the yardstick of the others",
    .exact = true,
    .host = true,
    .available = cpu_available,
    .allocate = cpu_allocate,
    .release = cpu_release,
    .put = cpu_put,
    .get = cpu_get,
    .clear = cpu_clear,
    .wait = cpu_wait,
    .forward = reference_forward,
    .backward = reference_backward,
    .select = reference_select,
    .unite = cpu_unite,
    .remap = cpu_remap,
    .copy = cpu_copy,
    .gather = cpu_gather,
    .scatter_add = cpu_scatter_add,
    .merge = cpu_merge,
    .to_bf16 = cpu_to_bf16,
    .to_fp32 = cpu_to_fp32,
    .linear = reference_linear,
};
