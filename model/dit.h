/* A video diffusion transformer's shape, and how a clip becomes tokens. Facts: docs/models.md. */
#ifndef MODEL_DIT_H
#define MODEL_DIT_H

#include <stdint.h>

#include "base/arena.h"
#include "base/cfg.h"
#include "base/err.h"
#include "base/json.h"

/* Limits that keep every product within 64 bits: tokens x heads x head_dim < 2^62. */
enum {
    DIT_SIDE_MAX = 1 << 20,
    DIT_BLOCKS_MAX = 4096,
    DIT_HEADS_MAX = 4096,
    DIT_HEAD_DIM_MAX = 1024
};
#define DIT_TOKENS_MAX ((int64_t)1 << 40) /* of one sample */

/* The rule that turns F pixel frames into latent frames (before the temporal patch):
 * F: one for one; F/k: a frame for each k; kn+1: (F-1)/k + 1 (causal VAEs); c->l: F/c * l (chunked
 * VAEs). */
struct frame_rule {
    const char *name; /* "4n+1" */
    int chunk;        /* pixel frames that belong together */
    int latents;      /* latent frames each chunk gives */
    int plus_one;     /* 1: the first frame stands alone */
};

struct grid {
    int t, h, w; /* tokens per axis */
};

/* t * h * w: up to DIT_TOKENS_MAX for grids of grid_parse and dit_grid. */
int64_t grid_tokens(struct grid g);

struct clip {
    int height, width, frames; /* pixels, pixels, frames */
};

/* Blocks are numbered from 0 in this order: dual, single, cross, plain. */
struct dit_model {
    const char *name;
    int dual_blocks; /* MMDiT: video and text streams with weights of their own, joint attention */
    int single_blocks; /* joint attention over video and text, shared weights */
    int cross_blocks;  /* self-attention over video, then cross-attention to text */
    int plain_blocks;  /* self-attention over video alone (the temporal blocks of Latte) */
    int width;         /* d, residual width of the video stream */
    int heads, kv_heads, head_dim;
    int ffn;                 /* hidden width of the feed-forward network */
    int ffn_mats;            /* 2 plain, 3 gated */
    int cross_dim;           /* width of the text that cross-attention reads; 0 without */
    int text_tokens;         /* in self-attention if joint, else read by cross-attention */
    double params;           /* all weights */
    double params_per_token; /* weights that multiply each video token: drives linear FLOPs */
    int vae_t, vae_h, vae_w; /* strides; the temporal one follows from the frame rule */
    int patch_t, patch_h, patch_w;
    struct frame_rule frames;
    const char *attention; /* "full", "factorised" or "block-causal"; plans are for full 3-D */
    const char *source;
};

int dit_blocks(const struct dit_model *m);

/* Text takes part in this block's self-attention; the block has cross-attention to text. */
bool dit_is_joint(const struct dit_model *m, int block);
bool dit_is_cross(const struct dit_model *m, int block);

/* Length of self-attention in a block: video tokens, plus text in joint blocks. */
int64_t dit_attention_tokens(const struct dit_model *m, int block, int64_t video_tokens);

/* "720x1280x129" (height x width x frames) and "33x45x80" (t x h x w). ERR_INPUT at `at` if not. */
bool clip_parse(const char *text, struct err_at at, struct clip *out, struct err *e);
bool grid_parse(const char *text, struct err_at at, struct grid *out, struct err *e);

/* Tokens of a clip: (latent frames / patch_t, rounded up) x height / (vae_h patch_h) x width /
 * (...). ERR_INPUT when the frames break the rule (with the nearest right counts), a side is not
 * divisible (with the nearest right sizes), or the tokens are more than DIT_TOKENS_MAX. */
bool dit_grid(const struct dit_model *m, struct clip clip, struct err_at at, struct grid *out,
              struct err *e);

/* FLOPs per sample of the linear layers in the forward pass of all blocks; one multiply-add is 2:
 * 2 x params_per_token x video tokens: Q, K, V, O, the feed-forward network and cross-attention's Q
 * and O. Without modulation (it multiplies no token), the text stream (0.1% of HunyuanVideo at
 * 720p) and the core of cross-attention, which is dit_cross_flop. */
double dit_linear_flop(const struct dit_model *m, int64_t video_tokens);

/* Cross-attention's core and the K, V projections of the text, of one block: 4 S S_t H D + 4 S_t
 * cross_dim H_kv D; 0 in blocks without. */
double dit_cross_flop(const struct dit_model *m, int block, int64_t video_tokens);

/* A linear layer: y[rows, out] = x[rows, in] W[in, out], rows = video tokens (text: text tokens).
 */
struct dit_layer {
    double in, out;
    bool ends; /* takes what the layer before gave: tensor parallelism splits `in`, else `out` */
    bool text;
};
enum { DIT_LAYERS_MOST = 8 };

/* The linear layers of a block: Q, K, V in one, O, the feed-forward network (a gated one's two
 * inputs in one), and with cross-attention its Q and O, and K, V of the text. Returns how many;
 * their FLOPs are those of dit_linear_flop and dit_cross_flop without its core, unless the model's
 * file gives params_per_token. */
int dit_layers(const struct dit_model *m, int block, struct dit_layer out[DIT_LAYERS_MOST]);

/* What norms, modulation, rotary embedding, activation, gates and residuals read and write in one
 * block, in tensors of tokens x width: the least there is, everything between two matrix products
 * one kernel. `whole`: norms, gates and residuals; `shared`: Q, K and the FFN's hidden units, which
 * tensor parallelism shares out with the heads. docs/model.md, "Time", lists the terms. */
struct dit_pointwise {
    double whole, shared;
};
struct dit_pointwise dit_pointwise(const struct dit_model *m, int block, bool backward);

/* Weights that multiply each video token, from the shape: per block 2 d H D + 2 d H_kv D + mats d
 * ffn, and 2 d H D more with cross-attention. params_per_token is this unless the file gives
 * another number. */
double dit_params_per_token(const struct dit_model *m);

/* Weights of one block, averaged over blocks (params / blocks): what FSDP gathers. */
double dit_block_params(const struct dit_model *m);

/* A preset name, or the path (base/preset.h) of a model file or of a diffusers transformer's
 * config.json (model/dit_diffusers.h). The result lives in `a`. */
const struct dit_model *dit_load(const char *name, struct err_at at, struct arena *a,
                                 struct err *e);

/* A model inside another document: writes the object `key`, and reads it back the same. */
void dit_json(const struct dit_model *m, struct json *j, const char *key);
const struct dit_model *dit_read(const struct cfg *map, struct arena *a, struct err *e);

#endif
