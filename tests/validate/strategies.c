/* Every strategy of the planner, at (g_h, g_s) in {1,2,4} x {1,2,4}, dense and sparse, with even,
 * uneven and split heads: distributed outputs and gradients equal those of one rank. Virtual ranks.
 * Usage: test_validate_strategies [backend [tokens [most of g_h and of g_s]]]. */
#include "tests/check.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "validate/verify.h"

enum { HEADS = 8 };

static const double keep[HEADS] = {0.1, 0.3, 0.05, 0.2, 0.5, 0.02, 0.15, 0.08};

struct task {
    struct exec_case c;
    const struct kern_backend *b;
    const struct truth *truth;
    struct verify_distance far[16];
    int rows[16];
    double sent[16], received[16];
};

static bool rank_main(struct comm *world, void *arg, struct err *e)
{
    struct task *t = arg;
    struct exec *x = exec_new(&t->c, t->b, world, e);
    struct exec_result r = {0};
    bool ok = x && exec_once(x, e) && exec_once(x, e) && exec_result(x, &r, e);
    if (ok) {
        const struct exec_row *rows;
        t->far[world->rank] = truth_distance(t->truth, &r);
        t->rows[world->rank] = exec_rows(x, &rows);
        t->sent[world->rank] = t->received[world->rank] = 0;
        for (int i = 0; i < t->rows[world->rank]; i++)
            t->sent[world->rank] += rows[i].sent, t->received[world->rank] += rows[i].received;
    }
    exec_result_free(&r);
    exec_free(x);
    return ok;
}

static struct verify_distance worst(const struct task *t, int ranks)
{
    struct verify_distance w = t->far[0];
    for (int r = 1; r < ranks; r++) {
        w.o = t->far[r].o <= w.o ? w.o : t->far[r].o; /* NaN stays */
        w.dq = t->far[r].dq <= w.dq ? w.dq : t->far[r].dq;
        w.dk = t->far[r].dk <= w.dk ? w.dk : t->far[r].dk;
        w.dv = t->far[r].dv <= w.dv ? w.dv : t->far[r].dv;
    }
    return w;
}

static void expect_equal(struct task *t, const char *what)
{
    char conf[96];
    struct err e = {0};
    int ranks = cp_ranks(&t->c.conf);
    double balance = 0;
    struct comm_options o = {.ranks = ranks, .timeout_s = 60};
    cp_conf_text(&t->c.conf, conf, sizeof conf);
    bool ok = comm_backend_of("loopback", &e)->run(&o, rank_main, t, &e);
    gsl_test(!ok, "%s, %s: %s", conf, what, ok ? "runs" : e.text);
    if (!ok)
        return;
    struct verify_distance d = worst(t, ranks);
    gsl_test(!verify_close(d), "%s, %s: O, dQ, dK, dV off by %.2g %.2g %.2g %.2g", conf, what, d.o,
             d.dq, d.dk, d.dv);
    for (int r = 0; r < ranks; r++)
        balance += t->sent[r] - t->received[r];
    gsl_test(balance != 0, "%s, %s: what is sent is received", conf, what);
}

/* Contiguous heads in unequal numbers: rank 0 holds what the others leave. */
static int uneven_pieces(struct cp_piece *p, int head_groups)
{
    int n = 0;
    for (int h = 0; h < HEADS; h++) {
        int rank = h < HEADS - head_groups + 1 ? 0 : h - (HEADS - head_groups);
        p[n++] = (struct cp_piece){h, rank, 0, 1};
    }
    return n;
}

/* Head 0 on all ranks by thirds and such, head 4 cut in two, the rest whole. */
static int split_pieces(struct cp_piece *p, int head_groups)
{
    int n = 0, last = head_groups - 1;
    for (int g = 0; g < head_groups; g++)
        p[n++] = (struct cp_piece){0, g, (double)g / head_groups, 1.0 / head_groups};
    p[n++] = (struct cp_piece){4, 0, 0, 0.3};
    p[n++] = (struct cp_piece){4, last, 0.3, 0.7};
    for (int h = 1; h < HEADS; h++)
        if (h != 4)
            p[n++] = (struct cp_piece){h, h % head_groups, 0, 1};
    return n;
}

static bool fits(enum cp_strategy s, int gh, int gs)
{
    const struct cp_strategy_info *i = &cp_strategies[s];
    return (gh == 1 || i->rows) && (gs == 1 || i->columns) && (gh * gs > 1 || s == CP_SINGLE);
}

static void with_pieces(struct task *t, int gh)
{
    struct cp_piece pieces[64];
    struct arena *a = arena_new();
    struct cp_conf *c = &t->c.conf;
    c->pieces = cp_pieces_even(HEADS, gh, a), c->piece_count = HEADS;
    expect_equal(t, "even heads");
    if (cp_strategies[c->strategy].balanced && gh > 1) {
        c->pieces = pieces, c->piece_count = uneven_pieces(pieces, gh);
        expect_equal(t, "uneven heads");
        c->piece_count = split_pieces(pieces, gh);
        expect_equal(t, "split heads");
    }
    arena_free(a);
}

static struct exec_case block(bool sparse, int kv_heads, int64_t tokens)
{
    struct cp_options o = {
        .checkpointing = CHECKPOINT_FULL, .grad_fp32 = true, .predictor_rank = 16};
    return (struct exec_case){.heads = HEADS,
                              .kv_heads = kv_heads,
                              .head_dim = 32,
                              .tokens = tokens,
                              .block = 3,
                              .conf = {.sparse = sparse, .query_group = 16},
                              .keep = keep,
                              .options = o,
                              .seed = 7};
}

static void every_strategy_equals_one_rank(const struct kern_backend *b, bool sparse, int kv_heads,
                                           int64_t tokens, int most)
{
    static const int degrees[] = {1, 2, 4};
    struct task t = {.c = block(sparse, kv_heads, tokens), .b = b};
    struct err e = {0};
    struct truth *truth = truth_new(&t.c, b, &e);
    gsl_test(!truth, "one rank: %s", e.text);
    t.truth = truth;
    for (int s = 0; truth && s < CP_STRATEGIES; s++)
        for (int i = 0; i < 9; i++) {
            int gh = degrees[i / 3], gs = degrees[i % 3];
            t.c.conf.strategy = (enum cp_strategy)s;
            t.c.conf.head_groups = gh, t.c.conf.seq_groups = gs;
            t.c.conf.heads_inside = (gh + gs + s) % 2;
            if (fits((enum cp_strategy)s, gh, gs) && !cp_strategies[s].permutes && gh <= most &&
                gs <= most)
                with_pieces(&t, gh);
        }
    truth_free(truth);
}

static void options_change_the_way_not_the_result(const struct kern_backend *b, int64_t tokens)
{
    struct task t = {.c = block(true, HEADS, tokens - 33), .b = b};
    struct err e = {0};
    struct truth *truth = truth_new(&t.c, b, &e);
    t.truth = truth;
    for (int i = 0; truth && i < 12; i++) {
        static const enum cp_strategy some[] = {CP_HYBRID, CP_USP, CP_HYBRID_DENSE};
        t.c.options.checkpointing = (enum checkpointing)(i % 3);
        t.c.options.keep_kv = i % 2;
        t.c.options.grad_fp32 = i % 4 > 1;
        t.c.options.offload = (enum offload)((i + i / 4) % 3);
        t.c.conf.strategy = some[i / 4];
        t.c.conf.head_groups = t.c.conf.seq_groups = 2;
        t.c.conf.heads_inside = true;
        with_pieces(&t, 2);
    }
    truth_free(truth);
}

/* What goes to the host is cleared where it was: results are right only if it comes back. Copies by
 * hand: 8 heads of 64 tokens in 2 shards, groups of 16: a rank has 2 groups of each head; lists
 * have 4 bytes for each kept key, bitmaps 8 for each group, K and V 128 bytes a row. */
static double host_bytes(const struct exec *x, const char *phase)
{
    const struct exec_row *rows;
    int n = exec_rows(x, &rows);
    for (int i = 0; i < n; i++)
        if (strcmp(rows[i].phase, phase) == 0)
            return rows[i].work;
    return 0;
}

static double host_moved[4];

static bool count_host(struct comm *world, void *arg, struct err *e)
{
    struct task *t = arg;
    struct exec *x = exec_new(&t->c, t->b, world, e);
    bool ok = x && exec_once(x, e);
    static const char *const names[] = {"offload indices", "fetch indices", "offload kv",
                                        "fetch kv"};
    for (int i = 0; ok && world->rank == 0 && i < 4; i++)
        host_moved[i] = host_bytes(x, names[i]);
    exec_free(x);
    return ok;
}

static void what_waits_on_the_host_comes_back(const struct kern_backend *b, int cases)
{
    struct task t = {.c = block(true, HEADS, 64), .b = b};
    struct err e = {0};
    struct truth *truth = truth_new(&t.c, b, &e);
    static const enum cp_strategy some[] = {CP_SCP, CP_ALLGATHER, CP_RING, CP_SCP_DENSE};
    double kept = 0;
    for (int h = 0; h < HEADS; h++)
        kept += (double)exec_keep(&t.c, h);
    t.truth = truth;
    for (int i = 0; truth && i < cases; i++) {
        bool rows = some[i % 4] == CP_SCP, ring = some[i % 4] == CP_RING;
        struct comm_options o = {.ranks = 2, .timeout_s = 60};
        struct cp_piece pieces[HEADS];
        t.c.options.checkpointing = (enum checkpointing)(i / 4);
        t.c.options.offload = OFFLOAD_KV;
        t.c.conf.strategy = some[i % 4];
        t.c.conf.head_groups = 1, t.c.conf.seq_groups = 2;
        t.c.conf.pieces = pieces, t.c.conf.piece_count = uneven_pieces(pieces, 1);
        expect_equal(&t, "KV and indices on the host");
        gsl_test(!comm_backend_of("loopback", &e)->run(&o, count_host, &t, &e), "%s", e.text);
        gsl_test_rel(host_moved[0], rows ? 2 * kept * 4 : 8 * 2 * 8.0, 1e-12, "indices leave");
        gsl_test_rel(host_moved[1], host_moved[0], 1e-12, "and come back");
        gsl_test(ring   ? host_moved[2] != 0
                 : rows ? !(host_moved[2] > 0 && host_moved[2] <= 8 * 32 * 128.0)
                        : host_moved[2] < 8 * 32 * 128.0 || host_moved[2] > 8 * 32 * 128.0,
                 "what was gathered leaves: %g bytes", host_moved[2]);
        gsl_test_rel(host_moved[3], host_moved[2], 1e-12, "and comes back");
    }
    truth_free(truth);
}

static void wrong_cases_are_refused(const struct kern_backend *b)
{
    struct cp_piece twice[HEADS + 1];
    struct task t = {.c = block(false, HEADS, 100), .b = b};
    struct comm_options o = {.ranks = 2, .timeout_s = 10};
    struct err pieces = {0}, ranks = {0};
    uneven_pieces(twice, 2);
    twice[HEADS] = twice[0];
    t.c.conf.strategy = CP_HCP, t.c.conf.head_groups = 2, t.c.conf.seq_groups = 1;
    t.c.conf.pieces = twice, t.c.conf.piece_count = HEADS + 1;
    gsl_test(comm_backend_of("loopback", &pieces)->run(&o, rank_main, &t, &pieces) ||
                 pieces.code != ERR_INPUT,
             "a head held twice: %s", pieces.text);
    t.c.conf.piece_count = HEADS, t.c.conf.head_groups = 4;
    gsl_test(comm_backend_of("loopback", &ranks)->run(&o, rank_main, &t, &ranks) ||
                 ranks.code != ERR_INPUT,
             "4 ranks in the plan, 2 at work: %s", ranks.text);
}

int main(int argc, char **argv)
{
    struct err e = {0};
    const struct kern_backend *b = kern_backend_of(argc > 1 ? argv[1] : "cpu", &e);
    if (!b) {
        printf("skipped: %s\n", e.text);
        return 77;
    }
    int64_t tokens = argc > 2 ? atoi(argv[2]) : 333;
    int most = argc > 3 ? atoi(argv[3]) : 4;
    every_strategy_equals_one_rank(b, false, HEADS, tokens, most);
    if (most > 2) /* else a short run: grouped heads are the harder case */
        every_strategy_equals_one_rank(b, true, HEADS, tokens, most);
    every_strategy_equals_one_rank(b, true, 2, tokens, most);
    options_change_the_way_not_the_result(b, tokens);
    what_waits_on_the_host_comes_back(b, most > 2 ? 12 : 4);
    wrong_cases_are_refused(b);
    return gsl_test_summary();
}
