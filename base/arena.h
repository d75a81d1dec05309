/* Memory that is given back all at once. Results live in the arena that the caller passes in;
 * scratch is a second arena, reset between candidates. Out of memory ends the program here (exit
 * 1), so nobody else checks for it: allocate only sizes that you have bounded first. Not for
 * sharing between threads. */
#ifndef BASE_ARENA_H
#define BASE_ARENA_H

#include <stddef.h>

struct arena;

struct arena *arena_new(void);
void arena_free(struct arena *a); /* accepts NULL */

/* Zeroed, aligned for any type. count * size may not overflow: that is a broken promise (abort). */
void *arena_alloc(struct arena *a, size_t count, size_t size);
char *arena_strdup(struct arena *a, const char *text);
char *arena_strndup(struct arena *a, const char *text, size_t length);
char *arena_printf(struct arena *a, const char *format, ...) __attribute__((format(printf, 2, 3)));

/* A growing array: `items` if there is room for one beyond `count`, else a copy with twice the room
 * (the old one stays until the arena goes). Begin with NULL and *room 0. */
void *arena_widen(struct arena *a, void *items, int count, int *room, size_t size);

/* Forgets all that was allocated; keeps the largest chunk for the next round. */
void arena_reset(struct arena *a);

/* Bytes taken from the system now. */
size_t arena_bytes(const struct arena *a);

#define ARENA_NEW(arena, type) ((type *)arena_alloc((arena), 1, sizeof(type)))
#define ARENA_ARRAY(arena, type, count)                                                            \
    ((type *)arena_alloc((arena), (size_t)(count), sizeof(type)))

#endif
