/* Predictions beside measurements: every row of a user's table gets an answer or an empty one. */
#include <gsl/gsl_test.h>
#include <stdio.h>
#include <string.h>

#include "validate/predict_table.h"

static const char path[] = "predict_table_test.csv";

static bool run(const char *text, char *out, size_t size, struct table_scores *s, struct err *e)
{
    struct arena *a = arena_new();
    FILE *f = fopen(path, "w"), *to = fmemopen(out, size, "w");
    fputs(text, f);
    fclose(f);
    bool ok = predict_table(path, NULL, to, s, a, e);
    fclose(to);
    remove(path);
    arena_free(a);
    return ok;
}

static void rows_keep_their_columns_and_gain_eight(void)
{
    char out[4096] = "";
    struct table_scores s;
    struct err e = {0};
    gsl_test(
        !run("gpu,op,n_gpus,size_bytes,lat_us,note\nh100_sxm,alltoall,8,268435456,762.66,\"a, b\"\n"
             "h100_sxm,broadcast,8,1024,5,\nh100_sxm,alltoall,8,100000000,300,far from it\n",
             out, sizeof out, &s, &e),
        "%s", e.text);
    gsl_test(strncmp(out,
                     "gpu,op,n_gpus,size_bytes,lat_us,note,predicted_us,low_us,high_us,error,class,"
                     "in_range,regime,profile\n",
                     98) != 0,
             "header: %s", out);
    gsl_test(!strstr(out, "268435456,762.66,\"a, b\",762.66,"), "a measured size comes back: %s",
             out);
    gsl_test(!strstr(out, "broadcast,8,1024,5,,,,,,,,,\n"), "no model, no answer: %s", out);
    gsl_test_int(s.predicted, 2, "answered");
    gsl_test_int(s.skipped, 1, "not answered");
    gsl_test_int(s.class[PROF_POINT].rows, 1,
                 "a fitted row is told apart: it says nothing about new rows");
    gsl_test_int(s.class[PROF_INSIDE].rows, 1, "from one between points");
}

static void a_row_without_an_answer_says_why(void)
{
    char out[1024];
    struct table_scores s;
    struct err e = {0};
    gsl_test(!run("\xef\xbb\xbfgpu,op,n_gpus,size_bytes,lat_us\nh100,alltoall,8,1024,5\n"
                  "mi300x,alltoall,8,1024,5\n",
                  out, sizeof out, &s, &e),
             "a spreadsheet's byte order mark: %s", e.text);
    gsl_test_int(s.predicted, 1, "the H100's");
    gsl_test_int(s.skipped_line, 3, "the other's line");
}

static void tables_that_are_wrong_are_refused_with_their_place(void)
{
    static const char *const bad[][2] = {
        {"gpu,op,n_gpus,size_bytes,lat_us\nh100,alltoall,8,1024,0\n", "not positive"},
        {"gpu,op,n_gpus,size_bytes,lat_us\nh100,alltoall,8,1024,-3\n", "not positive"},
        {"gpu,op,n_gpus,size_bytes,lat_us\nh100,alltoall,8,1024,5 us\n", "lat_us"},
        {"gpu,op,n_gpus,size_bytes\nh100,alltoall,8,1024\n", "lat_us"},
        {"gpu,op,n_gpus,size_bytes,lat_us\nh100,alltoall,1,1024,5\n", "2 or more"},
        {"gpu,op,n_gpus,nodes,size_bytes,lat_us\nh100,alltoall,9,2,1024,5\n", "evenly"},
        {"gpu;op;n_gpus;size_bytes;lat_us\nh100;alltoall;8;1024;5\n", "want commas"},
        {"a,b\n1,2\n", "not a table of"},
    };
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
        char out[1024];
        struct table_scores s;
        struct err e = {0};
        gsl_test(run(bad[i][0], out, sizeof out, &s, &e), "table %zu", i);
        gsl_test(e.code != ERR_INPUT || !strstr(e.text, bad[i][1]) || !strstr(e.text, path), "%s",
                 e.text);
    }
}

int main(void)
{
    rows_keep_their_columns_and_gain_eight();
    a_row_without_an_answer_says_why();
    tables_that_are_wrong_are_refused_with_their_place();
    return gsl_test_summary();
}
