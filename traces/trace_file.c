#include "traces/trace_file.h"

#include <math.h>
#include <stddef.h>
#include <stdio.h>
#include <string.h>

const struct trace_set_law trace_set_laws[TRACE_SETS] = {
    [SET_INDEX] = {"/index", 0, H5T_COMPOUND, 1}, [SET_KEEP] = {"/keep", 0, H5T_FLOAT, 2},
    [SET_KEEP_Q] = {"/keep_q", 0, H5T_FLOAT, 3},  [SET_WORK] = {"/work", 1, H5T_INTEGER, 3},
    [SET_UNION] = {"/union", 1, H5T_INTEGER, 4},  [SET_MASK] = {"/mask", 2, H5T_INTEGER, 4},
};

void trace_set_dims(enum trace_set set, const struct trace_info *info, const struct tiling *t,
                    hsize_t dims[4])
{
    hsize_t heads = (hsize_t)info->heads, atoms = (hsize_t)info->atoms;
    hsize_t bytes = ((hsize_t)t->block.count + 7) / 8;
    const hsize_t all[TRACE_SETS][3] = {[SET_INDEX] = {0},
                                        [SET_KEEP] = {heads},
                                        [SET_KEEP_Q] = {heads, STATS_QUANTILES},
                                        [SET_WORK] = {heads, atoms},
                                        [SET_UNION] = {heads, atoms, bytes},
                                        [SET_MASK] = {heads, (hsize_t)t->group.count, bytes}};
    for (int i = 0; i < 3; i++)
        dims[i + 1] = all[set][i];
}

hid_t trace_index_type(void)
{
    hid_t type = H5Tcreate(H5T_COMPOUND, sizeof(struct trace_record));
    H5Tinsert(type, "step", offsetof(struct trace_record, step), H5T_NATIVE_INT64);
    H5Tinsert(type, "layer", offsetof(struct trace_record, layer), H5T_NATIVE_INT32);
    H5Tinsert(type, "batch", offsetof(struct trace_record, batch), H5T_NATIVE_INT32);
    H5Tinsert(type, "rank", offsetof(struct trace_record, rank), H5T_NATIVE_INT32);
    H5Tinsert(type, "level", offsetof(struct trace_record, level), H5T_NATIVE_INT32);
    H5Tinsert(type, "noise_t", offsetof(struct trace_record, noise_t), H5T_NATIVE_DOUBLE);
    return type;
}

static herr_t innermost(unsigned n, const H5E_error2_t *error, void *text)
{
    (void)n;
    snprintf((char *)text, 160, "%s", error->desc ? error->desc : "no reason given");
    return 0;
}

bool trace_h5_fail(struct err *e, enum err_code code, const char *path, const char *what)
{
    char reason[160] = "";
    H5Ewalk2(H5E_DEFAULT, H5E_WALK_DOWNWARD, innermost, reason);
    H5Eclear2(H5E_DEFAULT);
    return err_set(e, code, err_at_name(path), "%s%s%s", what, reason[0] ? ": " : "", reason);
}

/* ---- attributes ---- */

enum attr_kind { ATTR_TEXT, ATTR_INT, ATTR_REAL };
enum attr_rule { ATTR_NEEDED, ATTR_OPTIONAL };

static const struct attr {
    const char *name;
    enum attr_kind kind;
    enum attr_rule rule;
    int count;
    size_t offset;
    int64_t least, most;
} attrs[] = {
#define AT(field) offsetof(struct trace_info, field)
    {"model", ATTR_TEXT, ATTR_OPTIONAL, 1, AT(model), 0, 0},
    {"run_id", ATTR_TEXT, ATTR_OPTIONAL, 1, AT(run_id), 0, 0},
    {"created_by", ATTR_TEXT, ATTR_OPTIONAL, 1, AT(created_by), 0, 0},
    {"token_order", ATTR_TEXT, ATTR_OPTIONAL, 1, AT(token_order), 0, 0},
    {"method", ATTR_TEXT, ATTR_OPTIONAL, 1, AT(method), 0, 0},
    {"gpu", ATTR_TEXT, ATTR_OPTIONAL, 1, AT(gpu), 0, 0},
    {"token_grid", ATTR_INT, ATTR_NEEDED, 3, AT(grid), 1, INT32_MAX},
    {"patch", ATTR_INT, ATTR_OPTIONAL, 3, AT(patch), 1, 1024},
    {"query_group", ATTR_INT, ATTR_NEEDED, 3, AT(query_group), 1, INT32_MAX},
    {"kv_block", ATTR_INT, ATTR_NEEDED, 3, AT(kv_block), 1, INT32_MAX},
    {"atom_grid", ATTR_INT, ATTR_NEEDED, 3, AT(atom_grid), 1, TRACE_ATOMS_MOST},
    {"text_tokens", ATTR_INT, ATTR_OPTIONAL, 1, AT(text_tokens), 0, INT32_MAX},
    {"heads", ATTR_INT, ATTR_NEEDED, 1, AT(heads), 1, TRACE_HEADS_MOST},
    {"layers", ATTR_INT, ATTR_NEEDED, 1, AT(layers), 1, TRACE_LAYERS_MOST},
    {"atoms", ATTR_INT, ATTR_NEEDED, 1, AT(atoms), 1, TRACE_ATOMS_MOST},
    {"level", ATTR_INT, ATTR_NEEDED, 1, AT(level), 0, TRACE_LEVELS - 1},
    {"seed", ATTR_INT, ATTR_OPTIONAL, 1, AT(seed), INT64_MIN, INT64_MAX},
    {"proxies", ATTR_INT, ATTR_OPTIONAL, 1, AT(proxies), 0, INT32_MAX},
    {"mass_threshold", ATTR_REAL, ATTR_OPTIONAL, 1, AT(mass_threshold), 0, 1},
#undef AT
};
enum { ATTRS = sizeof attrs / sizeof attrs[0] };

struct trace_info trace_info_default(void)
{
    return (struct trace_info){.token_order = "thw",
                               .created_by = "shardwise",
                               .method = "dense",
                               .grid = {1, 1, 1},
                               .patch = {1, 1, 1},
                               .query_group = {1, 1, 1},
                               .kv_block = {1, 1, 1},
                               .atom_grid = {1, 1, 1},
                               .heads = 1,
                               .layers = 1,
                               .atoms = 1};
}

static bool text_write(hid_t file, const char *name, const char *text)
{
    hid_t type = H5Tcopy(H5T_C_S1), space = H5Screate(H5S_SCALAR);
    H5Tset_size(type, strlen(text) + 1);
    hid_t attr = H5Acreate2(file, name, type, space, H5P_DEFAULT, H5P_DEFAULT);
    bool ok = attr >= 0 && H5Awrite(attr, type, text) >= 0;
    H5Aclose(attr);
    H5Sclose(space);
    H5Tclose(type);
    return ok;
}

static bool numbers_write(hid_t file, const struct attr *a, const void *values)
{
    hsize_t count = (hsize_t)a->count;
    hid_t space = a->count == 1 ? H5Screate(H5S_SCALAR) : H5Screate_simple(1, &count, NULL);
    hid_t to = a->kind == ATTR_INT ? H5T_STD_I64LE : H5T_IEEE_F64LE;
    hid_t from = a->kind == ATTR_INT ? H5T_NATIVE_INT64 : H5T_NATIVE_DOUBLE;
    hid_t attr = H5Acreate2(file, a->name, to, space, H5P_DEFAULT, H5P_DEFAULT);
    bool ok = attr >= 0 && H5Awrite(attr, from, values) >= 0;
    H5Aclose(attr);
    H5Sclose(space);
    return ok;
}

bool trace_attrs_write(hid_t file, const struct trace_info *info, const char *path, struct err *e)
{
    bool ok = text_write(file, "schema", TRACE_SCHEMA);
    for (int i = 0; i < ATTRS && ok; i++) {
        const char *at = (const char *)info + attrs[i].offset;
        ok = attrs[i].kind == ATTR_TEXT ? text_write(file, attrs[i].name, at)
                                        : numbers_write(file, &attrs[i], at);
    }
    return ok || trace_h5_fail(e, ERR_SYSTEM, path, "cannot write attributes");
}

/* A text attribute, fixed or variable length; cut to TRACE_TEXT - 1 bytes. */
static bool text_read(hid_t attr, char out[TRACE_TEXT])
{
    hid_t type = H5Aget_type(attr), space = H5Aget_space(attr);
    bool ok = H5Tget_class(type) == H5T_STRING && H5Sget_simple_extent_npoints(space) == 1;
    size_t size = ok ? H5Tget_size(type) : 0;
    if (ok && H5Tis_variable_str(type) > 0) {
        char *text = NULL;
        ok = H5Aread(attr, type, &text) >= 0;
        if (ok && text)
            snprintf(out, TRACE_TEXT, "%s", text);
        if (ok)
            H5Dvlen_reclaim(type, space, H5P_DEFAULT, &text);
    } else if (ok && size <= 4096) {
        char text[4097] = "";
        ok = H5Aread(attr, type, text) >= 0;
        memcpy(out, text, TRACE_TEXT - 1);
        out[TRACE_TEXT - 1] = '\0';
    } else {
        ok = false;
    }
    H5Sclose(space);
    H5Tclose(type);
    return ok;
}

static bool numbers_read(hid_t attr, const struct attr *a, void *out)
{
    hid_t type = H5Aget_type(attr), space = H5Aget_space(attr);
    H5T_class_t class = H5Tget_class(type);
    bool ok = H5Sget_simple_extent_npoints(space) == a->count &&
              (class == H5T_INTEGER || (class == H5T_FLOAT && a->kind == ATTR_REAL));
    ok = ok && H5Aread(attr, a->kind == ATTR_INT ? H5T_NATIVE_INT64 : H5T_NATIVE_DOUBLE, out) >= 0;
    H5Sclose(space);
    H5Tclose(type);
    return ok;
}

static bool attr_range(const struct attr *a, const void *at, const char *path, struct err *e)
{
    const int64_t *whole = at;
    const double *real = at;
    for (int i = 0; i < a->count; i++) {
        if (a->kind == ATTR_INT && (whole[i] < a->least || whole[i] > a->most))
            return err_set(e, ERR_INPUT, err_at_name(path), "attribute %s: %lld: want %lld to %lld",
                           a->name, (long long)whole[i], (long long)a->least, (long long)a->most);
        if (a->kind == ATTR_REAL && !(real[i] >= (double)a->least && real[i] <= (double)a->most))
            return err_set(e, ERR_INPUT, err_at_name(path), "attribute %s: %g: want %lld to %lld",
                           a->name, real[i], (long long)a->least, (long long)a->most);
    }
    return true;
}

static bool attr_read(hid_t file, const struct attr *a, const char *path, void *out, struct err *e)
{
    if (H5Aexists(file, a->name) <= 0)
        return a->rule == ATTR_OPTIONAL ||
               err_set(e, ERR_INPUT, err_at_name(path), "attribute %s is missing; a %s file has it",
                       a->name, TRACE_SCHEMA);
    hid_t attr = H5Aopen(file, a->name, H5P_DEFAULT);
    bool ok =
        attr >= 0 && (a->kind == ATTR_TEXT ? text_read(attr, out) : numbers_read(attr, a, out));
    H5Aclose(attr);
    if (!ok)
        return err_set(e, ERR_INPUT, err_at_name(path), "attribute %s: want %d %s", a->name,
                       a->count,
                       a->kind == ATTR_TEXT  ? "text"
                       : a->kind == ATTR_INT ? "whole number(s)"
                                             : "number(s)");
    return a->kind == ATTR_TEXT || attr_range(a, out, path, e);
}

bool trace_attrs_read(hid_t file, const char *path, struct trace_info *info, struct err *e)
{
    char schema[TRACE_TEXT] = "";
    const struct attr law = {"schema", ATTR_TEXT, ATTR_OPTIONAL, 1, 0, 0, 0};
    if (!attr_read(file, &law, path, schema, e))
        return false;
    if (strcmp(schema, TRACE_SCHEMA) != 0)
        return err_set(e, ERR_INPUT, err_at_name(path),
                       "an HDF5 file, but no trace: attribute schema is '%s', want '%s'", schema,
                       TRACE_SCHEMA);
    *info = trace_info_default();
    for (int i = 0; i < ATTRS; i++)
        if (!attr_read(file, &attrs[i], path, (char *)info + attrs[i].offset, e))
            return false;
    return true;
}

bool trace_tiling(const struct trace_info *info, const char *path, struct arena *a,
                  struct tiling *t, struct atoms *atoms, struct err *e)
{
    int group[3], block[3], axis[3];
    for (int i = 0; i < 3; i++) {
        group[i] = (int)info->query_group[i];
        block[i] = (int)info->kv_block[i];
        axis[i] = (int)info->atom_grid[i];
    }
    struct grid grid = {(int)info->grid[0], (int)info->grid[1], (int)info->grid[2]};
    if (!tiling_make(grid, group, block, a, t, e) || !atoms_make_axis(t, axis, a, atoms, e)) {
        err_prefix(e, "%s", path);
        return false;
    }
    if (atoms->count != info->atoms)
        return err_set(e, ERR_INPUT, err_at_name(path),
                       "attribute atoms: %lld, but atom_grid %dx%dx%d makes %d",
                       (long long)info->atoms, axis[0], axis[1], axis[2], atoms->count);
    return true;
}
