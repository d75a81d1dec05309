/* Rows of a sweep: the cells of a result, and what is shown of them. */
#ifndef CLI_SWEEP_VIEW_H
#define CLI_SWEEP_VIEW_H

#include "base/csv.h"
#include "base/prov.h"
#include "base/table.h"
#include "planner/fit.h"
#include "planner/study.h"

extern const char *const sweep_view_columns[]; /* of results, NULL-terminated */

/* cells[columns] of an answer, in `a`. */
void sweep_view_cells(const struct plan_fit *f, int64_t video_tokens, const char **cells,
                      struct arena *a);

struct sweep_view {
    const struct study *study;
    const char *path;
    const struct prov *prov;
    int64_t already; /* points that the file had before */
    struct csv rows;
};

/* As text the parameters that vary and the main results, at most 60 rows; as CSV and JSON all. */
void sweep_view_print(const struct sweep_view *v, enum table_format format, FILE *out,
                      struct arena *a);

/* A gnuplot script with its data: `y` over the first parameter that is a number and varies, a line
 * for each combination of the others. ERR_INPUT when no number varies;
 * ERR_INFEASIBLE when no point has a `y`. */
bool sweep_view_plot(const struct sweep_view *v, const char *path, const char *y,
                     bool (*number)(const void *data, const char *name, enum qty_dim *dim,
                                    bool *whole),
                     struct arena *a, struct err *e);

/* ERR_INFEASIBLE with the nearest miss when no point fits, ERR_INPUT when none is possible. */
bool sweep_view_verdict(const struct sweep_view *v, struct err *e);

#endif
