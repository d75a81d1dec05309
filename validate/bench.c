#include "validate/bench.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/launcher.h"
#include "base/rng.h"
#include "kernels/comm.h"
#include "kernels/kern.h"
#include "validate/machine.h"
#include "validate/run.h"

enum { DIM = 128, HEADS = 4, RANK = 16 };

struct bench {
    const struct bench_options *o;
    const struct kern_backend *b;
    FILE *out;
    struct err *e;
    void *memory[64];
    int memory_count;
};

/* ---- memory filled with seeded numbers ---- */

static void *take(struct bench *b, int64_t bytes)
{
    void *p = NULL;
    if (b->e->code != ERR_NONE || !b->b->allocate((size_t)bytes, &p, b->e))
        return NULL;
    b->memory[b->memory_count++] = p;
    b->b->clear(p, (size_t)bytes, b->e);
    return p;
}

static void give_all(struct bench *b)
{
    while (b->memory_count > 0)
        b->b->release(b->memory[--b->memory_count]);
}

static uint16_t *take_numbers(struct bench *b, int64_t count, uint64_t index)
{
    uint16_t *host = malloc((size_t)count * sizeof *host), *p = take(b, count * 2);
    struct rng r = rng_stream(1, "bench", index, 0, 0);
    for (int64_t i = 0; host && i < count; i++)
        host[i] = kern_bf16_of((float)rng_uniform(&r) * 2 - 1);
    if (!host)
        err_set(b->e, ERR_SYSTEM, err_at_name("bench"), "out of memory");
    else if (p)
        b->b->put(p, host, (size_t)count * 2, b->e);
    free(host);
    return p;
}

static bool flush(struct bench *b)
{
    if (fflush(b->out) == 0 && !ferror(b->out))
        return true;
    return err_set(b->e, ERR_SYSTEM, err_at_name(b->o->out), "%s", strerror(errno));
}

static int by_value(const void *x, const void *y)
{
    double a = *(const double *)x, b = *(const double *)y;
    return a < b ? -1 : a > b;
}

static double now_s(const struct bench *b)
{
    return b->o->cpu_clock ? comm_cpu_s() : comm_now_s();
}

/* Median seconds of `repeats` calls after one for warming up; negative on failure. */
typedef bool call(struct bench *b, const void *what);

static double median_s(struct bench *b, call *f, const void *what)
{
    int n = b->o->repeats;
    double *t = malloc((size_t)n * sizeof *t), median = -1;
    bool ok = t && b->e->code == ERR_NONE;
    for (int i = -1; ok && i < n; i++) {
        double start = now_s(b);
        ok = f(b, what) && b->b->wait(b->e);
        if (i >= 0)
            t[i] = now_s(b) - start;
    }
    if (ok) {
        qsort(t, (size_t)n, sizeof *t, by_value);
        median = t[n / 2];
    }
    free(t);
    return median;
}

/* ---- attention ---- */

static bool call_forward(struct bench *b, const void *what)
{
    return b->b->forward(what, b->e);
}

static bool call_backward(struct bench *b, const void *what)
{
    return b->b->backward(what, b->e);
}

static void make_heads(struct bench *b, struct kern_head *heads, int64_t rows)
{
    for (int h = 0; h < HEADS; h++) {
        uint64_t i = (uint64_t)h * 4;
        heads[h] = (struct kern_head){.q_rows = rows,
                                      .kv_rows = rows,
                                      .q = take_numbers(b, rows * DIM, i),
                                      .k = take_numbers(b, rows * DIM, i + 1),
                                      .v = take_numbers(b, rows * DIM, i + 2),
                                      .d_o = take_numbers(b, rows * DIM, i + 3),
                                      .o = take(b, rows * DIM * 2),
                                      .lse = take(b, rows * 4),
                                      .dq = take(b, rows * DIM * 4),
                                      .dk = take(b, rows * DIM * 4),
                                      .dv = take(b, rows * DIM * 4)};
    }
}

static bool bench_attention(struct bench *b)
{
    static const int64_t lengths[] = {512, 1024, 2048, 4096, 8192};
    fputs("gpu,mask,batch,seqlen,heads,head_dim,pass_,lat_us\n", b->out);
    for (size_t i = 0; i < sizeof lengths / sizeof *lengths && b->e->code == ERR_NONE; i++) {
        struct kern_head heads[HEADS];
        struct kern_attention a = {.dim = DIM, .head_count = HEADS, .heads = heads};
        make_heads(b, heads, lengths[i]);
        double forward = median_s(b, call_forward, &a), backward = median_s(b, call_backward, &a);
        if (b->e->code == ERR_NONE)
            fprintf(b->out,
                    "%s,noncausal,1,%lld,%d,%d,fwd,%.3f\n%s,noncausal,1,%lld,%d,%d,bwd,%.3f\n",
                    b->b->name, (long long)lengths[i], HEADS, DIM, 1e6 * forward, b->b->name,
                    (long long)lengths[i], HEADS, DIM, 1e6 * backward);
        give_all(b);
        flush(b);
    }
    return b->e->code == ERR_NONE;
}

/* ---- sparse attention and selection ---- */

static bool call_select(struct bench *b, const void *what)
{
    return b->b->select(what, b->e);
}

static void sparse_row(struct bench *b, int64_t s, int group, const char *kernel, const char *pass,
                       int64_t kept, double seconds)
{
    if (seconds >= 0)
        fprintf(b->out, "%s,%lld,%d,%d,%d,%s,%s,%lld,%.6f,ms\n", b->b->name, (long long)s, HEADS,
                DIM, group, kernel, pass, (long long)kept, 1e3 * seconds);
}

/* Selection by low-rank scores gives the bitmaps that attention then uses, as in a run. */
static void sparse_case(struct bench *b, int64_t rows, int group, int64_t kept)
{
    struct kern_head heads[HEADS];
    struct kern_select_head select[HEADS];
    struct kern_attention a = {.dim = DIM, .head_count = HEADS, .heads = heads};
    struct kern_select s = {.rank = RANK, .head_count = HEADS, .heads = select};
    int64_t groups = kern_groups(rows, group), words = kern_words(rows);
    make_heads(b, heads, rows);
    for (int h = 0; h < HEADS; h++) {
        select[h] =
            (struct kern_select_head){.groups = groups,
                                      .keys = rows,
                                      .keep = kept,
                                      .bitmap_words = words,
                                      .q_lr = take_numbers(b, groups * RANK, 100 + (uint64_t)h),
                                      .k_lr = take_numbers(b, rows * RANK, 200 + (uint64_t)h),
                                      .bitmap = take(b, groups * words * 4)};
        heads[h].keys =
            (struct kern_keys){.group = group, .bitmap = select[h].bitmap, .bitmap_words = words};
    }
    sparse_row(b, rows, group, "lowrank_select", "fwd", kept, median_s(b, call_select, &s));
    sparse_row(b, rows, group, "sparse_group", "fwd", kept, median_s(b, call_forward, &a));
    sparse_row(b, rows, group, "sparse_group", "bwd", kept, median_s(b, call_backward, &a));
    give_all(b);
    flush(b);
}

static bool bench_sparse(struct bench *b)
{
    static const int64_t rows[] = {2048, 8192}, shares[] = {2, 5, 10, 20};
    static const int groups[] = {32, 64, 128};
    fputs("gpu,S,H,D,group,kernel,pass_,kept_kv,value,unit\n", b->out);
    for (int r = 0; r < 2; r++)
        for (int g = 0; g < 3; g++)
            for (int k = 0; k < 4 && b->e->code == ERR_NONE; k++)
                sparse_case(b, rows[r], groups[g], rows[r] * shares[k] / 100);
    return b->e->code == ERR_NONE;
}

/* ---- copies: pack, gather by list, scatter-add ---- */

static bool call_copy(struct bench *b, const void *what)
{
    return b->b->copy(what, 1, b->e);
}

static bool call_gather(struct bench *b, const void *what)
{
    return b->b->gather(what, 1, b->e);
}

static bool call_scatter(struct bench *b, const void *what)
{
    return b->b->scatter_add(what, 1, b->e);
}

static void copy_row(struct bench *b, const char *op, int64_t rows, double bytes, double seconds)
{
    if (seconds > 0)
        fprintf(b->out, "%s,%s,%lld,%.0f,%.3f\n", b->b->name, op, (long long)rows, bytes,
                1e6 * seconds);
}

static bool bench_copy(struct bench *b)
{
    static const int64_t sizes[] = {1024, 8192, 65536, 262144};
    fputs("gpu,op,rows,moved_bytes,lat_us\n", b->out);
    for (int i = 0; i < 4 && b->e->code == ERR_NONE; i++) {
        int64_t n = sizes[i];
        uint16_t *x = take_numbers(b, n * DIM, 1), *y = take(b, n * DIM * 2);
        float *from = take(b, n * DIM * 4), *to = take(b, n * DIM * 4);
        int32_t *list = take(b, n * 4), *host = malloc((size_t)n * sizeof *host);
        for (int64_t j = 0; host && j < n;
             j++) /* every row once, far from its neighbour: 7919 is prime to 2^k */
            host[j] = (int32_t)(j * 7919 % n);
        if (host && list)
            b->b->put(list, host, (size_t)n * sizeof *host, b->e);
        free(host);
        struct kern_copy c = {x, y, n, DIM * 2, DIM * 2, DIM * 2};
        struct kern_gather g = {x, y, list, n, DIM};
        struct kern_scatter s = {from, to, list, n, DIM};
        copy_row(b, "pack", n, 4.0 * DIM * (double)n, median_s(b, call_copy, &c));
        copy_row(b, "gather", n, 4.0 * DIM * (double)n, median_s(b, call_gather, &g));
        copy_row(b, "scatter_add", n, 12.0 * DIM * (double)n, median_s(b, call_scatter, &s));
        give_all(b);
        flush(b);
    }
    return b->e->code == ERR_NONE;
}

/* ---- collectives ---- */

enum { OPS = 4 };
static const char *const op_names[OPS] = {"alltoall", "allgather", "reducescatter", "sendrecv"};

/* One call with messages of `bytes` to each peer; `x` has room for size * bytes, so have y and z.
 */
static bool one_collective(struct comm *c, int op, int64_t bytes, void *x, void *y, void *z,
                           int64_t *parts, struct err *e)
{
    for (int i = 0; i < c->size; i++)
        parts[i] = bytes, parts[c->size + i] = i * bytes;
    struct comm_parts out = {x, parts, parts + c->size}, in = {y, parts, parts + c->size};
    switch (op) {
    case 0:
        return comm_alltoallv(c, out, in, e);
    case 1:
        return comm_allgatherv(c, x, bytes, in, e);
    case 2:
        return comm_reduce_scatter(c, x, y, bytes / 4, z, e);
    default:
        return comm_shift(c, x, y, bytes, e);
    }
}

/* Median over repeats of the largest over ranks; size_bytes as nccl-tests counts: all peers' parts
 * together, one message for sendrecv. */
static bool time_collective(struct comm *c, struct bench *b, int op, int64_t bytes,
                            void *const room[3], int64_t *parts, double *times, struct err *e)
{
    int n = b->o->repeats;
    for (int i = -1; i < n; i++) {
        double t, most;
        if (!comm_barrier(c, e))
            return false;
        t = now_s(b);
        if (!one_collective(c, op, bytes, room[0], room[1], room[2], parts, e))
            return false;
        t = now_s(b) - t;
        if (!comm_largest(c, t, &most, e))
            return false;
        if (i >= 0)
            times[i] = most;
    }
    qsort(times, (size_t)n, sizeof *times, by_value);
    if (c->rank == 0)
        fprintf(b->out, "cpu,%s,%d,%lld,%.3f\n", op_names[op], c->size,
                (long long)(op == 3 ? bytes : bytes * c->size), 1e6 * times[n / 2]);
    return c->rank != 0 || flush(b);
}

static bool collectives_main(struct comm *c, void *arg, struct err *e)
{
    enum { SMALLEST = 1024, LARGEST = 16 << 20 };
    struct bench *b = arg;
    run_share_cores(c);
    void *room[3] = {NULL, NULL, NULL};
    int64_t *parts = malloc(2 * (size_t)c->size * sizeof *parts);
    double *times = malloc((size_t)b->o->repeats * sizeof *times);
    bool ok = parts && times && c->size <= 256;
    for (int i = 0; ok && i < 3; i++)
        ok = (room[i] = calloc((size_t)c->size, LARGEST)) != NULL;
    if (!ok)
        comm_fail(c, e, "out of memory, or more than 256 ranks");
    for (int op = 0; ok && op < OPS; op++) {
        comm_phase(c, op_names[op]);
        for (int64_t bytes = SMALLEST; ok && bytes <= LARGEST; bytes *= 4)
            ok = time_collective(c, b, op, bytes, room, parts, times, e);
    }
    for (int i = 0; i < 3; i++)
        free(room[i]);
    free(parts);
    free(times);
    return ok;
}

/* As many as were started, or as --ranks says. */
static struct comm_options ranks_of(const struct bench *b, const struct comm_backend *comm)
{
    int ranks = comm->processes ? launcher_of_process().size : b->o->ranks;
    return (struct comm_options){.ranks = ranks,
                                 .timeout_s = b->o->timeout_s,
                                 .sleeps = b->o->cpu_clock || run_takes_turns(ranks)};
}

static bool bench_collective(struct bench *b)
{
    const struct comm_backend *comm = comm_backend_of(b->o->comm, b->e);
    if (!comm)
        return false;
    fputs("gpu,op,n_gpus,size_bytes,lat_us\n", b->out);
    struct comm_options c = ranks_of(b, comm);
    return comm->run(&c, collectives_main, b, b->e);
}

/* ---- the machine as a plan needs it ---- */

static bool machine_main(struct comm *c, void *arg, struct err *e)
{
    struct bench *b = arg;
    struct machine m;
    run_share_cores(c);
    return machine_measure(c, b->b, b->o->repeats, b->o->cpu_clock, &m, e) &&
           (c->rank != 0 || machine_write(&m, b->b, b->o->out, e));
}

static bool bench_machine(struct bench *b)
{
    const struct comm_backend *comm = comm_backend_of(b->o->comm, b->e);
    if (!comm)
        return false;
    if (strcmp(b->o->out, "-") == 0)
        return err_set(b->e, ERR_INPUT, err_at_name("-o"),
                       "want a prefix: PREFIX-kernels.yaml and PREFIX-cluster.yaml are written");
    struct comm_options c = ranks_of(b, comm);
    return comm->run(&c, machine_main, b, b->e);
}

/* ---- kinds ---- */

static const struct {
    const char *name;
    bool (*run)(struct bench *b);
} kinds[] = {{"attention", bench_attention},
             {"sparse", bench_sparse},
             {"copy", bench_copy},
             {"collective", bench_collective},
             {"machine", bench_machine}};

bool bench_run(const struct bench_options *o, struct prov *prov, struct arena *a, struct err *e)
{
    (void)a;
    struct bench b = {.o = o, .b = kern_backend_of(o->backend, e), .e = e};
    bool (*run)(struct bench *) = NULL;
    for (size_t i = 0; i < sizeof kinds / sizeof *kinds; i++)
        if (strcmp(kinds[i].name, o->kind) == 0)
            run = kinds[i].run;
    if (!b.b)
        return false;
    if (!run)
        return err_set(e, ERR_INPUT, err_at_name("bench"),
                       "'%s', want attention, sparse, copy, collective or machine", o->kind);
    bool writes = launcher_of_process().rank == 0;
    if (run == bench_machine)
        return run(&b);
    b.out = !writes                    ? fopen("/dev/null", "w")
            : strcmp(o->out, "-") == 0 ? stdout
                                       : fopen(o->out, "w");
    if (!b.out)
        return err_set(e, ERR_SYSTEM, err_at_name(o->out), "%s", strerror(errno));
    if (writes)
        prov_comment(prov, b.out);
    bool ok = run(&b);
    give_all(&b);
    if (b.out != stdout && fclose(b.out) != 0 && ok)
        ok = err_set(e, ERR_SYSTEM, err_at_name(o->out), "%s", strerror(errno));
    return ok;
}
