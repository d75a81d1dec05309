/* The rows of a study: one for each point, appended and flushed as soon as it is known, in the
 * order of the points whatever the number of threads; a killed sweep goes on where it was. The file
 * is described in docs/formats.md, "Sweep". */
#ifndef PLANNER_SWEEP_H
#define PLANNER_SWEEP_H

#include <stdio.h>

#include "planner/study.h"

struct sweep {
    const struct study *study;
    const char *const *columns; /* of the results, NULL-terminated */
    const char *head;           /* comment lines about what the rows rest on: "# .. \n" */
    void *data;                 /* of `solve` */
    /* cells[columns], in `a`; NULL is an empty cell. Called by several threads at once. False ends
     * the sweep: what a row can say is no error. */
    bool (*solve)(void *data, const char *const *param_text, const char **cells, struct arena *a,
                  struct err *e);
    int jobs;                                            /* threads */
    void (*done)(void *data, int64_t rows, int64_t all); /* after each row, or NULL */
};

/* All points to a stream. */
bool sweep_stream(const struct sweep *s, const char *name, FILE *out, struct err *e);

/* To a file. It must not exist, unless `resume`: then what it has is kept, a torn last line is cut
 * off, and the points that it lacks are appended. ERR_INPUT for a file of another study, version or
 * inputs, with the line that differs; ERR_SYSTEM when another sweep is writing it. *already is the
 * number of points that the file had. */
bool sweep_file(const struct sweep *s, const char *path, bool resume, int64_t *already,
                struct err *e);

#endif
