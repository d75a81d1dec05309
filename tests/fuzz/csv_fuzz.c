/* Any bytes as CSV: no crash; and what is read, written as quoted fields, reads back as the same.
 */
#include "base/csv.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

int LLVMFuzzerTestOneInput(const unsigned char *data, size_t size);

static void put_field(FILE *out, const char *text, char end)
{
    fputc('"', out);
    for (; *text; text++) {
        fputc(*text, out);
        if (*text == '"')
            fputc('"', out);
    }
    fprintf(out, "\"%c", end);
}

static const char *field(const struct csv *c, int i)
{
    return i < c->columns ? c->header[i] : c->cells[i - c->columns];
}

static void round_trip(const struct csv *c, struct arena *a)
{
    char *text;
    size_t size;
    struct csv again;
    struct err e = {0};
    FILE *out = open_memstream(&text, &size);
    int fields = c->columns * (c->rows + 1);
    for (int i = 0; i < fields; i++)
        put_field(out, field(c, i), (i + 1) % c->columns == 0 ? '\n' : ',');
    fclose(out);
    if (!csv_parse("again", text, size, a, &again, &e) || again.columns != c->columns ||
        again.rows != c->rows)
        abort();
    for (int i = 0; i < fields; i++)
        if (strcmp(field(c, i), field(&again, i)) != 0)
            abort();
    free(text);
}

int LLVMFuzzerTestOneInput(const unsigned char *data, size_t size)
{
    struct arena *a = arena_new();
    struct err e = {0};
    struct csv c;
    char *exact = malloc(size ? size : 1); /* no byte behind it, for the sanitizer to see */
    memcpy(exact, data, size);
    bool ok = csv_parse("fuzz", exact, size, a, &c, &e);
    free(exact);
    if (ok != (e.code == ERR_NONE))
        abort();
    for (int row = 0; ok && row < c.rows; row++)
        for (int column = 0; column < c.columns; column++) {
            double number;
            int64_t whole;
            csv_num(&c, row, column, &number, &(struct err){0});
            csv_int(&c, row, column, INT64_MIN, INT64_MAX, &whole, &(struct err){0});
        }
    if (ok)
        round_trip(&c, a);
    arena_free(a);
    return 0;
}
