#include "validate/layout.h"

#include <stdlib.h>

/* ---- who holds what ---- */

static int64_t split_at(int64_t n, int parts, int i)
{
    return n * i / parts;
}

static int by_kv_head_row(const void *x, const void *y)
{
    const struct layout_piece *a = x, *b = y;
    if (a->kv != b->kv)
        return a->kv < b->kv ? -1 : 1;
    if (a->head != b->head)
        return a->head < b->head ? -1 : 1;
    return a->begin < b->begin ? -1 : a->begin > b->begin;
}

/* Row of the shard at which a share of its queries ends: the nearest border of a query group. */
static int64_t row_at(const struct layout *l, double share)
{
    int64_t rows = l->shard[l->seq_rank + 1] - l->shard[l->seq_rank],
            groups = kern_groups(rows, l->group);
    int64_t at = (int64_t)(share * (double)groups + 0.5 + 1e-9) * l->group;
    return at < rows ? at : rows;
}

/* In `kv` the pieces carry the KV head first, and its index once all are known. */
static void number_kv_heads(struct layout_holder *h)
{
    qsort(h->pieces, (size_t)h->piece_count, sizeof *h->pieces, by_kv_head_row);
    for (int i = 0; i < h->piece_count; i++) {
        int head = h->pieces[i].kv;
        if (h->kv_count == 0 || h->kv_head[h->kv_count - 1] != head)
            h->kv_head[h->kv_count++] = head;
        h->pieces[i].kv = h->kv_count - 1;
    }
}

static void list_pieces(struct layout *l, const struct exec_case *c, struct arena *a)
{
    int per_kv = c->heads / c->kv_heads;
    l->holder = ARENA_ARRAY(a, struct layout_holder, l->head_groups);
    for (int r = 0; r < l->head_groups; r++) {
        l->holder[r].pieces = ARENA_ARRAY(a, struct layout_piece, c->conf.piece_count + 1);
        l->holder[r].kv_head = ARENA_ARRAY(a, int, c->conf.piece_count + 1);
    }
    for (int i = 0; i < c->conf.piece_count; i++) {
        const struct cp_piece *p = &c->conf.pieces[i];
        struct layout_holder *h = &l->holder[p->head_rank];
        struct layout_piece piece = {p->head, p->head / per_kv, row_at(l, p->begin),
                                     row_at(l, p->begin + p->share)};
        /* A piece may have no rows in a short shard; the rank holds the KV head all the same, as
         * the other ranks of its column do, or their messages would not match. */
        if (p->share > 0)
            h->pieces[h->piece_count++] = piece;
    }
    for (int r = 0; r < l->head_groups; r++)
        number_kv_heads(&l->holder[r]);
}

static bool check_tiling(const struct layout *l, struct err *e)
{
    int64_t rows = l->shard[l->seq_rank + 1] - l->shard[l->seq_rank];
    for (int head = 0; head < l->heads; head++) {
        int64_t sum = 0;
        for (int r = 0; r < l->head_groups; r++)
            for (int i = 0; i < l->holder[r].piece_count; i++)
                if (l->holder[r].pieces[i].head == head)
                    sum += l->holder[r].pieces[i].end - l->holder[r].pieces[i].begin;
        if (sum != rows)
            return err_set(e, ERR_INPUT, err_at_name("pieces"),
                           "head %d: its pieces have %lld of %lld rows of a shard", head,
                           (long long)sum, (long long)rows);
    }
    return true;
}

bool layout_new(struct layout *l, const struct exec_case *c, int rank, struct arena *a,
                struct err *e)
{
    const struct cp_conf *conf = &c->conf;
    *l = (struct layout){.head_groups = conf->head_groups,
                         .seq_groups = conf->seq_groups,
                         .heads = c->heads,
                         .kv_heads = c->kv_heads,
                         .head_rank = cp_head_rank(conf, rank),
                         .seq_rank = cp_seq_rank(conf, rank),
                         .group = conf->sparse ? conf->query_group : 1};
    int64_t groups = kern_groups(c->tokens, l->group);
    if (groups < l->seq_groups)
        return err_set(
            e, ERR_INPUT, err_at_name("tokens"),
            "%lld tokens are %lld query groups, want at least one for each of %d sequence groups",
            (long long)c->tokens, (long long)groups, l->seq_groups);
    l->shard = ARENA_ARRAY(a, int64_t, l->seq_groups + 1);
    l->local = ARENA_ARRAY(a, int64_t, l->head_groups + 1);
    for (int i = 0; i <= l->seq_groups; i++) {
        int64_t at = split_at(groups, l->seq_groups, i) * l->group;
        l->shard[i] = at < c->tokens ? at : c->tokens;
    }
    int64_t rows = l->shard[l->seq_rank + 1] - l->shard[l->seq_rank];
    for (int i = 0; i <= l->head_groups; i++)
        l->local[i] = split_at(rows, l->head_groups, i);
    list_pieces(l, c, a);
    return check_tiling(l, e);
}

/* ---- messages ---- */

/* What goes between the tokens of head rank `tokens` and the holder `holder`, in the order of the
 * message; the same on both sides. Returns how many segments; *bytes is the message's size. */
static int list_segments(const struct layout *l, const struct layout_tensors *t, int tokens,
                         int holder, struct layout_segment *out, int64_t *bytes)
{
    const struct layout_holder *h = &l->holder[holder];
    int64_t first = l->local[tokens], last = l->local[tokens + 1], at = 0;
    int n = 0;
    for (int k = 0; k < t->q_count; k++)
        for (int i = 0; i < h->piece_count; i++) {
            int64_t begin = h->pieces[i].begin > first ? h->pieces[i].begin : first;
            int64_t end = h->pieces[i].end < last ? h->pieces[i].end : last;
            if (begin >= end)
                continue;
            out[n++] = (struct layout_segment){false, k, i, h->pieces[i].head, 0, begin, end, at};
            at += (end - begin) * t->width * t->bytes;
        }
    for (int k = 0; k < t->kv_count; k++)
        for (int i = 0; i < h->kv_count && first < last; i++) {
            out[n++] = (struct layout_segment){true, k, i, h->kv_head[i], 0, first, last, at};
            at += (last - first) * t->width * t->bytes;
        }
    *bytes = at;
    return n;
}

/* A segment as a copy between a message and its tensor on the token's or the holder's side. */
static struct kern_copy copy_of(const struct layout *l, const struct layout_tensors *t,
                                const struct layout_segment *s, bool token_side, char *message,
                                bool into_message)
{
    int64_t row = t->width * t->bytes, stride = row;
    char *at;
    if (token_side) {
        int heads = s->kv ? l->kv_heads : l->heads;
        at = s->kv ? t->kv[s->tensor] : t->q[s->tensor];
        stride = heads * row;
        at += (s->begin - l->local[l->head_rank]) * stride + s->head * row;
    } else {
        const struct layout_holder *h = &l->holder[l->head_rank];
        at = s->kv ? t->kv_head[s->tensor][s->item] : t->piece[s->tensor][s->item];
        at += (s->begin - (s->kv ? 0 : h->pieces[s->item].begin)) * row;
    }
    if (into_message)
        return (struct kern_copy){at, message, s->end - s->begin, row, stride, row};
    return (struct kern_copy){message, at, s->end - s->begin, row, row, stride};
}

static int most_segments(const struct layout *l)
{
    int most = 0;
    for (int r = 0; r < l->head_groups; r++)
        most += l->holder[r].piece_count + 2 * l->holder[r].kv_count;
    return most * l->head_groups + 1;
}

struct side { /* one direction of an exchange under construction */
    struct kern_copy *copies;
    int count;
    int64_t *bytes, *offset, total;
};

static void add_message(struct side *side, const struct layout *l, const struct layout_tensors *t,
                        bool tokens_here, int peer, char *buffer, bool into,
                        struct layout_segment *segments)
{
    int64_t size;
    int n = tokens_here ? list_segments(l, t, l->head_rank, peer, segments, &size)
                        : list_segments(l, t, peer, l->head_rank, segments, &size);
    for (int i = 0; i < n; i++) {
        segments[i].from = peer;
        segments[i].offset += side->total;
        bool usable = tokens_here ? (segments[i].kv ? t->kv[segments[i].tensor]
                                                    : t->q[segments[i].tensor]) != NULL
                                  : true;
        if (usable)
            side->copies[side->count + i] =
                copy_of(l, t, &segments[i], tokens_here, buffer + segments[i].offset, into);
    }
    side->count += n;
    side->bytes[peer] = size, side->offset[peer] = side->total;
    side->total += size;
}

void exchange_new(struct exchange *x, const struct layout *l, const struct layout_tensors *t,
                  bool to_heads, void *send, void *receive, struct arena *a)
{
    int most = most_segments(l), n = l->head_groups;
    struct side out = {.copies = ARENA_ARRAY(a, struct kern_copy, most)}, in = {0};
    in.copies = ARENA_ARRAY(a, struct kern_copy, most);
    struct layout_segment *sent = ARENA_ARRAY(a, struct layout_segment, most);
    *x = (struct exchange){.pack = out.copies,
                           .unpack = in.copies,
                           .arrived = ARENA_ARRAY(a, struct layout_segment, most)};
    out.bytes = ARENA_ARRAY(a, int64_t, n), out.offset = ARENA_ARRAY(a, int64_t, n);
    in.bytes = ARENA_ARRAY(a, int64_t, n), in.offset = ARENA_ARRAY(a, int64_t, n);
    for (int peer = 0; peer < n; peer++) {
        add_message(&out, l, t, to_heads, peer, send, true, sent);
        add_message(&in, l, t, !to_heads, peer, receive, false, x->arrived + in.count);
    }
    x->pack_count = out.count, x->unpack_count = in.count;
    x->send = (struct comm_parts){send, out.bytes, out.offset};
    x->receive = (struct comm_parts){receive, in.bytes, in.offset};
    x->send_bytes = out.total, x->receive_bytes = in.total;
    x->off_send = out.total - out.bytes[l->head_rank],
    x->off_receive = in.total - in.bytes[l->head_rank];
}

int64_t layout_room(const struct layout *l, int q_count, int kv_count, int64_t row_bytes)
{
    const struct layout_holder *h = &l->holder[l->head_rank];
    int64_t rows = l->shard[l->seq_rank + 1] - l->shard[l->seq_rank], held = 0, spread = 0;
    for (int i = 0; i < h->piece_count; i++)
        held += q_count * (h->pieces[i].end - h->pieces[i].begin);
    held += (int64_t)kv_count * h->kv_count * rows;
    int64_t local = l->local[l->head_rank + 1] - l->local[l->head_rank];
    for (int r = 0; r < l->head_groups; r++)
        spread += (int64_t)kv_count * l->holder[r].kv_count;
    int64_t tokens = local * ((int64_t)q_count * l->heads + spread);
    return (held > tokens ? held : tokens) * row_bytes;
}
