/* Trace files "vdit-trace/1": how sparse each head of each layer was, step by step, in one HDF5 file per run and rank.
 *
 * Level 0 holds keep and its quantiles, level 1 adds work and union per atom (any shard layout that is a
 * union of atoms follows exactly by OR and sum), level 2 adds the full block bitmaps. docs/formats.md lists every
 * attribute and data set. One record is one layer at one step; data are written before the record's row in /index and
 * flushed, in HDF5's single-writer mode, so a killed writer loses only the record it was in.
 *
 * Reading takes memory for one head of one record, whatever the file's length. HDF5 is not thread-safe:
 * call these functions from one thread at a time. */
#ifndef TRACES_TRACE_H
#define TRACES_TRACE_H

#include "traces/stats.h"

#define TRACE_SCHEMA "vdit-trace/1"

enum {
    TRACE_TEXT = 64,
    TRACE_LAYERS_MOST = 4096,
    TRACE_HEADS_MOST = 4096,
    TRACE_ATOMS_MOST = 4096,
    TRACE_RECORDS_MOST = 1 << 24,
    TRACE_LEVELS = 3
};

struct trace_info { /* the file's attributes */
    char model[TRACE_TEXT], run_id[TRACE_TEXT], created_by[TRACE_TEXT], token_order[TRACE_TEXT];
    char method[TRACE_TEXT], gpu[TRACE_TEXT];
    int64_t grid[3], patch[3], query_group[3], kv_block[3], atom_grid[3];
    int64_t text_tokens, heads, layers, atoms, level, seed;
    int64_t proxies;       /* query groups sampled per atom; 0: all of them, so unions are exact */
    double mass_threshold; /* 0: not by mass */
};

struct trace_record {
    int64_t step;
    int32_t layer, batch, rank, level;
    double noise_t; /* NaN: unknown */
};

/* Defaults: token order "thw", batch size of one and the like; set grid, heads, layers and cubes. */
struct trace_info trace_info_default(void);

/* The tiling and atoms that an info describes. ERR_INPUT names the attribute that makes no sense. */
bool trace_tiling(const struct trace_info *info, const char *path, struct arena *a,
                  struct tiling *t, struct atoms *atoms, struct err *e);

/* ---- writing ---- */

struct trace_writer;

/* Creates (and replaces) the file. info->level decides which data sets there are. NULL on error. */
struct trace_writer *trace_create(const char *path, const struct trace_info *info, struct err *e);

/* One head of the record under way. keep in 0..1; quantiles may be NULL (NaN is stored); rows from level 1 on; mask
 * from level 2 on. Heads may come in any order; each must come once before trace_commit. */
bool trace_put_head(struct trace_writer *w, int head, double keep, const double *keep_q,
                    const struct atom_rows *rows, const struct mask *mask, struct err *e);

/* Adds the record's row and flushes: from here on it survives a kill. */
bool trace_commit(struct trace_writer *w, const struct trace_record *record, struct err *e);

bool trace_finish(struct trace_writer *w,
                  struct err *e);        /* closes and frees; reports a failed close */
void trace_drop(struct trace_writer *w); /* frees without a report; accepts NULL */

/* ---- reading ---- */

struct trace_reader;

/* Refuses, with the place: foreign or truncated HDF5, another schema, shapes that contradict the attributes, sizes over
 * the limits above or beyond what a file of this length can hold. NULL on error. */
struct trace_reader *trace_open(const char *path, struct err *e);
void trace_close(struct trace_reader *r); /* accepts NULL */
const struct trace_info *trace_info_of(const struct trace_reader *r);
const struct tiling *trace_tiling_of(const struct trace_reader *r);
const struct atoms *trace_atoms_of(const struct trace_reader *r);
int trace_records(const struct trace_reader *r);
bool trace_unclosed(
    const struct trace_reader *r); /* its writer died or still runs; what is here is whole */

bool trace_read_record(struct trace_reader *r, int record, struct trace_record *out, struct err *e);
bool trace_read_keep(struct trace_reader *r, int record, double *keep, struct err *e); /* [heads] */
bool trace_read_keep_q(struct trace_reader *r, int record, double *keep_q,
                       struct err *e); /* [heads][5] */
bool trace_read_atoms(struct trace_reader *r, int record, int head, struct arena *a,
                      struct atom_rows *out, struct err *e);
bool trace_read_mask(struct trace_reader *r, int record, int head, struct arena *a,
                     struct mask *out, struct err *e);

/* Reads everything and checks it against itself: finite keeps in range, ascending quantiles, layers in range, no record
 * twice, unions within the blocks, work that adds up to keep, bitmaps that OR to the unions. The error names the
 * data set and index. */
bool trace_check(const char *path, struct err *e);

#endif
