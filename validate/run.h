/* Runs the blocks of a plan and keeps what was measured: one row per block, repeat, rank and phase
 * (validate/rows.h). */
#ifndef VALIDATE_RUN_H
#define VALIDATE_RUN_H

#include <stdio.h>

#include "base/arena.h"
#include "model/plan.h"
#include "validate/exec.h"
#include "validate/rows.h"

struct run_options {
    const struct kern_backend *backend;
    const struct comm_backend *comm;
    double timeout_s; /* of one exchange */
    int warmup, repeats;
    uint64_t seed;
    bool verify;
    bool cpu_clock; /* exec_case */
    int block_count;
    const int *blocks;  /* of the plan, ascending */
    const char **phase; /* not NULL: where rank 0 of this process says what it does now */
};

/* The case of one block of the plan. */
struct exec_case run_case(const struct plan *p, int block, uint64_t seed);

/* Writes each repeat's rows to `out` (not closed; NULL for none) as soon as they are there,
 * flushed, so that a run that ends early keeps them. Results live in `a` on rank 0; other processes
 * get none (row_count 0, *root false). A failed verification is ERR_TOLERANCE. */
bool run_plan(const struct plan *p, const struct run_options *o, FILE *out, const char *out_name,
              struct arena *a, struct run_result *r, bool *root, struct err *e);

/* The machine that this process is on: cores, ranks of the run on them (of `ranks` when no launcher
 * says how many are here), threads of each. */
struct run_place {
    int cores, ranks, threads;
};
struct run_place run_place_of(int ranks);
bool run_takes_turns(int ranks); /* more threads than cores */

/* Called on a rank: its kernels use this machine's cores divided by its ranks, unless
 * OMP_NUM_THREADS is set. */
void run_share_cores(const struct comm *world);

/* The header that the rows need: "# schema", provenance comments are the caller's, then the column
 * names. */
void run_write_header(FILE *out, uint64_t signature, int ranks, const struct run_options *o);

#endif
