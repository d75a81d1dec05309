/* Selection and attention of one head as long as a video's, on a device that is large enough: by
 * what must hold at any size, and a few groups against the double-precision reference. Usage:
 * test_kernels_fullsize [BACKEND [ROWS]]; default: cpu, 3,000. */
#include "tests/check.h"

#include <stdio.h>
#include <stdlib.h>

#include "kernels/kern.h"

enum { DIM = 128, GROUP = 64, RANK = 16, SAMPLES = 3 };

static const struct kern_backend *backend;

static struct {
    int64_t rows, groups, keep, words;
    uint16_t *q, *k, *v, *d_o; /* here */
    uint32_t *bitmap;
} all;

static void must(bool ok, const struct err *e)
{
    if (ok)
        return;
    printf("FAIL: %s\n", e->text);
    exit(1);
}

static void *host(int64_t bytes)
{
    void *p = malloc((size_t)bytes);
    if (!p)
        abort();
    return p;
}

static void *there(const void *here, int64_t bytes)
{
    struct err e = {0};
    void *p = NULL;
    must(backend->allocate((size_t)bytes, &p, &e) &&
             (here ? backend->put(p, here, (size_t)bytes, &e)
                   : backend->clear(p, (size_t)bytes, &e)),
         &e);
    return p;
}

static void *here(const void *from, int64_t bytes)
{
    struct err e = {0};
    void *p = host(bytes);
    must(backend->wait(&e) && backend->get(p, from, (size_t)bytes, &e), &e);
    return p;
}

static uint32_t mixed(uint32_t x) /* Murmur3's last step */
{
    x = (x ^ x >> 16) * 0x85ebca6bu;
    x = (x ^ x >> 13) * 0xc2b2ae35u;
    return x ^ x >> 16;
}

/* Near enough to normal: sums of four bytes. base/rng would take longer than all the rest. */
static uint16_t *numbers(int64_t count, uint32_t seed)
{
    uint16_t *x = host(count * 2);
    for (int64_t i = 0; i < count; i++) {
        uint32_t a = mixed((uint32_t)i * 2654435761u + seed);
        int sum = (int)((a & 255) + (a >> 8 & 255) + (a >> 16 & 255) + (a >> 24)) - 510;
        x[i] = kern_bf16_of((float)sum / 148);
    }
    return x;
}

/* Every group has as many keys as it keeps, and none behind the last. */
static void selections_have_as_many_keys_as_they_keep(void)
{
    struct err e = {0};
    uint16_t *q = numbers(all.groups * RANK, 11), *k = numbers(all.rows * RANK, 12);
    void *q_there = there(q, all.groups * RANK * 2), *k_there = there(k, all.rows * RANK * 2);
    struct kern_select_head h = {.groups = all.groups,
                                 .keys = all.rows,
                                 .keep = all.keep,
                                 .q_lr = q_there,
                                 .k_lr = k_there,
                                 .bitmap = all.bitmap,
                                 .bitmap_words = all.words};
    must(backend->select(&(struct kern_select){RANK, 1, &h}, &e), &e);
    uint32_t *bits = here(all.bitmap, all.groups * all.words * 4);
    int64_t wrong = 0, behind = 0;
    for (int64_t g = 0; g < all.groups; g++) {
        const uint32_t *mine = bits + g * all.words;
        int64_t n = 0;
        for (int64_t w = 0; w < all.words; w++)
            n += __builtin_popcount(mine[w]);
        wrong += n != all.keep;
        behind += (mine[all.words - 1] & ~kern_word_keys(all.rows, all.words - 1)) != 0;
    }
    gsl_test(wrong != 0 || behind != 0,
             "%lld groups of %lld with another number of keys, %lld with keys behind the last",
             (long long)wrong, (long long)all.groups, (long long)behind);
    free(bits);
    free(q);
    free(k);
    backend->release(q_there);
    backend->release(k_there);
}

/* The head in the backend's memory. */
static struct kern_head head_there(const uint16_t *v)
{
    int64_t half = all.rows * DIM * 2;
    return (struct kern_head){
        .q_rows = all.rows,
        .kv_rows = all.rows,
        .q = there(all.q, half),
        .k = there(all.k, half),
        .v = there(v, half),
        .d_o = there(all.d_o, half),
        .keys = {.group = GROUP, .bitmap = all.bitmap, .bitmap_words = all.words},
        .o32 = there(NULL, 2 * half),
        .lse = there(NULL, all.rows * 4),
        .dq = there(NULL, 2 * half),
        .dk = there(NULL, 2 * half),
        .dv = there(NULL, 2 * half)};
}

static void head_release(const struct kern_head *h)
{
    const void *arrays[] = {h->q, h->k, h->v, h->d_o, h->o32, h->lse, h->dq, h->dk, h->dv};
    for (size_t i = 0; i < sizeof arrays / sizeof *arrays; i++)
        backend->release((void *)(uintptr_t)arrays[i]);
}

static void weights_of_a_row_add_up_to_one(void)
{
    struct err e = {0};
    uint16_t *ones = host(all.rows * DIM * 2);
    for (int64_t i = 0; i < all.rows * DIM; i++)
        ones[i] = kern_bf16_of(1);
    struct kern_head h = head_there(ones);
    must(backend->forward(&(struct kern_attention){DIM, 0, 1, &h}, &e), &e);
    float *o = here(h.o32, all.rows * DIM * 4);
    double far = 0;
    for (int64_t i = 0; i < all.rows * DIM; i++)
        far = fabs((double)o[i] - 1) <= far ? far : fabs((double)o[i] - 1); /* NaN stays */
    gsl_test(!(far <= 1e-2), "V = 1 gives O = 1: %.2g off", far);
    free(o);
    free(ones);
    head_release(&h);
}

/* Column sums of x [rows][DIM], and of what they are sums of. */
static void add_columns(const float *x, double sum[DIM], double size[DIM])
{
    for (int d = 0; d < DIM; d++)
        sum[d] = size[d] = 0;
    for (int64_t i = 0; i < all.rows; i++)
        for (int d = 0; d < DIM; d++)
            sum[d] += (double)x[i * DIM + d], size[d] += fabs((double)x[i * DIM + d]);
}

/* sum_j dV_j = sum_i dO_i, as weights add up to 1; sum_j dK_j = 0, as an offset common to all keys
 * changes nothing. */
static void sums_of_gradients_are_what_they_must_be(const struct kern_head *h)
{
    double sum[DIM], size[DIM], dv_far = 0, dk_far = 0;
    float *dv = here(h->dv, all.rows * DIM * 4), *dk = here(h->dk, all.rows * DIM * 4);
    add_columns(dv, sum, size);
    for (int d = 0; d < DIM; d++) {
        double want = 0;
        for (int64_t i = 0; i < all.rows; i++)
            want += (double)kern_float_of(all.d_o[i * DIM + d]);
        double far = fabs(sum[d] - want) / size[d];
        dv_far = far <= dv_far ? dv_far : far;
    }
    add_columns(dk, sum, size);
    for (int d = 0; d < DIM; d++) {
        double far = fabs(sum[d]) / size[d];
        dk_far = far <= dk_far ? dk_far : far;
    }
    gsl_test(!(dv_far <= 5e-3), "the sum of dV is that of dO: %.2g of its parts off", dv_far);
    gsl_test(!(dk_far <= 5e-3), "the sum of dK is 0: %.2g of its parts off", dk_far);
    free(dv);
    free(dk);
}

static double relative(const float *x, const float *y, int64_t n)
{
    double error = 0, norm = 0;
    for (int64_t i = 0; i < n; i++) {
        error += ((double)x[i] - (double)y[i]) * ((double)x[i] - (double)y[i]);
        norm += (double)y[i] * (double)y[i];
    }
    return sqrt(error / norm);
}

/* Rows of a group's keys, one after another. */
static uint16_t *picked(const uint16_t *x, const uint32_t *bits)
{
    uint16_t *rows = host(all.keep * DIM * 2);
    int64_t n = 0;
    for (int64_t j = 0; j < all.rows && n < all.keep; j++)
        if (bits[j / 32] >> j % 32 & 1)
            memcpy(rows + n++ * DIM, x + j * DIM, DIM * 2);
    return rows;
}

static void a_group_is_like_the_reference(const struct kern_head *h, int64_t group)
{
    struct err e = {0};
    int64_t first = group * GROUP, rows = all.rows - first < GROUP ? all.rows - first : GROUP;
    uint32_t *bits = here(all.bitmap + group * all.words, all.words * 4);
    uint16_t *k = picked(all.k, bits), *v = picked(all.v, bits);
    float *o = host(rows * DIM * 4), *lse = host(rows * 4), *dq = calloc((size_t)rows, DIM * 4);
    float *dk = calloc((size_t)all.keep, DIM * 4), *dv = calloc((size_t)all.keep, DIM * 4);
    struct kern_head one = {.q_rows = rows,
                            .kv_rows = all.keep,
                            .q = all.q + first * DIM,
                            .k = k,
                            .v = v,
                            .d_o = all.d_o + first * DIM,
                            .o32 = o,
                            .lse = lse,
                            .dq = dq,
                            .dk = dk,
                            .dv = dv};
    struct kern_attention a = {DIM, 0, 1, &one};
    const struct kern_backend *reference = kern_backend_of("reference", &e);
    must(reference->forward(&a, &e) && reference->backward(&a, &e), &e);
    float *o_is = here(h->o32 + first * DIM, rows * DIM * 4),
          *lse_is = here(h->lse + first, rows * 4);
    float *dq_is = here(h->dq + first * DIM, rows * DIM * 4);
    double lse_far = 0;
    for (int64_t i = 0; i < rows; i++) {
        double far = fabs((double)lse_is[i] - (double)lse[i]);
        lse_far = far <= lse_far ? lse_far : far;
    }
    double o_far = relative(o_is, o, rows * DIM), dq_far = relative(dq_is, dq, rows * DIM);
    gsl_test(!(o_far <= 5e-3 && lse_far <= 1e-3 && dq_far <= 1e-2),
             "group %lld: O is %.2g off, LSE %.2g, dQ %.2g", (long long)group, o_far, lse_far,
             dq_far);
    void *arrays[] = {bits, k, v, o, lse, dq, dk, dv, o_is, lse_is, dq_is};
    for (size_t i = 0; i < sizeof arrays / sizeof *arrays; i++)
        free(arrays[i]);
}

static void gradients_hold(void)
{
    struct err e = {0};
    struct kern_head h = head_there(all.v);
    struct kern_attention a = {DIM, 0, 1, &h};
    must(backend->forward(&a, &e) && backend->backward(&a, &e), &e);
    sums_of_gradients_are_what_they_must_be(&h);
    for (int i = 0; i < SAMPLES; i++) /* the first, one in the middle, the last */
        a_group_is_like_the_reference(&h, i * (all.groups - 1) / (SAMPLES - 1));
    head_release(&h);
}

int main(int argc, char **argv)
{
    struct err e = {0};
    backend = kern_backend_of(argc > 1 ? argv[1] : "cpu", &e);
    if (!backend) {
        printf("skipped: %s\n", e.text);
        return 77;
    }
    all.rows = argc > 2 ? atoll(argv[2]) : 3000;
    all.groups = kern_groups(all.rows, GROUP), all.words = kern_words(all.rows);
    all.keep = all.rows * 8 / 100;
    uint16_t **arrays[] = {&all.q, &all.k, &all.v, &all.d_o};
    for (uint32_t i = 0; i < 4; i++)
        *arrays[i] = numbers(all.rows * DIM, i + 1);
    all.bitmap = there(NULL, all.groups * all.words * 4);
    selections_have_as_many_keys_as_they_keep();
    weights_of_a_row_add_up_to_one();
    gradients_hold();
    backend->release(all.bitmap);
    for (int i = 0; i < 4; i++)
        free(*arrays[i]);
    return gsl_test_summary();
}
