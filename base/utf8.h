/* Characters of texts that come from files and command lines, before they reach a terminal or a
 * file of ours. */
#ifndef BASE_UTF8_H
#define BASE_UTF8_H

#include <stdio.h>

/* Bytes of the character at s, which is not the text's end; 0 when it is not UTF-8 (RFC 3629: no
 * surrogates, no overlong forms, nothing over U+10FFFF). */
int utf8_length(const char *s);

/* Its number, for a length that is not 0. */
unsigned utf8_code(const char *s, int length);

/* The same as utf8_length, but 0 also for control characters (below U+0020, U+007F to U+009F),
 * which would break lines or rule the terminal. */
int utf8_printable(const char *s);

void utf8_clean(char *text);                /* each byte of what is not printable becomes '?' */
void utf8_put(const char *text, FILE *out); /* writes it so */
int utf8_width(const char *text);           /* characters that utf8_put writes */

#endif
