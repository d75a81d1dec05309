/* The machine's inside: decoded instructions, warps, blocks. Inside tests/ptx only. */
#ifndef TESTS_PTX_MACHINE_H
#define TESTS_PTX_MACHINE_H

#include "tests/ptx/code.h"

#include <string.h>

typedef uint16_t __attribute__((may_alias)) u16;
typedef uint32_t __attribute__((may_alias)) u32;
typedef int32_t __attribute__((may_alias)) s32;
typedef uint64_t __attribute__((may_alias)) u64;
typedef int64_t __attribute__((may_alias)) s64;
typedef float __attribute__((may_alias)) f32;
typedef double __attribute__((may_alias)) f64;

enum { LANES = 32, MOST_WARPS = 32, GROUP_WARPS = 4, BARRIERS = 16 };
#define ALL_LANES 0xffffffffu

/* Loops over 32 lanes are compiled for wide vectors too; not under sanitizers, which do not go with
 * functions that are chosen at load time. */
#if defined(__x86_64__) && !defined(__SANITIZE_ADDRESS__) && defined(__GNUC__) &&                  \
    !defined(__clang__)
#define FOR_VECTORS __attribute__((target_clones("arch=x86-64-v3", "default")))
#else
#define FOR_VECTORS
#endif

struct warp;
struct ins;

/* Executes `i` for `lanes` (at least one). False: an error is set. */
typedef bool ins_run(struct warp *w, const struct ins *i, uint32_t lanes);

enum ins_flag {
    INS_BRANCH = 1,   /* target */
    INS_EXIT = 2,     /* ret, exit */
    INS_LANES = 4,    /* .aligned: all lanes that have not left */
    INS_MEMBERS = 8,  /* .sync: src[0] says which lanes */
    INS_BLOCKS = 16,  /* may park the lanes: w->parked */
    INS_WATCHED = 32, /* touches a register that a wgmma uses, and is none */
    INS_WGMMA = 64,
    INS_COPY = 128 /* mov between registers: the compiler's renaming */
};

struct ins {
    ins_run *run;
    int guard; /* predicate, or -1 */
    uint32_t guard_not;
    uint8_t cls;
    uint8_t size;  /* bytes of an element of memory */
    uint8_t space; /* enum space */
    uint8_t how;   /* of the handler: signed, operator, multiplicity */
    uint16_t flags;
    uint16_t dsts, srcs;
    int target;                         /* statement */
    const int *dst;                     /* rows or predicates */
    const int *src;                     /* rows (negative: constants), or predicates */
    const uint8_t *dst_bits, *src_bits; /* 1 (predicate), 16, 32, 64 */
    uint64_t value;                     /* offset of an address, or what the handler wants */
    const struct statement *from;
};

enum space { SPACE_GENERIC, SPACE_GLOBAL, SPACE_SHARED, SPACE_LOCAL, SPACE_PARAM };

/* Generic addresses of what is not global memory: a window each, where no host address is. */
#define WINDOW(space) ((uint64_t)(space) << 60)

struct special { /* %tid.x and the like, a row of its own */
    int row, which;
    bool wide;
};

struct ptx_code {
    const char *file;
    struct ins *ins;
    int count;
    int rows, preds;
    const uint32_t *constant; /* [rows][LANES] */
    const struct special *special;
    int specials;
    size_t param_bytes, dynamic_align;
    const bool *watched; /* [rows] used by some wgmma; NULL: there is none */
};

/* ---- what threads know of each other: order.c ---- */

/* A thread has a clock, which moves on when it tells others. What it knows of them is shared by
 * threads that know the same. */
struct knowledge {
    int refs;
    struct knowledge *free; /* next in the list of those that nobody holds */
    uint32_t *seen;         /* [threads] writes up to this clock come before us */
    uint32_t *fenced;       /* ... and are visible to the asynchronous proxy */
};

struct cell {             /* 4 bytes of shared memory */
    uint32_t write_clock; /* 0: never written */
    uint32_t written;     /* block.steps then */
    uint32_t read_clock[2];
    uint16_t writer, reader[2];
    uint8_t bytes; /* of the four, written last */
    uint8_t flags;
};

enum cell_flag {
    CELL_PENDING = 1, /* a copy that has not been waited for will write here */
    CELL_COPIED = 2,  /* written by a copy: even its own thread must have waited */
    CELL_ATOMIC = 4,
    CELL_BARRIER = 8, /* an mbarrier */
    CELL_ASYNC = 16   /* written by the asynchronous proxy */
};

/* ---- asynchronous work: async.c ---- */

struct copy { /* one cp.async of one thread */
    const void *global;
    uint32_t shared;
    uint8_t size, read;            /* bytes written, and read: zeros beyond */
    uint32_t group, serial, clock; /* clock: its thread's when it was asked for */
};

struct copies { /* of a thread, oldest first */
    struct copy *copy;
    int count, room;
    uint32_t open, serial; /* number of the group that is not committed; of the next copy */
};

struct bulk { /* cp.reduce.async.bulk or cp.async.bulk of one thread */
    void *global;
    uint32_t shared, bytes, group, since;
    bool is_read; /* the shared side is done with */
    bool reduce;
    unsigned char *data;
    const struct ins *from;
};

struct bulks {
    struct bulk *bulk;
    int count, room;
    uint32_t open;
};

struct mbarrier {
    uint32_t address, expected, pending, phase;
    int64_t bytes;                   /* tx-count */
    struct knowledge *gather, *done; /* of this phase's arrivals, of the last phase's */
};

struct arrival { /* an mbarrier's arrival that waits for copies, or a bulk load to shared memory */
    uint32_t on;
    int thread;
    uint32_t upto, clock; /* copies with lower serials; the thread's clock then */
    const void *global;   /* of a load, else NULL */
    uint32_t shared, bytes;
    const struct ins *from;
};

struct barrier {       /* bar.sync */
    uint32_t expected; /* threads; 0: all that have not left */
    uint32_t arrived;  /* warps, a bit each */
    struct knowledge *gather;
};

/* ---- warps and blocks: run.c ---- */

enum wait { WAIT_NO, WAIT_LANES, WAIT_BARRIER, WAIT_MBARRIER, WAIT_REGISTERS, WAITS };

struct group { /* lanes with one program counter */
    int pc;
    uint32_t lanes;
    enum wait wait;
    uint32_t on, parity; /* barrier number, or mbarrier address */
};

struct pending_wgmma;

struct warp {
    uint32_t *regs; /* [rows][LANES] */
    const uint32_t *constant;
    uint32_t *preds;
    unsigned char *local; /* [LANES][local_bytes] */
    struct block *b;
    int index;     /* in the block */
    uint32_t live; /* lanes that have not left */
    struct group group[LANES];
    int groups;
    struct group *now; /* the one being run */
    enum wait park;    /* set by a handler of INS_BLOCKS */
    const struct ins *last;
    int bad_lane;
    uint64_t executed;
    uint16_t *watch; /* [rows] what wgmma does with them: tensor.c */
    struct pending_wgmma *wgmma;
    int wgmmas, wgmma_room;
    uint32_t wgmma_group; /* the open one */
    uint32_t wgmma_order; /* number of the next */
    int registers;        /* of a thread */
};

enum { WGMMA_LOG = 256 };

struct block {
    const struct ptx_kernel *kernel;
    const struct ptx_code *code;
    const struct ptx_launch *launch;
    unsigned at[3];
    unsigned char *shared; /* [shared_end], the window's */
    uint32_t shared_end;
    struct cell *cell; /* [shared_end / 4], NULL: not watched */
    unsigned char *param;
    struct warp *warp;
    int warps, threads;
    uint32_t random;
    uint32_t steps; /* instructions so far, of all warps */
    struct barrier barrier[BARRIERS];
    struct knowledge **knows; /* [threads] */
    struct knowledge *spare;
    uint32_t *clock, *own_fence; /* [threads and warps] */
    struct copies *copies;       /* [threads] */
    struct bulks *bulks;
    struct mbarrier *mbarrier;
    int mbarriers;
    struct arrival *arrival;
    int arrivals, arrival_room;
    struct ptx_counts *counts; /* NULL: not wanted */
    struct ptx_range recent;   /* the last allocation that an access was in */
    struct {
        const struct ins *ins[WGMMA_LOG]; /* number n at n % WGMMA_LOG */
        uint32_t logged;
    } wgmma_log[MOST_WARPS / GROUP_WARPS];
    int registers_left; /* for setmaxnreg.inc */
    struct err *e;
};

enum { MOST_MBARRIERS = 256 };

static inline uint32_t *row_of(const struct warp *w, int row)
{
    return row >= 0 ? w->regs + (size_t)row * LANES
                    : (uint32_t *)(uintptr_t)(w->constant + (size_t)~row * LANES);
}

static inline uint32_t block_random(struct block *b)
{
    uint32_t x = b->random;
    x ^= x << 13;
    x ^= x >> 17;
    x ^= x << 5;
    return b->random = x;
}

static inline int thread_of(const struct warp *w, int lane)
{
    return w->index * LANES + lane;
}

#define EACH_LANE(l, lanes)                                                                        \
    for (uint32_t left_ = (lanes), l = 0; left_ && (l = (uint32_t)__builtin_ctz(left_), true);     \
         left_ &= left_ - 1)

/* An error of the instruction being executed; lane -1: of all. Returns false. */
bool fault(struct warp *w, int lane, const char *format, ...) __attribute__((format(printf, 3, 4)));

/* ---- decode.c ---- */

/* What a family of instructions needs to know. */
struct decoder {
    struct ptx_module *m;
    struct parsed_kernel *k;
    struct ptx_code *code;
    const struct statement *s;
    const char *part[24]; /* "ld", "global", "v4", ... */
    int parts;
    struct ins *i;
    uint32_t *constant; /* [constants][LANES] */
    int constants, constant_room;
    int *constant_map; /* hash of (value, width) */
    struct special special[32];
    int specials;
    struct err *e;
};

bool decode_kernel(struct ptx_module *m, struct parsed_kernel *k, struct err *e);
bool decode_wrong(struct decoder *d, const char *what);

/* Adds an operand of `bits` to the instruction; false: it is not one. */
bool decode_dst(struct decoder *d, const struct operand *o, int bits);
bool decode_src(struct decoder *d, const struct operand *o, int bits);
/* [register + offset]: a source of 32 or 64 bits, and i->value. */
bool decode_address(struct decoder *d, const struct operand *o);
bool decode_has(const struct decoder *d, const char *part);
bool decode_operands(struct decoder *d, int n);

/* The families; false with an error, or *known = false. */
bool decode_alu(struct decoder *d, bool *known);
bool decode_memory(struct decoder *d, bool *known);
bool decode_sync(struct decoder *d, bool *known);
bool decode_async(struct decoder *d, bool *known);
bool decode_tensor(struct decoder *d, bool *known);

/* ---- order.c ---- */

bool order_open(struct block *b);
void order_close(struct block *b);
/* What the lanes know and wrote so far becomes part of *into (NULL: nothing yet). */
void order_release(struct warp *w, uint32_t lanes, struct knowledge **into);
/* One thread's writes up to `clock` alone. */
void order_release_one(struct block *b, int thread, uint32_t clock, struct knowledge **into);
uint32_t order_tick(struct block *b, int thread); /* the thread's clock, which then moves on */
void order_acquire(struct warp *w, uint32_t lanes, struct knowledge *from); /* accepts NULL */
/* At a barrier, where `k` includes all that the lanes know. */
void order_become(struct warp *w, uint32_t lanes, struct knowledge *k);
void order_drop(struct block *b, struct knowledge **k); /* accepts NULL in *k */
void order_lanes(struct warp *w, uint32_t lanes);       /* bar.warp.sync */
void order_fence(struct warp *w, uint32_t lanes);       /* fence.proxy.async */

enum access { ACCESS_READ, ACCESS_WRITE, ACCESS_ATOMIC };
/* Shared memory [at, at + bytes): bounds, alignment to `align`, order. */
bool order_access(struct warp *w, int lane, uint32_t at, uint32_t bytes, uint32_t align,
                  enum access a);
/* The same for a read by the asynchronous proxy, which needs a fence besides; by a tensor core: the
 * read goes on until order_tensor_done. */
bool order_async_read(struct warp *w, int lane, uint32_t at, uint32_t bytes, bool tensor);
void order_tensor_commit(struct warp *w);
/* The lanes have waited for all but the last `groups` committed. */
void order_tensor_done(struct warp *w, uint32_t lanes, uint32_t groups);
bool order_copy_start(struct warp *w, int lane, uint32_t at, uint32_t bytes);
/* own: the thread itself has waited. */
/* clock: the thread's when it asked for what tells others; 0: it has waited itself. */
void order_copy_end(struct block *b, int thread, uint32_t at, uint32_t bytes, uint32_t clock);
void order_async_written(struct block *b, uint32_t at, uint32_t bytes); /* by that proxy */
/* Whether nobody wrote there since the block's step `since`. */
bool order_unwritten(const struct block *b, uint32_t at, uint32_t bytes, uint32_t since);
void order_barrier_word(struct block *b, uint32_t at, bool live);
/* Whether the thread knows of the mbarrier's making. */
bool order_barrier_use(struct warp *w, int lane, uint32_t at);
bool shared_ok(struct warp *w, int lane, uint32_t at, uint32_t bytes, uint32_t align);

/* ---- memory.c ---- */

/* The host's address of bytes of global memory; NULL with an error. */
void *global_at(struct warp *w, int lane, uint64_t at, uint32_t bytes, uint32_t align);
void global_add(void *at, float x); /* atomic */
void count_shared(struct warp *w, const uint32_t *at, uint32_t lanes, uint32_t bytes);
void count_global(uint64_t *sectors, const uint64_t *at, uint32_t lanes, uint32_t bytes);

/* ---- sync.c ---- */

/* A warp has left: barriers for all threads may be complete. */
void barriers_recheck(struct block *b);

/* ---- async.c ---- */

bool async_step(struct block *b); /* completes one arrival; false: none is left */
bool mbarrier_done(struct block *b, uint32_t address, uint32_t parity);
bool async_end(struct warp *w, uint32_t lanes); /* a thread leaves */
bool async_make(struct block *b);
void async_close(struct block *b); /* at the end of a block */
void async_free(struct block *b);

/* ---- tensor.c ---- */

/* After decoding: which registers wgmma uses, and which instructions touch them. */
void wgmma_find(struct ptx_module *m, struct ptx_code *c);
bool wgmma_watch(struct warp *w, const struct ins *i);
void wgmma_start(struct warp *w);
bool wgmma_end(struct warp *w);
void wgmma_free(struct warp *w);

#endif
