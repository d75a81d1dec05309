/* PTX out of what nvcc puts into an object (--no-compress). The layout of a fat binary is not
 * documented; this is what nvcc 11 to 13 write: after a header of 16 bytes (magic, version, its
 * size, bytes that follow) entries of a header (kind: 1 PTX, 2 machine code; its size; bytes of the
 * payload) and a payload each. */
#ifndef TESTS_PTX_FATBIN_H
#define TESTS_PTX_FATBIN_H

#include "base/err.h"

#include <stddef.h>

#ifdef __cplusplus
extern "C" {
#endif

/* What __cudaRegisterFatBinary is given. */
struct fatbin {
    int magic, version;
    const void *data;
    const void *more;
};

/* The PTX that a device of compute capability sm / 10 would take: of the highest target up to its
 * own; a target with an "a" fits that device alone. The text stays where it is. `target` gets
 * "sm_90a". False: there is none (ERR_DEVICE), or this is no fat binary (ERR_INPUT). */
bool fatbin_ptx(const struct fatbin *f, int sm, const char **text, size_t *bytes, char target[16],
                struct err *e);

/* Registers of a thread of `kernel` for `target` in what `ptxas -v` said, 0 if it is not there. */
int fatbin_registers(const char *report, const char *kernel, const char *target);

#ifdef __cplusplus
}
#endif
#endif
