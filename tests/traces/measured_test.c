/* What the planner takes from a trace equals statistics of the bitmaps it was made from. */
#include "traces/measured.h"

#include <gsl/gsl_test.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "traces/generate.h"

static char path[] = "/tmp/shardwise-measured-XXXXXX";

static struct generate_job job_of(int level)
{
    struct generate_job j = generate_default();
    struct err e = {0};
    j.group[0] = j.group[1] = j.group[2] = j.block[0] = j.block[1] = j.block[2] = 2;
    j.layers = 2;
    j.heads = 4;
    j.steps = 2;
    j.level = level;
    generate_patterns("dsv", (struct err_at){"test", 0, 0}, &j, &e);
    gsl_test(!generate_trace(&j, path, &e), "%s", e.text);
    return j;
}

static void unions_and_needs_are_those_of_the_bitmaps(void)
{
    struct generate_job j = job_of(1);
    struct arena *a = arena_new();
    struct sparsity s;
    struct err e = {0};
    gsl_test(!measured_sparsity(path, -1, 2, 4, LAYOUT_BRICKS, a, &s, &e), "%s", e.text);
    gsl_test_int(s.table.shard_count, 6, "2 to 64 shards of 64 atoms");
    gsl_test_int((int)s.model.kind, UNION_MEASURED, "measured");
    struct tiling t;
    struct atoms atoms;
    tiling_make(j.grid, j.group, j.block, a, &t, &e);
    atoms_make(&t, a, &atoms);
    struct weigh w = weigh_make(&t.block, a);
    for (int layer = 0; layer < 2; layer++)
        for (int h = 0; h < 4; h++) {
            struct mask m;
            struct head_stats head;
            generate_mask(&j, &t, layer, h, 1000, a, &m); /* the last step */
            stats_head(&t, &w, &m, a, &head);
            gsl_test_rel(sparsity_keep(&s, layer, h), head.keep, 1e-6, "keep");
            for (int i = 0; i < s.table.shard_count; i++) {
                struct layout l;
                struct layout_stats st;
                const int32_t *shard;
                const double *need;
                layout_of_atoms(&t, &atoms, LAYOUT_BRICKS, s.table.shards[i], a, &l, &shard, &e);
                stats_layout(&t, &w, &m, &l, a, &st);
                gsl_test_rel(s.table.value[(layer * 4 + h) * s.table.shard_count + i],
                             st.remote_mean, 1e-12, "union at %d", s.table.shards[i]);
                gsl_test(!measured_need(path, -1, layer, h, LAYOUT_BRICKS, s.table.shards[i], a,
                                        &need, &e),
                         "%s", e.text);
                size_t bytes =
                    sizeof(double) * (size_t)s.table.shards[i] * (size_t)s.table.shards[i];
                gsl_test(memcmp(need, st.need, bytes) != 0, "need at %d", s.table.shards[i]);
                need = sparsity_need(&s, layer, h, s.table.shards[i]);
                gsl_test(!need || memcmp(need, st.need, bytes) != 0, "and in the sparsity");
            }
        }
    arena_free(a);
}

static void the_wrong_model_and_missing_steps_are_named(void)
{
    job_of(1);
    struct arena *a = arena_new();
    struct sparsity s;
    struct err e = {0};
    gsl_test(measured_sparsity(path, -1, 32, 16, LAYOUT_SLABS, a, &s, &e), "another model");
    gsl_test(!strstr(e.text, "2 layers x 4 heads; the model has 32 x 16"), "%s", e.text);
    e = (struct err){0};
    const double *need;
    gsl_test(measured_need(path, -1, 0, 9, LAYOUT_SLABS, 4, a, &need, &e), "head 9: %s", e.text);
    e = (struct err){0};
    gsl_test(measured_need(path, -1, 5, 0, LAYOUT_SLABS, 4, a, &need, &e), "layer 5: %s", e.text);
    arena_free(a);
}

static void a_summary_keeps_the_union_model(void)
{
    struct generate_job j = job_of(0);
    struct arena *a = arena_new();
    struct sparsity s;
    struct err e = {0};
    gsl_test(!measured_sparsity(path, -1, 2, 4, LAYOUT_SLABS, a, &s, &e), "%s", e.text);
    gsl_test_int((int)s.model.kind, UNION_FIELD, "level 0 has no unions");
    FILE *f = fopen(path, "w");
    gsl_test(!generate_summary(&j, f, &e), "%s", e.text);
    fclose(f);
    struct sparsity csv;
    char name[64];
    snprintf(name, sizeof name, "%s.csv", path);
    rename(path, name);
    gsl_test(!measured_sparsity(name, -1, 2, 4, LAYOUT_SLABS, a, &csv, &e), "%s", e.text);
    for (int i = 0; i < 8; i++)
        gsl_test_rel(csv.keep[i], s.keep[i], 1e-5, "the same keep from CSV and HDF5");
    unlink(name);
    arena_free(a);
}

int main(void)
{
    close(mkstemp(path));
    unions_and_needs_are_those_of_the_bitmaps();
    the_wrong_model_and_missing_steps_are_named();
    a_summary_keeps_the_union_model();
    unlink(path);
    return gsl_test_summary();
}
