#include "planner/launch.h"

#include <string.h>

#include "model/read.h"

/* ---- placeholders ---- */

enum place {
    PLACE_U,
    PLACE_R,
    PLACE_CP,
    PLACE_TP,
    PLACE_RANKS,
    PLACE_GPUS,
    PLACE_REPLICAS,
    PLACE_SHARDS,
    PLACE_COPIES,
    PLACE_EXCHANGE,
    PLACES
};

static const char *const place_names[] = {
    "u",        /* GPUs of an all-to-all */
    "r",        /* GPUs of a ring or gather */
    "cp",       /* their product */
    "tp",       /* GPUs that share the weights of a layer */
    "ranks",    /* GPUs of a replica */
    "gpus",     /* of the job */
    "replicas", /* data parallelism */
    "shards",   /* GPUs that share weights and optimizer */
    "copies",   /* groups of that many */
    "exchange", /* a word for each block, or one where all are the same */
    NULL};

/* The placeholder at `text` ("{u}.."), with its length; -1 when there is none of that name. */
static int place_at(const char *text, size_t *length)
{
    const char *end = strchr(text, '}');
    *length = end ? (size_t)(end - text) + 1 : 0;
    for (int i = 0; end && i < PLACES; i++)
        if (strlen(place_names[i]) == *length - 2 &&
            memcmp(place_names[i], text + 1, *length - 2) == 0)
            return i;
    return -1;
}

static bool template_check(const char *text, struct err_at at, struct err *e)
{
    size_t length;
    for (const char *p = text; (p = strchr(p, '{')); p++)
        if (place_at(p, &length) < 0)
            return err_set(e, ERR_INPUT, at,
                           "'%.40s': want {u}, {r}, {cp}, {tp}, {ranks}, {gpus}, {replicas}, "
                           "{shards}, {copies} or {exchange}",
                           p);
    return true;
}

/* An optional text with placeholders; NULL when absent. */
static bool template_read(const struct cfg *map, const char *key, const char **out, struct err *e)
{
    const struct cfg *node = cfg_get(map, key);
    *out = NULL;
    return !node || (cfg_text(map, key, out, e) && template_check(*out, node->at, e));
}

/* ---- the file ---- */

static bool strategies_read(const struct cfg *top, struct launch *l, struct err *e)
{
    const struct cfg *list = cfg_need(top, "strategies", e);
    if (!list)
        return false;
    if (list->kind != CFG_LIST || list->count == 0)
        return err_set(e, ERR_INPUT, list->at, "strategies: want a list such as [ulysses, ring]");
    for (int i = 0; i < list->count; i++) {
        const struct cfg *item = list->items[i];
        int s = item->kind == CFG_TEXT ? cp_strategy_of(item->text) : -1;
        if (s < 0)
            return err_set(e, ERR_INPUT, item->at,
                           "strategies: '%.40s' is none; `shardwise show strategies` lists them",
                           item->kind == CFG_TEXT ? item->text : "a list or map");
        l->strategies[s] = true;
    }
    return true;
}

/* A map from names to texts: out[i] for names[i]. */
static bool texts_read(const struct cfg *top, const char *key, const char *const *names,
                       const char **out, struct err *e)
{
    const struct cfg *map = cfg_get(top, key);
    if (!map)
        return true;
    if (map->kind != CFG_MAP)
        return err_set(e, ERR_INPUT, map->at, "%s: want a map such as {%s: \"..\"}", key, names[0]);
    if (!cfg_check_keys(map, names, e))
        return false;
    for (int i = 0; names[i]; i++)
        if (!template_read(map, names[i], &out[i], e))
            return false;
    return true;
}

/* Each strategy must come to something that sets it. */
static bool complete(const struct launch *l, struct err_at at, struct err *e)
{
    for (int s = 0; s < CP_STRATEGIES; s++) {
        if (!l->strategies[s])
            continue;
        if (!l->settings && !l->also[s])
            return err_set(e, ERR_INPUT, at,
                           "%s has no settings: want `settings` or `also: {%s: ..}`",
                           cp_strategies[s].name, cp_strategies[s].name);
        if (l->each_block && !l->exchange[s])
            return err_set(e, ERR_INPUT, at, "exchange: no word for %s", cp_strategies[s].name);
    }
    return true;
}

const struct launch *launch_load(const char *name, struct err_at at, struct arena *a, struct err *e)
{
    static const char *const keys[] = {"source", "about",  "settings", "strategies", "exchange",
                                       "also",   "tensor", "sharding", NULL};
    const struct cfg *top = read_preset("program", name, keys, at, a, e);
    struct launch *l = ARENA_NEW(a, struct launch);
    if (!top)
        return NULL;
    l->name = read_stem(top->at.file, a);
    l->each_block = cfg_get(top, "exchange") != NULL;
    if (!cfg_text(top, "source", &l->source, e) || !cfg_text(top, "about", &l->about, e) ||
        !template_read(top, "settings", &l->settings, e) ||
        !template_read(top, "tensor", &l->tensor, e) || !strategies_read(top, l, e) ||
        !texts_read(top, "exchange", cp_strategy_names, l->exchange, e) ||
        !texts_read(top, "also", cp_strategy_names, l->also, e) ||
        !texts_read(top, "sharding", sharding_names, l->sharding, e) || !complete(l, top->at, e))
        return NULL;
    return l;
}

/* ---- may it? ---- */

static bool two_exchanges(const struct cp_conf *c)
{
    return c->head_groups > 1 && c->seq_groups > 1;
}

static bool same_setting(const struct cp_conf *a, const struct cp_conf *b)
{
    return a->strategy == b->strategy && a->head_groups == b->head_groups &&
           a->seq_groups == b->seq_groups;
}

/* The block whose degrees {u} and {r} stand for: the first with two exchanges, or the first. */
static const struct cp_conf *degrees_of(const struct plan *p)
{
    for (int b = 0; b < p->block_count; b++)
        if (two_exchanges(&p->blocks[b].conf))
            return &p->blocks[b].conf;
    return &p->blocks[0].conf;
}

const char *launch_refusal(const struct launch *l, const struct plan *p, struct arena *a)
{
    const struct cp_conf *first = &p->blocks[0].conf, *degrees = degrees_of(p);
    char one[96], other[96];
    if (p->cp == 1 && !l->strategies[CP_SINGLE])
        return "CP 1: there is nothing to set";
    if (p->tensor > 1 && !l->tensor)
        return arena_printf(a, "it has no tensor parallelism; the plan has TP %d", p->tensor);
    for (int b = 0; b < p->block_count; b++) {
        const struct cp_conf *c = &p->blocks[b].conf;
        if (!l->strategies[c->strategy])
            return arena_printf(a, "it has no %s, which block %d runs",
                                cp_strategies[c->strategy].name, b);
        if (two_exchanges(c) && !c->heads_inside && plan_ranks(p) > p->c.cluster->gpus_per_node)
            return arena_printf(a, "its all-to-alls are inside nodes; block %d has them between",
                                b);
        const struct cp_conf *like = l->each_block && two_exchanges(c) ? degrees : first;
        if ((!l->each_block || two_exchanges(c)) && !same_setting(c, like))
            return arena_printf(a, "blocks differ, and it has one setting for all: %s and %s",
                                cp_conf_text(like, one, sizeof one),
                                cp_conf_text(c, other, sizeof other));
    }
    return NULL;
}

int launch_sparse_blocks(const struct plan *p)
{
    int count = 0;
    for (int b = 0; b < p->block_count; b++)
        count += p->blocks[b].conf.sparse;
    return count;
}

/* ---- settings ---- */

static const char *exchange_words(const struct launch *l, const struct plan *p, struct arena *a)
{
    const char *first = l->exchange[p->blocks[0].conf.strategy], *all = first;
    bool differ = false;
    for (int b = 1; b < p->block_count; b++) {
        const char *word = l->exchange[p->blocks[b].conf.strategy];
        differ = differ || strcmp(word, first) != 0;
        all = arena_printf(a, "%s %s", all, word);
    }
    return differ ? all : first;
}

static const char *place_text(enum place i, const struct launch *l, const struct plan *p,
                              struct arena *a)
{
    const struct cp_conf *c = degrees_of(p);
    int states = p->gpus / p->tensor, shards = p->memory.shard_ranks;
    if (i == PLACE_EXCHANGE)
        return l->each_block ? exchange_words(l, p, a) : "";
    int value[PLACES] = {[PLACE_U] = c->head_groups,
                         [PLACE_R] = c->seq_groups,
                         [PLACE_CP] = p->cp,
                         [PLACE_TP] = p->tensor,
                         [PLACE_RANKS] = plan_ranks(p),
                         [PLACE_GPUS] = p->gpus,
                         [PLACE_REPLICAS] = p->replicas,
                         [PLACE_SHARDS] = shards,
                         [PLACE_COPIES] = states / shards};
    return arena_printf(a, "%d", value[i]);
}

/* `so_far`, a blank, and the template filled in. */
static const char *put(const char *so_far, const char *text, const struct launch *l,
                       const struct plan *p, struct arena *a)
{
    size_t length;
    if (!text || !*text)
        return so_far;
    if (*so_far)
        so_far = arena_printf(a, "%s ", so_far);
    for (const char *brace; (brace = strchr(text, '{')); text = brace + length) {
        int i = place_at(brace, &length);
        so_far = arena_printf(a, "%s%.*s%s", so_far, (int)(brace - text), text,
                              place_text((enum place)i, l, p, a));
    }
    return arena_printf(a, "%s%s", so_far, text);
}

const char *launch_settings(const struct launch *l, const struct plan *p, struct arena *a)
{
    const char *text = put("", l->settings, l, p, a);
    bool runs[CP_STRATEGIES] = {false};
    for (int b = 0; b < p->block_count; b++)
        runs[p->blocks[b].conf.strategy] = true;
    for (int s = 0; s < CP_STRATEGIES; s++)
        if (runs[s])
            text = put(text, l->also[s], l, p, a);
    if (p->tensor > 1)
        text = put(text, l->tensor, l, p, a);
    return put(text, l->sharding[p->memory.sharding], l, p, a);
}

/* ---- planning for it ---- */

bool launch_limit(const struct launch *l, struct plan_request *r, struct arena *a, struct err *e)
{
    bool *strategies = ARENA_ARRAY(a, bool, CP_STRATEGIES), any = false;
    const char *has = "";
    if (r->tensor > 1 && !l->tensor)
        return err_set(e, ERR_INPUT, err_at_name("--tp"), "%s has no tensor parallelism", l->name);
    for (int s = 0; s < CP_STRATEGIES; s++) {
        strategies[s] = l->strategies[s] && (!r->strategies || r->strategies[s]);
        any = any || strategies[s];
        if (l->strategies[s])
            has = arena_printf(a, "%s%s%s", has, *has ? ", " : "", cp_strategies[s].name);
    }
    if (!any)
        return err_set(e, ERR_INPUT, err_at_name("--strategies"), "%s has none of them; it has %s",
                       l->name, has);
    r->strategies = strategies;
    r->program = l;
    r->rows_inside = true;
    r->alike = l->each_block ? ALIKE_PAIRS : ALIKE_ALL;
    return true;
}
