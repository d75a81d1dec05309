/* The state of one rank of a block that is carried out; shared by exec.c (passes), column.c (how KV
 * moves between sequence ranks). */
#ifndef VALIDATE_EXEC_CORE_H
#define VALIDATE_EXEC_CORE_H

#include "validate/exec.h"
#include "validate/layout.h"

enum { EXEC_ROWS_MOST = 64, EXEC_BUFFERS_MOST = 4096 };

/* Which rows of K and V go where in a column, per (KV head of the holder, sequence rank). */
struct column {
    int64_t *want;    /* [kv][seq] rows that this rank needs of the shard of seq; its own: all */
    int64_t *give;    /* [kv][seq] rows of this rank's shard that seq needs */
    int32_t **list;   /* [kv][seq] the rows that are given, relative to this shard */
    uint32_t *all;    /* [kv][2][words] union of the selections, own shard; NULL if all rows move */
    uint32_t *reach;  /* [kv][words] both: the rows that attention has at hand */
    int64_t *touched; /* [kv] rows of the union */
    uint32_t **mask;  /* [seq] bits of each shard's keys */
    int32_t *list_room; /* one list, for counting */
    int32_t *count_room;
    uint32_t *request_out, *request_in;    /* bitmaps of wanted rows */
    struct comm_parts out, in;             /* counts and offsets of the messages at hand */
    struct comm_message *sends, *receives; /* a message for K and for V of each (KV head, peer) */
    int send_count, receive_count;
    void *send, *receive;
    float *scratch;
};

/* Arrays of the backend and their place in host memory, one after the other from `host` on. */
struct exec_kept {
    char *host;
    int64_t room;
    int count, most;
    struct exec_array {
        void *data;
        int64_t bytes;
    } * array;
};

struct exec {
    struct exec_case c;
    const struct kern_backend *b;
    struct comm *world, *row, *column;
    struct arena *a, *scratch; /* scratch: for one exec_once */
    void *buffers[EXEC_BUFFERS_MOST];
    int buffer_count;
    struct layout l;
    const struct layout_holder *mine;
    enum cp_move move;
    int64_t shard, local,
        words; /* rows of this shard, of this rank's tokens; words of a bitmap over all keys */

    /* token side: [local][heads][width] */
    uint16_t *q, *k, *v, *d_o, *q_lr, *k_lr, *o;
    uint16_t *grad[3]; /* dQ, dK, dV: [local][heads][dim] */
    /* linear layers and predictor: [local][width], weights [width][width], [local][width]; NULL:
     * none */
    uint16_t *hidden, *weights, *projected;

    /* holder's side, by piece */
    void **piece_q, **piece_do, **piece_o, **piece_q_lr, **piece_dq16;
    uint16_t **proxy; /* [groups][rank]: Q_lr of each group's middle query */
    uint32_t **bits;  /* [groups][words]; pieces of a KV head follow each other */
    int32_t **list, **count;
    float **o32, **lse, **dq, **o32_part, **lse_part;
    uint16_t **k_lr_all; /* by KV head: [tokens][rank] */
    /* by KV head: the own shard, which lies in `seen` where the keys of all shards come together */
    void **kv_k, **kv_v, **kv_k_lr, **kv_dk16, **kv_dv16;
    float **dk, **dv;
    /* by KV head: what attention sees (own shard, what it has at hand, or all keys) and its
     * gradients */
    uint16_t **seen_k, **seen_v;
    float **seen_dk, **seen_dv;
    int64_t *seen_rows;

    /* What waits in the host's memory for the backward (offload): what attention reads of its
     * selections, lists where rows are fetched, else bitmaps; KV that was gathered. */
    struct exec_kept kept_indices, kept_kv;

    struct exchange to_lr, to_qkv, back_o, to_do, back_grads;
    /* Of back_grads: what arrives for a KV head that several ranks hold is added to what arrived
     * first for it, first_of[i] for segment i (itself: i); then the first ones are copied. */
    int *first_of;
    struct kern_copy *home;
    int home_count;
    float *arrived32; /* segments with others of their KV head, widened */
    struct column col;
    struct kern_head *heads;

    struct exec_row rows[EXEC_ROWS_MOST];
    int row_count;
    double begun, waited;
    double clock; /* cpu_clock: the rank's time since exec_once began */
};

/* Memory of the backend that lives as long as x; NULL with *e set on failure. */
void *exec_take(struct exec *x, int64_t bytes, struct err *e);

/* A phase begins, ends and is recorded. exec_meet waits for the members of a collective first. */
void exec_begin(struct exec *x, const char *name);
bool exec_meet(struct exec *x, const char *name, struct comm *c, struct err *e);
bool exec_end(struct exec *x, enum cp_pass pass, enum cost_class cost, double sent, double received,
              double work, struct err *e);

/* Room in host memory for so many arrays and bytes in all. */
bool exec_keep_room(struct exec *x, struct exec_kept *k, int most, int64_t bytes, struct err *e);
void exec_keep_add(struct exec_kept *k, void *data, int64_t bytes);
/* The arrays to the host, or back from there, as a phase. */
bool exec_to_host(struct exec *x, const char *name, enum cp_pass pass, const struct exec_kept *k,
                  struct err *e);
bool exec_from_host(struct exec *x, const char *name, enum cp_pass pass, const struct exec_kept *k,
                    struct err *e);

/* fp32 gradients -> what travels and what linear layers take. */
bool exec_round_q(struct exec *x, struct err *e);
bool exec_round_kv(struct exec *x, struct err *e);

/* ---- column.c ---- */

bool column_new(struct exec *x, struct err *e);
bool column_index(struct exec *x,
                  struct err *e); /* selections -> requests -> lists; sparse MOVE_ROWS only */
bool column_gather(struct exec *x, enum cp_pass pass, struct err *e);
bool column_return(struct exec *x, struct err *e);
bool ring_forward(struct exec *x, enum cp_pass pass, struct err *e);
bool ring_backward(struct exec *x, struct err *e);

/* Attention of all pieces on `seen_*`, with lists of that many rows. exec.c */
double exec_pairs(const struct exec *x);
double exec_entries(const struct exec *x); /* of its lists: kept keys over query groups and heads */
struct kern_attention exec_attention(struct exec *x);

#endif
