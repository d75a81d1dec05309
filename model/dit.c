#include "model/dit.h"

#include <math.h>
#include <string.h>

#include "base/preset.h"
#include "model/dit_diffusers.h"
#include "model/read.h"

static const char *const model_keys[] = {
    "name", "source", "attention", "blocks",           "width", "heads", "kv_heads", "head_dim",
    "ffn",  "text",   "params",    "params_per_token", "vae",   "patch", NULL};
static const char *const blocks_keys[] = {"dual", "single", "cross", "plain", NULL};
static const char *const ffn_keys[] = {"width", "matrices", NULL};
static const char *const text_keys[] = {"tokens", "width", NULL};
static const char *const vae_keys[] = {"frames", "height", "width", NULL};
static const char *const patch_keys[] = {"frames", "height", "width", NULL};
static const char *const attentions[] = {"full", "factorised", "block-causal", NULL};

int64_t grid_tokens(struct grid g)
{
    return (int64_t)g.t * g.h * g.w;
}

int dit_blocks(const struct dit_model *m)
{
    return m->dual_blocks + m->single_blocks + m->cross_blocks + m->plain_blocks;
}

bool dit_is_joint(const struct dit_model *m, int block)
{
    return block < m->dual_blocks + m->single_blocks;
}

bool dit_is_cross(const struct dit_model *m, int block)
{
    return !dit_is_joint(m, block) && block < m->dual_blocks + m->single_blocks + m->cross_blocks;
}

int64_t dit_attention_tokens(const struct dit_model *m, int block, int64_t video_tokens)
{
    return video_tokens + (dit_is_joint(m, block) ? m->text_tokens : 0);
}

double dit_linear_flop(const struct dit_model *m, int64_t video_tokens)
{
    return 2 * m->params_per_token * (double)video_tokens;
}

double dit_cross_flop(const struct dit_model *m, int block, int64_t video_tokens)
{
    if (!dit_is_cross(m, block))
        return 0;
    double text = m->text_tokens, inner = (double)m->heads * m->head_dim;
    return 4 * (double)video_tokens * text * inner +
           4 * text * m->cross_dim * (double)m->kv_heads * m->head_dim;
}

double dit_params_per_token(const struct dit_model *m)
{
    double d = m->width, inner = (double)m->heads * m->head_dim,
           inner_kv = (double)m->kv_heads * m->head_dim;
    double block = 2 * d * inner + 2 * d * inner_kv + m->ffn_mats * d * m->ffn;
    return dit_blocks(m) * block + m->cross_blocks * 2 * d * inner;
}

int dit_layers(const struct dit_model *m, int block, struct dit_layer out[DIT_LAYERS_MOST])
{
    double d = m->width, inner = (double)m->heads * m->head_dim,
           inner_kv = (double)m->kv_heads * m->head_dim;
    int n = 0;
    out[n++] = (struct dit_layer){.in = d, .out = inner + 2 * inner_kv};
    out[n++] = (struct dit_layer){.in = inner, .out = d, .ends = true};
    out[n++] = (struct dit_layer){.in = d, .out = m->ffn * fmax(m->ffn_mats - 1, 1)};
    if (m->ffn_mats > 1)
        out[n++] = (struct dit_layer){.in = m->ffn, .out = d, .ends = true};
    if (!dit_is_cross(m, block))
        return n;
    out[n++] = (struct dit_layer){.in = d, .out = inner};
    out[n++] = (struct dit_layer){.in = inner, .out = d, .ends = true};
    if (m->text_tokens > 0)
        out[n++] = (struct dit_layer){.in = m->cross_dim, .out = 2 * inner_kv, .text = true};
    return n;
}

/* Backward: a norm reads its input, its output's gradient and the residual's and writes their sum;
 * a gate reads the gradient and what it scaled and writes one; cross-attention's residual passes
 * its gradient on as it is. */
struct dit_pointwise dit_pointwise(const struct dit_model *m, int block, bool backward)
{
    double norm = backward ? 4 : 2, gate = 3, residual = backward ? 0 : 3, each = backward ? 3 : 2;
    double q = (double)m->heads * m->head_dim / m->width,
           k = (double)m->kv_heads * m->head_dim / m->width, f = (double)m->ffn / m->width;
    bool gated = m->ffn_mats > 2, cross = dit_is_cross(m, block);
    double hidden = gated ? (backward ? 5 : 3) : each;
    return (struct dit_pointwise){.whole = 2 * (norm + gate) + (cross ? norm + residual : 0),
                                  .shared = each * (q + k + (cross ? q : 0)) + hidden * f};
}

double dit_block_params(const struct dit_model *m)
{
    return m->params / dit_blocks(m);
}

bool clip_parse(const char *text, struct err_at at, struct clip *out, struct err *e)
{
    int64_t v[3];
    if (!read_triple(text, DIT_SIDE_MAX, "a clip, want HEIGHTxWIDTHxFRAMES such as '720x1280x129'",
                     at, v, e))
        return false;
    *out = (struct clip){(int)v[0], (int)v[1], (int)v[2]};
    return true;
}

static bool grid_check(struct grid g, struct err_at at, struct err *e)
{
    int64_t tokens;
    if (!__builtin_mul_overflow((int64_t)g.t * g.h, g.w, &tokens) && tokens <= DIT_TOKENS_MAX)
        return true;
    return err_set(e, ERR_INPUT, at,
                   "%d x %d x %d tokens are more than %lld (2^40), the most of one sample", g.t,
                   g.h, g.w, (long long)DIT_TOKENS_MAX);
}

bool grid_parse(const char *text, struct err_at at, struct grid *out, struct err *e)
{
    int64_t v[3];
    if (!read_triple(text, INT32_MAX,
                     "a grid of tokens, want FRAMESxHEIGHTxWIDTH such as '33x45x80'", at, v, e))
        return false;
    struct grid g = {(int)v[0], (int)v[1], (int)v[2]};
    if (!grid_check(g, at, e))
        return false;
    *out = g;
    return true;
}

/* Latent frames of `frames` pixel frames; the right counts are plus_one + n chunk. */
static bool rule_latents(const struct dit_model *m, int frames, struct err_at at, int *latents,
                         struct err *e)
{
    const struct frame_rule *r = &m->frames;
    int chunks = (frames - r->plus_one) / r->chunk;
    int below = r->plus_one + chunks * r->chunk, above = below + r->chunk;
    if (frames == below) {
        *latents = r->plus_one + chunks * r->latents;
        return true;
    }
    if (below < 1)
        return err_set(e, ERR_INPUT, at,
                       "%d frames break %s's rule %s; the nearest right count is %d", frames,
                       m->name, r->name, above);
    return err_set(e, ERR_INPUT, at,
                   "%d frames break %s's rule %s; the nearest right counts are %d and %d", frames,
                   m->name, r->name, below, above);
}

/* Tokens along a side of `pixels`. */
static bool side_tokens(const struct dit_model *m, const char *side, int pixels, int vae, int patch,
                        struct err_at at, int *tokens, struct err *e)
{
    int step = vae * patch, below = pixels / step * step;
    if (pixels == below) {
        *tokens = pixels / step;
        return true;
    }
    if (below == 0)
        return err_set(e, ERR_INPUT, at,
                       "%s %d: %s takes multiples of %d (VAE %d x patch %d); the nearest is %d",
                       side, pixels, m->name, step, vae, patch, step);
    return err_set(e, ERR_INPUT, at,
                   "%s %d: %s takes multiples of %d (VAE %d x patch %d); the nearest are %d and %d",
                   side, pixels, m->name, step, vae, patch, below, below + step);
}

static bool clip_check(struct clip c, struct err_at at, struct err *e)
{
    const int sides[] = {c.height, c.width, c.frames};
    for (int i = 0; i < 3; i++)
        if (sides[i] < 1 || sides[i] > DIT_SIDE_MAX)
            return err_set(e, ERR_INPUT, at, "clip %dx%dx%d: each number must be from 1 to %d",
                           c.height, c.width, c.frames, DIT_SIDE_MAX);
    return true;
}

bool dit_grid(const struct dit_model *m, struct clip clip, struct err_at at, struct grid *out,
              struct err *e)
{
    int latents = 0;
    struct grid g = {0};
    if (!clip_check(clip, at, e) || !rule_latents(m, clip.frames, at, &latents, e) ||
        !side_tokens(m, "height", clip.height, m->vae_h, m->patch_h, at, &g.h, e) ||
        !side_tokens(m, "width", clip.width, m->vae_w, m->patch_w, at, &g.w, e))
        return false;
    g.t = (latents + m->patch_t - 1) / m->patch_t;
    if (!grid_check(g, at, e))
        return false;
    *out = g;
    return true;
}

/* Takes "F", "F/k", "kn+1" and "c->l" apart; false when it is none of them. */
static bool rule_parse(const char *text, int64_t *chunk, int64_t *latents, int *plus_one)
{
    const char *s = text;
    *chunk = *latents = 1;
    *plus_one = 0;
    if (*s == 'F') {
        if (s[1] == '\0')
            return true;
        s += 2;
        return text[1] == '/' && read_count(&s, chunk) && *s == '\0';
    }
    if (!read_count(&s, chunk))
        return false;
    *plus_one = strcmp(s, "n+1") == 0;
    if (*plus_one)
        return true;
    if (strncmp(s, "->", 2) != 0)
        return false;
    s += 2;
    return read_count(&s, latents) && *s == '\0';
}

/* A chunk of c frames with l latents keeps its first frame apart: stride (c-1)/(l-1), 17->5 is 4,
 * 17->3 is 8. */
static bool rule_read(const struct cfg *vae, struct dit_model *m, struct err *e)
{
    const char *text;
    int64_t chunk, latents;
    int plus_one;
    if (!cfg_text(vae, "frames", &text, e))
        return false;
    if (!rule_parse(text, &chunk, &latents, &plus_one))
        return err_set(e, ERR_INPUT, cfg_get(vae, "frames")->at,
                       "frames: '%.40s' is not a rule, want one such as F, F/4, 4n+1 or 17->5",
                       text);
    if (latents < 1 || chunk < latents || chunk > 1024)
        return err_set(
            e, ERR_INPUT, cfg_get(vae, "frames")->at,
            "frames: '%.40s': want 1 to 1024 frames that become at least one and no more latents",
            text);
    m->frames = (struct frame_rule){text, (int)chunk, (int)latents, plus_one};
    m->vae_t = latents > 1 ? (int)((chunk - 1) / (latents - 1)) : (int)chunk;
    return true;
}

static bool vae_read(const struct cfg *map, struct dit_model *m, struct err *e)
{
    const struct cfg *vae = read_map(map, "vae", vae_keys, e);
    const struct cfg *patch = vae ? read_map(map, "patch", patch_keys, e) : NULL;
    return patch && rule_read(vae, m, e) && read_int(vae, "height", 1, 1024, &m->vae_h, e) &&
           read_int(vae, "width", 1, 1024, &m->vae_w, e) &&
           read_int(patch, "frames", 1, 64, &m->patch_t, e) &&
           read_int(patch, "height", 1, 64, &m->patch_h, e) &&
           read_int(patch, "width", 1, 64, &m->patch_w, e);
}

static bool blocks_read(const struct cfg *map, struct dit_model *m, struct err *e)
{
    const struct cfg *b = read_map(map, "blocks", blocks_keys, e);
    if (!b || !read_int_or(b, "dual", 0, DIT_BLOCKS_MAX, 0, &m->dual_blocks, e) ||
        !read_int_or(b, "single", 0, DIT_BLOCKS_MAX, 0, &m->single_blocks, e) ||
        !read_int_or(b, "cross", 0, DIT_BLOCKS_MAX, 0, &m->cross_blocks, e) ||
        !read_int_or(b, "plain", 0, DIT_BLOCKS_MAX, 0, &m->plain_blocks, e))
        return false;
    if (dit_blocks(m) < 1 || dit_blocks(m) > DIT_BLOCKS_MAX)
        return err_set(e, ERR_INPUT, b->at, "blocks: %d in all, want 1 to %d", dit_blocks(m),
                       DIT_BLOCKS_MAX);
    return true;
}

static bool heads_read(const struct cfg *map, struct dit_model *m, struct err *e)
{
    if (!read_int(map, "heads", 1, DIT_HEADS_MAX, &m->heads, e) ||
        !read_int_or(map, "kv_heads", 1, m->heads, m->heads, &m->kv_heads, e) ||
        !read_int(map, "head_dim", 1, DIT_HEAD_DIM_MAX, &m->head_dim, e))
        return false;
    if (m->heads % m->kv_heads != 0)
        return err_set(e, ERR_INPUT, cfg_get(map, "kv_heads")->at,
                       "kv_heads: %d does not divide the %d heads", m->kv_heads, m->heads);
    return true;
}

static bool text_read(const struct cfg *map, struct dit_model *m, struct err *e)
{
    const struct cfg *text = read_map(map, "text", text_keys, e);
    if (!text || !read_int(text, "tokens", 0, DIT_SIDE_MAX, &m->text_tokens, e) ||
        !read_int_or(text, "width", 0, DIT_SIDE_MAX, 0, &m->cross_dim, e))
        return false;
    if (m->cross_blocks > 0 && m->cross_dim == 0)
        return err_set(e, ERR_INPUT, text->at,
                       "text: a model with cross-attention needs the width of its text");
    return true;
}

static bool ffn_read(const struct cfg *map, struct dit_model *m, struct err *e)
{
    const struct cfg *ffn = read_map(map, "ffn", ffn_keys, e);
    return ffn && read_int(ffn, "width", 1, 16 * DIT_SIDE_MAX, &m->ffn, e) &&
           read_int(ffn, "matrices", 1, 3, &m->ffn_mats, e);
}

static bool params_read(const struct cfg *map, struct dit_model *m, struct err *e)
{
    if (!read_positive(map, "params", QTY_NUMBER, &m->params, e))
        return false;
    m->params_per_token = dit_params_per_token(m);
    return !cfg_get(map, "params_per_token") ||
           read_positive(map, "params_per_token", QTY_NUMBER, &m->params_per_token, e);
}

static const struct dit_model *model_read(const struct cfg *map, struct arena *a, struct err *e)
{
    struct dit_model *m = ARENA_NEW(a, struct dit_model);
    int attention;
    m->name = cfg_text_or(map, "name", read_stem(map->at.file, a));
    if (!cfg_text(map, "source", &m->source, e) ||
        !cfg_enum(map, "attention", attentions, &attention, e) || !blocks_read(map, m, e) ||
        !read_int(map, "width", 1, DIT_SIDE_MAX, &m->width, e) || !heads_read(map, m, e) ||
        !ffn_read(map, m, e) || !text_read(map, m, e) || !vae_read(map, m, e) ||
        !params_read(map, m, e))
        return NULL;
    m->attention = attentions[attention];
    return m;
}

const struct dit_model *dit_load(const char *name, struct err_at at, struct arena *a, struct err *e)
{
    const char *path = preset_find("model", name, at, a, e);
    const struct cfg *map = path ? cfg_read_file(path, a, e) : NULL;
    if (map && dit_is_diffusers(map))
        return dit_of_diffusers(map, a, e);
    return map && read_known(map, "model", model_keys, e) ? model_read(map, a, e) : NULL;
}

const struct dit_model *dit_read(const struct cfg *map, struct arena *a, struct err *e)
{
    if (map->kind != CFG_MAP)
        return err_set(e, ERR_INPUT, map->at, "model: want a map with keys such as 'blocks'"), NULL;
    return cfg_check_keys(map, model_keys, e) ? model_read(map, a, e) : NULL;
}

static void json_vae(const struct dit_model *m, struct json *j)
{
    json_object(j, "vae");
    json_text(j, "frames", m->frames.name);
    json_int(j, "height", m->vae_h);
    json_int(j, "width", m->vae_w);
    json_end(j);
    json_object(j, "patch");
    json_int(j, "frames", m->patch_t);
    json_int(j, "height", m->patch_h);
    json_int(j, "width", m->patch_w);
    json_end(j);
}

static void json_blocks(const struct dit_model *m, struct json *j)
{
    json_object(j, "blocks");
    json_int(j, "dual", m->dual_blocks);
    json_int(j, "single", m->single_blocks);
    json_int(j, "cross", m->cross_blocks);
    json_int(j, "plain", m->plain_blocks);
    json_end(j);
}

static void json_layers(const struct dit_model *m, struct json *j)
{
    json_int(j, "width", m->width);
    json_int(j, "heads", m->heads);
    json_int(j, "kv_heads", m->kv_heads);
    json_int(j, "head_dim", m->head_dim);
    json_object(j, "ffn");
    json_int(j, "width", m->ffn);
    json_int(j, "matrices", m->ffn_mats);
    json_end(j);
    json_object(j, "text");
    json_int(j, "tokens", m->text_tokens);
    json_int(j, "width", m->cross_dim);
    json_end(j);
}

void dit_json(const struct dit_model *m, struct json *j, const char *key)
{
    json_object(j, key);
    json_text(j, "name", m->name);
    json_text(j, "source", m->source);
    json_text(j, "attention", m->attention);
    json_blocks(m, j);
    json_layers(m, j);
    json_num(j, "params", m->params);
    json_num(j, "params_per_token", m->params_per_token);
    json_vae(m, j);
    json_end(j);
}
