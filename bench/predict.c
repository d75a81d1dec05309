/* How long one prediction takes and how long all profiles take to load. CPU time. */
#include <stdio.h>
#include <time.h>

#include "base/preset.h"
#include "model/prof.h"

enum { ROUNDS = 1000000, LOADS = 20 };

static double now(void)
{
    return (double)clock() / CLOCKS_PER_SEC;
}

static bool load_all(struct arena *a, struct err *e)
{
    const char **nets = preset_list("net", a, e),
               **curves = nets ? preset_list("curve", a, e) : NULL;
    for (int i = 0; curves && nets[i]; i++)
        if (!prof_net_load(nets[i], err_at_name(nets[i]), a, e))
            return false;
    for (int i = 0; curves && curves[i]; i++)
        if (!prof_kernels_load(curves[i], err_at_name(curves[i]), a, e))
            return false;
    return curves != NULL;
}

static void collectives(const struct prof_net *p, const char *what, int gpus, int nodes)
{
    double sum = 0, start = now();
    for (int i = 0; i < ROUNDS; i++) {
        struct coll_query q = {.op = (enum coll_op)(i & 3),
                               .type = COLL_HALF,
                               .bytes = 1000 + 977.0 * i,
                               .gpus = gpus,
                               .nodes = nodes,
                               .nic_bytes_per_s = 50e9};
        sum += prof_collective(p, &q).time.high_s;
    }
    printf("collective, %-24s %4.0f ns (sum %g)\n", what, (now() - start) / ROUNDS * 1e9, sum);
}

static void kernels(const struct prof_kernels *p)
{
    double sum = 0, start = now();
    for (int i = 0; i < ROUNDS; i++) {
        struct attention_query q = {
            .batch = 1, .heads = 16, .queries = 1000 + i, .keys = 1000 + i, .head_dim = 128};
        sum += prof_attention(p, &q).time.high_s;
    }
    printf("attention %39.0f ns (sum %g)\n", (now() - start) / ROUNDS * 1e9, sum);
    start = now();
    for (int i = 0; i < ROUNDS; i++)
        sum += prof_gemm(p, 1000 + i, 4096, 4096).time.high_s;
    printf("gemm %44.0f ns (sum %g)\n", (now() - start) / ROUNDS * 1e9, sum);
    start = now();
    for (int i = 0; i < ROUNDS; i++)
        sum += prof_sparse(p, i & 1, 1e5, 1e8 + i, 64000, 128).time.high_s;
    printf("sparse %42.0f ns (sum %g)\n", (now() - start) / ROUNDS * 1e9, sum);
}

int main(void)
{
    struct arena *a = arena_new();
    struct err e = {0};
    double start = now();
    for (int i = 0; i < LOADS; i++) {
        arena_reset(a);
        if (!load_all(a, &e)) {
            fprintf(stderr, "%s\n", e.text);
            return 2;
        }
    }
    printf("loading all profiles %28.2f ms\n", (now() - start) / LOADS * 1e3);
    const struct prof_net *net = prof_net_load("h100", err_at_name("bench"), a, &e);
    const struct prof_kernels *k = prof_kernels_load("h100", err_at_name("bench"), a, &e);
    collectives(net, "8 GPUs, measured", 8, 1);
    collectives(net, "6 GPUs, between counts", 6, 1);
    collectives(net, "128 GPUs on 16 nodes", 128, 16);
    kernels(k);
    arena_free(a);
    return 0;
}
