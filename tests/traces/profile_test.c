/* Keep over depth and training against DSV's published numbers. */
#include "traces/profile.h"

#include <gsl/gsl_test.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "traces/stats.h"

static const struct err_at here = {"test", 0, 0};

static struct profile parse(const char *text, struct arena *a)
{
    struct profile p;
    struct err e = {0};
    gsl_test(!profile_parse(text, here, a, &p, &e), "'%s': %s", text, e.text);
    return p;
}

static double median_sparsity(const struct profile *p, int layer, int64_t step)
{
    enum { HEADS = 401 };
    double s[HEADS];
    for (int h = 0; h < HEADS; h++)
        s[h] = 1 - profile_keep(p, layer, 32, h, HEADS, step, 1);
    qsort(s, HEADS, sizeof *s, stats_double_order);
    return s[HEADS / 2];
}

static void dsv_medians_are_the_published_ones(void)
{
    struct arena *a = arena_new();
    struct profile p = parse("dsv", a);
    gsl_test_abs(median_sparsity(&p, 3, 50000), 0.81, 0.02, "at 50k, DSV 2502.07590");
    gsl_test_abs(median_sparsity(&p, 3, 300000), 0.92, 0.02, "at 300k");
    gsl_test_abs(median_sparsity(&p, 3, 0), 0.45, 0.05, "at the start");
    arena_free(a);
}

/* The digitised box plots: block 0 median 0.936, block 18 0.763, block 24 0.417, block 31 0.299 (error 0.008). */
static void webvid_passes_through_its_measured_medians(void)
{
    struct arena *a = arena_new();
    struct profile p = parse("webvid:noise=0", a);
    gsl_test_abs(median_sparsity(&p, 0, 28000), 0.9357, 0.02, "block 0");
    gsl_test_abs(median_sparsity(&p, 18, 28000), 0.7627, 0.02, "block 18");
    gsl_test_abs(median_sparsity(&p, 24, 28000), 0.4166, 0.02, "block 24");
    gsl_test_abs(median_sparsity(&p, 31, 28000), 0.2991, 0.02, "block 31");
    gsl_test(median_sparsity(&p, 22, 4000) >= median_sparsity(&p, 22, 250000),
             "block 22 grows sparser");
    arena_free(a);
}

static void videogen_has_dense_ends(void)
{
    struct arena *a = arena_new();
    struct profile p = parse("videogen:noise=0", a);
    gsl_test_abs(median_sparsity(&p, 0, 300000), 0.0116, 0.002, "block 0 is dense");
    gsl_test_abs(median_sparsity(&p, 8, 300000), 0.9883, 0.002, "block 8");
    gsl_test_abs(median_sparsity(&p, 31, 300000), 0.0211, 0.002, "block 31 is dense");
    arena_free(a);
}

static void schedules_do_what_they_say(void)
{
    struct arena *a = arena_new();
    struct profile p = parse("anneal:start=1,end=0.1,from=1000,to=2000", a);
    gsl_test_rel(profile_keep(&p, 0, 1, 0, 1, 0, 0), 1, 1e-12, "before");
    gsl_test_rel(profile_keep(&p, 0, 1, 0, 1, 1500, 0), 0.55, 1e-12, "halfway");
    gsl_test_rel(profile_keep(&p, 0, 1, 0, 1, 9000, 0), 0.1, 1e-12, "after");
    p = parse("levels:keep=0.2", a);
    gsl_test_rel(profile_keep(&p, 0, 1, 0, 3, 0, 0), 0.1, 1e-12, "AdaSpa: (1+s)/2 = 0.9");
    gsl_test_rel(profile_keep(&p, 0, 1, 1, 3, 0, 0), 0.2, 1e-12, "s = 0.8");
    gsl_test_rel(profile_keep(&p, 0, 1, 2, 3, 0, 0), 0.3, 1e-12, "(3s-1)/2 = 0.7");
    p = parse("own", a);
    gsl_test(!isnan(profile_keep(&p, 0, 1, 0, 1, 0, 0)), "own leaves it to the pattern");
    arena_free(a);
}

static void wrong_profiles_are_refused(void)
{
    const char *wrong[] = {"dsw", "constant:keep=0", "constant:keep", "anneal:from=5,to=5",
                           "constant:kept=1"};
    struct arena *a = arena_new();
    for (int i = 0; i < 5; i++) {
        struct profile p;
        struct err e = {0};
        gsl_test(profile_parse(wrong[i], here, a, &p, &e) || e.code != ERR_INPUT, "'%s': %s",
                 wrong[i], e.text);
    }
    arena_free(a);
}

int main(void)
{
    dsv_medians_are_the_published_ones();
    webvid_passes_through_its_measured_medians();
    videogen_has_dense_ends();
    schedules_do_what_they_say();
    wrong_profiles_are_refused();
    return gsl_test_summary();
}
