/* What `shardwise trace stats` prints and plots of a trace file. */
#ifndef TRACES_REPORT_H
#define TRACES_REPORT_H

#include "base/table.h"
#include "traces/fit.h"
#include "traces/trace.h"

struct report_range { /* records that count */
    int64_t step;     /* < 0: all steps */
    int layer;        /* < 0: all layers */
};

/* The load of the fullest rank when `ranks` ranks share whole heads. */
struct report_whole {
    double best;       /* the least that was found; NaN: not looked for */
    double bound;      /* proved: none is below */
    const char *proof; /* how far `best` is proved; static, NULL without `best` */
};
/* Fills `out` from load[heads]; planner/assign.h can, and lies beside this layer. */
typedef bool report_assign(const double *load, int heads, int ranks, struct report_whole *out,
                           struct err *e);

/* One row a record: keep over its heads (mean, least, quartiles, most), skew, and max over mean of whole heads on
 * `ranks` ranks: neighbours, LPT, the best that `assign` finds with its proof, and the bound no assignment beats.
 * assign NULL: best and proof stay empty, and the bound is that of stats_skew. */
bool report_keep(struct trace_reader *r, struct report_range range, int ranks,
                 report_assign *assign, struct arena *a, struct table **out, struct err *e);

enum { REPORT_SIZES = 6 };
struct report_union { /* means over heads and records of the range */
    enum layout_kind kind;
    int shards, heads;
    double keep, union_mean, remote_mean, remote_most, work_skew;
    double omega, groups; /* NaN below level 2 */
    double extent[3];
};

/* Unions of every layout at 2, 4, ... 64 shards, as far as the grid goes: exact from bitmaps (level 2) or atoms (level
 * 1). rows: [LAYOUT_KINDS * REPORT_SIZES]. ERR_INPUT for level 0. */
bool report_unions(struct trace_reader *r, struct report_range range, struct report_union *rows,
                   int *count, struct err *e);
struct table *report_union_table(const struct report_union *rows, int count, struct arena *a);

/* Mean rho, overlap, run length and inflation (level 2 only). */
bool report_heads(struct trace_reader *r, struct report_range range, struct arena *a,
                  struct table **out, struct err *e);

/* The union models fitted to the rows of one layout, each with its error. groups: query groups of the whole clip. */
struct table *report_fits(const struct report_union *rows, int count, int groups, struct arena *a);

/* gnuplot scripts with their data inside: box plot of keep per block, heads over training (of one layer), union against
 * shards, and the need matrix of (layer, head) at `shards` slabs. Each writes an .svg beside itself. */
bool report_plot_blocks(struct trace_reader *r, struct report_range range, FILE *out,
                        struct err *e);
bool report_plot_heads(struct trace_reader *r, int layer, FILE *out, struct err *e);
void report_plot_unions(const struct report_union *rows, int count, FILE *out);
void report_plot_need(const double *need, int shards, FILE *out);

#endif
