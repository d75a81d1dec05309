/* Every family against its definition written out token by token (the oracle), for cubes of one
 * token and for larger ones, and the closed keeps against arithmetic and published figures. */
#include "traces/pattern.h"

#include <gsl/gsl_test.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "traces/stats.h"

static const struct err_at here = {"test", 0, 0};

struct spot {
    int t, h, w;
};

static struct pattern parse(const char *text)
{
    struct pattern p;
    struct err e = {0};
    gsl_test(!pattern_parse(text, here, &p, &e), "'%s' parses: %s", text, e.text);
    return p;
}

static bool clipped(int q, int k, int w)
{
    return k >= q - w / 2 && k <= q - w / 2 + w - 1;
}

static bool shifted(int q, int k, int n, int w)
{
    int first = q - w / 2;
    first = first < 0 ? 0 : first > n - w ? n - w : first;
    return k >= first && k < first + w;
}

static bool dense(struct spot q, struct spot k, struct grid g)
{
    (void)q, (void)k, (void)g;
    return true;
}
static bool window_clipped(struct spot q, struct spot k, struct grid g)
{
    (void)g;
    return clipped(q.t, k.t, 3) && clipped(q.h, k.h, 2) && clipped(q.w, k.w, 4);
}
static bool window_shifted(struct spot q, struct spot k, struct grid g)
{
    return shifted(q.t, k.t, g.t, 3) && shifted(q.h, k.h, g.h, 2) && shifted(q.w, k.w, g.w, 4);
}
static bool tiles(struct spot q, struct spot k, struct grid g) /* tiles 2x2x3, window 3x1x2 tiles */
{
    return shifted(q.t / 2, k.t / 2, (g.t + 1) / 2, 3) &&
           shifted(q.h / 2, k.h / 2, (g.h + 1) / 2, 1) &&
           shifted(q.w / 3, k.w / 3, (g.w + 2) / 3, 2);
}
static bool spatial(struct spot q, struct spot k, struct grid g)
{
    (void)g;
    return abs(q.t - k.t) <= 1 || k.t == 0;
}
static bool temporal(struct spot q, struct spot k, struct grid g)
{
    (void)g;
    return (abs(q.h - k.h) <= 1 && abs(q.w - k.w) <= 1) || k.t == 0;
}
static bool radial(struct spot q, struct spot k, struct grid g) /* s = 30 has 5 bits; band 8 */
{
    int d = abs(q.t - k.t), bits = d == 0 ? 0 : d == 1 ? 1 : d < 4 ? 2 : d < 8 ? 3 : 4;
    double length = 32.0 / (1 << bits), width = length > 8 ? length : 8;
    if (d > 0 && length < 8 && d % (int)(8 / length) != 0)
        return false;
    return abs((q.h - k.h) * g.w + q.w - k.w) <= width;
}
static bool chunk_overlap(struct spot q, struct spot k,
                          struct grid g) /* chunks of 3, overlap 1, 1 global frame */
{
    (void)g;
    int first = q.t / 3 * 3;
    return (k.t >= first - 1 && k.t < first + 3 + 1) || k.t < 1 || q.t < 1;
}
static bool chunk_causal(struct spot q, struct spot k, struct grid g) /* chunks of 2, range 2 */
{
    (void)g;
    return k.t / 2 <= q.t / 2 && k.t / 2 > q.t / 2 - 2;
}
static bool own_frame(struct spot q, struct spot k, struct grid g)
{
    (void)g;
    return q.t == k.t;
}
static bool own_position(struct spot q, struct spot k, struct grid g)
{
    (void)g;
    return q.h == k.h && q.w == k.w;
}

static const struct family {
    const char *text;
    bool (*sees)(struct spot q, struct spot k, struct grid g);
} families[] = {
    {"dense", dense},
    {"window:t=3,h=2,w=4", window_clipped},
    {"window:t=3,h=2,w=4,edge=shifted", window_shifted},
    {"tile:t=6,h=2,w=6,tile_t=2,tile_h=2,tile_w=3", tiles},
    {"spatial:frames=1", spatial},
    {"temporal:radius=1", temporal},
    {"radial:band=8,full=0", radial},
    {"chunk:chunk=3,overlap=1,global=1", chunk_overlap},
    {"chunk:chunk=2,range=2,causal=yes,global=0", chunk_causal},
    {"factor:axis=spatial", own_frame},
    {"factor:axis=temporal", own_position},
};

static struct spot spot_of(int x, struct grid g)
{
    return (struct spot){x / g.w / g.h, x / g.w % g.h, x % g.w};
}

static int cube_of(struct spot s, const struct cubes *c)
{
    return (s.t / c->side[0] * c->axis[1] + s.h / c->side[1]) * c->axis[2] + s.w / c->side[2];
}

static int mask_errors(const struct family *f, struct grid g, const int group[3],
                       const int block[3])
{
    struct arena *a = arena_new();
    struct tiling t;
    struct err e = {0};
    tiling_make(g, group, block, a, &t, &e);
    struct pattern p = parse(f->text);
    struct mask m;
    pattern_mask(&p, &t, (struct field_key){0}, NAN, a, &m);
    bool *want = ARENA_ARRAY(a, bool, m.groups *m.blocks);
    for (int q = 0; q < t.tokens; q++)
        for (int k = 0; k < t.tokens; k++)
            if (f->sees(spot_of(q, g), spot_of(k, g), g))
                want[cube_of(spot_of(q, g), &t.group) * m.blocks +
                     cube_of(spot_of(k, g), &t.block)] = true;
    int errors = 0;
    for (int i = 0; i < m.groups; i++)
        for (int b = 0; b < m.blocks; b++)
            errors += bits_get(mask_row(&m, i), b) != want[i * m.blocks + b];
    arena_free(a);
    return errors;
}

static void a_mask_is_its_definition_token_by_token(void)
{
    struct grid g = {10, 5, 6};
    for (size_t i = 0; i < sizeof families / sizeof families[0]; i++) {
        gsl_test_int(mask_errors(&families[i], g, (int[3]){1, 1, 1}, (int[3]){1, 1, 1}), 0,
                     "%s, tokens", families[i].text);
        gsl_test_int(mask_errors(&families[i], g, (int[3]){2, 2, 2}, (int[3]){3, 2, 4}), 0,
                     "%s, cubes", families[i].text);
        gsl_test_int(mask_errors(&families[i], g, (int[3]){4, 1, 3}, (int[3]){1, 1, 1}), 0,
                     "%s, groups of keys", families[i].text);
    }
}

static double keep_of(const char *text, struct grid g, int side_t, int side_h, int side_w)
{
    struct arena *a = arena_new();
    struct tiling t;
    struct err e = {0};
    struct head_stats s;
    struct mask m;
    tiling_make(g, (int[3]){side_t, side_h, side_w}, (int[3]){side_t, side_h, side_w}, a, &t, &e);
    struct pattern p = parse(text);
    pattern_mask(&p, &t, (struct field_key){0}, NAN, a, &m);
    struct weigh w = weigh_make(&t.block, a);
    stats_head(&t, &w, &m, a, &s);
    arena_free(a);
    return s.keep;
}

/* STA's published densities on 30x48x80 with tiles 6x8x8: 27, 75 and 125 of 300 tiles. */
static void sta_densities_are_exact(void)
{
    struct grid g = {30, 48, 80};
    gsl_test_rel(keep_of("tile:t=18,h=24,w=24", g, 6, 8, 8), 27 / 300.0, 1e-12, "(18,24,24)");
    gsl_test_rel(keep_of("tile:t=30,h=24,w=40", g, 6, 8, 8), 75 / 300.0, 1e-12, "(30,24,40)");
    gsl_test_rel(keep_of("tile:t=30,h=40,w=40", g, 6, 8, 8), 125 / 300.0, 1e-12, "(30,40,40)");
}

/* Window baselines: 16^3 gives windows of 5 and 11: (5/16)^3 and (11/16)^3 of all pairs, shifted.
 */
static void window_densities_are_exact(void)
{
    struct grid g = {16, 16, 16};
    gsl_test_rel(keep_of("wa-m", g, 1, 1, 1), 125.0 / 4096, 1e-12, "WA-M on 16^3");
    gsl_test_rel(keep_of("wa-l", g, 1, 1, 1), 1331.0 / 4096, 1e-12, "WA-L on 16^3");
    struct pattern p = parse("wa-m"), l = parse("wa-l");
    gsl_test_rel(pattern_closed_keep(&p, (struct grid){40, 56, 56}), 13.0 * 19 * 19 / 125440, 1e-12,
                 "WA-M on 40x56x56");
    gsl_test_rel(pattern_closed_keep(&l, (struct grid){40, 56, 56}), 27.0 * 37 * 37 / 125440, 1e-12,
                 "WA-L on 40x56x56");
    const char *clip[] = {"window:share=0.33333333", "window:share=0.66666667"};
    const double mean[] = {1.0 / 3 - 1.0 / 36, 2.0 / 3 - 1.0 / 9}; /* phi - phi^2/4 */
    for (int i = 0; i < 2; i++) {
        p = parse(clip[i]);
        gsl_test_abs(pattern_closed_keep(&p, (struct grid){900, 900, 900}), pow(mean[i], 3), 1e-3,
                     "clipped mean, continuous limit");
    }
}

static void closed_keeps_equal_counted_keeps(void)
{
    const char *texts[] = {"dense",
                           "window:t=3,h=5,w=2",
                           "window:t=4,h=3,w=6,edge=shifted",
                           "tile:t=4,h=2,w=3,tile_t=2,tile_h=2,tile_w=3",
                           "radial:band=8",
                           "radial:band=16,decay=0.5,sink=yes"};
    struct grid g = {9, 6, 7};
    for (size_t i = 0; i < sizeof texts / sizeof texts[0]; i++) {
        struct pattern p = parse(texts[i]);
        gsl_test_rel(keep_of(texts[i], g, 1, 1, 1), pattern_closed_keep(&p, g), 1e-12, "%s",
                     texts[i]);
    }
}

/* Run off Radial Attention's own code (mit-han-lab/radial-attention), decay 1.0: sparsity 83.5, 90.0 % (64 and 128
 * latent frames of 45x80 tokens, Hunyuan 253 and 509 frames) and 75.4 % (41 frames, Wan 161). */
static void radial_sparsity_is_the_closed_form_of_its_code(void)
{
    struct pattern p = parse("radial"), wan = parse("radial:sink=yes");
    gsl_test_abs(1 - pattern_closed_keep(&p, (struct grid){64, 45, 80}), 0.835, 0.001,
                 "253 frames");
    gsl_test_abs(1 - pattern_closed_keep(&p, (struct grid){128, 45, 80}), 0.900, 0.001,
                 "509 frames");
    gsl_test_abs(1 - pattern_closed_keep(&wan, (struct grid){41, 45, 80}), 0.754, 0.001,
                 "161 frames");
}

static void top_k_keeps_exactly_k_and_top_p_the_smallest_set(void)
{
    enum { N = 200 };
    double weight[N], sorted[N];
    int work[N];
    srand(7);
    for (int round = 0; round < 50; round++) {
        uint64_t row[4] = {0}, top[4] = {0};
        double total = 0, have = 0;
        for (int i = 0; i < N; i++)
            total += weight[i] = sorted[i] = exp(6.0 * rand() / RAND_MAX) * (i % 7 ? 1 : 2);
        qsort(sorted, N, sizeof *sorted, stats_double_order);
        int want = 0;
        while (have < 0.9 * total)
            have += sorted[N - 1 - want++];
        gsl_test_int(select_mass(weight, N, 0.9, work, row), want, "smallest set, by sorting");
        select_top(weight, N, want, work, top);
        gsl_test(memcmp(row, top, sizeof row) != 0, "the same blocks by count");
    }
}

static void ties_go_to_the_lower_index(void)
{
    double weight[70];
    int work[70];
    uint64_t row[2] = {0};
    for (int i = 0; i < 70; i++)
        weight[i] = 1;
    select_top(weight, 70, 5, work, row);
    gsl_test(row[0] != 31 || row[1] != 0, "five of seventy equals are the first five");
}

static void a_profile_drives_how_much_a_field_keeps(void)
{
    struct grid g = {8, 8, 8};
    const char *texts[] = {"field:select=topk", "field:select=topp", "field:select=threshold"};
    const double near[] = {0.002, 0.03, 0.04};
    for (int i = 0; i < 3; i++)
        for (double keep = 0.1; keep < 0.7; keep += 0.2) {
            struct arena *a = arena_new();
            struct tiling t;
            struct err e = {0};
            struct head_stats s;
            struct mask m;
            tiling_make(g, (int[3]){1, 1, 1}, (int[3]){1, 1, 1}, a, &t, &e);
            struct pattern p = parse(texts[i]);
            pattern_mask(&p, &t, (struct field_key){3, 1, 2, 0}, keep, a, &m);
            struct weigh w = weigh_make(&t.block, a);
            stats_head(&t, &w, &m, a, &s);
            gsl_test_abs(s.keep, keep, near[i], "%s asked for %g", texts[i], keep);
            arena_free(a);
        }
}

static void pruning_keeps_the_asked_share_of_queries(void)
{
    gsl_test_rel(keep_of("dense:keep_q=0.5", (struct grid){8, 8, 8}, 1, 1, 1), 0.5, 1e-12,
                 "half of the queries");
    gsl_test_rel(keep_of("dense:keep_nodes=0.5", (struct grid){8, 8, 8}, 1, 1, 1), 0.25, 1e-12,
                 "half of the tokens, both sides");
    struct pattern p = parse("vsa");
    gsl_test_rel(pattern_coarse_keep(&p), 1.0 / 4096, 1e-15, "VSA's pooled branch: (1/64)^2");
}

/* l + R + G blocks at most, and every random block drawn is another one. */
static void random_and_global_blocks_add_to_the_window(void)
{
    double keep = keep_of("local:t=1,h=1,w=1,random=0.1,global=0", (struct grid){8, 8, 8}, 1, 1, 1);
    gsl_test_abs(keep, (51 + 1 - 51 / 512.0) / 512, 3e-4, "51 of 512 random, one own, rarely both");
    keep = keep_of("local:t=1,h=1,w=1,random=0,global=4", (struct grid){8, 8, 8}, 1, 1, 1);
    gsl_test_rel(keep, (4 * 512 + 508 * 5) / (512.0 * 512), 1e-12,
                 "4 global tokens see and are seen by all");
}

static void the_same_key_gives_the_same_bits_and_another_head_others(void)
{
    struct arena *a = arena_new();
    struct tiling t;
    struct err e = {0};
    tiling_make((struct grid){8, 8, 8}, (int[3]){2, 2, 2}, (int[3]){1, 1, 1}, a, &t, &e);
    struct pattern p = parse("dsv");
    struct mask m[3];
    pattern_mask(&p, &t, (struct field_key){1, 2, 3, 4}, NAN, a, &m[0]);
    pattern_mask(&p, &t, (struct field_key){1, 2, 3, 4}, NAN, a, &m[1]);
    pattern_mask(&p, &t, (struct field_key){1, 2, 4, 4}, NAN, a, &m[2]);
    size_t bytes = (size_t)m[0].groups * m[0].words * 8;
    gsl_test(memcmp(m[0].bits, m[1].bits, bytes) != 0, "same key");
    gsl_test(memcmp(m[0].bits, m[2].bits, bytes) == 0, "another head");
    arena_free(a);
}

static void a_text_reads_back_as_the_same_pattern(void)
{
    char text[512], again[512];
    for (int i = 0; pattern_presets[i].name; i++) {
        struct pattern p = parse(pattern_presets[i].name);
        pattern_text(&p, text, sizeof text);
        struct pattern q = parse(text);
        pattern_text(&q, again, sizeof again);
        gsl_test(strcmp(text, again) != 0 || q.kind != p.kind, "%s: %s", pattern_presets[i].name,
                 text);
    }
}

static void wrong_patterns_say_what_would_be_right(void)
{
    const struct {
        const char *text, *says;
    } wrong[] = {
        {"windw", "window"},
        {"window:q=3", "it has: t, h, w, share, edge"},
        {"window:t", "want key=value"},
        {"window:edge=soft", "clipped, shifted"},
        {"field:keep=0", "want a number from 1e-06 to 1"},
        {"field:rank=2.5", "whole number"},
        {"field:keep=nan", "nan"},
        {"tile:tile_t=0", "whole number from 1"},
    };
    for (size_t i = 0; i < sizeof wrong / sizeof wrong[0]; i++) {
        struct pattern p;
        struct err e = {0};
        gsl_test(pattern_parse(wrong[i].text, here, &p, &e), "'%s' is refused", wrong[i].text);
        gsl_test(e.code != ERR_INPUT || !strstr(e.text, wrong[i].says), "'%s': %s", wrong[i].text,
                 e.text);
    }
    struct pattern p = parse("window:t=9");
    struct err e = {0};
    gsl_test(pattern_check(&p, (struct grid){8, 8, 8}, here, &e),
             "a window wider than the clip: %s", e.text);
}

int main(void)
{
    a_mask_is_its_definition_token_by_token();
    sta_densities_are_exact();
    window_densities_are_exact();
    closed_keeps_equal_counted_keeps();
    radial_sparsity_is_the_closed_form_of_its_code();
    top_k_keeps_exactly_k_and_top_p_the_smallest_set();
    ties_go_to_the_lower_index();
    a_profile_drives_how_much_a_field_keeps();
    pruning_keeps_the_asked_share_of_queries();
    random_and_global_blocks_add_to_the_window();
    the_same_key_gives_the_same_bits_and_another_head_others();
    a_text_reads_back_as_the_same_pattern();
    wrong_patterns_say_what_would_be_right();
    return gsl_test_summary();
}
