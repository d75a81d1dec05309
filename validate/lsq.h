/* Robust non-linear least squares (GSL's trust-region solver, derivatives by differences). A
 * residual r counts as r while it is small against `scale` and as sqrt(2 r scale) when it is large
 * ("soft l1"), so that one bad row does not bend a curve. */
#ifndef VALIDATE_LSQ_H
#define VALIDATE_LSQ_H

#include <stdbool.h>

#include "base/err.h"

/* f fills residual[rows] for the parameters x[count]. x holds the start and receives the answer.
 * ERR_INPUT when there are fewer residuals than parameters or the solver finds no finite answer. */
bool lsq_fit(void (*f)(const double *x, const void *data, double *residual), const void *data,
             int rows, double *x, int count, double scale, struct err *e);

/* The q-quantile (0..1) of v[count], which is sorted in place; the small-sample rule of split
 * conformal prediction: the ceil(q (count + 1))-th smallest, the largest when there are too few. 0
 * for an empty list. */
double quantile(double *v, int count, double q);

#endif
