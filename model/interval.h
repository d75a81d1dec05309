/* A time with an error bar. The bar is a 90 % interval: [value / f, value * f] with f = exp(half),
 * where `half` comes from points that the fit had not seen (docs/calibration.md).
 *
 * Sums and maxima. Errors of one class come from the same fitted curve and have mostly the same
 * sign, so within a class they add up in full; two classes are fitted on different measurements and
 * are taken as independent. A step whose critical path spends t[c] seconds in class c is then off
 * by sqrt(sum_c (t[c] * half[c])^2) seconds nine times out of ten. The maximum over ranks needs no
 * rule of its own: the slowest rank's path is the sum, and a rank close behind it shares the
 * classes' errors. Pessimistic for many different kernels of one class, optimistic where one cause
 * (a hot room, a slow clock) moves all classes. */
#ifndef MODEL_INTERVAL_H
#define MODEL_INTERVAL_H

#include <stdbool.h>

struct interval {
    double value_s, low_s, high_s;
};

/* half >= 0: natural logarithm of the factor up and down. */
struct interval interval_of(double value_s, double half);

/* The sum of `count` classes: time_s[c] seconds of class c, whose half-width is half[c]. A time of
 * zero counts for nothing. The interval is a factor up and down again, exp(sqrt(sum (t h)^2) / sum
 * t). */
struct interval interval_sum(const double *time_s, const double *half, int count);

/* Two plans on the same hardware share their classes' errors, so what they have in common cancels:
 * the difference a - b is known to sqrt(sum_c ((a[c] - b[c]) * half[c])^2). A tie when zero lies
 * within. *widest, if not NULL, is the class that contributes most to the doubt: the one to measure
 * first; -1 when there is none. */
bool interval_tie(const double *a_s, const double *b_s, const double *half, int count, int *widest);

#endif
