/* Cubes, layouts and atoms against hand arithmetic and plain definitions. */
#include "traces/tiling.h"

#include <gsl/gsl_test.h>
#include <stdlib.h>
#include <string.h>

static const struct err_at here = {"test", 0, 0};

static struct tiling tiling_of(struct grid g, int group, int block, struct arena *a)
{
    struct tiling t;
    struct err e = {0};
    gsl_test(
        !tiling_make(g, (int[3]){group, group, group}, (int[3]){block, block, block}, a, &t, &e),
        "tiling: %s", e.text);
    return t;
}

static void cubes_at_the_border_hold_fewer_tokens(void)
{
    struct arena *a = arena_new();
    struct tiling t = tiling_of((struct grid){33, 45, 80}, 4, 4, a);
    gsl_test_int(t.group.count, 9 * 12 * 20, "33x45x80 in cubes of 4: 9 x 12 x 20"); /* by hand */
    gsl_test_int(t.block.tokens[0], 64, "an inner cube");
    gsl_test_int(t.block.tokens[t.block.count - 1], 1 * 1 * 4,
                 "the last cube: 33-32, 45-44, 80-76");
    int64_t sum = 0;
    for (int i = 0; i < t.block.count; i++)
        sum += t.block.tokens[i];
    gsl_test(sum != 118800, "cubes hold all 118,800 tokens");
    arena_free(a);
}

static void slabs_are_equal_runs_of_frames(void)
{
    struct arena *a = arena_new();
    struct tiling t = tiling_of((struct grid){32, 4, 4}, 1, 1, a);
    struct layout l;
    struct err e = {0};
    gsl_test(!layout_make(&t, LAYOUT_SLABS, 4, a, &l, &e), "%s", e.text);
    int wrong = 0;
    for (int g = 0; g < t.group.count; g++)
        wrong += l.group[g] != g / 16 / 8 || l.block[g] != l.group[g];
    gsl_test_int(wrong, 0, "4 slabs of 32 frames hold 8 frames each");
    arena_free(a);
}

static void bricks_are_boxes_of_least_surface(void)
{
    struct arena *a = arena_new();
    struct tiling t = tiling_of((struct grid){16, 16, 16}, 2, 2, a);
    struct layout l;
    struct err e = {0};
    gsl_test(!layout_make(&t, LAYOUT_BRICKS, 8, a, &l, &e), "%s", e.text);
    gsl_test(memcmp(l.axis, (int[3]){2, 2, 2}, sizeof l.axis) != 0, "8 bricks of a cube are 2x2x2");
    gsl_test_int((int)l.queries[5], 512, "each holds an eighth of 4096 tokens");
    gsl_test(!layout_make(&t, LAYOUT_BRICKS, 16, a, &l, &e), "%s", e.text);
    gsl_test(l.axis[0] * l.axis[1] * l.axis[2] != 16 || l.axis[0] != 4,
             "16 bricks: the surplus cut is along t");
    arena_free(a);
}

/* A Hilbert curve visits every cell once and steps to a face neighbour. */
static void the_hilbert_curve_steps_to_neighbours(void)
{
    enum { SIDE = 8, CELLS = SIDE * SIDE * SIDE };
    int at[CELLS];
    memset(at, -1, sizeof at);
    for (int i = 0; i < CELLS; i++) {
        uint32_t p[3] = {(uint32_t)(i / 64), (uint32_t)(i / 8 % 8), (uint32_t)(i % 8)};
        uint64_t h = hilbert_index(p, 3);
        gsl_test(h >= CELLS || at[h] >= 0, "index %llu of cell %d is new", (unsigned long long)h,
                 i);
        at[h] = i;
    }
    int bad = 0;
    for (int h = 1; h < CELLS; h++)
        bad += abs(at[h] / 64 - at[h - 1] / 64) + abs(at[h] / 8 % 8 - at[h - 1] / 8 % 8) +
                   abs(at[h] % 8 - at[h - 1] % 8) !=
               1;
    gsl_test_int(bad, 0, "512 cells, 511 steps of length one");
}

static void every_layout_gives_every_shard_something(void)
{
    struct arena *a = arena_new();
    struct grid grids[] = {{5, 3, 7}, {9, 12, 20}, {1, 1, 37}, {2, 17, 3}};
    for (size_t i = 0; i < sizeof grids / sizeof grids[0]; i++) {
        struct tiling t = tiling_of(grids[i], 1, 1, a);
        for (int kind = 0; kind < LAYOUT_KINDS; kind++)
            for (int n = 1; n <= 30; n++) {
                struct layout l;
                struct err e = {0};
                if (!layout_make(&t, (enum layout_kind)kind, n, a, &l, &e)) {
                    gsl_test(kind != LAYOUT_BRICKS, "only bricks may not fit: %s", e.text);
                    continue;
                }
                int64_t least = t.tokens, most = 0, sum = 0;
                for (int s = 0; s < n; s++) {
                    least = l.queries[s] < least ? l.queries[s] : least;
                    most = l.queries[s] > most ? l.queries[s] : most;
                    sum += l.keys[s];
                }
                gsl_test(least < 1 || sum != t.tokens, "%s of %d shards: none empty, all keys",
                         layout_names[kind], n);
                gsl_test(kind != LAYOUT_BRICKS && most - least > 1,
                         "%s of %d shards of one-token cells are even", layout_names[kind], n);
            }
    }
    arena_free(a);
}

static void atoms_are_64_where_the_grid_allows(void)
{
    struct arena *a = arena_new();
    struct tiling t = tiling_of((struct grid){33, 45, 80}, 4, 4, a);
    struct atoms atoms;
    atoms_make(&t, a, &atoms);
    gsl_test_int(atoms.count, 64, "33x45x80");
    gsl_test_int(atoms.axis[0], 8, "eight along t, so that 2, 4 and 8 slabs are whole atoms");
    struct tiling small = tiling_of((struct grid){1, 1, 40}, 1, 1, a);
    atoms_make(&small, a, &atoms);
    gsl_test_int(atoms.count, 32, "40 groups in one row: 32 atoms");
    arena_free(a);
}

static void what_cannot_be_cut_is_refused(void)
{
    struct arena *a = arena_new();
    struct tiling t;
    struct err e = {0};
    gsl_test(tiling_make((struct grid){2000000000, 2000000000, 2000000000}, (int[3]){1, 1, 1},
                         (int[3]){1, 1, 1}, a, &t, &e),
             "overflow");
    gsl_test_int(e.code, ERR_INPUT, "%s", e.text);
    e = (struct err){0};
    gsl_test(tiling_make((struct grid){0, 4, 4}, (int[3]){1, 1, 1}, (int[3]){1, 1, 1}, a, &t, &e),
             "an empty axis");
    e = (struct err){0};
    t = tiling_of((struct grid){2, 2, 2}, 1, 1, a);
    struct layout l;
    gsl_test(layout_make(&t, LAYOUT_SLABS, 9, a, &l, &e), "9 shards of 8 tokens");
    gsl_test(strstr(e.text, "1 to 8") == NULL, "the message says what would be right: %s", e.text);
    e = (struct err){0};
    int side[3];
    gsl_test(tiling_parse_cube("4x4", "kv block", here, side, &e), "two numbers are no cube");
    e = (struct err){0};
    gsl_test(!tiling_parse_cube("4x8x2", "kv block", here, side, &e) || side[1] != 8, "4x8x2");
    arena_free(a);
}

int main(void)
{
    cubes_at_the_border_hold_fewer_tokens();
    slabs_are_equal_runs_of_frames();
    bricks_are_boxes_of_least_surface();
    the_hilbert_curve_steps_to_neighbours();
    every_layout_gives_every_shard_something();
    atoms_are_64_where_the_grid_allows();
    what_cannot_be_cut_is_refused();
    return gsl_test_summary();
}
