/* All statistics of one head of 33x45x80 = 118,800 tokens (cubes of 4x4x4 tokens) in CPU seconds of one core, and a
 * full-tier trace generated and read in a stream with its peak memory: trace_stats [layers heads]. */
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/resource.h>
#include <time.h>
#include <unistd.h>

#include "traces/generate.h"
#include "traces/report.h"

static double cpu_s(void)
{
    return (double)clock() / CLOCKS_PER_SEC;
}

static void one_head(const struct generate_job *j)
{
    struct arena *a = arena_new(), *scratch = arena_new();
    struct tiling t;
    struct err e = {0};
    struct mask m;
    struct head_stats h;
    tiling_make(j->grid, j->group, j->block, a, &t, &e);
    double start = cpu_s();
    generate_mask(j, &t, 0, 0, 0, a, &m);
    double drawn = cpu_s(), last = 0;
    struct weigh w = weigh_make(&t.block, a);
    stats_head(&t, &w, &m, scratch, &h);
    for (int kind = 0; kind < LAYOUT_KINDS; kind++)
        for (int n = 2; n <= 64; n *= 2) {
            struct layout l;
            struct layout_stats s;
            struct err none = {0};
            arena_reset(scratch);
            if (!layout_make(&t, (enum layout_kind)kind, n, scratch, &l, &none))
                continue;
            stats_layout(&t, &w, &m, &l, scratch, &s);
            last = s.remote_mean;
        }
    double done = cpu_s();
    printf("one head of %lld tokens, keep %.3f: drawn in %.3f s, all statistics of 18 layouts in "
           "%.3f s (%.2f of the drawing; last union %.3f)\n",
           (long long)t.tokens, h.keep, drawn - start, done - drawn,
           (done - drawn) / (drawn - start), last);
    arena_free(scratch);
    arena_free(a);
}

static void whole_trace(const struct generate_job *j)
{
    char path[] = "/tmp/shardwise-bench-XXXXXX";
    struct err e = {0};
    struct rusage use;
    struct report_union rows[LAYOUT_KINDS * REPORT_SIZES];
    int count, fd = mkstemp(path);
    if (fd >= 0)
        close(fd);
    double start = cpu_s();
    bool ok = generate_trace(j, path, &e);
    double written = cpu_s();
    ok = ok && trace_check(path, &e);
    double checked = cpu_s();
    struct trace_reader *r = ok ? trace_open(path, &e) : NULL;
    ok = r && report_unions(r, (struct report_range){-1, -1}, rows, &count, &e);
    getrusage(RUSAGE_SELF, &use);
    if (ok)
        printf("%d layers x %d heads, full tier: generated %.1f, checked %.1f, unions %.1f CPU s; "
               "peak memory %.0f MB\n",
               j->layers, j->heads, written - start, checked - written, cpu_s() - checked,
               (double)use.ru_maxrss / 1024);
    else
        fprintf(stderr, "%s\n", e.text);
    trace_close(r);
    unlink(path);
}

int main(int argc, char **argv)
{
    struct generate_job j = generate_default();
    struct err e = {0};
    j.grid = (struct grid){33, 45, 80};
    j.level = 2;
    j.layers = argc > 2 ? atoi(argv[1]) : 4;
    j.heads = argc > 2 ? atoi(argv[2]) : 8;
    if (j.layers < 1 || j.heads < 1 ||
        !generate_patterns("field:select=topk,keep=0.1", err_at_name("bench"), &j, &e))
        return 2;
    one_head(&j);
    whole_trace(&j);
    return 0;
}
