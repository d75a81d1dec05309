/* Reads comma-separated values: a header row, quoted fields (RFC 4180), "#" comment lines and empty
 * lines skipped, blanks around fields without quotes left out. */
#ifndef BASE_CSV_H
#define BASE_CSV_H

#include <stdint.h>
#include <stdio.h>

#include "base/arena.h"
#include "base/err.h"

enum { CSV_FILE_LIMIT = 256 * 1024 * 1024, CSV_CELL_LIMIT = 32 * 1000 * 1000 };

struct csv {
    const char *path;
    int columns, rows;
    int header_line;
    const char **header; /* [columns] */
    const char **cells;  /* [rows * columns] */
    const int *line;     /* [rows], for messages */
};

/* ERR_INPUT for an empty file, a row with another number of fields than the header, an open quote,
 * a NUL byte, or what is over a limit. The text is copied. */
bool csv_read(const char *path, struct arena *a, struct csv *out, struct err *e);
bool csv_parse(const char *name, const char *text, size_t length, struct arena *a, struct csv *out,
               struct err *e);

int csv_column(const struct csv *c, const char *name); /* -1: no such column */
/* An error names the columns that there are. */
bool csv_need(const struct csv *c, const char *name, int *column, struct err *e);
const char *csv_cell(const struct csv *c, int row, int column);

/* A finite decimal number with a point, or a whole number in a range (exact, as qty_parse_int);
 * ERR_INPUT with line and column name otherwise. */
bool csv_num(const struct csv *c, int row, int column, double *value, struct err *e);
/* A number, or one with a percent sign: "5.7%" is 0.057. Any range. */
bool csv_share(const struct csv *c, int row, int column, double *value, struct err *e);
bool csv_int(const struct csv *c, int row, int column, int64_t least, int64_t most, int64_t *value,
             struct err *e);

/* Writes one field, quoted where RFC 4180 asks for it. */
void csv_put(const char *text, FILE *out);

#endif
