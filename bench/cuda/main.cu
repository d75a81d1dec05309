/* bench_cuda: the ceilings of a GPU, and how near each kernel comes. Tables go to a folder, one
 * line a measurement to standard output; validate/targets.awk and validate/kernel_profile.awk read
 * the tables. Usage: bench_cuda FOLDER [option...] [PART...], all parts in the order of the table
 * below:
 *   --seconds N     no new measurement starts after this
 *   --variant NAME  of attention only this one; "default": what the backend takes
 *   --once          each call once, for a profiler; --tiny: small sizes, for checkers
 *   --plant         the ladder has a step that is wrong
 * Exit status 4: something could not be run, 5: a step of the ladder is wrong. */
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

void bench_must(bool ok, const struct err *e)
{
    if (ok)
        return;
    fprintf(stderr, "bench_cuda: %s\n", e->text);
    exit(e->code);
}

/* ---- memory and numbers ---------------------------------------------------------------------- */

void *bench_memory(struct bench *b, size_t bytes)
{
    struct err e = {};
    void *p = NULL;
    bench_must(b->memory_count < (int)(sizeof b->memory / sizeof *b->memory) ||
                   err_set(&e, ERR_SYSTEM, err_at_name("bench"), "too many buffers"),
               &e);
    bench_must(kern_cuda.allocate(bytes, &p, &e), &e);
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
    bench_must(cuda_ok(dev_launch(normal_kernel, dim3(blocks), dim3(256), 0, CUDA_STREAM, x, count,
                                  seed, deviation),
                       "bench: numbers", &e),
               &e);
}

/* ---- times --------------------------------------------------------------------------- */

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
    bool ok = b->once ||
              (timed(call, argument, &warm, &e) && (b->tiny || timed(call, argument, &warm, &e)));
    int n = warm > 0 ? (int)(500 / warm) : MOST;
    n = b->tiny || b->once ? 1 : n < LEAST ? LEAST : n > MOST ? MOST : n;
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

/* ---- tables -------------------------------------------------------------------------- */

FILE *bench_table(struct bench *b, const char *name, const char *header)
{
    char path[4096];
    snprintf(path, sizeof path, "%s/%s.csv", b->folder, name);
    FILE *f = fopen(path, "a");
    struct err e = {};
    bench_must(f || err_set(&e, ERR_SYSTEM, err_at_name(path), "cannot be written"), &e);
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
    bench_must(cuda_device(&b->device, &e), &e); /* no GPU, or a driver that is too old */
    bench_must(kern_cuda.available() ||
                   err_set(&e, ERR_DEVICE, err_at_name("bench_cuda"),
                           "compute capability %d.%d: this build has no machine code for it",
                           b->device.sm / 10, b->device.sm % 10),
               &e);
#ifdef __CUDACC__
    cudaDeviceProp p;
    bench_must(cuda_ok(cudaGetDeviceProperties(&p, 0), "device", &e), &e);
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
} parts[] = {
    {"ceilings", bench_ceilings},
    {"forward", bench_forward},
    {"backward", bench_backward},
    {"select", bench_select},
    {"dense", bench_dense},
    {"sparse", bench_sparse},
    {"neighbours", bench_neighbours},
    {"dimensions", bench_dimensions},
    {"move", bench_move},
    {"ladder", bench_ladder},
};

/* Options with a value; the others stand alone. */
static bool has_value(const char *option)
{
    return strcmp(option, "--seconds") == 0 || strcmp(option, "--variant") == 0;
}

static bool asked_for(const char *name, int argc, char **argv)
{
    bool any = false;
    for (int i = 2; i < argc; i++) {
        if (has_value(argv[i])) {
            i++;
            continue;
        }
        any |= argv[i][0] != '-';
        if (strcmp(argv[i], name) == 0)
            return true;
    }
    return !any;
}

static bool is_part(const char *name)
{
    for (const struct part &p : parts)
        if (strcmp(p.name, name) == 0)
            return true;
    return false;
}

static bool read_options(struct bench *b, int argc, char **argv)
{
    b->folder = argv[1];
    b->until_s = bench_now_s() + 1e9;
    for (int i = 2; i < argc; i++) {
        bool last = i + 1 == argc;
        if (strcmp(argv[i], "--tiny") == 0)
            b->tiny = true;
        else if (strcmp(argv[i], "--once") == 0)
            b->once = true;
        else if (strcmp(argv[i], "--plant") == 0)
            b->plant = true;
        else if (strcmp(argv[i], "--seconds") == 0 && !last)
            b->until_s = bench_now_s() + atof(argv[++i]);
        else if (strcmp(argv[i], "--variant") == 0 && !last)
            b->variant = argv[++i];
        else if (!is_part(argv[i]))
            return false;
    }
    return true;
}

int main(int argc, char **argv)
{
    static struct bench b;
    if (argc < 2 || argv[1][0] == '-' || !read_options(&b, argc, argv)) {
        fputs("usage: bench_cuda FOLDER [--seconds N] [--variant NAME] [--once] [--tiny] [--plant] "
              "[PART...], parts:",
              stderr);
        for (const struct part &p : parts)
            fprintf(stderr, " %s", p.name);
        fputc('\n', stderr);
        return 2;
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
