/* KV between the sequence ranks of a column: by wanted rows, all rows, all-gather or ring, and its
 * gradients back. */
#include <stdlib.h>

#include "validate/exec_core.h"

static int64_t shard_rows(const struct exec *x, int s)
{
    return x->l.shard[s + 1] - x->l.shard[s];
}

static int64_t rows_most(const struct exec *x)
{
    int64_t most = 0;
    for (int s = 0; s < x->l.seq_groups; s++)
        most = shard_rows(x, s) > most ? shard_rows(x, s) : most;
    return most;
}

/* Index of (KV head, sequence rank). */
static int at(const struct exec *x, int kv, int s)
{
    return kv * x->l.seq_groups + s;
}

/* ---- set up ---- */

static bool make_masks(struct exec *x, struct err *e)
{
    uint32_t *host = calloc((size_t)x->words + 1, sizeof *host);
    x->col.mask = ARENA_ARRAY(x->a, uint32_t *, x->l.seq_groups);
    bool ok = host != NULL;
    for (int s = 0; ok && s < x->l.seq_groups; s++) {
        memset(host, 0, (size_t)x->words * sizeof *host);
        for (int64_t j = x->l.shard[s]; j < x->l.shard[s + 1]; j++)
            host[j / 32] |= 1u << j % 32;
        x->col.mask[s] = exec_take(x, x->words * 4, e);
        ok = x->col.mask[s] && x->b->put(x->col.mask[s], host, (size_t)x->words * 4, e);
    }
    free(host);
    return ok || comm_fail(x->world, e, "out of memory");
}

/* All rows move: the list of every (KV head, rank) is that of all rows of this shard. */
static bool make_full_lists(struct exec *x, struct err *e)
{
    int32_t *host = malloc((size_t)(x->shard + 1) * sizeof *host),
            *all = exec_take(x, x->shard * 4, e);
    bool ok = host && all;
    for (int64_t i = 0; ok && i < x->shard; i++)
        host[i] = (int32_t)i;
    ok = ok && x->b->put(all, host, (size_t)x->shard * 4, e);
    free(host);
    for (int kv = 0; ok && kv < x->mine->kv_count; kv++)
        for (int s = 0; s < x->l.seq_groups; s++) {
            x->col.list[at(x, kv, s)] = all;
            x->col.give[at(x, kv, s)] = x->shard;
            x->col.want[at(x, kv, s)] = shard_rows(x, s);
        }
    return ok || comm_fail(x->world, e, "out of memory");
}

static bool make_row_lists(struct exec *x, struct err *e)
{
    int n = x->mine->kv_count * x->l.seq_groups;
    for (int i = 0; i < n; i++)
        x->col.list[i] = exec_take(x, x->shard * 4, e);
    x->col.all = exec_take(x, x->mine->kv_count * x->words * 4, e);
    x->col.list_room = exec_take(x, rows_most(x) * 4, e);
    x->col.count_room = exec_take(x, 4, e);
    int64_t words = x->mine->kv_count * (x->words + 2 * x->l.seq_groups) * 4;
    x->col.request_out = exec_take(x, words, e);
    x->col.request_in =
        exec_take(x, x->mine->kv_count * (kern_words(x->shard) + 1) * x->l.seq_groups * 4, e);
    return e->code == ERR_NONE;
}

/* What attention sees: the own shard, or arrays with room for all keys. */
static void make_seen(struct exec *x, struct err *e)
{
    int n = x->mine->kv_count;
    bool own = x->move == MOVE_NONE || x->move == MOVE_RING, train = !x->c.options.inference;
    int64_t half = x->c.tokens * x->c.head_dim * 2;
    x->seen_k = ARENA_ARRAY(x->a, uint16_t *, n + 1),
    x->seen_v = ARENA_ARRAY(x->a, uint16_t *, n + 1);
    x->seen_dk = ARENA_ARRAY(x->a, float *, n + 1), x->seen_dv = ARENA_ARRAY(x->a, float *, n + 1);
    x->seen_rows = ARENA_ARRAY(x->a, int64_t, n + 1);
    for (int i = 0; i < n; i++) {
        x->seen_rows[i] = own ? x->shard : x->c.tokens;
        x->seen_k[i] = own ? x->kv_k[i] : exec_take(x, half, e);
        x->seen_v[i] = own ? x->kv_v[i] : exec_take(x, half, e);
        if (train) {
            x->seen_dk[i] = own ? x->dk[i] : exec_take(x, half * 2, e);
            x->seen_dv[i] = own ? x->dv[i] : exec_take(x, half * 2, e);
        }
    }
}

bool column_new(struct exec *x, struct err *e)
{
    int n = x->mine->kv_count * x->l.seq_groups + 1, seq = x->l.seq_groups;
    int64_t room = seq * rows_most(x) * x->mine->kv_count * 2 * x->c.head_dim * 4;
    struct column *c = &x->col;
    c->want = ARENA_ARRAY(x->a, int64_t, n), c->give = ARENA_ARRAY(x->a, int64_t, n);
    c->list = ARENA_ARRAY(x->a, int32_t *, n);
    c->send = exec_take(x, room, e), c->receive = exec_take(x, room, e);
    c->scratch = x->l.seq_groups > 1 ? exec_take(x, room, e) : NULL;
    int64_t *parts = ARENA_ARRAY(x->a, int64_t, 4 * seq);
    c->out = (struct comm_parts){c->send, parts, parts + seq};
    c->in = (struct comm_parts){c->receive, parts + 2 * seq, parts + 3 * seq};
    make_seen(x, e);
    if (e->code != ERR_NONE || !make_masks(x, e))
        return false;
    if (x->move == MOVE_ALL_ROWS)
        return make_full_lists(x, e);
    return x->move != MOVE_ROWS || make_row_lists(x, e);
}

/* Bytes and offsets of messages whose parts have bytes(s); returns the sum. The own part may be
 * left out. */
static int64_t set_parts(struct exec *x, struct comm_parts *p,
                         int64_t size(const struct exec *, int), bool own)
{
    int64_t *bytes = (int64_t *)(uintptr_t)p->bytes, *offset = (int64_t *)(uintptr_t)p->offset,
            sum = 0;
    for (int s = 0; s < x->l.seq_groups; s++) {
        bytes[s] = own || s != x->l.seq_rank ? size(x, s) : 0;
        offset[s] = sum;
        sum += bytes[s];
    }
    return sum;
}

/* ---- index: which rows are wanted ---- */

static int64_t first_word(const struct exec *x, int s)
{
    return x->l.shard[s] / 32;
}

static int64_t shard_words(const struct exec *x, int s)
{
    return kern_words(x->l.shard[s + 1]) - first_word(x, s);
}

static bool unite(struct exec *x, struct err *e)
{
    struct kern_union *u = ARENA_ARRAY(x->scratch, struct kern_union, x->mine->kv_count);
    for (int i = 0; i < x->mine->piece_count;
         i++) { /* pieces of a KV head follow each other, so do their bitmaps */
        const struct layout_piece *p = &x->mine->pieces[i];
        struct kern_union *k = &u[p->kv];
        k->bitmap = k->bitmap ? k->bitmap : x->bits[i];
        k->groups += kern_groups(p->end - p->begin, x->l.group);
        k->keys = x->c.tokens, k->bitmap_words = x->words, k->all = x->col.all + p->kv * x->words;
        k->row_count = &x->seen_rows[p->kv];
    }
    return x->b->unite(u, x->mine->kv_count, e);
}

/* The rows of shard s in a bitmap whose word 0 is `first` of the sequence, relative to the shard.
 */
static bool list_rows(struct exec *x, int s, const uint32_t *bits, int64_t first, int64_t words,
                      int32_t *list, int64_t *count, struct err *e)
{
    int32_t n = 0;
    struct kern_remap r = {.groups = 1,
                           .bitmap_words = words,
                           .bitmap = bits,
                           .all = x->col.mask[s] + first,
                           .list = list,
                           .count = x->col.count_room,
                           .list_stride = shard_rows(x, s),
                           .within = true};
    bool ok = x->b->remap(&r, 1, e) && x->b->get(&n, x->col.count_room, sizeof n, e);
    *count = n;
    return ok;
}

static bool count_wanted(struct exec *x, struct err *e)
{
    for (int kv = 0; kv < x->mine->kv_count; kv++)
        for (int s = 0; s < x->l.seq_groups; s++) {
            bool own = s == x->l.seq_rank;
            int32_t *list = own ? x->col.list[at(x, kv, s)] : x->col.list_room;
            if (!list_rows(x, s, x->col.all + kv * x->words, 0, x->words, list,
                           &x->col.want[at(x, kv, s)], e))
                return false;
            x->col.give[at(x, kv, s)] = own ? x->col.want[at(x, kv, s)] : 0;
        }
    return true;
}

static int64_t request_bytes(const struct exec *x, int s)
{
    return x->mine->kv_count * shard_words(x, s) * 4;
}

static int64_t requested_bytes(const struct exec *x, int s)
{
    (void)s;
    return x->mine->kv_count * shard_words(x, x->l.seq_rank) * 4;
}

/* Bits of wanted rows to their owners. */
static bool exchange_requests(struct exec *x, double *sent, double *received,
                              struct comm_parts *arrived, struct err *e)
{
    struct comm_parts out = x->col.out, in = x->col.in;
    out.data = x->col.request_out, in.data = x->col.request_in;
    struct kern_copy *c =
        ARENA_ARRAY(x->scratch, struct kern_copy, x->mine->kv_count * x->l.seq_groups);
    *sent = (double)set_parts(x, &out, request_bytes, false);
    *received = (double)set_parts(x, &in, requested_bytes, false);
    *arrived = in;
    int n = 0;
    for (int s = 0; s < x->l.seq_groups; s++)
        for (int kv = 0; kv < x->mine->kv_count && s != x->l.seq_rank; kv++) {
            int64_t bytes = shard_words(x, s) * 4;
            c[n++] = (struct kern_copy){x->col.all + kv * x->words + first_word(x, s),
                                        (char *)out.data + out.offset[s] + kv * bytes,
                                        1,
                                        bytes,
                                        bytes,
                                        bytes};
        }
    return x->b->copy(c, n, e) && comm_alltoallv(x->column, out, in, e);
}

/* Lists of rows to give. */
static bool list_requested(struct exec *x, struct comm_parts in, struct err *e)
{
    int me = x->l.seq_rank;
    int64_t words = shard_words(x, me);
    for (int s = 0; s < x->l.seq_groups; s++)
        for (int kv = 0; kv < x->mine->kv_count && s != me; kv++) {
            const uint32_t *bits = (const uint32_t *)in.data + in.offset[s] / 4 + kv * words;
            if (!list_rows(x, me, bits, first_word(x, me), words, x->col.list[at(x, kv, s)],
                           &x->col.give[at(x, kv, s)], e))
                return false;
        }
    return true;
}

static bool remap_pieces(struct exec *x, struct err *e)
{
    struct kern_remap *r = ARENA_ARRAY(x->scratch, struct kern_remap, x->mine->piece_count);
    for (int i = 0; i < x->mine->piece_count; i++) {
        const struct layout_piece *p = &x->mine->pieces[i];
        r[i] = (struct kern_remap){.groups = kern_groups(p->end - p->begin, x->l.group),
                                   .bitmap_words = x->words,
                                   .bitmap = x->bits[i],
                                   .all = x->col.all + p->kv * x->words,
                                   .list = x->list[i],
                                   .count = x->count[i],
                                   .list_stride = exec_keep(&x->c, p->head)};
    }
    return x->b->remap(r, x->mine->piece_count, e);
}

/* The work on bitmaps has rows of its own: the model prices the message only. */
bool column_index(struct exec *x, struct err *e)
{
    static const char work[] = "unite selections";
    double sent, received;
    struct comm_parts arrived;
    exec_begin(x, work);
    if (!unite(x, e) || !count_wanted(x, e) || !exec_end(x, PASS_FORWARD, CLASS_COPY, 0, 0, 0, e) ||
        !exec_meet(x, "index exchange", x->column, e) ||
        !exchange_requests(x, &sent, &received, &arrived, e) ||
        !exec_end(x, PASS_FORWARD, CLASS_COLLECTIVE, sent, received, 0, e))
        return false;
    exec_begin(x, work);
    return list_requested(x, arrived, e) && remap_pieces(x, e) &&
           exec_end(x, PASS_FORWARD, CLASS_COPY, 0, 0, 0, e);
}

/* ---- rows of K and V to who wants them ---- */

static int64_t row_bytes(const struct exec *x)
{
    return x->c.head_dim * 2;
}

static int64_t give_bytes(const struct exec *x, int s)
{
    int64_t rows = 0;
    for (int kv = 0; kv < x->mine->kv_count; kv++)
        rows += x->col.give[at(x, kv, s)];
    return rows * 2 * row_bytes(x);
}

static int64_t want_bytes(const struct exec *x, int s)
{
    int64_t rows = 0;
    for (int kv = 0; kv < x->mine->kv_count; kv++)
        rows += x->col.want[at(x, kv, s)];
    return rows * 2 * row_bytes(x);
}

/* First row of shard s among those that attention of this KV head sees. */
static int64_t place_of(const struct exec *x, int kv, int s)
{
    int64_t before = 0;
    for (int i = 0; i < s; i++)
        before += x->col.want[at(x, kv, i)];
    return before;
}

/* K and V of the rows that each rank asked for, one KV head after the other; own rows go straight
 * to their place. */
static bool pack_rows(struct exec *x, enum cp_pass pass, struct err *e)
{
    struct kern_gather *g =
        ARENA_ARRAY(x->scratch, struct kern_gather, 2 * x->mine->kv_count * x->l.seq_groups);
    int n = 0, dim = x->c.head_dim;
    double bytes = 0;
    exec_begin(x, "pack kv rows");
    for (int s = 0; s < x->l.seq_groups; s++) {
        uint16_t *to = (uint16_t *)x->col.send + x->col.out.offset[s] / 2;
        for (int kv = 0; kv < x->mine->kv_count; kv++) {
            int64_t rows = x->col.give[at(x, kv, s)], place = place_of(x, kv, s) * dim;
            bool own = s == x->l.seq_rank;
            const int32_t *list = x->col.list[at(x, kv, s)];
            g[n++] = (struct kern_gather){x->kv_k[kv], own ? x->seen_k[kv] + place : to, list, rows,
                                          dim};
            g[n++] = (struct kern_gather){
                x->kv_v[kv], own ? x->seen_v[kv] + place : to + rows * dim, list, rows, dim};
            to += 2 * rows * dim;
            bytes += 4.0 * (double)(rows * row_bytes(x));
        }
    }
    return x->b->gather(g, n, e) && exec_end(x, pass, CLASS_COPY, 0, 0, bytes, e);
}

static bool unpack_rows(struct exec *x, enum cp_pass pass, struct err *e)
{
    struct kern_copy *c =
        ARENA_ARRAY(x->scratch, struct kern_copy, 2 * x->mine->kv_count * x->l.seq_groups);
    int n = 0;
    int64_t row = row_bytes(x);
    double bytes = 0;
    exec_begin(x, "pack kv rows"); /* the model's phase of that name has both ends */
    for (int s = 0; s < x->l.seq_groups; s++) {
        char *from = (char *)x->col.receive + x->col.in.offset[s];
        for (int kv = 0; kv < x->mine->kv_count && s != x->l.seq_rank; kv++) {
            int64_t size = x->col.want[at(x, kv, s)] * row,
                    place = place_of(x, kv, s) * x->c.head_dim;
            c[n++] = (struct kern_copy){from, x->seen_k[kv] + place, 1, size, size, size};
            c[n++] = (struct kern_copy){from + size, x->seen_v[kv] + place, 1, size, size, size};
            from += 2 * size;
            bytes += 4.0 * (double)size;
        }
    }
    return x->b->copy(c, n, e) && exec_end(x, pass, CLASS_COPY, 0, 0, bytes, e);
}

static bool gather_rows(struct exec *x, enum cp_pass pass, struct err *e)
{
    double sent = (double)set_parts(x, &x->col.out, give_bytes, false);
    double received = (double)set_parts(x, &x->col.in, want_bytes, false);
    return pack_rows(x, pass, e) && exec_meet(x, "kv gather", x->column, e) &&
           comm_alltoallv(x->column, x->col.out, x->col.in, e) &&
           exec_end(x, pass, CLASS_COLLECTIVE, sent, received, 0, e) && unpack_rows(x, pass, e);
}

/* ---- all-gather: shards padded to the longest ---- */

static int64_t padded_bytes(const struct exec *x, int s)
{
    (void)s;
    return x->mine->kv_count * 2 * rows_most(x) * row_bytes(x);
}

/* Copies between [kv][K or V][longest shard][dim] at `message` and arrays per KV head, from row
 * `first`, `rows` rows. */
static int block_copies(const struct exec *x, char *message, void *const *k, void *const *v,
                        int64_t first, int64_t rows, int64_t row, bool into, struct kern_copy *c)
{
    int n = 0;
    for (int kv = 0; kv < x->mine->kv_count; kv++)
        for (int i = 0; i < 2; i++) {
            char *block = message + (kv * 2 + i) * rows_most(x) * row,
                 *array = (char *)(i ? v[kv] : k[kv]) + first * row;
            c[n++] = (struct kern_copy){
                into ? array : block, into ? block : array, 1, rows * row, row, row};
        }
    return n;
}

/* Copies between the layout of messages and that of kernels, [head][token][dim]. Kernels that take
 * [token][head][dim], as those of GPUs do, need none: the model has no phase for them, and they are
 * no part of the collective. */
static bool end_arranging(struct exec *x, enum cp_pass pass, double bytes, struct err *e)
{
    return exec_end(x, pass, CLASS_COPY, 0, 0, 2 * bytes, e);
}

static const char arranging[] = "arrange kv";

static bool arrange_own(struct exec *x, enum cp_pass pass, struct err *e)
{
    struct kern_copy *c = ARENA_ARRAY(x->scratch, struct kern_copy, 2 * x->mine->kv_count);
    int n = block_copies(x, x->col.send, x->kv_k, x->kv_v, 0, x->shard, row_bytes(x), true, c);
    exec_begin(x, arranging);
    return x->b->copy(c, n, e) && end_arranging(x, pass, (double)(n * x->shard * row_bytes(x)), e);
}

static bool arrange_gathered(struct exec *x, enum cp_pass pass, struct err *e)
{
    struct kern_copy *c = ARENA_ARRAY(x->scratch, struct kern_copy, 2 * x->mine->kv_count);
    int n = 0;
    exec_begin(x, arranging);
    for (int s = 0; s < x->l.seq_groups; s++) {
        n = block_copies(x, (char *)x->col.receive + x->col.in.offset[s], (void **)x->seen_k,
                         (void **)x->seen_v, x->l.shard[s], shard_rows(x, s), row_bytes(x), false,
                         c);
        if (!x->b->copy(c, n, e))
            return false;
    }
    return end_arranging(x, pass, (double)(n * x->c.tokens * row_bytes(x)), e);
}

static bool gather_all(struct exec *x, enum cp_pass pass, struct err *e)
{
    int64_t share = padded_bytes(x, 0);
    double moved = (double)(share * (x->l.seq_groups - 1));
    set_parts(x, &x->col.in, padded_bytes, true);
    return arrange_own(x, pass, e) && exec_meet(x, "kv all-gather", x->column, e) &&
           comm_allgatherv(x->column, x->col.send, share, x->col.in, e) &&
           exec_end(x, pass, CLASS_COLLECTIVE, moved, moved, 0, e) && arrange_gathered(x, pass, e);
}

bool column_gather(struct exec *x, enum cp_pass pass, struct err *e)
{
    if (x->move == MOVE_ROWS || x->move == MOVE_ALL_ROWS)
        return gather_rows(x, pass, e);
    return x->move != MOVE_ALLGATHER || gather_all(x, pass, e);
}

/* ---- gradients back to the owners ---- */

static int64_t grad_width(const struct exec *x)
{
    return x->c.options.grad_fp32 ? 4 : 2;
}

static int64_t want_grad_bytes(const struct exec *x, int s)
{
    return want_bytes(x, s) / 2 * grad_width(x);
}

static int64_t give_grad_bytes(const struct exec *x, int s)
{
    return give_bytes(x, s) / 2 * grad_width(x);
}

static bool put_gradient(struct exec *x, char *to, const float *from, int64_t count, struct err *e)
{
    if (grad_width(x) == 2)
        return x->b->to_bf16((uint16_t *)(void *)to, from, count, e);
    struct kern_copy c = {from, to, 1, count * 4, count * 4, count * 4};
    return x->b->copy(&c, 1, e);
}

static bool pack_gradients(struct exec *x, struct err *e)
{
    int64_t dim = x->c.head_dim;
    for (int s = 0; s < x->l.seq_groups; s++) {
        char *to = (char *)x->col.send + x->col.out.offset[s];
        for (int kv = 0; kv < x->mine->kv_count && s != x->l.seq_rank; kv++) {
            int64_t count = x->col.want[at(x, kv, s)] * dim, place = place_of(x, kv, s) * dim;
            if (!put_gradient(x, to, x->seen_dk[kv] + place, count, e) ||
                !put_gradient(x, to + count * grad_width(x), x->seen_dv[kv] + place, count, e))
                return false;
            to += 2 * count * grad_width(x);
        }
    }
    return true;
}

static bool scatter_from(struct exec *x, int s, const float *from, struct err *e)
{
    int64_t dim = x->c.head_dim;
    for (int kv = 0; kv < x->mine->kv_count; kv++) {
        int64_t rows = x->col.give[at(x, kv, s)], place = place_of(x, kv, s) * dim;
        bool own = s == x->l.seq_rank;
        struct kern_scatter two[2] = {
            {own ? x->seen_dk[kv] + place : from, x->dk[kv], x->col.list[at(x, kv, s)], rows, dim},
            {own ? x->seen_dv[kv] + place : from + rows * dim, x->dv[kv], x->col.list[at(x, kv, s)],
             rows, dim}};
        if (!x->b->scatter_add(two, 2, e))
            return false;
        from += own ? 0 : 2 * rows * dim;
    }
    return true;
}

/* In the order of the sequence ranks, so that sums do not depend on who came first. */
static bool scatter_gradients(struct exec *x, struct err *e)
{
    double bytes = 0;
    exec_begin(x, "scatter dkv rows");
    for (int s = 0; s < x->l.seq_groups; s++) {
        const char *from = (const char *)x->col.receive + x->col.in.offset[s];
        const float *wide = (const float *)(const void *)from;
        if (grad_width(x) == 2 && s != x->l.seq_rank) {
            if (!x->b->to_fp32(x->col.scratch, (const uint16_t *)(const void *)from,
                               x->col.in.bytes[s] / 2, e))
                return false;
            wide = x->col.scratch;
        }
        if (!scatter_from(x, s, wide, e))
            return false;
        bytes += 3.0 * (double)(give_bytes(x, s) * 2);
    }
    return exec_end(x, PASS_BACKWARD, CLASS_COPY, 0, 0, bytes, e);
}

static bool return_rows(struct exec *x, struct err *e)
{
    double sent = (double)set_parts(x, &x->col.out, want_grad_bytes, false);
    double received = (double)set_parts(x, &x->col.in, give_grad_bytes, false);
    return pack_gradients(x, e) && exec_meet(x, "dkv return", x->column, e) &&
           comm_alltoallv(x->column, x->col.out, x->col.in, e) &&
           exec_end(x, PASS_BACKWARD, CLASS_COLLECTIVE, sent, received, 0, e) &&
           scatter_gradients(x, e);
}

/* As fp32 into messages whose shards are padded to the longest with zeros. */
static bool arrange_gradients(struct exec *x, int64_t share, struct err *e)
{
    struct kern_copy *c = ARENA_ARRAY(x->scratch, struct kern_copy, 2 * x->mine->kv_count);
    int64_t row = x->c.head_dim * 4;
    int n = 0;
    exec_begin(x, arranging);
    if (!x->b->clear(x->col.send, (size_t)(share * x->l.seq_groups), e))
        return false;
    for (int s = 0; s < x->l.seq_groups; s++) {
        n = block_copies(x, (char *)x->col.send + s * share, (void **)x->seen_dk,
                         (void **)x->seen_dv, x->l.shard[s], shard_rows(x, s), row, true, c);
        if (!x->b->copy(c, n, e))
            return false;
    }
    return end_arranging(x, PASS_BACKWARD, (double)(n * x->c.tokens * row), e);
}

static bool arrange_sums(struct exec *x, struct err *e)
{
    struct kern_copy *c = ARENA_ARRAY(x->scratch, struct kern_copy, 2 * x->mine->kv_count);
    int64_t row = x->c.head_dim * 4;
    int n =
        block_copies(x, x->col.receive, (void **)x->dk, (void **)x->dv, 0, x->shard, row, false, c);
    exec_begin(x, arranging);
    return x->b->copy(c, n, e) && end_arranging(x, PASS_BACKWARD, (double)(n * x->shard * row), e);
}

/* Sums in fp32, whatever grad_fp32 says: adding bf16 in a chain would lose digits at every rank. */
static bool reduce_gradients(struct exec *x, struct err *e)
{
    int64_t share = padded_bytes(x, 0) * 2;
    double moved = (double)(share * (x->l.seq_groups - 1));
    return arrange_gradients(x, share, e) && exec_meet(x, "dkv reduce-scatter", x->column, e) &&
           comm_reduce_scatter(x->column, x->col.send, x->col.receive, share / 4, x->col.scratch,
                               e) &&
           exec_end(x, PASS_BACKWARD, CLASS_COLLECTIVE, moved, moved, 0, e) && arrange_sums(x, e);
}

bool column_return(struct exec *x, struct err *e)
{
    if (x->move == MOVE_ROWS || x->move == MOVE_ALL_ROWS)
        return return_rows(x, e);
    return x->move != MOVE_ALLGATHER || reduce_gradients(x, e);
}

/* ---- ring: KV of rank - k at step k ----
 * Blocks are [kv][K or V][longest shard][dim]; two buffers take turns. */

static uint16_t *half_block(const struct exec *x, void *block, int kv, int v)
{
    return (uint16_t *)block + (kv * 2 + v) * rows_most(x) * x->c.head_dim;
}

static float *full_block(const struct exec *x, void *block, int kv, int v)
{
    return (float *)block + (kv * 2 + v) * rows_most(x) * x->c.head_dim;
}

/* Heads on the KV of shard s, which lies in `block`; sparse: the part of each group's keys that is
 * there. */
static bool ring_heads(struct exec *x, int s, void *block, struct kern_attention *a, struct err *e)
{
    struct kern_remap *r = ARENA_ARRAY(x->scratch, struct kern_remap, x->mine->piece_count);
    *a = exec_attention(x);
    for (int i = 0; i < x->mine->piece_count; i++) {
        const struct layout_piece *p = &x->mine->pieces[i];
        struct kern_head *h = &x->heads[i];
        h->kv_rows = shard_rows(x, s);
        h->k = half_block(x, block, p->kv, 0), h->v = half_block(x, block, p->kv, 1);
        if (!x->c.conf.sparse)
            continue;
        r[i] = (struct kern_remap){.groups = kern_groups(p->end - p->begin, x->l.group),
                                   .bitmap_words = x->words,
                                   .bitmap = x->bits[i],
                                   .all = x->col.mask[s],
                                   .list = x->list[i],
                                   .count = x->count[i],
                                   .list_stride = exec_keep(&x->c, p->head),
                                   .within = true};
        h->keys = (struct kern_keys){.group = x->l.group,
                                     .list = x->list[i],
                                     .count = x->count[i],
                                     .list_stride = r[i].list_stride};
    }
    return !x->c.conf.sparse || x->b->remap(r, x->mine->piece_count, e);
}

static bool ring_start(struct exec *x, void *block, struct err *e)
{
    struct kern_copy *c = ARENA_ARRAY(x->scratch, struct kern_copy, 2 * x->mine->kv_count);
    int n = block_copies(x, block, x->kv_k, x->kv_v, 0, x->shard, row_bytes(x), true, c);
    return x->b->copy(c, n, e);
}

/* The first step writes O and LSE, each further one is merged into them. */
static bool ring_step(struct exec *x, struct kern_attention *a, bool first, struct err *e)
{
    struct kern_merge *m = ARENA_ARRAY(x->scratch, struct kern_merge, x->mine->piece_count);
    for (int i = 0; i < x->mine->piece_count; i++) {
        x->heads[i].o = NULL;
        x->heads[i].o32 = first ? x->o32[i] : x->o32_part[i];
        x->heads[i].lse = first ? x->lse[i] : x->lse_part[i];
        m[i] = (struct kern_merge){x->heads[i].q_rows, x->c.head_dim,  x->o32[i],
                                   x->lse[i],          x->o32_part[i], x->lse_part[i]};
    }
    return x->b->forward(a, e) && (first || x->b->merge(m, x->mine->piece_count, e));
}

static enum cost_class ring_class(const struct exec *x)
{
    return x->c.conf.sparse ? CLASS_ATTENTION_SPARSE : CLASS_ATTENTION_DENSE;
}

/* Each step's block travels on while it is attended to. */
static bool ring_forward_step(struct exec *x, int k, char *here, char *next, struct err *e)
{
    int n = x->l.seq_groups;
    bool last = k + 1 == n;
    struct kern_attention a;
    struct comm_hop *hop =
        last ? NULL : comm_shift_begin(x->column, here, next, padded_bytes(x, 0), e);
    bool ok = (last || hop) && ring_heads(x, (x->l.seq_rank - k + n) % n, here, &a, e) &&
              ring_step(x, &a, k == 0, e);
    return comm_shift_end(hop, e) && ok;
}

bool ring_forward(struct exec *x, enum cp_pass pass, struct err *e)
{
    int n = x->l.seq_groups;
    char *here = x->col.send, *next = x->col.receive;
    if (!exec_meet(x, "attention", x->column, e) || !ring_start(x, here, e))
        return false;
    for (int k = 0; k < n; k++) {
        if (!ring_forward_step(x, k, here, next, e))
            return false;
        char *was = here;
        here = next, next = was;
    }
    for (int i = 0; i < x->mine->piece_count; i++)
        if (!x->b->to_bf16(x->piece_o[i], x->o32[i], x->heads[i].q_rows * x->c.head_dim, e))
            return false;
    double moved = (double)(padded_bytes(x, 0) * (n - 1));
    return exec_end(x, pass, ring_class(x), moved, moved, exec_pairs(x), e);
}

/* ---- ring, backward ----
 * A message is [KV of a block | its gradients so far, as fp32 or bf16]. At step k a rank sends on
 * the KV at hand and the gradients of the block before, whose turn here is over, while it computes
 * its own part for the block at hand; what arrives is the sum so far of that very block. Gradients
 * are home after n hops, the last of which has nothing to hide beneath. */

static float *own_part(struct exec *x)
{
    return x->col.scratch;
}

/* Own part + what arrived at `sum` -> `sum`, in the form in which gradients travel. */
static bool add_own_part(struct exec *x, char *sum, bool arrived, struct err *e)
{
    int64_t count = padded_bytes(x, 0) / 2;
    float *wide = grad_width(x) == 4 ? (float *)(void *)sum : own_part(x) + count;
    struct kern_scatter add = {
        .src = own_part(x), .dst = wide, .count = count / x->c.head_dim, .width = x->c.head_dim};
    uint16_t *half = (uint16_t *)(void *)sum;
    bool ok = true;
    if (!arrived)
        ok = x->b->clear(wide, (size_t)count * 4, e);
    else if (grad_width(x) != 4)
        ok = x->b->to_fp32(wide, half, count, e);
    ok = ok && x->b->scatter_add(&add, 1, e);
    return ok && (grad_width(x) == 4 || x->b->to_bf16(half, wide, count, e));
}

static bool compute_own_part(struct exec *x, int k, char *here, struct err *e)
{
    int n = x->l.seq_groups;
    struct kern_attention a;
    if (!x->b->clear(own_part(x), (size_t)padded_bytes(x, 0) * 2, e) ||
        !ring_heads(x, (x->l.seq_rank - k + n) % n, here, &a, e))
        return false;
    for (int i = 0; i < x->mine->piece_count; i++) {
        x->heads[i].dk = full_block(x, own_part(x), x->mine->pieces[i].kv, 0);
        x->heads[i].dv = full_block(x, own_part(x), x->mine->pieces[i].kv, 1);
    }
    return x->b->backward(&a, e);
}

static bool ring_backward_step(struct exec *x, int k, char *here, char *next, struct err *e)
{
    int64_t kv = padded_bytes(x, 0), grads = kv / 2 * grad_width(x);
    bool first = k == 0, last = k + 1 == x->l.seq_groups;
    int64_t begin = last ? kv : 0, end = first ? kv : kv + grads;
    struct comm_hop *hop = comm_shift_begin(x->column, here + begin, next + begin, end - begin, e);
    bool ok = hop && compute_own_part(x, k, here, e);
    return comm_shift_end(hop, e) && ok && add_own_part(x, next + kv, !first, e);
}

/* The sum at `message`, as fp32. */
static float *ring_sum(struct exec *x, char *message, struct err *e)
{
    float *wide = own_part(x);
    if (grad_width(x) == 4)
        return (float *)(void *)message;
    return x->b->to_fp32(wide, (uint16_t *)(void *)message, padded_bytes(x, 0) / 2, e) ? wide
                                                                                       : NULL;
}

bool ring_backward(struct exec *x, struct err *e)
{
    int n = x->l.seq_groups;
    int64_t kv = padded_bytes(x, 0), grads = kv / 2 * grad_width(x);
    char *here = x->col.send, *next = x->col.receive;
    if (!exec_meet(x, "attention backward", x->column, e) || !ring_start(x, here, e))
        return false;
    for (int k = 0; k < n; k++) {
        if (!ring_backward_step(x, k, here, next, e))
            return false;
        char *was = here;
        here = next, next = was;
    }
    if (!comm_shift(x->column, here + kv, next + kv, grads, e))
        return false;
    float *sum = ring_sum(x, next + kv, e);
    struct kern_copy *c = ARENA_ARRAY(x->scratch, struct kern_copy, 2 * x->mine->kv_count);
    int copies = block_copies(x, (char *)sum, (void **)x->dk, (void **)x->dv, 0, x->shard,
                              x->c.head_dim * 4, false, c);
    double moved = (double)(kv * (n - 1)) + (double)(grads * n);
    return sum && x->b->copy(c, copies, e) &&
           exec_end(x, PASS_BACKWARD, ring_class(x), moved, moved, exec_pairs(x), e);
}
