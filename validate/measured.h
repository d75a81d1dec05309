/* From measured rows back to prediction: the rows of one or more runs become the numbers that the
 * closed forms need, with the error that they make on what they have not seen; and the evaluator
 * "measured" that plans with them.
 *
 * Fitted, each to the median over repeats of one rank's phase:
 *   dense attention   seconds = pairs * 4 D (backward 10 D) / rate
 *   sparse attention  seconds = rows * row_s + pairs * pair_s, at head_dim 128 (model/kernel.h)
 *   select            seconds = scores * score_s
 *   linear layers     seconds = FLOP / rate
 *   copies            seconds = bytes / rate
 *   gathered rows     seconds of packing at the owner = rows * row_s
 *   scattered rows    seconds of adding them at the owner = rows * row_s
 *   sums of gathered gradients   seconds = bytes / rate
 *   lists of rows     seconds = entries * list_s
 *   copies to the host and back  seconds = bytes / rate
 *   exchanges         seconds = calls * latency + max(sent, received) / rate
 * Two-parameter lines minimise the relative error; a negative parameter becomes 0. A ring's phase
 * holds what of its hops was not hidden, and its merges: it is left out where other phases tell of
 * the same attention, and else taken as attention alone, an upper bound (`rings`). A class with no
 * points keeps what the first plan assumed. */
#ifndef VALIDATE_MEASURED_H
#define VALIDATE_MEASURED_H

#include "base/prov.h"
#include "base/table.h"
#include "model/eval.h"

struct measured; /* points of all files so far */

struct measured *measured_new(struct arena *a);

/* The rows that shardwise-run wrote of a plan. The same refusals as compare_run. */
bool measured_add(struct measured *m, const char *plan, const char *rows, struct err *e);

/* The same with the plan found by its signature: among `plans` (NULL-terminated; NULL: none), else
 * where the rows say that it was, from here or from the rows' own folder. *plan: which one. */
bool measured_add_rows(struct measured *m, const char *const *plans, const char *rows,
                       const char **plan, struct err *e);

enum measured_kind {
    MEASURED_DENSE_FORWARD,
    MEASURED_DENSE_BACKWARD,
    MEASURED_SPARSE_FORWARD,
    MEASURED_SPARSE_BACKWARD,
    MEASURED_SELECT,
    MEASURED_LINEAR,
    MEASURED_COPY,
    MEASURED_GATHERED,
    MEASURED_SCATTERED,
    MEASURED_SUMS,
    MEASURED_LISTS,
    MEASURED_HOST,
    MEASURED_EXCHANGE,
    MEASURED_KINDS
};
extern const char *const measured_names[MEASURED_KINDS];

struct measured_fit {
    struct kern_profile kernels; /* the first plan's with the fitted numbers in it */
    struct hw_cluster cluster;
    int took_turns; /* files whose ranks outnumbered their cores: the fit holds that too */
    struct measured_line {
        int points;
        bool rings; /* the points are whole phases of rings: attention takes no longer than this */
        double per_call, per_unit; /* seconds of each; per_call is 0 for one-parameter fits */
        /* |predicted / measured - 1| over points, by the fit and each by a fit without all points
         * of its block and run; the latter NaN when there is one such only */
        double error_median, left_out_median, left_out_worst;
    } line[MEASURED_KINDS];
};

/* ERR_INPUT when there are no points at all. */
bool measured_solve(const struct measured *m, struct measured_fit *fit, struct err *e);

/* Closed forms with the fitted kernels and links in place of the case's own. `fit` must outlive it.
 */
struct plan_eval measured_eval(const struct measured_fit *fit);

/* A file of its own (schema shardwise-fit/1, docs/formats.md): kernels, cluster and what they rest
 * on. measured_load reads it back with every bit the same; the result lives in `a`. */
bool measured_save(const struct measured_fit *fit, const struct prov *prov, const char *path,
                   struct arena *a, struct err *e);
bool measured_load(const char *path, struct measured_fit *fit, struct arena *a, struct err *e);

/* PREFIX-kernels.json and PREFIX-cluster.json, which --kernels and --cluster take. */
bool measured_write(const struct measured_fit *fit, const char *prefix, struct arena *a,
                    struct err *e);

/* What a person should know before relying on it, one line each: classes that no run had and so
 * are as the profile says; ranks that took turns. Nothing when there is nothing. */
void measured_warn(const struct measured_fit *fit, FILE *out);

/* Was the one kind of attention measured and not the other? Then a choice between them would hold
 * one machine against another. */
bool measured_one_kind(const struct measured_fit *fit, bool *sparse);

/* Every point after measured_solve: whose it is, measured, fitted, and the error of both fits. */
struct table *measured_points(const struct measured *m, struct arena *a);

void measured_print(const struct measured_fit *fit, enum table_format format, FILE *out,
                    struct arena *a);

#endif
