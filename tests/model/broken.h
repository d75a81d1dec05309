/* What the tests of the loaders share: a right file to be broken one line at a time, and errors
 * that say what they should. */
#ifndef TESTS_MODEL_BROKEN_H
#define TESTS_MODEL_BROKEN_H

#include <string.h>

#include "base/arena.h"
#include "base/err.h"

static inline bool says(const struct err *e, const char *text)
{
    return e->code == ERR_INPUT && strstr(e->text, text) != NULL;
}

/* `right` with its line that begins like `line`, up to the colon, replaced. */
static inline const char *broken(const char *right, const char *line, struct arena *a)
{
    size_t key = strcspn(line, ":") + 1;
    const char *at = right;
    while (strncmp(at, line, key) != 0)
        at = strchr(at, '\n') + 1;
    return arena_printf(a, "%.*s%s\n%s", (int)(at - right), right, line, strchr(at, '\n') + 1);
}

#endif
