/* The ladder: kernels for the same thing, each one step better than the one before, up to those of
 * kernels/cuda/, as a table of times and of ratios to the step before and to the roof. A step is
 * checked against the double-precision reference before it is timed: on a small problem with
 * unhandy sizes, and on a few groups of the very data that it is timed on. A step that is off is
 * not timed, and bench_cuda then ends with status 5. */
#include "bench/cuda/bench.h"

#include <stdlib.h>

#include "bench/cuda/ladder.cuh"

extern "C" {
#include "tests/kernels/problem.h"
}

enum { HEADS_MAX = 16, HEADS = 4, BACKWARD_HEADS = 2, ROWS = 64000, KEEP = 5120, RANK = 16 };

/* ---- what every forward step needs ----------------------------------------------------------- */

static bool head_takes(const struct kern_head *h, int i, struct err *e)
{
    int64_t group = h->keys.group;
    if (h->keys.list && group % 16 == 0 && group >= 16 && group <= LADDER_ROWS_MAX)
        return true;
    char at[32];
    snprintf(at, sizeof at, "head %d", i);
    return err_set(e, ERR_INPUT, err_at_name(at),
                   "groups of %lld queries, want lists for groups of 16 to %d, a multiple of 16",
                   (long long)group, (int)LADDER_ROWS_MAX);
}

bool ladder_takes(const struct kern_attention *a, struct err *e)
{
    bool ok = kern_attention_check(a, false, e);
    if (ok && (a->dim != LADDER_DIM || a->head_count > HEADS_MAX || kern_scale(a) <= 0))
        ok = err_set(e, ERR_INPUT, err_at_name("ladder"),
                     "dimension %d, %d heads, scale %g: want dimension %d, up to %d heads and a "
                     "positive scale",
                     a->dim, a->head_count, (double)kern_scale(a), (int)LADDER_DIM, (int)HEADS_MAX);
    for (int i = 0; ok && i < a->head_count; i++)
        ok = head_takes(&a->heads[i], i, e);
    return ok;
}

bool ladder_forward(const struct ladder_kernel *k, const struct kern_attention *a, struct err *e)
{
    struct forward_batch b = {};
    int64_t groups = 0, rows = 0;
    if (!ladder_takes(a, e))
        return false;
    b.dim = a->dim, b.scale = kern_scale(a) * 1.4426950408889634f, b.heads = a->head_count;
    for (int i = 0; i < a->head_count; i++) {
        const struct kern_head *h = &a->heads[i];
        b.head[i] = {h->q,
                     h->k,
                     h->v,
                     h->o,
                     h->o32,
                     h->lse,
                     key_source_of(h),
                     (int32_t)h->q_rows,
                     (int32_t)h->keys.group};
        int64_t n = kern_groups(h->q_rows, h->keys.group);
        groups = n > groups ? n : groups;
        rows = h->keys.group > rows ? h->keys.group : rows;
    }
    int warps = ((int)rows + k->rows_per_warp - 1) / k->rows_per_warp;
    size_t shared = (size_t)(k->shared_bytes + k->shared_bytes_per_row * warps * k->rows_per_warp);
    return cuda_ok(dev_launch(k->run, dim3((unsigned)groups, (unsigned)a->head_count),
                              dim3((unsigned)warps * 32), shared, CUDA_STREAM, b),
                   "ladder", e);
}

/* ---- the steps ------------------------------------------------------------------------------- */

/* Variants of kernels/cuda/ as steps. */
static const char *const names[] = {"mma", "wgmma", "atomic", "vector", "bulk", "ordered"};
enum { MMA, WGMMA, ATOMIC, VECTOR, BULK, ORDERED };

template <int name> static bool forward_by(const struct kern_attention *a, struct err *e)
{
    return cuda_forward_by(names[name], a, e);
}

template <int name> static bool backward_by(const struct kern_attention *a, struct err *e)
{
    return cuda_backward_by(names[name], a, e);
}

/* Wrong on purpose (option --plant): the last key of each list is left out. */
static bool planted(const struct kern_attention *a, struct err *e)
{
    struct kern_head heads[HEADS_MAX];
    struct kern_attention b = *a;
    b.heads = heads;
    for (int i = 0; i < a->head_count && i < HEADS_MAX; i++) {
        heads[i] = a->heads[i];
        heads[i].keys.list_count--;
    }
    return ladder_naive(&b, e);
}

struct step {
    const char *name;
    ladder_attention *run;
    int least_sm, most_sm, least_group;
};

static const struct step forward_steps[] = {
    {"1 naive", ladder_naive, 0, 999, 0},  {"2 staged", ladder_staged, 0, 999, 0},
    {"3 mma", ladder_mma, 0, 999, 0},      {"4 ldmatrix", ladder_ldmatrix, 0, 999, 0},
    {"5 async", ladder_async, 0, 999, 0},  {"winner mma", forward_by<MMA>, 0, 999, 0},
    {"6 wgmma", ladder_wgmma, 90, 90, 64}, {"winner wgmma", forward_by<WGMMA>, 90, 90, 0},
};
static const struct step backward_steps[] = {
    {"1 naive", ladder_naive_backward, 0, 999, 0},  {"2 atomic", backward_by<ATOMIC>, 0, 999, 0},
    {"3 vector", backward_by<VECTOR>, 90, 999, 0},  {"4 bulk", backward_by<BULK>, 90, 999, 0},
    {"5 ordered", backward_by<ORDERED>, 0, 999, 0}, {"6 wgmma", backward_by<WGMMA>, 90, 90, 0},
};
static const struct step planted_step = {"planted", planted, 0, 999, 0};

struct select_step {
    const char *name;
    ladder_selection *run;
};
static const struct select_step select_steps[] = {{"1 bisect", ladder_bisect},
                                                  {"2 radix", ladder_radix},
                                                  {"3 tensor", ladder_tensor_radix},
                                                  {"winner fused", cuda_select}};

/* What bounds any kernel of this design, by compute capability, as published or (H200) as
 * docs/performance.md has it: TFLOP/s of the tensor cores; TB/s of gathers out of the level-2 cache
 * and of device memory; 1e9 scores a second that instructions allow (kernels/cuda/select.cu). */
struct roof {
    int sm;
    double tensor, cache, memory, scores;
};
static const struct roof roofs[] = {
    {100, 2250, 12, 7.0, 2800}, {90, 989, 9.7, 4.3, 2500}, {0, 312, 4.9, 1.5, 1700}};

static const struct roof *roof_of(const struct bench *b)
{
    const struct roof *r = roofs;
    while (r->sm > b->device.sm)
        r++;
    return r;
}

/* A byte of K or V serves `group` queries: group FLOP a byte forward. Backward: 10 D FLOP for each
 * query, 8 D bytes of dK and dV for each group. */
static double attention_roof(const struct bench *b, bool backward, int group)
{
    const struct roof *r = roof_of(b);
    double moved = backward ? 1.25 * group * r->memory : group * r->cache;
    return moved < r->tensor ? moved : r->tensor;
}

/* ---- lines of the table ---------------------------------------------------------------------- */

struct rung { /* what is the same for all steps of a table's part */
    struct bench *b;
    FILE *f;
    const char *what, *unit; /* "forward", "TFLOP/s" */
    int heads, group;
    int64_t rows, keep;
    double work, roof; /* of a call: rate = work / ms */
    double before;     /* the last step's rate; 0: none */
};

static void rung_time(struct rung *r, const char *step, bench_call *call, void *argument)
{
    char what[96], ratio[32] = "";
    snprintf(what, sizeof what, "%s, groups of %d: %s", r->what, r->group, step);
    double ms = bench_ms(r->b, what, call, argument), rate = r->work / ms;
    if (ms < 0)
        return;
    if (r->before > 0)
        snprintf(ratio, sizeof ratio, "%.2f", rate / r->before);
    fprintf(r->f, "%s,%s,%lld,%d,%d,%lld,%s,%.6f,%.4f,%s,%s,%.4f\n", r->b->gpu, r->what,
            (long long)r->rows, r->heads, r->group, (long long)r->keep, step, ms, rate, r->unit,
            ratio, rate / r->roof);
    printf("  %-44s %9.3f ms %9.2f %-8s %6s of the step before, %5.1f%% of the roof\n", what, ms,
           rate, r->unit, ratio[0] ? ratio : "-", 100 * rate / r->roof);
    r->before = rate;
}

/* A step whose result is `off` by more than `want` is not timed. */
static bool rung_holds(struct rung *r, const char *step, const char *of, double off, double want)
{
    if (off <= want)
        return true;
    printf("  %s, groups of %d: %s is wrong and not timed: %s is %.2g off, want %.2g\n", r->what,
           r->group, step, of, off, want);
    r->b->wrong++;
    return false;
}

static bool rung_error(struct rung *r, const char *step, const struct err *e)
{
    printf("  %s, groups of %d: %s failed: %s\n", r->what, r->group, step, e->text);
    r->b->failed++;
    return false;
}

/* ---- right on a small problem ---------------------------------------------------------------- */

static bool nothing(const struct kern_attention *, struct err *)
{
    return true;
}

static const struct kern_backend *reference(void)
{
    struct err e = {};
    return kern_backend_of("reference", &e);
}

/* A last group that is short, lists that end within a tile, two heads; rows of K and V in no list
 * are NaN. */
static bool right_when_small(struct rung *r, const struct step *s, bool backward)
{
    struct problem_shape shape = {};
    struct problem p, expected;
    struct kern_backend device = kern_cuda;
    struct err e = {};
    shape.dim = LADDER_DIM, shape.heads = 2, shape.group = r->group, shape.logit_std = 1;
    shape.q_rows = r->group + 21, shape.kv_rows = 200, shape.seed = 31;
    shape.keep[0] = 131, shape.keep[1] = 64;
    problem_new(&p, &shape);
    problem_twin(&expected, &p);
    bool ok = reference()->forward(&expected.a, &e) &&
              (!backward || reference()->backward(&expected.a, &e));
    for (int h = 0; ok && backward && h < shape.heads; h++) { /* what the step is given */
        size_t rows = (size_t)shape.q_rows;
        memcpy(p.head[h].lse, expected.head[h].lse, rows * 4);
        memcpy(p.head[h].o, expected.head[h].o, rows * LADDER_DIM * 2);
        memcpy(p.head[h].o32, expected.head[h].o32, rows * LADDER_DIM * 4);
    }
    device.forward = backward ? nothing : s->run;
    device.backward = backward ? s->run : nothing;
    ok = ok && problem_run(&p, &device, &e);
    struct distance d = {};
    if (ok)
        d = problem_distance(&p, &expected);
    bool guards = problem_guards_hold(&p);
    problem_free(&expected);
    problem_free(&p);
    if (!ok)
        return rung_error(r, s->name, &e);
    return rung_holds(r, s->name, "what lies beside the arrays", guards ? 0 : 1, 0) &&
           (backward ? rung_holds(r, s->name, "dQ", d.dq, 1e-2) &&
                           rung_holds(r, s->name, "dK", d.dk, 1e-2) &&
                           rung_holds(r, s->name, "dV", d.dv, 1e-2)
                     : rung_holds(r, s->name, "O", d.o, 5e-3) &&
                           rung_holds(r, s->name, "LSE", d.lse, 1e-3));
}

/* ---- right on the data that is timed --------------------------------------------------------- */

/* The first group of the first head, one in the middle and the last of the last: what the reference
 * makes of them, from copies of their rows. */
enum { SAMPLES = 3 };
struct sample {
    int head;
    int64_t first; /* row */
    int rows;
    float *o, *lse, *dq;
};

static void *host(size_t bytes)
{
    void *p = calloc(bytes ? bytes : 1, 1);
    if (!p)
        abort();
    return p;
}

static void *fetched(const void *there, size_t bytes, struct err *e)
{
    void *p = host(bytes);
    kern_cuda.get(p, there, bytes, e);
    return p;
}

/* Rows `list` of x. */
static uint16_t *picked(const uint16_t *x, const int32_t *list, int64_t count)
{
    uint16_t *rows = (uint16_t *)host((size_t)count * LADDER_DIM * 2);
    for (int64_t i = 0; i < count; i++)
        memcpy(rows + i * LADDER_DIM, x + (int64_t)list[i] * LADDER_DIM, LADDER_DIM * 2);
    return rows;
}

/* `o` and `lse` of the sample are made; `dq` too if `backward`. */
static bool sample_expect(struct sample *s, const struct kern_attention *a, bool backward,
                          struct err *e)
{
    const struct kern_head *h = &a->heads[s->head];
    size_t all = (size_t)h->kv_rows * LADDER_DIM * 2, mine = (size_t)s->rows * LADDER_DIM;
    int64_t count = h->keys.list_count, group = s->first / h->keys.group;
    int32_t *list =
        (int32_t *)fetched(h->keys.list + group * h->keys.list_stride, (size_t)count * 4, e);
    uint16_t *k_all = (uint16_t *)fetched(h->k, all, e), *v_all = (uint16_t *)fetched(h->v, all, e);
    uint16_t *q = (uint16_t *)fetched(h->q + s->first * LADDER_DIM, mine * 2, e);
    uint16_t *d_o = (uint16_t *)fetched(h->d_o + s->first * LADDER_DIM, mine * 2, e);
    uint16_t *k = picked(k_all, list, count), *v = picked(v_all, list, count);
    size_t kv = (size_t)count * LADDER_DIM * 4;
    float *dk = (float *)host(kv), *dv = (float *)host(kv);
    s->o = (float *)host(mine * 4), s->lse = (float *)host((size_t)s->rows * 4);
    s->dq = (float *)host(mine * 4);
    struct kern_head one = {};
    one.q_rows = s->rows, one.kv_rows = count, one.q = q, one.k = k, one.v = v;
    one.o32 = s->o, one.lse = s->lse, one.d_o = d_o;
    one.dq = s->dq, one.dk = dk, one.dv = dv;
    struct kern_attention alone = {LADDER_DIM, a->scale, 1, &one};
    bool ok = e->code == ERR_NONE && reference()->forward(&alone, e) &&
              (!backward || reference()->backward(&alone, e));
    void *mine_only[] = {list, k_all, v_all, q, d_o, k, v, dk, dv};
    for (void *p : mine_only)
        free(p);
    return ok;
}

static bool samples_expect(struct sample s[SAMPLES], const struct kern_attention *a, bool backward,
                           struct err *e)
{
    bool ok = true;
    for (int i = 0; i < SAMPLES; i++) {
        s[i] = {};
        s[i].head = i * (a->head_count - 1) / (SAMPLES - 1);
        const struct kern_head *h = &a->heads[s[i].head];
        int64_t groups = kern_groups(h->q_rows, h->keys.group);
        s[i].first = i * (groups - 1) / (SAMPLES - 1) * h->keys.group;
        int64_t left = h->q_rows - s[i].first;
        s[i].rows = (int)(left < h->keys.group ? left : h->keys.group);
        ok = ok && sample_expect(&s[i], a, backward, e);
    }
    return ok;
}

static void samples_free(struct sample s[SAMPLES])
{
    for (int i = 0; i < SAMPLES; i++) {
        free(s[i].o);
        free(s[i].lse);
        free(s[i].dq);
    }
}

struct error_sum { /* of a relative L2 */
    double error, norm;
};

static void add_error(struct error_sum *s, double x, double want)
{
    s->error += (x - want) * (x - want);
    s->norm += want * want;
}

static double relative(const struct error_sum *s)
{
    return s->norm > 0 ? sqrt(s->error / s->norm) : s->error;
}

/* How far O and LSE of the samples are off. */
static bool forward_off(const struct sample s[SAMPLES], const struct kern_attention *a, double *o,
                        double *lse, struct err *e)
{
    struct error_sum sum = {};
    *lse = 0;
    for (int i = 0; i < SAMPLES && e->code == ERR_NONE; i++) {
        const struct kern_head *h = &a->heads[s[i].head];
        int64_t n = (int64_t)s[i].rows * LADDER_DIM;
        uint16_t *x = (uint16_t *)fetched(h->o + s[i].first * LADDER_DIM, (size_t)n * 2, e);
        float *y = (float *)fetched(h->lse + s[i].first, (size_t)s[i].rows * 4, e);
        for (int64_t j = 0; j < n; j++)
            add_error(&sum, (double)kern_float_of(x[j]), (double)s[i].o[j]);
        for (int j = 0; j < s[i].rows; j++)
            *lse = fmax(*lse, y[j] == y[j] ? fabs((double)y[j] - (double)s[i].lse[j]) : INFINITY);
        free(x);
        free(y);
    }
    *o = relative(&sum);
    return e->code == ERR_NONE;
}

static bool backward_off(const struct sample s[SAMPLES], const struct kern_attention *a, double *dq,
                         struct err *e)
{
    struct error_sum sum = {};
    for (int i = 0; i < SAMPLES && e->code == ERR_NONE; i++) {
        const struct kern_head *h = &a->heads[s[i].head];
        int64_t n = (int64_t)s[i].rows * LADDER_DIM;
        float *x = (float *)fetched(h->dq + s[i].first * LADDER_DIM, (size_t)n * 4, e);
        for (int64_t j = 0; j < n; j++)
            add_error(&sum, (double)x[j], (double)s[i].dq[j]);
        free(x);
    }
    *dq = relative(&sum);
    return e->code == ERR_NONE;
}

/* What dK and dV of one key add up, in double: the formulas of kernels/cuda/backward.cu over all
 * groups that have the key, with O and LSE as the step was given them. */
struct key_sum {
    int64_t key, row; /* and the query that is added next */
    const uint16_t *q, *k, *v, *o, *d_o;
    const float *lse;
    double scale, dk[LADDER_DIM], dv[LADDER_DIM];
};

static double product(const uint16_t *x, const uint16_t *y)
{
    double sum = 0;
    for (int i = 0; i < LADDER_DIM; i++)
        sum += (double)kern_float_of(x[i]) * (double)kern_float_of(y[i]);
    return sum;
}

static void key_sum_add(struct key_sum *s)
{
    const uint16_t *q = s->q + s->row * LADDER_DIM, *d_o = s->d_o + s->row * LADDER_DIM;
    const uint16_t *k = s->k + s->key * LADDER_DIM, *v = s->v + s->key * LADDER_DIM;
    double p = exp2(s->scale * product(q, k) / log(2) - (double)s->lse[s->row]);
    double ds = p * (product(d_o, v) - product(d_o, s->o + s->row * LADDER_DIM)) * s->scale;
    for (int i = 0; i < LADDER_DIM; i++) {
        s->dk[i] += ds * (double)kern_float_of(q[i]);
        s->dv[i] += p * (double)kern_float_of(d_o[i]);
    }
}

static bool listed(const int32_t *list, int64_t count, int64_t key)
{
    int64_t low = 0;
    for (int64_t high = count; low < high;) {
        int64_t middle = (low + high) / 2;
        if (list[middle] < key)
            low = middle + 1;
        else
            high = middle;
    }
    return low < count && list[low] == key;
}

static void key_sum_all(struct key_sum *s, const struct kern_head *h, const int32_t *lists)
{
    for (s->row = 0; s->row < h->q_rows;) {
        int64_t group = s->row / h->keys.group, end = (group + 1) * h->keys.group;
        bool has = listed(lists + group * h->keys.list_stride, h->keys.list_count, s->key);
        for (end = end < h->q_rows ? end : h->q_rows; s->row < end; s->row++)
            if (has)
                key_sum_add(s);
    }
}

/* How far dK and dV are off in SAMPLES rows of the last head. */
static bool sums_off(const struct kern_attention *a, double *dk, double *dv, struct err *e)
{
    const struct kern_head *h = &a->heads[a->head_count - 1];
    size_t q = (size_t)h->q_rows * LADDER_DIM, kv = (size_t)h->kv_rows * LADDER_DIM;
    size_t lists = (size_t)(kern_groups(h->q_rows, h->keys.group) * h->keys.list_stride) * 4;
    void *here[] = {fetched(h->q, q * 2, e),        fetched(h->d_o, q * 2, e),
                    fetched(h->o, q * 2, e),        fetched(h->lse, (size_t)h->q_rows * 4, e),
                    fetched(h->k, kv * 2, e),       fetched(h->v, kv * 2, e),
                    fetched(h->keys.list, lists, e)};
    struct error_sum of_k = {}, of_v = {};
    for (int i = 0; i < SAMPLES && e->code == ERR_NONE; i++) {
        struct key_sum s = {};
        s.q = (const uint16_t *)here[0], s.d_o = (const uint16_t *)here[1];
        s.o = (const uint16_t *)here[2], s.lse = (const float *)here[3];
        s.k = (const uint16_t *)here[4], s.v = (const uint16_t *)here[5];
        s.scale = (double)kern_scale(a);
        s.key = ((const int32_t *)here[6])[i * (h->keys.list_count - 1) / (SAMPLES - 1)];
        key_sum_all(&s, h, (const int32_t *)here[6]);
        float *x = (float *)fetched(h->dk + s.key * LADDER_DIM, LADDER_DIM * 4, e);
        float *y = (float *)fetched(h->dv + s.key * LADDER_DIM, LADDER_DIM * 4, e);
        for (int d = 0; d < LADDER_DIM; d++) {
            add_error(&of_k, (double)x[d], s.dk[d]);
            add_error(&of_v, (double)y[d], s.dv[d]);
        }
        free(x);
        free(y);
    }
    for (void *p : here)
        free(p);
    *dk = relative(&of_k), *dv = relative(&of_v);
    return e->code == ERR_NONE;
}

static bool gradients_clear(const struct kern_attention *a, struct err *e)
{
    for (int i = 0; i < a->head_count; i++) {
        const struct kern_head *h = &a->heads[i];
        size_t q = (size_t)h->q_rows * LADDER_DIM * 4, kv = (size_t)h->kv_rows * LADDER_DIM * 4;
        if (!kern_cuda.clear(h->dq, q, e) || !kern_cuda.clear(h->dk, kv, e) ||
            !kern_cuda.clear(h->dv, kv, e))
            return false;
    }
    return true;
}

/* O of every head as NaN, so that what a step before has left is not taken for its own. */
static bool outputs_poison(const struct kern_attention *a, struct err *e)
{
    for (int i = 0; i < a->head_count; i++)
        bench_normal(a->heads[i].o, a->heads[i].q_rows * LADDER_DIM, 9, NAN);
    return kern_cuda.wait(e);
}

static bool forward_right_when_timed(struct rung *r, const struct step *s,
                                     const struct kern_attention *a,
                                     const struct sample samples[SAMPLES])
{
    struct err e = {};
    double o = 0, lse = 0;
    bool ok = outputs_poison(a, &e) && s->run(a, &e) && kern_cuda.wait(&e) &&
              forward_off(samples, a, &o, &lse, &e);
    if (!ok)
        return rung_error(r, s->name, &e);
    return rung_holds(r, s->name, "O of the data", o, 6e-3) && /* rounded to bf16 */
           rung_holds(r, s->name, "LSE of the data", lse, 1e-3);
}

static bool backward_right_when_timed(struct rung *r, const struct step *s,
                                      const struct kern_attention *a,
                                      const struct sample samples[SAMPLES])
{
    struct err e = {};
    double dq = 0, dk = 0, dv = 0;
    bool ok = gradients_clear(a, &e) && s->run(a, &e) && kern_cuda.wait(&e) &&
              backward_off(samples, a, &dq, &e) && sums_off(a, &dk, &dv, &e);
    if (!ok)
        return rung_error(r, s->name, &e);
    return rung_holds(r, s->name, "dQ of the data", dq, 1e-2) &&
           rung_holds(r, s->name, "dK of the data", dk, 1e-2) &&
           rung_holds(r, s->name, "dV of the data", dv, 1e-2);
}

/* ---- attention ------------------------------------------------------------------------------- */

struct attention_call {
    ladder_attention *run;
    struct kern_attention a;
};

static bool call_attention(void *argument, struct err *e)
{
    struct attention_call *c = (struct attention_call *)argument;
    return c->run(&c->a, e);
}

static void climb(struct rung *r, const struct step *s, const struct kern_attention *a,
                  const struct sample samples[SAMPLES], bool backward)
{
    int sm = r->b->device.sm;
    if (sm < s->least_sm || sm > s->most_sm || r->group < s->least_group ||
        !bench_time_left(r->b, "ladder") || !right_when_small(r, s, backward) ||
        !(backward ? backward_right_when_timed : forward_right_when_timed)(r, s, a, samples))
        return;
    struct attention_call call = {s->run, *a};
    rung_time(r, s->name, call_attention, &call);
}

static void attention_ladder(struct bench *b, FILE *f, bool backward, int group,
                             const struct step *steps, size_t count)
{
    struct kern_head heads[HEADS];
    struct sample samples[SAMPLES];
    struct rung r = {};
    struct err e = {};
    r.b = b, r.f = f, r.what = backward ? "backward" : "forward", r.unit = "TFLOP/s";
    r.heads = backward || b->tiny ? BACKWARD_HEADS : HEADS, r.group = group;
    r.rows = b->tiny ? 100 : ROWS, r.keep = b->tiny ? 70 : KEEP;
    r.work = (backward ? 10e-9 : 4e-9) * (double)r.rows * (double)r.keep * LADDER_DIM * r.heads;
    r.roof = attention_roof(b, backward, group);
    bench_heads(b, heads, r.heads, r.rows, LADDER_DIM);
    for (int h = 0; h < r.heads; h++)
        bench_lists(b, &heads[h], group, r.keep, (uint32_t)(h + 177));
    struct kern_attention a = {LADDER_DIM, 0, r.heads, heads};
    bool ok = (!backward || cuda_forward(&a, &e)) && samples_expect(samples, &a, backward, &e);
    if (!ok)
        rung_error(&r, "the reference", &e);
    for (size_t i = 0; ok && i < count; i++)
        climb(&r, &steps[i], &a, samples, backward);
    samples_free(samples);
    bench_release(b);
}

/* ---- selection ------------------------------------------------------------------------------- */

struct select_call {
    ladder_selection *run;
    struct kern_select s;
};

static bool call_select(void *argument, struct err *e)
{
    struct select_call *c = (struct select_call *)argument;
    return c->run(&c->s, e);
}

/* Multiples of 1/64 between -4 and 4: sums of 16 products are exact in fp32 in any order, and
 * everybody selects the same keys. */
static uint16_t *exact_numbers(struct bench *b, int64_t count, uint32_t seed)
{
    struct err e = {};
    uint16_t *there = (uint16_t *)bench_memory(b, (size_t)count * 2);
    bench_normal(there, count, seed, 1);
    uint16_t *here = (uint16_t *)fetched(there, (size_t)count * 2, &e);
    for (int64_t i = 0; i < count; i++)
        here[i] = kern_bf16_of(rintf(kern_float_of(here[i]) * 64) / 64);
    kern_cuda.put(there, here, (size_t)count * 2, &e);
    free(here);
    return there;
}

/* Groups of head `h` whose bitmap is not the reference's, of some. */
static bool selection_off(const struct kern_select_head *h, double *off, struct err *e)
{
    size_t words = (size_t)h->bitmap_words;
    uint16_t *q = (uint16_t *)fetched(h->q_lr, (size_t)h->groups * RANK * 2, e);
    uint16_t *k = (uint16_t *)fetched(h->k_lr, (size_t)h->keys * RANK * 2, e);
    uint32_t *want = (uint32_t *)host(words * 4);
    for (int i = 0; i < SAMPLES && e->code == ERR_NONE; i++) {
        int64_t group = i * (h->groups - 1) / (SAMPLES - 1);
        struct kern_select_head one = *h;
        struct kern_select s = {RANK, 1, &one};
        one.groups = 1, one.q_lr = q + group * RANK, one.k_lr = k, one.bitmap = want;
        one.threshold = NULL;
        uint32_t *got = (uint32_t *)fetched(h->bitmap + group * h->bitmap_words, words * 4, e);
        if (reference()->select(&s, e))
            *off += memcmp(got, want, words * 4) != 0;
        free(got);
    }
    free(q);
    free(k);
    free(want);
    return e->code == ERR_NONE;
}

static bool selection_right(struct rung *r, const struct select_step *step,
                            const struct kern_select *s)
{
    struct err e = {};
    double off = 0;
    bool ok = true;
    for (int h = 0; ok && h < s->head_count; h++)
        ok = kern_cuda.clear(s->heads[h].bitmap,
                             (size_t)(s->heads[h].groups * s->heads[h].bitmap_words) * 4, &e);
    ok = ok && step->run(s, &e) && kern_cuda.wait(&e);
    for (int h = 0; ok && h < s->head_count; h += s->head_count - 1)
        ok = selection_off(&s->heads[h], &off, &e);
    if (!ok)
        return rung_error(r, step->name, &e);
    return rung_holds(r, step->name, "bitmaps", off, 0);
}

static void select_ladder(struct bench *b, FILE *f, int group, int64_t rows, int64_t keep)
{
    struct kern_select_head head[HEADS];
    struct rung r = {};
    r.b = b, r.f = f, r.what = "selection", r.unit = "Gscore/s";
    r.heads = HEADS, r.group = group, r.rows = rows, r.keep = keep;
    for (int h = 0; h < HEADS; h++) {
        head[h] = {};
        head[h].groups = kern_groups(rows, group), head[h].keys = rows, head[h].keep = keep;
        head[h].bitmap_words = kern_words(rows);
        head[h].q_lr = exact_numbers(b, head[h].groups * RANK, (uint32_t)(300 + h));
        head[h].k_lr = exact_numbers(b, rows * RANK, (uint32_t)(400 + h));
        head[h].bitmap =
            (uint32_t *)bench_memory(b, (size_t)(head[h].groups * head[h].bitmap_words) * 4);
    }
    r.work = 1e-6 * (double)head[0].groups * (double)rows * HEADS, r.roof = roof_of(b)->scores;
    for (const struct select_step &step : select_steps) {
        struct select_call call = {step.run, {RANK, HEADS, head}};
        if (bench_time_left(b, "ladder") && selection_right(&r, &step, &call.s))
            rung_time(&r, step.name, call_select, &call);
    }
    bench_release(b);
}

void bench_ladder(struct bench *b)
{
    static const int groups[] = {64, 128, 32};
    FILE *f = bench_table(b, "ladder",
                          "gpu,what,rows,heads,per_group,keys,step,ms,rate,unit,to_before,to_roof");
    if (b->plant)
        attention_ladder(b, f, false, 64, &planted_step, 1);
    for (int i = 0; i < 3 && !b->plant; i++)
        attention_ladder(b, f, false, groups[i], forward_steps,
                         sizeof forward_steps / sizeof *forward_steps);
    if (!b->plant) {
        select_ladder(b, f, 64, b->tiny ? 333 : ROWS, b->tiny ? 40 : KEEP);
        attention_ladder(b, f, true, 64, backward_steps,
                         sizeof backward_steps / sizeof *backward_steps);
    }
    fclose(f);
}
