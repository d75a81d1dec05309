#include "model/read.h"

#include <stdio.h>
#include <string.h>

#include "base/preset.h"

bool read_count(const char **s, int64_t *value)
{
    const char *start = *s;
    int64_t v = 0;
    for (; **s >= '0' && **s <= '9'; ++*s)
        if (__builtin_mul_overflow(v, 10, &v) || __builtin_add_overflow(v, **s - '0', &v))
            v = INT64_MAX;
    *value = v;
    return *s > start;
}

static bool triple_form(const char *text, int64_t value[3])
{
    for (int i = 0; i < 3; i++) {
        if (i > 0 && *text != 'x' && *text != 'X')
            return false;
        text += i > 0;
        if (!read_count(&text, &value[i]))
            return false;
    }
    return *text == '\0';
}

bool read_triple(const char *text, int64_t most, const char *want, struct err_at at,
                 int64_t value[3], struct err *e)
{
    int64_t v[3];
    if (!triple_form(text, v))
        return err_set(e, ERR_INPUT, at, "'%.60s' is not %s", text, want);
    for (int i = 0; i < 3; i++)
        if (v[i] < 1 || v[i] > most)
            return err_set(e, ERR_INPUT, at, "'%.60s': each number must be from 1 to %lld", text,
                           (long long)most);
    memcpy(value, v, sizeof v);
    return true;
}

static bool refuse(const struct cfg *map, const char *key, const char *why, struct err *e)
{
    const struct cfg *node = cfg_get(map, key);
    char path[128];
    return err_set(e, ERR_INPUT, node->at, "%s: '%s' is %s", cfg_path(node, path, sizeof path),
                   node->text, why);
}

bool read_positive(const struct cfg *map, const char *key, enum qty_dim dim, double *si,
                   struct err *e)
{
    double value;
    if (!cfg_qty(map, key, dim, &value, e))
        return false;
    if (!(value > 0))
        return refuse(map, key, "not above zero", e);
    *si = value;
    return true;
}

bool read_share(const struct cfg *map, const char *key, double *share, struct err *e)
{
    double value = 0;
    if (!read_positive(map, key, QTY_RATIO, &value, e))
        return false;
    if (value > 1)
        return refuse(map, key, "more than the whole, want a share of at most 1", e);
    *share = value;
    return true;
}

bool read_int(const struct cfg *map, const char *key, int least, int most, int *value,
              struct err *e)
{
    int64_t v;
    if (!cfg_int(map, key, least, most, &v, e))
        return false;
    *value = (int)v;
    return true;
}

bool read_int_or(const struct cfg *map, const char *key, int least, int most, int fallback,
                 int *value, struct err *e)
{
    int64_t v;
    if (!cfg_int_or(map, key, least, most, fallback, &v, e))
        return false;
    *value = (int)v;
    return true;
}

bool read_known(const struct cfg *map, const char *what, const char *const *known, struct err *e)
{
    if (map->kind != CFG_MAP)
        return err_set(e, ERR_INPUT, map->at, "%s: want a map with keys such as '%s'", what,
                       known[0]);
    return cfg_check_keys(map, known, e);
}

const struct cfg *read_map(const struct cfg *map, const char *key, const char *const *known,
                           struct err *e)
{
    const struct cfg *child = cfg_need(map, key, e);
    return child && read_known(child, key, known, e) ? child : NULL;
}

bool read_name_if(const struct cfg *map, const char *key, const char **name, struct arena *a,
                  struct err *e)
{
    if (!cfg_get(map, key))
        return true;
    if (!cfg_text(map, key, name, e))
        return false;
    *name = preset_beside(*name, map->at.file, a);
    return true;
}

const struct cfg *read_preset(const char *kind, const char *name, const char *const *known,
                              struct err_at at, struct arena *a, struct err *e)
{
    const char *path = preset_find(kind, name, at, a, e);
    const struct cfg *root = path ? cfg_read_file(path, a, e) : NULL;
    return root && read_known(root, kind, known, e) ? root : NULL;
}

void write_qty(struct json *j, const char *key, double si, const char *unit)
{
    char number[32], text[48];
    snprintf(text, sizeof text, "%s %s", qty_exact(si, number, sizeof number), unit);
    json_text(j, key, text);
}

const char *read_stem(const char *path, struct arena *a)
{
    const char *slash = strrchr(path, '/');
    const char *name = slash ? slash + 1 : path;
    const char *dot = strrchr(name, '.');
    return arena_strndup(a, name, dot && dot > name ? (size_t)(dot - name) : strlen(name));
}
