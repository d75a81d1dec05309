/* Passes of a block: what model/program.h lists, with kernels and messages. */
#include "validate/exec.h"

#include <stdlib.h>

#include "validate/data.h"
#include "validate/exec_core.h"

/* ---- phases ---- */

static double now_s(const struct exec *x)
{
    return x->c.cpu_clock ? comm_cpu_s() : comm_now_s();
}

void exec_begin(struct exec *x, const char *name)
{
    comm_phase(x->world, name);
    x->waited = 0;
    x->begun = now_s(x);
}

bool exec_meet(struct exec *x, const char *name, struct comm *c, struct err *e)
{
    double latest;
    exec_begin(x, name);
    if (!comm_largest(c, x->clock, &latest, e))
        return false;
    x->waited = x->c.cpu_clock ? latest - x->clock : now_s(x) - x->begun;
    x->clock = latest;
    x->begun = now_s(x);
    return true;
}

bool exec_end(struct exec *x, enum cp_pass pass, enum cost_class cost, double sent, double received,
              double work, struct err *e)
{
    if (!x->b->wait(e))
        return false;
    double seconds = now_s(x) - x->begun;
    x->clock += seconds;
    if (x->row_count < EXEC_ROWS_MOST)
        x->rows[x->row_count++] = (struct exec_row){*x->world->phase, pass, cost,     seconds,
                                                    x->waited,        sent, received, work};
    return true;
}

static double copied(const struct kern_copy *c, int n)
{
    double bytes = 0;
    for (int i = 0; i < n; i++)
        bytes += 2.0 * (double)c[i].rows * (double)c[i].bytes;
    return bytes;
}

static bool copy_phase(struct exec *x, const char *name, enum cp_pass pass,
                       const struct kern_copy *c, int n, struct err *e)
{
    exec_begin(x, name);
    return x->b->copy(c, n, e) && exec_end(x, pass, CLASS_COPY, 0, 0, copied(c, n), e);
}

static bool exchange_phase(struct exec *x, const struct exchange *t, const char *name,
                           enum cp_pass pass, struct err *e)
{
    return exec_meet(x, name, x->row, e) && comm_alltoallv(x->row, t->send, t->receive, e) &&
           exec_end(x, pass, CLASS_COLLECTIVE, (double)t->off_send, (double)t->off_receive, 0, e);
}

/* With one head rank nothing travels: tensors change layout only, which is no phase of the model.
 */
static bool exchange_run(struct exec *x, const struct exchange *t, const char *const names[3],
                         enum cp_pass pass, struct err *e)
{
    if (x->row->size == 1)
        return x->b->copy(t->pack, t->pack_count, e) &&
               comm_alltoallv(x->row, t->send, t->receive, e) &&
               x->b->copy(t->unpack, t->unpack_count, e);
    if (!copy_phase(x, names[0], pass, t->pack, t->pack_count, e) ||
        !exchange_phase(x, t, names[1], pass, e))
        return false;
    return copy_phase(x, names[2], pass, t->unpack, t->unpack_count, e);
}

/* ---- the host's memory ---- */

void exec_keep_add(struct exec_kept *k, void *data, int64_t bytes)
{
    if (k->count < k->most)
        k->array[k->count++] = (struct exec_array){data, bytes};
}

static bool host_phase(struct exec *x, const char *name, enum cp_pass pass,
                       const struct exec_kept *k, bool back, struct err *e)
{
    int64_t at = 0;
    if (k->count == 0)
        return true;
    exec_begin(x, name);
    for (int i = 0; i < k->count; i++) {
        const struct exec_array *a = &k->array[i];
        if (back ? !x->b->put(a->data, k->host + at, (size_t)a->bytes, e)
                 : !x->b->get(k->host + at, a->data, (size_t)a->bytes, e))
            return false;
        at += a->bytes;
    }
    return exec_end(x, pass, CLASS_COPY, 0, 0, (double)at, e);
}

bool exec_to_host(struct exec *x, const char *name, enum cp_pass pass, const struct exec_kept *k,
                  struct err *e)
{
    return host_phase(x, name, pass, k, false, e);
}

bool exec_from_host(struct exec *x, const char *name, enum cp_pass pass, const struct exec_kept *k,
                    struct err *e)
{
    return host_phase(x, name, pass, k, true, e);
}

/* The backend's copy is gone, as it would be in a step of many blocks: what is not brought back
 * would be missed. */
static bool forget(struct exec *x, const struct exec_kept *k, struct err *e)
{
    for (int i = 0; i < k->count; i++)
        if (!x->b->clear(k->array[i].data, (size_t)k->array[i].bytes, e))
            return false;
    return true;
}

/* ---- linear layers ---- */

/* This rank's tokens times weights of `outputs` rows, width at a time. */
static bool run_products(struct exec *x, const char *name, enum cp_pass pass, double outputs,
                         struct err *e)
{
    int width = x->c.width;
    double done = 0;
    if (!x->projected)
        return true;
    exec_begin(x, name);
    while (outputs >= 0.5 * KERN_DIM_STEP) {
        int most = (int)(outputs / KERN_DIM_STEP + 0.5) * KERN_DIM_STEP;
        struct kern_linear l = {.rows = x->local,
                                .in = width,
                                .out = most < width ? most : width,
                                .x = x->hidden,
                                .w = x->weights,
                                .y = x->projected};
        if (!x->b->linear(&l, 1, e))
            return false;
        outputs -= l.out, done += 2.0 * (double)l.rows * l.in * l.out;
    }
    return exec_end(x, pass, CLASS_GEMM, 0, 0, done, e);
}

static bool run_linear(struct exec *x, const char *name, enum cp_pass pass, double times,
                       struct err *e)
{
    double outputs = times * x->c.linear_flop / (2.0 * (double)x->c.tokens * x->c.width);
    return !(x->c.linear_flop > 0) || run_products(x, name, pass, outputs, e);
}

/* ---- selection ---- */

int64_t exec_keep(const struct exec_case *c, int head)
{
    int64_t keep = (int64_t)(c->keep[head] * (double)c->tokens + 0.5);
    return keep < 1 ? 1 : keep > c->tokens ? c->tokens : keep;
}

static int64_t piece_rows(const struct exec *x, int i)
{
    return x->mine->pieces[i].end - x->mine->pieces[i].begin;
}

static int64_t piece_groups(const struct exec *x, int i)
{
    return kern_groups(piece_rows(x, i), x->l.group);
}

/* Each shard's K_lr goes to its place in the others' arrays. */
static bool gather_k_lr(struct exec *x, struct err *e)
{
    int kv = x->mine->kv_count, n = x->l.seq_groups, me = x->l.seq_rank, count = 0;
    int64_t row = x->c.options.predictor_rank * 2, rows = 0;
    struct comm_message *out = x->col.sends, *in = x->col.receives;
    if (n == 1)
        return true;
    for (int k = 1; k < n; k++)
        for (int i = 0; i < kv; i++, count++) {
            int to = (me + k) % n, from = (me - k + n) % n;
            int64_t begin = x->l.shard[from], size = x->l.shard[from + 1] - begin;
            out[count] = (struct comm_message){to, x->kv_k_lr[i], x->shard * row};
            in[count] = (struct comm_message){
                from, x->k_lr_all[i] + begin * x->c.options.predictor_rank, size * row};
            rows += size;
        }
    return exec_meet(x, "k_lr all-gather", x->column, e) &&
           comm_exchange(x->column, out, count, in, count, e) &&
           exec_end(x, PASS_FORWARD, CLASS_COLLECTIVE, (double)(count * x->shard * row),
                    (double)(rows * row), 0, e);
}

/* The middle query of each group stands for it (DSV's artifact does the same). */
static bool take_proxies(struct exec *x, struct err *e)
{
    struct kern_copy *c = ARENA_ARRAY(x->scratch, struct kern_copy, 2 * x->mine->piece_count);
    int64_t row = x->c.options.predictor_rank * 2, group = x->l.group;
    int n = 0;
    for (int i = 0; i < x->mine->piece_count; i++) {
        int64_t rows = piece_rows(x, i), whole = rows / group, rest = rows % group;
        char *from = x->piece_q_lr[i], *to = (char *)x->proxy[i];
        c[n++] = (struct kern_copy){from + group / 2 * row, to, whole, row, group * row, row};
        if (rest)
            c[n++] = (struct kern_copy){
                from + (whole * group + rest / 2) * row, to + whole * row, 1, row, row, row};
    }
    return x->b->copy(c, n, e);
}

static bool run_select(struct exec *x, struct err *e)
{
    static const char *const names[3] = {"pack q_lr, k_lr", "q_lr, k_lr all-to-all",
                                         "unpack q_lr, k_lr"};
    /* Q_lr and K_lr of every head, as the plan prices it */
    double outputs = 2.0 * x->c.options.predictor_rank * x->c.heads;
    if (!run_products(x, "predictor", PASS_FORWARD, outputs, e) ||
        !exchange_run(x, &x->to_lr, names, PASS_FORWARD, e) || !gather_k_lr(x, e))
        return false;
    exec_begin(x, "select");
    struct kern_select_head *h =
        ARENA_ARRAY(x->scratch, struct kern_select_head, x->mine->piece_count + 1);
    double scores = 0;
    for (int i = 0; i < x->mine->piece_count; i++) {
        const struct layout_piece *p = &x->mine->pieces[i];
        h[i] = (struct kern_select_head){.groups = piece_groups(x, i),
                                         .keys = x->c.tokens,
                                         .keep = exec_keep(&x->c, p->head),
                                         .q_lr = x->proxy[i],
                                         .k_lr = x->k_lr_all[p->kv],
                                         .bitmap = x->bits[i],
                                         .bitmap_words = x->words};
        scores += (double)h[i].groups * (double)x->c.tokens;
    }
    struct kern_select s = {
        .rank = x->c.options.predictor_rank, .head_count = x->mine->piece_count, .heads = h};
    return take_proxies(x, e) && x->b->select(&s, e) &&
           exec_end(x, PASS_FORWARD, CLASS_SELECT, 0, 0, scores, e);
}

/* ---- attention ---- */

double exec_pairs(const struct exec *x)
{
    double pairs = 0;
    for (int i = 0; i < x->mine->piece_count; i++) {
        double keys =
            (double)(x->c.conf.sparse ? exec_keep(&x->c, x->mine->pieces[i].head) : x->c.tokens);
        pairs += (double)piece_rows(x, i) * keys;
    }
    return pairs;
}

double exec_entries(const struct exec *x)
{
    double sum = 0;
    for (int i = 0; i < x->mine->piece_count; i++)
        sum += (double)piece_groups(x, i) * (double)exec_keep(&x->c, x->mine->pieces[i].head);
    return sum;
}

static struct kern_keys keys_of(const struct exec *x, int i)
{
    const struct layout_piece *p = &x->mine->pieces[i];
    if (!x->c.conf.sparse)
        return (struct kern_keys){0};
    if (x->move == MOVE_ROWS) /* rows of the union */
        return (struct kern_keys){.group = x->l.group,
                                  .list = x->list[i],
                                  .count = x->count[i],
                                  .list_stride = exec_keep(&x->c, p->head)};
    return (struct kern_keys){.group = x->l.group, .bitmap = x->bits[i], .bitmap_words = x->words};
}

struct kern_attention exec_attention(struct exec *x)
{
    for (int i = 0; i < x->mine->piece_count; i++) {
        int kv = x->mine->pieces[i].kv;
        x->heads[i] = (struct kern_head){.q_rows = piece_rows(x, i),
                                         .kv_rows = x->seen_rows[kv],
                                         .q = x->piece_q[i],
                                         .k = x->seen_k[kv],
                                         .v = x->seen_v[kv],
                                         .keys = keys_of(x, i),
                                         .o = x->piece_o[i],
                                         .o32 = x->o32[i],
                                         .lse = x->lse[i],
                                         .d_o = x->piece_do[i],
                                         .dq = x->dq[i],
                                         .dk = x->seen_dk[kv],
                                         .dv = x->seen_dv[kv]};
    }
    return (struct kern_attention){
        .dim = x->c.head_dim, .head_count = x->mine->piece_count, .heads = x->heads};
}

static enum cost_class attention_class(const struct exec *x)
{
    return x->c.conf.sparse ? CLASS_ATTENTION_SPARSE : CLASS_ATTENTION_DENSE;
}

static bool run_attention(struct exec *x, enum cp_pass pass, struct err *e)
{
    if (x->move == MOVE_RING)
        return ring_forward(x, pass, e);
    exec_begin(x, "attention");
    struct kern_attention a = exec_attention(x);
    return x->b->forward(&a, e) && exec_end(x, pass, attention_class(x), 0, 0, exec_pairs(x), e);
}

static bool clear_gradients(struct exec *x, struct err *e)
{
    size_t row = (size_t)x->c.head_dim * sizeof(float);
    bool ok = true;
    for (int i = 0; ok && i < x->mine->piece_count; i++)
        ok = x->b->clear(x->dq[i], (size_t)piece_rows(x, i) * row, e);
    for (int i = 0; ok && i < x->mine->kv_count; i++)
        ok = x->b->clear(x->seen_dk[i], (size_t)x->seen_rows[i] * row, e) &&
             x->b->clear(x->seen_dv[i], (size_t)x->seen_rows[i] * row, e);
    return ok;
}

static bool run_attention_backward(struct exec *x, struct err *e)
{
    if (!clear_gradients(x, e))
        return false;
    if (x->move == MOVE_RING)
        return ring_backward(x, e);
    exec_begin(x, "attention backward");
    struct kern_attention a = exec_attention(x);
    bool whole = x->move == MOVE_NONE; /* no gradients of KV to come from other ranks */
    return x->b->backward(&a, e) && exec_round_q(x, e) && (!whole || exec_round_kv(x, e)) &&
           exec_end(x, PASS_BACKWARD, attention_class(x), 0, 0, exec_pairs(x), e);
}

/* ---- gradients' way home ---- */

bool exec_round_q(struct exec *x, struct err *e)
{
    bool ok = true;
    for (int i = 0; ok && i < x->mine->piece_count; i++)
        ok = x->b->to_bf16(x->piece_dq16[i], x->dq[i], piece_rows(x, i) * x->c.head_dim, e);
    return ok;
}

bool exec_round_kv(struct exec *x, struct err *e)
{
    bool ok = true;
    for (int i = 0; ok && i < x->mine->kv_count; i++)
        ok = x->b->to_bf16(x->kv_dk16[i], x->dk[i], x->shard * x->c.head_dim, e) &&
             x->b->to_bf16(x->kv_dv16[i], x->dv[i], x->shard * x->c.head_dim, e);
    return ok;
}

static int64_t segment_count(const struct exec *x, const struct layout_segment *s)
{
    return (s->end - s->begin) * x->c.head_dim;
}

static uint16_t *segment_data(const struct exec *x, int i)
{
    const struct exchange *t = &x->back_grads;
    return (uint16_t *)t->receive.data + t->arrived[i].offset / 2;
}

static bool widen_segment(struct exec *x, int i, float **to, struct err *e)
{
    const struct layout_segment *s = &x->back_grads.arrived[i];
    *to = x->arrived32 + s->offset / 2;
    return x->b->to_fp32(*to, segment_data(x, i), segment_count(x, s), e);
}

/* KV heads that several ranks hold get a gradient from each: added in the order of the ranks, in
 * the place of the first. `*bytes`: read and written. */
static bool add_shared(struct exec *x, int first, double *bytes, struct err *e)
{
    const struct exchange *t = &x->back_grads;
    int64_t count = segment_count(x, &t->arrived[first]);
    float *sum = NULL, *one;
    for (int i = first + 1; i < t->unpack_count; i++) {
        if (x->first_of[i] != first)
            continue;
        *bytes += sum ? 18.0 * (double)count : 30.0 * (double)count;
        if ((!sum && !widen_segment(x, first, &sum, e)) || !widen_segment(x, i, &one, e))
            return false;
        struct kern_scatter add = {.src = one, .dst = sum, .count = 1, .width = count};
        if (!x->b->scatter_add(&add, 1, e))
            return false;
    }
    return !sum || x->b->to_bf16(segment_data(x, first), sum, count, e);
}

static bool unpack_gradients(struct exec *x, double *bytes, struct err *e)
{
    *bytes = copied(x->home, x->home_count);
    for (int i = 0; i < x->back_grads.unpack_count; i++)
        if (x->first_of[i] == i && !add_shared(x, i, bytes, e))
            return false;
    return x->b->copy(x->home, x->home_count, e);
}

static bool run_gradients_home(struct exec *x, struct err *e)
{
    const struct exchange *t = &x->back_grads;
    double bytes;
    if (x->row->size == 1)
        return x->b->copy(t->pack, t->pack_count, e) &&
               comm_alltoallv(x->row, t->send, t->receive, e) && unpack_gradients(x, &bytes, e);
    if (!copy_phase(x, "pack dqkv", PASS_BACKWARD, t->pack, t->pack_count, e) ||
        !exchange_phase(x, t, "dqkv all-to-all", PASS_BACKWARD, e))
        return false;
    exec_begin(x, "unpack dqkv");
    return unpack_gradients(x, &bytes, e) && exec_end(x, PASS_BACKWARD, CLASS_COPY, 0, 0, bytes, e);
}

/* ---- passes ---- */

static bool forward(struct exec *x, struct err *e)
{
    static const char *const qkv[3] = {"pack qkv", "qkv all-to-all", "unpack qkv"};
    static const char *const o[3] = {"pack o", "o all-to-all", "unpack o"};
    if (x->c.conf.sparse && !run_select(x, e))
        return false;
    return exchange_run(x, &x->to_qkv, qkv, PASS_FORWARD, e) &&
           (!(x->move == MOVE_ROWS && x->c.conf.sparse) || column_index(x, e)) &&
           column_gather(x, PASS_FORWARD, e) &&
           exec_to_host(x, "offload indices", PASS_FORWARD, &x->kept_indices, e) &&
           run_attention(x, PASS_FORWARD, e) && forget(x, &x->kept_indices, e) &&
           forget(x, &x->kept_kv, e) && exchange_run(x, &x->back_o, o, PASS_FORWARD, e) &&
           run_linear(x, "linear", PASS_FORWARD, 1, e);
}

static bool recompute(struct exec *x, struct err *e)
{
    static const char *const qkv[3] = {"pack qkv again", "qkv all-to-all again",
                                       "unpack qkv again"};
    static const char *const o[3] = {"pack o again", "o all-to-all again", "unpack o again"};
    enum checkpointing how = x->c.options.checkpointing;
    if (how == CHECKPOINT_NONE)
        return true;
    if (!run_linear(x, "linear again", PASS_RECOMPUTE, 1, e) ||
        !exchange_run(x, &x->to_qkv, qkv, PASS_RECOMPUTE, e) ||
        (how == CHECKPOINT_FULL &&
         !exec_from_host(x, "fetch indices", PASS_RECOMPUTE, &x->kept_indices, e)) ||
        !column_gather(x, PASS_RECOMPUTE, e))
        return false;
    return how == CHECKPOINT_SELECTIVE || (run_attention(x, PASS_RECOMPUTE, e) &&
                                           exchange_run(x, &x->back_o, o, PASS_RECOMPUTE, e));
}

static bool backward(struct exec *x, struct err *e)
{
    static const char *const d_o[3] = {"pack do", "do all-to-all", "unpack do"};
    bool again = x->c.options.checkpointing == CHECKPOINT_NONE && !x->c.options.keep_kv;
    return run_linear(x, "linear backward", PASS_BACKWARD, 2, e) &&
           exchange_run(x, &x->to_do, d_o, PASS_BACKWARD, e) &&
           (x->c.options.checkpointing == CHECKPOINT_FULL ||
            exec_from_host(x, "fetch indices", PASS_BACKWARD, &x->kept_indices, e)) &&
           (!again || column_gather(x, PASS_BACKWARD, e)) && run_attention_backward(x, e) &&
           column_return(x, e) && run_gradients_home(x, e);
}

bool exec_once(struct exec *x, struct err *e)
{
    x->row_count = 0, x->clock = 0;
    arena_reset(x->scratch);
    return forward(x, e) && (x->c.options.inference || (recompute(x, e) && backward(x, e)));
}

int exec_rows(const struct exec *x, const struct exec_row **rows)
{
    *rows = x->rows;
    return x->row_count;
}

double exec_union(const struct exec *x)
{
    int64_t seen = 0, all = 0;
    if (x->move != MOVE_ROWS || !x->c.conf.sparse)
        return 1;
    for (int i = 0; i < x->mine->kv_count; i++)
        seen += x->col.touched[i], all += x->c.tokens;
    return all ? (double)seen / (double)all : 1;
}

/* [rows][heads][dim] of the backend -> [heads][rows][dim] */
static bool get_gradient(struct exec *x, int i, uint16_t *room, float *to, struct err *e)
{
    int64_t heads = i ? x->c.kv_heads : x->c.heads, dim = x->c.head_dim;
    if (!x->b->get(room, x->grad[i], (size_t)(x->local * heads * dim) * sizeof *room, e))
        return false;
    for (int64_t t = 0; t < x->local; t++)
        for (int64_t h = 0; h < heads; h++)
            for (int64_t d = 0; d < dim; d++)
                to[(h * x->local + t) * dim + d] = kern_float_of(room[(t * heads + h) * dim + d]);
    return true;
}

bool exec_result(struct exec *x, struct exec_result *r, struct err *e)
{
    int64_t o = x->local * x->c.heads * x->c.head_dim,
            kv = x->local * x->c.kv_heads * x->c.head_dim;
    *r = (struct exec_result){.begin = x->l.shard[x->l.seq_rank] + x->l.local[x->l.head_rank],
                              .rows = x->local};
    r->o = malloc((size_t)o * sizeof *r->o + 1);
    r->dq = calloc((size_t)o + 1, sizeof *r->dq);
    r->dk = calloc((size_t)kv + 1, sizeof *r->dk);
    r->dv = calloc((size_t)kv + 1, sizeof *r->dv);
    bool ok = r->o && r->dq && r->dk && r->dv;
    float *const to[3] = {r->dq, r->dk, r->dv};
    if (!ok)
        comm_fail(x->world, e, "out of memory for the results");
    for (int i = 0; ok && i < 3 && !x->c.options.inference; i++)
        ok = get_gradient(x, i, r->o, to[i], e);
    return ok && x->b->get(r->o, x->o, (size_t)o * sizeof *r->o, e);
}

void exec_result_free(struct exec_result *r)
{
    free(r->o);
    free(r->dq);
    free(r->dk);
    free(r->dv);
}
