/* Measured rows and their file (docs/formats.md). Apart from what measures them, so that who only
 * reads them links neither kernels nor messages. */
#ifndef VALIDATE_ROWS_H
#define VALIDATE_ROWS_H

#include <stdint.h>
#include <stdio.h>

#include "base/arena.h"
#include "base/err.h"

#define ROWS_SCHEMA "shardwise-measured/1"
#define ROWS_PLACE                                                                                 \
    "# cores: %d, ranks on them: %d, threads of a rank: %d" /* of rank 0's machine                 \
                                                             */
#define ROWS_CLOCK "# clock: "                              /* wall, or cpu: exec_case.cpu_clock */

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

/* What the lines before the rows say. */
struct rows_head {
    uint64_t signature; /* of the plan */
    int ranks;
    /* The machine of rank 0: its cores, the ranks on it, the threads of each; 0 where the file does
     * not say. More threads than cores take turns. */
    int cores, ranks_here, threads;
    bool cpu_clock;
    const char *plan; /* the plan's path as the run was given it; NULL if the file does not say */
};
bool rows_take_turns(const struct rows_head *h); /* and that shows: not by the CPU clock */

extern const char *const rows_pass_names[]; /* by enum cp_pass */
extern const char rows_columns[];           /* the line of column names, without its end */

void rows_write(FILE *out, const struct run_row *row);

/* Begins as such a file does; false for any other, also one that cannot be read. */
bool rows_is_file(const char *path);

/* Reads such a file; rows in file order. ERR_INPUT with line for what is not one. */
bool rows_read(const char *path, struct arena *a, struct run_result *r, struct rows_head *head,
               struct err *e);

#endif
