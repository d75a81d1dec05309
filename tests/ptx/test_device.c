/* The device of the stand-in CUDA runtime: what it refuses, its memory, and how it finds PTX. */
#include "tests/ptx/fatbin.h"
#include "tests/ptx/gpu.h"
#include "tests/ptx/devmem.h"

#include <gsl/gsl_test.h>
#include <signal.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

/* ---- limits ------------------------------------------------------------------------------------
 */

static void expect_launch(const struct gpu_kernel *k, unsigned grid, unsigned block, size_t shared,
                          enum gpu_refusal want, const char *what)
{
    const unsigned g[3] = {1, grid, 1}, b[3] = {block, 1, 1};
    char why[256] = "";
    int got = gpu_launch(gpu_of(90), k, g, b, shared, why, sizeof why);
    gsl_test(got != (int)want, "%s: %d, want %d %s", what, got, want, why);
}

/* Numbers of the programming guide's table for compute capability 9.0. */
static void launches_beyond_the_limits_are_refused(void)
{
    struct gpu_kernel k = {.registers = 64, .dynamic_allowed = 48 << 10};
    expect_launch(&k, 65535, 1024, 48 << 10, GPU_FINE, "64 registers x 1,024 threads");
    expect_launch(&k, 65536, 32, 0, GPU_INVALID_CONFIGURATION, "65,536 blocks in y");
    expect_launch(&k, 0, 32, 0, GPU_INVALID_CONFIGURATION, "no block");
    expect_launch(&k, 1, 1025, 0, GPU_INVALID_CONFIGURATION, "1,025 threads");
    expect_launch(&k, 1, 32, (48 << 10) + 1, GPU_INVALID_VALUE, "more than the attribute allows");
    k.registers = 65; /* 65 x 32 = 2,080, in units of 256: 2,304 for each of 32 warps */
    expect_launch(&k, 1, 1024, 0, GPU_OUT_OF_RESOURCES, "65 registers x 1,024 threads");
    expect_launch(&k, 1, 28 * 32, 0, GPU_FINE, "28 warps of 2,304 registers");
    k.max_threads = 128;
    expect_launch(&k, 1, 160, 0, GPU_INVALID_VALUE, "beyond the launch bounds");
    k.param_bytes = 4097;
    expect_launch(&k, 1, 128, 0, GPU_INVALID_VALUE, "4,097 bytes of parameters");
    gsl_test(gpu_dynamic_most(gpu_of(90), &k) != 232448, "227 KiB of shared memory on 9.0");
    gsl_test(gpu_dynamic_most(gpu_of(80), &k) != 166912, "163 KiB on 8.0");
    gsl_test(gpu_of(70) != NULL, "no other device");
}

static void residency_is_what_the_scarcest_resource_allows(void)
{
    struct gpu_kernel k = {.registers = 168};
    /* 168 x 32 = 5,376 = 21 units; 4 warps: 21,504 of 65,536 */
    gsl_test_int(gpu_blocks(gpu_of(90), &k, 128, 0), 3, "168 registers x 128 threads");
    k.registers = 32;
    gsl_test_int(gpu_blocks(gpu_of(90), &k, 128, 0), 16, "2,048 threads");
    gsl_test_int(gpu_blocks(gpu_of(90), &k, 32, 0), 32, "32 blocks");
    gsl_test_int(gpu_blocks(gpu_of(90), &k, 128, 113 << 10), 2, "2 x (113 + 1) KiB of 228");
    gsl_test_int(gpu_blocks(gpu_of(86), &k, 128, 113 << 10), 0, "100 KiB on 8.6");
}

/* ---- memory ------------------------------------------------------------------------------------
 */

/* The signal that a child dies of when it reads *p; 0: none. */
static int touched(const volatile unsigned char *p)
{
    fflush(NULL);
    pid_t child = fork();
    if (child == 0) {
        int quiet = dup2(1, 2) < 0 || !freopen("/dev/null", "w", stderr);
        unsigned char x = *p;
        _exit(quiet && x ? 3 : 0);
    }
    int status = 0;
    waitpid(child, &status, 0);
    return WIFSIGNALED(status) ? WTERMSIG(status) : WEXITSTATUS(status);
}

static void the_host_cannot_touch_device_memory(void)
{
    struct devmem *m = devmem_new();
    void *p = NULL;
    gsl_test(!devmem_place(m, 100, 1000, &p), "100 bytes of 1,000");
    devmem_take(m, p);
    gsl_test(touched(p) == 0, "closed: the host's access ends the program");
    devmem_open(m);
    gsl_test_int(touched(p), 0, "open: it does not");
    unsigned char *c = p;
    gsl_test(c[0] != 0xff || c[99] != 0xff, "NaN before anything is written");
    devmem_close(m);
    devmem_free(m);
}

static void addresses_are_apart_and_never_used_again(void)
{
    struct devmem *m = devmem_new();
    void *a = NULL, *b = NULL, *c = NULL;
    size_t n = 0;
    gsl_test(!devmem_place(m, 300, 1000, &a) || !devmem_place(m, 700, 1000, &b), "300 + 700");
    gsl_test(devmem_place(m, 1, 1000, &c), "and no byte more");
    gsl_test((uintptr_t)a % 256 || (uintptr_t)a % 512 == 0, "a multiple of 256, no more");
    devmem_ranges(m, &n);
    gsl_test(n != 0 || devmem_has(m, a, 1) || !devmem_knows(m, a, 300), "placed is not taken");
    devmem_take(m, a);
    devmem_take(m, b);
    gsl_test(!devmem_has(m, (char *)a + 299, 1) || devmem_has(m, (char *)a + 299, 2), "the end");
    gsl_test(devmem_has(m, (char *)a - 1, 2), "the start");
    gsl_test(devmem_give(m, (char *)a + 1) || !devmem_give(m, a) || devmem_give(m, a),
             "freed once, at its start");
    gsl_test(devmem_used(m) != 700, "700 bytes are left");
    const struct ptx_range *r = devmem_ranges(m, &n);
    gsl_test(n != 1 || r[0].start != (uintptr_t)b || r[0].bytes != 700, "... in one range");
    gsl_test(!devmem_place(m, 300, 1000, &c) || c == a, "another address");
    devmem_free(m);
}

/* ---- fat binaries ------------------------------------------------------------------------------
 */

struct written { /* as nvcc does: 16 bytes, then for each text 64 and the text */
    unsigned char bytes[4096];
    size_t used;
};

static void put(struct written *w, uint64_t value, int bytes)
{
    for (int i = 0; i < bytes; i++)
        w->bytes[w->used++] = (unsigned char)(value >> 8 * i);
}

static void add(struct written *w, int kind, const char *text)
{
    put(w, (uint64_t)kind | 0x101u << 16 | (uint64_t)64 << 32, 8);
    put(w, strlen(text) + 3, 8);
    for (int i = 0; i < 6; i++)
        put(w, 0, 8);
    for (; *text; text++)
        put(w, (unsigned char)*text, 1);
    put(w, 0, 3); /* the end is filled up */
}

static void the_best_target_of_a_device_is_taken(void)
{
    static const char *const texts[] = {"\n.version 9.0\n.target sm_80\n", "ELF\n",
                                        "\n.version 9.0\n.target sm_90a\n",
                                        "\n.version 9.0\n.target sm_100\n"};
    static const struct {
        int sm;
        const char *target;
    } want[] = {{70, NULL},     {80, "sm_80"},   {86, "sm_80"},
                {90, "sm_90a"}, {100, "sm_100"}, {120, "sm_100"}};
    struct written w = {.used = 0};
    put(&w, 0x0010000100000000ull | 0xBA55ED50u, 8);
    put(&w, 4096 - 16, 8);
    for (int i = 0; i < 4; i++)
        add(&w, i == 1 ? 2 : 1, texts[i]);
    uint64_t rest = w.used - 16;
    memcpy(w.bytes + 8, &rest, 8);
    struct fatbin f = {0x466243B1, 1, w.bytes, NULL};
    for (size_t i = 0; i < sizeof want / sizeof *want; i++) {
        struct err e = {ERR_NONE, ""};
        const char *text = NULL;
        size_t bytes = 0;
        char target[16] = "";
        bool ok = fatbin_ptx(&f, want[i].sm, &text, &bytes, target, &e);
        gsl_test(ok != (want[i].target != NULL), "%d: %s", want[i].sm, e.text);
        gsl_test(ok && (strcmp(target, want[i].target) != 0 || bytes != strlen(text)),
                 "%d takes %s", want[i].sm, target);
    }
    struct err e = {ERR_NONE, ""};
    const char *text = NULL;
    size_t bytes = 0;
    char target[16];
    add(&w, 1, "(\265/\375");
    rest = w.used - 16;
    memcpy(w.bytes + 8, &rest, 8);
    gsl_test(fatbin_ptx(&f, 80, &text, &bytes, target, &e) || !strstr(e.text, "--no-compress"),
             "compressed text: %s", e.text);
}

static void registers_are_those_of_kernel_and_target(void)
{
    static const char report[] =
        "ptxas info    : Compiling entry function '_Z3onei' for 'sm_80'\n"
        "ptxas info    : Function properties for _Z3onei\n"
        "ptxas info    : Used 22 registers, used 0 barriers, 376 bytes cmem[0]\n"
        "ptxas info    : Compiling entry function '_Z3onei' for 'sm_90a'\n"
        "ptxas info    : Used 24 registers, used 0 barriers\n";
    gsl_test_int(fatbin_registers(report, "_Z3onei", "sm_80"), 22, "sm_80");
    gsl_test_int(fatbin_registers(report, "_Z3onei", "sm_90a"), 24, "sm_90a");
    gsl_test_int(fatbin_registers(report, "_Z3one", "sm_90a"), 0, "not there");
}

int main(void)
{
    launches_beyond_the_limits_are_refused();
    residency_is_what_the_scarcest_resource_allows();
    the_host_cannot_touch_device_memory();
    addresses_are_apart_and_never_used_again();
    the_best_target_of_a_device_is_taken();
    registers_are_those_of_kernel_and_target();
    return gsl_test_summary();
}
