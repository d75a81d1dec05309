/* The tables and plots of a trace: rows equal statistics of the bitmaps, level 1 equals level 2 where both are exact, and
 * gnuplot (when there is one) draws every script. */
#include "traces/report.h"

#include <gsl/gsl_test.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "traces/generate.h"

static char folder[] = "/tmp/shardwise-report-XXXXXX";
static char path[64];

static struct trace_reader *trace_of(int level, const char *pattern)
{
    struct generate_job j = generate_default();
    struct err e = {0};
    j.grid = (struct grid){16, 16, 16};
    j.group[0] = j.group[1] = j.group[2] = j.block[0] = j.block[1] = j.block[2] = 2;
    j.layers = 2;
    j.heads = 4;
    j.steps = 2;
    j.level = level;
    gsl_test(!generate_patterns(pattern, (struct err_at){"test", 0, 0}, &j, &e) ||
                 !generate_trace(&j, path, &e),
             "%s", e.text);
    struct trace_reader *r = trace_open(path, &e);
    gsl_test(!r, "%s", e.text);
    return r;
}

static void atoms_and_bitmaps_report_the_same_unions(void)
{
    struct report_union full[LAYOUT_KINDS * REPORT_SIZES], atoms[LAYOUT_KINDS * REPORT_SIZES];
    struct err e = {0};
    int n_full, n_atoms, shared = 0;
    struct trace_reader *r = trace_of(2, "dsv");
    gsl_test(!report_unions(r, (struct report_range){-1, -1}, full, &n_full, &e), "%s", e.text);
    trace_close(r);
    r = trace_of(1, "dsv");
    gsl_test(!report_unions(r, (struct report_range){-1, -1}, atoms, &n_atoms, &e), "%s", e.text);
    trace_close(r);
    for (int i = 0; i < n_full; i++)
        for (int k = 0; k < n_atoms; k++)
            if (full[i].kind == atoms[k].kind && full[i].shards == atoms[k].shards &&
                full[i].shards <= 8 && full[i].kind != LAYOUT_HILBERT) {
                gsl_test_rel(atoms[k].remote_mean, full[i].remote_mean, 1e-9, "%s of %d",
                             layout_names[full[i].kind], full[i].shards);
                shared++;
            }
    gsl_test_int(shared, 6, "slabs and bricks of 2, 4 and 8");
    gsl_test_int(full[0].heads, 16, "2 steps x 2 layers x 4 heads");
}

/* A clipped window of 4 frames seen from groups of 2 frames: with 2 slabs of 8 frames the frames x - 2 .. x + 1 make
 * shard 0 see 0 .. 8 and shard 1 see 6 .. 15; in blocks of 2 frames that is 10 of 16 for both. */
static void a_window_reports_its_exact_union(void)
{
    struct report_union rows[LAYOUT_KINDS * REPORT_SIZES];
    struct err e = {0};
    int n;
    struct trace_reader *r = trace_of(2, "window:t=4,h=16,w=16");
    gsl_test(!report_unions(r, (struct report_range){0, 1}, rows, &n, &e), "%s", e.text);
    gsl_test_int(rows[0].heads, 4, "one record of 4 heads");
    for (int i = 0; i < n; i++)
        if (rows[i].kind == LAYOUT_SLABS && rows[i].shards == 2)
            gsl_test_rel(rows[i].union_mean, 10 / 16.0, 1e-12, "two slabs");
    for (int i = 1; i < n; i++)
        if (rows[i].kind == LAYOUT_SLABS && rows[i - 1].kind == LAYOUT_SLABS)
            gsl_test(rows[i].union_mean > rows[i - 1].union_mean + 1e-12,
                     "finer shards need no more: %d", rows[i].shards);
    trace_close(r);
}

static void every_plot_is_drawn_by_gnuplot(void)
{
    struct report_union rows[LAYOUT_KINDS * REPORT_SIZES];
    const double need[4] = {1, 0.5, 0.25, 1};
    struct err e = {0};
    char command[256], script[96];
    int n;
    struct trace_reader *r = trace_of(1, "dsv");
    gsl_test(!report_unions(r, (struct report_range){-1, -1}, rows, &n, &e), "%s", e.text);
    snprintf(script, sizeof script, "%s/all.gp", folder);
    FILE *f = fopen(script, "w");
    gsl_test(!report_plot_blocks(r, (struct report_range){0, -1}, f, &e), "%s", e.text);
    fprintf(f, "reset\n");
    gsl_test(!report_plot_heads(r, 1, f, &e), "%s", e.text);
    fprintf(f, "reset\n");
    report_plot_unions(rows, n, f);
    fprintf(f, "reset\n");
    report_plot_need(need, 2, f);
    fclose(f);
    trace_close(r);
    if (system("command -v gnuplot >/dev/null 2>&1") == 0) {
        snprintf(command, sizeof command,
                 "cd %s && gnuplot all.gp 2>log && test -s keep-blocks.svg -a -s keep-heads.svg -a "
                 "-s union.svg -a -s need.svg && ! test -s log",
                 folder);
        gsl_test(system(command) != 0, "gnuplot draws four plots without a word");
    }
    snprintf(command, sizeof command, "cd %s && rm -f *.svg log all.gp", folder);
    gsl_test(system(command) != 0, "clean");
}

static void tables_have_a_row_a_record_and_a_head(void)
{
    struct arena *a = arena_new();
    struct err e = {0};
    struct table *t;
    struct report_union rows[LAYOUT_KINDS * REPORT_SIZES];
    int n;
    struct trace_reader *r = trace_of(2, "dsv");
    gsl_test(!report_keep(r, (struct report_range){-1, 1}, 4, NULL, a, &t, &e), "%s", e.text);
    gsl_test_int(table_rows(t), 2, "two steps of layer 1");
    gsl_test(!report_heads(r, (struct report_range){1000, -1}, a, &t, &e), "%s", e.text);
    gsl_test_int(table_rows(t), 8, "two layers of four heads");
    gsl_test(!report_unions(r, (struct report_range){-1, -1}, rows, &n, &e), "%s", e.text);
    gsl_test_int(table_rows(report_union_table(rows, n, a)), n, "a row a layout");
    gsl_test_int(table_rows(report_fits(rows, n, 512, a)), 6, "two models for three layouts");
    trace_close(r);
    arena_free(a);
}

static void level_zero_has_no_unions(void)
{
    struct report_union rows[LAYOUT_KINDS * REPORT_SIZES];
    struct err e = {0};
    int n;
    struct trace_reader *r = trace_of(0, "dsv");
    gsl_test(report_unions(r, (struct report_range){-1, -1}, rows, &n, &e) ||
                 !strstr(e.text, "level 1"),
             "%s", e.text);
    trace_close(r);
}

int main(void)
{
    if (!mkdtemp(folder))
        return 1;
    snprintf(path, sizeof path, "%s/t.h5", folder);
    atoms_and_bitmaps_report_the_same_unions();
    a_window_reports_its_exact_union();
    every_plot_is_drawn_by_gnuplot();
    tables_have_a_row_a_record_and_a_head();
    level_zero_has_no_unions();
    unlink(path);
    rmdir(folder);
    return gsl_test_summary();
}
