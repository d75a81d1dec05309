/* Sparsity of 16 heads as published in the artifact of DSV (arXiv 2502.07590, branch ae): the
 * solver's two examples and the inputs of experiments 4 and 6. */
#ifndef TESTS_PLANNER_DSV_HEADS_H
#define TESTS_PLANNER_DSV_HEADS_H

enum { DSV_HEADS = 16, DSV_VECTORS = 5 };
enum { DSV_SOLVER_1, DSV_SOLVER_2, DSV_EXP4, DSV_EXP6_CASE0, DSV_EXP6_CASE1 };

static const char *const dsv_names[DSV_VECTORS] = {"solver 1", "solver 2", "exp4", "exp6 case 0",
                                                   "exp6 case 1"};

static const double dsv_sparsity[DSV_VECTORS][DSV_HEADS] = {
    {0.6, 0.73, 0.97, 0.93, 0.95, 0.95, 0.98, 0.96, 0.94, 0.87, 0.99, 0.92, 0.91, 0.93, 0.95, 0.93},
    {0.8267, 0.9984, 0.9973, 0.9980, 0.9817, 0.9930, 0.9981, 0.9918, 0.9886, 0.9632, 0.9962, 0.9898,
     0.8122, 0.9097, 0.9542, 0.9985},
    {0.98, 0.93, 0.90, 0.80, 0.92, 0.80, 0.73, 0.99, 0.94, 0.96, 0.95, 0.83, 0.81, 0.97, 0.95,
     0.93},
    {0.88, 0.96, 0.98, 0.88, 0.90, 0.85, 0.82, 0.86, 0.94, 0.96, 0.95, 0.97, 0.96, 0.96, 0.95,
     0.93},
    {0.93, 0.93, 0.94, 0.92, 0.95, 0.94, 0.92, 0.95, 0.95, 0.94, 0.94, 0.92, 0.92, 0.91, 0.91,
     0.91},
};

/* What a head costs: the share of keys that it keeps. */
static inline void dsv_keeps(int vector, double *keep)
{
    for (int h = 0; h < DSV_HEADS; h++)
        keep[h] = 1 - dsv_sparsity[vector][h];
}

#endif
