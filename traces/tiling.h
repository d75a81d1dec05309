/* The token grid of a clip cut into cubes: query groups (queries that share one list of keys) and
 * KV blocks (keys that are kept or dropped together), and how both are spread over shards.
 *
 * Axes are t, h, w; cubes are numbered with w fastest. Cubes at the far edges hold fewer tokens. A
 * clip whose blocks are runs of the token order (64 tokens each) is the grid 1 x 1 x S with cubes 1
 * x 1 x 64. */
#ifndef TRACES_TILING_H
#define TRACES_TILING_H

#include <stdbool.h>
#include <stdint.h>

#include "base/arena.h"
#include "base/err.h"
#include "model/dit.h"

enum {
    TILING_CUBES_MOST =
        1 << 18, /* groups, and blocks, of one head: 64 tokens each make 16.8M tokens */
    TILING_ATOMS = 64,
    TILING_MASK_BYTES_MOST = 1 << 30
};

/* Cubes along each axis, and the tokens of each cube. */
struct cubes {
    int axis[3], side[3]; /* cubes per axis; tokens per full cube and axis */
    int count;
    const int32_t *tokens; /* [count] */
};

struct tiling {
    struct grid grid;
    int64_t tokens;
    struct cubes group, block;
};

/* Arrays live in `a`. ERR_INPUT for sides or axes below 1 and for more than TILING_CUBES_MOST
 * cubes. */
bool tiling_make(struct grid grid, const int group[3], const int block[3], struct arena *a,
                 struct tiling *out, struct err *e);

/* First and one-past-last token of cube `index` along `axis` of a grid. */
void cubes_range(const struct cubes *c, struct grid grid, int index, int axis, int *first,
                 int *end);

/* The query group that holds the middle token of a KV block. */
int tiling_group_of_block(const struct tiling *t, int block);

/* "8x8x8" or one number for all three axes. */
bool tiling_parse_cube(const char *text, const char *what, struct err_at at, int side[3],
                       struct err *e);

/* How shards are cut.
 * SLABS:   runs of equal token counts of the t-major order: what frame-wise (and plain) CP does.
 * BRICKS:  boxes: N is factored over the axes so that the surface of a box is least; each axis is
 * cut evenly. HILBERT: runs of equal token counts along a 3-D Hilbert curve (Skilling, AIP Conf.
 * Proc. 707, 2004). */
enum layout_kind { LAYOUT_SLABS, LAYOUT_BRICKS, LAYOUT_HILBERT, LAYOUT_KINDS };
extern const char *const layout_names[LAYOUT_KINDS + 1]; /* NULL-terminated */

struct layout {
    enum layout_kind kind;
    int shards;
    int axis[3];          /* BRICKS: shards along each axis */
    const int32_t *group; /* [groups] shard of each query group */
    const int32_t
        *block; /* [blocks] shard of each KV block (by the group that holds its middle token) */
    const int64_t *queries; /* [shards] query tokens */
    const int64_t *keys;    /* [shards] key tokens */
};

/* ERR_INPUT when the grid has fewer groups than shards, or no box shape fits. */
bool layout_make(const struct tiling *t, enum layout_kind kind, int shards, struct arena *a,
                 struct layout *out, struct err *e);

/* Atoms: up to 64 boxes of query groups, stored in traces so that later layouts get exact unions by
 * OR. Axis t is cut finest (up to 8), because frame shards are the common layout. */
struct atoms {
    int axis[3], count;
    const int32_t *group; /* [groups] atom of each query group */
    const int32_t *block; /* [blocks] atom of each KV block */
};
void atoms_make(const struct tiling *t, struct arena *a, struct atoms *out);

/* The same with a given number of atoms per axis (as a trace file states); ERR_INPUT when an axis
 * has fewer groups. */
bool atoms_make_axis(const struct tiling *t, const int axis[3], struct arena *a, struct atoms *out,
                     struct err *e);

/* The layout whose cells are whole atoms: atom_shard[atoms]. Slabs and Hilbert runs are cut between
 * atoms. */
bool layout_of_atoms(const struct tiling *t, const struct atoms *atoms, enum layout_kind kind,
                     int shards, struct arena *a, struct layout *out, const int32_t **atom_shard,
                     struct err *e);

/* Position along the 3-D Hilbert curve of a cube with 2^bits cells per side. */
uint64_t hilbert_index(const uint32_t position[3], int bits);

#endif
