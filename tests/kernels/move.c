/* Movement of rows with integer-coded payloads, compared bit by bit with the plainest loops; and
 * merging of partial results. CPU backends only in this file's direct calls: arrays are in host
 * memory. */
#include "tests/check.h"
#include "tests/kernels/problem.h"

#include <stdio.h>
#include <stdlib.h>

#include "base/rng.h"

static const struct kern_backend *backend;

/* Which head, row and column an element came from. */
static uint16_t code(int64_t head, int64_t row, int64_t column)
{
    return (uint16_t)(head * 20011 + row * 131 + column);
}

enum { ROWS = 37, HEADS = 5, WIDTH = 16 };

/* Projections leave [row][head][dim]; peers get [head][row][dim] of their heads. Peer 0 takes heads
 * 0-1, peer 1 the rows 0-9 of head 2 (a split head), peer 2 the rest of it and heads 3-4. */
static void pack_and_unpack_are_inverse_bit_for_bit(void)
{
    static const struct {
        int head, begin, end;
    } pieces[] = {{0, 0, ROWS},  {1, 0, ROWS}, {2, 0, 10},
                  {2, 10, ROWS}, {3, 0, ROWS}, {4, 0, ROWS}};
    uint16_t x[ROWS][HEADS][WIDTH], packed[ROWS * HEADS * WIDTH], back[ROWS][HEADS][WIDTH];
    struct kern_copy pack[6], unpack[6];
    for (int r = 0; r < ROWS; r++)
        for (int h = 0; h < HEADS; h++)
            for (int d = 0; d < WIDTH; d++)
                x[r][h][d] = code(h, r, d);
    int64_t at = 0, row_bytes = WIDTH * 2;
    for (int i = 0; i < 6; i++) {
        int64_t rows = pieces[i].end - pieces[i].begin;
        pack[i] = (struct kern_copy){x[pieces[i].begin][pieces[i].head],
                                     packed + at,
                                     rows,
                                     row_bytes,
                                     (int64_t)sizeof x[0],
                                     row_bytes};
        unpack[i] = (struct kern_copy){packed + at, back[pieces[i].begin][pieces[i].head],
                                       rows,        row_bytes,
                                       row_bytes,   (int64_t)sizeof x[0]};
        at += rows * WIDTH;
    }
    struct err e = {0};
    memset(back, 0, sizeof back);
    gsl_test(!backend->copy(pack, 6, &e) || !backend->copy(unpack, 6, &e), "pack and unpack: %s",
             e.text);
    gsl_test(memcmp(x, back, sizeof x) != 0, "%s: unpack undoes pack", backend->name);
    gsl_test_int(packed[(2 * ROWS + 11) * WIDTH + 3], code(2, 11, 3),
                 "%s: head 2, row 11, column 3", backend->name);
}

static void draw_bits(uint32_t *bits, int64_t groups, int64_t keys, int64_t words, double share)
{
    struct rng r = rng_stream(5, "bits", (uint64_t)keys, 0, 0);
    memset(bits, 0, (size_t)(groups * words) * sizeof *bits);
    for (int64_t g = 0; g < groups; g++)
        for (int64_t j = 0; j < keys; j++)
            if (rng_uniform(&r) < share)
                bits[g * words + j / 32] |= 1u << j % 32;
}

static bool bit(const uint32_t *bits, int64_t j)
{
    return bits[j / 32] >> j % 32 & 1;
}

/* Union, gather of its rows, lists in terms of them: list entry n of a group must fetch the very
 * row that the group's n-th set bit names. */
static void remapped_lists_fetch_the_rows_that_the_bitmap_names(void)
{
    enum { GROUPS = 9, KEYS = 333, WORDS = 11, STRIDE = 60 };
    uint32_t bits[GROUPS * WORDS], all[WORDS];
    int32_t rows[KEYS], list[GROUPS * STRIDE], count[GROUPS];
    uint16_t x[KEYS][WIDTH], got[KEYS][WIDTH];
    int64_t n = 0, expected = 0;
    draw_bits(bits, GROUPS, KEYS, WORDS, 0.06);
    for (int j = 0; j < KEYS; j++)
        for (int d = 0; d < WIDTH; d++)
            x[j][d] = code(0, j, d);
    struct err e = {0};
    struct kern_union u = {.groups = GROUPS,
                           .keys = KEYS,
                           .bitmap_words = WORDS,
                           .bitmap = bits,
                           .all = all,
                           .rows = rows,
                           .row_count = &n};
    struct kern_remap r = {.groups = GROUPS,
                           .bitmap_words = WORDS,
                           .bitmap = bits,
                           .all = all,
                           .list = list,
                           .count = count,
                           .list_stride = STRIDE};
    gsl_test(!backend->unite(&u, 1, &e), "union: %s", e.text);
    struct kern_gather g = {.src = x[0], .dst = got[0], .list = rows, .count = n, .width = WIDTH};
    gsl_test(!backend->remap(&r, 1, &e) || !backend->gather(&g, 1, &e), "remap, gather: %s",
             e.text);
    for (int j = 0; j < KEYS; j++) {
        bool needed = false;
        for (int group = 0; group < GROUPS; group++)
            needed = needed || bit(bits + group * WORDS, j);
        gsl_test(needed != bit(all, j), "key %d is in the union exactly if a group needs it", j);
        expected += needed;
    }
    gsl_test(n != expected, "the union has %lld rows", (long long)expected);
    for (int group = 0; group < GROUPS; group++) {
        int at = 0;
        for (int j = 0; j < KEYS; j++)
            if (bit(bits + group * WORDS, j))
                gsl_test(got[list[group * STRIDE + at++]][5] != code(0, j, 5),
                         "group %d fetches row %d", group, j);
        gsl_test_int(count[group], at, "keys of group %d", group);
    }
    all[0] = 0;
    struct err gone = {0};
    gsl_test(backend->remap(&r, 1, &gone) || gone.code != ERR_INPUT, "a key outside the union: %s",
             gone.text);
}

static void scatter_adds_each_row_where_it_came_from(void)
{
    float grad[20][4] = {{0}}, part[3][4];
    static const int32_t rows[] = {2, 7, 19};
    for (int i = 0; i < 3; i++)
        for (int d = 0; d < 4; d++)
            part[i][d] = (float)(100 * i + d);
    struct kern_scatter s = {.src = part[0], .dst = grad[0], .list = rows, .count = 3, .width = 4};
    struct err e = {0};
    gsl_test(!backend->scatter_add(&s, 1, &e) || !backend->scatter_add(&s, 1, &e), "scatter: %s",
             e.text);
    gsl_test(grad[7][3] != 206 || grad[19][0] != 400 || grad[3][0] != 0,
             "rows 2, 7, 19 got twice the parts");
    float sum[3][4] = {{0}};
    struct kern_scatter plain = {.src = part[0], .dst = sum[0], .count = 3, .width = 4};
    gsl_test(!backend->scatter_add(&plain, 1, &e) || sum[2][1] != 201,
             "without a list row i goes to row i");
}

/* Attention over the halves of the keys, merged, is attention over all of them; a half without keys
 * changes nothing. */
static void merged_halves_are_the_whole(void)
{
    struct problem_shape s = {.dim = 32,
                              .heads = 1,
                              .q_rows = 40,
                              .kv_rows = 90,
                              .keep = {-1},
                              .logit_std = 1,
                              .seed = 31};
    struct problem whole, a, b;
    struct err e = {0};
    problem_new(&whole, &s);
    problem_twin(&a, &whole);
    problem_twin(&b, &whole);
    a.head[0].kv_rows = 33;
    b.head[0].kv_rows -= 33, b.head[0].k += 33 * 32, b.head[0].v += 33 * 32;
    gsl_test(!backend->forward(&whole.a, &e) || !backend->forward(&a.a, &e) ||
                 !backend->forward(&b.a, &e),
             "%s", e.text);
    struct kern_merge m = {.rows = 40,
                           .dim = 32,
                           .o = a.head[0].o32,
                           .lse = a.head[0].lse,
                           .other_o = b.head[0].o32,
                           .other_lse = b.head[0].lse};
    gsl_test(!backend->merge(&m, 1, &e), "merge: %s", e.text);
    double far = 0;
    for (int i = 0; i < 40 * 32; i++)
        far = fmax(far, fabs((double)a.head[0].o32[i] - (double)whole.head[0].o32[i]));
    gsl_test(!(far < 1e-6), "merged O is %.2g off", far);
    gsl_test_rel((double)a.head[0].lse[39], (double)whole.head[0].lse[39], 1e-6, "merged LSE");
    b.head[0].kv_rows = 0;
    float before = a.head[0].o32[7];
    gsl_test(!backend->forward(&b.a, &e) || !backend->merge(&m, 1, &e), "no keys: %s", e.text);
    gsl_test(a.head[0].o32[7] != before, "merging a part without keys changes nothing");
    problem_free(&whole);
    problem_free(&a);
    problem_free(&b);
}

static void bf16_rounds_to_even(void)
{
    static const struct {
        float x;
        uint16_t bits;
    } cases[] = {{1.0f, 0x3f80},
                 {1.00390625f, 0x3f80},
                 {1.01171875f, 0x3f82},
                 {-0.0f, 0x8000},
                 {3.4e38f, 0x7f80}};
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        uint16_t got;
        struct err e = {0};
        backend->to_bf16(&got, &cases[i].x, 1, &e);
        gsl_test_int(got, cases[i].bits, "%g as bf16", (double)cases[i].x);
    }
    gsl_test(kern_float_of(kern_bf16_of(NAN)) == kern_float_of(kern_bf16_of(NAN)), "NaN stays NaN");
}

static void too_much_memory_is_an_error(void)
{
    void *p = NULL;
    struct err e = {0};
    gsl_test(backend->allocate(SIZE_MAX - 8, &p, &e) || e.code != ERR_SYSTEM || p, "16 EB: %s",
             e.text);
}

int main(void)
{
    static const char *const names[] = {"cpu", "reference"};
    for (int i = 0; i < 2; i++) {
        struct err e = {0};
        backend = kern_backend_of(names[i], &e);
        pack_and_unpack_are_inverse_bit_for_bit();
        remapped_lists_fetch_the_rows_that_the_bitmap_names();
        scatter_adds_each_row_where_it_came_from();
        merged_halves_are_the_whole();
        bf16_rounds_to_even();
        too_much_memory_is_an_error();
    }
    struct err e = {0};
    gsl_test(kern_backend_of("tpu", &e) != NULL || e.code != ERR_INPUT, "an unknown backend: %s",
             e.text);
    return gsl_test_summary();
}
