/* The second reference of the numerical recipe: attention in double precision that rounds to bf16
 * where a kernel on tensor cores must (P before P V and P^T dO, dS before dS K and dS^T Q, O when
 * it is stored) and where it may (dK and dV, as FlashAttention's outputs: CUDA's ordered sums are
 * of parts in bf16), and the rule of FlashAttention's tests: a kernel may be at most twice as far
 * from the exact result as this is, plus 1e-5. */
#ifndef TESTS_KERNELS_ROUNDING_H
#define TESTS_KERNELS_ROUNDING_H

#include "tests/kernels/problem.h"

/* Forward and backward of all heads, in place of a backend's. */
void rounding_run(struct problem *p);

/* Largest absolute difference from `exact`: of O as stored (bf16, against the exact O32), dQ, dK,
 * dV. NaN if there is one. */
struct rounding_errors {
    double o, dq, dk, dv;
};
struct rounding_errors rounding_errors(const struct problem *p, const struct problem *exact);

#endif
