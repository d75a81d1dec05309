#include "base/json.h"

#include <assert.h>
#include <inttypes.h>
#include <math.h>
#include <string.h>

#include "base/qty.h"

enum { LEVELS = 32, OBJECT = 1, FILLED = 2, COMPACT = 4 };

struct json json_to(FILE *out)
{
    return (struct json){.out = out};
}

/* The length of the UTF-8 sequence at s (RFC 3629: no surrogates, no overlong forms), 0 if it is broken. */
static int utf8_length(const unsigned char *s)
{
    static const struct {
        unsigned char first, last, low, high; /* of the first byte, of the second */
        int length;
    } forms[] = {
        {0xc2, 0xdf, 0x80, 0xbf, 2}, {0xe0, 0xe0, 0xa0, 0xbf, 3}, {0xe1, 0xec, 0x80, 0xbf, 3},
        {0xed, 0xed, 0x80, 0x9f, 3}, {0xee, 0xef, 0x80, 0xbf, 3}, {0xf0, 0xf0, 0x90, 0xbf, 4},
        {0xf1, 0xf3, 0x80, 0xbf, 4}, {0xf4, 0xf4, 0x80, 0x8f, 4},
    };
    if (s[0] < 0x80)
        return 1;
    for (size_t i = 0; i < sizeof forms / sizeof forms[0]; i++) {
        if (s[0] < forms[i].first || s[0] > forms[i].last || s[1] < forms[i].low || s[1] > forms[i].high)
            continue;
        for (int k = 2; k < forms[i].length; k++)
            if ((s[k] & 0xc0) != 0x80)
                return 0;
        return forms[i].length;
    }
    return 0;
}

static unsigned code_point(const unsigned char *s, int length)
{
    static const unsigned char mask[] = {0, 0x7f, 0x1f, 0x0f, 0x07};
    unsigned code = s[0] & mask[length];
    for (int k = 1; k < length; k++)
        code = code << 6 | (s[k] & 0x3f);
    return code;
}

/* JSON asks it for those below 0x20. The others are controls on a terminal, or line breaks or forbidden to YAML 1.1,
 * with which base/cfg reads our files back. */
static bool is_escaped(unsigned code)
{
    return code < 0x20 || (code >= 0x7f && code < 0xa0) || code == 0x2028 || code == 0x2029 || code == 0xfeff ||
           code == 0xfffe || code == 0xffff;
}

static void put_char(FILE *out, const unsigned char *s, int length)
{
    static const char escaped[] = "\"\\\b\f\n\r\t", names[] = "\"\\bfnrt";
    const char *known = strchr(escaped, *s);
    unsigned code = length ? code_point(s, length) : 0xfffd; /* a byte that is not UTF-8: "replacement character" */
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
    for (const unsigned char *s = (const unsigned char *)text; *s;) {
        int length = utf8_length(s);
        put_char(out, s, length);
        s += length ? length : 1;
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
