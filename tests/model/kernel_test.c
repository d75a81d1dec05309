/* Kernel profiles: the measured points they come from, break-even sparsity, and what bad input
 * says. */
#include "model/kernel.h"

#include <gsl/gsl_test.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "base/preset.h"
#include "tests/model/broken.h"

static struct arena *arena;
static const struct hw_gpu h100 = {
    .name = "h100", .bf16_flop_per_s = 989e12, .hbm_bytes_per_s = 3.35e12, .source = ""};

static const struct kern_profile *profile(const char *name)
{
    struct err e = {0};
    const struct kern_profile *k = kern_load(name, err_at_name("--kernels"), arena, &e);
    gsl_test(k == NULL, "kernels %s load: %s", name, e.text);
    if (!k)
        exit(gsl_test_summary());
    return k;
}

static void every_preset_loads_and_names_its_source(void)
{
    const char **names = preset_list("kernel", arena, &(struct err){0});
    int count = 0;
    for (; names && names[count]; count++) {
        const struct kern_profile *k = profile(names[count]);
        gsl_test(strcmp(k->name, names[count]) != 0 || strlen(k->source) < 10, "%s", names[count]);
        gsl_test(k->best.forward_share < k->dense.forward_share ||
                     k->best.backward_share < k->dense.backward_share,
                 "%s: the best dense kernel is at least as fast as the one that runs",
                 names[count]);
    }
    gsl_test(count < 4, "the four profiles are there: %d", count);
    gsl_test(!strstr(profile("fa3+target")->source, "not measured"),
             "an estimate says that it is one");
}

/* DSV artifact, exp2 (log): H100, S 32000, H 16, D 128; kept keys a group, ms. The lines were
 * fitted to these. */
static void the_sparse_lines_meet_dsvs_exp2(void)
{
    static const double point[][3] = {{6400, 9.25, 193.62},
                                      {4864, 7.08, 147.93},
                                      {3328, 4.90, 102.71},
                                      {1792, 2.75, 57.41},
                                      {768, 1.31, 27.21}};
    const struct kern_profile *k = profile("dsv-triton");
    double rows = 32000.0 * 16;
    for (int i = 0; i < 5; i++) {
        double pairs = rows * point[i][0];
        gsl_test_rel(kern_sparse_s(k, false, rows, pairs, 128) * 1e3, point[i][1], 0.005,
                     "forward, %g keys", point[i][0]);
        gsl_test_rel(kern_sparse_s(k, true, rows, pairs, 128) * 1e3, point[i][2], 0.005,
                     "backward, %g keys", point[i][0]);
    }
}

/* exp1 (three logs, single calls): S 64000, H 4, D 128, 5120 keys. Not fitted. KV of a head is
 * twice exp2's there, and the forward is 8% slower than the line. */
static void and_predict_exp1(void)
{
    const struct kern_profile *k = profile("dsv-triton");
    double rows = 64000.0 * 4;
    gsl_test_rel(kern_sparse_s(k, false, rows, rows * 5120, 128) * 1e3, 4.05, 0.09, "forward");
    gsl_test_rel(kern_sparse_s(k, true, rows, rows * 5120, 128) * 1e3, 77.4, 0.01, "backward");
    gsl_test_rel(kern_select_s(k, 2000.0 * 64000 * 4) * 1e3, 5.2, 0.01, "selection");
    gsl_test_rel(kern_dense_s(k, &h100, false, rows, 64000, 128) * 1e3, 18.73, 0.01,
                 "Triton dense forward");
    gsl_test_rel(kern_dense_s(k, &h100, true, rows, 64000, 128) * 1e3, 245.7, 0.01,
                 "Triton dense backward");
}

/* At exp1's shape, from the rates of the FlashAttention-3 paper and of NVIDIA's cuDNN table: 4 or
 * 10 x 64000^2 x 128 x 4 FLOP. */
static void dense_kernels_take_what_their_papers_say(void)
{
    double rows = 64000.0 * 4;
    const struct kern_profile *fa3 = profile("fa3+dsv"), *cudnn = profile("cudnn+dsv");
    gsl_test_rel(kern_dense_s(fa3, &h100, false, rows, 64000, 128) * 1e3, 12.9, 0.01,
                 "FA3 forward at 648 TFLOP/s");
    gsl_test_rel(kern_dense_s(fa3, &h100, true, rows, 64000, 128) * 1e3, 37.4, 0.01,
                 "FA3 backward at 561");
    gsl_test_rel(kern_dense_s(cudnn, &h100, false, rows, 64000, 128) * 1e3, 12.1, 0.01,
                 "cuDNN forward at 693");
    gsl_test_rel(kern_dense_s(cudnn, &h100, true, rows, 64000, 128) * 1e3, 36.7, 0.01,
                 "cuDNN backward at 572");
}

/* The same exp2 points read as S 64000, H 4 give other straight lines, 0.456 ms + 0.6861 us K
 * and 9.39 ms + 14.371 us K, whose break-evens were published: against FA2 (370, 322
 * TFLOP/s) 92.4%, FA3 96.3%, cuDNN on an H200 96.5%. A whole tile of 256 keys of 64,000 is 0.4%,
 * which is left out here as it was there. */
static struct kern_profile published_lines(void)
{
    double rows = 64000.0 * 4;
    struct kern_profile k = {.launch_s = 1};
    k.sparse = (struct kern_sparse){.forward_row_s = 0.456e-3 / rows,
                                    .forward_pair_s = 0.6861e-6 / rows,
                                    .backward_row_s = 9.39e-3 / rows,
                                    .backward_pair_s = 14.371e-6 / rows,
                                    .select_score_s = 5.2e-3 / (2000.0 * 64000 * 4),
                                    .tile = 1};
    return k;
}

static void published_break_evens_follow_from_the_published_lines(void)
{
    struct kern_profile k = published_lines();
    struct kern_dense fa2 = {"fa2", 370 / 989.0, 322 / 989.0, {0}, 0, NULL},
                      fa3 = {"fa3", 648 / 989.0, 561 / 989.0, {0}, 0, NULL};
    struct kern_dense cudnn = {"cudnn", 693 / 989.0, 572 / 989.0, {0}, 0, NULL};
    gsl_test_abs(kern_breakeven(&k, &fa2, &h100, 64000, 128, 32, false), 0.924, 0.0006,
                 "against FA2");
    gsl_test_abs(kern_breakeven(&k, &fa3, &h100, 64000, 128, 32, false), 0.963, 0.0006,
                 "against FA3");
    gsl_test_abs(kern_breakeven(&k, &cudnn, &h100, 64000, 128, 32, false), 0.965, 0.0006,
                 "against cuDNN");
    gsl_test_abs(kern_breakeven_pass(&k, &fa2, &h100, 64000, 128, 32, false), 0.61, 0.006,
                 "forward against FA2");
    gsl_test_abs(kern_breakeven_pass(&k, &fa2, &h100, 64000, 128, 32, true), 0.939, 0.0006,
                 "backward against FA2");
    gsl_test_abs(kern_breakeven_pass(&k, &fa3, &h100, 64000, 128, 32, true), 0.970, 0.0006,
                 "backward against FA3");
    gsl_test_abs(kern_breakeven_pass(&k, &cudnn, &h100, 64000, 128, 32, true), 0.970, 0.0006,
                 "backward against cuDNN");
    k.sparse.backward_row_s =
        0; /* forward and selection alone: a backward that costs as little sparse as dense */
    k.sparse.backward_pair_s = 0;
    fa3.backward_share = cudnn.backward_share = 1e9;
    gsl_test_abs(kern_breakeven(&k, &fa3, &h100, 64000, 128, 32, false), 0.83, 0.006,
                 "forward against FA3");
    gsl_test_abs(kern_breakeven(&k, &cudnn, &h100, 64000, 128, 32, false), 0.85, 0.006,
                 "forward against cuDNN");
}

/* With exp2's own shape the backward's fixed part is 2.3 ms at S 64000, not 9.4 (exp1 measured 77.4
 * ms where the published line says 83.0): the presets' break-even is lower by 0.6 points. By hand
 * for FA3: dense 12.95 + 37.38 ms, fixed 0.114 + 2.273 + 5.202, slope 0.7037 + 14.753 us a key:
 * 2765 keys, 10 tiles of 256, 1 - 2560 / 64000. */
static void the_presets_break_even_at_96_percent(void)
{
    const struct kern_profile *k = profile("dsv-triton"), *fa3 = profile("fa3+dsv"),
                              *cudnn = profile("cudnn+dsv");
    gsl_test_abs(kern_breakeven(k, &k->best, &h100, 64000, 128, 32, false), 0.96, 1e-9,
                 "against FA3");
    gsl_test_abs(kern_breakeven(fa3, &fa3->dense, &h100, 64000, 128, 32, false), 0.96, 1e-9,
                 "the same in the default profile");
    /* forward, a head: dense 3.236 ms, fixed 0.029 + 1.300, slope 0.1759 us: 10,841 keys, 42 tiles
     */
    gsl_test_abs(kern_breakeven_pass(fa3, &fa3->dense, &h100, 64000, 128, 32, false), 0.832, 1e-9,
                 "the forward pass by hand");
    /* backward: 9.346 ms, fixed 0.568, slope 3.688 us: 2,379 keys, 9 tiles */
    gsl_test_abs(kern_breakeven_pass(fa3, &fa3->dense, &h100, 64000, 128, 32, true), 0.964, 1e-9,
                 "the backward pass by hand");
    gsl_test_abs(kern_breakeven(cudnn, &cudnn->best, &h100, 64000, 128, 32, false), 0.96, 1e-9,
                 "against cuDNN");
    gsl_test_abs(kern_breakeven(k, &k->dense, &h100, 64000, 128, 32, false), 0.744, 1e-9,
                 "against its own Triton dense, 18.73 + 245.7 ms: 16,616 keys, 64 tiles");
}

/* Just below and above the break-even, by the prices themselves. */
static void break_even_is_where_the_prices_cross(void)
{
    static const char *const names[] = {"dsv-triton", "fa3+dsv", "fa2+dsv", "cudnn+dsv",
                                        "fa3+target"};
    for (int i = 0; i < 10; i++) {
        const struct kern_profile *k = profile(names[i / 2]);
        bool recompute = i % 2;
        double n = 64000, heads = 1e6,
               times = recompute ? 2 : 1; /* many heads: launches do not count */
        double s = kern_breakeven(k, &k->dense, &h100, n, 128, k->sparse.group, recompute),
               keys = n * (1 - s) - 0.5;
        double dense = times * kern_dense_s(k, &h100, false, n * heads, n, 128) +
                       kern_dense_s(k, &h100, true, n * heads, n, 128);
        for (int more = 0; more < 2; more++) {
            double pairs = kern_tiled(k, keys + more) * n * heads;
            double sparse = times * kern_sparse_s(k, false, n * heads, pairs, 128) +
                            kern_sparse_s(k, true, n * heads, pairs, 128) +
                            kern_select_s(k, n / k->sparse.group * n * heads);
            gsl_test((sparse > dense) != more, "%s, recompute %d, %g + %d keys", k->name, recompute,
                     keys, more);
        }
    }
}

static void break_even_has_ends(void)
{
    struct kern_profile k = published_lines();
    struct kern_dense slow = {"slow", 1e-6, 1e-6, {0}, 0, NULL},
                      fast = {"fast", 1e6, 1e6, {0}, 0, NULL};
    gsl_test(kern_breakeven(&k, &slow, &h100, 64000, 128, 32, false) != 0,
             "always better than a slow kernel");
    gsl_test(!(kern_breakeven(&k, &fast, &h100, 64000, 128, 32, false) > 1),
             "never better than a fast one");
    k.sparse.tile = 256;
    struct kern_dense fa3 = {"fa3", 0.65, 0.57, {0}, 0, NULL};
    gsl_test(!(kern_breakeven(&k, &fa3, &h100, 1024, 128, 32, false) > 1),
             "nor where a tile costs more than all");
}

static void keys_are_rounded_up_to_tiles(void)
{
    const struct kern_profile *k = profile("dsv-triton");
    gsl_test_abs(kern_tiled(k, 5120), 5120, 0, "20 tiles");
    gsl_test_abs(kern_tiled(k, 5121), 5376, 0, "one key more");
    gsl_test_abs(kern_tiled(k, 0), 0, 0, "none");
}

static void other_head_sizes_scale_the_sparse_kernels(void)
{
    const struct kern_profile *k = profile("fa3+dsv");
    gsl_test_rel(kern_sparse_s(k, true, 1000, 1e6, 64) * 2, kern_sparse_s(k, true, 1000, 1e6, 128),
                 1e-12, "half the work");
}

static void nothing_to_do_takes_no_time(void)
{
    const struct kern_profile *k = profile("fa3+dsv");
    gsl_test(kern_dense_s(k, &h100, false, 0, 1000, 128) != 0 || kern_gemm_s(k, &h100, 0) != 0 ||
                 kern_copy_s(k, &h100, 0) != 0 || kern_sparse_s(k, false, 0, 0, 128) != 0 ||
                 kern_select_s(k, 0) != 0,
             "not even a launch");
    gsl_test_rel(kern_gemm_s(k, &h100, 989e12 * 0.79), 1 + 5e-6, 1e-12,
                 "a second of GEMM and a launch");
    gsl_test_rel(kern_copy_s(k, &h100, 3.35e12 * 0.9), 1 + 5e-6, 1e-12,
                 "a second of copies and a launch");
}

static const char right[] = "source: a test\n"
                            "dense: {name: d, forward: 60%, backward: 50%}\n"
                            "best: {name: d, forward: 0.7, backward: 0.6}\n"
                            "sparse: {name: s, forward: {row: 1 ns, pair: 1 ps}, backward: {row: 1 "
                            "ns, pair: 9 ps}, select: 1 "
                            "ps, tile: 64, group: 32}\n"
                            "gemm: 80%\n"
                            "copy: 90%\n"
                            "gathered_row: 2 ns\n"
                            "launch: 5 us\n";

static const struct kern_profile *read_text(const char *text, struct err *e)
{
    const struct cfg *map = cfg_read_text("t.yaml", text, strlen(text), arena, e);
    return map ? kern_read(map, arena, e) : NULL;
}

static void a_wrong_field_is_named_with_its_place(void)
{
    static const struct {
        const char *line, *says;
    } wrong[] = {
        {"gemm: 120%", "t.yaml:5:7: gemm: '120%' is more than the whole"},
        {"copy: 0", "t.yaml:6:7: copy: '0' is not above zero"},
        {"launch: 5", "t.yaml:8:9: "},
        {"launch: 5 GB", "t.yaml:8:9: launch: '5 GB' is a size, want a time"},
        {"gathered_row: -2 ns", "t.yaml:7:15: "},
        {"gathered_row: 1 ns\npointwise: {least: 3, most: 2}",
         "pointwise: 3 to 2, want 1 <= least <= most"},
        {"gathered_row: 1 ns\npointwise: {least: 0.5, most: 2}", "pointwise: 0.5 to 2"},
        {"gathered_row: 1 ns\npointwise: {least: 1}", "most"},
        {"dense: {name: d, forward: 60%}", "backward"},
        {"dense: {name: d, foward: 60%, backward: 50%}", "forward"},
        {"dense: {name: d, forward: 60%, backward: 50%, on: h20}", "on: want a map of GPUs"},
        {"dense: {name: d, forward: 60%, backward: 50%, on: {h20: {forward: 60%}}}", "backward"},
        {"best: fa3", "t.yaml:3:7: best: want a map"},
        {"sparse: {name: s, forward: {row: 1 ns, pair: 0 ps}, backward: {row: 1 ns, pair: 9 ps}, "
         "select: 1 ps, tile: 64, group:"
         " 32}",
         "sparse.forward.pair: '0 ps' is not above zero"},
        {"sparse: {name: s, forward: {row: 1 ns, pair: 1 ps}, backward: {row: 1 ns, pair: 9 ps}, "
         "select: 1 ps, tile: 0, group:"
         " 32}",
         "tile"},
    };
    struct err fine = {0};
    gsl_test(read_text(right, &fine) == NULL, "the right file is read: %s", fine.text);
    for (size_t i = 0; i < sizeof wrong / sizeof wrong[0]; i++) {
        struct err e = {0};
        gsl_test(read_text(broken(right, wrong[i].line, arena), &e) != NULL ||
                     !says(&e, wrong[i].says),
                 "%.30s: %s", wrong[i].line, e.text);
    }
    struct err e = {0};
    gsl_test(kern_load("fa3", err_at_name("--kernels"), arena, &e) != NULL ||
                 !says(&e, "--kernels"),
             "no such profile: %s", e.text);
}

static bool dense_equal(struct kern_dense a, struct kern_dense b)
{
    bool same = a.on_count == b.on_count;
    for (int i = 0; i < a.on_count && same; i++)
        same = strcmp(a.on[i].gpu, b.on[i].gpu) == 0 &&
               a.on[i].forward_share == b.on[i].forward_share &&
               a.on[i].backward_share == b.on[i].backward_share;
    return same && strcmp(a.name, b.name) == 0 && a.forward_share == b.forward_share &&
           a.backward_share == b.backward_share;
}

static bool profiles_equal(const struct kern_profile *a, const struct kern_profile *b)
{
    const struct kern_sparse *s = &a->sparse, *t = &b->sparse;
    return strcmp(a->name, b->name) == 0 && strcmp(a->source, b->source) == 0 &&
           dense_equal(a->dense, b->dense) && dense_equal(a->best, b->best) &&
           strcmp(s->name, t->name) == 0 && s->forward_row_s == t->forward_row_s &&
           s->forward_pair_s == t->forward_pair_s && s->backward_row_s == t->backward_row_s &&
           s->backward_pair_s == t->backward_pair_s && s->select_score_s == t->select_score_s &&
           s->tile == t->tile && s->group == t->group && a->gemm_share == b->gemm_share &&
           a->hbm_share == b->hbm_share && a->gathered_row_s == b->gathered_row_s &&
           a->scattered_row_s == b->scattered_row_s && a->sum_bytes_per_s == b->sum_bytes_per_s &&
           a->list_s == b->list_s && strcmp(a->measured_on, b->measured_on) == 0 &&
           a->overlap_share == b->overlap_share && a->pointwise_least == b->pointwise_least &&
           a->pointwise_most == b->pointwise_most && a->launch_s == b->launch_s;
}

/* Between once and nine times over 3 GB at 80% of 3 TB/s: three times in the middle, 3.75 ms, known
 * to a factor 3. */
static void what_a_framework_moves_is_known_to_its_range(void)
{
    struct hw_gpu g = {.name = "gpu", .hbm_bytes_per_s = 3e12};
    struct kern_profile k = {.hbm_share = 0.8, .pointwise_least = 1, .pointwise_most = 9};
    struct kern_time t = kern_pointwise_time(&k, &g, 3e9);
    gsl_test_rel(t.s, 3.75e-3, 1e-12, "the geometric middle");
    gsl_test(!(t.half > log(3) && t.half < log(3) + 0.01), "the bandwidth adds %g",
             t.half - log(3));
    k.pointwise_least = k.pointwise_most = 1;
    gsl_test_rel(kern_pointwise_time(&k, &g, 3e9).s, 1.25e-3, 1e-12, "all fused");
    k.pointwise_least = k.pointwise_most = 0;
    gsl_test_rel(kern_pointwise_time(&k, &g, 3e9).s, 0, 0, "not priced");
}

static void a_written_profile_reads_back_the_same(void)
{
    const char **names = preset_list("kernel", arena, &(struct err){0});
    for (; names && *names; names++) {
        struct err e = {0};
        char *text;
        size_t size;
        FILE *out = open_memstream(&text, &size);
        struct json j = json_to(out);
        kern_json(profile(*names), &j, NULL);
        fclose(out);
        const struct cfg *map = cfg_read_text("plan.json", text, size, arena, &e);
        const struct kern_profile *k = map ? kern_read(map, arena, &e) : NULL;
        gsl_test(!k || !profiles_equal(k, profile(*names)), "%s survives: %s", *names, e.text);
        free(text);
    }
}

/* What machines measured with shardwise-run have beside, there and back, and their units. */
static void what_is_measured_beside_survives_too(void)
{
    struct err e = {0};
    char text[1024], *again;
    size_t size;
    snprintf(text, sizeof text, "%sscattered_row: 3 ns\nsum: 12 GB/s\nlist: 250 ps\n", right);
    const struct kern_profile *k = read_text(text, &e);
    gsl_test(!k, "read: %s", e.text);
    gsl_test_rel(k->scattered_row_s, 3e-9, 1e-12, "a row");
    gsl_test_rel(k->sum_bytes_per_s, 12e9, 1e-12, "a sum");
    gsl_test_rel(k->list_s, 250e-12, 1e-12, "an entry");
    FILE *out = open_memstream(&again, &size);
    struct json j = json_to(out);
    kern_json(k, &j, NULL);
    fclose(out);
    const struct cfg *map = cfg_read_text("plan.json", again, size, arena, &e);
    const struct kern_profile *read = map ? kern_read(map, arena, &e) : NULL;
    gsl_test(!read || !profiles_equal(read, k), "survives: %s", e.text);
    free(again);
}

int main(void)
{
    arena = arena_new();
    every_preset_loads_and_names_its_source();
    the_sparse_lines_meet_dsvs_exp2();
    and_predict_exp1();
    dense_kernels_take_what_their_papers_say();
    published_break_evens_follow_from_the_published_lines();
    the_presets_break_even_at_96_percent();
    break_even_is_where_the_prices_cross();
    break_even_has_ends();
    keys_are_rounded_up_to_tiles();
    other_head_sizes_scale_the_sparse_kernels();
    nothing_to_do_takes_no_time();
    a_wrong_field_is_named_with_its_place();
    what_a_framework_moves_is_known_to_its_range();
    a_written_profile_reads_back_the_same();
    what_is_measured_beside_survives_too();
    arena_free(arena);
    return gsl_test_summary();
}
