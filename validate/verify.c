#include "validate/verify.h"

#include <stdlib.h>

#include "validate/data.h"

struct truth {
    struct exec_case c;
    uint16_t *o;         /* [heads][tokens][dim] */
    float *dq, *dk, *dv; /* [heads or kv_heads][tokens][dim] */
};

/* Memory of the backend for one computation; released together. */
struct pool {
    const struct kern_backend *b;
    void *p[64];
    int count;
    struct err *e;
};

static void *take(struct pool *pool, int64_t bytes)
{
    void *p = NULL;
    if (pool->e->code != ERR_NONE || !pool->b->allocate((size_t)bytes, &p, pool->e))
        return NULL;
    pool->p[pool->count++] = p;
    if (!pool->b->clear(p, (size_t)bytes, pool->e))
        return NULL;
    return p;
}

/* All tokens of a head. `tensor` of data_row, or DATA_TENSORS for Q_lr and DATA_TENSORS + 1 for
 * K_lr. */
static void *take_input(struct pool *pool, const struct exec_case *c, int tensor, int head,
                        int width)
{
    uint16_t *host = malloc((size_t)(c->tokens * width) * sizeof *host),
             *p = take(pool, c->tokens * width * 2);
    for (int64_t t = 0; host && p && t < c->tokens; t++)
        if (tensor < DATA_TENSORS)
            data_row(c->seed, (enum data_tensor)tensor, c->block, head, t, width, host + t * width);
        else
            data_low_rank(c->seed, c->block, head, t, c->tokens, width, tensor == DATA_TENSORS,
                          host + t * width);
    if (!host)
        err_set(pool->e, ERR_SYSTEM, err_at_name("verify"), "out of memory");
    else if (p)
        pool->b->put(p, host, (size_t)(c->tokens * width) * sizeof *host, pool->e);
    free(host);
    return p;
}

/* Proxies are the middle query of each group, as exec.c has it. */
static struct kern_keys choose_keys(struct pool *pool, const struct exec_case *c, int head, int kv)
{
    int64_t group = c->conf.query_group, groups = kern_groups(c->tokens, group),
            words = kern_words(c->tokens);
    int rank = c->options.predictor_rank;
    uint16_t *q = take_input(pool, c, DATA_TENSORS, head, rank),
             *k = take_input(pool, c, DATA_TENSORS + 1, kv, rank);
    uint16_t *proxy = take(pool, groups * rank * 2);
    uint32_t *bits = take(pool, groups * words * 4);
    int64_t whole = c->tokens / group, rest = c->tokens % group, row = rank * 2;
    if (pool->e->code != ERR_NONE)
        return (struct kern_keys){0};
    struct kern_copy copies[2] = {
        {q + group / 2 * rank, proxy, whole, row, group * row, row},
        {q + (whole * group + rest / 2) * rank, proxy + whole * rank, rest ? 1 : 0, row, row, row}};
    struct kern_select_head h = {.groups = groups,
                                 .keys = c->tokens,
                                 .keep = exec_keep(c, head),
                                 .q_lr = proxy,
                                 .k_lr = k,
                                 .bitmap = bits,
                                 .bitmap_words = words};
    struct kern_select s = {.rank = rank, .head_count = 1, .heads = &h};
    if (!pool->b->copy(copies, rest ? 2 : 1, pool->e) || !pool->b->select(&s, pool->e))
        return (struct kern_keys){0};
    return (struct kern_keys){.group = group, .bitmap = bits, .bitmap_words = words};
}

static void add(float *sum, const float *x, int64_t n)
{
    for (int64_t i = 0; i < n; i++)
        sum[i] += x[i];
}

static bool head_truth(struct truth *t, const struct kern_backend *b, int head, struct err *e)
{
    const struct exec_case *c = &t->c;
    int kv = head / (c->heads / c->kv_heads), dim = c->head_dim;
    int64_t n = c->tokens * dim;
    struct pool pool = {.b = b, .e = e};
    struct kern_head h = {.q_rows = c->tokens, .kv_rows = c->tokens};
    h.q = take_input(&pool, c, DATA_Q, head, dim), h.k = take_input(&pool, c, DATA_K, kv, dim);
    h.v = take_input(&pool, c, DATA_V, kv, dim), h.d_o = take_input(&pool, c, DATA_DO, head, dim);
    h.o = take(&pool, n * 2), h.o32 = take(&pool, n * 4), h.lse = take(&pool, c->tokens * 4);
    h.dq = take(&pool, n * 4), h.dk = take(&pool, n * 4), h.dv = take(&pool, n * 4);
    if (c->conf.sparse)
        h.keys = choose_keys(&pool, c, head, kv);
    struct kern_attention a = {.dim = dim, .head_count = 1, .heads = &h};
    float *room = malloc((size_t)n * sizeof *room + 1);
    bool ok = e->code == ERR_NONE && room && b->forward(&a, e) &&
              (c->options.inference || b->backward(&a, e)) &&
              b->get(t->o + head * n, h.o, (size_t)n * 2, e) &&
              b->get(t->dq + head * n, h.dq, (size_t)n * 4, e) &&
              b->get(room, h.dk, (size_t)n * 4, e);
    if (ok) {
        add(t->dk + kv * n, room, n);
        ok = b->get(room, h.dv, (size_t)n * 4, e);
        add(t->dv + kv * n, room, n);
    }
    free(room);
    for (int i = 0; i < pool.count; i++)
        b->release(pool.p[i]);
    return ok;
}

struct truth *truth_new(const struct exec_case *c, const struct kern_backend *b, struct err *e)
{
    struct truth *t = calloc(1, sizeof *t);
    size_t n = (size_t)(c->tokens * c->head_dim), heads = (size_t)c->heads,
           kv = (size_t)c->kv_heads;
    if (t) {
        *t = (struct truth){
            .c = *c, .o = calloc(heads * n, sizeof *t->o), .dq = calloc(heads * n, sizeof *t->dq)};
        t->dk = calloc(kv * n, sizeof *t->dk), t->dv = calloc(kv * n, sizeof *t->dv);
    }
    bool ok = t && t->o && t->dq && t->dk && t->dv;
    if (!ok)
        err_set(e, ERR_SYSTEM, err_at_name("verify"), "out of memory");
    for (int h = 0; ok && h < c->heads; h++)
        ok = head_truth(t, b, h, e);
    if (ok)
        return t;
    truth_free(t);
    return NULL;
}

void truth_free(struct truth *t)
{
    if (!t)
        return;
    free(t->o);
    free(t->dq);
    free(t->dk);
    free(t->dv);
    free(t);
}

struct sums {
    double error, norm;
};

static void compare(struct sums *s, double x, double y)
{
    s->error += (x - y) * (x - y);
    s->norm += y * y;
}

static double ratio(struct sums s)
{
    return s.norm > 0 ? sqrt(s.error / s.norm) : sqrt(s.error);
}

static double gradient_distance(const struct truth *t, const struct exec_result *r, const float *x,
                                const float *y, int heads)
{
    struct sums s = {0};
    int64_t dim = t->c.head_dim, n = t->c.tokens * dim, rows = r->rows * dim;
    for (int h = 0; h < heads; h++)
        for (int64_t i = 0; i < rows; i++)
            compare(&s, (double)x[h * rows + i], (double)y[h * n + r->begin * dim + i]);
    return ratio(s);
}

struct verify_distance truth_distance(const struct truth *t, const struct exec_result *r)
{
    struct sums o = {0};
    int64_t dim = t->c.head_dim, heads = t->c.heads;
    for (int64_t i = 0; i < r->rows; i++)
        for (int64_t h = 0; h < heads; h++)
            for (int64_t d = 0; d < dim; d++)
                compare(&o, (double)kern_float_of(r->o[(i * heads + h) * dim + d]),
                        (double)kern_float_of(t->o[(h * t->c.tokens + r->begin + i) * dim + d]));
    return (struct verify_distance){ratio(o), gradient_distance(t, r, r->dq, t->dq, t->c.heads),
                                    gradient_distance(t, r, r->dk, t->dk, t->c.kv_heads),
                                    gradient_distance(t, r, r->dv, t->dv, t->c.kv_heads)};
}

bool verify_close(struct verify_distance d)
{
    double o = VERIFY_O_PPM * 1e-6, g = VERIFY_GRADIENT_PPM * 1e-6;
    return d.o <= o && d.dq <= g && d.dk <= g && d.dv <= g;
}
