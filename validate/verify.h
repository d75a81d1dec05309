/* Distributed attention must equal attention on one rank: the whole block computed here, without
 * any exchange, from the same seeded inputs. */
#ifndef VALIDATE_VERIFY_H
#define VALIDATE_VERIFY_H

#include "validate/exec.h"

struct truth; /* O and gradients of all tokens, in host memory */

struct truth *truth_new(const struct exec_case *c, const struct kern_backend *b, struct err *e);
void truth_free(struct truth *t); /* accepts NULL */

/* Relative L2 distance of a rank's results from the truth, per tensor; a NaN makes it NaN. */
struct verify_distance {
    double o, dq, dk, dv;
};
struct verify_distance truth_distance(const struct truth *t, const struct exec_result *r);

/* What rounding explains: O and the gradients travel as bf16 (2^-9 relative, each element), sums of
 * a few parts. */
enum { VERIFY_O_PPM = 5000, VERIFY_GRADIENT_PPM = 10000 };
bool verify_close(struct verify_distance d); /* false for NaN */

#endif
