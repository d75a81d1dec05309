/* Arrays from numpy (.npy, .npz) and safetensors files, read in place. Nothing in a file is believed before it was
 * checked against the file's length. Pickles are refused: they run code on load. */
#ifndef TRACES_ARRAY_H
#define TRACES_ARRAY_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/arena.h"
#include "base/err.h"

enum { ARRAY_RANK = 8, ARRAY_NAME = 128, ARRAY_COUNT = 65536 };

enum array_type {
    ARRAY_BOOL,
    ARRAY_U8,
    ARRAY_I8,
    ARRAY_U16,
    ARRAY_I16,
    ARRAY_U32,
    ARRAY_I32,
    ARRAY_U64,
    ARRAY_I64,
    ARRAY_F16,
    ARRAY_BF16,
    ARRAY_F32,
    ARRAY_F64,
    ARRAY_TYPES
};
size_t array_type_bytes(enum array_type type);
bool array_type_is_float(enum array_type type);

struct array {
    char name[ARRAY_NAME];
    enum array_type type;
    int rank;
    int64_t dims[ARRAY_RANK];
    int64_t strides[ARRAY_RANK]; /* in elements */
    const unsigned char *data;   /* little-endian */
};

struct array_file;

/* Recognises the format by the first bytes. NULL on error. */
struct array_file *array_open(const char *path, struct err *e);

/* The same from memory, which must outlive the result. */
struct array_file *array_parse(const char *name, const unsigned char *bytes, size_t length,
                               struct err *e);
void array_close(struct array_file *f); /* accepts NULL */

/* Is this one of the formats, by its first bytes? */
bool array_known(const unsigned char *bytes, size_t length);

int array_count(const struct array_file *f);

/* The i-th array; unpacks an .npz member on first use (its data live as long as the file). */
bool array_get(struct array_file *f, int i, struct array *out, struct err *e);

int64_t array_elements(const struct array *a);
double array_value(const struct array *a,
                   int64_t offset); /* offset in elements: sum of index * stride */

#endif
