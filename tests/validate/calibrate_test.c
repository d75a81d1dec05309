/* From logs and tables to a profile that loads again. */
#include <gsl/gsl_test.h>
#include <math.h>
#include <stdio.h>
#include <string.h>

#include "validate/calibrate.h"
#include "validate/profile_write.h"

static const char table_path[] = "calibrate_test.csv", profile_path[] = "./calibrate_test.yaml";

static void table(const char *text)
{
    FILE *f = fopen(table_path, "w");
    fputs(text, f);
    fclose(f);
}

static void a_log_becomes_a_profile_that_loads_and_answers_with_its_own_points(void)
{
    struct arena *a = arena_new();
    static const char *const files[] = {"tests/validate/logs/new_8gpu.log", NULL};
    struct calibrate_options o = {.files = files, .name = "ours", .relative = "h100", .nvls = true};
    struct calibrated c;
    struct err e = {0};
    gsl_test(!calibrate(&o, &c, a, &e), "%s", e.text);
    gsl_test_int(c.points.count, 3, "points");
    FILE *f = fopen(profile_path, "w");
    profile_write_net(&c.network, "test", "test", f);
    fclose(f);
    const struct prof_net *p = prof_net_load(profile_path, err_at_name("test"), a, &e);
    gsl_test(!p, "%s", p ? "loads" : e.text);
    struct coll_query q = {
        .op = COLL_ALL_REDUCE, .type = COLL_HALF, .bytes = 16777216, .gpus = 8, .nodes = 1};
    if (p)
        gsl_test_rel(prof_collective(p, &q).time.value_s, 122.28e-6, 0.01,
                     "the last row of the log");
    remove(profile_path);
    arena_free(a);
}

static void one_wild_row_is_named_an_outlier(void)
{
    struct arena *a = arena_new();
    static const char *const files[] = {table_path, NULL};
    char text[8192] = "gpu,op,n_gpus,size_bytes,lat_us\n";
    static const char *const ops[] = {"all_gather", "reduce_scatter", "all_reduce", "alltoall"};
    for (int op = 0; op < 4; op++)
        for (int i = 0; i < 12; i++) {
            double bytes = 1024 * pow(4, i), us = 10 + bytes / 200e3;
            if (op == 2 && i == 8)
                us *= 1.9;
            sprintf(text + strlen(text), "x,%s,8,%.0f,%.6f\n", ops[op], bytes, us);
        }
    table(text);
    struct calibrate_options o = {.files = files, .name = "x"};
    struct calibrated c;
    struct err e = {0};
    gsl_test(!calibrate(&o, &c, a, &e), "%s", e.text);
    gsl_test_int(c.outlier[2 * 12 + 8], 1, "the row");
    int outliers = 0;
    for (int i = 0; i < c.points.count; i++)
        outliers += c.outlier[i];
    gsl_test(outliers > 3, "%d outliers: the row and at most its neighbours", outliers);
    remove(table_path);
    arena_free(a);
}

static void what_cannot_make_a_profile_is_refused(void)
{
    static const char *const bad[][2] = {
        {"gpu,op,n_gpus,size_bytes,lat_us\nx,alltoall,8,1024,5\n", "1 size make no curve"},
        {"gpu,op,n_gpus,size_bytes,lat_us\nx,alltoall,8,1024,5\ny,alltoall,8,1024,5\n", "--gpu"},
        {"gpu,op,n_gpus,size_bytes,lat_us\nx,alltoall,8,1024,5\nx,alltoall,8,2048,5\nx,alltoall,8,"
         "4096,6\n",
         "no all_gather"},
        {"gpu,op,n_gpus,size_bytes,lat_us\n", "no usable row"},
        {"gpu,m,n,k,lat_us\nx,1024,1024,1024,5\n", "a fit needs 8"},
    };
    static const char *const files[] = {table_path, NULL};
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
        struct arena *a = arena_new();
        struct calibrate_options o = {.files = files, .name = "x", .sms = 132};
        struct calibrated c;
        struct err e = {0};
        table(bad[i][0]);
        gsl_test(calibrate(&o, &c, a, &e), "table %zu", i);
        gsl_test(e.code != ERR_INPUT || !strstr(e.text, bad[i][1]), "%s", e.text);
        arena_free(a);
    }
    remove(table_path);
}

int main(void)
{
    a_log_becomes_a_profile_that_loads_and_answers_with_its_own_points();
    one_wild_row_is_named_an_outlier();
    what_cannot_make_a_profile_is_refused();
    return gsl_test_summary();
}
