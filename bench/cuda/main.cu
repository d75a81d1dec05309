/* bench_cuda: the ceilings of a GPU, and how near each kernel comes. Tables go to a folder, one
 * line a measurement to standard output. Ratios are to the milliseconds that DSV's artifact (arXiv
 * 2502.07590, exp1) took on an H100 and to the targets of docs/performance.md. Usage: bench_cuda
 * FOLDER [--seconds N] [--tiny] [--plant] [PART...]   parts: ceilings dense sparse select move
 * ladder. Exit status 4: something could not be run, 5: a step of the ladder is wrong (--plant: one
 * that is meant to be). */
#include "bench/cuda/bench.h"

#include <ctype.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

double bench_now_s(void)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (double)t.tv_sec + 1e-9 * (double)t.tv_nsec;
}

static void stop(const struct err *e)
{
    fprintf(stderr, "bench_cuda: %s\n", e->text);
    exit(e->code == ERR_NONE ? 1 : e->code);
}

/* ---- memory and numbers ------------------------------------------------------------------------
 */

void *bench_memory(struct bench *b, size_t bytes)
{
    struct err e = {};
    void *p = NULL;
    if (b->memory_count == sizeof b->memory / sizeof *b->memory)
        err_set(&e, ERR_SYSTEM, err_at_name("bench"), "too many buffers");
    if (e.code != ERR_NONE || !kern_cuda.allocate(bytes, &p, &e))
        stop(&e);
    b->memory[b->memory_count++] = p;
    return p;
}

void bench_release(struct bench *b)
{
    while (b->memory_count > 0)
        kern_cuda.release(b->memory[--b->memory_count]);
}

DEV uint32_t mix(uint32_t x) /* Murmur3's last step */
{
    x = (x ^ x >> 16) * 0x85ebca6bu;
    x = (x ^ x >> 13) * 0xc2b2ae35u;
    return x ^ x >> 16;
}

/* Sum of four uniform numbers, which is near enough to normal for timing. */
__global__ void normal_kernel(uint16_t *x, int64_t count, uint32_t seed, float deviation)
{
    int64_t step = (int64_t)gridDim.x * blockDim.x;
    for (int64_t i = (int64_t)blockIdx.x * blockDim.x + threadIdx.x; i < count; i += step) {
        uint32_t a = mix((uint32_t)i * 2654435761u + seed),
                 c = mix(a ^ (uint32_t)(i >> 32) ^ 0x9e3779b9u);
        float sum = (float)(a & 0xffff) + (float)(a >> 16) + (float)(c & 0xffff) + (float)(c >> 16);
        x[i] = (uint16_t)(dev_pack((sum / 65536 - 2) * 1.7320508f * deviation, 0) & 0xffff);
    }
}

void bench_normal(uint16_t *x, int64_t count, uint32_t seed, float deviation)
{
    struct err e = {};
    int blocks = (int)(count / 256 < 4096 ? count / 256 + 1 : 4096);
    if (!cuda_ok(dev_launch(normal_kernel, dim3(blocks), dim3(256), 0, CUDA_STREAM, x, count, seed,
                            deviation),
                 "bench: numbers", &e))
        stop(&e);
}

/* ---- times
 * --------------------------------------------------------------------------------------- */

static int by_value(const void *x, const void *y)
{
    float a = *(const float *)x, b = *(const float *)y;
    return a < b ? -1 : a > b;
}

static bool timed(bench_call *call, void *argument, float *ms, struct err *e)
{
#ifdef __CUDACC__
    cudaEvent_t begin = NULL, end = NULL;
    bool ok = cuda_ok(cudaEventCreate(&begin), "event", e) &&
              cuda_ok(cudaEventCreate(&end), "event", e) &&
              cuda_ok(cudaEventRecord(begin, CUDA_STREAM), "event", e) && call(argument, e) &&
              cuda_ok(cudaEventRecord(end, CUDA_STREAM), "event", e) &&
              cuda_ok(cudaEventSynchronize(end), "kernel", e) &&
              cuda_ok(cudaEventElapsedTime(ms, begin, end), "event", e);
    if (begin)
        cudaEventDestroy(begin);
    if (end)
        cudaEventDestroy(end);
    return ok;
#else
    double start = bench_now_s();
    bool ok = call(argument, e) && kern_cuda.wait(e);
    *ms = (float)(1e3 * (bench_now_s() - start));
    return ok;
#endif
}

double bench_ms(struct bench *b, const char *what, bench_call *call, void *argument)
{
    enum { LEAST = 3, MOST = 50 };
    float ms[MOST], warm = 0;
    struct err e = {};
    bool ok = timed(call, argument, &warm, &e) && (b->tiny || timed(call, argument, &warm, &e));
    int n = warm > 0 ? (int)(500 / warm) : MOST;
    n = b->tiny ? 1 : n < LEAST ? LEAST : n > MOST ? MOST : n;
    for (int i = 0; ok && i < n; i++)
        ok = timed(call, argument, &ms[i], &e);
    if (!ok) {
        b->failed++;
        printf("  %-58s failed: %s\n", what, e.text);
        fflush(stdout);
        return -1;
    }
    qsort(ms, (size_t)n, sizeof *ms, by_value);
    return (double)ms[n / 2];
}

bool bench_time_left(struct bench *b, const char *part)
{
    if (bench_now_s() < b->until_s)
        return true;
    printf("  %s: the time is over, the rest is left out\n", part);
    b->until_s = -1;
    return false;
}

/* ---- tables
 * -------------------------------------------------------------------------------------- */

FILE *bench_table(struct bench *b, const char *name, const char *header)
{
    char path[4096];
    snprintf(path, sizeof path, "%s/%s.csv", b->folder, name);
    FILE *f = fopen(path, "a");
    struct err e = {};
    if (!f) {
        err_set(&e, ERR_SYSTEM, err_at_name(path), "cannot be written");
        stop(&e);
    }
    setvbuf(f, NULL, _IOLBF, 4096); /* a run that is killed keeps its rows */
    fseek(f, 0, SEEK_END);
    if (ftell(f) == 0)
        fprintf(f, "%s\n", header);
    return f;
}

/* "NVIDIA H200" -> "h200", "NVIDIA A100-SXM4-80GB" -> "a100". */
static void short_name(char *out, size_t room, const char *name)
{
    const char *word = strncmp(name, "NVIDIA ", 7) == 0 ? name + 7 : name;
    size_t n = 0;
    while (n + 1 < room && isalnum((unsigned char)word[n])) {
        out[n] = (char)tolower((unsigned char)word[n]);
        n++;
    }
    out[n] = 0;
}

static void describe(struct bench *b)
{
    struct err e = {};
    if (!kern_cuda.available()) {
        err_set(&e, ERR_DEVICE, err_at_name("bench_cuda"),
                "no GPU here that this build has machine code for");
        stop(&e);
    }
    if (!cuda_device(&b->device, &e))
        stop(&e);
#ifdef __CUDACC__
    cudaDeviceProp p;
    if (!cuda_ok(cudaGetDeviceProperties(&p, 0), "device", &e))
        stop(&e);
    short_name(b->gpu, sizeof b->gpu, p.name);
    printf("%s, compute capability %d.%d, %d multiprocessors, %.0f MB of L2, %.1f GB\n", p.name,
           p.major, p.minor, p.multiProcessorCount, (double)p.l2CacheSize * 1e-6,
           (double)p.totalGlobalMem * 1e-9);
#else
    short_name(b->gpu, sizeof b->gpu, "emulated");
#endif
}

static const struct part {
    const char *name;
    void (*run)(struct bench *b);
} parts[] = {{"ceilings", bench_ceilings}, {"dense", bench_dense}, {"sparse", bench_sparse},
             {"select", bench_select},     {"move", bench_move},   {"ladder", bench_ladder}};

static bool asked_for(const char *name, int argc, char **argv)
{
    bool any = false;
    for (int i = 2; i < argc; i++) {
        if (strcmp(argv[i], "--seconds") == 0)
            i++;
        else if (strncmp(argv[i], "--", 2) != 0)
            any = true;
        if (i < argc && strcmp(argv[i], name) == 0)
            return true;
    }
    return !any;
}

int main(int argc, char **argv)
{
    static struct bench b;
    if (argc < 2 || argv[1][0] == '-') {
        fputs("usage: bench_cuda FOLDER [--seconds N] [--tiny] [--plant] "
              "[ceilings|dense|sparse|select|move|ladder ...]\n",
              stderr);
        return 2;
    }
    b.folder = argv[1];
    b.until_s = bench_now_s() + 1e9;
    for (int i = 2; i < argc; i++) {
        if (strcmp(argv[i], "--tiny") == 0)
            b.tiny = true;
        if (strcmp(argv[i], "--plant") == 0)
            b.plant = true;
        if (strcmp(argv[i], "--seconds") == 0 && i + 1 < argc)
            b.until_s = bench_now_s() + atof(argv[i + 1]);
    }
    describe(&b);
    for (const struct part &p : parts)
        if (asked_for(p.name, argc, argv)) {
            printf("%s\n", p.name);
            p.run(&b);
            bench_release(&b);
            fflush(stdout);
        }
    return b.failed > 0 ? ERR_DEVICE : b.wrong > 0 ? ERR_TOLERANCE : 0;
}
