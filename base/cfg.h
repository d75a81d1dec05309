/* A YAML or JSON document as a tree that remembers places. Read with libyaml; JSON is a subset.
 * Refused, because they hide mistakes: aliases and anchors, duplicate keys, tags, directives,
 * several documents, keys that are not plain text, files over CFG_FILE_LIMIT, nesting over
 * CFG_DEPTH_LIMIT, more than CFG_NODE_LIMIT texts, keys, lists and maps (which bounds the memory of
 * a hostile file), characters that are no UTF-8 or NUL. A document is a map or a list. This is a
 * library of its own (sw_cfg), for machines without libyaml. */
#ifndef BASE_CFG_H
#define BASE_CFG_H

#include "base/arena.h"
#include "base/err.h"
#include "base/qty.h"

enum { CFG_FILE_LIMIT = 64 * 1024 * 1024, CFG_DEPTH_LIMIT = 64, CFG_NODE_LIMIT = 2 * 1000 * 1000 };

enum cfg_kind { CFG_TEXT, CFG_LIST, CFG_MAP };

struct cfg { /* one node; read-only to users */
    enum cfg_kind kind;
    int count;        /* CFG_LIST, CFG_MAP: children */
    struct err_at at; /* its file is the name that the document was read under */
    const char *text; /* CFG_TEXT: the scalar as written, without quotes */
    struct cfg **items;
    const char **keys;            /* CFG_MAP */
    const struct cfg_key *places; /* CFG_MAP: where the keys stand */
    const struct cfg *parent;     /* NULL at the root */
    bool quoted;                  /* CFG_TEXT: it was quoted */
};

struct cfg_key {
    int line, column;
};

/* The tree lives in `a`; NULL on error. `name` is used in messages; text need not end in NUL. A
 * file may be a pipe, "-" is standard input; folders and devices are refused. */
struct cfg *cfg_read_file(const char *path, struct arena *a, struct err *e);
struct cfg *cfg_read_text(const char *name, const char *text, size_t length, struct arena *a,
                          struct err *e);

/* Refuses keys of a map that are not in `known` (NULL-terminated), naming the nearest known one. */
bool cfg_check_keys(const struct cfg *map, const char *const *known, struct err *e);

/* NULL when the map has no such key (cfg_get), and then with an error that names the map's place
 * (cfg_need); a node that is not a map has no keys. */
const struct cfg *cfg_get(const struct cfg *map, const char *key);
const struct cfg *cfg_need(const struct cfg *map, const char *key, struct err *e);

/* Typed reads of a needed key, checked as base/qty.h says. The _or forms give `fallback` when the
 * key is absent or null (what our JSON writes for NaN); a key with the wrong kind of value or with
 * none is an error in both, except that cfg_text_or gives `fallback`. */
bool cfg_qty(const struct cfg *map, const char *key, enum qty_dim dim, double *si, struct err *e);
bool cfg_qty_or(const struct cfg *map, const char *key, enum qty_dim dim, double fallback,
                double *si, struct err *e);
bool cfg_int(const struct cfg *map, const char *key, int64_t least, int64_t most, int64_t *value,
             struct err *e);
bool cfg_int_or(const struct cfg *map, const char *key, int64_t least, int64_t most,
                int64_t fallback, int64_t *value, struct err *e);
bool cfg_bool_or(const struct cfg *map, const char *key, bool fallback, bool *value, struct err *e);
bool cfg_text(const struct cfg *map, const char *key, const char **text, struct err *e);
const char *cfg_text_or(const struct cfg *map, const char *key, const char *fallback);

/* The index of a needed key's text in `names` (NULL-terminated); "did you mean" on a miss. */
bool cfg_enum(const struct cfg *map, const char *key, const char *const *names, int *index,
              struct err *e);

/* A list of numbers; *values lives in `a`. */
bool cfg_qty_list(const struct cfg *map, const char *key, enum qty_dim dim, struct arena *a,
                  double **values, int *count, struct err *e);

/* The way to a node for messages, "nodes[0].nvlink"; "document" for the root. */
const char *cfg_path(const struct cfg *node, char *text, size_t size);

#endif
