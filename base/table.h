/* One description, three printings: a table for people (units, aligned), CSV (SI numbers, header
 * row, RFC 4180) and JSON (an array of objects, SI numbers). */
#ifndef BASE_TABLE_H
#define BASE_TABLE_H

#include <stdint.h>
#include <stdio.h>

#include "base/arena.h"
#include "base/err.h"
#include "base/json.h"
#include "base/qty.h"

enum table_format { TABLE_TEXT, TABLE_CSV, TABLE_JSON };

enum table_kind {
    TABLE_STR,
    TABLE_INT,
    TABLE_QTY, /* a number with a dimension: units in text, SI in CSV and JSON */
    TABLE_BAR  /* a number 0..1: a bar of '#' in text, a number elsewhere */
};

struct table_col {
    const char *key;  /* CSV header and JSON key, unit included: "time_s" */
    const char *head; /* heading for people */
    enum table_kind kind;
    enum qty_dim dim; /* for TABLE_QTY */
};

struct table;

/* `cols` must outlive the table. Cells are added left to right, row by row; a new row starts by
 * itself. */
struct table *table_new(struct arena *a, const struct table_col *cols, int count);
void table_str(struct table *t,
               const char *text); /* copied; NULL is an empty cell (null in JSON) */
void table_int(struct table *t, int64_t value);
void table_num(struct table *t, double value); /* TABLE_QTY and TABLE_BAR; NaN is an empty cell */
int table_rows(const struct table *t);

void table_print(const struct table *t, enum table_format format, FILE *out);
void table_json(const struct table *t, struct json *j,
                const char *key); /* as a value inside a document */

/* "text", "csv" or "json"; ERR_INPUT at --format otherwise. */
bool table_format_parse(const char *text, enum table_format *format, struct err *e);

#endif
