/* Who holds which rows: the arithmetic behind the all-to-alls of one shard's row of ranks. */
#ifndef VALIDATE_LAYOUT_H
#define VALIDATE_LAYOUT_H

#include "base/arena.h"
#include "kernels/comm.h"
#include "kernels/kern.h"
#include "validate/exec.h"

/* A range of one head's queries, in rows of the shard. */
struct layout_piece {
    int head, kv; /* kv: index into the holder's kv_head */
    int64_t begin, end;
};

struct layout_holder { /* what one head rank holds */
    int piece_count, kv_count;
    struct layout_piece *pieces; /* ordered by KV head, then head, then rows */
    int *kv_head;
};

struct layout {
    int head_groups, seq_groups, heads, kv_heads, head_rank, seq_rank;
    int64_t group;  /* rows that are never cut: the query group, 1 if dense */
    int64_t *shard; /* [seq_groups + 1] first token of each sequence shard */
    int64_t *local; /* [head_groups + 1] first row of each rank's tokens within this shard */
    struct layout_holder *holder; /* [head_groups] for this shard */
};

/* ERR_INPUT when pieces do not tile every head. */
bool layout_new(struct layout *l, const struct exec_case *c, int rank, struct arena *a,
                struct err *e);

/* Tensors that an all-to-all moves between tokens and heads. On the token side a tensor is [local
 * rows][heads][width], on the holder's side each piece is [rows][width] and each KV head [shard
 * rows][width]; all elements have `bytes` bytes. */
struct layout_tensors {
    int q_count, kv_count; /* Q-like (by pieces) and K-like (by KV heads) tensors */
    int64_t width, bytes;
    void *q[1], *kv[2];            /* token side */
    void **piece[1], **kv_head[2]; /* holder's side: one array per piece, per KV head */
};

/* An all-to-all made ready: copies into messages, the counts, copies out of them. */
struct exchange {
    struct kern_copy *pack, *unpack;
    int pack_count, unpack_count;
    struct comm_parts send, receive;
    int64_t send_bytes, receive_bytes; /* own part included */
    int64_t off_send, off_receive;     /* without it */
    struct layout_segment *arrived; /* what `unpack` copies, with its place in the message buffer */
};

struct layout_segment {
    bool kv;
    int tensor, item, head; /* item: piece or KV head of the holder; head: query head or KV head */
    int from;               /* head rank that sent it */
    int64_t begin, end;     /* rows of the shard */
    int64_t offset;         /* bytes in the receive buffer */
};

/* to_heads: tokens -> holders; otherwise back. `send` and `receive` are buffers of the backend with
 * room for what layout_room says. */
void exchange_new(struct exchange *x, const struct layout *l, const struct layout_tensors *t,
                  bool to_heads, void *send, void *receive, struct arena *a);

/* Bytes that one side's message buffer needs for such an exchange. */
int64_t layout_room(const struct layout *l, int q_count, int kv_count, int64_t row_bytes);

#endif
