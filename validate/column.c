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

static bool make_row_lists(struct exec *x, struct err *e)
{
    int n = x->mine->kv_count * x->l.seq_groups;
    for (int i = 0; i < n; i++)
        x->col.list[i] = exec_take(x, x->shard * 4, e);
    x->col.all = exec_take(x, x->mine->kv_count * x->words * 8, e);
    x->col.reach = exec_take(x, x->mine->kv_count * x->words * 4, e);
    x->col.list_room = exec_take(x, rows_most(x) * 4, e);
    x->col.count_room = exec_take(x, 4, e);
    int64_t words = x->mine->kv_count * (x->words + 2 * x->l.seq_groups) * 4;
    struct kern_copy own = {x->col.mask[x->l.seq_rank],
                            x->col.all ? x->col.all + x->words : NULL,
                            1,
                            x->words * 4,
                            0,
                            0};
    for (int i = 0; i < x->mine->kv_count && x->col.all; i++) {
        if (!x->b->copy(&own, 1, e))
            return false;
        own.dst = (uint32_t *)own.dst + 2 * x->words;
    }
    x->col.request_out = exec_take(x, words, e);
    x->col.request_in =
        exec_take(x, x->mine->kv_count * (kern_words(x->shard) + 1) * x->l.seq_groups * 4, e);
    return e->code == ERR_NONE;
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
    c->touched = ARENA_ARRAY(x->a, int64_t, x->mine->kv_count + 1);
    c->sends = ARENA_ARRAY(x->a, struct comm_message, 2 * n);
    c->receives = ARENA_ARRAY(x->a, struct comm_message, 2 * n);
    if (e->code != ERR_NONE || !make_masks(x, e))
        return false;
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

static uint32_t *union_of(const struct exec *x, int kv)
{
    return x->col.all + 2 * kv * x->words;
}

/* What the selections touch, and that with the own shard, which is at hand as a whole. */
static bool unite(struct exec *x, struct err *e)
{
    struct kern_union *u = ARENA_ARRAY(x->scratch, struct kern_union, x->mine->kv_count);
    for (int i = 0; i < x->mine->piece_count;
         i++) { /* pieces of a KV head follow each other, so do their bitmaps */
        const struct layout_piece *p = &x->mine->pieces[i];
        struct kern_union *k = &u[p->kv];
        k->bitmap = k->bitmap ? k->bitmap : x->bits[i];
        k->groups += kern_groups(p->end - p->begin, x->l.group);
        k->keys = x->c.tokens, k->bitmap_words = x->words, k->all = union_of(x, p->kv);
        k->row_count = &x->col.touched[p->kv];
    }
    if (!x->b->unite(u, x->mine->kv_count, e))
        return false;
    for (int kv = 0; kv < x->mine->kv_count; kv++)
        u[kv] = (struct kern_union){.groups = 2,
                                    .keys = x->c.tokens,
                                    .bitmap_words = x->words,
                                    .bitmap = union_of(x, kv),
                                    .all = x->col.reach + kv * x->words,
                                    .row_count = &x->seen_rows[kv]};
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

/* Also where attention finds the rows: the own shard stays where it is, wanted rows of earlier
 * shards end where it begins, those of later ones follow. */
static bool count_wanted(struct exec *x, struct err *e)
{
    int me = x->l.seq_rank;
    for (int kv = 0; kv < x->mine->kv_count; kv++) {
        int64_t before = 0, first = 0;
        for (int s = 0; s < x->l.seq_groups; s++) {
            int64_t *want = &x->col.want[at(x, kv, s)];
            *want = x->shard;
            if (s != me &&
                !list_rows(x, s, union_of(x, kv), 0, x->words, x->col.list_room, want, e))
                return false;
            before += s < me ? *want : 0;
        }
        first = -before * x->c.head_dim;
        x->seen_k[kv] = (uint16_t *)x->kv_k[kv] + first;
        x->seen_v[kv] = (uint16_t *)x->kv_v[kv] + first;
        x->seen_dk[kv] = x->dk[kv] ? x->dk[kv] + first : NULL;
        x->seen_dv[kv] = x->dv[kv] ? x->dv[kv] + first : NULL;
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
            c[n++] = (struct kern_copy){union_of(x, kv) + first_word(x, s),
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
                                   .all = x->col.reach + p->kv * x->words,
                                   .list = x->list[i],
                                   .count = x->count[i],
                                   .list_stride = exec_keep(&x->c, p->head)};
    }
    return x->b->remap(r, x->mine->piece_count, e);
}

/* The work on bitmaps has rows of its own, whose work is the entries of the lists. */
bool column_index(struct exec *x, struct err *e)
{
    static const char work[] = "unite selections";
    double sent, received, entries = exec_entries(x);
    struct comm_parts arrived;
    exec_begin(x, work);
    if (!unite(x, e) || !count_wanted(x, e) ||
        !exec_end(x, PASS_FORWARD, CLASS_COPY, 0, 0, entries, e) ||
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

/* First row of shard s among those that attention of this KV head sees. */
static int64_t place_of(const struct exec *x, int kv, int s)
{
    int64_t before = 0;
    for (int i = 0; i < s; i++)
        before += x->col.want[at(x, kv, i)];
    return before;
}

/* Messages of the column: for each peer, nearest first, and each KV head one of K and one of V. */
static void begin_messages(struct exec *x)
{
    x->col.send_count = x->col.receive_count = 0;
}

static void add_message(struct comm_message *list, int *count, int peer, void *data, int64_t bytes)
{
    if (bytes > 0)
        list[(*count)++] = (struct comm_message){peer, data, bytes};
}

static void send_to(struct exec *x, int peer, void *data, int64_t bytes)
{
    add_message(x->col.sends, &x->col.send_count, peer, data, bytes);
}

static void receive_from(struct exec *x, int peer, void *data, int64_t bytes)
{
    add_message(x->col.receives, &x->col.receive_count, peer, data, bytes);
}

static double bytes_of(const struct comm_message *list, int count)
{
    double sum = 0;
    for (int i = 0; i < count; i++)
        sum += (double)list[i].bytes;
    return sum;
}

/* The messages at hand, as a phase. */
static bool run_messages(struct exec *x, const char *name, enum cp_pass pass, struct err *e)
{
    const struct column *c = &x->col;
    return exec_meet(x, name, x->column, e) &&
           comm_exchange(x->column, c->sends, c->send_count, c->receives, c->receive_count, e) &&
           exec_end(x, pass, CLASS_COLLECTIVE, bytes_of(c->sends, c->send_count),
                    bytes_of(c->receives, c->receive_count), 0, e);
}

/* Sequence ranks k places on and k places back. */
static int rank_on(const struct exec *x, int k)
{
    return (x->l.seq_rank + k) % x->l.seq_groups;
}

static int rank_back(const struct exec *x, int k)
{
    return (x->l.seq_rank - k + x->l.seq_groups) % x->l.seq_groups;
}

/* K and V of the rows that each rank asked for, one KV head after the other. */
static bool pack_rows(struct exec *x, enum cp_pass pass, struct err *e)
{
    struct kern_gather *g =
        ARENA_ARRAY(x->scratch, struct kern_gather, 2 * x->mine->kv_count * x->l.seq_groups);
    int n = 0, dim = x->c.head_dim;
    double bytes = 0;
    uint16_t *to = x->col.send;
    exec_begin(x, "pack kv rows");
    for (int k = 1; k < x->l.seq_groups; k++)
        for (int kv = 0; kv < x->mine->kv_count; kv++) {
            int peer = rank_on(x, k);
            int64_t rows = x->col.give[at(x, kv, peer)];
            const int32_t *list = x->col.list[at(x, kv, peer)];
            g[n++] = (struct kern_gather){x->kv_k[kv], to, list, rows, dim};
            g[n++] = (struct kern_gather){x->kv_v[kv], to + rows * dim, list, rows, dim};
            send_to(x, peer, to, rows * row_bytes(x));
            send_to(x, peer, to + rows * dim, rows * row_bytes(x));
            to += 2 * rows * dim;
            bytes += 4.0 * (double)(rows * row_bytes(x));
        }
    return x->b->gather(g, n, e) && exec_end(x, pass, CLASS_COPY, 0, 0, bytes, e);
}

/* Wanted rows come to their places among those that attention sees. */
static void expect_rows(struct exec *x)
{
    for (int k = 1; k < x->l.seq_groups; k++)
        for (int kv = 0; kv < x->mine->kv_count; kv++) {
            int peer = rank_back(x, k);
            int64_t bytes = x->col.want[at(x, kv, peer)] * row_bytes(x),
                    place = place_of(x, kv, peer) * x->c.head_dim;
            receive_from(x, peer, x->seen_k[kv] + place, bytes);
            receive_from(x, peer, x->seen_v[kv] + place, bytes);
        }
}

static bool gather_rows(struct exec *x, enum cp_pass pass, struct err *e)
{
    begin_messages(x);
    if (!pack_rows(x, pass, e))
        return false;
    expect_rows(x);
    return run_messages(x, "kv gather", pass, e);
}

/* ---- whole shards ---- */

/* From where they are to where they belong. */
static bool gather_shards(struct exec *x, const char *name, enum cp_pass pass, struct err *e)
{
    begin_messages(x);
    for (int k = 1; k < x->l.seq_groups; k++)
        for (int kv = 0; kv < x->mine->kv_count; kv++) {
            int from = rank_back(x, k);
            int64_t place = x->l.shard[from] * x->c.head_dim,
                    bytes = shard_rows(x, from) * row_bytes(x);
            send_to(x, rank_on(x, k), x->kv_k[kv], x->shard * row_bytes(x));
            send_to(x, rank_on(x, k), x->kv_v[kv], x->shard * row_bytes(x));
            receive_from(x, from, x->seen_k[kv] + place, bytes);
            receive_from(x, from, x->seen_v[kv] + place, bytes);
        }
    return run_messages(x, name, pass, e);
}

/* What came from other ranks waits in the host's memory. */
static bool offload_kv(struct exec *x, struct err *e)
{
    struct exec_kept *k = &x->kept_kv;
    int64_t others = x->c.tokens - x->shard;
    if (!k->host && !exec_keep_room(x, k, 2 * x->mine->kv_count * x->l.seq_groups,
                                    2 * x->mine->kv_count * others * row_bytes(x), e))
        return false;
    k->count = 0;
    for (int i = 0; i < x->col.receive_count; i++)
        exec_keep_add(k, x->col.receives[i].data, x->col.receives[i].bytes);
    return exec_to_host(x, "offload kv", PASS_FORWARD, k, e);
}

static bool gather_kv(struct exec *x, enum cp_pass pass, struct err *e)
{
    switch (x->move) {
    case MOVE_ROWS:
        return gather_rows(x, pass, e);
    case MOVE_ALL_ROWS:
        return gather_shards(x, "kv gather", pass, e);
    case MOVE_ALLGATHER:
        return gather_shards(x, "kv all-gather", pass, e);
    default:
        return true;
    }
}

bool column_gather(struct exec *x, enum cp_pass pass, struct err *e)
{
    const struct cp_options *o = &x->c.options;
    bool kept = o->checkpointing == CHECKPOINT_NONE && o->keep_kv;
    bool offloads = o->offload == OFFLOAD_KV && !o->inference && !kept && x->move != MOVE_NONE &&
                    x->move != MOVE_RING;
    if (offloads && pass != PASS_FORWARD)
        return exec_from_host(x, "fetch kv", pass, &x->kept_kv, e);
    return gather_kv(x, pass, e) && (!offloads || offload_kv(x, e));
}

/* ---- gradients back to the owners ---- */

static int64_t grad_width(const struct exec *x)
{
    return x->c.options.grad_fp32 ? 4 : 2;
}

/* Rows of shard s whose gradients this rank has, and where they begin. */
static int64_t rows_seen(const struct exec *x, int kv, int s)
{
    return x->move == MOVE_ROWS ? x->col.want[at(x, kv, s)] : shard_rows(x, s);
}

static int64_t rows_before(const struct exec *x, int kv, int s)
{
    return x->move == MOVE_ROWS ? place_of(x, kv, s) : x->l.shard[s];
}

static int64_t rows_given(const struct exec *x, int kv, int s)
{
    return x->move == MOVE_ROWS ? x->col.give[at(x, kv, s)] : x->shard;
}

/* `count` numbers for `peer`: as they are, or rounded into `*room`, which moves on. */
static bool send_gradient(struct exec *x, int peer, float *from, int64_t count, uint16_t **room,
                          struct err *e)
{
    uint16_t *rounded = *room;
    if (grad_width(x) == 4) {
        send_to(x, peer, from, count * 4);
        return true;
    }
    *room += count;
    send_to(x, peer, rounded, count * 2);
    return x->b->to_bf16(rounded, from, count, e);
}

/* Bytes read and written for each number that is added, and rounded or widened. */
enum { ADDED_BYTES = 12, ROUNDED_BYTES = 6 };

static double rounding_bytes(const struct exec *x)
{
    return grad_width(x) == 4 ? 0 : ROUNDED_BYTES;
}

static bool send_gradients(struct exec *x, const char *rounding, struct err *e)
{
    uint16_t *room = x->col.send;
    int64_t dim = x->c.head_dim, count = 0;
    exec_begin(x, rounding);
    for (int k = 1; k < x->l.seq_groups; k++)
        for (int kv = 0; kv < x->mine->kv_count; kv++) {
            int peer = rank_on(x, k);
            int64_t n = rows_seen(x, kv, peer) * dim, first = rows_before(x, kv, peer) * dim;
            if (!send_gradient(x, peer, x->seen_dk[kv] + first, n, &room, e) ||
                !send_gradient(x, peer, x->seen_dv[kv] + first, n, &room, e))
                return false;
            count += 2 * n;
        }
    return grad_width(x) == 4 ||
           exec_end(x, PASS_BACKWARD, CLASS_COPY, 0, 0, rounding_bytes(x) * (double)count, e);
}

/* [peer, nearest first][kv][dK, then dV of its rows]. */
static void expect_gradients(struct exec *x)
{
    char *to = x->col.receive;
    for (int k = 1; k < x->l.seq_groups; k++)
        for (int i = 0; i < 2 * x->mine->kv_count; i++) {
            int peer = rank_back(x, k);
            int64_t bytes = rows_given(x, i / 2, peer) * x->c.head_dim * grad_width(x);
            receive_from(x, peer, to, bytes);
            to += bytes;
        }
}

/* What peer sent for (kv, dK or dV), added to the own shard's; `*from` moves on. */
static bool add_gradient(struct exec *x, int kv, int peer, float *sum, char **from, struct err *e)
{
    int64_t dim = x->c.head_dim, rows = rows_given(x, kv, peer);
    struct kern_scatter add = {.src = (const float *)(const void *)*from,
                               .dst = sum,
                               .list = x->move == MOVE_ROWS ? x->col.list[at(x, kv, peer)] : NULL,
                               .count = rows,
                               .width = dim};
    bool ok = true;
    if (grad_width(x) == 2) {
        add.src = x->col.scratch;
        ok = x->b->to_fp32(x->col.scratch, (const uint16_t *)(const void *)*from, rows * dim, e);
    }
    *from += rows * dim * grad_width(x);
    return ok && x->b->scatter_add(&add, 1, e);
}

/* In the order of the peers, so that sums do not depend on who came first. */
static bool add_gradients(struct exec *x, const char *name, struct err *e)
{
    char *from = x->col.receive;
    exec_begin(x, name);
    for (int k = 1; k < x->l.seq_groups; k++)
        for (int kv = 0; kv < x->mine->kv_count; kv++)
            if (!add_gradient(x, kv, rank_back(x, k), x->dk[kv], &from, e) ||
                !add_gradient(x, kv, rank_back(x, k), x->dv[kv], &from, e))
                return false;
    double count = (double)(from - (char *)x->col.receive) / (double)grad_width(x);
    return exec_end(x, PASS_BACKWARD, CLASS_COPY, 0, 0, (ADDED_BYTES + rounding_bytes(x)) * count,
                    e);
}

static bool round_sums(struct exec *x, struct err *e)
{
    double count = 2.0 * (double)(x->mine->kv_count * x->shard * x->c.head_dim);
    exec_begin(x, "round dkv");
    return exec_round_kv(x, e) &&
           exec_end(x, PASS_BACKWARD, CLASS_COPY, 0, 0, ROUNDED_BYTES * count, e);
}

bool column_return(struct exec *x, struct err *e)
{
    bool rows = x->move == MOVE_ROWS;
    const char *sums = rows ? "scatter dkv rows" : "sum dkv";
    if (!rows && x->move != MOVE_ALL_ROWS && x->move != MOVE_ALLGATHER)
        return true;
    begin_messages(x);
    if (!send_gradients(x, sums, e))
        return false;
    expect_gradients(x);
    return run_messages(x, x->move == MOVE_ALLGATHER ? "dkv reduce-scatter" : "dkv return",
                        PASS_BACKWARD, e) &&
           add_gradients(x, sums, e) && round_sums(x, e);
}

/* ---- ring: KV of rank - k at step k ----
 * Blocks are [kv][K or V][longest shard][dim]; two buffers take turns. */

static int64_t block_bytes(const struct exec *x)
{
    return x->mine->kv_count * 2 * rows_most(x) * row_bytes(x);
}

/* Copies between such a block and arrays per KV head, `rows` rows of them from row `first` on. */
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
    struct comm_hop *hop = last ? NULL : comm_shift_begin(x->column, here, next, block_bytes(x), e);
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
    double moved = (double)(block_bytes(x) * (n - 1));
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
    int64_t count = block_bytes(x) / 2;
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
    if (!x->b->clear(own_part(x), (size_t)block_bytes(x) * 2, e) ||
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
    int64_t kv = block_bytes(x), grads = kv / 2 * grad_width(x);
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
    return x->b->to_fp32(wide, (uint16_t *)(void *)message, block_bytes(x) / 2, e) ? wide : NULL;
}

bool ring_backward(struct exec *x, struct err *e)
{
    int n = x->l.seq_groups;
    int64_t kv = block_bytes(x), grads = kv / 2 * grad_width(x);
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
    return sum && x->b->copy(c, copies, e) && exec_round_q(x, e) && exec_round_kv(x, e) &&
           exec_end(x, PASS_BACKWARD, ring_class(x), moved, moved, exec_pairs(x), e);
}
