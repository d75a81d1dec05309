#include "model/kernel.h"

#include <math.h>
#include <string.h>

#include "model/read.h"

static const char *const profile_keys[] = {
    "name",      "source",        "dense",   "best",   "sparse",      "gemm",
    "copy",      "gathered_row",  "overlap", "launch", "measured_on", "gemm_curve",
    "pointwise", "scattered_row", "sum",     "list",   NULL};
static const char *const pointwise_keys[] = {"least", "most", NULL};

static const char *const dense_keys[] = {"name", "forward", "backward", "curve", "on", NULL};
static const char *const on_keys[] = {"forward", "backward", NULL};
static const char *const sparse_keys[] = {"name", "forward", "backward", "select",
                                          "tile", "group",   "curve",    NULL};
static const char *const line_keys[] = {"row", "pair", NULL};

/* Without the launch. */
static double dense_s(const struct kern_dense *d, const struct hw_gpu *g, bool backward,
                      double rows, double keys, int head_dim)
{
    double flop = (backward ? 10 : 4) * rows * keys * head_dim;
    return flop / (g->bf16_flop_per_s * (backward ? d->backward_share : d->forward_share));
}

double kern_dense_s(const struct kern_profile *k, const struct hw_gpu *g, bool backward,
                    double rows, double keys, int head_dim)
{
    return rows > 0 && keys > 0
               ? k->launch_s + dense_s(&k->dense, g, backward, rows, keys, head_dim)
               : 0;
}

static double ratio(double set)
{
    return set > 0 ? set : 1;
}

double kern_sparse_s(const struct kern_profile *k, bool backward, double rows, double pairs,
                     int head_dim)
{
    const struct kern_sparse *s = &k->sparse;
    double row_s = (backward ? s->backward_row_s : s->forward_row_s) * ratio(s->hbm_ratio);
    double pair_s = (backward ? s->backward_pair_s : s->forward_pair_s) * ratio(s->sm_ratio);
    return (row_s * rows + fmax(pair_s, s->least_pair_s[backward]) * pairs) * head_dim / 128;
}

double kern_select_s(const struct kern_profile *k, double scores)
{
    return k->sparse.select_score_s * ratio(k->sparse.sm_ratio) * scores;
}

double kern_gemm_s(const struct kern_profile *k, const struct hw_gpu *g, double flop)
{
    return flop > 0 ? k->launch_s + flop / (g->bf16_flop_per_s * k->gemm_share) : 0;
}

double kern_copy_s(const struct kern_profile *k, const struct hw_gpu *g, double bytes)
{
    return bytes > 0 ? k->launch_s + bytes / (g->hbm_bytes_per_s * k->hbm_share) : 0;
}

/* Known to the range, and no better than the bandwidth is. */
struct kern_time kern_pointwise_time(const struct kern_profile *k, const struct hw_gpu *g,
                                     double least_bytes)
{
    static const double bandwidth = 0.1;
    if (!(k->pointwise_most > 0))
        return (struct kern_time){0};
    double times = sqrt(k->pointwise_least * k->pointwise_most);
    return (struct kern_time){
        .s = kern_copy_s(k, g, times * least_bytes),
        .half = hypot(bandwidth, log(k->pointwise_most / k->pointwise_least) / 2)};
}

double kern_sum_s(const struct kern_profile *k, const struct hw_gpu *g, double bytes)
{
    return k->sum_bytes_per_s > 0 ? bytes / k->sum_bytes_per_s : kern_copy_s(k, g, bytes);
}

/* ---- curve or numbers ---- */

static struct kern_time of_curve(struct prediction p)
{
    return (struct kern_time){
        .s = p.time.value_s, .half = log(p.time.high_s / p.time.value_s), .outside = !p.in_range};
}

static struct kern_time of_numbers(double s)
{
    return (struct kern_time){.s = s};
}

struct kern_time kern_dense_time(const struct kern_profile *k, const struct kern_dense *d,
                                 const struct hw_gpu *g, const struct attention_query *q)
{
    double rows = q->batch * q->heads * q->queries;
    if (!(rows > 0 && q->keys > 0))
        return of_numbers(0);
    if (d->curve.of)
        return of_curve(prof_attention(d->curve.of, q));
    return of_numbers(k->launch_s + dense_s(d, g, q->backward, rows, q->keys, q->head_dim));
}

struct kern_time kern_sparse_time(const struct kern_profile *k, bool backward, double rows,
                                  double pairs, double keys_held, int head_dim)
{
    const struct prof_kernels *p = k->sparse.curve.of;
    if (p && rows + pairs > 0)
        return of_curve(prof_sparse(p, backward, rows, pairs, keys_held, head_dim));
    return of_numbers(kern_sparse_s(k, backward, rows, pairs, head_dim));
}

struct kern_time kern_select_time(const struct kern_profile *k, double scores)
{
    const struct prof_kernels *p = k->sparse.curve.of;
    return p && scores > 0 ? of_curve(prof_select(p, scores))
                           : of_numbers(kern_select_s(k, scores));
}

struct kern_time kern_gemm_time(const struct kern_profile *k, const struct hw_gpu *g, double m,
                                double n, double kk)
{
    double flop = 2 * m * n * kk;
    return k->gemm_curve.of && flop > 0 ? of_curve(prof_gemm(k->gemm_curve.of, m, n, kk))
                                        : of_numbers(kern_gemm_s(k, g, flop));
}

struct kern_time kern_then(struct kern_time a, struct kern_time b)
{
    double s = a.s + b.s;
    return (struct kern_time){.s = s,
                              .half = s > 0 ? (a.s * a.half + b.s * b.half) / s : 0,
                              .outside = a.outside || b.outside};
}

double kern_tiled(const struct kern_profile *k, double keys)
{
    int tile = k->sparse.curve.of ? k->sparse.curve.of->sparse.tile : k->sparse.tile;
    return ceil(keys / tile) * tile;
}

/* Seconds of one head of `tokens` queries and keys on a machine that is full. */
static double head_s(const struct kern_dense *d, const struct hw_gpu *g, bool backward,
                     double tokens, int head_dim)
{
    if (!d->curve.of)
        return dense_s(d, g, backward, tokens, tokens, head_dim);
    struct attention_query q = {.backward = backward,
                                .batch = 1,
                                .heads = d->curve.of->sms, /* whole waves */
                                .queries = tokens,
                                .keys = tokens,
                                .head_dim = head_dim};
    return prof_attention(d->curve.of, &q).time.value_s / q.heads;
}

static double sparse_head_s(const struct kern_profile *k, bool backward, double rows, double pairs,
                            double keys_held, int head_dim)
{
    return kern_sparse_time(k, backward, rows, pairs, keys_held, head_dim).s;
}

/* Per head, the sparse kernels take fixed + keys x slope: solve for the keys that cost as much as
 * dense, then step down to a whole tile, since fewer keys than a tile cost as much as the tile. */
static double breakeven(const struct kern_profile *k, const struct kern_dense *d,
                        const struct hw_gpu *g, double tokens, int head_dim, int query_group,
                        int forwards, int backwards)
{
    double dense = forwards * head_s(d, g, false, tokens, head_dim) +
                   backwards * head_s(d, g, true, tokens, head_dim);
    double fixed = forwards * sparse_head_s(k, false, tokens, 0, tokens, head_dim) +
                   backwards * sparse_head_s(k, true, tokens, 0, tokens, head_dim) +
                   (forwards > 0 ? kern_select_time(k, tokens / query_group * tokens).s : 0);
    double slope = forwards * sparse_head_s(k, false, 0, tokens, tokens, head_dim) +
                   backwards * sparse_head_s(k, true, 0, tokens, tokens, head_dim);
    double keys = floor((dense - fixed) / slope / kern_tiled(k, 1)) * kern_tiled(k, 1);
    if (!(keys > 0))
        return 2;
    return keys < tokens ? 1 - keys / tokens : 0;
}

double kern_breakeven(const struct kern_profile *k, const struct kern_dense *d,
                      const struct hw_gpu *g, double tokens, int head_dim, int query_group,
                      bool recompute)
{
    return breakeven(k, d, g, tokens, head_dim, query_group, recompute ? 2 : 1, 1);
}

double kern_breakeven_pass(const struct kern_profile *k, const struct kern_dense *d,
                           const struct hw_gpu *g, double tokens, int head_dim, int query_group,
                           bool backward)
{
    return breakeven(k, d, g, tokens, head_dim, query_group, !backward, backward);
}

static bool curve_read(const struct cfg *map, const char *key, struct kern_curve *c,
                       struct arena *a, struct err *e)
{
    *c = (struct kern_curve){0};
    return read_name_if(map, key, &c->name, a, e);
}

/* on: {h20: {forward: 85%, backward: 74%}} */
static bool on_read(const struct cfg *dense, struct kern_dense *d, struct arena *a, struct err *e)
{
    const struct cfg *on = cfg_get(dense, "on");
    if (!on)
        return true;
    if (on->kind != CFG_MAP)
        return err_set(e, ERR_INPUT, on->at, "on: want a map of GPUs");
    struct kern_dense_on *list = ARENA_ARRAY(a, struct kern_dense_on, on->count + 1);
    for (int i = 0; i < on->count; i++) {
        const struct cfg *gpu = read_map(on, on->keys[i], on_keys, e);
        list[i].gpu = on->keys[i];
        if (!gpu || !read_share(gpu, "forward", &list[i].forward_share, e) ||
            !read_share(gpu, "backward", &list[i].backward_share, e))
            return false;
    }
    d->on = list;
    d->on_count = on->count;
    return true;
}

static bool dense_read(const struct cfg *map, const char *key, struct kern_dense *d,
                       struct arena *a, struct err *e)
{
    const struct cfg *m = read_map(map, key, dense_keys, e);
    return m && cfg_text(m, "name", &d->name, e) &&
           read_share(m, "forward", &d->forward_share, e) &&
           read_share(m, "backward", &d->backward_share, e) &&
           curve_read(m, "curve", &d->curve, a, e) && on_read(m, d, a, e);
}

static bool line_read(const struct cfg *map, const char *key, double *row_s, double *pair_s,
                      struct err *e)
{
    const struct cfg *line = read_map(map, key, line_keys, e);
    return line && cfg_qty(line, "row", QTY_SECONDS, row_s, e) &&
           read_positive(line, "pair", QTY_SECONDS, pair_s, e);
}

static bool sparse_read(const struct cfg *map, struct kern_sparse *s, struct arena *a,
                        struct err *e)
{
    const struct cfg *m = read_map(map, "sparse", sparse_keys, e);
    return m && cfg_text(m, "name", &s->name, e) &&
           line_read(m, "forward", &s->forward_row_s, &s->forward_pair_s, e) &&
           line_read(m, "backward", &s->backward_row_s, &s->backward_pair_s, e) &&
           cfg_qty(m, "select", QTY_SECONDS, &s->select_score_s, e) &&
           read_int(m, "tile", 1, 65536, &s->tile, e) &&
           read_int(m, "group", 1, 65536, &s->group, e) && curve_read(m, "curve", &s->curve, a, e);
}

static bool pointwise_read(const struct cfg *map, struct kern_profile *k, struct err *e)
{
    if (!cfg_get(map, "pointwise"))
        return true;
    const struct cfg *m = read_map(map, "pointwise", pointwise_keys, e);
    if (!m || !cfg_qty(m, "least", QTY_NUMBER, &k->pointwise_least, e) ||
        !cfg_qty(m, "most", QTY_NUMBER, &k->pointwise_most, e))
        return false;
    return (k->pointwise_least >= 1 && k->pointwise_least <= k->pointwise_most &&
            k->pointwise_most <= POINTWISE_MOST) ||
           err_set(e, ERR_INPUT, m->at, "pointwise: %g to %g, want 1 <= least <= most <= %d",
                   k->pointwise_least, k->pointwise_most, POINTWISE_MOST);
}

static const struct kern_profile *profile_read(const struct cfg *map, struct arena *a,
                                               struct err *e)
{
    struct kern_profile *k = ARENA_NEW(a, struct kern_profile);
    k->measured_on = cfg_text_or(map, "measured_on", "");
    k->name = cfg_text_or(map, "name", read_stem(map->at.file, a));
    bool ok = cfg_text(map, "source", &k->source, e) && dense_read(map, "dense", &k->dense, a, e) &&
              dense_read(map, "best", &k->best, a, e) && sparse_read(map, &k->sparse, a, e) &&
              read_share(map, "gemm", &k->gemm_share, e) &&
              curve_read(map, "gemm_curve", &k->gemm_curve, a, e) &&
              read_share(map, "copy", &k->hbm_share, e) && pointwise_read(map, k, e) &&
              cfg_qty(map, "gathered_row", QTY_SECONDS, &k->gathered_row_s, e) &&
              cfg_qty_or(map, "scattered_row", QTY_SECONDS, 0, &k->scattered_row_s, e) &&
              cfg_qty_or(map, "sum", QTY_BYTES_PER_S, 0, &k->sum_bytes_per_s, e) &&
              cfg_qty_or(map, "list", QTY_SECONDS, 0, &k->list_s, e) &&
              cfg_qty_or(map, "overlap", QTY_RATIO, 0, &k->overlap_share, e) &&
              cfg_qty(map, "launch", QTY_SECONDS, &k->launch_s, e);
    return ok ? k : NULL;
}

const struct kern_profile *kern_load(const char *name, struct err_at at, struct arena *a,
                                     struct err *e)
{
    const struct cfg *map = read_preset("kernel", name, profile_keys, at, a, e);
    return map ? profile_read(map, a, e) : NULL;
}

const struct kern_profile *kern_read(const struct cfg *map, struct arena *a, struct err *e)
{
    if (map->kind != CFG_MAP)
        return err_set(e, ERR_INPUT, map->at, "kernels: want a map with keys such as 'dense'"),
               NULL;
    return cfg_check_keys(map, profile_keys, e) ? profile_read(map, a, e) : NULL;
}

bool kern_measured_on(const struct kern_profile *k, const struct hw_gpu *g)
{
    const char *at = k->measured_on;
    size_t n = strlen(g->name);
    if (!at || !*at)
        return true;
    while ((at = strstr(at, g->name))) {
        if ((at == k->measured_on || at[-1] == ' ') && (at[n] == ' ' || at[n] == '\0'))
            return true;
        at += n;
    }
    return false;
}

bool kern_assumed(const struct kern_profile *k, const struct hw_gpu *g)
{
    return !(k->dense.curve.of && k->gemm_curve.of && k->sparse.curve.of) &&
           !kern_measured_on(k, g);
}

static void json_curve(struct json *j, const char *key, const struct kern_curve *c)
{
    if (c->name)
        json_text(j, key, c->name);
}

static void json_dense(struct json *j, const char *key, const struct kern_dense *d)
{
    json_object(j, key);
    json_text(j, "name", d->name);
    json_num(j, "forward", d->forward_share);
    json_num(j, "backward", d->backward_share);
    json_curve(j, "curve", &d->curve);
    if (d->on_count > 0)
        json_object(j, "on");
    for (int i = 0; i < d->on_count; i++) {
        json_object(j, d->on[i].gpu);
        json_num(j, "forward", d->on[i].forward_share);
        json_num(j, "backward", d->on[i].backward_share);
        json_end(j);
    }
    if (d->on_count > 0)
        json_end(j);
    json_end(j);
}

static void json_line(struct json *j, const char *key, double row_s, double pair_s)
{
    json_object(j, key);
    write_qty(j, "row", row_s, "s");
    write_qty(j, "pair", pair_s, "s");
    json_end(j);
}

static void json_sparse(struct json *j, const struct kern_sparse *s)
{
    json_object(j, "sparse");
    json_text(j, "name", s->name);
    json_line(j, "forward", s->forward_row_s, s->forward_pair_s);
    json_line(j, "backward", s->backward_row_s, s->backward_pair_s);
    write_qty(j, "select", s->select_score_s, "s");
    json_int(j, "tile", s->tile);
    json_int(j, "group", s->group);
    json_curve(j, "curve", &s->curve);
    json_end(j);
}

void kern_json(const struct kern_profile *k, struct json *j, const char *key)
{
    json_object(j, key);
    json_text(j, "name", k->name);
    json_text(j, "source", k->source);
    json_text(j, "measured_on", k->measured_on ? k->measured_on : "");
    json_dense(j, "dense", &k->dense);
    json_dense(j, "best", &k->best);
    json_sparse(j, &k->sparse);
    json_num(j, "gemm", k->gemm_share);
    json_curve(j, "gemm_curve", &k->gemm_curve);
    json_num(j, "copy", k->hbm_share);
    if (k->pointwise_most > 0) {
        json_object(j, "pointwise");
        json_num(j, "least", k->pointwise_least);
        json_num(j, "most", k->pointwise_most);
        json_end(j);
    }
    write_qty(j, "gathered_row", k->gathered_row_s, "s");
    if (k->scattered_row_s > 0)
        write_qty(j, "scattered_row", k->scattered_row_s, "s");
    if (k->sum_bytes_per_s > 0)
        write_qty(j, "sum", k->sum_bytes_per_s, "B/s");
    if (k->list_s > 0)
        write_qty(j, "list", k->list_s, "s");
    json_num(j, "overlap", k->overlap_share);
    write_qty(j, "launch", k->launch_s, "s");
    json_end(j);
}
