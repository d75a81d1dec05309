/* Work and exchanges of many GPUs as a graph of tasks, and its play in simulated time.
 *
 * A graph is built once and may be played many times, by many threads, with different what-ifs.
 * Tasks are
 *
 *   work     seconds on one lane of a GPU; a lane does one task at a time, in the order in which
 *            they become ready
 *   mark     no time: begins and ends when all it waits for has ended
 *   member   one GPU's part in an exchange: it arrives when all it waits for has ended and ends
 *            with the last of the messages that it sends or receives
 *
 * A message sets off when both its ends have arrived (NCCL's send and receive meet), or, in a
 * `together` exchange, when all members have; then it waits for the latency of its route and shares
 * links max-min fairly (sim/net.h). While a GPU takes part in an exchange, its SM lane runs at 1 -
 * sm_share: the collective's own blocks. */
#ifndef SIM_PLAY_H
#define SIM_PLAY_H

#include "base/arena.h"
#include "sim/topo.h"

enum play_lane { PLAY_SM, PLAY_HBM, PLAY_HOST, PLAY_LANES };
extern const char *const play_lane_names[PLAY_LANES];

enum play_kind { PLAY_WORK, PLAY_MARK, PLAY_MEMBER, PLAY_COPY };

struct play_task { /* read-only to users */
    enum play_kind kind;
    int gpu, lane, phase;
    sim_time work;
    int exchange, member;
    double bytes; /* of a copy */
    bool to_host;
};

struct play_graph;

struct play_graph *play_graph_new(struct arena *a); /* all memory in `a` */

/* Each returns the task's number, from 0. `phase` is the caller's own label. */
int play_work(struct play_graph *g, int gpu, enum play_lane lane, double seconds, int phase);
int play_mark(struct play_graph *g, int gpu, int phase);

/* Bytes between a GPU and its server's memory: a flow on PCIe from when all it waits for has ended.
 */
int play_copy(struct play_graph *g, int gpu, bool to_host, double bytes, int phase);

struct play_message {
    int from, to; /* members; from == to: the image of itself in an identical replica (wire_loop) */
    double bytes;
};

/* An exchange of `members` GPUs; returns the task of member 0, the others follow. Bytes of zero are
 * no message. Exactly one way to say what moves; arrays are copied, but for `matrix` and `product`,
 * which must live as long as the graph. */
struct play_exchange {
    int members;
    const int *gpus;
    int phase;
    bool together;  /* nothing moves before all have arrived */
    double calls;   /* times the latency of the route: collective calls or steps of a chain */
    double extra_s; /* software latency on top */
    bool no_sms;    /* what it takes of the SMs is in the work beside it already */
    const double *product_from, *product_to; /* from[i] * to[j] bytes between all i != j ... */
    const double *matrix;                    /* ... or members x members bytes ... */
    const struct play_message *messages;     /* ... or a list */
    int message_count;
};
int play_exchange(struct play_graph *g, const struct play_exchange *x);

/* `task` waits for `before`. */
void play_after(struct play_graph *g, int task, int before);

/* Call once after the last task and before the first play. */
void play_graph_finish(struct play_graph *g);
int play_tasks(const struct play_graph *g);
const struct play_task *play_task(const struct play_graph *g, int task);
int play_members(const struct play_graph *g, int exchange); /* and their first task: */
int play_first_member(const struct play_graph *g, int exchange);

/* ---- playing ---- */

struct play_fault { /* from `at` on, the edge has this share of its rate; 0 is down */
    int edge;
    double at_s, share;
};

struct play_what {   /* zeroes: nothing unusual */
    double sm_share; /* of the SMs, taken by a running collective; 0 .. below 1 */
    bool comm_waits; /* a compute kernel fills the GPU: an exchange begins only between kernels */
    const double *gpu_speed;         /* per GPU, 1 = as calibrated; NULL: all 1 */
    double jitter;                   /* every work takes exp(jitter * N(0,1)) times as long */
    uint64_t seed, run;              /* of the jitter's streams */
    const struct play_fault *faults; /* in order of time */
    int fault_count;
    double merge;     /* net_merge */
    const int *watch; /* edges whose load is recorded whenever it changes */
    int watch_count;
};

struct play_sample { /* from `at` on, watch[i] has this share of its rate in use */
    sim_time at;
    int watch;
    double share;
};

struct play_result { /* in the arena that play_run was given */
    sim_time end;
    sim_time *begin_at, *end_at; /* per task; a member begins when it arrives */
    int *cause; /* per task: the task whose end let it begin (or whose work was before it on the
                   lane); -1 none */
    int *
        gate; /* per member: the member that arrived last for its last message (itself if it did) */
    double *carried; /* bytes per edge of the topology */
    uint64_t flow_events, events;
    struct play_sample *samples;
    int sample_count;
};

/* False when tasks never end: they wait in a circle, or for a link that stays down (ERR_INPUT at
 * `at`). */
bool play_run(const struct play_graph *g, const struct topo *t, const struct play_what *what,
              struct play_result *out, struct arena *a, struct err_at at, struct err *e);

/* The way back from the last end: phase_s[phase] gets the seconds that each phase has on the
 * critical path; they add up to the end. Labels are 0 .. phases-1. */
void play_critical(const struct play_graph *g, const struct play_result *r, double *phase_s,
                   int phases);

#endif
