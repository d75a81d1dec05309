/* What the kernels use of a GPU: asynchronous copies, tensor cores, barriers, reductions. The one
 * file with PTX. Each function is one instruction (or one idiom) of the PTX ISA 9.0 manual; the
 * register layouts are its figures for mma.m16n8k16 and wgmma.m64nNk16.
 *
 * A host compiler gets the same functions from kernels/cuda/emulate.h, which runs a kernel's
 * threads as fibers of one CPU thread: that is how kernels are tested where there is no GPU. So
 * kernels keep to this file and to the CUDA names that emulate.h lists, take shared memory from
 * dev_shared() only, and start through dev_launch().
 *
 * Addresses in shared memory are bytes from the shared window (dev_smem), as PTX has them.
 * bf16 pairs are uint32_t: the element with the lower index in the lower half.
 *
 * An instruction that the target lacks traps; the host picks kernels by compute capability
 * (DEV_SM_*), kernels themselves have no #if on the target. */
#ifndef KERNELS_CUDA_PRIM_CUH
#define KERNELS_CUDA_PRIM_CUH

#include <stddef.h>
#include <stdint.h>

enum { DEV_SM_COPY = 80, DEV_SM_BULK = 90 }; /* least compute capability x 10 of what is below */

#ifndef __CUDACC__
#include "kernels/cuda/emulate.h"
#else

#include <cuda_runtime.h>

#define DEV static __device__ __forceinline__

#if !defined(__CUDA_ARCH__) || __CUDA_ARCH__ >= 900
#define DEV_ON_BULK(...) __VA_ARGS__
#else
#define DEV_ON_BULK(...) __trap()
#endif
/* wgmma and setmaxnreg exist on sm_90a alone, neither before nor after. */
#if !defined(__CUDA_ARCH__) || defined(__CUDA_ARCH_FEAT_SM90_ALL)
#define DEV_ON_WGMMA(...) __VA_ARGS__
#else
#define DEV_ON_WGMMA(...) __trap()
#endif

/* ---- shared memory ------------------------------------------------------------------------- */

/* The block's dynamic shared memory, aligned to 1,024 bytes. */
DEV unsigned char *dev_shared(void)
{
    extern __shared__ __align__(1024) unsigned char dev_shared_bytes[];
    return dev_shared_bytes;
}

DEV uint32_t dev_smem(const void *shared)
{
    return (uint32_t)__cvta_generic_to_shared(shared);
}

/* Row `row` of rows of `bytes` bytes: one instruction, of which the compiler would make five. */
template <class T> DEV const T *dev_row(const T *rows, int row, int bytes)
{
    const T *p;
    asm("mad.wide.s32 %0, %1, %2, %3;" : "=l"(p) : "r"(row), "r"(bytes), "l"(rows));
    return p;
}

/* ---- asynchronous copies, global to shared --------------------------------------------------- */

/* 16 bytes, both sides aligned to 16; `bytes` = 0 reads nothing and writes zeros (bytes: 0 or 16).
 */
DEV void dev_copy16(uint32_t smem, const void *global, int bytes)
{
    asm volatile("cp.async.cg.shared.global.L2::256B [%0], [%1], 16, %2;" ::"r"(smem), "l"(global),
                 "r"(bytes)
                 : "memory");
}

DEV void dev_copy_commit(void)
{
    asm volatile("cp.async.commit_group;" ::: "memory");
}

/* Until at most N of this thread's committed groups are under way. */
template <int N> DEV void dev_copy_wait(void)
{
    asm volatile("cp.async.wait_group %0;" ::"n"(N) : "memory");
}

/* ---- tensor cores, one warp ------------------------------------------------------------------ */

/* Four 8x8 tiles of bf16: lane i gives the address of row i % 8 of tile i / 8 (16 bytes, aligned).
 * Lane i gets of tile t: r[t] = row i / 4, columns 2 (i % 4) and one more. */
DEV void dev_ldmatrix4(uint32_t r[4], uint32_t smem)
{
    asm volatile("ldmatrix.sync.aligned.m8n8.x4.shared.b16 {%0, %1, %2, %3}, [%4];"
                 : "=r"(r[0]), "=r"(r[1]), "=r"(r[2]), "=r"(r[3])
                 : "r"(smem)
                 : "memory");
}

/* The same, each tile transposed: r[t] = column i / 4, rows 2 (i % 4) and one more. */
DEV void dev_ldmatrix4_t(uint32_t r[4], uint32_t smem)
{
    asm volatile("ldmatrix.sync.aligned.m8n8.x4.trans.shared.b16 {%0, %1, %2, %3}, [%4];"
                 : "=r"(r[0]), "=r"(r[1]), "=r"(r[2]), "=r"(r[3])
                 : "r"(smem)
                 : "memory");
}

/* Four 8x8 tiles of bf16 to shared memory, held as dev_ldmatrix4 gives them; sm_90. */
DEV void dev_stmatrix4(uint32_t smem, const uint32_t r[4])
{
    DEV_ON_BULK(
        asm volatile("stmatrix.sync.aligned.m8n8.x4.shared.b16 [%0], {%1, %2, %3, %4};" ::"r"(smem),
                     "r"(r[0]), "r"(r[1]), "r"(r[2]), "r"(r[3])
                     : "memory"));
}

/* c[16][8] += a[16][16] b[16][8], bf16 in, fp32 out. With g = lane / 4 and t = lane % 4:
 * a[0] = (g, 2t), a[1] = (g + 8, 2t), a[2] = (g, 2t + 8), a[3] = (g + 8, 2t + 8), each with the
 * next column; b[0] = rows 2t and 2t + 1 of column g, b[1] = rows 2t + 8 and 2t + 9; c[0], c[1] =
 * (g, 2t), (g, 2t + 1), c[2], c[3] = the same of row g + 8. */
DEV void dev_mma(float c[4], const uint32_t a[4], const uint32_t b[2])
{
    asm volatile("mma.sync.aligned.m16n8k16.row.col.f32.bf16.bf16.f32 {%0, %1, %2, %3}, "
                 "{%4, %5, %6, %7}, {%8, %9}, {%0, %1, %2, %3};"
                 : "+f"(c[0]), "+f"(c[1]), "+f"(c[2]), "+f"(c[3])
                 : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "r"(b[0]), "r"(b[1]));
}

/* ---- arithmetic --------------------------------------------------------------------------------
 */

DEV float dev_exp2(float x) /* relative error 2^-22; 0 for -infinity; denormals become 0 */
{
    float y;
    asm("ex2.approx.ftz.f32 %0, %1;" : "=f"(y) : "f"(x));
    return y;
}

DEV float dev_log2(float x)
{
    float y;
    asm("lg2.approx.f32 %0, %1;" : "=f"(y) : "f"(x));
    return y;
}

DEV uint32_t dev_pack(float low, float high) /* to bf16, nearest even */
{
    uint32_t r;
    asm("cvt.rn.bf16x2.f32 %0, %1, %2;" : "=r"(r) : "f"(high), "f"(low));
    return r;
}

DEV float dev_low(uint32_t pair)
{
    return __uint_as_float(pair << 16);
}

DEV float dev_high(uint32_t pair)
{
    return __uint_as_float(pair & 0xffff0000u);
}

/* ---- comparisons without branches: the compiler would make a jump or a selection of each --------
 */

/* *bits |= bit if x >= limit; not if either is NaN. */
DEV void dev_flag(uint32_t *bits, float x, float limit, uint32_t bit)
{
    asm("{ .reg .pred p; setp.ge.f32 p, %1, %2; @p or.b32 %0, %0, %3; }"
        : "+r"(*bits)
        : "f"(x), "f"(limit), "r"(bit));
}

/* *beyond += 1 if x >= high; else, if x >= low, x is stored in shared memory at *next, and *next
 * moves on by `step` bytes. */
DEV void dev_sort_out(uint32_t *beyond, uint32_t *next, int step, float x, float low, float high)
{
    asm volatile("{ .reg .pred p, q; setp.ge.f32 p, %2, %4; @p add.u32 %0, %0, 1; "
                 "setp.ge.and.f32 q, %2, %3, !p; @q st.shared.f32 [%1], %2; "
                 "@q add.u32 %1, %1, %5; }"
                 : "+r"(*beyond), "+r"(*next)
                 : "f"(x), "f"(low), "f"(high), "r"(step)
                 : "memory");
}

/* Stores x if `there`, for the first to be thrown out of the caches; aligned to 16. What x and the
 * address are made of is done in any case: the compiler would make a jump around all of it. */
DEV void dev_store16(void *global, uint4 x, bool there)
{
    asm volatile("{ .reg .pred p; setp.ne.b32 p, %5, 0; "
                 "@p st.global.cs.v4.b32 [%0], {%1, %2, %3, %4}; }" ::"l"(global),
                 "r"(x.x), "r"(x.y), "r"(x.z), "r"(x.w), "r"((int)there)
                 : "memory");
}

/* ---- reductions into global memory
 * --------------------------------------------------------------- */

DEV void dev_add(float *global, float x)
{
    asm volatile("red.global.add.f32 [%0], %1;" ::"l"(global), "f"(x) : "memory");
}

DEV void dev_add4(float *global, const float x[4]) /* sm_90; aligned to 16 */
{
    DEV_ON_BULK(asm volatile("red.global.add.v4.f32 [%0], {%1, %2, %3, %4};" ::"l"(global),
                             "f"(x[0]), "f"(x[1]), "f"(x[2]), "f"(x[3])
                             : "memory"));
}

/* global[i] += shared[i] for bytes / 4 floats, by the copy engine; both sides and `bytes` are
 * multiples of 16. One thread asks. Shared memory that ordinary stores wrote: dev_fence_async() in
 * every writing thread and a barrier first. */
DEV void dev_bulk_add(float *global, uint32_t smem, int bytes)
{
    DEV_ON_BULK(asm volatile(
        "cp.reduce.async.bulk.global.shared::cta.bulk_group.add.f32 [%0], [%1], %2;" ::"l"(global),
        "r"(smem), "r"(bytes)
        : "memory"));
}

DEV void dev_bulk_commit(void)
{
    DEV_ON_BULK(asm volatile("cp.async.bulk.commit_group;" ::: "memory"));
}

template <int N> DEV void dev_bulk_wait_read(void) /* shared memory may be written again */
{
    DEV_ON_BULK(asm volatile("cp.async.bulk.wait_group.read %0;" ::"n"(N) : "memory"));
}

template <int N> DEV void dev_bulk_wait(void) /* done in global memory */
{
    DEV_ON_BULK(asm volatile("cp.async.bulk.wait_group %0;" ::"n"(N) : "memory"));
}

DEV void
dev_fence_async(void) /* this thread's shared stores come before later asynchronous reads */
{
    DEV_ON_BULK(asm volatile("fence.proxy.async.shared::cta;" ::: "memory"));
}

/* ---- mbarriers (64-bit words in shared memory)
 * ---------------------------------------------------- */

DEV void dev_barrier_init(uint32_t barrier, int arrivals)
{
    asm volatile("mbarrier.init.shared::cta.b64 [%0], %1;" ::"r"(barrier), "r"(arrivals)
                 : "memory");
}

DEV void dev_barrier_arrive(uint32_t barrier)
{
    DEV_ON_BULK(asm volatile("mbarrier.arrive.shared::cta.b64 _, [%0];" ::"r"(barrier) : "memory"));
}

/* Arrives once this thread's copies so far (dev_copy16) are done; counts as one of `arrivals`. */
DEV void dev_barrier_arrive_copied(uint32_t barrier)
{
    DEV_ON_BULK(asm volatile("cp.async.mbarrier.arrive.noinc.shared::cta.b64 [%0];" ::"r"(barrier)
                             : "memory"));
}

/* Arrives once and makes the phase wait for `bytes` more of dev_bulk_load besides. */
DEV void dev_barrier_arrive_expect(uint32_t barrier, int bytes)
{
    DEV_ON_BULK(asm volatile(
        "mbarrier.arrive.expect_tx.shared::cta.b64 _, [%0], %1;" ::"r"(barrier), "r"(bytes)
        : "memory"));
}

/* Global to shared memory by the copy engine, told to the barrier; both sides and `bytes` are
 * multiples of 16. One thread asks. */
DEV void dev_bulk_load(uint32_t smem, const void *global, int bytes, uint32_t barrier)
{
    DEV_ON_BULK(asm volatile("cp.async.bulk.shared::cluster.global.mbarrier::complete_tx::bytes "
                             "[%0], [%1], %2, [%3];" ::"r"(smem),
                             "l"(global), "r"(bytes), "r"(barrier)
                             : "memory"));
}

/* Until the phase of this parity is over: 0 for the first, then 1, 0, ... */
DEV void dev_barrier_wait(uint32_t barrier, int parity)
{
    DEV_ON_BULK(asm volatile("{ .reg .pred p; again%=: "
                             "mbarrier.try_wait.parity.shared::cta.b64 p, [%0], %1; "
                             "@p bra done%=; bra again%=; done%=: }" ::"r"(barrier),
                             "r"(parity)
                             : "memory"));
}

/* A barrier of `threads` threads (a multiple of 32), number 1..15; 0 is __syncthreads. */
DEV void dev_named_barrier(int number, int threads)
{
    asm volatile("bar.sync %0, %1;" ::"r"(number), "r"(threads) : "memory");
}

/* Arrives there without waiting; counts among `threads`. */
DEV void dev_named_barrier_arrive(int number, int threads)
{
    asm volatile("bar.arrive %0, %1;" ::"r"(number), "r"(threads) : "memory");
}

/* ---- wgmma: four warps, sm_90a
 * ------------------------------------------------------------------------ */

/* Matrix in shared memory, 128-byte swizzle, rows of 128 bytes (64 bf16), 8-row atoms of 1,024
 * bytes aligned to 1,024: byte b of row r lies at r * 128 + (b ^ ((r % 8) << 4)) (on 16-byte
 * chunks). lead: bytes between atoms along the leading dimension (MN-major only; 16 for K-major);
 * stride: bytes between 8-row atoms. */
DEV uint64_t dev_matrix(uint32_t smem, int lead, int stride)
{
    return (uint64_t)((smem & 0x3ffff) >> 4) | (uint64_t)(lead >> 4) << 16 |
           (uint64_t)(stride >> 4) << 32 | 1ull << 62;
}

/* The same matrix from `bytes` further on (a multiple of 16, within shared memory). */
DEV uint64_t dev_matrix_at(uint64_t matrix, int bytes)
{
    return (matrix & ~0xffffffffull) | ((uint32_t)matrix + (uint32_t)(bytes >> 4));
}

DEV void dev_wgmma_fence(void)
{
    DEV_ON_WGMMA(asm volatile("wgmma.fence.sync.aligned;" ::: "memory"));
}

DEV void dev_wgmma_commit(void)
{
    DEV_ON_WGMMA(asm volatile("wgmma.commit_group.sync.aligned;" ::: "memory"));
}

template <int N> DEV void dev_wgmma_wait(void)
{
    DEV_ON_WGMMA(asm volatile("wgmma.wait_group.sync.aligned %0;" ::"n"(N) : "memory"));
}

/* The same, but not before x is known, which is never negative. The compiler moves a plain wait up
 * to where the products were asked for, as long as it meets no branch, and what should run beside
 * them comes after it. */
template <int N> DEV void dev_wgmma_wait_after(float x)
{
    if (x < 0)
        __trap();
    dev_wgmma_wait<N>();
}

/* To follow each wait: the compiler does not know that c[0 .. N) changes there, and might move its
 * first use up. */
template <int N> DEV void dev_wgmma_result(float *c)
{
#pragma unroll
    for (int i = 0; i < N; i++)
        asm volatile("" : "+f"(c[i]));
}

/* Any number: for rows of an operand whose products nobody reads. (Zeros the compiler would put in
 * their registers again between one wgmma and the next, and make each wait for the one before.) */
DEV uint32_t dev_anything(void)
{
    uint32_t x;
    asm volatile("" : "=r"(x));
    return x;
}

/* x, of which the compiler does not know that it is: what is made of it is made again, where it
 * would keep what it has in registers all the while. */
DEV int dev_again(int x)
{
    asm volatile("" : "+r"(x));
    return x;
}

template <int N> DEV void dev_registers_fewer(void)
{
    DEV_ON_WGMMA(asm volatile("setmaxnreg.dec.sync.aligned.u32 %0;" ::"n"(N)));
}

template <int N> DEV void dev_registers_more(void)
{
    DEV_ON_WGMMA(asm volatile("setmaxnreg.inc.sync.aligned.u32 %0;" ::"n"(N)));
}

#define DEV_R4(x, i)   "+f"(x[i]), "+f"(x[i + 1]), "+f"(x[i + 2]), "+f"(x[i + 3])
#define DEV_R16(x, i)  DEV_R4(x, i), DEV_R4(x, i + 4), DEV_R4(x, i + 8), DEV_R4(x, i + 12)
#define DEV_R32(x, i)  DEV_R16(x, i), DEV_R16(x, i + 16)
#define DEV_R64(x, i)  DEV_R32(x, i), DEV_R32(x, i + 32)
#define DEV_R128(x, i) DEV_R64(x, i), DEV_R64(x, i + 64)

/* c[64][64] (+)= A[64][16] B[16][64]; A and B K-major in shared memory (B as [64 columns][16]).
 * `add` 0 starts from zero. Thread i of the warpgroup, w = i / 32, g = i % 32 / 4, t = i % 4, holds
 * c[4n + 2h + j] = row 16 w + g + 8 h, column 8 n + 2 t + j. */
DEV void dev_wgmma_64x64(float c[32], uint64_t a, uint64_t b, int add)
{
    DEV_ON_WGMMA(asm volatile(
        "{ .reg .pred p; setp.ne.b32 p, %34, 0; "
        "wgmma.mma_async.sync.aligned.m64n64k16.f32.bf16.bf16 "
        "{%0, %1, %2, %3, %4, %5, %6, %7, %8, %9, %10, %11, %12, %13, %14, %15, %16, %17, %18, "
        "%19, "
        "%20, %21, %22, %23, %24, %25, %26, %27, %28, %29, %30, %31}, %32, %33, p, 1, 1, 0, 0; }"
        : DEV_R32(c, 0)
        : "l"(a), "l"(b), "r"(add)));
}

/* The same with A in registers (as dev_mma's a, rows 16 w + ...). */
DEV void dev_wgmma_64x64_reg_k(float c[32], const uint32_t a[4], uint64_t b, int add)
{
    DEV_ON_WGMMA(asm volatile(
        "{ .reg .pred p; setp.ne.b32 p, %37, 0; "
        "wgmma.mma_async.sync.aligned.m64n64k16.f32.bf16.bf16 "
        "{%0, %1, %2, %3, %4, %5, %6, %7, %8, %9, %10, %11, %12, %13, %14, %15, %16, %17, %18, "
        "%19, "
        "%20, %21, %22, %23, %24, %25, %26, %27, %28, %29, %30, %31}, {%32, %33, %34, %35}, %36, "
        "p, 1, 1, 0; }"
        : DEV_R32(c, 0)
        : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "l"(b), "r"(add)));
}

/* c[64][64] (+)= A[64][16] B[16][64]; A in registers (as dev_mma's a, rows 16 w + ...), B MN-major
 * in shared memory ([16][64 columns]). */
DEV void dev_wgmma_64x64_reg(float c[32], const uint32_t a[4], uint64_t b, int add = 1)
{
    DEV_ON_WGMMA(asm volatile(
        "{ .reg .pred p; setp.ne.b32 p, %37, 0; "
        "wgmma.mma_async.sync.aligned.m64n64k16.f32.bf16.bf16 "
        "{%0, %1, %2, %3, %4, %5, %6, %7, %8, %9, %10, %11, %12, %13, %14, %15, %16, %17, %18, "
        "%19, "
        "%20, %21, %22, %23, %24, %25, %26, %27, %28, %29, %30, %31}, {%32, %33, %34, %35}, %36, "
        "p, 1, 1, 1; }"
        : DEV_R32(c, 0)
        : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "l"(b), "r"(add)));
}

/* The same with 128 columns: c[64][128]. */
DEV void dev_wgmma_64x128_reg(float c[64], const uint32_t a[4], uint64_t b, int add = 1)
{
    DEV_ON_WGMMA(asm volatile(
        "{ .reg .pred p; setp.ne.b32 p, %69, 0; "
        "wgmma.mma_async.sync.aligned.m64n128k16.f32.bf16.bf16 "
        "{%0, %1, %2, %3, %4, %5, %6, %7, %8, %9, %10, %11, %12, %13, %14, %15, %16, %17, %18, "
        "%19, "
        "%20, %21, %22, %23, %24, %25, %26, %27, %28, %29, %30, %31, %32, %33, %34, %35, %36, %37, "
        "%38, %39, %40, %41, %42, %43, %44, %45, %46, %47, %48, %49, %50, %51, %52, %53, %54, %55, "
        "%56, %57, %58, %59, %60, %61, %62, %63}, {%64, %65, %66, %67}, %68, p, 1, 1, 1; }"
        : DEV_R64(c, 0)
        : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "l"(b), "r"(add)));
}

/* The same with 256 columns: c[64][256]. */
DEV void dev_wgmma_64x256_reg(float c[128], const uint32_t a[4], uint64_t b, int add = 1)
{
    DEV_ON_WGMMA(asm volatile(
        "{ .reg .pred p; setp.ne.b32 p, %133, 0; "
        "wgmma.mma_async.sync.aligned.m64n256k16.f32.bf16.bf16 "
        "{%0, %1, %2, %3, %4, %5, %6, %7, %8, %9, %10, %11, %12, %13, %14, %15, %16, %17, %18, "
        "%19, %20, %21, %22, %23, %24, %25, %26, %27, %28, %29, %30, %31, %32, %33, %34, %35, "
        "%36, %37, %38, %39, %40, %41, %42, %43, %44, %45, %46, %47, %48, %49, %50, %51, %52, "
        "%53, %54, %55, %56, %57, %58, %59, %60, %61, %62, %63, %64, %65, %66, %67, %68, %69, "
        "%70, %71, %72, %73, %74, %75, %76, %77, %78, %79, %80, %81, %82, %83, %84, %85, %86, "
        "%87, %88, %89, %90, %91, %92, %93, %94, %95, %96, %97, %98, %99, %100, %101, %102, "
        "%103, %104, %105, %106, %107, %108, %109, %110, %111, %112, %113, %114, %115, %116, "
        "%117, %118, %119, %120, %121, %122, %123, %124, %125, %126, %127}, "
        "{%128, %129, %130, %131}, %132, p, 1, 1, 1; }"
        : DEV_R128(c, 0)
        : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "l"(b), "r"(add)));
}

#undef DEV_R4
#undef DEV_R16
#undef DEV_R32
#undef DEV_R64
#undef DEV_R128

/* ---- start
 * -------------------------------------------------------------------------------------------- */

/* Starts kernel<<<grid, block, shared, stream>>>(args...), with more than 48 KiB of shared memory
 * where asked for. The kernel's error, or cudaSuccess; nothing waits. */
template <class... Formal, class... Actual>
static inline cudaError_t dev_launch(void (*kernel)(Formal...), dim3 grid, dim3 block,
                                     size_t shared, cudaStream_t stream, Actual... args)
{
    cudaError_t bad = cudaFuncSetAttribute(
        (const void *)kernel, cudaFuncAttributeMaxDynamicSharedMemorySize, (int)shared);
    /* All of the level-1 cache where much is asked for: as many blocks as fit, fit then. */
    if (bad == cudaSuccess && shared > 48 << 10)
        bad = cudaFuncSetAttribute((const void *)kernel,
                                   cudaFuncAttributePreferredSharedMemoryCarveout,
                                   cudaSharedmemCarveoutMaxShared);
    if (bad == cudaSuccess) {
        kernel<<<grid, block, shared, stream>>>(args...);
        bad = cudaGetLastError();
    }
    return bad;
}

#endif
#endif
