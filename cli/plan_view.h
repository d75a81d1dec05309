/* A found plan as people read it, and as rows. */
#ifndef CLI_PLAN_VIEW_H
#define CLI_PLAN_VIEW_H

#include <stdio.h>

#include "base/table.h"
#include "planner/search.h"

/* The headline, the configurations over blocks, the `top` best of the slowest block, its ranks as
 * bars, and what the answer rests on. */
void plan_view(const struct plan_request *r, const struct plan_found *f, int top, FILE *out,
               struct arena *scratch);

/* One row for each block. */
struct table *plan_view_rows(const struct plan *p, struct arena *a);

#endif
