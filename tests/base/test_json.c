/* Expected texts are written by hand after RFC 8259. */
#include "base/json.h"

#include <float.h>
#include <math.h>

#include "tests/base/check.h"

static void commas_breaks_and_indents_are_the_writers_business(void)
{
    struct memory m;
    memory_open(&m);
    struct json j = json_to(m.out);
    json_object(&j, NULL);
    json_int(&j, "a", 1);
    json_array(&j, "b");
    json_bool(&j, NULL, true);
    json_object(&j, NULL);
    json_end(&j);
    json_array(&j, NULL);
    json_end(&j);
    json_end(&j);
    json_text(&j, "c", "x");
    json_end(&j);
    char *text = memory_close(&m);
    check_text(text,
               "{\n  \"a\": 1,\n  \"b\": [\n    true,\n    {},\n    []\n  ],\n  \"c\": \"x\"\n}\n",
               "document");
    free(text);
}

static void compact_parts_stay_on_one_line(void)
{
    struct memory m;
    memory_open(&m);
    struct json j = json_to(m.out);
    json_object(&j, NULL);
    j.compact = true;
    json_array(&j, "row");
    j.compact = false;
    json_int(&j, NULL, 1);
    json_array(&j, NULL);
    json_int(&j, NULL, 2);
    json_end(&j);
    json_end(&j);
    json_int(&j, "next", 3);
    json_end(&j);
    char *text = memory_close(&m);
    check_text(text, "{\n  \"row\": [1, [2]],\n  \"next\": 3\n}\n", "document");
    free(text);
}

static void check_value(void (*put)(struct json *j), const char *want)
{
    struct memory m;
    memory_open(&m);
    struct json j = json_to(m.out);
    put(&j);
    char *text = memory_close(&m);
    check_text(text, want, "value");
    free(text);
}

static void put_nan(struct json *j)
{
    j->compact = true;
    json_array(j, NULL);
    json_num(j, NULL, NAN);
    json_num(j, NULL, INFINITY);
    json_num(j, NULL, -INFINITY);
    json_text(j, NULL, NULL);
    json_end(j);
}

static void put_numbers(struct json *j)
{
    j->compact = true;
    json_array(j, NULL);
    json_num(j, NULL, 0.1);
    json_num(j, NULL, -0.0);
    json_num(j, NULL, 1e300);
    json_num(j, NULL, DBL_TRUE_MIN);
    json_num(j, NULL, 450e9);
    json_int(j, NULL, INT64_MIN);
    json_end(j);
}

static void put_escapes(struct json *j)
{
    j->compact = true;
    json_array(j, NULL);
    json_text(j, NULL, "\"\\/\b\f\n\r\t\x01\x1f\x7f");
    json_text(j, NULL, "\u00e9 \u20ac \U0001f600");
    json_text(j, NULL,
              "\xc2\x85\u2028\u2029\ufeff\uffff\u00a0"); /* YAML breaks lines at the first three */
    json_end(j);
}

/* One byte that cannot start, one overlong form, one surrogate, one over U+10FFFF, one cut short.
 */
static void put_broken_utf8(struct json *j)
{
    j->compact = true;
    json_array(j, NULL);
    json_text(j, NULL,
              "a\xff"
              "b");
    json_text(j, NULL, "\xc0\xaf");
    json_text(j, NULL, "\xed\xa0\x80");
    json_text(j, NULL, "\xf4\x90\x80\x80");
    json_text(j, NULL, "\xe2\x82");
    json_end(j);
}

static void every_value_is_json(void)
{
    check_value(put_nan, "[null, null, null, null]\n");
    check_value(put_numbers,
                "[0.1, -0, 1e+300, 4.94065645841247e-324, 450000000000, -9223372036854775808]\n");
    check_value(put_escapes,
                "[\"\\\"\\\\/\\b\\f\\n\\r\\t\\u0001\\u001f\\u007f\", \"\u00e9 \u20ac \U0001f600\", "
                "\"\\u0085\\u2028\\u2029\\ufeff\\uffff\u00a0\"]\n");
    check_value(put_broken_utf8, "[\"a\\ufffdb\", \"\\ufffd\\ufffd\", \"\\ufffd\\ufffd\\ufffd\", "
                                 "\"\\ufffd\\ufffd\\ufffd\\ufffd\", \"\\ufffd\\ufffd\"]\n");
}

static void thirty_two_levels_fit(void)
{
    struct memory m;
    memory_open(&m);
    struct json j = json_to(m.out);
    j.compact = true;
    for (int i = 0; i < 32; i++)
        json_array(&j, NULL);
    for (int i = 0; i < 32; i++)
        json_end(&j);
    char *text = memory_close(&m);
    gsl_test(strlen(text) != 65, "32 brackets, 32 brackets and a line end");
    free(text);
}

int main(void)
{
    commas_breaks_and_indents_are_the_writers_business();
    compact_parts_stay_on_one_line();
    every_value_is_json();
    thirty_two_levels_fit();
    return gsl_test_summary();
}
