/* Fits the union models of model/sparsity.h to measured unions (GSL, Nelder-Mead), and says how wrong they are. */
#ifndef TRACES_FIT_H
#define TRACES_FIT_H

#include <stdbool.h>

/* One measured union: of a shard that holds `groups` query groups and extends over extent[] tokens. */
struct union_sample {
    double keep, groups, value;
    double extent[3];
};

struct union_fit {
    double rho, omega; /* Markov model; 0 for the field model */
    double length;     /* field model, tokens; 0 for the Markov model */
    double rms, worst; /* absolute error of U over the samples */
};

/* (rho, omega) with keep <= omega <= rho < 1 that minimise the squared error. count >= 1. */
void fit_union_markov(const struct union_sample *samples, int count, struct union_fit *out);

/* The correlation length, the same on the three axes. */
void fit_union_field(const struct union_sample *samples, int count, struct union_fit *out);

/* The error of given parameters, without a fit: what the model would have predicted from measured rho and omega. */
void fit_union_error(const struct union_sample *samples, int count, double rho, double omega,
                     struct union_fit *out);

#endif
