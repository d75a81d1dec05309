#include "base/err.h"

#include <errno.h>

#include "tests/base/check.h"

static void a_message_has_its_place_in_front(void)
{
    static const struct {
        struct err_at at;
        const char *want;
    } rows[] = {
        {{"f.yaml", 7, 22}, "f.yaml:7:22: x is 3"},
        {{"f.yaml", 7, 0}, "f.yaml:7: x is 3"},
        {{"f.yaml", 0, 0}, "f.yaml: x is 3"},
        {{NULL, 0, 0}, "x is 3"},
    };
    for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++) {
        struct err e = {0};
        gsl_test(err_set(&e, ERR_INPUT, rows[i].at, "%s is %d", "x", 3), "err_set gives false");
        check_refused(&e, ERR_INPUT, rows[i].want);
    }
}

static void the_first_error_wins(void)
{
    struct err e = {0};
    err_set(&e, ERR_INPUT, err_at_name("--tokens"), "first");
    err_set(&e, ERR_SYSTEM, err_at_name("--heads"), "second");
    check_refused(&e, ERR_INPUT, "--tokens: first");
    err_prefix(&e, "plan %d", 2);
    check_refused(&e, ERR_INPUT, "plan 2: --tokens: first");
}

static void a_long_message_is_cut_with_dots(void)
{
    struct err e = {0};
    err_set(&e, ERR_INPUT, err_at_name("f"), "%02000d", 7);
    gsl_test(strlen(e.text) != sizeof e.text - 1, "it fills the text, %zu", strlen(e.text));
    check_text(e.text + sizeof e.text - 6, "00...", "end");
    err_prefix(&e, "%02000d", 7);
    gsl_test(strlen(e.text) != sizeof e.text - 1, "and still does, %zu", strlen(e.text));
}

static void values_cannot_rule_the_terminal(void)
{
    struct err e = {0};
    err_set(&e, ERR_INPUT, err_at_name("a\nb"), "'%s'", "\x1b[2J\r\x7f \u00e9");
    check_refused(&e, ERR_INPUT, "a?b: '?[2J?? \u00e9'");
    e = (struct err){0};
    err_set(&e, ERR_INPUT, err_at_name("f"), "'%.4s'",
            "\u20ac\u20ac"); /* a character cut in two, a C1 control */
    check_refused(&e, ERR_INPUT, "f: '\u20ac?'");
    e = (struct err){0};
    err_set(&e, ERR_INPUT, err_at_name("f"),
            "\xc2\x9b"
            "2J \xff");
    check_refused(&e, ERR_INPUT, "f: ??2J ?");
}

static void a_file_that_is_not_there_was_named_wrongly(void)
{
    static const struct {
        int reason;
        enum err_code code;
    } of[] = {
        {ENOENT, ERR_INPUT}, {ENOTDIR, ERR_INPUT}, {EACCES, ERR_SYSTEM}, {EMFILE, ERR_SYSTEM}};
    for (size_t i = 0; i < sizeof of / sizeof *of; i++) {
        struct err e = {0};
        errno = of[i].reason;
        gsl_test(err_open(&e, err_at_name("plan.json")), "it is a failure");
        gsl_test_int((int)e.code, (int)of[i].code, "%s", e.text);
    }
}

int main(void)
{
    a_file_that_is_not_there_was_named_wrongly();
    a_message_has_its_place_in_front();
    the_first_error_wins();
    a_long_message_is_cut_with_dots();
    values_cannot_rule_the_terminal();
    return gsl_test_summary();
}
