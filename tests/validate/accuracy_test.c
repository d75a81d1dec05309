/* The figures that the project promises, from the tables in presets/data by the leave-out
 * protocols. A limit here is a promise; docs/calibration.md says which promises do not hold yet. */
#include <gsl/gsl_test.h>
#include <math.h>

#include "validate/accuracy.h"

static struct accuracy_line of(const struct residuals *r, const char *protocol, const char *what,
                               bool large, struct arena *s)
{
    struct accuracy_ask ask = {.protocol = protocol, .what = what, .large_only = large};
    struct accuracy_line l = accuracy_of(r, &ask, s);
    gsl_test(l.count < 1, "%s: %d rows", protocol, l.count);
    return l;
}

static void mean_errors_hold(const struct residuals *r, struct arena *s)
{
    static const struct {
        const char *protocol, *what;
        bool large;
        double limit;
    } promises[] = {
        {"collectives: every other size left out", NULL, false, 0.045},
        {"collectives: every other size left out", NULL, true, 0.04},
        {"collectives: new generation from two anchors", NULL, false, 0.12},
        {"collectives: 4 GPUs from 2, 16 MB on", NULL, false, 0.085},
        {"collectives: 4 GPUs from 2, 16 MB on", "alltoall", false, 0.115},
        {"collectives: 8 GPUs from 2 and 4, 16 MB on", NULL, false, 0.12},
        {"collectives: 8 GPUs from 2 and 4, 16 MB on", "alltoall", false, 0.09},
        {"attention: lengths left out", NULL, true, 0.04},
        {"attention: heads left out", NULL, true, 0.04},
        {"attention: beyond 8K tokens from below", NULL, true, 0.05},
        {"attention: another GPU, one anchor left out", NULL, true, 0.06},
        {"gemm: one row left out", NULL, true, 0.045},
        {"dsv: exp2, one row left out", NULL, true, 0.03},
        {"dsv: exp1 from exp2 (no cache term)", NULL, true, 0.03},
    };
    for (size_t i = 0; i < sizeof promises / sizeof *promises; i++) {
        struct accuracy_line l =
            of(r, promises[i].protocol, promises[i].what, promises[i].large, s);
        gsl_test(l.mape > promises[i].limit, "%s: mean error %.2f%%, promised %.1f%%", l.protocol,
                 100 * l.mape, 100 * promises[i].limit);
    }
}

static void ninety_percent_intervals_hold_about_that(const struct residuals *r, struct arena *s)
{
    static const char *const protocols[] = {
        "collectives: one size left out, neighbours four octaves apart",
        "collectives: largest size left out",
        "collectives: new generation from two anchors",
        "collectives: 4 GPUs from 2, 16 MB on",
        "collectives: 4 GPUs from 2, below 16 MB",
        "collectives: several nodes, one site left out",
        "gemm: rows m left out",
        "gemm: another GPU, one anchor left out",
        "attention: lengths left out",
        "attention: heads left out",
        "attention: beyond 8K tokens from below"};
    for (size_t i = 0; i < sizeof protocols / sizeof *protocols; i++) {
        struct accuracy_line l = of(r, protocols[i], NULL, false, s);
        gsl_test((l.judged >= 20 && l.coverage > 0.96) || (l.coverage < 0.85 && l.inside < l.least),
                 "%s: %d of %d within, %d to %d by chance", protocols[i], l.inside, l.judged,
                 l.least, l.most);
    }
}

/* Binomial, 20 rows at 0.9: P(X <= 14) = 1.1 %, P(X <= 15) = 4.3 %, P(20) = 12.2 % (any table). */
static void a_true_interval_shows_this_many(struct arena *a, struct arena *s)
{
    struct residuals r = residuals_new(a);
    for (int i = 0; i < 20; i++)
        residuals_add(&r, (struct residual){.protocol = "p",
                                            .group = i < 10 ? "one" : "other",
                                            .measured_s = 1,
                                            .predicted_s = i < 5 ? 1.5 : 1.1,
                                            .what = ""});
    struct accuracy_line l = accuracy_of(&r, &(struct accuracy_ask){.protocol = "p"}, s);
    gsl_test_int(l.judged, 20, "each from the other group");
    gsl_test_int(l.inside, 15, "twice 1.1 does not hold 1.5");
    gsl_test_int(l.least, 15, "least");
    gsl_test_int(l.most, 20, "most");
}

int main(void)
{
    struct arena *a = arena_new(), *s = arena_new();
    struct accuracy_tables t;
    struct residuals r = residuals_new(a);
    struct err e = {0};
    bool ok = accuracy_tables_read("presets/data", &t, a, &e) && accuracy_run(&t, &r, a, &e);
    gsl_test(!ok, "%s", ok ? "runs" : e.text);
    if (ok) {
        mean_errors_hold(&r, s);
        ninety_percent_intervals_hold_about_that(&r, s);
    }
    a_true_interval_shows_this_many(a, s);
    arena_free(s);
    arena_free(a);
    return gsl_test_summary();
}
