#include "base/utf8.h"

#include <stddef.h>

static const struct form {
    unsigned char first, last, low, high; /* of the first byte, of the second */
    int length;
} forms[] = {
    {0xc2, 0xdf, 0x80, 0xbf, 2}, {0xe0, 0xe0, 0xa0, 0xbf, 3}, {0xe1, 0xec, 0x80, 0xbf, 3},
    {0xed, 0xed, 0x80, 0x9f, 3}, {0xee, 0xef, 0x80, 0xbf, 3}, {0xf0, 0xf0, 0x90, 0xbf, 4},
    {0xf1, 0xf3, 0x80, 0xbf, 4}, {0xf4, 0xf4, 0x80, 0x8f, 4},
};

int utf8_length(const char *s)
{
    const unsigned char *b = (const unsigned char *)s;
    if (b[0] < 0x80)
        return 1;
    for (const struct form *f = forms; f < forms + sizeof forms / sizeof forms[0]; f++) {
        if (b[0] < f->first || b[0] > f->last || b[1] < f->low || b[1] > f->high)
            continue;
        for (int k = 2; k < f->length; k++)
            if ((b[k] & 0xc0) != 0x80)
                return 0;
        return f->length;
    }
    return 0;
}

unsigned utf8_code(const char *s, int length)
{
    static const unsigned char mask[] = {0, 0x7f, 0x1f, 0x0f, 0x07};
    unsigned code = (unsigned char)s[0] & mask[length];
    for (int k = 1; k < length; k++)
        code = code << 6 | ((unsigned char)s[k] & 0x3f);
    return code;
}

int utf8_printable(const char *s)
{
    int length = utf8_length(s);
    unsigned code = length ? utf8_code(s, length) : 0;
    return code < 0x20 || (code >= 0x7f && code < 0xa0) ? 0 : length;
}

void utf8_clean(char *text)
{
    for (int n; *text; text += n ? n : 1) {
        n = utf8_printable(text);
        if (n == 0)
            *text = '?';
    }
}

void utf8_put(const char *text, FILE *out)
{
    for (int n; *text; text += n ? n : 1) {
        n = utf8_printable(text);
        fwrite(n ? text : "?", 1, n ? (size_t)n : 1, out);
    }
}

int utf8_width(const char *text)
{
    int width = 0;
    for (int n; *text; text += n ? n : 1) {
        n = utf8_printable(text);
        width++;
    }
    return width;
}
