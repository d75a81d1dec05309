/* Device memory of the stand-in runtime: host memory that the host may not touch. Every allocation
 * has pages of its own, at an address that is a multiple of 256 and of no more (what cudaMalloc
 * promises), and addresses are never used twice; so what lies outside an allocation, before it or
 * after its end stays an error for ever. It starts as NaN. */
#ifndef TESTS_PTX_DEVMEM_H
#define TESTS_PTX_DEVMEM_H

#include "tests/ptx/ptx.h"

struct devmem;

/* NULL where the machine has no such address space. */
struct devmem *devmem_new(void);
void devmem_free(struct devmem *m); /* accepts NULL */

/* Finds room: the address is known from now on, the memory there from devmem_take on. `most`: of
 * all that is placed. False: there is no more. */
bool devmem_place(struct devmem *m, size_t bytes, uint64_t most, void **p);
void devmem_take(struct devmem *m, void *p);

/* Gives it back; false if p is not where an allocation starts. */
bool devmem_give(struct devmem *m, void *p);

/* Is p the start of an allocation (placed or taken)? Do the bytes lie in one; and is it taken? */
bool devmem_starts(const struct devmem *m, const void *p);
bool devmem_knows(const struct devmem *m, const void *p, size_t bytes);
bool devmem_has(const struct devmem *m, const void *p, size_t bytes);

/* What is taken, by address, until the next call with m; and bytes of all that is placed. */
const struct ptx_range *devmem_ranges(struct devmem *m, size_t *count);
uint64_t devmem_used(const struct devmem *m);

/* Between these the memory can be reached. Pairs may nest. Elsewhere the host's access ends the
 * program with a message. */
void devmem_open(struct devmem *m);
void devmem_close(struct devmem *m);

#endif
