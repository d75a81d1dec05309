/* Trace files made of fuzzed attributes, shapes and values: the reader and the checker refuse or accept, and never read
 * past what they were given. libhdf5 itself is not the target: the file is written by it. Bytes: 8 attributes of two
 * bytes, then which data set gets which shape, then values. */
#include <hdf5.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "traces/measured.h"
#include "traces/trace.h"

int LLVMFuzzerTestOneInput(const unsigned char *data, size_t size);

struct tape {
    const unsigned char *at;
    size_t left;
};

static long long take(struct tape *t)
{
    if (t->left < 1)
        return 1;
    signed char c = (signed char)*t->at++;
    t->left--;
    return c == 127 ? 1LL << 40 : c == -128 ? -(1LL << 40) : c;
}

static void attribute(hid_t f, const char *name, int count, long long usual, struct tape *t)
{
    hsize_t n = (hsize_t)count;
    long long v[3];
    for (int i = 0; i < 3; i++) {
        long long c = take(t);
        v[i] = c == 0 ? usual : c;
    }
    hid_t space = count == 1 ? H5Screate(H5S_SCALAR) : H5Screate_simple(1, &n, NULL);
    hid_t a = H5Acreate2(f, name, H5T_NATIVE_LLONG, space, H5P_DEFAULT, H5P_DEFAULT);
    H5Awrite(a, H5T_NATIVE_LLONG, v);
    H5Aclose(a);
    H5Sclose(space);
}

static void set(hid_t f, const char *name, hid_t type, int rank, const hsize_t usual[4],
                struct tape *t)
{
    hsize_t dims[4], points = 1;
    unsigned char values[4096];
    for (int i = 0; i < rank; i++) {
        long long c = take(t);
        dims[i] = c <= 0 ? usual[i] : (hsize_t)(c % 9);
        points *= dims[i];
    }
    hid_t space = H5Screate_simple(rank, dims, NULL);
    hid_t d = H5Dcreate2(f, name, type, space, H5P_DEFAULT, H5P_DEFAULT, H5P_DEFAULT);
    for (size_t i = 0; i < sizeof values; i++)
        values[i] = t->left ? t->at[i % t->left] : 0;
    if (points * H5Tget_size(type) <= sizeof values)
        H5Dwrite(d, type, H5S_ALL, H5S_ALL, H5P_DEFAULT, values);
    H5Dclose(d);
    H5Sclose(space);
}

static void file_make(const char *path, struct tape *t)
{
    hid_t f = H5Fcreate(path, H5F_ACC_TRUNC, H5P_DEFAULT, H5P_DEFAULT), text = H5Tcopy(H5T_C_S1);
    hid_t scalar = H5Screate(H5S_SCALAR);
    H5Tset_size(text, 13);
    hid_t a = H5Acreate2(f, "schema", text, scalar, H5P_DEFAULT, H5P_DEFAULT);
    H5Awrite(a, text, "vdit-trace/1");
    H5Aclose(a);
    H5Sclose(scalar);
    H5Tclose(text);
    attribute(f, "token_grid", 3, 4, t);
    attribute(f, "query_group", 3, 2, t);
    attribute(f, "kv_block", 3, 2, t);
    attribute(f, "atom_grid", 3, 2, t);
    attribute(f, "heads", 1, 2, t);
    attribute(f, "layers", 1, 2, t);
    attribute(f, "atoms", 1, 8, t);
    attribute(f, "level", 1, 2, t);
    hid_t index = H5Tcreate(H5T_COMPOUND, 12);
    H5Tinsert(index, "step", 0, H5T_NATIVE_INT64);
    H5Tinsert(index, "layer", 8, H5T_NATIVE_INT32);
    set(f, "index", index, 1, (hsize_t[4]){2}, t);
    set(f, "keep", H5T_NATIVE_FLOAT, 2, (hsize_t[4]){2, 2}, t);
    set(f, "keep_q", H5T_NATIVE_FLOAT, 3, (hsize_t[4]){2, 2, 5}, t);
    set(f, "work", H5T_NATIVE_UINT64, 3, (hsize_t[4]){2, 2, 8}, t);
    set(f, "union", H5T_NATIVE_UINT8, 4, (hsize_t[4]){2, 2, 8, 1}, t);
    set(f, "mask", H5T_NATIVE_UINT8, 4, (hsize_t[4]){2, 2, 8, 1}, t);
    H5Tclose(index);
    H5Fclose(f);
}

int LLVMFuzzerTestOneInput(const unsigned char *data, size_t size)
{
    char path[64];
    struct err e = {0};
    struct tape t = {data, size};
    snprintf(path, sizeof path, "/tmp/shardwise-fuzz-%ld.h5", (long)getpid());
    H5Eset_auto2(H5E_DEFAULT, NULL, NULL);
    file_make(path, &t);
    if (trace_check(path, &e) != (e.code == ERR_NONE))
        abort();
    struct arena *a = arena_new();
    struct sparsity s;
    struct err again = {0};
    measured_sparsity(path, -1, 2, 2, LAYOUT_BRICKS, a, &s, &again);
    arena_free(a);
    unlink(path);
    return 0;
}
