/* Messages between ranks, with integer-coded payloads compared bit by bit. Usage: test_kernels_comm
 * [ranks [backend]]; under mpirun the backend is mpi. */
#include "tests/check.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "kernels/comm.h"

enum { MOST = 16, ROOM = 4096 };

static int32_t code(int from, int to, int64_t i)
{
    return (int32_t)(from * 1000003 + to * 1009 + i);
}

/* Rank i sends 3 i + j words to rank j; none at all on the way from 1 to 0. */
static int64_t words(int from, int to)
{
    return from == 1 && to == 0 ? 0 : 3 * from + to;
}

static bool uneven_all_to_all(struct comm *c, struct err *e)
{
    int32_t out[ROOM], in[ROOM];
    int64_t send[2][MOST], receive[2][MOST], at = 0, to = 0;
    for (int p = 0; p < c->size; p++) {
        send[0][p] = words(c->rank, p) * 4, send[1][p] = at;
        receive[0][p] = words(p, c->rank) * 4, receive[1][p] = to;
        for (int64_t i = 0; i < words(c->rank, p); i++)
            out[at / 4 + i] = code(c->rank, p, i);
        at += send[0][p], to += receive[0][p];
    }
    comm_phase(c, "all-to-all");
    if (!comm_alltoallv(c, (struct comm_parts){out, send[0], send[1]},
                        (struct comm_parts){in, receive[0], receive[1]}, e))
        return false;
    for (int p = 0; p < c->size; p++)
        for (int64_t i = 0; i < words(p, c->rank); i++)
            if (in[receive[1][p] / 4 + i] != code(p, c->rank, i))
                return comm_fail(c, e, "word %lld from rank %d is wrong", (long long)i, p);
    return true;
}

static bool uneven_all_gather(struct comm *c, struct err *e)
{
    int32_t out[MOST + 1], in[ROOM];
    int64_t bytes[MOST], offset[MOST], at = 0;
    for (int p = 0; p < c->size; p++) {
        bytes[p] = 4 * (p + 1), offset[p] = at;
        at += bytes[p];
    }
    for (int i = 0; i <= c->rank; i++)
        out[i] = code(c->rank, 0, i);
    comm_phase(c, "all-gather");
    if (!comm_allgatherv(c, out, bytes[c->rank], (struct comm_parts){in, bytes, offset}, e))
        return false;
    for (int p = 0; p < c->size; p++)
        for (int i = 0; i <= p; i++)
            if (in[offset[p] / 4 + i] != code(p, 0, i))
                return comm_fail(c, e, "word %d of rank %d is wrong", i, p);
    return true;
}

/* Two messages to each peer, of 1 + from + 2 to words and of one word, from and to places of their
 * own. */
static int32_t pair_words(int from, int to, int i)
{
    return i ? 1 : 1 + from + 2 * to;
}

static bool several_messages_of_a_peer_keep_their_order(struct comm *c, struct err *e)
{
    int32_t out[2][MOST][3 * MOST], in[2][MOST][3 * MOST];
    struct comm_message sends[2 * MOST], receives[2 * MOST];
    int n = 0;
    for (int p = 0; p < c->size; p++)
        for (int i = 0; i < 2 && p != c->rank; i++, n++) {
            for (int32_t k = 0; k < pair_words(c->rank, p, i); k++)
                out[i][p][k] = code(c->rank, p, k + 100 * i);
            sends[n] = (struct comm_message){p, out[i][p], pair_words(c->rank, p, i) * 4};
            receives[n] = (struct comm_message){p, in[i][p], pair_words(p, c->rank, i) * 4};
        }
    comm_phase(c, "messages");
    if (!comm_exchange(c, sends, n, receives, n, e))
        return false;
    for (int p = 0; p < c->size; p++)
        for (int i = 0; i < 2 && p != c->rank; i++)
            for (int32_t k = 0; k < pair_words(p, c->rank, i); k++)
                if (in[i][p][k] != code(p, c->rank, k + 100 * i))
                    return comm_fail(c, e, "message %d of rank %d, word %d is wrong", i, p, k);
    return true;
}

/* Whole numbers: the sum is exact. sum over r of (r + 1) (100 me + i) = N (N + 1) / 2 (100 me + i).
 */
static bool sums_are_scattered(struct comm *c, struct err *e)
{
    enum { COUNT = 5 };
    float in[MOST * COUNT], out[COUNT], scratch[MOST * COUNT];
    for (int p = 0; p < c->size; p++)
        for (int i = 0; i < COUNT; i++)
            in[p * COUNT + i] = (float)((c->rank + 1) * (100 * p + i));
    comm_phase(c, "reduce-scatter");
    if (!comm_reduce_scatter(c, in, out, COUNT, scratch, e))
        return false;
    for (int i = 0; i < COUNT; i++)
        if ((int)out[i] != c->size * (c->size + 1) / 2 * (100 * c->rank + i))
            return comm_fail(c, e, "sum %d is %g", i, (double)out[i]);
    return true;
}

static bool a_ring_of_hops_brings_it_home(struct comm *c, struct err *e)
{
    int32_t here = code(c->rank, 0, 0), next = 0;
    comm_phase(c, "ring");
    for (int k = 1; k <= c->size; k++) {
        if (!comm_shift(c, &here, &next, sizeof here, e))
            return false;
        here = next;
        if (here != code((c->rank - k % c->size + c->size) % c->size, 0, 0))
            return comm_fail(c, e, "hop %d brings %d", k, here);
    }
    return true;
}

/* The same beneath other work, with a message large enough to take a while. */
static bool a_hop_goes_on_while_the_rank_works(struct comm *c, struct err *e)
{
    enum { COUNT = 1 << 18 };
    int32_t *here = malloc(2 * COUNT * sizeof *here), *next = here + COUNT, sum = 0;
    for (int32_t i = 0; here && i < COUNT; i++)
        here[i] = code(c->rank, 0, i);
    comm_phase(c, "hop");
    struct comm_hop *hop = here ? comm_shift_begin(c, here, next, COUNT * 4, e) : NULL;
    for (int32_t i = 0; hop && i < COUNT; i++) /* what is sent may be read */
        sum ^= here[i];
    bool ok = hop && comm_shift_end(hop, e);
    for (int32_t i = 0; ok && i < COUNT; i++) {
        sum ^= here[i];
        ok = next[i] == code((c->rank + c->size - 1) % c->size, 0, i) ||
             comm_fail(c, e, "word %d is %d", i, next[i]);
    }
    free(here);
    return ok && sum == 0;
}

/* Odd and even ranks apart, in falling order. */
static bool split_ranks_talk_among_themselves(struct comm *c, struct err *e)
{
    comm_phase(c, "split");
    struct comm *half = c->backend->split(c, c->rank % 2, -c->rank, e);
    if (!half)
        return false;
    int expected = (c->size + 1 - c->rank % 2) / 2;
    bool ok = half->size == expected && half->world_rank == c->rank;
    ok = ok && half->rank == expected - 1 - c->rank / 2 && uneven_all_to_all(half, e);
    if (!ok)
        comm_fail(c, e, "half %d: rank %d of %d", c->rank % 2, half->rank, half->size);
    c->backend->release(half);
    return ok;
}

static bool everything(struct comm *c, void *arg, struct err *e)
{
    (void)arg;
    for (int again = 0; again < 3; again++)
        if (!uneven_all_to_all(c, e) || !uneven_all_gather(c, e) ||
            !several_messages_of_a_peer_keep_their_order(c, e) || !sums_are_scattered(c, e) ||
            !a_ring_of_hops_brings_it_home(c, e) || !a_hop_goes_on_while_the_rank_works(c, e) ||
            !split_ranks_talk_among_themselves(c, e) || !comm_barrier(c, e))
            return false;
    return true;
}

/* ---- failures; virtual ranks only: under MPI they end the process (tests/validate/faults.sh) ----
 */

static bool rank_1_fails(struct comm *c, void *arg, struct err *e)
{
    (void)arg;
    comm_phase(c, "select");
    if (c->rank == 1)
        return comm_fail(c, e, "out of luck");
    comm_phase(c, "kv gather");
    return comm_barrier(c, e);
}

static bool rank_0_is_silent(struct comm *c, void *arg, struct err *e)
{
    (void)arg;
    comm_phase(c, "o all-to-all");
    return c->rank == 0 || comm_barrier(c, e);
}

static bool rank_0_sends_no_hop(struct comm *c, void *arg, struct err *e)
{
    static const int32_t out[2];
    (void)arg;
    int32_t in[2];
    comm_phase(c, "ring");
    return c->rank == 0 || comm_shift_end(comm_shift_begin(c, out, in, sizeof in, e), e);
}

static bool sizes_differ(struct comm *c, void *arg, struct err *e)
{
    (void)arg;
    int32_t out[2] = {0}, in[2];
    comm_phase(c, "ring");
    return comm_shift(c, out, in, c->rank == 0 ? 4 : 8, e);
}

static bool numbers_differ(struct comm *c, void *arg, struct err *e)
{
    (void)arg;
    int32_t word[2] = {0}, in[2];
    int peer = 1 - c->rank, sent = c->rank == 0 ? 1 : 2;
    struct comm_message out[2] = {{peer, word, 4}, {peer, word + 1, 4}},
                        back[2] = {{peer, in, 4}, {peer, in + 1, 4}};
    return comm_exchange(c, out, sent, back, 2, e);
}

static void a_failed_rank_ends_all_and_is_named(const struct comm_backend *b)
{
    struct err e = {0};
    struct comm_options o = {.ranks = 4, .timeout_s = 20};
    gsl_test(b->run(&o, rank_1_fails, NULL, &e), "a failed rank ends the run");
    gsl_test(!strstr(e.text, "rank 1, select: out of luck"), "the message names rank and phase: %s",
             e.text);
}

static void a_silent_rank_is_an_error_within_the_time_limit(const struct comm_backend *b)
{
    struct err e = {0};
    struct comm_options o = {.ranks = 3, .timeout_s = 0.3};
    double start = comm_now_s();
    gsl_test(b->run(&o, rank_0_is_silent, NULL, &e), "a silent rank ends the run");
    gsl_test(comm_now_s() - start > 20, "soon");
    gsl_test(!strstr(e.text, "o all-to-all: nothing from rank"),
             "the message says who waited where: %s", e.text);
    struct err hop = {0};
    gsl_test(b->run(&o, rank_0_sends_no_hop, NULL, &hop) ||
                 !strstr(hop.text, "ring: nothing from rank"),
             "a hop that nobody sends: %s", hop.text);
}

static void messages_of_unequal_sizes_are_refused(const struct comm_backend *b)
{
    struct err e = {0};
    struct comm_options o = {.ranks = 2, .timeout_s = 5};
    gsl_test(b->run(&o, sizes_differ, NULL, &e) || !strstr(e.text, "bytes, want"),
             "unequal sizes: %s", e.text);
    struct err number = {0};
    gsl_test(b->run(&o, numbers_differ, NULL, &number) ||
                 !strstr(number.text, "rank 0 sends 1 messages, want 2"),
             "unequal numbers: %s", number.text);
}

static void expect_refused(const struct comm_backend *b, int ranks, enum err_code code,
                           const char *text)
{
    struct comm_options o = {.ranks = ranks};
    struct err e = {0};
    gsl_test(b->run(&o, everything, NULL, &e) || e.code != code || !strstr(e.text, text),
             "%s, %d ranks: %s", b->name, ranks, e.text);
}

/* What NCCL needs and lacks, in the order in which it is asked for. */
static void nccl_says_what_is_missing(const struct comm_backend *b)
{
    expect_refused(b, 3, ERR_INPUT, "the plan is for 3 ranks, 1 were started");
    setenv("WORLD_SIZE", "2", 1), setenv("RANK", "0", 1), setenv("LOCAL_RANK", "0", 1);
    expect_refused(b, 2, ERR_INPUT, "NCCL_COMM_ID is not set");
    unsetenv("WORLD_SIZE"), unsetenv("RANK"), unsetenv("LOCAL_RANK");
    setenv("SHARDWISE_NCCL", "libabsent.so", 1);
    expect_refused(b, 1, ERR_DEVICE, "cannot load libabsent.so");
    setenv("SHARDWISE_NCCL", "libm.so.6", 1);
    expect_refused(b, 1, ERR_DEVICE, "libm.so.6 has no ncclGetVersion");
    unsetenv("SHARDWISE_NCCL");
}

static void refuses_where_it_cannot_run(const struct comm_backend *b, struct err *e)
{
    struct comm_options o = {.ranks = 1};
    if (strcmp(b->name, "nccl") == 0)
        nccl_says_what_is_missing(b);
    gsl_test(b->run(&o, everything, NULL, e), "%s without a device does not run", b->name);
    gsl_test_int((int)e->code, (int)ERR_DEVICE, "%s without a device: %s", b->name, e->text);
}

int main(int argc, char **argv)
{
    struct err e = {0};
    const struct comm_backend *b = comm_backend_of(argc > 2 ? argv[2] : NULL, &e);
    if (b && !b->available())
        refuses_where_it_cannot_run(b, &e);
    if (!b || !b->available()) {
        printf("skipped: %s\n", e.text);
        return gsl_test_summary() ? 1 : 77;
    }
    for (int n = argc > 1 ? atoi(argv[1]) : 1; n <= (argc > 1 ? atoi(argv[1]) : 6); n++) {
        struct comm_options o = {.ranks = n};
        gsl_test(!b->run(&o, everything, NULL, &e), "%s: %d ranks: %s", b->name, n, e.text);
    }
    if (argc == 1) {
        a_failed_rank_ends_all_and_is_named(b);
        a_silent_rank_is_an_error_within_the_time_limit(b);
        messages_of_unequal_sizes_are_refused(b);
        gsl_test(comm_backend_of("pigeon", &e) != NULL, "an unknown backend is refused");
    }
    return gsl_test_summary();
}
