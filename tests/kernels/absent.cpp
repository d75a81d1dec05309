/* Every entry point of the CUDA backend where the GPU or what it needs is missing: a status and a
 * message, and nothing else. Usage: test_kernels_absent: without a GPU, or with a driver that is
 * too old for the runtime (skipped, 77, where there is one); test_kernels_absent memory: with no
 * device memory left, on an emulated device or a stand-in runtime (SHARDWISE_EMULATE_MEMORY). */
extern "C" {
#include "tests/check.h"
#include "tests/kernels/problem.h"
}

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

extern "C" const struct kern_backend kern_cuda;
bool cuda_forward_by(const char *variant, const struct kern_attention *a, struct err *e);
bool cuda_backward_by(const char *variant, const struct kern_attention *a, struct err *e);
bool cuda_cudnn_forward(const struct kern_attention *a, struct err *e);

static void expect_error(bool ok, const struct err *e, enum err_code code, const char *text,
                         const char *what)
{
    gsl_test(ok || e->code != code || !strstr(e->text, text), "%s: %s", what,
             ok ? "done" : e->text);
}

/* ---- what each entry point is asked to do: little, and nothing wrong ---- */

enum { WORDS = 4, ROOM = 4096 };
alignas(256) static unsigned char room[ROOM]; /* any array, in host memory: nobody gets there */
static int64_t rows;

static struct problem_shape shape(void)
{
    struct problem_shape s = {};
    s.dim = 64, s.heads = 1, s.q_rows = 8, s.kv_rows = 40, s.group = 4, s.keep[0] = 9;
    s.logit_std = 1, s.seed = 1;
    return s;
}

static struct kern_select_head select_head(void *p)
{
    struct kern_select_head h = {};
    h.groups = 1, h.keys = 16, h.keep = 4, h.bitmap_words = 1;
    h.q_lr = (uint16_t *)p, h.k_lr = (uint16_t *)p, h.bitmap = (uint32_t *)p;
    return h;
}

static bool select_there(void *p, struct err *e)
{
    struct kern_select_head h = select_head(p);
    struct kern_select s = {16, 1, &h};
    return kern_cuda.select(&s, e);
}

static bool unite_there(void *p, struct err *e)
{
    uint32_t *bits = (uint32_t *)p;
    struct kern_union u = {1, WORDS * 32, WORDS, bits, bits + WORDS, NULL, &rows};
    return kern_cuda.unite(&u, 1, e);
}

static bool remap_there(void *p, struct err *e)
{
    int32_t *list = (int32_t *)p + 64;
    struct kern_remap r = {1, WORDS, (uint32_t *)p, NULL, list, list + 256, 256, false};
    return kern_cuda.remap(&r, 1, e);
}

static bool copy_there(void *p, struct err *e)
{
    struct kern_copy c = {p, (char *)p + 64, 1, 64, 64, 64};
    return kern_cuda.copy(&c, 1, e);
}

static bool gather_there(void *p, struct err *e)
{
    struct kern_gather g = {(uint16_t *)p, (uint16_t *)p + 64, (int32_t *)p + 64, 1, 8};
    return kern_cuda.gather(&g, 1, e);
}

static bool scatter_there(void *p, struct err *e)
{
    struct kern_scatter s = {(float *)p, (float *)p + 64, NULL, 1, 8};
    return kern_cuda.scatter_add(&s, 1, e);
}

static bool merge_there(void *p, struct err *e)
{
    float *x = (float *)p;
    struct kern_merge m = {1, 16, x, x + 64, x + 128, x + 192};
    return kern_cuda.merge(&m, 1, e);
}

static bool round_there(void *p, struct err *e)
{
    return kern_cuda.to_bf16((uint16_t *)p, (float *)p + 64, 8, e);
}

static bool widen_there(void *p, struct err *e)
{
    return kern_cuda.to_fp32((float *)p + 64, (uint16_t *)p, 8, e);
}

static bool put_there(void *p, struct err *e)
{
    return kern_cuda.put(p, room, 64, e);
}

static bool get_there(void *p, struct err *e)
{
    return kern_cuda.get(room, p, 64, e);
}

static bool clear_there(void *p, struct err *e)
{
    return kern_cuda.clear(p, 64, e);
}

static bool wait_there(void *, struct err *e)
{
    return kern_cuda.wait(e);
}

static bool allocate_there(void *, struct err *e)
{
    void *got = NULL;
    bool ok = kern_cuda.allocate(1 << 20, &got, e);
    kern_cuda.release(got);
    return ok;
}

static bool host_allocate_there(void *, struct err *e)
{
    void *got = NULL;
    bool ok = kern_cuda.host_allocate(64, &got, e);
    kern_cuda.host_release(got);
    return ok;
}

static const struct {
    const char *name;
    bool (*call)(void *p, struct err *e);
    bool takes; /* device memory */
} entries[] = {
    {"select", select_there, true},
    {"unite", unite_there, true},
    {"remap", remap_there, true},
    {"allocate", allocate_there, true},
    {"copy", copy_there, false},
    {"gather", gather_there, false},
    {"scatter_add", scatter_there, false},
    {"merge", merge_there, false},
    {"to_bf16", round_there, false},
    {"to_fp32", widen_there, false},
    {"put", put_there, false},
    {"get", get_there, false},
    {"clear", clear_there, false},
    {"wait", wait_there, false},
    {"host memory", host_allocate_there, false},
};

static const char *const forward_names[] = {NULL, "mma", "wgmma", "wgmma-pairs"};
static const char *const backward_names[] = {NULL,   "ordered", "wgmma", "wgmma-pairs",
                                             "bulk", "vector",  "atomic"};

/* ---- no device ---- */

static void every_call_says_that_there_is_no_device(void)
{
    struct problem_shape s = shape();
    struct problem p;
    problem_new(&p, &s);
    for (const char *name : forward_names) {
        struct err e = {};
        bool ok = cuda_forward_by(name, &p.a, &e);
        expect_error(ok, &e, ERR_DEVICE, "(cudaError", "forward");
    }
    for (const char *name : backward_names) {
        struct err e = {};
        bool ok = cuda_backward_by(name, &p.a, &e);
        expect_error(ok, &e, ERR_DEVICE, "(cudaError", "backward");
    }
    for (const auto &x : entries) {
        struct err e = {};
        bool ok = x.call(room, &e);
        expect_error(ok, &e, ERR_DEVICE, "(cudaError", x.name);
    }
    struct err cudnn = {}, none = {};
    p.head[0].keys = {};
    gsl_test(cuda_cudnn_forward(&p.a, &cudnn) || cudnn.code != ERR_DEVICE, "cuDNN: %s", cudnn.text);
    gsl_test(kern_backend_of("cuda", &none) != NULL || none.code != ERR_INPUT ||
                 !strstr(none.text, "not on this machine"),
             "the backend by name: %s", none.text);
    problem_free(&p);
}

/* ---- no memory ---- */

static const char *variant;

static bool starved(const struct kern_attention *a, struct err *e)
{
    setenv("SHARDWISE_EMULATE_MEMORY", "64", 1);
    bool ok = cuda_backward_by(variant, a, e);
    unsetenv("SHARDWISE_EMULATE_MEMORY");
    return ok;
}

static bool nothing(const struct kern_attention *, struct err *)
{
    return true;
}

/* Dense heads too, whose keys need no scratch of their own, and bitmaps, which are counted. */
static void backward_without_memory_says_so(void)
{
    struct kern_backend b = kern_cuda;
    b.forward = nothing, b.backward = starved;
    for (const char *name : backward_names)
        for (int kind = 0; kind < 3; kind++) {
            struct problem_shape s = shape();
            struct problem p;
            struct err e = {}, again = {};
            s.keep[0] = kind == 1 ? -1 : 9;
            problem_new(&p, &s);
            if (kind == 2)
                problem_use_bitmaps(&p);
            variant = name;
            bool ok = problem_run(&p, &b, &e);
            if (e.code != ERR_INPUT) { /* the device has the variant */
                expect_error(ok, &e, ERR_SYSTEM, "out of device memory", name ? name : "backward");
                gsl_test(!problem_run(&p, &kern_cuda, &again), "and then with memory: %s",
                         again.text);
            }
            problem_free(&p);
        }
}

/* Those that take no memory work without, and the others afterwards. */
static void every_call_without_memory_says_so(void)
{
    void *p = NULL;
    struct err e = {};
    bool ok = kern_cuda.allocate(ROOM, &p, &e) && kern_cuda.clear(p, ROOM, &e);
    gsl_test(!ok, "room: %s", e.text);
    for (const auto &x : entries) {
        struct err short_of = {}, again = {};
        setenv("SHARDWISE_EMULATE_MEMORY", "0", 1);
        ok = x.call(p, &short_of);
        unsetenv("SHARDWISE_EMULATE_MEMORY");
        if (x.takes)
            expect_error(ok, &short_of, ERR_SYSTEM, "out of device memory", x.name);
        else
            gsl_test(!ok, "%s takes no memory: %s", x.name, short_of.text);
        gsl_test(!x.call(p, &again) || !kern_cuda.wait(&again), "%s, then with memory: %s", x.name,
                 again.text);
    }
    kern_cuda.release(p);
}

int main(int argc, char **argv)
{
    bool memory = argc > 1 && strcmp(argv[1], "memory") == 0, there = kern_cuda.available();
    if (there != memory) {
        printf("skipped: there is %s GPU\n", there ? "a" : "no");
        return 77;
    }
    if (memory) {
        backward_without_memory_says_so();
        every_call_without_memory_says_so();
    } else {
        every_call_says_that_there_is_no_device();
    }
    return gsl_test_summary();
}
