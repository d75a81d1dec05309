#include "base/nearest.h"

#include <limits.h>
#include <stdbool.h>
#include <stddef.h>
#include <string.h>
#include <strings.h>

enum { LONGEST = 64 };

struct distance {
    int whole;  /* edits from text to the whole name */
    int prefix; /* fewest edits from text to any beginning of the name */
};

static int lower(char c)
{
    return c >= 'A' && c <= 'Z' ? c - 'A' + 'a' : c;
}

static int least(int a, int b)
{
    return a < b ? a : b;
}

/* Optimal string alignment: Levenshtein's recurrence and one more term for two neighbours swapped.
 */
static struct distance distance(const char *text, const char *name)
{
    int rows = (int)strlen(text), cols = (int)strlen(name);
    int d[LONGEST + 1][LONGEST + 1] = {{0}};
    for (int i = 0; i <= rows; i++)
        d[i][0] = i;
    for (int j = 0; j <= cols; j++)
        d[0][j] = j;
    for (int i = 1; i <= rows; i++)
        for (int j = 1; j <= cols; j++) {
            int a = lower(text[i - 1]), b = lower(name[j - 1]);
            d[i][j] = least(least(d[i - 1][j], d[i][j - 1]) + 1, d[i - 1][j - 1] + (a != b));
            if (i > 1 && j > 1 && a == lower(name[j - 2]) && b == lower(text[i - 2]))
                d[i][j] = least(d[i][j], d[i - 2][j - 2] + 1);
        }
    struct distance out = {d[rows][cols], d[rows][0]};
    for (int j = 1; j <= cols; j++)
        out.prefix = least(out.prefix, d[rows][j]);
    return out;
}

/* The name, a separator, and more. */
static bool goes_on(const char *text, const char *name)
{
    size_t n = strlen(name);
    return n >= 3 && strncasecmp(text, name, n) == 0 && text[n] != '\0' && strchr("-_. ", text[n]);
}

const char *nearest_name(const char *text, const char *const *names)
{
    int length = (int)strnlen(text, LONGEST + 1), best_edits = INT_MAX, best_whole = INT_MAX;
    const char *best = NULL;
    if (length > LONGEST)
        return NULL;
    for (; *names; names++) {
        if (strnlen(*names, LONGEST + 1) > LONGEST)
            continue;
        struct distance d = distance(text, *names);
        bool begins = length >= 3 && d.prefix <= length / 5, more = goes_on(text, *names);
        int edits = more ? 0 : begins ? least(d.prefix, d.whole) : d.whole;
        if (!begins && !more && d.whole > (length + 1) / 3)
            continue;
        if (edits < best_edits || (edits == best_edits && d.whole < best_whole)) {
            best = *names;
            best_edits = edits;
            best_whole = d.whole;
        }
    }
    return best;
}
