#include "traces/import.h"

#include <errno.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/cfg.h"
#include "base/csv.h"
#include "traces/array.h"
#include "traces/pattern.h"

const char *const import_as_names[IMPORT_KINDS + 1] = {"auto", "keep", "sparsity", "mask", NULL};

struct import_job import_default(void)
{
    return (struct import_job){.group = {1, 1, 64}, .block = {1, 1, 64}, .stride = 1};
}

static struct trace_info info_of(const struct import_job *j, int64_t layers, int64_t heads,
                                 int level, const char *method)
{
    struct trace_info info = trace_info_default();
    info.layers = layers;
    info.heads = heads;
    info.level = level;
    snprintf(info.method, sizeof info.method, "%s", method);
    snprintf(info.model, sizeof info.model, "%s", j->model ? j->model : "");
    if (j->grid.t > 0) {
        info.grid[0] = j->grid.t;
        info.grid[1] = j->grid.h;
        info.grid[2] = j->grid.w;
    }
    return info;
}

static void info_tiling(struct trace_info *info, const struct tiling *t, const struct atoms *atoms)
{
    const int grid[3] = {t->grid.t, t->grid.h, t->grid.w};
    for (int i = 0; i < 3; i++) {
        info->grid[i] = grid[i];
        info->query_group[i] = t->group.side[i];
        info->kv_block[i] = t->block.side[i];
        info->atom_grid[i] = atoms->axis[i];
    }
    info->atoms = atoms->count;
}

/* For bitmaps of n[1] layers and n[2] heads; makes the atoms. */
static struct trace_writer *create_masks(const struct import_job *j, const int64_t n[3],
                                         const struct tiling *t, const char *method, const char *to,
                                         struct arena *a, struct atoms *atoms, struct err *e)
{
    struct trace_info info = info_of(j, n[1], n[2], 2, method);
    atoms_make(t, a, atoms);
    info_tiling(&info, t, atoms);
    return trace_create(to, &info, e);
}

/* What is whole appears, the rest leaves nothing. */
static bool close_trace(struct trace_writer *w, bool ok, struct err *e)
{
    if (ok)
        return trace_finish(w, e);
    trace_drop(w);
    return false;
}

static bool size_within(const char *from, const char *what, int64_t n, int64_t most, struct err *e)
{
    return (n >= 1 && n <= most) ||
           err_set(e, ERR_INPUT, err_at_name(from), "%lld %s: want 1 to %lld", (long long)n, what,
                   (long long)most);
}

/* ---- arrays of keep ---- */

static bool keep_value(double v, bool sparsity, const char *from, const char *name,
                       const int64_t at[3], double *keep, struct err *e)
{
    *keep = sparsity ? 1 - v : v;
    return (v >= 0 && v <= 1) || err_set(e, ERR_INPUT, err_at_name(from),
                                         "%s[%lld,%lld,%lld]: %g: want a number from 0 to 1", name,
                                         (long long)at[0], (long long)at[1], (long long)at[2], v);
}

static bool import_keep(const char *from, const struct array *a, bool sparsity,
                        const struct import_job *j, const char *to, struct err *e)
{
    if (a->rank != 2 && a->rank != 3)
        return err_set(e, ERR_INPUT, err_at_name(from),
                       "array '%s' has %d dimensions; want [layer][head] or [step][layer][head]",
                       a->name, a->rank);
    int first = a->rank - 2;
    int64_t steps = first ? a->dims[0] : 1, layers = a->dims[first], heads = a->dims[first + 1];
    if (!size_within(from, "steps", steps, TRACE_RECORDS_MOST / TRACE_LAYERS_MOST, e) ||
        !size_within(from, "layers", layers, TRACE_LAYERS_MOST, e) ||
        !size_within(from, "heads", heads, TRACE_HEADS_MOST, e))
        return false;
    struct trace_info info = info_of(j, layers, heads, 0, "imported");
    struct trace_writer *w = trace_create(to, &info, e);
    bool ok = w != NULL;
    for (int64_t s = 0; s < steps && ok; s++)
        for (int64_t layer = 0; layer < layers && ok; layer++) {
            for (int64_t h = 0; h < heads && ok; h++) {
                double keep;
                int64_t offset = (first ? s * a->strides[0] : 0) + layer * a->strides[first] +
                                 h * a->strides[first + 1];
                ok = keep_value(array_value(a, offset), sparsity, from, a->name,
                                (int64_t[3]){s, layer, h}, &keep, e) &&
                     trace_put_head(w, (int)h, keep, NULL, NULL, NULL, e);
            }
            struct trace_record rec = {
                .step = j->step + s * j->stride, .layer = (int32_t)layer, .noise_t = NAN};
            ok = ok && trace_commit(w, &rec, e);
        }
    return close_trace(w, ok, e);
}

/* ---- arrays of masks ---- */

/* The tiling of a mask of `groups` x `blocks`: the grid's cubes when a grid is given, else runs of
 * tokens. */
static bool mask_tiling(const char *from, const struct import_job *j, int64_t groups,
                        int64_t blocks, struct arena *a, struct tiling *t, struct err *e)
{
    if (j->grid.t > 0) {
        if (!tiling_make(j->grid, j->group, j->block, a, t, e))
            return false;
        if (t->group.count != groups || t->block.count != blocks)
            return err_set(
                e, ERR_INPUT, err_at_name(from),
                "a mask of %lld x %lld, but grid %dx%dx%d has %d query groups and %d KV blocks",
                (long long)groups, (long long)blocks, j->grid.t, j->grid.h, j->grid.w,
                t->group.count, t->block.count);
        return true;
    }
    int64_t tokens = blocks * j->block[2];
    int64_t per_group = (tokens + groups - 1) / groups;
    if (tokens > INT32_MAX || (tokens + per_group - 1) / per_group != groups)
        return err_set(e, ERR_INPUT, err_at_name(from),
                       "a mask of %lld x %lld blocks of %d tokens: give the grid and the cubes",
                       (long long)groups, (long long)blocks, j->block[2]);
    struct grid grid = {1, 1, (int)tokens};
    return tiling_make(grid, (int[3]){1, 1, (int)per_group}, (int[3]){1, 1, j->block[2]}, a, t, e);
}

static bool mask_head(const struct array *a, int64_t base, struct trace_writer *w, int head,
                      const struct tiling *t, const struct atoms *atoms, const struct weigh *weigh,
                      struct arena *scratch, struct err *e)
{
    struct mask m = mask_new(t->group.count, t->block.count, scratch);
    int64_t row = a->strides[a->rank - 2], column = a->strides[a->rank - 1];
    for (int g = 0; g < m.groups; g++)
        for (int b = 0; b < m.blocks; b++)
            if (array_value(a, base + g * row + b * column) > 0)
                bits_set(mask_row(&m, g), b);
    struct head_stats s;
    struct atom_rows rows;
    stats_head(t, weigh, &m, scratch, &s);
    stats_atoms(t, weigh, &m, atoms, scratch, &rows);
    return trace_put_head(w, head, s.keep, s.keep_q, &rows, &m, e);
}

static bool mask_records(const struct array *a, const int64_t n[3], const struct import_job *j,
                         const struct tiling *t, const struct atoms *atoms, struct trace_writer *w,
                         struct err *e)
{
    struct arena *keep = arena_new(), *scratch = arena_new();
    struct weigh weigh = weigh_make(&t->block, keep);
    int64_t stride[3] = {0};
    for (int i = 0; i < 3; i++)
        if (a->rank - 5 + i >= 0)
            stride[i] = a->strides[a->rank - 5 + i];
    bool ok = true;
    for (int64_t s = 0; s < n[0] && ok; s++)
        for (int64_t layer = 0; layer < n[1] && ok; layer++) {
            for (int64_t h = 0; h < n[2] && ok; h++) {
                arena_reset(scratch);
                ok = mask_head(a, s * stride[0] + layer * stride[1] + h * stride[2], w, (int)h, t,
                               atoms, &weigh, scratch, e);
            }
            struct trace_record rec = {.step = j->step + s * j->stride,
                                       .layer = (int32_t)layer,
                                       .level = 2,
                                       .noise_t = NAN};
            ok = ok && trace_commit(w, &rec, e);
        }
    arena_free(scratch);
    arena_free(keep);
    return ok;
}

static bool import_mask(const char *from, const struct array *a, const struct import_job *j,
                        const char *to, struct err *e)
{
    if (a->rank < 2 || a->rank > 5)
        return err_set(
            e, ERR_INPUT, err_at_name(from),
            "array '%s' has %d dimensions; want [group][block] with head, layer, step in front",
            a->name, a->rank);
    int64_t n[3] = {1, 1, 1};
    for (int i = 0; i < 3; i++)
        if (a->rank - 5 + i >= 0)
            n[i] = a->dims[a->rank - 5 + i];
    int64_t groups = a->dims[a->rank - 2], blocks = a->dims[a->rank - 1];
    if (!size_within(from, "steps", n[0], TRACE_RECORDS_MOST / TRACE_LAYERS_MOST, e) ||
        !size_within(from, "layers", n[1], TRACE_LAYERS_MOST, e) ||
        !size_within(from, "heads", n[2], TRACE_HEADS_MOST, e) ||
        !size_within(from, "query groups", groups, TILING_CUBES_MOST, e) ||
        !size_within(from, "KV blocks", blocks, TILING_CUBES_MOST, e))
        return false;
    struct arena *arena = arena_new();
    struct tiling t;
    struct trace_writer *w = NULL;
    bool ok = mask_tiling(from, j, groups, blocks, arena, &t, e);
    if (ok) {
        struct atoms atoms;
        w = create_masks(j, n, &t, "mask", to, arena, &atoms, e);
        ok = w && mask_records(a, n, j, &t, &atoms, w, e);
    }
    ok = close_trace(w, ok, e);
    arena_free(arena);
    return ok;
}

/* What an array is, from its name and type: NONE when it could be anything. */
static enum import_as array_kind(const struct array *a)
{
    if (strstr(a->name, "sparsity"))
        return IMPORT_SPARSITY;
    if (strstr(a->name, "keep") || strstr(a->name, "density"))
        return IMPORT_KEEP;
    if (strstr(a->name, "mask") || a->type == ARRAY_BOOL)
        return IMPORT_MASK;
    return IMPORT_AUTO;
}

static bool array_pick(struct array_file *f, const char *from, const struct import_job *j,
                       struct array *out, struct err *e)
{
    int fitting = 0, count = array_count(f);
    for (int i = 0; i < count; i++) {
        struct array a;
        if (!array_get(f, i, &a, e))
            return false;
        bool fits =
            j->array ? strcmp(j->array, a.name) == 0 : count == 1 || array_kind(&a) != IMPORT_AUTO;
        if (fits) {
            *out = a;
            fitting++;
        }
    }
    if (fitting == 1)
        return true;
    return err_set(e, ERR_INPUT, err_at_name(from), "%d of %d arrays %s%s; name one with --array",
                   fitting, count, j->array ? "are called " : "look like keep, sparsity or mask",
                   j->array ? j->array : "");
}

static bool import_arrays(const char *from, const struct import_job *j, const char *to,
                          struct err *e)
{
    struct array_file *f = array_open(from, e);
    struct array a;
    bool ok = f && array_pick(f, from, j, &a, e);
    if (ok) {
        enum import_as as = j->as == IMPORT_AUTO ? array_kind(&a) : j->as;
        if (as == IMPORT_AUTO)
            ok = err_set(e, ERR_INPUT, err_at_name(from),
                         "array '%s' could be anything; say --as keep, sparsity or mask", a.name);
        else
            ok = as == IMPORT_MASK ? import_mask(from, &a, j, to, e)
                                   : import_keep(from, &a, as == IMPORT_SPARSITY, j, to, e);
    }
    array_close(f);
    return ok;
}

/* ---- windows in JSON ---- */

struct window_key {
    int64_t step, layer, head;
    const struct cfg *value;
};

static bool window_key_parse(const char *text, struct err_at at, struct window_key *k,
                             struct err *e)
{
    long long v[3];
    int n = 0;
    if (sscanf(text, "%12lld_%12lld_%12lld%n", &v[0], &v[1], &v[2], &n) != 3 || text[n] ||
        v[0] < 0 || v[1] < 0 || v[1] >= TRACE_LAYERS_MOST || v[2] < 0 || v[2] >= TRACE_HEADS_MOST)
        return err_set(e, ERR_INPUT, at, "key '%s': want step_layer_head such as '0_12_3'", text);
    *k = (struct window_key){v[0], v[1], v[2], NULL};
    return true;
}

static int window_key_order(const void *left, const void *right)
{
    const struct window_key *l = left, *r = right;
    if (l->step != r->step)
        return l->step < r->step ? -1 : 1;
    if (l->layer != r->layer)
        return l->layer < r->layer ? -1 : 1;
    return (l->head > r->head) - (l->head < r->head);
}

static bool window_pattern(const struct cfg *value, const struct import_job *j, struct pattern *p,
                           struct err *e)
{
    if (value->kind == CFG_TEXT)
        return pattern_parse(value->text, value->at, p, e) &&
               pattern_check(p, j->grid, value->at, e);
    if (value->kind != CFG_LIST || value->count != 3)
        return err_set(e, ERR_INPUT, value->at,
                       "want a window of three numbers in tiles, or a pattern text");
    *p = pattern_default(PATTERN_TILE);
    double *window[3] = {&p->t, &p->h, &p->w}, *tile[3] = {&p->tile_t, &p->tile_h, &p->tile_w};
    for (int i = 0; i < 3; i++) {
        int64_t tiles;
        if (value->items[i]->kind != CFG_TEXT ||
            !qty_parse_int(value->items[i]->text, 1, 1000000, "window", value->items[i]->at, &tiles,
                           e))
            return err_set(e, ERR_INPUT, value->at,
                           "want a window of three whole numbers in tiles");
        *tile[i] = j->block[i];
        *window[i] = (double)tiles * j->block[i];
    }
    return true;
}

static bool windows_read(const struct cfg *root, struct arena *a, struct window_key **keys,
                         int64_t n[3], struct err *e)
{
    if (root->kind != CFG_MAP || root->count == 0)
        return err_set(e, ERR_INPUT, root->at, "want a map from step_layer_head to windows");
    *keys = ARENA_ARRAY(a, struct window_key, root->count);
    n[1] = n[2] = 0;
    for (int i = 0; i < root->count; i++) {
        if (!window_key_parse(root->keys[i], root->items[i]->at, &(*keys)[i], e))
            return false;
        (*keys)[i].value = root->items[i];
        n[1] = (*keys)[i].layer >= n[1] ? (*keys)[i].layer + 1 : n[1];
        n[2] = (*keys)[i].head >= n[2] ? (*keys)[i].head + 1 : n[2];
    }
    qsort(*keys, (size_t)root->count, sizeof **keys, window_key_order);
    if (root->count % (n[1] * n[2]) != 0)
        return err_set(e, ERR_INPUT, root->at,
                       "%d windows are no whole number of steps of %lld layers x %lld heads",
                       root->count, (long long)n[1], (long long)n[2]);
    n[0] = root->count / (n[1] * n[2]);
    for (int i = 0; i < root->count; i++)
        if ((*keys)[i].layer != i / n[2] % n[1] || (*keys)[i].head != i % n[2])
            return err_set(e, ERR_INPUT, (*keys)[i].value->at,
                           "step %lld lacks layer %lld, head %lld", (long long)(*keys)[i].step,
                           (long long)(i / n[2] % n[1]), (long long)(i % n[2]));
    return true;
}

static bool windows_write(const struct window_key *keys, const int64_t n[3],
                          const struct import_job *j, const struct tiling *t,
                          const struct atoms *atoms, struct trace_writer *w, struct err *e)
{
    struct arena *scratch = arena_new();
    bool ok = true;
    for (int64_t i = 0; i < n[0] * n[1] * n[2] && ok; i++) {
        struct pattern p;
        struct mask m;
        struct head_stats s;
        struct atom_rows rows;
        arena_reset(scratch);
        ok = window_pattern(keys[i].value, j, &p, e);
        if (!ok)
            break;
        struct field_key key = {j->seed, (int)keys[i].layer, (int)keys[i].head, keys[i].step};
        pattern_mask(&p, t, key, NAN, scratch, &m);
        struct weigh weigh = weigh_make(&t->block, scratch);
        stats_head(t, &weigh, &m, scratch, &s);
        stats_atoms(t, &weigh, &m, atoms, scratch, &rows);
        ok = trace_put_head(w, (int)keys[i].head, s.keep, s.keep_q, &rows, &m, e);
        struct trace_record rec = {
            .step = keys[i].step, .layer = (int32_t)keys[i].layer, .level = 2, .noise_t = NAN};
        if (ok && keys[i].head == n[2] - 1)
            ok = trace_commit(w, &rec, e);
    }
    arena_free(scratch);
    return ok;
}

static bool import_windows(const char *from, const struct import_job *j, const char *to,
                           struct err *e)
{
    if (j->grid.t <= 0)
        return err_set(
            e, ERR_INPUT, err_at_name(from),
            "windows need the token grid (--grid TxHxW) and the tile (--kv-block TxHxW)");
    struct arena *a = arena_new();
    struct window_key *keys = NULL;
    struct tiling t;
    struct trace_writer *w = NULL;
    int64_t n[3] = {0};
    struct cfg *root = cfg_read_file(from, a, e);
    bool ok = root && windows_read(root, a, &keys, n, e) &&
              tiling_make(j->grid, j->group, j->block, a, &t, e);
    if (ok) {
        struct atoms atoms;
        w = create_masks(j, n, &t, "windows", to, a, &atoms, e);
        ok = w && windows_write(keys, n, j, &t, &atoms, w, e);
    }
    ok = close_trace(w, ok, e);
    arena_free(a);
    return ok;
}

/* ---- CSV ---- */

struct csv_row {
    int64_t step, block, head;
    double keep;
    int line;
};

static int csv_row_order(const void *left, const void *right)
{
    const struct csv_row *l = left, *r = right;
    if (l->step != r->step)
        return l->step < r->step ? -1 : 1;
    if (l->block != r->block)
        return l->block < r->block ? -1 : 1;
    return (l->head > r->head) - (l->head < r->head);
}

static bool csv_rows(const struct csv *c, struct csv_row *rows, int64_t n[2], struct err *e)
{
    int step = csv_column(c, "step"), block, head, keep;
    if (!csv_need(c, "block", &block, e) || !csv_need(c, "head", &head, e) ||
        !csv_need(c, "keep", &keep, e))
        return false;
    n[0] = n[1] = 0;
    for (int i = 0; i < c->rows; i++) {
        rows[i].line = c->line[i];
        if ((step >= 0 && !csv_int(c, i, step, 0, INT64_MAX / 2, &rows[i].step, e)) ||
            !csv_int(c, i, block, 0, TRACE_LAYERS_MOST - 1, &rows[i].block, e) ||
            !csv_int(c, i, head, 0, TRACE_HEADS_MOST - 1, &rows[i].head, e) ||
            !csv_num(c, i, keep, &rows[i].keep, e))
            return false;
        n[0] = rows[i].block >= n[0] ? rows[i].block + 1 : n[0];
        n[1] = rows[i].head >= n[1] ? rows[i].head + 1 : n[1];
    }
    qsort(rows, (size_t)c->rows, sizeof *rows, csv_row_order);
    return true;
}

/* Every (step, block) must have all heads, once. */
static bool csv_write(const struct csv *c, const struct csv_row *rows, const int64_t n[2],
                      struct trace_writer *w, struct err *e)
{
    for (int i = 0; i < c->rows; i++) {
        struct err_at at = {c->path, rows[i].line, 0};
        if (rows[i].head != i % n[1] || (rows[i].head > 0 && rows[i].block != rows[i - 1].block))
            return err_set(e, ERR_INPUT, at, "step %lld, block %lld: head %lld is missing or twice",
                           (long long)rows[i].step, (long long)rows[i].block,
                           (long long)(i % n[1]));
        if (!(rows[i].keep >= 0 && rows[i].keep <= 1))
            return err_set(e, ERR_INPUT, at, "keep: %g: want a number from 0 to 1", rows[i].keep);
        if (!trace_put_head(w, (int)rows[i].head, rows[i].keep, NULL, NULL, NULL, e))
            return false;
        struct trace_record rec = {
            .step = rows[i].step, .layer = (int32_t)rows[i].block, .noise_t = NAN};
        if (rows[i].head == n[1] - 1 && !trace_commit(w, &rec, e))
            return false;
    }
    return c->rows % n[1] == 0 ||
           err_set(e, ERR_INPUT, err_at_name(c->path),
                   "the last block lacks heads: %lld of them are known", (long long)n[1]);
}

static bool import_csv(const char *from, const struct import_job *j, const char *to, struct err *e)
{
    struct arena *a = arena_new();
    struct csv c;
    struct trace_writer *w = NULL;
    bool ok = csv_read(from, a, &c, e);
    if (ok && c.rows == 0)
        ok = err_set(e, ERR_INPUT, err_at_name(from), "no rows");
    struct csv_row *rows = ok ? ARENA_ARRAY(a, struct csv_row, c.rows) : NULL;
    int64_t n[2] = {0};
    ok = ok && csv_rows(&c, rows, n, e);
    if (ok) {
        struct trace_info info = info_of(j, n[0], n[1], 0, "summary");
        w = trace_create(to, &info, e);
        ok = w && csv_write(&c, rows, n, w, e);
    }
    ok = close_trace(w, ok, e);
    arena_free(a);
    return ok;
}

/* ---- any ---- */

static bool import_any(const char *from, const struct import_job *j, const char *to, struct err *e)
{
    unsigned char head[16] = {0};
    FILE *f = fopen(from, "rb");
    if (!f)
        return err_open(e, err_at_name(from));
    size_t n = fread(head, 1, sizeof head, f);
    fclose(f);
    if (array_known(head, n))
        return import_arrays(from, j, to, e);
    if (n >= 2 && head[0] == 0x80 && head[1] <= 5)
        return err_set(e, ERR_INPUT, err_at_name(from),
                       "a pickle, which would run code on load: convert it with import_torch.py");
    size_t skip = strspn((const char *)head, " \t\r\n");
    if (n > 0 && skip < n && head[skip] == '{')
        return import_windows(from, j, to, e);
    return import_csv(from, j, to, e);
}

bool import_file(const char *from, const struct import_job *j, const char *to, struct err *e)
{
    struct arena *a = arena_new();
    char *temporary = arena_printf(a, "%s.part%ld", to, (long)getpid());
    bool ok = import_any(from, j, temporary, e);
    if (ok && rename(temporary, to) != 0)
        ok = err_set(e, ERR_SYSTEM, err_at_name(to), "cannot rename into place: %s",
                     strerror(errno));
    if (!ok)
        unlink(temporary);
    arena_free(a);
    return ok;
}
