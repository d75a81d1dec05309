/* Copies that run by themselves (cp.async, bulk copies) and the mbarriers that tell of them. They
 * happen as late as may be: at the wait that covers them; or, where an mbarrier does, at a time
 * drawn from the seed. */
#include "tests/ptx/machine.h"

#include <stdlib.h>

bool async_make(struct block *b)
{
    size_t n = (size_t)b->threads;
    b->copies = calloc(n, sizeof *b->copies);
    b->bulks = calloc(n, sizeof *b->bulks);
    b->mbarrier = calloc(MOST_MBARRIERS, sizeof *b->mbarrier);
    return b->copies && b->bulks && b->mbarrier;
}

static void bulk_forget(struct bulks *u, int from)
{
    for (int i = from; i < u->count; i++)
        free(u->bulk[i].data);
    u->count = from;
}

void async_close(struct block *b)
{
    for (int i = 0; i < b->mbarriers; i++) {
        order_drop(b, &b->mbarrier[i].gather);
        order_drop(b, &b->mbarrier[i].done);
    }
    b->mbarriers = b->arrivals = 0;
    for (int t = 0; t < b->threads; t++) {
        b->copies[t].count = 0;
        b->copies[t].open = b->copies[t].serial = 0;
        bulk_forget(&b->bulks[t], 0);
        b->bulks[t].open = 0;
    }
}

void async_free(struct block *b)
{
    for (int t = 0; t < b->threads; t++) {
        if (b->copies)
            free(b->copies[t].copy);
        if (b->bulks) {
            bulk_forget(&b->bulks[t], 0);
            free(b->bulks[t].bulk);
        }
    }
    free(b->copies);
    free(b->bulks);
    free(b->mbarrier);
    free(b->arrival);
}

static void *grown(void *list, int count, int *room, size_t size)
{
    if (count < *room)
        return list;
    *room = 2 * *room + 16;
    list = realloc(list, (size_t)*room * size);
    if (!list)
        abort();
    return list;
}

static uint32_t lane_address(const struct warp *w, int row, uint32_t lane, uint64_t offset)
{
    return (uint32_t)(row_of(w, row)[lane] + offset);
}

/* ---- cp.async ---- */

/* The first n are done. own: their thread has waited; else an arrival tells of them. */
static void copies_finish(struct block *b, int thread, int n, bool own)
{
    struct copies *u = &b->copies[thread];
    if (n == 0)
        return;
    for (int i = 0; i < n; i++) {
        const struct copy *c = &u->copy[i];
        memcpy(b->shared + c->shared, c->global, c->read);
        memset(b->shared + c->shared + c->read, 0, (size_t)(c->size - c->read));
        order_copy_end(b, thread, c->shared, c->size, own ? 0 : c->clock);
    }
    u->count -= n;
    memmove(u->copy, u->copy + n, (size_t)u->count * sizeof *u->copy);
}

static bool copy_start(struct warp *w, const struct ins *i, uint32_t lane, uint32_t read)
{
    struct block *b = w->b;
    struct copies *u = &b->copies[thread_of(w, (int)lane)];
    static const unsigned char zeros[16];
    uint32_t to = lane_address(w, i->src[0], lane, i->value);
    const void *from = zeros;
    if (read > i->size)
        return fault(w, (int)lane, "copies %u bytes to a place of %u", read, i->size);
    if (!shared_ok(w, (int)lane, to, i->size, i->size) ||
        !order_copy_start(w, (int)lane, to, i->size))
        return false;
    if (read) {
        from = global_at(w, (int)lane, ((const u64 *)row_of(w, i->src[1]))[lane], read, i->size);
        if (!from)
            return false;
    }
    memset(b->shared + to, 0xff, i->size);
    u->copy = grown(u->copy, u->count, &u->room, sizeof *u->copy);
    u->copy[u->count++] = (struct copy){.global = from,
                                        .shared = to,
                                        .size = i->size,
                                        .read = (uint8_t)read,
                                        .group = u->open,
                                        .serial = u->serial++,
                                        .clock = b->knows ? b->clock[thread_of(w, (int)lane)] : 0};
    return true;
}

static void count_copies(struct warp *w, const struct ins *i, uint32_t lanes, uint32_t reading)
{
    struct ptx_counts *c = w->b->counts;
    uint32_t to[LANES] = {0};
    if (!c)
        return;
    EACH_LANE(l, lanes)
    to[l] = lane_address(w, i->src[0], l, i->value);
    count_shared(w, to, lanes, i->size);
    if (!reading)
        return;
    count_global(&c->copy_sectors, (const uint64_t *)(const void *)row_of(w, i->src[1]), reading,
                 i->size);
    c->copy_bytes += (uint64_t)i->size * (uint64_t)__builtin_popcount(reading);
}

/* src: shared address, global address (its offset is in the row of constants 2), then bytes to
 * read (how 1) or whether to read nothing (how 2). */
static bool run_copy(struct warp *w, const struct ins *i, uint32_t lanes)
{
    uint32_t reading = 0;
    EACH_LANE(l, lanes)
    {
        uint32_t read = i->size;
        if (i->how == 1)
            read = row_of(w, i->src[2])[l];
        else if (i->how == 2 && (w->preds[i->src[2]] >> l & 1))
            read = 0;
        reading |= (uint32_t)(read > 0) << l;
        if (!copy_start(w, i, l, read))
            return false;
    }
    count_copies(w, i, lanes, reading);
    return true;
}

static bool run_commit(struct warp *w, const struct ins *i, uint32_t lanes)
{
    (void)i;
    EACH_LANE(l, lanes)
    w->b->copies[thread_of(w, (int)l)].open++;
    return true;
}

/* value: groups that may still be under way; how 1: none, committed or not. */
static bool run_copy_wait(struct warp *w, const struct ins *i, uint32_t lanes)
{
    EACH_LANE(l, lanes)
    {
        int t = thread_of(w, (int)l), n = 0;
        struct copies *u = &w->b->copies[t];
        while (n < u->count && (i->how || u->copy[n].group + i->value < u->open))
            n++;
        copies_finish(w->b, t, n, true);
    }
    return true;
}

/* ---- mbarriers ---- */

static struct mbarrier *mbarrier_find(struct block *b, uint32_t address)
{
    for (int i = 0; i < b->mbarriers; i++)
        if (b->mbarrier[i].address == address)
            return &b->mbarrier[i];
    return NULL;
}

/* The mbarrier that a lane uses; NULL with an error. */
static struct mbarrier *mbarrier_of(struct warp *w, const struct ins *i, uint32_t lane)
{
    uint32_t at = lane_address(w, i->src[0], lane, i->value);
    struct mbarrier *m = mbarrier_find(w->b, at);
    if (m && order_barrier_use(w, (int)lane, at))
        return m;
    if (!m)
        fault(w, (int)lane, "no mbarrier was made at shared address %u", at);
    return NULL;
}

static void phase_check(struct block *b, struct mbarrier *m)
{
    if (m->pending || m->bytes)
        return;
    m->phase++;
    m->pending = m->expected;
    order_drop(b, &m->done);
    m->done = m->gather;
    m->gather = NULL;
}

bool mbarrier_done(struct block *b, uint32_t address, uint32_t parity)
{
    const struct mbarrier *m = mbarrier_find(b, address);
    return !m || (m->phase & 1) != parity;
}

static bool run_mbarrier_init(struct warp *w, const struct ins *i, uint32_t lanes)
{
    struct block *b = w->b;
    EACH_LANE(l, lanes)
    {
        uint32_t at = lane_address(w, i->src[0], l, i->value), n = row_of(w, i->src[1])[l];
        if (mbarrier_find(b, at))
            return fault(w, (int)l, "an mbarrier is already at shared address %u", at);
        if (n == 0 || n >= 1u << 20)
            return fault(w, (int)l, "an mbarrier for %u arrivals, want 1 .. %u", n, (1u << 20) - 1);
        if (b->mbarriers == MOST_MBARRIERS)
            return fault(w, (int)l, "more than %d mbarriers", MOST_MBARRIERS);
        if (!order_access(w, (int)l, at, 8, 8, ACCESS_WRITE))
            return false;
        order_barrier_word(b, at, true);
        b->mbarrier[b->mbarriers++] = (struct mbarrier){.address = at, .expected = n, .pending = n};
    }
    return true;
}

static bool run_mbarrier_inval(struct warp *w, const struct ins *i, uint32_t lanes)
{
    EACH_LANE(l, lanes)
    {
        struct mbarrier *m = mbarrier_of(w, i, l);
        if (!m)
            return false;
        order_drop(w->b, &m->gather);
        order_drop(w->b, &m->done);
        order_barrier_word(w->b, m->address, false);
        *m = w->b->mbarrier[--w->b->mbarriers];
    }
    return true;
}

enum { ARRIVE = 1, EXPECT = 2, COMPLETE = 4 };

static bool arrive_one(struct warp *w, const struct ins *i, uint32_t lane, struct mbarrier *m)
{
    struct block *b = w->b;
    uint32_t operand = i->srcs > 1 ? row_of(w, i->src[1])[lane] : 1;
    uint32_t arrivals = i->how == ARRIVE ? operand : i->how & ARRIVE ? 1 : 0;
    if (i->how & EXPECT)
        m->bytes += operand;
    if (i->how & COMPLETE)
        m->bytes -= operand;
    if (m->bytes >= 1 << 20 || m->bytes <= -(1 << 20))
        return fault(w, (int)lane, "the mbarrier at %u expects %lld bytes, at most %d are possible",
                     m->address, (long long)m->bytes, (1 << 20) - 1);
    if (arrivals > m->pending || (i->how & ARRIVE && arrivals == 0))
        return fault(w, (int)lane, "%u arrivals at the mbarrier at %u, which waits for %u",
                     arrivals, m->address, m->pending);
    if (i->dsts)
        ((u64 *)row_of(w, i->dst[0]))[lane] = m->phase;
    if (i->how & ARRIVE)
        order_release(w, 1u << lane, &m->gather);
    m->pending -= arrivals;
    phase_check(b, m);
    return true;
}

static bool run_mbarrier_arrive(struct warp *w, const struct ins *i, uint32_t lanes)
{
    EACH_LANE(l, lanes)
    {
        struct mbarrier *m = mbarrier_of(w, i, l);
        if (!m || !arrive_one(w, i, l, m))
            return false;
    }
    return true;
}

/* how: 1 try (may wait), 2 by parity. A wait may end early, with false: now and then it does. */
static bool run_mbarrier_wait(struct warp *w, const struct ins *i, uint32_t lanes)
{
    uint32_t yes = 0, first = (uint32_t)__builtin_ctz(lanes);
    EACH_LANE(l, lanes)
    {
        const struct mbarrier *m = mbarrier_of(w, i, l);
        if (!m)
            return false;
        uint64_t state = i->how & 2 ? row_of(w, i->src[1])[l] : ((u64 *)row_of(w, i->src[1]))[l];
        if (i->how & 2 && state > 1)
            return fault(w, (int)l, "parity %llu, want 0 or 1", (unsigned long long)state);
        yes |= (uint32_t)((m->phase & 1) != (state & 1)) << l;
        if (l == first) {
            w->now->on = m->address;
            w->now->parity = state & 1;
        }
    }
    if (!yes && i->how & 1 && block_random(w->b) % 8) {
        w->park = w->now->wait = WAIT_MBARRIER;
        return true;
    }
    EACH_LANE(l, yes)
    order_acquire(w, 1u << l, mbarrier_of(w, i, l)->done);
    w->preds[i->dst[0]] = (w->preds[i->dst[0]] & ~lanes) | yes;
    return true;
}

static void arrival_add(struct block *b, struct arrival a)
{
    b->arrival = grown(b->arrival, b->arrivals, &b->arrival_room, sizeof *b->arrival);
    b->arrival[b->arrivals++] = a;
}

/* how 1: noinc. */
static bool run_copies_arrive(struct warp *w, const struct ins *i, uint32_t lanes)
{
    EACH_LANE(l, lanes)
    {
        int t = thread_of(w, (int)l);
        struct mbarrier *m = mbarrier_of(w, i, l);
        if (!m)
            return false;
        m->pending += !i->how;
        arrival_add(w->b, (struct arrival){.on = m->address,
                                           .thread = t,
                                           .upto = w->b->copies[t].serial,
                                           .clock = order_tick(w->b, t),
                                           .from = i});
    }
    return true;
}

/* One arrival or load, drawn from the seed, takes place. */
bool async_step(struct block *b)
{
    if (b->arrivals == 0)
        return false;
    int k = (int)(block_random(b) % (uint32_t)b->arrivals), n = 0;
    struct arrival a = b->arrival[k];
    b->arrival[k] = b->arrival[--b->arrivals];
    struct mbarrier *m = mbarrier_find(b, a.on);
    struct copies *u = &b->copies[a.thread];
    while (n < u->count && u->copy[n].serial < a.upto)
        n++;
    copies_finish(b, a.thread, a.global ? 0 : n, false);
    if (a.global) {
        memcpy(b->shared + a.shared, a.global, a.bytes);
        order_copy_end(b, a.thread, a.shared, a.bytes, a.clock);
        order_async_written(b, a.shared, a.bytes);
    }
    struct warp *w = &b->warp[a.thread / LANES];
    w->last = a.from;
    if (!m || (!a.global && m->pending == 0)) {
        fault(w, a.thread % LANES, "arrives at the mbarrier at %u, which waits for nobody", a.on);
        return true;
    }
    order_release_one(b, a.thread, a.clock, &m->gather);
    if (a.global)
        m->bytes -= a.bytes;
    else
        m->pending--;
    phase_check(b, m);
    return true;
}

/* ---- bulk copies ---- */

static bool bulk_sizes(struct warp *w, uint32_t lane, uint32_t shared, uint32_t bytes)
{
    if (bytes % 16 || bytes == 0)
        return fault(w, (int)lane, "a bulk copy of %u bytes, want a multiple of 16", bytes);
    return shared_ok(w, (int)lane, shared, bytes, 16);
}

/* src: global address, shared address, bytes; how 1: adds floats. */
static bool run_bulk_store(struct warp *w, const struct ins *i, uint32_t lanes)
{
    struct block *b = w->b;
    EACH_LANE(l, lanes)
    {
        struct bulks *u = &b->bulks[thread_of(w, (int)l)];
        uint64_t to = ((const u64 *)row_of(w, i->src[0]))[l];
        uint32_t from = row_of(w, i->src[1])[l], bytes = row_of(w, i->src[2])[l];
        if (!bulk_sizes(w, l, from, bytes))
            return false;
        void *global = global_at(w, (int)l, to, bytes, 16);
        if (!global || !order_async_read(w, (int)l, from, bytes, false))
            return false;
        u->bulk = grown(u->bulk, u->count, &u->room, sizeof *u->bulk);
        u->bulk[u->count++] = (struct bulk){.global = global,
                                            .shared = from,
                                            .bytes = bytes,
                                            .group = u->open,
                                            .since = b->steps,
                                            .reduce = i->how == 1,
                                            .from = i};
        if (b->counts) {
            b->counts->copy_sectors += (bytes + 31) / 32;
            b->counts->copy_bytes += bytes;
        }
    }
    return true;
}

static bool bulk_read(struct warp *w, uint32_t lane, struct bulk *u)
{
    struct block *b = w->b;
    if (u->is_read)
        return true;
    if (!order_unwritten(b, u->shared, u->bytes, u->since)) {
        w->last = u->from;
        return fault(w, (int)lane, "shared memory [%u, %u) was written while a bulk copy read it",
                     u->shared, u->shared + u->bytes);
    }
    u->data = malloc(u->bytes);
    if (!u->data)
        return fault(w, (int)lane, "no memory for a bulk copy");
    memcpy(u->data, b->shared + u->shared, u->bytes);
    u->is_read = true;
    return true;
}

static void bulk_write(struct bulk *u)
{
    if (!u->reduce) {
        memcpy(u->global, u->data, u->bytes);
        return;
    }
    for (uint32_t k = 0; k < u->bytes / 4; k++) {
        float x;
        memcpy(&x, u->data + 4 * k, 4);
        global_add((char *)u->global + 4 * k, x);
    }
}

/* Those of the first n. */
static bool bulks_finish(struct warp *w, uint32_t lane, int n, bool only_read)
{
    struct bulks *u = &w->b->bulks[thread_of(w, (int)lane)];
    for (int k = 0; k < n; k++) {
        if (!bulk_read(w, lane, &u->bulk[k]))
            return false;
        if (!only_read) {
            bulk_write(&u->bulk[k]);
            free(u->bulk[k].data);
        }
    }
    if (!only_read && n > 0) {
        u->count -= n;
        memmove(u->bulk, u->bulk + n, (size_t)u->count * sizeof *u->bulk);
    }
    return true;
}

static bool run_bulk_commit(struct warp *w, const struct ins *i, uint32_t lanes)
{
    (void)i;
    EACH_LANE(l, lanes)
    w->b->bulks[thread_of(w, (int)l)].open++;
    return true;
}

/* how 1: until they have read. */
static bool run_bulk_wait(struct warp *w, const struct ins *i, uint32_t lanes)
{
    EACH_LANE(l, lanes)
    {
        struct bulks *u = &w->b->bulks[thread_of(w, (int)l)];
        int n = 0;
        while (n < u->count && u->bulk[n].group + i->value < u->open)
            n++;
        if (!bulks_finish(w, l, n, i->how == 1))
            return false;
    }
    return true;
}

/* src: shared address, global address, bytes, mbarrier. */
static bool run_bulk_load(struct warp *w, const struct ins *i, uint32_t lanes)
{
    struct block *b = w->b;
    EACH_LANE(l, lanes)
    {
        int t = thread_of(w, (int)l);
        uint32_t to = row_of(w, i->src[0])[l], bytes = row_of(w, i->src[2])[l];
        uint32_t barrier = row_of(w, i->src[3])[l];
        if (!mbarrier_find(b, barrier))
            return fault(w, (int)l, "no mbarrier was made at shared address %u", barrier);
        if (!bulk_sizes(w, l, to, bytes) || !order_barrier_use(w, (int)l, barrier))
            return false;
        const void *from = global_at(w, (int)l, ((const u64 *)row_of(w, i->src[1]))[l], bytes, 16);
        if (!from || !order_async_read(w, (int)l, to, bytes, false) ||
            !order_copy_start(w, (int)l, to, bytes))
            return false;
        memset(b->shared + to, 0xff, bytes);
        arrival_add(b, (struct arrival){.on = barrier,
                                        .thread = t,
                                        .clock = order_tick(b, t),
                                        .global = from,
                                        .shared = to,
                                        .bytes = bytes,
                                        .from = i});
        if (b->counts) {
            b->counts->copy_sectors += (bytes + 31) / 32;
            b->counts->copy_bytes += bytes;
        }
    }
    return true;
}

/* ---- */

bool async_end(struct warp *w, uint32_t lanes)
{
    EACH_LANE(l, lanes)
    {
        struct bulks *u = &w->b->bulks[thread_of(w, (int)l)];
        for (int k = 0; k < u->count; k++)
            if (!u->bulk[k].is_read) {
                w->last = u->bulk[k].from;
                return fault(w, (int)l,
                             "the thread leaves before its bulk copy has read shared memory");
            }
        if (!bulks_finish(w, l, u->count, false))
            return false;
    }
    return wgmma_end(w);
}

/* ---- decoding ---- */

static bool plain_address(struct decoder *d, const struct operand *o, int bits)
{
    if (o->kind != OPERAND_ADDRESS || o->value || o->parts != 1)
        return decode_wrong(d, "a register in brackets is wanted");
    return decode_src(d, o->part, bits);
}

static bool take_constant(struct decoder *d, const struct operand *o)
{
    if (o->kind != OPERAND_IMM || o->value > 1 << 20)
        return decode_wrong(d, "a small number is wanted");
    d->i->value = o->value;
    return true;
}

static bool decode_copy(struct decoder *d)
{
    const struct operand *o = d->s->operand;
    for (int k = 2; k < d->parts; k++)
        if (strcmp(d->part[k], "ca") && strcmp(d->part[k], "cg") && strcmp(d->part[k], "shared") &&
            strcmp(d->part[k], "shared::cta") && strcmp(d->part[k], "global") &&
            strncmp(d->part[k], "L2::", 4))
            return decode_wrong(d, "a copy that this machine does not know");
    if (d->s->operands < 3 || d->s->operands > 4 || o[2].kind != OPERAND_IMM)
        return decode_wrong(d, "not the operands that a copy takes");
    uint64_t size = o[2].value;
    if ((size != 16 && (size != 4 && size != 8)) || (size != 16 && decode_has(d, "cg")))
        return decode_wrong(d, "copies have 4, 8 or 16 bytes, .cg has 16");
    d->i->run = run_copy;
    d->i->cls = PTX_COPY;
    bool fourth = d->s->operands == 4;
    bool pred = fourth && o[3].kind == OPERAND_REG && o[3].type == REG_PRED;
    if (o[1].kind == OPERAND_ADDRESS && o[1].value)
        return decode_wrong(d, "a copy's global address has no offset here");
    if (!decode_address(d, &o[0]) || d->i->src_bits[0] != 32 || !plain_address(d, &o[1], 64) ||
        (fourth && !decode_src(d, &o[3], pred ? 1 : 32)))
        return decode_wrong(d, "not the operands that a copy takes");
    d->i->size = (uint8_t)size;
    d->i->how = !fourth ? 0 : pred ? 2 : 1;
    return true;
}

static bool decode_bulk(struct decoder *d)
{
    static const char load[] = "cp.async.bulk.shared::cluster.global.mbarrier::complete_tx::bytes",
                      load_cta[] = "cp.async.bulk.shared::cta.global.mbarrier::complete_tx::bytes",
                      add[] = "cp.reduce.async.bulk.global.shared::cta.bulk_group.add.f32",
                      store[] = "cp.async.bulk.global.shared::cta.bulk_group";
    const struct operand *o = d->s->operand;
    const char *op = d->s->op;
    d->i->cls = PTX_COPY;
    if (!strcmp(op, load) || !strcmp(op, load_cta)) {
        d->i->run = run_bulk_load;
        return decode_operands(d, 4) && plain_address(d, &o[0], 32) &&
               plain_address(d, &o[1], 64) && decode_src(d, &o[2], 32) &&
               plain_address(d, &o[3], 32);
    }
    if (!strcmp(op, add) || !strcmp(op, store)) {
        d->i->run = run_bulk_store;
        d->i->how = !strcmp(op, add);
        return decode_operands(d, 3) && plain_address(d, &o[0], 64) &&
               plain_address(d, &o[1], 32) && decode_src(d, &o[2], 32);
    }
    return decode_wrong(d, "a bulk copy that this machine does not know");
}

static bool is_scope(const char *part)
{
    static const char *const known[] = {
        "shared", "shared::cta", "b64",    "release",   "acquire", "relaxed",  "cta",      "parity",
        "noinc",  "mbarrier",    "arrive", "expect_tx", "async",   "try_wait", "test_wait"};
    for (size_t i = 0; i < sizeof known / sizeof *known; i++)
        if (strcmp(known[i], part) == 0)
            return true;
    return false;
}

static bool decode_arrive(struct decoder *d)
{
    const struct operand *o = d->s->operand;
    bool expect = decode_has(d, "expect_tx"), arrive = strcmp(d->part[1], "arrive") == 0;
    int results = arrive, n = d->s->operands;
    d->i->run = run_mbarrier_arrive;
    if (n < results + 1 + expect || n > results + 2)
        return decode_wrong(d, "not the operands that an arrival takes");
    if (arrive && o[0].kind != OPERAND_SINK && !decode_dst(d, &o[0], 64))
        return false;
    if (!decode_address(d, &o[results]) || (n > results + 1 && !decode_src(d, &o[results + 1], 32)))
        return false;
    d->i->how = (uint8_t)((arrive ? ARRIVE : 0) | (expect ? EXPECT : 0));
    return true;
}

static bool decode_wait(struct decoder *d)
{
    const struct operand *o = d->s->operand;
    bool parity = decode_has(d, "parity");
    d->i->run = run_mbarrier_wait;
    d->i->flags = INS_BLOCKS;
    if (d->s->operands < 3 || d->s->operands > 4)
        return decode_wrong(d, "not the operands that a wait takes");
    if (!decode_dst(d, &o[0], 1) || !decode_address(d, &o[1]) ||
        !decode_src(d, &o[2], parity ? 32 : 64))
        return false;
    d->i->how = (uint8_t)((strcmp(d->part[1], "try_wait") == 0) | (parity ? 2 : 0));
    return true;
}

static bool decode_mbarrier(struct decoder *d)
{
    const struct operand *o = d->s->operand;
    const char *what = d->parts > 1 ? d->part[1] : "";
    d->i->cls = PTX_BARRIER;
    for (int k = 2; k < d->parts; k++)
        if (!is_scope(d->part[k]))
            return decode_wrong(d, "an mbarrier operation that this machine does not know");
    if (!strcmp(what, "init")) {
        d->i->run = run_mbarrier_init;
        return decode_operands(d, 2) && decode_address(d, &o[0]) && decode_src(d, &o[1], 32);
    }
    if (!strcmp(what, "inval")) {
        d->i->run = run_mbarrier_inval;
        return decode_operands(d, 1) && decode_address(d, &o[0]);
    }
    if (!strcmp(what, "arrive") || !strcmp(what, "expect_tx"))
        return decode_arrive(d);
    if (!strcmp(what, "try_wait") || !strcmp(what, "test_wait"))
        return decode_wait(d);
    return decode_wrong(d, "an mbarrier operation that this machine does not know");
}

static bool decode_copies_arrive(struct decoder *d)
{
    for (int k = 2; k < d->parts; k++)
        if (!is_scope(d->part[k]))
            return decode_wrong(d, "an arrival that this machine does not know");
    d->i->run = run_copies_arrive;
    d->i->cls = PTX_BARRIER;
    if (!decode_operands(d, 1) || !decode_address(d, &d->s->operand[0]))
        return false;
    d->i->how = decode_has(d, "noinc");
    return true;
}

static const struct {
    const char *op;
    ins_run *run;
    int how; /* and whether a number follows: 2 */
} groups[] = {{"cp.async.commit_group", run_commit, 0},
              {"cp.async.wait_group", run_copy_wait, 2},
              {"cp.async.wait_all", run_copy_wait, 1},
              {"cp.async.bulk.commit_group", run_bulk_commit, 0},
              {"cp.async.bulk.wait_group", run_bulk_wait, 2},
              {"cp.async.bulk.wait_group.read", run_bulk_wait, 3}};

bool decode_async(struct decoder *d, bool *known)
{
    *known = true;
    for (size_t i = 0; i < sizeof groups / sizeof *groups; i++)
        if (strcmp(d->s->op, groups[i].op) == 0) {
            d->i->run = groups[i].run;
            d->i->cls = PTX_BARRIER;
            d->i->how = groups[i].how & 1;
            int n = groups[i].how >> 1;
            return decode_operands(d, n) && (!n || take_constant(d, &d->s->operand[0]));
        }
    if (strncmp(d->s->op, "cp.async.mbarrier.arrive", 24) == 0)
        return decode_copies_arrive(d);
    if (strcmp(d->part[0], "cp") == 0 && decode_has(d, "bulk"))
        return decode_bulk(d);
    if (strncmp(d->s->op, "cp.async.c", 10) == 0)
        return decode_copy(d);
    if (strcmp(d->part[0], "mbarrier") == 0)
        return decode_mbarrier(d);
    *known = false;
    return true;
}
