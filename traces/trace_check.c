#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "traces/trace.h"

struct record_key {
    int64_t step;
    int32_t layer, batch;
    int record;
};

static int record_key_order(const void *left, const void *right)
{
    const struct record_key *l = left, *r = right;
    if (l->step != r->step)
        return l->step < r->step ? -1 : 1;
    if (l->layer != r->layer)
        return l->layer < r->layer ? -1 : 1;
    return (l->batch > r->batch) - (l->batch < r->batch);
}

static bool check_index(struct trace_reader *r, const char *path, struct arena *a, struct err *e)
{
    int n = trace_records(r);
    struct record_key *key = ARENA_ARRAY(a, struct record_key, n);
    for (int i = 0; i < n; i++) {
        struct trace_record rec;
        if (!trace_read_record(r, i, &rec, e))
            return false;
        key[i] = (struct record_key){rec.step, rec.layer, rec.batch, i};
    }
    qsort(key, (size_t)n, sizeof *key, record_key_order);
    for (int i = 1; i < n; i++)
        if (record_key_order(&key[i - 1], &key[i]) == 0)
            return err_set(e, ERR_INPUT, err_at_name(path),
                           "/index[%d] and [%d] are both step %lld, layer %d, batch %d",
                           key[i - 1].record, key[i].record, (long long)key[i].step, key[i].layer,
                           key[i].batch);
    return true;
}

/* Quantiles: all NaN (unknown), or ascending within 0..1. */
static bool check_quantiles(const double *q, const char *path, int record, int head, struct err *e)
{
    bool unknown = isnan(q[0]);
    for (int i = 0; i < STATS_QUANTILES; i++)
        if (isnan(q[i]) != unknown ||
            (!unknown && (q[i] < 0 || q[i] > 1.000001 || (i > 0 && q[i] < q[i - 1]))))
            return err_set(e, ERR_INPUT, err_at_name(path),
                           "/keep_q[%d,%d,%d]: %g: want ascending quantiles from 0 to 1", record,
                           head, i, q[i]);
    return true;
}

/* Work is exact pairs and keep is a float of the same sum: six digits. Sampled traces extrapolate both alike. */
static bool check_work(const struct tiling *t, const struct atom_rows *rows, double keep,
                       const char *path, int record, int head, struct err *e)
{
    double pairs = 0;
    for (int k = 0; k < rows->atoms; k++)
        pairs += (double)rows->work[k];
    double share = pairs / ((double)t->tokens * (double)t->tokens);
    if (fabs(share - keep) > 1e-6 + 1e-4 * keep)
        return err_set(e, ERR_INPUT, err_at_name(path),
                       "/work[%d,%d] adds up to a keep of %.6g, /keep says %.6g", record, head,
                       share, keep);
    return true;
}

static bool check_mask(struct trace_reader *r, const struct atom_rows *rows, const char *path,
                       int record, int head, struct arena *a, struct err *e)
{
    struct mask m;
    if (!trace_read_mask(r, record, head, a, &m, e))
        return false;
    const struct atoms *atoms = trace_atoms_of(r);
    uint64_t *unions = ARENA_ARRAY(a, uint64_t, (size_t)rows->atoms * rows->words);
    for (int g = 0; g < m.groups; g++)
        bits_or(unions + (size_t)atoms->group[g] * rows->words, mask_row(&m, g), m.words);
    for (int k = 0; k < rows->atoms; k++)
        if (memcmp(unions + (size_t)k * rows->words, rows->unions + (size_t)k * rows->words,
                   rows->words * 8) != 0)
            return err_set(e, ERR_INPUT, err_at_name(path),
                           "/union[%d,%d,%d] is not the OR of its rows in /mask", record, head, k);
    return true;
}

static bool check_head(struct trace_reader *r, const char *path, int record, int head, double keep,
                       struct arena *a, struct err *e)
{
    const struct trace_info *info = trace_info_of(r);
    struct atom_rows rows;
    if (info->level < 1)
        return true;
    return trace_read_atoms(r, record, head, a, &rows, e) &&
           check_work(trace_tiling_of(r), &rows, keep, path, record, head, e) &&
           (info->level < 2 || check_mask(r, &rows, path, record, head, a, e));
}

bool trace_check(const char *path, struct err *e)
{
    struct trace_reader *r = trace_open(path, e);
    if (!r)
        return false;
    struct arena *a = arena_new(), *scratch = arena_new();
    int heads = (int)trace_info_of(r)->heads;
    double *keep = ARENA_ARRAY(a, double, heads),
           *keep_q = ARENA_ARRAY(a, double, heads *STATS_QUANTILES);
    bool ok = check_index(r, path, a, e);
    for (int i = 0; i < trace_records(r) && ok; i++) {
        ok = trace_read_keep(r, i, keep, e) && trace_read_keep_q(r, i, keep_q, e);
        for (int h = 0; h < heads && ok; h++) {
            arena_reset(scratch);
            ok = check_quantiles(keep_q + h * STATS_QUANTILES, path, i, h, e) &&
                 check_head(r, path, i, h, keep[h], scratch, e);
        }
    }
    arena_free(scratch);
    arena_free(a);
    trace_close(r);
    return ok;
}
