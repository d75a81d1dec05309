/* Attention of every backend and instruction set against the double-precision reference on the same
 * bf16 inputs, and properties that need no reference. Usage: test_kernels_attention
 * [backend[/isa]]; default: every one of this machine. */
#include "tests/check.h"
#include "tests/kernels/problem.h"
#include "tests/kernels/rounding.h"

#include <stdio.h>
#include <stdlib.h>

#include "base/rng.h"

static const struct kern_backend *backend; /* under test */
static const char *label;

/* Arithmetic is fp32 on exact bf16 inputs. One rounding of a logit of 130 (log2 units, the largest
 * here) is 8e-6, and that is the relative error of its weight; bf16 arithmetic would need 5e-3.
 * Rows of dQ cancel most where all keys share an offset. A CUDA backend that rounds P and dS to
 * bf16 is held to the wider bounds, or to twice the distance of the rounding reference (rounding.h)
 * where that is more: with an offset of 50 common to all logits, rounding dS alone moves dQ by 12%.
 */
struct bounds {
    double o, lse, grad, o_row, grad_row;
};

static bool rounds(const struct kern_backend *b)
{
    return strcmp(b->name, "cuda") == 0;
}

static struct bounds bounds_of(const struct kern_backend *b)
{
    return rounds(b) ? (struct bounds){5e-3, 1e-3, 1e-2, 3e-2, 3e-2}
                     : (struct bounds){5e-5, 1e-4, 1e-4, 2e-4, 1e-3};
}

/* `r`: what rounding to bf16 costs here; zero where that is not computed. */
static void expect_within(const struct distance *d, const struct distance *r, const char *what)
{
    struct bounds b = bounds_of(backend);
    const struct {
        const char *name;
        double error, bound, rounding;
    } all[] = {{"O", d->o, b.o, r->o},
               {"LSE", d->lse, b.lse, 0},
               {"dQ", d->dq, b.grad, r->dq},
               {"dK", d->dk, b.grad, r->dk},
               {"dV", d->dv, b.grad, r->dv},
               {"worst row of O", d->o_row, b.o_row, r->o_row},
               {"worst row of dQ", d->dq_row, b.grad_row, r->dq_row},
               {"worst row of dK", d->dk_row, b.grad_row, r->dk_row},
               {"worst row of dV", d->dv_row, b.grad_row, r->dv_row}};
    for (size_t i = 0; i < sizeof all / sizeof *all; i++) {
        double bound = rounds(backend) ? fmax(all[i].bound, 2 * all[i].rounding) : all[i].bound;
        gsl_test(!(all[i].error <= bound), "%s: %s: %s is %.2g off, want %.2g", label, what,
                 all[i].name, all[i].error, bound);
    }
    gsl_test(d->rounded != 0, "%s: %s: O is O32 rounded to bf16", label, what);
}

static void expect_near(const struct distance *d, const char *what)
{
    expect_within(d, &(struct distance){0}, what);
}

/* FlashAttention's rule: at most twice as far from the exact result, anywhere, as arithmetic that
 * rounds where tensor cores do. */
static void expect_rounding_rule(const struct problem *p, const struct problem *rounded,
                                 const struct problem *exact, const char *what)
{
    struct rounding_errors x = rounding_errors(p, exact), r = rounding_errors(rounded, exact);
    static const char *const name[] = {"O", "dQ", "dK", "dV"};
    const double error[] = {x.o, x.dq, x.dk, x.dv}, allowed[] = {r.o, r.dq, r.dk, r.dv};
    for (int i = 0; i < 4; i++)
        gsl_test(!(error[i] <= 2 * allowed[i] + 1e-5),
                 "%s: %s: %s is %.2g off at worst, rounding to bf16 %.2g", label, what, name[i],
                 error[i], allowed[i]);
}

/* Against the exact result and against the one that rounds. */
static void expect_like(const struct problem *p, const struct problem *exact, const char *what)
{
    struct problem rounded;
    problem_twin(&rounded, p);
    rounding_run(&rounded);
    struct distance d = problem_distance(p, exact), r = problem_distance(&rounded, exact);
    expect_within(&d, &r, what);
    expect_rounding_rule(p, &rounded, exact, what);
    problem_free(&rounded);
}

static bool run(struct problem *p, const struct kern_backend *b, const char *what)
{
    struct err e = {0};
    bool ok = problem_run(p, b, &e);
    gsl_test(!ok, "%s: %s: %s", label, what, ok ? "runs" : e.text);
    gsl_test(!problem_guards_hold(p), "%s: %s: nothing is written outside the arrays", label, what);
    return ok;
}

/* Runs the shape on the backend and on the reference; the caller looks at p and frees both. */
static void both(const struct problem_shape *s, struct problem *p, struct problem *r,
                 const char *what)
{
    problem_new(p, s);
    problem_twin(r, p);
    struct err e = {0};
    gsl_test(!kern_backend_of("reference", &e)->forward(&r->a, &e), "reference forward: %s",
             e.text);
    gsl_test(!kern_backend_of("reference", &e)->backward(&r->a, &e), "reference backward: %s",
             e.text);
    run(p, backend, what);
}

static void expect_like_reference(const struct problem_shape *s, const char *what)
{
    struct problem p, r;
    both(s, &p, &r, what);
    expect_like(&p, &r, what);
    problem_free(&p);
    problem_free(&r);
}

static void dense_equals_the_definition_at_every_dimension(void)
{
    static const int dims[] = {16, 48, 64, 96, 128, 256};
    for (size_t i = 0; i < sizeof dims / sizeof *dims; i++) {
        char what[64];
        snprintf(what, sizeof what, "dense, dim %d", dims[i]);
        struct problem_shape s = {.dim = dims[i],
                                  .heads = 2,
                                  .q_rows = 141,
                                  .kv_rows = 203,
                                  .keep = {-1, -1},
                                  .logit_std = 1,
                                  .seed = 1};
        expect_like_reference(&s, what);
    }
}

static void every_number_of_keys_is_right_at_tile_borders(void)
{
    static const int keeps[] = {0, 1, 2, 63, 64, 65, 127, 128, 129, 255, 256, 257, 300};
    for (size_t i = 0; i < sizeof keeps / sizeof *keeps; i++) {
        char what[64];
        snprintf(what, sizeof what, "%d keys of 300", keeps[i]);
        struct problem_shape s = {.dim = 64,
                                  .heads = 1,
                                  .q_rows = 100,
                                  .kv_rows = 300,
                                  .group = 32,
                                  .keep = {keeps[i]},
                                  .logit_std = 1,
                                  .seed = 2};
        expect_like_reference(&s, what);
    }
}

static void heads_may_keep_different_numbers_of_keys(void)
{
    struct problem_shape s = {.dim = 128,
                              .heads = 4,
                              .q_rows = 130,
                              .kv_rows = 400,
                              .group = 64,
                              .keep = {17, 391, -1, 0},
                              .logit_std = 1,
                              .seed = 3};
    expect_like_reference(&s, "17, 391, all and no keys");
}

static void groups_of_any_size_are_right(void)
{
    static const int groups[] = {1, 7, 16, 33, 128, 200, 1000};
    for (size_t i = 0; i < sizeof groups / sizeof *groups; i++) {
        char what[64];
        snprintf(what, sizeof what, "groups of %d queries", groups[i]);
        struct problem_shape s = {.dim = 64,
                                  .heads = 2,
                                  .q_rows = 270,
                                  .kv_rows = 150,
                                  .group = groups[i],
                                  .keep = {40, 99},
                                  .logit_std = 1,
                                  .seed = 4};
        expect_like_reference(&s, what);
    }
}

static void sharp_softmax_is_right_and_is_not_one_hot_by_accident(void)
{
    static const double stds[] = {1, 3, 10};
    static const double least[] = {
        30, 1.5, 1}; /* keys that the softmax mixes; a test on one-hot rows would be vacuous */
    for (int i = 0; i < 3; i++) {
        char what[64];
        snprintf(what, sizeof what, "logits of standard deviation %g", stds[i]);
        struct problem_shape s = {.dim = 128,
                                  .heads = 1,
                                  .q_rows = 64,
                                  .kv_rows = 256,
                                  .group = 32,
                                  .keep = {200},
                                  .logit_std = stds[i],
                                  .seed = 5};
        struct problem p, r;
        both(&s, &p, &r, what);
        expect_like(&p, &r, what);
        double mean = 0;
        for (int row = 0; row < 64; row++)
            mean += problem_effective(&p, 0, row) / 64;
        printf("%s: %s: the softmax mixes %.1f of 200 keys\n", label, what, mean);
        gsl_test(!(mean >= least[i]), "%s: %s: %.2f keys are mixed, want %.1f", label, what, mean,
                 least[i]);
        problem_free(&p);
        problem_free(&r);
    }
}

/* A zero-filled slot beyond the last key would have logit 0 and take the whole softmax (a defect of
 * DSV's kernel). */
static void very_negative_logits_leave_no_room_for_padding(void)
{
    static const double means[] = {-50, -90, 60};
    for (int i = 0; i < 3; i++) {
        char what[64];
        snprintf(what, sizeof what, "logits around %g", means[i]);
        struct problem_shape s = {.dim = 64,
                                  .heads = 2,
                                  .q_rows = 70,
                                  .kv_rows = 170,
                                  .group = 32,
                                  .keep = {77, 3},
                                  .logit_std = 1,
                                  .logit_mean = means[i],
                                  .seed = 6};
        expect_like_reference(&s, what);
    }
}

/* k and c are multiples of 1/8 below 8, so k + c is exact in bf16; <q, c> shifts all logits of a
 * query alike. */
static void an_offset_common_to_all_keys_changes_nothing(void)
{
    struct problem_shape s = {.dim = 64,
                              .heads = 1,
                              .q_rows = 64,
                              .kv_rows = 150,
                              .keep = {-1},
                              .logit_std = 0.5,
                              .seed = 7};
    struct problem p, shifted;
    problem_new(&p, &s);
    problem_new(&shifted, &s);
    for (int64_t i = 0; i < s.kv_rows * s.dim; i++) {
        float k = (float)(i * 7919 % 33) / 8 - 2;
        ((uint16_t *)(uintptr_t)p.head[0].k)[i] = kern_bf16_of(k);
        ((uint16_t *)(uintptr_t)shifted.head[0].k)[i] = kern_bf16_of(k + 4);
    }
    run(&p, backend, "before the offset");
    run(&shifted, backend, "after the offset");
    struct distance d = problem_distance(&shifted, &p);
    struct bounds b = bounds_of(backend);
    gsl_test(!(d.o <= 3 * b.o), "%s: an offset of the keys moves O by %.2g", label, d.o);
    gsl_test(!(d.dq <= 10 * b.grad && d.dv <= 10 * b.grad), "%s: ... and dQ, dV by %.2g, %.2g",
             label, d.dq, d.dv);
    problem_free(&p);
    problem_free(&shifted);
}

static void all_keys_as_a_list_equal_dense(void)
{
    struct problem_shape s = {.dim = 128,
                              .heads = 2,
                              .q_rows = 128,
                              .kv_rows = 384,
                              .keep = {-1, -1},
                              .logit_std = 1,
                              .group = 64,
                              .seed = 8};
    struct problem dense, list;
    problem_new(&dense, &s);
    s.keep[0] = s.keep[1] = 384;
    problem_new(&list, &s);
    run(&dense, backend, "dense");
    run(&list, backend, "all keys as a list");
    struct distance d = problem_distance(&list, &dense);
    expect_near(&d, "all keys as a list");
    problem_free(&dense);
    problem_free(&list);
}

static void bitmaps_give_the_bytes_of_lists(void)
{
    struct problem_shape s = {.dim = 64,
                              .heads = 3,
                              .q_rows = 150,
                              .kv_rows = 333,
                              .keep = {31, 333, 0},
                              .logit_std = 1,
                              .group = 50,
                              .seed = 9};
    struct problem list, bits;
    problem_new(&list, &s);
    problem_new(&bits, &s);
    problem_use_bitmaps(&bits);
    run(&list, backend, "lists");
    run(&bits, backend, "bitmaps");
    if (backend->exact)
        gsl_test(!problem_same(&list, &bits), "%s: bitmaps give the bytes of lists", label);
    struct distance d = problem_distance(&bits, &list);
    expect_near(&d, "bitmaps");
    problem_free(&list);
    problem_free(&bits);
}

static void copy_row(void *to, const void *from, int64_t i, int64_t j, size_t bytes)
{
    memcpy((char *)to + (size_t)i * bytes, (const char *)from + (size_t)j * bytes, bytes);
}

/* Keys in another order, the lists with them: O and dQ are the same, dK and dV move with the keys,
 * but for the rounding of sums in another order. */
static void the_order_of_keys_does_not_matter(void)
{
    enum { KEYS = 300 };
    struct problem_shape s = {.dim = 64,
                              .heads = 1,
                              .q_rows = 96,
                              .kv_rows = KEYS,
                              .group = 32,
                              .keep = {90},
                              .logit_std = 1,
                              .seed = 14};
    struct problem p, moved, back;
    problem_new(&p, &s);
    problem_new(&moved, &s);
    problem_twin(&back, &p);
    size_t half = (size_t)s.dim * 2, full = (size_t)s.dim * 4;
    int64_t place[KEYS];
    for (int64_t j = 0; j < s.kv_rows; j++) {
        place[j] = s.kv_rows - 1 - j;
        copy_row((void *)(uintptr_t)moved.head[0].k, p.head[0].k, place[j], j, half);
        copy_row((void *)(uintptr_t)moved.head[0].v, p.head[0].v, place[j], j, half);
    }
    for (int64_t g = 0, stride = p.head[0].keys.list_stride; g < 3; g++)
        for (int64_t n = 0; n < s.keep[0]; n++)
            moved.list[0][g * stride + n] =
                (int32_t)place[p.list[0][g * stride + s.keep[0] - 1 - n]];
    run(&p, backend, "keys in order");
    run(&moved, backend, "keys in reverse");
    for (int64_t j = 0; j < s.kv_rows; j++) {
        copy_row(back.head[0].dk, moved.head[0].dk, j, place[j], full);
        copy_row(back.head[0].dv, moved.head[0].dv, j, place[j], full);
    }
    memcpy(back.head[0].o, moved.head[0].o, (size_t)s.q_rows * half);
    memcpy(back.head[0].o32, moved.head[0].o32, (size_t)s.q_rows * full);
    memcpy(back.head[0].dq, moved.head[0].dq, (size_t)s.q_rows * full);
    memcpy(back.head[0].lse, moved.head[0].lse, (size_t)s.q_rows * sizeof(float));
    struct distance d = problem_distance(&back, &p);
    expect_near(&d, "keys in reverse");
    problem_free(&back);
    problem_free(&moved);
    problem_free(&p);
}

static void a_second_run_gives_the_same_bytes(void)
{
    struct problem_shape s = {.dim = 64,
                              .heads = 3,
                              .q_rows = 333,
                              .kv_rows = 260,
                              .keep = {100, -1, 33},
                              .logit_std = 1,
                              .group = 32,
                              .seed = 10};
    struct problem p, again;
    problem_new(&p, &s);
    problem_new(&again, &s);
    run(&p, backend, "first run");
    run(&again, backend, "second run");
    if (backend->exact)
        gsl_test(!problem_same(&p, &again), "%s: two runs give the same bytes", label);
    struct distance d = problem_distance(&again, &p);
    double far = fmax(fmax(d.o, d.dq), fmax(d.dk, d.dv)); /* sums in another order */
    gsl_test(!(far <= 1e-5), "%s: two runs are %.2g apart, want 1e-5", label, far);
    problem_free(&p);
    problem_free(&again);
}

static float sum_of(const float *x, int64_t rows, int dim, int column, double *magnitude)
{
    double sum = 0;
    *magnitude = 0;
    for (int64_t i = 0; i < rows; i++) {
        sum += (double)x[i * dim + column];
        *magnitude += fabs((double)x[i * dim + column]);
    }
    return (float)sum;
}

/* V = 1 gives O = 1; probabilities of a row sum to 1, so sum_j dV_j = sum_i dO_i; softmax does not
 * see a common shift of K, so sum_j dK_j = 0. */
static void expect_invariants(const struct problem *p)
{
    const struct problem_shape *s = &p->shape;
    double tolerance = rounds(backend) ? 1e-2 : 1e-4, far = 0, dv = 0, dk = 0, size, other;
    for (int h = 0; h < s->heads; h++) {
        for (int64_t i = 0; i < s->q_rows * s->dim; i++)
            far = fmax(far, fabs((double)p->head[h].o32[i] - 1));
        for (int d = 0; d < s->dim; d++) {
            double out = 0;
            for (int64_t i = 0; i < s->q_rows; i++)
                out += (double)kern_float_of(p->head[h].d_o[i * s->dim + d]);
            dv = fmax(dv, fabs((double)sum_of(p->head[h].dv, s->kv_rows, s->dim, d, &size) - out) /
                              size);
            dk =
                fmax(dk, fabs((double)sum_of(p->head[h].dk, s->kv_rows, s->dim, d, &other)) / size);
        }
    }
    gsl_test(!(far <= tolerance), "%s: V = 1 gives O = 1, off by %.2g", label, far);
    gsl_test(!(dv <= tolerance), "%s: sum of dV is sum of dO, off by %.2g", label, dv);
    gsl_test(!(dk <= tolerance), "%s: sum of dK is 0, off by %.2g", label, dk);
}

/* At the length of real videos, once for each backend (other instruction sets: shorter): every one
 * of 64 (head, group) pairs against the reference, then the invariants, which need none. */
static void large_problems_are_right_and_keep_the_invariants(void)
{
    struct problem_shape s = {.dim = 16,
                              .heads = 2,
                              .q_rows = 512,
                              .kv_rows = strchr(label, '/') ? 65536 : 520000,
                              .group = 16,
                              .keep = {500, 777},
                              .logit_std = 1,
                              .seed = 11};
    struct problem p;
    expect_like_reference(&s, "as many keys as a video has");
    problem_new(&p, &s);
    for (int h = 0; h < s.heads; h++)
        for (int64_t i = 0; i < s.kv_rows * s.dim; i++)
            ((uint16_t *)(uintptr_t)p.head[h].v)[i] = 0x3f80;
    if (run(&p, backend, "V = 1"))
        expect_invariants(&p);
    problem_free(&p);
}

/* Heads that name the same K and V (grouped queries, split heads) add to the same gradients. */
static void heads_that_share_keys_add_up(void)
{
    struct problem_shape s = {.dim = 64,
                              .heads = 1,
                              .q_rows = 200,
                              .kv_rows = 100,
                              .keep = {-1},
                              .logit_std = 1,
                              .seed = 12};
    struct problem whole, split;
    problem_new(&whole, &s);
    problem_new(&split, &s);
    run(&whole, backend, "one head");
    struct kern_head *h = split.head;
    int64_t cut = 77;
    h[1] = h[0];
    h[0].q_rows = cut;
    h[1].q_rows -= cut;
    h[1].q += cut * s.dim, h[1].d_o += cut * s.dim, h[1].o += cut * s.dim, h[1].o32 += cut * s.dim;
    h[1].lse += cut, h[1].dq += cut * s.dim;
    split.a.head_count = 2;
    struct err e = {0};
    if (backend->allocate ==
        kern_backend_of("reference", &e)->allocate) { /* host memory: no mirrors needed */
        gsl_test(!backend->forward(&split.a, &e) || !backend->backward(&split.a, &e),
                 "%s: split: %s", label, e.text);
        h[0].q_rows = s.q_rows;
        struct distance d = problem_distance(&split, &whole);
        expect_near(&d, "a head in two pieces");
    }
    problem_free(&whole);
    problem_free(&split);
}

/* y = x w^T against the reference: fp32 sums of `in` products, then one rounding to bf16 (2^-9). */
static void linear_layers_are_products(void)
{
    static const struct {
        int64_t rows;
        int in, out;
    } shapes[] = {{1, 16, 16}, {33, 64, 144}, {100, 272, 400}, {64, 1024, 128}};
    struct err e = {0};
    if (!backend->linear || backend->allocate != kern_backend_of("reference", &e)->allocate)
        return; /* host memory: no mirrors needed */
    for (size_t i = 0; i < sizeof shapes / sizeof *shapes; i++) {
        int64_t rows = shapes[i].rows;
        int in = shapes[i].in, out = shapes[i].out;
        struct rng r = rng_stream(15, "linear", i, 0, 0);
        uint16_t *x = malloc((size_t)(rows + out) * (size_t)in * 2), *w = x + rows * in;
        uint16_t *y = malloc((size_t)(rows * out) * 4), *want = y + rows * out;
        double error = 0, norm = 0;
        for (int64_t n = 0; n < (rows + out) * in; n++)
            x[n] = kern_bf16_of((float)rng_normal(&r));
        memset(y, 0xff, (size_t)(rows * out) * 4);
        struct kern_linear l = {rows, in, out, x, w, y}, exact = {rows, in, out, x, w, want};
        gsl_test(!backend->linear(&l, 1, &e) ||
                     !kern_backend_of("reference", &e)->linear(&exact, 1, &e),
                 "%s: linear: %s", label, e.text);
        for (int64_t n = 0; n < rows * out; n++) {
            double d = (double)kern_float_of(y[n]) - (double)kern_float_of(want[n]);
            error += d * d, norm += (double)kern_float_of(want[n]) * (double)kern_float_of(want[n]);
        }
        gsl_test(!(sqrt(error / norm) <= 1e-3), "%s: %d inputs, %d outputs: %.2g off", label, in,
                 out, sqrt(error / norm));
        free(x);
        free(y);
    }
    struct kern_linear odd = {1, 17, 16, NULL, NULL, NULL};
    gsl_test(backend->linear(&odd, 1, &e) || e.code != ERR_INPUT, "17 inputs are refused: %s",
             e.text);
}

static void expect_list_refused(struct problem *p, const char *place, const char *what)
{
    struct err e = {0};
    gsl_test(kern_lists_check(&p->a, &e) || e.code != ERR_INPUT || !strstr(e.text, place), "%s: %s",
             what, e.text);
}

/* What kern_lists_check is for: a kernel would count such a key twice, or read beside K. */
static void wrong_lists_are_found(void)
{
    static const struct {
        const char *what, *place;
        int entry;
        int32_t key;
    } wrong[] = {{"a key named twice", "group 1, entry 2", 2, 4},
                 {"keys out of order", "group 1, entry 2", 2, 1},
                 {"a key below 0", "group 1, entry 0", 0, -1},
                 {"a key beyond the last", "group 1, entry 2", 2, 8}};
    struct problem_shape s = {.dim = 64,
                              .heads = 2,
                              .q_rows = 8,
                              .kv_rows = 8,
                              .group = 4,
                              .keep = {3, 3},
                              .logit_std = 1,
                              .seed = 13};
    struct problem p;
    struct err fine = {0};
    problem_new(&p, &s);
    for (int h = 0; h < 2; h++) { /* the second has a count for each group */
        int32_t *list = p.list[h] + p.head[h].keys.list_stride;
        for (size_t i = 0; i < sizeof wrong / sizeof *wrong; i++) {
            list[0] = 2, list[1] = 4, list[2] = 6;
            gsl_test(!kern_lists_check(&p.a, &fine), "ascending lists pass: %s", fine.text);
            list[wrong[i].entry] = wrong[i].key;
            expect_list_refused(&p, wrong[i].place, wrong[i].what);
        }
        list[0] = 2, list[1] = 4, list[2] = 6;
    }
    p.count[1][1] = (int32_t)p.head[1].keys.list_stride + 1;
    expect_list_refused(&p, "keys.count", "more keys than the list has room for");
    p.count[1][1] = -1;
    expect_list_refused(&p, "keys.count", "less keys than none");
    problem_free(&p);
}

static void expect_shape_refused(const struct problem *p, const char *what)
{
    struct err e = {0}, back = {0};
    gsl_test(backend->forward(&p->a, &e) || e.code != ERR_INPUT, "%s: %s: %s", label, what, e.text);
    gsl_test(backend->backward(&p->a, &back) || back.code != ERR_INPUT, "%s: %s: %s", label, what,
             back.text);
}

static void a_group_may_be_larger_than_any_problem(void)
{
    struct problem_shape s = {.dim = 64,
                              .heads = 2,
                              .q_rows = 40,
                              .kv_rows = 90,
                              .group = INT64_MAX,
                              .keep = {30, 90},
                              .logit_std = 1,
                              .seed = 16};
    expect_like_reference(&s, "a group of 2^63 - 1 queries");
}

static void wrong_shapes_are_refused(void)
{
    struct problem_shape s = {.dim = 64,
                              .heads = 1,
                              .q_rows = 8,
                              .kv_rows = 8,
                              .group = 4,
                              .keep = {3},
                              .logit_std = 1,
                              .seed = 13};
    struct problem p;
    problem_new(&p, &s);
    struct kern_head right = p.head[0];
    static const int dims[] = {0, 8, 60, 272, -64};
    for (size_t i = 0; i < sizeof dims / sizeof *dims; i++) {
        p.a.dim = dims[i];
        expect_shape_refused(&p, "a dimension that is no multiple of 16 up to 256");
    }
    p.a.dim = 64;
    p.a.scale = INFINITY;
    expect_shape_refused(&p, "an infinite scale");
    p.a.scale = 0;
    p.a.heads = NULL;
    expect_shape_refused(&p, "heads that are nowhere");
    p.a.heads = p.head;
    p.a.head_count = -1;
    expect_shape_refused(&p, "less heads than none");
    p.a.head_count = 1;
    p.head[0].keys.group = 0;
    expect_shape_refused(&p, "groups of 0 queries");
    p.head[0] = right;
    p.head[0].keys.list_count = p.head[0].keys.list_stride = 9;
    expect_shape_refused(&p, "lists of 9 of 8 keys");
    p.head[0] = right;
    p.head[0].keys.list_stride = 2;
    expect_shape_refused(&p, "lists of 3 keys in rows of 2");
    p.head[0].keys.count = p.count[0], p.head[0].keys.list_stride = -1;
    expect_shape_refused(&p, "lists in rows of less than none");
    p.head[0] = right;
    p.head[0].keys.list = NULL, p.head[0].keys.bitmap = (uint32_t *)(uintptr_t)p.list[0];
    expect_shape_refused(&p, "bitmaps of 8 keys in rows of no word");
    p.head[0] = right;
    p.head[0].q_rows = -1;
    expect_shape_refused(&p, "less queries than none");
    problem_free(&p);
}

static void all_tests(void)
{
    dense_equals_the_definition_at_every_dimension();
    every_number_of_keys_is_right_at_tile_borders();
    heads_may_keep_different_numbers_of_keys();
    groups_of_any_size_are_right();
    sharp_softmax_is_right_and_is_not_one_hot_by_accident();
    very_negative_logits_leave_no_room_for_padding();
    an_offset_common_to_all_keys_changes_nothing();
    all_keys_as_a_list_equal_dense();
    bitmaps_give_the_bytes_of_lists();
    the_order_of_keys_does_not_matter();
    a_second_run_gives_the_same_bytes();
    large_problems_are_right_and_keep_the_invariants();
    heads_that_share_keys_add_up();
    linear_layers_are_products();
    a_group_may_be_larger_than_any_problem();
    wrong_lists_are_found();
    wrong_shapes_are_refused();
}

int main(int argc, char **argv)
{
    const char *name = argc > 1 ? argv[1] : "cpu", *isa = strchr(name, '/');
    char base[32];
    snprintf(base, sizeof base, "%.*s", isa ? (int)(isa - name) : (int)strlen(name), name);
    if (isa)
        setenv("SHARDWISE_CPU_ISA", isa + 1, 1);
    struct err e = {0}, no = {0};
    backend = kern_backend_of(base, &e);
    label = name;
    struct problem_shape tiny = {
        .dim = 16, .heads = 1, .q_rows = 1, .kv_rows = 1, .keep = {-1}, .seed = 0};
    struct problem p;
    problem_new(&p, &tiny);
    bool runs = backend && problem_run(&p, backend, &no);
    problem_free(&p);
    if (!backend || (isa && !runs)) { /* a backend that is here and fails is no reason to skip */
        printf("skipped: %s: %s\n", name, backend ? no.text : e.text);
        return 77;
    }
    all_tests();
    return gsl_test_summary();
}
