#include "base/table.h"

#include <assert.h>
#include <inttypes.h>
#include <math.h>
#include <string.h>

#include "base/csv.h"
#include "base/utf8.h"

enum { BAR_WIDTH = 20 };

struct cell {
    bool empty;
    union {
        const char *text; /* TABLE_STR */
        int64_t whole;    /* TABLE_INT */
        double number;    /* TABLE_QTY, TABLE_BAR */
    };
};

struct table {
    struct arena *arena;
    const struct table_col *cols;
    struct cell *cells;
    int width, count, room; /* columns; cells filled and allocated */
};

struct table *table_new(struct arena *a, const struct table_col *cols, int count)
{
    assert(count > 0);
    struct table *t = ARENA_NEW(a, struct table);
    *t = (struct table){.arena = a, .cols = cols, .width = count};
    return t;
}

static struct cell *cell_new(struct table *t)
{
    if (t->count == t->room) {
        int room = t->room ? 2 * t->room : 8 * t->width;
        struct cell *larger = ARENA_ARRAY(t->arena, struct cell, room);
        if (t->count)
            memcpy(larger, t->cells, (size_t)t->count * sizeof *larger);
        t->cells = larger;
        t->room = room;
    }
    return &t->cells[t->count++];
}

/* For asserts. */
static inline bool comes_next(const struct table *t, enum table_kind kind)
{
    return t->cols[t->count % t->width].kind == kind;
}

void table_str(struct table *t, const char *text)
{
    assert(comes_next(t, TABLE_STR) || !text);
    struct cell *c = cell_new(t);
    c->empty = !text;
    if (text)
        c->text = arena_strdup(t->arena, text);
}

void table_int(struct table *t, int64_t value)
{
    assert(comes_next(t, TABLE_INT));
    *cell_new(t) = (struct cell){.whole = value};
}

void table_num(struct table *t, double value)
{
    assert(comes_next(t, TABLE_QTY) || comes_next(t, TABLE_BAR));
    *cell_new(t) = (struct cell){.number = value, .empty = isnan(value)};
}

int table_rows(const struct table *t)
{
    return t->count / t->width;
}

static const struct cell *cell_at(const struct table *t, int row, int col)
{
    return &t->cells[row * t->width + col];
}

/* Text for people */

static const char *bar_text(double share, char *text)
{
    int full = (int)lround(fmin(fmax(share, 0), 1) * BAR_WIDTH);
    memset(text, '#', (size_t)full);
    memset(text + full, '.', (size_t)(BAR_WIDTH - full));
    text[BAR_WIDTH] = '\0';
    return text;
}

static const char *cell_text(const struct table_col *col, const struct cell *c,
                             char text[static 32])
{
    if (c->empty)
        return "-";
    if (col->kind == TABLE_STR)
        return c->text;
    if (col->kind == TABLE_QTY)
        return qty_text(c->number, col->dim, text, 32);
    if (col->kind == TABLE_BAR)
        return bar_text(c->number, text);
    snprintf(text, 32, "%" PRId64, c->whole);
    return text;
}

static bool is_left(const struct table_col *col)
{
    return col->kind == TABLE_STR || col->kind == TABLE_BAR;
}

/* One cell and the gap before it; blanks that would end a line are left out. */
static void put_cell(const struct table *t, int col, int width, const char *text, FILE *out)
{
    int pad = width - utf8_width(text), gap = col > 0 ? 2 : 0;
    bool left = is_left(&t->cols[col]);
    if (left && !*text && col + 1 == t->width)
        return;
    fprintf(out, "%*s", gap + (left ? 0 : pad), "");
    utf8_put(text, out);
    if (left && col + 1 < t->width)
        fprintf(out, "%*s", pad, "");
}

static int col_width(const struct table *t, int col)
{
    char text[32];
    int most = utf8_width(t->cols[col].head);
    for (int row = 0; row < table_rows(t); row++) {
        int width = utf8_width(cell_text(&t->cols[col], cell_at(t, row, col), text));
        most = width > most ? width : most;
    }
    return most;
}

static void print_text(const struct table *t, FILE *out)
{
    char text[32];
    int *width = ARENA_ARRAY(t->arena, int, t->width);
    for (int col = 0; col < t->width; col++) {
        width[col] = col_width(t, col);
        put_cell(t, col, width[col], t->cols[col].head, out);
    }
    fputc('\n', out);
    for (int row = 0; row < table_rows(t); row++) {
        for (int col = 0; col < t->width; col++)
            put_cell(t, col, width[col], cell_text(&t->cols[col], cell_at(t, row, col), text), out);
        fputc('\n', out);
    }
}

/* CSV, RFC 4180 */

static void put_value(const struct table_col *col, const struct cell *c, FILE *out)
{
    if (c->empty)
        return;
    if (col->kind == TABLE_STR)
        csv_put(c->text, out);
    else if (col->kind == TABLE_INT)
        fprintf(out, "%" PRId64, c->whole);
    else
        fputs(qty_exact(c->number, QTY_BUF), out);
}

static void print_csv(const struct table *t, FILE *out)
{
    for (int col = 0; col < t->width; col++) {
        csv_put(t->cols[col].key, out);
        fputc(col + 1 < t->width ? ',' : '\n', out);
    }
    for (int row = 0; row < table_rows(t); row++)
        for (int col = 0; col < t->width; col++) {
            put_value(&t->cols[col], cell_at(t, row, col), out);
            fputc(col + 1 < t->width ? ',' : '\n', out);
        }
}

/* JSON */

static void json_cell(const struct table_col *col, const struct cell *c, struct json *j)
{
    if (c->empty)
        json_text(j, col->key, NULL);
    else if (col->kind == TABLE_STR)
        json_text(j, col->key, c->text);
    else if (col->kind == TABLE_INT)
        json_int(j, col->key, c->whole);
    else
        json_num(j, col->key, c->number);
}

void table_json(const struct table *t, struct json *j, const char *key)
{
    assert(t->count % t->width == 0);
    json_array(j, key);
    for (int row = 0; row < table_rows(t); row++) {
        bool compact = j->compact;
        j->compact = true; /* a row a line */
        json_object(j, NULL);
        for (int col = 0; col < t->width; col++)
            json_cell(&t->cols[col], cell_at(t, row, col), j);
        json_end(j);
        j->compact = compact;
    }
    json_end(j);
}

static void print_json(const struct table *t, FILE *out)
{
    struct json j = json_to(out);
    table_json(t, &j, NULL);
}

static const struct {
    const char *name;
    void (*print)(const struct table *t, FILE *out);
} formats[] = {
    [TABLE_TEXT] = {"text", print_text},
    [TABLE_CSV] = {"csv", print_csv},
    [TABLE_JSON] = {"json", print_json},
};

void table_print(const struct table *t, enum table_format format, FILE *out)
{
    assert(t->count % t->width == 0);
    formats[format].print(t, out);
}

bool table_format_parse(const char *text, enum table_format *format, struct err *e)
{
    for (size_t i = 0; i < sizeof formats / sizeof formats[0]; i++)
        if (strcmp(text, formats[i].name) == 0) {
            *format = (enum table_format)i;
            return true;
        }
    return err_set(e, ERR_INPUT, err_at_name("--format"),
                   "'%.40s' is not a format, want text, csv or json", text);
}
