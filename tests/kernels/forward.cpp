/* Every variant of the CUDA forward kernel against the double-precision reference on the same bf16
 * inputs: each dimension, tile of queries and source of keys that has code of its own. Usage:
 * test_kernels_forward [variant...]; default: all. Skipped (77) where no device can run them. */
#include "tests/kernels/variants.h"

bool cuda_forward_by(const char *variant, const struct kern_attention *a, struct err *e);

static float scale; /* of the running test; 0: the usual */

static bool forward(const struct kern_attention *a, struct err *e)
{
    struct kern_attention scaled = *a;
    scaled.scale = scale;
    return cuda_forward_by(variant, &scaled, e);
}

static bool run(struct problem *p, const char *what)
{
    return run_passes(p, forward, no_pass, what);
}

/* P is rounded to bf16 (2^-9 relative) on its way to the second product. */
static void expect_near(const struct problem *p, const struct problem *r, const char *what)
{
    struct distance d = problem_distance(p, r);
    gsl_test(!(d.o <= 5e-3), "%s: %s: O is %.2g off, want 5e-3", variant, what, d.o);
    gsl_test(!(d.o_row <= 3e-2), "%s: %s: worst row of O is %.2g off, want 3e-2", variant, what,
             d.o_row);
    gsl_test(!(d.lse <= 1e-3), "%s: %s: LSE is %.2g off, want 1e-3", variant, what, d.lse);
    gsl_test(d.rounded != 0, "%s: %s: O is O32 rounded to bf16", variant, what);
}

/* Lists, then the same as bitmaps, which must give the same bytes. (Groups that have bitmaps may be
 * united: then their keys come in other pieces, and bytes differ.) */
static void expect_like_reference(const struct problem_shape *s, const char *what)
{
    struct problem p, r, bits;
    struct err e = {};
    problem_new(&p, s);
    problem_twin(&r, &p);
    r.a.scale = scale;
    gsl_test(!kern_backend_of("reference", &e)->forward(&r.a, &e), "reference: %s", e.text);
    if (run(&p, what))
        expect_near(&p, &r, what);
    if (s->keep[0] >= 0) {
        problem_new(&bits, s);
        problem_use_bitmaps(&bits);
        if (run(&bits, what) && unites())
            expect_near(&bits, &r, what);
        else
            gsl_test(!problem_same(&p, &bits), "%s: %s: bitmaps give the bytes of lists", variant,
                     what);
        problem_free(&bits);
    }
    problem_free(&p);
    problem_free(&r);
}

/* Above dimension 128 wgmma has kernels of another kind, mma another size of the same; what unites
 * groups or drops the order of asking runs as wgmma there. */
static int widest(void)
{
    return strcmp(variant, "wgmma") == 0 ? 256 : 128;
}

static void every_dimension_and_tile_is_right(void)
{
    static const int dims[] = {16, 80, 128, 176, 256};
    static const int groups[] = {32, 64, 128};
    for (int dim : dims)
        for (int group : groups) {
            char what[64];
            snprintf(what, sizeof what, "dim %d, groups of %d", dim, group);
            struct problem_shape s = shape(dim, group + 5, 200, group, 131, (uint64_t)dim);
            expect_like_reference(&s, what);
            snprintf(what, sizeof what, "dim %d, dense, %d queries", dim, group);
            s = shape(dim, group, 75, 0, -1, (uint64_t)dim + 1);
            expect_like_reference(&s, what);
        }
}

static void every_number_of_keys_is_right_at_tile_borders(void)
{
    static const int keeps[] = {0, 1, 16, 33, 63, 64, 65, 128, 129, 192, 260};
    static const int groups[] = {20, 64, 100};
    for (int dim = 64; dim <= widest(); dim *= 4)
        for (int keep : keeps)
            for (int group : groups) {
                char what[64];
                snprintf(what, sizeof what, "%d keys of 260, groups of %d, dim %d", keep, group,
                         dim);
                struct problem_shape s = shape(dim, group, 260, group, keep, 2);
                expect_like_reference(&s, what);
            }
}

static void groups_of_any_size_are_right(void)
{
    static const int groups[] = {1, 33, 129, 1000};
    for (int group : groups) {
        char what[64];
        snprintf(what, sizeof what, "groups of %d", group);
        for (int dim = 64; dim <= widest(); dim *= 4) {
            struct problem_shape s = shape(dim, group == 1 ? 5 : 170, 150, group, 99, 4);
            s.heads = 3, s.keep[1] = 40, s.keep[2] = 0;
            expect_like_reference(&s, what);
        }
    }
}

/* The maximum climbs again and again, and falls. */
static void any_order_of_large_and_small_logits_is_right(void)
{
    static const double stds[] = {3, 10, 30};
    for (double std : stds) {
        char what[64];
        snprintf(what, sizeof what, "logits of standard deviation %g", std);
        for (int64_t group = 32; group <= 128; group *= 2)
            for (int dim = 64; dim <= widest(); dim *= 4) {
                struct problem_shape s = shape(dim, group, 400, group, 390, 5);
                s.logit_std = std;
                expect_like_reference(&s, what);
            }
    }
    static const double means[] = {-90, -50, 60};
    for (double mean : means) {
        char what[64];
        snprintf(what, sizeof what, "logits around %g", mean);
        struct problem_shape s = shape(64, 70, 170, 32, 77, 6);
        s.logit_mean = mean;
        expect_like_reference(&s, what);
    }
}

static void a_negative_scale_is_right(void)
{
    scale = -0.2f;
    for (int64_t group = 32; group <= 128; group *= 2)
        for (int dim = 128; dim <= widest(); dim *= 2) {
            struct problem_shape s = shape(dim, group, 150, group, 70, 7);
            expect_like_reference(&s, "scale -0.2");
        }
    scale = 0;
}

/* More keys than all of a kernel's buffers hold (6 of 128 rows, twice), and more tiles than one: a
 * buffer that is not given back, or too early, shows. */
static void buffers_that_come_round_again_are_right(void)
{
    for (int dim = 64; dim <= widest(); dim *= 2)
        for (int64_t group = 32; group <= 128; group *= 2) {
            struct problem_shape s = shape(dim, group + 64, 1900, group, 1800, 8);
            expect_like_reference(&s, "1,800 keys");
        }
}

/* Dense heads beside lists, with counts and without. */
static void a_second_run_gives_the_same_bytes(void)
{
    for (int64_t group = 32; group <= 128; group *= 2) {
        struct problem_shape s = shape(128, 333, 260, group, 100, 9);
        struct problem p, again;
        s.heads = 3, s.keep[1] = -1, s.keep[2] = 33;
        problem_new(&p, &s);
        problem_twin(&again, &p);
        run(&p, "first run");
        run(&again, "second run");
        gsl_test(!problem_same(&p, &again), "%s: groups of %d: two runs give the same bytes",
                 variant, (int)group);
        problem_free(&again);
        problem_free(&p);
    }
}

/* Groups side by side that share no key, many and all; some have none at all; and numbers of groups
 * that are no multiple of those that are united, the last one short. */
static void check_sharing(int like_before, int group, bool uneven, const char *what)
{
    struct problem_shape s = shape(group % 32 ? 64 : 128, group * 6 + 3, 333, group,
                                   uneven ? 160 : 140, (uint64_t)group);
    /* Two heads start in the same order only if they both have counts, or neither; and wgmma's sums
     * depend on how many tiles a block has had before. */
    s.heads = 1 + uneven, s.keep[1] = 70, s.like_before = like_before, s.uneven = uneven;
    expect_like_reference(&s, what);
}

static void groups_are_right_whatever_they_share(void)
{
    static const int groups[] = {7, 16, 20, 32, 50, 64};
    problem_each_sharing(groups, 6, unites(), check_sharing);
}

static void wrong_input_is_refused(void)
{
    expect_wrong_input_refused(cuda_forward_by, false);
}

static void tests(void)
{
    every_dimension_and_tile_is_right();
    every_number_of_keys_is_right_at_tile_borders();
    groups_of_any_size_are_right();
    any_order_of_large_and_small_logits_is_right();
    a_negative_scale_is_right();
    buffers_that_come_round_again_are_right();
    a_second_run_gives_the_same_bytes();
    groups_are_right_whatever_they_share();
    wrong_input_is_refused();
}

int main(int argc, char **argv)
{
    static const char *const all[] = {"mma", "wgmma", "wgmma-free", "wgmma-pairs", "wgmma-fours"};
    return variants_main(argc, argv, all, cuda_forward_by, tests);
}
