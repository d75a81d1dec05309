/* What the loaders and writers of model/ share: counts inside names, and numbers of files that must
 * be above zero. */
#ifndef MODEL_READ_H
#define MODEL_READ_H

#include <stdint.h>

#include "base/cfg.h"
#include "base/json.h"

/* Reads decimal digits at *s and moves *s behind them; false when there are none. Stops at
 * INT64_MAX. */
bool read_count(const char **s, int64_t *value);

/* Exactly three counts with an 'x' between them, each from 1 to `most`: "720x1280x129". Two kinds
 * of ERR_INPUT: it is not of that form (then the message says `want`), or a count is out of range.
 */
bool read_triple(const char *text, int64_t most, const char *want, struct err_at at,
                 int64_t value[3], struct err *e);

/* A needed quantity above zero; a share in (0, 1]. */
bool read_positive(const struct cfg *map, const char *key, enum qty_dim dim, double *si,
                   struct err *e);
bool read_share(const struct cfg *map, const char *key, double *share, struct err *e);

/* A needed int from `least` to `most`, and one with a fallback. */
bool read_int(const struct cfg *map, const char *key, int least, int most, int *value,
              struct err *e);
bool read_int_or(const struct cfg *map, const char *key, int least, int most, int fallback,
                 int *value, struct err *e);

/* A document that must be a map with no keys but `known`; `what` names it in messages. */
bool read_known(const struct cfg *map, const char *what, const char *const *known, struct err *e);

/* A needed map under `key` with no keys but `known`; NULL and an error otherwise. */
const struct cfg *read_map(const struct cfg *map, const char *key, const char *const *known,
                           struct err *e);

/* The name of a preset or file under `key`, if it is there: files as `map`'s own file means them.
 */
bool read_name_if(const struct cfg *map, const char *key, const char **name, struct arena *a,
                  struct err *e);

/* Finds and reads the preset `name` of `kind` (or the user's file), and checks its outermost keys.
 */
const struct cfg *read_preset(const char *kind, const char *name, const char *const *known,
                              struct err_at at, struct arena *a, struct err *e);

/* Writes "450000000000 B/s", which reads back as the same double. */
void write_qty(struct json *j, const char *key, double si, const char *unit);

/* "presets/gpu/h100.yaml" -> "h100" */
const char *read_stem(const char *path, struct arena *a);

#endif
