/* The generator's dsv preset against DSV's published statistics, all at once, and the union table
 * made with another program (numpy, three seeds) from the same law. */
#include "traces/pattern.h"

#include <gsl/gsl_test.h>
#include <math.h>
#include <stdio.h>

#include "traces/stats.h"

enum { SIDE = 16, TOKENS = SIDE * SIDE * SIDE, SEEDS = 2 };
static const struct err_at here = {"test", 0, 0};

struct published {
    double concentrated; /* queries with 90% of the mass in the top 10% of keys */
    double near, far;    /* critical keys within L2 radius 5, beyond 10 */
    double overlap, keep;
};

static void distances(const struct mask *m, struct published *p)
{
    double near = 0, far = 0, kept = 0, concentrated = 0;
    for (int q = 0; q < TOKENS; q++) {
        int mine = 0;
        for (int k = 0; k < TOKENS; k++) {
            if (!bits_get(mask_row(m, q), k))
                continue;
            int t = q / 256 - k / 256, h = q / 16 % 16 - k / 16 % 16, w = q % 16 - k % 16,
                d = t * t + h * h + w * w;
            near += d <= 25;
            far += d > 100;
            mine++;
        }
        kept += mine;
        concentrated += mine <= TOKENS / 10;
    }
    p->near += near / kept / SEEDS;
    p->far += far / kept / SEEDS;
    p->concentrated += concentrated / TOKENS / SEEDS;
}

static void the_dsv_preset_meets_all_published_statistics_at_once(void)
{
    struct published p = {0};
    struct pattern pattern;
    struct err e = {0};
    gsl_test(!pattern_parse("dsv", here, &pattern, &e), "%s", e.text);
    for (int seed = 0; seed < SEEDS; seed++) {
        struct arena *a = arena_new();
        struct tiling t;
        struct mask m;
        struct head_stats h;
        tiling_make((struct grid){SIDE, SIDE, SIDE}, (int[3]){1, 1, 1}, (int[3]){1, 1, 1}, a, &t,
                    &e);
        pattern_mask(&pattern, &t, (struct field_key){(uint64_t)seed, 0, 0, 0}, NAN, a, &m);
        struct weigh w = weigh_make(&t.block, a);
        stats_head(&t, &w, &m, a, &h);
        distances(&m, &p);
        p.overlap += h.overlap / SEEDS;
        p.keep += h.keep / SEEDS;
        arena_free(a);
    }
    printf("concentrated %.3f near %.3f far %.3f overlap %.3f keep %.3f\n", p.concentrated, p.near,
           p.far, p.overlap, p.keep);
    /* DSV: 0.868 (block 21) and 0.952 (block 6); 0.151; 0.485; 0.801; 5-10%. Spreads:
     * docs/known-answers.md. */
    gsl_test(p.concentrated < 0.84 || p.concentrated > 0.96, "mass in the top 10%%: %.3f",
             p.concentrated);
    gsl_test_abs(p.near, 0.151, 0.04, "critical keys within radius 5");
    gsl_test_abs(p.far, 0.485, 0.065, "critical keys beyond 10");
    gsl_test_abs(p.overlap, 0.801, 0.01, "overlap in a 2x2x2 cube");
    gsl_test(p.keep < 0.05 || p.keep > 0.10, "keep %.3f", p.keep);
}

/* Table of docs/known-answers.md at 16^3, length 5.5: remote need at 5, 10 and 20% keep. The seeds
 * differ, so 0.1 is the bar. */
static void remote_needs_are_those_of_the_table(void)
{
    const double table[2][2][2] = {{{.44, .85}, {.36, .80}}, {{.42, .84}, {.26, .66}}};
    const double keep[2] = {0.05, 0.2};
    struct err e = {0};
    for (int k = 0; k < 2; k++) {
        double got[2][2] = {{0}};
        for (int seed = 0; seed < 2; seed++) {
            struct arena *a = arena_new();
            struct tiling t;
            struct mask m;
            struct pattern pattern;
            pattern_parse("field:select=topk,lq=5.5,rho=0.13", here, &pattern, &e);
            tiling_make((struct grid){SIDE, SIDE, SIDE}, (int[3]){1, 1, 1}, (int[3]){1, 1, 1}, a,
                        &t, &e);
            pattern_mask(&pattern, &t, (struct field_key){(uint64_t)seed, 0, 0, 0}, keep[k], a, &m);
            struct weigh w = weigh_make(&t.block, a);
            for (int kind = 0; kind < 2; kind++)
                for (int n = 0; n < 2; n++) {
                    struct layout l;
                    struct layout_stats s;
                    layout_make(&t, kind == 0 ? LAYOUT_SLABS : LAYOUT_BRICKS, 4 << n, a, &l, &e);
                    stats_layout(&t, &w, &m, &l, a, &s);
                    got[kind][n] += s.remote_mean / 2;
                }
            arena_free(a);
        }
        for (int kind = 0; kind < 2; kind++)
            for (int n = 0; n < 2; n++)
                gsl_test_abs(got[kind][n], table[kind][n][k], 0.1, "%s, N=%d, keep %g",
                             kind == 0 ? "slabs" : "bricks", 4 << n, keep[k]);
    }
}

int main(void)
{
    the_dsv_preset_meets_all_published_statistics_at_once();
    remote_needs_are_those_of_the_table();
    return gsl_test_summary();
}
