#include "traces/tiling.h"

#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

const char *const layout_names[LAYOUT_KINDS + 1] = {"slabs", "bricks", "hilbert", NULL};

static int grid_axis(struct grid g, int axis)
{
    return axis == 0 ? g.t : axis == 1 ? g.h : g.w;
}

static void cube_position(const int axis[3], int index, int position[3])
{
    position[2] = index % axis[2];
    position[1] = index / axis[2] % axis[1];
    position[0] = index / axis[2] / axis[1];
}

static int cube_index(const int axis[3], const int position[3])
{
    return (position[0] * axis[1] + position[1]) * axis[2] + position[2];
}

void cubes_range(const struct cubes *c, struct grid grid, int index, int axis, int *first, int *end)
{
    int position[3], n = grid_axis(grid, axis);
    cube_position(c->axis, index, position);
    *first = position[axis] * c->side[axis];
    *end = n - *first < c->side[axis] ? n : *first + c->side[axis];
}

static bool cubes_make(struct grid grid, const int side[3], const char *what, struct arena *a,
                       struct cubes *out, struct err *e)
{
    struct cubes c = {.count = 1};
    for (int i = 0; i < 3; i++) {
        int n = grid_axis(grid, i);
        if (n < 1 || side[i] < 1)
            return err_set(e, ERR_INPUT, err_at_name(what),
                           "%dx%dx%d on a grid of %dx%dx%d: every side must be at least 1", side[0],
                           side[1], side[2], grid.t, grid.h, grid.w);
        c.side[i] = side[i] < n ? side[i] : n;
        c.axis[i] = 1 + (n - 1) / c.side[i];
        if (c.axis[i] > TILING_CUBES_MOST / c.count)
            return err_set(
                e, ERR_INPUT, err_at_name(what),
                "%dx%dx%d cuts %dx%dx%d tokens into more than %d cubes; take larger cubes", side[0],
                side[1], side[2], grid.t, grid.h, grid.w, TILING_CUBES_MOST);
        c.count *= c.axis[i];
    }
    int32_t *tokens = ARENA_ARRAY(a, int32_t, c.count);
    for (int k = 0; k < c.count; k++) {
        int64_t product = 1;
        for (int i = 0; i < 3; i++) {
            int first, end;
            cubes_range(&c, grid, k, i, &first, &end);
            product *= end - first;
        }
        if (product > INT32_MAX)
            return err_set(e, ERR_INPUT, err_at_name(what),
                           "a cube of %lld tokens; take smaller cubes", (long long)product);
        tokens[k] = (int32_t)product;
    }
    c.tokens = tokens;
    *out = c;
    return true;
}

bool tiling_make(struct grid grid, const int group[3], const int block[3], struct arena *a,
                 struct tiling *out, struct err *e)
{
    struct tiling t = {.grid = grid, .tokens = (int64_t)grid.t * grid.h};
    if (grid.w > 0 && t.tokens > INT64_MAX / grid.w)
        return err_set(e, ERR_INPUT, err_at_name("grid"), "%dx%dx%d tokens overflow", grid.t,
                       grid.h, grid.w);
    t.tokens *= grid.w;
    if (!cubes_make(grid, group, "query group", a, &t.group, e) ||
        !cubes_make(grid, block, "KV block", a, &t.block, e))
        return false;
    if ((int64_t)t.group.count * ((t.block.count + 63) / 64) > TILING_MASK_BYTES_MOST / 8)
        return err_set(e, ERR_INPUT, err_at_name("grid"),
                       "%d groups x %d blocks need more than 1 GiB a head; take larger cubes",
                       t.group.count, t.block.count);
    *out = t;
    return true;
}

int tiling_group_of_block(const struct tiling *t, int block)
{
    int position[3];
    for (int i = 0; i < 3; i++) {
        int first, end;
        cubes_range(&t->block, t->grid, block, i, &first, &end);
        position[i] = (first + (end - first) / 2) / t->group.side[i];
    }
    return cube_index(t->group.axis, position);
}

bool tiling_parse_cube(const char *text, const char *what, struct err_at at, int side[3],
                       struct err *e)
{
    int n = 0, more = 0, v[3];
    if (sscanf(text, "%6dx%6dx%6d%n", &v[0], &v[1], &v[2], &n) == 3 && text[n] == '\0') {
        memcpy(side, v, sizeof v);
    } else if (sscanf(text, "%6d%n", &v[0], &more) == 1 && text[more] == '\0') {
        side[0] = side[1] = side[2] = v[0];
    } else {
        return err_set(e, ERR_INPUT, at,
                       "%s: '%s' is no cube; want TxHxW such as '4x4x4', or one number", what,
                       text);
    }
    if (side[0] < 1 || side[1] < 1 || side[2] < 1)
        return err_set(e, ERR_INPUT, at, "%s: '%s': every side must be at least 1", what, text);
    return true;
}

/* Skilling's transform of axes to the transposed Hilbert index, then its bits interleaved. */
uint64_t hilbert_index(const uint32_t position[3], int bits)
{
    uint32_t x[3] = {position[0], position[1], position[2]};
    for (uint32_t q = bits > 0 ? 1u << (bits - 1) : 0; q > 1; q >>= 1)
        for (int i = 0; i < 3; i++) {
            uint32_t t = x[i] & q ? 0 : (x[0] ^ x[i]) & (q - 1);
            if (x[i] & q)
                x[0] ^= q - 1;
            x[0] ^= t;
            x[i] ^= t;
        }
    x[1] ^= x[0];
    x[2] ^= x[1];
    uint32_t t = 0;
    for (uint32_t q = bits > 0 ? 1u << (bits - 1) : 0; q > 1; q >>= 1)
        if (x[2] & q)
            t ^= q - 1;
    uint64_t index = 0;
    for (int b = bits - 1; b >= 0; b--)
        for (int i = 0; i < 3; i++)
            index = index << 1 | (((x[i] ^ t) >> b) & 1);
    return index;
}

/* Cells (groups or atoms) to be spread over shards: boxes of a cell grid with their tokens. */
struct cells {
    const int *axis;
    int count;
    const int64_t *tokens;
};

struct cell_key {
    uint64_t key;
    int cell;
};

static int cell_key_order(const void *left, const void *right)
{
    const struct cell_key *l = left, *r = right;
    return l->key != r->key ? (l->key < r->key ? -1 : 1)
                            : (l->cell > r->cell) - (l->cell < r->cell);
}

static struct cell_key *cells_order(const struct cells *c, enum layout_kind kind, struct arena *a)
{
    struct cell_key *order = ARENA_ARRAY(a, struct cell_key, c->count);
    int bits = 0;
    for (int i = 0; i < 3; i++)
        while ((1 << bits) < c->axis[i])
            bits++;
    for (int k = 0; k < c->count; k++) {
        int p[3];
        cube_position(c->axis, k, p);
        uint32_t u[3] = {(uint32_t)p[0], (uint32_t)p[1], (uint32_t)p[2]};
        order[k] =
            (struct cell_key){kind == LAYOUT_HILBERT ? hilbert_index(u, bits) : (uint64_t)k, k};
    }
    qsort(order, (size_t)c->count, sizeof *order, cell_key_order);
    return order;
}

/* Cuts an order of cells into runs: a cell goes to the shard in which its middle token falls, and
 * no shard stays empty (there are at least as many cells as shards). */
static void cells_cut_runs(const struct cells *c, const struct cell_key *order, int shards,
                           int32_t *shard)
{
    int64_t total = 0, before = 0;
    for (int k = 0; k < c->count; k++)
        total += c->tokens[k];
    int last = -1;
    for (int k = 0; k < c->count; k++) {
        int64_t middle2 = 2 * before + c->tokens[order[k].cell];
        int s = (int)((double)middle2 * shards / (2.0 * (double)total));
        s = s > shards - 1 ? shards - 1 : s;
        int latest = last + 1,
            earliest = shards - (c->count - k); /* leave one cell for each shard to come */
        s = s > latest ? latest : s;
        s = s < earliest ? earliest : s;
        s = s < last ? last : s;
        shard[order[k].cell] = s;
        last = s;
        before += c->tokens[order[k].cell];
    }
}

/* The factors of `shards` whose boxes have the least surface on this grid; ties take more cuts
 * along t. */
static bool brick_shape(struct grid g, const int axis[3], int shards, int shape[3])
{
    double best = 0;
    bool found = false;
    for (int t = shards < axis[0] ? shards : axis[0]; t >= 1; t--) {
        for (int h = shards / t; h >= 1; h--) {
            int w = shards / t / h;
            if (t * h * w != shards || h > axis[1] || w > axis[2])
                continue;
            double x = (double)g.t / t, y = (double)g.h / h, z = (double)g.w / w;
            double surface = x * y + y * z + z * x;
            if (!found || surface < best * (1 - 1e-12)) {
                best = surface;
                shape[0] = t, shape[1] = h, shape[2] = w;
                found = true;
            }
        }
    }
    return found;
}

static void cells_cut_boxes(const struct cells *c, const int shape[3], int32_t *shard)
{
    for (int k = 0; k < c->count; k++) {
        int p[3];
        cube_position(c->axis, k, p);
        for (int i = 0; i < 3;
             i++) /* part of the even cut that holds p: part j starts at ceil(j * n / parts) */
            p[i] = (int)((int64_t)p[i] * shape[i] / c->axis[i]);
        shard[k] = cube_index(shape, p);
    }
}

static bool cells_cut(const struct tiling *t, const struct cells *c, enum layout_kind kind,
                      int shards, struct arena *a, int shape[3], int32_t *shard, struct err *e)
{
    if (shards < 1 || shards > c->count)
        return err_set(e, ERR_INPUT, err_at_name("layout"),
                       "%d shards of a grid with %d cells: want 1 to %d", shards, c->count,
                       c->count);
    if (kind != LAYOUT_BRICKS) {
        cells_cut_runs(c, cells_order(c, kind, a), shards, shard);
        return true;
    }
    if (!brick_shape(t->grid, c->axis, shards, shape))
        return err_set(e, ERR_INPUT, err_at_name("layout"),
                       "%d bricks do not fit %dx%dx%d cells along the axes", shards, c->axis[0],
                       c->axis[1], c->axis[2]);
    cells_cut_boxes(c, shape, shard);
    return true;
}

static void layout_count(const struct tiling *t, struct arena *a, struct layout *l)
{
    int64_t *queries = ARENA_ARRAY(a, int64_t, l->shards),
            *keys = ARENA_ARRAY(a, int64_t, l->shards);
    for (int g = 0; g < t->group.count; g++)
        queries[l->group[g]] += t->group.tokens[g];
    for (int b = 0; b < t->block.count; b++)
        keys[l->block[b]] += t->block.tokens[b];
    l->queries = queries;
    l->keys = keys;
}

bool layout_make(const struct tiling *t, enum layout_kind kind, int shards, struct arena *a,
                 struct layout *out, struct err *e)
{
    int64_t *tokens = ARENA_ARRAY(a, int64_t, t->group.count);
    for (int g = 0; g < t->group.count; g++)
        tokens[g] = t->group.tokens[g];
    struct cells c = {t->group.axis, t->group.count, tokens};
    struct layout l = {.kind = kind, .shards = shards, .axis = {1, 1, 1}};
    int32_t *group = ARENA_ARRAY(a, int32_t, t->group.count),
            *block = ARENA_ARRAY(a, int32_t, t->block.count);
    if (!cells_cut(t, &c, kind, shards, a, l.axis, group, e))
        return false;
    for (int b = 0; b < t->block.count; b++)
        block[b] = group[tiling_group_of_block(t, b)];
    l.group = group;
    l.block = block;
    layout_count(t, a, &l);
    *out = l;
    return true;
}

bool atoms_make_axis(const struct tiling *t, const int axis[3], struct arena *a, struct atoms *out,
                     struct err *e)
{
    struct atoms m = {.count = 1};
    for (int i = 0; i < 3; i++) {
        if (axis[i] < 1 || axis[i] > t->group.axis[i])
            return err_set(e, ERR_INPUT, err_at_name("atoms"),
                           "%d atoms along axis %d, which has %d query groups", axis[i], i,
                           t->group.axis[i]);
        m.axis[i] = axis[i];
        m.count *= axis[i];
    }
    int32_t *group = ARENA_ARRAY(a, int32_t, t->group.count),
            *block = ARENA_ARRAY(a, int32_t, t->block.count);
    struct cells c = {t->group.axis, t->group.count, NULL};
    cells_cut_boxes(&c, m.axis, group);
    for (int b = 0; b < t->block.count; b++)
        block[b] = group[tiling_group_of_block(t, b)];
    m.group = group;
    m.block = block;
    *out = m;
    return true;
}

/* Doubles the axis with the longest atoms (in groups), t first up to 8, until there are 64 or none
 * can double. */
void atoms_make(const struct tiling *t, struct arena *a, struct atoms *out)
{
    int axis[3] = {1, 1, 1};
    while (axis[0] < 8 && 2 * axis[0] <= t->group.axis[0])
        axis[0] *= 2;
    for (int count = axis[0]; 2 * count <= TILING_ATOMS; count *= 2) {
        int best = -1;
        for (int i = 2; i >= 0; i--)
            if (2 * axis[i] <= t->group.axis[i] &&
                (best < 0 || t->group.axis[i] * axis[best] > t->group.axis[best] * axis[i]))
                best = i;
        if (best < 0)
            break;
        axis[best] *= 2;
    }
    struct err none = {0};
    atoms_make_axis(t, axis, a, out, &none); /* cannot fail: no axis exceeds its groups */
}

bool layout_of_atoms(const struct tiling *t, const struct atoms *atoms, enum layout_kind kind,
                     int shards, struct arena *a, struct layout *out, const int32_t **atom_shard,
                     struct err *e)
{
    int64_t *tokens = ARENA_ARRAY(a, int64_t, atoms->count);
    for (int g = 0; g < t->group.count; g++)
        tokens[atoms->group[g]] += t->group.tokens[g];
    struct cells c = {atoms->axis, atoms->count, tokens};
    struct layout l = {.kind = kind, .shards = shards, .axis = {1, 1, 1}};
    int32_t *shard = ARENA_ARRAY(a, int32_t, atoms->count);
    if (!cells_cut(t, &c, kind, shards, a, l.axis, shard, e))
        return false;
    int32_t *group = ARENA_ARRAY(a, int32_t, t->group.count),
            *block = ARENA_ARRAY(a, int32_t, t->block.count);
    for (int g = 0; g < t->group.count; g++)
        group[g] = shard[atoms->group[g]];
    for (int b = 0; b < t->block.count; b++)
        block[b] = shard[atoms->block[b]];
    l.group = group;
    l.block = block;
    layout_count(t, a, &l);
    *atom_shard = shard;
    *out = l;
    return true;
}
