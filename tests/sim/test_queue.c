/* The event queue: order by time, then by push. */
#include "sim/queue.h"

#include <gsl/gsl_test.h>

#include "base/rng.h"

static void events_come_out_by_time_and_then_by_push_order(void)
{
    struct sim_queue *q = sim_queue_new();
    struct rng r = rng_stream(1, "queue", 0, 0, 0);
    for (int i = 0; i < 20000; i++)
        sim_queue_push(q, (struct sim_event){.time = (sim_time)rng_below(&r, 100), .who = i});
    struct sim_event last = {.time = -1}, ev;
    int wrong = 0, count = 0;
    for (; sim_queue_pop(q, &ev); last = ev, count++)
        wrong += ev.time < last.time || (ev.time == last.time && ev.who < last.who);
    gsl_test_int(count, 20000, "every event comes out");
    gsl_test_int(wrong, 0, "and in order");
    sim_queue_free(q);
}

static void a_queue_may_be_filled_while_it_empties(void)
{
    struct sim_queue *q = sim_queue_new();
    struct sim_event ev = {.time = 0};
    sim_queue_push(q, ev);
    int count = 0;
    for (; sim_queue_pop(q, &ev); count++)
        if (ev.time < 1000)
            for (int k = 1; k <= 1 + (ev.time % 3 == 0); k++)
                sim_queue_push(q, (struct sim_event){.time = ev.time + 400 * k});
    gsl_test_int(count, 6, "by hand: 0 gives 400 and 800, 400 gives 800, both 800s give a 1200");
    gsl_test(sim_queue_pop(q, &ev), "an empty queue gives nothing");
    sim_queue_free(q);
}

static void seconds_become_picoseconds_to_the_nearest(void)
{
    gsl_test_int((int)sim_time_of(1.4e-12), 1, "1.4 ps");
    gsl_test(sim_time_of(2.5e-3) != 2500000000, "2.5 ms");
    gsl_test(sim_time_of(1e9) != SIM_NEVER, "thirty years is never");
    gsl_test_rel(sim_seconds(sim_time_of(123.456)), 123.456, 1e-15, "there and back");
}

int main(void)
{
    events_come_out_by_time_and_then_by_push_order();
    a_queue_may_be_filled_while_it_empties();
    seconds_become_picoseconds_to_the_nearest();
    return gsl_test_summary();
}
