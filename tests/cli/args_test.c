/* The option parser, on a table of its own. */
#include <math.h>
#include <string.h>

#include <gsl/gsl_test.h>

#include "cli/args.h"

static const char *const colours[] = {"red", "green", "blue", NULL};
static const struct arg_group some = {
    "Some",
    (const struct arg_option[]){
        {.name = "size",
         .letter = 's',
         .kind = ARG_QTY,
         .dim = QTY_BYTES,
         .value = "SIZE",
         .help = "how large"},
        {.name = "count",
         .kind = ARG_INT,
         .least = 1,
         .most = 1000000,
         .value = "N",
         .help = "how many"},
        {.name = "colour", .kind = ARG_CHOICE, .choices = colours, .value = "C", .help = "which"},
        {.name = "colours",
         .kind = ARG_CHOICES,
         .choices = colours,
         .value = "C,..",
         .help = "which ones"},
        {0}}};
static const struct arg_group more = {
    "More",
    (const struct arg_option[]){
        {.name = "list", .kind = ARG_QTY_LIST, .dim = QTY_RATIO, .value = "A,B", .help = "numbers"},
        {.name = "file", .letter = 'o', .kind = ARG_TEXT, .value = "FILE", .help = "where"},
        {.name = "loud", .kind = ARG_FLAG, .value = "", .help = "say more"},
        {0}}};
static const struct arg_group *const groups[] = {&some, &more, NULL};

static struct args *parse(struct arena *a, struct err *e, int count, char **words)
{
    *e = (struct err){0};
    return args_parse("try", groups, count, words, a, e);
}
#define PARSE(...)                                                                                 \
    parse(a, &e, (int)(sizeof((char *[]){__VA_ARGS__}) / sizeof(char *)), (char *[]){__VA_ARGS__})

static void values_stand_apart_or_after_an_equals_sign(struct arena *a)
{
    struct err e;
    struct args *g = PARSE("--size", "64 MiB", "--count=2k", "--loud");
    gsl_test(!g, "parses: %s", e.text);
    gsl_test_rel(args_qty_or(g, "size", 0), 67108864, 1e-15, "64 MiB");
    gsl_test_int((int)args_int_or(g, "count", 0), 2000, "2k is a whole number");
    gsl_test(!args_given(g, "loud"), "a flag needs no value");
    gsl_test(args_given(g, "file") || args_text(g, "file"), "what is not given is not given");
}

static void a_letter_stands_for_its_option(struct arena *a)
{
    struct err e;
    struct args *g = PARSE("-o", "-", "-s", "1kB");
    gsl_test(!g || strcmp(args_text(g, "file"), "-") != 0, "-o - is standard output");
    gsl_test(!g || args_qty_or(g, "size", 0) != 1000, "-s");
}

static void lists_and_choices_keep_their_order(struct arena *a)
{
    struct err e;
    int count = 0;
    struct args *g = PARSE("--list", "0.5,25%,1", "--colours=blue,red", "--colour", "green");
    const double *list = g ? args_list(g, "list", &count) : NULL;
    gsl_test(count != 3 || list[0] != 0.5 || list[1] != 0.25 || list[2] != 1, "three ratios");
    const bool *chosen = g ? args_choices(g, "colours") : NULL;
    gsl_test(!chosen || !chosen[0] || chosen[1] || !chosen[2], "red and blue, not green");
    gsl_test_int(g ? args_choice_or(g, "colour", 0) : -1, 1, "green");
}

static void what_follows_two_dashes_is_no_option(struct arena *a)
{
    struct err e;
    struct args *g = PARSE("first", "--", "--loud", "-o");
    gsl_test_int(g ? args_operands(g) : -1, 3, "three operands");
    gsl_test(!g || strcmp(args_operand(g, 1), "--loud") != 0, "as written");
}

static void a_value_may_begin_with_a_dash_unless_it_is_an_option(struct arena *a)
{
    struct err e;
    struct args *g = PARSE("--file", "-strange-name");
    gsl_test(!g || strcmp(args_text(g, "file"), "-strange-name") != 0, "a name with a dash");
    gsl_test(PARSE("--file", "--loud") != NULL || !strstr(e.text, "--file: needs a value"),
             "an option is no value: %s", e.text);
}

/* Every mistake: the words, and what the message must contain. */
static void mistakes_are_named(struct arena *a)
{
    static const struct {
        char *words[3];
        int count;
        const char *says;
    } cases[] = {
        {{"--sise", "1kB"}, 2, "did you mean '--size'?"},
        {{"--colour", "gren"}, 2, "did you mean 'green'?"},
        {{"--colours", "red,,blue"}, 2, "'' is not one of red, green, blue"},
        {{"--size"}, 1, "--size: needs a value: SIZE, how large"},
        {{"--size", ""}, 2, "--size: the value is empty"},
        {{"--size", "5"}, 2, "--size: '5'"},
        {{"--size", "nan B"}, 2, "--size: 'nan B'"},
        {{"--count", "0"}, 2, "from 1 to 1000000"},
        {{"--count", "1.5"}, 2, "not a whole number"},
        {{"--list", "0.5,x"}, 2, "--list, number 2"},
        {{"--loud=1"}, 1, "takes no value, got '1'"},
        {{"--loud", "--loud"}, 2, "--loud: is given twice"},
        {{"-z"}, 1, "'-z' is no option of `shardwise try`"},
        {{"--="}, 1, "is no option"},
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        struct err e;
        struct args *g = parse(a, &e, cases[i].count, (char **)cases[i].words);
        gsl_test(g || e.code != ERR_INPUT || !strstr(e.text, cases[i].says), "%s %s: %s",
                 cases[i].words[0], cases[i].count > 1 ? cases[i].words[1] : "", e.text);
    }
}

static void options_that_say_the_same_exclude_each_other(struct arena *a)
{
    static const char *const names[] = {"size", "count", "list", NULL};
    struct err e;
    struct args *g = PARSE("--count", "3");
    const char *one = args_one_of(g, names, true, &e);
    gsl_test(!one || strcmp(one, "count") != 0, "the one that was given");
    g = PARSE("--count", "3", "--list", "1");
    gsl_test(args_one_of(g, names, true, &e) || !strstr(e.text, "--count already says it"),
             "two are refused: %s", e.text);
    g = PARSE("--loud");
    gsl_test(args_one_of(g, names, false, &e) || e.code != ERR_NONE,
             "none is fine where none is needed");
    gsl_test(args_one_of(g, names, true, &e) ||
                 strcmp(e.text, "--size, --count or --list is needed") != 0,
             "%s", e.text);
}

static void others_can_be_laid_over_what_was_given(struct arena *a)
{
    struct err e;
    struct args *base = PARSE("--size", "64 MiB", "--count=2", "--loud");
    const struct arg_group *const fewer[] = {&some, NULL};
    struct arg_setting set[] = {{"count", "3"}, {"size", NULL}, {"colour", "green"}};
    struct args *g = args_over(base, "try", fewer, set, 3, a, &e);
    gsl_test(!g, "%s", e.text);
    gsl_test_int((int)args_int_or(g, "count", 0), 3, "another value");
    gsl_test(args_given(g, "size"), "taken away");
    gsl_test_int(args_choice_or(g, "colour", 0), 1, "a new one");
    gsl_test(args_known(g, "loud"), "and nothing from other tables");
    gsl_test_int((int)args_int_or(base, "count", 0), 2, "what was given stays");
    set[0].text = "many";
    gsl_test(args_over(base, "try", fewer, set, 3, a, &e) != NULL, "checked like any value");
    gsl_test(!strstr(e.text, "--count"), "named: %s", e.text);
}

int main(void)
{
    struct arena *a = arena_new();
    values_stand_apart_or_after_an_equals_sign(a);
    a_letter_stands_for_its_option(a);
    lists_and_choices_keep_their_order(a);
    what_follows_two_dashes_is_no_option(a);
    a_value_may_begin_with_a_dash_unless_it_is_an_option(a);
    mistakes_are_named(a);
    options_that_say_the_same_exclude_each_other(a);
    others_can_be_laid_over_what_was_given(a);
    arena_free(a);
    return gsl_test_summary();
}
