#include "traces/array.h"

#include <errno.h>
#include <fcntl.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>
#include <zlib.h>

#include "base/cfg.h"

static const struct type_law {
    const char *numpy, *safetensors;
    size_t bytes;
} types[ARRAY_TYPES] = {[ARRAY_BOOL] = {"|b1", "BOOL", 1}, [ARRAY_U8] = {"|u1", "U8", 1},
                        [ARRAY_I8] = {"|i1", "I8", 1},     [ARRAY_U16] = {"<u2", "U16", 2},
                        [ARRAY_I16] = {"<i2", "I16", 2},   [ARRAY_U32] = {"<u4", "U32", 4},
                        [ARRAY_I32] = {"<i4", "I32", 4},   [ARRAY_U64] = {"<u8", "U64", 8},
                        [ARRAY_I64] = {"<i8", "I64", 8},   [ARRAY_F16] = {"<f2", "F16", 2},
                        [ARRAY_BF16] = {"", "BF16", 2},    [ARRAY_F32] = {"<f4", "F32", 4},
                        [ARRAY_F64] = {"<f8", "F64", 8}};

struct member { /* an array that was found, not yet looked into */
    char name[ARRAY_NAME];
    const unsigned char *data;
    size_t bytes, unpacked;
    bool deflated;
    struct array array; /* when parsed */
    bool parsed;
};

struct array_file {
    const char *path;
    struct arena *arena;
    void *map; /* NULL when the bytes are the caller's */
    size_t map_bytes;
    struct member *members;
    int count;
    void **unpacked; /* [count], freed at close */
};

size_t array_type_bytes(enum array_type type)
{
    return types[type].bytes;
}

bool array_type_is_float(enum array_type type)
{
    return type >= ARRAY_F16;
}

static uint64_t little(const unsigned char *p, int bytes)
{
    uint64_t v = 0;
    for (int i = bytes - 1; i >= 0; i--)
        v = v << 8 | p[i];
    return v;
}

/* ---- shapes ---- */

/* Checks dims against the bytes that are there, and fills strides. */
static bool array_shape(struct array *a, bool fortran, size_t bytes, const char *path,
                        struct err *e)
{
    int64_t elements = 1, most = (int64_t)(bytes / types[a->type].bytes);
    for (int i = 0; i < a->rank; i++)
        if (a->dims[i] == 0) /* nothing to read; who wants the array says what it lacks */
            return true;
    for (int i = 0; i < a->rank; i++) {
        int k = fortran ? i : a->rank - 1 - i;
        a->strides[k] = elements;
        if (a->dims[k] < 0 || elements > most / a->dims[k])
            return err_set(e, ERR_INPUT, err_at_name(path),
                           "array '%s': its shape needs more than the %zu bytes there are", a->name,
                           bytes);
        elements *= a->dims[k];
    }
    return elements <= most ||
           err_set(e, ERR_INPUT, err_at_name(path),
                   "array '%s': its shape needs more than the %zu bytes there are", a->name, bytes);
}

/* ---- .npy ---- */

static const char *after(const char *text, const char *key)
{
    const char *at = strstr(text, key);
    return at ? at + strlen(key) : NULL;
}

/* "(2, 3, )": a Python tuple of whole numbers. */
static bool npy_tuple(const char *text, struct array *a)
{
    a->rank = 0;
    for (text += strspn(text, " ("); *text && *text != ')'; text += strspn(text, ", ")) {
        char *end;
        errno = 0;
        long long v = strtoll(text, &end, 10);
        if (end == text || errno || v < 0 || a->rank == ARRAY_RANK)
            return false;
        a->dims[a->rank++] = v;
        text = end;
    }
    return *text == ')';
}

static bool npy_type(const char *text, enum array_type *type)
{
    text += strspn(text, " ");
    if (*text != '\'' && *text != '"')
        return false;
    for (int i = 0; i < ARRAY_TYPES; i++) {
        size_t n = strlen(types[i].numpy);
        if (n > 0 && strncmp(text + 1, types[i].numpy, n) == 0 && text[n + 1] == *text) {
            *type = (enum array_type)i;
            return true;
        }
    }
    return false;
}

static bool npy_parse(const char *path, const char *name, const unsigned char *bytes, size_t length,
                      struct array *out, struct err *e)
{
    struct array a = {0};
    char header[4097];
    struct err_at at = err_at_name(path);
    snprintf(a.name, sizeof a.name, "%s", name);
    if (length < 12 || memcmp(bytes, "\x93NUMPY", 6) != 0 || bytes[6] < 1 || bytes[6] > 3)
        return err_set(e, ERR_INPUT, at, "array '%s': not in numpy's .npy format, version 1 to 3",
                       name);
    size_t start = bytes[6] == 1 ? 10 : 12, n = (size_t)little(bytes + 8, bytes[6] == 1 ? 2 : 4);
    if (n >= sizeof header || n > length - start)
        return err_set(e, ERR_INPUT, at,
                       "array '%s': a header of %zu bytes; want one within the file, below 4096",
                       name, n);
    memcpy(header, bytes + start, n);
    header[n] = '\0';
    const char *descr = after(header, "'descr':"), *order = after(header, "'fortran_order':"),
               *shape = after(header, "'shape':");
    if (!descr || !order || !shape || !npy_tuple(shape, &a))
        return err_set(e, ERR_INPUT, at,
                       "array '%s': its header has no descr, fortran_order and shape", name);
    if (!npy_type(descr, &a.type))
        return err_set(e, ERR_INPUT, at,
                       "array '%s': type%.*s: want little-endian bool, integers or floats "
                       "(objects are refused)",
                       name, (int)strcspn(descr, ",}"), descr);
    a.data = bytes + start + n;
    if (!array_shape(&a, order[strspn(order, " ")] == 'T', length - start - n, path, e))
        return false;
    *out = a;
    return true;
}

/* ---- .npz: a zip of .npy members ---- */

enum { ZIP_END = 22, ZIP_ENTRY = 46, ZIP_LOCAL = 30 };

/* The end-of-directory record, searched backwards over a comment of at most 64 KiB. */
static const unsigned char *zip_end(const unsigned char *bytes, size_t length)
{
    for (size_t back = ZIP_END; back <= length && back <= 65535 + ZIP_END; back++)
        if (memcmp(bytes + length - back, "PK\5\6", 4) == 0)
            return bytes + length - back;
    return NULL;
}

/* numpy writes zip64 extra fields even for small members: sizes of all ones are looked up there. */
static uint64_t zip64_size(const unsigned char *extra, size_t n, int which, uint64_t size)
{
    if (size != 0xffffffffu)
        return size;
    for (size_t i = 0; i + 4 <= n;) {
        size_t field = (size_t)little(extra + i + 2, 2);
        if (little(extra + i, 2) == 1 && field >= (size_t)(which + 1) * 8 && i + 4 + field <= n)
            return little(extra + i + 4 + which * 8, 8);
        i += 4 + field;
    }
    return size;
}

static bool zip_member(struct array_file *f, const unsigned char *bytes, size_t length,
                       const unsigned char *entry, size_t room, size_t *used, struct err *e)
{
    struct err_at at = err_at_name(f->path);
    if (room < ZIP_ENTRY || memcmp(entry, "PK\1\2", 4) != 0)
        return err_set(e, ERR_INPUT, at, "damaged zip directory");
    size_t name = (size_t)little(entry + 28, 2), extra = (size_t)little(entry + 30, 2),
           comment = (size_t)little(entry + 32, 2);
    *used = ZIP_ENTRY + name + extra + comment;
    if (*used > room)
        return err_set(e, ERR_INPUT, at, "damaged zip directory");
    struct member m = {.deflated = little(entry + 10, 2) == 8};
    const unsigned char *more = entry + ZIP_ENTRY + name;
    uint64_t unpacked = zip64_size(more, extra, 0, little(entry + 24, 4));
    uint64_t packed = zip64_size(more, extra, 1, little(entry + 20, 4)),
             start = little(entry + 42, 4);
    size_t shown =
        name > 4 && memcmp(entry + ZIP_ENTRY + name - 4, ".npy", 4) == 0 ? name - 4 : name;
    snprintf(m.name, sizeof m.name, "%.*s", (int)shown, (const char *)entry + ZIP_ENTRY);
    if (little(entry + 10, 2) != 0 && !m.deflated)
        return err_set(e, ERR_INPUT, at, "member '%s': compression %d; want stored or deflated",
                       m.name, (int)little(entry + 10, 2));
    if (start + ZIP_LOCAL > length || memcmp(bytes + start, "PK\3\4", 4) != 0)
        return err_set(e, ERR_INPUT, at, "member '%s': starts past the end of the file", m.name);
    uint64_t data =
        start + ZIP_LOCAL + little(bytes + start + 26, 2) + little(bytes + start + 28, 2);
    if (data > length || packed > length - data || unpacked > packed * 1100 + 64 ||
        (!m.deflated && unpacked != packed))
        return err_set(e, ERR_INPUT, at,
                       "member '%s': claims %llu bytes (%llu packed) of a file of %zu", m.name,
                       (unsigned long long)unpacked, (unsigned long long)packed, length);
    m.data = bytes + data;
    m.bytes = (size_t)packed;
    m.unpacked = (size_t)unpacked;
    f->members[f->count++] = m;
    return true;
}

static bool zip_parse(struct array_file *f, const unsigned char *bytes, size_t length,
                      struct err *e)
{
    const unsigned char *end = zip_end(bytes, length);
    if (!end)
        return err_set(e, ERR_INPUT, err_at_name(f->path),
                       "truncated .npz: no zip directory at its end");
    size_t entries = (size_t)little(end + 10, 2), start = (size_t)little(end + 16, 4);
    if (start > (size_t)(end - bytes))
        return err_set(e, ERR_INPUT, err_at_name(f->path), "damaged zip directory");
    f->members = ARENA_ARRAY(f->arena, struct member, entries + 1);
    for (size_t i = 0, at = start; i < entries; i++) {
        size_t used;
        if (!zip_member(f, bytes, length, bytes + at, (size_t)(end - bytes) - at, &used, e))
            return false;
        at += used;
    }
    return true;
}

static bool member_inflate(struct array_file *f, int i, struct err *e)
{
    struct member *m = &f->members[i];
    z_stream z = {.next_in = (unsigned char *)(uintptr_t)m->data};
    f->unpacked[i] = malloc(m->unpacked + 1);
    if (!f->unpacked[i] || m->bytes > UINT32_MAX || m->unpacked > UINT32_MAX ||
        inflateInit2(&z, -15) != Z_OK)
        return err_set(e, ERR_INPUT, err_at_name(f->path), "member '%s': cannot unpack %zu bytes",
                       m->name, m->unpacked);
    z.avail_in = (unsigned)m->bytes;
    z.next_out = f->unpacked[i];
    z.avail_out = (unsigned)m->unpacked;
    int status = inflate(&z, Z_FINISH);
    bool whole = status == Z_STREAM_END && z.avail_out == 0;
    inflateEnd(&z);
    if (!whole)
        return err_set(e, ERR_INPUT, err_at_name(f->path),
                       "member '%s': damaged: unpacks to another length", m->name);
    m->data = f->unpacked[i];
    m->bytes = m->unpacked;
    m->deflated = false;
    return true;
}

/* ---- safetensors: length, JSON, data ---- */

static bool tensor_dims(const struct cfg *shape, struct array *a, struct err *e)
{
    if (!shape)
        return false;
    if (shape->kind != CFG_LIST || shape->count > ARRAY_RANK)
        return err_set(e, ERR_INPUT, shape->at, "shape of '%s': want a list of at most %d numbers",
                       a->name, ARRAY_RANK);
    a->rank = shape->count;
    for (int i = 0; i < shape->count; i++)
        if (shape->items[i]->kind != CFG_TEXT ||
            !qty_parse_int(shape->items[i]->text, 0, INT64_MAX / 2, "shape", shape->items[i]->at,
                           &a->dims[i], e))
            return err_set(e, ERR_INPUT, shape->at, "shape of '%s': want whole numbers", a->name);
    return true;
}

static bool tensor_parse(struct array_file *f, const char *name, const struct cfg *c,
                         const unsigned char *data, size_t length, struct err *e)
{
    struct member m = {.parsed = true};
    const char *dtype;
    int64_t from, to;
    snprintf(m.name, sizeof m.name, "%s", name);
    snprintf(m.array.name, sizeof m.array.name, "%s", name);
    const struct cfg *at = cfg_need(c, "data_offsets", e);
    if (!at || !cfg_text(c, "dtype", &dtype, e) ||
        !tensor_dims(cfg_need(c, "shape", e), &m.array, e))
        return false;
    int type = 0;
    while (type < ARRAY_TYPES && strcmp(types[type].safetensors, dtype) != 0)
        type++;
    if (type == ARRAY_TYPES)
        return true; /* fp8 and the like: no mask or keep, skipped */
    if (at->kind != CFG_LIST || at->count != 2 || at->items[0]->kind != CFG_TEXT ||
        at->items[1]->kind != CFG_TEXT)
        return err_set(e, ERR_INPUT, at->at, "data_offsets of '%s': want two numbers", name);
    if (!qty_parse_int(at->items[0]->text, 0, (int64_t)length, "data_offsets", at->at, &from, e) ||
        !qty_parse_int(at->items[1]->text, from, (int64_t)length, "data_offsets", at->at, &to, e))
        return false;
    m.array.type = (enum array_type)type;
    m.array.data = data + from;
    if (!array_shape(&m.array, false, (size_t)(to - from), f->path, e))
        return false;
    f->members[f->count++] = m;
    return true;
}

static bool tensors_parse(struct array_file *f, const unsigned char *bytes, size_t length,
                          struct err *e)
{
    uint64_t header = little(bytes, 8);
    if (header > length - 8 || header > CFG_FILE_LIMIT)
        return err_set(e, ERR_INPUT, err_at_name(f->path),
                       "a safetensors header of %llu bytes in a file of %zu",
                       (unsigned long long)header, length);
    struct cfg *root = cfg_read_text(f->path, (const char *)bytes + 8, (size_t)header, f->arena, e);
    if (!root)
        return false;
    if (root->kind != CFG_MAP || root->count > ARRAY_COUNT)
        return err_set(e, ERR_INPUT, root->at, "want a map of at most %d tensors", ARRAY_COUNT);
    f->members = ARENA_ARRAY(f->arena, struct member, root->count + 1);
    for (int i = 0; i < root->count; i++)
        if (strcmp(root->keys[i], "__metadata__") != 0 &&
            !tensor_parse(f, root->keys[i], root->items[i], bytes + 8 + header,
                          length - 8 - (size_t)header, e))
            return false;
    return true;
}

/* ---- files ---- */

enum format { FORMAT_NONE, FORMAT_NPY, FORMAT_ZIP, FORMAT_TENSORS };

static enum format format_of(const unsigned char *bytes, size_t length)
{
    if (length >= 6 && memcmp(bytes, "\x93NUMPY", 6) == 0)
        return FORMAT_NPY;
    if (length >= 4 && memcmp(bytes, "PK\3\4", 4) == 0)
        return FORMAT_ZIP;
    if (length >= 10 && bytes[8] == '{' && little(bytes, 8) <= CFG_FILE_LIMIT)
        return FORMAT_TENSORS;
    return FORMAT_NONE;
}

bool array_known(const unsigned char *bytes, size_t length)
{
    return format_of(bytes, length) != FORMAT_NONE;
}

/* The one array of a .npy is called as the file is: keep.npy holds keep. */
static bool npy_member(struct array_file *f, const unsigned char *bytes, size_t length)
{
    const char *slash = strrchr(f->path, '/'), *name = slash ? slash + 1 : f->path;
    f->members = ARENA_ARRAY(f->arena, struct member, 1);
    f->members[0] = (struct member){.data = bytes, .bytes = length, .unpacked = length};
    snprintf(f->members[0].name, sizeof f->members[0].name, "%.*s", (int)strcspn(name, "."), name);
    f->count = 1;
    return true;
}

struct array_file *array_parse(const char *name, const unsigned char *bytes, size_t length,
                               struct err *e)
{
    struct array_file *f = calloc(1, sizeof *f);
    if (!f)
        abort();
    f->arena = arena_new();
    f->path = arena_strdup(f->arena, name);
    enum format format = format_of(bytes, length);
    bool ok = format == FORMAT_NPY   ? npy_member(f, bytes, length)
              : format == FORMAT_ZIP ? zip_parse(f, bytes, length, e)
              : format == FORMAT_TENSORS
                  ? tensors_parse(f, bytes, length, e)
                  : err_set(e, ERR_INPUT, err_at_name(name),
                            "neither .npy, .npz nor safetensors by its first bytes");
    f->unpacked = ARENA_ARRAY(f->arena, void *, f->count + 1);
    if (ok)
        return f;
    array_close(f);
    return NULL;
}

struct array_file *array_open(const char *path, struct err *e)
{
    struct stat st;
    int fd = open(path, O_RDONLY);
    if (fd < 0) {
        err_open(e, err_at_name(path));
        return NULL;
    }
    if (fstat(fd, &st) != 0 || !S_ISREG(st.st_mode) || st.st_size == 0) {
        err_set(e, ERR_INPUT, err_at_name(path), "not a file with data");
        close(fd);
        return NULL;
    }
    void *map = mmap(NULL, (size_t)st.st_size, PROT_READ, MAP_PRIVATE, fd, 0);
    close(fd);
    if (map == MAP_FAILED) {
        err_set(e, ERR_SYSTEM, err_at_name(path), "cannot map: %s", strerror(errno));
        return NULL;
    }
    struct array_file *f = array_parse(path, map, (size_t)st.st_size, e);
    if (!f) {
        munmap(map, (size_t)st.st_size);
        return NULL;
    }
    f->map = map;
    f->map_bytes = (size_t)st.st_size;
    return f;
}

void array_close(struct array_file *f)
{
    if (!f)
        return;
    for (int i = 0; i < f->count && f->unpacked; i++)
        free(f->unpacked[i]);
    if (f->map)
        munmap(f->map, f->map_bytes);
    arena_free(f->arena);
    free(f);
}

int array_count(const struct array_file *f)
{
    return f->count;
}

bool array_get(struct array_file *f, int i, struct array *out, struct err *e)
{
    struct member *m = &f->members[i];
    if (!m->parsed) {
        if (m->deflated && !member_inflate(f, i, e))
            return false;
        if (!npy_parse(f->path, m->name, m->data, m->bytes, &m->array, e))
            return false;
        m->parsed = true;
    }
    *out = m->array;
    return true;
}

int64_t array_elements(const struct array *a)
{
    int64_t n = 1;
    for (int i = 0; i < a->rank; i++)
        n *= a->dims[i];
    return n;
}

/* ---- values ---- */

static double half_value(uint16_t h)
{
    int exponent = h >> 10 & 31, fraction = h & 1023;
    double v = exponent == 31 ? (fraction ? NAN : INFINITY)
               : exponent     ? ldexp(1024 + fraction, exponent - 25)
                              : ldexp(fraction, -24);
    return h >> 15 ? -v : v;
}

static double float_value(uint32_t bits)
{
    float f;
    memcpy(&f, &bits, sizeof f);
    return f;
}

static double double_value(uint64_t bits)
{
    double d;
    memcpy(&d, &bits, sizeof d);
    return d;
}

double array_value(const struct array *a, int64_t offset)
{
    int bytes = (int)types[a->type].bytes;
    uint64_t v = little(a->data + offset * bytes, bytes);
    switch (a->type) {
    case ARRAY_I8:
        return (int8_t)v;
    case ARRAY_I16:
        return (int16_t)v;
    case ARRAY_I32:
        return (int32_t)v;
    case ARRAY_I64:
        return (double)(int64_t)v;
    case ARRAY_F16:
        return half_value((uint16_t)v);
    case ARRAY_BF16:
        return float_value((uint32_t)v << 16);
    case ARRAY_F32:
        return float_value((uint32_t)v);
    case ARRAY_F64:
        return double_value(v);
    default:
        return (double)v;
    }
}
