/* A JSON writer that cannot write a broken document: commas, indentation and escapes are its
 * business. Numbers are written so that they read back exactly (%.17g, shortened where that loses
 * nothing); NaN and infinities become null. Write errors stay in the stream (ferror). Objects and
 * arrays nest up to 32 deep. */
#ifndef BASE_JSON_H
#define BASE_JSON_H

#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>

struct json {
    FILE *out;
    int depth;
    bool compact; /* what is opened while it is set stays on one line, with all that is inside */
    unsigned char state[33];
};

struct json json_to(FILE *out);

/* `key` is NULL inside arrays and for the outermost value; one outermost value a document. Texts
 * that are not UTF-8 get U+FFFD for each wrong byte; a NULL text is null. */
void json_object(struct json *j, const char *key);
void json_array(struct json *j, const char *key);
void json_end(struct json *j); /* closes the innermost object or array */
void json_text(struct json *j, const char *key, const char *text);
void json_int(struct json *j, const char *key, int64_t value);
void json_num(struct json *j, const char *key, double value);
void json_bool(struct json *j, const char *key, bool value);

#endif
