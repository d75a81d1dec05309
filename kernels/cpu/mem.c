/* Memory of the CPU backends: the host's own. */
#include "kernels/cpu/cpu.h"

#include <stdlib.h>

#include "kernels/cpu/tile.h"

enum { ALIGNMENT = 256 };

bool cpu_available(void)
{
    return true;
}

bool cpu_allocate(size_t bytes, void **p, struct err *e)
{
    void *got = bytes > SIZE_MAX - ALIGNMENT
                    ? NULL
                    : aligned_alloc(ALIGNMENT, (bytes / ALIGNMENT + 1) * ALIGNMENT);
    if (!got)
        return err_set(e, ERR_SYSTEM, err_at_name("memory"), "cannot get %.3f GB: out of memory",
                       (double)bytes * 1e-9);
    *p = got;
    return true;
}

void cpu_release(void *p)
{
    free(p);
}

bool cpu_put(void *dst, const void *host, size_t bytes, struct err *e)
{
    (void)e;
    if (bytes)
        memcpy(dst, host, bytes);
    return true;
}

bool cpu_get(void *host, const void *src, size_t bytes, struct err *e)
{
    return cpu_put(host, src, bytes, e);
}

bool cpu_clear(void *dst, size_t bytes, struct err *e)
{
    (void)e;
    if (bytes)
        memset(dst, 0, bytes);
    return true;
}

bool cpu_wait(struct err *e)
{
    (void)e;
    return true;
}

/* forward: Q^T, O^T, one panel of P, K and V of a block. backward: Q^T, dO^T, dQ^T, Q and dO by
 * rows, P and dS of all panels, K and V. K or V may be kept in two forms. Each array is rounded up
 * to 64 bytes. */
size_t tile_scratch(int dim, bool backward)
{
    enum { ARRAYS = 12, ROUNDING = 16 };
    size_t d = (size_t)dim, rows = TILE_QUERIES * d, keys = TILE_KEYS * d,
           square = TILE_KEYS * TILE_QUERIES;
    size_t floats = backward ? 5 * rows + 2 * square + 3 * keys + 2 * TILE_PANEL_MAX
                             : 2 * rows + TILE_KEYS * TILE_PANEL_MAX + 3 * keys;
    return (floats + ARRAYS * ROUNDING + 63) / 64 * 64;
}
