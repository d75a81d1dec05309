/* Who knows of whose writes: vector clocks of the threads of a block, and of each 4 bytes of shared
 * memory who wrote it last and who read it (two of the readers are remembered).
 *
 * A thread's clock moves on when it tells others what it did: at a barrier, at an arrival, at
 * bar.warp.sync. Thread t may read what thread u wrote at clock c if t has heard of u's clock c or
 * later; and so for writing what others read or wrote. The asynchronous proxy may read it if in
 * between someone who had heard of it executed fence.proxy.async. */
#include "tests/ptx/machine.h"

#include <stdlib.h>

/* Threads, and each warp's tensor core, which reads shared memory by itself until the warp has
 * waited for it. */
static int agents(const struct block *b)
{
    return b->threads + b->warps;
}

static struct knowledge *knowledge_new(struct block *b)
{
    size_t n = (size_t)agents(b);
    struct knowledge *k = b->spare;
    if (k) {
        b->spare = k->free;
    } else {
        k = malloc(sizeof *k);
        uint32_t *clocks = malloc(2 * n * sizeof *clocks);
        if (!k || !clocks)
            abort();
        k->seen = clocks;
        k->fenced = clocks + n;
    }
    k->refs = 1;
    return k;
}

static struct knowledge *knowledge_zero(struct block *b)
{
    struct knowledge *k = knowledge_new(b);
    memset(k->seen, 0, 2 * (size_t)agents(b) * sizeof *k->seen);
    return k;
}

static struct knowledge *hold(struct knowledge *k)
{
    k->refs++;
    return k;
}

void order_drop(struct block *b, struct knowledge **k)
{
    if (*k && --(*k)->refs == 0) {
        (*k)->free = b->spare;
        b->spare = *k;
    }
    *k = NULL;
}

FOR_VECTORS static void join(struct knowledge *to, const struct knowledge *from, int n)
{
    uint32_t *a = to->seen;
    const uint32_t *b = from->seen;
    for (int i = 0; i < 2 * n; i++) /* seen and fenced lie in a row */
        a[i] = a[i] > b[i] ? a[i] : b[i];
}

static void raise(uint32_t *to, uint32_t clock)
{
    if (*to < clock)
        *to = clock;
}

bool order_open(struct block *b)
{
    if (b->launch->allow_races)
        return true;
    size_t n = (size_t)agents(b);
    b->knows = malloc(n * sizeof(struct knowledge *));
    b->clock = malloc(2 * n * sizeof *b->clock);
    b->cell = calloc(b->shared_end / 4 + 1, sizeof *b->cell);
    if (!b->knows || !b->clock || !b->cell)
        return false;
    b->own_fence = b->clock + n;
    struct knowledge *nothing = knowledge_zero(b);
    for (size_t t = 0; t < n; t++) {
        b->knows[t] = t < (size_t)b->threads ? hold(nothing) : NULL;
        b->clock[t] = 1;
        b->own_fence[t] = 0;
    }
    order_drop(b, &nothing);
    return true;
}

void order_close(struct block *b)
{
    for (int t = 0; b->knows && t < b->threads; t++)
        order_drop(b, &b->knows[t]);
    while (b->spare) {
        struct knowledge *k = b->spare;
        b->spare = k->free;
        free(k->seen);
        free(k);
    }
    free(b->knows);
    free(b->clock);
    free(b->cell);
    b->knows = NULL;
    b->clock = NULL;
    b->cell = NULL;
}

/* ---- telling and hearing ---- */

uint32_t order_tick(struct block *b, int thread)
{
    return b->knows ? b->clock[thread]++ : 0;
}

void order_release_one(struct block *b, int thread, uint32_t clock, struct knowledge **into)
{
    if (!b->knows)
        return;
    if (!*into)
        *into = knowledge_zero(b);
    raise(&(*into)->seen[thread], clock);
}

void order_release(struct warp *w, uint32_t lanes, struct knowledge **into)
{
    struct block *b = w->b;
    if (!b->knows)
        return;
    if (!*into)
        *into = knowledge_zero(b);
    const struct knowledge *last = NULL;
    EACH_LANE(l, lanes)
    {
        int t = thread_of(w, (int)l);
        if (b->knows[t] != last)
            join(*into, b->knows[t], agents(b));
        last = b->knows[t];
        raise(&(*into)->seen[t], b->clock[t]++);
        raise(&(*into)->fenced[t], b->own_fence[t]);
    }
}

void order_become(struct warp *w, uint32_t lanes, struct knowledge *k)
{
    struct block *b = w->b;
    if (!b->knows)
        return;
    EACH_LANE(l, lanes)
    {
        int t = thread_of(w, (int)l);
        order_drop(b, &b->knows[t]);
        b->knows[t] = hold(k);
    }
}

/* What lanes may learn: what others know, that all they have seen is fenced, or that their tensor
 * core is done. */
struct news {
    const struct knowledge *from;
    bool fence;
    uint32_t tensor; /* its clock, 0: nothing of it */
};

static struct knowledge *learned(struct warp *w, const struct knowledge *old, struct news news)
{
    struct block *b = w->b;
    int n = agents(b), core = b->threads + w->index;
    struct knowledge *new = knowledge_new(b);
    memcpy(new->seen, old->seen, 2 * (size_t)n * sizeof *new->seen);
    if (news.from)
        join(new, news.from, n);
    for (int i = 0; news.fence && i < n; i++)
        raise(&new->fenced[i], new->seen[i]);
    raise(&new->seen[core], news.tensor);
    return new;
}

/* Those that knew the same, know the same afterwards. */
static void learn(struct warp *w, uint32_t lanes, struct news news)
{
    struct block *b = w->b;
    struct knowledge *old = NULL, *new = NULL;
    EACH_LANE(l, lanes)
    {
        int t = thread_of(w, (int)l);
        if (b->knows[t] != old) {
            order_drop(b, &old);
            order_drop(b, &new);
            old = hold(b->knows[t]);
            new = learned(w, old, news);
        }
        order_drop(b, &b->knows[t]);
        b->knows[t] = hold(new);
    }
    order_drop(b, &old);
    order_drop(b, &new);
}

void order_tensor_commit(struct warp *w)
{
    if (w->b->knows)
        w->b->clock[w->b->threads + w->index]++;
}

void order_tensor_done(struct warp *w, uint32_t lanes, uint32_t groups)
{
    struct block *b = w->b;
    uint32_t clock = b->knows ? b->clock[b->threads + w->index] : 0;
    if (clock > groups + 1)
        learn(w, lanes, (struct news){.tensor = clock - 1 - groups});
}

void order_acquire(struct warp *w, uint32_t lanes, struct knowledge *from)
{
    if (w->b->knows && from)
        learn(w, lanes, (struct news){.from = from});
}

void order_fence(struct warp *w, uint32_t lanes)
{
    struct block *b = w->b;
    if (!b->knows)
        return;
    learn(w, lanes, (struct news){.fence = true});
    EACH_LANE(l, lanes)
    {
        int t = thread_of(w, (int)l);
        b->own_fence[t] = b->clock[t]++;
    }
}

void order_lanes(struct warp *w, uint32_t lanes)
{
    struct knowledge *all = NULL;
    order_release(w, lanes, &all);
    order_become(w, lanes, all);
    order_drop(w->b, &all);
}

/* ---- shared memory ---- */

bool shared_ok(struct warp *w, int lane, uint32_t at, uint32_t bytes, uint32_t align)
{
    if (at % align)
        return fault(w, lane, "shared address %u is no multiple of %u", at, align);
    if (at < SHARED_START || at > w->b->shared_end || bytes > w->b->shared_end - at)
        return fault(w, lane, "%u bytes at shared address %u, outside of [%d, %u)", bytes, at,
                     SHARED_START, w->b->shared_end);
    return true;
}

static inline bool heard(const struct block *b, int thread, uint32_t of, uint32_t clock)
{
    return (int)of == thread || b->knows[thread]->seen[of] >= clock;
}

static inline bool knows_write(const struct block *b, int thread, const struct cell *c)
{
    if ((int)c->writer == thread && !(c->flags & CELL_COPIED))
        return true;
    return b->knows[thread]->seen[c->writer] >= c->write_clock;
}

static bool race(struct warp *w, int lane, uint32_t at, const char *does, const char *did,
                 uint32_t other)
{
    int core = (int)other - w->b->threads;
    if (core >= 0)
        return fault(w, lane,
                     "%s shared address %u, which a wgmma of warp %d reads that nobody here knows "
                     "to be done",
                     does, at, core);
    return fault(w, lane, "%s shared address %u, which thread %u %s, and nothing orders the two",
                 does, at, other, did);
}

static bool special_cell(struct warp *w, int lane, uint32_t at, const struct cell *c)
{
    if (c->flags & CELL_PENDING)
        return fault(w, lane, "uses shared address %u, to which a copy of thread %u is under way",
                     at, c->writer);
    return fault(w, lane, "uses shared address %u, which is an mbarrier, as ordinary memory", at);
}

static inline bool over(const struct block *b, int thread, int agent, const struct cell *c, int r)
{
    return c->reader[r] == agent || heard(b, thread, c->reader[r], c->read_clock[r]);
}

/* agent: who reads, the thread or its tensor core. */
static void note_read(struct block *b, int thread, int agent, struct cell *c)
{
    int slot = 0;
    if (!over(b, thread, agent, c, 0))
        slot = over(b, thread, agent, c, 1) || (block_random(b) & 1);
    c->reader[slot] = (uint16_t)agent;
    c->read_clock[slot] = b->clock[agent];
}

static inline bool read_cell(struct warp *w, int lane, int agent, uint32_t at, struct cell *c,
                             uint8_t mask)
{
    if (c->flags & (CELL_PENDING | CELL_BARRIER))
        return special_cell(w, lane, at, c);
    int thread = thread_of(w, lane);
    if (!knows_write(w->b, thread, c) && (c->bytes & mask))
        return race(w, lane, at, "reads", "wrote", c->writer);
    note_read(w->b, thread, agent, c);
    return true;
}

static inline bool write_cell(struct warp *w, int lane, int thread, uint32_t at, struct cell *c,
                              uint8_t mask, bool atomic)
{
    struct block *b = w->b;
    if (c->flags & (CELL_PENDING | CELL_BARRIER))
        return special_cell(w, lane, at, c);
    bool both = atomic && (c->flags & CELL_ATOMIC);
    if (!both && (c->bytes & mask) && !knows_write(b, thread, c))
        return race(w, lane, at, "writes", "wrote", c->writer);
    for (int r = 0; r < 2 && mask == 15; r++)
        if (!heard(b, thread, c->reader[r], c->read_clock[r]))
            return race(w, lane, at, "writes", "read", c->reader[r]);
    c->writer = (uint16_t)thread;
    c->write_clock = b->clock[thread];
    c->written = b->steps;
    c->bytes = mask;
    c->flags = atomic ? CELL_ATOMIC : 0;
    return true;
}

bool order_access(struct warp *w, int lane, uint32_t at, uint32_t bytes, uint32_t align,
                  enum access a)
{
    struct block *b = w->b;
    if (!shared_ok(w, lane, at, bytes, align))
        return false;
    if (!b->cell)
        return true;
    int thread = thread_of(w, lane);
    uint8_t mask = bytes < 4 ? (uint8_t)(((1u << bytes) - 1) << (at & 3)) : 15;
    for (uint32_t x = at / 4; x <= (at + bytes - 1) / 4; x++) {
        bool ok = a == ACCESS_READ
                      ? read_cell(w, lane, thread, 4 * x, &b->cell[x], mask)
                      : write_cell(w, lane, thread, 4 * x, &b->cell[x], mask, a == ACCESS_ATOMIC);
        if (!ok)
            return false;
    }
    return true;
}

bool order_async_read(struct warp *w, int lane, uint32_t at, uint32_t bytes, bool tensor)
{
    struct block *b = w->b;
    if (!b->cell)
        return true;
    int t = thread_of(w, lane), agent = tensor ? b->threads + w->index : t;
    for (uint32_t x = at / 4; x < (at + bytes) / 4; x++) {
        struct cell *c = &b->cell[x];
        if (!read_cell(w, lane, agent, 4 * x, c, 15))
            return false;
        bool own = (int)c->writer == t && !(c->flags & CELL_COPIED);
        if (c->flags & CELL_ASYNC || c->write_clock == 0 ||
            b->knows[t]->fenced[c->writer] >= c->write_clock ||
            (own && b->own_fence[t] >= c->write_clock))
            continue;
        return fault(w, lane,
                     "the asynchronous proxy reads shared address %u, which thread %u wrote, "
                     "without a fence.proxy.async between",
                     4 * x, c->writer);
    }
    return true;
}

bool order_copy_start(struct warp *w, int lane, uint32_t at, uint32_t bytes)
{
    struct block *b = w->b;
    if (!order_access(w, lane, at, bytes, 4, ACCESS_WRITE))
        return false;
    for (uint32_t x = at / 4; b->cell && x < (at + bytes) / 4; x++)
        b->cell[x].flags = CELL_PENDING;
    return true;
}

void order_copy_end(struct block *b, int thread, uint32_t at, uint32_t bytes, uint32_t clock)
{
    for (uint32_t x = at / 4; b->cell && x < (at + bytes) / 4; x++) {
        struct cell *c = &b->cell[x];
        c->writer = (uint16_t)thread;
        c->write_clock = clock ? clock : b->clock[thread];
        c->written = b->steps;
        c->flags = clock ? CELL_COPIED : 0;
    }
}

void order_async_written(struct block *b, uint32_t at, uint32_t bytes)
{
    for (uint32_t x = at / 4; b->cell && x < (at + bytes) / 4; x++)
        b->cell[x].flags |= CELL_ASYNC;
}

bool order_unwritten(const struct block *b, uint32_t at, uint32_t bytes, uint32_t since)
{
    for (uint32_t x = at / 4; b->cell && x < (at + bytes) / 4; x++)
        if (b->cell[x].flags & CELL_PENDING || (int32_t)(b->cell[x].written - since) > 0)
            return false;
    return true;
}

void order_barrier_word(struct block *b, uint32_t at, bool live)
{
    for (uint32_t x = at / 4; b->cell && x < at / 4 + 2; x++)
        b->cell[x].flags = live ? CELL_BARRIER : 0;
}

bool order_barrier_use(struct warp *w, int lane, uint32_t at)
{
    struct block *b = w->b;
    if (!shared_ok(w, lane, at, 8, 8))
        return false;
    if (!b->cell)
        return true;
    struct cell *c = &b->cell[at / 4];
    if (!(c->flags & CELL_BARRIER))
        return fault(w, lane, "no mbarrier was made at shared address %u", at);
    return knows_write(b, thread_of(w, lane), c) ||
           race(w, lane, at, "uses the mbarrier at", "made", c->writer);
}
