#include "planner/replan.h"

#include <assert.h>
#include <math.h>
#include <stdbool.h>
#include <stddef.h>

static double step_s(const struct replan_run *r, int i, int j)
{
    return r->step_s[(size_t)i * (size_t)r->count + (size_t)j];
}

double replan_regret(const struct replan_run *r, int i, int j)
{
    return fmax(0, step_s(r, i, j) - step_s(r, j, j));
}

/* Between points the regret is a straight line of slope m, along which age x regret - (regret so
 * far) grows as m age^2 / 2. */
struct replan_pace replan_pace(const struct replan_run *r, int i)
{
    double age = 0, regret = 0, lost = 0;
    for (int j = i + 1; j < r->count && isfinite(step_s(r, i, j)); j++) {
        double to = r->step[j] - r->step[i], slope = (replan_regret(r, i, j) - regret) / (to - age);
        double end = slope > 0 ? sqrt(age * age + 2 * (r->replan_s - lost) / slope) : INFINITY;
        if (end <= to)
            return (struct replan_pace){(regret + slope * (end - age)) / end, end};
        lost += slope * (to * to - age * age) / 2;
        regret = replan_regret(r, i, j);
        age = to;
    }
    return (struct replan_pace){age > 0 ? regret / age : 0, INFINITY};
}

/* Steps of points [from, to) with from's plan. Where it no longer fits at `to`, a new plan is there
 * by then: the last stretch is priced as it began. */
static double piece_s(const struct replan_run *r, int from, int to)
{
    double sum = 0;
    for (int j = from; j < to; j++) {
        double left = step_s(r, from, j), right = step_s(r, from, j + 1);
        bool last = j + 1 == to && to + 1 < r->count;
        sum +=
            (r->step[j + 1] - r->step[j]) * (left + (isfinite(right) || !last ? right : left)) / 2;
    }
    return sum;
}

double replan_total_s(const struct replan_run *r, const int *at, int count)
{
    double sum = r->replan_s * (count - 1);
    assert(count > 0 && at[0] == 0);
    for (int k = 0; k < count; k++)
        sum += piece_s(r, at[k], k + 1 < count ? at[k + 1] : r->count - 1);
    return sum;
}

int replan_best(const struct replan_run *r, int *at, struct arena *scratch)
{
    int n = r->count, count = 0;
    double *least = ARENA_ARRAY(scratch, double, n);
    int *before = ARENA_ARRAY(scratch, int, n);
    for (int j = 1; j < n; j++) { /* a plan ends at j: the next begins there, or the run ends */
        least[j] = INFINITY;
        before[j] = 0;
        for (int i = 0; i < j; i++) {
            double s = least[i] + piece_s(r, i, j) + (i > 0 ? r->replan_s : 0);
            if (s < least[j]) {
                least[j] = s;
                before[j] = i;
            }
        }
    }
    for (int j = n - 1; j > 0; j = before[j])
        at[count++] = before[j];
    for (int k = 0; k < count / 2; k++) {
        int swap = at[k];
        at[k] = at[count - 1 - k];
        at[count - 1 - k] = swap;
    }
    return count;
}

int replan_by_pace(const struct replan_run *r, int *at)
{
    int count = 0;
    for (int i = 0; i + 1 < r->count;) {
        at[count++] = i;
        double until = r->step[i] + replan_pace(r, i).interval;
        int next = i + 1;
        while (next + 1 < r->count && isfinite(step_s(r, i, next + 1)) &&
               fabs(r->step[next + 1] - until) <= fabs(r->step[next] - until))
            next++;
        i = next;
    }
    return count;
}
