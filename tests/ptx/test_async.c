/* Asynchronous copies, mbarriers and bulk copies: data arrives at the wait and not before, and each
 * thing that a kernel may forget is found. */
#include "tests/ptx/try.h"

/* %r10 = start of shared memory, %r11 = this thread's 16 bytes there, %rd1 = its 16 bytes of out,
 * %r12 = the next thread's 16 bytes in shared memory (of 64), %r13 = those of thread ^ 33,
 * %r14 = where mbarriers are. */
#define PLACES                                                                                     \
    "mov.u32 %r10, more; shl.b32 %r1, %r0, 4; add.u32 %r11, %r10, %r1; cvt.u64.u32 %rd1, %r1; "    \
    "add.s64 %rd1, %rd0, %rd1; add.u32 %r12, %r1, 16; and.b32 %r12, %r12, 1023; add.u32 %r12, "    \
    "%r12, %r10; xor.b32 %r13, %r1, 528; add.u32 %r13, %r13, %r10; add.u32 %r14, %r10, 4096;\n"
#define COPY   "cp.async.cg.shared.global [%r11], [%rd1], 16;\n"
#define COMMIT "cp.async.commit_group;\n"

static const struct try sixty_four = {.threads = 64, .shared = 8192};

static void a_copy_arrives_at_its_wait(void)
{
    uint32_t out[512];
    for (uint32_t i = 0; i < 512; i++)
        out[i] = i;
    struct err e;
    bool ok = try_run(sixty_four,
                      PLACES COPY COMMIT
                      "cp.async.cg.shared.global [%r11+2048], [%rd1], 16, %r15;" COMMIT
                      "cp.async.wait_group 1;\nld.shared.u32 %r2, [%r11+4]; st.global.u32 "
                      "[%rd1+1024], %r2; cp.async.wait_all; ld.shared.u32 %r2, [%r11+2052]; "
                      "st.global.u32 [%rd1+1028], %r2;",
                      out, sizeof out, &e);
    gsl_test(ok, "bytes to read that were never set are refused");
    ok = try_run(sixty_four,
                 PLACES "mov.u32 %r15, 4;\n" COPY COMMIT
                        "cp.async.cg.shared.global [%r11+2048], [%rd1], 16, %r15;" COMMIT
                        "cp.async.wait_group 1;\nld.shared.u32 %r2, [%r11+4]; st.global.u32 "
                        "[%rd1+1024], %r2; cp.async.wait_all; ld.shared.v2.u32 {%r2, %r3}, "
                        "[%r11+2048]; st.global.v2.u32 [%rd1+1032], {%r2, %r3};",
                 out, sizeof out, &e);
    gsl_test(!ok || out[256 + 4 * 5] != 21, "thread 5's second word is 21: %s", e.text);
    gsl_test(out[256 + 4 * 5 + 2] != 20 || out[256 + 4 * 5 + 3] != 0, "4 bytes read, zeros beyond");
}

static void waiting_too_little_is_found(void)
{
    try_refused(sixty_four, PLACES COPY COMMIT "ld.shared.u32 %r2, [%r11];", "under way");
    try_refused(sixty_four, PLACES COPY COMMIT "cp.async.wait_group 1; ld.shared.u32 %r2, [%r11];",
                "under way");
    try_refused(sixty_four, PLACES COPY "cp.async.wait_group 0; ld.shared.u32 %r2, [%r11];",
                "under way"); /* never committed */
    try_refused(sixty_four, PLACES COPY COMMIT "cp.async.wait_group 0; ld.shared.u32 %r2, [%r12];",
                "nothing orders"); /* another thread's copy */
    try_refused(sixty_four,
                PLACES COPY COMMIT "bar.sync 0; cp.async.wait_group 0; ld.shared.u32 %r2, [%r12];",
                "address"); /* waits after the barrier: under way, or nothing orders */
    try_allowed(sixty_four,
                PLACES COPY COMMIT "cp.async.wait_group 0; bar.sync 0; ld.shared.u32 %r2, [%r12];",
                "wait, then the barrier");
    try_refused(sixty_four, PLACES "ld.shared.u32 %r2, [%r12];" COPY, "nothing orders");
    try_refused(sixty_four, PLACES "add.u32 %r11, %r11, 4;" COPY, "no multiple of 16");
    try_refused(sixty_four, PLACES "add.s64 %rd1, %rd1, 16384;" COPY, "nobody allocated");
}

/* Warp 0 copies and tells an mbarrier, warp 1 waits for it. */
#define BARRIER                                                                                    \
    "setp.ne.u32 %p1, %r0, 0; @%p1 bra made; mbarrier.init.shared::cta.b64 [%r10+4096], 32;\n"     \
    "made: bar.sync 0; setp.ge.u32 %p2, %r0, 32; @%p2 bra two;\n"
#define WAIT(parity)                                                                               \
    "two: mbarrier.try_wait.parity.shared::cta.b64 %p3, [%r10+4096], " parity                      \
    "; @%p3 bra over; bra two;\nover: ld.shared.u32 %r2, [%r13];\nend:"
#define NOINC "cp.async.mbarrier.arrive.noinc.shared::cta.b64 [%r10+4096];\n"

static void an_mbarrier_tells_of_copies(void)
{
    try_allowed(sixty_four, PLACES BARRIER COPY NOINC "bra end;\n" WAIT("0"), "arrive.noinc");
    try_refused(sixty_four, PLACES BARRIER COPY NOINC "bra end;\n" WAIT("1"), "shared address");
    try_refused(sixty_four,
                PLACES BARRIER COPY
                "mbarrier.arrive.shared::cta.b64 _, [%r10+4096]; bra end;\n" WAIT("0"),
                "under way"); /* an arrival that does not wait for the copies */
    try_refused(sixty_four, PLACES BARRIER NOINC COPY "bra end;\n" WAIT("0"), "under way");
    try_refused(sixty_four,
                PLACES BARRIER COPY "cp.async.mbarrier.arrive.shared::cta.b64 [%r10+4096]; bra "
                                    "end;\n" WAIT("0"),
                "nobody can go on"); /* without noinc it adds an arrival first */
    try_refused(sixty_four, PLACES BARRIER COPY "bra end;\n" WAIT("0"), "nobody can go on");
    try_refused(sixty_four, PLACES BARRIER COPY NOINC NOINC "bra end;\n" WAIT("0"), "under way");
}

static void mbarriers_are_held_to_their_rules(void)
{
    try_allowed(sixty_four,
                PLACES BARRIER "st.shared.u32 [%r11], %r0; mbarrier.arrive.shared::cta.b64 _, "
                               "[%r10+4096]; bra end;\n" WAIT("0"),
                "an arrival releases, the wait acquires");
    try_refused(sixty_four,
                PLACES BARRIER "mbarrier.arrive.shared::cta.b64 _, [%r10+4096]; st.shared.u32 "
                               "[%r11], %r0; bra end;\n" WAIT("0"),
                "nothing orders");
    try_refused(sixty_four, PLACES "mbarrier.arrive.shared::cta.b64 _, [%r10+4096];",
                "no mbarrier was made");
    try_refused(sixty_four,
                PLACES "setp.ne.u32 %p1, %r0, 0; @!%p1 mbarrier.init.shared::cta.b64 [%r10+4096], "
                       "64; bar.sync 0; @!%p1 mbarrier.init.shared::cta.b64 [%r10+4096], 64;",
                "already");
    try_refused(sixty_four, PLACES BARRIER "st.shared.u32 [%r10+4096], 0;\ntwo:", "mbarrier");
    try_refused(
        sixty_four,
        PLACES BARRIER "mbarrier.arrive.shared::cta.b64 _, [%r10+4096], 33;\ntwo:", "arrivals");
    try_refused(sixty_four,
                PLACES "setp.ne.u32 %p1, %r0, 0; @!%p1 mbarrier.init.shared::cta.b64 [%r10+4096], "
                       "64; bar.warp.sync -1; @%p1 bra end; mbarrier.arrive.shared::cta.b64 _, "
                       "[%r10+4100];\nend:",
                "no mbarrier was made");
}

static void a_bulk_load_counts_bytes(void)
{
    struct try t = {.threads = 32, .shared = 8192};
#define LOAD(bytes)                                                                                \
    PLACES "setp.ne.u32 %p1, %r0, 0; @%p1 bra wait;\nmbarrier.init.shared::cta.b64 [%r10+4096], "  \
           "1; mbarrier.arrive.expect_tx.shared::cta.b64 _, [%r10+4096], " bytes                   \
           "; cp.async.bulk.shared::cluster.global.mbarrier::complete_tx::bytes [%r10], [%rd0], "  \
           "512, [%r14];\nwait: bar.warp.sync -1;\n"
#define UNTIL                                                                                      \
    "again: mbarrier.try_wait.parity.shared::cta.b64 %p3, [%r10+4096], 0; @!%p3 bra again;\n"      \
    "bar.warp.sync -1; ld.shared.u32 %r2, [%r11];"
    try_allowed(t, LOAD("512") UNTIL, "512 of 512 bytes");
    try_refused(t, LOAD("1024") UNTIL, "nobody can go on");
    try_refused(t, LOAD("512") "ld.shared.u32 %r2, [%r11];", "under way");
}

/* 32 threads write 512 bytes; one asks to have them added to out[0 .. 128). */
#define STORE PLACES "st.shared.v4.f32 [%r11], {0f3F800000, 0f40000000, 0f40400000, 0f40800000};\n"
#define FENCE "fence.proxy.async.shared::cta;\n"
#define SYNC  "bar.sync 0; setp.ne.u32 %p1, %r0, 0; @%p1 bra end;\n"
#define REDUCE(bytes)                                                                              \
    "mov.u32 %r5, " bytes "; cp.reduce.async.bulk.global.shared::cta.bulk_group.add.f32 [%rd0], "  \
    "[%r10], %r5;\n"
#define BULK_COMMIT "cp.async.bulk.commit_group;\n"
#define READ        "cp.async.bulk.wait_group.read 0;\n"

static void a_bulk_reduction_reads_what_was_fenced(void)
{
    struct try t = {.threads = 32, .shared = 8192};
    float out[256];
    struct err e;
    for (int i = 0; i < 256; i++)
        out[i] = 10;
    bool ok =
        try_run(t, STORE FENCE SYNC REDUCE("512") BULK_COMMIT READ "end:", out, sizeof out, &e);
    gsl_test(!ok || out[0] != 11 || out[127] != 14 || out[128] != 10, "10 + 1 .. 4: %s", e.text);
    try_refused(t, STORE SYNC REDUCE("512") BULK_COMMIT READ "end:", "without a fence.proxy.async");
    try_refused(
        t, FENCE STORE SYNC REDUCE("512") BULK_COMMIT READ "end:", "without a fence.proxy.async");
    try_refused(t, STORE FENCE REDUCE("512") BULK_COMMIT READ, "nothing orders");
    try_refused(t, STORE FENCE SYNC REDUCE("512") "end:", "before its bulk copy has read");
    try_refused(t, STORE FENCE SYNC REDUCE("512") READ "end:", "before its bulk copy has read");
    try_refused(t, STORE FENCE SYNC REDUCE("500") "end:", "multiple of 16");
    try_refused(
        t, STORE FENCE SYNC "add.u32 %r10, %r10, 8;" REDUCE("512") "end:", "no multiple of 16");
    try_refused(t,
                STORE FENCE SYNC REDUCE("512") BULK_COMMIT "st.shared.u32 [%r10], %r0;" READ "end:",
                "while a bulk copy read it");
    try_allowed(t, STORE SYNC FENCE REDUCE("512") BULK_COMMIT READ "end:",
                "a fence of the reader, after the barrier");
}

int main(void)
{
    a_copy_arrives_at_its_wait();
    waiting_too_little_is_found();
    an_mbarrier_tells_of_copies();
    mbarriers_are_held_to_their_rules();
    a_bulk_load_counts_bytes();
    a_bulk_reduction_reads_what_was_fenced();
    return gsl_test_summary();
}
