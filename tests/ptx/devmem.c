/* Device memory that the host may not touch. */
#include "tests/ptx/devmem.h"

#include <assert.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

enum { PAGE = 4096, ALIGNMENT = 256 };
static const size_t space_bytes = (size_t)1 << 40;

struct block {
    uintptr_t start;
    size_t bytes;
    size_t slot_bytes; /* from `start` - ALIGNMENT, whole pages */
    bool taken;
};

struct devmem {
    unsigned char *base, *top; /* addresses below top were used */
    struct block *block;       /* by address */
    size_t count, room;
    struct ptx_range *range;
    uint64_t used;
    unsigned char *open_from; /* up to top, while it is open */
    int open;
};

/* ---- the host's access -------------------------------------------------------------------------
 */

/* Where a signal handler finds the memory: there is one device. */
static struct devmem *guarded;

static void on_fault(int number, siginfo_t *info, void *context)
{
    static const char text[] = "ptx: the host touched device memory outside a copy; here it ends\n";
    (void)context;
    const unsigned char *at = info->si_addr;
    if (guarded && at >= guarded->base && at < guarded->base + space_bytes &&
        write(2, text, sizeof text - 1) < 0)
        _exit(1);
    signal(number, SIG_DFL); /* the access is made again, and ends the program */
}

static void guard(struct devmem *m)
{
    struct sigaction act;
    memset(&act, 0, sizeof act);
    act.sa_sigaction = on_fault;
    act.sa_flags = SA_SIGINFO;
    guarded = m;
    sigaction(SIGSEGV, &act, NULL);
}

static void protect(unsigned char *from, const unsigned char *to, int how)
{
    if (to > from && mprotect(from, (size_t)(to - from), how) != 0)
        abort();
}

/* What lies below the first block was given back. */
void devmem_open(struct devmem *m)
{
    if (m->open++ > 0)
        return;
    m->open_from = m->count ? (unsigned char *)m->block[0].start - ALIGNMENT : m->top;
    protect(m->open_from, m->top, PROT_READ | PROT_WRITE);
}

void devmem_close(struct devmem *m)
{
    if (--m->open == 0)
        protect(m->open_from, m->top, PROT_NONE);
}

/* ---- allocations -------------------------------------------------------------------------------
 */

struct devmem *devmem_new(void)
{
    struct devmem *m = calloc(1, sizeof *m);
    if (!m)
        return NULL;
    void *base =
        mmap(NULL, space_bytes, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    if (base == MAP_FAILED) {
        free(m);
        return NULL;
    }
    m->base = m->top = base;
    guard(m);
    return m;
}

void devmem_free(struct devmem *m)
{
    if (!m)
        return;
    guarded = NULL;
    munmap(m->base, space_bytes);
    free(m->block);
    free(m->range);
    free(m);
}

static bool grow(struct devmem *m)
{
    if (m->count < m->room)
        return true;
    size_t room = m->room ? 2 * m->room : 64;
    struct block *block = realloc(m->block, room * sizeof *block);
    if (block)
        m->block = block;
    struct ptx_range *range = realloc(m->range, room * sizeof *range);
    if (range)
        m->range = range;
    if (!block || !range)
        return false;
    m->room = room;
    return true;
}

bool devmem_place(struct devmem *m, size_t bytes, uint64_t most, void **p)
{
    if (bytes > most || m->used > most - bytes || !grow(m))
        return false;
    size_t slot = (bytes + ALIGNMENT + PAGE) / PAGE * PAGE; /* a byte after the end at least */
    if (slot > space_bytes - (size_t)(m->top - m->base))
        return false;
    m->block[m->count++] = (struct block){(uintptr_t)m->top + ALIGNMENT, bytes, slot, false};
    *p = m->top + ALIGNMENT;
    if (m->open)
        protect(m->top, m->top + slot, PROT_READ | PROT_WRITE);
    m->top += slot;
    m->used += bytes;
    return true;
}

/* The block that `at` lies in or right behind; NULL: before all. */
static struct block *block_at(const struct devmem *m, uintptr_t at)
{
    size_t low = 0, high = m->count;
    while (low < high) {
        size_t middle = (low + high) / 2;
        if (m->block[middle].start <= at)
            low = middle + 1;
        else
            high = middle;
    }
    return low ? &m->block[low - 1] : NULL;
}

static struct block *block_from(const struct devmem *m, const void *p)
{
    struct block *b = block_at(m, (uintptr_t)p);
    return b && b->start == (uintptr_t)p ? b : NULL;
}

void devmem_take(struct devmem *m, void *p)
{
    struct block *b = block_from(m, p);
    assert(b && !b->taken);
    b->taken = true;
    devmem_open(m);
    memset(p, 0xff, b->bytes); /* NaN in fp32 and bf16, -1 as an index */
    devmem_close(m);
}

bool devmem_give(struct devmem *m, void *p)
{
    struct block *b = block_from(m, p);
    if (!b)
        return false;
    madvise((unsigned char *)p - ALIGNMENT, b->slot_bytes, MADV_DONTNEED);
    m->used -= b->bytes;
    size_t after = m->count - (size_t)(b - m->block) - 1;
    memmove(b, b + 1, after * sizeof *b);
    m->count--;
    return true;
}

bool devmem_starts(const struct devmem *m, const void *p)
{
    return block_from(m, p) != NULL;
}

static const struct block *block_of(const struct devmem *m, const void *p, size_t bytes)
{
    const struct block *b = block_at(m, (uintptr_t)p);
    size_t from = b ? (uintptr_t)p - b->start : 0;
    return b && from <= b->bytes && bytes <= b->bytes - from ? b : NULL;
}

bool devmem_knows(const struct devmem *m, const void *p, size_t bytes)
{
    return block_of(m, p, bytes) != NULL;
}

bool devmem_has(const struct devmem *m, const void *p, size_t bytes)
{
    const struct block *b = block_of(m, p, bytes);
    return b && b->taken;
}

const struct ptx_range *devmem_ranges(struct devmem *m, size_t *count)
{
    *count = 0;
    for (size_t i = 0; i < m->count; i++)
        if (m->block[i].taken)
            m->range[(*count)++] = (struct ptx_range){m->block[i].start, m->block[i].bytes};
    return m->range;
}

uint64_t devmem_used(const struct devmem *m)
{
    return m->used;
}
