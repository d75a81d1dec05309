/* Reads measured tables. */
#include "validate/point.h"

#include <ctype.h>
#include <stdio.h>
#include <string.h>

#include "base/preset.h"

const char *const point_kind_names[] = {"collective", "attention", "gemm", "sparse", NULL};

struct reader {
    const struct csv *c;
    struct arena *a;
    struct err *e;
    int row;
};

static const char *text(const struct reader *r, const char *column)
{
    int i = csv_column(r->c, column);
    return i < 0 ? "" : csv_cell(r->c, r->row, i);
}

static struct err_at at(const struct reader *r)
{
    return (struct err_at){.file = r->c->path, .line = r->c->line[r->row]};
}

static bool positive(struct reader *r, const char *column, double *out)
{
    int i;
    if (!csv_need(r->c, column, &i, r->e) || !csv_num(r->c, r->row, i, out, r->e))
        return false;
    return *out > 0 || err_set(r->e, ERR_INPUT, at(r), "%s: %s is not positive", column,
                               csv_cell(r->c, r->row, i));
}

static bool count(struct reader *r, const char *column, int *out)
{
    int i;
    int64_t v;
    if (!csv_need(r->c, column, &i, r->e) || !csv_int(r->c, r->row, i, 1, 1 << 24, &v, r->e))
        return false;
    *out = (int)v;
    return true;
}

static const char *lower(struct arena *a, const char *s)
{
    char *copy = arena_strdup(a, s);
    for (char *p = copy; *p; p++)
        *p = (char)tolower((unsigned char)*p);
    return copy;
}

static int index_of(const char *const *names, const char *s)
{
    for (int i = 0; names[i]; i++)
        if (!strcmp(names[i], s))
            return i;
    return -1;
}

double point_nic(const char *network, int per_node)
{
    int nics = 0, gigabits = 0;
    if (sscanf(network, "%dx%dG", &nics, &gigabits) != 2 || nics < 1 || gigabits < 1 ||
        per_node < 1)
        return 0;
    return nics * (gigabits * 1e9 / 8) / per_node;
}

static const char *time_column(const struct csv *c)
{
    static const char *const names[] = {"lat_us", "time_us", "lat_us_median"};
    for (int i = 0; i < 3; i++)
        if (csv_column(c, names[i]) >= 0)
            return names[i];
    return names[0];
}

static bool collective(struct reader *r, struct point *p, bool *use)
{
    struct coll_query *q = &p->coll;
    int op = index_of(coll_op_names, text(r, "op")),
        type = index_of(coll_type_names, text(r, "dtype"));
    *use = op >= 0;
    if (op < 0)
        return true; /* broadcast and the like: no model */
    bool reduces = op == COLL_REDUCE_SCATTER ||
                   op == COLL_ALL_REDUCE; /* others move bytes, whatever they mean */
    *q = (struct coll_query){.op = (enum coll_op)op,
                             .type = !reduces            ? COLL_ANY
                                     : type == COLL_INT8 ? COLL_INT8
                                                         : COLL_HALF,
                             .nodes = 1};
    if (!positive(r, "size_bytes", &q->bytes) || !positive(r, time_column(r->c), &p->time_s) ||
        !count(r, "n_gpus", &q->gpus))
        return false;
    if (csv_column(r->c, "nodes") >= 0 && !count(r, "nodes", &q->nodes))
        return false;
    const char *network = text(r, "network");
    if (strstr(network, "NVL")) /* one NVLink domain is one node here */
        q->nodes = 1;
    if (q->gpus < 2)
        return err_set(r->e, ERR_INPUT, at(r), "n_gpus: one GPU exchanges nothing; want 2 or more");
    if (q->gpus % q->nodes)
        return err_set(r->e, ERR_INPUT, at(r), "n_gpus: %d GPUs do not fill %d nodes evenly",
                       q->gpus, q->nodes);
    q->nic_bytes_per_s = point_nic(network, q->gpus / q->nodes);
    p->time_s *= 1e-6;
    *use = q->nodes == 1 || q->nic_bytes_per_s > 0;
    return true;
}

static bool attention(struct reader *r, struct point *p, bool *use)
{
    struct attention_query *q = &p->attention;
    const char *mask = text(r, "mask");
    if (strcmp(mask, "causal") && strcmp(mask, "noncausal"))
        return err_set(r->e, ERR_INPUT, at(r), "mask: '%s', want causal or noncausal", mask);
    q->causal = !strcmp(mask, "causal");
    q->backward = !strcmp(text(r, "pass_"), "bwd");
    if (!positive(r, "batch", &q->batch) || !positive(r, "heads", &q->heads) ||
        !positive(r, "seqlen", &q->keys) || !count(r, "head_dim", &q->head_dim) ||
        !positive(r, "lat_us", &p->time_s))
        return false;
    q->queries = q->keys;
    p->time_s *= 1e-6;
    *use = true;
    return true;
}

static bool gemm(struct reader *r, struct point *p, bool *use)
{
    if (!positive(r, "m", &p->m) || !positive(r, "n", &p->n) || !positive(r, "k", &p->k) ||
        !positive(r, "lat_us", &p->time_s))
        return false;
    p->time_s *= 1e-6;
    *use = true;
    return true;
}

static bool sparse(struct reader *r, struct point *p, bool *use)
{
    static const char *const kernels[] = {"sparse_group", "full_triton", "lowrank_select", NULL};
    double s, h, group;
    int part = index_of(kernels, text(r, "kernel"));
    *use = part >= 0 && !strcmp(text(r, "unit"), "ms");
    if (!*use)
        return true;
    if (!positive(r, "S", &s) || !positive(r, "H", &h) || !count(r, "D", &p->attention.head_dim) ||
        !positive(r, "group", &group) || !positive(r, "kept_kv", &p->kept) ||
        !positive(r, "value", &p->time_s))
        return false;
    p->part = (enum sparse_part)part;
    p->backward = !strcmp(text(r, "pass_"), "bwd");
    p->rows = s * h;
    p->pairs = p->rows * p->kept;
    p->keys_held = s;
    p->scores = p->rows / group * s;
    p->time_s *= 1e-3;
    return true;
}

static const struct {
    const char *columns[5]; /* those that tell the kind */
    bool (*read)(struct reader *r, struct point *p, bool *use);
} kinds[POINT_KINDS] = {
    [POINT_COLLECTIVE] = {{"op", "n_gpus", "size_bytes"}, collective},
    [POINT_ATTENTION] = {{"mask", "seqlen", "heads", "head_dim"}, attention},
    [POINT_GEMM] = {{"m", "n", "k"}, gemm},
    [POINT_SPARSE] = {{"kernel", "pass_", "kept_kv", "unit"}, sparse},
};

static int kind_of(const struct csv *c)
{
    for (int k = 0; k < POINT_KINDS; k++) {
        bool all = true;
        for (int i = 0; kinds[k].columns[i]; i++)
            all = all && csv_column(c, kinds[k].columns[i]) >= 0;
        if (all)
            return k;
    }
    return -1;
}

/* The span of the runs behind a row; none when the columns are missing or do not hold one. */
static void runs(const struct reader *r, struct point *p)
{
    static const char *const columns[] = {"n_rep", "lat_us_min", "lat_us_max"};
    double v[3];
    for (int i = 0; i < 3; i++) {
        int column = csv_column(r->c, columns[i]);
        struct err ignored = {0};
        if (column < 0 || !csv_num(r->c, r->row, column, &v[i], &ignored))
            return;
    }
    if (v[0] < 2 || !(v[1] > 0) || v[2] < v[1])
        return;
    p->least_s = v[1] * 1e-6;
    p->most_s = v[2] * 1e-6;
}

static bool read_rows(struct reader *r, struct points *out)
{
    for (r->row = 0; r->row < r->c->rows; r->row++) {
        struct point p = {.kind = out->kind,
                          .gpu = lower(r->a, text(r, "gpu")),
                          .role = text(r, "role"),
                          .kernel = text(r, "kernel"),
                          .source = text(r, "source"),
                          .line = r->c->line[r->row]};
        bool use = strcmp(text(r, "usable"), "0") && strcmp(p.role, "unusable");
        if (use && !kinds[out->kind].read(r, &p, &use))
            return false;
        runs(r, &p);
        if (use) {
            out->row[out->count] = r->row;
            out->point[out->count++] = p;
        } else {
            out->skipped++;
        }
    }
    return true;
}

bool points_read(const char *path, struct arena *a, struct points *out, struct err *e)
{
    struct points p = {.path = path};
    if (!csv_read(path, a, &p.table, e))
        return false;
    int kind = kind_of(&p.table);
    if (kind < 0 && p.table.columns == 1 && strpbrk(p.table.header[0], ";\t"))
        return err_set(e, ERR_INPUT, (struct err_at){.file = path, .line = 1},
                       "columns are separated by %s; want commas",
                       strchr(p.table.header[0], ';') ? "';'" : "tabs");
    if (kind < 0)
        return err_set(e, ERR_INPUT, err_at_name(path),
                       "not a table of collectives (op, n_gpus, size_bytes, lat_us), attention "
                       "(mask, seqlen, heads, head_dim, "
                       "lat_us), gemm (m, n, k, lat_us) or sparse kernels (kernel, pass_, kept_kv, "
                       "value, unit)");
    p.kind = (enum point_kind)kind;
    p.point = ARENA_ARRAY(a, struct point, p.table.rows + 1);
    p.row = ARENA_ARRAY(a, int, p.table.rows + 1);
    struct reader r = {.c = &p.table, .a = a, .e = e};
    if (!read_rows(&r, &p))
        return false;
    *out = p;
    return true;
}

const char *point_profile(const char *kind, const char *gpu, struct arena *a, struct err *e)
{
    const char **names = preset_list(kind, a, e), *best = NULL;
    const char *wanted = lower(a, gpu);
    for (int i = 0; names && names[i]; i++)
        if (!strncmp(wanted, names[i], strlen(names[i])) &&
            (!best || strlen(names[i]) > strlen(best)))
            best = names[i];
    return best;
}

static bool predict_sparse(const struct point *p, const struct prof_kernels *k,
                           struct prediction *out)
{
    if (!(k->sparse.pair_s[0] > 0))
        return false;
    if (p->part == PART_SPARSE)
        *out = prof_sparse(k, p->backward, p->rows, p->pairs, p->keys_held, p->attention.head_dim);
    else if (p->part == PART_DENSE)
        *out = prof_dense_like(k, p->backward, p->pairs, p->attention.head_dim);
    else
        *out = prof_select(k, p->scores);
    return true;
}

bool point_predict(const struct point *p, const struct prof_net *net,
                   const struct prof_kernels *kernels, struct prediction *out)
{
    if (p->kind == POINT_COLLECTIVE) {
        if (net)
            *out = prof_collective(net, &p->coll);
        return net != NULL;
    }
    if (!kernels || (p->kind == POINT_GEMM && !(kernels->gemm.rate > 0)))
        return false;
    if (p->kind == POINT_SPARSE)
        return predict_sparse(p, kernels, out);
    *out = p->kind == POINT_GEMM ? prof_gemm(kernels, p->m, p->n, p->k)
                                 : prof_attention(kernels, &p->attention);
    return true;
}
