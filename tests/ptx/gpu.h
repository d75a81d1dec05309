/* The limits of a few GPUs, and what a launch may ask of them: what the real driver refuses, the
 * stand-in runtime (cudart.c) refuses with the same code. From the CUDA C++ Programming Guide
 * ("Technical Specifications per Compute Capability") and the data sheets. */
#ifndef TESTS_PTX_GPU_H
#define TESTS_PTX_GPU_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

struct gpu {
    int sm; /* compute capability x 10 */
    const char *name;
    int processors;
    uint64_t memory_bytes;
    int l2_bytes;
    size_t shared_optin;     /* of a block, once asked for by attribute */
    size_t shared_processor; /* of a processor; each block costs GPU_SHARED_RESERVED besides */
    int threads_processor, blocks_processor;
};

enum {
    GPU_SHARED_PLAIN = 48 << 10, /* of a block, without asking */
    GPU_SHARED_RESERVED = 1 << 10,
    GPU_REGISTERS = 64 << 10, /* of a processor and of a block */
    GPU_REGISTERS_UNIT = 256, /* a warp gets multiples of these */
    GPU_BLOCK_THREADS = 1024,
    GPU_PARAM_BYTES = 4096 /* kernel parameters; 32,764 from CUDA 12.1 and driver 530 on */
};

const struct gpu *gpu_of(int sm); /* NULL: not among those known (80, 86, 90) */

/* A kernel as compiled for the GPU, and what its attributes allow. */
struct gpu_kernel {
    int registers;        /* of a thread; 0: not known, and not checked */
    unsigned max_threads; /* .maxntid; 0: not said */
    size_t static_shared;
    size_t dynamic_allowed; /* cudaFuncAttributeMaxDynamicSharedMemorySize */
    size_t param_bytes;
};

/* cudaError_t's values */
enum gpu_refusal {
    GPU_FINE = 0,
    GPU_INVALID_VALUE = 1,
    GPU_INVALID_CONFIGURATION = 9,
    GPU_OUT_OF_RESOURCES = 701
};

/* May k start so? Otherwise what the runtime says, and in `why` the reason in words. */
enum gpu_refusal gpu_launch(const struct gpu *g, const struct gpu_kernel *k, const unsigned grid[3],
                            const unsigned block[3], size_t dynamic_shared, char *why, size_t room);

/* The dynamic shared memory that k's attribute may be raised to; less than zero: none. */
long gpu_dynamic_most(const struct gpu *g, const struct gpu_kernel *k);

/* Blocks of k that a processor holds at a time; 0 if it takes none. Unknown registers count as
 * none. */
int gpu_blocks(const struct gpu *g, const struct gpu_kernel *k, unsigned threads,
               size_t dynamic_shared);

#ifdef __cplusplus
}
#endif
#endif
