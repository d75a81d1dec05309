#include "planner/study.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/prov.h"
#include "base/utf8.h"
#include "model/read.h"

static const char *const study_keys[] = {"name", "parameters", "cases", NULL};
static const char *const range_keys[] = {"from", "to", "by", "times", "count", "scale", NULL};
static const char *const scale_names[] = {"linear", "log", NULL};
enum { SCALE_LINEAR, SCALE_LOG };

struct reader {
    struct study *s;
    const struct study_terms *terms;
    struct arena *a;
    struct err *e;
};

/* ---- one value ---- */

static bool printable(const char *text)
{
    for (int n; *text; text += n)
        if ((n = utf8_printable(text)) == 0)
            return false;
    return true;
}

static bool take_text(struct reader *r, const char *name, const struct cfg *node, const char **out)
{
    if (node->kind != CFG_TEXT || !node->text[0])
        return err_set(r->e, ERR_INPUT, node->at,
                       "%s: want a value, a list of values or a range {from, to, by}", name);
    if (!printable(node->text))
        return err_set(r->e, ERR_INPUT, node->at, "%s: control characters in a value", name);
    if (!r->terms->check(r->terms->data, name, node->text, node->at, r->e))
        return false;
    *out = node->text;
    return true;
}

static bool take_list(struct reader *r, const char *name, const struct cfg *node,
                      struct study_axis *x)
{
    if (node->count < 1 || node->count > STUDY_VALUES_MOST)
        return err_set(r->e, ERR_INPUT, node->at, "%s: %d values, want 1 to %d", name, node->count,
                       STUDY_VALUES_MOST);
    x->count = node->count;
    x->text = ARENA_ARRAY(r->a, const char *, node->count);
    for (int i = 0; i < node->count; i++)
        if (!take_text(r, name, node->items[i], &x->text[i]))
            return false;
    return true;
}

/* ---- ranges ---- */

struct range {
    double from, to, step;
    int count;
    bool geometric, whole;
    enum qty_dim dim;
};

/* How many values there are up to `to`, with room for rounding. */
static bool range_count(struct range *g, const struct cfg *node, const char *name, struct err *e)
{
    double n = g->geometric ? log(g->to / g->from) / log(g->step) : (g->to - g->from) / g->step;
    if (!(n < STUDY_VALUES_MOST))
        return err_set(e, ERR_INPUT, node->at, "%s: more than %d values", name, STUDY_VALUES_MOST);
    g->count = (int)floor(n + 1e-9) + 1;
    return true;
}

static bool range_step(struct range *g, const struct cfg *node, const char *name, struct err *e)
{
    int scale = SCALE_LINEAR;
    int64_t count = 0;
    if (cfg_get(node, "times")) {
        g->geometric = true;
        if (!cfg_qty(node, "times", QTY_NUMBER, &g->step, e))
            return false;
        return g->step > 1 ? range_count(g, node, name, e)
                           : err_set(e, ERR_INPUT, cfg_get(node, "times")->at,
                                     "%s: times %g, want more than 1", name, g->step);
    }
    if (cfg_get(node, "by")) {
        if (!cfg_qty(node, "by", g->dim, &g->step, e))
            return false;
        return g->step > 0 ? range_count(g, node, name, e)
                           : err_set(e, ERR_INPUT, cfg_get(node, "by")->at,
                                     "%s: by 0, want more than 0", name);
    }
    if (!cfg_int(node, "count", 2, STUDY_VALUES_MOST, &count, e) ||
        (cfg_get(node, "scale") && !cfg_enum(node, "scale", scale_names, &scale, e)))
        return false;
    g->geometric = scale == SCALE_LOG;
    g->count = (int)count;
    g->step = g->geometric ? pow(g->to / g->from, 1.0 / (double)(count - 1))
                           : (g->to - g->from) / (double)(count - 1);
    return true;
}

static bool range_read(struct reader *r, const char *name, const struct cfg *node, struct range *g)
{
    bool number = r->terms->number(r->terms->data, name, &g->dim, &g->whole);
    int ways = !!cfg_get(node, "by") + !!cfg_get(node, "times") + !!cfg_get(node, "count");
    if (!number)
        return err_set(r->e, ERR_INPUT, node->at, "%s is no number: want a list, not a range",
                       name);
    if (!cfg_check_keys(node, range_keys, r->e) || !cfg_qty(node, "from", g->dim, &g->from, r->e) ||
        !cfg_qty(node, "to", g->dim, &g->to, r->e))
        return false;
    if (ways != 1 || (cfg_get(node, "scale") && !cfg_get(node, "count")))
        return err_set(r->e, ERR_INPUT, node->at,
                       "%s: want one of by, times and count (with scale: linear or log)", name);
    if (!(g->to >= g->from))
        return err_set(r->e, ERR_INPUT, cfg_get(node, "to")->at,
                       "%s: the range ends below its beginning", name);
    bool multiplies = cfg_get(node, "times") || !strcmp(cfg_text_or(node, "scale", ""), "log");
    if (multiplies && !(g->from > 0))
        return err_set(r->e, ERR_INPUT, cfg_get(node, "from")->at,
                       "%s: want more than 0 to multiply from", name);
    return range_step(g, node, name, r->e);
}

/* Twelve digits: 0.1 + 2 x 0.1 is 0.3, not 0.30000000000000004. */
static const char *range_text(const struct range *g, int i, struct arena *a)
{
    static const char *const units[QTY_DIMS] = {[QTY_BYTES] = " B",
                                                [QTY_BYTES_PER_S] = " B/s",
                                                [QTY_SECONDS] = " s",
                                                [QTY_FLOP] = " FLOP",
                                                [QTY_FLOP_PER_S] = " FLOP/s"};
    double x = g->geometric ? g->from * pow(g->step, i) : g->from + i * g->step;
    if (i == g->count - 1 && fabs(x - g->to) < 1e-9 * fabs(g->to))
        x = g->to;
    if (g->whole)
        return arena_printf(a, "%.0f", round(x));
    return arena_printf(a, "%.12g%s", x, units[g->dim] ? units[g->dim] : "");
}

static bool take_range(struct reader *r, const char *name, const struct cfg *node,
                       struct study_axis *x)
{
    struct range g = {0};
    if (!range_read(r, name, node, &g))
        return false;
    x->text = ARENA_ARRAY(r->a, const char *, g.count);
    for (int i = 0; i < g.count; i++) {
        const char *text = range_text(&g, i, r->a);
        if (x->count > 0 && strcmp(text, x->text[x->count - 1]) == 0)
            continue; /* whole numbers that round alike */
        if (!r->terms->check(r->terms->data, name, text, node->at, r->e))
            return false;
        x->text[x->count++] = text;
    }
    return true;
}

/* ---- the document ---- */

static bool take_parameter(struct reader *r, const char *name, const struct cfg *node)
{
    struct study *s = r->s;
    struct study_axis *x = &s->axis[s->axes++];
    x->param = s->params;
    s->param[s->params++] = name;
    if (node->kind == CFG_LIST)
        return take_list(r, name, node, x);
    if (node->kind == CFG_MAP)
        return take_range(r, name, node, x);
    x->count = 1;
    x->text = ARENA_ARRAY(r->a, const char *, 1);
    return take_text(r, name, node, &x->text[0]);
}

static int find_param(const struct study *s, const char *name)
{
    for (int i = 0; i < s->params; i++)
        if (strcmp(s->param[i], name) == 0)
            return i;
    return -1;
}

/* The parameters that cases name join those of `parameters`, in the order they are met. */
static bool name_cases(struct reader *r, const struct cfg *cases, int first)
{
    struct study *s = r->s;
    for (int i = 0; i < cases->count; i++) {
        const struct cfg *one = cases->items[i];
        if (one->kind != CFG_MAP || one->count < 1)
            return err_set(r->e, ERR_INPUT, one->at,
                           "cases: want maps of parameters, such as {kernels: fa3+dsv}");
        if (!cfg_check_keys(one, r->terms->names, r->e))
            return false;
        for (int k = 0; k < one->count; k++) {
            int known = find_param(s, one->keys[k]);
            if (known >= 0 && known < first)
                return err_set(r->e, ERR_INPUT, one->items[k]->at,
                               "%s stands under parameters too; want it in one place",
                               one->keys[k]);
            if (known < 0)
                s->param[s->params++] = one->keys[k];
        }
    }
    return true;
}

static bool take_cases(struct reader *r, const struct cfg *cases)
{
    struct study *s = r->s;
    int first = s->params;
    if (cases->kind != CFG_LIST || cases->count < 1 || cases->count > STUDY_VALUES_MOST)
        return err_set(r->e, ERR_INPUT, cases->at, "cases: want a list of 1 to %d maps",
                       STUDY_VALUES_MOST);
    if (!name_cases(r, cases, first))
        return false;
    struct study_axis *x = &s->axis[s->axes++];
    *x = (struct study_axis){.cases = true, .param = first, .count = cases->count};
    x->text = arena_alloc(r->a, (size_t)cases->count * (size_t)s->params, sizeof *x->text);
    for (int i = 0; i < cases->count; i++) {
        const struct cfg *one = cases->items[i];
        for (int k = 0; k < one->count; k++)
            if (!take_text(
                    r, one->keys[k], one->items[k],
                    &x->text[(size_t)i * (size_t)s->params + (size_t)find_param(s, one->keys[k])]))
                return false;
    }
    return true;
}

static bool count_points(struct reader *r, const struct cfg *root)
{
    r->s->points = 1;
    for (int i = 0; i < r->s->axes; i++) {
        r->s->points *= r->s->axis[i].count;
        if (r->s->points > STUDY_POINTS_MOST)
            return err_set(r->e, ERR_INPUT, root->at, "the grid has more than %d points",
                           STUDY_POINTS_MOST);
    }
    return true;
}

static int names_count(const struct study_terms *t)
{
    int count = 0;
    while (t->names[count])
        count++;
    return count;
}

static bool read_root(struct reader *r, const struct cfg *root)
{
    struct study *s = r->s;
    int names = names_count(r->terms); /* keys are distinct and known, so there are no more */
    s->param = ARENA_ARRAY(r->a, const char *, names + 1);
    s->axis = ARENA_ARRAY(r->a, struct study_axis, names + 1);
    if (root->kind != CFG_MAP)
        return err_set(r->e, ERR_INPUT, root->at, "want a map with the key 'parameters'");
    if (!cfg_check_keys(root, study_keys, r->e))
        return false;
    const struct cfg *map = cfg_need(root, "parameters", r->e), *cases = cfg_get(root, "cases");
    if (!map)
        return false;
    if (map->kind != CFG_MAP || map->count < 1)
        return err_set(r->e, ERR_INPUT, map->at,
                       "parameters: want a map of parameters of `shardwise plan`, such as "
                       "{model: dsv-2.7b}");
    if (!cfg_check_keys(map, r->terms->names, r->e))
        return false;
    for (int i = 0; i < map->count; i++)
        if (!take_parameter(r, map->keys[i], map->items[i]))
            return false;
    s->name = cfg_text_or(root, "name", read_stem(root->at.file, r->a));
    if (!printable(s->name))
        return err_set(r->e, ERR_INPUT, (cfg_get(root, "name") ? cfg_get(root, "name") : root)->at,
                       "name: control characters");
    return (!cases || take_cases(r, cases)) && count_points(r, root);
}

static const struct study *read_tree(const struct cfg *root, const struct study_terms *terms,
                                     struct arena *a, struct err *e)
{
    struct reader r = {.s = ARENA_NEW(a, struct study), .terms = terms, .a = a, .e = e};
    if (!root || !read_root(&r, root))
        return NULL;
    r.s->path = root->at.file;
    return r.s;
}

const struct study *study_read(const char *path, const struct study_terms *terms, struct arena *a,
                               struct err *e)
{
    return read_tree(cfg_read_file(path, a, e), terms, a, e);
}

const struct study *study_read_text(const char *name, const char *text, size_t length,
                                    const struct study_terms *terms, struct arena *a, struct err *e)
{
    return read_tree(cfg_read_text(name, text, length, a, e), terms, a, e);
}

/* ---- points ---- */

int study_axis_value(const struct study *s, int64_t point, int axis)
{
    for (int i = s->axes - 1; i > axis; i--)
        point /= s->axis[i].count;
    return (int)(point % s->axis[axis].count);
}

void study_point(const struct study *s, int64_t point, const char **text)
{
    for (int i = 0; i < s->params; i++)
        text[i] = NULL;
    for (int i = s->axes - 1; i >= 0; i--) {
        const struct study_axis *x = &s->axis[i];
        int value = (int)(point % x->count);
        point /= x->count;
        if (!x->cases)
            text[x->param] = x->text[value];
        for (int p = x->param; x->cases && p < s->params; p++)
            text[p] = x->text[(size_t)value * (size_t)s->params + (size_t)p];
    }
}

static int by_name(const void *a, const void *b)
{
    return strcmp(((const char *const *)a)[0], ((const char *const *)b)[0]);
}

uint64_t study_point_hash(const struct study *s, int64_t point, struct arena *scratch)
{
    const char **text = ARENA_ARRAY(scratch, const char *, s->params),
               *(*pair)[2] = arena_alloc(scratch, (size_t)s->params, sizeof *pair);
    uint64_t hash = FNV_START;
    study_point(s, point, text);
    for (int i = 0; i < s->params; i++) {
        pair[i][0] = s->param[i];
        pair[i][1] = text[i];
    }
    qsort(pair, (size_t)s->params, sizeof *pair, by_name);
    for (int i = 0; i < s->params; i++)
        for (int k = 0; k < 2 && pair[i][1]; k++)
            hash = fnv_bytes(hash, pair[i][k], strlen(pair[i][k]) + 1);
    return hash;
}

bool study_varies(const struct study *s, int param)
{
    for (int i = 0; i < s->axes; i++)
        if (s->axis[i].count > 1 &&
            (s->axis[i].param == param || (s->axis[i].cases && param >= s->axis[i].param)))
            return true;
    return false;
}
