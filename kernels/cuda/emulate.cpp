/* A GPU's blocks as fibers on a CPU. */
#include "kernels/cuda/emulate.h"

#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <ucontext.h>

#include <deque>
#include <map>
#include <memory>
#include <mutex>
#include <vector>

#if defined(__SANITIZE_ADDRESS__)
#include <sanitizer/asan_interface.h>
#define EMU_ASAN 1
#else
#define EMU_ASAN 0
#endif

/* ---- switching from fiber to fiber -------------------------------------------------------------
 */

/* swapcontext asks the kernel to keep the signal mask at every switch, which would be most of the
 * time here; the registers that a call must preserve are enough. */
#if defined(__x86_64__) && defined(__linux__)
struct registers {
    void *stack;
};

extern "C" void emu_switch(void **from_stack, void *to_stack);
asm(".text\n"
    ".type emu_switch, @function\n"
    "emu_switch:\n"
    "    pushq %rbp\n    pushq %rbx\n    pushq %r12\n    pushq %r13\n    pushq %r14\n    pushq "
    "%r15\n"
    "    movq %rsp, (%rdi)\n"
    "    movq %rsi, %rsp\n"
    "    popq %r15\n    popq %r14\n    popq %r13\n    popq %r12\n    popq %rbx\n    popq %rbp\n"
    "    ret\n"
    ".size emu_switch, .-emu_switch\n");

static void registers_start(registers *r, char *stack, size_t bytes, void (*entry)(void))
{
    uintptr_t top = ((uintptr_t)stack + bytes) / 16 * 16 - 8; /* as after a call */
    void **at = (void **)top - 7;
    memset(at, 0, 6 * sizeof *at);
    at[6] = (void *)entry;
    r->stack = at;
}

static void registers_switch(registers *from, registers *to)
{
    emu_switch(&from->stack, to->stack);
}
#else
struct registers {
    ucontext_t context;
};

static void registers_start(registers *r, char *stack, size_t bytes, void (*entry)(void))
{
    getcontext(&r->context);
    r->context.uc_stack.ss_sp = stack;
    r->context.uc_stack.ss_size = bytes;
    r->context.uc_link = nullptr;
    makecontext(&r->context, entry, 0);
}

static void registers_switch(registers *from, registers *to)
{
    swapcontext(&from->context, &to->context);
}
#endif

namespace emu
{

/* ---- state of the running block ----------------------------------------------------------------
 */

enum { STACK_BYTES = 256 << 10, WARP = 32, WARPGROUP = 128 };

struct copy {
    unsigned char *to;
    const void *from; /* NULL: zeros */
};

struct bulk {
    float *to;
    uint32_t from;
    int bytes;
};

/* One wgmma that was asked for; c holds NaN in the meantime and `before` what was there. */
struct matrix_op {
    float *c;
    int columns;
    bool in_registers;
    uint32_t a_registers[4];
    uint64_t a, b;
    bool b_k_major;
    int add;
    const char *what;
};

struct saved {
    float *c;
    std::vector<float> before;
};

struct fiber {
    registers context;
    std::unique_ptr<char[]> stack;
    place at;
    int number; /* in the block */
    bool done;
    std::vector<copy> copies; /* not committed */
    std::deque<std::vector<copy>> copy_groups;
    std::vector<bulk> bulks;
    std::deque<std::vector<bulk>> bulk_groups;
    std::vector<matrix_op> ops;
    std::deque<std::vector<matrix_op>> op_groups;
    std::vector<saved> accumulators;
    void *asan_stack;
};

struct meeting {
    unsigned mask;
    int need, here;
    const char *what;
    void *argument[WARP];
    std::vector<fiber *> waiting;
};

struct block {
    std::vector<std::unique_ptr<fiber>> fibers;
    std::vector<unsigned char> memory; /* shared, with room to align */
    unsigned char *shared;
    size_t shared_bytes;
    std::deque<fiber *> ready, spinning;
    std::vector<std::vector<meeting>> warps; /* meetings of each warp, one per mask */
    meeting barriers[16];
    std::vector<std::vector<meeting>> groups; /* of each warpgroup: one */
    std::vector<std::vector<fiber *>> group_argument;
    size_t live;
    long events, events_seen; /* arrivals at mbarriers: spinning fibers look again */
    uint64_t random;
    fiber *self;
    registers home;
    void *home_asan;
    const void *home_stack;
    size_t home_size;
    const std::function<void()> *thread;
};

static thread_local block *now;

/* Stacks of earlier launches of this thread: a large array each, which the system would map anew.
 */
static thread_local std::vector<std::unique_ptr<char[]>> spare_stacks;

static std::unique_ptr<char[]> take_stack(void)
{
    if (spare_stacks.empty())
        return std::unique_ptr<char[]>(new char[STACK_BYTES]);
    std::unique_ptr<char[]> stack = std::move(spare_stacks.back());
    spare_stacks.pop_back();
    return stack;
}

void die(const char *format, ...)
{
    fprintf(stderr, "emulated GPU: ");
    if (now && now->self) {
        const place &p = now->self->at;
        fprintf(stderr, "block (%u,%u,%u) thread (%u,%u,%u): ", p.block.x, p.block.y, p.block.z,
                p.thread.x, p.thread.y, p.thread.z);
    }
    va_list list;
    va_start(list, format);
    vfprintf(stderr, format, list);
    va_end(list);
    fputc('\n', stderr);
    abort();
}

const place &here(void)
{
    return now->self->at;
}

int lane(void)
{
    return now->self->number % WARP;
}

/* ---- fibers
 * ---------------------------------------------------------------------------------------- */

static void arrived_in(fiber *f)
{
#if EMU_ASAN
    __sanitizer_finish_switch_fiber(f ? f->asan_stack : now->home_asan, nullptr, nullptr);
#endif
    (void)f;
}

static void go(fiber *to) /* NULL: home */
{
    fiber *from = now->self;
    now->self = to;
#if EMU_ASAN
    void **keep = from ? &from->asan_stack : &now->home_asan;
    __sanitizer_start_switch_fiber(from && from->done ? nullptr : keep,
                                   to ? (const void *)to->stack.get() : now->home_stack,
                                   to ? (size_t)STACK_BYTES : now->home_size);
#endif
    registers_switch(from ? &from->context : &now->home, to ? &to->context : &now->home);
    arrived_in(from);
}

static const char *waiting_for(void)
{
    for (const std::vector<meeting> &warp : now->warps)
        for (const meeting &m : warp)
            if (m.here)
                return m.what;
    for (const std::vector<meeting> &group : now->groups)
        for (const meeting &m : group)
            if (m.here)
                return m.what;
    for (const meeting &m : now->barriers)
        if (m.here)
            return "a barrier of the block";
    return "an mbarrier";
}

/* The next fiber to run; home when all are done. */
static fiber *next(void)
{
    if (now->ready.empty()) {
        if (now->live == 0)
            return nullptr;
        if (now->spinning.empty() || now->events == now->events_seen)
            die("all %zu threads wait, the first of them for %s", now->live, waiting_for());
        now->events_seen = now->events;
        now->ready.swap(now->spinning);
    }
    size_t pick = 0;
    if (now->random) {
        now->random = now->random * 6364136223846793005u + 1442695040888963407u;
        pick = (size_t)(now->random >> 33) % now->ready.size();
    }
    fiber *f = now->ready[pick];
    now->ready[pick] = now->ready.front(); /* in turn, or in an order that `random` gives */
    now->ready.pop_front();
    return f;
}

static void sleep_until_woken(void)
{
    go(next());
}

static void finish(void)
{
    fiber *f = now->self;
    if (!f->bulks.empty() || !f->bulk_groups.empty())
        die("the thread ends while bulk reductions may still read shared memory");
    if (!f->ops.empty() || !f->op_groups.empty())
        die("the thread ends before its wgmma are waited for");
    f->done = true;
    now->live--;
    go(next());
}

static void run_thread(void)
{
#if EMU_ASAN
    const void *from;
    size_t size;
    __sanitizer_finish_switch_fiber(nullptr, &from, &size);
    if (!now->home_stack) { /* the first fiber starts from home */
        now->home_stack = from;
        now->home_size = size;
    }
#endif
    (*now->thread)();
    finish();
}

static void prepare(block *b, dim3 grid, dim3 size, size_t shared)
{
    size_t threads = (size_t)size.x * size.y * size.z;
    b->memory.resize(shared + 2048);
    uintptr_t start = ((uintptr_t)b->memory.data() + 1023) & ~(uintptr_t)1023;
    b->shared = (unsigned char *)start;
    b->shared_bytes = shared;
    b->warps.resize((threads + WARP - 1) / WARP);
    b->groups.resize((threads + WARPGROUP - 1) / WARPGROUP);
    b->group_argument.resize(b->groups.size());
    for (size_t i = 0; i < threads; i++) {
        auto f = std::make_unique<fiber>();
        f->stack = take_stack();
        f->number = (int)i;
        f->at.block_size = size;
        f->at.grid = grid;
        f->at.thread = {(unsigned)i % size.x, (unsigned)i / size.x % size.y,
                        (unsigned)i / size.x / size.y};
        b->fibers.push_back(std::move(f));
    }
    const char *order = getenv("SHARDWISE_EMULATE_ORDER");
    b->random = order ? strtoull(order, nullptr, 10) : 0;
}

static void run_block(block *b, uint3 index)
{
    memset(b->shared, 0xff, b->shared_bytes); /* NaN as bf16 and as fp32 */
    b->live = b->fibers.size();
    for (auto &f : b->fibers) {
        f->at.block = index;
        f->done = false;
        f->copies.clear();
        f->copy_groups.clear();
        f->accumulators.clear();
        f->asan_stack = nullptr;
#if EMU_ASAN
        __asan_unpoison_memory_region(f->stack.get(), STACK_BYTES); /* the last block's frames */
#endif
        registers_start(&f->context, f->stack.get(), STACK_BYTES, run_thread);
        b->ready.push_back(f.get());
    }
    b->self = nullptr;
    go(next());
}

/* ---- device memory apart from the host's
 * ---------------------------------------------------------- */

/* One range of addresses, closed unless a kernel or a copy is at work in some thread. Memory that
 * was freed is given back to the system, its addresses are not used again. */
struct apart {
    enum : size_t { ROOM = (size_t)64 << 30 };
    std::mutex lock;
    unsigned char *start = nullptr;
    size_t used = 0;
    int users = 0;
    std::map<void *, size_t> size_of;

    bool wanted(void) const
    {
        const char *on = getenv("SHARDWISE_EMULATE_APART");
        return on && atoi(on);
    }

    void *take(size_t bytes)
    {
        std::lock_guard<std::mutex> hold(lock);
        if (!start) {
            void *p =
                mmap(nullptr, ROOM, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
            if (p == MAP_FAILED)
                return nullptr;
            start = (unsigned char *)p;
        }
        bytes = (bytes + 4096) / 4096 * 4096;
        if (bytes > ROOM - used)
            return nullptr;
        used += bytes;
        size_of[start + used - bytes] = bytes;
        return start + used - bytes;
    }

    bool give_back(void *p) /* false: not from here */
    {
        std::lock_guard<std::mutex> hold(lock);
        auto at = size_of.find(p);
        if (at == size_of.end())
            return false;
        madvise(p, at->second, MADV_DONTNEED);
        size_of.erase(at);
        return true;
    }

    bool has(const void *p)
    {
        std::lock_guard<std::mutex> hold(lock);
        return start && (const unsigned char *)p >= start &&
               (const unsigned char *)p < start + ROOM;
    }

    void open(int by) /* 1 in, -1 out */
    {
        std::lock_guard<std::mutex> hold(lock);
        users += by;
        if (start && users == (by > 0))
            mprotect(start, ROOM, users ? PROT_READ | PROT_WRITE : PROT_NONE);
    }
};

static apart device_memory;

struct at_work { /* device memory is open while one of these lives */
    at_work()
    {
        device_memory.open(1);
    }
    ~at_work()
    {
        device_memory.open(-1);
    }
};

void launch(dim3 grid, dim3 size, size_t shared, const std::function<void()> &thread)
{
    at_work open;
    block b = {};
    b.thread = &thread;
    prepare(&b, grid, size, shared);
    block *outer = now;
    now = &b;
    for (unsigned z = 0; z < grid.z; z++)
        for (unsigned y = 0; y < grid.y; y++)
            for (unsigned x = 0; x < grid.x; x++)
                run_block(&b, {x, y, z});
    now = outer;
    for (auto &f : b.fibers)
        spare_stacks.push_back(std::move(f->stack));
}

/* ---- meetings
 * ---------------------------------------------------------------------------------------- */

static void wake(meeting *m)
{
    for (fiber *f : m->waiting)
        now->ready.push_back(f);
    m->waiting.clear();
    m->here = 0;
}

static meeting *meeting_of(std::vector<meeting> *all, unsigned mask, int need)
{
    for (meeting &m : *all)
        if (m.mask == mask)
            return &m;
    meeting m = {};
    m.mask = mask;
    m.need = need;
    all->push_back(m);
    return &all->back();
}

void warp_meet(unsigned mask, const char *what, void *argument, warp_act act)
{
    fiber *f = now->self;
    if (!(mask >> lane() & 1))
        die("%s: lane %d is not in its mask %08x", what, lane(), mask);
    std::vector<meeting> *all = &now->warps[(size_t)f->number / WARP];
    for (const meeting &other : *all)
        if (other.here && (other.mask & mask) && (other.mask != mask || other.what != what))
            die("%s with mask %08x while other lanes of the warp are in %s with mask %08x", what,
                mask, other.what, other.mask);
    meeting *m = meeting_of(all, mask, __builtin_popcount(mask));
    m->what = what;
    m->argument[lane()] = argument;
    m->here++;
    if (m->here < m->need) {
        m->waiting.push_back(f);
        sleep_until_woken();
        return;
    }
    if (act)
        act(m->argument);
    wake(m);
}

/* One more at the barrier; true if it was the last, and the others go on. */
static bool block_last(int barrier, int threads)
{
    if (barrier < 0 || barrier > 15 || threads % WARP != 0)
        die("barrier %d of %d threads: want 0 to 15, and whole warps", barrier, threads);
    meeting *m = &now->barriers[barrier];
    int need = threads ? threads : (int)now->fibers.size();
    if (m->here && m->need != need)
        die("barrier %d: %d threads, others wait for %d", barrier, need, m->need);
    if (threads == 0 && now->live != now->fibers.size())
        die("__syncthreads after %zu threads of the block have ended",
            now->fibers.size() - now->live);
    m->need = need;
    m->here++;
    if (m->here == need)
        wake(m);
    return m->here == 0;
}

void block_meet(int barrier, int threads)
{
    if (block_last(barrier, threads))
        return;
    now->barriers[barrier].waiting.push_back(now->self);
    sleep_until_woken();
}

void block_arrive(int barrier, int threads)
{
    block_last(barrier, threads);
}

/* All threads of this warpgroup; the last one runs act over them, in order. */
static void group_meet(const char *what, void (*act)(const std::vector<fiber *> &))
{
    fiber *f = now->self;
    size_t group = (size_t)f->number / WARPGROUP;
    if (now->fibers.size() < (group + 1) * WARPGROUP)
        die("%s: the block's last %zu threads are no warpgroup", what,
            now->fibers.size() - group * WARPGROUP);
    meeting *m = meeting_of(&now->groups[group], 0, WARPGROUP);
    if (m->here && m->what != what)
        die("%s while other threads of the warpgroup are in %s", what, m->what);
    m->what = what;
    m->here++;
    if (m->here < m->need) {
        m->waiting.push_back(f);
        sleep_until_woken();
        return;
    }
    std::vector<fiber *> all;
    for (size_t i = group * WARPGROUP; i < (group + 1) * WARPGROUP; i++)
        all.push_back(now->fibers[i].get());
    act(all);
    wake(m);
}

void shuffle_act(void *const argument[32])
{
    for (int i = 0; i < WARP; i++) {
        shuffle *mine = (shuffle *)argument[i];
        if (!mine)
            continue;
        const shuffle *from = (const shuffle *)argument[mine->from];
        mine->got = from ? from->mine : 0xffffffffffffffffu; /* an absent lane: undefined */
    }
}

struct vote {
    bool yes;
    unsigned all;
};

static void ballot_act(void *const argument[32])
{
    unsigned all = 0;
    for (int i = 0; i < WARP; i++)
        if (argument[i] && ((const vote *)argument[i])->yes)
            all |= 1u << i;
    for (int i = 0; i < WARP; i++)
        if (argument[i])
            ((vote *)argument[i])->all = all;
}

unsigned ballot(unsigned mask, bool yes, const char *what)
{
    vote v = {yes, 0};
    warp_meet(mask, what, &v, ballot_act);
    return v.all;
}

/* ---- shared memory
 * ------------------------------------------------------------------------------------- */

unsigned char *shared(void)
{
    return now->shared;
}

unsigned char *shared_at(uint32_t smem, size_t bytes, size_t alignment, const char *what)
{
    if ((size_t)smem + bytes > now->shared_bytes)
        die("%s: bytes %u to %zu of shared memory, the launch asked for %zu", what, smem,
            smem + bytes, now->shared_bytes);
    if (smem % alignment != 0)
        die("%s: shared address %u, want a multiple of %zu", what, smem, alignment);
    return now->shared + smem;
}

static void global_aligned(const void *p, size_t alignment, const char *what)
{
    if ((uintptr_t)p % alignment != 0)
        die("%s: global address %p, want a multiple of %zu", what, p, alignment);
}

static void finish_copies(std::vector<copy> *all)
{
    for (const copy &c : *all)
        if (c.from)
            memcpy(c.to, c.from, 16);
        else
            memset(c.to, 0, 16);
    all->clear();
}

void copy_wait(size_t groups)
{
    fiber *f = now->self;
    while (f->copy_groups.size() > groups) {
        finish_copies(&f->copy_groups.front());
        f->copy_groups.pop_front();
    }
}

void bulk_wait(size_t groups, const char *what)
{
    fiber *f = now->self;
    while (f->bulk_groups.size() > groups) {
        for (const bulk &b : f->bulk_groups.front()) {
            const float *from = (const float *)shared_at(b.from, (size_t)b.bytes, 16, what);
            for (int i = 0; i < b.bytes / 4; i++)
                b.to[i] += from[i];
        }
        f->bulk_groups.pop_front();
    }
}

/* ---- tensor cores
 * ------------------------------------------------------------------------------------------ */

struct ldmatrix {
    uint32_t *r, smem;
    bool transposed;
};

static void ldmatrix_act(void *const argument[32])
{
    for (int t = 0; t < 4; t++) {
        uint16_t tile[8][8];
        for (int row = 0; row < 8; row++) {
            const ldmatrix *from = (const ldmatrix *)argument[t * 8 + row];
            memcpy(tile[row], shared_at(from->smem, 16, 16, "dev_ldmatrix4"), 16);
        }
        for (int i = 0; i < WARP; i++) {
            ldmatrix *mine = (ldmatrix *)argument[i];
            int g = i / 4, k = 2 * (i % 4);
            uint32_t low = mine->transposed ? tile[k][g] : tile[g][k];
            uint32_t high = mine->transposed ? tile[k + 1][g] : tile[g][k + 1];
            mine->r[t] = low | high << 16;
        }
    }
}

struct stmatrix {
    const uint32_t *r;
    uint32_t smem;
};

static void stmatrix_act(void *const argument[32])
{
    for (int t = 0; t < 4; t++)
        for (int row = 0; row < 8; row++) {
            const stmatrix *to = (const stmatrix *)argument[t * 8 + row];
            unsigned char *at = shared_at(to->smem, 16, 16, "dev_stmatrix4");
            for (int i = 0; i < 4; i++)
                memcpy(at + 4 * i, &((const stmatrix *)argument[row * 4 + i])->r[t], 4);
        }
}

struct mma {
    float *c;
    const uint32_t *a, *b;
};

static float half_of(uint32_t pair, int high)
{
    return high ? dev_high(pair) : dev_low(pair);
}

static void mma_act(void *const argument[32])
{
    float a[16][16], b[16][8];
    for (int i = 0; i < WARP; i++) {
        const mma *m = (const mma *)argument[i];
        int g = i / 4, t = i % 4;
        for (int j = 0; j < 2; j++) {
            a[g][2 * t + j] = half_of(m->a[0], j);
            a[g + 8][2 * t + j] = half_of(m->a[1], j);
            a[g][2 * t + 8 + j] = half_of(m->a[2], j);
            a[g + 8][2 * t + 8 + j] = half_of(m->a[3], j);
            b[2 * t + j][g] = half_of(m->b[0], j);
            b[2 * t + 8 + j][g] = half_of(m->b[1], j);
        }
    }
    for (int i = 0; i < WARP; i++) {
        mma *m = (mma *)argument[i];
        for (int j = 0; j < 4; j++) {
            int row = i / 4 + (j / 2) * 8, column = 2 * (i % 4) + j % 2;
            float sum = 0;
            for (int k = 0; k < 16; k++)
                sum += a[row][k] * b[k][column];
            m->c[j] += sum;
        }
    }
}

/* ---- wgmma
 * ---------------------------------------------------------------------------------------------------
 */

static float matrix_element(uint64_t matrix, const char *what, uint32_t row, uint32_t atom_row,
                            uint32_t column)
{
    /* row: byte offset of the 8-row atom; then 128 bytes a row within it, then bf16 columns. The
     * swizzle acts on address bits: 4..6 ^= 7..9. */
    uint32_t start = (uint32_t)(matrix & 0x3fff) << 4;
    uint32_t at = start + row + atom_row * 128 + column * 2;
    at ^= at >> 3 & 0x70;
    uint16_t bf16;
    memcpy(&bf16, shared_at(at, 2, 2, what), 2);
    return dev_low(bf16);
}

static uint32_t lead_of(uint64_t matrix)
{
    return (uint32_t)(matrix >> 16 & 0x3fff) << 4;
}

static uint32_t stride_of(uint64_t matrix)
{
    return (uint32_t)(matrix >> 32 & 0x3fff) << 4;
}

static void swizzled(uint64_t matrix, const char *what)
{
    if (matrix >> 62 != 1)
        die("%s: only matrices with the 128-byte swizzle", what);
}

static float *accumulator(fiber *f, float *c)
{
    for (saved &s : f->accumulators)
        if (s.c == c)
            return s.before.data();
    die("wgmma: an accumulator that nothing asked for");
}

/* c (+)= A B for the warpgroup; ops[i] is what thread i asked for. */
static void wgmma_run(const std::vector<fiber *> &all, const std::vector<matrix_op> &ops)
{
    const matrix_op &op = ops[0];
    std::vector<float> a(64 * 16), b(16 * (size_t)op.columns);
    for (int i = 0; i < WARPGROUP; i++) {
        const matrix_op &mine = ops[(size_t)i];
        if (mine.what != op.what || mine.b != op.b || mine.a != op.a)
            die("%s: threads of one warpgroup name different matrices", op.what);
        int row = i / 32 * 16 + i % 32 / 4, k = 2 * (i % 4);
        for (int j = 0; j < 2 && op.in_registers; j++) {
            a[(size_t)(row * 16 + k + j)] = half_of(mine.a_registers[0], j);
            a[(size_t)((row + 8) * 16 + k + j)] = half_of(mine.a_registers[1], j);
            a[(size_t)(row * 16 + k + 8 + j)] = half_of(mine.a_registers[2], j);
            a[(size_t)((row + 8) * 16 + k + 8 + j)] = half_of(mine.a_registers[3], j);
        }
    }
    swizzled(op.b, op.what);
    if (!op.in_registers)
        swizzled(op.a, op.what);
    for (uint32_t r = 0; r < 64 && !op.in_registers; r++)
        for (uint32_t k = 0; k < 16; k++)
            a[r * 16 + k] = matrix_element(op.a, op.what, r / 8 * stride_of(op.a), r % 8, k);
    for (uint32_t k = 0; k < 16; k++)
        for (uint32_t n = 0; n < (uint32_t)op.columns; n++)
            b[k * (uint32_t)op.columns + n] =
                op.b_k_major ? matrix_element(op.b, op.what, n / 8 * stride_of(op.b), n % 8, k)
                             : matrix_element(op.b, op.what,
                                              n / 64 * lead_of(op.b) + k / 8 * stride_of(op.b),
                                              k % 8, n % 64);
    for (int i = 0; i < WARPGROUP; i++) {
        float *c = accumulator(all[(size_t)i], ops[(size_t)i].c);
        for (int j = 0; j < op.columns / 2; j++) {
            int row = i / 32 * 16 + i % 32 / 4 + (j / 2 % 2) * 8;
            int column = j / 4 * 8 + 2 * (i % 4) + j % 2;
            float sum = 0;
            for (int k = 0; k < 16; k++)
                sum += a[(size_t)(row * 16 + k)] * b[(size_t)(k * op.columns + column)];
            c[j] = ops[(size_t)i].add ? c[j] + sum : sum;
        }
    }
}

static void run_oldest_group(const std::vector<fiber *> &all)
{
    size_t count = all[0]->op_groups.front().size();
    for (fiber *f : all)
        if (f->op_groups.empty() || f->op_groups.front().size() != count)
            die("wgmma: threads of one warpgroup committed different groups");
    for (size_t i = 0; i < count; i++) {
        std::vector<matrix_op> ops;
        for (fiber *f : all)
            ops.push_back(f->op_groups.front()[i]);
        wgmma_run(all, ops);
    }
    for (fiber *f : all)
        f->op_groups.pop_front();
}

static bool still_asked(const fiber *f, const float *c)
{
    for (const matrix_op &op : f->ops)
        if (op.c == c)
            return true;
    for (const std::vector<matrix_op> &group : f->op_groups)
        for (const matrix_op &op : group)
            if (op.c == c)
                return true;
    return false;
}

static void give_back_accumulators(fiber *f)
{
    std::vector<saved> kept;
    for (saved &s : f->accumulators)
        if (still_asked(f, s.c))
            kept.push_back(s);
        else
            memcpy(s.c, s.before.data(), s.before.size() * sizeof *s.c);
    f->accumulators.swap(kept);
}

static void wait_act(const std::vector<fiber *> &all)
{
    run_oldest_group(all);
    for (fiber *f : all)
        give_back_accumulators(f);
}

void wgmma_wait(size_t groups)
{
    while (now->self->op_groups.size() > groups)
        group_meet("dev_wgmma_wait", wait_act);
}

void wgmma_issue(float *c, int columns, const uint32_t *a_registers, uint64_t a, uint64_t b,
                 bool b_k_major, int add, const char *what)
{
    fiber *f = now->self;
    matrix_op op = {c, columns, a_registers != nullptr, {0, 0, 0, 0}, a, b, b_k_major, add, what};
    if (a_registers)
        memcpy(op.a_registers, a_registers, sizeof op.a_registers);
    bool known = false;
    for (const saved &s : f->accumulators)
        known = known || s.c == c;
    if (!known)
        f->accumulators.push_back({c, std::vector<float>(c, c + columns / 2)});
    f->ops.push_back(op);
    memset(c, 0xff, (size_t)columns / 2 * sizeof *c);
}

/* ---- mbarriers
 * -------------------------------------------------------------------------------------------------
 */

struct mbarrier { /* in shared memory; the real one is opaque */
    int16_t arrivals, pending;
    uint32_t phase;
};

static mbarrier *mbarrier_at(uint32_t smem)
{
    return (mbarrier *)shared_at(smem, 8, 8, "mbarrier");
}

static void mbarrier_arrive(uint32_t smem)
{
    mbarrier *b = mbarrier_at(smem);
    if (b->arrivals <= 0 || b->pending <= 0)
        die("mbarrier at %u: an arrival before it was made", smem);
    if (--b->pending == 0) {
        b->pending = b->arrivals;
        b->phase++;
    }
    now->events++;
}

/* ---- the device
 * ----------------------------------------------------------------------------------------------------
 */

static int device_sm(void)
{
    const char *sm = getenv("SHARDWISE_EMULATE_SM");
    return sm ? atoi(sm) : 90;
}

static int device_shared_bytes(void)
{
    return device_sm() >= 90 ? 227 << 10 : device_sm() == 80 ? 163 << 10 : 99 << 10;
}

int launch_refused(dim3 grid, dim3 block, size_t shared)
{
    size_t threads = (size_t)block.x * block.y * block.z;
    if (grid.x == 0 || grid.y == 0 || grid.z == 0 || grid.x > 0x7fffffffu || grid.y > 65535 ||
        grid.z > 65535 || threads == 0 || threads > 1024)
        return cudaErrorInvalidConfiguration;
    return shared > (size_t)device_shared_bytes() ? cudaErrorInvalidValue : cudaSuccess;
}

} // namespace emu

/* ---- prim.cuh
 * ------------------------------------------------------------------------------------------------------
 */

using emu::now;

uint32_t dev_smem(const void *shared)
{
    size_t at = (size_t)((const unsigned char *)shared - now->shared);
    if (at > now->shared_bytes)
        emu::die("dev_smem: a pointer that is not into shared memory");
    return (uint32_t)at;
}

void dev_copy16(uint32_t smem, const void *global, int bytes)
{
    if (bytes != 0 && bytes != 16)
        emu::die("dev_copy16: %d bytes, want 0 or 16", bytes);
    unsigned char *to = emu::shared_at(smem, 16, 16, "dev_copy16");
    if (bytes)
        emu::global_aligned(global, 16, "dev_copy16");
    memset(to, 0xff, 16);
    now->self->copies.push_back({to, bytes ? global : nullptr});
}

void dev_copy_commit(void)
{
    now->self->copy_groups.emplace_back();
    now->self->copy_groups.back().swap(now->self->copies);
}

void dev_ldmatrix4(uint32_t r[4], uint32_t smem)
{
    emu::ldmatrix m = {r, smem, false};
    emu::warp_meet(0xffffffffu, "dev_ldmatrix4", &m, emu::ldmatrix_act);
}

void dev_stmatrix4(uint32_t smem, const uint32_t r[4])
{
    emu::stmatrix m = {r, smem};
    emu::warp_meet(0xffffffffu, "dev_stmatrix4", &m, emu::stmatrix_act);
}

void dev_ldmatrix4_t(uint32_t r[4], uint32_t smem)
{
    emu::ldmatrix m = {r, smem, true};
    emu::warp_meet(0xffffffffu, "dev_ldmatrix4_t", &m, emu::ldmatrix_act);
}

void dev_mma(float c[4], const uint32_t a[4], const uint32_t b[2])
{
    emu::mma m = {c, a, b};
    emu::warp_meet(0xffffffffu, "dev_mma", &m, emu::mma_act);
}

static uint32_t to_bf16(float x)
{
    uint32_t bits = __float_as_uint(x);
    if (x != x)
        return 0x7fff;
    return (bits + 0x7fff + (bits >> 16 & 1)) >> 16;
}

uint32_t dev_pack(float low, float high)
{
    return to_bf16(low) | to_bf16(high) << 16;
}

void dev_add4(float *global, const float x[4])
{
    emu::global_aligned(global, 16, "dev_add4");
    for (int i = 0; i < 4; i++)
        global[i] += x[i];
}

void dev_bulk_add(float *global, uint32_t smem, int bytes)
{
    if (bytes <= 0 || bytes % 16 != 0)
        emu::die("dev_bulk_add: %d bytes, want a multiple of 16", bytes);
    emu::global_aligned(global, 16, "dev_bulk_add");
    emu::shared_at(smem, (size_t)bytes, 16, "dev_bulk_add");
    now->self->bulks.push_back({global, smem, bytes});
}

void dev_bulk_commit(void)
{
    now->self->bulk_groups.emplace_back();
    now->self->bulk_groups.back().swap(now->self->bulks);
}

void dev_wgmma_commit(void)
{
    now->self->op_groups.emplace_back();
    now->self->op_groups.back().swap(now->self->ops);
}

void dev_barrier_init(uint32_t barrier, int arrivals)
{
    emu::mbarrier *b = emu::mbarrier_at(barrier);
    *b = {(int16_t)arrivals, (int16_t)arrivals, 0};
}

void dev_barrier_arrive(uint32_t barrier)
{
    emu::mbarrier_arrive(barrier);
}

void dev_barrier_arrive_copied(uint32_t barrier)
{
    dev_copy_commit();
    emu::copy_wait(0);
    emu::mbarrier_arrive(barrier);
}

void dev_barrier_arrive_expect(uint32_t barrier, int bytes)
{
    (void)bytes; /* loads are done at once, so nothing is left to wait for */
    emu::mbarrier_arrive(barrier);
}

void dev_bulk_load(uint32_t smem, const void *global, int bytes, uint32_t barrier)
{
    if (bytes <= 0 || bytes % 16 != 0)
        emu::die("dev_bulk_load: %d bytes, want a multiple of 16", bytes);
    emu::global_aligned(global, 16, "dev_bulk_load");
    emu::mbarrier_at(barrier);
    memcpy(emu::shared_at(smem, (size_t)bytes, 16, "dev_bulk_load"), global, (size_t)bytes);
}

void dev_barrier_wait(uint32_t barrier, int parity)
{
    while ((int)(emu::mbarrier_at(barrier)->phase & 1) == parity) {
        now->spinning.push_back(now->self);
        emu::sleep_until_woken();
    }
}

/* ---- the runtime
 * ------------------------------------------------------------------------------------------------------
 */

cudaError_t cudaGetDeviceCount(int *count)
{
    *count = 1;
    return cudaSuccess;
}

cudaError_t cudaGetDevice(int *device)
{
    *device = 0;
    return cudaSuccess;
}

cudaError_t cudaSetDevice(int device)
{
    return device == 0 ? cudaSuccess : cudaErrorInvalidValue;
}

cudaError_t cudaDeviceGetAttribute(int *value, cudaDeviceAttr attribute, int device)
{
    (void)device;
    switch (attribute) {
    case cudaDevAttrMultiProcessorCount:
        *value = 4; /* few: a grid of several waves in small tests */
        return cudaSuccess;
    case cudaDevAttrL2CacheSize:
        *value = 50 << 20;
        return cudaSuccess;
    case cudaDevAttrComputeCapabilityMajor:
        *value = emu::device_sm() / 10;
        return cudaSuccess;
    case cudaDevAttrComputeCapabilityMinor:
        *value = emu::device_sm() % 10;
        return cudaSuccess;
    case cudaDevAttrMaxSharedMemoryPerMultiprocessor:
        *value = emu::device_shared_bytes() + 1024;
        return cudaSuccess;
    case cudaDevAttrMaxSharedMemoryPerBlockOptin:
        *value = emu::device_shared_bytes();
        return cudaSuccess;
    }
    return cudaErrorInvalidValue;
}

cudaError_t cudaDriverGetVersion(int *version)
{
    *version = 13000;
    return cudaSuccess;
}

cudaError_t cudaRuntimeGetVersion(int *version)
{
    *version = 13000;
    return cudaSuccess;
}

static size_t memory_limit(void)
{
    const char *bytes = getenv("SHARDWISE_EMULATE_MEMORY");
    return bytes ? strtoull(bytes, nullptr, 10) : (size_t)4 << 30;
}

cudaError_t cudaMemGetInfo(size_t *free, size_t *total)
{
    *free = *total = memory_limit();
    return cudaSuccess;
}

cudaError_t cudaMalloc(void **p, size_t bytes)
{
    if (bytes > memory_limit())
        return cudaErrorMemoryAllocation;
    *p = emu::device_memory.wanted() ? emu::device_memory.take(bytes)
                                     : aligned_alloc(256, (bytes + 511) / 256 * 256);
    return *p ? cudaSuccess : cudaErrorMemoryAllocation;
}

cudaError_t cudaFree(void *p)
{
    if (!emu::device_memory.give_back(p))
        free(p);
    return cudaSuccess;
}

cudaError_t cudaMallocAsync(void **p, size_t bytes, cudaStream_t stream)
{
    (void)stream;
    emu::at_work open;
    cudaError_t bad = cudaMalloc(p, bytes);
    if (bad == cudaSuccess && emu::device_memory.has(*p))
        mprotect(*p, bytes, PROT_READ | PROT_WRITE);
    if (bad == cudaSuccess)
        memset(*p, 0xff, bytes); /* NaN: what was not written must not be read */
    return bad;
}

cudaError_t cudaFreeAsync(void *p, cudaStream_t stream)
{
    (void)stream;
    return cudaFree(p);
}

cudaError_t cudaHostAlloc(void **p, size_t bytes, unsigned flags)
{
    (void)flags;
    *p = malloc(bytes);
    return *p ? cudaSuccess : cudaErrorMemoryAllocation;
}

cudaError_t cudaFreeHost(void *p)
{
    free(p);
    return cudaSuccess;
}

cudaError_t cudaFuncGetAttributes(cudaFuncAttributes *attributes, const void *kernel)
{
    (void)kernel;
    attributes->binaryVersion = emu::device_sm();
    return cudaSuccess;
}

cudaError_t cudaDeviceGetDefaultMemPool(cudaMemPool_t *pool, int device)
{
    (void)device;
    *pool = nullptr;
    return cudaSuccess;
}

cudaError_t cudaMemPoolSetAttribute(cudaMemPool_t pool, cudaMemPoolAttr attribute, void *value)
{
    (void)pool;
    (void)attribute;
    (void)value;
    return cudaSuccess;
}

cudaError_t cudaMemPoolTrimTo(cudaMemPool_t pool, size_t bytes)
{
    (void)pool;
    (void)bytes;
    return cudaSuccess;
}

cudaError_t cudaMemcpyAsync(void *to, const void *from, size_t bytes, cudaMemcpyKind kind,
                            cudaStream_t stream)
{
    (void)stream;
    bool to_device = kind == cudaMemcpyHostToDevice || kind == cudaMemcpyDeviceToDevice,
         from_device = kind == cudaMemcpyDeviceToHost || kind == cudaMemcpyDeviceToDevice;
    if (bytes && kind != cudaMemcpyDefault && emu::device_memory.wanted() &&
        (emu::device_memory.has(to) != to_device || emu::device_memory.has(from) != from_device))
        return cudaErrorInvalidValue;
    emu::at_work open;
    if (bytes)
        memcpy(to, from, bytes);
    return cudaSuccess;
}

cudaError_t cudaMemsetAsync(void *p, int byte, size_t bytes, cudaStream_t stream)
{
    (void)stream;
    emu::at_work open;
    if (bytes)
        memset(p, byte, bytes);
    return cudaSuccess;
}

cudaError_t cudaStreamSynchronize(cudaStream_t stream)
{
    (void)stream;
    return cudaSuccess;
}

cudaError_t cudaDeviceSynchronize(void)
{
    return cudaSuccess;
}

cudaError_t cudaGetLastError(void)
{
    return cudaSuccess;
}

const char *cudaGetErrorString(cudaError_t error)
{
    switch (error) {
    case cudaSuccess:
        return "no error";
    case cudaErrorInvalidValue:
        return "invalid argument";
    case cudaErrorMemoryAllocation:
        return "out of memory";
    case cudaErrorInvalidConfiguration:
        return "invalid configuration argument";
    case cudaErrorInsufficientDriver:
        return "CUDA driver version is insufficient for CUDA runtime version";
    case cudaErrorNoDevice:
        return "no CUDA-capable device is detected";
    }
    return "unknown error";
}

const char *cudaGetErrorName(cudaError_t error)
{
    return error == cudaSuccess ? "cudaSuccess" : "cudaError";
}
