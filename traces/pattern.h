/* Attention patterns of video diffusion transformers as block bitmaps on a 3-D grid.
 *
 * A block is kept for a query group when any of its keys is kept for any query of the group; with
 * cubes of one token the bitmap is the token mask itself. Text tokens are outside the grid: every
 * family keeps them.
 *
 * dense     all
 * window    box of w tokens per axis round the query: position x of an axis of n sees x - floor(w/2) to
 *           x + w - 1 - floor(w/2), cut off at the border (clipped) or moved inward (shifted; WA, NATTEN)
 * tile      sliding tile attention (STA): the window in whole tiles, moved inward at the border
 * spatial   SVG spatial head: frames within `frames` of the query's, and frame 0
 * temporal  SVG temporal head: positions within `radius` of the query's in every frame, and frame 0
 * radial    Radial Attention: per pair of frames at distance d, the band |i - j| <= w of the s positions
 *           of a frame, w = max(band, l * decay) with l = 2^bits(s) / 2^bits(d); where l < band only every
 *           (band / l)-th distance is kept; distances up to `full` are dense; sink=yes (Wan): frame 0 is
 *           kept by all
 * field     content: low-rank smooth fields (traces/field.h), selected by top-k, top-p or a threshold
 * local     SViTT, BigBird: window + random blocks + global blocks (which also attend to everything)
 * chunk     VINs, MAGI-1, LVSA: own chunk of frames, overlap into the neighbours or `range` chunks back
 *           when causal, and global frames
 * factor    Latte, Open-Sora: own frame (axis=spatial) or own position in all frames (axis=temporal)
 *
 * On top of any: keep_q (share of query groups computed, least important by a smooth field dropped),
 * keep_nodes (tokens removed as query and key), coarse (pooled branch of VSA, NSA: adds 1/coarse^2 dense
 * work, no bits). */
#ifndef TRACES_PATTERN_H
#define TRACES_PATTERN_H

#include "traces/field.h"
#include "traces/mask.h"

enum pattern_kind {
    PATTERN_DENSE,
    PATTERN_WINDOW,
    PATTERN_TILE,
    PATTERN_SPATIAL,
    PATTERN_TEMPORAL,
    PATTERN_RADIAL,
    PATTERN_FIELD,
    PATTERN_LOCAL,
    PATTERN_CHUNK,
    PATTERN_FACTOR,
    PATTERN_KINDS
};
extern const char *const pattern_names[PATTERN_KINDS + 1];

enum pattern_select { SELECT_TOPK, SELECT_TOPP, SELECT_THRESHOLD };
enum pattern_edge { EDGE_CLIPPED, EDGE_SHIFTED };

struct pattern {
    enum pattern_kind kind;
    double t, h, w; /* window, tile, local: tokens per axis; 0: the share of the axis instead */
    double share;   /* window, tile, local: rounded to whole tokens (or tiles) */
    double edge;    /* enum pattern_edge */
    double tile_t, tile_h, tile_w;
    double frames, radius;    /* spatial, temporal: half widths */
    double sink;              /* spatial, temporal, radial: keep frame 0 */
    double decay, band, full; /* radial: frame distances up to `full` are dense */
    double rank, lq, lk, share_length, rho, beta, sinks; /* field */
    double select, keep, mass; /* field: enum pattern_select; NaN keep: beta and mass decide */
    double random, global;     /* local: share of blocks, number of blocks */
    double chunk, overlap, range,
        causal;  /* chunk: frames, frames, chunks, 0 or 1; global: frames */
    double axis; /* factor: 0 spatial, 1 temporal */
    double keep_q, keep_nodes, prune_length, coarse; /* any */
};

/* "window:t=5,h=5,w=5,edge=shifted", "field:select=topk,keep=0.1" or a preset name of
 * pattern_presets ("wa-m", "sta", "dsv"). ERR_INPUT names the place, the value and the keys or
 * range that would be right. */
bool pattern_parse(const char *text, struct err_at at, struct pattern *out, struct err *e);
struct pattern pattern_default(enum pattern_kind kind);
void pattern_text(const struct pattern *p, char *text,
                  size_t size); /* reads back by pattern_parse */

struct pattern_preset {
    const char *name, *text, *source;
};
extern const struct pattern_preset pattern_presets[]; /* ends with a NULL name */

/* Every parameter against the grid: windows that exceed an axis, shares outside 0..1. */
bool pattern_check(const struct pattern *p, struct grid grid, struct err_at at, struct err *e);

/* The bitmap of one head, in `a`. `keep` (0 < keep <= 1, or NaN for the pattern's own) sets how
 * much a field keeps, so that profiles over blocks, heads and steps can drive it; other families
 * ignore it. */
void pattern_mask(const struct pattern *p, const struct tiling *t, struct field_key key,
                  double keep, struct arena *a, struct mask *out);

/* Share of pairs that the pooled branch computes besides the bits. */
double pattern_coarse_keep(const struct pattern *p);

/* Mean keep over queries by arithmetic on token positions, without a bitmap: window and tile (sums
 * per axis multiplied), radial (sum over frame pairs of the band's area), dense. NaN for the other
 * families. */
double pattern_closed_keep(const struct pattern *p, struct grid grid);

/* The smallest set of blocks whose mass reaches `mass` of the total, heaviest first, ties by index:
 * sets bits in row. weight[b] > 0. work: [blocks] ints of scratch. Returns the number of blocks. */
int select_mass(const double *weight, int blocks, double mass, int *work, uint64_t *row);

/* The `count` highest scores, ties by index. work: [blocks]. */
void select_top(const double *scores, int blocks, int count, int *work, uint64_t *row);

#endif
