/* What a rank needs before it can begin: its place, its memory, its part of the inputs. */
#include <stdlib.h>

#include "validate/data.h"
#include "validate/exec_core.h"

void *exec_take(struct exec *x, int64_t bytes, struct err *e)
{
    void *p = NULL;
    if (e->code != ERR_NONE)
        return NULL;
    if (x->buffer_count == EXEC_BUFFERS_MOST) {
        comm_fail(x->world, e, "more than %d arrays: the plan splits heads too often",
                  EXEC_BUFFERS_MOST);
        return NULL;
    }
    struct err why = {0};
    if (!x->b->allocate((size_t)bytes + 4, &p, &why)) {
        comm_fail(x->world, e, "%s", why.text);
        return NULL;
    }
    x->buffers[x->buffer_count++] = p;
    return p;
}

/* An array of arrays: one of bytes(i) for each i. */
static void **take_each(struct exec *x, int count, int64_t rows_of(const struct exec *, int),
                        int64_t row_bytes, struct err *e)
{
    void **p = ARENA_ARRAY(x->a, void *, count + 1);
    for (int i = 0; i < count; i++)
        p[i] = exec_take(x, rows_of(x, i) * row_bytes, e);
    return p;
}

static int64_t rows_of_piece(const struct exec *x, int i)
{
    return x->mine->pieces[i].end - x->mine->pieces[i].begin;
}

static int64_t groups_of_piece(const struct exec *x, int i)
{
    return kern_groups(rows_of_piece(x, i), x->l.group);
}

static int64_t rows_of_shard(const struct exec *x, int i)
{
    (void)i;
    return x->shard;
}

static int64_t rows_of_sequence(const struct exec *x, int i)
{
    (void)i;
    return x->c.tokens;
}

static bool check(const struct exec_case *c, int ranks, struct err *e)
{
    struct err_at at = err_at_name("plan");
    if (!cp_conf_check(&c->conf, ranks, c->heads, at, e))
        return false;
    if (cp_tensor(&c->conf) > 1)
        return err_set(e, ERR_INPUT, at, "%d tensor ranks: only context parallelism is run here",
                       cp_tensor(&c->conf));
    if (cp_strategies[c->conf.strategy].permutes)
        return err_set(e, ERR_INPUT, at, "%s moves blocks between ranks, which cannot be run here",
                       cp_strategies[c->conf.strategy].name);
    if (c->kv_heads < 1 || c->heads % c->kv_heads != 0)
        return err_set(e, ERR_INPUT, at, "%d KV heads do not divide %d heads", c->kv_heads,
                       c->heads);
    if (c->head_dim < KERN_DIM_STEP || c->head_dim > KERN_DIM_MAX || c->head_dim % KERN_DIM_STEP)
        return err_set(e, ERR_INPUT, at, "head dimension %d, want a multiple of %d up to %d",
                       c->head_dim, KERN_DIM_STEP, KERN_DIM_MAX);
    if (c->tokens < ranks || c->tokens > INT32_MAX)
        return err_set(e, ERR_INPUT, at, "%lld tokens, want %d to 2^31 - 1", (long long)c->tokens,
                       ranks);
    if (c->conf.sparse &&
        (c->options.predictor_rank < 1 || c->options.predictor_rank > KERN_RANK_MAX))
        return err_set(e, ERR_INPUT, at, "predictor rank %d, want 1 to %d",
                       c->options.predictor_rank, KERN_RANK_MAX);
    return true;
}

/* ---- memory ---- */

static void take_tokens(struct exec *x, struct err *e)
{
    int64_t h = x->local * x->c.heads, kv = x->local * x->c.kv_heads, row = x->c.head_dim * 2;
    x->q = exec_take(x, h * row, e), x->d_o = exec_take(x, h * row, e),
    x->o = exec_take(x, h * row, e);
    x->k = exec_take(x, kv * row, e), x->v = exec_take(x, kv * row, e);
    for (int i = 0; i < 3 && !x->c.options.inference; i++)
        x->grad[i] = exec_take(x, (i ? kv : h) * row, e);
    if (x->c.conf.sparse) {
        x->q_lr = exec_take(x, h * x->c.options.predictor_rank * 2, e);
        x->k_lr = exec_take(x, kv * x->c.options.predictor_rank * 2, e);
    }
}

static void take_selection(struct exec *x, struct err *e)
{
    int n = x->mine->piece_count, kv = x->mine->kv_count;
    int64_t row = x->c.options.predictor_rank * 2, groups = 0;
    x->piece_q_lr = take_each(x, n, rows_of_piece, row, e);
    x->proxy = (uint16_t **)take_each(x, n, groups_of_piece, row, e);
    x->k_lr_all = (uint16_t **)take_each(x, kv, rows_of_sequence, row, e);
    x->kv_k_lr = ARENA_ARRAY(x->a, void *, kv + 1);
    for (int i = 0; i < kv && x->k_lr_all[i]; i++)
        x->kv_k_lr[i] = x->k_lr_all[i] + x->l.shard[x->l.seq_rank] * x->c.options.predictor_rank;
    x->bits = ARENA_ARRAY(x->a, uint32_t *, n + 1);
    x->list = ARENA_ARRAY(x->a, int32_t *, n + 1);
    x->count = (int32_t **)take_each(x, n, groups_of_piece, 4, e);
    for (int i = 0; i < n; i++)
        groups += groups_of_piece(x, i);
    uint32_t *all = exec_take(x, groups * x->words * 4,
                              e); /* in one piece, so that a union is over one array */
    for (int i = 0; i < n && all; i++) {
        x->bits[i] = all;
        all += groups_of_piece(x, i) * x->words;
        if (x->move == MOVE_ROWS || x->move == MOVE_RING)
            x->list[i] = exec_take(
                x, groups_of_piece(x, i) * exec_keep(&x->c, x->mine->pieces[i].head) * 4, e);
    }
}

/* K, V and their gradients, by KV head: the own shard alone, or in its place among all keys, so
 * that it is where attention wants it and what comes from other ranks goes to its place beside it.
 */
static void take_keys(struct exec *x, struct err *e)
{
    int kv = x->mine->kv_count;
    bool alone = x->move == MOVE_NONE || x->move == MOVE_RING;
    int64_t half = x->c.head_dim * 2, first = alone ? 0 : x->l.shard[x->l.seq_rank] * x->c.head_dim;
    int64_t (*rows)(const struct exec *, int) = alone ? rows_of_shard : rows_of_sequence;
    x->seen_k = (uint16_t **)take_each(x, kv, rows, half, e);
    x->seen_v = (uint16_t **)take_each(x, kv, rows, half, e);
    x->seen_dk = ARENA_ARRAY(x->a, float *, kv + 1);
    x->seen_dv = ARENA_ARRAY(x->a, float *, kv + 1);
    x->seen_rows = ARENA_ARRAY(x->a, int64_t, kv + 1);
    x->kv_k = ARENA_ARRAY(x->a, void *, kv + 1), x->kv_v = ARENA_ARRAY(x->a, void *, kv + 1);
    x->dk = ARENA_ARRAY(x->a, float *, kv + 1), x->dv = ARENA_ARRAY(x->a, float *, kv + 1);
    for (int i = 0; i < kv && e->code == ERR_NONE; i++) {
        x->seen_rows[i] = rows(x, i);
        x->kv_k[i] = x->seen_k[i] + first, x->kv_v[i] = x->seen_v[i] + first;
        if (x->c.options.inference)
            continue;
        x->seen_dk[i] = exec_take(x, rows(x, i) * half * 2, e);
        x->seen_dv[i] = exec_take(x, rows(x, i) * half * 2, e);
        if (e->code == ERR_NONE)
            x->dk[i] = x->seen_dk[i] + first, x->dv[i] = x->seen_dv[i] + first;
    }
}

bool exec_keep_room(struct exec *x, struct exec_kept *k, int most, int64_t bytes, struct err *e)
{
    void *room = NULL;
    struct err why = {0};
    if (e->code != ERR_NONE)
        return false;
    if (x->b->host_allocate ? !x->b->host_allocate((size_t)bytes + 1, &room, &why)
                            : !(room = malloc((size_t)bytes + 1)))
        return comm_fail(x->world, e, "host memory for what the backward needs: %s",
                         *why.text ? why.text : "out of memory");
    k->host = room, k->room = bytes, k->most = most;
    k->array = ARENA_ARRAY(x->a, struct exec_array, most + 1);
    return true;
}

static void give_host(const struct exec *x, struct exec_kept *k)
{
    if (x->b->host_release)
        x->b->host_release(k->host);
    else
        free(k->host);
}

static void keep_indices(struct exec *x, struct err *e)
{
    int n = x->mine->piece_count;
    int64_t bytes = 0;
    struct exec_array *of = ARENA_ARRAY(x->a, struct exec_array, n + 1);
    for (int i = 0; i < n && e->code == ERR_NONE; i++) {
        int64_t groups = groups_of_piece(x, i);
        of[i].data = x->move == MOVE_ROWS ? (void *)x->list[i] : (void *)x->bits[i];
        of[i].bytes =
            groups * (x->move == MOVE_ROWS ? exec_keep(&x->c, x->mine->pieces[i].head) : x->words) *
            4;
        bytes += of[i].bytes;
    }
    if (exec_keep_room(x, &x->kept_indices, n, bytes, e))
        for (int i = 0; i < n; i++)
            exec_keep_add(&x->kept_indices, of[i].data, of[i].bytes);
}

static void take_heads(struct exec *x, struct err *e)
{
    int n = x->mine->piece_count, kv = x->mine->kv_count;
    int64_t half = x->c.head_dim * 2, full = x->c.head_dim * 4;
    bool train = !x->c.options.inference, ring = x->move == MOVE_RING;
    x->piece_q = take_each(x, n, rows_of_piece, half, e),
    x->piece_do = take_each(x, n, rows_of_piece, half, e);
    x->piece_o = take_each(x, n, rows_of_piece, half, e);
    x->piece_dq16 = take_each(x, train ? n : 0, rows_of_piece, half, e);
    x->o32 = (float **)take_each(x, n, rows_of_piece, full, e),
    x->lse = (float **)take_each(x, n, rows_of_piece, 4, e);
    x->dq = (float **)take_each(x, train ? n : 0, rows_of_piece, full, e);
    x->o32_part = (float **)take_each(x, ring ? n : 0, rows_of_piece, full, e);
    x->lse_part = (float **)take_each(x, ring ? n : 0, rows_of_piece, 4, e);
    take_keys(x, e);
    x->kv_dk16 = take_each(x, train ? kv : 0, rows_of_shard, half, e);
    x->kv_dv16 = take_each(x, train ? kv : 0, rows_of_shard, half, e);
    x->heads = ARENA_ARRAY(x->a, struct kern_head, n + 1);
}

/* ---- exchanges along the row ---- */

/* Query rows come from one rank each; a KV head from every rank that holds it. */
static void find_shared(struct exec *x)
{
    const struct exchange *t = &x->back_grads;
    x->first_of = ARENA_ARRAY(x->a, int, t->unpack_count + 1);
    x->home = ARENA_ARRAY(x->a, struct kern_copy, t->unpack_count + 1);
    for (int i = 0; i < t->unpack_count; i++) {
        const struct layout_segment *s = &t->arrived[i];
        int k = s->kv ? 0 : i;
        while (k < i && !(t->arrived[k].kv && t->arrived[k].tensor == s->tensor &&
                          t->arrived[k].head == s->head))
            k++;
        x->first_of[i] = k;
        if (k == i)
            x->home[x->home_count++] = t->unpack[i];
    }
}

static void make_exchanges(struct exec *x, struct err *e)
{
    int64_t dim = x->c.head_dim, rank = x->c.options.predictor_rank,
            room = layout_room(&x->l, 1, 2, dim * 2);
    void *send = exec_take(x, room, e), *receive = exec_take(x, room, e);
    struct layout_tensors lr = {1, 1, rank, 2, {x->q_lr}, {x->k_lr}, {x->piece_q_lr}, {x->kv_k_lr}};
    struct layout_tensors qkv = {
        1, 2, dim, 2, {x->q}, {x->k, x->v}, {x->piece_q}, {x->kv_k, x->kv_v}};
    struct layout_tensors d_o = {1, 0, dim, 2, {x->d_o}, {0}, {x->piece_do}, {0}};
    struct layout_tensors o = {1, 0, dim, 2, {x->o}, {0}, {x->piece_o}, {0}};
    struct layout_tensors grads = {1,
                                   2,
                                   dim,
                                   2,
                                   {x->grad[0]},
                                   {x->grad[1], x->grad[2]},
                                   {x->piece_dq16},
                                   {x->kv_dk16, x->kv_dv16}};
    if (e->code != ERR_NONE)
        return;
    if (x->c.conf.sparse)
        exchange_new(&x->to_lr, &x->l, &lr, true, send, receive, x->a);
    exchange_new(&x->to_qkv, &x->l, &qkv, true, send, receive, x->a);
    exchange_new(&x->back_o, &x->l, &o, false, send, receive, x->a);
    if (x->c.options.inference)
        return;
    exchange_new(&x->to_do, &x->l, &d_o, true, send, receive, x->a);
    exchange_new(&x->back_grads, &x->l, &grads, false, send, receive, x->a);
    find_shared(x);
    x->arrived32 = exec_take(x, x->back_grads.receive_bytes * 2, e);
}

/* ---- inputs ---- */

static bool put_rows(struct exec *x, uint16_t *there, int tensor, int heads, int width,
                     uint16_t *room, struct err *e)
{
    int64_t first = x->l.shard[x->l.seq_rank] + x->l.local[x->l.head_rank];
    for (int64_t t = 0; t < x->local; t++)
        for (int h = 0; h < heads; h++) {
            uint16_t *at = room + (t * heads + h) * width;
            if (tensor < DATA_TENSORS)
                data_row(x->c.seed, (enum data_tensor)tensor, x->c.block, h, first + t, width, at);
            else
                data_low_rank(x->c.seed, x->c.block, h, first + t, x->c.tokens, width,
                              tensor == DATA_TENSORS, at);
        }
    return x->b->put(there, room, (size_t)(x->local * heads * width) * sizeof *room, e);
}

static bool make_inputs(struct exec *x, struct err *e)
{
    int most =
        x->c.head_dim > x->c.options.predictor_rank ? x->c.head_dim : x->c.options.predictor_rank;
    uint16_t *room = malloc((size_t)(x->local * x->c.heads * most + 1) * sizeof *room);
    if (!room)
        return comm_fail(x->world, e, "out of memory for the inputs");
    bool ok = put_rows(x, x->q, DATA_Q, x->c.heads, x->c.head_dim, room, e) &&
              put_rows(x, x->k, DATA_K, x->c.kv_heads, x->c.head_dim, room, e) &&
              put_rows(x, x->v, DATA_V, x->c.kv_heads, x->c.head_dim, room, e) &&
              put_rows(x, x->d_o, DATA_DO, x->c.heads, x->c.head_dim, room, e);
    if (ok && x->c.conf.sparse)
        ok = put_rows(x, x->q_lr, DATA_TENSORS, x->c.heads, x->c.options.predictor_rank, room, e) &&
             put_rows(x, x->k_lr, DATA_TENSORS + 1, x->c.kv_heads, x->c.options.predictor_rank,
                      room, e);
    free(room);
    return ok;
}

/* What products with weights read must not be NaN or denormal, which some machines are slow at. */
static bool make_linear(struct exec *x, struct err *e)
{
    int64_t width = x->c.width, rows[2] = {x->local, width};
    uint16_t **at[2] = {&x->hidden, &x->weights};
    bool any = x->c.linear_flop > 0 || x->c.conf.sparse;
    if (!any || !x->b->linear || width < 1 || width % KERN_DIM_STEP != 0)
        return true;
    uint16_t *room = malloc((size_t)(width + 1) * sizeof *room);
    bool ok = room != NULL || comm_fail(x->world, e, "out of memory for the inputs");
    for (int i = 0; ok && i < 2; i++) {
        *at[i] = exec_take(x, rows[i] * width * 2, e);
        for (int64_t r = 0; *at[i] && ok && r < rows[i]; r++) {
            for (int64_t d = 0; d < width; d += KERN_DIM_MAX)
                data_row(x->c.seed, i ? DATA_K : DATA_Q, x->c.block, (int)(d / KERN_DIM_MAX), r,
                         (int)(width - d < KERN_DIM_MAX ? width - d : KERN_DIM_MAX), room + d);
            ok = x->b->put(*at[i] + r * width, room, (size_t)width * sizeof *room, e);
        }
        ok = ok && *at[i];
    }
    free(room);
    x->projected = ok ? exec_take(x, x->local * width * 2, e) : NULL;
    return x->projected != NULL;
}

static bool build(struct exec *x, struct err *e)
{
    if (!check(&x->c, x->world->size, e) || !layout_new(&x->l, &x->c, x->world->rank, x->a, e))
        return false;
    x->mine = &x->l.holder[x->l.head_rank];
    x->shard = x->l.shard[x->l.seq_rank + 1] - x->l.shard[x->l.seq_rank];
    x->local = x->l.local[x->l.head_rank + 1] - x->l.local[x->l.head_rank];
    x->words = kern_words(x->c.tokens);
    x->move = x->l.seq_groups > 1 ? cp_strategies[x->c.conf.strategy].move : MOVE_NONE;
    if (x->move == MOVE_ROWS && !x->c.conf.sparse)
        x->move = MOVE_ALL_ROWS;
    x->row = x->world->backend->split(x->world, x->l.seq_rank, x->l.head_rank, e);
    x->column =
        x->row ? x->world->backend->split(x->world, x->l.head_rank, x->l.seq_rank, e) : NULL;
    if (!x->column)
        return false;
    x->row->memory = x->column->memory = x->b; /* the world's messages are host arrays */
    take_tokens(x, e);
    take_heads(x, e);
    if (x->c.conf.sparse)
        take_selection(x, e);
    make_exchanges(x, e);
    if (x->c.conf.sparse && x->c.options.offload >= OFFLOAD_INDICES && !x->c.options.inference)
        keep_indices(x, e);
    return e->code == ERR_NONE && column_new(x, e) && make_inputs(x, e) && make_linear(x, e);
}

struct exec *exec_new(const struct exec_case *c, const struct kern_backend *b, struct comm *world,
                      struct err *e)
{
    struct arena *a = arena_new();
    struct exec *x = ARENA_NEW(a, struct exec);
    *x = (struct exec){.c = *c, .b = b, .world = world, .a = a, .scratch = arena_new()};
    comm_phase(world, "allocate");
    if (build(x, e))
        return x;
    exec_free(x);
    return NULL;
}

void exec_free(struct exec *x)
{
    if (!x)
        return;
    struct err ignored = {0};
    x->b->wait(&ignored); /* nothing that was asked for still uses them */
    for (int i = 0; i < x->buffer_count; i++)
        x->b->release(x->buffers[i]);
    give_host(x, &x->kept_indices);
    give_host(x, &x->kept_kv);
    if (x->row)
        x->world->backend->release(x->row);
    if (x->column)
        x->world->backend->release(x->column);
    arena_free(x->scratch);
    arena_free(x->a);
}
