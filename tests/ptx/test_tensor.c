/* Tensor cores: products of small integers against a plain loop, operands laid out by the figures
 * of the PTX manual (written out here once more), and each thing that wgmma asks for and a kernel
 * may forget. */
#include "tests/ptx/try.h"

#include <stdarg.h>

enum { TEXT = 1 << 16 };

struct text {
    char at[TEXT];
    size_t length;
};

static void say(struct text *t, const char *format, ...) __attribute__((format(printf, 2, 3)));

static void say(struct text *t, const char *format, ...)
{
    va_list args;
    va_start(args, format);
    t->length += (size_t)vsnprintf(t->at + t->length, TEXT - t->length, format, args);
    va_end(args);
}

static uint16_t bf16_of(int small) /* exact to 256 */
{
    float x = (float)small;
    uint32_t u;
    memcpy(&u, &x, 4);
    return (uint16_t)(u >> 16);
}

static int value(int seed, int i, int j)
{
    return (seed * 7 + i * 5 + j * 3) % 11 - 5;
}

/* ---- mma.sync and ldmatrix ---- */

static void mma_multiplies_what_ldmatrix_loads(void)
{
    static union {
        uint16_t h[4096];
        float f[2048];
    } out;
    struct err e;
    for (int i = 0; i < 16; i++)
        for (int k = 0; k < 16; k++)
            out.h[i * 16 + k] = bf16_of(value(1, i, k)); /* A: [16][16] at 0 */
    for (int k = 0; k < 16; k++)
        for (int n = 0; n < 8; n++)
            out.h[256 + k * 8 + n] = bf16_of(value(2, k, n)); /* B: [16 k][8 n] at 512 */
    bool ok = try_run(
        (struct try){.threads = 32, .shared = 4096},
        "mov.u32 %r10, more; shl.b32 %r1, %r0, 4; cvt.u64.u32 %rd1, %r1; add.s64 %rd1, %rd0, "
        "%rd1;\n"
        "add.u32 %r11, %r10, %r1; ld.global.v4.u32 {%r2, %r3, %r4, %r5}, [%rd1]; st.shared.v4.u32 "
        "[%r11], {%r2, %r3, %r4, %r5};\nld.global.v2.u32 {%r2, %r3}, [%rd1+512]; shl.b32 %r12, "
        "%r0, 3; add.u32 %r12, %r10, %r12; cvt.u64.u32 %rd2, %r0; shl.b64 %rd2, %rd2, 3; add.s64 "
        "%rd2, %rd0, %rd2;\nld.global.v2.u32 {%r2, %r3}, [%rd2+512]; st.shared.v2.u32 [%r12+512], "
        "{%r2, %r3}; bar.warp.sync -1;\n"
        /* A: lane l names row l % 16, half l / 16 */
        "and.b32 %r6, %r0, 15; shl.b32 %r6, %r6, 5; shr.u32 %r7, %r0, 4; shl.b32 %r7, %r7, 4; "
        "add.u32 %r6, %r6, %r7; add.u32 %r6, %r6, %r10;\n"
        "ldmatrix.sync.aligned.m8n8.x4.shared.b16 {%r20, %r21, %r22, %r23}, [%r6];\n"
        /* B: lane l names row l % 16 of [16][8] */
        "and.b32 %r8, %r0, 15; shl.b32 %r8, %r8, 4; add.u32 %r8, %r8, %r10;\n"
        "ldmatrix.sync.aligned.m8n8.x2.trans.shared.b16 {%r24, %r25}, [%r8+512];\n"
        "mov.f32 %f1, 0f3F800000; mma.sync.aligned.m16n8k16.row.col.f32.bf16.bf16.f32 {%f4, %f5, "
        "%f6, %f7}, {%r20, %r21, %r22, %r23}, {%r24, %r25}, {%f1, %f1, %f1, %f1};\n"
        /* D: rows g and g + 8, columns 2t and 2t + 1, of [16][8] floats at 1024 */
        "shl.b32 %r9, %r0, 3; cvt.u64.u32 %rd3, %r9; add.s64 %rd3, %rd0, %rd3; st.global.v2.f32 "
        "[%rd3+1024], {%f4, %f5}; st.global.v2.f32 [%rd3+1280], {%f6, %f7};",
        &out, sizeof out, &e);
    int wrong = 0;
    for (int i = 0; i < 16; i++)
        for (int n = 0; n < 8; n++) {
            int want = 1;
            for (int k = 0; k < 16; k++)
                want += value(1, i, k) * value(2, k, n);
            wrong += out.f[256 + i * 8 + n] != (float)want;
        }
    gsl_test(!ok || wrong, "A B + 1: %d of 128 wrong %s", wrong, e.text);
    try_refused((struct try){.threads = 32, .shared = 4096},
                "setp.ge.u32 %p1, %r0, 16; @%p1 ret; mov.u32 %r10, more; "
                "ldmatrix.sync.aligned.m8n8.x1.shared.b16 {%r1}, [%r10];",
                "only lanes");
    try_refused((struct try){.threads = 32, .shared = 4096},
                "mov.u32 %r10, more; add.u32 %r10, %r10, 8; "
                "ldmatrix.sync.aligned.m8n8.x1.shared.b16 {%r1}, [%r10];",
                "no multiple of 16");
}

/* ---- wgmma ---- */

/* Of D[64][n] = A[64][16] B[16][n]. Where B (and A, where it is in shared memory) lies. */
struct layout {
    const char *name;
    int n;
    bool mn_major; /* B: [k][n], else [n][k] */
    int span;      /* 128, 64, 32 or 16: none */
    int lead, stride;
};

/* The byte of B's element in [n][k] (K-major) or [k][n] (MN-major), by the figures: swizzled
 * patterns are 8 rows of `span` bytes, 16-byte chunks exchanged by the row. */
static int place(const struct layout *l, int n, int k)
{
    int major = l->mn_major ? n : k, minor = l->mn_major ? k : n, wide = l->span / 2;
    int chunk = major % wide / 8, row = minor % 8, in = major % 8 * 2;
    if (l->span == 16) { /* core matrices of 8 rows of 16 bytes */
        int by_major = l->mn_major ? l->stride : l->lead,
            by_minor = l->mn_major ? l->lead : l->stride;
        return major / 8 * by_major + minor / 8 * by_minor + row * 16 + in;
    }
    int mask = l->span / 16 - 1, turn = row * l->span / 128 & mask;
    return major / wide * l->lead + minor / 8 * l->stride + row * l->span + ((chunk ^ turn) * 16) +
           in;
}

static uint64_t descriptor(const struct layout *l)
{
    uint64_t mode = l->span == 128 ? 1 : l->span == 64 ? 2 : l->span == 32 ? 3 : 0;
    return (uint64_t)(l->lead >> 4) << 16 | (uint64_t)(l->stride >> 4) << 32 | mode << 62;
}

/* All threads copy `bytes` of out from byte `from` to shared memory. */
static void say_fill(struct text *t, int from, int bytes)
{
    for (int i = 0; i < bytes; i += 128 * 16)
        say(t,
            "ld.global.v4.u32 {%%r2, %%r3, %%r4, %%r5}, [%%rd1+%d]; st.shared.v4.u32 "
            "[%%r11+%d], {%%r2, %%r3, %%r4, %%r5};\n",
            from + i, i);
}

static void say_sums(struct text *t, int n)
{
    say(t, "{");
    for (int r = 0; r < n / 2; r++)
        say(t, "%s%%f%d", r ? ", " : "", r);
    say(t, "}");
}

enum { B_AT = 0, B_BYTES = 16384, A_AT = 16384, D_AT = 32768, OUT = 98304 };

static const char start[] =
    "mov.u32 %r10, more; shl.b32 %r1, %r0, 4; add.u32 %r11, %r10, %r1; cvt.u64.u32 %rd1, %r1; "
    "add.s64 %rd1, %rd0, %rd1;\nshr.u32 %r12, %r10, 4; cvt.u64.u32 %rd2, %r12;\n";

/* A's registers from out: thread i, w = i / 32, g = i % 32 / 4, t = i % 4: rows 16 w + g (+ 8),
 * columns 2 t (+ 8): %r20 .. %r23. A is [64][16] bf16, 32 bytes a row. */
static const char load_a[] =
    "shr.u32 %r13, %r0, 5; shl.b32 %r13, %r13, 4; shr.u32 %r14, %r0, 2; and.b32 %r14, %r14, 7; "
    "add.u32 %r13, %r13, %r14; shl.b32 %r13, %r13, 5; and.b32 %r14, %r0, 3; shl.b32 %r14, %r14, "
    "2;\n"
    "add.u32 %r13, %r13, %r14; cvt.u64.u32 %rd3, %r13; add.s64 %rd3, %rd0, %rd3; "
    "ld.global.u32 %r20, [%rd3+16384]; ld.global.u32 %r21, [%rd3+16640]; ld.global.u32 %r22, "
    "[%rd3+16400]; ld.global.u32 %r23, [%rd3+16656];\n";

/* D: register r of thread i at float r * 128 + i. */
static void say_store(struct text *t, int n)
{
    say(t, "shl.b32 %%r15, %%r0, 2; cvt.u64.u32 %%rd4, %%r15; add.s64 %%rd4, %%rd0, %%rd4;\n");
    for (int r = 0; r < n / 2; r++)
        say(t, "st.global.f32 [%%rd4+%d], %%f%d;\n", D_AT + r * 512, r);
}

static void put_b(unsigned char *out, const struct layout *l)
{
    for (int n = 0; n < l->n; n++)
        for (int k = 0; k < 16; k++) {
            uint16_t x = bf16_of(value(2, k, n));
            memcpy(out + B_AT + place(l, n, k), &x, 2);
        }
}

static int wrong_sums(const unsigned char *out, int n, int times)
{
    int wrong = 0;
    for (int i = 0; i < 128; i++)
        for (int r = 0; r < n / 2; r++) {
            int row = i / 32 * 16 + i % 32 / 4 + r / 2 % 2 * 8,
                column = r / 4 * 8 + i % 4 * 2 + r % 2;
            int want = 0;
            float got;
            for (int k = 0; k < 16; k++)
                want += value(1, row, k) * value(2, k, column);
            memcpy(&got, out + D_AT + 4 * (r * 128 + i), 4);
            wrong += got != (float)(times * want);
        }
    return wrong;
}

static const struct layout layouts[] = {
    {"K-major, swizzle 128", 64, false, 128, 16, 1024},
    {"K-major, swizzle 64", 64, false, 64, 16, 512},
    {"K-major, swizzle 32", 64, false, 32, 16, 256},
    {"K-major, no swizzle", 64, false, 16, 128, 256},
    {"MN-major, swizzle 128", 64, true, 128, 4096, 1024},
    {"MN-major, swizzle 128, 128 columns", 128, true, 128, 4096, 1024},
    {"MN-major, swizzle 64", 64, true, 64, 1024, 512},
    {"MN-major, swizzle 32", 64, true, 32, 512, 256},
    {"MN-major, no swizzle", 64, true, 16, 1024, 128},
};

static struct text text;
static _Alignas(16) unsigned char out[OUT];

static void wgmma_multiplies_in_all_layouts(void)
{
    for (size_t i = 0; i < sizeof layouts / sizeof *layouts; i++) {
        const struct layout *l = &layouts[i];
        struct err e;
        memset(out, 0, sizeof out);
        for (int row = 0; row < 64; row++)
            for (int k = 0; k < 16; k++) {
                uint16_t x = bf16_of(value(1, row, k));
                memcpy(out + A_AT + row * 32 + k * 2, &x, 2);
            }
        put_b(out, l);
        text.length = 0;
        say(&text, "%s%s", start, load_a);
        say_fill(&text, B_AT, B_BYTES);
        say(&text,
            "or.b64 %%rd2, %%rd2, %llu; fence.proxy.async; bar.sync 0; "
            "wgmma.fence.sync.aligned;\n",
            (unsigned long long)descriptor(l));
        for (int k = 0; k < 2; k++) { /* scale-d 0, then 1: twice the product */
            say(&text, "wgmma.mma_async.sync.aligned.m64n%dk16.f32.bf16.bf16 ", l->n);
            say_sums(&text, l->n);
            say(&text, ", {%%r20, %%r21, %%r22, %%r23}, %%rd2, %d, 1, 1, %d;\n", k, l->mn_major);
        }
        say(&text, "wgmma.commit_group.sync.aligned; wgmma.wait_group.sync.aligned 0;\n");
        say_store(&text, l->n);
        struct try t = {.threads = 128, .shared = B_BYTES, .seed = (unsigned)i};
        bool ok = try_run(t, text.at, out, sizeof out, &e);
        int wrong = wrong_sums(out, l->n, 2);
        gsl_test(!ok || wrong, "%s: %d wrong %s", l->name, wrong, e.text);
    }
}

static void wgmma_takes_both_from_shared_memory(void)
{
    struct layout a = {"A", 64, false, 128, 16, 1024};
    struct err e;
    memset(out, 0, sizeof out);
    put_b(out, &layouts[0]);
    for (int row = 0; row < 64; row++)
        for (int k = 0; k < 16; k++) {
            uint16_t x = bf16_of(value(1, row, k));
            memcpy(out + 8192 + place(&a, row, k), &x, 2);
        }
    text.length = 0;
    say(&text, "%s", start);
    say_fill(&text, 0, B_BYTES);
    say(&text,
        "or.b64 %%rd2, %%rd2, %llu; add.s64 %%rd3, %%rd2, 512; fence.proxy.async; bar.sync 0; "
        "wgmma.fence.sync.aligned;\nwgmma.mma_async.sync.aligned.m64n64k16.f32.bf16.bf16 ",
        (unsigned long long)descriptor(&a));
    say_sums(&text, 64);
    say(&text, ", %%rd3, %%rd2, 0, 1, 1, 0, 0;\nwgmma.commit_group.sync.aligned; "
               "wgmma.wait_group.sync.aligned 0;\n");
    say_store(&text, 64);
    bool ok =
        try_run((struct try){.threads = 128, .shared = B_BYTES}, text.at, out, sizeof out, &e);
    int wrong = wrong_sums(out, 64, 1);
    gsl_test(!ok || wrong, "A and B in shared memory: %d wrong %s", wrong, e.text);
}

/* ---- what a kernel may forget: pieces of one product, any of which may be replaced ---- */

struct pieces {
    const char *fill, *proxy_fence, *barrier, *descriptor, *fence, *after_fence, *product, *commit,
        *meanwhile, *wait, *after;
};

static const struct pieces right = {
    .fill = "", /* added by say_fill */
    .proxy_fence = "fence.proxy.async.shared::cta;",
    .barrier = "bar.sync 0;",
    .descriptor = "or.b64 %rd2, %rd2, 4611686293305360384;", /* swizzle 128, 16, 1024 */
    .fence = "wgmma.fence.sync.aligned;",
    .product = "m64n64k16",
    .commit = "wgmma.commit_group.sync.aligned;",
    .wait = "wgmma.wait_group.sync.aligned 0;",
};

static const char *piece(const char *p)
{
    return p ? p : "";
}

static const char *assemble(const struct pieces *p)
{
    text.length = 0;
    say(&text, "%smov.u32 %%r20, 0; mov.u32 %%r21, 0; mov.u32 %%r22, 0; add.u32 %%r23, %%r0, 0;\n",
        start);
    say_fill(&text, B_AT, 8192);
    say(&text, "%s\n%s\n%s\n%s\n%s\n%s\n%s\n", piece(p->fill), piece(p->proxy_fence),
        piece(p->barrier), piece(p->descriptor), piece(p->fence), piece(p->after_fence),
        "setp.eq.u32 %p1, %r0, %r0;");
    say(&text, "wgmma.mma_async.sync.aligned.%s.f32.bf16.bf16 ", p->product);
    say_sums(&text, 64);
    say(&text, ", {%%r20, %%r21, %%r22, %%r23}, %%rd2, 0, 1, 1, 0;\n%s\n%s\n%s\n%s\n",
        piece(p->commit), piece(p->meanwhile), piece(p->wait), piece(p->after));
    return text.at;
}

#define WITHOUT(field, with, why)                                                                  \
    do {                                                                                           \
        struct pieces p = right;                                                                   \
        p.field = with;                                                                            \
        try_refused(t, assemble(&p), why);                                                         \
    } while (0)

static void what_wgmma_needs_is_asked_for(void)
{
    struct try t = {.threads = 128, .shared = 16384};
    try_allowed(t, assemble(&right), "the right order");
    WITHOUT(proxy_fence, "", "without a fence.proxy.async");
    WITHOUT(barrier, "", "nothing orders");
    struct pieces again = right;
    again.fill = "fence.proxy.async.shared::cta; bar.sync 0; st.shared.u32 [%r11], %r0;";
    try_allowed(t, assemble(&again), "written after one fence, fenced again");
    again = right;
    again.after = "bar.sync 0; st.shared.u32 [%r11], %r0;";
    try_allowed(t, assemble(&again), "written again when all warps have waited");
    WITHOUT(barrier, "bar.sync 0; st.shared.u32 [%r11], %r0; bar.sync 0;",
            "without a fence.proxy.async");
    WITHOUT(fence, "", "since the last wgmma.fence");
    WITHOUT(after_fence, "add.f32 %f3, %f3, %f3;", "accumulator register 3");
    WITHOUT(after_fence, "add.u32 %r21, %r0, %r0;", "A's register 1");
    WITHOUT(descriptor, "or.b64 %rd2, %rd2, 4611686293305360384; add.s64 %rd2, %rd2, 16;",
            "middle of a pattern");
    WITHOUT(descriptor, "or.b64 %rd2, %rd2, 4612249243258781696;", "base offset");
    WITHOUT(
        descriptor,
        "or.b64 %rd2, %rd2, 4611686293305360384; cvt.u64.u32 %rd5, %r0; add.s64 %rd2, %rd2, %rd5;",
        "differs between lanes");
    WITHOUT(product, "m64n60k16", "does not know");
    WITHOUT(meanwhile, "add.f32 %f50, %f3, %f3;", "has not been waited for");
    WITHOUT(meanwhile, "mov.u32 %r20, 5;", "has not been waited for");
    WITHOUT(meanwhile, "st.shared.u32 [%r11], %r0;", "knows to be done");
    WITHOUT(meanwhile, "bar.sync 0; st.shared.u32 [%r11], %r0;", "knows to be done");
    WITHOUT(after, "st.shared.u32 [%r11], %r0;", "shared address"); /* other warps */
    WITHOUT(commit, "", "before this wgmma has been waited for");
    WITHOUT(wait, "wgmma.wait_group.sync.aligned 1; mov.f32 %f50, %f3;", "has not been waited for");
    WITHOUT(wait, "", "before this wgmma has been waited for");
    WITHOUT(descriptor, "or.b64 %rd2, %rd2, 4611686293305360384; add.s64 %rd2, %rd2, 1024;",
            "outside of");
    t.threads = 96;
    try_refused(t, assemble(&right), "no warpgroup");
}

static void registers_move_between_warpgroups(void)
{
    struct try t = {.threads = 384, .shared = 1024}; /* 168 registers each: 65536 / 384 */
#define SPLIT(fewer, more)                                                                         \
    "setp.lt.u32 %p1, %r0, 128; @%p1 bra first; setmaxnreg.inc.sync.aligned.u32 " more             \
    "; bra end;\nfirst: setmaxnreg.dec.sync.aligned.u32 " fewer ";\nend:"
    try_allowed(t, SPLIT("56", "224"), "56 + 2 x 224 = 504 = 3 x 168");
    try_refused(t, SPLIT("56", "232"), "waits for registers");
    try_refused(t, SPLIT("200", "224"), "a decrease from 168");
    try_refused(t, SPLIT("60", "224"), "multiple of 8");
}

int main(void)
{
    mma_multiplies_what_ldmatrix_loads();
    wgmma_multiplies_in_all_layouts();
    wgmma_takes_both_from_shared_memory();
    what_wgmma_needs_is_asked_for();
    registers_move_between_warpgroups();
    return gsl_test_summary();
}
