/* Command-line options from tables. One table entry makes an option parse, be checked, be explained
 * by --help and the man page and be completed by the shell.
 *
 * --name value and --name=value; -x value where an option has a letter; "--" ends options; each
 * option once. A value that begins with '-' is taken unless it is itself an option. Errors are
 * ERR_INPUT at "--name". */
#ifndef CLI_ARGS_H
#define CLI_ARGS_H

#include <stdint.h>

#include "base/arena.h"
#include "base/err.h"
#include "base/qty.h"

enum arg_kind {
    ARG_FLAG,     /* no value */
    ARG_TEXT,     /* as written; empty text is refused */
    ARG_QTY,      /* a number of dimension `dim` */
    ARG_QTY_LIST, /* a,b,c of dimension `dim` */
    ARG_INT,      /* a whole number from least to most; "128k" is one */
    ARG_CHOICE,   /* one of `choices` */
    ARG_CHOICES   /* a,b,c of `choices` */
};

struct arg_option {
    const char *name; /* without the dashes */
    char letter;      /* 0: none */
    enum arg_kind kind;
    enum qty_dim dim;
    int64_t least, most;
    const char *const *choices; /* NULL-terminated */
    const char *value;          /* what help calls the value; "" for flags */
    const char *complete; /* what shells offer: "file", or what `show` lists ("models"); or NULL */
    const char *help;     /* a phrase with the default, no full stop */
};

/* A table's rows; the last is OPTION_END. */
/* clang-format off */
#define OPTION_FLAG(n, h)             {.name = n, .kind = ARG_FLAG, .value = "", .help = h}
#define OPTION_TEXT(n, v, offers, h)  {.name = n, .kind = ARG_TEXT, .value = v, .complete = offers, .help = h}
#define OPTION_QTY(n, d, v, h)        {.name = n, .kind = ARG_QTY, .dim = d, .value = v, .help = h}
#define OPTION_LIST(n, d, v, h)       {.name = n, .kind = ARG_QTY_LIST, .dim = d, .value = v, .help = h}
#define OPTION_INT(n, lo, hi, v, h)   {.name = n, .kind = ARG_INT, .least = lo, .most = hi, .value = v, .help = h}
#define OPTION_CHOICE(n, list, v, h)  {.name = n, .kind = ARG_CHOICE, .choices = list, .value = v, .help = h}
#define OPTION_CHOICES(n, list, v, h) {.name = n, .kind = ARG_CHOICES, .choices = list, .value = v, .help = h}
#define OPTION_OUTPUT(h)              {.name = "output", .letter = 'o', .kind = ARG_TEXT, .value = "FILE", \
                                       .complete = "file", .help = h}
#define OPTION_END                    {.name = NULL}
/* clang-format on */

/* Options that several commands share are a group; `title` heads it in --help. */
struct arg_group {
    const char *title;
    const struct arg_option *options; /* ends with a NULL name */
};

/* Is "--name" or "--name=value" an option of `groups` (NULL-terminated)? */
bool args_names(const struct arg_group *const *groups, const char *arg);

struct args; /* what was given; read-only */

/* argv[0] is the first argument after the command's name; `command` is for messages. NULL on error.
 */
struct args *args_parse(const char *command, const struct arg_group *const *groups, int argc,
                        char *const *argv, struct arena *a, struct err *e);

/* The same arguments with other values: options of `groups` that `base` has been given (NULL:
 * none), then `set` over them, by name without dashes. A NULL text takes the option away; flags
 * take any text. Values are checked as args_parse does. */
struct arg_setting {
    const char *name, *text;
};
struct args *args_over(const struct args *base, const char *command,
                       const struct arg_group *const *groups, const struct arg_setting *set,
                       int count, struct arena *a, struct err *e);

/* The command's tables have this option. */
bool args_known(const struct args *g, const char *name);

/* `name` must be in the tables and of the kind that the function says (assert). */
bool args_given(const struct args *g, const char *name);
const char *args_text(const struct args *g,
                      const char *name); /* any kind, as written; NULL when not given */
double args_qty_or(const struct args *g, const char *name, double fallback);
int64_t args_int_or(const struct args *g, const char *name, int64_t fallback);
int args_choice_or(const struct args *g, const char *name, int fallback);
const bool *args_choices(const struct args *g,
                         const char *name); /* [choices]; NULL when not given */
const double *args_list(const struct args *g, const char *name,
                        int *count); /* NULL when not given */

/* "--name", for errors about a value that was given. */
struct err_at args_at(const struct args *g, const char *name);

/* Options that say the same thing (names: NULL-terminated): the one given, or NULL when none is.
 * Two are an error, and none is one if `needed`. */
const char *args_one_of(const struct args *g, const char *const *names, bool needed, struct err *e);

/* ERR_INPUT "--model: is needed" unless given. */
bool args_need(const struct args *g, const char *name, struct err *e);

int args_operands(const struct args *g); /* arguments that are not options */
const char *args_operand(const struct args *g, int i);

#endif
