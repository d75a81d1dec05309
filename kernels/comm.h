/* Messages between the ranks of one run. A backend moves groups of messages; the collectives are
 * built from those, so that counts, orders of summation and failures are the same everywhere.
 *
 * Every rank calls the same collectives of a communicator in the same order. A call that does not
 * finish within the time limit, and every call after another rank has failed, returns false with
 * ERR_DEVICE: the message names this rank, its phase and the ranks that were waited for. Nothing is
 * left to hang.
 *
 * Buffers are in host memory, unless the communicator's `memory` names a kernel backend: then they
 * are in that backend's, and messages wait for what it was asked to do. */
#ifndef KERNELS_COMM_H
#define KERNELS_COMM_H

#include <stdbool.h>
#include <stdint.h>

#include "base/err.h"
#include "kernels/kern.h"

#ifdef __cplusplus
extern "C" {
#endif

struct comm;

struct comm_message {
    int peer;
    void *data; /* read for sends, written for receives */
    int64_t bytes;
};

struct comm_options {
    int ranks;
    double timeout_s; /* of one call; 0 means 20 s */
    bool sleeps;      /* ranks outnumber cores: who waits leaves its core to the others */
};

/* What a rank does; `arg` is shared by the virtual ranks of one process. False ends the whole run.
 */
typedef bool comm_main(struct comm *world, void *arg, struct err *e);

struct comm_backend {
    const char *name; /* "loopback" */
    const char *what; /* one line for people */
    bool processes;   /* a process for each rank, started by a launcher; else all are in this one */
    bool (*available)(void);
    /* Runs `main` on every rank that lives in this process and returns when they are done; *e is
     * the first failure. The number of ranks that there are must be o->ranks (mpirun -np),
     * otherwise ERR_INPUT. */
    bool (*run)(const struct comm_options *o, comm_main *main, void *arg, struct err *e);
    /* One group of messages: all sends and receives together; deadlock-free in any order. A list
     * may have several of one peer, one after the other: the peer's list must have as many, of the
     * same bytes in the same order. memory: where the data is; NULL is the host. */
    bool (*messages)(struct comm *c, const struct kern_backend *memory,
                     const struct comm_message *sends, int send_count,
                     const struct comm_message *receives, int receive_count, struct err *e);
    /* Ranks of the same colour form a communicator, ordered by key; called by all ranks of c. */
    struct comm *(*split)(struct comm *c, int colour, int key, struct err *e);
    void (*release)(struct comm *c); /* of a split; accepts NULL */
};

/* All that this build has; NULL-terminated. NULL and ERR_INPUT for an unknown name. Name NULL: as
 * base/launcher.h says that this process was started: mpi by a launcher that speaks PMI, nccl by
 * another, loopback by none. ERR_INPUT too for several processes where none of that can be, and for
 * loopback in each of them: they would all do the whole run. */
extern const struct comm_backend *const comm_backends[];
const struct comm_backend *comm_backend_of(const char *name, struct err *e);

/* The part of a communicator that all backends have; each embeds it as its first member. */
struct comm {
    const struct comm_backend *backend;
    int rank, size;
    int world_rank;
    double timeout_s;
    const char **phase; /* shared by all communicators of a rank */
    /* Where the buffers of the collectives are; NULL: in host memory. Its owner sets it after run
     * or split gave the communicator; a split of it starts with NULL. */
    const struct kern_backend *memory;
    bool sleeps;   /* as in comm_options */
    bool overlaps; /* another thread of the rank may send while this one computes */
};

/* `bytes` bytes within `memory` (NULL: the host's); in the order of what it was asked to do. For
 * backends. */
bool comm_copy(const struct kern_backend *memory, void *to, const void *from, int64_t bytes,
               struct err *e);

/* Names what the rank does now, for messages; `name` must live as long as it is current. */
void comm_phase(struct comm *c, const char *name);

/* The rank's number in the error's text and its phase: "rank 3, kv gather: ...". */
bool comm_fail(const struct comm *c, struct err *e, const char *format, ...)
    __attribute__((format(printf, 3, 4)));

/* A group of messages with other ranks, as comm_backend.messages has it: from and to where the data
 * belongs, so that nothing need be packed. */
bool comm_exchange(struct comm *c, const struct comm_message *sends, int send_count,
                   const struct comm_message *receives, int receive_count, struct err *e);

/* Byte counts and offsets per peer; a rank's part for itself is copied. */
struct comm_parts {
    void *data;
    const int64_t *bytes, *offset; /* [size] */
};
bool comm_alltoallv(struct comm *c, struct comm_parts send, struct comm_parts receive,
                    struct err *e);

/* Every rank's `bytes` bytes, one after the other as `receive` says. */
bool comm_allgatherv(struct comm *c, const void *send, int64_t bytes, struct comm_parts receive,
                     struct err *e);

/* out[i] = sum over ranks, in rank order, of their send[rank * count + i]. scratch: size * count
 * floats. */
bool comm_reduce_scatter(struct comm *c, const float *send, float *out, int64_t count,
                         float *scratch, struct err *e);

/* One ring hop: to rank+1, from rank-1 (modulo size). */
bool comm_shift(struct comm *c, const void *send, void *receive, int64_t bytes, struct err *e);

/* The same while the rank computes: a thread of its own sends and receives. Until comm_shift_end,
 * which waits for it, the rank makes no other call on any communicator and leaves both buffers
 * alone (`send` may be read). Where that cannot be (device memory, an MPI for one thread only) the
 * hop is over when comm_shift_begin returns. comm_shift_end frees `hop` and takes NULL, so that it
 * can always be called. The bytes are moved by this machine's cores: what is hidden is the waiting,
 * and the copying as far as cores are free. */
struct comm_hop *comm_shift_begin(struct comm *c, const void *send, void *receive, int64_t bytes,
                                  struct err *e);
bool comm_shift_end(struct comm_hop *hop, struct err *e);

/* All ranks have come here. */
bool comm_barrier(struct comm *c, struct err *e);
/* The same, and the largest of their numbers. */
bool comm_largest(struct comm *c, double mine, double *largest, struct err *e);

/* Seconds of a clock that only goes forward. */
double comm_now_s(void);
/* Seconds that this thread was at work on a core. */
double comm_cpu_s(void);

#ifdef __cplusplus
}
#endif
#endif
