/* Numbers are read and written with a point, whatever LC_NUMERIC a host program has set: the C
 * locale for this thread, from cloc_enter to cloc_leave. */
#ifndef BASE_CLOC_H
#define BASE_CLOC_H

#include <locale.h>

struct cloc {
    locale_t c, old;
};

struct cloc cloc_enter(void);
void cloc_leave(struct cloc l);

#endif
