/* What a bitmap costs: keep, work per shard, and the union that prices communication. All exact, in
 * tokens.
 *
 *   keep    share of (query, key) pairs computed; pruned queries count as pairs not computed
 *   work    kept (query, key) pairs of a shard's queries
 *   union   keys that at least one query group of a shard needs, as a share of all keys
 *   need    alpha[i][j]: share of shard j's keys that shard i needs
 *   remote  mean of need over the keys outside the shard: what a rank fetches in sequence-wise
 *           context parallelism
 *   rho     keys that consecutive query groups share: sum |A and B| / sum (|A| + |B|) / 2
 *   omega   the same over all pairs of groups of a shard
 *
 * rho and omega feed model/sparsity.h's union_markov. */
#ifndef TRACES_STATS_H
#define TRACES_STATS_H

#include "traces/mask.h"

enum { STATS_QUANTILES = 5, STATS_SHARDS_MOST = 1024 };
extern const double stats_quantile[STATS_QUANTILES]; /* 0.01 0.25 0.5 0.75 0.99 */

struct head_stats {
    double keep;
    double keep_q[STATS_QUANTILES]; /* over query groups that were not pruned */
    double queries;                 /* share of query tokens that were not pruned */
    double run_tokens;              /* mean length of runs of consecutive kept blocks, in tokens */
    double rho;
    double overlap; /* mean |A and B| / |A| over ordered pairs of groups in 2x2x2 cubes of groups
                       (DSV's statistic) */
    double inflate_query; /* keep after ORing 2x2x2 groups, over keep */
    double inflate_key;   /* keep after ORing 2x2x2 blocks, over keep */
    double inflate_both;
};

/* Scratch of one thread; results that need memory live in it until the next call. */
void stats_head(const struct tiling *t, const struct weigh *w, const struct mask *m,
                struct arena *scratch, struct head_stats *out);

struct layout_stats {
    enum layout_kind kind;
    int shards;
    double work_skew;                /* max over mean of work per query token */
    double union_mean, union_most;   /* over shards */
    double remote_mean, remote_most; /* over shards; 0 with one shard */
    double omega;                    /* mean over shards with two groups or more */
    double groups;                   /* query groups per shard, mean */
    const double *need;              /* [shards][shards], row i: what shard i needs of j */
    const int64_t *work;             /* [shards] */
};

/* Arrays of the result live in `a`. shards <= STATS_SHARDS_MOST. */
void stats_layout(const struct tiling *t, const struct weigh *w, const struct mask *m,
                  const struct layout *l, struct arena *a, struct layout_stats *out);

/* The summary of a head by atoms: what level 1 of a trace stores. */
struct atom_rows {
    int atoms, blocks;
    size_t words;
    uint64_t *work;   /* [atoms] pairs */
    uint64_t *unions; /* [atoms][words] */
};
void stats_atoms(const struct tiling *t, const struct weigh *w, const struct mask *m,
                 const struct atoms *atoms, struct arena *a, struct atom_rows *out);

/* The same layout statistics from atoms, by OR and sum; omega and groups are NaN, they need the
 * full bitmap. */
void stats_layout_atoms(const struct tiling *t, const struct weigh *w, const struct atom_rows *rows,
                        const int32_t *atom_shard, const struct layout *l, struct arena *a,
                        struct layout_stats *out);

/* Skew of head loads (keep) over ranks that take whole heads, as max over mean of rank loads. */
struct skew {
    double mean, cv, most_over_mean; /* over heads */
    double contiguous; /* heads / ranks neighbours each (first ranks take the remainder) */
    double lpt;        /* longest processing time first */
    double bound;      /* no assignment of whole heads is below this */
};
void stats_skew(const double *load, int heads, int ranks, struct arena *scratch, struct skew *out);

/* Value at share `p` of sorted data, linear between neighbours (Hyndman and Fan type 7). */
double stats_sorted_quantile(const double *sorted, int count, double p);
int stats_double_order(const void *left, const void *right); /* for qsort */

#endif
