#include "model/plan.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/cfg.h"
#include "base/outfile.h"

#define PLAN_SCHEMA "shardwise-plan/2"

const char *const plan_phase_names[] = {"attention", "block", "step", NULL};

/* ---- signature ---- */

static uint64_t add_text(uint64_t hash, const char *text)
{
    return fnv_bytes(hash, text, strlen(text) + 1);
}

static uint64_t add_int(uint64_t hash, int64_t value)
{
    char text[24];
    snprintf(text, sizeof text, "%" PRId64, value);
    return add_text(hash, text);
}

static uint64_t add_num(uint64_t hash, double value)
{
    char text[32];
    snprintf(text, sizeof text, "%.12g", value);
    return add_text(hash, text);
}

static uint64_t add_conf(uint64_t hash, const struct cp_conf *c)
{
    int64_t facts[] = {c->strategy, c->head_groups, c->seq_groups, c->heads_inside,
                       c->sparse,   c->query_group, c->piece_count};
    for (size_t i = 0; i < sizeof facts / sizeof facts[0]; i++)
        hash = add_int(hash, facts[i]);
    for (int i = 0; i < c->piece_count; i++) {
        hash = add_int(add_int(hash, c->pieces[i].head), c->pieces[i].head_rank);
        hash = add_num(add_num(hash, c->pieces[i].begin), c->pieces[i].share);
    }
    return hash;
}

int plan_ranks(const struct plan *p)
{
    return p->cp * (p->tensor > 1 ? p->tensor : 1);
}

uint64_t plan_signature(const struct plan *p)
{
    const struct hw_cluster *k = p->c.cluster;
    const struct dit_model *m = p->c.model;
    uint64_t h = add_text(add_text(FNV_START, PLAN_SCHEMA), shardwise_version);
    h = add_text(add_text(h, k->gpu.name), m->name);
    int64_t facts[] = {k->nodes,
                       k->gpus_per_node,
                       p->gpus,
                       p->cp,
                       p->block_count,
                       m->heads,
                       m->kv_heads,
                       m->head_dim,
                       m->width,
                       p->c.video_tokens,
                       p->c.samples,
                       p->c.options.checkpointing,
                       p->c.options.keep_kv,
                       p->c.options.grad_fp32,
                       p->c.options.predictor_rank,
                       p->c.options.inference};
    for (size_t i = 0; i < sizeof facts / sizeof facts[0]; i++)
        h = add_int(h, facts[i]);
    if (p->c.options.offload != OFFLOAD_INDICES)
        h = add_text(h, offload_names[p->c.options.offload]);
    if (p->c.options.moved_blocks >= 0)
        h = add_num(h, p->c.options.moved_blocks);
    if (p->c.sparsity->shard_skew > 1)
        h = add_num(h, p->c.sparsity->shard_skew);
    if (p->tensor > 1)
        h = add_int(add_int(h, p->tensor), p->c.options.tensor_allreduce);
    const double hardware[] = {k->gpu.bf16_flop_per_s, k->gpu.hbm_bytes_per_s, k->gpu.memory_bytes,
                               k->nvlink.bytes_per_s,  k->nvlink.latency_s,    k->nvlink.efficiency,
                               k->nic.bytes_per_s,     k->nic.latency_s,       k->nic.efficiency,
                               k->pcie_bytes_per_s,    k->gpus_per_nic};
    for (size_t i = 0; i < sizeof hardware / sizeof hardware[0]; i++)
        h = add_num(h, hardware[i]);
    for (int b = 0; b < p->block_count; b++)
        h = add_conf(h, &p->blocks[b].conf);
    for (int i = 0; i < p->c.sparsity->blocks * p->c.sparsity->heads; i++)
        h = add_num(h, p->c.sparsity->keep[i]);
    return h;
}

/* ---- writing ---- */

static bool conf_equal(const struct cp_conf *a, const struct cp_conf *b)
{
    return add_conf(FNV_START, a) == add_conf(FNV_START, b);
}

/* Configurations are written once; index[b] is block b's. Returns how many there are. */
static int conf_index(const struct plan *p, int *index, int *first)
{
    int count = 0;
    for (int b = 0; b < p->block_count; b++) {
        int k = 0;
        while (k < count && !conf_equal(&p->blocks[first[k]].conf, &p->blocks[b].conf))
            k++;
        if (k == count)
            first[count++] = b;
        index[b] = k;
    }
    return count;
}

/* Lists of numbers stay on one line. */
static void write_numbers(struct json *j, const char *key, const double *v, int n)
{
    j->compact = true;
    json_array(j, key);
    for (int i = 0; i < n; i++)
        json_num(j, NULL, v[i]);
    json_end(j);
    j->compact = false;
}

static void write_pieces(struct json *j, const struct cp_conf *c)
{
    j->compact = true;
    json_array(j, "pieces");
    for (int i = 0; i < c->piece_count; i++) {
        json_array(j, NULL);
        json_int(j, NULL, c->pieces[i].head);
        json_int(j, NULL, c->pieces[i].head_rank);
        json_num(j, NULL, c->pieces[i].begin);
        json_num(j, NULL, c->pieces[i].share);
        json_end(j);
    }
    json_end(j);
    j->compact = false;
}

static void write_conf(struct json *j, const struct plan *p, int block, struct arena *scratch)
{
    const struct cp_conf *c = &p->blocks[block].conf;
    struct cp_program program = cp_program_of(&p->c, block, c, scratch);
    json_object(j, NULL);
    json_text(j, "strategy", cp_strategies[c->strategy].name);
    json_int(j, "head_groups", c->head_groups);
    json_int(j, "seq_groups", c->seq_groups);
    json_bool(j, "heads_inside", c->heads_inside);
    json_bool(j, "sparse", c->sparse);
    json_int(j, "query_group", c->query_group);
    json_num(j, "assign_gap", c->assign_gap);
    write_pieces(j, c);
    json_array(j, "phases");
    for (int i = 0; i < program.phase_count; i++)
        json_text(j, NULL, program.phases[i].name);
    json_end(j);
    json_end(j);
}

static void write_block(struct json *j, const struct plan_block *b, int conf)
{
    json_object(j, NULL);
    json_int(j, "configuration", conf);
    json_num(j, "total_s", b->time.total_s);
    write_numbers(j, "pass_s", b->time.pass_s, PASSES);
    write_numbers(j, "class_s", b->time.class_s, COST_CLASSES);
    double busy[CP_PHASES_MOST], critical[CP_PHASES_MOST];
    for (int i = 0; i < b->time.phase_count; i++) {
        busy[i] = b->time.phase[i].busy_max_s;
        critical[i] = b->time.phase[i].critical_s;
    }
    write_numbers(j, "phase_busy_s", busy, b->time.phase_count);
    write_numbers(j, "phase_critical_s", critical, b->time.phase_count);
    write_numbers(j, "memory_bytes", b->memory.part, MEM_PARTS);
    json_int(j, "memory_rank", b->memory.rank);
    json_end(j);
}

/* Degrees of the measured needs that the plan's exchanges of rows use: the first of them. */
static int needs_used(const struct plan *p)
{
    const struct union_table *t = &p->c.sparsity->table;
    int count = 0;
    for (int b = 0; b < p->block_count; b++) {
        const struct cp_conf *c = &p->blocks[b].conf;
        for (int i = count; i < t->need_count; i++)
            if (c->sparse && cp_strategies[c->strategy].move == MOVE_ROWS &&
                c->seq_groups == t->shards[i])
                count = i + 1;
    }
    return count;
}

static void write_sparsity(struct json *j, const struct sparsity *s, int needs)
{
    char text[64];
    json_object(j, "sparsity");
    json_text(j, "name", s->name);
    json_text(j, "source", s->source);
    json_text(j, "union", union_text(&s->model, text, sizeof text));
    if (s->shard_skew > 1)
        json_num(j, "shard_skew", s->shard_skew);
    if (s->model.kind == UNION_MEASURED) {
        json_array(j, "union_shards");
        for (int i = 0; i < s->table.shard_count; i++)
            json_int(j, NULL, s->table.shards[i]);
        json_end(j);
        write_numbers(j, "union_values", s->table.value,
                      s->blocks * s->heads * s->table.shard_count);
        if (needs > 0)
            write_numbers(
                j, "union_needs", s->table.need,
                (int)union_need_size(&s->table, needs, (size_t)s->blocks * (size_t)s->heads));
    }
    json_array(j, "keep");
    for (int b = 0; b < s->blocks; b++)
        write_numbers(j, NULL, &s->keep[(size_t)b * (size_t)s->heads], s->heads);
    json_end(j);
    json_end(j);
}

static void write_case(struct json *j, const struct plan *p)
{
    const struct cp_options *o = &p->c.options;
    json_object(j, "workload");
    json_int(j, "video_tokens", p->c.video_tokens);
    if (p->c.grid.t > 0) {
        char grid[48];
        snprintf(grid, sizeof grid, "%dx%dx%d", p->c.grid.t, p->c.grid.h, p->c.grid.w);
        json_text(j, "grid", grid);
    }
    json_int(j, "samples", p->c.samples);
    json_text(j, "phase", plan_phase_names[p->phase]);
    json_text(j, "evaluator", p->evaluator);
    json_int(j, "cp", p->cp);
    if (p->tensor > 1) {
        json_int(j, "tensor", p->tensor);
        json_bool(j, "tensor_allreduce", o->tensor_allreduce);
    }
    json_text(j, "checkpointing", checkpointing_names[o->checkpointing]);
    json_bool(j, "keep_kv", o->keep_kv);
    json_bool(j, "grad_fp32", o->grad_fp32);
    json_bool(j, "split_heads", o->split_heads);
    json_int(j, "predictor_rank", o->predictor_rank);
    json_bool(j, "inference", o->inference);
    json_text(j, "offload", offload_names[o->offload]);
    if (o->moved_blocks >= 0)
        json_num(j, "moved_blocks", o->moved_blocks);
    json_end(j);
    json_object(j, "memory");
    json_text(j, "sharding", sharding_names[p->memory.sharding]);
    json_int(j, "shard_ranks", p->memory.shard_ranks);
    json_int(j, "fsdp_units", p->memory.fsdp_units);
    json_bool(j, "ema", p->memory.ema);
    json_bool(j, "index_bitmap", p->memory.index_bitmap);
    json_num(j, "aux_bytes", p->memory.aux_bytes);
    if (p->memory.activations != ACTIVATIONS_PLAIN)
        json_text(j, "activations", activations_names[p->memory.activations]);
    json_end(j);
}

static void write_predicted(struct json *j, const struct plan *p)
{
    json_object(j, "predicted");
    json_num(j, "step_s", p->step_s);
    json_num(j, "blocks_s", p->blocks_s);
    json_num(j, "fsdp_s", p->fsdp_s);
    json_num(j, "optimizer_s", p->optimizer_s);
    if (p->batch.samples > 0) {
        json_num(j, "batch", p->batch.samples);
        json_num(j, "passes", p->batch.passes);
        json_num(j, "batch_step_s", p->batch.step_s);
    }
    json_num(j, "memory_bytes", p->memory_peak.total);
    json_end(j);
}

static void write_plan(struct json *j, const struct plan *p, const struct prov *prov,
                       struct arena *scratch)
{
    int *index = ARENA_ARRAY(scratch, int, p->block_count),
        *first = ARENA_ARRAY(scratch, int, p->block_count);
    int confs = conf_index(p, index, first);
    char signature[17];
    snprintf(signature, sizeof signature, "%016" PRIx64, plan_signature(p));
    json_object(j, NULL);
    json_text(j, "schema", PLAN_SCHEMA);
    if (prov)
        prov_json(prov, j);
    json_text(j, "signature", signature);
    hw_cluster_json(p->c.cluster, j, "cluster");
    dit_json(p->c.model, j, "model");
    kern_json(p->c.kernels, j, "kernels");
    write_case(j, p);
    write_predicted(j, p);
    json_array(j, "configurations");
    for (int k = 0; k < confs; k++)
        write_conf(j, p, first[k], scratch);
    json_end(j);
    json_array(j, "blocks");
    for (int b = 0; b < p->block_count; b++)
        write_block(j, &p->blocks[b], index[b]);
    json_end(j);
    write_sparsity(j, p->c.sparsity, needs_used(p));
    json_end(j);
}

bool plan_write(const struct plan *p, const struct prov *prov, const char *path,
                struct arena *scratch, struct err *e)
{
    struct outfile *f = outfile_open(path, scratch, e);
    if (!f)
        return false;
    struct json j = json_to(outfile_stream(f));
    write_plan(&j, p, prov, scratch);
    return outfile_done(f, e);
}

/* ---- reading ---- */

enum { MOST_RANKS = 1 << 20, MOST_BLOCKS = 4096 };

static bool read_int32(const struct cfg *map, const char *key, int least, int most, int *out,
                       struct err *e)
{
    int64_t v;
    if (!cfg_int(map, key, least, most, &v, e))
        return false;
    *out = (int)v;
    return true;
}

static const struct cfg *need_list(const struct cfg *map, const char *key, int count, struct err *e)
{
    const struct cfg *l = cfg_need(map, key, e);
    if (!l)
        return NULL;
    if (l->kind != CFG_LIST || (count >= 0 && l->count != count)) {
        err_set(e, ERR_INPUT, l->at, "%s: want a list%s", key,
                count >= 0 ? " of another length" : "");
        return NULL;
    }
    return l;
}

/* A list of exactly `count` numbers into v. */
static bool read_numbers(const struct cfg *map, const char *key, double *v, int count,
                         struct arena *a, struct err *e)
{
    double *values;
    int n;
    const struct cfg *l = cfg_need(map, key, e);
    if (!l || !cfg_qty_list(map, key, QTY_NUMBER, a, &values, &n, e))
        return false;
    if (n != count)
        return err_set(e, ERR_INPUT, l->at, "%s: %d numbers; want %d", key, n, count);
    memcpy(v, values, (size_t)n * sizeof *v);
    return true;
}

static bool read_piece(const struct cfg *item, struct cp_piece *p, struct err *e)
{
    double v[4];
    if (item->kind != CFG_LIST || item->count != 4)
        return err_set(e, ERR_INPUT, item->at, "want [head, head rank, begin, share]");
    for (int i = 0; i < 4; i++) {
        if (item->items[i]->kind != CFG_TEXT)
            return err_set(e, ERR_INPUT, item->items[i]->at, "want a number");
        if (!qty_parse(item->items[i]->text, QTY_NUMBER, "piece", item->items[i]->at, &v[i], e))
            return false;
    }
    if (v[0] > MOST_RANKS || v[1] > MOST_RANKS)
        return err_set(e, ERR_INPUT, item->at, "head %g on head rank %g is out of range", v[0],
                       v[1]);
    *p = (struct cp_piece){.head = (int)v[0], .head_rank = (int)v[1], .begin = v[2], .share = v[3]};
    return true;
}

static bool read_conf(const struct cfg *map, const struct plan *plan, struct cp_conf *out,
                      struct arena *a, struct err *e)
{
    static const char *const known[] = {"strategy", "head_groups", "seq_groups", "heads_inside",
                                        "sparse",   "query_group", "assign_gap", "pieces",
                                        "phases",   NULL};
    int strategy;
    if (map->kind != CFG_MAP)
        return err_set(e, ERR_INPUT, map->at, "want a configuration: a mapping");
    const struct cfg *pieces = need_list(map, "pieces", -1, e);
    if (!pieces || !cfg_check_keys(map, known, e) ||
        !cfg_enum(map, "strategy", cp_strategy_names, &strategy, e) ||
        !read_int32(map, "head_groups", 1, MOST_RANKS, &out->head_groups, e) ||
        !read_int32(map, "seq_groups", 1, MOST_RANKS, &out->seq_groups, e) ||
        !cfg_bool_or(map, "heads_inside", true, &out->heads_inside, e) ||
        !cfg_bool_or(map, "sparse", false, &out->sparse, e) ||
        !read_int32(map, "query_group", 1, MOST_RANKS, &out->query_group, e) ||
        !cfg_qty_or(map, "assign_gap", QTY_NUMBER, 0, &out->assign_gap, e))
        return false;
    struct cp_piece *p = ARENA_ARRAY(a, struct cp_piece, pieces->count);
    for (int i = 0; i < pieces->count; i++)
        if (!read_piece(pieces->items[i], &p[i], e))
            return false;
    out->strategy = (enum cp_strategy)strategy;
    out->pieces = p;
    out->piece_count = pieces->count;
    out->tensor = plan->tensor;
    return cp_conf_check(out, plan_ranks(plan), plan->c.model->heads, map->at, e);
}

static bool read_times(const struct cfg *map, struct plan_block *b, struct arena *a, struct err *e)
{
    double *busy, *critical;
    int n, n_critical;
    if (!cfg_qty(map, "total_s", QTY_NUMBER, &b->time.total_s, e) ||
        !read_numbers(map, "pass_s", b->time.pass_s, PASSES, a, e) ||
        !read_numbers(map, "class_s", b->time.class_s, COST_CLASSES, a, e) ||
        !cfg_qty_list(map, "phase_busy_s", QTY_NUMBER, a, &busy, &n, e) ||
        !cfg_qty_list(map, "phase_critical_s", QTY_NUMBER, a, &critical, &n_critical, e) ||
        !read_numbers(map, "memory_bytes", b->memory.part, MEM_PARTS, a, e) ||
        !read_int32(map, "memory_rank", 0, MOST_RANKS, &b->memory.rank, e))
        return false;
    if (n != n_critical)
        return err_set(e, ERR_INPUT, map->at, "%d phase_busy_s but %d phase_critical_s", n,
                       n_critical);
    if (n > CP_PHASES_MOST)
        return err_set(e, ERR_INPUT, map->at, "%d phases; a block has at most %d", n,
                       CP_PHASES_MOST);
    b->time.phase_count = n;
    b->time.phase = ARENA_ARRAY(a, struct phase_time, n);
    for (int i = 0; i < n; i++)
        b->time.phase[i] = (struct phase_time){.busy_max_s = busy[i], .critical_s = critical[i]};
    for (int i = 0; i < MEM_PARTS; i++)
        b->memory.total += b->memory.part[i];
    return true;
}

static bool read_blocks(const struct cfg *root, struct plan *p, struct arena *a, struct err *e)
{
    const struct cfg *confs = need_list(root, "configurations", -1, e),
                     *blocks = need_list(root, "blocks", -1, e);
    if (!confs || !blocks)
        return false;
    if (blocks->count != dit_blocks(p->c.model))
        return err_set(e, ERR_INPUT, blocks->at, "%d blocks; the plan's model has %d",
                       blocks->count, dit_blocks(p->c.model));
    struct cp_conf *conf = ARENA_ARRAY(a, struct cp_conf, confs->count);
    for (int i = 0; i < confs->count; i++)
        if (!read_conf(confs->items[i], p, &conf[i], a, e))
            return false;
    p->block_count = blocks->count;
    p->blocks = ARENA_ARRAY(a, struct plan_block, blocks->count);
    for (int b = 0; b < blocks->count; b++) {
        const struct cfg *map = blocks->items[b];
        int k;
        if (map->kind != CFG_MAP)
            return err_set(e, ERR_INPUT, map->at, "want a block: a mapping");
        if (!read_int32(map, "configuration", 0, confs->count - 1, &k, e) ||
            !read_times(map, &p->blocks[b], a, e))
            return false;
        p->blocks[b].conf = conf[k];
        p->blocks[b].memory.block = b;
        if (p->blocks[b].memory.total > p->memory_peak.total)
            p->memory_peak = p->blocks[b].memory;
    }
    return true;
}

enum { MOST_NEED_SHARDS = 1024 };

/* As many numbers as the first degrees have, whole degrees. */
static bool read_needs(const struct cfg *map, struct sparsity *s, struct arena *a, struct err *e)
{
    const struct cfg *list = need_list(map, "union_needs", -1, e);
    struct union_table *t = &s->table;
    size_t heads = (size_t)s->blocks * (size_t)s->heads;
    if (!list)
        return false;
    while (t->need_count < t->shard_count && t->shards[t->need_count] <= MOST_NEED_SHARDS &&
           union_need_size(t, t->need_count, heads) < (size_t)list->count)
        t->need_count++;
    size_t want = union_need_size(t, t->need_count, heads);
    if (want != (size_t)list->count)
        return err_set(e, ERR_INPUT, list->at, "union_needs: %d numbers, want %zu", list->count,
                       want);
    double *need = ARENA_ARRAY(a, double, want + 1);
    t->need = need;
    if (!read_numbers(map, "union_needs", need, list->count, a, e))
        return false;
    for (size_t i = 0; i < want; i++)
        if (!(need[i] >= 0 && need[i] <= 1))
            return err_set(e, ERR_INPUT, list->at, "union_needs: %g; want shares from 0 to 1",
                           need[i]);
    return true;
}

static bool read_union(const struct cfg *map, struct sparsity *s, struct arena *a, struct err *e)
{
    const char *text;
    const struct cfg *node = cfg_need(map, "union", e);
    if (!node || !cfg_text(map, "union", &text, e))
        return false;
    if (strcmp(text, "measured") != 0)
        return union_parse(text, node->at, &s->model, e);
    double *shards;
    int n;
    if (!cfg_qty_list(map, "union_shards", QTY_NUMBER, a, &shards, &n, e))
        return false;
    if (n < 1)
        return err_set(e, ERR_INPUT, node->at, "a measured union needs union_shards");
    int *at = ARENA_ARRAY(a, int, n);
    for (int i = 0; i < n; i++) {
        if (!(shards[i] >= 1 && shards[i] <= MOST_RANKS) || (i > 0 && shards[i] <= shards[i - 1]))
            return err_set(e, ERR_INPUT, node->at, "union_shards: want rising counts from 1");
        at[i] = (int)shards[i];
    }
    size_t values = (size_t)s->blocks * (size_t)s->heads * (size_t)n;
    double *v = ARENA_ARRAY(a, double, values);
    if (values > INT32_MAX || !read_numbers(map, "union_values", v, (int)values, a, e))
        return false;
    s->model.kind = UNION_MEASURED;
    s->table = (struct union_table){.shard_count = n, .shards = at, .value = v};
    return !cfg_get(map, "union_needs") || read_needs(map, s, a, e);
}

static struct sparsity *read_sparsity(const struct cfg *root, const struct dit_model *m,
                                      struct arena *a, struct err *e)
{
    const struct cfg *map = cfg_need(root, "sparsity", e);
    struct sparsity *s = ARENA_NEW(a, struct sparsity);
    if (!map || !cfg_text(map, "name", &s->name, e))
        return NULL;
    const struct cfg *rows = need_list(map, "keep", dit_blocks(m), e);
    s->source = cfg_text_or(map, "source", "plan");
    if (!cfg_qty_or(map, "shard_skew", QTY_NUMBER, 1, &s->shard_skew, e))
        return NULL;
    s->blocks = dit_blocks(m);
    s->heads = m->heads;
    double *keep = ARENA_ARRAY(a, double, (size_t)s->blocks *(size_t)s->heads);
    for (int b = 0; rows && b < s->blocks; b++) {
        const struct cfg *row = rows->items[b];
        if (row->kind != CFG_LIST || row->count != s->heads) {
            err_set(e, ERR_INPUT, row->at, "want the keeps of %d heads", s->heads);
            return NULL;
        }
        for (int h = 0; h < s->heads; h++) {
            double v = 0;
            if (row->items[h]->kind != CFG_TEXT ||
                !qty_parse(row->items[h]->text, QTY_NUMBER, "keep", row->items[h]->at, &v, e) ||
                !(v > 0 && v <= 1)) {
                err_set(e, ERR_INPUT, row->items[h]->at, "keep: want a share above 0 and up to 1");
                return NULL;
            }
            keep[b * s->heads + h] = v;
        }
    }
    s->keep = keep;
    return rows && read_union(map, s, a, e) ? s : NULL;
}

/* Absent in plans without tensor parallelism. */
static bool read_tensor(const struct cfg *map, struct plan *p, struct err *e)
{
    p->tensor = 1;
    return !cfg_get(map, "tensor") ||
           (read_int32(map, "tensor", 2, DIT_HEADS_MAX, &p->tensor, e) &&
            cfg_bool_or(map, "tensor_allreduce", false, &p->c.options.tensor_allreduce, e));
}

/* `activations` is absent in plans for plain torch. */
static bool read_memory(const struct cfg *map, struct mem_options *out, struct err *e)
{
    int sharding, activations = ACTIVATIONS_PLAIN;
    if (!cfg_enum(map, "sharding", sharding_names, &sharding, e) ||
        !read_int32(map, "shard_ranks", 1, MOST_RANKS, &out->shard_ranks, e) ||
        !read_int32(map, "fsdp_units", 0, MOST_BLOCKS, &out->fsdp_units, e) ||
        !cfg_bool_or(map, "ema", false, &out->ema, e) ||
        !cfg_bool_or(map, "index_bitmap", false, &out->index_bitmap, e) ||
        !cfg_qty(map, "aux_bytes", QTY_NUMBER, &out->aux_bytes, e) ||
        (cfg_get(map, "activations") &&
         !cfg_enum(map, "activations", activations_names, &activations, e)))
        return false;
    out->sharding = (enum sharding)sharding;
    out->activations = (enum activations)activations;
    return true;
}

static bool read_case(const struct cfg *root, struct plan *p, struct err *e)
{
    const struct cfg *w = cfg_need(root, "workload", e), *m = cfg_need(root, "memory", e);
    struct cp_options *o = &p->c.options;
    int phase, checkpointing, offload = OFFLOAD_INDICES;
    if (!w || !m || !cfg_int(w, "video_tokens", 1, DIT_TOKENS_MAX, &p->c.video_tokens, e) ||
        !read_int32(w, "samples", 1, MOST_RANKS, &p->c.samples, e) ||
        !cfg_enum(w, "phase", plan_phase_names, &phase, e) ||
        !cfg_text(w, "evaluator", &p->evaluator, e) ||
        !read_int32(w, "cp", 1, MOST_RANKS, &p->cp, e) || !read_tensor(w, p, e) ||
        !cfg_enum(w, "checkpointing", checkpointing_names, &checkpointing, e) ||
        !cfg_bool_or(w, "keep_kv", false, &o->keep_kv, e) ||
        !cfg_bool_or(w, "grad_fp32", true, &o->grad_fp32, e) ||
        !cfg_bool_or(w, "split_heads", true, &o->split_heads, e) ||
        !read_int32(w, "predictor_rank", 1, MOST_RANKS, &o->predictor_rank, e) ||
        !cfg_bool_or(w, "inference", false, &o->inference, e) ||
        !cfg_qty_or(w, "moved_blocks", QTY_RATIO, -1, &o->moved_blocks, e))
        return false;
    if (cfg_get(w, "offload") && !cfg_enum(w, "offload", offload_names, &offload, e))
        return false;
    o->offload = (enum offload)offload;
    if (o->moved_blocks > 1)
        return err_set(e, ERR_INPUT, cfg_get(w, "moved_blocks")->at,
                       "moved_blocks: %g; want a share up to 1", o->moved_blocks);
    const struct cfg *grid = cfg_get(w, "grid");
    if (grid && (grid->kind != CFG_TEXT || !grid_parse(grid->text, grid->at, &p->c.grid, e)))
        return err_set(e, ERR_INPUT, grid->at, "grid: want TxHxW");
    p->phase = (enum plan_phase)phase;
    o->checkpointing = (enum checkpointing)checkpointing;
    p->c.linear = p->phase != PLAN_ATTENTION;
    if (!read_memory(m, &p->memory, e))
        return false;
    o->index_bitmap = p->memory.index_bitmap;
    return true;
}

static bool read_predicted(const struct cfg *root, struct plan *p, struct err *e)
{
    const struct cfg *m = cfg_need(root, "predicted", e);
    return m && cfg_qty(m, "step_s", QTY_NUMBER, &p->step_s, e) &&
           cfg_qty(m, "blocks_s", QTY_NUMBER, &p->blocks_s, e) &&
           cfg_qty(m, "fsdp_s", QTY_NUMBER, &p->fsdp_s, e) &&
           cfg_qty(m, "optimizer_s", QTY_NUMBER, &p->optimizer_s, e);
}

static bool read_parts(const struct cfg *root, struct plan *p, struct arena *a, struct err *e)
{
    const struct cfg *cluster = cfg_need(root, "cluster", e), *model = cfg_need(root, "model", e);
    const struct cfg *kernels = cfg_need(root, "kernels", e);
    if (!cluster || !model || !kernels || !(p->c.cluster = hw_cluster_read(cluster, a, e)) ||
        !(p->c.model = dit_read(model, a, e)) || !(p->c.kernels = kern_read(kernels, a, e)) ||
        !read_case(root, p, e) || !(p->c.sparsity = read_sparsity(root, p->c.model, a, e)) ||
        !read_predicted(root, p, e))
        return false;
    p->gpus = hw_gpus(p->c.cluster);
    if (p->cp > p->gpus / p->tensor || p->gpus % plan_ranks(p) != 0)
        return err_set(e, ERR_INPUT, root->at,
                       "%d x %d tensor and CP ranks do not divide the plan's %d GPUs", p->tensor,
                       p->cp, p->gpus);
    if (p->gpus / p->tensor % p->memory.shard_ranks != 0)
        return err_set(e, ERR_INPUT, root->at, "shard_ranks: %d does not divide the %d GPUs",
                       p->memory.shard_ranks, p->gpus / p->tensor);
    p->replicas = p->gpus / plan_ranks(p);
    return read_blocks(root, p, a, e);
}

static bool check_signature(const struct cfg *root, const struct plan *p, struct err *e)
{
    const char *text;
    if (!cfg_text(root, "signature", &text, e))
        return false;
    uint64_t want = plan_signature(p);
    char ours[17];
    snprintf(ours, sizeof ours, "%016" PRIx64, want);
    if (strcmp(text, ours) != 0)
        return err_set(e, ERR_INPUT, cfg_get(root, "signature")->at,
                       "signature %s does not match the content (%s): edited by hand, or by "
                       "another version; plan again",
                       text, ours);
    return true;
}

static bool other_phases(const struct cfg *at, const char *found, const char *want, struct err *e)
{
    return err_set(e, ERR_INPUT, at->at,
                   "phase '%s' where this version has '%s': planned by another version; plan again",
                   found, want);
}

/* Times are kept by the place of the phase, so each must be the phase that it was. */
static bool check_phases(const struct cfg *conf, const struct plan *p, int block, struct err *e)
{
    const struct cfg *names = need_list(conf, "phases", -1, e);
    if (!names)
        return false;
    struct arena *scratch = arena_new();
    struct cp_program now = cp_program_of(&p->c, block, &p->blocks[block].conf, scratch);
    bool ok = true;
    for (int i = 0; ok && (i < names->count || i < now.phase_count); i++) {
        const struct cfg *name = i < names->count ? names->items[i] : NULL;
        const char *found = name && name->kind == CFG_TEXT ? name->text : "none",
                   *want = i < now.phase_count ? now.phases[i].name : "none";
        ok = strcmp(found, want) == 0 || other_phases(name ? name : names, found, want, e);
    }
    arena_free(scratch);
    return ok;
}

/* Blocks of one configuration have the same phases. */
static bool check_programs(const struct cfg *root, const struct plan *p, struct err *e)
{
    const struct cfg *confs = cfg_get(root, "configurations"), *blocks = cfg_get(root, "blocks");
    bool ok = true;
    for (int k = 0; ok && k < confs->count; k++) {
        bool seen = false;
        for (int b = 0; ok && b < p->block_count; b++) {
            int of = 0;
            if (!read_int32(blocks->items[b], "configuration", 0, confs->count - 1, &of, e))
                return false;
            if (of != k)
                continue;
            ok = seen || check_phases(confs->items[k], p, b, e);
            seen = true;
            int n = p->blocks[b].time.phase_count,
                want = need_list(confs->items[k], "phases", -1, e)->count;
            if (ok && n != want)
                ok = err_set(e, ERR_INPUT, blocks->items[b]->at,
                             "times of %d phases; the configuration has %d", n, want);
        }
    }
    return ok;
}

struct plan *plan_read(const char *path, struct arena *a, struct err *e)
{
    struct cfg *root = cfg_read_file(path, a, e);
    const char *schema;
    if (!root)
        return NULL;
    if (root->kind != CFG_MAP || !cfg_get(root, "schema")) {
        err_set(e, ERR_INPUT, root->at,
                "is not a plan: want an object with \"schema\": \"" PLAN_SCHEMA "\"");
        return NULL;
    }
    if (!cfg_text(root, "schema", &schema, e))
        return NULL;
    if (strcmp(schema, PLAN_SCHEMA) != 0) {
        err_set(e, ERR_INPUT, cfg_get(root, "schema")->at,
                "schema '%s'; this version reads " PLAN_SCHEMA ": plan again", schema);
        return NULL;
    }
    struct plan *p = ARENA_NEW(a, struct plan);
    return read_parts(root, p, a, e) && check_signature(root, p, e) && check_programs(root, p, e)
               ? p
               : NULL;
}
