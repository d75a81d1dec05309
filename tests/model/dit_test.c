/* Models and clips: tokens and FLOPs of published clips, weights from the shape, and what bad input
 * says. */
#include "model/dit.h"

#include <gsl/gsl_test.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "base/preset.h"
#include "tests/model/broken.h"

static struct arena *arena;

static const struct dit_model *model(const char *name)
{
    struct err e = {0};
    const struct dit_model *m = dit_load(name, err_at_name("--model"), arena, &e);
    gsl_test(m == NULL, "model %s loads: %s", name, e.text);
    return m ? m : dit_load("dsv-2.7b", err_at_name("--model"), arena, &(struct err){0});
}

/* Clips of published models: token grids as the papers and repositories print them, FLOPs by a
 * separate count of the same layers (2 x weights that touch a video token x tokens, and 4 n^2 H D
 * for attention), in 1e12. attention 0: not compared, because attention is factorised or the count
 * left the text out. */
struct known_clip {
    const char *model;
    struct clip clip;
    struct grid grid;
    double linear, attention;
};
static const struct known_clip clips[] = {
    {"hunyuanvideo-13b", {720, 1280, 129}, {33, 45, 80}, 1614.4, 10450.5},
    {"hunyuanvideo-13b", {768, 1280, 117}, {30, 48, 80}, 1565.5, 9828.0},
    {"hunyuanvideo-13b", {480, 848, 93}, {24, 30, 53}, 518.6, 1088.1},
    {"hunyuanvideo-1.5-8.3b", {720, 1280, 121}, {31, 45, 80}, 606.6, 0},
    {"hunyuanvideo-1.5-8.3b", {480, 832, 121}, {31, 30, 52}, 262.9, 0},
    {"wan2.1-1.3b", {480, 832, 81}, {21, 30, 52}, 81.9, 197.8},
    {"wan2.1-1.3b", {448, 832, 61}, {16, 28, 52}, 58.3, 100.0},
    {"wan2.1-14b", {480, 832, 81}, {21, 30, 52}, 783.2, 879.2},
    {"wan2.1-14b", {720, 1280, 81}, {21, 45, 80}, 1807.4, 4682.0},
    {"wan2.1-14b", {512, 512, 81}, {21, 32, 32}, 514.1, 378.8},
    {"wan2.2-ti2v-5b", {704, 1280, 121}, {31, 22, 40}, 236.9, 274.3},
    {"cogvideox-2b", {480, 720, 49}, {13, 30, 45}, 46.6, 72.8},
    {"cogvideox-5b", {480, 720, 49}, {13, 30, 45}, 166.9, 163.1},
    {"cogvideox1.5-5b", {768, 1360, 81}, {11, 48, 85}, 426.9, 1049.9},
    {"open-sora-1.2", {720, 1280, 204}, {60, 45, 80}, 449.5, 0},
    {"open-sora-2.0-11b", {256, 256, 129}, {33, 16, 16}, 109.1, 56.2},
    {"open-sora-2.0-11b", {576, 1024, 129}, {33, 36, 64}, 981.6, 4103.7},
    {"mochi-1-10b", {480, 848, 163}, {28, 30, 53}, 484.0, 1182.5},
    {"ltx-video-2b", {512, 768, 121}, {16, 16, 24}, 20.2, 8.7},
    {"ltx-video-13b", {704, 1216, 121}, {16, 22, 38}, 301.6, 140.7},
    {"moviegen-30b", {768, 768, 256}, {32, 48, 48}, 3740.5, 6412.4},
    {"step-video-t2v-30b", {544, 992, 204}, {36, 34, 62}, 3850.1, 6793.6},
    {"step-video-t2v-30b", {768, 768, 204}, {36, 48, 48}, 4208.1, 8115.6},
    {"latte-1", {512, 512, 16}, {16, 32, 32}, 31.7, 0},
    {"allegro-2.8b", {720, 1280, 88}, {22, 45, 80}, 376.7, 1849.9},
    {"magi-1-24b", {720, 1280, 96}, {24, 45, 80}, 3861.6, 8806.0},
    {"magi-1-24b", {720, 1280, 24}, {6, 45, 80}, 965.4, 550.4},
    {"cosmos-predict1-7b", {704, 1280, 121}, {16, 44, 80}, 740.8, 1455.1},
    {"cosmos-predict2-2b", {704, 1280, 93}, {24, 44, 80}, 277.8, 1637.0},
};
enum { CLIPS = sizeof clips / sizeof clips[0] };

static void every_published_clip_has_its_published_tokens(void)
{
    for (const struct known_clip *k = clips; k < clips + CLIPS; k++) {
        struct err e = {0};
        struct grid g = {0};
        gsl_test(!dit_grid(model(k->model), k->clip, err_at_name("--clip"), &g, &e),
                 "%s: a right clip %s", k->model, e.text);
        gsl_test(g.t != k->grid.t || g.h != k->grid.h || g.w != k->grid.w,
                 "%s: %dx%dx%d is %d x %d x %d tokens", k->model, k->clip.height, k->clip.width,
                 k->clip.frames, k->grid.t, k->grid.h, k->grid.w);
    }
}

static double attention_flop(const struct dit_model *m, int64_t tokens)
{
    double flop = 0;
    for (int b = 0; b < dit_blocks(m); b++) {
        double n = (double)dit_attention_tokens(m, b, tokens);
        flop += 4 * n * n * m->heads * m->head_dim;
    }
    return flop;
}

static void every_published_clip_has_its_flops_to_the_printed_digit(void)
{
    for (const struct known_clip *k = clips; k < clips + CLIPS; k++) {
        const struct dit_model *m = model(k->model);
        int64_t tokens = grid_tokens(k->grid);
        gsl_test_abs(dit_linear_flop(m, tokens) / 1e12, k->linear, 0.0501,
                     "%s: linear TFLOP at %ld tokens", k->model, (long)tokens);
        if (k->attention > 0)
            gsl_test_abs(attention_flop(m, tokens) / 1e12, k->attention, 0.0501,
                         "%s: attention TFLOP at %ld tokens", k->model, (long)tokens);
    }
}

/* What the loaded fields do not hold, added by hand: `shared` AdaLN-single, time and caption
 * embedders of cross-attention models (6 d^2 + d^2 + 256 d + 4096 d + d^2), else as noted. */
struct known_params {
    const char *model;
    double modulation; /* weights that multiply no token, as multiples of d^2 */
    double per_d;      /* and of d */
};
static const struct known_params params[] = {
    {"dsv-0.8b", 8, 4352},
    {"dsv-2.7b", 8, 4352},
    {"dsv-30b", 8, 4352},
    {"wan2.1-1.3b", 8, 4352},
    {"wan2.1-14b", 8, 4352},
    {"wan2.2-a14b", 8, 4352},
    {"wan2.2-ti2v-5b", 8, 4352},
    {"open-sora-1.2", 8, 4352},
    {"ltx-video-2b", 8, 4352},
    {"ltx-video-13b", 8, 4352},
    {"latte-1", 8, 4352},
    {"allegro-2.8b", 8, 4352},
    {"step-video-t2v-30b", 8, 4352},
    {"moviegen-30b", 0, 0}, /* counted without embedders */
    {"hunyuanvideo-13b", 20 * 12 + 40 * 3 + 28 + 4,
     4096 + 1280}, /* two token refiner blocks of 14 d^2, embedders */
    {"hunyuanvideo-1.5-8.3b", 54 * 12 + 28 + 4,
     3584 + 1472}, /* the same, Qwen2.5-VL and ByT5 features */
    {"open-sora-2.0-11b", 19 * 12 + 38 * 3 + 4, 4096 + 1024}, /* FLUX: no refiner */
    {"cogvideox-2b", 0, 30 * 12 * 512.0}, /* expert AdaLN from a 512-wide time embedding */
    {"cogvideox-5b", 0, 42 * 12 * 512.0},
    {"cogvideox1.5-5b", 0, 42 * 12 * 512.0},
    {"cosmos-predict1-7b", 0,
     28 * 3 * 4 * 256.0}, /* AdaLN-LoRA of rank 256: d -> 256 -> 3 d, three times a block */
    {"cosmos-predict1-14b", 0, 36 * 3 * 4 * 256.0},
    {"cosmos-predict2-2b", 0, 28 * 3 * 4 * 256.0},
    {"cosmos-predict2-14b", 0, 36 * 3 * 4 * 256.0},
};

static void weights_follow_from_the_shape_within_one_percent(void)
{
    for (const struct known_params *p = params; p < params + sizeof params / sizeof params[0];
         p++) {
        const struct dit_model *m = model(p->model);
        double d = m->width, kv = (double)m->kv_heads * m->head_dim,
               inner = (double)m->heads * m->head_dim;
        double text = m->cross_blocks * 2.0 * m->cross_dim * kv;
        double dual = m->dual_blocks * (2 * d * inner + 2 * d * kv + m->ffn_mats * d * m->ffn);
        double all = m->params_per_token + text + dual + p->modulation * d * d + p->per_d * d;
        gsl_test_rel(m->params, all, 0.01, "%s: weights", p->model);
    }
}

/* Weights that touch a video token, as counted for these models elsewhere, in 1e9. */
static void weights_of_a_token_follow_from_the_shape(void)
{
    static const struct {
        const char *model;
        double billion;
    } known[] = {{"dsv-0.8b", 0.669},
                 {"dsv-2.7b", 2.416},
                 {"dsv-30b", 22.196},
                 {"magi-1-4.5b", 4.064},
                 {"magi-1-24b", 22.347},
                 {"mochi-1-10b", 5.436},
                 {"latte-1", 0.966},
                 {"hunyuanvideo-13b", 6.795},
                 {"cosmos-predict1-14b", 13.212},
                 {"wan2.2-a14b", 11.954},
                 {"cosmos-predict2-14b", 13.212}};
    for (size_t i = 0; i < sizeof known / sizeof known[0]; i++)
        gsl_test_abs(dit_params_per_token(model(known[i].model)) / 1e9, known[i].billion, 0.000501,
                     "%s: weights a token", known[i].model);
}

static void every_preset_loads_and_names_its_source(void)
{
    struct err e = {0};
    const char **names = preset_list("model", arena, &e);
    int count = 0;
    for (; names && names[count]; count++) {
        const struct dit_model *m = model(names[count]);
        gsl_test(strcmp(m->name, names[count]) != 0, "%s has its file's name", names[count]);
        gsl_test(strlen(m->source) < 20, "%s names its source", names[count]);
        gsl_test(m->width != m->heads * m->head_dim, "%s: width = heads x head_dim", names[count]);
        gsl_test(m->params_per_token > m->params, "%s: no token meets more weights than there are",
                 names[count]);
    }
    gsl_test(count != 27, "27 models with complete shapes are there: %d", count);
}

static void text_is_in_the_attention_of_joint_blocks_only(void)
{
    const struct dit_model *hunyuan = model("hunyuanvideo-13b"), *wan = model("wan2.1-14b"),
                           *latte = model("latte-1");
    gsl_test(dit_attention_tokens(hunyuan, 0, 118800) != 119056, "a dual block: 118,800 + 256");
    gsl_test(dit_attention_tokens(hunyuan, 59, 118800) != 119056, "a single block");
    gsl_test(dit_attention_tokens(wan, 0, 75600) != 75600, "a cross-attention block");
    gsl_test(dit_cross_flop(hunyuan, 0, 1000) != 0, "joint blocks have no cross-attention");
    gsl_test_rel(dit_cross_flop(wan, 39, 75600), 4.0 * 75600 * 512 * 5120 + 4.0 * 512 * 5120 * 5120,
                 1e-12, "cross-attention of Wan 14B by hand");
    gsl_test(!dit_is_cross(latte, 27) || dit_is_cross(latte, 28),
             "Latte: 28 blocks with text, 28 without");
}

static void chunked_and_causal_vaes_have_their_strides(void)
{
    gsl_test(model("step-video-t2v-30b")->vae_t != 8, "17->3: (17-1)/(3-1)");
    gsl_test(model("open-sora-1.2")->vae_t != 4, "17->5: (17-1)/(5-1)");
    gsl_test(model("mochi-1-10b")->vae_t != 6, "6n+1");
    gsl_test(model("dsv-2.7b")->vae_t != 1, "F");
}

static void a_wrong_frame_count_gets_the_nearest_right_ones(void)
{
    static const struct {
        const char *model;
        struct clip clip;
        const char *says;
    } wrong[] = {
        {"hunyuanvideo-13b",
         {720, 1280, 130},
         "rule 4n+1; the nearest right counts are 129 and 133"},
        {"ltx-video-2b", {512, 768, 120}, "rule 8n+1; the nearest right counts are 113 and 121"},
        {"mochi-1-10b", {480, 848, 3}, "rule 6n+1; the nearest right counts are 1 and 7"},
        {"step-video-t2v-30b",
         {544, 992, 203},
         "rule 17->3; the nearest right counts are 187 and 204"},
        {"step-video-t2v-30b", {544, 992, 5}, "rule 17->3; the nearest right count is 17"},
        {"allegro-2.8b", {720, 1280, 90}, "rule F/4; the nearest right counts are 88 and 92"},
        {"wan2.1-14b",
         {730, 1280, 81},
         "height 730: wan2.1-14b takes multiples of 16 (VAE 8 x patch 2); the nearest are 720"
         " and 736"},
        {"wan2.2-ti2v-5b",
         {704, 16, 121},
         "width 16: wan2.2-ti2v-5b takes multiples of 32 (VAE 16 x patch 2); the nearest is"
         " 32"},
        {"wan2.1-14b", {0, 1280, 81}, "each number must be from 1"},
        {"dsv-2.7b", {1 << 20, 1 << 20, 1 << 20}, "are more than 1099511627776 (2^40)"},
    };
    for (size_t i = 0; i < sizeof wrong / sizeof wrong[0]; i++) {
        struct err e = {0};
        struct grid g = {1, 2, 3};
        gsl_test(dit_grid(model(wrong[i].model), wrong[i].clip, err_at_name("--clip"), &g, &e),
                 "refused: %s", wrong[i].says);
        gsl_test(!says(&e, wrong[i].says), "says: %s | %s", wrong[i].says, e.text);
        gsl_test(g.t != 1 || g.h != 2 || g.w != 3, "and leaves the grid alone");
    }
}

static void clips_and_grids_are_read(void)
{
    struct err e = {0};
    struct clip c = {0};
    struct grid g = {0};
    gsl_test(!clip_parse("720x1280x129", err_at_name("--clip"), &c, &e) || c.height != 720 ||
                 c.width != 1280 || c.frames != 129,
             "a clip is height x width x frames");
    gsl_test(!grid_parse("33X45x80", err_at_name("--grid"), &g, &e) || grid_tokens(g) != 118800,
             "33 x 45 x 80 tokens");
}

static void what_is_no_clip_or_grid_is_refused(void)
{
    static const char *const clips_wrong[] = {"",
                                              "720",
                                              "720x1280",
                                              "720x1280x129x1",
                                              "x1x1",
                                              "720*1280*129",
                                              "-720x1280x129",
                                              "720x1280x1e2",
                                              "720x1280x129 ",
                                              "axbxc"};
    static const char *const grids_large[] = {"2000000000x2000000000x2000000000",
                                              "99999999999999999999x1x1", "0x45x80",
                                              "1048576x1048576x2"};
    struct clip c;
    struct grid g;
    for (size_t i = 0; i < sizeof clips_wrong / sizeof clips_wrong[0]; i++) {
        struct err e = {0};
        gsl_test(clip_parse(clips_wrong[i], err_at_name("--clip"), &c, &e) ||
                     !says(&e, "want HEIGHTxWIDTHxFRAMES"),
                 "'%s' is no clip: %s", clips_wrong[i], e.text);
    }
    for (size_t i = 0; i < sizeof grids_large / sizeof grids_large[0]; i++) {
        struct err e = {0};
        gsl_test(grid_parse(grids_large[i], err_at_name("--grid"), &g, &e) || e.code != ERR_INPUT,
                 "'%s' is refused: %s", grids_large[i], e.text);
    }
}

static void an_unknown_model_gets_the_nearest_name(void)
{
    struct err e = {0};
    gsl_test(dit_load("hunyuanvideo-13", err_at_name("--model"), arena, &e) != NULL ||
                 !says(&e, "hunyuanvideo-13b"),
             "did you mean: %s", e.text);
}

/* A right file, to be broken one line at a time. */
static const char right[] = "source: a test\n"
                            "attention: full\n"
                            "blocks: {cross: 4}\n"
                            "width: 256\n"
                            "heads: 4\n"
                            "head_dim: 64\n"
                            "ffn: {width: 1024, matrices: 2}\n"
                            "text: {tokens: 10, width: 64}\n"
                            "params: 5e6\n"
                            "vae: {frames: 4n+1, height: 8, width: 8}\n"
                            "patch: {frames: 1, height: 2, width: 2}\n";

static const struct dit_model *read_text(const char *text, struct err *e)
{
    const struct cfg *map = cfg_read_text("t.yaml", text, strlen(text), arena, e);
    return map ? dit_read(map, arena, e) : NULL;
}

static void a_wrong_field_is_named_with_its_place(void)
{
    static const struct {
        const char *line, *says;
    } wrong[] = {
        {"width: 0", "t.yaml:4:8: "},
        {"heads: -4", "t.yaml:5:8: "},
        {"head_dim: 4096", "t.yaml:6:11: "},
        {"params: 5 GB", "t.yaml:9:9: "},
        {"params: 0", "params: '0' is not above zero"},
        {"params: nan", "t.yaml:9:9: "},
        {"attention: ful", "full"},
        {"blocks: {cros: 4}", "cross"},
        {"blocks: {cross: 0}", "0 in all, want 1 to"},
        {"text: {tokens: 10}", "needs the width of its text"},
        {"vae: {frames: 4n+2, height: 8, width: 8}",
         "'4n+2' is not a rule, want one such as F, F/4, 4n+1 or 17->5"},
        {"vae: {frames: F/0, height: 8, width: 8}", "want 1 to 1024 frames"},
        {"vae: {frames: 3->17, height: 8, width: 8}", "want 1 to 1024 frames"},
        {"vae: 8", "t.yaml:10:6: vae: want a map"},
        {"ffn: {width: 99999999999999999999, matrices: 2}", "t.yaml:7:14: "},
    };
    struct err fine = {0};
    gsl_test(read_text(right, &fine) == NULL, "the right file is read: %s", fine.text);
    for (size_t i = 0; i < sizeof wrong / sizeof wrong[0]; i++) {
        struct err e = {0};
        gsl_test(read_text(broken(right, wrong[i].line, arena), &e) != NULL ||
                     !says(&e, wrong[i].says),
                 "%s: %s", wrong[i].line, e.text);
    }
}

static bool models_equal(const struct dit_model *a, const struct dit_model *b)
{
    return strcmp(a->name, b->name) == 0 && strcmp(a->source, b->source) == 0 &&
           strcmp(a->attention, b->attention) == 0 && strcmp(a->frames.name, b->frames.name) == 0 &&
           a->dual_blocks == b->dual_blocks && a->single_blocks == b->single_blocks &&
           a->cross_blocks == b->cross_blocks && a->plain_blocks == b->plain_blocks &&
           a->width == b->width && a->heads == b->heads && a->kv_heads == b->kv_heads &&
           a->head_dim == b->head_dim && a->ffn == b->ffn && a->ffn_mats == b->ffn_mats &&
           a->cross_dim == b->cross_dim && a->text_tokens == b->text_tokens &&
           a->params == b->params && a->params_per_token == b->params_per_token &&
           a->vae_t == b->vae_t && a->vae_h == b->vae_h && a->vae_w == b->vae_w &&
           a->patch_t == b->patch_t && a->patch_h == b->patch_h && a->patch_w == b->patch_w;
}

static void a_written_model_reads_back_the_same(void)
{
    const char **names = preset_list("model", arena, &(struct err){0});
    for (; names && *names; names++) {
        struct err e = {0};
        char *text;
        size_t size;
        FILE *out = open_memstream(&text, &size);
        struct json j = json_to(out);
        dit_json(model(*names), &j, NULL);
        fclose(out);
        const struct cfg *map = cfg_read_text("plan.json", text, size, arena, &e);
        const struct dit_model *m = map ? dit_read(map, arena, &e) : NULL;
        gsl_test(m == NULL || !models_equal(m, model(*names)), "%s survives: %s", *names, e.text);
        free(text);
    }
}

/* By hand, in tensors of tokens x width. Forward: two norms (read, write), two gates with their
 * residual (two read, one written), rotary embedding of Q and K (2 each), the activation (2 x
 * 13,824 / 5,120 in Wan-14B), and with cross-attention one more norm, Q (2) and a residual (3).
 * Backward: norms 4, gates 3, Q and K 3 each, the activation 3 times its width (gated: 5). */
static void what_lies_between_products_moves_at_least_this(void)
{
    static const struct {
        const char *name;
        double whole[2], shared[2];
    } known[] = {
        {"wan2.1-14b", {10 + 5, 14 + 4}, {4 + 2 + 2 * 2.7, 6 + 3 + 3 * 2.7}},
        {"hunyuanvideo-13b", {10, 14}, {4 + 8, 6 + 12}},
        {"dsv-2.7b", {15, 18}, {6 + 3 * 4, 9 + 5 * 4}}, /* gated */
        {"magi-1-24b", {15, 18}, {0, 0}},               /* whole alone is compared */
    };
    for (size_t i = 0; i < sizeof known / sizeof *known; i++)
        for (int backward = 0; backward < 2; backward++) {
            struct dit_pointwise p = dit_pointwise(model(known[i].name), 0, backward);
            gsl_test_rel(p.whole, known[i].whole[backward], 1e-12, "%s: norms and residuals",
                         known[i].name);
            if (known[i].shared[backward] > 0)
                gsl_test_rel(p.shared, known[i].shared[backward], 1e-12, "%s: Q, K, hidden units",
                             known[i].name);
        }
    struct dit_model grouped = *model("magi-1-24b"), even = grouped; /* 48 heads, 8 of K and V */
    even.kv_heads = grouped.heads;
    gsl_test_rel(dit_pointwise(&even, 0, false).shared - dit_pointwise(&grouped, 0, false).shared,
                 2.0 * 40 * 128 / 6144, 1e-12, "40 heads of K fewer");
}

int main(void)
{
    arena = arena_new();
    what_lies_between_products_moves_at_least_this();
    every_published_clip_has_its_published_tokens();
    every_published_clip_has_its_flops_to_the_printed_digit();
    weights_follow_from_the_shape_within_one_percent();
    weights_of_a_token_follow_from_the_shape();
    every_preset_loads_and_names_its_source();
    text_is_in_the_attention_of_joint_blocks_only();
    chunked_and_causal_vaes_have_their_strides();
    a_wrong_frame_count_gets_the_nearest_right_ones();
    clips_and_grids_are_read();
    what_is_no_clip_or_grid_is_refused();
    an_unknown_model_gets_the_nearest_name();
    a_wrong_field_is_named_with_its_place();
    a_written_model_reads_back_the_same();
    arena_free(arena);
    return gsl_test_summary();
}
