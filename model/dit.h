/* A video diffusion transformer's shape, and how a clip becomes tokens. Facts: docs/models.md. */
#ifndef MODEL_DIT_H
#define MODEL_DIT_H

#include <stdint.h>

#include "base/arena.h"
#include "base/err.h"

/* The rule that turns F pixel frames into latent frames (before the temporal patch):
 * F: one for one; F/k: a frame for each k; kn+1: (F-1)/k + 1 (causal VAEs); c->l: F/c * l (chunked VAEs). */
struct frame_rule {
    const char *name; /* "4n+1" */
    int chunk;        /* pixel frames that belong together */
    int latents;      /* latent frames each chunk gives */
    int plus_one;     /* 1: the first frame stands alone */
};

struct grid {
    int t, h, w; /* tokens per axis */
};

int64_t grid_tokens(struct grid g);

struct clip {
    int height, width, frames; /* pixels, pixels, frames */
};

struct dit_model {
    const char *name;
    int dual_blocks;   /* MMDiT: video and text streams with weights of their own, joint attention */
    int single_blocks; /* joint attention over video and text, shared weights */
    int cross_blocks;  /* self-attention over video, then cross-attention to text */
    int width;         /* d, residual width of the video stream */
    int heads, kv_heads, head_dim;
    int ffn;         /* hidden width of the feed-forward network */
    int ffn_mats;    /* 2 plain, 3 gated */
    int cross_dim;   /* width of the text that cross-attention reads; 0 without */
    int text_tokens; /* in self-attention if joint, else read by cross-attention */
    double params;                /* all weights */
    double params_per_token;      /* weights that multiply each video token: drives linear FLOPs */
    int vae_t, vae_h, vae_w;      /* strides; the temporal one is in the frame rule too */
    int patch_t, patch_h, patch_w;
    struct frame_rule frames;
    const char *attention; /* "full" or "factorised"; the planner handles full 3-D attention */
    const char *source;
};

int dit_blocks(const struct dit_model *m);
bool dit_is_joint(const struct dit_model *m, int block); /* text takes part in this block's self-attention */

/* Length of self-attention in a block: video tokens, plus text in joint blocks. */
int64_t dit_attention_tokens(const struct dit_model *m, int block, int64_t video_tokens);

/* "720x1280x129" (height x width x frames) and "33x45x80" (t x h x w). ERR_INPUT at `at` otherwise. */
bool clip_parse(const char *text, struct err_at at, struct clip *out, struct err *e);
bool grid_parse(const char *text, struct err_at at, struct grid *out, struct err *e);

/* Tokens of a clip: (latent frames / patch_t, rounded up) x height / (vae_h patch_h) x width / (...).
 * ERR_INPUT when the frames break the rule (with the nearest right counts) or a side is not divisible. */
bool dit_grid(const struct dit_model *m, struct clip clip, struct err_at at, struct grid *out, struct err *e);

/* FLOPs per sample of one block's forward pass (one multiply-add = 2): facts/workloads.md 2.1 and
 * docs/models.md. linear: all weights times tokens, modulation excluded, plus cross-attention. */
double dit_linear_flop(const struct dit_model *m, int64_t video_tokens);

/* Weights of one block, averaged over blocks (params / blocks): what FSDP gathers. */
double dit_block_params(const struct dit_model *m);

/* A preset name or a path (base/preset.h). The result lives in `a`. */
const struct dit_model *dit_load(const char *name, struct err_at at, struct arena *a, struct err *e);

#endif
