/* Reads calibrated profiles: presets/net/<gpu>.yaml and presets/curve/<gpu>.yaml (docs/formats.md).
 */
#include "model/prof.h"

#include <math.h>
#include <string.h>

#include "base/cfg.h"
#include "base/preset.h"

enum { MOST_CURVES = 4096, MOST_POINTS = 4096, MOST_ATTENTION = 256 };

static const char *const origins[] = {"measured", "count", "borrowed", NULL};
static const enum prof_class origin_class[] = {PROF_INSIDE, PROF_COUNT, PROF_BORROWED};

static bool origin_read(const struct cfg *map, enum prof_class *out, struct err *e)
{
    int index;
    if (!cfg_enum(map, "origin", origins, &index, e))
        return false;
    *out = origin_class[index];
    return true;
}

static bool positive(const struct cfg *map, const char *key, enum qty_dim dim, double *out,
                     struct err *e)
{
    if (!cfg_qty(map, key, dim, out, e))
        return false;
    if (!(*out > 0))
        return err_set(e, ERR_INPUT, cfg_get(map, key)->at, "%s: 0, want more than that", key);
    return true;
}

/* A half-width over 5 (a factor of 148) is no error bar. */
static bool half_pair(const struct cfg *map, const char *key, double out[2], struct arena *a,
                      struct err *e)
{
    double *v;
    int count;
    if (!cfg_qty_list(map, key, QTY_NUMBER, a, &v, &count, e))
        return false;
    if (count != 2 || v[0] > 5 || v[1] > 5)
        return err_set(e, ERR_INPUT, cfg_get(map, key)->at,
                       "%s: want two half-widths up to 5: below 1 MB and from 1 MB on", key);
    memcpy(out, v, 2 * sizeof *v);
    return true;
}

static bool rising(const struct cfg *at, const char *key, const double *v, int count, bool strictly,
                   struct err *e)
{
    for (int i = 0; i < count; i++)
        if (!(v[i] > 0) || (i > 0 && (strictly ? !(v[i] > v[i - 1]) : !(v[i] >= v[i - 1]))))
            return err_set(e, ERR_INPUT, at->at,
                           "%s: entry %d (%g) must be positive and %s the one before", key, i + 1,
                           v[i], strictly ? "above" : "not below");
    return true;
}

static bool points_read(const struct cfg *map, struct prof_curve *c, struct arena *a, struct err *e)
{
    double *bytes, *us;
    int count, times;
    if (!cfg_qty_list(map, "bytes", QTY_NUMBER, a, &bytes, &count, e) ||
        !cfg_qty_list(map, "us", QTY_NUMBER, a, &us, &times, e))
        return false;
    if (count < 1 || count != times || count > MOST_POINTS)
        return err_set(e, ERR_INPUT, map->at,
                       "%d sizes and %d times; want as many of both, 1 to %d", count, times,
                       MOST_POINTS);
    if (!rising(cfg_get(map, "bytes"), "bytes", bytes, count, true, e) ||
        !rising(cfg_get(map, "us"), "us", us, count, false, e))
        return false;
    for (int i = 0; i < count; i++)
        us[i] *= 1e-6;
    c->count = count;
    c->bytes = bytes;
    c->time_s = us;
    return true;
}

static bool curve_read(const struct cfg *map, struct prof_curve *c, struct arena *a, struct err *e)
{
    static const char *const keys[] = {"op",     "type",  "gpus", "nodes", "nic",
                                       "origin", "bytes", "us",   NULL};
    int op, type;
    int64_t gpus, nodes;
    if (!cfg_check_keys(map, keys, e) || !cfg_enum(map, "op", coll_op_names, &op, e) ||
        !cfg_enum(map, "type", coll_type_names, &type, e) ||
        !cfg_int(map, "gpus", 2, 1 << 20, &gpus, e) ||
        !cfg_int_or(map, "nodes", 1, 1 << 20, 1, &nodes, e) || !origin_read(map, &c->origin, e))
        return false;
    if (gpus % nodes)
        return err_set(e, ERR_INPUT, map->at, "gpus: %d is not a multiple of %d nodes", (int)gpus,
                       (int)nodes);
    if (nodes > 1 && !positive(map, "nic", QTY_BYTES_PER_S, &c->nic_bytes_per_s, e))
        return false;
    c->op = (enum coll_op)op;
    c->type = (enum coll_type)type;
    c->gpus = (int)gpus;
    c->nodes = (int)nodes;
    return points_read(map, c, a, e);
}

static bool curves_read(const struct cfg *top, struct prof_net *p, struct arena *a, struct err *e)
{
    const struct cfg *list = cfg_need(top, "curves", e);
    if (!list)
        return false;
    if (list->kind != CFG_LIST || list->count < 1 || list->count > MOST_CURVES)
        return err_set(e, ERR_INPUT, list->at, "curves: want a list of 1 to %d", MOST_CURVES);
    struct prof_curve *c = ARENA_ARRAY(a, struct prof_curve, list->count);
    unsigned have = 0;
    for (int i = 0; i < list->count; i++) {
        if (!curve_read(list->items[i], &c[i], a, e))
            return false;
        have |= c[i].nodes == 1 ? 1u << c[i].op : 0;
    }
    for (int op = 0; op < COLL_SEND_RECV; op++)
        if (!(have & 1u << op))
            return err_set(e, ERR_INPUT, list->at, "curves: no %s within one node",
                           coll_op_names[op]);
    p->curves = c;
    p->curve_count = list->count;
    return true;
}

static bool between_read(const struct cfg *top, struct prof_between *b, struct arena *a,
                         struct err *e)
{
    static const char *const keys[] = {"latency",    "node_latency", "excess",     "knee",
                                       "efficiency", "pair_gain",    "half_width", NULL};
    const struct cfg *map = cfg_need(top, "between", e);
    if (!map || !cfg_check_keys(map, keys, e) ||
        !cfg_qty(map, "latency", QTY_SECONDS, &b->latency_s, e) ||
        !cfg_qty(map, "node_latency", QTY_SECONDS, &b->node_latency_s, e) ||
        !cfg_qty(map, "excess", QTY_SECONDS, &b->excess_s, e) ||
        !positive(map, "knee", QTY_SECONDS, &b->knee_s, e) ||
        !positive(map, "pair_gain", QTY_NUMBER, &b->pair_gain, e) ||
        !half_pair(map, "half_width", b->half, a, e))
        return false;
    const struct cfg *efficiency = cfg_need(map, "efficiency", e);
    for (int op = 0; efficiency && op < COLL_OPS; op++)
        if (!positive(efficiency, coll_op_names[op], QTY_RATIO, &b->efficiency[op], e))
            return false;
    return efficiency != NULL;
}

static bool halves_read(const struct cfg *top, struct prof_net *p, struct arena *a, struct err *e)
{
    const struct cfg *map = cfg_need(top, "half_width", e);
    for (int c = 0; map && c < PROF_BETWEEN; c++)
        if (!half_pair(map, prof_class_names[c], p->half[c], a, e))
            return false;
    return map && positive(top, "gap_octaves", QTY_NUMBER, &p->gap_octaves, e);
}

static const struct cfg *open_profile(const char *kind, const char *name, const char *format,
                                      struct err_at at, struct arena *a, struct err *e)
{
    const char *path = preset_find(kind, name, at, a, e);
    struct cfg *top = path ? cfg_read_file(path, a, e) : NULL;
    const char *is;
    if (!top || !cfg_text(top, "format", &is, e))
        return NULL;
    if (strcmp(is, format)) {
        err_set(e, ERR_INPUT, cfg_get(top, "format")->at, "format: '%s', want '%s'", is, format);
        return NULL;
    }
    return top;
}

const struct prof_net *prof_net_load(const char *name, struct err_at at, struct arena *a,
                                     struct err *e)
{
    static const char *const keys[] = {"format",     "name",        "source",  "made_by", "fitted",
                                       "half_width", "gap_octaves", "between", "curves",  NULL};
    const struct cfg *top = open_profile("net", name, "shardwise-net/1", at, a, e);
    struct prof_net *p = ARENA_NEW(a, struct prof_net);
    if (!top || !cfg_check_keys(top, keys, e) || !cfg_text(top, "name", &p->name, e) ||
        !cfg_text(top, "source", &p->source, e) || !halves_read(top, p, a, e) ||
        !between_read(top, &p->between, a, e) || !curves_read(top, p, a, e))
        return NULL;
    return p;
}

/* ---- kernels ---- */

static bool attention_read(const struct cfg *map, struct prof_attention *k, struct err *e)
{
    static const char *const keys[] = {"kernel",   "causal",   "head_dim", "tile",   "tile_us",
                                       "block_us", "backward", "longest",  "origin", NULL};
    int64_t dim, q, kk;
    const struct cfg *tile;
    if (!cfg_check_keys(map, keys, e) || !cfg_text(map, "kernel", &k->kernel, e) ||
        !cfg_bool_or(map, "causal", false, &k->causal, e) ||
        !cfg_int(map, "head_dim", 1, 4096, &dim, e) || !(tile = cfg_need(map, "tile", e)) ||
        !cfg_int(tile, "queries", 1, 65536, &q, e) || !cfg_int(tile, "keys", 1, 65536, &kk, e) ||
        !cfg_qty(map, "tile_us", QTY_NUMBER, &k->tile_s, e) ||
        !positive(map, "block_us", QTY_NUMBER, &k->block_s, e) ||
        !cfg_qty_or(map, "backward", QTY_NUMBER, 0, &k->backward, e) ||
        !positive(map, "longest", QTY_NUMBER, &k->longest, e) || !origin_read(map, &k->origin, e))
        return false;
    k->head_dim = (int)dim;
    k->tile_q = (int)q;
    k->tile_k = (int)kk;
    k->tile_s *= 1e-6;
    k->block_s *= 1e-6;
    return true;
}

static bool attentions_read(const struct cfg *top, struct prof_kernels *p, struct arena *a,
                            struct err *e)
{
    const struct cfg *list = cfg_need(top, "attention", e);
    if (!list)
        return false;
    if (list->kind != CFG_LIST || list->count < 1 || list->count > MOST_ATTENTION)
        return err_set(e, ERR_INPUT, list->at, "attention: want a list of 1 to %d", MOST_ATTENTION);
    struct prof_attention *k = ARENA_ARRAY(a, struct prof_attention, list->count);
    for (int i = 0; i < list->count; i++)
        if (!attention_read(list->items[i], &k[i], e))
            return false;
    p->attention = k;
    p->attention_count = list->count;
    return true;
}

static bool gemm_read(const struct cfg *top, struct prof_gemm *g, struct arena *a, struct err *e)
{
    static const char *const keys[] = {"rate",   "tile", "launch", "wave",    "hbm",    "wide",
                                       "narrow", "heat", "heat_s", "longest", "origin", NULL};
    const struct cfg *map = cfg_get(top, "gemm");
    double *narrow;
    int count;
    if (!map)
        return true;
    if (!cfg_check_keys(map, keys, e) || !positive(map, "rate", QTY_FLOP_PER_S, &g->rate, e) ||
        !cfg_qty(map, "tile", QTY_SECONDS, &g->tile_s, e) ||
        !cfg_qty(map, "launch", QTY_SECONDS, &g->launch_s, e) ||
        !cfg_qty(map, "wave", QTY_RATIO, &g->wave, e) ||
        !positive(map, "hbm", QTY_BYTES_PER_S, &g->hbm_bytes_per_s, e) ||
        !cfg_qty(map, "wide", QTY_NUMBER, &g->wide, e) ||
        !cfg_qty_list(map, "narrow", QTY_NUMBER, a, &narrow, &count, e) ||
        !cfg_qty(map, "heat", QTY_NUMBER, &g->heat, e) ||
        !positive(map, "heat_s", QTY_SECONDS, &g->heat_s, e) ||
        !positive(map, "longest", QTY_SECONDS, &g->longest_s, e) ||
        !origin_read(map, &g->origin, e))
        return false;
    if (count != 2 || !(narrow[0] > 0) || !(narrow[1] > 0))
        return err_set(e, ERR_INPUT, cfg_get(map, "narrow")->at,
                       "narrow: want two positive shares of the rate");
    memcpy(g->narrow, narrow, sizeof g->narrow);
    return true;
}

static bool pass_read(const struct cfg *map, const char *key, struct prof_sparse *k, int pass,
                      struct err *e)
{
    static const char *const keys[] = {"row", "pair", "dense_pair", NULL};
    const struct cfg *m = cfg_need(map, key, e);
    return m && cfg_check_keys(m, keys, e) && cfg_qty(m, "row", QTY_SECONDS, &k->row_s[pass], e) &&
           positive(m, "pair", QTY_SECONDS, &k->pair_s[pass], e) &&
           positive(m, "dense_pair", QTY_SECONDS, &k->dense_pair_s[pass], e);
}

static bool sparse_read(const struct cfg *top, struct prof_sparse *k, struct err *e)
{
    static const char *const keys[] = {
        "kernel", "forward",    "backward",  "cache",   "cache_slope", "select", "tile",
        "group",  "least_keys", "most_keys", "longest", "origin",      NULL};
    const struct cfg *map = cfg_get(top, "sparse");
    int64_t tile, group;
    if (!map)
        return true;
    if (!cfg_check_keys(map, keys, e) || !cfg_text(map, "kernel", &k->kernel, e) ||
        !pass_read(map, "forward", k, 0, e) || !pass_read(map, "backward", k, 1, e) ||
        !positive(map, "cache", QTY_BYTES, &k->cache_bytes, e) ||
        !cfg_qty(map, "cache_slope", QTY_NUMBER, &k->cache_slope, e) ||
        !positive(map, "select", QTY_SECONDS, &k->score_s, e) ||
        !cfg_int(map, "tile", 1, 1 << 20, &tile, e) ||
        !cfg_int(map, "group", 1, 1 << 20, &group, e) ||
        !positive(map, "least_keys", QTY_NUMBER, &k->least_keys, e) ||
        !positive(map, "most_keys", QTY_NUMBER, &k->most_keys, e) ||
        !positive(map, "longest", QTY_NUMBER, &k->longest, e) || !origin_read(map, &k->origin, e))
        return false;
    k->tile = (int)tile;
    k->group = (int)group;
    return true;
}

static bool kind_halves_read(const struct cfg *top, struct prof_kernels *p, struct err *e)
{
    static const char *const kinds[] = {"attention", "gemm", "sparse"};
    const struct cfg *map = cfg_need(top, "half_width", e);
    for (int k = 0; map && k < PROF_KINDS; k++) {
        const struct cfg *of = cfg_need(map, kinds[k], e);
        for (int c = PROF_INSIDE; of && c < PROF_BETWEEN; c++)
            if (c != PROF_COUNT &&
                !positive(of, prof_class_names[c], QTY_NUMBER, &p->half[k][c], e))
                return false;
        if (!of)
            return false;
    }
    return map && cfg_qty(map, "short", QTY_NUMBER, &p->half_short, e);
}

const struct prof_kernels *prof_kernels_load(const char *name, struct err_at at, struct arena *a,
                                             struct err *e)
{
    static const char *const keys[] = {
        "format", "name", "source", "made_by",   "fitted", "sms",    "launch",     "wave",
        "tail",   "heat", "heat_s", "attention", "gemm",   "sparse", "half_width", NULL};
    const struct cfg *top = open_profile("curve", name, "shardwise-curve/1", at, a, e);
    struct prof_kernels *p = ARENA_NEW(a, struct prof_kernels);
    int64_t sms;
    if (!top || !cfg_check_keys(top, keys, e) || !cfg_text(top, "name", &p->name, e) ||
        !cfg_text(top, "source", &p->source, e) || !cfg_int(top, "sms", 1, 65536, &sms, e) ||
        !cfg_qty(top, "launch", QTY_SECONDS, &p->launch_s, e) ||
        !cfg_qty(top, "wave", QTY_RATIO, &p->wave, e) ||
        !cfg_qty(top, "tail", QTY_NUMBER, &p->tail, e) ||
        !cfg_qty(top, "heat", QTY_NUMBER, &p->heat, e) ||
        !positive(top, "heat_s", QTY_SECONDS, &p->heat_s, e) || !attentions_read(top, p, a, e) ||
        !gemm_read(top, &p->gemm, a, e) || !sparse_read(top, &p->sparse, e) ||
        !kind_halves_read(top, p, e))
        return NULL;
    p->sms = (int)sms;
    p->asked = arena_strdup(a, name);
    return p;
}
