/* DSV's published runs from calibrated parts, and the page that shows them. Measured values: the
 * artifact's logs (presets/data). */
#include <gsl/gsl_test.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "validate/dsv.h"
#include "validate/report.h"

static const struct prof_kernels *h100(struct arena *a, const struct prof_net **net)
{
    struct err e = {0};
    *net = prof_net_load("h100", err_at_name("test"), a, &e);
    return prof_kernels_load("h100", err_at_name("test"), a, &e);
}

static void exp1_comes_out_within_three_percent(void)
{
    struct arena *a = arena_new();
    const struct prof_net *net;
    const struct prof_kernels *k = h100(a, &net);
    double rows = 4 * 64000,
           pairs = rows * 5120; /* S 64,000, H 4, 5,120 keys a group; log_run1 to 3 */
    gsl_test_rel(prof_sparse(k, false, rows, pairs, 64000, 128).time.value_s, 4.05e-3, 0.03,
                 "sparse forward");
    gsl_test_rel(prof_sparse(k, true, rows, pairs, 64000, 128).time.value_s, 77.4e-3, 0.03,
                 "sparse backward");
    gsl_test_rel(prof_select(k, rows / 32 * 64000).time.value_s, 5.2e-3, 0.03, "selection");
    gsl_test_rel(prof_dense_like(k, false, rows * 64000, 128).time.value_s, 18.7e-3, 0.03,
                 "dense forward");
    gsl_test_rel(prof_dense_like(k, true, rows * 64000, 128).time.value_s, 245.7e-3, 0.03,
                 "dense backward");
    arena_free(a);
}

static void runs_come_out_within_five_percent_and_their_intervals_hold(void)
{
    struct arena *a = arena_new();
    struct err e = {0};
    const struct prof_net *net;
    const struct prof_kernels *k = h100(a, &net);
    struct dsv_run *r;
    int n = 0;
    gsl_test(!dsv_runs("presets/data", net, k, &r, &n, a, &e), "%s", e.text);
    for (int i = 0; i < n; i++) {
        double sum = 0;
        for (int t = 0; t < r[i].terms; t++)
            sum += r[i].term[t].time_s;
        gsl_test_rel(sum, r[i].predicted.value_s, 1e-12, "%s: the parts add up", r[i].name);
        if (isnan(r[i].measured_s))
            continue;
        gsl_test_rel(r[i].predicted.value_s, r[i].measured_s, 0.05, "%s", r[i].name);
        gsl_test(r[i].measured_s < r[i].predicted.low_s || r[i].measured_s > r[i].predicted.high_s,
                 "%s: interval", r[i].name);
    }
    arena_free(a);
}

static long size_of(const char *folder, const char *name)
{
    char path[300];
    snprintf(path, sizeof path, "%s/%s", folder, name);
    FILE *f = fopen(path, "r");
    long size = -1;
    if (f && fseek(f, 0, SEEK_END) == 0)
        size = ftell(f);
    if (f)
        fclose(f);
    remove(path);
    return size;
}

static void the_page_is_made_from_the_tables_by_one_call(void)
{
    struct arena *a = arena_new();
    struct err e = {0};
    struct report_made made;
    char folder[] = "report_test_XXXXXX";
    gsl_test(!mkdtemp(folder), "a folder");
    gsl_test(!report_write("presets/data", folder, "test", &made, a, &e), "%s", e.text);
    gsl_test(made.lines < 20, "%d lines", made.lines);
    gsl_test(size_of(folder, "accuracy.md") < 2000 || size_of(folder, "accuracy.html") < 4000,
             "both pages");
    static const char *const plots[] = {"collectives-sizes", "collectives-other", "attention",
                                        "gemm"};
    for (int i = 0; i < 4; i++) {
        char name[64];
        snprintf(name, sizeof name, "%s.gp", plots[i]);
        gsl_test(size_of(folder, name) < 500, "%s", name);
        snprintf(name, sizeof name, "%s.svg", plots[i]);
        gsl_test(size_of(folder, name) < 1000 && made.gnuplot, "%s", name);
    }
    gsl_test(rmdir(folder) != 0, "nothing else is left");
    gsl_test(report_write("no/such/folder", ".", "test", &made, a, &e), "no tables, no page");
    arena_free(a);
}

int main(void)
{
    exp1_comes_out_within_three_percent();
    runs_come_out_within_five_percent_and_their_intervals_hold();
    the_page_is_made_from_the_tables_by_one_call();
    return gsl_test_summary();
}
