/* A YAML or JSON document as a tree that remembers places. Read with libyaml; JSON is a subset. Refused,
 * because they hide mistakes: aliases and anchors, duplicate keys, tags, several documents, keys that are
 * not plain text, files over CFG_FILE_LIMIT, nesting over CFG_DEPTH_LIMIT. */
#ifndef BASE_CFG_H
#define BASE_CFG_H

#include "base/arena.h"
#include "base/err.h"
#include "base/qty.h"

enum { CFG_FILE_LIMIT = 64 * 1024 * 1024, CFG_DEPTH_LIMIT = 64 };

enum cfg_kind { CFG_TEXT, CFG_LIST, CFG_MAP };

struct cfg { /* one node; read-only to users */
    enum cfg_kind kind;
    struct err_at at;
    const char *text; /* CFG_TEXT: the scalar as written, without quotes */
    bool quoted;      /* CFG_TEXT: it was quoted */
    int count;        /* CFG_LIST, CFG_MAP: children */
    struct cfg **items;
    const char **keys; /* CFG_MAP */
};

/* The tree lives in `a`; NULL on error. `name` is used in messages; text need not end in NUL. */
struct cfg *cfg_read_file(const char *path, struct arena *a, struct err *e);
struct cfg *cfg_read_text(const char *name, const char *text, size_t length, struct arena *a, struct err *e);

/* Refuses keys of a map that are not in `known` (NULL-terminated), naming the nearest known one. */
bool cfg_check_keys(const struct cfg *map, const char *const *known, struct err *e);

/* NULL when the map has no such key (cfg_get) or with an error that names the map's place (cfg_need). */
const struct cfg *cfg_get(const struct cfg *map, const char *key);
const struct cfg *cfg_need(const struct cfg *map, const char *key, struct err *e);

/* Typed reads of a needed key. The _or forms give `fallback` when the key is absent. */
bool cfg_qty(const struct cfg *map, const char *key, enum qty_dim dim, double *si, struct err *e);
bool cfg_qty_or(const struct cfg *map, const char *key, enum qty_dim dim, double fallback, double *si,
                struct err *e);
bool cfg_int(const struct cfg *map, const char *key, int64_t least, int64_t most, int64_t *value,
             struct err *e);
bool cfg_int_or(const struct cfg *map, const char *key, int64_t least, int64_t most, int64_t fallback,
                int64_t *value, struct err *e);
bool cfg_bool_or(const struct cfg *map, const char *key, bool fallback, bool *value, struct err *e);
bool cfg_text(const struct cfg *map, const char *key, const char **text, struct err *e);
const char *cfg_text_or(const struct cfg *map, const char *key, const char *fallback);

/* The index of a needed key's text in `names` (NULL-terminated); "did you mean" on a miss. */
bool cfg_enum(const struct cfg *map, const char *key, const char *const *names, int *index, struct err *e);

/* A list of numbers; *values lives in `a`. */
bool cfg_qty_list(const struct cfg *map, const char *key, enum qty_dim dim, struct arena *a, double **values,
                  int *count, struct err *e);

/* The entry of `names` nearest to `text` by edit distance, or NULL when none is near. */
const char *cfg_nearest(const char *text, const char *const *names);

#endif
