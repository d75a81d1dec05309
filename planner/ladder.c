#include "planner/ladder.h"

/* Between a rung that holds (or 0) and one that does not. */
static bool halve(const struct ladder *l, int low, int high, int *last, struct err *e)
{
    while (high - low > 1) {
        int middle = low + (high - low) / 2;
        bool yes;
        if (!l->holds(l->data, middle, &yes, e))
            return false;
        *(yes ? &low : &high) = middle;
    }
    *last = low;
    return true;
}

/* From a rung that holds (or 0) up to the next one that does not. */
static bool climb(const struct ladder *l, int from, int *last, struct err *e)
{
    int low = from;
    for (int step = 1; low < l->most; step = step < l->most / 2 ? 2 * step : step) {
        int next = l->most - low > step ? low + step : l->most;
        bool yes;
        if (!l->holds(l->data, next, &yes, e))
            return false;
        if (!yes)
            return halve(l, low, next, last, e);
        low = next;
    }
    *last = low;
    return true;
}

bool ladder_last(const struct ladder *l, int *last, struct err *e)
{
    int found;
    bool yes = true;
    if (!climb(l, 0, &found, e))
        return false;
    for (int above = 2; above <= LADDER_BEYOND && above <= l->most - found; above++) {
        if (!l->holds(l->data, found + above, &yes, e))
            return false;
        if (yes) {
            if (!climb(l, found + above, &found, e))
                return false;
            above = 1;
        }
    }
    *last = found;
    return true;
}
