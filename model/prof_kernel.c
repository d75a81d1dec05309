/* Kernels: attention and GEMM by tiles and waves, sparse attention by rows and pairs. */
#include "model/prof.h"

#include <assert.h>
#include <math.h>
#include <stddef.h>

static double heated(double time_s, double heat, double heat_s)
{
    return time_s * (1 + heat * time_s / (time_s + heat_s));
}

/* Waves that are paid for: a persistent kernel gives an SM its tiles in turn, and the last round is
 * partly empty. */
static double waves(double tiles, double part)
{
    return tiles <= 1 ? 1 : tiles + part * (ceil(tiles) - tiles);
}

/* Causal tiles differ in length and are handed out longest first: the work spreads evenly, with one
 * average tile as tail, and no less than the longest tile. */
static double causal_s(const struct prof_attention *a, double rounds, double blocks, double tail)
{
    double visited = fmin(0.5 * (blocks + (double)a->tile_q / a->tile_k), blocks);
    double tile = a->tile_s + a->block_s * visited;
    return fmax(tile * (rounds + tail), a->tile_s + a->block_s * blocks);
}

double prof_attention_s(const struct prof_kernels *p, const struct prof_attention *a,
                        const struct attention_query *q)
{
    double blocks = ceil(q->keys / a->tile_k);
    double rounds = q->batch * q->heads * ceil(q->queries / a->tile_q) / p->sms;
    double s = a->causal ? causal_s(a, rounds, blocks, p->tail)
                         : waves(rounds, p->wave) * (a->tile_s + a->block_s * blocks);
    double padded =
        fmax(1, (double)q->head_dim /
                    a->head_dim); /* a wider head than the entry's: FLOP in proportion */
    return heated(p->launch_s + s * padded, p->heat, p->heat_s);
}

/* The entry of this mask with the smallest head_dim that holds the head, else the widest of the
 * mask, else any. */
static const struct prof_attention *entry(const struct prof_kernels *p, bool causal, int head_dim)
{
    const struct prof_attention *best = NULL;
    for (int i = 0; i < p->attention_count; i++) {
        const struct prof_attention *a = &p->attention[i];
        if (a->causal != causal)
            continue;
        bool holds = a->head_dim >= head_dim, held = best && best->head_dim >= head_dim;
        if (!best || (holds && (!held || a->head_dim < best->head_dim)) ||
            (!holds && !held && a->head_dim > best->head_dim))
            best = a;
    }
    return best ? best : &p->attention[0];
}

/* Short kernels are noisier than the class's figure, which is of kernels over 1 ms. */
static double short_half(const struct prof_kernels *p, double half, double time_s)
{
    double u = fmin(fmax(log10(1e-3 / time_s) / 2, 0), 1);
    return hypot(half, u * p->half_short);
}

struct prediction prof_attention(const struct prof_kernels *p, const struct attention_query *q)
{
    const struct prof_attention *a = entry(p, q->causal, q->head_dim);
    bool known =
        a->causal == q->causal && a->head_dim == q->head_dim && (!q->backward || a->backward > 0);
    /* fewer queries than keys (one rank's shard) are the same tiles, only fewer */
    bool within = known && q->keys <= a->longest && q->queries <= q->keys;
    double s = prof_attention_s(p, a, q);
    if (a->causal != q->causal) /* another mask's entry: a full mask visits every block */
        s *= q->causal ? 0.55 : 1.9;
    if (q->backward)
        s *= a->backward > 0 ? a->backward
                             : 2.9; /* FlashAttention-3 paper: 2.5 x the FLOP at 0.87 of the rate */
    enum prof_class class = a->origin == PROF_BORROWED ? PROF_BORROWED
                            : within && !q->backward   ? PROF_INSIDE
                                                       : PROF_OUTSIDE;
    double half = p->half[KIND_ATTENTION][class];
    if (!known || q->backward)
        half = hypot(half, 0.15);
    return (struct prediction){.time = interval_of(s, short_half(p, half, s)),
                               .class = class,
                               .in_range = within && !q->backward,
                               .regime = q->backward           ? "from the forward"
                                         : s < 4 * p->launch_s ? "launch"
                                                               : "waves"};
}

double prof_gemm_s(const struct prof_gemm *g, int sms, double m, double n, double k)
{
    static const double tile[3][2] = {{128, 256}, {128, 128}, {64, 128}};
    double rate[3] = {g->rate, g->rate * g->narrow[0], g->rate * g->narrow[1]};
    double best = INFINITY;
    for (int i = 0; i < 3; i++) {
        double rounds = waves(ceil(m / tile[i][0]) * ceil(n / tile[i][1]) / sms, g->wave);
        best = fmin(best, rounds * (g->tile_s + 2 * tile[i][0] * tile[i][1] * k * sms / rate[i]));
    }
    double memory = 2 * (m * k + k * n + m * n) / g->hbm_bytes_per_s;
    double s = sqrt(sqrt(best * best * best * best + memory * memory * memory * memory));
    return heated((g->launch_s + s) * pow(1 + n / 8192, g->wide), g->heat, g->heat_s);
}

struct prediction prof_gemm(const struct prof_kernels *p, double m, double n, double k)
{
    assert(p->gemm.rate > 0);
    double s = prof_gemm_s(&p->gemm, p->sms, m, n, k);
    bool within = s <= 1.5 * p->gemm.longest_s && fmin(n, k) >= 256 && m >= 16;
    enum prof_class class = p->gemm.origin == PROF_BORROWED ? PROF_BORROWED
                            : within                        ? PROF_INSIDE
                                                            : PROF_OUTSIDE;
    return (struct prediction){.time = interval_of(s, short_half(p, p->half[KIND_GEMM][class], s)),
                               .class = class,
                               .in_range = within,
                               .regime = s < 3 * p->gemm.launch_s ? "launch" : "waves"};
}

static struct prediction of_sparse(const struct prof_kernels *p, double s, bool within,
                                   const char *regime)
{
    enum prof_class class = p->sparse.origin == PROF_BORROWED ? PROF_BORROWED
                            : within                          ? PROF_INSIDE
                                                              : PROF_OUTSIDE;
    return (struct prediction){.time = interval_of(s, p->half[KIND_SPARSE][class]),
                               .class = class,
                               .in_range = within,
                               .regime = regime};
}

struct prediction prof_sparse(const struct prof_kernels *p, bool backward, double rows,
                              double pairs, double keys_held, int head_dim)
{
    const struct prof_sparse *k = &p->sparse;
    assert(k->pair_s[0] > 0);
    double cache = 1, kv = keys_held * head_dim * 4.0; /* K and V, two bytes each */
    if (!backward)
        cache += kv > k->cache_bytes ? k->cache_slope * (1 - k->cache_bytes / kv) : 0;
    double s = (k->row_s[backward] * rows + k->pair_s[backward] * pairs * cache) * head_dim / 128;
    double keys = rows > 0 ? pairs / rows : 0;
    bool within =
        head_dim == 128 && keys >= k->least_keys && keys <= k->most_keys && keys_held <= k->longest;
    return of_sparse(p, s, within,
                     k->row_s[backward] * rows > k->pair_s[backward] * pairs ? "rows" : "gather");
}

struct prediction prof_dense_like(const struct prof_kernels *p, bool backward, double pairs,
                                  int head_dim)
{
    return of_sparse(p, p->sparse.dense_pair_s[backward] * pairs * head_dim / 128, head_dim == 128,
                     "dense");
}

struct prediction prof_select(const struct prof_kernels *p, double scores)
{
    return of_sparse(p, p->sparse.score_s * scores, false, "selection");
}
