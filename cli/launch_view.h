/* What a program can run, as people read it. */
#ifndef CLI_LAUNCH_VIEW_H
#define CLI_LAUNCH_VIEW_H

#include <stdio.h>

#include "planner/launch.h"

/* The `top` best plans that the program can run at the chosen degree, and the settings of the
 * best. */
void launch_view(const struct launch *l, const struct plan_found *f, int top, FILE *out,
                 struct arena *a);

/* A note to `out` when blocks of `p` run sparse attention: settings do not say so. */
void launch_note(const struct plan *p, FILE *out);

#endif
