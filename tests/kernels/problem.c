/* See problem.h. */
#include "tests/kernels/problem.h"

#include <stdio.h>
#include <stdlib.h>

#include "base/rng.h"

enum { GUARD = 256, PATTERN = 0xa5 };

static void *take(struct problem *p, size_t bytes)
{
    unsigned char *raw = malloc(bytes + 2 * GUARD);
    if (!raw || p->buffer_count == (int)(sizeof p->buffers / sizeof *p->buffers))
        abort();
    memset(raw, PATTERN, bytes + 2 * GUARD);
    p->buffers[p->buffer_count] = raw;
    p->sizes[p->buffer_count++] = bytes;
    return raw + GUARD;
}

bool problem_guards_hold(const struct problem *p)
{
    for (int i = 0; i < p->buffer_count; i++) {
        const unsigned char *raw = p->buffers[i];
        for (int g = 0; g < GUARD; g++)
            if (raw[g] != PATTERN || raw[GUARD + p->sizes[i] + (size_t)g] != PATTERN)
                return false;
    }
    return true;
}

void problem_free(struct problem *p)
{
    for (int i = 0; i < p->buffer_count; i++)
        free(p->buffers[i]);
}

static void take_outputs(struct problem *p, struct kern_head *h)
{
    size_t dim = (size_t)p->shape.dim, q = (size_t)p->shape.q_rows * dim,
           kv = (size_t)p->shape.kv_rows * dim;
    h->o = take(p, q * sizeof *h->o);
    h->o32 = take(p, q * sizeof *h->o32);
    h->lse = take(p, (size_t)p->shape.q_rows * sizeof *h->lse);
    h->dq = take(p, q * sizeof *h->dq);
    h->dk = take(p, kv * sizeof *h->dk);
    h->dv = take(p, kv * sizeof *h->dv);
    memset(h->o, 0xff, q * sizeof *h->o); /* NaN */
    memset(h->o32, 0xff, q * sizeof *h->o32);
    memset(h->lse, 0xff, (size_t)p->shape.q_rows * sizeof *h->lse);
    memset(h->dq, 0, q * sizeof *h->dq);
    memset(h->dk, 0, kv * sizeof *h->dk);
    memset(h->dv, 0, kv * sizeof *h->dv);
}

/* `size` numbers of standard deviation `std`. */
static uint16_t *take_normal(struct problem *p, int64_t rows, double std, const char *name,
                             int head)
{
    struct rng r = rng_stream(p->shape.seed, name, (uint64_t)head, 0, 0);
    uint16_t *x = take(p, (size_t)(rows * p->shape.dim) * sizeof *x);
    for (int64_t i = 0; i < rows * p->shape.dim; i++)
        x[i] = kern_bf16_of((float)(rng_normal(&r) * std));
    return x;
}

/* `keep` of `keys` rows, ascending, of which `same` are among the `count` rows of another list;
 * each such subset alike (selection sampling, Knuth 3.4.2 S, from the rows of that list and the
 * others).
 */
static void draw_list(struct rng *r, int32_t *list, int keep, int64_t keys, const int32_t *before,
                      int count, int same)
{
    int64_t left[] = {keys - count, count};
    int want[] = {keep - same, same}, n = 0, b = 0;
    for (int64_t j = 0; j < keys && n < keep; j++) {
        bool was = b < count && before[b] == j;
        if ((double)left[was]-- * rng_uniform(r) < want[was]) {
            list[n++] = (int32_t)j;
            want[was]--;
        }
        b += was;
    }
}

/* Group g's list, which comes after that of the group before, and its number. */
static void draw_group(struct problem *p, int head, struct rng *r, int64_t g)
{
    const struct problem_shape *s = &p->shape;
    int keep = s->keep[head], before = 0, same = 0;
    int64_t stride = keep + 5, keys = s->kv_rows;
    int32_t *list = p->list[head] + g * stride;
    if (s->uneven)
        keep = keep * (int)((g + 2) % 3) / 2;
    if (s->like_before != 0 && g > 0) {
        before = p->count[head][g - 1];
        same = s->like_before > 0 ? keep * s->like_before / 100 : 0;
        same = same < before ? same : before;
        if (keep - same > keys - before) /* more than there are others */
            same = (int)(keep - (keys - before));
    }
    for (int64_t j = 0; j < stride; j++)
        list[j] = INT32_MAX;
    draw_list(r, list, keep, keys, list - stride, before, same);
    p->count[head][g] = keep;
}

static void take_lists(struct problem *p, struct kern_head *h, int i)
{
    const struct problem_shape *s = &p->shape;
    struct rng r = rng_stream(s->seed, "lists", (uint64_t)i, 0, 0);
    int64_t groups = kern_groups(s->q_rows, s->group), stride = s->keep[i] + 5;
    p->list[i] = take(p, (size_t)(groups * stride) * sizeof(int32_t));
    p->count[i] = take(p, (size_t)groups * sizeof(int32_t));
    for (int64_t g = 0; g < groups; g++)
        draw_group(p, i, &r, g);
    h->keys = (struct kern_keys){.group = s->group,
                                 .list = p->list[i],
                                 .list_stride = stride,
                                 .list_count = s->keep[i],
                                 .count = i % 2 || s->uneven ? p->count[i] : NULL};
}

static int keys_of(const struct kern_keys *k, int64_t group)
{
    return k->count ? k->count[group] : k->list_count;
}

/* NaN in every row that no list names. */
static void poison_unused(struct problem *p, int i, uint16_t *k, uint16_t *v)
{
    const struct kern_keys *keys = &p->head[i].keys;
    int64_t groups = kern_groups(p->shape.q_rows, p->shape.group);
    bool *used = calloc((size_t)p->shape.kv_rows + 1, sizeof *used);
    for (int64_t g = 0; g < groups; g++)
        for (int64_t j = 0; j < keys_of(keys, g); j++)
            used[keys->list[g * keys->list_stride + j]] = true;
    size_t bytes = (size_t)p->shape.dim * sizeof *k;
    for (int64_t j = 0; j < p->shape.kv_rows; j++)
        if (!used[j]) {
            memset(k + j * p->shape.dim, 0xff, bytes);
            memset(v + j * p->shape.dim, 0xff, bytes);
        }
    free(used);
}

/* A shift of all logits: the first column of Q is 1 and that of K is shift / scale, as bf16 has it.
 */
static void shift_logits(const struct problem *p, uint16_t *q, uint16_t *k)
{
    uint16_t at = kern_bf16_of((float)(p->shape.logit_mean * sqrt(p->shape.dim)));
    for (int64_t i = 0; i < p->shape.q_rows; i++)
        q[i * p->shape.dim] = kern_bf16_of(1);
    for (int64_t j = 0; j < p->shape.kv_rows; j++)
        k[j * p->shape.dim] = at;
}

void problem_new(struct problem *p, const struct problem_shape *s)
{
    *p = (struct problem){.shape = *s,
                          .a = {.dim = s->dim, .head_count = s->heads, .heads = p->head}};
    for (int i = 0; i < s->heads; i++) {
        struct kern_head *h = &p->head[i];
        uint16_t *q = take_normal(p, s->q_rows, s->logit_std, "q", i),
                 *k = take_normal(p, s->kv_rows, 1, "k", i);
        uint16_t *v = take_normal(p, s->kv_rows, 1, "v", i);
        if (s->logit_mean != 0)
            shift_logits(p, q, k);
        *h = (struct kern_head){.q_rows = s->q_rows,
                                .kv_rows = s->kv_rows,
                                .q = q,
                                .k = k,
                                .v = v,
                                .d_o = take_normal(p, s->q_rows, 1, "do", i)};
        take_outputs(p, h);
        if (s->keep[i] >= 0) {
            take_lists(p, h, i);
            poison_unused(p, i, k, v);
        }
    }
}

void problem_twin(struct problem *twin, const struct problem *p)
{
    *twin = (struct problem){.shape = p->shape, .a = p->a};
    twin->a.heads = twin->head;
    for (int i = 0; i < p->shape.heads; i++) {
        twin->head[i] = p->head[i];
        take_outputs(twin, &twin->head[i]);
    }
}

static double relative(const float *x, const float *y, int64_t n)
{
    double error = 0, norm = 0;
    for (int64_t i = 0; i < n; i++) {
        double d = (double)x[i] - (double)y[i];
        error += d * d;
        norm += (double)y[i] * (double)y[i];
    }
    return norm > 0 ? sqrt(error / norm) : sqrt(error);
}

static double worst(double a, double b) /* NaN is worst */
{
    return b != b || b > a ? b : a;
}

static double lse_distance(const struct kern_head *x, const struct kern_head *y)
{
    double far = 0;
    for (int64_t i = 0; i < x->q_rows; i++)
        if (!(x->lse[i] == y->lse[i])) /* -infinity equals itself */
            far = worst(far, fabs((double)x->lse[i] - (double)y->lse[i]));
    return far;
}

static double worst_row(double most, const float *x, const float *y, int64_t rows, int dim)
{
    double least = 0;
    for (int64_t i = 0; i < rows * dim; i++)
        least += (double)y[i] * (double)y[i];
    least = 1e-1 * sqrt(least / (double)(rows + !rows));
    for (int64_t r = 0; r < rows; r++) {
        double norm = 0, error = relative(x + r * dim, y + r * dim, dim);
        for (int d = 0; d < dim; d++)
            norm += (double)y[r * dim + d] * (double)y[r * dim + d];
        norm = sqrt(norm);
        most = worst(most, norm > 0 && norm < least ? error * norm / least : error);
    }
    return most;
}

struct distance problem_distance(const struct problem *p, const struct problem *expected)
{
    struct distance d = {0};
    int dim = p->shape.dim;
    int64_t q = p->shape.q_rows, kv = p->shape.kv_rows;
    for (int i = 0; i < p->shape.heads; i++) {
        const struct kern_head *x = &p->head[i], *y = &expected->head[i];
        d.o = worst(d.o, relative(x->o32, y->o32, q * dim));
        d.o_row = worst_row(d.o_row, x->o32, y->o32, q, dim);
        d.lse = worst(d.lse, lse_distance(x, y));
        d.dq = worst(d.dq, relative(x->dq, y->dq, q * dim));
        d.dk = worst(d.dk, relative(x->dk, y->dk, kv * dim));
        d.dv = worst(d.dv, relative(x->dv, y->dv, kv * dim));
        d.dq_row = worst_row(d.dq_row, x->dq, y->dq, q, dim);
        d.dk_row = worst_row(d.dk_row, x->dk, y->dk, kv, dim);
        d.dv_row = worst_row(d.dv_row, x->dv, y->dv, kv, dim);
        for (int64_t n = 0; n < q * dim; n++)
            d.rounded += x->o[n] != kern_bf16_of(x->o32[n]);
    }
    return d;
}

double problem_effective(const struct problem *p, int head, int64_t row)
{
    const struct kern_head *h = &p->head[head];
    const struct kern_keys *k = &h->keys;
    int64_t n = k->list ? k->list_count : h->kv_rows, dim = p->shape.dim;
    double sum = 0, square = 0;
    for (int64_t j = 0; j < n; j++) {
        int64_t key = k->list ? k->list[row / k->group * k->list_stride + j] : j;
        double s = 0;
        for (int64_t d = 0; d < dim; d++)
            s += (double)kern_float_of(h->q[row * dim + d]) *
                 (double)kern_float_of(h->k[key * dim + d]);
        double e = exp(s / sqrt((double)dim) - p->shape.logit_mean);
        sum += e;
        square += e * e;
    }
    return sum * sum / square;
}

bool problem_same(const struct problem *a, const struct problem *b)
{
    size_t q = (size_t)(a->shape.q_rows * a->shape.dim),
           kv = (size_t)(a->shape.kv_rows * a->shape.dim);
    bool same = true;
    for (int i = 0; i < a->shape.heads; i++) {
        const struct kern_head *x = &a->head[i], *y = &b->head[i];
        same = same && memcmp(x->o, y->o, q * sizeof *x->o) == 0 &&
               memcmp(x->o32, y->o32, q * sizeof *x->o32) == 0 &&
               memcmp(x->lse, y->lse, (size_t)a->shape.q_rows * sizeof *x->lse) == 0 &&
               memcmp(x->dq, y->dq, q * sizeof *x->dq) == 0 &&
               memcmp(x->dk, y->dk, kv * sizeof *x->dk) == 0 &&
               memcmp(x->dv, y->dv, kv * sizeof *x->dv) == 0;
    }
    return same;
}

void problem_use_bitmaps(struct problem *p)
{
    int64_t groups = kern_groups(p->shape.q_rows, p->shape.group),
            words = kern_words(p->shape.kv_rows) + 1;
    for (int i = 0; i < p->shape.heads; i++) {
        struct kern_keys *k = &p->head[i].keys;
        uint32_t *bits = take(p, (size_t)(groups * words) * sizeof *bits);
        memset(bits, 0, (size_t)(groups * words) * sizeof *bits);
        for (int64_t g = 0; g < groups; g++)
            for (int64_t j = 0; j < keys_of(k, g); j++) {
                int32_t key = k->list[g * k->list_stride + j];
                bits[g * words + key / 32] |= 1u << key % 32;
            }
        for (int64_t g = 0; g < groups; g++) /* these mean nothing */
            for (int64_t j = p->shape.kv_rows; j < words * 32; j++)
                bits[g * words + j / 32] |= 1u << j % 32;
        *k = (struct kern_keys){.group = k->group, .bitmap = bits, .bitmap_words = words};
    }
}

void problem_each_sharing(const int *groups, int count, bool united,
                          void (*check)(int like_before, int group, bool uneven, const char *what))
{
    static const int like_before[] = {-1, 80, 100};
    char what[64];
    for (int i = 0; i < 3 * count; i++)
        for (int uneven = 0; uneven < 2; uneven++) {
            int like = like_before[i / count], group = groups[i % count];
            if (!united && (like != 80 || !uneven))
                continue;
            snprintf(what, sizeof what, "groups of %d, %d%% shared%s", group, like,
                     uneven ? ", uneven" : "");
            check(like, group, uneven, what);
        }
}

/* ---- through the memory of a backend ---- */

struct mirror { /* one array there, between two guards as here, and here */
    void *base, *there;
    void *here;
    size_t bytes;
    bool out;
};

struct mirrors {
    const struct kern_backend *b;
    struct mirror list[PROBLEM_HEADS * 16];
    int count;
    bool ok;
    struct err *e;
};

static unsigned char *guarded(const void *here, size_t bytes)
{
    unsigned char *image = malloc(bytes + 2 * GUARD);
    if (!image)
        abort();
    memset(image, PATTERN, bytes + 2 * GUARD);
    memcpy(image + GUARD, here, bytes);
    return image;
}

static void *mirror(struct mirrors *m, const void *here, size_t bytes, bool out)
{
    if (!here || !m->ok)
        return NULL;
    struct mirror *x = &m->list[m->count];
    *x = (struct mirror){.here = (void *)(uintptr_t)here, .bytes = bytes, .out = out};
    unsigned char *image = guarded(here, bytes);
    m->ok = m->b->allocate(bytes + 2 * GUARD, &x->base, m->e) &&
            m->b->put(x->base, image, bytes + 2 * GUARD, m->e);
    free(image);
    m->count += x->base != NULL;
    x->there = x->base ? (char *)x->base + GUARD : NULL;
    return x->there;
}

/* What is there comes back, if it is an output; the guards must be untouched, and so must what is
 * none. */
static bool mirror_back(struct mirrors *m, const struct mirror *x)
{
    unsigned char *now = malloc(x->bytes + 2 * GUARD), *was = guarded(x->here, x->bytes);
    if (!now)
        abort();
    bool ok = m->b->get(now, x->base, x->bytes + 2 * GUARD, m->e);
    if (ok && x->out)
        memcpy(x->here, now + GUARD, x->bytes);
    if (x->out)
        memcpy(was + GUARD, now + GUARD, x->bytes);
    if (ok && memcmp(now, was, x->bytes + 2 * GUARD) != 0)
        ok = err_set(m->e, ERR_TOLERANCE, err_at_name("problem"),
                     "something was written into an input of %zu bytes, or beside an array",
                     x->bytes);
    free(now);
    free(was);
    return ok;
}

static struct kern_head mirror_head(struct mirrors *m, const struct problem *p,
                                    const struct kern_head *h)
{
    struct kern_head t = *h;
    size_t dim = (size_t)p->shape.dim, q = (size_t)h->q_rows * dim, kv = (size_t)h->kv_rows * dim;
    size_t groups = h->keys.group ? (size_t)kern_groups(h->q_rows, h->keys.group) : 0;
    t.q = mirror(m, h->q, q * 2, false);
    t.k = mirror(m, h->k, kv * 2, false);
    t.v = mirror(m, h->v, kv * 2, false);
    t.d_o = mirror(m, h->d_o, q * 2, false);
    t.keys.list = mirror(m, h->keys.list, groups * (size_t)h->keys.list_stride * 4, false);
    t.keys.count = mirror(m, h->keys.count, groups * 4, false);
    t.keys.bitmap = mirror(m, h->keys.bitmap, groups * (size_t)h->keys.bitmap_words * 4, false);
    t.o = mirror(m, h->o, q * 2, true);
    t.o32 = mirror(m, h->o32, q * 4, true);
    t.lse = mirror(m, h->lse, (size_t)h->q_rows * 4, true);
    t.dq = mirror(m, h->dq, q * 4, true);
    t.dk = mirror(m, h->dk, kv * 4, true);
    t.dv = mirror(m, h->dv, kv * 4, true);
    return t;
}

bool problem_run(struct problem *p, const struct kern_backend *b, struct err *e)
{
    struct mirrors m = {.b = b, .ok = true, .e = e};
    struct kern_head heads[PROBLEM_HEADS];
    struct kern_attention a = p->a;
    a.heads = heads;
    for (int i = 0; i < p->shape.heads; i++)
        heads[i] = mirror_head(&m, p, &p->head[i]);
    m.ok = m.ok && b->forward(&a, e) && b->backward(&a, e) && b->wait(e);
    for (int i = 0; i < m.count; i++) {
        m.ok = m.ok && mirror_back(&m, &m.list[i]);
        b->release(m.list[i].base);
    }
    return m.ok;
}
