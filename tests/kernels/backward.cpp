/* Every variant of the CUDA backward kernels against the double-precision reference on the same
 * bf16 inputs: each dimension, block of queries and source of keys that has code of its own. Usage:
 * test_kernels_backward [variant...]; default: all that the device has. Skipped (77) without one.
 */
#include "tests/kernels/variants.h"

bool cuda_backward_by(const char *variant, const struct kern_attention *a, struct err *e);

/* ---- ways to ask for the backward of one problem; LSE and O come from the reference ---- */

static bool plainly(const struct kern_attention *a, struct err *e)
{
    return cuda_backward_by(variant, a, e);
}

static bool twice(const struct kern_attention *a, struct err *e)
{
    return plainly(a, e) && plainly(a, e);
}

static bool with_rounded_o(const struct kern_attention *a, struct err *e)
{
    struct kern_head heads[PROBLEM_HEADS];
    struct kern_attention b = *a;
    b.heads = heads;
    for (int i = 0; i < a->head_count; i++) {
        heads[i] = a->heads[i];
        heads[i].o32 = NULL;
    }
    return plainly(&b, e);
}

/* The first head as two, its first 64 queries and the others: both name the same dK and dV. */
static bool in_two_heads(const struct kern_attention *a, struct err *e)
{
    struct kern_head h[2] = {a->heads[0], a->heads[0]};
    struct kern_attention b = *a;
    int64_t cut = 64, groups = h[0].keys.group ? cut / h[0].keys.group : 0;
    h[0].q_rows = cut, h[1].q_rows -= cut;
    h[1].q += cut * a->dim, h[1].d_o += cut * a->dim, h[1].o += cut * a->dim;
    h[1].o32 += cut * a->dim, h[1].lse += cut, h[1].dq += cut * a->dim;
    if (h[1].keys.list)
        h[1].keys.list += groups * h[1].keys.list_stride;
    if (h[1].keys.count)
        h[1].keys.count += groups;
    b.heads = h;
    b.head_count = 2;
    return plainly(&b, e);
}

/* ---- one problem ---- */

static bool reference_forward(struct problem *p)
{
    struct err e = {};
    bool ok = kern_backend_of("reference", &e)->forward(&p->a, &e);
    gsl_test(!ok, "reference: %s", e.text);
    return ok;
}

static bool run(struct problem *p, attention_fn *how, const char *what)
{
    return reference_forward(p) && run_passes(p, no_pass, how, what);
}

/* P and dS are rounded to bf16 (2^-9 relative) on their way to three of the five products. */
static void expect_near(const struct problem *p, const struct problem *r, const char *what)
{
    struct distance d = problem_distance(p, r);
    gsl_test(!(d.dq <= 1e-2), "%s: %s: dQ is %.2g off, want 1e-2", variant, what, d.dq);
    gsl_test(!(d.dk <= 1e-2), "%s: %s: dK is %.2g off, want 1e-2", variant, what, d.dk);
    gsl_test(!(d.dv <= 1e-2), "%s: %s: dV is %.2g off, want 1e-2", variant, what, d.dv);
}

static void scale_gradients(struct problem *p, float by)
{
    for (int h = 0; h < p->shape.heads; h++) {
        const struct kern_head *x = &p->head[h];
        for (int64_t i = 0; i < x->q_rows * p->shape.dim; i++)
            x->dq[i] *= by;
        for (int64_t i = 0; i < x->kv_rows * p->shape.dim; i++)
            x->dk[i] *= by, x->dv[i] *= by;
    }
}

static void expect_like_reference(const struct problem_shape *s, attention_fn *how, bool bitmaps,
                                  const char *what)
{
    struct problem p, r;
    struct err e = {};
    problem_new(&p, s);
    problem_twin(&r, &p);
    bool ok = reference_forward(&r) && kern_backend_of("reference", &e)->backward(&r.a, &e);
    gsl_test(!ok, "reference: %s", e.text);
    if (bitmaps)
        problem_use_bitmaps(&p);
    if (run(&p, how, what)) {
        scale_gradients(&p, how == twice ? 0.5f : 1);
        expect_near(&p, &r, what);
    }
    problem_free(&p);
    problem_free(&r);
}

/* Blocks of devices between the large ones (sm_86, sm_89) have less than 100 KiB of shared memory,
 * and those of sm_80 too little for fp32 sums of 256 columns: then rows this wide are refused. */
static bool takes_wide_rows(void)
{
    struct problem_shape s = shape(256, 8, 8, 4, 3, 14);
    struct problem p;
    struct err e = {};
    problem_new(&p, &s);
    p.head[0].q_rows = 0;
    bool takes = cuda_backward_by(variant, &p.a, &e);
    gsl_test(!takes && !strstr(e.text, "shared memory"), "%s: wide rows: %s", variant, e.text);
    problem_free(&p);
    return takes;
}

/* Above dimension 128 wgmma has a kernel of another kind; the others another size of the same. */
static int widest(void)
{
    return strcmp(variant, "wgmma") == 0 && takes_wide_rows() ? 256 : 64;
}

static void every_dimension_and_block_is_right(void)
{
    static const int dims[] = {16, 80, 128, 176, 256};
    static const int groups[] = {32, 64, 128};
    for (int dim : dims)
        for (int group : groups) {
            if (dim > 128 && !takes_wide_rows())
                continue;
            char what[64];
            struct problem_shape s = shape(dim, group + 5, 200, group, 131, (uint64_t)dim);
            snprintf(what, sizeof what, "dim %d, groups of %d, lists", dim, group);
            expect_like_reference(&s, plainly, false, what);
            snprintf(what, sizeof what, "dim %d, groups of %d, bitmaps", dim, group);
            expect_like_reference(&s, plainly, true, what);
            s = shape(dim, group + 1, 75 + group, 0, -1, (uint64_t)dim + 1);
            snprintf(what, sizeof what, "dim %d, dense, %d queries", dim, group + 1);
            expect_like_reference(&s, plainly, false, what);
        }
}

static void every_number_of_keys_is_right_at_tile_borders(void)
{
    static const int keeps[] = {0, 1, 31, 32, 33, 63, 64, 65, 97, 260};
    for (int dim = 64; dim <= widest(); dim *= 4)
        for (int keep : keeps) {
            char what[64];
            snprintf(what, sizeof what, "%d keys of 260, dim %d", keep, dim);
            struct problem_shape s = shape(dim, 50, 260, dim == 64 ? 20 : 50, keep, 2);
            expect_like_reference(&s, plainly, keep % 2, what);
        }
}

static void groups_of_any_size_and_heads_of_any_kind_are_right(void)
{
    static const int groups[] = {1, 33, 129, 1000};
    for (int dim = 64; dim <= widest(); dim *= 4)
        for (int group : groups) {
            char what[64];
            snprintf(what, sizeof what, "groups of %d, dim %d", group, dim);
            struct problem_shape s = shape(dim, group == 1 ? 5 : 270, 150, group, 99, 4);
            s.heads = 4, s.keep[1] = 40, s.keep[2] = -1, s.keep[3] = 0;
            expect_like_reference(&s, plainly, false, what);
        }
}

static void a_sharp_softmax_is_right(void)
{
    struct problem_shape s = shape(128, 64, 256, 32, 200, 5);
    s.logit_std = 10;
    expect_like_reference(&s, plainly, false, "logits of standard deviation 10");
    s.dim = widest(), s.group = 64;
    expect_like_reference(&s, plainly, false, "groups of 64, logits of standard deviation 10");
}

static void gradients_are_added_to_what_is_there(void)
{
    struct problem_shape s = shape(64, 100, 150, 32, 70, 6);
    s.heads = 2, s.keep[1] = -1;
    expect_like_reference(&s, twice, false, "twice");
}

static void delta_may_come_from_the_rounded_o(void)
{
    struct problem_shape s = shape(128, 70, 150, 64, 70, 7);
    s.heads = 2, s.keep[1] = -1;
    expect_like_reference(&s, with_rounded_o, false, "O in bf16");
}

static void heads_that_share_keys_add_up(void)
{
    struct problem_shape s = shape(64, 170, 150, 32, 99, 8);
    expect_like_reference(&s, in_two_heads, false, "a head in two pieces");
    s.keep[0] = -1, s.group = 0;
    expect_like_reference(&s, in_two_heads, false, "a dense head in two pieces");
}

/* The first run and the second, which may have bitmaps and little memory. */
static void expect_same(const struct problem_shape *s, const char *memory, bool bitmaps_first,
                        bool bitmaps, const char *what)
{
    struct problem p, q;
    problem_new(&p, s);
    problem_new(&q, s);
    if (bitmaps_first)
        problem_use_bitmaps(&p);
    run(&p, plainly, what);
    if (bitmaps)
        problem_use_bitmaps(&q);
    if (memory)
        setenv("SHARDWISE_EMULATE_MEMORY", memory, 1);
    run(&q, plainly, what);
    unsetenv("SHARDWISE_EMULATE_MEMORY");
    gsl_test(!problem_same(&p, &q), "%s: the same bytes: %s", variant, what);
    problem_free(&p);
    problem_free(&q);
}

/* 300 KB: room for the partials of a few units of 99 keys (25 KB each). On a real device the
 * environment changes nothing, and this is one more run. */
static void ordered_sums_give_the_same_bytes_whatever_the_room(void)
{
    if (strcmp(variant, "ordered") != 0 && strcmp(variant, "wgmma") != 0 && !unites())
        return;
    struct problem_shape s = shape(64, 600, 150, 32, 99, 9);
    s.heads = 3, s.keep[1] = 31, s.keep[2] = 150;
    expect_same(&s, NULL, false, false, "a second run");
    expect_same(&s, NULL, unites(), true, "bitmaps, after lists unless they unite groups");
    expect_same(&s, "300000", unites(), unites(), "little memory");
    s.group = 250; /* units of a group in different rounds */
    expect_same(&s, "300000", false, true, "little memory, bitmaps, groups of many blocks");
    s.dim = widest(), s.group = 64, s.q_rows = 200;
    expect_same(&s, NULL, false, !unites(), "groups of 64, a second run");
}

/* Additions in whatever order they come: sums of fp32 numbers, so 1e-5 apart at most. */
static void additions_in_any_order_are_near(void)
{
    if (strcmp(variant, "bulk") != 0 && strcmp(variant, "vector") != 0 &&
        strcmp(variant, "atomic") != 0)
        return;
    struct problem_shape s = shape(64, 333, 150, 32, 99, 9);
    struct problem p, again;
    s.heads = 2, s.keep[1] = -1;
    problem_new(&p, &s);
    problem_twin(&again, &p);
    run(&p, plainly, "first run");
    run(&again, plainly, "second run");
    struct distance d = problem_distance(&again, &p);
    double far = fmax(d.dq, fmax(d.dk, d.dv));
    gsl_test(!(far <= 1e-5), "%s: two runs are %.2g apart, want 1e-5", variant, far);
    problem_free(&again);
    problem_free(&p);
}

/* Groups side by side that share no key, many and all; some have none at all; and numbers of groups
 * that are no multiple of those that are united, the last one short. */
static void check_sharing(int like_before, int group, bool uneven, const char *what)
{
    struct problem_shape s =
        shape(group % 32 ? 64 : 128, group * 6 + 3, 233, group, uneven ? 110 : 90, (uint64_t)group);
    s.heads = 2, s.keep[1] = 50, s.like_before = like_before, s.uneven = uneven;
    expect_like_reference(&s, plainly, true, what);
}

static void groups_are_right_whatever_they_share(void)
{
    static const int groups[] = {7, 16, 20, 32};
    problem_each_sharing(groups, 4, unites(), check_sharing);
}

static void wrong_input_is_refused(void)
{
    expect_wrong_input_refused(cuda_backward_by, true);
}

static void tests(void)
{
    every_dimension_and_block_is_right();
    every_number_of_keys_is_right_at_tile_borders();
    groups_of_any_size_and_heads_of_any_kind_are_right();
    a_sharp_softmax_is_right();
    gradients_are_added_to_what_is_there();
    delta_may_come_from_the_rounded_o();
    heads_that_share_keys_add_up();
    ordered_sums_give_the_same_bytes_whatever_the_room();
    additions_in_any_order_are_near();
    groups_are_right_whatever_they_share();
    wrong_input_is_refused();
}

int main(int argc, char **argv)
{
    static const char *const all[] = {"ordered", "wgmma",  "wgmma-pairs", "wgmma-fours",
                                      "bulk",    "vector", "atomic"};
    return variants_main(argc, argv, all, cuda_backward_by, tests);
}
