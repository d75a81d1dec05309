/* `shardwise predict --table rows.csv`: every row of a measured table with what the profiles say to
 * it, and how far off that is. */
#ifndef VALIDATE_PREDICT_TABLE_H
#define VALIDATE_PREDICT_TABLE_H

#include <stdio.h>

#include "base/arena.h"
#include "base/table.h"
#include "validate/point.h"

struct table_score { /* of one class of error */
    enum prof_class class;
    int rows, inside; /* inside: rows within their interval */
    double mape, p95, bias;
    int large_rows; /* from 1 MB or 1 ms on */
    double large_mape;
};
struct table_scores {
    const char *path;
    int rows, predicted, skipped, outside_range;
    int skipped_line; /* the first row without an answer, and why; 0 and NULL: none */
    const char *skipped_why;
    struct table_score class[PROF_CLASSES];
};

/* Writes the table's own columns and predicted_us, low_us, high_us, error, class, in_range, regime,
 * profile; rows that no profile can answer have empty cells. profile NULL: the presets that the
 * gpu column names; rows of a GPU without one stay empty too (name a relative's to have them). */
bool predict_table(const char *path, const char *profile, FILE *out, struct table_scores *scores,
                   struct arena *a, struct err *e);

struct table *predict_summary(const struct table_scores *s, struct arena *a);

#endif
