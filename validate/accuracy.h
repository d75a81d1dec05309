/* How far off are we: every class of prediction against the published tables, by protocols that
 * leave points out. One run gives the residuals that the error bars of the shipped profiles come
 * from and that the report prints (docs/calibration.md). */
#ifndef VALIDATE_ACCURACY_H
#define VALIDATE_ACCURACY_H

#include "base/arena.h"
#include "validate/fit_kernel.h"
#include "validate/fit_net.h"
#include "validate/floor.h"
#include "validate/point.h"

/* The tables of a folder such as presets/data. */
struct accuracy_tables {
    const char *folder;
    struct points local, nodes;         /* collectives_intranode.csv, collectives_multinode.csv */
    struct points attention, published; /* attention_dense.csv, attention_published.csv */
    struct points gemm, sparse;         /* gemm_bf16.csv, dsv_kernel.csv */
};
bool accuracy_tables_read(const char *folder, struct accuracy_tables *out, struct arena *a,
                          struct err *e);

/* Runs every protocol. Residuals live in `a`. */
bool accuracy_run(const struct accuracy_tables *t, struct residuals *out, struct arena *a,
                  struct err *e);

/* What the tables' own scatter leaves to any prediction, on the GPU that has whole tables. */
enum accuracy_floor { FLOOR_COLLECTIVES, FLOOR_ATTENTION, FLOOR_GEMM, FLOORS };
bool accuracy_floors(const struct accuracy_tables *t, struct scatter out[FLOORS], struct arena *a,
                     struct err *e);

/* One line of the summary: the residuals of a protocol, all or the large ones. */
struct accuracy_ask {
    const char *protocol;
    const char *what;  /* operation or kernel; NULL: all */
    const char *peers; /* where a protocol of one group gets its interval from; NULL: nowhere */
    bool large_only;
};
struct accuracy_line {
    const char *protocol;
    int count;
    double mape, p95, bias; /* of |predicted / measured - 1|; mean of predicted / measured - 1 */
    int judged, inside;     /* rows that have an interval; of them within it */
    double coverage; /* inside / judged; the 90 % interval is residuals_width of the other groups';
                        NaN with none */
    int least, most; /* of `judged` rows, independent ones, a true 90 % interval holds so many 95
                        times in 100 */
};
struct accuracy_line accuracy_of(const struct residuals *r, const struct accuracy_ask *ask,
                                 struct arena *scratch);

/* The shipped profiles: which GPU of the tables, which relative. */
struct shipped {
    const char *name, *gpu, *relative;
    int sms;
    bool nvls;
    bool same_links; /* its relative's NVLink and switch: curves are the relative's, as near as two
                        runs */
};
extern const struct shipped shipped_nets[], shipped_curves[]; /* end with a NULL name */

/* Fits one shipped profile on all rows of the tables and gives it the half-widths of the residuals.
 */
bool shipped_net(const struct accuracy_tables *t, const struct residuals *r,
                 const struct shipped *s, struct prof_net *out, struct arena *a, struct err *e);
bool shipped_kernels(const struct accuracy_tables *t, const struct residuals *r,
                     const struct shipped *s, struct prof_kernels *out, struct arena *a,
                     struct err *e);

#endif
