/* Unions and where keeps come from. KAnn: docs/known-answers.md. */
#include <gsl/gsl_randist.h>
#include <gsl/gsl_rng.h>
#include <gsl/gsl_sf_gamma.h>
#include <gsl/gsl_test.h>
#include <math.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "tests/model/fixture.h"

static struct arena *arena;

static void unions_have_their_known_answers(void)
{
    gsl_test_rel(64000 * union_independent(3072.0 / 64000, 3), 8780.71, 1e-6, "KA07a three draws");
    gsl_test_rel(union_independent(0.08, 500), 1, 1e-12, "KA07b 500 independent groups");
    gsl_test_abs(union_markov(0.08, 500, 0.8, 0.08), 0.999855, 1e-6, "KA07c");
    gsl_test_abs(union_markov(0.08, 500, 0.3, 0.3), 0.738934, 1e-6, "KA07d");
    gsl_test_abs(union_markov(0.08, 500, 0.8, 0.4), 0.51623, 1e-5, "KA07e");
    gsl_test_rel(union_window(32, 7, 4), 0.4375, 1e-12, "KA08 window of 7 of 32 frames, 4 slabs");
}

/* rho = omega (c = 0): 1 - B(a, b+G)/B(a, b), docs/sparsity.md. */
static void the_quadrature_equals_the_beta_closed_form(void)
{
    static const double keep[] = {0.001, 0.02, 0.08, 0.3, 0.9}, extra[] = {1e-4, 0.01, 0.3, 0.9};
    static const double groups[] = {1, 2, 31, 500, 20000};
    for (int i = 0; i < 5; i++)
        for (int j = 0; j < 4; j++)
            for (int k = 0; k < 5; k++) {
                double omega = keep[i] + extra[j] * (1 - keep[i]) * 0.999,
                       nu = (1 - omega) / (omega - keep[i]);
                double a = keep[i] * nu, b = (1 - keep[i]) * nu;
                double want = -expm1(gsl_sf_lnbeta(a, b + groups[k]) - gsl_sf_lnbeta(a, b));
                gsl_test_abs(union_markov(keep[i], groups[k], omega, omega), want, 2e-6,
                             "keep %g, omega %g, %g groups", keep[i], omega, groups[k]);
            }
}

/* The model's own definition, drawn: popularity from the Beta, membership a two-state chain over
 * the groups. */
static void the_model_equals_its_simulation(void)
{
    gsl_rng *r = gsl_rng_alloc(gsl_rng_mt19937);
    double keep = 0.1, rho = 0.8, omega = 0.3, nu = (1 - omega) / (omega - keep),
           c = (rho - omega) / (1 - omega);
    int hit = 0, keys = 20000, groups = 60;
    for (int i = 0; i < keys; i++) {
        double p = gsl_ran_beta(r, keep * nu, (1 - keep) * nu);
        bool in = gsl_rng_uniform(r) < p, any = in;
        for (int g = 1; g < groups && !any; g++) {
            if (gsl_rng_uniform(r) >= c)
                in = gsl_rng_uniform(r) < p;
            any = in;
        }
        hit += any;
    }
    double u = union_markov(keep, groups, rho, omega);
    gsl_test_abs((double)hit / keys, u, 4 * sqrt(u * (1 - u) / keys),
                 "20000 keys drawn, within four standard errors");
    gsl_rng_free(r);
}

static void unions_grow_with_groups_and_keeps_and_shrink_with_overlap(void)
{
    gsl_test(union_markov(0.08, 501, 0.8, 0.4) < union_markov(0.08, 500, 0.8, 0.4), "groups");
    gsl_test(union_markov(0.09, 500, 0.8, 0.4) < union_markov(0.08, 500, 0.8, 0.4), "keep");
    gsl_test(union_markov(0.08, 500, 0.9, 0.4) > union_markov(0.08, 500, 0.8, 0.4),
             "overlap of neighbours");
    gsl_test(union_markov(0.08, 500, 0.8, 0.5) > union_markov(0.08, 500, 0.8, 0.4),
             "overlap far apart");
    double e[3] = {4, 32, 32}, wide[3] = {8, 32, 32}, l[3] = {5.5, 5.5, 5.5};
    gsl_test(union_field(0.08, wide, l) < union_field(0.08, e, l), "extent");
}

/* docs/known-answers.md, table of another program: 5, 10, 20% keep in a 32^3 grid at l = 5.5, slabs
 * of 8 ranks: .72 .89 .98; the closed form's own rms error is 0.07 and its worst 0.17. */
static void the_field_form_meets_the_generator(void)
{
    static const double keep[3] = {0.05, 0.1, 0.2}, want[3] = {0.72, 0.89, 0.98};
    double extent[3] = {4, 32, 32}, length[3] = {5.5, 5.5, 5.5};
    for (int i = 0; i < 3; i++)
        gsl_test_abs(union_field(keep[i], extent, length), want[i], 0.17, "keep %g", keep[i]);
}

static void union_models_are_read_and_written(void)
{
    static const char *const good[] = {
        "field:length=5.5", "field:share=0.34", "markov:rho=0.8,omega=0.4",
        "independent",      "fixed:0.3",        "full"};
    static const char *const bad[] = {
        "markov", "markov:rho=0.4,omega=0.8", "fixed:2",   "fixed:nan", "fields",
        "full:1", "field:length=-1",          "fixed:0.3x"};
    struct union_model m;
    char text[64];
    for (int i = 0; i < 6; i++) {
        struct err e = {0};
        gsl_test(!union_parse(good[i], err_at_name("--union"), &m, &e), "%s: %s", good[i], e.text);
        gsl_test(strcmp(union_text(&m, text, sizeof text), good[i]) != 0, "%s comes back as %s",
                 good[i], text);
    }
    for (int i = 0; i < 8; i++) {
        struct err e = {0};
        gsl_test(union_parse(bad[i], err_at_name("--union"), &m, &e) || e.code != ERR_INPUT,
                 "%s is refused", bad[i]);
    }
}

static void bad_keeps_are_refused(void)
{
    struct sparsity s;
    double v[3] = {0.9, 0.5, NAN};
    struct err e = {0};
    gsl_test(sparsity_of_heads(v, 3, 2, 3, err_at_name("--head-sparsity"), arena, &s, &e), "NaN");
    gsl_test(strstr(e.text, "head 2") == NULL, "the message names the head: %s", e.text);
    v[2] = 1;
    gsl_test(sparsity_of_heads(v, 3, 2, 3, err_at_name("x"), arena, &s, &(struct err){0}),
             "a head that keeps nothing");
    gsl_test(sparsity_of_heads(v, 3, 2, 4, err_at_name("x"), arena, &s, &(struct err){0}),
             "wrong length");
    gsl_test(sparsity_uniform(0, 2, 4, arena, &s, &(struct err){0}), "keep 0");
    gsl_test(sparsity_uniform(1.5, 2, 4, arena, &s, &(struct err){0}), "keep above 1");
}

static bool load_text(const char *text, int blocks, int heads, struct sparsity *s, struct err *e)
{
    char path[] = "sparsity_test_XXXXXX.csv";
    int fd = mkstemps(path, 4);
    FILE *f = fdopen(fd, "w");
    char named[64];
    snprintf(named, sizeof named, "./%s", path);
    fputs(text, f);
    fclose(f);
    bool ok = sparsity_load(named, -1, blocks, heads, err_at_name("--trace"), arena, s, e);
    unlink(path);
    return ok;
}

static void keeps_come_from_csv(void)
{
    struct sparsity s;
    struct err e = {0};
    gsl_test(!load_text("block,head,keep\n0,0,0.1\n0,1,0.2\n", 1, 2, &s, &e), "one row a head: %s",
             e.text);
    gsl_test_rel(sparsity_keep(&s, 0, 1), 0.2, 1e-12, "head 1");
    gsl_test(!load_text("step,block,head,keep\n0,0,0,0.9\n5,0,0,0.1\n", 1, 1, &s, &(struct err){0}),
             "two steps");
    gsl_test_rel(sparsity_keep(&s, 0, 0), 0.1, 1e-12, "the last step is taken");
    gsl_test(!load_text("layer, head, sparsity\r\n0, 0, 95%\r\n0, 1, 0.75\r\n", 1, 2, &s, &e),
             "by layer and sparsity: %s", e.text);
    gsl_test_rel(sparsity_keep(&s, 0, 0), 0.05, 1e-12, "95%% sparsity");
    gsl_test_rel(sparsity_keep(&s, 0, 1), 0.25, 1e-12, "sparsity 0.75");
    static const struct {
        const char *text, *says;
    } bad[] = {
        {"block,head,keep\n0,0,0.1\n", "head 1 is missing"},
        {"block,head,keep,sparsity\n0,0,0.1,0.9\n", "both"},
        {"block,head,sparsity\n0,0,1\n", "below 1"},
        {"block,head,keep\n0,0,5.7\n", "percent"},
        {"block,head,keep\n1,0,0.1\n", "1 blocks are counted from 0"},
        {"block;head;keep\n0;0;0.1\n", "separated by ';'"},
        {"block,head,keep\n0,0,0.1\n0,0,0.1\n", "twice"},
        {"block,head,keep\n0,5,0.1\n", "from 0 to 1"},
        {"block,head,keep\n0,0,nan\n", "finite"},
        {"block,head,keep\n0,0\n", "2 fields"},
        {"", "empty"},
        {"block,head\n0,0\n", "no column 'keep'"},
        {"block,head,keep\n0,0,0\n", "above 0"},
        {"block,head,keep\n0,0,\"0.1\n", "not closed"},
    };
    for (size_t i = 0; i < sizeof bad / sizeof bad[0]; i++) {
        e = (struct err){0};
        gsl_test(load_text(bad[i].text, 1, 2, &s, &e), "row %zu is refused", i);
        gsl_test(strstr(e.text, bad[i].says) == NULL, "'%s' says '%s'", e.text, bad[i].says);
    }
}

/* Block 0 of the digitised WebVid profile: median .9357, quartiles .9048 and .9543, whiskers .8925
 * and .979, one outlier .8430, 16 heads. numpy's quantiles of what is placed must be the plot's
 * again. */
static void a_box_plot_becomes_heads_with_its_quantiles(void)
{
    struct sparsity s;
    struct err e = {0};
    gsl_test(!load_text("block,heads,median,q1,q3,whisker_lo,whisker_hi,outliers\n"
                        "0,16,0.9357,0.9048,0.9543,0.8925,0.979,0.8430\n",
                        1, 16, &s, &e),
             "%s", e.text);
    double v[16];
    for (int h = 0; h < 16; h++) {
        int at = h;
        double x = 1 - sparsity_keep(&s, 0, h);
        for (; at > 0 && v[at - 1] > x; at--)
            v[at] = v[at - 1];
        v[at] = x;
    }
    gsl_test_rel(v[0], 0.8430, 1e-12, "the outlier");
    gsl_test_rel(v[1], 0.8925, 1e-12, "the lower whisker");
    gsl_test_rel(v[15], 0.979, 1e-12, "the upper whisker");
    gsl_test_rel(v[3] + 0.75 * (v[4] - v[3]), 0.9048, 2e-3, "first quartile");
    gsl_test_rel(0.5 * (v[7] + v[8]), 0.9357, 2e-3, "median");
    gsl_test_rel(v[11] + 0.25 * (v[12] - v[11]), 0.9543, 2e-3, "third quartile");
}

static void measured_unions_are_looked_up(void)
{
    static const int shards[2] = {2, 8};
    static const double value[2] = {0.6, 0.2}, keep[1] = {0.05};
    struct sparsity s = {.blocks = 1,
                         .heads = 1,
                         .keep = keep,
                         .model.kind = UNION_MEASURED,
                         .table = {2, shards, value}};
    struct grid g = {0};
    gsl_test_rel(sparsity_union(&s, 0, 0, 1000, g, 2, 8), 0.6, 1e-12, "measured");
    gsl_test_rel(sparsity_union(&s, 0, 0, 1000, g, 4, 8), 0.4, 1e-12, "half way in the logarithm");
    gsl_test_rel(sparsity_union(&s, 0, 0, 1000, g, 16, 8), 0.2, 1e-12,
                 "finer than measured: no larger");
}

int main(void)
{
    arena = arena_new();
    unions_have_their_known_answers();
    the_quadrature_equals_the_beta_closed_form();
    the_model_equals_its_simulation();
    unions_grow_with_groups_and_keeps_and_shrink_with_overlap();
    the_field_form_meets_the_generator();
    union_models_are_read_and_written();
    bad_keeps_are_refused();
    keeps_come_from_csv();
    a_box_plot_becomes_heads_with_its_quantiles();
    measured_unions_are_looked_up();
    arena_free(arena);
    return gsl_test_summary();
}
