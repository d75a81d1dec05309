/* What bounds the attention kernels, measured by kernels that do nothing else: dense products
 * (cuBLAS), copies, gathers of rows that lie in L2, and additions to rows in memory. The last
 * number decides how the backward pass adds up dK and dV.
 *
 * A window is the part of memory that rows are drawn from: up to the size of L2 they stay there. */
#include <dlfcn.h>

#include "bench/cuda/bench.h"

enum { THREADS = 256, COPY_STAGES = 8, STAGE_BYTES = 16 * THREADS };
enum { WARPS = 4, RING = 3, RING_BYTES = 8192 };

enum order { SORTED, RUNS, RANDOM, ORDERS };
static const char *const order_names[ORDERS] = {"sorted", "runs8", "random"};

struct gather {
    const unsigned char *from;
    int rows, row_bytes, order;
    int64_t steps; /* of each block */
};

DEV uint32_t draw(uint32_t x)
{
    x = (x ^ x >> 16) * 0x85ebca6bu;
    x = (x ^ x >> 13) * 0xc2b2ae35u;
    return x ^ x >> 16;
}

/* The i-th of n draws of a block. sorted: blocks sweep the window together, a draw in each of n
 * equal parts, as ascending lists do. runs8: eight neighbours at a time. */
DEV int row_of(int order, int rows, int64_t i, int64_t n, uint32_t block)
{
    if (order == SORTED) {
        int low = (int)(i * rows / n), high = (int)((i + 1) * rows / n);
        return low +
               (high > low ? (int)(draw((uint32_t)i * 31 + block) % (uint32_t)(high - low)) : 0);
    }
    if (order == RUNS) {
        uint32_t start = draw((uint32_t)(i / 8) * 31 + block * 0x9e3779b9u) % (uint32_t)rows;
        int row = (int)start / 8 * 8 + (int)(i % 8);
        return row < rows ? row : rows - 1;
    }
    return (int)(draw((uint32_t)i * 31 + block * 0x9e3779b9u) % (uint32_t)rows);
}

/* As the forward kernel reads keys: neighbouring threads fetch 16 bytes each of one row. */
__global__ void gather_copy(struct gather g)
{
    uint32_t at = dev_smem(dev_shared());
    int t = (int)threadIdx.x, pieces = g.row_bytes / 16, row = t / pieces,
        step_rows = THREADS / pieces;
    const unsigned char *from = g.from + t % pieces * 16;
    for (int64_t s = 0; s < g.steps; s++) {
        int64_t i = s * step_rows + row;
        int r = row_of(g.order, g.rows, i, g.steps * step_rows, blockIdx.x);
        dev_copy16(at + (uint32_t)(s % COPY_STAGES * STAGE_BYTES + t * 16),
                   from + (int64_t)r * g.row_bytes, 16);
        dev_copy_commit();
        dev_copy_wait<COPY_STAGES - 1>();
    }
    dev_copy_wait<0>();
}

/* By the copy engine: one request a row, each warp with a ring of its own. */
__global__ void gather_bulk(struct gather g)
{
    unsigned char *shared = dev_shared();
    int warp = (int)threadIdx.x / 32, lane = (int)threadIdx.x % 32,
        step_rows = RING_BYTES / g.row_bytes;
    uint32_t ring = dev_smem(shared) + (uint32_t)(warp * RING * RING_BYTES);
    uint32_t barrier = dev_smem(shared) + (uint32_t)(WARPS * RING * RING_BYTES + warp * RING * 8);
    if (lane == 0)
        for (int i = 0; i < RING; i++)
            dev_barrier_init(barrier + (uint32_t)i * 8, 1);
    __syncthreads();
    uint32_t source = blockIdx.x * WARPS + (uint32_t)warp;
    for (int64_t s = 0; s < g.steps + RING; s++) {
        uint32_t slot = (uint32_t)(s % RING), slot_barrier = barrier + slot * 8;
        if (s >= RING)
            dev_barrier_wait(slot_barrier, (int)((s / RING - 1) & 1));
        if (s >= g.steps)
            continue;
        __syncwarp(); /* nobody still waits for the phase that ended */
        if (lane == 0)
            dev_barrier_arrive_expect(slot_barrier, RING_BYTES);
        __syncwarp();
        for (int i = lane; i < step_rows; i += 32) {
            int r = row_of(g.order, g.rows, s * step_rows + i, g.steps * step_rows, source);
            dev_bulk_load(ring + slot * RING_BYTES + (uint32_t)(i * g.row_bytes),
                          g.from + (int64_t)r * g.row_bytes, g.row_bytes, slot_barrier);
        }
    }
}

struct gather_run {
    struct gather g;
    int blocks;
    bool bulk;
};

static bool call_gather(void *argument, struct err *e)
{
    struct gather_run *r = (struct gather_run *)argument;
    cudaError_t bad = r->bulk ? dev_launch(gather_bulk, dim3(r->blocks), dim3(WARPS * 32),
                                           WARPS * RING * (RING_BYTES + 8), CUDA_STREAM, r->g)
                              : dev_launch(gather_copy, dim3(r->blocks), dim3(THREADS),
                                           COPY_STAGES * STAGE_BYTES, CUDA_STREAM, r->g);
    return cuda_ok(bad, "gather", e);
}

/* Tiny: 8 KB stand for a megabyte. */
static int64_t megabytes(const struct bench *b, int n)
{
    return (int64_t)n << (b->tiny ? 13 : 20);
}

static FILE *ceilings_table(struct bench *b)
{
    return bench_table(b, "ceilings", "gpu,what,order,row_bytes,window_bytes,TB_per_s");
}

static void gather_row(struct bench *b, FILE *f, struct gather_run *r, int64_t window)
{
    char what[96];
    const char *how = r->bulk ? "gather_bulk" : "gather_cp_async", *order = order_names[r->g.order];
    int step_bytes = r->bulk ? WARPS * RING_BYTES : STAGE_BYTES;
    int64_t bytes = b->tiny ? 1 << 20 : 8ll << 30;
    r->blocks = b->device.processors * (r->bulk ? 2 : 6);
    r->g.rows = (int)(window / r->g.row_bytes);
    r->g.steps = bytes / r->blocks / step_bytes + 1;
    snprintf(what, sizeof what, "%s %s, rows of %d B in %lld MB", how, order, r->g.row_bytes,
             (long long)(window >> 20));
    double ms = bench_ms(b, what, call_gather, r);
    double rate = (double)r->g.steps * r->blocks * step_bytes / ms * 1e-9;
    if (ms < 0)
        return;
    fprintf(f, "%s,%s,%s,%d,%lld,%.4f\n", b->gpu, how, order, r->g.row_bytes, (long long)window,
            rate);
    printf("  %-58s %7.2f TB/s\n", what, rate);
}

static void gathers(struct bench *b)
{
    static const int row_bytes[] = {128, 256, 512, 1024};
    static const int windows_mb[] = {8, 32, 64, 256};
    struct gather_run r = {};
    FILE *f = ceilings_table(b);
    r.g.from = (const unsigned char *)bench_memory(b, (size_t)megabytes(b, 256));
    bench_normal((uint16_t *)(uintptr_t)r.g.from, megabytes(b, 128), 1, 1);
    for (int bulk = 0; bulk < (b->device.sm >= DEV_SM_BULK ? 2 : 1); bulk++)
        for (int order = 0; order < ORDERS; order++)
            for (int w = 0; w < 4; w++)
                for (int i = 0; i < 4; i++) {
                    bool whole = order == RANDOM || row_bytes[i] == 256; /* elsewhere samples */
                    if (!whole || (b->tiny && w > 0) || !bench_time_left(b, "gathers"))
                        continue;
                    r.bulk = bulk;
                    r.g.order = order;
                    r.g.row_bytes = row_bytes[i];
                    gather_row(b, f, &r, megabytes(b, windows_mb[w]));
                }
    fclose(f);
    bench_release(b);
}

/* ---- additions to rows --------------------------------------------------------------- */

enum how { SCALAR, VECTOR, BULK, HOWS };
static const char *const how_names[HOWS] = {"add_scalar", "add_vector", "add_bulk"};
enum { ADD_ROWS = 64 }; /* of a step: a tile of keys */

struct adds {
    float *to;
    int rows, row_bytes, order;
    int64_t steps;
};

template <int how> __global__ void add_rows(struct adds a)
{
    float *tile = (float *)dev_shared();
    int t = (int)threadIdx.x, width = a.row_bytes / 4;
    for (int i = t; i < ADD_ROWS * width; i += (int)blockDim.x)
        tile[i] = 1e-30f;
    if (how == BULK)
        dev_fence_async();
    __syncthreads();
    for (int64_t s = 0; s < a.steps; s++) {
        if (how == BULK) {
            if (t < ADD_ROWS) {
                int r = row_of(a.order, a.rows, s * ADD_ROWS + t, a.steps * ADD_ROWS, blockIdx.x);
                dev_bulk_add(a.to + (int64_t)r * width, dev_smem(tile + t * width), a.row_bytes);
                dev_bulk_commit();
                dev_bulk_wait_read<2>();
            }
            continue;
        }
        int each = how == VECTOR ? 4 : 1, lanes = width / each; /* a row's threads are neighbours */
        for (int i = t; i < ADD_ROWS * lanes; i += (int)blockDim.x) {
            int row = i / lanes, column = i % lanes * each;
            int r = row_of(a.order, a.rows, s * ADD_ROWS + row, a.steps * ADD_ROWS, blockIdx.x);
            float *to = a.to + (int64_t)r * width + column;
            const float *x = tile + row * width + column;
            if (how == VECTOR)
                dev_add4(to, x);
            else
                dev_add(to, *x);
        }
    }
    if (how == BULK)
        dev_bulk_wait<0>();
}

struct adds_run {
    struct adds a;
    int blocks, how;
};

static bool call_adds(void *argument, struct err *e)
{
    struct adds_run *r = (struct adds_run *)argument;
    static void (*const kernels[HOWS])(struct adds) = {add_rows<SCALAR>, add_rows<VECTOR>,
                                                       add_rows<BULK>};
    return cuda_ok(dev_launch(kernels[r->how], dim3(r->blocks), dim3(128),
                              (size_t)ADD_ROWS * r->a.row_bytes, CUDA_STREAM, r->a),
                   "additions", e);
}

static void add_row(struct bench *b, FILE *f, struct adds_run *r, int64_t window)
{
    char what[96];
    int64_t bytes = b->tiny ? 1 << 20 : 2ll << 30, step_bytes = ADD_ROWS * r->a.row_bytes;
    r->blocks = b->device.processors * 3;
    r->a.rows = (int)(window / r->a.row_bytes);
    r->a.steps = bytes / r->blocks / step_bytes + 1;
    snprintf(what, sizeof what, "%s %s, rows of %d B in %lld MB", how_names[r->how],
             order_names[r->a.order], r->a.row_bytes, (long long)(window >> 20));
    double ms = bench_ms(b, what, call_adds, r);
    double rate = (double)r->a.steps * r->blocks * (double)step_bytes / ms * 1e-9;
    if (ms < 0)
        return;
    fprintf(f, "%s,%s,%s,%d,%lld,%.4f\n", b->gpu, how_names[r->how], order_names[r->a.order],
            r->a.row_bytes, (long long)window, rate);
    printf("  %-58s %7.2f TB/s of fp32 sums\n", what, rate);
}

static void additions(struct bench *b)
{
    static const int windows_mb[] = {8, 32, 128};
    struct adds_run r = {};
    FILE *f = ceilings_table(b);
    r.a.to = (float *)bench_memory(b, (size_t)megabytes(b, 128));
    struct err e = {};
    bench_must(kern_cuda.clear(r.a.to, (size_t)megabytes(b, 128), &e), &e);
    for (int how = 0; how < (b->device.sm >= DEV_SM_BULK ? HOWS : 1); how++)
        for (int order = 0; order < ORDERS; order++)
            for (int w = 0; w < (b->tiny ? 1 : 3); w++)
                for (int bytes = 256; bytes <= 1024; bytes *= 2) {
                    if ((bytes != 512 && (how != BULK || order != RANDOM)) ||
                        !bench_time_left(b, "additions"))
                        continue;
                    r.how = how;
                    r.a.order = order;
                    r.a.row_bytes = bytes;
                    add_row(b, f, &r, megabytes(b, windows_mb[w]));
                }
    fclose(f);
    bench_release(b);
}

/* ---- copies -------------------------------------------------------------------------- */

struct copy {
    void *to;
    const void *from;
    int64_t bytes;
    int blocks;
};

__global__ void copy_kernel(uint4 *to, const uint4 *from, int64_t count)
{
    int64_t step = (int64_t)gridDim.x * blockDim.x;
    for (int64_t i = (int64_t)blockIdx.x * blockDim.x + threadIdx.x; i < count; i += step)
        to[i] = from[i];
}

static bool call_copy_kernel(void *argument, struct err *e)
{
    struct copy *c = (struct copy *)argument;
    return cuda_ok(dev_launch(copy_kernel, dim3(c->blocks), dim3(512), 0, CUDA_STREAM,
                              (uint4 *)c->to, (const uint4 *)c->from, c->bytes / 16),
                   "copy", e);
}

static bool call_copy_engine(void *argument, struct err *e)
{
    struct copy *c = (struct copy *)argument;
    return cuda_ok(
        cudaMemcpyAsync(c->to, c->from, (size_t)c->bytes, cudaMemcpyDeviceToDevice, CUDA_STREAM),
        "copy", e);
}

static void copies(struct bench *b)
{
    FILE *f = ceilings_table(b);
    struct copy c = {};
    c.bytes = b->tiny ? 1 << 20 : 2ll << 30;
    c.to = bench_memory(b, (size_t)c.bytes);
    c.from = bench_memory(b, (size_t)c.bytes);
    c.blocks = b->device.processors * 4;
    bench_normal((uint16_t *)(uintptr_t)c.from, c.bytes / 2, 2, 1);
    static const char *const names[] = {"copy_kernel", "copy_memcpy"};
    bench_call *const calls[] = {call_copy_kernel, call_copy_engine};
    for (int i = 0; i < 2; i++) {
        double ms = bench_ms(b, names[i], calls[i], &c), rate = 2 * (double)c.bytes / ms * 1e-9;
        if (ms < 0)
            continue;
        fprintf(f, "%s,%s,sorted,,%lld,%.4f\n", b->gpu, names[i], (long long)c.bytes, rate);
        printf("  %-58s %7.2f TB/s read plus written\n", names[i], rate);
    }
    fclose(f);
    bench_release(b);
}

/* ---- dense products ------------------------------------------------------------------ */

/* cuBLAS by name, so that the build needs no header of it and the program no library. The numbers
 * are those of cublas_api.h and library_types.h, fixed since CUDA 11. */
enum { CUBLAS_N = 0, CUBLAS_T = 1, CUBLAS_BF16 = 14, CUBLAS_COMPUTE_FP32 = 68, CUBLAS_ANY = -1 };
typedef int cublas_create(void **handle);
typedef int cublas_set_stream(void *handle, cudaStream_t stream);
typedef int cublas_gemm(void *handle, int transa, int transb, int m, int n, int k,
                        const void *alpha, const void *a, int a_type, int lda, const void *b,
                        int b_type, int ldb, const void *beta, void *c, int c_type, int ldc,
                        int compute, int algorithm);

struct product {
    void *handle;
    cublas_gemm *gemm;
    int m, n, k;
    const void *x, *w;
    void *y;
};

/* y[m][n] = x[m][k] w[k][n], row-major: for column-major cuBLAS that is y^T = w^T x^T. */
static bool call_product(void *argument, struct err *e)
{
    struct product *p = (struct product *)argument;
    float one = 1, zero = 0;
    int bad = p->gemm(p->handle, CUBLAS_N, CUBLAS_N, p->n, p->m, p->k, &one, p->w, CUBLAS_BF16,
                      p->n, p->x, CUBLAS_BF16, p->k, &zero, p->y, CUBLAS_BF16, p->n,
                      CUBLAS_COMPUTE_FP32, CUBLAS_ANY);
    return bad == 0 || err_set(e, ERR_DEVICE, err_at_name("cublasGemmEx"), "status %d", bad);
}

static bool product_open(struct product *p)
{
    static const char *const names[] = {"libcublas.so.13", "libcublas.so.12", "libcublas.so"};
    void *library = NULL;
    for (int i = 0; i < 3 && !library; i++)
        library = dlopen(names[i], RTLD_NOW);
    if (!library)
        return printf("  dense products: left out, no cuBLAS here (%s)\n", dlerror()), false;
    cublas_create *create = (cublas_create *)dlsym(library, "cublasCreate_v2");
    cublas_set_stream *stream = (cublas_set_stream *)dlsym(library, "cublasSetStream_v2");
    p->gemm = (cublas_gemm *)dlsym(library, "cublasGemmEx");
    int bad = create && stream && p->gemm ? create(&p->handle) : -1;
    if (bad == 0)
        bad = stream(p->handle, CUDA_STREAM);
    if (bad != 0)
        printf("  dense products: left out, cuBLAS does not start (status %d)\n", bad);
    return bad == 0;
}

static void products(struct bench *b)
{
    static const int shapes[][3] = {{8192, 8192, 8192},  {4096, 4096, 4096},   {16384, 9216, 3072},
                                    {16384, 3072, 3072}, {16384, 12288, 3072}, {16384, 3072, 12288},
                                    {2048, 3072, 3072},  {2048, 12288, 3072}};
    struct product p = {};
    if (b->tiny || !product_open(&p))
        return;
    FILE *f = bench_table(b, "gemm", "gpu,m,n,k,lat_us");
    uint16_t *x = (uint16_t *)bench_memory(b, 16384ull * 12288 * 2);
    uint16_t *w = (uint16_t *)bench_memory(b, 8192ull * 9216 * 2);
    p.y = bench_memory(b, 16384ull * 12288 * 2);
    bench_normal(x, 16384ll * 12288, 3, 1);
    bench_normal(w, 8192ll * 9216, 4, 0.02f);
    p.x = x, p.w = w;
    for (const int *shape : shapes) {
        char what[64];
        p.m = shape[0], p.n = shape[1], p.k = shape[2];
        snprintf(what, sizeof what, "product of %d x %d x %d", p.m, p.n, p.k);
        double ms = bench_ms(b, what, call_product, &p);
        if (ms < 0)
            continue;
        fprintf(f, "%s,%d,%d,%d,%.3f\n", b->gpu, p.m, p.n, p.k, 1e3 * ms);
        printf("  %-58s %7.1f TFLOP/s\n", what, 2.0 * p.m * p.n * p.k / ms * 1e-9);
    }
    fclose(f);
    bench_release(b);
}

void bench_ceilings(struct bench *b)
{
    products(b);
    copies(b);
    additions(b);
    gathers(b);
}
