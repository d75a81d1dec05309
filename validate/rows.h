/* Measured rows and their file (docs/formats.md). Apart from what measures them, so that who only
 * reads them links neither kernels nor messages. */
#ifndef VALIDATE_ROWS_H
#define VALIDATE_ROWS_H

#include <stdint.h>
#include <stdio.h>

#include "base/arena.h"
#include "base/err.h"

#define ROWS_SCHEMA "shardwise-measured/1"

/* One phase of one rank in one repeat, as the file has it. */
struct run_row {
    int block, repeat, rank, pass, cost;
    char phase[44];
    double seconds, wait_s, sent, received, work;
};

struct run_result {
    int row_count;
    const struct run_row *rows; /* by block, repeat, rank, order of the phases */
    int blocks;
    const double
        *union_share; /* [blocks] mean over ranks of what the selections touch; 1 if dense */
    bool verified;
    double far_o, far_gradient; /* worst over ranks and blocks; 0 if not verified */
};

extern const char *const rows_pass_names[]; /* by enum cp_pass */
extern const char rows_columns[];           /* the line of column names, without its end */

void rows_write(FILE *out, const struct run_row *row);

/* Reads such a file; rows in file order. ERR_INPUT with line for what is not one. */
bool rows_read(const char *path, struct arena *a, struct run_result *r, uint64_t *signature,
               int *ranks, struct err *e);

#endif
