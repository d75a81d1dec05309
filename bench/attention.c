/* Rates of the CPU attention kernels at S = 4096, H = 4, D = 128: one line per kernel,
 * "name<TAB>GFLOP/s", useful pairs only. FLOP: 4 S_q S_k D H forward, 10 backward.
 * bench/attention.py runs it in turn with other implementations. Usage: bench_attention [repeats]
 */
#include <stdio.h>
#include <stdlib.h>
#include <time.h>

#include "base/rng.h"
#include "kernels/kern.h"

enum { S = 4096, HEADS = 4, DIM = 128, KEEP = S / 10 };

static double now_s(void)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (double)t.tv_sec + 1e-9 * (double)t.tv_nsec;
}

static void *take(size_t bytes)
{
    void *p = calloc(1, bytes);
    if (!p)
        exit(1);
    return p;
}

static uint16_t *normal(const char *name, int head)
{
    struct rng r = rng_stream(1, name, (uint64_t)head, 0, 0);
    uint16_t *x = take(sizeof *x * S * DIM);
    for (int i = 0; i < S * DIM; i++)
        x[i] = kern_bf16_of((float)rng_normal(&r));
    return x;
}

static void heads_new(struct kern_head *heads)
{
    for (int h = 0; h < HEADS; h++)
        heads[h] = (struct kern_head){.q_rows = S,
                                      .kv_rows = S,
                                      .q = normal("q", h),
                                      .k = normal("k", h),
                                      .v = normal("v", h),
                                      .d_o = normal("do", h),
                                      .o = take(2 * S * DIM),
                                      .lse = take(4 * S),
                                      .dq = take(4 * S * DIM),
                                      .dk = take(4 * S * DIM),
                                      .dv = take(4 * S * DIM)};
}

/* KEEP random keys for each group. */
static void sparse_keys(struct kern_head *heads, int group)
{
    for (int h = 0; h < HEADS; h++) {
        int32_t *list = take(sizeof *list * KEEP * (size_t)(S / group));
        struct rng r = rng_stream(2, "keys", (uint64_t)h, (uint64_t)group, 0);
        for (int g = 0; g < S / group; g++)
            for (int j = 0, n = 0; j < S && n < KEEP; j++)
                if ((double)(S - j) * rng_uniform(&r) < KEEP - n)
                    list[g * KEEP + n++] = j;
        heads[h].keys = (struct kern_keys){
            .group = group, .list = list, .list_count = KEEP, .list_stride = KEEP};
    }
}

static void report(const char *name, const struct kern_attention *a, double keys, int repeats)
{
    const struct kern_backend *b = kern_backend_of("cpu", &(struct err){0});
    struct err e = {0};
    double best[2] = {1e9, 1e9}, flop = (double)S * keys * DIM * HEADS;
    for (int r = 0; r <= repeats; r++) {
        double t0 = now_s();
        if (!b->forward(a, &e))
            exit(1);
        double t1 = now_s();
        if (!b->backward(a, &e))
            exit(1);
        double t2 = now_s();
        if (r > 0 && t1 - t0 < best[0])
            best[0] = t1 - t0;
        if (r > 0 && t2 - t1 < best[1])
            best[1] = t2 - t1;
    }
    printf("%s forward\t%.1f\n%s backward\t%.1f\n", name, 4 * flop / best[0] * 1e-9, name,
           10 * flop / best[1] * 1e-9);
    fflush(stdout);
}

int main(int argc, char **argv)
{
    int repeats = argc > 1 ? atoi(argv[1]) : 3;
    struct kern_head heads[HEADS];
    heads_new(heads);
    struct kern_attention a = {.dim = DIM, .head_count = HEADS, .heads = heads};
    report("dense", &a, S, repeats);
    static const int groups[] = {32, 64, 128};
    for (int i = 0; i < 3; i++) {
        char name[64];
        snprintf(name, sizeof name, "sparse 10%% groups of %d", groups[i]);
        sparse_keys(heads, groups[i]);
        report(name, &a, KEEP, repeats);
    }
    return 0;
}
