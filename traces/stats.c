#include "traces/stats.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

const double stats_quantile[STATS_QUANTILES] = {0.01, 0.25, 0.5, 0.75, 0.99};

int stats_double_order(const void *left, const void *right)
{
    double l = *(const double *)left, r = *(const double *)right;
    return (l > r) - (l < r);
}

double stats_sorted_quantile(const double *sorted, int count, double p)
{
    if (count == 0)
        return NAN;
    double at = p * (count - 1);
    int below = (int)at;
    return below + 1 >= count ? sorted[count - 1]
                              : sorted[below] + (at - below) * (sorted[below + 1] - sorted[below]);
}

static bool row_empty(const uint64_t *row, size_t words)
{
    for (size_t i = 0; i < words; i++)
        if (row[i])
            return false;
    return true;
}

/* ---- keep ---- */

static void head_keep(const struct tiling *t, const int64_t *kept, struct arena *scratch,
                      struct head_stats *out)
{
    double *share = ARENA_ARRAY(scratch, double, t->group.count);
    double pairs = 0, queries = 0, tokens = (double)t->tokens;
    int n = 0;
    for (int g = 0; g < t->group.count; g++) {
        if (kept[g] == 0)
            continue;
        pairs += (double)kept[g] * t->group.tokens[g];
        queries += t->group.tokens[g];
        share[n++] = (double)kept[g] / tokens;
    }
    qsort(share, (size_t)n, sizeof *share, stats_double_order);
    out->keep = pairs / (tokens * tokens);
    out->queries = queries / tokens;
    for (int i = 0; i < STATS_QUANTILES; i++)
        out->keep_q[i] = stats_sorted_quantile(share, n, stats_quantile[i]);
}

/* Runs of ones start where a bit is set and the bit before it is not. */
static int64_t row_runs(const uint64_t *row, size_t words)
{
    int64_t runs = 0;
    uint64_t before = 0;
    for (size_t i = 0; i < words; i++) {
        runs += __builtin_popcountll(row[i] & ~(row[i] << 1 | before));
        before = row[i] >> 63;
    }
    return runs;
}

static double head_runs(const struct mask *m, const int64_t *kept)
{
    double runs = 0, tokens = 0;
    for (int g = 0; g < m->groups; g++) {
        runs += (double)row_runs(mask_row(m, g), m->words);
        tokens += (double)kept[g];
    }
    return runs > 0 ? tokens / runs : 0;
}

/* ---- overlap ---- */

static double head_rho(const struct weigh *w, const struct mask *m, const int64_t *kept)
{
    double common = 0, size = 0;
    for (int g = 0; g + 1 < m->groups; g++) {
        if (kept[g] == 0 || kept[g + 1] == 0)
            continue;
        common += (double)weigh_and(w, mask_row(m, g), mask_row(m, g + 1));
        size += 0.5 * (double)(kept[g] + kept[g + 1]);
    }
    return size > 0 ? common / size : NAN;
}

/* The query groups of 2x2x2 cube `cube` of a coarser grid; returns how many there are. */
static int cube_members(const struct cubes *c, const int coarse[3], int cube, int member[8])
{
    int w = cube % coarse[2], h = cube / coarse[2] % coarse[1], f = cube / coarse[2] / coarse[1],
        n = 0;
    for (int i = 0; i < 8; i++) {
        int t = 2 * f + (i >> 2), y = 2 * h + (i >> 1 & 1), x = 2 * w + (i & 1);
        if (t < c->axis[0] && y < c->axis[1] && x < c->axis[2])
            member[n++] = (t * c->axis[1] + y) * c->axis[2] + x;
    }
    return n;
}

static int coarse_axes(const struct cubes *c, int coarse[3])
{
    int count = 1;
    for (int i = 0; i < 3; i++)
        count *= coarse[i] = (c->axis[i] + 1) / 2;
    return count;
}

static double head_overlap(const struct tiling *t, const struct weigh *w, const struct mask *m,
                           const int64_t *kept)
{
    int coarse[3], count = coarse_axes(&t->group, coarse), member[8];
    double sum = 0, pairs = 0;
    for (int c = 0; c < count; c++) {
        int n = cube_members(&t->group, coarse, c, member);
        for (int i = 0; i < n; i++)
            for (int j = i + 1; j < n; j++) {
                if (kept[member[i]] == 0 || kept[member[j]] == 0)
                    continue;
                double both = (double)weigh_and(w, mask_row(m, member[i]), mask_row(m, member[j]));
                sum += both / (double)kept[member[i]] + both / (double)kept[member[j]];
                pairs += 2;
            }
    }
    return pairs > 0 ? sum / pairs : NAN;
}

/* ---- inflation ---- */

struct coarse_blocks { /* 2x2x2 cubes of KV blocks */
    int count;
    int32_t *of;     /* [blocks] */
    int64_t *tokens; /* [count] */
    int32_t *stamp;  /* [count] scratch: last row that marked this cube */
};

static struct coarse_blocks coarse_make(const struct cubes *c, struct arena *a)
{
    int coarse[3], member[8];
    struct coarse_blocks k = {.count = coarse_axes(c, coarse)};
    k.of = ARENA_ARRAY(a, int32_t, c->count);
    k.tokens = ARENA_ARRAY(a, int64_t, k.count);
    k.stamp = ARENA_ARRAY(a, int32_t, k.count);
    for (int i = 0; i < k.count; i++) {
        int n = cube_members(c, coarse, i, member);
        for (int j = 0; j < n; j++) {
            k.of[member[j]] = i;
            k.tokens[i] += c->tokens[member[j]];
        }
    }
    return k;
}

/* Tokens of the coarse cubes that a row touches; `mark` differs from call to call. */
static int64_t coarse_row(const struct coarse_blocks *k, const uint64_t *row, size_t words,
                          int32_t mark)
{
    int64_t tokens = 0;
    for (size_t i = 0; i < words; i++)
        for (uint64_t left = row[i]; left; left &= left - 1) {
            int32_t c = k->of[i * 64 + (size_t)__builtin_ctzll(left)];
            if (k->stamp[c] != mark) {
                k->stamp[c] = mark;
                tokens += k->tokens[c];
            }
        }
    return tokens;
}

static void head_inflation(const struct tiling *t, const struct weigh *w, const struct mask *m,
                           struct arena *scratch, struct head_stats *out)
{
    struct coarse_blocks k = coarse_make(&t->block, scratch);
    int coarse[3], count = coarse_axes(&t->group, coarse), member[8];
    uint64_t *row = ARENA_ARRAY(scratch, uint64_t, m->words);
    double query = 0, key = 0, both = 0, pairs = out->keep * (double)t->tokens * (double)t->tokens;
    int32_t mark = 0;
    for (int g = 0; g < m->groups; g++)
        key += (double)coarse_row(&k, mask_row(m, g), m->words, ++mark) * t->group.tokens[g];
    for (int c = 0; c < count; c++) {
        int n = cube_members(&t->group, coarse, c, member);
        double queries = 0;
        memset(row, 0, m->words * sizeof *row);
        for (int i = 0; i < n; i++) {
            bits_or(row, mask_row(m, member[i]), m->words);
            queries += row_empty(mask_row(m, member[i]), m->words) ? 0 : t->group.tokens[member[i]];
        }
        query += (double)weigh_row(w, row) * queries;
        both += (double)coarse_row(&k, row, m->words, ++mark) * queries;
    }
    out->inflate_query = query / pairs;
    out->inflate_key = key / pairs;
    out->inflate_both = both / pairs;
}

void stats_head(const struct tiling *t, const struct weigh *w, const struct mask *m,
                struct arena *scratch, struct head_stats *out)
{
    int64_t *kept = ARENA_ARRAY(scratch, int64_t, m->groups);
    for (int g = 0; g < m->groups; g++)
        kept[g] = weigh_row(w, mask_row(m, g));
    head_keep(t, kept, scratch, out);
    out->run_tokens = head_runs(m, kept);
    out->rho = head_rho(w, m, kept);
    out->overlap = head_overlap(t, w, m, kept);
    head_inflation(t, w, m, scratch, out);
}

/* ---- layouts ---- */

/* One bitmap of KV blocks per shard. */
static uint64_t *shard_columns(const struct layout *l, int blocks, size_t words, struct arena *a)
{
    uint64_t *columns = ARENA_ARRAY(a, uint64_t, (size_t)l->shards * words);
    for (int b = 0; b < blocks; b++)
        bits_set(columns + (size_t)l->block[b] * words, b);
    return columns;
}

/* From the union of each shard: need, union and remote means. */
static void layout_unions(const struct tiling *t, const struct weigh *w, const struct layout *l,
                          const uint64_t *unions, struct arena *a, struct layout_stats *out)
{
    int n = l->shards;
    uint64_t *columns = shard_columns(l, t->block.count, w->words, a);
    double *need = ARENA_ARRAY(a, double, (size_t)n *(size_t)n);
    for (int i = 0; i < n; i++) {
        int64_t all = 0, mine = 0;
        for (int j = 0; j < n; j++) {
            int64_t tokens =
                weigh_and(w, unions + (size_t)i * w->words, columns + (size_t)j * w->words);
            need[i * n + j] = l->keys[j] > 0 ? (double)tokens / (double)l->keys[j] : 0;
            all += tokens;
            mine += i == j ? tokens : 0;
        }
        double share = (double)all / (double)t->tokens, far = (double)(t->tokens - l->keys[i]);
        double remote = far > 0 ? (double)(all - mine) / far : 0;
        out->union_mean += share / n;
        out->remote_mean += remote / n;
        out->union_most = fmax(out->union_most, share);
        out->remote_most = fmax(out->remote_most, remote);
    }
    out->need = need;
}

/* Max over mean of work per query token, so that shards of unequal size do not count as imbalance.
 */
static double work_skew(const struct layout *l, const int64_t *work)
{
    double most = 0, pairs = 0, queries = 0;
    for (int i = 0; i < l->shards; i++) {
        if (l->queries[i] > 0)
            most = fmax(most, (double)work[i] / (double)l->queries[i]);
        pairs += (double)work[i];
        queries += (double)l->queries[i];
    }
    return pairs > 0 ? most * queries / pairs : 1;
}

/* omega of one shard from how many of its groups keep each block: sum c (c - 1) / ((groups - 1) sum
 * c). */
static double shard_omega(const struct tiling *t, const int32_t *count, int groups)
{
    double pairs = 0, kept = 0;
    for (int b = 0; b < t->block.count; b++) {
        pairs += (double)t->block.tokens[b] * count[b] * (count[b] - 1.0);
        kept += (double)t->block.tokens[b] * count[b];
    }
    return pairs / (kept * (groups - 1));
}

static void row_count(const uint64_t *row, size_t words, int32_t *count)
{
    for (size_t i = 0; i < words; i++)
        for (uint64_t left = row[i]; left; left &= left - 1)
            count[i * 64 + (size_t)__builtin_ctzll(left)]++;
}

static void layout_omega(const struct tiling *t, const struct mask *m, const struct layout *l,
                         struct arena *a, struct layout_stats *out)
{
    int32_t *count = ARENA_ARRAY(a, int32_t, m->blocks);
    int *start = ARENA_ARRAY(a, int, l->shards + 1), *member = ARENA_ARRAY(a, int, m->groups);
    for (int g = 0; g < m->groups; g++)
        start[l->group[g] + 1]++;
    for (int s = 0; s < l->shards; s++)
        start[s + 1] += start[s];
    int *at = ARENA_ARRAY(a, int, l->shards);
    for (int g = 0; g < m->groups; g++)
        member[start[l->group[g]] + at[l->group[g]]++] = g;
    double sum = 0;
    int shards = 0;
    for (int s = 0; s < l->shards; s++) {
        int groups = 0;
        memset(count, 0, (size_t)m->blocks * sizeof *count);
        for (int i = start[s]; i < start[s + 1]; i++) {
            const uint64_t *row = mask_row(m, member[i]);
            groups += !row_empty(row, m->words);
            row_count(row, m->words, count);
        }
        if (groups >= 2) {
            sum += shard_omega(t, count, groups);
            shards++;
        }
    }
    out->omega = shards > 0 ? sum / shards : NAN;
}

void stats_layout(const struct tiling *t, const struct weigh *w, const struct mask *m,
                  const struct layout *l, struct arena *a, struct layout_stats *out)
{
    *out = (struct layout_stats){
        .kind = l->kind, .shards = l->shards, .groups = (double)m->groups / l->shards};
    uint64_t *unions = ARENA_ARRAY(a, uint64_t, (size_t)l->shards * m->words);
    int64_t *work = ARENA_ARRAY(a, int64_t, l->shards);
    for (int g = 0; g < m->groups; g++) {
        bits_or(unions + (size_t)l->group[g] * m->words, mask_row(m, g), m->words);
        work[l->group[g]] += weigh_row(w, mask_row(m, g)) * t->group.tokens[g];
    }
    out->work = work;
    out->work_skew = work_skew(l, work);
    layout_unions(t, w, l, unions, a, out);
    layout_omega(t, m, l, a, out);
}

/* ---- atoms ---- */

void stats_atoms(const struct tiling *t, const struct weigh *w, const struct mask *m,
                 const struct atoms *atoms, struct arena *a, struct atom_rows *out)
{
    struct atom_rows r = {.atoms = atoms->count, .blocks = m->blocks, .words = m->words};
    r.work = ARENA_ARRAY(a, uint64_t, r.atoms);
    r.unions = ARENA_ARRAY(a, uint64_t, (size_t)r.atoms * r.words);
    for (int g = 0; g < m->groups; g++) {
        int atom = atoms->group[g];
        r.work[atom] += (uint64_t)(weigh_row(w, mask_row(m, g)) * t->group.tokens[g]);
        bits_or(r.unions + (size_t)atom * r.words, mask_row(m, g), m->words);
    }
    *out = r;
}

void stats_layout_atoms(const struct tiling *t, const struct weigh *w, const struct atom_rows *rows,
                        const int32_t *atom_shard, const struct layout *l, struct arena *a,
                        struct layout_stats *out)
{
    *out = (struct layout_stats){.kind = l->kind, .shards = l->shards, .omega = NAN, .groups = NAN};
    uint64_t *unions = ARENA_ARRAY(a, uint64_t, (size_t)l->shards * rows->words);
    int64_t *work = ARENA_ARRAY(a, int64_t, l->shards);
    for (int k = 0; k < rows->atoms; k++) {
        bits_or(unions + (size_t)atom_shard[k] * rows->words,
                rows->unions + (size_t)k * rows->words, rows->words);
        work[atom_shard[k]] += (int64_t)rows->work[k];
    }
    out->work = work;
    out->work_skew = work_skew(l, work);
    layout_unions(t, w, l, unions, a, out);
}

/* ---- heads ---- */

static int lightest(const double *load, int ranks)
{
    int best = 0;
    for (int r = 1; r < ranks; r++)
        if (load[r] < load[best])
            best = r;
    return best;
}

static double most_of(const double *load, int n)
{
    double most = 0;
    for (int i = 0; i < n; i++)
        most = fmax(most, load[i]);
    return most;
}

static double skew_contiguous(const double *load, int heads, int ranks, double *rank)
{
    memset(rank, 0, (size_t)ranks * sizeof *rank);
    for (int r = 0, h = 0; r < ranks; r++)
        for (int n = heads / ranks + (r < heads % ranks); n > 0; n--)
            rank[r] += load[h++];
    return most_of(rank, ranks);
}

void stats_skew(const double *load, int heads, int ranks, struct arena *scratch, struct skew *out)
{
    double *sorted = ARENA_ARRAY(scratch, double, heads),
           *rank = ARENA_ARRAY(scratch, double, ranks);
    double sum = 0, square = 0;
    for (int h = 0; h < heads; h++)
        sum += sorted[h] = load[h];
    double mean = sum / heads, pace = sum / ranks;
    for (int h = 0; h < heads; h++)
        square += (load[h] - mean) * (load[h] - mean);
    qsort(sorted, (size_t)heads, sizeof *sorted, stats_double_order);
    double bound = fmax(pace, sorted[heads - 1]);
    if (heads > ranks) /* two of the ranks + 1 largest share a rank */
        bound = fmax(bound, sorted[heads - ranks] + sorted[heads - ranks - 1]);
    *out = (struct skew){.mean = mean,
                         .cv = sqrt(square / heads) / mean,
                         .most_over_mean = sorted[heads - 1] / mean};
    out->contiguous = skew_contiguous(load, heads, ranks, rank) / pace;
    memset(rank, 0, (size_t)ranks * sizeof *rank);
    for (int h = heads - 1; h >= 0; h--)
        rank[lightest(rank, ranks)] += sorted[h];
    out->lpt = most_of(rank, ranks) / pace;
    out->bound = bound / pace;
}
