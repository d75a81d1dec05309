/* Virtual ranks: one thread each, messages are copies from the sender's buffer by the receiver. */
#include "kernels/comm.h"

#include <errno.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

struct slot { /* a group's messages under way from a rank to another */
    const struct comm_message *list;
    int count;
    bool full;
    bool taken; /* the receiver is at work on them: the sender may not leave, even if the run has
                   failed */
};

/* A communicator's shared side. */
struct room {
    struct world *world;
    struct room *before; /* the world's rooms live as long as the world: a rank that failed never
                            came for its own */
    int size;
    struct slot *slots; /* [from][to] */
};

struct world {
    pthread_mutex_t lock;
    pthread_cond_t change;
    bool failed;
    struct err first; /* of the rank that failed first */
    struct room all;
    struct room *rooms; /* made by splits, the last one first */
    /* split: every rank notes what it wants, rank 0 makes the rooms; barriers between */
    int *colour, *key;
    struct room **made; /* [rank] */
};

struct member {
    struct comm c;
    struct room *room;
    const char *phase_now;
};

struct thread {
    struct member m;
    comm_main *main;
    void *arg;
    pthread_t id;
    struct err e;
    bool ok;
};

static struct member *member_of(struct comm *c)
{
    return (struct member *)c;
}

static void world_fail(struct world *w, const struct err *e)
{
    if (!w->failed)
        w->first = *e;
    w->failed = true;
    pthread_cond_broadcast(&w->change);
}

static struct timespec deadline_of(double timeout_s)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    double whole = (double)(int64_t)timeout_s;
    t.tv_sec += (time_t)whole;
    t.tv_nsec += (long)((timeout_s - whole) * 1e9);
    if (t.tv_nsec >= 1000000000)
        t.tv_sec++, t.tv_nsec -= 1000000000;
    return t;
}

/* With the lock held: waits until slot->full == full. */
static bool wait_slot(struct member *m, const struct slot *s, bool full, int peer,
                      const struct timespec *deadline, struct err *e)
{
    struct world *w = m->room->world;
    while (s->full != full && !w->failed)
        if (pthread_cond_timedwait(&w->change, &w->lock, deadline) == ETIMEDOUT)
            return comm_fail(&m->c, e, "nothing from rank %d of %d within %.0f s: is it gone?",
                             peer, m->c.size, m->c.timeout_s);
    return w->failed ? comm_fail(&m->c, e, "stopped, another rank failed: %s", w->first.text)
                     : true;
}

/* How many of the list, from the first on, are its peer's. */
static int of_one_peer(const struct comm_message *list, int count)
{
    int n = 0;
    while (n < count && list[n].peer == list[0].peer)
        n++;
    return n;
}

static bool sizes_agree(const struct member *m, const struct slot *s, const struct comm_message *in,
                        int count, struct err *e)
{
    if (s->count != count)
        return comm_fail(&m->c, e, "rank %d sends %d messages, want %d", in->peer, s->count, count);
    for (int i = 0; i < count; i++)
        if (s->list[i].bytes != in[i].bytes)
            return comm_fail(&m->c, e, "rank %d sends %lld bytes, want %lld", in->peer,
                             (long long)s->list[i].bytes, (long long)in[i].bytes);
    return true;
}

/* All `count` messages of one peer. */
static bool receive_from(struct member *m, const struct kern_backend *memory,
                         const struct comm_message *in, int count, const struct timespec *deadline,
                         struct err *e)
{
    struct world *w = m->room->world;
    struct slot *s = &m->room->slots[in->peer * m->room->size + m->c.rank];
    if (!wait_slot(m, s, true, in->peer, deadline, e) || !sizes_agree(m, s, in, count, e))
        return false;
    bool ok = true;
    s->taken = true;
    pthread_mutex_unlock(&w->lock); /* the sender leaves its buffer alone until the slot is empty */
    for (int i = 0; ok && i < count; i++)
        ok = comm_copy(memory, in[i].data, s->list[i].data, in[i].bytes, e);
    ok = ok && (!memory || memory->wait(e));
    pthread_mutex_lock(&w->lock);
    s->full = s->taken = false;
    pthread_cond_broadcast(&w->change);
    return ok;
}

static bool loopback_messages(struct comm *c, const struct kern_backend *memory,
                              const struct comm_message *sends, int send_count,
                              const struct comm_message *receives, int receive_count, struct err *e)
{
    struct member *m = member_of(c);
    struct world *w = m->room->world;
    struct timespec deadline = deadline_of(c->timeout_s);
    struct slot *mine = &m->room->slots[c->rank * m->room->size];
    bool ok = !memory || memory->wait(e); /* what is sent has been computed */
    pthread_mutex_lock(&w->lock);
    for (int i = 0, n; ok && i < send_count; i += n) { /* empty: the last group waited for that */
        n = of_one_peer(sends + i, send_count - i);
        mine[sends[i].peer] = (struct slot){sends + i, n, true, false};
    }
    pthread_cond_broadcast(&w->change);
    for (int i = 0, n; ok && i < receive_count; i += n) {
        n = of_one_peer(receives + i, receive_count - i);
        ok = receive_from(m, memory, receives + i, n, &deadline, e);
    }
    for (int i = 0; ok && i < send_count; i++)
        ok = wait_slot(m, &mine[sends[i].peer], false, sends[i].peer, &deadline, e);
    if (!ok)
        world_fail(w, e);
    for (int i = 0; i < send_count; i++)
        while (mine[sends[i].peer].taken)
            pthread_cond_wait(&w->change, &w->lock);
    pthread_mutex_unlock(&w->lock);
    return ok;
}

/* ---- split ---- */

static struct room *room_new(struct world *w, int size)
{
    struct room *r = calloc(1, sizeof *r);
    struct slot *slots = calloc((size_t)size * (size_t)size, sizeof *slots);
    if (!r || !slots) {
        free(r);
        free(slots);
        return NULL;
    }
    *r = (struct room){.world = w, .before = w->rooms, .size = size, .slots = slots};
    w->rooms = r;
    return r;
}

static void make_rooms(struct world *w)
{
    for (int i = 0; i < w->all.size; i++) {
        int first = 0, size = 0;
        while (w->colour[first] != w->colour[i])
            first++;
        for (int j = 0; j < w->all.size; j++)
            size += w->colour[j] == w->colour[i];
        w->made[i] = first < i ? w->made[first] : room_new(w, size);
    }
}

/* Members with a smaller key, or the same and a smaller rank, come first. */
static int place_in_room(const struct world *w, int rank)
{
    int before = 0;
    for (int j = 0; j < w->all.size; j++)
        if (w->colour[j] == w->colour[rank])
            before += w->key[j] < w->key[rank] || (w->key[j] == w->key[rank] && j < rank);
    return before;
}

static struct comm *loopback_split(struct comm *c, int colour, int key, struct err *e)
{
    struct member *m = member_of(c), *part = calloc(1, sizeof *part);
    struct world *w = m->room->world;
    if (!part || !comm_barrier(c, e)) {
        free(part);
        return NULL;
    }
    pthread_mutex_lock(&w->lock);
    w->colour[c->rank] = colour, w->key[c->rank] = key;
    pthread_mutex_unlock(&w->lock);
    bool ok = comm_barrier(c, e);
    if (ok && c->rank == 0)
        make_rooms(w);
    ok = ok && comm_barrier(c, e);
    if (!ok || !w->made[c->rank]) {
        free(part);
        comm_fail(c, e, "out of memory");
        return NULL;
    }
    *part = (struct member){.c = *c, .room = w->made[c->rank]};
    part->c.memory = NULL;
    part->c.rank = place_in_room(w, c->rank);
    part->c.size = part->room->size;
    return &part->c;
}

static void loopback_release(struct comm *c)
{
    free(c);
}

/* ---- the run ---- */

static void *thread_main(void *arg)
{
    struct thread *t = arg;
    t->ok = t->main(&t->m.c, t->arg, &t->e);
    if (!t->ok) {
        struct world *w = t->m.room->world;
        pthread_mutex_lock(&w->lock);
        world_fail(w, &t->e);
        pthread_mutex_unlock(&w->lock);
    }
    return NULL;
}

static bool world_new(struct world *w, int ranks)
{
    *w = (struct world){.all = {.world = w, .size = ranks}};
    w->all.slots = calloc((size_t)ranks * (size_t)ranks, sizeof *w->all.slots);
    w->colour = calloc((size_t)ranks, sizeof *w->colour);
    w->key = calloc((size_t)ranks, sizeof *w->key);
    w->made = calloc((size_t)ranks, sizeof *w->made);
    pthread_condattr_t attr;
    pthread_condattr_init(&attr);
    pthread_condattr_setclock(&attr, CLOCK_MONOTONIC);
    pthread_mutex_init(&w->lock, NULL);
    pthread_cond_init(&w->change, &attr);
    pthread_condattr_destroy(&attr);
    return w->all.slots && w->colour && w->key && w->made;
}

static void world_free(struct world *w)
{
    pthread_cond_destroy(&w->change);
    pthread_mutex_destroy(&w->lock);
    while (w->rooms) {
        struct room *r = w->rooms;
        w->rooms = r->before;
        free(r->slots);
        free(r);
    }
    free(w->all.slots);
    free(w->colour);
    free(w->key);
    free(w->made);
}

extern const struct comm_backend comm_loopback;

static int start_threads(struct world *w, struct thread *t, const struct comm_options *o,
                         comm_main *f, void *arg)
{
    for (int r = 0; r < o->ranks; r++) {
        t[r] = (struct thread){.main = f, .arg = arg};
        t[r].m = (struct member){.c = {.backend = &comm_loopback,
                                       .rank = r,
                                       .size = o->ranks,
                                       .world_rank = r,
                                       .timeout_s = o->timeout_s > 0 ? o->timeout_s : 20,
                                       .sleeps = o->sleeps,
                                       .overlaps = true},
                                 .room = &w->all};
        t[r].m.c.phase = &t[r].m.phase_now;
        if (pthread_create(&t[r].id, NULL, thread_main, &t[r]) != 0)
            return r;
    }
    return o->ranks;
}

static bool loopback_run(const struct comm_options *o, comm_main *f, void *arg, struct err *e)
{
    enum { MOST = 256 };
    if (o->ranks < 1 || o->ranks > MOST)
        return err_set(e, ERR_INPUT, err_at_name("--comm loopback"), "%d ranks, want 1 to %d",
                       o->ranks, MOST);
    struct world w;
    struct thread *threads = calloc((size_t)o->ranks, sizeof *threads);
    bool ok = world_new(&w, o->ranks) && threads;
    int started = ok ? start_threads(&w, threads, o, f, arg) : 0;
    if (started < o->ranks) {
        ok = err_set(e, ERR_SYSTEM, err_at_name("--comm loopback"),
                     "cannot start rank %d: out of memory or threads", started);
        pthread_mutex_lock(&w.lock);
        world_fail(&w, e);
        pthread_mutex_unlock(&w.lock);
    }
    for (int r = 0; r < started; r++)
        pthread_join(threads[r].id, NULL);
    if (w.failed) {
        ok = false;
        err_set(e, w.first.code, (struct err_at){0}, "%s", w.first.text);
    }
    free(threads);
    world_free(&w);
    return ok;
}

static bool loopback_available(void)
{
    return true;
}

const struct comm_backend comm_loopback = {
    .name = "loopback",
    .what = "virtual ranks in one process, a thread each",
    .available = loopback_available,
    .run = loopback_run,
    .messages = loopback_messages,
    .split = loopback_split,
    .release = loopback_release,
};
