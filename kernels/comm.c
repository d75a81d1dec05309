/* Collectives from groups of messages, and the list of backends. */
#include "kernels/comm.h"

#include <pthread.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "base/launcher.h"

extern const struct comm_backend comm_loopback;
#ifdef SHARDWISE_HAVE_MPI
extern const struct comm_backend comm_mpi;
#endif
#ifdef SHARDWISE_HAVE_NCCL
extern const struct comm_backend comm_nccl;
#endif

const struct comm_backend *const comm_backends[] = {
    &comm_loopback,
#ifdef SHARDWISE_HAVE_MPI
    &comm_mpi,
#endif
#ifdef SHARDWISE_HAVE_NCCL
    &comm_nccl,
#endif
    NULL,
};

static const struct comm_backend *find(const char *name)
{
    for (int i = 0; comm_backends[i]; i++)
        if (strcmp(comm_backends[i]->name, name) == 0)
            return comm_backends[i];
    return NULL;
}

static bool no_backend(const char *name, struct err *e)
{
    char known[128] = "";
    for (int i = 0; comm_backends[i]; i++) {
        size_t used = strlen(known);
        snprintf(known + used, sizeof known - used, "%s%s", i ? ", " : "", comm_backends[i]->name);
    }
    return err_set(e, ERR_INPUT, err_at_name("--comm"), "'%s': this build has %s", name, known);
}

static const char *as_started(const struct launcher *l)
{
    return l->size > 1 && !l->mpi && find("nccl") ? "nccl" : l->mpi ? "mpi" : "loopback";
}

const struct comm_backend *comm_backend_of(const char *name, struct err *e)
{
    struct launcher l = launcher_of_process();
    const char *wanted = name ? name : as_started(&l);
    const struct comm_backend *b = find(wanted);
    if (b && (b->processes || l.size == 1))
        return b;
    if (!b)
        no_backend(wanted, e);
    else
        err_set(e, ERR_INPUT, err_at_name("--comm"),
                "%s started %d processes, and each would do the whole run: want %s, or one process "
                "for loopback",
                l.name, l.size,
                l.mpi ? "--comm mpi" : "mpirun, srun --mpi=pmix or --comm nccl (docs/cluster.md)");
    return NULL;
}

void comm_phase(struct comm *c, const char *name)
{
    *c->phase = name;
}

bool comm_fail(const struct comm *c, struct err *e, const char *format, ...)
{
    char text[512], at[96];
    va_list args;
    va_start(args, format);
    vsnprintf(text, sizeof text, format, args);
    va_end(args);
    snprintf(at, sizeof at, "rank %d, %s", c->world_rank, *c->phase ? *c->phase : "start");
    return err_set(e, ERR_DEVICE, err_at_name(at), "%s", text);
}

static double clock_s(clockid_t clock)
{
    struct timespec t;
    clock_gettime(clock, &t);
    return (double)t.tv_sec + 1e-9 * (double)t.tv_nsec;
}

double comm_now_s(void)
{
    return clock_s(CLOCK_MONOTONIC);
}

double comm_cpu_s(void)
{
    return clock_s(CLOCK_THREAD_CPUTIME_ID);
}

/* Messages for and from all peers but the rank itself, nearest higher rank first so that not all
 * begin with rank 0. */
static int list_peers(const struct comm *c, struct comm_parts p, int direction,
                      struct comm_message *out)
{
    int n = 0;
    for (int k = 1; k < c->size; k++) {
        int peer = (c->rank + direction * k + c->size) % c->size;
        if (p.bytes[peer] > 0)
            out[n++] = (struct comm_message){peer, (char *)p.data + p.offset[peer], p.bytes[peer]};
    }
    return n;
}

bool comm_copy(const struct kern_backend *memory, void *to, const void *from, int64_t bytes,
               struct err *e)
{
    if (bytes == 0)
        return true;
    if (!memory || memory->host) {
        memcpy(to, from, (size_t)bytes);
        return true;
    }
    struct kern_copy c = {from, to, 1, bytes, bytes, bytes};
    return memory->copy(&c, 1, e);
}

static bool exchange(struct comm *c, const struct kern_backend *memory, struct comm_parts send,
                     struct comm_parts receive, struct err *e)
{
    struct comm_message *list = malloc(2 * (size_t)c->size * sizeof *list);
    if (!list)
        return comm_fail(c, e, "out of memory");
    int sends = list_peers(c, send, 1, list), receives = list_peers(c, receive, -1, list + sends);
    bool ok = c->backend->messages(c, memory, list, sends, list + sends, receives, e) &&
              comm_copy(memory, (char *)receive.data + receive.offset[c->rank],
                        (const char *)send.data + send.offset[c->rank], send.bytes[c->rank], e);
    free(list);
    return ok;
}

bool comm_exchange(struct comm *c, const struct comm_message *sends, int send_count,
                   const struct comm_message *receives, int receive_count, struct err *e)
{
    return c->backend->messages(c, c->memory, sends, send_count, receives, receive_count, e);
}

bool comm_alltoallv(struct comm *c, struct comm_parts send, struct comm_parts receive,
                    struct err *e)
{
    return exchange(c, c->memory, send, receive, e);
}

/* One part of `bytes` bytes to everybody. */
static bool spread(struct comm *c, const struct kern_backend *memory, const void *send,
                   int64_t bytes, struct comm_parts receive, struct err *e)
{
    int64_t *same = malloc(2 * (size_t)c->size * sizeof *same);
    if (!same)
        return comm_fail(c, e, "out of memory");
    for (int i = 0; i < c->size; i++)
        same[i] = bytes, same[c->size + i] = 0;
    struct comm_parts out = {(void *)(uintptr_t)send, same, same + c->size};
    bool ok = exchange(c, memory, out, receive, e);
    free(same);
    return ok;
}

bool comm_allgatherv(struct comm *c, const void *send, int64_t bytes, struct comm_parts receive,
                     struct err *e)
{
    return spread(c, c->memory, send, bytes, receive, e);
}

enum { SUMMED = 4096 };

static void add_row(float *restrict sum, const float *restrict row, int64_t count, bool first)
{
    for (int64_t i = 0; i < count; i++)
        sum[i] = (first ? 0 : sum[i]) + row[i];
}

/* In rank order, on the host or by the backend that has the memory. */
static bool sum_parts(const struct kern_backend *memory, const float *parts, int size, float *out,
                      int64_t count, struct err *e)
{
    if (memory && !memory->host) {
        bool ok = memory->clear(out, (size_t)count * sizeof *out, e);
        for (int r = 0; ok && r < size; r++) {
            struct kern_scatter add = {
                .src = parts + r * count, .dst = out, .count = 1, .width = count};
            ok = memory->scatter_add(&add, 1, e);
        }
        return ok;
    }
    for (int64_t at = 0; at < count; at += SUMMED) /* out stays in the cache over all ranks */
        for (int r = 0; r < size; r++)
            add_row(out + at, parts + r * count + at, count - at < SUMMED ? count - at : SUMMED,
                    r == 0);
    return true;
}

bool comm_reduce_scatter(struct comm *c, const float *send, float *out, int64_t count,
                         float *scratch, struct err *e)
{
    int64_t *parts = malloc(2 * (size_t)c->size * sizeof *parts);
    if (!parts)
        return comm_fail(c, e, "out of memory");
    for (int i = 0; i < c->size; i++) {
        parts[i] = count * (int64_t)sizeof *send;
        parts[c->size + i] = i * parts[i];
    }
    struct comm_parts from = {(void *)(uintptr_t)send, parts, parts + c->size}, to = from;
    to.data = scratch;
    bool ok = exchange(c, c->memory, from, to, e) &&
              sum_parts(c->memory, scratch, c->size, out, count, e);
    free(parts);
    return ok;
}

bool comm_shift(struct comm *c, const void *send, void *receive, int64_t bytes, struct err *e)
{
    struct comm_message out = {(c->rank + 1) % c->size, (void *)(uintptr_t)send, bytes};
    struct comm_message in = {(c->rank + c->size - 1) % c->size, receive, bytes};
    if (c->size == 1)
        return comm_copy(c->memory, receive, send, bytes, e);
    return c->backend->messages(c, c->memory, &out, 1, &in, 1, e);
}

/* ---- a hop beneath the computing ---- */

struct comm_hop {
    struct comm *c;
    struct comm_message out, in;
    pthread_t thread;
    bool running, slept, ok;
    struct err e;
};

static void *carry_out(void *arg)
{
    struct comm_hop *h = arg;
    h->ok = h->c->backend->messages(h->c, NULL, &h->out, 1, &h->in, 1, &h->e);
    return NULL;
}

struct comm_hop *comm_shift_begin(struct comm *c, const void *send, void *receive, int64_t bytes,
                                  struct err *e)
{
    bool beneath = c->overlaps && c->size > 1 && (!c->memory || c->memory->host);
    struct comm_hop *h = calloc(1, sizeof *h);
    if (!h) {
        comm_fail(c, e, "out of memory");
        return NULL;
    }
    *h = (struct comm_hop){.c = c, .slept = c->sleeps, .ok = true};
    h->out = (struct comm_message){(c->rank + 1) % c->size, (void *)(uintptr_t)send, bytes};
    h->in = (struct comm_message){(c->rank + c->size - 1) % c->size, receive, bytes};
    c->sleeps = c->sleeps || beneath; /* its core is at work on something else */
    h->running = beneath && pthread_create(&h->thread, NULL, carry_out, h) == 0;
    if (!h->running && !comm_shift(c, send, receive, bytes, e)) {
        free(h);
        return NULL;
    }
    return h;
}

bool comm_shift_end(struct comm_hop *h, struct err *e)
{
    if (!h)
        return true;
    if (h->running)
        pthread_join(h->thread, NULL);
    h->c->sleeps = h->slept;
    bool ok = h->ok;
    if (!ok && e->code == ERR_NONE)
        *e = h->e;
    free(h);
    return ok;
}

bool comm_largest(struct comm *c, double mine, double *largest, struct err *e)
{
    double *all = calloc((size_t)c->size, sizeof *all);
    int64_t *parts = malloc(2 * (size_t)c->size * sizeof *parts);
    bool ok = all && parts;
    for (int i = 0; ok && i < c->size; i++)
        parts[i] = sizeof mine, parts[c->size + i] = i * (int64_t)sizeof mine;
    struct comm_parts to = {all, parts, parts + c->size};
    ok = ok ? spread(c, NULL, &mine, sizeof mine, to, e) : comm_fail(c, e, "out of memory");
    *largest = mine;
    for (int i = 0; ok && i < c->size; i++)
        *largest = all[i] > *largest ? all[i] : *largest;
    free(all);
    free(parts);
    return ok;
}

bool comm_barrier(struct comm *c, struct err *e)
{
    double ignored;
    return comm_largest(c, 0, &ignored, e);
}
