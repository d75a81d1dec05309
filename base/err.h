/* One error of a run: a code that is also the exit status, and a message that names the place, the
 * value and what would be right. The first error wins: err_set on an err that is already set
 * changes nothing. */
#ifndef BASE_ERR_H
#define BASE_ERR_H

#include <stdbool.h>

#ifdef __cplusplus
extern "C" {
#endif

enum err_code { /* the values are the program's exit statuses; docs/cli.md lists them */
                ERR_NONE = 0,
                ERR_SYSTEM = 1,     /* the machine said no: cannot read, write, fork */
                ERR_INPUT = 2,      /* bad input or usage */
                ERR_INFEASIBLE = 3, /* a right question without an answer: no plan fits */
                ERR_DEVICE = 4,     /* GPU, driver, a peer rank */
                ERR_TOLERANCE = 5   /* measured and predicted differ by more than was allowed */
};

/* Where in the input: `file` may also name an option ("--tokens"). line and column count from 1; 0
 * leaves them out. The strings must live until err_set returns. */
struct err_at {
    const char *file;
    int line, column;
};

struct err {
    enum err_code code;
    char text[1024]; /* "file:line:column: message", no newline; cut with "..." if longer */
};

/* Fills *e unless it is set already. Always returns false, so that a function can `return
 * err_set(...)`. */
bool err_set(struct err *e, enum err_code code, struct err_at at, const char *format, ...)
    __attribute__((format(printf, 4, 5)));

/* Puts "prefix: " before the message: a caller adds what the failing function could not know. */
void err_prefix(struct err *e, const char *format, ...) __attribute__((format(printf, 2, 3)));

/* Says why an input could not be opened, by errno. Status: a file that is not there was named
 * wrongly, ERR_INPUT; one that is there and will not open is the machine's, ERR_SYSTEM. Returns
 * false. */
bool err_open(struct err *e, struct err_at at);

/* The place of a command-line option or a whole file. */
struct err_at err_at_name(const char *name);

#ifdef __cplusplus
}
#endif
#endif
