/* A machine that executes PTX, as nvcc prints it, on a CPU: written from the PTX ISA manual alone,
 * to run the very instructions of the CUDA kernels where there is no GPU, and to be as unkind as
 * the manual allows. It knows nothing of kernels/cuda/prim.cuh nor of its emulation.
 *
 * Memory: device memory is host memory. A pointer parameter is a host pointer; where the launch
 * names what is allocated, each access outside is an error. Shared memory starts as quiet NaN
 * patterns from the seed, as registers do.
 *
 * Order: each thread has its own program counter; lanes of a warp that agree run together; which
 * lanes and warps run next is drawn from the seed. Asynchronous work (cp.async, bulk copies, wgmma)
 * reads and writes as late as the waits allow, or at a time drawn from the seed. Shared memory is
 * watched by vector clocks of all threads of a block: two accesses of which one writes, without
 * a barrier between, are an error; so is one by the asynchronous proxy without fence.proxy.async.
 *
 * Errors (ERR_INPUT for text that cannot be read, ERR_DEVICE for a kernel that does what it must
 * not) name the kernel, block, thread, line and its text.
 *
 * Not modelled: time, caches, clusters, textures, indirect calls, the memory order of different
 * blocks, the rounding of tensor cores inside a product (here: fp32 sums in order of k). */
#ifndef TESTS_PTX_PTX_H
#define TESTS_PTX_PTX_H

#include "base/err.h"

#include <stddef.h>
#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

struct ptx_module; /* the text of one .ptx, read */

/* Reads text[0 .. bytes); no NUL is needed, nothing is kept of `text`. `file` is the name that
 * errors give. An instruction that the machine does not know is an error. */
bool ptx_load(const char *file, const char *text, size_t bytes, struct ptx_module **m,
              struct err *e);
void ptx_free(struct ptx_module *m); /* accepts NULL */

struct ptx_kernel {
    const char *name;                         /* as in the text: mangled */
    int params;                               /* of cudaLaunchKernel's args */
    const size_t *param_offset, *param_bytes; /* [params] */
    unsigned max_threads;                     /* .maxntid: of a block; 0: not said */
    unsigned min_blocks;                      /* .minnctapersm, 0: not said */
    unsigned max_registers;                   /* .maxnreg, 0: not said */
    size_t static_shared, local_bytes;        /* of a block; of a thread */
    const struct ptx_code *code;              /* what the machine made of it */
};

int ptx_kernels(const struct ptx_module *m);
const struct ptx_kernel *ptx_kernel_at(const struct ptx_module *m, int i);
const struct ptx_kernel *ptx_find(const struct ptx_module *m, const char *name); /* NULL: none */

/* What was executed. Warp instructions count once for a warp however few of its lanes take part. */
enum ptx_class {
    PTX_INTEGER, /* add, mad, logic, shifts, integer division too */
    PTX_FLOAT,   /* fp32 add, mul, fma, min, max, division too */
    PTX_SPECIAL, /* ex2, lg2, rcp, sqrt, sin, cos: 16 lanes a cycle */
    PTX_CONVERT, /* cvt */
    PTX_MOVE,    /* mov, cvta, selp, ld.param: often no machine instruction at all */
    PTX_COMPARE, /* setp and predicate logic */
    PTX_BRANCH,  /* bra, ret, exit */
    PTX_SHUFFLE, /* shfl, vote, match, redux */
    PTX_BARRIER, /* bar, mbarrier, fences, waits */
    PTX_LD_SHARED,
    PTX_ST_SHARED,
    PTX_LD_GLOBAL,
    PTX_ST_GLOBAL,
    PTX_LOCAL,  /* ld and st */
    PTX_ATOMIC, /* atom and red, shared and global */
    PTX_COPY,   /* cp.async and bulk copies */
    PTX_MATRIX, /* ldmatrix, stmatrix */
    PTX_TENSOR, /* mma.sync and wgmma.mma_async */
    PTX_CLASSES
};
extern const char *const ptx_class_name[PTX_CLASSES];

struct ptx_counts {
    uint64_t warp_instructions[PTX_CLASSES];
    uint64_t thread_instructions[PTX_CLASSES]; /* lanes that took part */
    /* Shared memory: 32 banks of 4 bytes; a wavefront moves at most 4 bytes of each bank. Ideal:
     * distinct bytes / 128, rounded up for each request. Ordinary, ldmatrix and cp.async; not what
     * tensor cores read of it, which is tensor_shared_bytes. */
    uint64_t shared_requests, shared_wavefronts, shared_wavefronts_ideal;
    uint64_t tensor_shared_bytes;
    /* Global memory: sectors of 32 bytes, each counted once per request. */
    uint64_t global_load_requests, global_load_sectors, global_load_bytes;
    uint64_t global_store_requests, global_store_sectors, global_store_bytes;
    uint64_t copy_sectors, copy_bytes;       /* cp.async and bulk copies, global side */
    uint64_t mma_flop, wgmma_flop;           /* 2 m n k of each */
    uint64_t shared_atomics, global_atomics; /* lanes */
    uint64_t blocks;
};

struct ptx_range { /* allocated device memory */
    uintptr_t start;
    size_t bytes;
};

struct ptx_launch {
    unsigned grid[3], block[3];
    size_t dynamic_shared;
    unsigned seed;             /* of the schedule and of what was never written */
    int threads;               /* of the host, for blocks at a time; < 2: one after the other */
    struct ptx_counts *counts; /* added to; NULL: not wanted (and faster) */
    const struct ptx_range *allocated; /* [ranges] by start, none overlapping; NULL: not checked */
    size_t ranges;
    uint64_t most_instructions; /* of a warp, a runaway loop beyond; 0: 2^32 */
    bool allow_races;           /* true: accesses to shared memory are not ordered by clocks */
    size_t max_shared;          /* of a block, dynamic and static; 0: 227 KiB */
};

/* Runs all blocks. params[i] points to param_bytes[i] bytes. Same arguments and memory: the same
 * results, except where several host threads add floats atomically. False at the first error. */
bool ptx_run(const struct ptx_module *m, const struct ptx_kernel *k, const struct ptx_launch *l,
             void *const *params, struct err *e);

#ifdef __cplusplus
}
#endif
#endif
