/* A heap with four children a node: pops touch half the levels of a binary heap, and one node's
 * children share a cache line or two. Cells are kept by value in one block that only grows, so
 * pushing costs no allocation. */
#include "sim/queue.h"

#include <assert.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>

struct cell {
    struct sim_event ev;
    uint64_t order;
};

struct sim_queue {
    struct cell *heap;
    size_t count, room;
    uint64_t pushed;
};

sim_time sim_time_of(double seconds)
{
    assert(seconds >= 0);
    return seconds < 9e6 ? (sim_time)llrint(seconds * 1e12) : SIM_NEVER;
}

double sim_seconds(sim_time t)
{
    return (double)t * 1e-12;
}

void *sim_grow(void *items, size_t need, size_t *room, size_t size)
{
    if (need <= *room)
        return items;
    size_t more = *room ? *room : 8;
    while (more < need)
        more *= 2;
    items = realloc(items, more * size);
    if (!items) {
        fprintf(stderr, "shardwise: out of memory (%zu bytes)\n", more * size);
        exit(1);
    }
    *room = more;
    return items;
}

struct sim_queue *sim_queue_new(void)
{
    size_t none = 0;
    struct sim_queue *q = sim_grow(NULL, 1, &none, sizeof *q);
    *q = (struct sim_queue){0};
    return q;
}

void sim_queue_free(struct sim_queue *q)
{
    if (q)
        free(q->heap);
    free(q);
}

static bool before(const struct cell *x, const struct cell *y)
{
    return x->ev.time < y->ev.time || (x->ev.time == y->ev.time && x->order < y->order);
}

void sim_queue_push(struct sim_queue *q, struct sim_event ev)
{
    q->heap = sim_grow(q->heap, q->count + 1, &q->room, sizeof *q->heap);
    struct cell c = {ev, q->pushed++};
    size_t i = q->count++;
    for (; i > 0 && before(&c, &q->heap[(i - 1) / 4]); i = (i - 1) / 4)
        q->heap[i] = q->heap[(i - 1) / 4];
    q->heap[i] = c;
}

static size_t least_child(const struct sim_queue *q, size_t i)
{
    size_t first = 4 * i + 1, last = first + 4 < q->count ? first + 4 : q->count, best = first;
    for (size_t k = first + 1; k < last; k++)
        if (before(&q->heap[k], &q->heap[best]))
            best = k;
    return best;
}

bool sim_queue_pop(struct sim_queue *q, struct sim_event *out)
{
    if (q->count == 0)
        return false;
    *out = q->heap[0].ev;
    struct cell last = q->heap[--q->count];
    size_t i = 0;
    while (4 * i + 1 < q->count) {
        size_t child = least_child(q, i);
        if (!before(&q->heap[child], &last))
            break;
        q->heap[i] = q->heap[child];
        i = child;
    }
    q->heap[i] = last;
    return true;
}

const struct sim_event *sim_queue_peek(const struct sim_queue *q)
{
    return q->count ? &q->heap[0].ev : NULL;
}

uint64_t sim_queue_pushed(const struct sim_queue *q)
{
    return q->pushed;
}
