/* Statistics against brute force over query groups and tokens, for every family and layout, and
 * against known answers. */
#include "traces/stats.h"

#include <gsl/gsl_test.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "base/rng.h"
#include "traces/pattern.h"

static const struct err_at here = {"test", 0, 0};

static const char *const families[] = {"dense",
                                       "window:t=3,h=3,w=3",
                                       "window:t=3,h=2,w=4,edge=shifted",
                                       "tile:t=4,h=4,w=6,tile_t=2,tile_h=2,tile_w=3",
                                       "spatial",
                                       "temporal:radius=1",
                                       "radial:band=4",
                                       "field:keep=0.1,select=topk",
                                       "field:beta=4",
                                       "field:select=threshold,keep=0.2",
                                       "local:t=1,h=2,w=2,random=0.05",
                                       "chunk:chunk=3",
                                       "chunk:chunk=2,causal=yes,range=2",
                                       "factor:axis=spatial",
                                       "factor:axis=temporal",
                                       "field:beta=4,keep_q=0.5",
                                       "window:t=3,h=3,w=3,keep_nodes=0.6"};
enum { FAMILIES = sizeof families / sizeof families[0] };

struct sample {
    struct tiling t;
    struct mask m;
    struct weigh w;
};

static struct sample sample_of(const char *text, struct grid g, const int group[3],
                               const int block[3], struct arena *a)
{
    struct sample s;
    struct pattern p;
    struct err e = {0};
    gsl_test(!tiling_make(g, group, block, a, &s.t, &e) || !pattern_parse(text, here, &p, &e), "%s",
             e.text);
    pattern_mask(&p, &s.t, (struct field_key){11, 0, 0, 0}, NAN, a, &s.m);
    s.w = weigh_make(&s.t.block, a);
    return s;
}

/* need[i][j] and work by visiting every (group, block) pair: no bitmaps, no popcount. */
static int layout_errors(const struct sample *s, const struct layout *l,
                         const struct layout_stats *got)
{
    int n = l->shards, errors = 0;
    for (int i = 0; i < n; i++) {
        int64_t work = 0, needed[64] = {0}, mine = 0, all = 0;
        for (int b = 0; b < s->m.blocks; b++) {
            bool wanted = false;
            for (int g = 0; g < s->m.groups; g++)
                if (l->group[g] == i && bits_get(mask_row(&s->m, g), b)) {
                    wanted = true;
                    work += (int64_t)s->t.group.tokens[g] * s->t.block.tokens[b];
                }
            if (wanted)
                needed[l->block[b]] += s->t.block.tokens[b];
        }
        for (int j = 0; j < n; j++) {
            double want = l->keys[j] ? (double)needed[j] / (double)l->keys[j] : 0;
            errors += fabs(got->need[i * n + j] - want) > 1e-12;
            all += needed[j];
            mine += i == j ? needed[j] : 0;
        }
        errors += got->work[i] != work;
        errors += (double)all / (double)s->t.tokens > got->union_most + 1e-12;
        if (s->t.tokens > l->keys[i])
            errors += (double)(all - mine) / (double)(s->t.tokens - l->keys[i]) >
                      got->remote_most + 1e-12;
    }
    return errors;
}

static void need_and_work_equal_brute_force_for_every_family_and_layout(void)
{
    const int tilings[][2][3] = {
        {{1, 1, 1}, {1, 1, 1}}, {{2, 2, 2}, {2, 2, 2}}, {{2, 1, 2}, {1, 3, 1}}};
    for (int f = 0; f < FAMILIES; f++)
        for (int c = 0; c < 3; c++)
            for (int kind = 0; kind < LAYOUT_KINDS; kind++)
                for (int n = 1; n <= 8; n = n * 2) {
                    struct arena *a = arena_new();
                    struct sample s = sample_of(families[f], (struct grid){8, 5, 6}, tilings[c][0],
                                                tilings[c][1], a);
                    struct layout l;
                    struct layout_stats got;
                    struct err e = {0};
                    gsl_test(!layout_make(&s.t, (enum layout_kind)kind, n, a, &l, &e), "%s",
                             e.text);
                    stats_layout(&s.t, &s.w, &s.m, &l, a, &got);
                    gsl_test_int(layout_errors(&s, &l, &got), 0, "%s, tiling %d, %s of %d",
                                 families[f], c, layout_names[kind], n);
                    arena_free(a);
                }
}

static void atoms_give_the_same_unions_as_the_full_bitmap(void)
{
    for (int f = 0; f < FAMILIES; f++)
        for (int kind = 0; kind < LAYOUT_KINDS; kind++)
            for (int n = 2; n <= 8; n *= 2) {
                struct arena *a = arena_new();
                struct sample s = sample_of(families[f], (struct grid){16, 7, 8}, (int[3]){2, 2, 2},
                                            (int[3]){2, 2, 1}, a);
                struct atoms atoms;
                struct atom_rows rows;
                struct layout l;
                const int32_t *shard;
                struct layout_stats full, by_atoms;
                struct err e = {0};
                atoms_make(&s.t, a, &atoms);
                gsl_test(
                    !layout_of_atoms(&s.t, &atoms, (enum layout_kind)kind, n, a, &l, &shard, &e),
                    "%s", e.text);
                stats_atoms(&s.t, &s.w, &s.m, &atoms, a, &rows);
                stats_layout(&s.t, &s.w, &s.m, &l, a, &full);
                stats_layout_atoms(&s.t, &s.w, &rows, shard, &l, a, &by_atoms);
                gsl_test(memcmp(full.need, by_atoms.need, sizeof(double) * (size_t)(n * n)) != 0 ||
                             memcmp(full.work, by_atoms.work, sizeof(int64_t) * (size_t)n) != 0,
                         "%s, %s of %d", families[f], layout_names[kind], n);
                arena_free(a);
            }
}

/* KA08: a window of 7 of 32 frames, 4 slabs of 8: an interior rank needs 14 of 32 frames. */
static void an_interior_slab_needs_shard_plus_window(void)
{
    struct arena *a = arena_new();
    struct sample s = sample_of("window:t=7,h=2,w=2", (struct grid){32, 2, 2}, (int[3]){1, 1, 1},
                                (int[3]){1, 1, 1}, a);
    struct layout l;
    struct layout_stats got;
    struct err e = {0};
    layout_make(&s.t, LAYOUT_SLABS, 4, a, &l, &e);
    stats_layout(&s.t, &s.w, &s.m, &l, a, &got);
    gsl_test_rel(got.union_most, 0.4375, 1e-12, "KA08");
    gsl_test_rel(got.need[1 * 4 + 0], 3 / 8.0, 1e-12, "three frames of the left neighbour");
    arena_free(a);
}

/* KA07a: three independent draws of 3072 of 64000 keys cover 8780.71 on average (closed form;
 * Monte-Carlo 8780.8). */
static void independent_draws_cover_what_the_closed_form_says(void)
{
    enum { BLOCKS = 64000, DRAWS = 3, KEPT = 3072, ROUNDS = 60 };
    struct arena *a = arena_new();
    struct tiling t;
    struct err e = {0};
    tiling_make((struct grid){1, 1, BLOCKS}, (int[3]){1, 1, 22000}, (int[3]){1, 1, 1}, a, &t, &e);
    struct weigh w = weigh_make(&t.block, a);
    struct layout l;
    layout_make(&t, LAYOUT_SLABS, 1, a, &l, &e);
    double sum = 0;
    int *work = ARENA_ARRAY(a, int, BLOCKS);
    for (int i = 0; i < ROUNDS; i++) {
        struct arena *b = arena_new();
        struct mask m = mask_new(t.group.count, BLOCKS, b);
        for (int g = 0; g < DRAWS; g++) {
            struct rng r = rng_stream(5, "draws", (uint64_t)i, (uint64_t)g, 0);
            for (int k = 0; k < BLOCKS; k++)
                work[k] = k;
            for (int k = 0; k < KEPT; k++) {
                int j = k + (int)rng_below(&r, (uint64_t)(BLOCKS - k)), x = work[j];
                work[j] = work[k];
                bits_set(mask_row(&m, g), work[k] = x);
            }
        }
        struct layout_stats got;
        stats_layout(&t, &w, &m, &l, b, &got);
        sum += got.union_mean * BLOCKS / ROUNDS;
        arena_free(b);
    }
    gsl_test_abs(sum, 8780.71, 10, "KA07a: mean of 60 rounds of 3 draws, standard error 2.4");
    arena_free(a);
}

/* Keep, runs, rho, omega, overlap and inflation of a hand-made bitmap: 4 groups of one token, 4
 * keys. */
static void a_hand_made_bitmap_has_hand_made_statistics(void)
{
    struct arena *a = arena_new();
    struct tiling t;
    struct err e = {0};
    tiling_make((struct grid){1, 1, 4}, (int[3]){1, 1, 1}, (int[3]){1, 1, 1}, a, &t, &e);
    struct weigh w = weigh_make(&t.block, a);
    struct mask m = mask_new(4, 4, a);
    const uint64_t rows[4] = {0x3, 0x3, 0x6, 0x9}; /* keys {0,1} {0,1} {1,2} {0,3} */
    for (int g = 0; g < 4; g++)
        *mask_row(&m, g) = rows[g];
    struct head_stats h;
    stats_head(&t, &w, &m, a, &h);
    gsl_test_rel(h.keep, 0.5, 1e-12, "8 of 16 pairs");
    gsl_test_rel(h.run_tokens, 8 / 5.0, 1e-12, "runs: 1, 1, 1, 2");
    gsl_test_rel(h.rho, (2 + 1 + 0) / 6.0, 1e-12, "neighbours share 2, 1, 0 of 2");
    gsl_test_rel(h.overlap, (1 + 0) / 2.0, 1e-12, "pairs (0,1) and (2,3)");
    gsl_test_rel(h.inflate_query, (2 * 2 + 2 * 4) / 8.0, 1e-12,
                 "unions {0,1} and {0,1,2,3} for two queries each");
    gsl_test_rel(h.inflate_key, (2 + 2 + 4 + 4) / 8.0, 1e-12, "keys in pairs");
    gsl_test_rel(h.inflate_both, (2 * 2 + 2 * 4) / 8.0, 1e-12, "both");
    struct layout l;
    struct layout_stats s;
    layout_make(&t, LAYOUT_SLABS, 1, a, &l, &e);
    stats_layout(&t, &w, &m, &l, a, &s);
    /* all 12 ordered pairs share: (01)2 (02)1 (03)1 (12)1 (13)1 (23)0 twice = 12 of 12 * 2 */
    gsl_test_rel(s.omega, 0.5, 1e-12, "omega over all pairs");
    arena_free(a);
}

/* The skews of DSV's head vectors by another program: KA04 and a table of docs/known-answers.md. */
static void head_skews_are_the_published_ones(void)
{
    const double solver2[16] = {0.8267, 0.9984, 0.9973, 0.9980, 0.9817, 0.9930, 0.9981, 0.9918,
                                0.9886, 0.9632, 0.9962, 0.9898, 0.8122, 0.9097, 0.9542, 0.9985};
    const double exp6[16] = {0.88, 0.96, 0.98, 0.88, 0.90, 0.85, 0.82, 0.86,
                             0.94, 0.96, 0.95, 0.97, 0.96, 0.96, 0.95, 0.93};
    double load[16];
    struct arena *a = arena_new();
    struct skew s;
    for (int h = 0; h < 16; h++)
        load[h] = 1 - solver2[h];
    stats_skew(load, 16, 8, a, &s);
    gsl_test_abs(s.contiguous, 3.69, 0.005, "solver test 2, N=8, naive");
    gsl_test_abs(s.lpt, 2.4932, 0.0005, "LPT, KA04f");
    gsl_test_abs(s.bound, 2.4932, 0.0005, "the outlier head is the bound");
    gsl_test_abs(s.cv, 1.56, 0.06, "cv");
    for (int h = 0; h < 16; h++)
        load[h] = 1 - exp6[h];
    stats_skew(load, 16, 4, a, &s);
    gsl_test_rel(s.contiguous * 0.3125, 0.57, 1e-9, "KA04a");
    gsl_test_rel(s.lpt * 0.3125, 0.32, 1e-9, "KA04b");
    gsl_test(s.bound > s.lpt, "a bound is below LPT");
    arena_free(a);
}

static void packed_rows_come_back(void)
{
    uint64_t row[2] = {0x8000000000000001u, 0x15}, back[2];
    unsigned char bytes[9];
    bits_pack(row, 69, bytes);
    gsl_test(!bits_unpack(bytes, 69, back) || back[0] != row[0] || back[1] != row[1], "69 bits");
    bytes[8] |= 0x40;
    gsl_test(bits_unpack(bytes, 69, back), "a bit past the last block is refused");
}

int main(void)
{
    need_and_work_equal_brute_force_for_every_family_and_layout();
    atoms_give_the_same_unions_as_the_full_bitmap();
    an_interior_slab_needs_shard_plus_window();
    independent_draws_cover_what_the_closed_form_says();
    a_hand_made_bitmap_has_hand_made_statistics();
    head_skews_are_the_published_ones();
    packed_rows_come_back();
    return gsl_test_summary();
}
