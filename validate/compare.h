/* Predicted against measured, phase by phase and as a whole. */
#ifndef VALIDATE_COMPARE_H
#define VALIDATE_COMPARE_H

#include "base/table.h"
#include "model/plan.h"
#include "validate/rows.h"

/* One phase of one block. Phases of the same name and pass (the two ends of a gather) are one. NaN:
 * not predicted (the model leaves it out) or not run (the predictor). */
struct compare_phase {
    int block, pass;
    const char *name;
    double predicted_s;     /* longest over ranks */
    double measured_s;      /* median over repeats of the longest over ranks */
    double least_s, most_s; /* over repeats */
    double bound_s; /* what the plan's hardware allows at best: FLOP over peak, bytes over memory or
                       link rate; 0 unknown */
};

struct compare_block {
    int block;
    double predicted_s; /* of the phases that were run */
    double measured_s; /* median over repeats; the longest over ranks, waits included. Copies to the
                          host and back, which the model has beside the block, are in neither */
    double least_s, most_s;
    int culprit; /* index of the phase with the largest difference, -1 if none is both predicted and
                    measured */
    double culprit_share; /* its part of the sum of all differences, signs dropped */
};

struct comparison {
    int phase_count, block_count, impossible;
    const struct compare_phase *phases;
    const struct compare_block *blocks;
    struct rows_head head; /* of the rows; zero from compare_run */
};

/* ERR_INPUT when the rows are of another plan, of blocks that it has not, or have no complete
 * repeat. */
bool compare_run(const struct plan *p, const struct run_result *r, uint64_t signature,
                 struct arena *a, struct comparison *out, struct err *e);

/* Reads both files. */
bool compare_files(const char *plan, const char *rows, struct arena *a, struct comparison *out,
                   struct err *e);

/* A line for each phase and each whole block. */
struct table *compare_table(const struct comparison *c, struct arena *a);

/* Says so if ranks took turns on cores: their times hold each other's work, which no prediction
 * knows. */
void compare_turns(const struct comparison *c, FILE *out);

/* In sentences: how far each block is off, what explains it, what cannot be; compare_turns. */
void compare_words(const struct comparison *c, FILE *out);

/* ERR_TOLERANCE if a whole block is off by more than `tolerance` (0.25: 25%; infinity never fails),
 * unless ranks took turns, or something is faster than the hardware allows. */
bool compare_judge(const struct comparison *c, double tolerance, struct err *e);

/* All three; the sentences with TABLE_TEXT only, compare_turns always (else to stderr). */
bool compare_print(const struct comparison *c, double tolerance, enum table_format format,
                   FILE *out, struct arena *a, struct err *e);

#endif
