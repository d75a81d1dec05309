#include "base/cloc.h"

struct cloc cloc_enter(void)
{
    struct cloc l = {.c = newlocale(LC_ALL_MASK, "C", (locale_t)0)};
    l.old = uselocale(l.c);
    return l;
}

void cloc_leave(struct cloc l)
{
    uselocale(l.old);
    freelocale(l.c);
}
