/* Expected fields are RFC 4180, by hand. */
#include "base/csv.h"

#include "tests/base/check.h"
#include "tests/base/folder.h"

static bool parse(const char *text, struct arena *a, struct csv *c, struct err *e)
{
    *e = (struct err){0};
    return csv_parse("f.csv", text, strlen(text), a, c, e);
}

static void check_fields(const char *text, int columns, int rows, const char *joined)
{
    struct arena *a = arena_new();
    struct csv c = {0};
    struct err e;
    char got[500] = "";
    bool ok = parse(text, a, &c, &e);
    gsl_test(!ok || c.columns != columns || c.rows != rows, "%d x %d %s", rows, columns, e.text);
    for (int i = 0; ok && i < columns; i++)
        snprintf(got + strlen(got), sizeof got - strlen(got), "<%s>", c.header[i]);
    for (int i = 0; ok && i < rows * columns; i++)
        snprintf(got + strlen(got), sizeof got - strlen(got), "<%s>",
                 csv_cell(&c, i / columns, i % columns));
    check_text(got, joined, "fields");
    arena_free(a);
}

static void fields_are_what_rfc_4180_says(void)
{
    check_fields("a,b\n1,2\n3,4\n", 2, 2, "<a><b><1><2><3><4>");
    check_fields("a,b\r\n1,2\r\n3,4", 2, 2, "<a><b><1><2><3><4>");
    check_fields("a,b\n\"x, \"\"y\"\"\",\"two\nlines\"\n", 2, 1, "<a><b><x, \"y\"><two\nlines>");
    check_fields("a,b\n\"\",\n,\"\"\"\"\n", 2, 2, "<a><b><><><><\">");
    check_fields("a,b\n1,", 2, 1, "<a><b><1><>");
    check_fields("# from a run\n\na\n# more\n1\n\n\n2\n", 1, 2, "<a><1><2>");
    check_fields("a\n", 1, 0, "<a>");
    check_fields("a , b\n \t\n 1,\t2 \n \" x \" , y z\n", 2, 2, "<a><b><1><2>< x ><y z>");
}

static void check_refused_text(const char *text, const char *message)
{
    struct arena *a = arena_new();
    struct csv c = {.rows = 42};
    struct err e;
    gsl_test(parse(text, a, &c, &e) || c.rows != 42, "refused: %s", text);
    check_refused(&e, ERR_INPUT, message);
    arena_free(a);
}

static void a_broken_file_is_refused_with_its_line(void)
{
    check_refused_text("", "f.csv: is empty; want a header row of column names");
    check_refused_text("# only this\n", "f.csv: is empty; want a header row of column names");
    check_refused_text("a,b\n1,2\n\n3\n", "f.csv:4: 1 fields where the header has 2");
    check_refused_text("a,b\r\n1,2\r\n3\r\n", "f.csv:3: 1 fields where the header has 2");
    check_refused_text("a,b\n1,\"x\ny\"\n3\n", "f.csv:4: 1 fields where the header has 2");
    check_refused_text("a;b\n1,5;2,5\n", "f.csv:2: 3 fields where the header has 1; want ',' "
                                         "between fields, not ';'");
    check_refused_text("a,b\n1,2,3\n", "f.csv:2: 3 fields where the header has 2");
    check_refused_text("a,b\n1,\"2\n3\n", "f.csv:2: a quoted field is not closed");
    check_refused_text("a\n\"", "f.csv:2: a quoted field is not closed");
    check_refused_text("a\n\"1\"2\n",
                       "f.csv:2: text after a closing quote; want ',' or a new line");
    struct arena *a = arena_new();
    struct csv c;
    struct err e = {0};
    gsl_test(csv_parse("f.csv", "a\n\0\n", 4, a, &c, &e), "a NUL byte");
    check_refused(&e, ERR_INPUT, "f.csv: a NUL byte at offset 2; want a text file");
    e = (struct err){0};
    gsl_test(csv_parse("f.csv", NULL, 0, a, &c, &e), "nothing at all");
    arena_free(a);
}

static void numbers_are_finite_decimals(void)
{
    static const char *const wrong[] = {"nan", "inf", "0x10", "", "1e400", "1 2", "1,5", "e"};
    struct arena *a = arena_new();
    struct csv c;
    struct err e;
    double v = 0;
    gsl_test(!parse("x,y\n-1.5e3, 2\n", a, &c, &e), "%s", e.text);
    gsl_test(!csv_num(&c, 0, 0, &v, &e) || v != -1500, "-1.5e3 %s", e.text);
    gsl_test(!csv_num(&c, 0, 1, &v, &e) || v != 2, "a blank before %s", e.text);
    for (size_t i = 0; i < sizeof wrong / sizeof wrong[0]; i++) {
        parse(arena_printf(a, "x\n\"%s\"\n", wrong[i]), a, &c, &e);
        gsl_test(csv_num(&c, 0, 0, &v, &e), "refused: '%s'", wrong[i]);
        check_refused(&e, ERR_INPUT,
                      arena_printf(a, "f.csv:2: x: '%s' is not a finite number", wrong[i]));
    }
    arena_free(a);
}

static void shares_may_be_percent(void)
{
    static const char *const wrong[] = {"5.7 %%", "%", "%5", "5%6", "nan%"};
    struct arena *a = arena_new();
    struct csv c;
    struct err e;
    double v = 0;
    parse("x\n5.7%\n0.25\n1e2%\n", a, &c, &e);
    gsl_test(!csv_share(&c, 0, 0, &v, &e), "5.7%%: %s", e.text);
    gsl_test_rel(v, 0.057, 1e-15, "percent");
    gsl_test(!csv_share(&c, 1, 0, &v, &e) || v != 0.25, "a share");
    gsl_test(!csv_share(&c, 2, 0, &v, &e) || v != 1, "100%%");
    for (size_t i = 0; i < sizeof wrong / sizeof wrong[0]; i++) {
        parse(arena_printf(a, "x\n%s\n", wrong[i]), a, &c, &e);
        gsl_test(csv_share(&c, 0, 0, &v, &e), "refused: %s", wrong[i]);
    }
    arena_free(a);
}

/* The old reader went through a double: 2^53 + 1 lost its last digit, and 2^63 was undefined. */
static void whole_numbers_are_exact_and_in_range(void)
{
    struct arena *a = arena_new();
    struct csv c;
    struct err e;
    int64_t v = 42;
    parse("n\n9007199254740993\n9223372036854775808\n1.5\n-1\n", a, &c, &e);
    gsl_test(!csv_int(&c, 0, 0, 0, INT64_MAX, &v, &e) || v != 9007199254740993, "2^53 + 1");
    gsl_test(csv_int(&c, 1, 0, 0, INT64_MAX, &v, &e), "2^63");
    check_refused(&e, ERR_INPUT,
                  "f.csv:3: n: '9223372036854775808' is out of range, want a whole number from 0 "
                  "to 9223372036854775807");
    e = (struct err){0};
    gsl_test(csv_int(&c, 2, 0, 0, 9, &v, &e), "1.5");
    check_refused(&e, ERR_INPUT, "f.csv:4: n: '1.5' is not a whole number, want one from 0 to 9");
    e = (struct err){0};
    gsl_test(csv_int(&c, 3, 0, 0, 9, &v, &e), "-1");
    check_refused(&e, ERR_INPUT,
                  "f.csv:5: n: '-1' is out of range, want a whole number from 0 to 9");
    arena_free(a);
}

static void columns_are_found_by_name(void)
{
    struct arena *a = arena_new();
    struct csv c;
    struct err e;
    int column = -1;
    parse("step,keep\n", a, &c, &e);
    gsl_test(!csv_need(&c, "keep", &column, &e) || column != 1, "keep");
    gsl_test(csv_column(&c, "head") != -1, "no head");
    gsl_test(csv_need(&c, "head", &column, &e), "no head");
    check_refused(&e, ERR_INPUT, "f.csv:1: no column 'head'; there are: step, keep");
    arena_free(a);
}

/* A file of commas has the most fields for its bytes. */
static void memory_is_bounded_by_the_file(void)
{
    enum { COMMAS = 1 << 20 };
    struct arena *a = arena_new();
    struct csv c;
    struct err e = {0};
    char *text = malloc(COMMAS);
    memset(text, ',', COMMAS);
    gsl_test(!csv_parse("f.csv", text, COMMAS, a, &c, &e) || c.columns != COMMAS + 1, "%s", e.text);
    gsl_test(arena_bytes(a) > 40 * (size_t)COMMAS, "1 MiB of commas took %zu bytes",
             arena_bytes(a));
    free(text);
    arena_free(a);
}

/* RFC 4180, section 2: rules 5 to 7. */
static void a_field_is_quoted_only_where_it_must_be(void)
{
    static const char *const fields[][2] = {{"", ""},
                                            {"a b", "a b"},
                                            {"a,b", "\"a,b\""},
                                            {"say \"x\"", "\"say \"\"x\"\"\""},
                                            {"two\nlines", "\"two\nlines\""}};
    for (size_t i = 0; i < sizeof fields / sizeof *fields; i++) {
        char got[64] = "";
        FILE *f = fmemopen(got, sizeof got, "w");
        csv_put(fields[i][0], f);
        fclose(f);
        gsl_test(strcmp(got, fields[i][1]) != 0, "'%s' is written %s", fields[i][0], got);
    }
}

static void only_regular_files_are_read(struct arena *a)
{
    const char *folder = folder_new(a), *path = folder_file(folder, "x.csv", "a\n1\n", a);
    struct csv c;
    struct err e = {0};
    gsl_test(!csv_read(path, a, &c, &e) || c.rows != 1, "a file %s", e.text);
    gsl_test(csv_read("/dev/zero", a, &c, &e), "a device");
    check_refused(&e, ERR_INPUT, "/dev/zero: want a regular file of at most 256 MiB");
    e = (struct err){0};
    gsl_test(csv_read(folder, a, &c, &e), "a folder");
    e = (struct err){0};
    gsl_test(csv_read("no/such.csv", a, &c, &e), "no file");
    gsl_test(e.code == ERR_NONE, "%s", e.text);
    folder_remove(folder, a);
}

int main(void)
{
    struct arena *a = arena_new();
    fields_are_what_rfc_4180_says();
    a_broken_file_is_refused_with_its_line();
    numbers_are_finite_decimals();
    shares_may_be_percent();
    whole_numbers_are_exact_and_in_range();
    columns_are_found_by_name();
    memory_is_bounded_by_the_file();
    a_field_is_quoted_only_where_it_must_be();
    only_regular_files_are_read(a);
    arena_free(a);
    return gsl_test_summary();
}
