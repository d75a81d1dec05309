/* nccl-tests logs of every shape. Numbers are written out in the logs; bandwidths there are size /
 * time by hand. */
#include <gsl/gsl_test.h>
#include <stdio.h>
#include <string.h>

#include "validate/nccl_log.h"

static struct nccl_log parse(const char *text, struct arena *a, bool expect)
{
    struct nccl_log log = {0};
    struct err e = {0};
    bool ok = nccl_log_parse("log", text, strlen(text), a, &log, &e);
    gsl_test(ok != expect, "%.40s...: %s", text, ok ? "read" : e.text);
    gsl_test(!ok && (e.code != ERR_INPUT || !e.text[0]), "a refusal says why");
    return log;
}

static void new_columns_of_one_process_are_read_past_a_warning(void)
{
    struct arena *a = arena_new();
    struct nccl_log log;
    struct err e = {0};
    gsl_test(!nccl_log_read("tests/validate/logs/new_8gpu.log", a, &log, &e), "%s", e.text);
    gsl_test_int(log.runs, 1, "runs");
    const struct nccl_run *r = &log.run[0];
    gsl_test_int(r->op, COLL_ALL_REDUCE, "the program is named");
    gsl_test_int(r->gpus, 8, "GPUs");
    gsl_test_int(r->nodes, 1, "nodes");
    gsl_test(strcmp(r->device, "NVIDIA H100 80GB HBM3") != 0, "device '%s'", r->device);
    gsl_test_int(r->rows, 3, "rows");
    gsl_test_rel(r->row[2].bytes, 16777216, 0, "last size");
    gsl_test_rel(r->row[2].time_s, 122.28e-6, 1e-12, "last time, out of place");
    gsl_test_int(log.warnings, 1, "warnings");
    gsl_test_int(log.broken, 0, "broken lines");
    arena_free(a);
}

static void old_columns_under_mpirun_are_read_and_the_cut_line_is_not(void)
{
    struct arena *a = arena_new();
    struct nccl_log log;
    struct err e = {0};
    struct points p;
    struct nccl_facts facts = {.op = "all_gather", .nic_bytes_per_s = 12.5e9};
    gsl_test(!nccl_log_read("tests/validate/logs/old_mpi.log", a, &log, &e), "%s", e.text);
    gsl_test_int(log.run[0].gpus, 4, "GPUs");
    gsl_test_int(log.run[0].nodes, 2, "hosts");
    gsl_test_int(log.run[0].rows, 2, "whole rows");
    gsl_test_int(log.broken, 1, "cut rows");
    gsl_test(!nccl_points("log", &log, &facts, "a100", a, &p, &e), "%s", e.text);
    gsl_test_int(p.count, 2, "points");
    gsl_test_rel(p.point[1].time_s, 150e-6, 1e-12, "time");
    facts.op = NULL;
    gsl_test(nccl_points("log", &log, &facts, "a100", a, &p, &e), "an operation that nobody named");
    gsl_test(!strstr(e.text, "--op"), "says what to say: %s", e.text);
    arena_free(a);
}

/* 1048576 B in 10 us are 104.86 GB/s. */
static void what_launchers_put_before_a_line_is_taken_off(void)
{
    static const char *const before[] = {"",
                                         "[1,0]<stdout>:",
                                         "[0] ",
                                         "0: ",
                                         "pod-0: ",
                                         "2025-05-22T07:36:17.123Z ",
                                         "2025-05-22 07:36:17 pod-0: ",
                                         "> ",
                                         "\033[32m"};
    struct arena *a = arena_new();
    for (size_t i = 0; i < sizeof before / sizeof *before; i++) {
        const char *p = before[i];
        struct nccl_log log =
            parse(arena_printf(a,
                               "%s# Collective test starting: alltoall_perf\n"
                               "%s#  Rank  0 Group  0 Pid  1 on n1 device  0 [0x1b] NVIDIA H100\n"
                               "%s#  Rank  1 Group  0 Pid  2 on n1 device  1 [0x1c] NVIDIA H100\n"
                               "%s 1048576 32768 float none -1 10.00 104.86 52.43 0 10.00 104.86 "
                               "52.43 N/A\033[0m\n",
                               p, p, p, p),
                  a, true);
        gsl_test_int(log.runs, 1, "'%s': runs", p);
        gsl_test(log.runs && (log.run[0].rows != 1 || log.run[0].gpus != 2 ||
                              log.run[0].op != COLL_ALLTOALL),
                 "'%s': one row of an all-to-all on 2 GPUs", p);
    }
    arena_free(a);
}

static void a_file_named_after_its_operation_says_it(void)
{
    struct arena *a = arena_new();
    struct nccl_log log = parse("1048576 32768 float none -1 10.00 104.86 52.43 0\n", a, true);
    struct nccl_facts facts = {.gpus = 2};
    struct points p;
    struct err e = {0};
    gsl_test(!nccl_points("logs/h100_alltoall.txt", &log, &facts, "h100", a, &p, &e), "%s", e.text);
    gsl_test_int(p.point[0].coll.op, COLL_ALLTOALL, "from the name");
    gsl_test(nccl_points("alltoall/h100.txt", &log, &facts, "h100", a, &p, &e),
             "the folder's name is not the file's");
    arena_free(a);
}

static void rows_with_and_without_redop_and_root_are_told_apart(void)
{
    struct arena *a = arena_new();
    struct nccl_log log =
        parse("alltoall_perf -b 1M\n"
              " 1048576 131072 float none -1 10.00 104.86 91.75 0 10.00 104.86 91.75 N/A\n"
              " 1048576 131072 float 10.00 104.86 91.75 0e+00 10.00 104.86 91.75 0e+00\n"
              " 1048576 131072 int8 sum 10.00 104.86 91.75 0e+00 10.00 104.86 91.75 0e+00\n"
              " 1048576 131072 half 0 10.00 104.86 91.75 0 10.00 104.86 91.75 0\n"
              " 1048576 131072 half sum -1 10.00 104.86 91.75 0\n",
              a, true);
    gsl_test_int(log.run[0].rows, 5, "five shapes of a row");
    for (int i = 0; i < log.run[0].rows; i++)
        gsl_test_rel(log.run[0].row[i].time_s, 10e-6, 1e-12, "row %d", i);
    gsl_test_int(log.run[0].row[2].type, COLL_INT8, "int8 is kept apart");
    arena_free(a);
}

static void two_programs_in_one_file_are_two_runs(void)
{
    struct arena *a = arena_new();
    struct nccl_log log =
        parse("$ ./build/all_gather_perf -g 2\n"
              "#  Rank  0 Pid 1 on h device  0 [0x1] X\n#  Rank  1 Pid 1 on h device  1 [0x2] X\n"
              " 1048576 131072 float none -1 10.00 104.86 52.43 0 10.00 104.86 52.43 0\n"
              "$ ./build/reduce_perf -g 2\n"
              " 1048576 131072 float sum 0 20.00 52.43 52.43 0 20.00 52.43 52.43 0\n"
              "$ ./build/sendrecv_perf -g 2\n"
              " 1048576 131072 float none -1 40.00 26.21 26.21 0 40.00 26.21 26.21 0\n",
              a, true);
    gsl_test_int(log.runs, 3, "runs");
    gsl_test_int(log.run[0].op, COLL_ALL_GATHER, "first");
    gsl_test_int(log.run[1].op, -1, "a reduce has no model");
    gsl_test_int(log.run[2].op, COLL_SEND_RECV, "third");
    arena_free(a);
}

static void rows_that_contradict_themselves_or_failed_are_left_out(void)
{
    struct arena *a = arena_new();
    struct nccl_log log =
        parse("all_gather_perf\n"
              " 1048576 131072 float none -1 10.00 104.86 52.43 0 10.00 104.86 52.43 0\n"
              " 1048576 131072 float none -1 10.00 904.86 52.43 0 10.00 104.86 52.43 0\n"
              " 2097152 131072 float none -1 -5.0 104.86 52.43 0 10.00 104.86 52.43 0\n"
              " 2097152 131072 float none -1 0.00 104.86 52.43 0 10.00 104.86 52.43 0\n"
              " 2097152 131072 float none -1 20.00 104.86 52.43 7 10.00 104.86 52.43 0\n"
              " 0 0 float none -1 5.00 0.00 0.00 0 5.00 0.00 0.00 0\n",
              a, true);
    gsl_test_int(log.run[0].rows, 1, "one good row");
    gsl_test_int(log.broken, 3, "a wrong bandwidth, a negative and a zero time");
    gsl_test_int(log.wrong, 1, "a row that failed the program's check");
    arena_free(a);
}

static void logs_of_other_tools_are_refused(void)
{
    struct arena *a = arena_new();
    parse("", a, false);
    parse(
        "# OSU MPI Allreduce Latency Test v7.3\n# Size       Avg Latency(us)\n4   1.23\n8  1.25\n",
        a, false);
    parse("1048576 1000 float\n2097152 1000 float none\n", a, false);
    parse("[2024] INFO step 12 loss 0.12 time 1048576 262144 float\n", a, false);
    arena_free(a);
}

static void every_cut_of_a_log_is_read_or_refused(void)
{
    struct arena *a = arena_new();
    char text[8192];
    FILE *f = fopen("tests/validate/logs/new_8gpu.log", "rb");
    size_t n = f ? fread(text, 1, sizeof text, f) : 0;
    gsl_test(n < 1000, "the log is there");
    for (size_t cut = 0; cut <= n; cut++) {
        struct nccl_log log;
        struct err e = {0};
        bool ok = nccl_log_parse("log", text, cut, a, &log, &e);
        if (ok)
            for (int i = 0; i < log.run[0].rows; i++)
                if (!(log.run[0].row[i].time_s > 0) || log.run[0].row[i].time_s > 123e-6)
                    gsl_test(1, "cut at %zu gave a time of %g", cut, log.run[0].row[i].time_s);
        arena_reset(a);
    }
    if (f)
        fclose(f);
    arena_free(a);
}

int main(void)
{
    new_columns_of_one_process_are_read_past_a_warning();
    old_columns_under_mpirun_are_read_and_the_cut_line_is_not();
    what_launchers_put_before_a_line_is_taken_off();
    a_file_named_after_its_operation_says_it();
    rows_with_and_without_redop_and_root_are_told_apart();
    two_programs_in_one_file_are_two_runs();
    rows_that_contradict_themselves_or_failed_are_left_out();
    logs_of_other_tools_are_refused();
    every_cut_of_a_log_is_read_or_refused();
    return gsl_test_summary();
}
