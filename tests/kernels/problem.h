/* Attention problems for the kernels' tests: seeded inputs, guarded and poisoned buffers, and the
 * distance between two results. Expected numbers come from the reference backend, which
 * test_kernels_reference holds against finite differences and hand arithmetic. */
#ifndef TESTS_KERNELS_PROBLEM_H
#define TESTS_KERNELS_PROBLEM_H

#include "kernels/kern.h"

enum { PROBLEM_HEADS = 4 };

struct problem_shape {
    int dim, heads;
    int64_t q_rows, kv_rows, group;
    int keep[PROBLEM_HEADS]; /* keys per group of each head; -1: dense */
    double logit_std;
    double logit_mean; /* < 0: all logits lie around it */
    int dense_as_list; /* with keep = kv_rows: lists, not the dense path */
    int like_before;   /* percent of a group's keys that the group before has too, -1 for none; 0:
                          each group draws its own */
    bool uneven;       /* groups have `keep`, half as many and no keys by turns */
    uint64_t seed;
};

struct problem {
    struct problem_shape shape;
    struct kern_attention a;
    struct kern_head head[PROBLEM_HEADS];
    int32_t *list[PROBLEM_HEADS], *count[PROBLEM_HEADS];
    void *buffers[128];
    size_t sizes[128];
    int buffer_count;
};

/* Every K and V row that no group selects is NaN, list entries beyond the count are INT32_MAX,
 * outputs start as NaN and gradients as zero, and 256 bytes around each buffer hold a pattern.
 * Memory is the host's. */
void problem_new(struct problem *p, const struct problem_shape *s);
void problem_free(struct problem *p);

/* The same inputs with outputs of their own. */
void problem_twin(struct problem *twin, const struct problem *p);

/* Guards are untouched. */
bool problem_guards_hold(const struct problem *p);

struct distance { /* relative L2; LSE: largest absolute difference */
    double o, lse, dq, dk, dv;
    /* worst row's relative L2; a row shorter than a tenth of the mean row counts as that long
     */
    double o_row, dq_row, dk_row, dv_row;
    double rounded;   /* outputs o that are not o32 rounded to bf16 */
    double effective; /* smallest over heads of mean 1 / sum p^2: a one-hot softmax would be 1; 0 if
                         not computed */
};
struct distance problem_distance(const struct problem *p, const struct problem *expected);

/* Number of keys that the softmax of row i really mixes: 1 / sum_j p_ij^2, by definition. */
double problem_effective(const struct problem *p, int head, int64_t row);

/* Byte-equal outputs and gradients. */
bool problem_same(const struct problem *a, const struct problem *b);

/* Bitmaps in place of lists, in memory of the problem. */
void problem_use_bitmaps(struct problem *p);

/* Calls `check` for query groups that share no key (like_before -1), 80% and all of them with the
 * group before, each with alike and with uneven counts; where kernels do not unite groups only
 * for 80% and uneven counts. `what` names the case. */
void problem_each_sharing(const int *groups, int count, bool united,
                          void (*check)(int like_before, int group, bool uneven, const char *what));

/* Host problem -> memory of backend b, forward and backward there, outputs back. False with *e set
 * on failure, and if there, too, bytes beside an array were written, or an input. */
bool problem_run(struct problem *p, const struct kern_backend *b, struct err *e);

#endif
