/* Running a few lines of PTX: the kernel k(out), with registers r0.., rd0.., f0.., p0.. and rs0..
 * declared, %rd0 = out and %r0 = the thread. */
#ifndef TESTS_PTX_TRY_H
#define TESTS_PTX_TRY_H

#include "tests/ptx/ptx.h"

#include <gsl/gsl_test.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

struct
try {
    unsigned threads, blocks, seed;
    size_t shared;
    int host_threads;
    struct ptx_counts *counts;
    uint64_t most;
};

static const char try_head[] =
    ".version 9.0\n.target sm_90a\n.address_size 64\n"
    ".extern .shared .align 1024 .b8 more[];\n.entry k(.param .u64 out)\n{\n"
    ".reg .pred %p<20>; .reg .b16 %rs<20>; .reg .b32 %r<200>; .reg .b64 %rd<40>; .reg .f32 "
    "%f<200>;\nld.param.u64 %rd0, [out]; mov.u32 %r0, %tid.x;\n";

/* Runs body (its first line is line 9 of the text); out[0 .. bytes) is all the memory there is.
 * False: e says why. */
static inline bool try_run(struct try t, const char *body, void *out, size_t bytes, struct err *e)
{
    size_t n = strlen(try_head) + strlen(body) + 16;
    char *text = malloc(n);
    struct ptx_module *m = NULL;
    *e = (struct err){ERR_NONE, ""};
    snprintf(text, n, "%s%s\nret;\n}\n", try_head, body);
    struct ptx_range all = {(uintptr_t)out, bytes};
    struct ptx_launch l = {.grid = {t.blocks ? t.blocks : 1, 1, 1},
                           .block = {t.threads, 1, 1},
                           .dynamic_shared = t.shared,
                           .seed = t.seed,
                           .threads = t.host_threads,
                           .counts = t.counts,
                           .allocated = &all,
                           .ranges = 1,
                           .most_instructions = t.most ? t.most : 1 << 20};
    bool ok = ptx_load("try", text, strlen(text), &m, e);
    if (ok)
        ok = ptx_run(m, ptx_find(m, "k"), &l, (void *const[]){&out}, e);
    ptx_free(m);
    free(text);
    return ok;
}

/* The body must fail, in a way that names `why`, with each of some seeds. */
static inline void try_refused(struct try t, const char *body, const char *why)
{
    static uint32_t out[4096];
    for (unsigned seed = 0; seed < 4; seed++) {
        struct err e;
        t.seed = seed;
        bool ok = try_run(t, body, out, sizeof out, &e);
        gsl_test(ok || !strstr(e.text, why), "refused: %s (%s)", why, ok ? "it ran" : e.text);
    }
}

/* The body must run, with each of some seeds. */
static inline void try_allowed(struct try t, const char *body, const char *what)
{
    static uint32_t out[4096];
    for (unsigned seed = 0; seed < 4; seed++) {
        struct err e;
        t.seed = seed;
        gsl_test(!try_run(t, body, out, sizeof out, &e), "allowed: %s: %s", what, e.text);
    }
}

#endif
