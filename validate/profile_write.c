/* Writes profiles. */
#include "validate/profile_write.h"

static const char *origin(enum prof_class c)
{
    return c == PROF_BORROWED ? "borrowed" : c == PROF_COUNT ? "count" : "measured";
}

static void head(const char *format, const char *name, const char *source, const char *made_by,
                 const char *fitted, FILE *out)
{
    fprintf(out,
            "# Fitted: do not edit, calibrate again. docs/calibration.md has the forms.\nformat: "
            "%s\nname: %s\n",
            format, name);
    fprintf(out, "source: \"%s\"\nmade_by: \"%s\"\nfitted: \"%s\"\n", source, made_by, fitted);
}

static void numbers(const char *key, const double *v, int count, double unit, FILE *out)
{
    fprintf(out, "%s: [", key);
    for (int i = 0; i < count; i++)
        fprintf(out, "%s%.6g", i ? ", " : "", v[i] * unit);
    fprintf(out, "]");
}

static void sizes(const double *v, int count, FILE *out)
{
    fprintf(out, "bytes: [");
    for (int i = 0; i < count; i++)
        fprintf(out, "%s%.0f", i ? ", " : "", v[i]);
    fprintf(out, "]");
}

static void between(const struct prof_between *b, FILE *out)
{
    fprintf(out,
            "between:   # several nodes without a measured curve\n  latency: %.4g us\n  "
            "node_latency: %.4g us\n",
            b->latency_s * 1e6, b->node_latency_s * 1e6);
    fprintf(out,
            "  excess: %.4g us\n  knee: %.4g us\n  pair_gain: %.4g\n  half_width: [%.3g, %.3g]\n  "
            "efficiency:\n",
            b->excess_s * 1e6, b->knee_s * 1e6, b->pair_gain, b->half[0], b->half[1]);
    for (int op = 0; op < COLL_OPS; op++)
        fprintf(out, "    %s: %.4g\n", coll_op_names[op], b->efficiency[op]);
}

void profile_write_net(const struct prof_net *p, const char *made_by, const char *fitted, FILE *out)
{
    head("shardwise-net/1", p->name, p->source, made_by, fitted, out);
    fprintf(out, "half_width:   # 90 %%, natural log: below 1 MB, from 1 MB on\n");
    for (int c = 0; c < PROF_BETWEEN; c++)
        fprintf(out, "  %s: [%.3g, %.3g]\n", prof_class_names[c], p->half[c][0], p->half[c][1]);
    fprintf(out, "gap_octaves: %g\n", p->gap_octaves);
    between(&p->between, out);
    fprintf(out, "curves:\n");
    for (int i = 0; i < p->curve_count; i++) {
        const struct prof_curve *c = &p->curves[i];
        fprintf(out, "  - op: %s\n    type: %s\n    gpus: %d\n", coll_op_names[c->op],
                coll_type_names[c->type], c->gpus);
        if (c->nodes > 1)
            fprintf(out, "    nodes: %d\n    nic: %.6g B/s\n", c->nodes, c->nic_bytes_per_s);
        fprintf(out, "    origin: %s\n    ", origin(c->origin));
        sizes(c->bytes, c->count, out);
        fprintf(out, "\n    ");
        numbers("us", c->time_s, c->count, 1e6, out);
        fprintf(out, "\n");
    }
}

static void attention(const struct prof_attention *k, FILE *out)
{
    fprintf(out,
            "  - kernel: %s\n    causal: %s\n    head_dim: %d\n    tile: {queries: %d, keys: %d}\n",
            k->kernel, k->causal ? "true" : "false", k->head_dim, k->tile_q, k->tile_k);
    fprintf(out, "    tile_us: %.5g\n    block_us: %.5g\n", k->tile_s * 1e6, k->block_s * 1e6);
    if (k->backward > 0)
        fprintf(out, "    backward: %.4g\n", k->backward);
    fprintf(out, "    longest: %.0f\n    origin: %s\n", k->longest, origin(k->origin));
}

static void gemm(const struct prof_gemm *g, FILE *out)
{
    fprintf(out,
            "gemm:\n  rate: %.5g TFLOP/s\n  tile: %.4g us\n  launch: %.4g us\n  wave: %.4g\n  hbm: "
            "%.4g TB/s\n  wide: %.4g\n",
            g->rate * 1e-12, g->tile_s * 1e6, g->launch_s * 1e6, g->wave,
            g->hbm_bytes_per_s * 1e-12, g->wide);
    fprintf(out,
            "  narrow: [%.4g, %.4g]\n  heat: %.4g\n  heat_s: %.4g us\n  longest: %.5g us\n  "
            "origin: %s\n",
            g->narrow[0], g->narrow[1], g->heat, g->heat_s * 1e6, g->longest_s * 1e6,
            origin(g->origin));
}

static void sparse(const struct prof_sparse *k, FILE *out)
{
    static const char *const pass[] = {"forward", "backward"};
    fprintf(out, "sparse:\n  kernel: %s\n", k->kernel);
    for (int b = 0; b < 2; b++)
        fprintf(out, "  %s: {row: %.5g ns, pair: %.5g ps, dense_pair: %.5g ps}\n", pass[b],
                k->row_s[b] * 1e9, k->pair_s[b] * 1e12, k->dense_pair_s[b] * 1e12);
    fprintf(out,
            "  cache: %.4g MB\n  cache_slope: %.4g\n  select: %.5g ps\n  tile: %d\n  group: %d\n",
            k->cache_bytes * 1e-6, k->cache_slope, k->score_s * 1e12, k->tile, k->group);
    fprintf(out, "  least_keys: %.0f\n  most_keys: %.0f\n  longest: %.0f\n  origin: %s\n",
            k->least_keys, k->most_keys, k->longest, origin(k->origin));
}

void profile_write_kernels(const struct prof_kernels *p, const char *made_by, const char *fitted,
                           FILE *out)
{
    static const char *const kinds[] = {"attention", "gemm", "sparse"};
    head("shardwise-curve/1", p->name, p->source, made_by, fitted, out);
    fprintf(out, "sms: %d\nlaunch: %.4g us\nwave: %.4g\ntail: %.4g\nheat: %.4g\nheat_s: %.4g us\n",
            p->sms, p->launch_s * 1e6, p->wave, p->tail, p->heat, p->heat_s * 1e6);
    fprintf(out,
            "half_width:   # 90 %%, natural log, of times over 1 ms; short: more for 10 us and "
            "below\n  short: %.3g\n",
            p->half_short);
    for (int k = 0; k < PROF_KINDS; k++)
        fprintf(out, "  %s: {inside: %.3g, outside: %.3g, borrowed: %.3g}\n", kinds[k],
                p->half[k][PROF_INSIDE], p->half[k][PROF_OUTSIDE], p->half[k][PROF_BORROWED]);
    fprintf(out, "attention:\n");
    for (int i = 0; i < p->attention_count; i++)
        attention(&p->attention[i], out);
    if (p->gemm.rate > 0)
        gemm(&p->gemm, out);
    if (p->sparse.pair_s[0] > 0)
        sparse(&p->sparse, out);
}
