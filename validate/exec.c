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
        !exec_meet(x, names[1], x->row, e) || !comm_alltoallv(x->row, t->send, t->receive, e) ||
        !exec_end(x, pass, CLASS_COLLECTIVE, (double)t->off_send, (double)t->off_receive, 0, e))
        return false;
    return copy_phase(x, names[2], pass, t->unpack, t->unpack_count, e);
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
    return x->b->backward(&a, e) &&
           exec_end(x, PASS_BACKWARD, attention_class(x), 0, 0, exec_pairs(x), e);
}

/* ---- gradients' way home ---- */

static bool round_gradients(struct exec *x, struct err *e)
{
    bool ok = true;
    for (int i = 0; ok && i < x->mine->piece_count; i++)
        ok = x->b->to_bf16(x->piece_dq16[i], x->dq[i], piece_rows(x, i) * x->c.head_dim, e);
    for (int i = 0; ok && i < x->mine->kv_count; i++)
        ok = x->b->to_bf16(x->kv_dk16[i], x->dk[i], x->shard * x->c.head_dim, e) &&
             x->b->to_bf16(x->kv_dv16[i], x->dv[i], x->shard * x->c.head_dim, e);
    return ok;
}

/* KV heads that several ranks hold get a gradient from each; they are added in the order of the
 * ranks. */
static bool add_gradients(struct exec *x, struct err *e)
{
    const struct exchange *t = &x->back_grads;
    int64_t dim = x->c.head_dim;
    if (!x->b->to_fp32(x->arrived32, t->receive.data, t->receive_bytes / 2, e))
        return false;
    for (int i = 0; i < 3; i++) {
        int64_t heads = i == 0 ? x->c.heads : x->c.kv_heads;
        if (!x->b->clear(x->grad[i], (size_t)(heads * x->local * dim) * sizeof(float), e))
            return false;
    }
    for (int i = 0; i < t->unpack_count; i++) {
        const struct layout_segment *s = &t->arrived[i];
        float *grad = x->grad[s->kv ? 1 + s->tensor : 0];
        int64_t row = s->head * x->local + s->begin - x->l.local[x->l.head_rank];
        struct kern_scatter one = {.src = x->arrived32 + s->offset / 2,
                                   .dst = grad + row * dim,
                                   .count = s->end - s->begin,
                                   .width = dim};
        if (!x->b->scatter_add(&one, 1, e))
            return false;
    }
    return true;
}

/* Bytes read and written beside the plain copies: an element is 6 from fp32 to bf16 and 6 back, 12
 * where it is added, and each sum 4 where it is cleared. */
static double rounded_bytes(const struct exec *x)
{
    return 6.0 * (double)x->back_grads.send_bytes / 2;
}

static double added_bytes(const struct exec *x)
{
    double sums = (double)(x->local * x->c.head_dim) * (x->c.heads + 2 * x->c.kv_heads);
    return 18.0 * (double)x->back_grads.receive_bytes / 2 + 4 * sums;
}

static bool run_gradients_home(struct exec *x, struct err *e)
{
    const struct exchange *t = &x->back_grads;
    bool timed = x->row->size > 1;
    if (timed)
        exec_begin(x, "pack dqkv");
    if (!round_gradients(x, e) || !x->b->copy(t->pack, t->pack_count, e))
        return false;
    if (timed && (!exec_end(x, PASS_BACKWARD, CLASS_COPY, 0, 0,
                            copied(t->pack, t->pack_count) + rounded_bytes(x), e) ||
                  !exec_meet(x, "dqkv all-to-all", x->row, e)))
        return false;
    if (!comm_alltoallv(x->row, t->send, t->receive, e))
        return false;
    if (timed && !exec_end(x, PASS_BACKWARD, CLASS_COLLECTIVE, (double)t->off_send,
                           (double)t->off_receive, 0, e))
        return false;
    if (timed)
        exec_begin(x, "unpack dqkv");
    return add_gradients(x, e) &&
           (!timed || exec_end(x, PASS_BACKWARD, CLASS_COPY, 0, 0, added_bytes(x), e));
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
           column_gather(x, PASS_FORWARD, e) && run_attention(x, PASS_FORWARD, e) &&
           exchange_run(x, &x->back_o, o, PASS_FORWARD, e) &&
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
    if (!ok)
        comm_fail(x->world, e, "out of memory for the results");
    ok = ok && x->b->get(r->o, x->o, (size_t)o * sizeof *r->o, e);
    if (!x->c.options.inference)
        ok = ok && x->b->get(r->dq, x->grad[0], (size_t)o * sizeof(float), e) &&
             x->b->get(r->dk, x->grad[1], (size_t)kv * sizeof(float), e) &&
             x->b->get(r->dv, x->grad[2], (size_t)kv * sizeof(float), e);
    return ok;
}

void exec_result_free(struct exec_result *r)
{
    free(r->o);
    free(r->dq);
    free(r->dk);
    free(r->dv);
}
