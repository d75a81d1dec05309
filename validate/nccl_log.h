/* Reads what nccl-tests and rccl-tests print: all programs, tables with the old columns ("error",
 * no root) and the new ones
 * ("#wrong"), one process or MPI, warnings of NCCL between the lines. What mpirun, srun, kubectl, a
 * time stamp or a quoted post puts before a line is taken off, and a terminal's colours. A line
 * that is cut, that has another line inside it, or whose time and algbw contradict its size is
 * counted and left out, never guessed at. */
#ifndef VALIDATE_NCCL_LOG_H
#define VALIDATE_NCCL_LOG_H

#include <stddef.h>

#include "base/arena.h"
#include "model/prof.h"
#include "validate/point.h"

enum { NCCL_LOG_LIMIT = 64 * 1024 * 1024 };

struct nccl_row {
    int line;
    double bytes, time_s; /* out of place, as calibration uses */
    enum coll_type type;
};
struct nccl_run { /* one program run: a table */
    int op; /* enum coll_op; -1: a program without a model (broadcast, reduce, ...) or not said */
    const char *program; /* "all_reduce_perf"; "" when the log does not say */
    const char *device;  /* "NVIDIA H100 80GB HBM3"; "" when it does not say */
    int gpus, nodes;     /* from the list of ranks; 0 when there is none */
    int rows;
    const struct nccl_row *row;
};
struct nccl_log {
    int runs;
    const struct nccl_run *run;
    int broken;   /* lines that begin like a row and are none */
    int wrong;    /* rows that failed the program's own check of the data, left out */
    int warnings; /* lines with "NCCL WARN" */
};

/* ERR_INPUT when there is not a single row: another tool's log, or cut before the table. Text need
 * not end in NUL. */
bool nccl_log_parse(const char *name, const char *text, size_t length, struct arena *a,
                    struct nccl_log *out, struct err *e);
bool nccl_log_read(const char *path, struct arena *a, struct nccl_log *out, struct err *e);

/* What a person must say when the log does not. 0 or NULL: take it from the log. */
struct nccl_facts {
    const char *op;
    int gpus, nodes;
    double nic_bytes_per_s;
};
/* ERR_INPUT when neither the log nor `facts` says the operation or the GPUs; a log that does not
 * name its program may have the operation in its file's name. Runs without a model are skipped. */
bool nccl_points(const char *name, const struct nccl_log *log, const struct nccl_facts *facts,
                 const char *gpu, struct arena *a, struct points *out, struct err *e);

#endif
