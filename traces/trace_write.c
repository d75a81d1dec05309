#include <errno.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "traces/trace_file.h"

struct trace_writer {
    char *path;
    struct arena *arena;
    struct trace_info info;
    struct tiling tiling;
    hid_t file, index_type, set[TRACE_SETS];
    hsize_t record;       /* the one under way */
    bool begun;           /* its space is there */
    unsigned char *bytes; /* one head's rows */
    bool *have;           /* [heads] of the record under way */
};

/* Chunks hold one head of one record; rows of a bitmap are cut so that a chunk stays near 1 MiB. */
static void chunk_dims(enum trace_set set, const hsize_t dims[4], hsize_t chunk[4])
{
    const hsize_t most = 1 << 20;
    for (int i = 0; i < trace_set_laws[set].rank; i++)
        chunk[i] = i == 0 ? 1 : dims[i];
    if (set == SET_INDEX)
        chunk[0] = 64;
    if (set >= SET_UNION) {
        chunk[1] = 1;
        while (chunk[2] > 1 && chunk[2] * chunk[3] > most)
            chunk[2] = (chunk[2] + 1) / 2;
    }
}

static hid_t file_type(const struct trace_writer *w, enum trace_set set)
{
    const hid_t types[TRACE_SETS] = {w->index_type, H5T_IEEE_F32LE, H5T_IEEE_F32LE,
                                     H5T_STD_U64LE, H5T_STD_U8LE,   H5T_STD_U8LE};
    return types[set];
}

static bool set_create(struct trace_writer *w, enum trace_set set)
{
    hsize_t dims[4] = {0}, most[4], chunk[4];
    trace_set_dims(set, &w->info, &w->tiling, dims);
    memcpy(most, dims, sizeof most);
    most[0] = H5S_UNLIMITED;
    chunk_dims(set, dims, chunk);
    hid_t space = H5Screate_simple(trace_set_laws[set].rank, dims, most),
          plan = H5Pcreate(H5P_DATASET_CREATE);
    H5Pset_chunk(plan, trace_set_laws[set].rank, chunk);
    H5Pset_obj_track_times(plan, false); /* the same input gives the same bytes */
    if (set != SET_INDEX) {
        H5Pset_shuffle(plan);
        H5Pset_deflate(plan, 4);
    }
    w->set[set] = H5Dcreate2(w->file, trace_set_laws[set].name, file_type(w, set), space,
                             H5P_DEFAULT, plan, H5P_DEFAULT);
    H5Pclose(plan);
    H5Sclose(space);
    return w->set[set] >= 0;
}

static bool file_create(struct trace_writer *w, struct err *e)
{
    hid_t access = H5Pcreate(H5P_FILE_ACCESS), plan = H5Pcreate(H5P_FILE_CREATE);
    H5Pset_libver_bounds(access, H5F_LIBVER_V110,
                         H5F_LIBVER_V110); /* single-writer mode needs it */
    H5Pset_obj_track_times(plan, false);
    w->file = H5Fcreate(w->path, H5F_ACC_TRUNC, plan, access);
    H5Pclose(plan);
    H5Pclose(access);
    if (w->file < 0)
        return err_set(e, ERR_SYSTEM, err_at_name(w->path), "cannot create: %s", strerror(errno));
    if (!trace_attrs_write(w->file, &w->info, w->path, e))
        return false;
    for (int s = 0; s < TRACE_SETS; s++)
        if (trace_set_laws[s].level <= w->info.level && !set_create(w, (enum trace_set)s))
            return trace_h5_fail(e, ERR_SYSTEM, w->path, "cannot create a data set");
    if (H5Fstart_swmr_write(w->file) < 0)
        return trace_h5_fail(e, ERR_SYSTEM, w->path, "cannot enter single-writer mode");
    return true;
}

struct trace_writer *trace_create(const char *path, const struct trace_info *info, struct err *e)
{
    H5Eset_auto2(H5E_DEFAULT, NULL, NULL);
    struct trace_writer *w = calloc(1, sizeof *w);
    struct atoms atoms;
    if (!w)
        abort();
    w->arena = arena_new();
    w->path = arena_strdup(w->arena, path);
    w->info = *info;
    w->file = -1;
    for (int s = 0; s < TRACE_SETS; s++)
        w->set[s] = -1;
    w->index_type = trace_index_type();
    if (!trace_tiling(info, path, w->arena, &w->tiling, &atoms, e) || !file_create(w, e)) {
        trace_drop(w);
        return NULL;
    }
    size_t rows =
        (size_t)(w->tiling.group.count > info->atoms ? w->tiling.group.count : info->atoms);
    w->bytes =
        ARENA_ARRAY(w->arena, unsigned char, rows *(((size_t)w->tiling.block.count + 7) / 8));
    w->have = ARENA_ARRAY(w->arena, bool, info->heads);
    return w;
}

static bool set_extend(struct trace_writer *w, enum trace_set set, hsize_t records)
{
    hsize_t dims[4] = {records};
    trace_set_dims(set, &w->info, &w->tiling, dims);
    return H5Dset_extent(w->set[set], dims) >= 0;
}

static bool record_begin(struct trace_writer *w, struct err *e)
{
    for (int s = SET_KEEP; s < TRACE_SETS && !w->begun; s++)
        if (w->set[s] >= 0 && !set_extend(w, (enum trace_set)s, w->record + 1))
            return trace_h5_fail(e, ERR_SYSTEM, w->path, "cannot grow the file");
    w->begun = true;
    return true;
}

/* Writes [record, head, ...] of a data set. */
static bool set_put(struct trace_writer *w, enum trace_set set, int head, hid_t type,
                    const void *data, struct err *e)
{
    int rank = trace_set_laws[set].rank;
    hsize_t start[4] = {w->record, (hsize_t)head}, count[4];
    trace_set_dims(set, &w->info, &w->tiling, count);
    count[0] = count[1] = 1;
    hid_t space = H5Dget_space(w->set[set]), memory = H5Screate_simple(rank, count, NULL);
    bool ok = H5Sselect_hyperslab(space, H5S_SELECT_SET, start, NULL, count, NULL) >= 0 &&
              H5Dwrite(w->set[set], type, memory, space, H5P_DEFAULT, data) >= 0;
    H5Sclose(memory);
    H5Sclose(space);
    return ok || trace_h5_fail(e, ERR_SYSTEM, w->path, "cannot write");
}

static const unsigned char *rows_pack(struct trace_writer *w, const uint64_t *bits, int rows,
                                      size_t words)
{
    size_t bytes = ((size_t)w->tiling.block.count + 7) / 8;
    for (int i = 0; i < rows; i++)
        bits_pack(bits + (size_t)i * words, w->tiling.block.count, w->bytes + (size_t)i * bytes);
    return w->bytes;
}

bool trace_put_head(struct trace_writer *w, int head, double keep, const double *keep_q,
                    const struct atom_rows *rows, const struct mask *mask, struct err *e)
{
    double unknown[STATS_QUANTILES];
    for (int i = 0; i < STATS_QUANTILES; i++)
        unknown[i] = NAN;
    if (!(keep >= 0 && keep <= 1))
        return err_set(e, ERR_INPUT, err_at_name(w->path),
                       "/keep[%lld,%d]: %g: want a number from 0 to 1", (long long)w->record, head,
                       keep);
    if (!record_begin(w, e) || !set_put(w, SET_KEEP, head, H5T_NATIVE_DOUBLE, &keep, e) ||
        !set_put(w, SET_KEEP_Q, head, H5T_NATIVE_DOUBLE, keep_q ? keep_q : unknown, e))
        return false;
    if (w->info.level >= 1 && (!set_put(w, SET_WORK, head, H5T_NATIVE_UINT64, rows->work, e) ||
                               !set_put(w, SET_UNION, head, H5T_NATIVE_UCHAR,
                                        rows_pack(w, rows->unions, rows->atoms, rows->words), e)))
        return false;
    if (w->info.level >= 2 && !set_put(w, SET_MASK, head, H5T_NATIVE_UCHAR,
                                       rows_pack(w, mask->bits, mask->groups, mask->words), e))
        return false;
    w->have[head] = true;
    return true;
}

bool trace_commit(struct trace_writer *w, const struct trace_record *record, struct err *e)
{
    for (int h = 0; h < w->info.heads; h++)
        if (!w->have[h])
            return err_set(e, ERR_INPUT, err_at_name(w->path), "record %lld has no head %d",
                           (long long)w->record, h);
    hsize_t start = w->record, count = 1;
    bool ok = H5Fflush(w->file, H5F_SCOPE_LOCAL) >= 0 && set_extend(w, SET_INDEX, w->record + 1);
    hid_t space = H5Dget_space(w->set[SET_INDEX]), memory = H5Screate_simple(1, &count, NULL);
    ok = ok && H5Sselect_hyperslab(space, H5S_SELECT_SET, &start, NULL, &count, NULL) >= 0 &&
         H5Dwrite(w->set[SET_INDEX], w->index_type, memory, space, H5P_DEFAULT, record) >= 0 &&
         H5Fflush(w->file, H5F_SCOPE_LOCAL) >= 0;
    H5Sclose(memory);
    H5Sclose(space);
    if (!ok)
        return trace_h5_fail(e, ERR_SYSTEM, w->path, "cannot add a record");
    memset(w->have, 0, (size_t)w->info.heads * sizeof *w->have);
    w->record++;
    w->begun = false;
    return true;
}

static bool writer_free(struct trace_writer *w)
{
    bool ok = true;
    for (int s = 0; s < TRACE_SETS; s++)
        if (w->set[s] >= 0)
            ok = H5Dclose(w->set[s]) >= 0 && ok;
    H5Tclose(w->index_type);
    if (w->file >= 0)
        ok = H5Fclose(w->file) >= 0 && ok;
    arena_free(w->arena);
    free(w);
    return ok;
}

bool trace_finish(struct trace_writer *w, struct err *e)
{
    char path[256];
    snprintf(path, sizeof path, "%s", w->path);
    return writer_free(w) || trace_h5_fail(e, ERR_SYSTEM, path, "cannot close");
}

void trace_drop(struct trace_writer *w)
{
    if (w)
        writer_free(w);
}
