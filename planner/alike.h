/* Plans whose blocks are alike: the search behind plan_request.alike. */
#ifndef PLANNER_ALIKE_H
#define PLANNER_ALIKE_H

#include "planner/search.h"

/* The best plan of degree `cp` with r->alike, exactly: each configuration that all blocks may share
 * is searched alone. Fills plan, compared and kinds of *out. When none fits: ERR_INFEASIBLE and the
 * compared blocks of the one that came nearest, or ERR_INPUT when there was none to try. */
bool plan_search_alike(const struct plan_request *r, int cp, struct plan_found *out,
                       struct arena *a, struct err *e);

#endif
