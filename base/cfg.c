#include "base/cfg.h"

#include <stdio.h>
#include <string.h>

#include "base/nearest.h"

enum { PATH_ROOM = 200, WORDS_ROOM = 400 };

/* Appends "[3]" or ".key" for each step from the root; depth is bounded by CFG_DEPTH_LIMIT. */
static void path_add(const struct cfg *node, char *text, size_t size)
{
    const struct cfg *in = node->parent;
    if (!in)
        return;
    path_add(in, text, size);
    int i = 0;
    while (i < in->count - 1 && in->items[i] != node)
        i++;
    size_t used = strlen(text);
    if (in->kind == CFG_LIST)
        snprintf(text + used, size - used, "[%d]", i);
    else
        snprintf(text + used, size - used, "%s%s", used ? "." : "", in->keys[i]);
}

const char *cfg_path(const struct cfg *node, char *text, size_t size)
{
    text[0] = '\0';
    path_add(node, text, size);
    if (text[0] == '\0')
        snprintf(text, size, "document");
    return text;
}

/* "a, b, c" */
static const char *list_words(const char *const *names, char *text, size_t size)
{
    text[0] = '\0';
    for (const char *const *n = names; *n; n++) {
        size_t used = strlen(text);
        snprintf(text + used, size - used, "%s%s", used ? ", " : "", *n);
    }
    return text;
}

static bool refuse_word(const char *what, const char *word, const char *const *names,
                        struct err_at at, struct err *e)
{
    char words[WORDS_ROOM];
    const char *near = nearest_name(word, names);
    if (near)
        return err_set(e, ERR_INPUT, at, "%s '%.80s'; did you mean '%s'?", what, word, near);
    return err_set(e, ERR_INPUT, at, "%s '%.80s', want one of: %s", what, word,
                   list_words(names, words, sizeof words));
}

static int word_index(const char *word, const char *const *names)
{
    for (int i = 0; names[i]; i++)
        if (strcmp(word, names[i]) == 0)
            return i;
    return -1;
}

static const char *const kind_words[] = {
    [CFG_TEXT] = "a text", [CFG_LIST] = "a list", [CFG_MAP] = "a mapping"};

static bool want_kind(const struct cfg *node, enum cfg_kind kind, struct err *e)
{
    char path[PATH_ROOM];
    if (node->kind == kind)
        return true;
    if (node->kind == CFG_TEXT)
        return err_set(e, ERR_INPUT, node->at, "%s: '%.40s' is a text, want %s",
                       cfg_path(node, path, sizeof path), node->text, kind_words[kind]);
    return err_set(e, ERR_INPUT, node->at, "%s is %s, want %s", cfg_path(node, path, sizeof path),
                   kind_words[node->kind], kind_words[kind]);
}

bool cfg_check_keys(const struct cfg *map, const char *const *known, struct err *e)
{
    if (!want_kind(map, CFG_MAP, e))
        return false;
    for (int i = 0; i < map->count; i++) {
        if (word_index(map->keys[i], known) >= 0)
            continue;
        struct err_at at = {map->at.file, map->places[i].line, map->places[i].column};
        return refuse_word("unknown key", map->keys[i], known, at, e);
    }
    return true;
}

const struct cfg *cfg_get(const struct cfg *map, const char *key)
{
    for (int i = 0; map->kind == CFG_MAP && i < map->count; i++)
        if (strcmp(map->keys[i], key) == 0)
            return map->items[i];
    return NULL;
}

const struct cfg *cfg_need(const struct cfg *map, const char *key, struct err *e)
{
    char path[PATH_ROOM];
    const struct cfg *node = cfg_get(map, key);
    if (!node && want_kind(map, CFG_MAP, e))
        err_set(e, ERR_INPUT, map->at, "%s: the key '%s' is missing",
                cfg_path(map, path, sizeof path), key);
    return node;
}

/* Written as null, which our JSON uses for "no number": as good as absent where there is a
 * fallback. */
static bool is_null(const struct cfg *node)
{
    return node->kind == CFG_TEXT && !node->quoted &&
           (strcmp(node->text, "null") == 0 || strcmp(node->text, "~") == 0);
}

static const struct cfg *get_value(const struct cfg *map, const char *key)
{
    const struct cfg *node = cfg_get(map, key);
    return node && !is_null(node) ? node : NULL;
}

static bool node_qty(const struct cfg *node, enum qty_dim dim, double *si, struct err *e)
{
    char path[PATH_ROOM];
    return want_kind(node, CFG_TEXT, e) &&
           qty_parse(node->text, dim, cfg_path(node, path, sizeof path), node->at, si, e);
}

static bool node_int(const struct cfg *node, int64_t least, int64_t most, int64_t *value,
                     struct err *e)
{
    char path[PATH_ROOM];
    return want_kind(node, CFG_TEXT, e) &&
           qty_parse_int(node->text, least, most, cfg_path(node, path, sizeof path), node->at,
                         value, e);
}

bool cfg_qty(const struct cfg *map, const char *key, enum qty_dim dim, double *si, struct err *e)
{
    const struct cfg *node = cfg_need(map, key, e);
    return node && node_qty(node, dim, si, e);
}

bool cfg_qty_or(const struct cfg *map, const char *key, enum qty_dim dim, double fallback,
                double *si, struct err *e)
{
    const struct cfg *node = get_value(map, key);
    if (!want_kind(map, CFG_MAP, e) || (node && !node_qty(node, dim, si, e)))
        return false;
    if (!node)
        *si = fallback;
    return true;
}

bool cfg_int(const struct cfg *map, const char *key, int64_t least, int64_t most, int64_t *value,
             struct err *e)
{
    const struct cfg *node = cfg_need(map, key, e);
    return node && node_int(node, least, most, value, e);
}

bool cfg_int_or(const struct cfg *map, const char *key, int64_t least, int64_t most,
                int64_t fallback, int64_t *value, struct err *e)
{
    const struct cfg *node = get_value(map, key);
    if (!want_kind(map, CFG_MAP, e) || (node && !node_int(node, least, most, value, e)))
        return false;
    if (!node)
        *value = fallback;
    return true;
}

bool cfg_bool_or(const struct cfg *map, const char *key, bool fallback, bool *value, struct err *e)
{
    char path[PATH_ROOM];
    const struct cfg *node = get_value(map, key);
    if (!want_kind(map, CFG_MAP, e) || (node && !want_kind(node, CFG_TEXT, e)))
        return false;
    int is = node ? word_index(node->text, (const char *const[]){"false", "true", NULL}) : fallback;
    if (is < 0)
        return err_set(e, ERR_INPUT, node->at, "%s: '%.40s' is neither true nor false",
                       cfg_path(node, path, sizeof path), node->text);
    *value = is;
    return true;
}

bool cfg_text(const struct cfg *map, const char *key, const char **text, struct err *e)
{
    char path[PATH_ROOM];
    const struct cfg *node = cfg_need(map, key, e);
    if (!node || !want_kind(node, CFG_TEXT, e))
        return false;
    if (!node->quoted && (node->text[0] == '\0' || is_null(node)))
        return err_set(e, ERR_INPUT, node->at, "%s: nothing is given, want a text",
                       cfg_path(node, path, sizeof path));
    *text = node->text;
    return true;
}

const char *cfg_text_or(const struct cfg *map, const char *key, const char *fallback)
{
    const struct cfg *node = get_value(map, key);
    return node && node->kind == CFG_TEXT ? node->text : fallback;
}

bool cfg_enum(const struct cfg *map, const char *key, const char *const *names, int *index,
              struct err *e)
{
    char path[PATH_ROOM], what[PATH_ROOM + 20];
    const char *text;
    if (!cfg_text(map, key, &text, e))
        return false;
    int i = word_index(text, names);
    const struct cfg *node = cfg_get(map, key);
    if (i < 0) {
        snprintf(what, sizeof what, "%s: unknown value", cfg_path(node, path, sizeof path));
        return refuse_word(what, text, names, node->at, e);
    }
    *index = i;
    return true;
}

bool cfg_qty_list(const struct cfg *map, const char *key, enum qty_dim dim, struct arena *a,
                  double **values, int *count, struct err *e)
{
    const struct cfg *list = cfg_need(map, key, e);
    if (!list || !want_kind(list, CFG_LIST, e))
        return false;
    double *v = ARENA_ARRAY(a, double, list->count);
    for (int i = 0; i < list->count; i++)
        if (!node_qty(list->items[i], dim, &v[i], e))
            return false;
    *values = v;
    *count = list->count;
    return true;
}
