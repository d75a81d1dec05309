/* The last rung of a ladder that holds: rungs 1, 2, 3, .. are legal clips from short to long, and
 * `holds` says whether one fits. */
#ifndef PLANNER_LADDER_H
#define PLANNER_LADDER_H

#include "base/err.h"

struct ladder {
    int most;   /* the highest rung there is, at least 1 */
    void *data; /* of `holds` */
    bool (*holds)(void *data, int rung, bool *yes, struct err *e);
};

/* How many rungs above the first that does not hold are looked at too: a better balance of heads
 * can make a slightly longer clip fit again. */
enum { LADDER_BEYOND = 4 };

/* Doubles, then halves the gap: *last holds (0: not even the first), the LADDER_BEYOND rungs above
 * it, as far as there are any, do not. Exact when no rung holds above one that does not. */
bool ladder_last(const struct ladder *l, int *last, struct err *e);

#endif
