/* What the tests of base/ share: a message is compared whole, and texts are read back from streams.
 */
#ifndef TESTS_BASE_CHECK_H
#define TESTS_BASE_CHECK_H

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <gsl/gsl_test.h>

#include "base/err.h"

static inline void check_text(const char *got, const char *want, const char *what)
{
    bool same = got && strcmp(got, want) == 0;
    gsl_test(!same, "%s: %s", what, want);
    if (!same)
        fprintf(stderr, "  got:  %s\n  want: %s\n", got ? got : "(null)", want);
}

static inline void check_refused(const struct err *e, enum err_code code, const char *want)
{
    gsl_test(e->code != code, "code %d for: %s", (int)code, want);
    check_text(e->text, want, "message");
}

/* A stream in memory: write, then memory_close gives the text (free it). */
struct memory {
    FILE *out;
    char *text;
    size_t size;
};

static inline void memory_open(struct memory *m)
{
    *m = (struct memory){0};
    m->out = open_memstream(&m->text, &m->size);
}

static inline char *memory_close(struct memory *m)
{
    fclose(m->out);
    return m->text;
}

#endif
