/* What the planner and the simulator take from a trace: keep of every block and head, and measured
 * unions. */
#ifndef TRACES_MEASURED_H
#define TRACES_MEASURED_H

#include "model/sparsity.h"
#include "traces/trace.h"

/* Reads a trace (HDF5, any level) or a CSV summary (sparsity_load) by its content. `step` < 0 takes
 * the last step; of a trace, each layer's last record at or before `step` counts, a summary has to
 * have it. From level 1 on the unions are measured (kind UNION_MEASURED): remote need, mean
 * over ranks, of slabs or the given layout at 2, 4, 8, ... 64 sequence groups, as far as the atoms
 * go. Sampled traces (proxies > 0) extrapolate the union to all groups, u' = min(1 - (1-u)^(G/g),
 * field closed form), and never go below what was seen. What each shard needs of each other is kept
 * too, for as many of those counts as a million numbers hold. ERR_INPUT when blocks or heads differ
 * from the model's or a layer of the step is missing. */
bool measured_sparsity(const char *path, int64_t step, int blocks, int heads,
                       enum layout_kind layout, struct arena *a, struct sparsity *out,
                       struct err *e);

/* The steps that a trace or a summary has records of, rising; a summary without steps has none. */
bool measured_steps(const char *path, struct arena *a, int64_t **steps, int *count, struct err *e);

/* need[i][j] of one (layer, head) at the trace's last step at or before `step` (< 0: last). */
bool measured_need(const char *path, int64_t step, int layer, int head, enum layout_kind layout,
                   int shards, struct arena *a, const double **need, struct err *e);

/* The record of (layer, step); step < 0: the layer's last. -1 with an error when there is none. */
int measured_record(struct trace_reader *r, const char *path, int64_t step, int layer,
                    struct err *e);

/* Is this file HDF5 by its first bytes? */
bool measured_is_trace(const char *path);

#endif
