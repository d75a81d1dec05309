/* Models from a diffusers config.json: shapes beside the presets', weights beside the classes'. */
#include "model/dit_diffusers.h"

#include <gsl/gsl_test.h>
#include <string.h>

#include "tests/base/folder.h"

static struct arena *arena;
static const char *folder;

static const struct dit_model *read_config(const char *text, struct err *e)
{
    const char *path = folder_file(folder, "config.json", text, arena);
    *e = (struct err){0};
    return dit_load(path, err_at_name("--model"), arena, e);
}

static const struct dit_model *config(const char *text)
{
    struct err e;
    const struct dit_model *m = read_config(text, &e);
    gsl_test(!m, "%s: %s", text, e.text);
    return m;
}

/* The weights of the class that diffusers 0.35.2 builds of the same config, counted on torch's meta
 * device: sum(p.numel() for p in Class(**config).parameters()). */
static void weights_are_those_of_the_class_within_one_percent(void)
{
    static const struct {
        const char *config;
        double weights;
    } known[] = {
        {"'_class_name': 'WanTransformer3DModel'", 14288491584},
        {"'_class_name': 'WanTransformer3DModel', 'num_attention_heads': 12, 'ffn_dim': 8960, "
         "'num_layers': 30",
         1418996800},
        {"'_class_name': 'WanTransformer3DModel', 'num_attention_heads': 24, 'ffn_dim': 14336, "
         "'num_layers': 30, 'in_channels': 48, 'out_channels': 48",
         4999787712},
        {"'_class_name': 'WanTransformer3DModel', 'in_channels': 36, 'image_dim': 1280, "
         "'added_kv_proj_dim': 5120",
         16394878784},
        {"'_class_name': 'SkyReelsV2Transformer3DModel'", 2191878208},
        {"'_class_name': 'HunyuanVideoTransformer3DModel'", 12821012544},
        {"'_class_name': 'HunyuanVideoTransformer3DModel', 'num_layers': 10, "
         "'num_single_layers': 12, 'num_attention_heads': 16, 'mlp_ratio': 3.0",
         2164392000},
        {"'_class_name': 'CogVideoXTransformer3DModel'", 1693783872},
        {"'_class_name': 'CogVideoXTransformer3DModel', 'num_attention_heads': 48, "
         "'num_layers': 42, 'use_rotary_positional_embeddings': true",
         5570283072},
        {"'_class_name': 'LTXVideoTransformer3DModel'", 1923385472},
        {"'_class_name': 'LTXVideoTransformer3DModel', 'attention_head_dim': 128, "
         "'cross_attention_dim': 4096, 'num_layers': 48",
         13042569344},
        {"'_class_name': 'MochiTransformer3DModel'", 10027677744},
        {"'_class_name': 'MochiTransformer3DModel', 'num_layers': 24, 'num_attention_heads': 16, "
         "'pooled_projection_dim': 1024",
         2274342960},
    };
    for (size_t i = 0; i < sizeof known / sizeof *known; i++) {
        char *text = arena_printf(arena, "{%s}", known[i].config);
        for (char *c = text; *c; c++)
            *c = *c == '\'' ? '"' : *c;
        gsl_test_rel(config(text)->params, known[i].weights, 0.01, "%s", known[i].config);
    }
}

/* A file as HunyuanVideo's repository has it, with all that does not matter here. */
static const char hunyuan[] = "{\n"
                              "  \"_class_name\": \"HunyuanVideoTransformer3DModel\",\n"
                              "  \"_diffusers_version\": \"0.32.0.dev0\",\n"
                              "  \"attention_head_dim\": 128,\n"
                              "  \"guidance_embeds\": true,\n"
                              "  \"in_channels\": 16,\n"
                              "  \"mlp_ratio\": 4.0,\n"
                              "  \"num_attention_heads\": 24,\n"
                              "  \"num_layers\": 20,\n"
                              "  \"num_refiner_layers\": 2,\n"
                              "  \"num_single_layers\": 40,\n"
                              "  \"out_channels\": 16,\n"
                              "  \"patch_size\": 2,\n"
                              "  \"patch_size_t\": 1,\n"
                              "  \"pooled_projection_dim\": 768,\n"
                              "  \"qk_norm\": \"rms_norm\",\n"
                              "  \"rope_axes_dim\": [16, 56, 56],\n"
                              "  \"rope_theta\": 256.0,\n"
                              "  \"text_embed_dim\": 4096\n"
                              "}\n";

static bool same_shape(const struct dit_model *a, const struct dit_model *b)
{
    return a->dual_blocks == b->dual_blocks && a->single_blocks == b->single_blocks &&
           a->cross_blocks == b->cross_blocks && a->plain_blocks == b->plain_blocks &&
           a->width == b->width && a->heads == b->heads && a->kv_heads == b->kv_heads &&
           a->head_dim == b->head_dim && a->ffn == b->ffn && a->ffn_mats == b->ffn_mats &&
           a->cross_dim == b->cross_dim && a->text_tokens == b->text_tokens &&
           a->vae_t == b->vae_t && a->vae_h == b->vae_h && a->vae_w == b->vae_w &&
           a->patch_t == b->patch_t && a->patch_h == b->patch_h && a->patch_w == b->patch_w &&
           a->frames.chunk == b->frames.chunk && a->frames.latents == b->frames.latents &&
           a->frames.plus_one == b->frames.plus_one && strcmp(a->attention, b->attention) == 0;
}

static void shapes_are_the_presets(void)
{
    static const struct {
        const char *preset, *config;
    } known[] = {
        {"hunyuanvideo-13b", hunyuan},
        {"wan2.1-14b", "{\"_class_name\": \"WanTransformer3DModel\", \"patch_size\": [1, 2, 2]}"},
        {"wan2.1-1.3b", "{\"_class_name\": \"WanTransformer3DModel\", \"num_attention_heads\": 12, "
                        "\"ffn_dim\": 8960, \"num_layers\": 30, \"image_dim\": null}"},
        {"wan2.2-ti2v-5b",
         "{\"_class_name\": \"WanTransformer3DModel\", \"num_attention_heads\": 24, \"ffn_dim\": "
         "14336, \"num_layers\": 30, \"in_channels\": 48}"},
        {"cogvideox-2b", "{\"_class_name\": \"CogVideoXTransformer3DModel\"}"},
        {"cogvideox-5b", "{\"_class_name\": \"CogVideoXTransformer3DModel\", \"num_layers\": 42, "
                         "\"num_attention_heads\": 48, \"patch_size_t\": null}"},
        {"cogvideox1.5-5b",
         "{\"_class_name\": \"CogVideoXTransformer3DModel\", \"num_layers\": 42, "
         "\"num_attention_heads\": 48, \"patch_size_t\": 2, \"max_text_seq_length\": 224}"},
        {"ltx-video-2b", "{\"_class_name\": \"LTXVideoTransformer3DModel\"}"},
        {"ltx-video-13b",
         "{\"_class_name\": \"LTXVideoTransformer3DModel\", \"attention_head_dim\": 128, "
         "\"cross_attention_dim\": 4096, \"num_layers\": 48}"},
        {"mochi-1-10b", "{\"_class_name\": \"MochiTransformer3DModel\"}"},
    };
    for (size_t i = 0; i < sizeof known / sizeof *known; i++) {
        struct err e = {0};
        const struct dit_model *preset = dit_load(known[i].preset, err_at_name("x"), arena, &e);
        gsl_test(!preset || !same_shape(preset, config(known[i].config)), "%s", known[i].preset);
        gsl_test_rel(config(known[i].config)->params, preset->params, 0.01, "%s: weights",
                     known[i].preset);
    }
}

static void a_model_is_named_after_its_folder(void)
{
    static const struct {
        const char *path, *name;
    } known[] = {
        {"/a/Wan2.1-T2V-14B-Diffusers/transformer/config.json", "Wan2.1-T2V-14B-Diffusers"},
        {"./ours/config.json", "ours"},
        {"config.json", "WanTransformer3DModel"},
        {"ours.json", "ours"},
        {"transformer/config.json", "transformer"}};
    static const char text[] = "{\"_class_name\": \"WanTransformer3DModel\"}";
    for (size_t i = 0; i < sizeof known / sizeof *known; i++) {
        struct err e = {0};
        const struct cfg *map = cfg_read_text(known[i].path, text, strlen(text), arena, &e);
        const struct dit_model *m = map ? dit_of_diffusers(map, arena, &e) : NULL;
        gsl_test(!m || strcmp(m->name, known[i].name) != 0, "%s: '%s', want '%s'", known[i].path,
                 m ? m->name : e.text, known[i].name);
    }
}

static void bad_configs_are_refused_where_they_are_bad(void)
{
#define WAN     "{\"_class_name\": \"WanTransformer3DModel\", "
#define HUNYUAN "{\"_class_name\": \"HunyuanVideoTransformer3DModel\", "
    static const struct {
        const char *config, *message;
    } known[] = {
        {"{\"_class_name\": \"FluxTransformer2DModel\"}", "config.json:1:17: _class_name: 'Flux"},
        {"{\"_class_name\": [1]}", "_class_name"},
        {WAN "\"num_layers\": 0}", "num_layers"},
        {WAN "\"num_layers\": 1e9}", "num_layers"},
        {WAN "\"num_attention_heads\": -3}", "num_attention_heads"},
        {WAN "\"num_attention_heads\": 4096, \"attention_head_dim\": 1024}", "are wider than"},
        {WAN "\"patch_size\": [1, 2]}", "patch_size: want [frames, height, width]"},
        {WAN "\"patch_size\": [1, 2, 0]}", "patch_size: want [frames, height, width]"},
        {WAN "\"patch_size\": [1, 2, 1.5]}", "patch_size: want [frames, height, width]"},
        {WAN "\"ffn_dim\": \"wide\"}", "ffn_dim"},
        {HUNYUAN "\"mlp_ratio\": 0}", "mlp_ratio"},
        {HUNYUAN "\"mlp_ratio\": 1e9}", "mlp_ratio: 1e+09 is out of range"},
        {HUNYUAN "\"num_refiner_layers\": -1}", "num_refiner_layers"},
    };
    for (size_t i = 0; i < sizeof known / sizeof *known; i++) {
        struct err e;
        const struct dit_model *m = read_config(known[i].config, &e);
        gsl_test(m || e.code != ERR_INPUT || !strstr(e.text, known[i].message), "%s: '%s'",
                 known[i].config, m ? "accepted" : e.text);
    }
}

int main(void)
{
    arena = arena_new();
    folder = folder_new(arena);
    weights_are_those_of_the_class_within_one_percent();
    shapes_are_the_presets();
    a_model_is_named_after_its_folder();
    bad_configs_are_refused_where_they_are_bad();
    folder_remove(folder, arena);
    arena_free(arena);
    return gsl_test_summary();
}
