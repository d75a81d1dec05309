/* What a table's own scatter leaves to any prediction. Rows measured twice say how far two runs
 * differ. Where each row was measured once, neighbours stand in: shapes so close that every smooth
 * form treats them alike. What a fit leaves over, ln(predicted / measured), may be its own fault as
 * far as neighbours share it; what they do not share is noise or a choice of the library's that
 * changes from shape to shape. In both cases two values that scatter independently about a truth by
 * a mean of x differ by sqrt(2) x on average (normal errors), so the mean error that stays is the
 * mean difference / sqrt(2) (the nugget of a variogram). */
#ifndef VALIDATE_FLOOR_H
#define VALIDATE_FLOOR_H

#include "model/prof.h"
#include "validate/point.h"

struct scatter {
    int rows;                      /* of the GPU, with a role, that count as long or large */
    int twice, pairs;              /* rows measured more than once; pairs of neighbours */
    double run_gap, neighbour_gap; /* mean |ln| between runs; between neighbours' residuals */
    double floor; /* mean error that stays: neighbour_gap, without pairs run_gap, / sqrt(2); NaN
                     with neither */
};

/* The forward rows of one GPU over 1 ms, or from 1 MB on. `fit` predicts them; NULL (collectives:
 * their curves go through every row) leaves neighbours out. Neighbours: one mask and head width, or
 * GEMM; at most two octaves apart, all lengths together. */
struct scatter scatter_of(const struct points *pts, const char *gpu,
                          const struct prof_kernels *fit);

#endif
