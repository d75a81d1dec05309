/* Simulated time and the event queue. */
#ifndef SIM_QUEUE_H
#define SIM_QUEUE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* Simulated time in picoseconds: integers add up alike on every machine; 2^63 ps = 106 days. */
typedef int64_t sim_time;
#define SIM_NEVER INT64_MAX

sim_time sim_time_of(double seconds); /* to the nearest ps; SIM_NEVER from 9e6 s on; seconds >= 0 */
double sim_seconds(sim_time t);

struct sim_event {
    sim_time time;
    int kind; /* the reader's own */
    int who;
    int64_t what;
};

struct sim_queue; /* events ordered by (time, push order); not for sharing between threads */

struct sim_queue *sim_queue_new(void);
void sim_queue_free(struct sim_queue *q);                       /* accepts NULL */
void sim_queue_push(struct sim_queue *q, struct sim_event ev);  /* copies ev */
bool sim_queue_pop(struct sim_queue *q, struct sim_event *out); /* false when empty */
const struct sim_event *
sim_queue_peek(const struct sim_queue *q); /* NULL when empty; valid until a push or pop */
uint64_t sim_queue_pushed(const struct sim_queue *q); /* events pushed so far */

/* malloc'd memory that grows: doubles *items (of `size` bytes each) until it has room for `need`.
 * Out of memory ends the program with exit 1, as in base/arena.h. */
void *sim_grow(void *items, size_t need, size_t *room, size_t size);

#endif
