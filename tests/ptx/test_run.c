/* What instructions do to a lane's registers and to memory, and what the lanes of a warp and the
 * warps of a block do together. Expected numbers are worked out by hand. */
#include "tests/ptx/try.h"

#include <math.h>

/* One instruction over r1 = a, r2 = b, r3 = c (f1 .. f3 the same bits) to r4. */
static uint32_t one(const char *ins, uint32_t a, uint32_t b, uint32_t c)
{
    char body[512];
    uint32_t out[1] = {0};
    struct err e;
    snprintf(body, sizeof body,
             "mov.u32 %%r1, %u; mov.u32 %%r2, %u; mov.u32 %%r3, %u; mov.b32 %%f1, %%r1; "
             "mov.b32 %%f2, %%r2; mov.b32 %%f3, %%r3;\n%s\nst.global.u32 [%%rd0], %%r4;",
             a, b, c, ins);
    bool ok = try_run((struct try){.threads = 1}, body, out, sizeof out, &e);
    gsl_test(!ok, "%s: %s", ins, e.text);
    return out[0];
}

static uint32_t bits(float x)
{
    uint32_t u;
    memcpy(&u, &x, 4);
    return u;
}

static void integers_wrap_shift_and_divide(void)
{
    const struct {
        const char *ins;
        uint32_t a, b, c, want;
    } t[] = {
        {"add.s32 %r4, %r1, %r2;", 0xffffffff, 2, 0, 1},
        {"sub.u32 %r4, %r1, %r2;", 1, 2, 0, 0xffffffff},
        {"mad.lo.s32 %r4, %r1, %r2, %r3;", 7, 6, 5, 47},
        {"mul.hi.s32 %r4, %r1, %r2;", 0xffffffff, 5, 0, 0xffffffff}, /* -5 >> 32 */
        {"mul.hi.u32 %r4, %r1, %r2;", 0xffffffff, 5, 0, 4},
        {"div.s32 %r4, %r1, %r2;", (uint32_t)-7, 2, 0, (uint32_t)-3},
        {"rem.s32 %r4, %r1, %r2;", (uint32_t)-7, 2, 0, (uint32_t)-1},
        {"shl.b32 %r4, %r1, %r2;", 1, 32, 0, 0}, /* amounts are clamped, not wrapped */
        {"shr.u32 %r4, %r1, %r2;", 0x80000000, 99, 0, 0},
        {"shr.s32 %r4, %r1, %r2;", 0x80000000, 99, 0, 0xffffffff},
        {"min.s32 %r4, %r1, %r2;", 0xffffffff, 2, 0, 0xffffffff},
        {"min.u32 %r4, %r1, %r2;", 0xffffffff, 2, 0, 2},
        {"popc.b32 %r4, %r1;", 0xf0f01, 0, 0, 9},
        {"clz.b32 %r4, %r1;", 0x10, 0, 0, 27},
        {"brev.b32 %r4, %r1;", 0x3, 0, 0, 0xc0000000},
        {"bfind.u32 %r4, %r1;", 0x10, 0, 0, 4},
        {"bfind.shiftamt.u32 %r4, %r1;", 0x10, 0, 0, 27},
        {"bfind.shiftamt.u32 %r4, %r1;", 0, 0, 0, 0xffffffff},
        {"bfi.b32 %r4, %r1, %r2, 8, 4;", 0xff, 0, 0, 0xf00},
        {"bfe.u32 %r4, %r1, 4, 8;", 0x12345678, 0, 0, 0x67},
        {"bfe.s32 %r4, %r1, 4, 4;", 0x80, 0, 0, 0xfffffff8},
        {"prmt.b32 %r4, %r1, %r2, 0x5410;", 0x33221100, 0x77665544, 0, 0x55441100},
        {"prmt.b32 %r4, %r1, %r2, 0x0008;", 0x80, 0, 0, 0x808080ff}, /* 8: the sign of byte 0 */
        {"lop3.b32 %r4, %r1, %r2, %r3, 0x96;", 0xff00, 0x0ff0, 0x3333, 0xff00 ^ 0x0ff0 ^ 0x3333},
        {"shf.l.wrap.b32 %r4, %r1, %r2, 8;", 0xaabbccdd, 0x11223344, 0, 0x223344aa},
        {"shf.r.wrap.b32 %r4, %r1, %r2, 8;", 0xaabbccdd, 0x11223344, 0, 0x44aabbcc},
        {"setp.lt.s32 %p1, %r1, %r2; selp.b32 %r4, 10, 20, %p1;", 0xffffffff, 0, 0, 10},
        {"setp.lt.u32 %p1, %r1, %r2; selp.b32 %r4, 10, 20, %p1;", 0xffffffff, 0, 0, 20},
        {"setp.eq.s32 %p2, %r1, 5; setp.lt.and.s32 %p1, %r1, %r2, !%p2; selp.b32 %r4, 1, 0, %p1;",
         5, 6, 0, 0},
        {"mov.u32 %r4, 1; setp.eq.u32 %p1, %r1, 3; @!%p1 mov.u32 %r4, 2;", 3, 0, 0, 1},
        {"cvt.u16.u32 %rs1, %r1; cvt.s32.s16 %r4, %rs1;", 0x1fffe, 0, 0, 0xfffffffe},
        {"cvt.s64.s32 %rd1, %r1; shr.u64 %rd1, %rd1, 36; cvt.u32.u64 %r4, %rd1;", 0x80000000, 0, 0,
         0x0fffffff},
        {"mul.wide.s32 %rd1, %r1, -3; cvt.u32.u64 %r4, %rd1;", 4, 0, 0, (uint32_t)-12},
        {"mov.b64 %rd1, {%r1, %r2}; mov.b64 {%r3, %r4}, %rd1;", 5, 9, 0, 9},
        {"mov.u64 %rd1, 0x100000002; cvt.s64.s32 %rd2, %rd1; cvt.u32.u64 %r4, %rd2;", 0, 0, 0, 2},
    };
    for (size_t i = 0; i < sizeof t / sizeof *t; i++) {
        uint32_t got = one(t[i].ins, t[i].a, t[i].b, t[i].c);
        gsl_test(got != t[i].want, "%s: %#x, want %#x", t[i].ins, got, t[i].want);
    }
}

static void floats_round_and_compare_as_ieee_says(void)
{
    const struct {
        const char *ins;
        float a, b, c;
        uint32_t want;
    } t[] = {
        {"fma.rn.f32 %f4, %f1, %f2, %f3; mov.b32 %r4, %f4;", 1 + 0x1p-23f, 1 + 0x1p-23f,
         -1 - 0x1p-22f, 0x28800000}, /* 2^-46, lost if the product were rounded */
        {"max.f32 %f4, %f1, %f2; mov.b32 %r4, %f4;", NAN, -3, 0, 0xc0400000},
        {"min.f32 %f4, %f1, %f2; mov.b32 %r4, %f4;", -0.0f, 0.0f, 0, 0x80000000},
        {"cvt.rn.bf16x2.f32 %r4, %f1, %f2;", 1.0f, 2.0f, 0, 0x3f804000}, /* first: upper half */
        {"cvt.rn.bf16x2.f32 %r4, %f1, %f2;", 1 + 0x1p-8f, 1 + 3 * 0x1p-8f, 0, 0x3f803f82},
        {"ex2.approx.ftz.f32 %f4, %f1; mov.b32 %r4, %f4;", -INFINITY, 0, 0, 0},
        {"ex2.approx.ftz.f32 %f4, %f1; mov.b32 %r4, %f4;", -130, 0, 0, 0}, /* denormal */
        {"ex2.approx.f32 %f4, %f1; mov.b32 %r4, %f4;", 3, 0, 0, 0x41000000},
        {"lg2.approx.f32 %f4, %f1; mov.b32 %r4, %f4;", 8, 0, 0, 0x40400000},
        {"setp.ltu.f32 %p1, %f1, %f2; selp.b32 %r4, 1, 0, %p1;", NAN, 1, 0, 1},
        {"setp.lt.f32 %p1, %f1, %f2; selp.b32 %r4, 1, 0, %p1;", NAN, 1, 0, 0},
        {"setp.neu.f32 %p1, %f1, %f2; selp.b32 %r4, 1, 0, %p1;", NAN, 1, 0, 1},
        {"cvt.rzi.u32.f32 %r4, %f1;", -1.5f, 0, 0, 0},
        {"cvt.rzi.s32.f32 %r4, %f1;", 1e20f, 0, 0, 0x7fffffff},
        {"div.rn.f32 %f4, %f1, %f2; mov.b32 %r4, %f4;", 1, 3, 0, 0x3eaaaaab},
        {"mov.f32 %f4, 0f3F800000; add.f32 %f4, %f4, %f1; mov.b32 %r4, %f4;", 1, 0, 0, 0x40000000},
    };
    for (size_t i = 0; i < sizeof t / sizeof *t; i++) {
        uint32_t got = one(t[i].ins, bits(t[i].a), bits(t[i].b), bits(t[i].c));
        gsl_test(got != t[i].want, "%s: %#x, want %#x", t[i].ins, got, t[i].want);
    }
}

/* Each thread runs body and writes r4; want[t]. */
static void lanes(const char *body, unsigned threads, const uint32_t *want, const char *what)
{
    char text[4096];
    snprintf(text, sizeof text,
             "%s\ndone: cvt.u64.u32 %%rd1, %%r0; shl.b64 %%rd1, %%rd1, 2; add.s64 %%rd1, %%rd0, "
             "%%rd1; st.global.u32 [%%rd1], %%r4;",
             body);
    for (unsigned seed = 0; seed < 6; seed++) {
        uint32_t out[256] = {0};
        struct err e;
        bool ok = try_run((struct try){.threads = threads, .shared = 4096, .seed = seed}, text, out,
                          sizeof out, &e);
        unsigned bad = 0;
        for (unsigned t = 0; t < threads; t++)
            bad += out[t] != want[t];
        gsl_test(!ok || bad, "%s, seed %u: %u of %u threads wrong %s", what, seed, bad, threads,
                 e.text);
    }
}

static void lanes_that_part_meet_again(void)
{
    uint32_t want[32];
    for (uint32_t t = 0; t < 32; t++) /* thread t adds 1 + ... + t, even ones twice */
        want[t] = t * (t + 1) / 2 * (t % 2 ? 1 : 2) + 32;
    lanes("mov.u32 %r4, 0; mov.u32 %r1, 0;\n"
          "again: setp.ge.u32 %p1, %r1, %r0; @%p1 bra out1;\n"
          "add.u32 %r1, %r1, 1; add.u32 %r4, %r4, %r1; bra again;\n"
          "out1: and.b32 %r2, %r0, 1; setp.eq.u32 %p2, %r2, 1; @%p2 bra odd;\n"
          "add.u32 %r4, %r4, %r4; bra both;\n"
          "odd: add.u32 %r4, %r4, 0;\n"
          "both: vote.sync.ballot.b32 %r5, 1, 0xffffffff; popc.b32 %r5, %r5; add.u32 %r4, %r4, "
          "%r5;",
          32, want, "loops of different length, then a vote of all 32");
}

static void lanes_exchange(void)
{
    uint32_t up[32], bfly[32], idx[32], ballot[32], sum[32];
    for (uint32_t t = 0; t < 32; t++) {
        up[t] = t >= 3 ? t - 3 : t + 100;
        bfly[t] = t ^ 5;
        idx[t] = t / 8 * 8 + 2;
        ballot[t] = 0x55555555;
        sum[t] = 496;
    }
    lanes("shfl.sync.up.b32 %r4|%p1, %r0, 3, 0, -1; @!%p1 add.u32 %r4, %r0, 100;", 32, up, "up 3");
    lanes("shfl.sync.bfly.b32 %r4, %r0, 5, 31, -1;", 32, bfly, "butterfly 5");
    lanes("shfl.sync.idx.b32 %r4, %r0, 2, 0x181f, -1;", 32, idx, "lane 2 of each 8");
    lanes("and.b32 %r1, %r0, 1; setp.eq.u32 %p1, %r1, 0; vote.sync.ballot.b32 %r4, %p1, -1;", 32,
          ballot, "ballot of even lanes");
    lanes("redux.sync.add.s32 %r4, %r0, -1;", 32, sum, "0 + ... + 31");
    try_refused((struct try){.threads = 32},
                "setp.lt.u32 %p1, %r0, 16; @!%p1 bra end; shfl.sync.bfly.b32 %r4, %r0, 16, 31, "
                "0xffff;\nend:",
                "takes no part");
    try_refused((struct try){.threads = 32},
                "setp.lt.u32 %p1, %r0, 16; @!%p1 bra end; shfl.sync.bfly.b32 %r4, %r0, 1, 31, "
                "-1;\nend: bar.sync 0;",
                "nobody can go on");
    try_refused((struct try){.threads = 32}, "vote.sync.ballot.b32 %r4, 1, 0xfffe;",
                "member of its own mask");
}

#define MINE                                                                                       \
    "mov.u32 %r10, more; shl.b32 %r11, %r0, 2; add.u32 %r11, %r10, %r11; xor.b32 %r12, %r0, 64; "  \
    "shl.b32 %r12, %r12, 2; add.u32 %r12, %r10, %r12;\n"

static void threads_meet_in_shared_memory(void)
{
    uint32_t want[128];
    for (uint32_t t = 0; t < 128; t++)
        want[t] = (t ^ 64) * 3;
    lanes(MINE "mul.lo.u32 %r1, %r0, 3; st.shared.u32 [%r11], %r1; bar.sync 0; ld.shared.u32 %r4, "
               "[%r12];",
          128, want, "another warp's word after bar.sync");
    struct try t = {.threads = 128, .shared = 4096};
    try_refused(t, MINE "st.shared.u32 [%r11], %r0; ld.shared.u32 %r4, [%r12];", "nothing orders");
    try_refused(t, MINE "st.shared.u32 [%r11], %r0; bar.warp.sync -1; ld.shared.u32 %r4, [%r12];",
                "nothing orders");
    try_refused(t, MINE "st.shared.u32 [%r10], %r0;", "nothing orders");
    try_refused(t,
                MINE "st.shared.u32 [%r11], %r0; bar.sync 0; ld.shared.u32 %r4, [%r12]; "
                     "st.shared.u32 [%r11], %r0;",
                "nothing orders");
    try_allowed(t,
                MINE "st.shared.u32 [%r11], %r0; bar.sync 0; ld.shared.u32 %r4, [%r12]; bar.sync "
                     "0; st.shared.u32 [%r11], %r0;",
                "a barrier between reading and writing again");
    t.threads = 32;
    try_refused(t,
                "mov.u32 %r1, more; setp.eq.u32 %p1, %r0, 3; @%p1 st.shared.u32 [%r1], 1; "
                "ld.shared.u32 %r4, [%r1];",
                "nothing orders");
    try_allowed(t,
                "mov.u32 %r1, more; setp.eq.u32 %p1, %r0, 3; @%p1 st.shared.u32 [%r1], 1; "
                "bar.warp.sync -1; ld.shared.u32 %r4, [%r1];",
                "bar.warp.sync between lanes");
}

static void named_barriers_order_whom_they_say(void)
{
    struct try t = {.threads = 96, .shared = 4096};
#define ROLE "shr.u32 %r1, %r0, 5; mov.u32 %r2, more; setp.eq.u32 %p1, %r0, 0; "
    try_allowed(t,
                ROLE "setp.eq.u32 %p2, %r1, 1; setp.eq.u32 %p3, %r1, 2; @%p2 bra two; @%p3 bra "
                     "end;\n@%p1 st.shared.u32 [%r2], 7; bar.arrive 1, 64; bra end;\n"
                     "two: bar.sync 1, 64; ld.shared.u32 %r4, [%r2];\nend:",
                "warp 0 arrives, warp 1 waits");
    try_refused(t,
                ROLE "setp.eq.u32 %p2, %r1, 1; setp.eq.u32 %p3, %r1, 2; @%p2 bra two; @%p3 bra "
                     "end;\nbar.arrive 1, 64; @%p1 st.shared.u32 [%r2], 7; bra end;\n"
                     "two: bar.sync 1, 64; ld.shared.u32 %r4, [%r2];\nend:",
                "nothing orders");
    try_refused(t, ROLE "setp.eq.u32 %p2, %r1, 1; @%p2 bra end; bar.sync 1, 96;\nend:",
                "waits at a barrier");
    try_refused(t,
                ROLE "setp.eq.u32 %p2, %r1, 1; @%p2 bra two; bar.sync 1, 96; bra end;\n"
                     "two: bar.sync 1, 64;\nend:",
                "elsewhere");
    try_refused(t, "bar.sync 1, 40;", "whole warps");
    try_allowed(t, ROLE "setp.eq.u32 %p2, %r1, 1; @%p2 ret; bar.sync 0;",
                "bar.sync of all that have not left");
}

static void bad_addresses_are_named(void)
{
    struct try t = {.threads = 32, .shared = 256};
    try_refused(t, "st.global.u32 [%rd0+16384], %r0;", "nobody allocated");
    try_refused(t, "ld.global.v4.u32 {%r1, %r2, %r3, %r4}, [%rd0+8];", "no multiple of 16");
    try_refused(t, "mov.u32 %r1, more; st.shared.u32 [%r1+256], %r0;", "outside of");
    try_refused(t, "mov.u32 %r1, 16; st.shared.u32 [%r1], %r0;", "outside of");
    try_refused(t, "mov.u32 %r1, more; st.shared.u16 [%r1+1], %rs1;", "no multiple of 2");
    try_refused(t, "st.global.u32 [%rd0+16384], %r0;", "try:9:");
    try_refused(t, "trap;", "traps");
    try_refused(t, "again: add.u32 %r1, %r1, 1; bra again;", "a loop without end");
    try_refused(t, "frobnicate.u32 %r1, %r2;", "try:9:");
    try_refused(t, "ld.global.hopefully.u32 %r1, [%rd0];", "unknown kind");
    try_refused(t, "add.s32 %r1, %rd1, 3;", "another size");
}

static void atomics_add_up_in_all_blocks(void)
{
    uint32_t out[8] = {0, 0, 5, 0, 0, 0, 0, 0};
    struct err e;
    struct ptx_counts c;
    memset(&c, 0, sizeof c);
    struct try t = {.threads = 64, .blocks = 7, .shared = 64, .host_threads = 3, .counts = &c};
    bool ok = try_run(t,
                      "red.global.add.f32 [%rd0], 0f3F800000; atom.global.add.u32 %r1, [%rd0+4], "
                      "%r0;\natom.global.max.s32 %r2, [%rd0+8], %r0; setp.eq.u32 %p1, %r0, 9; @%p1 "
                      "red.global.add.v4.f32 [%rd0+16], {0f40000000, 0f40000000, 0f40000000, "
                      "0f40000000};",
                      out, sizeof out, &e);
    gsl_test(!ok || out[0] != bits(7 * 64), "7 blocks of 64 threads add 1: %s", e.text);
    gsl_test(out[1] != 7 * 63 * 32, "their numbers add up to 7 (0 + ... + 63)");
    gsl_test(out[2] != 63, "the largest is 63");
    gsl_test(out[7] != bits(14), "one thread of each adds four times 2");
    gsl_test(c.global_atomics != 7 * (3 * 64 + 1) || c.blocks != 7, "193 atomic lanes a block");
}

static void bank_conflicts_and_sectors_are_counted(void)
{
    uint32_t out[4096];
    struct err e;
    struct ptx_counts c;
    memset(&c, 0, sizeof c);
    struct try t = {.threads = 32, .shared = 8192, .counts = &c};
    try_run(t,
            "mov.u32 %r10, more; shl.b32 %r11, %r0, 3; add.u32 %r11, %r10, %r11;\n"
            "st.shared.u32 [%r11], %r0; bar.warp.sync -1; ld.shared.u32 %r1, [%r10];",
            out, sizeof out, &e);
    gsl_test(c.shared_requests != 2 || c.shared_wavefronts != 3 || c.shared_wavefronts_ideal != 2,
             "stride 2: two wavefronts, one word: one; ideally one each");
    memset(&c, 0, sizeof c);
    try_run(t, "mul.wide.u32 %rd1, %r0, 16; add.s64 %rd1, %rd0, %rd1; st.global.u32 [%rd1], %r0;",
            out, sizeof out, &e);
    gsl_test(c.global_store_requests != 1 || c.global_store_bytes != 128 ||
                 c.global_store_sectors < 16 || c.global_store_sectors > 17,
             "32 words 16 bytes apart: 16 sectors of 32 bytes (17 if they begin in the middle)");
    gsl_test(c.warp_instructions[PTX_ST_GLOBAL] != 1 || c.thread_instructions[PTX_ST_GLOBAL] != 32,
             "one store of 32 lanes");
}

int main(void)
{
    integers_wrap_shift_and_divide();
    floats_round_and_compare_as_ieee_says();
    lanes_that_part_meet_again();
    lanes_exchange();
    threads_meet_in_shared_memory();
    named_barriers_order_whom_they_say();
    bad_addresses_are_named();
    atomics_add_up_in_all_blocks();
    bank_conflicts_and_sectors_are_counted();
    return gsl_test_summary();
}
