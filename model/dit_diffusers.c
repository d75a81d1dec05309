/* Every class's defaults and sums are those of its file in diffusers 0.35.2,
 * src/diffusers/models/transformers/; tests/model/diffusers_test.c holds the sums against the
 * classes themselves. d is the width, p the width of a narrower text stream. */
#include "model/dit_diffusers.h"

#include <string.h>

#include "model/read.h"

/* ---- weights that multiply no video token ---- */

/* A number of the config that is no part of the shape. */
static bool extra(const struct cfg *map, const char *key, int fallback, double *out, struct err *e)
{
    int value;
    if (!read_int_or(map, key, 0, DIT_SIDE_MAX, fallback, &value, e))
        return false;
    *out = value;
    return true;
}

/* transformer_wan.py: time embedder 256 -> d -> d -> 6 d, text embedder text_dim -> d -> d; with an
 * image, K and V of its features in each block and their embedder. */
static bool wan_rest(const struct cfg *map, const struct dit_model *m, double *rest, struct err *e)
{
    double d = m->width, text, image, added;
    if (!extra(map, "text_dim", 4096, &text, e) || !extra(map, "image_dim", 0, &image, e) ||
        !extra(map, "added_kv_proj_dim", 0, &added, e))
        return false;
    *rest = 8 * d * d + (256 + text) * d + m->cross_blocks * 2 * added * d +
            (image > 0 ? image * (image + d) : 0);
    return true;
}

/* transformer_hunyuan_video.py: a dual block's text stream is as wide as its video stream, and each
 * has 6 d x d of modulation; a single block has 3 d x d; a refiner of 14 d x d, and embedders. */
static bool hunyuan_rest(const struct cfg *map, const struct dit_model *m, double *rest,
                         struct err *e)
{
    double d = m->width, refiners, text, pooled;
    if (!extra(map, "num_refiner_layers", 2, &refiners, e) ||
        !extra(map, "text_embed_dim", 4096, &text, e) ||
        !extra(map, "pooled_projection_dim", 768, &pooled, e))
        return false;
    *rest = m->dual_blocks * (16 * d * d + 2 * d * m->ffn) + m->single_blocks * 3 * d * d +
            (14 * refiners + 6) * d * d + (2 * text + pooled + 3 * 256) * d;
    return true;
}

/* cogvideox_transformer_3d.py: two norms of 6 d from the time embedding in each block. */
static bool cogvideox_rest(const struct cfg *map, const struct dit_model *m, double *rest,
                           struct err *e)
{
    double d = m->width, time, text;
    if (!extra(map, "time_embed_dim", 512, &time, e) ||
        !extra(map, "text_embed_dim", 4096, &text, e))
        return false;
    *rest = m->single_blocks * 12 * time * d + text * d;
    return true;
}

/* transformer_ltx.py: time embedder 256 -> d -> d -> 6 d, caption embedder -> d -> d. */
static bool ltx_rest(const struct cfg *map, const struct dit_model *m, double *rest, struct err *e)
{
    double d = m->width, caption;
    if (!extra(map, "caption_channels", 4096, &caption, e))
        return false;
    *rest = 8 * d * d + (256 + caption) * d;
    return true;
}

/* transformer_mochi.py: the text stream is p wide, its feed-forward network p x 8/3 p in three
 * matrices; modulation d -> 4 d and d -> 4 p. */
static bool mochi_rest(const struct cfg *map, const struct dit_model *m, double *rest,
                       struct err *e)
{
    double d = m->width, p, text;
    if (!extra(map, "pooled_projection_dim", 1536, &p, e) ||
        !extra(map, "text_embed_dim", 4096, &text, e))
        return false;
    *rest = m->dual_blocks * (4 * d * d + 8 * d * p + 8 * p * p) + text * (d + 9 * p);
    return true;
}

/* ---- classes ---- */

struct diffusers_class {
    const char *name;
    int layers, single_layers; /* num_layers, num_single_layers if it has such; defaults */
    enum { BLOCKS_CROSS, BLOCKS_SINGLE, BLOCKS_DUAL } blocks;
    int heads, head_dim;
    const char *ffn_key; /* the hidden width itself, NULL: d x ffn_ratio */
    int ffn;             /* its default */
    double ffn_ratio;    /* default of mlp_ratio, or fixed */
    int ffn_mats;
    const char *text_key; /* the prompt's length, NULL: the pipeline's */
    int text_tokens;
    const char *cross_key; /* width of what cross-attention reads; NULL: d */
    int patch, patch_t;
    struct frame_rule frames; /* the VAE's */
    int vae;                  /* pixels a latent, each side */
    int wide_channels;        /* in_channels from which the VAE has wide_vae instead; 0: none */
    int wide_vae;
    bool (*rest)(const struct cfg *map, const struct dit_model *m, double *rest, struct err *e);
};

static const struct diffusers_class classes[] = {
    {.name = "WanTransformer3DModel", /* pipeline_wan.py: 512 text tokens; the 5B's VAE: 16 x 16 */
     .layers = 40,
     .blocks = BLOCKS_CROSS,
     .heads = 40,
     .head_dim = 128,
     .ffn_key = "ffn_dim",
     .ffn = 13824,
     .ffn_mats = 2,
     .text_tokens = 512,
     .patch = 2,
     .patch_t = 1,
     .frames = {"4n+1", 4, 1, 1},
     .vae = 8,
     .wide_channels = 48,
     .wide_vae = 16,
     .rest = wan_rest},
    {.name = "SkyReelsV2Transformer3DModel", /* Wan's shape */
     .layers = 32,
     .blocks = BLOCKS_CROSS,
     .heads = 16,
     .head_dim = 128,
     .ffn_key = "ffn_dim",
     .ffn = 8192,
     .ffn_mats = 2,
     .text_tokens = 512,
     .patch = 2,
     .patch_t = 1,
     .frames = {"4n+1", 4, 1, 1},
     .vae = 8,
     .rest = wan_rest},
    {.name = "HunyuanVideoTransformer3DModel", /* pipeline_hunyuan_video.py: 256 text tokens */
     .layers = 20,
     .single_layers = 40,
     .blocks = BLOCKS_DUAL,
     .heads = 24,
     .head_dim = 128,
     .ffn_ratio = 4,
     .ffn_mats = 2,
     .text_tokens = 256,
     .patch = 2,
     .patch_t = 1,
     .frames = {"4n+1", 4, 1, 1},
     .vae = 8,
     .rest = hunyuan_rest},
    {.name = "CogVideoXTransformer3DModel",
     .layers = 30,
     .blocks = BLOCKS_SINGLE,
     .heads = 30,
     .head_dim = 64,
     .ffn_ratio = 4,
     .ffn_mats = 2,
     .text_key = "max_text_seq_length",
     .text_tokens = 226,
     .patch = 2,
     .patch_t = 1,
     .frames = {"4n+1", 4, 1, 1},
     .vae = 8,
     .rest = cogvideox_rest},
    {.name = "LTXVideoTransformer3DModel", /* pipeline_ltx.py: 128 text tokens */
     .layers = 28,
     .blocks = BLOCKS_CROSS,
     .heads = 32,
     .head_dim = 64,
     .ffn_ratio = 4,
     .ffn_mats = 2,
     .text_tokens = 128,
     .cross_key = "cross_attention_dim",
     .patch = 1,
     .patch_t = 1,
     .frames = {"8n+1", 8, 1, 1},
     .vae = 32,
     .rest = ltx_rest},
    {.name = "MochiTransformer3DModel", /* a gated network of 2/3 of 4 d */
     .layers = 48,
     .blocks = BLOCKS_DUAL,
     .heads = 24,
     .head_dim = 128,
     .ffn_ratio = 8 / 3.0,
     .ffn_mats = 3,
     .text_key = "max_sequence_length",
     .text_tokens = 256,
     .patch = 2,
     .patch_t = 1,
     .frames = {"6n+1", 6, 1, 1},
     .vae = 8,
     .rest = mochi_rest},
};
enum { CLASSES = sizeof classes / sizeof *classes };

static const struct diffusers_class *class_of(const struct cfg *map, struct err *e)
{
    const char *name;
    if (!cfg_text(map, "_class_name", &name, e))
        return NULL;
    for (int i = 0; i < CLASSES; i++)
        if (strcmp(name, classes[i].name) == 0)
            return &classes[i];
    err_set(e, ERR_INPUT, cfg_get(map, "_class_name")->at,
            "_class_name: '%.80s' is not known: want %s, %s, %s, %s, %s or %s; others are written "
            "as a model file (docs/formats.md)",
            name, classes[0].name, classes[1].name, classes[2].name, classes[3].name,
            classes[4].name, classes[5].name);
    return NULL;
}

/* ---- the shape ---- */

static bool blocks_of(const struct diffusers_class *k, const struct cfg *map, struct dit_model *m,
                      struct err *e)
{
    int *const kinds[] = {[BLOCKS_CROSS] = &m->cross_blocks,
                          [BLOCKS_SINGLE] = &m->single_blocks,
                          [BLOCKS_DUAL] = &m->dual_blocks};
    return read_int_or(map, "num_layers", 1, DIT_BLOCKS_MAX / 2, k->layers, kinds[k->blocks], e) &&
           (!k->single_layers || read_int_or(map, "num_single_layers", 0, DIT_BLOCKS_MAX / 2,
                                             k->single_layers, &m->single_blocks, e));
}

static bool ffn_of(const struct diffusers_class *k, const struct cfg *map, struct dit_model *m,
                   struct err *e)
{
    double ratio = k->ffn_ratio;
    m->ffn_mats = k->ffn_mats;
    if (k->ffn_key)
        return read_int_or(map, k->ffn_key, 1, 16 * DIT_SIDE_MAX, k->ffn, &m->ffn, e);
    if (cfg_get(map, "mlp_ratio") && !read_positive(map, "mlp_ratio", QTY_NUMBER, &ratio, e))
        return false;
    if (!(ratio * m->width >= 1 && ratio <= 64))
        return err_set(e, ERR_INPUT, cfg_get(map, "mlp_ratio")->at,
                       "mlp_ratio: %g is out of range; want up to 64", ratio);
    m->ffn = (int)(ratio * m->width);
    return true;
}

/* A number for height and width, with patch_size_t for frames; or [frames, height, width]. */
static bool patch_of(const struct diffusers_class *k, const struct cfg *map, struct dit_model *m,
                     struct arena *a, struct err *e)
{
    const struct cfg *node = cfg_get(map, "patch_size");
    double *sides;
    int count;
    if (!node || node->kind != CFG_LIST) {
        bool ok = read_int_or(map, "patch_size", 1, 64, k->patch, &m->patch_h, e) &&
                  read_int_or(map, "patch_size_t", 1, 64, k->patch_t, &m->patch_t, e);
        m->patch_w = m->patch_h;
        return ok;
    }
    if (!cfg_qty_list(map, "patch_size", QTY_NUMBER, a, &sides, &count, e))
        return false;
    for (int i = 0; i < count; i++)
        if (!(sides[i] >= 1 && sides[i] <= 64 && sides[i] == (int)sides[i]))
            count = 0;
    if (count != 3)
        return err_set(e, ERR_INPUT, node->at,
                       "patch_size: want [frames, height, width], each from 1 to 64");
    m->patch_t = (int)sides[0];
    m->patch_h = (int)sides[1];
    m->patch_w = (int)sides[2];
    return true;
}

static bool text_of(const struct diffusers_class *k, const struct cfg *map, struct dit_model *m,
                    struct err *e)
{
    m->text_tokens = k->text_tokens;
    m->cross_dim = k->blocks == BLOCKS_CROSS ? m->width : 0;
    return (!k->text_key ||
            read_int_or(map, k->text_key, 0, DIT_SIDE_MAX, k->text_tokens, &m->text_tokens, e)) &&
           (!k->cross_key ||
            read_int_or(map, k->cross_key, 1, DIT_SIDE_MAX, m->width, &m->cross_dim, e));
}

static bool vae_of(const struct diffusers_class *k, const struct cfg *map, struct dit_model *m,
                   struct err *e)
{
    int channels;
    if (!read_int_or(map, "in_channels", 1, DIT_SIDE_MAX, 1, &channels, e))
        return false;
    m->frames = k->frames;
    m->vae_t = k->frames.chunk;
    m->vae_h = m->vae_w = k->wide_channels && channels >= k->wide_channels ? k->wide_vae : k->vae;
    return true;
}

static bool params_of(const struct diffusers_class *k, const struct cfg *map, struct dit_model *m,
                      struct err *e)
{
    double rest, inner = (double)m->kv_heads * m->head_dim;
    if (!k->rest(map, m, &rest, e))
        return false;
    m->params_per_token = dit_params_per_token(m);
    m->params = m->params_per_token + m->cross_blocks * 2 * m->cross_dim * inner + rest;
    return true;
}

/* ".../Wan2.1-T2V-14B-Diffusers/transformer/config.json" -> "Wan2.1-T2V-14B-Diffusers" */
static const char *name_of(const struct diffusers_class *k, const char *path, struct arena *a)
{
    static const char *const ends[] = {"/config.json", "/transformer"};
    char *folder = arena_strdup(a, path);
    for (int i = 0; i < 2; i++) {
        size_t length = strlen(folder), end = strlen(ends[i]);
        if (length > end && strcmp(folder + length - end, ends[i]) == 0)
            folder[length - end] = '\0';
        else if (i == 0)
            return strcmp(path, "config.json") == 0 ? k->name : read_stem(path, a);
    }
    const char *slash = strrchr(folder, '/');
    return slash ? slash + 1 : folder;
}

bool dit_is_diffusers(const struct cfg *map)
{
    return cfg_get(map, "_class_name") != NULL;
}

const struct dit_model *dit_of_diffusers(const struct cfg *map, struct arena *a, struct err *e)
{
    const struct diffusers_class *k = class_of(map, e);
    struct dit_model *m = ARENA_NEW(a, struct dit_model);
    if (!k || !blocks_of(k, map, m, e) ||
        !read_int_or(map, "num_attention_heads", 1, DIT_HEADS_MAX, k->heads, &m->heads, e) ||
        !read_int_or(map, "attention_head_dim", 1, DIT_HEAD_DIM_MAX, k->head_dim, &m->head_dim, e))
        return NULL;
    m->kv_heads = m->heads;
    m->width = m->heads * m->head_dim;
    m->name = name_of(k, map->at.file, a);
    m->attention = "full";
    m->source = arena_printf(a, "config.json of %s", k->name);
    if (m->width > DIT_SIDE_MAX)
        err_set(e, ERR_INPUT, map->at, "%d heads of %d are wider than %d", m->heads, m->head_dim,
                DIT_SIDE_MAX);
    return e->code == ERR_NONE && ffn_of(k, map, m, e) && text_of(k, map, m, e) &&
                   patch_of(k, map, m, a, e) && vae_of(k, map, m, e) && params_of(k, map, m, e)
               ? m
               : NULL;
}
