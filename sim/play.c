#include "sim/play.h"

#include <assert.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "base/rng.h"

const char *const play_lane_names[PLAY_LANES] = {"SM", "HBM", "host"};

struct exchange {
    struct play_exchange x;
    int first_task;
    int *incident_start, *incident; /* list form: messages of each member */
};

struct edge {
    int task, before;
};

struct play_graph {
    struct arena *a;
    struct play_task *tasks;
    struct exchange *exchanges;
    struct edge *edges;
    int task_count, task_room, exchange_count, exchange_room, edge_count, edge_room;
    int gpus;
    int *deps, *out_start, *out; /* by play_graph_finish */
};

/* ---- building ---- */

struct play_graph *play_graph_new(struct arena *a)
{
    struct play_graph *g = ARENA_NEW(a, struct play_graph);
    g->a = a;
    return g;
}

static int add_task(struct play_graph *g, struct play_task t)
{
    g->tasks = arena_widen(g->a, g->tasks, g->task_count, &g->task_room, sizeof *g->tasks);
    g->tasks[g->task_count] = t;
    if (t.gpu >= g->gpus)
        g->gpus = t.gpu + 1;
    return g->task_count++;
}

int play_work(struct play_graph *g, int gpu, enum play_lane lane, double seconds, int phase)
{
    struct play_task t = {
        .kind = PLAY_WORK, .gpu = gpu, .lane = lane, .phase = phase, .work = sim_time_of(seconds)};
    return add_task(g, t);
}

int play_mark(struct play_graph *g, int gpu, int phase)
{
    return add_task(g, (struct play_task){.kind = PLAY_MARK, .gpu = gpu, .phase = phase});
}

int play_copy(struct play_graph *g, int gpu, bool to_host, double bytes, int phase)
{
    assert(bytes >= 0);
    return add_task(
        g, (struct play_task){
               .kind = PLAY_COPY, .gpu = gpu, .phase = phase, .bytes = bytes, .to_host = to_host});
}

/* Lists the messages of each member (a message to itself once). */
static void index_messages(struct arena *a, struct exchange *x)
{
    int n = x->x.members, count = x->x.message_count;
    x->incident_start = ARENA_ARRAY(a, int, n + 2);
    x->incident = ARENA_ARRAY(a, int, 2 * count + 1);
    for (int pass = 0; pass < 2; pass++) {
        for (int i = 0; i < count; i++) {
            const struct play_message *m = &x->x.messages[i];
            int ends[2] = {m->from, m->to};
            for (int k = 0; k < 2 - (m->from == m->to); k++) {
                if (pass == 0)
                    x->incident_start[ends[k] + 2]++;
                else
                    x->incident[x->incident_start[ends[k] + 1]++] = i;
            }
        }
        for (int i = 0; pass == 0 && i < n; i++)
            x->incident_start[i + 2] += x->incident_start[i + 1];
    }
}

static const void *copy(struct arena *a, const void *items, int count, size_t size)
{
    void *c = arena_alloc(a, (size_t)count, size);
    if (count)
        memcpy(c, items, (size_t)count * size);
    return c;
}

int play_exchange(struct play_graph *g, const struct play_exchange *in)
{
    assert(in->members > 0 && in->members < 1 << 16);
    g->exchanges =
        arena_widen(g->a, g->exchanges, g->exchange_count, &g->exchange_room, sizeof *g->exchanges);
    struct exchange *x = &g->exchanges[g->exchange_count];
    *x = (struct exchange){.x = *in, .first_task = g->task_count};
    x->x.gpus = copy(g->a, in->gpus, in->members, sizeof *in->gpus);
    if (in->messages) {
        x->x.messages = copy(g->a, in->messages, in->message_count, sizeof *in->messages);
        index_messages(g->a, x);
    }
    for (int i = 0; i < in->members; i++)
        add_task(g, (struct play_task){.kind = PLAY_MEMBER,
                                       .gpu = in->gpus[i],
                                       .phase = in->phase,
                                       .exchange = g->exchange_count,
                                       .member = i});
    g->exchange_count++;
    return x->first_task;
}

void play_after(struct play_graph *g, int task, int before)
{
    assert(task < g->task_count && before < g->task_count && task != before);
    g->edges = arena_widen(g->a, g->edges, g->edge_count, &g->edge_room, sizeof *g->edges);
    g->edges[g->edge_count++] = (struct edge){task, before};
}

void play_graph_finish(struct play_graph *g)
{
    g->deps = ARENA_ARRAY(g->a, int, g->task_count + 1);
    g->out_start = ARENA_ARRAY(g->a, int, g->task_count + 2);
    g->out = ARENA_ARRAY(g->a, int, g->edge_count + 1);
    for (int i = 0; i < g->edge_count; i++) {
        g->deps[g->edges[i].task]++;
        g->out_start[g->edges[i].before + 2]++;
    }
    for (int i = 0; i < g->task_count; i++)
        g->out_start[i + 2] += g->out_start[i + 1];
    for (int i = 0; i < g->edge_count; i++)
        g->out[g->out_start[g->edges[i].before + 1]++] = g->edges[i].task;
}

int play_tasks(const struct play_graph *g)
{
    return g->task_count;
}

const struct play_task *play_task(const struct play_graph *g, int task)
{
    return &g->tasks[task];
}

int play_members(const struct play_graph *g, int exchange)
{
    return g->exchanges[exchange].x.members;
}

int play_first_member(const struct play_graph *g, int exchange)
{
    return g->exchanges[exchange].first_task;
}

/* The messages of one member, one after another. */
struct walk {
    const struct exchange *x;
    int member, at;
};

static bool walk_pairs(struct walk *w, struct play_message *m)
{
    int n = w->x->x.members;
    while (w->at < 2 * n) { /* even: send to at/2, odd: receive from at/2 */
        int peer = w->at / 2;
        bool sends = w->at++ % 2 == 0;
        if (peer == w->member)
            continue;
        m->from = sends ? w->member : peer;
        m->to = sends ? peer : w->member;
        m->bytes = w->x->x.matrix ? w->x->x.matrix[(size_t)m->from * (size_t)n + (size_t)m->to]
                                  : w->x->x.product_from[m->from] * w->x->x.product_to[m->to];
        if (m->bytes > 0)
            return true;
    }
    return false;
}

static bool walk_next(struct walk *w, struct play_message *m)
{
    if (!w->x->x.messages)
        return (w->x->x.matrix || w->x->x.product_from) && walk_pairs(w, m);
    while (w->at < w->x->incident_start[w->member + 1] - w->x->incident_start[w->member]) {
        *m = w->x->x.messages[w->x->incident[w->x->incident_start[w->member] + w->at++]];
        if (m->bytes > 0)
            return true;
    }
    return false;
}

/* ---- the run ---- */

enum event_kind { WORK_DONE, RELEASE, FAULT };

struct lane {
    int running;        /* task, or -1 */
    int first, last;    /* ready tasks, linked by run.next */
    double left, speed; /* ps of work left at `since`; ps of work per ps */
    sim_time since;
    uint32_t version;
};

struct member {      /* state of a member task */
    int order, open; /* place in the order of arrival from 1 on; messages not ended */
};

struct run {
    const struct play_graph *g;
    const struct play_what *what;
    const struct topo *t;
    struct wire *wire;
    struct net *net;
    struct sim_queue *queue;
    sim_time now;
    struct play_result *out;
    int *deps, *next;
    struct member *members; /* by task */
    int *arrived;           /* by exchange */
    struct lane *lanes;
    int *talking;            /* per GPU: exchanges it takes part in */
    int *held, held_count;   /* members that wait for a kernel to end */
    int *stack, stack_count; /* ended tasks whose followers are to be looked at */
    int ended;
    struct arena *a; /* of the result */
    double *load;    /* [watch]: last sample */
    int sample_room;
};

static struct lane *lane_of(struct run *r, int gpu, int lane)
{
    return &r->lanes[gpu * PLAY_LANES + lane];
}

static double gpu_speed(const struct run *r, int gpu)
{
    return r->what->gpu_speed ? r->what->gpu_speed[gpu] : 1;
}

static void lane_schedule(struct run *r, struct lane *l, int gpu, int lane)
{
    bool shared = lane == PLAY_SM && r->talking[gpu] > 0;
    l->speed = gpu_speed(r, gpu) * (shared ? 1 - r->what->sm_share : 1);
    l->since = r->now;
    sim_queue_push(r->queue,
                   (struct sim_event){.time = r->now + (sim_time)llrint(l->left / l->speed),
                                      .kind = WORK_DONE,
                                      .who = gpu * PLAY_LANES + lane,
                                      .what = ++l->version});
}

static void lane_start(struct run *r, int gpu, int lane)
{
    struct lane *l = lane_of(r, gpu, lane);
    if (l->running >= 0 || l->first < 0)
        return;
    int task = l->running = l->first;
    l->first = r->next[task];
    r->out->begin_at[task] = r->now;
    l->left = (double)r->g->tasks[task].work;
    if (r->what->jitter > 0) {
        struct rng stream = rng_stream(r->what->seed, "jitter", r->what->run, (uint64_t)task, 0);
        l->left *= exp(r->what->jitter * rng_normal(&stream));
    }
    lane_schedule(r, l, gpu, lane);
}

static void lane_append(struct run *r, int task)
{
    const struct play_task *t = &r->g->tasks[task];
    struct lane *l = lane_of(r, t->gpu, t->lane);
    r->next[task] = -1;
    if (l->first < 0)
        l->first = task;
    else
        r->next[l->last] = task;
    l->last = task;
    lane_start(r, t->gpu, t->lane);
}

/* A GPU joins (+1) or leaves (-1) an exchange: its running kernel slows down or speeds up. */
static void talk(struct run *r, const struct play_task *t, int change)
{
    if (r->g->exchanges[t->exchange].x.no_sms)
        return;
    bool before = r->talking[t->gpu] > 0;
    r->talking[t->gpu] += change;
    struct lane *l = lane_of(r, t->gpu, PLAY_SM);
    if (r->what->sm_share == 0 || before == (r->talking[t->gpu] > 0) || l->running < 0)
        return;
    l->left = fmax(0, l->left - (double)(r->now - l->since) * l->speed);
    lane_schedule(r, l, t->gpu, PLAY_SM);
}

static void end_task(struct run *r, int task)
{
    r->out->end_at[task] = r->now;
    r->ended++;
    if (r->g->tasks[task].kind == PLAY_MEMBER)
        talk(r, &r->g->tasks[task], -1);
    r->stack[r->stack_count++] = task;
}

/* ---- messages ---- */

static sim_time message_latency(struct run *r, const struct exchange *x,
                                const struct play_message *m)
{
    sim_time latency;
    int from = x->x.gpus[m->from], to = x->x.gpus[m->to];
    if (m->from == m->to)
        wire_loop(r->wire, from, &latency);
    else
        wire_route(r->wire, from, to, &latency);
    return (sim_time)llrint(x->x.calls * (double)latency) + sim_time_of(x->x.extra_s);
}

static void launch(struct run *r, const struct exchange *x, const struct play_message *m)
{
    int from = x->x.gpus[m->from], to = x->x.gpus[m->to];
    int route =
        m->from == m->to ? wire_loop(r->wire, from, NULL) : wire_route(r->wire, from, to, NULL);
    uint64_t tag =
        (uint64_t)(x - r->g->exchanges) << 32 | (uint64_t)m->from << 16 | (uint64_t)m->to;
    net_flow(r->net, r->now, route, m->bytes, tag);
}

/* Is the message of `member` free to go because of its arrival (and not of a later one)? */
static bool set_off_by(const struct run *r, const struct exchange *x, const struct play_message *m,
                       int member)
{
    if (x->x.together)
        return member == m->from; /* each message once, from its sender */
    int mine = r->members[x->first_task + member].order;
    int other = r->members[x->first_task + (m->from == member ? m->to : m->from)].order;
    return other > 0 && other <= mine;
}

/* Launches the messages that `member` sets off and whose latency is `latency`; then waits for the
 * next larger one. A negative latency only finds the first. */
static void release(struct run *r, const struct exchange *x, int member, sim_time arrived,
                    sim_time latency)
{
    struct walk w = {x, member, 0};
    struct play_message m;
    sim_time next = SIM_NEVER;
    while (walk_next(&w, &m)) {
        if (!set_off_by(r, x, &m, member))
            continue;
        sim_time l = message_latency(r, x, &m);
        if (l == latency)
            launch(r, x, &m);
        else if (l > latency && l < next)
            next = l;
    }
    if (next == 0)
        release(r, x, member, arrived, 0);
    else if (next != SIM_NEVER)
        sim_queue_push(r->queue, (struct sim_event){.time = arrived + next,
                                                    .kind = RELEASE,
                                                    .who = x->first_task + member,
                                                    .what = next});
}

static void arrive(struct run *r, int task)
{
    const struct play_task *t = &r->g->tasks[task];
    const struct exchange *x = &r->g->exchanges[t->exchange];
    struct walk w = {x, t->member, 0};
    struct play_message m;
    struct member *me = &r->members[task];
    while (walk_next(&w, &m))
        me->open++;
    me->order = ++r->arrived[t->exchange];
    r->out->begin_at[task] = r->now;
    r->out->gate[task] = task;
    talk(r, t, 1);
    if (!x->x.together) {
        release(r, x, t->member, r->now, -1);
    } else if (me->order == x->x.members) {
        for (int i = 0; i < x->x.members; i++) {
            r->out->gate[x->first_task + i] = task;
            release(r, x, i, r->now, -1);
        }
    }
    if (me->open == 0)
        end_task(r, task);
}

static void message_end_at(struct run *r, const struct exchange *x, int member, int peer)
{
    int task = x->first_task + member, other = x->first_task + peer;
    if (--r->members[task].open > 0)
        return;
    if (!x->x.together)
        r->out->gate[task] = r->members[other].order > r->members[task].order ? other : task;
    end_task(r, task);
}

/* Tags of copies: the task, and this. */
#define COPY_TAG ((uint64_t)1 << 63)

static void copy_begin(struct run *r, int task)
{
    const struct play_task *t = &r->g->tasks[task];
    int route = wire_host(r->wire, t->gpu, t->to_host);
    assert(route >= 0); /* topo_has_host */
    r->out->begin_at[task] = r->now;
    net_flow(r->net, r->now, route, t->bytes, COPY_TAG | (uint64_t)task);
}

static void message_end(struct run *r, uint64_t tag)
{
    if (tag & COPY_TAG) {
        end_task(r, (int)(tag & ~COPY_TAG));
        return;
    }
    const struct exchange *x = &r->g->exchanges[tag >> 32];
    int from = (int)(tag >> 16 & 0xffff), to = (int)(tag & 0xffff);
    message_end_at(r, x, from, to);
    if (to != from)
        message_end_at(r, x, to, from);
}

/* ---- the loop ---- */

static bool must_hold(struct run *r, int task)
{
    return r->what->comm_waits && lane_of(r, r->g->tasks[task].gpu, PLAY_SM)->running >= 0;
}

static void begin_task(struct run *r, int task)
{
    switch (r->g->tasks[task].kind) {
    case PLAY_WORK:
        lane_append(r, task);
        break;
    case PLAY_MARK:
        r->out->begin_at[task] = r->now;
        end_task(r, task);
        break;
    case PLAY_COPY:
        copy_begin(r, task);
        break;
    case PLAY_MEMBER:
        if (must_hold(r, task))
            r->held[r->held_count++] = task;
        else
            arrive(r, task);
    }
}

static void follow(struct run *r)
{
    while (r->stack_count) {
        int done = r->stack[--r->stack_count];
        for (int k = r->g->out_start[done]; k < r->g->out_start[done + 1]; k++) {
            int task = r->g->out[k];
            r->out->cause[task] = done;
            if (--r->deps[task] == 0)
                begin_task(r, task);
        }
    }
}

static void release_held(struct run *r, int kernel)
{
    int keep = 0, count = r->held_count;
    for (int i = 0; i < count; i++) {
        int task = r->held[i];
        if (r->g->tasks[task].gpu == r->g->tasks[kernel].gpu) {
            r->out->cause[task] = kernel;
            arrive(r, task);
        } else {
            r->held[keep++] = task;
        }
    }
    r->held_count = keep;
}

static void work_done(struct run *r, const struct sim_event *ev)
{
    struct lane *l = &r->lanes[ev->who];
    if (l->running < 0 || l->version != (uint32_t)ev->what)
        return;
    int task = l->running, gpu = ev->who / PLAY_LANES, lane = ev->who % PLAY_LANES;
    l->running = -1;
    if (l->first >= 0)
        r->out->cause[l->first] = task; /* it was ready and had to wait for the lane */
    end_task(r, task);
    if (lane == PLAY_SM && r->held_count)
        release_held(r, task);
    lane_start(r, gpu, lane);
}

static void handle(struct run *r, const struct sim_event *ev)
{
    if (ev->kind == WORK_DONE) {
        work_done(r, ev);
    } else if (ev->kind == RELEASE) {
        const struct play_task *t = &r->g->tasks[ev->who];
        release(r, &r->g->exchanges[t->exchange], t->member, r->now - ev->what, ev->what);
    } else {
        const struct play_fault *f = &r->what->faults[ev->who];
        wire_rate_set(r->wire, r->now, f->edge, f->share * r->t->edges[f->edge].bytes_per_s);
    }
}

static void sample(struct run *r)
{
    for (int i = 0; i < r->what->watch_count; i++) {
        double load = wire_load(r->wire, r->what->watch[i]);
        if (fabs(load - r->load[i]) < 1e-9)
            continue;
        r->out->samples = arena_widen(r->a, r->out->samples, r->out->sample_count, &r->sample_room,
                                      sizeof *r->out->samples);
        r->out->samples[r->out->sample_count++] = (struct play_sample){r->now, i, load};
        r->load[i] = load;
    }
}

static void loop(struct run *r)
{
    for (;;) {
        follow(r);
        const struct sim_event *ev = sim_queue_peek(r->queue);
        sim_time events = ev ? ev->time : SIM_NEVER,
                 flows = events > r->now ? net_next(r->net) : SIM_NEVER;
        if (r->ended == r->g->task_count || (events == SIM_NEVER && flows == SIM_NEVER))
            return;
        if (events > r->now)
            sample(r);
        uint64_t tag;
        struct sim_event now;
        if (flows <= events) { /* ends before beginnings, so that what begins finds the link free */
            r->now = flows;
            while (net_end(r->net, r->now, &tag))
                message_end(r, tag);
        } else if (sim_queue_pop(r->queue, &now)) {
            r->now = now.time;
            handle(r, &now);
        }
    }
}

static void run_begin(struct run *r, struct arena *a, struct arena *scratch)
{
    int tasks = r->g->task_count;
    *r->out = (struct play_result){.begin_at = ARENA_ARRAY(a, sim_time, tasks),
                                   .end_at = ARENA_ARRAY(a, sim_time, tasks),
                                   .cause = ARENA_ARRAY(a, int, tasks),
                                   .gate = ARENA_ARRAY(a, int, tasks),
                                   .carried = ARENA_ARRAY(a, double, r->t->edge_count)};
    r->a = a;
    r->load = ARENA_ARRAY(scratch, double, r->what->watch_count + 1);
    r->deps = ARENA_ARRAY(scratch, int, tasks);
    r->next = ARENA_ARRAY(scratch, int, tasks);
    r->members = ARENA_ARRAY(scratch, struct member, tasks);
    r->held = ARENA_ARRAY(scratch, int, tasks);
    r->stack = ARENA_ARRAY(scratch, int, tasks);
    r->arrived = ARENA_ARRAY(scratch, int, r->g->exchange_count);
    r->lanes = ARENA_ARRAY(scratch, struct lane, r->g->gpus * PLAY_LANES);
    r->talking = ARENA_ARRAY(scratch, int, r->g->gpus);
    for (int i = 0; i < r->g->gpus * PLAY_LANES; i++)
        r->lanes[i].running = r->lanes[i].first = -1;
    memcpy(r->deps, r->g->deps, (size_t)tasks * sizeof *r->deps);
    for (int i = 0; i < tasks; i++)
        r->out->cause[i] = -1;
    for (int i = 0; i < r->what->fault_count; i++)
        sim_queue_push(r->queue, (struct sim_event){.time = sim_time_of(r->what->faults[i].at_s),
                                                    .kind = FAULT,
                                                    .who = i});
    for (int i = 0; i < tasks; i++)
        if (r->g->deps[i] == 0)
            begin_task(r, i);
}

static bool stuck(const struct run *r, struct err_at at, struct err *e)
{
    if (net_active(r->net))
        return err_set(e, ERR_INPUT, at,
                       "%d messages wait for ever on a link that is down; it must come up again",
                       net_active(r->net));
    return err_set(e, ERR_INPUT, at, "%d tasks wait for each other in a circle",
                   r->g->task_count - r->ended);
}

bool play_run(const struct play_graph *g, const struct topo *t, const struct play_what *what,
              struct play_result *out, struct arena *a, struct err_at at, struct err *e)
{
    assert(g->deps && g->gpus <= t->gpu_count);
    struct arena *scratch = arena_new();
    struct run r = {
        .g = g, .what = what, .t = t, .wire = wire_new(t), .queue = sim_queue_new(), .out = out};
    r.net = wire_net(r.wire);
    net_merge(r.net, what->merge);
    run_begin(&r, a, scratch);
    loop(&r);
    bool ok = r.ended == g->task_count || stuck(&r, at, e);
    out->end = r.now;
    out->flow_events = net_events(r.net);
    out->events = sim_queue_pushed(r.queue);
    for (int i = 0; i < t->edge_count; i++)
        out->carried[i] = wire_carried(r.wire, i);
    sim_queue_free(r.queue);
    wire_free(r.wire);
    arena_free(scratch);
    return ok;
}

void play_critical(const struct play_graph *g, const struct play_result *r, double *phase_s,
                   int phases)
{
    int task = -1;
    (void)phases; /* for the assert only */
    for (int i = 0; i < g->task_count; i++)
        if (task < 0 || r->end_at[i] > r->end_at[task])
            task = i;
    while (task >= 0) {
        const struct play_task *t = &g->tasks[task];
        int from = t->kind == PLAY_MEMBER ? r->gate[task] : task;
        assert(t->phase >= 0 && t->phase < phases);
        phase_s[t->phase] += sim_seconds(r->end_at[task] - r->begin_at[from]);
        task = r->cause[from];
    }
}
