/* Movement of rows with integer-coded payloads, compared bit by bit with the plainest loops; and
 * merging of partial results. Usage: test_kernels_move [BACKEND]; without, cpu and reference. */
#include "tests/check.h"
#include "tests/kernels/problem.h"

#include <stdio.h>
#include <stdlib.h>

#include "base/rng.h"

static const struct kern_backend *backend;

/* ---- arrays in the backend's memory ---- */

enum { ARRAYS = 64, GUARD = 64, PATTERN = 0xa5 };

struct memory { /* what one test has there */
    void *raw[ARRAYS];
    size_t bytes[ARRAYS];
    int count;
};

/* A copy of `here` in the backend's memory, between two guards and `offset` bytes off alignment;
 * what is written behind its end shows up in memory_free. */
static void *there_at(struct memory *m, const void *here, size_t bytes, size_t offset)
{
    struct err e = {0};
    void *p = NULL;
    size_t all = bytes + 2 * GUARD;
    unsigned char *image = malloc(all);
    if (m->count == ARRAYS || !image)
        abort();
    memset(image, PATTERN, all);
    memcpy(image + GUARD + offset, here, bytes);
    if (!backend->allocate(all, &p, &e) || !backend->put(p, image, all, &e)) {
        fprintf(stderr, "%s\n", e.text);
        exit(1);
    }
    free(image);
    m->raw[m->count] = p;
    m->bytes[m->count++] = bytes + offset;
    return (unsigned char *)p + GUARD + offset;
}

static void *there(struct memory *m, const void *here, size_t bytes)
{
    return there_at(m, here, bytes, 0);
}

static void back(void *here, const void *from, size_t bytes)
{
    struct err e = {0};
    gsl_test(!backend->wait(&e) || !backend->get(here, from, bytes, &e), "%s: %s", backend->name,
             e.text);
}

static void memory_free(struct memory *m)
{
    for (int i = 0; i < m->count; i++) {
        unsigned char guard[GUARD];
        back(guard, (unsigned char *)m->raw[i] + GUARD + m->bytes[i], sizeof guard / 2);
        for (size_t g = 0; g < sizeof guard / 2; g++)
            if (guard[g] != PATTERN) {
                gsl_test(1, "%s: array %d was written %zu bytes behind its end", backend->name, i,
                         g);
                break;
            }
        backend->release(m->raw[i]);
    }
    m->count = 0;
}

/* ---- copy ---- */

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
    uint16_t x[ROWS][HEADS][WIDTH], packed[ROWS * HEADS * WIDTH] = {0},
                                                          back_again[ROWS][HEADS][WIDTH] = {{{0}}};
    struct kern_copy pack[6], unpack[6];
    struct memory m = {.count = 0};
    for (int r = 0; r < ROWS; r++)
        for (int h = 0; h < HEADS; h++)
            for (int d = 0; d < WIDTH; d++)
                x[r][h][d] = code(h, r, d);
    uint16_t *dx = there(&m, x, sizeof x), *dpacked = there(&m, packed, sizeof packed),
             *dback = there(&m, back_again, sizeof back_again);
    int64_t at = 0, row_bytes = WIDTH * 2, stride = (int64_t)sizeof x[0];
    for (int i = 0; i < 6; i++) {
        int64_t rows = pieces[i].end - pieces[i].begin,
                first = (pieces[i].begin * HEADS + pieces[i].head) * WIDTH;
        pack[i] = (struct kern_copy){dx + first, dpacked + at, rows, row_bytes, stride, row_bytes};
        unpack[i] =
            (struct kern_copy){dpacked + at, dback + first, rows, row_bytes, row_bytes, stride};
        at += rows * WIDTH;
    }
    struct err e = {0};
    gsl_test(!backend->copy(pack, 6, &e) || !backend->copy(unpack, 6, &e), "pack and unpack: %s",
             e.text);
    back(back_again, dback, sizeof back_again);
    back(packed, dpacked, sizeof packed);
    gsl_test(memcmp(x, back_again, sizeof x) != 0, "%s: unpack undoes pack", backend->name);
    gsl_test_int(packed[(2 * ROWS + 11) * WIDTH + 3], code(2, 11, 3),
                 "%s: head 2, row 11, column 3", backend->name);
    memory_free(&m);
}

/* Lengths, strides and addresses that are multiples of 16, 8, 4, 2 and 1; rows longer than any
 * buffer of a kernel; nothing at all. */
static void pieces_of_any_size_and_place_are_copied(void)
{
    static const struct {
        int64_t rows, bytes, src_stride, dst_stride;
        size_t src_at, dst_at;
    } cases[] = {{5, 32, 48, 32, 0, 0},
                 {7, 24, 40, 32, 8, 16},
                 {9, 12, 12, 12, 4, 0},
                 {300, 6, 10, 6, 2, 6},
                 {11, 5, 7, 9, 1, 3},
                 {1, 100000, 0, 0, 0, 0},
                 {3, 40000, 40016, 40000, 0, 0},
                 {2, 33333, 33333, 33334, 5, 0},
                 {0, 64, 64, 64, 0, 0},
                 {4, 0, 16, 16, 0, 0},
                 {1000, 64, 64, 64, 0, 0},
                 {1500, 256, 512, 256, 16, 0},
                 {1, 1, 1, 1, 15, 7},
                 {64, 257, 257, 257, 0, 0}};
    enum { CASES = sizeof cases / sizeof *cases };
    struct kern_copy c[CASES];
    unsigned char *src[CASES], *want[CASES], *dst[CASES];
    size_t dst_bytes[CASES];
    struct memory m = {.count = 0};
    for (int i = 0; i < CASES; i++) {
        size_t rows = (size_t)cases[i].rows + 1,
               src_bytes = rows * (size_t)cases[i].src_stride + (size_t)cases[i].bytes;
        dst_bytes[i] = rows * (size_t)cases[i].dst_stride + (size_t)cases[i].bytes;
        src[i] = malloc(src_bytes);
        want[i] = malloc(dst_bytes[i]);
        for (size_t b = 0; b < src_bytes; b++)
            src[i][b] = (unsigned char)(b * 7 + b / 251 + (size_t)i);
        memset(want[i], 0xee, dst_bytes[i]);
        c[i] = (struct kern_copy){there_at(&m, src[i], src_bytes, cases[i].src_at),
                                  there_at(&m, want[i], dst_bytes[i], cases[i].dst_at),
                                  cases[i].rows,
                                  cases[i].bytes,
                                  cases[i].src_stride,
                                  cases[i].dst_stride};
        for (int64_t r = 0; r < cases[i].rows; r++)
            memcpy(want[i] + r * cases[i].dst_stride, src[i] + r * cases[i].src_stride,
                   (size_t)cases[i].bytes);
        dst[i] = malloc(dst_bytes[i]);
    }
    struct err e = {0};
    gsl_test(!backend->copy(c, CASES, &e), "%s: copy: %s", backend->name, e.text);
    for (int i = 0; i < CASES; i++) {
        back(dst[i], c[i].dst, dst_bytes[i]);
        gsl_test(memcmp(dst[i], want[i], dst_bytes[i]) != 0,
                 "%s: %lld rows of %lld bytes, strides %lld and %lld", backend->name,
                 (long long)c[i].rows, (long long)c[i].bytes, (long long)c[i].src_stride,
                 (long long)c[i].dst_stride);
        free(src[i]);
        free(want[i]);
        free(dst[i]);
    }
    memory_free(&m);
}

static void hundreds_of_pieces_go_in_one_call(void)
{
    enum { PIECES = 333, EACH = 24 };
    uint16_t x[PIECES * EACH], y[PIECES * EACH] = {0};
    struct kern_copy c[PIECES];
    struct memory m = {.count = 0};
    for (int i = 0; i < PIECES * EACH; i++)
        x[i] = (uint16_t)i;
    uint16_t *src = there(&m, x, sizeof x), *dst = there(&m, y, sizeof y);
    for (int i = 0; i < PIECES; i++) /* backwards */
        c[i] = (struct kern_copy){src + i * EACH, dst + (PIECES - 1 - i) * EACH, 1, EACH * 2, 0, 0};
    struct err e = {0};
    gsl_test(!backend->copy(c, PIECES, &e), "%s: copy: %s", backend->name, e.text);
    back(y, dst, sizeof y);
    int wrong = 0;
    for (int i = 0; i < PIECES * EACH; i++)
        wrong += y[i] != x[(PIECES - 1 - i / EACH) * EACH + i % EACH];
    gsl_test_int(wrong, 0, "%s: wrong elements of %d pieces", backend->name, PIECES);
    memory_free(&m);
}

/* ---- unions and lists ---- */

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
    int32_t rows[KEYS] = {0}, list[GROUPS * STRIDE] = {0}, count[GROUPS] = {0};
    uint16_t x[KEYS][WIDTH], got[KEYS][WIDTH] = {{0}};
    int64_t n = 0, expected = 0;
    struct memory m = {.count = 0};
    draw_bits(bits, GROUPS, KEYS, WORDS, 0.06);
    for (int j = 0; j < KEYS; j++)
        for (int d = 0; d < WIDTH; d++)
            x[j][d] = code(0, j, d);
    memset(all, 0xff, sizeof all);
    struct err e = {0};
    struct kern_union u = {.groups = GROUPS,
                           .keys = KEYS,
                           .bitmap_words = WORDS,
                           .bitmap = there(&m, bits, sizeof bits),
                           .all = there(&m, all, sizeof all),
                           .rows = there(&m, rows, sizeof rows),
                           .row_count = &n};
    struct kern_remap r = {.groups = GROUPS,
                           .bitmap_words = WORDS,
                           .bitmap = u.bitmap,
                           .all = u.all,
                           .list = there(&m, list, sizeof list),
                           .count = there(&m, count, sizeof count),
                           .list_stride = STRIDE};
    gsl_test(!backend->unite(&u, 1, &e), "union: %s", e.text);
    struct kern_gather g = {.src = there(&m, x, sizeof x),
                            .dst = there(&m, got, sizeof got),
                            .list = u.rows,
                            .count = n,
                            .width = WIDTH};
    gsl_test(!backend->remap(&r, 1, &e) || !backend->gather(&g, 1, &e), "remap, gather: %s",
             e.text);
    back(all, u.all, sizeof all);
    back(list, r.list, sizeof list);
    back(count, r.count, sizeof count);
    back(got, g.dst, sizeof got);
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
    struct err gone = {0};
    all[0] = 0;
    gsl_test(!backend->put(u.all, all, sizeof all, &e) || backend->remap(&r, 1, &gone) ||
                 gone.code != ERR_INPUT,
             "a key outside the union: %s", gone.text);
    memory_free(&m);
}

/* Many words, groups and entries: brute force over keys. */
static void large_unions_and_plain_lists_are_right(void)
{
    enum { GROUPS = 131, KEYS = 140000, WORDS = 4377, ENTRIES = 3, STRIDE = 800 };
    struct memory m = {.count = 0};
    struct err e = {0};
    uint32_t *bits = malloc(sizeof *bits * GROUPS * WORDS), *all = malloc(sizeof *all * WORDS),
             *want = calloc(WORDS, sizeof *want);
    int32_t *rows = calloc(KEYS, sizeof *rows), *list = calloc(GROUPS * STRIDE, sizeof *list),
            count[GROUPS] = {0};
    draw_bits(bits, GROUPS, KEYS, WORDS, 0.005);
    struct kern_union u[ENTRIES];
    int64_t n[ENTRIES] = {-1, -1, -1}, expected = 0;
    void *dbits = there(&m, bits, sizeof *bits * GROUPS * WORDS);
    for (int i = 0; i < ENTRIES; i++) /* of all groups, of one, of none; the second without rows */
        u[i] = (struct kern_union){.groups = i == 0 ? GROUPS : i == 1,
                                   .keys = KEYS,
                                   .bitmap_words = WORDS,
                                   .bitmap = dbits,
                                   .all = there(&m, all, sizeof *all * WORDS),
                                   .rows = i == 1 ? NULL : there(&m, rows, sizeof *rows * KEYS),
                                   .row_count = &n[i]};
    gsl_test(!backend->unite(u, ENTRIES, &e), "%s: unite: %s", backend->name, e.text);
    for (int64_t i = 0; i < (int64_t)GROUPS * WORDS; i++)
        want[i % WORDS] |= bits[i];
    back(all, u[0].all, sizeof *all * WORDS);
    back(rows, u[0].rows, sizeof *rows * KEYS);
    gsl_test(memcmp(all, want, sizeof *all * WORDS) != 0, "%s: OR over %d groups", backend->name,
             GROUPS);
    int wrong = 0;
    for (int j = 0; j < KEYS; j++)
        if (bit(want, j))
            wrong += rows[expected++] != j;
    gsl_test(wrong || n[0] != expected, "%s: %lld rows of the union, %d wrong", backend->name,
             (long long)n[0], wrong);
    gsl_test(n[2] != 0, "%s: no groups, no rows", backend->name);
    struct kern_remap r = {.groups = GROUPS,
                           .bitmap_words = WORDS,
                           .bitmap = dbits,
                           .list = there(&m, list, sizeof *list * GROUPS * STRIDE),
                           .count = there(&m, count, sizeof count),
                           .list_stride = STRIDE};
    gsl_test(!backend->remap(&r, 1, &e), "%s: bitmap to list: %s", backend->name, e.text);
    back(list, r.list, sizeof *list * GROUPS * STRIDE);
    back(count, r.count, sizeof count);
    wrong = 0, expected = 0;
    for (int g = 0; g < GROUPS; g++) {
        int at = 0;
        for (int j = 0; j < KEYS; j++)
            if (bit(bits + g * WORDS, j))
                wrong += list[g * STRIDE + at++] != j;
        wrong += at != count[g];
        expected += g == 0 ? at : 0;
    }
    gsl_test_int(wrong, 0, "%s: wrong entries of %d lists", backend->name, GROUPS);
    gsl_test(n[1] != expected, "%s: the union of one group", backend->name);
    memory_free(&m);
    free(bits);
    free(all);
    free(want);
    free(rows);
    free(list);
}

/* 40 keys, of which the first group has 3 and 39, the second 7; bits 40 to 95 are set as well. */
static void bits_behind_the_last_key_are_in_no_union(void)
{
    static const uint32_t bits[2][3] = {{1u << 3, 1u << 7 | ~0u << 8, ~0u},
                                        {1u << 7, ~0u << 8, ~0u}};
    static const uint32_t want[3] = {1u << 3 | 1u << 7, 1u << 7, 0};
    struct memory m = {.count = 0};
    struct err e = {0};
    uint32_t all[3] = {1, 1, 1};
    int32_t rows[3] = {0};
    int64_t n = -1;
    struct kern_union u = {.groups = 2,
                           .keys = 40,
                           .bitmap_words = 3,
                           .bitmap = there(&m, bits, sizeof bits),
                           .all = there(&m, all, sizeof all),
                           .rows = there(&m, rows, sizeof rows),
                           .row_count = &n};
    gsl_test(!backend->unite(&u, 1, &e), "%s: unite: %s", backend->name, e.text);
    back(all, u.all, sizeof all);
    back(rows, u.rows, sizeof rows);
    gsl_test(memcmp(all, want, sizeof all) != 0, "%s: keys 3, 7 and 39 alone", backend->name);
    gsl_test(n != 3 || rows[0] != 3 || rows[1] != 7 || rows[2] != 39, "%s: their rows, %lld",
             backend->name, (long long)n);
    memory_free(&m);
}

/* The part of each group in a range of keys, relative to its start; and what is refused. */
static void ranges_are_cut_out_and_long_lists_refused(void)
{
    enum { GROUPS = 3, WORDS = 70, BEGIN = 45, END = 1999, STRIDE = 1999 };
    uint32_t bits[GROUPS * WORDS], range[WORDS] = {0};
    int32_t list[GROUPS * STRIDE] = {0}, count[GROUPS] = {0};
    struct memory m = {.count = 0};
    struct err e = {0}, full = {0};
    draw_bits(bits, GROUPS, WORDS * 32, WORDS, 0.3);
    for (int j = BEGIN; j < END; j++)
        range[j / 32] |= 1u << j % 32;
    struct kern_remap r[2] = {{.groups = GROUPS,
                               .bitmap_words = WORDS,
                               .bitmap = there(&m, bits, sizeof bits),
                               .all = there(&m, range, sizeof range),
                               .list = there(&m, list, sizeof list),
                               .count = there(&m, count, sizeof count),
                               .list_stride = STRIDE,
                               .within = true}};
    r[1] = r[0];
    gsl_test(!backend->remap(r, 1, &e), "%s: remap: %s", backend->name, e.text);
    back(list, r[0].list, sizeof list);
    back(count, r[0].count, sizeof count);
    int wrong = 0, least = INT32_MAX;
    for (int g = 0; g < GROUPS; g++) {
        int at = 0;
        for (int j = BEGIN; j < END; j++)
            if (bit(bits + g * WORDS, j))
                wrong += list[g * STRIDE + at++] != j - BEGIN;
        wrong += at != count[g];
        least = at < least ? at : least;
    }
    gsl_test_int(wrong, 0, "%s: wrong entries within [%d, %d)", backend->name, BEGIN, END);
    r[1].list_stride = least - 1;
    gsl_test(backend->remap(r, 2, &full) || full.code != ERR_INPUT ||
                 !strstr(full.text, "entry 1, group 2"),
             "%s: a list without room: %s", backend->name, full.text);
    memory_free(&m);
}

/* ---- gather and scatter ---- */

/* Rows of any width, in several entries. */
static void gathers_fetch_rows_of_any_width(void)
{
    static const int64_t widths[] = {1, 3, 8, 20, 128, 9001};
    enum { CASES = sizeof widths / sizeof *widths, SRC = 40, DST = 57 };
    struct memory m = {.count = 0};
    struct err e = {0};
    uint16_t *src = malloc(sizeof *src * SRC * 9001), *dst = calloc(DST * 9001, sizeof *dst);
    int32_t list[DST];
    struct kern_gather g[CASES];
    for (int i = 0; i < DST; i++)
        list[i] = (i * 23 + 5) % SRC;
    for (int64_t i = 0; i < SRC * 9001; i++)
        src[i] = (uint16_t)(i ^ i >> 11);
    void *dlist = there(&m, list, sizeof list);
    for (int i = 0; i < CASES; i++)
        g[i] = (struct kern_gather){.src = there(&m, src, (size_t)widths[i] * SRC * 2),
                                    .dst = there(&m, dst, (size_t)widths[i] * DST * 2),
                                    .list = dlist,
                                    .count = DST,
                                    .width = widths[i]};
    gsl_test(!backend->gather(g, CASES, &e), "%s: gather: %s", backend->name, e.text);
    for (int i = 0; i < CASES; i++) {
        int64_t wrong = 0, w = widths[i];
        back(dst, g[i].dst, (size_t)w * DST * 2);
        for (int64_t k = 0; k < DST * w; k++)
            wrong += dst[k] != src[list[k / w] * w + k % w];
        gsl_test(wrong != 0, "%s: rows of %lld: %lld wrong elements", backend->name, (long long)w,
                 (long long)wrong);
    }
    memory_free(&m);
    free(src);
    free(dst);
}

static void scatter_adds_each_row_where_it_came_from(void)
{
    float grad[20][5] = {{0}}, part[3][5], sum[3][5] = {{0}};
    static const int32_t rows[] = {2, 7, 19};
    struct memory m = {.count = 0};
    struct err e = {0};
    for (int width = 4; width <= 5; width++) { /* with and without vectors of 16 bytes */
        memset(grad, 0, sizeof grad);
        memset(sum, 0, sizeof sum);
        for (int i = 0; i < 3; i++)
            for (int d = 0; d < width; d++)
                (&part[0][0])[i * width + d] = (float)(100 * i + d);
        struct kern_scatter s = {.src = there(&m, part, sizeof part),
                                 .dst = there(&m, grad, sizeof grad),
                                 .list = there(&m, rows, sizeof rows),
                                 .count = 3,
                                 .width = width};
        struct kern_scatter plain = {
            .src = s.src, .dst = there(&m, sum, sizeof sum), .count = 3, .width = width};
        gsl_test(!backend->scatter_add(&s, 1, &e) || !backend->scatter_add(&s, 1, &e) ||
                     !backend->scatter_add(&plain, 1, &e),
                 "scatter: %s", e.text);
        back(grad, s.dst, sizeof grad);
        back(sum, plain.dst, sizeof sum);
        const float *at = &grad[0][0];
        gsl_test(at[7 * width + 3] != 206 || at[19 * width] != 400 || at[3 * width] != 0,
                 "%s: rows 2, 7, 19 of %d got twice the parts", backend->name, width);
        gsl_test((&sum[0][0])[2 * width + 1] != 201, "%s: without a list row i goes to row i",
                 backend->name);
        memory_free(&m);
    }
}

/* ---- merge ---- */

static void merge_there(float *o, float *lse, const float *other_o, const float *other_lse,
                        int64_t rows, int dim)
{
    struct memory m = {.count = 0};
    struct err e = {0};
    size_t row_bytes = (size_t)rows * sizeof(float), bytes = row_bytes * (size_t)dim;
    struct kern_merge merge[2] = {{.rows = 0, .dim = dim},
                                  {.rows = rows,
                                   .dim = dim,
                                   .o = there(&m, o, bytes),
                                   .lse = there(&m, lse, row_bytes),
                                   .other_o = there(&m, other_o, bytes),
                                   .other_lse = there(&m, other_lse, row_bytes)}};
    gsl_test(!backend->merge(merge, 2, &e), "%s: merge: %s", backend->name, e.text);
    back(o, merge[1].o, bytes);
    back(lse, merge[1].lse, row_bytes);
    memory_free(&m);
}

/* Attention over the halves of the keys (by the reference backend), merged, is attention over all
 * of them; a half without keys changes nothing. */
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
    const struct kern_backend *reference = kern_backend_of("reference", &e);
    problem_new(&whole, &s);
    problem_twin(&a, &whole);
    problem_twin(&b, &whole);
    struct kern_head *first = &a.head[0], *rest = &b.head[0];
    first->kv_rows = 33;
    rest->kv_rows -= 33, rest->k += 33 * 32, rest->v += 33 * 32;
    gsl_test(!reference->forward(&whole.a, &e) || !reference->forward(&a.a, &e) ||
                 !reference->forward(&b.a, &e),
             "%s", e.text);
    merge_there(first->o32, first->lse, rest->o32, rest->lse, 40, 32);
    double far = 0;
    for (int i = 0; i < 40 * 32; i++)
        far = fmax(far, fabs((double)first->o32[i] - (double)whole.head[0].o32[i]));
    gsl_test(!(far < 1e-6), "%s: merged O is %.2g off", backend->name, far);
    gsl_test_rel((double)first->lse[39], (double)whole.head[0].lse[39], 1e-6, "merged LSE");
    rest->kv_rows = 0;
    float before = first->o32[7];
    gsl_test(!reference->forward(&b.a, &e), "no keys: %s", e.text);
    merge_there(first->o32, first->lse, rest->o32, rest->lse, 40, 32);
    gsl_test(first->o32[7] != before, "%s: merging a part without keys changes nothing",
             backend->name);
    merge_there(rest->o32, rest->lse, first->o32, first->lse, 40, 32);
    gsl_test(memcmp(rest->o32, first->o32, 40 * 32 * sizeof(float)) != 0 ||
                 rest->lse[3] != first->lse[3],
             "%s: what nothing is merged with is the whole", backend->name);
    problem_free(&whole);
    problem_free(&a);
    problem_free(&b);
}

/* LSE 0 and log2 3: weights 1/4 and 3/4, the sum's LSE is 2. */
static void merging_weighs_by_the_sums_of_exponentials(void)
{
    enum { MERGED = 70, DIM = 5 };
    float o[MERGED * DIM], other[MERGED * DIM], lse[MERGED], other_lse[MERGED];
    for (int i = 0; i < MERGED * DIM; i++)
        o[i] = 4.0f * (float)i, other[i] = 8.0f;
    for (int i = 0; i < MERGED; i++)
        lse[i] = (float)i, other_lse[i] = (float)i + log2f(3);
    merge_there(o, lse, other, other_lse, MERGED, DIM);
    int wrong = 0;
    for (int i = 0; i < MERGED * DIM; i++)
        wrong += !(fabs((double)o[i] - (i + 6.0)) < 1e-5 * (i + 6));
    for (int i = 0; i < MERGED; i++)
        wrong += !(fabs((double)lse[i] - (i + 2.0)) < 1e-5);
    gsl_test_int(wrong, 0, "%s: wrong of %d merged rows", backend->name, MERGED);
}

/* ---- rounding ---- */

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
    enum { CASES = sizeof cases / sizeof *cases, MOST = 5003 };
    static float x[MOST], y[MOST];
    static uint16_t half[MOST];
    for (int i = 0; i < MOST; i++)
        x[i] = cases[i % CASES].x;
    for (int offset = 0; offset <= 4; offset += 4) /* aligned or not */
        for (int n = 1; n <= MOST; n = n < 20 ? n + 1 : n + 4983) {
            struct memory m = {.count = 0};
            struct err e = {0};
            float *dx = there_at(&m, x, (size_t)n * 4, (size_t)offset),
                  *dy = there_at(&m, y, (size_t)n * 4, (size_t)offset);
            uint16_t *dhalf = there(&m, half, (size_t)n * 2);
            gsl_test(!backend->to_bf16(dhalf, dx, n, &e) || !backend->to_fp32(dy, dhalf, n, &e),
                     "%s: rounding: %s", backend->name, e.text);
            back(half, dhalf, (size_t)n * 2);
            back(y, dy, (size_t)n * 4);
            int wrong = 0;
            for (int i = 0; i < n; i++)
                wrong += half[i] != cases[i % CASES].bits || y[i] != kern_float_of(half[i]);
            gsl_test_int(wrong, 0, "%s: wrong of %d numbers", backend->name, n);
            memory_free(&m);
        }
    float nan = NAN;
    struct memory m = {.count = 0};
    struct err e = {0};
    uint16_t bits = 0, *there_bits = there(&m, &bits, 2);
    gsl_test(!backend->to_bf16(there_bits, there(&m, &nan, 4), 1, &e), "%s", e.text);
    back(&bits, there_bits, 2);
    gsl_test(kern_float_of(bits) == kern_float_of(bits), "%s: NaN stays NaN", backend->name);
    memory_free(&m);
}

/* ---- memory ---- */

static void too_much_memory_is_an_error(void)
{
    void *p = NULL;
    struct err e = {0};
    gsl_test(backend->allocate(SIZE_MAX - 8, &p, &e) || e.code != ERR_SYSTEM || p, "16 EB: %s",
             e.text);
}

static void nothing_to_do_is_no_error(void)
{
    struct err e = {0};
    gsl_test(!backend->copy(NULL, 0, &e) || !backend->gather(NULL, 0, &e) ||
                 !backend->scatter_add(NULL, 0, &e) || !backend->merge(NULL, 0, &e) ||
                 !backend->unite(NULL, 0, &e) || !backend->remap(NULL, 0, &e) ||
                 !backend->to_bf16(NULL, NULL, 0, &e) || !backend->to_fp32(NULL, NULL, 0, &e),
             "%s: nothing: %s", backend->name, e.text);
}

/* ---- what is refused ---- */

static void expect_refused(bool ok, const struct err *e, const char *name, const char *what)
{
    gsl_test(ok || e->code != ERR_INPUT || !strstr(e->text, name), "%s: %s: %s", backend->name,
             what, e->text);
}

#define REFUSED(call, name, what)                                                                  \
    do {                                                                                           \
        struct err e = {0};                                                                        \
        bool ok = (call);                                                                          \
        expect_refused(ok, &e, name, what);                                                        \
    } while (0)

static void *beside(const void *p, int bytes)
{
    return (char *)(uintptr_t)p + bytes;
}

static void bad_copies_are_refused(void *p)
{
    struct kern_copy c = {.src = NULL, .dst = p, .rows = 1, .bytes = 4};
    REFUSED(backend->copy(NULL, 1, &e), "copy", "entries that are nowhere");
    REFUSED(backend->copy(&c, 1, &e), "NULL", "no source");
    c.src = p, c.rows = INT64_C(1) << 60, c.bytes = 16, c.src_stride = c.dst_stride = 16;
    REFUSED(backend->copy(&c, 1, &e), "16 TB", "2^64 bytes");
    c.rows = -1;
    REFUSED(backend->copy(&c, 1, &e), "-1", "less rows than none");
}

static void bad_gathers_are_refused(void *p)
{
    struct kern_gather g = {.src = p, .dst = p, .list = NULL, .count = 1, .width = 1};
    struct kern_scatter s = {.src = p, .dst = p, .count = -1, .width = 1};
    REFUSED(backend->gather(NULL, 1, &e), "gather", "entries that are nowhere");
    REFUSED(backend->gather(&g, 1, &e), "list", "no list");
    g.list = beside(p, 2);
    REFUSED(backend->gather(&g, 1, &e), "list", "a list beside its place");
    g.list = p, g.dst = NULL;
    REFUSED(backend->gather(&g, 1, &e), "NULL", "no destination");
    REFUSED(backend->scatter_add(NULL, 1, &e), "scatter", "entries that are nowhere");
    REFUSED(backend->scatter_add(&s, 1, &e), "-1", "less rows than none");
    s.count = 1, s.src = beside(p, 2);
    REFUSED(backend->scatter_add(&s, 1, &e), "src", "floats beside their place");
    s.src = p, s.dst = beside(p, 1);
    REFUSED(backend->scatter_add(&s, 1, &e), "dst", "sums beside their place");
    s.dst = p, s.list = beside(p, 3);
    REFUSED(backend->scatter_add(&s, 1, &e), "list", "a list beside its place");
}

static void bad_merges_and_roundings_are_refused(void *p)
{
    struct kern_merge w = {.rows = 1, .dim = 1, .o = p, .lse = NULL, .other_o = p, .other_lse = p};
    REFUSED(backend->merge(NULL, 1, &e), "merge", "entries that are nowhere");
    REFUSED(backend->merge(&w, 1, &e), "NULL", "no LSE");
    w.lse = beside(p, 2);
    REFUSED(backend->merge(&w, 1, &e), "lse", "LSE beside its place");
    w.lse = p, w.other_o = beside(p, 2);
    REFUSED(backend->merge(&w, 1, &e), "other_o", "O beside its place");
    w.other_o = p, w.rows = INT64_MAX;
    REFUSED(backend->merge(&w, 1, &e), "rows", "2^63 rows");
    REFUSED(backend->to_bf16(NULL, p, 1, &e), "to_bf16", "no output");
    REFUSED(backend->to_bf16(beside(p, 1), p, 1, &e), "dst", "an odd output");
    REFUSED(backend->to_bf16(p, beside(p, 2), 1, &e), "src", "floats beside their place");
    REFUSED(backend->to_bf16(p, p, INT64_MAX, &e), "elements", "2^63 numbers");
    REFUSED(backend->to_fp32(p, NULL, 1, &e), "to_fp32", "no input");
    REFUSED(backend->to_fp32(beside(p, 2), p, 1, &e), "dst", "floats beside their place");
    REFUSED(backend->to_fp32(p, p, -1, &e), "-1", "less numbers than none");
}

static void bad_unions_are_refused(void *p)
{
    int64_t n;
    struct kern_union u = {
        .groups = 1, .keys = 64, .bitmap_words = 1, .bitmap = p, .all = p, .row_count = &n};
    REFUSED(backend->unite(NULL, 1, &e), "unite", "entries that are nowhere");
    REFUSED(backend->unite(&u, 1, &e), "64 keys", "64 keys in a word");
    u.keys = INT64_MAX;
    REFUSED(backend->unite(&u, 1, &e), "keys", "2^63 keys");
    u.keys = 20, u.bitmap = NULL;
    REFUSED(backend->unite(&u, 1, &e), "NULL", "no bitmap");
    u.bitmap = beside(p, 2);
    REFUSED(backend->unite(&u, 1, &e), "bitmap", "a bitmap beside its place");
    u.bitmap = p, u.rows = beside(p, 1);
    REFUSED(backend->unite(&u, 1, &e), "rows", "rows beside their place");
    u.rows = NULL, u.row_count = NULL;
    REFUSED(backend->unite(&u, 1, &e), "NULL", "nowhere for the number of rows");
}

static void bad_remaps_are_refused(void *p)
{
    struct kern_remap r = {.groups = 1, .bitmap_words = 1, .bitmap = NULL, .list = p, .count = p};
    REFUSED(backend->remap(NULL, 1, &e), "remap", "entries that are nowhere");
    REFUSED(backend->remap(&r, 1, &e), "NULL", "no bitmap");
    r.bitmap = beside(p, 2);
    REFUSED(backend->remap(&r, 1, &e), "bitmap", "a bitmap beside its place");
    r.bitmap = p, r.list_stride = 1, r.list = NULL;
    REFUSED(backend->remap(&r, 1, &e), "NULL", "no list");
    r.list = p, r.count = beside(p, 2);
    REFUSED(backend->remap(&r, 1, &e), "count", "counts beside their place");
    r.count = p, r.groups = INT64_MAX;
    REFUSED(backend->remap(&r, 1, &e), "groups", "2^63 groups");
}

/* Backends of a device look at what they are given: a wrong address there would end the process's
 * use of it. */
static void bad_descriptors_are_refused(void)
{
    float x[4] = {0};
    struct memory m = {.count = 0};
    void *p = there(&m, x, sizeof x);
    bad_copies_are_refused(p);
    bad_gathers_are_refused(p);
    bad_merges_and_roundings_are_refused(p);
    bad_unions_are_refused(p);
    bad_remaps_are_refused(p);
    memory_free(&m);
}

static void move_all(void)
{
    pack_and_unpack_are_inverse_bit_for_bit();
    pieces_of_any_size_and_place_are_copied();
    hundreds_of_pieces_go_in_one_call();
    remapped_lists_fetch_the_rows_that_the_bitmap_names();
    large_unions_and_plain_lists_are_right();
    bits_behind_the_last_key_are_in_no_union();
    ranges_are_cut_out_and_long_lists_refused();
    gathers_fetch_rows_of_any_width();
    scatter_adds_each_row_where_it_came_from();
    merged_halves_are_the_whole();
    merging_weighs_by_the_sums_of_exponentials();
    bf16_rounds_to_even();
    too_much_memory_is_an_error();
    nothing_to_do_is_no_error();
    if (!backend->host)
        bad_descriptors_are_refused();
}

int main(int argc, char **argv)
{
    static const char *const names[] = {"cpu", "reference"};
    for (int i = 0; i < (argc > 1 ? 1 : 2); i++) {
        struct err e = {0};
        backend = kern_backend_of(argc > 1 ? argv[1] : names[i], &e);
        if (!backend) {
            printf("skipped: %s\n", e.text);
            return 77;
        }
        move_all();
    }
    struct err e = {0};
    gsl_test(kern_backend_of("tpu", &e) != NULL || e.code != ERR_INPUT, "an unknown backend: %s",
             e.text);
    return gsl_test_summary();
}
