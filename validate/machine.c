#include "validate/machine.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/rng.h"

enum {
    DIM = 128,
    HEADS = 2,
    MOVED_HEADS = 8,
    ROWS = 2048,
    GROUP = 32,
    RANK = 16,
    KEEPS = 3,
    BUFFERS = 64
};
static const int64_t keeps[KEEPS] = {64, 256, 512};

struct lab {
    struct comm *world;
    const struct kern_backend *b;
    int repeats;
    bool cpu_clock;
    struct err *e;
    void *memory[BUFFERS];
    int count;
};

static void *take(struct lab *l, int64_t bytes)
{
    void *p = NULL;
    struct err why = {0};
    if (l->e->code != ERR_NONE)
        return NULL;
    if (!l->b->allocate((size_t)bytes, &p, &why)) {
        comm_fail(l->world, l->e, "%s", why.text);
        return NULL;
    }
    l->memory[l->count++] = p;
    l->b->clear(p, (size_t)bytes, l->e);
    return p;
}

static uint16_t *take_numbers(struct lab *l, int64_t count, uint64_t index)
{
    uint16_t *host = malloc((size_t)count * sizeof *host), *p = take(l, count * 2);
    struct rng r = rng_stream(1, "machine", index, 0, 0);
    for (int64_t i = 0; host && i < count; i++)
        host[i] = kern_bf16_of((float)rng_uniform(&r) * 2 - 1);
    if (!host)
        comm_fail(l->world, l->e, "out of memory");
    else if (p)
        l->b->put(p, host, (size_t)count * 2, l->e);
    free(host);
    return p;
}

/* ---- all ranks do the same at the same time; the slowest counts ---- */

static double now_s(const struct lab *l)
{
    return l->cpu_clock ? comm_cpu_s() : comm_now_s();
}

static int by_value(const void *x, const void *y)
{
    double a = *(const double *)x, b = *(const double *)y;
    return a < b ? -1 : a > b;
}

typedef bool work(struct lab *l, const void *what);

/* Median over repeats of the slowest rank; by the CPU clock the least, as what disturbs a rank only
 * adds to its CPU time. 0 on failure. */
static double seconds(struct lab *l, const char *phase, work *f, const void *what)
{
    enum { MOST = 64 };
    double t[MOST], one, most;
    int n = l->repeats < MOST ? l->repeats : MOST;
    comm_phase(l->world, phase);
    for (int i = -1; i < n; i++) {
        if (l->e->code != ERR_NONE || !comm_barrier(l->world, l->e))
            return 0;
        one = now_s(l);
        if (!f(l, what) || !l->b->wait(l->e))
            return 0;
        one = now_s(l) - one;
        if (!comm_largest(l->world, one, &most, l->e))
            return 0;
        if (i >= 0)
            t[i] = most;
    }
    qsort(t, (size_t)n, sizeof *t, by_value);
    return t[l->cpu_clock ? 0 : n / 2];
}

static bool do_forward(struct lab *l, const void *what)
{
    return l->b->forward(what, l->e);
}

static bool do_backward(struct lab *l, const void *what)
{
    return l->b->backward(what, l->e);
}

static bool do_select(struct lab *l, const void *what)
{
    return l->b->select(what, l->e);
}

static bool do_copies(struct lab *l, const void *what)
{
    return l->b->copy(what, MOVED_HEADS, l->e);
}

static bool do_scatter(struct lab *l, const void *what)
{
    return l->b->scatter_add(what, 1, l->e);
}

static bool do_gather(struct lab *l, const void *what)
{
    return l->b->gather(what, 1, l->e);
}

/* ---- kernels ---- */

/* t = rows a + pairs b with rows the same in all points: a straight line, least squares; never
 * negative. */
static void fit_line(const double *t, double rows, double *row_s, double *pair_s)
{
    double mean_x = 0, mean_t = 0, xx = 0, xt = 0;
    for (int i = 0; i < KEEPS; i++)
        mean_x += rows * (double)keeps[i] / KEEPS, mean_t += t[i] / KEEPS;
    for (int i = 0; i < KEEPS; i++) {
        double x = rows * (double)keeps[i] - mean_x;
        xx += x * x, xt += x * (t[i] - mean_t);
    }
    *pair_s = xt > 0 ? xt / xx : mean_t / mean_x;
    *row_s = (mean_t - *pair_s * mean_x) / rows;
    *row_s = *row_s > 1e-12 ? *row_s : 1e-12;
}

/* What a rank of SCP does with the selections of one head: the union, the lists in terms of it. */
struct listing {
    struct kern_union u;
    struct kern_remap r;
};

static bool do_lists(struct lab *l, const void *what)
{
    const struct listing *x = what;
    return l->b->unite(&x->u, 1, l->e) && l->b->remap(&x->r, 1, l->e);
}

static void measure_lists(struct lab *l, struct machine *m, const struct kern_select_head *h,
                          int64_t groups, int64_t kept)
{
    int64_t rows;
    uint32_t *all = take(l, h->bitmap_words * 4);
    int32_t *list = take(l, groups * kept * 4), *count = take(l, groups * 4);
    struct listing x = {.u = {.groups = groups,
                              .keys = h->keys,
                              .bitmap_words = h->bitmap_words,
                              .bitmap = h->bitmap,
                              .all = all,
                              .row_count = &rows},
                        .r = {.groups = groups,
                              .bitmap_words = h->bitmap_words,
                              .bitmap = h->bitmap,
                              .all = all,
                              .list = list,
                              .count = count,
                              .list_stride = kept}};
    m->list_s = seconds(l, "lists", do_lists, &x) / (double)(groups * kept);
}

static void measure_attention(struct lab *l, struct machine *m)
{
    struct kern_head heads[HEADS];
    struct kern_select_head chosen[HEADS];
    struct kern_attention a = {.dim = DIM, .head_count = HEADS, .heads = heads};
    struct kern_select s = {.rank = RANK, .head_count = HEADS, .heads = chosen};
    int64_t groups = ROWS / GROUP, words = kern_words(ROWS), size = (int64_t)ROWS * DIM;
    for (int h = 0; h < HEADS; h++) {
        uint64_t i = (uint64_t)h * 8;
        heads[h] = (struct kern_head){.q_rows = ROWS,
                                      .kv_rows = ROWS,
                                      .q = take_numbers(l, size, i),
                                      .k = take_numbers(l, size, i + 1),
                                      .v = take_numbers(l, size, i + 2),
                                      .d_o = take_numbers(l, size, i + 3),
                                      .o = take(l, size * 2),
                                      .lse = take(l, ROWS * 4),
                                      .dq = take(l, size * 4),
                                      .dk = take(l, size * 4),
                                      .dv = take(l, size * 4)};
        chosen[h] = (struct kern_select_head){.groups = groups,
                                              .keys = ROWS,
                                              .bitmap_words = words,
                                              .q_lr = take_numbers(l, groups * RANK, i + 4),
                                              .k_lr = take_numbers(l, ROWS * RANK, i + 5),
                                              .bitmap = take(l, groups * words * 4)};
    }
    double flop = 4.0 * ROWS * ROWS * DIM * HEADS, t[2][KEEPS], rows = (double)ROWS * HEADS;
    m->dense_flop_per_s[0] = flop / seconds(l, "dense forward", do_forward, &a);
    m->dense_flop_per_s[1] = 2.5 * flop / seconds(l, "dense backward", do_backward, &a);
    for (int k = 0; k < KEEPS; k++) {
        for (int h = 0; h < HEADS; h++) {
            chosen[h].keep = keeps[k];
            heads[h].keys = (struct kern_keys){
                .group = GROUP, .bitmap = chosen[h].bitmap, .bitmap_words = words};
        }
        m->score_s = seconds(l, "select", do_select, &s) / ((double)groups * ROWS * HEADS);
        if (k == 1)
            measure_lists(l, m, chosen, groups, keeps[k]);
        t[0][k] = seconds(l, "sparse forward", do_forward, &a);
        t[1][k] = seconds(l, "sparse backward", do_backward, &a);
    }
    for (int i = 0; i < 2; i++)
        fit_line(t[i], rows, &m->row_s[i], &m->pair_s[i]);
}

enum {
    MOVED = 32768, /* rows */
    FAR = 7919     /* prime to MOVED: every row once, far from the last */
};

static int32_t *take_far(struct lab *l)
{
    int32_t *list = take(l, MOVED * 4), *host = malloc(MOVED * sizeof *host);
    for (int64_t j = 0; host && j < MOVED; j++)
        host[j] = (int32_t)(j * FAR % MOVED);
    if (host && list)
        l->b->put(list, host, MOVED * sizeof *host, l->e);
    free(host);
    return list;
}

/* As exchanges of heads pack and unpack: [token][head][dim] to [head][token][dim] and back. */
static double layout_s(struct lab *l, uint16_t *x, uint16_t *y)
{
    enum { TOKENS = MOVED / MOVED_HEADS, ROW = DIM * 2 };
    struct kern_copy there[MOVED_HEADS], back[MOVED_HEADS];
    for (int h = 0; h < MOVED_HEADS; h++) {
        uint16_t *token = x + h * DIM, *head = y + (int64_t)h * TOKENS * DIM;
        there[h] = (struct kern_copy){token, head, TOKENS, ROW, MOVED_HEADS * ROW, ROW};
        back[h] = (struct kern_copy){head, token, TOKENS, ROW, ROW, MOVED_HEADS * ROW};
    }
    return (seconds(l, "copy", do_copies, there) + seconds(l, "copy", do_copies, back)) / 2;
}

static void measure_copies(struct lab *l, struct machine *m)
{
    int64_t size = (int64_t)MOVED * DIM;
    uint16_t *x = take_numbers(l, size, 99), *y = take(l, size * 2);
    float *from = take(l, size * 4), *to = take(l, size * 4);
    int32_t *list = take_far(l);
    struct kern_gather g = {x, y, list, MOVED, DIM};
    struct kern_scatter far = {from, to, list, MOVED, DIM}, all = {from, to, NULL, MOVED, DIM};
    m->copy_bytes_per_s = 4.0 * (double)size / layout_s(l, x, y);
    m->gathered_row_s = 2 * seconds(l, "gather", do_gather, &g) / MOVED; /* K and V */
    m->scattered_row_s = 2 * seconds(l, "scatter", do_scatter, &far) / MOVED;
    m->sum_bytes_per_s = 12.0 * (double)size / seconds(l, "sum", do_scatter, &all);
}

/* ---- the host's memory ---- */

struct host_copy {
    void *host, *data;
    size_t bytes;
    bool back;
};

static bool do_host(struct lab *l, const void *what)
{
    const struct host_copy *c = what;
    return c->back ? l->b->put(c->data, c->host, c->bytes, l->e)
                   : l->b->get(c->host, c->data, c->bytes, l->e);
}

static void measure_host(struct lab *l, struct machine *m)
{
    struct host_copy c = {.bytes = 1 << 23};
    c.data = take(l, (int64_t)c.bytes);
    if (l->b->host_allocate)
        l->b->host_allocate(c.bytes, &c.host, l->e);
    else
        c.host = malloc(c.bytes);
    double s = c.host ? seconds(l, "to the host", do_host, &c) : 0;
    c.back = true;
    s += c.host ? seconds(l, "from the host", do_host, &c) : 0;
    m->host_bytes_per_s = s > 0 ? 2 * (double)c.bytes / s : 1e9;
    if (l->b->host_release)
        l->b->host_release(c.host);
    else
        free(c.host);
}

/* ---- messages ---- */

/* Each call sends from and receives at another place, so that, as in a run, little of it lies in
 * caches. */
struct exchange_of {
    int64_t bytes, room;
    char *out, *in;
    int64_t *turn;
};

static bool do_alltoall(struct lab *l, const void *what)
{
    const struct exchange_of *x = what;
    int64_t parts[2][256], all = l->world->size * x->bytes, at = *x->turn % (x->room / all) * all;
    ++*x->turn;
    for (int r = 0; r < l->world->size; r++)
        parts[0][r] = x->bytes, parts[1][r] = r * x->bytes;
    return comm_alltoallv(l->world, (struct comm_parts){x->out + at, parts[0], parts[1]},
                          (struct comm_parts){x->in + at, parts[0], parts[1]}, l->e);
}

enum { SIZES = 5 };
static const int64_t sizes[SIZES] = {4096, 32768, 1 << 18, 1 << 20, 1 << 21};

/* latency + bytes / rate with the least relative errors; both positive. */
static void fit_link(const double *t, double peers, struct machine *m)
{
    double cc = 0, cu = 0, uu = 0, c = 0, u = 0;
    for (int i = 0; i < SIZES; i++) {
        double x = 1 / t[i], y = peers * (double)sizes[i] / t[i];
        cc += x * x, cu += x * y, uu += y * y, c += x, u += y;
    }
    double det = cc * uu - cu * cu, latency = (c * uu - u * cu) / det,
           per_byte = (u * cc - c * cu) / det;
    bool line = latency > 0 && per_byte > 0; /* else all rate */
    m->latency_s = line && latency > 1e-7 ? latency : 1e-7;
    m->link_bytes_per_s = 1 / (line ? per_byte : u / uu);
}

static void measure_messages(struct lab *l, struct machine *m)
{
    enum { ROOM = 1 << 26, OFTEN = 5 };
    int n = l->world->size;
    int64_t turn = 0, room = n * sizes[SIZES - 1] > ROOM ? n * sizes[SIZES - 1] : ROOM;
    struct exchange_of x = {.room = room, .out = take(l, room), .in = take(l, room), .turn = &turn};
    double t[SIZES];
    m->latency_s = 1e-6, m->link_bytes_per_s = 1e9;
    if (n < 2)
        return;
    l->repeats *= OFTEN;
    for (int i = 0; i < SIZES; i++) {
        x.bytes = sizes[i];
        t[i] = seconds(l, "messages", do_alltoall, &x);
    }
    l->repeats /= OFTEN;
    if (l->e->code == ERR_NONE)
        fit_link(t, n - 1, m);
}

bool machine_measure(struct comm *world, const struct kern_backend *b, int repeats, bool cpu_clock,
                     struct machine *out, struct err *e)
{
    struct lab l = {.world = world, .b = b, .repeats = repeats, .cpu_clock = cpu_clock, .e = e};
    struct machine m = {.ranks = world->size};
    if (world->size > 256)
        return comm_fail(world, e, "%d ranks, want at most 256", world->size);
    measure_attention(&l, &m);
    measure_copies(&l, &m);
    measure_host(&l, &m);
    measure_messages(&l, &m);
    while (l.count > 0)
        b->release(l.memory[--l.count]);
    if (e->code == ERR_NONE)
        *out = m;
    return e->code == ERR_NONE;
}

/* ---- files ---- */

static FILE *open_file(const char *prefix, const char *ending, char *path, size_t size,
                       struct err *e)
{
    snprintf(path, size, "%s-%s.yaml", prefix, ending);
    FILE *f = fopen(path, "w");
    if (!f)
        err_set(e, ERR_SYSTEM, err_at_name(path), "%s", strerror(errno));
    return f;
}

static bool close_file(FILE *f, const char *path, struct err *e)
{
    bool ok = !ferror(f);
    return (fclose(f) == 0 && ok) ||
           err_set(e, ERR_SYSTEM, err_at_name(path), "%s", strerror(errno));
}

/* Nothing better is known of the machine than what was measured; its roofs are put at twice that.
 */
enum { ROOF = 2 };

static double peak(const struct machine *m)
{
    double a = m->dense_flop_per_s[0], b = m->dense_flop_per_s[1];
    return ROOF * (a > b ? a : b);
}

static double memory_roof(const struct machine *m)
{
    double most = m->copy_bytes_per_s;
    most = m->sum_bytes_per_s > most ? m->sum_bytes_per_s : most;
    return ROOF * (m->host_bytes_per_s > most ? m->host_bytes_per_s : most);
}

static void print_kernels(const struct machine *m, const char *name, FILE *f)
{
    double forward = 100 * m->dense_flop_per_s[0] / peak(m),
           backward = 100 * m->dense_flop_per_s[1] / peak(m);
    fprintf(f, "source: \"shardwise-run bench machine, %d ranks at once, backend %s\"\n", m->ranks,
            name);
    fprintf(f, "dense: {name: %s, forward: %.4g%%, backward: %.4g%%}\n", name, forward, backward);
    fprintf(f, "best: {name: %s, forward: %.4g%%, backward: %.4g%%}\n", name, forward, backward);
    fprintf(f, "sparse:\n  name: %s\n  forward: {row: %.5g ns, pair: %.5g ns}\n", name,
            1e9 * m->row_s[0], 1e9 * m->pair_s[0]);
    fprintf(f, "  backward: {row: %.5g ns, pair: %.5g ns}\n", 1e9 * m->row_s[1],
            1e9 * m->pair_s[1]);
    fprintf(f, "  select: %.5g ns\n  tile: 1\n  group: %d\ngemm: %.4g%%\ncopy: %.4g%%\n",
            1e9 * m->score_s, GROUP, forward, 100 * m->copy_bytes_per_s / memory_roof(m));
    fprintf(f, "gathered_row: %.5g ns\nscattered_row: %.5g ns\n", 1e9 * m->gathered_row_s,
            1e9 * m->scattered_row_s);
    fprintf(f, "sum: %.5g GB/s\nlist: %.5g ns\nlaunch: 1 us\n", 1e-9 * m->sum_bytes_per_s,
            1e9 * m->list_s);
}

static void print_cluster(const struct machine *m, FILE *f)
{
    double pages = (double)sysconf(_SC_PHYS_PAGES) * (double)sysconf(_SC_PAGE_SIZE) / m->ranks;
    fprintf(f, "source: \"shardwise-run bench machine, %d ranks at once\"\nname: this-machine\n",
            m->ranks);
    fprintf(f,
            "gpu: {source: \"the same\", bf16: %.5g GFLOP/s, memory: %.5g GB, hbm: %.5g GB/s, sms: "
            "1}\n",
            1e-9 * peak(m), 1e-9 * pages, 1e-9 * memory_roof(m));
    fprintf(f, "nodes: 1\ngpus_per_node: %d\n", m->ranks);
    for (int i = 0; i < 2; i++)
        fprintf(f, "%s: {rate: %.5g GB/s, latency: %.5g us, efficiency: %d%%%s}\n",
                i ? "nic" : "nvlink", 1e-9 * ROOF * m->link_bytes_per_s, 1e6 * m->latency_s,
                100 / ROOF, i ? ", gpus_per_nic: 1" : "");
    fprintf(f, "pcie: %.5g GB/s\n", 1e-9 * m->host_bytes_per_s);
}

bool machine_write(const struct machine *m, const struct kern_backend *b, const char *prefix,
                   struct err *e)
{
    char path[4096];
    FILE *f = open_file(prefix, "kernels", path, sizeof path, e);
    if (!f)
        return false;
    print_kernels(m, b->name, f);
    if (!close_file(f, path, e) || !(f = open_file(prefix, "cluster", path, sizeof path, e)))
        return false;
    print_cluster(m, f);
    return close_file(f, path, e);
}
