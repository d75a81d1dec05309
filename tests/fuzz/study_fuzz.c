/* Any bytes as a study: no crash, no hang, no unbounded memory; and the points of what is one have
 * their parameters and a hash. */
#include "planner/study.h"

#include <stdlib.h>
#include <string.h>

int LLVMFuzzerTestOneInput(const unsigned char *data, size_t size);

static bool number(const void *data, const char *name, enum qty_dim *dim, bool *whole)
{
    (void)data;
    *whole = name[0] == 'g';
    *dim = name[0] == 'r' ? QTY_BYTES : QTY_NUMBER;
    return name[0] != 'm';
}

static bool check(const void *data, const char *name, const char *text, struct err_at at,
                  struct err *e)
{
    (void)data;
    return strlen(text) < 100 || err_set(e, ERR_INPUT, at, "%s: too long", name);
}

int LLVMFuzzerTestOneInput(const unsigned char *data, size_t size)
{
    static const char *const names[] = {"gpus", "keep", "model", "resident", NULL};
    struct study_terms terms = {names, NULL, number, check};
    struct arena *a = arena_new(), *scratch = arena_new();
    struct err e = {0};
    const struct study *s = study_read_text("fuzz", (const char *)data, size, &terms, a, &e);
    if ((s != NULL) != (e.code == ERR_NONE) || strpbrk(e.text, "\n\r\x1b"))
        abort();
    if (s && (s->points < 1 || s->points > STUDY_POINTS_MOST || s->params < 1 || s->params > 4))
        abort();
    for (int64_t i = 0; s && i < s->points; i += 1 + s->points / 100) {
        arena_reset(scratch);
        study_point_hash(s, i, scratch);
        for (int x = 0; x < s->axes; x++)
            if (study_axis_value(s, i, x) >= s->axis[x].count)
                abort();
    }
    arena_free(scratch);
    arena_free(a);
    return 0;
}
