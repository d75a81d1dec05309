#include "traces/measured.h"

#include <math.h>
#include <stdio.h>
#include <string.h>

enum { SHARD_SIZES = 6 };
static const int shard_sizes[SHARD_SIZES] = {2, 4, 8, 16, 32, 64};

bool measured_is_trace(const char *path)
{
    static const unsigned char magic[8] = {0x89, 'H', 'D', 'F', '\r', '\n', 0x1a, '\n'};
    unsigned char head[8] = {0};
    FILE *f = fopen(path, "rb");
    bool is = f && fread(head, 1, 8, f) == 8 && memcmp(head, magic, 8) == 0;
    if (f)
        fclose(f);
    return is;
}

int measured_record(struct trace_reader *r, const char *path, int64_t step, int layer,
                    struct err *e)
{
    int best = -1;
    int64_t best_step = -1;
    for (int i = 0; i < trace_records(r); i++) {
        struct trace_record rec;
        if (!trace_read_record(r, i, &rec, e))
            return -1;
        if (rec.layer == layer && rec.step > best_step && (step < 0 || rec.step <= step)) {
            best = i;
            best_step = rec.step;
        }
    }
    if (best < 0)
        err_set(e, ERR_INPUT, err_at_name(path), "no record of layer %d at or before step %lld",
                layer, (long long)step);
    return best;
}

/* The mean over ranks of the tokens that a shard extends along each axis. */
static void shard_extent(const struct tiling *t, const struct layout *l, double extent[3])
{
    const int tokens[3] = {t->grid.t, t->grid.h, t->grid.w};
    for (int i = 0; i < 3; i++)
        extent[i] = tokens[i];
    if (l->kind == LAYOUT_SLABS) {
        extent[0] = fmax(1, extent[0] / l->shards);
    } else if (l->kind == LAYOUT_BRICKS) {
        for (int i = 0; i < 3; i++)
            extent[i] /= l->axis[i];
    } else {
        for (int i = 0; i < 3; i++)
            extent[i] /= cbrt(l->shards);
    }
}

/* Four proxies an atom see less than all its groups: extrapolate as if unseen groups were
 * independent, no further than the smooth-field closed form at DSV's correlation length. */
static double unsampled(const struct trace_info *info, const struct tiling *t,
                        const struct layout *l, double keep, double seen)
{
    if (info->proxies == 0)
        return seen;
    const double length[3] = {5.5, 5.5, 5.5};
    double extent[3],
        ratio = (double)t->group.count / ((double)info->atoms * (double)info->proxies);
    shard_extent(t, l, extent);
    double independent = 1 - pow(1 - fmin(seen, 1), fmax(1, ratio));
    return fmax(seen, fmin(independent, union_field(keep, extent, length)));
}

struct job {
    struct trace_reader *r;
    struct layout layouts[SHARD_SIZES];
    const int32_t *atom_shard[SHARD_SIZES];
    int count;
    struct weigh weigh;
    double *keep, *value, *need;
    struct union_table table;
    int blocks, heads;
};

/* Needs of all pairs of shards are kept as long as they are no more numbers than this. */
enum { NEEDS_MOST = 1 << 20 };

/* What shard i needs of j, extrapolated from a sample as its mean was. */
static void keep_need(struct job *j, int layer, int head, int i, const struct layout_stats *s,
                      double remote)
{
    int n = j->table.shards[i];
    size_t pairs = (size_t)n * (size_t)n;
    double *to = j->need + union_need_size(&j->table, i, (size_t)j->blocks * (size_t)j->heads) +
                 ((size_t)layer * (size_t)j->heads + (size_t)head) * pairs;
    double more = s->remote_mean > 0 ? remote / s->remote_mean : 1;
    for (size_t k = 0; k < pairs; k++)
        to[k] = fmin(1, s->need[k] * more);
}

static bool job_layer(struct job *j, const char *path, int64_t step, int layer,
                      struct arena *scratch, struct err *e)
{
    const struct tiling *t = trace_tiling_of(j->r);
    int record = measured_record(j->r, path, step, layer, e);
    double *keep = j->keep + (size_t)layer * (size_t)j->heads;
    if (record < 0 || !trace_read_keep(j->r, record, keep, e))
        return false;
    for (int h = 0; h < j->heads; h++) {
        struct atom_rows rows;
        if (keep[h] <= 0)
            return err_set(e, ERR_INPUT, err_at_name(path),
                           "/keep[%d,%d]: a head that keeps nothing", record, h);
        if (j->count == 0)
            continue;
        arena_reset(scratch);
        if (!trace_read_atoms(j->r, record, h, scratch, &rows, e))
            return false;
        for (int i = 0; i < j->count; i++) {
            struct layout_stats s;
            stats_layout_atoms(t, &j->weigh, &rows, j->atom_shard[i], &j->layouts[i], scratch, &s);
            double remote =
                unsampled(trace_info_of(j->r), t, &j->layouts[i], keep[h], s.remote_mean);
            j->value[((size_t)layer * (size_t)j->heads + (size_t)h) * (size_t)j->count +
                     (size_t)i] = remote;
            if (i < j->table.need_count)
                keep_need(j, layer, h, i, &s, remote);
        }
    }
    return true;
}

static void job_layouts(struct job *j, enum layout_kind kind, struct arena *a)
{
    for (int i = 0; i < SHARD_SIZES && trace_info_of(j->r)->level >= 1; i++) {
        struct err too_fine = {0};
        if (shard_sizes[i] > trace_info_of(j->r)->atoms ||
            !layout_of_atoms(trace_tiling_of(j->r), trace_atoms_of(j->r), kind, shard_sizes[i], a,
                             &j->layouts[i], &j->atom_shard[i], &too_fine))
            break;
        j->count++;
    }
}

static void job_arrays(struct job *j, struct arena *a)
{
    size_t heads = (size_t)j->blocks * (size_t)j->heads;
    j->weigh = weigh_make(&trace_tiling_of(j->r)->block, a);
    j->keep = ARENA_ARRAY(a, double, heads);
    j->value = ARENA_ARRAY(a, double, heads *(size_t)(j->count + 1));
    j->table = (struct union_table){.shard_count = j->count, .shards = shard_sizes};
    while (j->table.need_count < j->count &&
           union_need_size(&j->table, j->table.need_count + 1, heads) <= NEEDS_MOST)
        j->table.need_count++;
    j->need = ARENA_ARRAY(a, double, union_need_size(&j->table, j->table.need_count, heads) + 1);
    j->table.value = j->value;
    j->table.need = j->need;
}

static bool trace_sparsity(const char *path, int64_t step, int blocks, int heads,
                           enum layout_kind kind, struct arena *a, struct sparsity *out,
                           struct err *e)
{
    struct job j = {.r = trace_open(path, e), .blocks = blocks, .heads = heads};
    if (!j.r)
        return false;
    const struct trace_info *info = trace_info_of(j.r);
    bool ok = info->layers == blocks && info->heads == heads;
    if (!ok)
        err_set(e, ERR_INPUT, err_at_name(path), "%lld layers x %lld heads; the model has %d x %d",
                (long long)info->layers, (long long)info->heads, blocks, heads);
    if (ok)
        job_layouts(&j, kind, a);
    struct arena *scratch = arena_new();
    if (ok)
        job_arrays(&j, a);
    for (int layer = 0; layer < blocks && ok; layer++)
        ok = job_layer(&j, path, step, layer, scratch, e);
    if (ok) {
        struct grid grid = trace_tiling_of(j.r)->grid;
        *out =
            (struct sparsity){.name = arena_strdup(a, path),
                              .source = arena_strdup(a, path),
                              .blocks = blocks,
                              .heads = heads,
                              .grid = grid_tokens(grid) > 1 ? grid : (struct grid){0}, /* unknown */
                              .keep = j.keep};
        out->model.kind = j.count > 0 ? UNION_MEASURED : UNION_FIELD;
        out->model.length = 5.5;
        out->table = j.table;
    }
    arena_free(scratch);
    trace_close(j.r);
    return ok;
}

bool measured_sparsity(const char *path, int64_t step, int blocks, int heads,
                       enum layout_kind layout, struct arena *a, struct sparsity *out,
                       struct err *e)
{
    if (measured_is_trace(path))
        return trace_sparsity(path, step, blocks, heads, layout, a, out, e);
    return sparsity_load(path, step, blocks, heads, err_at_name(path), a, out, e);
}

bool measured_need(const char *path, int64_t step, int layer, int head, enum layout_kind kind,
                   int shards, struct arena *a, const double **need, struct err *e)
{
    struct trace_reader *r = trace_open(path, e);
    if (!r)
        return false;
    struct layout l;
    struct atom_rows rows;
    struct layout_stats s;
    const int32_t *atom_shard;
    bool ok = head >= 0 && head < trace_info_of(r)->heads;
    if (!ok)
        err_set(e, ERR_INPUT, err_at_name(path), "no head %d; the trace has %lld", head,
                (long long)trace_info_of(r)->heads);
    int record = ok ? measured_record(r, path, step, layer, e) : -1;
    ok = record >= 0 &&
         layout_of_atoms(trace_tiling_of(r), trace_atoms_of(r), kind, shards, a, &l, &atom_shard,
                         e) &&
         trace_read_atoms(r, record, head, a, &rows, e);
    if (ok) {
        struct weigh w = weigh_make(&trace_tiling_of(r)->block, a);
        stats_layout_atoms(trace_tiling_of(r), &w, &rows, atom_shard, &l, a, &s);
        *need = s.need;
    }
    trace_close(r);
    return ok;
}

bool measured_steps(const char *path, struct arena *a, int64_t **steps, int *count, struct err *e)
{
    if (!measured_is_trace(path))
        return sparsity_steps(path, err_at_name(path), a, steps, count, e);
    struct trace_reader *r = trace_open(path, e);
    if (!r)
        return false;
    bool ok = true;
    *count = trace_records(r);
    *steps = ARENA_ARRAY(a, int64_t, *count + 1);
    for (int i = 0; i < *count && ok; i++) {
        struct trace_record rec;
        ok = trace_read_record(r, i, &rec, e);
        (*steps)[i] = rec.step;
    }
    if (ok)
        *count = sparsity_steps_sorted(*steps, *count);
    trace_close(r);
    return ok;
}
