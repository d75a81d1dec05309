/* "Did you mean": the name that a mistyped one was probably meant to be. */
#ifndef BASE_NEAREST_H
#define BASE_NEAREST_H

/* The entry of `names` (NULL-terminated) nearest to `text`, or NULL when none is near. Near is an
 * edit distance (insert, delete, replace, swap of neighbours; case ignored) of at most a third of
 * the text, or a text of three characters or more that begins a name with at most a fifth of it
 * mistyped, or a name with more behind it ("a100-80" for "a100"). The first of equally near names
 * wins. Texts and names over 64 bytes are never near. */
const char *nearest_name(const char *text, const char *const *names);

#endif
