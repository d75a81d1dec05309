/* What the files of the CPU backends share. The functions of struct kern_backend keep its contract
 * (kernels/kern.h). */
#ifndef KERNELS_CPU_CPU_H
#define KERNELS_CPU_CPU_H

#include <stddef.h>

#include "kernels/kern.h"

extern const struct kern_backend kern_cpu, kern_reference;

/* mem.c */
bool cpu_available(void);
bool cpu_allocate(size_t bytes, void **p, struct err *e); /* 0 bytes give a pointer too */
void cpu_release(void *p);
bool cpu_put(void *dst, const void *host, size_t bytes, struct err *e);
bool cpu_get(void *host, const void *src, size_t bytes, struct err *e);
bool cpu_clear(void *dst, size_t bytes, struct err *e);
bool cpu_wait(struct err *e);

/* select.c */
bool cpu_select(const struct kern_select *s, struct err *e);

/* move.c */
bool cpu_unite(const struct kern_union *u, int count, struct err *e);
bool cpu_remap(const struct kern_remap *r, int count, struct err *e);
bool cpu_copy(const struct kern_copy *c, int count, struct err *e);
bool cpu_gather(const struct kern_gather *g, int count, struct err *e);
bool cpu_scatter_add(const struct kern_scatter *s, int count, struct err *e);
bool cpu_merge(const struct kern_merge *m, int count, struct err *e);
bool cpu_to_bf16(uint16_t *dst, const float *src, int64_t count, struct err *e);
bool cpu_to_fp32(float *dst, const uint16_t *src, int64_t count, struct err *e);
int64_t cpu_bits_to_list(const uint32_t *bits, int64_t keys, int32_t *list); /* returns how many */

/* fast.c. The best instruction set of this machine, or the one that the environment variable
 * SHARDWISE_CPU_ISA names; NULL if that cannot run here. */
struct tile_isa;
const struct tile_isa *cpu_isa(struct err *e);
int cpu_threads(void); /* that a parallel region will have; 1 without OpenMP */
int cpu_thread(void);  /* of the caller within it */

#endif
