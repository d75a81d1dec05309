/* What the parts of bench_cuda share: times by device events, tables that `shardwise calibrate` and
 * `predict --table` read (docs/formats.md), and lines for people on standard output. */
#ifndef BENCH_CUDA_BENCH_H
#define BENCH_CUDA_BENCH_H

#include <stdio.h>

#include "kernels/cuda/cuda.h"

struct bench {
    const char *folder; /* tables go there, a row written and flushed when it is measured */
    char gpu[32];       /* "h200", as the presets have it */
    struct cuda_device device;
    const char *variant; /* of attention only this one; NULL: all */
    bool tiny;           /* sizes for trying it out: numbers mean nothing */
    bool once;           /* each call once */
    double until_s;      /* no new measurement starts after this (bench_now_s) */
    void *memory[256];   /* until bench_release */
    int memory_count;
    bool plant; /* the ladder has a step that is wrong */
    int failed; /* calls */
    int wrong;  /* results that were not what they should be */
};

double bench_now_s(void);

/* Device memory, never NULL: prints what went wrong and exits 4 (the parts measured so far are on
 * disk). */
void *bench_memory(struct bench *b, size_t bytes);
void bench_release(struct bench *b);

/* Prints the error and exits with its code unless `ok`: for what a measurement cannot do without.
 */
void bench_must(bool ok, const struct err *e);

/* Appends to FOLDER/NAME.csv; `header` is written first when the file is new. */
FILE *bench_table(struct bench *b, const char *name, const char *header);

/* Median milliseconds of a call after two for warming up, as many repeats as fit into about half a
 * second, 3 to 50 (`once`: of one call). Negative when it failed: the reason is printed with
 * `what`. `call` only asks for work on CUDA_STREAM. */
typedef bool bench_call(void *argument, struct err *e);
double bench_ms(struct bench *b, const char *what, bench_call *call, void *argument);

/* False once the time is over: says so once for `part`. */
bool bench_time_left(struct bench *b, const char *part);

/* Seeded bf16 numbers of a normal distribution; the same for the same seed. */
void bench_normal(uint16_t *x, int64_t count, uint32_t seed, float deviation);

/* `count` heads of bf16 Q, K, V, dO and zeroed outputs, `rows` queries and keys each; heads of one
 * array lie one after another, as cuDNN wants them for one call. */
void bench_heads(struct bench *b, struct kern_head *heads, int count, int64_t rows, int dim);

/* Lists of `keep` keys for each group of a head: ascending, spread over all keys; groups share no
 * more of them than chance has it. */
void bench_lists(struct bench *b, struct kern_head *head, int64_t group, int64_t keep,
                 uint32_t seed);

/* The parts. */
void bench_ceilings(struct bench *b);
void bench_forward(struct bench *b); /* where there are targets for it, and backward */
void bench_backward(struct bench *b);
void bench_select(struct bench *b);
void bench_dense(struct bench *b);
void bench_sparse(struct bench *b);
void bench_neighbours(struct bench *b);
void bench_dimensions(struct bench *b);
void bench_move(struct bench *b);
void bench_ladder(struct bench *b);

#endif
