/* Runs a kernel: which lanes, warps and blocks go on, and what they wait for. */
#include "tests/ptx/machine.h"

#include <pthread.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>

enum { DEFAULT_SHARED = 227 << 10, REGISTERS = 65536, MOST_THREADS = 1024 };

bool fault(struct warp *w, int lane, const char *format, ...)
{
    char what[512];
    struct block *b = w->b;
    va_list args;
    va_start(args, format);
    vsnprintf(what, sizeof what, format, args);
    va_end(args);
    const struct statement *s = w->last ? w->last->from : NULL;
    char thread[32] = "";
    if (lane >= 0)
        snprintf(thread, sizeof thread, ", thread %d", thread_of(w, lane));
    return err_set(b->e, ERR_DEVICE, (struct err_at){b->code->file, s ? s->line : 0, 0},
                   "%s: block (%u, %u, %u), warp %d%s: %s: '%.*s'", b->kernel->name, b->at[0],
                   b->at[1], b->at[2], w->index, thread, what,
                   s ? (s->length < 120 ? s->length : 120) : 0, s ? s->text : "");
}

/* ---- groups of lanes ---- */

static void group_remove(struct warp *w, struct group *g)
{
    int at = (int)(g - w->group);
    w->group[at] = w->group[--w->groups];
}

static struct group *group_add(struct warp *w, int pc, uint32_t lanes)
{
    struct group *g = &w->group[w->groups++];
    *g = (struct group){.pc = pc, .lanes = lanes};
    return g;
}

/* Groups at g's place join it, unless they wait for something else than lanes. */
static struct group *gather(struct warp *w, struct group *g)
{
    for (int i = 0; i < w->groups; i++) {
        struct group *o = &w->group[i];
        if (o == g || o->pc != g->pc || (o->wait != WAIT_NO && o->wait != WAIT_LANES))
            continue;
        struct group *last = &w->group[--w->groups];
        g->lanes |= o->lanes;
        *o = *last;
        if (g == last)
            g = o;
        i = -1;
    }
    return g;
}

static void recheck_lanes(struct warp *w)
{
    for (int i = 0; i < w->groups; i++)
        if (w->group[i].wait == WAIT_LANES)
            w->group[i].wait = WAIT_NO;
}

/* Whether all lanes that `i` is for are here; those that cannot be here are an error. */
static bool all_here(struct warp *w, struct group *g, const struct ins *i, uint32_t *lanes,
                     bool *wait)
{
    uint32_t want = w->live;
    *wait = false;
    if (i->flags & INS_MEMBERS) {
        const uint32_t *mask = row_of(w, i->src[0]);
        uint32_t first = (uint32_t)__builtin_ctz(*lanes), same = 0;
        EACH_LANE(l, *lanes)
        same |= (uint32_t)(mask[l] == mask[first]) << l;
        want = mask[first] & w->live;
        if (!(mask[first] >> first & 1))
            return fault(w, (int)first, "not a member of its own mask %#x", mask[first]);
        if (same != *lanes) { /* others go their own way */
            group_add(w, g->pc, g->lanes & ~same)->wait = WAIT_NO;
            g->lanes &= same;
            *lanes = same;
        }
        if (*lanes & ~mask[first])
            return fault(w, __builtin_ctz(*lanes & ~mask[first]), "not a member of the mask %#x",
                         mask[first]);
    }
    *wait = (*lanes & want) != want;
    return true;
}

/* ---- one warp ---- */

static void leave(struct warp *w, struct group *g, uint32_t lanes)
{
    w->live &= ~lanes;
    g->lanes &= ~lanes;
    g->pc++;
    if (!g->lanes)
        group_remove(w, g);
    recheck_lanes(w);
    if (!w->live)
        barriers_recheck(w->b);
}

/* The lanes that jump become a group of their own, if not all do. */
static void jump(struct warp *w, struct group *g, uint32_t lanes, int target)
{
    if (lanes == g->lanes) {
        g->pc = target;
        return;
    }
    g->lanes &= ~lanes;
    g->pc++;
    group_add(w, target, lanes);
}

static uint32_t guarded(const struct warp *w, const struct ins *i, uint32_t lanes)
{
    return i->guard < 0 ? lanes : lanes & (w->preds[i->guard] ^ i->guard_not);
}

static void count(struct warp *w, const struct ins *i, uint32_t lanes)
{
    struct ptx_counts *c = w->b->counts;
    if (c) {
        c->warp_instructions[i->cls]++;
        c->thread_instructions[i->cls] += (uint64_t)__builtin_popcount(lanes);
    }
}

/* Branches, exits, and what waits or needs all lanes. *stop: the group cannot go on now. */
static bool step_special(struct warp *w, struct group *g, const struct ins *i, uint32_t lanes,
                         bool *stop)
{
    if (i->flags & INS_BRANCH) {
        if (lanes)
            jump(w, g, lanes, i->target);
        else
            g->pc++;
        return true;
    }
    if (i->flags & INS_EXIT) {
        bool ok = !lanes || async_end(w, lanes);
        *stop = true;
        if (ok && lanes)
            leave(w, g, lanes);
        else
            g->pc++;
        return ok;
    }
    if (lanes && i->flags & (INS_LANES | INS_MEMBERS)) {
        bool wait;
        if (!all_here(w, g, i, &lanes, &wait))
            return false;
        if (wait) {
            g->wait = WAIT_LANES;
            *stop = true;
            return true;
        }
    }
    w->park = WAIT_NO;
    w->now = g;
    if (lanes && !i->run(w, i, lanes))
        return false;
    *stop = w->park != WAIT_NO;
    g = w->now;
    if (w->park == WAIT_NO || w->park == WAIT_BARRIER)
        g->pc++; /* the others try again */
    return true;
}

static bool lower_is_ready(const struct warp *w, const struct group *g)
{
    for (int i = 0; i < w->groups; i++)
        if (w->group[i].pc < g->pc && w->group[i].wait == WAIT_NO)
            return true;
    return false;
}

/* Runs lanes of one place until they stop, part, or have had `budget` instructions. in_order: lanes
 * that are behind go first. */
static bool run_group(struct warp *w, struct group *g, int budget, bool in_order)
{
    const struct ins *ins = w->b->code->ins;
    for (bool stop = false; !stop && budget-- > 0;) {
        if (w->groups > 1) {
            g = gather(w, g);
            if (in_order && lower_is_ready(w, g))
                return true;
        }
        const struct ins *i = &ins[g->pc];
        uint32_t lanes = guarded(w, i, g->lanes);
        w->last = i;
        w->executed++;
        w->b->steps++;
        if (i->flags & INS_WATCHED && lanes && !wgmma_watch(w, i))
            return false;
        if (i->flags & (INS_BRANCH | INS_EXIT | INS_LANES | INS_MEMBERS | INS_BLOCKS)) {
            if (!step_special(w, g, i, lanes, &stop))
                return false;
            if (!stop)
                count(w, i, lanes);
        } else {
            if (lanes && !i->run(w, i, lanes))
                return false;
            count(w, i, lanes);
            g->pc++;
        }
    }
    return true;
}

static bool ready(struct warp *w, const struct group *g)
{
    return g->wait == WAIT_NO || g->wait == WAIT_REGISTERS ||
           (g->wait == WAIT_MBARRIER && mbarrier_done(w->b, g->on, g->parity));
}

/* The group furthest behind, or now and then any; NULL: none can run. */
static struct group *pick_group(struct warp *w, bool *in_order)
{
    struct group *low = NULL;
    int n = 0;
    for (int i = 0; i < w->groups; i++) {
        struct group *g = &w->group[i];
        if (!ready(w, g))
            continue;
        n++;
        if (!low || g->pc < low->pc)
            low = g;
    }
    *in_order = n < 2 || block_random(w->b) % 4;
    if (*in_order)
        return low;
    int k = (int)(block_random(w->b) % (uint32_t)n);
    for (int i = 0; i < w->groups; i++)
        if (ready(w, &w->group[i]) && k-- == 0)
            return &w->group[i];
    return low;
}

/* *ran: whether anything could. */
static bool run_warp(struct warp *w, bool *ran)
{
    uint64_t before = w->executed;
    bool in_order;
    int parked = 0;
    for (int rounds = 0; rounds < 16; rounds++) {
        struct group *g = pick_group(w, &in_order);
        if (!g)
            break;
        enum wait was = g->wait;
        g->wait = WAIT_NO;
        int budget = 1 + (int)(block_random(w->b) % (in_order ? 512 : 64));
        if (!run_group(w, g, budget, in_order))
            return false;
        if (was == WAIT_REGISTERS && w->park == WAIT_REGISTERS)
            parked++;
        if (block_random(w->b) % 4 == 0)
            break;
    }
    *ran = w->executed - before > (uint64_t)parked;
    uint64_t most = w->b->launch->most_instructions ? w->b->launch->most_instructions : 1ull << 32;
    if (w->executed > most)
        return fault(w, -1, "more than %llu instructions: a loop without end?",
                     (unsigned long long)most);
    return true;
}

/* ---- one block ---- */

static const char *const waits[WAITS] = {[WAIT_NO] = "runs",
                                         [WAIT_LANES] = "waits for other lanes",
                                         [WAIT_BARRIER] = "waits at a barrier",
                                         [WAIT_MBARRIER] = "waits for an mbarrier",
                                         [WAIT_REGISTERS] = "waits for registers"};

static bool deadlock(struct block *b)
{
    char text[400] = "";
    size_t n = 0;
    struct warp *first = NULL;
    for (int i = 0; i < b->warps; i++)
        for (int g = 0; g < b->warp[i].groups; g++) {
            const struct group *o = &b->warp[i].group[g];
            if (!first)
                first = &b->warp[i];
            if (n < sizeof text - 100)
                n +=
                    (size_t)snprintf(text + n, sizeof text - n, "; warp %d, lanes %08x, line %d %s",
                                     i, o->lanes, b->code->ins[o->pc].from->line, waits[o->wait]);
        }
    return fault(first, -1, "nobody can go on%s", text);
}

static bool run_block(struct block *b)
{
    for (;;) {
        bool live = false, ran = false;
        uint32_t start = block_random(b) % (uint32_t)b->warps;
        for (int i = 0; i < b->warps && !ran; i++) {
            struct warp *w = &b->warp[(start + (uint32_t)i) % (uint32_t)b->warps];
            live |= w->live != 0;
            if (w->live && !run_warp(w, &ran))
                return false;
        }
        if (ran) {
            if (block_random(b) % 16 == 0)
                async_step(b);
        } else if (!live) {
            return true;
        } else if (!async_step(b)) {
            return deadlock(b);
        }
        if (b->e->code != ERR_NONE) /* of an asynchronous arrival */
            return false;
    }
}

static uint32_t special_value(const struct block *b, int which, int thread)
{
    const unsigned *n = b->launch->block, *grid = b->launch->grid;
    unsigned t = (unsigned)thread, lane = t % LANES;
    switch (which) {
    case 0:
        return t % n[0];
    case 1:
        return t / n[0] % n[1];
    case 2:
        return t / (n[0] * n[1]);
    case 12:
        return lane;
    case 13:
        return t / LANES;
    case 14:
        return 1u << lane;
    case 15:
        return (1u << lane) - 1;
    case 16:
        return (2u << lane) - 1;
    case 17:
        return ~((2u << lane) - 1);
    case 18:
        return ~((1u << lane) - 1);
    case 19:
        return (uint32_t)b->launch->dynamic_shared;
    default:
        return which < 6 ? n[which - 3] : which < 9 ? b->at[which - 6] : grid[which - 9];
    }
}

static void fill(uint32_t *to, size_t n, uint32_t value)
{
    for (size_t i = 0; i < n; i++)
        to[i] = value;
}

/* A quiet NaN, and as an integer an address that nobody has. */
static uint32_t poison(struct block *b)
{
    return 0x7fc00000u | (block_random(b) & 0x3fffff);
}

static void warp_start(struct warp *w)
{
    struct block *b = w->b;
    const struct ptx_code *c = b->code;
    int threads = b->threads - w->index * LANES;
    fill(w->regs, (size_t)c->rows * LANES, poison(b));
    fill(w->preds, (size_t)c->preds, block_random(b));
    w->preds[c->preds - 1] = 0;
    if (b->kernel->local_bytes)
        memset(w->local, 0xff, b->kernel->local_bytes * LANES);
    w->live = threads >= LANES ? ALL_LANES : (1u << threads) - 1;
    for (int s = 0; s < c->specials; s++)
        for (int l = 0; l < LANES; l++)
            w->regs[(size_t)c->special[s].row * LANES + (size_t)l] =
                special_value(b, c->special[s].which, thread_of(w, l));
    w->groups = 0;
    group_add(w, 0, w->live);
    w->executed = 0;
    w->last = NULL;
    w->constant = c->constant;
    wgmma_start(w);
}

/* What the compiler would have given each thread at most. */
static void registers_start(struct block *b)
{
    int each = REGISTERS / (b->warps * LANES) / 8 * 8;
    if (b->kernel->min_blocks)
        each = REGISTERS / (b->warps * LANES * (int)b->kernel->min_blocks) / 8 * 8;
    each = each > 255 ? 255 : each;
    for (int i = 0; i < b->warps; i++)
        b->warp[i].registers = each;
    b->registers_left = 0;
}

static bool block_start(struct block *b, uint64_t number)
{
    const unsigned *grid = b->launch->grid;
    b->at[0] = (unsigned)(number % grid[0]);
    b->at[1] = (unsigned)(number / grid[0] % grid[1]);
    b->at[2] = (unsigned)(number / grid[0] / grid[1]);
    b->random = (b->launch->seed * 2654435761u) ^ (uint32_t)(number * 40503u + 12345u);
    b->random = b->random ? b->random : 1;
    b->steps = 1;
    for (int i = 0; i < 4; i++)
        block_random(b);
    fill((uint32_t *)(void *)b->shared, b->shared_end / 4, poison(b));
    memset(b->barrier, 0, sizeof b->barrier);
    b->mbarriers = b->arrivals = 0;
    memset(b->wgmma_log, 0, sizeof b->wgmma_log);
    for (int i = 0; i < b->warps; i++)
        warp_start(&b->warp[i]);
    registers_start(b);
    return order_open(b) || err_set(b->e, ERR_SYSTEM, err_at_name(b->kernel->name), "no memory");
}

static void block_end(struct block *b)
{
    if (b->counts)
        b->counts->blocks++;
    for (int n = 0; n < BARRIERS; n++)
        order_drop(b, &b->barrier[n].gather);
    async_close(b);
    order_close(b);
}

/* ---- several blocks, one host thread each ---- */

struct grid {
    const struct ptx_kernel *kernel;
    const struct ptx_launch *launch;
    const unsigned char *param;
    uint64_t blocks, next;
    pthread_mutex_t lock; /* of next, failed, e and the launch's counts */
    bool failed;
    struct err *e;
};

static void block_free(struct block *b)
{
    for (int i = 0; b->warp && i < b->warps; i++) {
        struct warp *w = &b->warp[i];
        free(w->regs);
        free(w->preds);
        free(w->local);
        free(w->watch);
        wgmma_free(w);
    }
    async_free(b);
    free(b->warp);
    free(b->shared);
    free(b->counts);
}

static bool warp_make(struct warp *w, struct block *b, int index)
{
    const struct ptx_code *c = b->code;
    w->b = b;
    w->index = index;
    w->regs = aligned_alloc(128, (size_t)c->rows * LANES * 4 + 128);
    w->preds = malloc((size_t)c->preds * sizeof *w->preds);
    w->local = malloc(b->kernel->local_bytes * LANES + 1);
    w->watch = calloc((size_t)c->rows + 1, sizeof *w->watch);
    return w->regs && w->preds && w->local && w->watch;
}

static bool block_make(struct block *b, const struct grid *g, struct err *e)
{
    const struct ptx_launch *l = g->launch;
    size_t align = g->kernel->code->dynamic_align;
    *b = (struct block){.kernel = g->kernel, .code = g->kernel->code, .launch = l, .e = e};
    b->param = (unsigned char *)(uintptr_t)g->param;
    b->threads = (int)(l->block[0] * l->block[1] * l->block[2]);
    b->warps = (b->threads + LANES - 1) / LANES;
    size_t end = SHARED_START + g->kernel->static_shared;
    end = (end + align - 1) / align * align + l->dynamic_shared;
    b->shared_end = (uint32_t)((end + 3) / 4 * 4);
    b->shared = aligned_alloc(1024, (b->shared_end + 1023) / 1024 * 1024);
    b->warp = calloc((size_t)b->warps, sizeof *b->warp);
    b->counts = l->counts ? calloc(1, sizeof *b->counts) : NULL;
    bool ok = b->shared && b->warp && (b->counts || !l->counts) && async_make(b);
    for (int i = 0; ok && i < b->warps; i++)
        ok = warp_make(&b->warp[i], b, i);
    return ok || err_set(e, ERR_SYSTEM, err_at_name(g->kernel->name), "no memory for a block");
}

static void add_counts(struct ptx_counts *to, const struct ptx_counts *from)
{
    uint64_t *a = (uint64_t *)to; /* all fields are uint64_t */
    const uint64_t *b = (const uint64_t *)from;
    for (size_t i = 0; i < sizeof *to / sizeof *a; i++)
        a[i] += b[i];
}

static bool next_block(struct grid *g, uint64_t *number)
{
    pthread_mutex_lock(&g->lock);
    bool more = !g->failed && g->next < g->blocks;
    *number = g->next;
    g->next += more;
    pthread_mutex_unlock(&g->lock);
    return more;
}

static void *run_blocks(void *grid)
{
    struct grid *g = grid;
    struct err e = {ERR_NONE, ""};
    struct block b;
    uint64_t number;
    bool ok = block_make(&b, g, &e);
    while (ok && next_block(g, &number)) {
        ok = block_start(&b, number) && run_block(&b);
        block_end(&b);
    }
    pthread_mutex_lock(&g->lock);
    if (!ok) {
        g->failed = true;
        err_set(g->e, e.code, err_at_name(NULL), "%s", e.text);
    }
    if (b.counts)
        add_counts(g->launch->counts, b.counts);
    pthread_mutex_unlock(&g->lock);
    block_free(&b);
    return NULL;
}

static void run_grid(struct grid *g)
{
    enum { MOST_HOST_THREADS = 64 };
    pthread_t thread[MOST_HOST_THREADS];
    int threads = g->launch->threads, started = 0;
    if (threads > MOST_HOST_THREADS)
        threads = MOST_HOST_THREADS;
    for (int i = 1; i < threads && (uint64_t)i < g->blocks; i++)
        started += pthread_create(&thread[started], NULL, run_blocks, g) == 0;
    run_blocks(g);
    for (int i = 0; i < started; i++)
        pthread_join(thread[i], NULL);
}

static bool check_launch(const struct ptx_kernel *k, const struct ptx_launch *l, struct err *e)
{
    uint64_t threads = (uint64_t)l->block[0] * l->block[1] * l->block[2];
    uint64_t most = k->max_threads ? k->max_threads : MOST_THREADS;
    size_t shared = l->max_shared ? l->max_shared : DEFAULT_SHARED;
    struct err_at at = err_at_name(k->name);
    if (threads == 0 || threads > most)
        return err_set(e, ERR_DEVICE, at, "a block of %llu threads, want 1 .. %llu",
                       (unsigned long long)threads, (unsigned long long)most);
    if (l->grid[0] == 0 || l->grid[1] == 0 || l->grid[2] == 0 || l->grid[0] > 0x7fffffff ||
        l->grid[1] > 65535 || l->grid[2] > 65535)
        return err_set(e, ERR_DEVICE, at, "a grid of %u x %u x %u blocks", l->grid[0], l->grid[1],
                       l->grid[2]);
    if (l->dynamic_shared > shared || k->static_shared > shared - l->dynamic_shared)
        return err_set(e, ERR_DEVICE, at,
                       "%zu bytes of shared memory by the launch and %zu by the kernel, at most "
                       "%zu are there",
                       l->dynamic_shared, k->static_shared, shared);
    return true;
}

bool ptx_run(const struct ptx_module *m, const struct ptx_kernel *k, const struct ptx_launch *l,
             void *const *params, struct err *e)
{
    (void)m;
    if (!check_launch(k, l, e))
        return false;
    unsigned char *param = calloc(1, k->code->param_bytes + 16);
    if (!param)
        return err_set(e, ERR_SYSTEM, err_at_name(k->name), "no memory for parameters");
    for (int i = 0; i < k->params; i++)
        memcpy(param + k->param_offset[i], params[i], k->param_bytes[i]);
    struct grid g = {.kernel = k, .launch = l, .param = param, .e = e};
    struct err mine = {ERR_NONE, ""};
    g.e = &mine;
    g.blocks = (uint64_t)l->grid[0] * l->grid[1] * l->grid[2];
    pthread_mutex_init(&g.lock, NULL);
    run_grid(&g);
    pthread_mutex_destroy(&g.lock);
    free(param);
    return !g.failed || err_set(e, mine.code, err_at_name(NULL), "%s", mine.text);
}
