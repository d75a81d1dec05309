/* MPI (OpenMPI or MPICH). Messages are nonblocking and polled against the clock, so that a peer
 * that is gone ends in an error that names it and not in a hang. */
#include "kernels/comm.h"

#include <mpi.h>
#include <sched.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <time.h>
#include <unistd.h>

#include "base/launcher.h"

struct member {
    struct comm c;
    MPI_Comm mpi;
    const char *phase_now;
};

static struct member *member_of(struct comm *c)
{
    return (struct member *)c;
}

enum { PIECE = 1 << 30, TAG = 7 }; /* MPI counts are ints */

static int pieces_of(const struct comm_message *m, int count)
{
    int n = 0;
    for (int i = 0; i < count; i++)
        n += (int)((m[i].bytes + PIECE - 1) / PIECE);
    return n;
}

typedef int transfer(void *data, int bytes, int peer, MPI_Comm comm, MPI_Request *r);

static int send_piece(void *data, int bytes, int peer, MPI_Comm comm, MPI_Request *r)
{
    return MPI_Isend(data, bytes, MPI_BYTE, peer, TAG, comm, r);
}

static int receive_piece(void *data, int bytes, int peer, MPI_Comm comm, MPI_Request *r)
{
    return MPI_Irecv(data, bytes, MPI_BYTE, peer, TAG, comm, r);
}

static bool post(struct member *m, const struct comm_message *list, int count, transfer *f,
                 MPI_Request *requests, int *used, struct err *e)
{
    for (int i = 0; i < count; i++)
        for (int64_t at = 0; at < list[i].bytes; at += PIECE) {
            int64_t left = list[i].bytes - at;
            int bytes = left < PIECE ? (int)left : PIECE;
            if (f((char *)list[i].data + at, bytes, list[i].peer, m->mpi, &requests[*used]) !=
                MPI_SUCCESS)
                return comm_fail(&m->c, e, "MPI refuses a message of %d bytes with rank %d", bytes,
                                 list[i].peer);
            (*used)++;
        }
    return true;
}

/* The peers of the messages that are not done, for the error's text; returns the requests of all of
 * them. */
static int name_late(const struct comm_message *list, int count, const MPI_Request *requests,
                     char *text, size_t size)
{
    int at = 0, named = -1;
    size_t used = 0;
    text[0] = 0;
    for (int i = 0; i < count; i++) {
        int late = 0;
        for (int64_t b = 0; b < list[i].bytes; b += PIECE)
            late |= requests[at++] != MPI_REQUEST_NULL;
        if (late && list[i].peer != named && used + 16 < size) {
            named = list[i].peer;
            used += (size_t)snprintf(text + used, size - used, "%s%d", used ? ", " : "", named);
        }
    }
    return at;
}

/* Nothing has come from some peers, or some have not taken what was sent to them. */
static bool late(const struct member *m, const struct comm_message *sends, int send_count,
                 const struct comm_message *receives, int receive_count,
                 const MPI_Request *requests, struct err *e)
{
    char from[256], to[256];
    int received = name_late(receives, receive_count, requests, from, sizeof from);
    name_late(sends, send_count, requests + received, to, sizeof to);
    if (*from)
        return comm_fail(&m->c, e, "nothing from rank %s of %d within %.0f s: is it gone?", from,
                         m->c.size, m->c.timeout_s);
    return comm_fail(&m->c, e, "rank %s of %d has taken nothing within %.0f s: is it gone?", to,
                     m->c.size, m->c.timeout_s);
}

/* Between two looks. Where ranks outnumber cores a yield is not enough: the scheduler gives those
 * who only look as much time as those who compute. Who has waited long looks less often: what a
 * look takes is this rank's own CPU time, by which --clock cpu measures it. */
static void leave_core(bool sleeps, double waited_s)
{
    enum { SHORT_NS = 20000, LONG_NS = 1000000 };
    double ns = waited_s * 1e9 / 4;
    struct timespec nap = {.tv_nsec = ns < SHORT_NS ? SHORT_NS : ns > LONG_NS ? LONG_NS : (long)ns};
    if (sleeps)
        nanosleep(&nap, NULL);
    else
        sched_yield();
}

static bool wait_all(struct member *m, MPI_Request *requests, int count, int *done, struct err *e)
{
    double begun = comm_now_s(), now = begun;
    int n = 0;
    MPI_Status *status = malloc((size_t)(count + 1) * sizeof *status);
    int *index = malloc((size_t)(count + 1) * sizeof *index);
    int code = status && index ? MPI_SUCCESS : MPI_ERR_OTHER;
    for (; code == MPI_SUCCESS && *done < count && now - begun < m->c.timeout_s;
         now = comm_now_s()) {
        code = MPI_Testsome(count, requests, &n, index, status);
        if (code == MPI_SUCCESS && n != MPI_UNDEFINED)
            *done += n;
        if (n == 0)
            leave_core(m->c.sleeps, now - begun);
    }
    free(status);
    free(index);
    return code == MPI_SUCCESS ||
           comm_fail(&m->c, e, "MPI error %d in a group of messages: is a rank gone?", code);
}

static bool host_messages(struct comm *c, const struct comm_message *sends, int send_count,
                          const struct comm_message *receives, int receive_count, struct err *e)
{
    struct member *m = member_of(c);
    int most = pieces_of(sends, send_count) + pieces_of(receives, receive_count), used = 0,
        done = 0;
    MPI_Request *requests = malloc((size_t)(most + 1) * sizeof *requests);
    if (!requests)
        return comm_fail(c, e, "out of memory");
    bool ok = post(m, receives, receive_count, receive_piece, requests, &used, e) &&
              post(m, sends, send_count, send_piece, requests, &used, e) &&
              wait_all(m, requests, used, &done, e);
    if (ok && done < used)
        ok = late(m, sends, send_count, receives, receive_count, requests, e);
    free(requests);
    return ok;
}

/* The same messages with room of the host's, one after the other in `room`. */
static int64_t restage(const struct comm_message *list, int count, char *room, int64_t at,
                       struct comm_message *out)
{
    for (int i = 0; i < count; i++) {
        out[i] = (struct comm_message){list[i].peer, room + at, list[i].bytes};
        at += (list[i].bytes + 63) / 64 * 64;
    }
    return at;
}

/* Device memory goes through the host, so that any MPI will do. */
static bool mpi_messages(struct comm *c, const struct kern_backend *memory,
                         const struct comm_message *sends, int send_count,
                         const struct comm_message *receives, int receive_count, struct err *e)
{
    if (!memory || memory->host)
        return host_messages(c, sends, send_count, receives, receive_count, e);
    int64_t bytes = 64 * (int64_t)(send_count + receive_count + 1);
    for (int i = 0; i < send_count; i++)
        bytes += sends[i].bytes;
    for (int i = 0; i < receive_count; i++)
        bytes += receives[i].bytes;
    struct comm_message *list = calloc((size_t)(send_count + receive_count + 1), sizeof *list);
    char *room = malloc((size_t)bytes);
    bool ok = (list && room) || comm_fail(c, e, "out of memory");
    if (ok)
        restage(receives, receive_count, room, restage(sends, send_count, room, 0, list),
                list + send_count);
    for (int i = 0; ok && i < send_count; i++)
        ok = memory->get(list[i].data, sends[i].data, (size_t)sends[i].bytes, e);
    ok = ok && memory->wait(e) &&
         host_messages(c, list, send_count, list + send_count, receive_count, e);
    for (int i = 0; ok && i < receive_count; i++)
        ok = memory->put(receives[i].data, list[send_count + i].data, (size_t)receives[i].bytes, e);
    ok = ok && memory->wait(e); /* `room` is free again */
    free(room);
    free(list);
    return ok;
}

static struct comm *mpi_split(struct comm *c, int colour, int key, struct err *e)
{
    struct member *part = calloc(1, sizeof *part);
    if (!part) {
        comm_fail(c, e, "out of memory");
        return NULL;
    }
    *part = (struct member){.c = *c};
    part->c.memory = NULL;
    /* MPI_Comm_split has no time limit of its own; a barrier that has one goes first. */
    if (!comm_barrier(c, e) ||
        MPI_Comm_split(member_of(c)->mpi, colour, key, &part->mpi) != MPI_SUCCESS) {
        comm_fail(c, e, "MPI cannot split the ranks");
        free(part);
        return NULL;
    }
    MPI_Comm_set_errhandler(part->mpi, MPI_ERRORS_RETURN);
    MPI_Comm_rank(part->mpi, &part->c.rank);
    MPI_Comm_size(part->mpi, &part->c.size);
    return &part->c;
}

static void mpi_release(struct comm *c)
{
    if (!c)
        return;
    MPI_Comm_free(&member_of(c)->mpi);
    free(c);
}

/* ---- start and end ---- */

/* A rank that never starts leaves the others in MPI_Init for ever; nothing but a signal gets out of
 * it. (snprintf of a whole number takes no lock and no memory.) */
static void init_timed_out(int signal_number)
{
    char text[96];
    (void)signal_number;
    int n = snprintf(text, sizeof text,
                     "shardwise: rank %d, start: not all ranks have started (MPI_Init)\n",
                     launcher_of_process().rank);
    ssize_t ignored = write(2, text, (size_t)n);
    (void)ignored;
    _exit(ERR_DEVICE);
}

static bool mpi_start(double timeout_s, int *level, struct err *e)
{
    struct sigaction action = {.sa_handler = init_timed_out}, before;
    sigaction(SIGALRM, &action, &before);
    alarm((unsigned)timeout_s + 1);
    int code = MPI_Init_thread(NULL, NULL, MPI_THREAD_SERIALIZED, level);
    alarm(0);
    sigaction(SIGALRM, &before, NULL);
    if (code != MPI_SUCCESS)
        return err_set(e, ERR_DEVICE, err_at_name("MPI"), "MPI_Init fails with code %d", code);
    MPI_Comm_set_errhandler(MPI_COMM_WORLD, MPI_ERRORS_RETURN);
    return true;
}

static bool wrong_count(int wanted, int found, int rank, struct err *e)
{
    struct launcher l = launcher_of_process();
    char at[48];
    snprintf(at, sizeof at, "rank %d, start", rank);
    if (found == 1 && l.size > 1)
        return err_set(e, ERR_INPUT, err_at_name(at),
                       "%s started %d processes, but MPI sees this one only: they do not speak the "
                       "same PMI; want mpirun, or another srun --mpi (srun --mpi=list)",
                       l.name, l.size);
    return err_set(e, ERR_INPUT, err_at_name(at),
                   "the plan is for %d ranks, %d were started: want mpirun -np %d", wanted, found,
                   wanted);
}

static bool mpi_run(const struct comm_options *o, comm_main *f, void *arg, struct err *e)
{
    struct member m = {
        .c = {.timeout_s = o->timeout_s > 0 ? o->timeout_s : 20, .sleeps = o->sleeps},
        .mpi = MPI_COMM_WORLD};
    int level = MPI_THREAD_SINGLE;
    extern const struct comm_backend comm_mpi;
    m.c.backend = &comm_mpi;
    m.c.phase = &m.phase_now;
    if (!mpi_start(m.c.timeout_s, &level, e))
        return false;
    m.c.overlaps = level >= MPI_THREAD_SERIALIZED;
    MPI_Comm_rank(m.mpi, &m.c.rank);
    MPI_Comm_size(m.mpi, &m.c.size);
    m.c.world_rank = m.c.rank;
    bool ok = m.c.size == o->ranks && f(&m.c, arg, e);
    if (m.c.size != o->ranks) {
        wrong_count(o->ranks, m.c.size, m.c.rank, e);
        MPI_Finalize(); /* all ranks see the same and leave in peace */
        return false;
    }
    if (!ok) {
        fprintf(stderr, "shardwise: %s\n", e->text);
        fflush(NULL);
        MPI_Abort(MPI_COMM_WORLD, e->code);
    }
    MPI_Finalize();
    return ok;
}

static bool mpi_available(void)
{
    return true;
}

const struct comm_backend comm_mpi = {
    .name = "mpi",
    .what = "one process a rank, started by mpirun or srun",
    .processes = true,
    .available = mpi_available,
    .run = mpi_run,
    .messages = mpi_messages,
    .split = mpi_split,
    .release = mpi_release,
};
