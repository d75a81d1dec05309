#include "base/csv.h"

#include <errno.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

/* A cursor over the text; fields are written into the arena without their quotes. */
struct reader {
    const char *name, *p, *end;
    int line;
    struct arena *a;
    struct err *e;
};

struct fields {
    const char **item;
    int count, room;
};

static void fields_add(struct fields *f, const char *text, struct arena *a)
{
    if (f->count == f->room) {
        const char **old = f->item;
        f->room = f->room ? 2 * f->room : 64;
        f->item = ARENA_ARRAY(a, const char *, f->room);
        if (old)
            memcpy(f->item, old, (size_t)f->count * sizeof *old);
    }
    f->item[f->count++] = text;
}

static const char *read_quoted(struct reader *r)
{
    int start = r->line;
    char *out, *w;
    const char *from = ++r->p;
    while (r->p < r->end && !(*r->p == '"' && !(r->p + 1 < r->end && r->p[1] == '"'))) {
        r->line += *r->p == '\n';
        r->p += *r->p == '"' ? 2 : 1;
    }
    if (r->p >= r->end) {
        err_set(r->e, ERR_INPUT, (struct err_at){r->name, start, 0},
                "a quoted field is not closed");
        return NULL;
    }
    w = out = arena_alloc(r->a, (size_t)(r->p - from) + 1, 1);
    for (const char *c = from; c < r->p; c++) {
        *w++ = *c;
        c += *c == '"';
    }
    r->p++;
    return out;
}

static const char *read_plain(struct reader *r)
{
    const char *from = r->p;
    while (r->p < r->end && *r->p != ',' && *r->p != '\n' && *r->p != '\r')
        r->p++;
    return arena_strndup(r->a, from, (size_t)(r->p - from));
}

/* One record; the number of fields added, 0 at the end, -1 on error. */
static int read_record(struct reader *r, struct fields *f)
{
    while (r->p < r->end && (*r->p == '\n' || *r->p == '\r' || *r->p == '#')) {
        if (*r->p == '#')
            while (r->p < r->end && *r->p != '\n')
                r->p++;
        else
            r->line += *r->p++ == '\n';
    }
    if (r->p >= r->end)
        return 0;
    int n = 0;
    for (;;) {
        const char *text = *r->p == '"' && r->p < r->end ? read_quoted(r) : read_plain(r);
        if (!text)
            return -1;
        fields_add(f, text, r->a);
        n++;
        if (r->p >= r->end || *r->p != ',')
            break;
        r->p++;
        if (r->p >= r->end) { /* a comma ends the text: one more, empty field */
            fields_add(f, "", r->a);
            return n + 1;
        }
    }
    if (r->p < r->end && *r->p != '\n' && *r->p != '\r') {
        err_set(r->e, ERR_INPUT, (struct err_at){r->name, r->line, 0},
                "text after a closing quote; want ',' or a new line");
        return -1;
    }
    return n;
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
    const char *nul = memchr(text, '\0', length);
    if (nul)
        return err_set(e, ERR_INPUT, err_at_name(name),
                       "a NUL byte at offset %zu; want a text file", (size_t)(nul - text));
    struct reader r = {name, text, text + length, 1, a, e};
    struct fields header = {0}, cells = {0};
    int columns = read_record(&r, &header), room = 0, *lines = NULL;
    if (columns < 0)
        return false;
    if (columns == 0)
        return err_set(e, ERR_INPUT, err_at_name(name),
                       "is empty; want a header row of column names");
    int rows = 0;
    for (;; rows++) {
        int n = read_record(&r, &cells), line = r.line;
        if (n < 0)
            return false;
        if (n == 0)
            break;
        if (n != columns)
            return err_set(e, ERR_INPUT, (struct err_at){name, line, 0},
                           "%d fields where the header has %d", n, columns);
        lines_add(&lines, &room, rows, line, a);
    }
    *out = (struct csv){.path = arena_strdup(a, name),
                        .columns = columns,
                        .rows = rows,
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
        err_set(e, f ? ERR_SYSTEM : ERR_INPUT, err_at_name(path), "cannot be read: %s",
                strerror(errno));
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
    for (int i = 0; i < c->columns && strlen(have) + strlen(c->header[i]) + 3 < sizeof have; i++) {
        strcat(have, i ? ", " : "");
        strcat(have, c->header[i]);
    }
    return err_set(e, ERR_INPUT, (struct err_at){c->path, 1, 0}, "no column '%s'; there are: %s",
                   name, have);
}

const char *csv_cell(const struct csv *c, int row, int column)
{
    return c->cells[(size_t)row * (size_t)c->columns + (size_t)column];
}

bool csv_num(const struct csv *c, int row, int column, double *value, struct err *e)
{
    const char *text = csv_cell(c, row, column);
    char *end;
    double v = strtod(text, &end);
    if (end == text || *end != '\0' || !isfinite(v))
        return err_set(e, ERR_INPUT, (struct err_at){c->path, c->line[row], 0},
                       "%s: '%s' is not a finite number", c->header[column], text);
    *value = v;
    return true;
}

bool csv_int(const struct csv *c, int row, int column, int64_t least, int64_t most, int64_t *value,
             struct err *e)
{
    double v = 0;
    if (!csv_num(c, row, column, &v, e))
        return false;
    if (v != floor(v) || v < (double)least || v > (double)most)
        return err_set(e, ERR_INPUT, (struct err_at){c->path, c->line[row], 0},
                       "%s: '%s'; want a whole number from %lld to %lld", c->header[column],
                       csv_cell(c, row, column), (long long)least, (long long)most);
    *value = (int64_t)v;
    return true;
}
