/* What the tests of the CUDA kernels' named variants share (forward.cpp, backward.cpp): the variant
 * under test, problems of one head, a run, what is refused, and main. */
#ifndef TESTS_KERNELS_VARIANTS_H
#define TESTS_KERNELS_VARIANTS_H

extern "C" {
#include "tests/check.h"
#include "tests/kernels/problem.h"
}

#include <math.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

extern "C" const struct kern_backend kern_cuda;

typedef bool attention_fn(const struct kern_attention *a, struct err *e);
typedef bool attention_by(const char *variant, const struct kern_attention *a, struct err *e);

static const char *variant; /* under test */

/* Groups that have bitmaps may run as one tile. */
static inline bool unites(void)
{
    return strcmp(variant, "wgmma-pairs") == 0 || strcmp(variant, "wgmma-fours") == 0;
}

static inline struct problem_shape shape(int dim, int64_t q_rows, int64_t kv_rows, int64_t group,
                                         int keep, uint64_t seed)
{
    struct problem_shape s = {};
    s.dim = dim, s.heads = 1, s.q_rows = q_rows, s.kv_rows = kv_rows, s.group = group;
    s.keep[0] = keep, s.logit_std = 1, s.seed = seed;
    return s;
}

static inline bool no_pass(const struct kern_attention *, struct err *)
{
    return true;
}

/* Both passes of a problem on the device; no_pass leaves one out. */
static inline bool run_passes(struct problem *p, attention_fn *forward, attention_fn *backward,
                              const char *what)
{
    struct kern_backend b = kern_cuda;
    struct err e = {};
    b.forward = forward;
    b.backward = backward;
    bool ok = problem_run(p, &b, &e);
    gsl_test(!ok, "%s: %s: %s", variant, what, ok ? "runs" : e.text);
    gsl_test(!problem_guards_hold(p), "%s: %s: nothing is written outside the arrays", variant,
             what);
    return ok;
}

static inline void expect_refused(attention_by *by, const struct problem *p, const char *text,
                                  const char *what)
{
    struct err e = {};
    bool ok = by(variant, &p->a, &e);
    gsl_test(ok || e.code != ERR_INPUT || !strstr(e.text, text), "%s: %s is refused: %s", variant,
             what, e.text);
}

/* An array of a head, by name: how many bytes beside its place are too many, and whether only the
 * backward pass reads it. */
struct array_of_head {
    const char *name;
    size_t at;
    unsigned beside;
    bool backward;
};

#define HEAD_ARRAY(name, beside, backward)                                                         \
    {                                                                                              \
#name, offsetof(struct kern_head, name), beside, backward                                  \
    }
static const struct array_of_head arrays_of_head[] = {
    HEAD_ARRAY(q, 2, false),          HEAD_ARRAY(k, 8, false),
    HEAD_ARRAY(v, 2, false),          HEAD_ARRAY(o32, 4, false),
    HEAD_ARRAY(lse, 2, false),        HEAD_ARRAY(keys.list, 2, false),
    HEAD_ARRAY(keys.count, 1, false), HEAD_ARRAY(keys.bitmap, 2, false),
    HEAD_ARRAY(d_o, 2, true),         HEAD_ARRAY(dq, 4, true),
    HEAD_ARRAY(dk, 4, true),          HEAD_ARRAY(dv, 8, true)};

/* No array where one is needed, or beside its place: the message names it. */
static inline void expect_wrong_arrays_refused(attention_by *by, struct problem *p, bool backward)
{
    for (const struct array_of_head &x : arrays_of_head) {
        struct kern_head right = p->head[0];
        char **at = (char **)((char *)&p->head[0] + x.at), what[64];
        if (x.backward && !backward)
            continue;
        bool optional = strncmp(x.name, "keys", 4) == 0 || strcmp(x.name, "o32") == 0;
        *at = (*at ? *at : (char *)p->head[0].lse) + x.beside;
        snprintf(what, sizeof what, "%s, %u bytes beside its place,", x.name, x.beside);
        if (strcmp(x.name, "keys.bitmap") == 0)
            p->head[0].keys.list = NULL, p->head[0].keys.bitmap_words = 1;
        expect_refused(by, p, x.name, what);
        p->head[0] = right;
        if (optional)
            continue;
        *at = NULL;
        snprintf(what, sizeof what, "no %s", x.name);
        expect_refused(by, p, "missing", what);
        p->head[0] = right;
    }
    struct kern_head right = p->head[0];
    p->head[0].o = NULL, p->head[0].o32 = NULL;
    expect_refused(by, p, "missing", "no O");
    p->head[0] = right;
}

static inline void expect_wrong_input_refused(attention_by *by, bool backward)
{
    struct problem_shape s = shape(64, 8, 8, 4, 3, 13);
    struct problem p;
    struct err e = {};
    problem_new(&p, &s);
    struct kern_head right = p.head[0];
    bool known = by("none such", &p.a, &e);
    gsl_test(known || !strstr(e.text, variant), "an unknown variant is refused: %s", e.text);
    p.a.dim = 60;
    expect_refused(by, &p, "60", "a dimension of 60");
    p.a.dim = 64;
    p.a.scale = NAN;
    expect_refused(by, &p, "scale", "a scale that is no number");
    p.a.scale = 0;
    p.a.heads = NULL;
    expect_refused(by, &p, "heads", "heads that are nowhere");
    p.a.heads = p.head;
    expect_wrong_arrays_refused(by, &p, backward);
    p.head[0].keys.list_count = 9, p.head[0].keys.list_stride = 9;
    expect_refused(by, &p, "9", "a list of 9 of 8 keys");
    p.head[0] = right;
    p.head[0].kv_rows = INT64_C(1) << 31;
    expect_refused(by, &p, "2^31", "2^31 keys");
    problem_free(&p);
}

/* Runs `tests` for each variant that is named on the command line or, without any, in `all`; one
 * that the device does not have is skipped. The exit status: 77 where none ran. */
template <int N>
static int variants_main(int argc, char **argv, const char *const (&all)[N], attention_by *by,
                         void (*tests)(void))
{
    int names = argc > 1 ? argc - 1 : N, ran = 0;
    for (int i = 0; i < names; i++) {
        struct kern_attention none = {64, 0, 0, NULL};
        struct err e = {};
        variant = argc > 1 ? argv[i + 1] : all[i];
        if (!kern_cuda.available() || !by(variant, &none, &e)) {
            printf("skipped: %s: %s\n", variant, e.text[0] ? e.text : "no GPU that it runs on");
            continue;
        }
        ran++;
        tests();
    }
    return ran ? gsl_test_summary() : 77;
}

#endif
