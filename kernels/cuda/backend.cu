/* The CUDA backend's table, its memory, and its errors. */
#include "kernels/cuda/cuda.h"

#include <stdint.h>
#include <stdio.h>

#include "base/launcher.h"

/* Freed scratch up to this much stays with the process: without it, the allocator gives everything
 * back at each synchronisation and maps it again in the next call, which costs more than most
 * kernels. */
static const uint64_t scratch_kept = 4ull << 30;

/* Asked only whether this device can run it: the machine code that this build has. */
__global__ void backend_probe(int *out)
{
    if (out)
        *out = 1;
}

/* ---- errors ---------------------------------------------------------------------------------- */

static bool out_of_memory(const char *what, struct err *e)
{
    size_t free_bytes = 0, total_bytes = 0;
    cudaMemGetInfo(&free_bytes, &total_bytes);
    cudaGetLastError();
    return err_set(e, ERR_SYSTEM, err_at_name(what),
                   "out of device memory: %.3f of %.3f GB are free", (double)free_bytes * 1e-9,
                   (double)total_bytes * 1e-9);
}

bool cuda_ok(cudaError_t status, const char *what, struct err *e)
{
    if (status == cudaSuccess)
        return true;
    cudaGetLastError(); /* the caller reports it; the next call must not find it again */
    if (status == cudaErrorMemoryAllocation)
        return out_of_memory(what, e);
    return err_set(e, ERR_DEVICE, err_at_name(what), "%s (%s)", cudaGetErrorString(status),
                   cudaGetErrorName(status));
}

bool cuda_aligned(const void *p, int bytes, int head, const char *name, struct err *e)
{
    if (p && (uintptr_t)p % (unsigned)bytes == 0)
        return true;
    char at[32];
    snprintf(at, sizeof at, "head %d", head);
    return err_set(e, ERR_INPUT, err_at_name(at), "%s: address %p, want a multiple of %d bytes",
                   name, p, bytes);
}

bool cuda_entry_aligned(const void *p, int bytes, const char *what, int entry, const char *name,
                        struct err *e)
{
    return (uintptr_t)p % (unsigned)bytes == 0 ||
           err_set(e, ERR_INPUT, err_at_name(what),
                   "entry %d: %s: address %p, want a multiple of %d bytes", entry, name, p, bytes);
}

bool cuda_words_aligned(const struct kern_head *h, int head, struct err *e)
{
    const struct {
        const void *p;
        const char *name;
    } arrays[] = {{h->lse, "lse"},
                  {h->keys.list, "keys.list"},
                  {h->keys.count, "keys.count"},
                  {h->keys.bitmap, "keys.bitmap"}};
    for (const auto &a : arrays)
        if (a.p && !cuda_aligned(a.p, 4, head, a.name, e))
            return false;
    return true;
}

bool cuda_entries(const void *entries, int count, const char *what, struct err *e)
{
    return (count >= 0 && (count == 0 || entries)) ||
           err_set(e, ERR_INPUT, err_at_name(what), "%d entries at %p, want 0 or more, and where",
                   count, entries);
}

/* ---- the device ------------------------------------------------------------------------------ */

static cudaError_t attribute(int *value, cudaDeviceAttr name, cudaError_t before)
{
    int device = 0;
    if (before != cudaSuccess)
        return before;
    cudaError_t bad = cudaGetDevice(&device);
    return bad != cudaSuccess ? bad : cudaDeviceGetAttribute(value, name, device);
}

bool cuda_device(struct cuda_device *d, struct err *e)
{
    int major = 0, minor = 0, processors = 0, shared = 0;
    cudaError_t bad = attribute(&major, cudaDevAttrComputeCapabilityMajor, cudaSuccess);
    bad = attribute(&minor, cudaDevAttrComputeCapabilityMinor, bad);
    bad = attribute(&processors, cudaDevAttrMultiProcessorCount, bad);
    bad = attribute(&shared, cudaDevAttrMaxSharedMemoryPerBlockOptin, bad);
    if (!cuda_ok(bad, "cuda", e))
        return false;
    *d = {10 * major + minor, processors, shared};
    return true;
}

/* Of several processes on a machine each takes the GPU of its rank there. */
static bool take_device(int devices)
{
    int local = launcher_of_process().local_rank;
    return devices > 0 && (local == 0 || cudaSetDevice(local % devices) == cudaSuccess);
}

static bool backend_available(void)
{
    struct err e = {};
    struct cuda_device d;
    cudaFuncAttributes code;
    int devices = 0;
    bool ok = cudaGetDeviceCount(&devices) == cudaSuccess && take_device(devices) &&
              cuda_device(&d, &e) && d.sm >= DEV_SM_COPY &&
              cudaFuncGetAttributes(&code, (const void *)backend_probe) == cudaSuccess;
    cudaGetLastError();
    return ok;
}

/* ---- memory ---------------------------------------------------------------------------------- */

static cudaError_t scratch_pool(cudaMemPool_t *pool)
{
    int device = 0;
    cudaError_t bad = cudaGetDevice(&device);
    return bad != cudaSuccess ? bad : cudaDeviceGetDefaultMemPool(pool, device);
}

/* Scratch that was freed but kept may be what is missing. */
static void give_scratch_back(void)
{
    cudaMemPool_t pool;
    if (cudaStreamSynchronize(CUDA_STREAM) == cudaSuccess && scratch_pool(&pool) == cudaSuccess)
        cudaMemPoolTrimTo(pool, 0);
    cudaGetLastError();
}

static cudaError_t device_memory(size_t bytes, void **p)
{
    return bytes > PTRDIFF_MAX ? cudaErrorMemoryAllocation : cudaMalloc(p, bytes ? bytes : 1);
}

static bool backend_allocate(size_t bytes, void **p, struct err *e)
{
    void *got = NULL;
    cudaError_t bad = device_memory(bytes, &got);
    if (bad == cudaErrorMemoryAllocation) {
        cudaGetLastError();
        give_scratch_back();
        bad = device_memory(bytes, &got);
    }
    if (!cuda_ok(bad, "memory", e)) {
        err_prefix(e, "cannot get %.3f GB", (double)bytes * 1e-9);
        return false;
    }
    *p = got;
    return true;
}

static void backend_release(void *p)
{
    if (cudaFree(p) != cudaSuccess)
        cudaGetLastError(); /* the device is lost, and the memory with it */
}

static bool backend_host_allocate(size_t bytes, void **p, struct err *e)
{
    void *got = NULL;
    if (!cuda_ok(cudaHostAlloc(&got, bytes ? bytes : 1, cudaHostAllocDefault), "host memory", e)) {
        cudaGetLastError();
        err_prefix(e, "cannot get %.3f GB that stay in place", (double)bytes * 1e-9);
        return false;
    }
    *p = got;
    return true;
}

static void backend_host_release(void *p)
{
    if (cudaFreeHost(p) != cudaSuccess)
        cudaGetLastError();
}

static bool copied(void *to, const void *from, size_t bytes, cudaMemcpyKind kind, const char *what,
                   struct err *e)
{
    if (bytes == 0)
        return true;
    return cuda_ok(cudaMemcpyAsync(to, from, bytes, kind, CUDA_STREAM), what, e) &&
           cuda_ok(cudaStreamSynchronize(CUDA_STREAM), what, e);
}

static bool backend_put(void *dst, const void *host, size_t bytes, struct err *e)
{
    return copied(dst, host, bytes, cudaMemcpyHostToDevice, "copy to the device", e);
}

static bool backend_get(void *host, const void *src, size_t bytes, struct err *e)
{
    return copied(host, src, bytes, cudaMemcpyDeviceToHost, "copy from the device", e);
}

static bool backend_clear(void *dst, size_t bytes, struct err *e)
{
    return bytes == 0 || cuda_ok(cudaMemsetAsync(dst, 0, bytes, CUDA_STREAM), "clear", e);
}

static bool backend_wait(struct err *e)
{
    return cuda_ok(cudaStreamSynchronize(CUDA_STREAM), "wait", e);
}

bool cuda_scratch(size_t bytes, void **p, const char *what, struct err *e)
{
    cudaMemPool_t pool;
    uint64_t kept = scratch_kept;
    void *got = NULL;
    cudaError_t bad = scratch_pool(&pool);
    if (bad == cudaSuccess)
        bad = cudaMemPoolSetAttribute(pool, cudaMemPoolAttrReleaseThreshold, &kept);
    if (bad == cudaSuccess)
        bad = cudaMallocAsync(&got, bytes ? bytes : 1, CUDA_STREAM);
    if (!cuda_ok(bad, what, e)) {
        err_prefix(e, "scratch of %.3f GB", (double)bytes * 1e-9);
        return false;
    }
    *p = got;
    return true;
}

void cuda_scratch_free(void *p)
{
    if (p && cudaFreeAsync(p, CUDA_STREAM) != cudaSuccess)
        cudaGetLastError();
}

/* ---- the table ------------------------------------------------------------------------------- */

extern "C" const struct kern_backend kern_cuda = {
    .name = "cuda",
    .what = "NVIDIA GPUs from compute capability 8.0",
    .exact = true, /* dK and dV are summed in the order of the queries */
    .host = false,
    .available = backend_available,
    .allocate = backend_allocate,
    .release = backend_release,
    .put = backend_put,
    .get = backend_get,
    .clear = backend_clear,
    .wait = backend_wait,
    .forward = cuda_forward,
    .backward = cuda_backward,
    .select = cuda_select,
    .unite = cuda_unite,
    .remap = cuda_remap,
    .copy = cuda_copy,
    .gather = cuda_gather,
    .scatter_add = cuda_scatter_add,
    .merge = cuda_merge,
    .to_bf16 = cuda_to_bf16,
    .to_fp32 = cuda_to_fp32,
    .linear = NULL, /* the linear layers of a plan are not run on a GPU */
    .host_allocate = backend_host_allocate,
    .host_release = backend_host_release,
};
