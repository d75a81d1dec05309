/* Expected printings are written by hand; CSV after RFC 4180. */
#include "base/table.h"

#include <math.h>

#include "tests/base/check.h"

static const struct table_col cols[] = {
    {"name", "name", TABLE_STR, QTY_NUMBER},
    {"gpus", "GPUs", TABLE_INT, QTY_NUMBER},
    {"time_s", "time", TABLE_QTY, QTY_SECONDS},
    {"share", "share", TABLE_BAR, QTY_NUMBER},
};

static void fill(struct table *t)
{
    table_str(t, "usp \u00d7 4");
    table_int(t, 8);
    table_num(t, 0.00122);
    table_num(t, 0.5);
    table_str(t, "a \"b\", c");
    table_int(t, 1024);
    table_num(t, 0.1);
    table_num(t, 1);
    table_str(t, NULL);
    table_int(t, -1);
    table_num(t, NAN);
    table_num(t, NAN);
}

static char *printed(enum table_format format, bool filled)
{
    struct arena *a = arena_new();
    struct table *t = table_new(a, cols, 4);
    struct memory m;
    memory_open(&m);
    if (filled)
        fill(t);
    gsl_test(table_rows(t) != (filled ? 3 : 0), "rows");
    table_print(t, format, m.out);
    arena_free(a);
    return memory_close(&m);
}

static void check_printed(enum table_format format, bool filled, const char *want)
{
    char *text = printed(format, filled);
    check_text(text, want, "table");
    gsl_test(strstr(text, " \n") != NULL, "no line ends with a blank");
    free(text);
}

static void text_is_aligned_with_numbers_to_the_right(void)
{
    check_printed(TABLE_TEXT, true,
                  "name      GPUs      time  share\n"
                  "usp \u00d7 4      8  1.220 ms  ##########..........\n"
                  "a \"b\", c  1024  100.0 ms  ####################\n"
                  "-           -1         -  -\n");
    check_printed(TABLE_TEXT, false, "name  GPUs  time  share\n");
}

static void csv_has_si_numbers_and_quotes_where_needed(void)
{
    check_printed(TABLE_CSV, true,
                  "name,gpus,time_s,share\n"
                  "usp \u00d7 4,8,0.00122,0.5\n"
                  "\"a \"\"b\"\", c\",1024,0.1,1\n"
                  ",-1,,\n");
    check_printed(TABLE_CSV, false, "name,gpus,time_s,share\n");
}

static void json_is_an_array_of_objects(void)
{
    check_printed(
        TABLE_JSON, true,
        "[\n"
        "  {\"name\": \"usp \u00d7 4\", \"gpus\": 8, \"time_s\": 0.00122, \"share\": 0.5},\n"
        "  {\"name\": \"a \\\"b\\\", c\", \"gpus\": 1024, \"time_s\": 0.1, \"share\": 1},\n"
        "  {\"name\": null, \"gpus\": -1, \"time_s\": null, \"share\": null}\n"
        "]\n");
    check_printed(TABLE_JSON, false, "[]\n");
}

static void a_cell_cannot_break_the_screen(void)
{
    static const struct table_col one[] = {{"x", "x", TABLE_STR, QTY_NUMBER}};
    struct arena *a = arena_new();
    struct table *t = table_new(a, one, 1);
    struct memory m;
    table_str(t, "a\nb\x1b[2J\xff");
    memory_open(&m);
    table_print(t, TABLE_TEXT, m.out);
    char *text = memory_close(&m);
    check_text(text, "x\na?b?[2J?\n", "control characters");
    free(text);
    memory_open(&m);
    table_print(t, TABLE_CSV, m.out);
    text = memory_close(&m);
    check_text(text, "x\n\"a\nb\x1b[2J\xff\"\n", "quoted, as RFC 4180 has it");
    free(text);
    arena_free(a);
}

static void a_thousand_rows_keep_their_order(void)
{
    static const struct table_col one[] = {{"n", "n", TABLE_INT, QTY_NUMBER}};
    struct arena *a = arena_new();
    struct table *t = table_new(a, one, 1);
    struct memory m;
    for (int i = 0; i < 1000; i++)
        table_int(t, i);
    memory_open(&m);
    table_print(t, TABLE_CSV, m.out);
    char *text = memory_close(&m), *line = text;
    bool ordered = strncmp(line, "n\n", 2) == 0;
    line += 2;
    for (int i = 0; i < 1000; i++, line = strchr(line, '\n') + 1)
        ordered &= atoi(line) == i;
    gsl_test(!ordered || *line != '\0', "0 to 999");
    free(text);
    arena_free(a);
}

static void the_format_is_text_csv_or_json(void)
{
    enum table_format f = TABLE_TEXT;
    struct err e = {0};
    gsl_test(!table_format_parse("json", &f, &e) || f != TABLE_JSON, "json");
    gsl_test(table_format_parse("xml", &f, &e) || f != TABLE_JSON, "xml");
    check_refused(&e, ERR_INPUT, "--format: 'xml' is not a format, want text, csv or json");
}

int main(void)
{
    text_is_aligned_with_numbers_to_the_right();
    csv_has_si_numbers_and_quotes_where_needed();
    json_is_an_array_of_objects();
    a_cell_cannot_break_the_screen();
    a_thousand_rows_keep_their_order();
    the_format_is_text_csv_or_json();
    return gsl_test_summary();
}
