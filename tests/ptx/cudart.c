/* The stand-in CUDA runtime. One device, one lock: whatever runs on the device runs alone. */
#include "tests/ptx/cudart.h"

#include "tests/ptx/fatbin.h"
#include "tests/ptx/gpu.h"
#include "tests/ptx/devmem.h"

#include <cuda_runtime_api.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

/* ---- state -------------------------------------------------------------------------------------
 */

struct image { /* a registered fat binary */
    const struct fatbin *fat;
    struct ptx_module *ptx;
    char target[16];
    cudaError_t bad; /* why there is no ptx */
    struct image *next;
};

struct kernel {
    const void *host; /* the address that programs know it by */
    const char *name;
    struct image *image;
    const struct ptx_kernel *ptx; /* once asked for */
    struct gpu_kernel limits;
    struct cudart_kernel counted;
    struct kernel *next;
};

struct op { /* what waits in a stream */
    cudaError_t (*run)(struct op *o);
    struct op *next;
    struct kernel *kernel;
    struct ptx_launch launch;
    struct gpu_kernel limits;
    void *to;
    const void *from; /* NULL: `data` */
    size_t bytes;
    int byte;
    struct event *event;
    unsigned char *data;
};

struct stream {
    struct op *first, **last;
    struct stream *next;
};

struct event {
    bool asked, done;
    double time_s;
};

static struct {
    pthread_mutex_t lock;
    struct gpu gpu;
    struct devmem *memory;
    struct image *images;
    struct kernel *kernels;
    struct stream *streams;
    cudaError_t lost; /* sticky: what a kernel did wrong */
    char *report;     /* of registers */
    unsigned seed, launches;
    bool trace, counting;
} rt = {.lock = PTHREAD_MUTEX_INITIALIZER};

static _Thread_local struct {
    cudaError_t error;
    struct stream *stream;
    struct { /* of <<< >>> */
        dim3 grid, block;
        size_t shared;
        cudaStream_t stream;
    } call;
} mine;

static unsigned number(const char *name, unsigned otherwise)
{
    const char *text = getenv(name);
    return text ? (unsigned)strtoul(text, NULL, 10) : otherwise;
}

static void *fresh(size_t bytes)
{
    void *p = calloc(1, bytes);
    if (!p)
        abort();
    return p;
}

/* What ptxas said of registers: the build says where that is, names joined by ':'. */
#ifndef CUDART_REPORTS
#define CUDART_REPORTS ""
#endif

static void append_file(char **all, size_t *bytes, const char *name)
{
    FILE *f = fopen(name, "r");
    for (size_t got = 1; f && got > 0; *bytes += got) {
        *all = realloc(*all, *bytes + 65537);
        got = *all ? fread(*all + *bytes, 1, 65536, f) : 0;
    }
    if (f)
        fclose(f);
    if (*all)
        (*all)[*bytes] = 0;
}

static char *read_reports(void)
{
    char names[] = CUDART_REPORTS, *all = fresh(1);
    size_t bytes = 0;
    for (char *name = strtok(names, ":"); name; name = strtok(NULL, ":"))
        append_file(&all, &bytes, name);
    return all;
}

static void start(void)
{
    if (rt.memory)
        return;
    unsigned sm = number("SHARDWISE_PTX_SM", 90);
    const struct gpu *known = gpu_of((int)sm);
    rt.memory = devmem_new();
    rt.seed = number("SHARDWISE_PTX_SEED", 1);
    rt.trace = number("SHARDWISE_PTX_TRACE", 0) != 0;
    rt.report = read_reports();
    rt.lost = (cudaError_t)number("SHARDWISE_PTX_ERROR", 0);
    if (known && rt.memory) {
        rt.gpu = *known;
        rt.gpu.processors = (int)number("SHARDWISE_PTX_PROCESSORS", (unsigned)known->processors);
        return;
    }
    fprintf(stderr, "ptx: SHARDWISE_PTX_SM is %u, want 80, 86 or 90; or there is no room\n", sm);
    exit(1);
}

static cudaError_t enter(void)
{
    pthread_mutex_lock(&rt.lock);
    start();
    return rt.lost;
}

static cudaError_t leave(cudaError_t error)
{
    if (error == cudaSuccess)
        error = rt.lost;
    if (error != cudaSuccess)
        mine.error = error;
    pthread_mutex_unlock(&rt.lock);
    return error;
}

static double now_s(void)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (double)t.tv_sec + 1e-9 * (double)t.tv_nsec;
}

/* ---- errors ------------------------------------------------------------------------------------
 */

static const struct {
    cudaError_t code;
    const char *name, *text;
} errors[] = {
    {cudaSuccess, "cudaSuccess", "no error"},
    {cudaErrorInvalidValue, "cudaErrorInvalidValue", "invalid argument"},
    {cudaErrorMemoryAllocation, "cudaErrorMemoryAllocation", "out of memory"},
    {cudaErrorInsufficientDriver, "cudaErrorInsufficientDriver",
     "CUDA driver version is insufficient for CUDA runtime version"},
    {cudaErrorNoDevice, "cudaErrorNoDevice", "no CUDA-capable device is detected"},
    {cudaErrorInvalidConfiguration, "cudaErrorInvalidConfiguration",
     "invalid configuration argument"},
    {cudaErrorInvalidDeviceFunction, "cudaErrorInvalidDeviceFunction", "invalid device function"},
    {cudaErrorInvalidDevice, "cudaErrorInvalidDevice", "invalid device ordinal"},
    {cudaErrorInvalidKernelImage, "cudaErrorInvalidKernelImage", "device kernel image is invalid"},
    {cudaErrorNoKernelImageForDevice, "cudaErrorNoKernelImageForDevice",
     "no kernel image is available for execution on the device"},
    {cudaErrorInvalidPtx, "cudaErrorInvalidPtx", "a PTX JIT compilation failed"},
    {cudaErrorInvalidResourceHandle, "cudaErrorInvalidResourceHandle", "invalid resource handle"},
    {cudaErrorNotReady, "cudaErrorNotReady", "device not ready"},
    {cudaErrorIllegalAddress, "cudaErrorIllegalAddress",
     "an illegal memory access was encountered"},
    {cudaErrorLaunchOutOfResources, "cudaErrorLaunchOutOfResources",
     "too many resources requested for launch"},
    {cudaErrorLaunchFailure, "cudaErrorLaunchFailure", "unspecified launch failure"},
};

static size_t error_at(cudaError_t code)
{
    size_t n = sizeof errors / sizeof *errors, i = 0;
    while (i < n && errors[i].code != code)
        i++;
    return i;
}

const char *cudaGetErrorName(cudaError_t error)
{
    size_t i = error_at(error);
    return i < sizeof errors / sizeof *errors ? errors[i].name : "unrecognized error code";
}

const char *cudaGetErrorString(cudaError_t error)
{
    size_t i = error_at(error);
    return i < sizeof errors / sizeof *errors ? errors[i].text : "unrecognized error code";
}

cudaError_t cudaGetLastError(void)
{
    cudaError_t error = mine.error;
    pthread_mutex_lock(&rt.lock);
    mine.error = rt.lost; /* the error of a kernel stays */
    pthread_mutex_unlock(&rt.lock);
    return error;
}

/* ---- code --------------------------------------------------------------------------------------
 */

void **__cudaRegisterFatBinary(void *fat);
void __cudaRegisterFatBinaryEnd(void **handle);
void __cudaUnregisterFatBinary(void **handle);
void __cudaRegisterFunction(void **handle, const char *host, char *device, const char *name,
                            int thread_limit, uint3 *thread, uint3 *block, dim3 *block_size,
                            dim3 *grid_size, int *warp_size);

void **__cudaRegisterFatBinary(void *fat)
{
    struct image *i = fresh(sizeof *i);
    i->fat = fat;
    i->next = rt.images;
    rt.images = i;
    return (void **)i;
}

void __cudaRegisterFatBinaryEnd(void **handle)
{
    (void)handle;
}

/* At the end of the program; other objects may still wait for kernels. */
void __cudaUnregisterFatBinary(void **handle)
{
    (void)handle;
}

void __cudaRegisterFunction(void **handle, const char *host, char *device, const char *name,
                            int thread_limit, uint3 *thread, uint3 *block, dim3 *block_size,
                            dim3 *grid_size, int *warp_size)
{
    (void)device, (void)thread_limit, (void)thread, (void)block, (void)block_size, (void)grid_size,
        (void)warp_size;
    struct kernel *k = fresh(sizeof *k);
    k->host = host;
    k->name = name;
    k->image = (struct image *)handle;
    k->next = rt.kernels;
    rt.kernels = k;
}

static cudaError_t load(struct image *i)
{
    struct err e = {0};
    const char *text = NULL;
    size_t bytes = 0;
    if (i->ptx || i->bad)
        return i->bad;
    if (!fatbin_ptx(i->fat, rt.gpu.sm, &text, &bytes, i->target, &e))
        i->bad =
            e.code == ERR_DEVICE ? cudaErrorNoKernelImageForDevice : cudaErrorInvalidKernelImage;
    else if (!ptx_load(i->target, text, bytes, &i->ptx, &e))
        i->bad = cudaErrorInvalidPtx;
    if (i->bad && i->bad != cudaErrorNoKernelImageForDevice)
        fprintf(stderr, "ptx: %s\n", e.text);
    return i->bad;
}

static void describe(struct kernel *k)
{
    const struct ptx_kernel *p = k->ptx;
    int last = p->params - 1;
    k->limits.registers = fatbin_registers(rt.report, k->name, k->image->target);
    k->limits.max_threads = p->max_threads;
    k->limits.static_shared = p->static_shared;
    k->limits.param_bytes = last < 0 ? 0 : p->param_offset[last] + p->param_bytes[last];
    k->limits.dynamic_allowed =
        p->static_shared < GPU_SHARED_PLAIN ? GPU_SHARED_PLAIN - p->static_shared : 0;
    k->counted.name = k->name;
    k->counted.registers = k->limits.registers;
}

/* A kernel with its code, by the host's address of it. */
static cudaError_t kernel_of(const void *host, struct kernel **out)
{
    struct kernel *k = rt.kernels;
    while (k && k->host != host)
        k = k->next;
    if (!k)
        return cudaErrorInvalidDeviceFunction;
    cudaError_t bad = load(k->image);
    if (bad)
        return bad;
    if (!k->ptx) {
        k->ptx = ptx_find(k->image->ptx, k->name);
        if (!k->ptx)
            return cudaErrorInvalidDeviceFunction;
        describe(k);
    }
    *out = k;
    return cudaSuccess;
}

static cudaError_t enter_kernel(const void *host, struct kernel **out)
{
    cudaError_t bad = enter();
    return bad ? bad : kernel_of(host, out);
}

cudaError_t cudaFuncSetAttribute(const void *host, enum cudaFuncAttribute name, int value)
{
    struct kernel *k = NULL;
    cudaError_t bad = enter_kernel(host, &k);
    if (bad)
        return leave(bad);
    if (name == cudaFuncAttributePreferredSharedMemoryCarveout)
        return leave(value >= -1 && value <= 100 ? cudaSuccess : cudaErrorInvalidValue);
    if (name != cudaFuncAttributeMaxDynamicSharedMemorySize || value < 0 ||
        value > gpu_dynamic_most(&rt.gpu, &k->limits))
        return leave(cudaErrorInvalidValue);
    k->limits.dynamic_allowed = (size_t)value;
    return leave(cudaSuccess);
}

cudaError_t cudaFuncGetAttributes(struct cudaFuncAttributes *a, const void *host)
{
    struct kernel *k = NULL;
    cudaError_t bad = enter_kernel(host, &k);
    if (bad)
        return leave(bad);
    unsigned most = k->limits.max_threads;
    memset(a, 0, sizeof *a);
    a->sharedSizeBytes = k->limits.static_shared;
    a->localSizeBytes = k->ptx->local_bytes;
    a->maxThreadsPerBlock = (int)(most ? most : GPU_BLOCK_THREADS);
    a->numRegs = k->limits.registers;
    a->ptxVersion = a->binaryVersion = atoi(k->image->target + 3);
    a->maxDynamicSharedSizeBytes = (int)k->limits.dynamic_allowed;
    return leave(cudaSuccess);
}

/* ---- streams -----------------------------------------------------------------------------------
 */

static struct stream *stream_new(void)
{
    struct stream *s = fresh(sizeof *s);
    s->last = &s->first;
    s->next = rt.streams;
    rt.streams = s;
    return s;
}

static cudaError_t run_stream(struct stream *s)
{
    while (s->first) {
        struct op *o = s->first;
        s->first = o->next;
        if (!s->first)
            s->last = &s->first;
        cudaError_t bad = rt.lost ? cudaSuccess : o->run(o);
        if (bad)
            rt.lost = bad;
        free(o->data);
        free(o);
    }
    return rt.lost;
}

static cudaError_t run_all(void)
{
    for (struct stream *s = rt.streams; s; s = s->next)
        run_stream(s);
    return rt.lost;
}

/* The legacy default stream comes after all that was asked for, and before all that will be. */
static bool legacy(cudaStream_t handle)
{
    return handle == NULL || handle == cudaStreamLegacy;
}

static cudaError_t stream_of(cudaStream_t handle, struct stream **out)
{
    if (legacy(handle) || handle == cudaStreamPerThread) {
        if (!mine.stream)
            mine.stream = stream_new();
        *out = mine.stream;
        return cudaSuccess;
    }
    for (struct stream *s = rt.streams; s; s = s->next)
        if ((cudaStream_t)s == handle)
            return *out = s, cudaSuccess;
    return cudaErrorInvalidResourceHandle;
}

/* Takes the place of `o`, which the stream frees. */
static cudaError_t ask(cudaStream_t handle, const struct op *o)
{
    struct stream *s = NULL;
    cudaError_t bad = stream_of(handle, &s);
    if (bad) {
        free(o->data);
        return bad;
    }
    struct op *kept = fresh(sizeof *kept);
    *kept = *o;
    if (legacy(handle))
        run_all();
    *s->last = kept;
    s->last = &kept->next;
    return legacy(handle) ? run_stream(s) : cudaSuccess;
}

cudaError_t cudaStreamSynchronize(cudaStream_t handle)
{
    struct stream *s = NULL;
    cudaError_t bad = enter();
    if (!bad)
        bad = legacy(handle) ? run_all() : stream_of(handle, &s);
    if (!bad && s)
        bad = run_stream(s);
    return leave(bad);
}

cudaError_t cudaDeviceSynchronize(void)
{
    cudaError_t bad = enter();
    return leave(bad ? bad : run_all());
}

cudaError_t cudaStreamCreateWithFlags(cudaStream_t *handle, unsigned flags)
{
    cudaError_t bad = enter();
    if (!bad && flags > cudaStreamNonBlocking)
        bad = cudaErrorInvalidValue;
    if (!bad)
        *handle = (cudaStream_t)stream_new();
    return leave(bad);
}

/* What it still has to do is done; the stream goes when the program ends. */
cudaError_t cudaStreamDestroy(cudaStream_t handle)
{
    struct stream *s = NULL;
    cudaError_t bad = enter();
    if (!bad)
        bad = stream_of(handle, &s);
    return leave(bad ? bad : run_stream(s));
}

/* Asking often enough is waiting: the work is done between two questions. */
cudaError_t cudaStreamQuery(cudaStream_t handle)
{
    struct stream *s = NULL;
    cudaError_t bad = enter();
    if (!bad)
        bad = stream_of(handle, &s);
    if (bad || !s->first)
        return leave(bad);
    bad = run_stream(s);
    return leave(bad ? bad : cudaErrorNotReady);
}

/* ---- kernels -----------------------------------------------------------------------------------
 */

unsigned __cudaPushCallConfiguration(dim3 grid, dim3 block, size_t shared, void *stream);
cudaError_t __cudaPopCallConfiguration(dim3 *grid, dim3 *block, size_t *shared, void *stream);
cudaError_t __cudaGetKernel(cudaKernel_t *out, const void *host);
cudaError_t __cudaLaunchKernel(cudaKernel_t kernel, dim3 grid, dim3 block, void **params,
                               size_t shared, cudaStream_t stream);

unsigned __cudaPushCallConfiguration(dim3 grid, dim3 block, size_t shared, void *stream)
{
    mine.call.grid = grid;
    mine.call.block = block;
    mine.call.shared = shared;
    mine.call.stream = stream;
    return 0;
}

cudaError_t __cudaPopCallConfiguration(dim3 *grid, dim3 *block, size_t *shared, void *stream)
{
    *grid = mine.call.grid;
    *block = mine.call.block;
    *shared = mine.call.shared;
    *(cudaStream_t *)stream = mine.call.stream;
    return cudaSuccess;
}

static void count(struct op *o, const struct gpu_kernel *limits)
{
    struct cudart_kernel *c = &o->kernel->counted;
    const struct ptx_launch *l = &o->launch;
    c->launches++;
    c->grid = l->grid[0] * l->grid[1] * l->grid[2];
    c->block = l->block[0] * l->block[1] * l->block[2];
    c->dynamic_shared = l->dynamic_shared;
    c->blocks_processor = gpu_blocks(&rt.gpu, limits, c->block, c->dynamic_shared);
}

static void trace(const struct op *o, double seconds)
{
    const struct ptx_launch *l = &o->launch;
    if (rt.trace)
        fprintf(stderr, "ptx: %s, grid %u %u %u, block %u %u %u, %zu bytes, %.3f s\n",
                o->kernel->name, l->grid[0], l->grid[1], l->grid[2], l->block[0], l->block[1],
                l->block[2], l->dynamic_shared, seconds);
}

static cudaError_t run_kernel(struct op *o)
{
    struct err e = {0};
    const struct ptx_kernel *p = o->kernel->ptx;
    void *params[GPU_PARAM_BYTES];
    for (int i = 0; i < p->params; i++)
        params[i] = o->data + p->param_offset[i];
    o->launch.allocated = devmem_ranges(rt.memory, &o->launch.ranges);
    o->launch.seed = rt.seed + rt.launches++ * 0x9e3779b9u;
    o->launch.counts = rt.counting ? &o->kernel->counted.counts : NULL;
    o->launch.max_shared = rt.gpu.shared_optin;
    count(o, &o->limits);
    double begin = now_s();
    devmem_open(rt.memory);
    bool ok = ptx_run(o->kernel->image->ptx, p, &o->launch, params, &e);
    devmem_close(rt.memory);
    trace(o, now_s() - begin);
    if (ok)
        return cudaSuccess;
    fprintf(stderr, "ptx: %s\n", e.text);
    return strstr(e.text, "global") ? cudaErrorIllegalAddress : cudaErrorLaunchFailure;
}

static cudaError_t ask_kernel(struct kernel *k, dim3 grid, dim3 block, void **params, size_t shared,
                              cudaStream_t stream)
{
    struct op o = {.run = run_kernel, .kernel = k, .limits = k->limits};
    char why[256];
    o.launch = (struct ptx_launch){.grid = {grid.x, grid.y, grid.z},
                                   .block = {block.x, block.y, block.z},
                                   .dynamic_shared = shared};
    enum gpu_refusal bad =
        gpu_launch(&rt.gpu, &k->limits, o.launch.grid, o.launch.block, shared, why, sizeof why);
    if (bad) {
        fprintf(stderr, "ptx: %s cannot be launched: %s\n", k->name, why);
        return (cudaError_t)bad;
    }
    o.data = fresh(k->limits.param_bytes + 1);
    for (int i = 0; i < k->ptx->params; i++)
        memcpy(o.data + k->ptx->param_offset[i], params[i], k->ptx->param_bytes[i]);
    return ask(stream, &o);
}

cudaError_t cudaLaunchKernel(const void *host, dim3 grid, dim3 block, void **params, size_t shared,
                             cudaStream_t stream)
{
    struct kernel *k = NULL;
    cudaError_t bad = enter();
    if (!bad)
        bad = kernel_of(host, &k);
    return leave(bad ? bad : ask_kernel(k, grid, block, params, shared, stream));
}

/* Objects of nvcc 13 ask once for a handle; here it is the host's address. */
cudaError_t __cudaGetKernel(cudaKernel_t *out, const void *host)
{
    *out = (cudaKernel_t)(uintptr_t)host;
    return cudaSuccess;
}

cudaError_t __cudaLaunchKernel(cudaKernel_t kernel, dim3 grid, dim3 block, void **params,
                               size_t shared, cudaStream_t stream)
{
    return cudaLaunchKernel(kernel, grid, block, params, shared, stream);
}

void cudart_count_from_here(void)
{
    pthread_mutex_lock(&rt.lock);
    rt.counting = true;
    for (struct kernel *k = rt.kernels; k; k = k->next) {
        k->counted.launches = 0;
        k->counted.counts = (struct ptx_counts){0};
    }
    pthread_mutex_unlock(&rt.lock);
}

int cudart_counted(struct cudart_kernel *out, int room)
{
    int n = 0;
    pthread_mutex_lock(&rt.lock);
    for (struct kernel *k = rt.kernels; k && n < room; k = k->next)
        if (k->counted.launches > 0)
            out[n++] = k->counted;
    pthread_mutex_unlock(&rt.lock);
    return n;
}

/* ---- memory ------------------------------------------------------------------------------------
 */

/* What is left; as if it were less, for tests of what happens then. */
static uint64_t memory_left(void)
{
    const char *text = getenv("SHARDWISE_EMULATE_MEMORY");
    uint64_t left = rt.gpu.memory_bytes - devmem_used(rt.memory);
    uint64_t wanted = text ? strtoull(text, NULL, 10) : left;
    return wanted < left ? wanted : left;
}

static cudaError_t place(void **p, size_t bytes)
{
    if (!p)
        return cudaErrorInvalidValue;
    if (bytes == 0)
        return *p = NULL, cudaSuccess;
    uint64_t most = devmem_used(rt.memory) + memory_left();
    return devmem_place(rt.memory, bytes, most, p) ? cudaSuccess : cudaErrorMemoryAllocation;
}

cudaError_t cudaMalloc(void **p, size_t bytes)
{
    cudaError_t bad = enter();
    if (!bad)
        bad = place(p, bytes);
    if (!bad && *p)
        devmem_take(rt.memory, *p);
    return leave(bad);
}

cudaError_t cudaFree(void *p)
{
    cudaError_t bad = enter();
    if (!bad && p && !devmem_give(rt.memory, p))
        bad = cudaErrorInvalidValue;
    return leave(bad);
}

cudaError_t cudaHostAlloc(void **p, size_t bytes, unsigned flags)
{
    cudaError_t bad = enter();
    if (!bad && (!p || flags != cudaHostAllocDefault))
        bad = cudaErrorInvalidValue;
    if (!bad && !(*p = malloc(bytes)))
        bad = cudaErrorMemoryAllocation;
    return leave(bad);
}

/* What was asked for is done before its memory goes. */
cudaError_t cudaFreeHost(void *p)
{
    cudaError_t bad = enter();
    if (!bad)
        bad = run_all();
    free(p);
    return leave(bad);
}

static cudaError_t run_take(struct op *o)
{
    devmem_take(rt.memory, o->to);
    return cudaSuccess;
}

static cudaError_t run_give(struct op *o)
{
    return devmem_give(rt.memory, o->to) ? cudaSuccess : cudaErrorInvalidValue;
}

cudaError_t cudaMallocAsync(void **p, size_t bytes, cudaStream_t stream)
{
    cudaError_t bad = enter();
    if (!bad)
        bad = place(p, bytes);
    if (!bad && *p)
        bad = ask(stream, &(struct op){.run = run_take, .to = *p});
    return leave(bad);
}

cudaError_t cudaFreeAsync(void *p, cudaStream_t stream)
{
    cudaError_t bad = enter();
    if (!bad && !devmem_starts(rt.memory, p))
        bad = cudaErrorInvalidValue;
    return leave(bad ? bad : ask(stream, &(struct op){.run = run_give, .to = p}));
}

/* What is kept or given back makes no difference here. */
cudaError_t cudaDeviceGetDefaultMemPool(cudaMemPool_t *pool, int device)
{
    cudaError_t bad = enter();
    if (!bad && device != 0)
        bad = cudaErrorInvalidDevice;
    if (!bad)
        *pool = (cudaMemPool_t)&rt;
    return leave(bad);
}

cudaError_t cudaMemPoolSetAttribute(cudaMemPool_t pool, enum cudaMemPoolAttr name, void *value)
{
    cudaError_t bad = enter();
    bool ok = pool == (cudaMemPool_t)&rt && name == cudaMemPoolAttrReleaseThreshold && value;
    return leave(bad || ok ? bad : cudaErrorInvalidValue);
}

cudaError_t cudaMemPoolTrimTo(cudaMemPool_t pool, size_t bytes)
{
    (void)bytes;
    cudaError_t bad = enter();
    return leave(bad || pool == (cudaMemPool_t)&rt ? bad : cudaErrorInvalidValue);
}

cudaError_t cudaMemGetInfo(size_t *left, size_t *total)
{
    cudaError_t bad = enter();
    *total = (size_t)rt.gpu.memory_bytes;
    *left = (size_t)memory_left();
    return leave(bad);
}

static cudaError_t run_copy(struct op *o)
{
    const void *from = o->from ? o->from : o->data;
    bool ok = devmem_has(rt.memory, o->to, o->bytes) &&
              (!o->from || devmem_has(rt.memory, o->from, o->bytes));
    if (!ok) {
        fprintf(stderr, "ptx: a copy of %zu bytes to memory that is freed, or not yet there\n",
                o->bytes);
        return cudaErrorIllegalAddress;
    }
    devmem_open(rt.memory);
    memmove(o->to, from, o->bytes);
    devmem_close(rt.memory);
    return cudaSuccess;
}

static cudaError_t copy_in(void *to, const void *from, size_t bytes, cudaStream_t stream)
{
    struct op o = {.run = run_copy, .to = to, .bytes = bytes};
    o.data = fresh(bytes + 1);
    memcpy(o.data, from, bytes);
    return ask(stream, &o);
}

static cudaError_t copy_out(void *to, const void *from, size_t bytes, cudaStream_t stream)
{
    struct stream *s = NULL;
    cudaError_t bad = legacy(stream) ? run_all() : stream_of(stream, &s);
    if (!bad && s)
        bad = run_stream(s);
    if (!bad && !devmem_has(rt.memory, from, bytes))
        bad = cudaErrorInvalidValue;
    if (bad)
        return bad;
    devmem_open(rt.memory);
    memcpy(to, from, bytes);
    devmem_close(rt.memory);
    return cudaSuccess;
}

cudaError_t cudaMemcpyAsync(void *to, const void *from, size_t bytes, enum cudaMemcpyKind kind,
                            cudaStream_t stream)
{
    cudaError_t bad = enter();
    bool to_device = kind == cudaMemcpyHostToDevice || kind == cudaMemcpyDeviceToDevice;
    bool from_device = kind == cudaMemcpyDeviceToHost || kind == cudaMemcpyDeviceToDevice;
    if (bad || bytes == 0)
        return leave(bad);
    if (!(to_device || from_device) || to_device != devmem_knows(rt.memory, to, bytes) ||
        from_device != devmem_knows(rt.memory, from, bytes))
        return leave(cudaErrorInvalidValue);
    if (!from_device)
        return leave(copy_in(to, from, bytes, stream));
    if (!to_device)
        return leave(copy_out(to, from, bytes, stream));
    return leave(
        ask(stream, &(struct op){.run = run_copy, .to = to, .from = from, .bytes = bytes}));
}

static cudaError_t run_set(struct op *o)
{
    if (!devmem_has(rt.memory, o->to, o->bytes)) {
        fprintf(stderr, "ptx: %zu bytes are set in memory that is freed, or not yet there\n",
                o->bytes);
        return cudaErrorIllegalAddress;
    }
    devmem_open(rt.memory);
    memset(o->to, o->byte, o->bytes);
    devmem_close(rt.memory);
    return cudaSuccess;
}

cudaError_t cudaMemsetAsync(void *p, int byte, size_t bytes, cudaStream_t stream)
{
    cudaError_t bad = enter();
    if (!bad && !devmem_knows(rt.memory, p, bytes))
        bad = cudaErrorInvalidValue;
    if (bad || bytes == 0)
        return leave(bad);
    return leave(ask(stream, &(struct op){.run = run_set, .to = p, .byte = byte, .bytes = bytes}));
}

/* ---- events ------------------------------------------------------------------------------------
 */

cudaError_t cudaEventCreate(cudaEvent_t *handle)
{
    cudaError_t bad = enter();
    if (!bad)
        *handle = fresh(sizeof(struct event));
    return leave(bad);
}

/* Streams may still have to note the time in it. */
cudaError_t cudaEventDestroy(cudaEvent_t handle)
{
    cudaError_t bad = enter();
    struct event *e = (struct event *)handle;
    if (!bad && e->asked && !e->done)
        bad = run_all();
    free(e);
    return leave(bad);
}

static cudaError_t run_record(struct op *o)
{
    o->event->done = true;
    o->event->time_s = now_s();
    return cudaSuccess;
}

cudaError_t cudaEventRecord(cudaEvent_t handle, cudaStream_t stream)
{
    struct event *e = (struct event *)handle;
    cudaError_t bad = enter();
    if (bad)
        return leave(bad);
    e->asked = true;
    e->done = false;
    return leave(ask(stream, &(struct op){.run = run_record, .event = e}));
}

cudaError_t cudaEventSynchronize(cudaEvent_t handle)
{
    struct event *e = (struct event *)handle;
    cudaError_t bad = enter();
    return leave(bad || !e->asked || e->done ? bad : run_all());
}

/* The machine's time, which says nothing about a GPU's. */
cudaError_t cudaEventElapsedTime(float *ms, cudaEvent_t from, cudaEvent_t to)
{
    const struct event *a = (struct event *)from, *b = (struct event *)to;
    cudaError_t bad = enter();
    if (!bad && !(a->asked && b->asked))
        bad = cudaErrorInvalidResourceHandle;
    if (!bad && !(a->done && b->done))
        bad = cudaErrorNotReady;
    if (!bad)
        *ms = (float)(1e3 * (b->time_s - a->time_s)) + 5e-4f;
    return leave(bad);
}

/* ---- the device --------------------------------------------------------------------------------
 */

cudaError_t cudaGetDeviceCount(int *count)
{
    cudaError_t bad = enter();
    *count = 1;
    return leave(bad);
}

cudaError_t cudaGetDevice(int *device)
{
    cudaError_t bad = enter();
    *device = 0;
    return leave(bad);
}

cudaError_t cudaSetDevice(int device)
{
    cudaError_t bad = enter();
    return leave(bad || device == 0 ? bad : cudaErrorInvalidDevice);
}

cudaError_t cudaDeviceGetAttribute(int *value, enum cudaDeviceAttr name, int device)
{
    cudaError_t bad = enter();
    const struct {
        enum cudaDeviceAttr name;
        int value;
    } known[] = {
        {cudaDevAttrMaxThreadsPerBlock, GPU_BLOCK_THREADS},
        {cudaDevAttrMaxSharedMemoryPerBlock, GPU_SHARED_PLAIN},
        {cudaDevAttrWarpSize, 32},
        {cudaDevAttrMaxRegistersPerBlock, GPU_REGISTERS},
        {cudaDevAttrMultiProcessorCount, rt.gpu.processors},
        {cudaDevAttrL2CacheSize, rt.gpu.l2_bytes},
        {cudaDevAttrMaxThreadsPerMultiProcessor, rt.gpu.threads_processor},
        {cudaDevAttrComputeCapabilityMajor, rt.gpu.sm / 10},
        {cudaDevAttrComputeCapabilityMinor, rt.gpu.sm % 10},
        {cudaDevAttrMaxSharedMemoryPerMultiprocessor, (int)rt.gpu.shared_processor},
        {cudaDevAttrMaxSharedMemoryPerBlockOptin, (int)rt.gpu.shared_optin},
        {cudaDevAttrReservedSharedMemoryPerBlock, GPU_SHARED_RESERVED},
    };
    if (bad || device != 0)
        return leave(bad ? bad : cudaErrorInvalidDevice);
    for (size_t i = 0; i < sizeof known / sizeof *known; i++)
        if (known[i].name == name)
            return *value = known[i].value, leave(cudaSuccess);
    return leave(cudaErrorInvalidValue);
}

cudaError_t cudaGetDeviceProperties(struct cudaDeviceProp *p, int device)
{
    cudaError_t bad = enter();
    if (bad || device != 0)
        return leave(bad ? bad : cudaErrorInvalidDevice);
    memset(p, 0, sizeof *p);
    snprintf(p->name, sizeof p->name, "%s", rt.gpu.name);
    p->totalGlobalMem = rt.gpu.memory_bytes;
    p->sharedMemPerBlock = GPU_SHARED_PLAIN;
    p->sharedMemPerBlockOptin = rt.gpu.shared_optin;
    p->sharedMemPerMultiprocessor = rt.gpu.shared_processor;
    p->reservedSharedMemPerBlock = GPU_SHARED_RESERVED;
    p->regsPerBlock = p->regsPerMultiprocessor = GPU_REGISTERS;
    p->warpSize = 32;
    p->maxThreadsPerBlock = GPU_BLOCK_THREADS;
    p->maxThreadsPerMultiProcessor = rt.gpu.threads_processor;
    p->major = rt.gpu.sm / 10;
    p->minor = rt.gpu.sm % 10;
    p->multiProcessorCount = rt.gpu.processors;
    p->l2CacheSize = rt.gpu.l2_bytes;
    return leave(cudaSuccess);
}
