#include <math.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include "traces/trace_file.h"

struct trace_reader {
    char *path;
    struct arena *arena;
    struct trace_info info;
    struct tiling tiling;
    struct atoms atoms;
    hid_t file, index_type, set[TRACE_SETS];
    int records;
    bool unclosed;
    unsigned char *bytes; /* one head's rows */
    double size;          /* of the file, bytes */
};

/* HDF5's deflate cannot shrink data more than this; a data set that claims more than the file can
 * hold lies. */
static const double deflate_most = 1100;

static bool file_open(struct trace_reader *r, struct err *e)
{
    struct stat st;
    if (stat(r->path, &st) != 0)
        return err_open(e, err_at_name(r->path));
    r->size = (double)st.st_size;
    if (!S_ISREG(st.st_mode) || H5Fis_hdf5(r->path) <= 0)
        return err_set(e, ERR_INPUT, err_at_name(r->path), "not an HDF5 file; want a %s trace",
                       TRACE_SCHEMA);
    r->file = H5Fopen(r->path, H5F_ACC_RDONLY, H5P_DEFAULT);
    if (r->file < 0) { /* a writer died or is at work: read beside it */
        hid_t access = H5Pcreate(H5P_FILE_ACCESS);
        H5Pset_metadata_read_attempts(access,
                                      5); /* its 100 by default wait minutes on a damaged file */
        H5Eclear2(H5E_DEFAULT);
        r->file = H5Fopen(r->path, H5F_ACC_RDONLY | H5F_ACC_SWMR_READ, access);
        H5Pclose(access);
        r->unclosed = true;
    }
    return r->file >= 0 || trace_h5_fail(e, ERR_INPUT, r->path, "damaged or truncated HDF5 file");
}

/* The shape of a data set against what the attributes say; *records is its first dimension. */
static bool set_shape(const struct trace_reader *r, enum trace_set set, hsize_t *records,
                      struct err *e)
{
    const struct trace_set_law *law = &trace_set_laws[set];
    struct err_at at = err_at_name(r->path);
    hsize_t dims[H5S_MAX_RANK] = {0}, want[4];
    trace_set_dims(set, &r->info, &r->tiling, want);
    hid_t space = H5Dget_space(r->set[set]), type = H5Dget_type(r->set[set]);
    int rank = H5Sget_simple_extent_ndims(space);
    H5Sget_simple_extent_dims(space, dims, NULL);
    H5T_class_t class = H5Tget_class(type);
    double bytes = (double)H5Tget_size(type);
    H5Tclose(type);
    H5Sclose(space);
    if (class != law->class || rank != law->rank)
        return err_set(e, ERR_INPUT, at, "%s: want %d dimensions of %s", law->name, law->rank,
                       law->class == H5T_FLOAT     ? "floats"
                       : law->class == H5T_INTEGER ? "integers"
                                                   : "a compound");
    for (int i = 1; i < rank; i++) {
        if (dims[i] != want[i])
            return err_set(e, ERR_INPUT, at,
                           "%s: dimension %d is %llu, but the attributes say %llu", law->name, i,
                           (unsigned long long)dims[i], (unsigned long long)want[i]);
        bytes *= (double)dims[i];
    }
    double most =
        set == SET_INDEX ? r->size : deflate_most * r->size; /* the index is not compressed */
    if (dims[0] > TRACE_RECORDS_MOST || bytes * (double)dims[0] > most)
        return err_set(e, ERR_INPUT, at, "%s: claims %.3g bytes in a file of %.3g", law->name,
                       bytes * (double)dims[0], r->size);
    *records = dims[0];
    return true;
}

static bool sets_open(struct trace_reader *r, struct err *e)
{
    for (int s = 0; s < TRACE_SETS; s++) {
        const struct trace_set_law *law = &trace_set_laws[s];
        hsize_t records;
        if (law->level > r->info.level)
            continue;
        if (H5Lexists(r->file, law->name, H5P_DEFAULT) <= 0)
            return err_set(e, ERR_INPUT, err_at_name(r->path),
                           "data set %s is missing; level %lld has it", law->name,
                           (long long)r->info.level);
        r->set[s] = H5Dopen2(r->file, law->name, H5P_DEFAULT);
        if (r->set[s] < 0)
            return trace_h5_fail(e, ERR_INPUT, r->path, law->name);
        if (!set_shape(r, (enum trace_set)s, &records, e))
            return false;
        if (s == SET_INDEX)
            r->records = (int)records;
        else if (records < (hsize_t)r->records)
            return err_set(e, ERR_INPUT, err_at_name(r->path),
                           "%s holds %llu records, /index names %d", law->name,
                           (unsigned long long)records, r->records);
    }
    return true;
}

struct trace_reader *trace_open(const char *path, struct err *e)
{
    H5Eset_auto2(H5E_DEFAULT, NULL, NULL);
    struct trace_reader *r = calloc(1, sizeof *r);
    if (!r)
        abort();
    r->arena = arena_new();
    r->path = arena_strdup(r->arena, path);
    r->file = -1;
    for (int s = 0; s < TRACE_SETS; s++)
        r->set[s] = -1;
    r->index_type = trace_index_type();
    if (!file_open(r, e) || !trace_attrs_read(r->file, path, &r->info, e) ||
        !trace_tiling(&r->info, path, r->arena, &r->tiling, &r->atoms, e) || !sets_open(r, e)) {
        trace_close(r);
        return NULL;
    }
    size_t rows = (size_t)(r->info.level >= 2   ? r->tiling.group.count
                           : r->info.level >= 1 ? r->atoms.count
                                                : 0);
    rows = rows < (size_t)r->atoms.count ? (size_t)r->atoms.count : rows;
    r->bytes =
        ARENA_ARRAY(r->arena, unsigned char, rows *(((size_t)r->tiling.block.count + 7) / 8));
    return r;
}

void trace_close(struct trace_reader *r)
{
    if (!r)
        return;
    for (int s = 0; s < TRACE_SETS; s++)
        if (r->set[s] >= 0)
            H5Dclose(r->set[s]);
    H5Tclose(r->index_type);
    if (r->file >= 0)
        H5Fclose(r->file);
    arena_free(r->arena);
    free(r);
}

const struct trace_info *trace_info_of(const struct trace_reader *r)
{
    return &r->info;
}

const struct tiling *trace_tiling_of(const struct trace_reader *r)
{
    return &r->tiling;
}

const struct atoms *trace_atoms_of(const struct trace_reader *r)
{
    return &r->atoms;
}

int trace_records(const struct trace_reader *r)
{
    return r->records;
}

bool trace_unclosed(const struct trace_reader *r)
{
    return r->unclosed;
}

/* Reads [record] (head < 0: all heads) or [record, head] of a data set. */
static bool set_get(struct trace_reader *r, enum trace_set set, int record, int head, hid_t type,
                    void *out, struct err *e)
{
    const struct trace_set_law *law = &trace_set_laws[set];
    if (r->set[set] < 0)
        return err_set(e, ERR_INPUT, err_at_name(r->path),
                       "a trace of level %lld has no %s; it takes level %d",
                       (long long)r->info.level, law->name, law->level);
    hsize_t start[4] = {(hsize_t)record, head < 0 ? 0 : (hsize_t)head}, count[4];
    trace_set_dims(set, &r->info, &r->tiling, count);
    count[0] = 1;
    count[1] = head < 0 ? count[1] : 1;
    hid_t space = H5Dget_space(r->set[set]), memory = H5Screate_simple(law->rank, count, NULL);
    bool ok = H5Sselect_hyperslab(space, H5S_SELECT_SET, start, NULL, count, NULL) >= 0 &&
              H5Dread(r->set[set], type, memory, space, H5P_DEFAULT, out) >= 0;
    H5Sclose(memory);
    H5Sclose(space);
    if (!ok)
        trace_h5_fail(e, ERR_INPUT, r->path, "cannot read; the file is damaged");
    return ok;
}

bool trace_read_record(struct trace_reader *r, int record, struct trace_record *out, struct err *e)
{
    struct trace_record got = {0};
    if (!set_get(r, SET_INDEX, record, -1, r->index_type, &got, e))
        return false;
    if (got.layer < 0 || got.layer >= r->info.layers || got.step < 0)
        return err_set(e, ERR_INPUT, err_at_name(r->path),
                       "/index[%d]: step %lld, layer %d: want steps from 0 and layers below %lld",
                       record, (long long)got.step, got.layer, (long long)r->info.layers);
    *out = got;
    return true;
}

bool trace_read_keep(struct trace_reader *r, int record, double *keep, struct err *e)
{
    if (!set_get(r, SET_KEEP, record, -1, H5T_NATIVE_DOUBLE, keep, e))
        return false;
    for (int h = 0; h < r->info.heads; h++)
        if (!(keep[h] >= 0 && keep[h] <= 1))
            return err_set(e, ERR_INPUT, err_at_name(r->path),
                           "/keep[%d,%d]: %g: want a number from 0 to 1", record, h, keep[h]);
    return true;
}

bool trace_read_keep_q(struct trace_reader *r, int record, double *keep_q, struct err *e)
{
    return set_get(r, SET_KEEP_Q, record, -1, H5T_NATIVE_DOUBLE, keep_q, e);
}

static bool rows_unpack(struct trace_reader *r, const char *name, int record, int head, int rows,
                        size_t words, uint64_t *bits, struct err *e)
{
    size_t bytes = ((size_t)r->tiling.block.count + 7) / 8;
    for (int i = 0; i < rows; i++)
        if (!bits_unpack(r->bytes + (size_t)i * bytes, r->tiling.block.count,
                         bits + (size_t)i * words))
            return err_set(e, ERR_INPUT, err_at_name(r->path),
                           "%s[%d,%d,%d]: a bit past the last of %d blocks", name, record, head, i,
                           r->tiling.block.count);
    return true;
}

bool trace_read_atoms(struct trace_reader *r, int record, int head, struct arena *a,
                      struct atom_rows *out, struct err *e)
{
    struct atom_rows rows = {.atoms = r->atoms.count, .blocks = r->tiling.block.count};
    rows.words = ((size_t)rows.blocks + 63) / 64;
    rows.work = ARENA_ARRAY(a, uint64_t, rows.atoms);
    rows.unions = ARENA_ARRAY(a, uint64_t, (size_t)rows.atoms * rows.words);
    if (!set_get(r, SET_WORK, record, head, H5T_NATIVE_UINT64, rows.work, e) ||
        !set_get(r, SET_UNION, record, head, H5T_NATIVE_UCHAR, r->bytes, e) ||
        !rows_unpack(r, "/union", record, head, rows.atoms, rows.words, rows.unions, e))
        return false;
    double most = (double)r->tiling.tokens * (double)r->tiling.tokens;
    for (int k = 0; k < rows.atoms; k++)
        if ((double)rows.work[k] > most)
            return err_set(e, ERR_INPUT, err_at_name(r->path),
                           "/work[%d,%d,%d]: %llu pairs, more than tokens squared", record, head, k,
                           (unsigned long long)rows.work[k]);
    *out = rows;
    return true;
}

bool trace_read_mask(struct trace_reader *r, int record, int head, struct arena *a,
                     struct mask *out, struct err *e)
{
    struct mask m = mask_new(r->tiling.group.count, r->tiling.block.count, a);
    if (!set_get(r, SET_MASK, record, head, H5T_NATIVE_UCHAR, r->bytes, e) ||
        !rows_unpack(r, "/mask", record, head, m.groups, m.words, m.bits, e))
        return false;
    *out = m;
    return true;
}
