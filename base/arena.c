#include "base/arena.h"

#include <assert.h>
#include <stdalign.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { FIRST_CHUNK = 16 * 1024, LARGEST_STEP = 4 * 1024 * 1024 };

struct chunk {
    struct chunk *older;
    size_t size, used;
    max_align_t data[];
};

struct arena {
    struct chunk *newest;
};

static void out_of_memory(size_t bytes)
{
    fprintf(stderr, "shardwise: out of memory: %zu more bytes were asked for\n", bytes);
    exit(1);
}

static struct chunk *chunk_new(size_t size, struct chunk *older)
{
    struct chunk *c = malloc(sizeof *c + size);
    if (!c)
        out_of_memory(size);
    c->older = older;
    c->size = size;
    c->used = 0;
    return c;
}

struct arena *arena_new(void)
{
    struct arena *a = malloc(sizeof *a);
    if (!a)
        out_of_memory(sizeof *a);
    a->newest = chunk_new(FIRST_CHUNK, NULL);
    return a;
}

static void chunks_free(struct chunk *c)
{
    while (c) {
        struct chunk *older = c->older;
        free(c);
        c = older;
    }
}

void arena_free(struct arena *a)
{
    if (!a)
        return;
    chunks_free(a->newest);
    free(a);
}

void *arena_alloc(struct arena *a, size_t count, size_t size)
{
    size_t bytes, align = alignof(max_align_t);
    if (__builtin_mul_overflow(count, size, &bytes) || bytes > PTRDIFF_MAX / 2)
        abort(); /* in every build: an assert would be gone from the one that users run */
    bytes = (bytes + align - 1) / align * align;
    struct chunk *c = a->newest;
    if (c->size - c->used < bytes) {
        size_t next = 2 * c->size < LARGEST_STEP ? 2 * c->size : LARGEST_STEP;
        c = a->newest = chunk_new(next > bytes ? next : bytes, c);
    }
    void *p = (char *)c->data + c->used;
    c->used += bytes;
    return bytes ? memset(p, 0, bytes) : p;
}

char *arena_strndup(struct arena *a, const char *text, size_t length)
{
    char *copy = arena_alloc(a, length + 1, 1);
    memcpy(copy, text, length);
    return copy;
}

char *arena_strdup(struct arena *a, const char *text)
{
    return arena_strndup(a, text, strlen(text));
}

char *arena_printf(struct arena *a, const char *format, ...)
{
    va_list args, again;
    va_start(args, format);
    va_copy(again, args);
    int n = vsnprintf(NULL, 0, format, args);
    va_end(args);
    assert(n >= 0);
    char *text = arena_alloc(a, (size_t)n + 1, 1);
    vsnprintf(text, (size_t)n + 1, format, again);
    va_end(again);
    return text;
}

void *arena_widen(struct arena *a, void *items, int count, int *room, size_t size)
{
    if (count < *room)
        return items;
    *room = *room ? 2 * *room : 64;
    void *more = arena_alloc(a, (size_t)*room, size);
    if (count)
        memcpy(more, items, (size_t)count * size);
    return more;
}

void arena_reset(struct arena *a)
{
    struct chunk *largest = a->newest;
    for (struct chunk *c = a->newest; c; c = c->older)
        if (c->size > largest->size)
            largest = c;
    for (struct chunk *c = a->newest, *older; c; c = older) {
        older = c->older;
        if (c != largest)
            free(c);
    }
    largest->older = NULL;
    largest->used = 0;
    a->newest = largest;
}

size_t arena_bytes(const struct arena *a)
{
    size_t sum = 0;
    for (const struct chunk *c = a->newest; c; c = c->older)
        sum += c->size;
    return sum;
}
