/* The functions of prim.cuh and the part of CUDA that the kernels use, on a CPU, for tests on
 * machines without a GPU. Not fast, and no oracle for rounding inside the tensor cores; made to
 * find mistakes:
 *
 * - Every thread of a block is a fiber; blocks run one after the other. Collectives (mma, ldmatrix,
 *   shuffles, barriers, wgmma) really exchange data between fibers, and abort with a message when
 * the threads of a warp disagree on which one they are in, or when all fibers wait.
 * - Asynchronous copies arrive as late as they may (at the wait) and leave NaN before; bulk
 * reductions and wgmma read shared memory as late as they may; accumulators of wgmma are NaN until
 * waited for.
 * - Shared addresses are checked against what the launch asked for, and alignment against the
 * manual. Shared memory starts as NaN. Global memory is the host's heap: AddressSanitizer watches
 * it.
 *
 * Environment: SHARDWISE_EMULATE_SM=80|90|100 (90) is the device; SHARDWISE_EMULATE_ORDER=seed runs
 * the fibers in another order (0: by thread number); SHARDWISE_EMULATE_MEMORY=bytes limits
 * cudaMalloc. Nothing of this is in a shipped program. */
#ifndef KERNELS_CUDA_EMULATE_H
#define KERNELS_CUDA_EMULATE_H

#include <math.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <functional>

#define __global__ static
#define __device__
#define __host__
#define __forceinline__ inline
#define __launch_bounds__(...)
#define __grid_constant__
#define __align__(n) __attribute__((aligned(n)))
#define DEV          static inline

/* ---- types ------------------------------------------------------------------------------------
 */

struct uint3 {
    unsigned x, y, z;
};
struct dim3 {
    unsigned x, y, z;
    constexpr dim3(unsigned x = 1, unsigned y = 1, unsigned z = 1) : x(x), y(y), z(z)
    {
    }
};
#define EMU_VECTOR(type, of)                                                                       \
    struct __attribute__((aligned(2 * sizeof(of)))) type##2                                        \
    {                                                                                              \
        of x, y;                                                                                   \
    };                                                                                             \
    struct __attribute__((aligned(4 * sizeof(of)))) type##4                                        \
    {                                                                                              \
        of x, y, z, w;                                                                             \
    };                                                                                             \
    static inline type##2 make_##type##2(of x, of y)                                               \
    {                                                                                              \
        return type##2 {x, y};                                                                     \
    }                                                                                              \
    static inline type##4 make_##type##4(of x, of y, of z, of w)                                   \
    {                                                                                              \
        return type##4 {x, y, z, w};                                                               \
    }
EMU_VECTOR(float, float)
EMU_VECTOR(int, int)
EMU_VECTOR(uint, unsigned)
EMU_VECTOR(ushort, unsigned short)
#undef EMU_VECTOR

/* ---- engine ------------------------------------------------------------------------------------
 */

namespace emu
{
struct fiber; /* one thread of the running block */

/* What the running thread is. */
struct place {
    uint3 thread, block;
    dim3 block_size, grid;
};
const place &here(void);

[[noreturn]] void die(const char *format, ...) __attribute__((format(printf, 1, 2)));

unsigned char *shared(void);
unsigned char *shared_at(uint32_t smem, size_t bytes, size_t alignment, const char *what);

/* All threads of `mask` in this warp meet; the last one runs act over the arguments that they
 * brought (null for lanes outside the mask), then all go on. `what` must agree. */
typedef void (*warp_act)(void *const argument[32]);
void warp_meet(unsigned mask, const char *what, void *argument, warp_act act);
int lane(void);

void block_meet(int barrier, int threads); /* threads 0: all */
void block_arrive(int barrier, int threads);

void launch(dim3 grid, dim3 block, size_t shared, const std::function<void()> &thread);
int launch_refused(dim3 grid, dim3 block, size_t shared); /* a cudaError_t */
} // namespace emu

#define threadIdx (emu::here().thread)
#define blockIdx  (emu::here().block)
#define blockDim  (emu::here().block_size)
#define gridDim   (emu::here().grid)

/* ---- CUDA's own names
 * ----------------------------------------------------------------------------- */

static inline void __syncthreads(void)
{
    emu::block_meet(0, 0);
}

static inline void __syncwarp(unsigned mask = 0xffffffffu)
{
    emu::warp_meet(mask, "__syncwarp", nullptr, nullptr);
}

static inline void __threadfence(void)
{
}
static inline void __threadfence_block(void)
{
}

namespace emu
{
struct shuffle {
    uint64_t mine, got;
    int from; /* lane */
};
void shuffle_act(void *const argument[32]);
template <class T> T shuffle_from(unsigned mask, T value, int from, const char *what)
{
    static_assert(sizeof(T) <= 8, "shuffles move up to 8 bytes");
    shuffle s = {0, 0, from};
    memcpy(&s.mine, &value, sizeof value);
    warp_meet(mask, what, &s, shuffle_act);
    memcpy(&value, &s.got, sizeof value);
    return value;
}
unsigned ballot(unsigned mask, bool yes, const char *what);
} // namespace emu

template <class T> T __shfl_sync(unsigned mask, T value, int from, int width = 32)
{
    int base = emu::lane() & ~(width - 1);
    return emu::shuffle_from(mask, value, base + (from & (width - 1)), "__shfl_sync");
}

template <class T> T __shfl_xor_sync(unsigned mask, T value, int with, int width = 32)
{
    int lane = emu::lane(), from = lane ^ with;
    return emu::shuffle_from(mask, value, from / width > lane / width ? lane : from,
                             "__shfl_xor_sync");
}

template <class T> T __shfl_up_sync(unsigned mask, T value, unsigned by, int width = 32)
{
    int lane = emu::lane(), from = lane - (int)by;
    return emu::shuffle_from(mask, value, from < (lane & ~(width - 1)) ? lane : from,
                             "__shfl_up_sync");
}

template <class T> T __shfl_down_sync(unsigned mask, T value, unsigned by, int width = 32)
{
    int lane = emu::lane(), from = lane + (int)by;
    return emu::shuffle_from(mask, value, from > (lane | (width - 1)) ? lane : from,
                             "__shfl_down_sync");
}

static inline unsigned __ballot_sync(unsigned mask, int yes)
{
    return emu::ballot(mask, yes != 0, "__ballot_sync");
}

static inline int __any_sync(unsigned mask, int yes)
{
    return emu::ballot(mask, yes != 0, "__any_sync") != 0;
}

static inline int __all_sync(unsigned mask, int yes)
{
    return emu::ballot(mask, yes != 0, "__all_sync") == mask;
}

template <class T> T __reduce_sync(unsigned mask, T value, T (*two)(T, T)) /* for those below */
{
    T all = value;
    for (int l = 0, first = 1; l < 32; l++)
        if (mask >> l & 1) {
            T other = emu::shuffle_from(mask, value, l, "__reduce_sync");
            all = first ? other : two(all, other);
            first = 0;
        }
    return all;
}

static inline unsigned __reduce_add_sync(unsigned mask, unsigned v)
{
    return __reduce_sync<unsigned>(mask, v, [](unsigned a, unsigned b) { return a + b; });
}

static inline int __reduce_add_sync(unsigned mask, int v)
{
    return __reduce_sync<int>(mask, v, [](int a, int b) { return a + b; });
}

static inline unsigned __reduce_or_sync(unsigned mask, unsigned v)
{
    return __reduce_sync<unsigned>(mask, v, [](unsigned a, unsigned b) { return a | b; });
}

static inline unsigned __reduce_max_sync(unsigned mask, unsigned v)
{
    return __reduce_sync<unsigned>(mask, v, [](unsigned a, unsigned b) { return a > b ? a : b; });
}

static inline unsigned __reduce_min_sync(unsigned mask, unsigned v)
{
    return __reduce_sync<unsigned>(mask, v, [](unsigned a, unsigned b) { return a < b ? a : b; });
}

static inline int __popc(unsigned x)
{
    return __builtin_popcount(x);
}

static inline int __popcll(unsigned long long x)
{
    return __builtin_popcountll(x);
}

static inline int __ffs(int x)
{
    return __builtin_ffs(x);
}

static inline int __clz(int x)
{
    return x ? __builtin_clz((unsigned)x) : 32;
}

static inline unsigned __brev(unsigned x)
{
    unsigned r = 0;
    for (int i = 0; i < 32; i++)
        r |= (x >> i & 1) << (31 - i);
    return r;
}

static inline unsigned __float_as_uint(float x)
{
    unsigned u;
    memcpy(&u, &x, 4);
    return u;
}

static inline float __uint_as_float(unsigned x)
{
    float f;
    memcpy(&f, &x, 4);
    return f;
}

static inline int __float_as_int(float x)
{
    return (int)__float_as_uint(x);
}

static inline float __int_as_float(int x)
{
    return __uint_as_float((unsigned)x);
}

template <class T> static inline T __ldg(const T *p)
{
    return *p;
}

template <class T> static inline T __ldcs(const T *p)
{
    return *p;
}

template <class T> static inline void __stcs(T *p, T value)
{
    *p = value;
}

#define EMU_MINMAX(type)                                                                           \
    static inline type min(type a, type b)                                                         \
    {                                                                                              \
        return b < a ? b : a;                                                                      \
    }                                                                                              \
    static inline type max(type a, type b)                                                         \
    {                                                                                              \
        return a < b ? b : a;                                                                      \
    }
EMU_MINMAX(int)
EMU_MINMAX(unsigned)
EMU_MINMAX(long)
EMU_MINMAX(unsigned long)
EMU_MINMAX(long long)
EMU_MINMAX(unsigned long long)
static inline float min(float a, float b)
{
    return fminf(a, b);
}
static inline float max(float a, float b)
{
    return fmaxf(a, b);
}
#undef EMU_MINMAX

#define EMU_ATOMIC(name, new_value)                                                                \
    template <class T> static inline T name(T *p, T x)                                             \
    {                                                                                              \
        T old = *p;                                                                                \
        *p = new_value;                                                                            \
        return old;                                                                                \
    }
EMU_ATOMIC(atomicAdd, old + x)
EMU_ATOMIC(atomicSub, old - x)
EMU_ATOMIC(atomicOr, old | x)
EMU_ATOMIC(atomicAnd, old &x)
EMU_ATOMIC(atomicMax, old < x ? x : old)
EMU_ATOMIC(atomicMin, x < old ? x : old)
EMU_ATOMIC(atomicExch, x)
#undef EMU_ATOMIC

template <class T> static inline T atomicCAS(T *p, T expected, T x)
{
    T old = *p;
    if (old == expected)
        *p = x;
    return old;
}

[[noreturn]] static inline void __trap(void)
{
    emu::die("__trap()");
}

/* ---- prim.cuh; its comments hold
 * --------------------------------------------------------------------- */

static inline unsigned char *dev_shared(void)
{
    return emu::shared();
}

uint32_t dev_smem(const void *shared);

template <class T> static inline const T *dev_row(const T *rows, int row, int bytes)
{
    return (const T *)((const char *)rows + (int64_t)row * bytes);
}

void dev_copy16(uint32_t smem, const void *global, int bytes);
void dev_copy_commit(void);
namespace emu
{
void copy_wait(size_t groups);
void bulk_wait(size_t groups, const char *what);
void wgmma_wait(size_t groups);
void wgmma_issue(float *c, int columns, const uint32_t *a_registers, uint64_t a, uint64_t b,
                 bool b_k_major, int add, const char *what);
} // namespace emu
template <int N> static inline void dev_copy_wait(void)
{
    emu::copy_wait(N);
}

void dev_ldmatrix4(uint32_t r[4], uint32_t smem);
void dev_ldmatrix4_t(uint32_t r[4], uint32_t smem);
void dev_stmatrix4(uint32_t smem, const uint32_t r[4]);
void dev_mma(float c[4], const uint32_t a[4], const uint32_t b[2]);

static inline float dev_exp2(float x)
{
    float y = exp2f(x);
    return y < 1.17549435e-38f ? 0.0f : y;
}

static inline float dev_log2(float x)
{
    return log2f(x);
}

static inline float dev_low(uint32_t pair)
{
    return __uint_as_float(pair << 16);
}

static inline float dev_high(uint32_t pair)
{
    return __uint_as_float(pair & 0xffff0000u);
}

uint32_t dev_pack(float low, float high);

static inline void dev_flag(uint32_t *bits, float x, float limit, uint32_t bit)
{
    *bits |= x >= limit ? bit : 0;
}

static inline void dev_sort_out(uint32_t *beyond, uint32_t *next, int step, float x, float low,
                                float high)
{
    *beyond += x >= high;
    if (x >= low && !(x >= high)) {
        *(float *)emu::shared_at(*next, 4, 4, "dev_sort_out") = x;
        *next += (uint32_t)step;
    }
}

static inline void dev_store16(void *global, uint4 x, bool there)
{
    if (there)
        *(uint4 *)global = x;
}

static inline void dev_add(float *global, float x)
{
    *global += x;
}

void dev_add4(float *global, const float x[4]);
void dev_bulk_add(float *global, uint32_t smem, int bytes);
void dev_bulk_commit(void);
template <int N> static inline void dev_bulk_wait_read(void)
{
    emu::bulk_wait(N, "dev_bulk_wait_read");
}
template <int N> static inline void dev_bulk_wait(void)
{
    emu::bulk_wait(N, "dev_bulk_wait");
}
static inline void dev_fence_async(void)
{
}

void dev_barrier_init(uint32_t barrier, int arrivals);
void dev_barrier_arrive(uint32_t barrier);
void dev_barrier_arrive_copied(uint32_t barrier);
void dev_barrier_arrive_expect(uint32_t barrier, int bytes);
void dev_bulk_load(uint32_t smem, const void *global, int bytes, uint32_t barrier);
void dev_barrier_wait(uint32_t barrier, int parity);
static inline void dev_named_barrier(int number, int threads)
{
    emu::block_meet(number, threads);
}

static inline void dev_named_barrier_arrive(int number, int threads)
{
    emu::block_arrive(number, threads);
}

static inline uint64_t dev_matrix(uint32_t smem, int lead, int stride)
{
    return (uint64_t)((smem & 0x3ffff) >> 4) | (uint64_t)(lead >> 4) << 16 |
           (uint64_t)(stride >> 4) << 32 | 1ull << 62;
}

static inline uint64_t dev_matrix_at(uint64_t matrix, int bytes)
{
    return matrix + (uint64_t)(bytes >> 4);
}

static inline void dev_wgmma_fence(void)
{
}
void dev_wgmma_commit(void);
template <int N> static inline void dev_wgmma_wait(void)
{
    emu::wgmma_wait(N);
}
template <int N> static inline void dev_wgmma_wait_after(float x)
{
    if (x < 0)
        emu::die("dev_wgmma_wait_after: %g is negative", (double)x);
    emu::wgmma_wait(N);
}
template <int N> static inline void dev_wgmma_result(float *c)
{
    (void)c;
}
static inline uint32_t dev_anything(void)
{
    return 0x7fc07fc0; /* NaN */
}
static inline int dev_again(int x)
{
    return x;
}
template <int N> static inline void dev_registers_fewer(void)
{
}
template <int N> static inline void dev_registers_more(void)
{
}

static inline void dev_wgmma_64x64(float c[32], uint64_t a, uint64_t b, int add)
{
    emu::wgmma_issue(c, 64, nullptr, a, b, true, add, "dev_wgmma_64x64");
}

static inline void dev_wgmma_64x64_reg_k(float c[32], const uint32_t a[4], uint64_t b, int add)
{
    emu::wgmma_issue(c, 64, a, 0, b, true, add, "dev_wgmma_64x64_reg_k");
}

static inline void dev_wgmma_64x64_reg(float c[32], const uint32_t a[4], uint64_t b, int add = 1)
{
    emu::wgmma_issue(c, 64, a, 0, b, false, add, "dev_wgmma_64x64_reg");
}

static inline void dev_wgmma_64x128_reg(float c[64], const uint32_t a[4], uint64_t b, int add = 1)
{
    emu::wgmma_issue(c, 128, a, 0, b, false, add, "dev_wgmma_64x128_reg");
}

static inline void dev_wgmma_64x256_reg(float c[128], const uint32_t a[4], uint64_t b, int add = 1)
{
    emu::wgmma_issue(c, 256, a, 0, b, false, add, "dev_wgmma_64x256_reg");
}

/* ---- the runtime
 * ------------------------------------------------------------------------------------------ */

enum cudaError_t {
    cudaSuccess = 0,
    cudaErrorInvalidValue = 1,
    cudaErrorMemoryAllocation = 2,
    cudaErrorInvalidConfiguration = 9,
    cudaErrorInsufficientDriver = 35,
    cudaErrorNoDevice = 100
};
typedef struct emu_stream *cudaStream_t;
typedef struct emu_event *cudaEvent_t;
#define cudaStreamPerThread ((cudaStream_t)0x2)
enum cudaMemcpyKind {
    cudaMemcpyHostToHost,
    cudaMemcpyHostToDevice,
    cudaMemcpyDeviceToHost,
    cudaMemcpyDeviceToDevice,
    cudaMemcpyDefault
};
enum cudaDeviceAttr {
    cudaDevAttrMultiProcessorCount = 16,
    cudaDevAttrL2CacheSize = 38,
    cudaDevAttrComputeCapabilityMajor = 75,
    cudaDevAttrComputeCapabilityMinor = 76,
    cudaDevAttrMaxSharedMemoryPerMultiprocessor = 81,
    cudaDevAttrMaxSharedMemoryPerBlockOptin = 97
};
enum cudaFuncAttribute { cudaFuncAttributeMaxDynamicSharedMemorySize = 8 };
struct cudaFuncAttributes {
    int binaryVersion;
};
typedef struct emu_pool *cudaMemPool_t;
enum cudaMemPoolAttr { cudaMemPoolAttrReleaseThreshold = 4 };

cudaError_t cudaGetDeviceCount(int *count);
cudaError_t cudaGetDevice(int *device);
cudaError_t cudaSetDevice(int device);
cudaError_t cudaDeviceGetAttribute(int *value, cudaDeviceAttr attribute, int device);
cudaError_t cudaDriverGetVersion(int *version);
cudaError_t cudaRuntimeGetVersion(int *version);
cudaError_t cudaMemGetInfo(size_t *free, size_t *total);
cudaError_t cudaMalloc(void **p, size_t bytes);
cudaError_t cudaFree(void *p);
enum { cudaHostAllocDefault = 0 };
cudaError_t cudaHostAlloc(void **p, size_t bytes, unsigned flags);
cudaError_t cudaFreeHost(void *p);
cudaError_t cudaMallocAsync(void **p, size_t bytes, cudaStream_t stream);
cudaError_t cudaFreeAsync(void *p, cudaStream_t stream);
cudaError_t cudaFuncGetAttributes(cudaFuncAttributes *attributes, const void *kernel);
cudaError_t cudaDeviceGetDefaultMemPool(cudaMemPool_t *pool, int device);
cudaError_t cudaMemPoolSetAttribute(cudaMemPool_t pool, cudaMemPoolAttr attribute, void *value);
cudaError_t cudaMemPoolTrimTo(cudaMemPool_t pool, size_t bytes);
cudaError_t cudaMemcpyAsync(void *to, const void *from, size_t bytes, cudaMemcpyKind kind,
                            cudaStream_t stream);
cudaError_t cudaMemsetAsync(void *p, int byte, size_t bytes, cudaStream_t stream);
cudaError_t cudaStreamSynchronize(cudaStream_t stream);
cudaError_t cudaDeviceSynchronize(void);
cudaError_t cudaGetLastError(void);
const char *cudaGetErrorString(cudaError_t error);
const char *cudaGetErrorName(cudaError_t error);

template <class... Formal, class... Actual>
static inline cudaError_t dev_launch(void (*kernel)(Formal...), dim3 grid, dim3 block,
                                     size_t shared, cudaStream_t stream, Actual... args)
{
    (void)stream;
    int refused = emu::launch_refused(grid, block, shared);
    if (!refused)
        emu::launch(grid, block, shared, [&] { kernel(args...); });
    return (cudaError_t)refused;
}

#endif
