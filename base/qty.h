/* Numbers with units, in and out. Inside the program everything is SI (bytes, seconds, bytes/s,
 * FLOP/s); only this module converts. Decimal prefixes k M G T P E mean powers of 1000, Ki Mi Gi Ti
 * Pi powers of 1024; "b" is a bit and "B" a byte ("400 Gb/s" = 50e9 bytes/s). The decimal sign is a
 * point in every locale. */
#ifndef BASE_QTY_H
#define BASE_QTY_H

#include <stddef.h>
#include <stdint.h>

#include "base/err.h"

enum qty_dim {
    QTY_NUMBER,      /* 0.25, 1e6, 520k: no unit, prefixes allowed */
    QTY_RATIO,       /* 0.9 or 90% */
    QTY_BYTES,       /* 64 GiB, 80 GB, 4096 B */
    QTY_BYTES_PER_S, /* 450 GB/s, 400 Gb/s */
    QTY_SECONDS,     /* 5 us, 12.5 ms, 3 s, 2 min, 1 h */
    QTY_FLOP,        /* 53.5 PFLOP */
    QTY_FLOP_PER_S,  /* 989 TFLOP/s */
    QTY_DIMS
};

/* Reads all of `text`. A bare number is refused where a unit is needed (QTY_BYTES and below), so
 * are NaN, infinities, negative values and trailing text: ERR_INPUT at `at`, `what` names the
 * quantity in the message and the message says what was expected ("'450 GB' is a size, want a rate
 * such as '450 GB/s'"). */
bool qty_parse(const char *text, enum qty_dim dim, const char *what, struct err_at at, double *si,
               struct err *e);

/* A whole number from `least` to `most`; takes "520k" when it is exact. */
bool qty_parse_int(const char *text, int64_t least, int64_t most, const char *what,
                   struct err_at at, int64_t *value, struct err *e);

/* Four significant digits and a readable prefix: "1.220 ms", "26.21 GB", "52.40%", "520.0k". Whole
 * numbers and bytes below 1000 are written without a fraction: "64", "512 B". Returns `text`. */
const char *qty_text(double si, enum qty_dim dim, char *text, size_t size);

/* The fewest of 15 to 17 digits that read back as the same double, for files: "0.1", "1e+20",
 * "nan", "inf". Returns `text`. */
const char *qty_exact(double value, char *text, size_t size);

/* A spare buffer of the right size for a call in an argument list: qty_text(x, QTY_SECONDS,
 * QTY_BUF). */
#define QTY_BUF ((char[32]){0}), 32

#endif
