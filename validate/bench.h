/* Micro-benchmarks of kernels and collectives over sizes, as tables that `shardwise calibrate`
 * reads (docs/formats.md, "Measured tables"). */
#ifndef VALIDATE_BENCH_H
#define VALIDATE_BENCH_H

#include "base/arena.h"
#include "base/prov.h"

struct bench_options {
    const char *kind; /* "attention", "sparse", "copy", "collective" or "machine" */
    const char *out;  /* a path or "-"; a row is written when it is measured. machine: a prefix
                         (machine.h) */
    const char *comm, *backend; /* NULL: the default */
    int ranks, repeats;
    double timeout_s;
    bool cpu_clock; /* CPU time of each rank, not the wall's: validate/exec.h */
};

bool bench_run(const struct bench_options *o, struct prov *prov, struct arena *a, struct err *e);

#endif
