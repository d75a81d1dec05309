/* A stand-in for the CUDA runtime (libcudart), to be linked before the real one: programs of
 * kernels/cuda, as nvcc compiled them, run on the PTX machine (ptx.h) where there is no GPU. It has
 * the functions that they call, with the limits, the codes and the laziness of the real one:
 *
 * - The PTX comes out of the fat binaries that nvcc put into the objects (uncompressed).
 * - Work on a stream waits until something waits for it, as late as CUDA allows; nothing is
 *   synchronized that CUDA does not promise to synchronize (cudaFree, cudaMalloc). What a kernel
 *   does wrong is printed, and comes back from the call that waits and from all calls after it.
 * - Memory is that of devmem.h; copies are checked against it. Host memory that is copied to the
 *   device is read at once (as pageable memory is), the device's written late.
 *
 * Environment: SHARDWISE_PTX_SM=80|86|90 (90), the device;
 * SHARDWISE_PTX_PROCESSORS=number, that it has so many only (kernels that fill the device have that
 * many blocks); SHARDWISE_PTX_SEED=number (1), of the
 * order in which threads run; SHARDWISE_PTX_TRACE=1 prints each launch;
 * SHARDWISE_PTX_ERROR=number, what all calls return: 100 no device, 35 too old a driver;
 * SHARDWISE_EMULATE_MEMORY=bytes, as if the device had no more left, read at
 * each allocation. */
#ifndef TESTS_PTX_CUDART_H
#define TESTS_PTX_CUDART_H

#include "tests/ptx/ptx.h"

#ifdef __cplusplus
extern "C" {
#endif

/* What a kernel executed since the last cudart_count_from_here; the last launch's sizes. */
struct cudart_kernel {
    const char *name; /* mangled */
    int launches, registers;
    unsigned grid, block; /* blocks; threads of one */
    size_t dynamic_shared;
    int blocks_processor; /* resident at a time */
    struct ptx_counts counts;
};

/* Counting makes kernels slower; it is off until the first call. */
void cudart_count_from_here(void);

/* The kernels that were launched since; at most `room`. Waits for nothing. */
int cudart_counted(struct cudart_kernel *out, int room);

#ifdef __cplusplus
}
#endif
#endif
