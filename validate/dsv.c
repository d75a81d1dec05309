/* DSV's runs from parts. */
#include "validate/dsv.h"

#include <gsl/gsl_sort.h>
#include <gsl/gsl_statistics_double.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "base/csv.h"

enum { RANKS = 4, HEAD_DIM = 128, MOST_HEADS = 64, KERNEL = 0, WIRE = 1, COPY = 2, CONSTANT = 3 };

struct parts {
    const struct prof_net *net;
    const struct prof_kernels *k;
};

static void add(struct dsv_run *r, const char *what, struct prediction p, double times, int class)
{
    r->term[r->terms++] = (struct dsv_term){.what = what,
                                            .time_s = times * p.time.value_s,
                                            .half = log(p.time.high_s / p.time.value_s),
                                            .class = class};
}

static void add_plain(struct dsv_run *r, const char *what, double time_s, double half, int class)
{
    r->term[r->terms++] =
        (struct dsv_term){.what = what, .time_s = time_s, .half = half, .class = class};
}

static void total(struct dsv_run *r)
{
    double time[4] = {0}, doubt[4] = {0}, half[4];
    for (int i = 0; i < r->terms; i++) {
        time[r->term[i].class] += r->term[i].time_s;
        doubt[r->term[i].class] += r->term[i].time_s * r->term[i].half;
    }
    for (int c = 0; c < 4; c++)
        half[c] = time[c] > 0 ? doubt[c] / time[c] : 0;
    r->predicted = interval_sum(time, half, 4);
}

static struct prediction collective(const struct parts *p, enum coll_op op, double bytes)
{
    struct coll_query q = {.op = op, .type = COLL_HALF, .bytes = bytes, .gpus = RANKS, .nodes = 1};
    return prof_collective(p->net, &q);
}

/* Reading and writing HBM once each, at the rate that the GEMM fit found. */
static double copy_s(const struct parts *p, double bytes)
{
    return 2 * bytes / p->k->gemm.hbm_bytes_per_s;
}

/* torch's list form of all_gather and reduce_scatter copies the whole buffer once more on each
 * call. */
static void gather_scatter(const struct parts *p, struct dsv_run *r, double bytes)
{
    add(r, "all-gather of K and of V", collective(p, COLL_ALL_GATHER, bytes), 2, WIRE);
    add(r, "reduce-scatter of dK and of dV", collective(p, COLL_REDUCE_SCATTER, bytes), 2, WIRE);
    add_plain(r, "copies of torch's list form, 4 buffers", copy_s(p, 4 * bytes), 0.2, COPY);
}

/* Both passes on one rank. 200 consecutive groups share one list, so keys stay in the cache: no
 * cache term (keys_held 0). exp1 and exp2 did not share lists: the interval is that of questions
 * outside what was measured. */
static void kernels(const struct parts *p, struct dsv_run *r, double rows, double pairs)
{
    static const char *const names[] = {"sparse attention, forward", "sparse attention, backward"};
    for (int backward = 0; backward < 2; backward++)
        add_plain(r, names[backward],
                  prof_sparse(p->k, backward, rows, pairs, 0, HEAD_DIM).time.value_s,
                  p->k->half[KIND_SPARSE][PROF_OUTSIDE], KERNEL);
}

/* ---- tables ---- */

static double median_of(const struct csv *c, const char *column, const char *key, const char *value,
                        const char *key2, const char *value2, struct arena *a)
{
    double *v = ARENA_ARRAY(a, double, c->rows + 1);
    int n = 0, at = csv_column(c, column), k = csv_column(c, key), k2 = csv_column(c, key2),
        use = csv_column(c, "usable");
    for (int i = 0; i < c->rows && at >= 0 && k >= 0 && k2 >= 0 && use >= 0; i++)
        if (!strcmp(csv_cell(c, i, k), value) && !strcmp(csv_cell(c, i, k2), value2) &&
            !strcmp(csv_cell(c, i, use), "1"))
            v[n++] = atof(csv_cell(c, i, at));
    if (!n)
        return NAN;
    gsl_sort(v, 1, (size_t)n);
    return gsl_stats_median_from_sorted_data(v, 1, (size_t)n) * 1e-3;
}

/* "2048;768;..." of a method's first usable row. */
static int kept_heads(const struct csv *c, const char *method, double *kept)
{
    int m = csv_column(c, "method"), column = csv_column(c, "kept_kv_per_head"), n = 0;
    for (int i = 0; i < c->rows && m >= 0 && column >= 0; i++) {
        if (strcmp(csv_cell(c, i, m), method))
            continue;
        for (const char *s = csv_cell(c, i, column); *s && n < MOST_HEADS;) {
            char *end;
            kept[n++] = strtod(s, &end);
            if (end == s)
                return 0;
            s = *end ? end + 1 : end;
        }
        break;
    }
    return n;
}

/* ---- runs ---- */

static struct dsv_run gather_run(const struct parts *p, const struct csv *cp, struct arena *a)
{
    struct dsv_run r = {.name = "exp5: dense all-gather and reduce-scatter, 256,000 tokens"};
    gather_scatter(p, &r, 256000.0 * 16 * HEAD_DIM * 2);
    total(&r);
    r.measured_s = median_of(cp, "time_ms", "method", "naive_allgather_rs", "phase", "timed", a);
    return r;
}

static struct dsv_run hcp_run(const struct parts *p, const struct csv *cp, struct arena *a)
{
    struct dsv_run r = {.name = "exp6 case 0: naive HCP, 64,000 tokens"};
    double kept[MOST_HEADS], most = 0, tokens = 64000;
    int heads = kept_heads(cp, "naive_hcp", kept), each = heads / RANKS;
    for (int rank = 0; rank < RANKS;
         rank++) { /* the output exchange waits for the slowest rank, forward and backward */
        double sum = 0;
        for (int h = 0; h < each; h++)
            sum += kept[rank * each + h];
        most = fmax(most, sum);
    }
    kernels(p, &r, tokens * each, tokens * most);
    double bytes = tokens / RANKS * heads * HEAD_DIM * 2;
    add(&r, "all-to-all of Q, K, V in one, and of dQ, dK, dV",
        collective(p, COLL_ALLTOALL, 3 * bytes), 2, WIRE);
    add(&r, "all-to-all of O and of dO", collective(p, COLL_ALLTOALL, bytes), 2, WIRE);
    total(&r);
    r.measured_s = median_of(cp, "time_ms", "method", "naive_hcp", "phase", "timed", a);
    return r;
}

static struct dsv_run scp_run(const struct parts *p, const struct csv *cp, struct arena *a)
{
    struct dsv_run r = {.name = "exp6 case 0: naive SCP, 64,000 tokens"};
    double kept[MOST_HEADS], sum = 0, tokens = 64000;
    int heads = kept_heads(cp, "naive_scp", kept);
    for (int h = 0; h < heads; h++)
        sum += kept[h];
    kernels(p, &r, tokens / RANKS * heads, tokens / RANKS * sum);
    gather_scatter(p, &r, tokens * heads * HEAD_DIM * 2);
    /* dK and dV of all keys are cleared, accumulated in fp32 and cast: 10 bytes an element; the
     * kernel's row_s holds that for as many keys as queries, here there are four times as many. */
    double extra = tokens * heads * (1 - 1.0 / RANKS);
    add_plain(&r, "clearing and casting dK, dV of remote keys",
              extra * 2 * HEAD_DIM * 10 / p->k->gemm.hbm_bytes_per_s, 0.3, COPY);
    total(&r);
    r.measured_s = median_of(cp, "time_ms", "method", "naive_scp", "phase", "timed", a);
    return r;
}

static void exchange(const struct parts *p, struct dsv_run *r, int layers, double tokens, int heads)
{
    add(r, "all-to-all of Q, K, V, O, both passes",
        collective(p, COLL_ALLTOALL, tokens / RANKS * heads * HEAD_DIM * 2), 8.0 * layers, WIRE);
}

static struct dsv_run full_run(const struct parts *p, const struct csv *steps, struct arena *a)
{
    struct dsv_run r = {
        .name = "exp7: training step, dense Triton attention, 32,000 tokens, 32 layers"};
    double pairs = 4.0 * 32000 * 32000;
    add(&r, "dense attention, forward", prof_dense_like(p->k, false, pairs, HEAD_DIM), 32, KERNEL);
    add(&r, "dense attention, backward", prof_dense_like(p->k, true, pairs, HEAD_DIM), 32, KERNEL);
    exchange(p, &r, 32, 32000, 16);
    r.measured_s = median_of(steps, "rank0_ms", "variant", "full", "usable", "1", a);
    double known = 0;
    for (int i = 0; i < r.terms; i++)
        known += r.term[i].time_s;
    add_plain(&r, "the stated constant: linear layers, FSDP, the rest",
              fmax(r.measured_s - known, 0), 0.1, CONSTANT);
    total(&r);
    return r;
}

static bool low_rank_run(const struct parts *p, const struct csv *layers, const struct csv *steps,
                         const struct dsv_term *constant, struct dsv_run *out, struct arena *a,
                         struct err *e)
{
    struct dsv_run r = {.name = "exp7: training step, low-rank selection and sparse attention"};
    int kernel, kept, dense = 0, sparse = 0;
    double rows = 4.0 * 32000, pairs = rows * 32000, k, sum = 0;
    if (!csv_need(layers, "kernel", &kernel, e) || !csv_need(layers, "kept_kv", &kept, e))
        return false;
    for (int i = 0; i < layers->rows; i++) {
        bool group = !strcmp(csv_cell(layers, i, kernel), "sparse_group");
        if (!csv_num(layers, i, kept, &k, e))
            return false;
        sparse += group;
        dense += !group;
        sum += group ? k : 0;
    }
    add(&r, "sparse layers, forward",
        prof_sparse(p->k, false, rows * sparse, rows * sum, 32000, HEAD_DIM), 1, KERNEL);
    add(&r, "sparse layers, backward",
        prof_sparse(p->k, true, rows * sparse, rows * sum, 32000, HEAD_DIM), 1, KERNEL);
    add(&r, "selection", prof_select(p->k, rows / 32 * 32000), sparse, KERNEL);
    /* Dense layers run torch's flash attention: FlashAttention-2 on H100, 370 and 322 TFLOP/s
     * (FlashAttention-3 paper, 16k). */
    add_plain(&r, "dense layers, FlashAttention-2",
              dense * pairs * HEAD_DIM * (4 / 370e12 + 10 / 322e12), 0.1, KERNEL);
    exchange(p, &r, 32, 32000, 16);
    add_plain(&r, constant->what, constant->time_s, constant->half, CONSTANT);
    total(&r);
    r.measured_s = median_of(steps, "rank0_ms", "variant", "low_rank", "usable", "1", a);
    *out = r;
    return true;
}

bool dsv_runs(const char *folder, const struct prof_net *net, const struct prof_kernels *k,
              struct dsv_run **out, int *count, struct arena *a, struct err *e)
{
    struct csv cp, steps, layers;
    struct parts p = {net, k};
    if (!(k->sparse.pair_s[0] > 0) || !(k->gemm.rate > 0))
        return err_set(e, ERR_INPUT, err_at_name(k->name),
                       "a profile without sparse and GEMM parts cannot make DSV's runs");
    if (!csv_read(arena_printf(a, "%s/dsv_cp.csv", folder), a, &cp, e) ||
        !csv_read(arena_printf(a, "%s/dsv_e2e.csv", folder), a, &steps, e) ||
        !csv_read(arena_printf(a, "%s/dsv_exp7_layers.csv", folder), a, &layers, e))
        return false;
    struct dsv_run *r = ARENA_ARRAY(a, struct dsv_run, 5);
    r[0] = gather_run(&p, &cp, a);
    r[1] = hcp_run(&p, &cp, a);
    r[2] = scp_run(&p, &cp, a);
    r[3] = full_run(&p, &steps, a);
    if (!low_rank_run(&p, &layers, &steps, &r[3].term[r[3].terms - 1], &r[4], a, e))
        return false;
    *out = r;
    *count = 5;
    return true;
}
