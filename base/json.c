#include "base/json.h"

#include <assert.h>
#include <inttypes.h>
#include <math.h>
#include <string.h>

#include "base/qty.h"
#include "base/utf8.h"

enum { LEVELS = 32, OBJECT = 1, FILLED = 2, COMPACT = 4 };

struct json json_to(FILE *out)
{
    return (struct json){.out = out};
}

/* JSON asks it for those below 0x20. The others are controls on a terminal, or line breaks or
 * forbidden to YAML 1.1, with which base/cfg reads our files back. */
static bool is_escaped(unsigned code)
{
    return code < 0x20 || (code >= 0x7f && code < 0xa0) || code == 0x2028 || code == 0x2029 ||
           code == 0xfeff || code == 0xfffe || code == 0xffff;
}

static void put_char(FILE *out, const char *s, int length)
{
    static const char escaped[] = "\"\\\b\f\n\r\t", names[] = "\"\\bfnrt";
    const char *known = strchr(escaped, *s);
    unsigned code = length ? utf8_code(s, length)
                           : 0xfffd; /* a byte that is not UTF-8: "replacement character" */
    if (known)
        fprintf(out, "\\%c", names[known - escaped]);
    else if (length == 0 || is_escaped(code))
        fprintf(out, "\\u%04x", code);
    else
        fwrite(s, 1, (size_t)length, out);
}

static void put_text(FILE *out, const char *text)
{
    fputc('"', out);
    for (int n; *text; text += n ? n : 1) {
        n = utf8_length(text);
        put_char(out, text, n);
    }
    fputc('"', out);
}

static void new_line(struct json *j)
{
    fprintf(j->out, "\n%*s", 2 * j->depth, "");
}

/* All that comes before a value: comma, line break, key. */
static void begin_value(struct json *j, const char *key)
{
    unsigned char *level = &j->state[j->depth];
    assert(j->depth > 0 || !(*level & FILLED)); /* one outermost value */
    assert((key != NULL) == ((*level & OBJECT) != 0));
    if (*level & FILLED)
        fputs(*level & COMPACT ? ", " : ",", j->out);
    if (j->depth > 0 && !(*level & COMPACT))
        new_line(j);
    *level |= FILLED;
    if (key) {
        put_text(j->out, key);
        fputs(": ", j->out);
    }
}

static void open_level(struct json *j, const char *key, char bracket, unsigned char flags)
{
    begin_value(j, key);
    assert(j->depth < LEVELS);
    bool inside = j->state[j->depth] & COMPACT;
    j->state[++j->depth] = flags | (j->compact || inside ? COMPACT : 0);
    fputc(bracket, j->out);
}

void json_object(struct json *j, const char *key)
{
    open_level(j, key, '{', OBJECT);
}

void json_array(struct json *j, const char *key)
{
    open_level(j, key, '[', 0);
}

void json_end(struct json *j)
{
    assert(j->depth > 0);
    unsigned char level = j->state[j->depth--];
    if ((level & FILLED) && !(level & COMPACT))
        new_line(j);
    fputc(level & OBJECT ? '}' : ']', j->out);
    if (j->depth == 0)
        fputc('\n', j->out);
}

void json_text(struct json *j, const char *key, const char *text)
{
    begin_value(j, key);
    if (text)
        put_text(j->out, text);
    else
        fputs("null", j->out);
}

void json_int(struct json *j, const char *key, int64_t value)
{
    begin_value(j, key);
    fprintf(j->out, "%" PRId64, value);
}

void json_num(struct json *j, const char *key, double value)
{
    begin_value(j, key);
    fputs(isfinite(value) ? qty_exact(value, QTY_BUF) : "null", j->out);
}

void json_bool(struct json *j, const char *key, bool value)
{
    begin_value(j, key);
    fputs(value ? "true" : "false", j->out);
}
