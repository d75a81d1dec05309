#include "base/csv.h"

#include <errno.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include "base/cloc.h"
#include "base/qty.h"

/* A cursor over a copy of the text. Fields stay where they are in it: the byte behind each becomes
 * its NUL, once the reader has seen what it was. */
struct reader {
    const char *name;
    char *p, *end; /* *end is NUL */
    int line;
    struct arena *a;
    struct err *e;
};

struct fields {
    const char **item;
    int count, room;
};

static bool fields_add(struct reader *r, struct fields *f, const char *text)
{
    if (f->count == CSV_CELL_LIMIT)
        return err_set(r->e, ERR_INPUT, (struct err_at){r->name, r->line, 0},
                       "more than %d fields, which is the limit", CSV_CELL_LIMIT);
    if (f->count == f->room) {
        const char **old = f->item;
        f->room = f->room ? 2 * f->room : 64;
        f->item = ARENA_ARRAY(r->a, const char *, f->room);
        if (old)
            memcpy(f->item, old, (size_t)f->count * sizeof *old);
    }
    f->item[f->count++] = text;
    return true;
}

/* Takes the quotes off in place; *close is the end of the field, NULL when there is none. */
static char *read_quoted(struct reader *r, char **close)
{
    int start = r->line;
    r->p += strspn(r->p, " \t") + 1;
    char *text = r->p, *out = text;
    while (r->p < r->end && (*r->p != '"' || r->p[1] == '"')) {
        r->line += *r->p == '\n';
        *out++ = *r->p;
        r->p += *r->p == '"' ? 2 : 1;
    }
    *close = r->p < r->end ? out : NULL;
    if (!*close)
        err_set(r->e, ERR_INPUT, (struct err_at){r->name, start, 0},
                "a quoted field is not closed");
    r->p += r->p < r->end;
    r->p += strspn(r->p, " \t");
    return text;
}

static char *read_plain(struct reader *r, char **close)
{
    char *text = r->p += strspn(r->p, " \t");
    r->p += strcspn(r->p, ",\r\n"); /* stops at the end, too: there is no other NUL in the text */
    *close = r->p;
    while (*close > text && ((*close)[-1] == ' ' || (*close)[-1] == '\t'))
        --*close;
    return text;
}

static void skip_empty_lines(struct reader *r)
{
    for (char *p; p = r->p + strspn(r->p, " \t"), *p == '\n' || *p == '\r' || *p == '#';) {
        r->p = *p == '#' ? p + strcspn(p, "\n") : p + 1;
        r->line += *p == '\n';
    }
}

/* One record, in *line; the number of fields added, 0 at the end, -1 on error. */
static int read_record(struct reader *r, struct fields *f, int *line)
{
    skip_empty_lines(r);
    *line = r->line;
    if (r->p == r->end)
        return 0;
    for (int n = 1;; n++) {
        char *close, *text = r->p[strspn(r->p, " \t")] == '"' ? read_quoted(r, &close)
                                                              : read_plain(r, &close);
        if (!close || !fields_add(r, f, text))
            return -1;
        char next = *r->p;
        *close = '\0';
        if (next != ',' && next != '\n' && next != '\r' && r->p != r->end) {
            err_set(r->e, ERR_INPUT, (struct err_at){r->name, r->line, 0},
                    "text after a closing quote; want ',' or a new line");
            return -1;
        }
        r->line += next == '\n';
        r->p += r->p != r->end;
        if (next != ',')
            return n;
    }
}

static void lines_add(int **lines, int *room, int count, int line, struct arena *a)
{
    if (count == *room) {
        int *old = *lines;
        *room = *room ? 2 * *room : 64;
        *lines = ARENA_ARRAY(a, int, *room);
        if (old)
            memcpy(*lines, old, (size_t)count * sizeof *old);
    }
    (*lines)[count] = line;
}

bool csv_parse(const char *name, const char *text, size_t length, struct arena *a, struct csv *out,
               struct err *e)
{
    const char *nul = length ? memchr(text, '\0', length) : NULL;
    if (nul)
        return err_set(e, ERR_INPUT, err_at_name(name),
                       "a NUL byte at offset %zu; want a text file", (size_t)(nul - text));
    char *copy = arena_strndup(a, length ? text : "", length);
    size_t mark =
        length >= 3 && !memcmp(copy, "\xef\xbb\xbf", 3) ? 3 : 0; /* UTF-8's, of spreadsheets */
    struct reader r = {name, copy + mark, copy + length, 1, a, e};
    struct fields header = {0}, cells = {0};
    int line, columns = read_record(&r, &header, &line), room = 0, *lines = NULL,
              header_line = line;
    if (columns < 0)
        return false;
    if (columns == 0)
        return err_set(e, ERR_INPUT, err_at_name(name),
                       "is empty; want a header row of column names");
    int rows = 0;
    for (;; rows++) {
        int n = read_record(&r, &cells, &line);
        if (n < 0)
            return false;
        if (n == 0)
            break;
        if (n != columns)
            return err_set(e, ERR_INPUT, (struct err_at){name, line, 0},
                           "%d fields where the header has %d%s", n, columns,
                           columns == 1 && strchr(header.item[0], ';')
                               ? "; want ',' between fields, not ';'"
                               : "");
        lines_add(&lines, &room, rows, line, a);
    }
    *out = (struct csv){.path = arena_strdup(a, name),
                        .columns = columns,
                        .rows = rows,
                        .header_line = header_line,
                        .header = header.item,
                        .cells = cells.item,
                        .line = lines};
    return true;
}

bool csv_read(const char *path, struct arena *a, struct csv *out, struct err *e)
{
    bool ok = false;
    char *text = NULL;
    struct stat st;
    FILE *f = fopen(path, "rb");
    if (!f || fstat(fileno(f), &st) != 0) {
        err_open(e, err_at_name(path));
        goto done;
    }
    if (!S_ISREG(st.st_mode) || st.st_size > CSV_FILE_LIMIT) {
        err_set(e, ERR_INPUT, err_at_name(path), "want a regular file of at most %d MiB",
                CSV_FILE_LIMIT >> 20);
        goto done;
    }
    text = malloc((size_t)st.st_size + 1);
    size_t n = text ? fread(text, 1, (size_t)st.st_size, f) : 0;
    if (!text || ferror(f)) {
        err_set(e, ERR_SYSTEM, err_at_name(path), "cannot be read: %s", strerror(errno));
        goto done;
    }
    ok = csv_parse(path, text, n, a, out, e);
done:
    free(text);
    if (f)
        fclose(f);
    return ok;
}

int csv_column(const struct csv *c, const char *name)
{
    for (int i = 0; i < c->columns; i++)
        if (strcmp(c->header[i], name) == 0)
            return i;
    return -1;
}

bool csv_need(const struct csv *c, const char *name, int *column, struct err *e)
{
    char have[400] = "";
    *column = csv_column(c, name);
    if (*column >= 0)
        return true;
    struct err_at at = {c->path, c->header_line, 0};
    if (c->columns == 1 && strpbrk(c->header[0], ";\t"))
        return err_set(e, ERR_INPUT, at,
                       "no column '%s': fields are separated by %s; want ',', and '.' in numbers",
                       name, strchr(c->header[0], ';') ? "';'" : "tabs");
    for (int i = 0; i < c->columns && strlen(have) + strlen(c->header[i]) + 3 < sizeof have; i++) {
        strcat(have, i ? ", " : "");
        strcat(have, c->header[i]);
    }
    return err_set(e, ERR_INPUT, at, "no column '%s'; there are: %s", name, have);
}

const char *csv_cell(const struct csv *c, int row, int column)
{
    return c->cells[(size_t)row * (size_t)c->columns + (size_t)column];
}

/* A finite decimal number ("0x10" and "inf" are none), and what stands behind it. */
static bool decimal(const char *text, double *value, const char **rest)
{
    char *end;
    text += strspn(text, " \t");
    size_t length = strspn(text, "+-.0123456789eE");
    struct cloc l = cloc_enter();
    *value = strtod(text, &end);
    cloc_leave(l);
    *rest = end;
    return end != text && end == text + length && isfinite(*value);
}

bool csv_num(const struct csv *c, int row, int column, double *value, struct err *e)
{
    const char *text = csv_cell(c, row, column), *rest;
    double v;
    if (!decimal(text, &v, &rest) || *rest != '\0')
        return err_set(e, ERR_INPUT, (struct err_at){c->path, c->line[row], 0},
                       "%.40s: '%.40s' is not a finite number", c->header[column], text);
    *value = v;
    return true;
}

bool csv_share(const struct csv *c, int row, int column, double *value, struct err *e)
{
    const char *rest;
    double v;
    if (!decimal(csv_cell(c, row, column), &v, &rest) || strcmp(rest, "%") != 0)
        return csv_num(c, row, column, value, e);
    *value = v / 100;
    return true;
}

bool csv_int(const struct csv *c, int row, int column, int64_t least, int64_t most, int64_t *value,
             struct err *e)
{
    struct err_at at = {c->path, c->line[row], 0};
    char what[64];
    snprintf(what, sizeof what, "%s", c->header[column]);
    return qty_parse_int(csv_cell(c, row, column), least, most, what, at, value, e);
}

void csv_put(const char *text, FILE *out)
{
    if (!strpbrk(text, ",\"\r\n")) {
        fputs(text, out);
        return;
    }
    fputc('"', out);
    for (; *text; text++) {
        if (*text == '"')
            fputc('"', out);
        fputc(*text, out);
    }
    fputc('"', out);
}
