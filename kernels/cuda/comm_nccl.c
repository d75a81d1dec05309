/* NCCL: one process a rank, one GPU a process. The library is loaded when asked for, so that the
 * program starts where there is none; the communicators do not block (NCCL 2.18 and later), so that
 * a peer that is gone ends in an error that names the phase and not in a hang.
 *
 * Ranks come from the launcher's environment (mpirun, srun or torchrun), and meet at
 * NCCL_COMM_ID=host:port, an address of rank 0 that NCCL itself reads (NCCL user guide, environment
 * variables). Messages whose data is in host memory, barriers among them, go through a buffer on
 * the GPU. */
#include <cuda_runtime_api.h>
#include <dlfcn.h>
#include <nccl.h>
#include <sched.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/launcher.h"
#include "kernels/comm.h"

extern const struct comm_backend comm_nccl;

/* The functions used, by name. */
struct library {
    void *handle;
    ncclResult_t (*get_version)(int *version);
    ncclResult_t (*get_unique_id)(ncclUniqueId *id);
    ncclResult_t (*init)(ncclComm_t *comm, int ranks, ncclUniqueId id, int rank,
                         ncclConfig_t *config);
    ncclResult_t (*split)(ncclComm_t comm, int colour, int key, ncclComm_t *out,
                          ncclConfig_t *config);
    ncclResult_t (*state)(ncclComm_t comm, ncclResult_t *state);
    ncclResult_t (*finalize)(ncclComm_t comm);
    ncclResult_t (*destroy)(ncclComm_t comm);
    ncclResult_t (*abort)(ncclComm_t comm);
    ncclResult_t (*group_start)(void);
    ncclResult_t (*group_end)(void);
    ncclResult_t (*send)(const void *p, size_t count, ncclDataType_t type, int peer,
                         ncclComm_t comm, cudaStream_t stream);
    ncclResult_t (*recv)(void *p, size_t count, ncclDataType_t type, int peer, ncclComm_t comm,
                         cudaStream_t stream);
    const char *(*error)(ncclResult_t result);
    const char *(*last)(ncclComm_t comm);
};

static const struct {
    const char *name;
    size_t at;
} symbols[] = {
    {"ncclGetVersion", offsetof(struct library, get_version)},
    {"ncclGetUniqueId", offsetof(struct library, get_unique_id)},
    {"ncclCommInitRankConfig", offsetof(struct library, init)},
    {"ncclCommSplit", offsetof(struct library, split)},
    {"ncclCommGetAsyncError", offsetof(struct library, state)},
    {"ncclCommFinalize", offsetof(struct library, finalize)},
    {"ncclCommDestroy", offsetof(struct library, destroy)},
    {"ncclCommAbort", offsetof(struct library, abort)},
    {"ncclGroupStart", offsetof(struct library, group_start)},
    {"ncclGroupEnd", offsetof(struct library, group_end)},
    {"ncclSend", offsetof(struct library, send)},
    {"ncclRecv", offsetof(struct library, recv)},
    {"ncclGetErrorString", offsetof(struct library, error)},
    {"ncclGetLastError", offsetof(struct library, last)},
};

enum { VERSION_LEAST = 21800 }; /* ncclCommSplit, communicators that do not block */

static bool library_open(struct library *l, struct err *e)
{
    const char *path = getenv("SHARDWISE_NCCL"), *name = path ? path : "libnccl.so.2";
    struct err_at at = err_at_name("--comm nccl");
    *l = (struct library){.handle = dlopen(name, RTLD_NOW | RTLD_LOCAL)};
    if (!l->handle)
        return err_set(
            e, ERR_DEVICE, at,
            "cannot load %s: %s; want NCCL 2.18 or later in LD_LIBRARY_PATH, or its path in "
            "SHARDWISE_NCCL",
            name, dlerror());
    for (size_t i = 0; i < sizeof symbols / sizeof *symbols; i++) {
        void *f = dlsym(l->handle, symbols[i].name);
        if (!f)
            return err_set(e, ERR_DEVICE, at, "%s has no %s: want NCCL 2.18 or later", name,
                           symbols[i].name);
        memcpy((char *)l + symbols[i].at, &f, sizeof f);
    }
    int version = 0;
    l->get_version(&version);
    return version >= VERSION_LEAST ||
           err_set(e, ERR_DEVICE, at, "%s is NCCL %d.%d.%d, want 2.18 or later", name,
                   version / 10000, version / 100 % 100, version % 100);
}

struct member {
    struct comm c;
    const struct library *nccl;
    ncclComm_t comm;
    cudaStream_t stream;
    void *stage; /* on the GPU: messages whose data is the host's */
    int64_t stage_bytes;
    const char *phase_now;
};

static struct member *member_of(struct comm *c)
{
    return (struct member *)c;
}

static bool cuda_good(struct member *m, cudaError_t status, const char *what, struct err *e)
{
    return status == cudaSuccess || comm_fail(&m->c, e, "%s: %s (%s)", what,
                                              cudaGetErrorString(status), cudaGetErrorName(status));
}

/* Until NCCL has taken in what it was asked to do, within the time limit. */
static bool settled(struct member *m, ncclComm_t comm, ncclResult_t result, const char *what,
                    struct err *e)
{
    double end = comm_now_s() + m->c.timeout_s;
    while (result == ncclInProgress && comm && comm_now_s() < end) {
        sched_yield();
        if (m->nccl->state(comm, &result) != ncclSuccess)
            result = ncclInternalError;
    }
    if (result == ncclSuccess)
        return true;
    if (result == ncclInProgress)
        return comm_fail(&m->c, e, "%s: not all of %d ranks within %.0f s: is one gone?", what,
                         m->c.size, m->c.timeout_s);
    return comm_fail(&m->c, e, "%s: NCCL says %s; %s", what, m->nccl->error(result),
                     m->nccl->last(comm));
}

static bool finished(struct member *m, struct err *e) /* on the GPU */
{
    double end = comm_now_s() + m->c.timeout_s;
    cudaError_t status;
    while ((status = cudaStreamQuery(m->stream)) == cudaErrorNotReady) {
        ncclResult_t state = ncclSuccess;
        m->nccl->state(m->comm, &state);
        if (state != ncclSuccess && state != ncclInProgress)
            return comm_fail(&m->c, e, "messages: NCCL says %s; %s", m->nccl->error(state),
                             m->nccl->last(m->comm));
        if (comm_now_s() > end)
            return comm_fail(&m->c, e,
                             "messages with %d ranks not done within %.0f s: is one gone?",
                             m->c.size, m->c.timeout_s);
        sched_yield();
    }
    return cuda_good(m, status, "messages", e);
}

/* A communicator that does not block may answer so before a call is through. */
static bool taken(ncclResult_t result)
{
    return result == ncclSuccess || result == ncclInProgress;
}

static bool post(struct member *m, const struct comm_message *sends, int send_count,
                 const struct comm_message *receives, int receive_count, struct err *e)
{
    const struct library *l = m->nccl;
    ncclResult_t bad = l->group_start();
    for (int i = 0; i < send_count && taken(bad); i++)
        bad = l->send(sends[i].data, (size_t)sends[i].bytes, ncclInt8, sends[i].peer, m->comm,
                      m->stream);
    for (int i = 0; i < receive_count && taken(bad); i++)
        bad = l->recv(receives[i].data, (size_t)receives[i].bytes, ncclInt8, receives[i].peer,
                      m->comm, m->stream);
    ncclResult_t end = l->group_end();
    return settled(m, m->comm, taken(bad) ? end : bad, "messages", e) && finished(m, e);
}

static int64_t rounded(int64_t bytes)
{
    return (bytes + 255) / 256 * 256;
}

static int64_t room_for(const struct comm_message *list, int count)
{
    int64_t sum = 0;
    for (int i = 0; i < count; i++)
        sum += rounded(list[i].bytes);
    return sum;
}

static bool stage_at_least(struct member *m, int64_t bytes, struct err *e)
{
    if (bytes <= m->stage_bytes)
        return true;
    cudaFree(m->stage);
    m->stage = NULL;
    m->stage_bytes = 0;
    if (!cuda_good(m, cudaMalloc(&m->stage, (size_t)bytes), "room for messages", e))
        return false;
    m->stage_bytes = bytes;
    return true;
}

/* Data of the host's: up, across, down. */
static bool staged(struct member *m, const struct comm_message *sends, int send_count,
                   const struct comm_message *receives, int receive_count, struct err *e)
{
    int count = send_count + receive_count;
    struct comm_message *list = malloc((size_t)(count + 1) * sizeof *list);
    bool ok = (list || comm_fail(&m->c, e, "out of memory")) &&
              stage_at_least(m, room_for(sends, send_count) + room_for(receives, receive_count), e);
    char *at = m->stage;
    for (int i = 0; ok && i < count; i++) {
        const struct comm_message *one = i < send_count ? &sends[i] : &receives[i - send_count];
        list[i] = (struct comm_message){one->peer, at, one->bytes};
        at += rounded(one->bytes);
        if (i < send_count)
            ok = cuda_good(m,
                           cudaMemcpyAsync(list[i].data, one->data, (size_t)one->bytes,
                                           cudaMemcpyHostToDevice, m->stream),
                           "messages", e);
    }
    ok = ok && post(m, list, send_count, list + send_count, receive_count, e);
    for (int i = 0; ok && i < receive_count; i++)
        ok =
            cuda_good(m,
                      cudaMemcpyAsync(receives[i].data, list[send_count + i].data,
                                      (size_t)receives[i].bytes, cudaMemcpyDeviceToHost, m->stream),
                      "messages", e);
    free(list);
    return ok && finished(m, e);
}

static bool nccl_messages(struct comm *c, const struct kern_backend *memory,
                          const struct comm_message *sends, int send_count,
                          const struct comm_message *receives, int receive_count, struct err *e)
{
    struct member *m = member_of(c);
    if (send_count + receive_count == 0)
        return true;
    if (!memory || memory->host)
        return staged(m, sends, send_count, receives, receive_count, e);
    return memory->wait(e) && post(m, sends, send_count, receives, receive_count, e);
}

/* ---- communicators ---- */

static void member_close(struct member *m, bool in_peace)
{
    if (m->comm && in_peace) {
        struct err ignored = {0};
        settled(m, m->comm, m->nccl->finalize(m->comm), "end", &ignored);
        in_peace = ignored.code == ERR_NONE && m->nccl->destroy(m->comm) == ncclSuccess;
    }
    if (m->comm && !in_peace)
        m->nccl->abort(m->comm);
    cudaFree(m->stage);
    if (m->stream)
        cudaStreamDestroy(m->stream);
}

static bool member_open(struct member *m, struct err *e)
{
    return cuda_good(m, cudaStreamCreateWithFlags(&m->stream, cudaStreamNonBlocking), "stream", e);
}

static struct comm *nccl_split(struct comm *c, int colour, int key, struct err *e)
{
    struct member *m = member_of(c), *part = calloc(1, sizeof *part);
    if (!part || !comm_barrier(c, e)) {
        free(part);
        comm_fail(c, e, "out of memory");
        return NULL;
    }
    *part = (struct member){.c = *c, .nccl = m->nccl};
    part->c.memory = NULL;
    ncclConfig_t config = NCCL_CONFIG_INITIALIZER;
    config.blocking = 0;
    bool ok = member_open(part, e) &&
              settled(m, m->comm, m->nccl->split(m->comm, colour, key, &part->comm, &config),
                      "split", e) &&
              settled(m, part->comm, ncclInProgress, "split", e);
    if (!ok) {
        member_close(part, false);
        free(part);
        return NULL;
    }
    /* NCCL orders by key, then by rank, as comm.h promises; ask it rather than count again. */
    int *all = malloc(2 * (size_t)c->size * sizeof *all), mine[2] = {colour, key};
    int64_t *parts = malloc(2 * (size_t)c->size * sizeof *parts);
    ok = (all && parts) || comm_fail(c, e, "out of memory");
    for (int i = 0; ok && i < c->size; i++)
        parts[i] = sizeof mine, parts[c->size + i] = i * (int64_t)sizeof mine;
    const struct kern_backend *memory = c->memory;
    c->memory = NULL;
    ok = ok &&
         comm_allgatherv(c, mine, sizeof mine, (struct comm_parts){all, parts, parts + c->size}, e);
    c->memory = memory;
    part->c.rank = part->c.size = 0;
    for (int i = 0; ok && i < c->size; i++)
        if (all[2 * i] == colour) {
            part->c.size++;
            part->c.rank += all[2 * i + 1] < key || (all[2 * i + 1] == key && i < c->rank);
        }
    free(all);
    free(parts);
    if (ok)
        return &part->c;
    member_close(part, false);
    free(part);
    return NULL;
}

static void nccl_release(struct comm *c)
{
    if (!c)
        return;
    member_close(member_of(c), true);
    free(c);
}

/* ---- the run ---- */

static bool choose_device(struct member *m, int local, struct err *e)
{
    int count = 0;
    if (!cuda_good(m, cudaGetDeviceCount(&count), "devices", e))
        return false;
    return (count > 0 || comm_fail(&m->c, e, "no GPU")) &&
           cuda_good(m, cudaSetDevice(local % count), "device", e) && member_open(m, e);
}

static bool join(struct member *m, struct err *e)
{
    ncclUniqueId id;
    ncclConfig_t config = NCCL_CONFIG_INITIALIZER;
    config.blocking = 0;
    ncclResult_t bad = m->nccl->get_unique_id(&id);
    if (bad != ncclSuccess)
        return comm_fail(&m->c, e, "NCCL says %s; %s", m->nccl->error(bad), m->nccl->last(NULL));
    bad = m->nccl->init(&m->comm, m->c.size, id, m->c.rank, &config);
    return settled(m, m->comm, bad, "start", e);
}

static bool nccl_run(const struct comm_options *o, comm_main *f, void *arg, struct err *e)
{
    struct library nccl;
    struct launcher l = launcher_of_process();
    if (l.size != o->ranks)
        return err_set(
            e, ERR_INPUT, err_at_name("--comm nccl"),
            "the plan is for %d ranks, %d were started: want mpirun -np %d, srun -n %d or torchrun",
            o->ranks, l.size, o->ranks, o->ranks);
    if (l.size > 1 && !getenv("NCCL_COMM_ID"))
        return err_set(
            e, ERR_INPUT, err_at_name("--comm nccl"),
            "NCCL_COMM_ID is not set: want host:port of rank 0, the same for all %d ranks", l.size);
    if (!library_open(&nccl, e))
        return false;
    struct member m = {.c = {.backend = &comm_nccl,
                             .rank = l.rank,
                             .size = l.size,
                             .world_rank = l.rank,
                             .timeout_s = o->timeout_s > 0 ? o->timeout_s : 20},
                       .nccl = &nccl};
    m.c.phase = &m.phase_now;
    bool ok = choose_device(&m, l.local_rank, e) && join(&m, e) && f(&m.c, arg, e);
    member_close(&m, ok);
    return ok;
}

static bool nccl_available(void)
{
    int count = 0;
    return cudaGetDeviceCount(&count) == cudaSuccess && count > 0;
}

const struct comm_backend comm_nccl = {
    .name = "nccl",
    .what = "one process and GPU a rank, started by mpirun, srun or torchrun; "
            "NCCL_COMM_ID=host:port of rank 0",
    .processes = true,
    .available = nccl_available,
    .run = nccl_run,
    .messages = nccl_messages,
    .split = nccl_split,
    .release = nccl_release,
};
