/* Heads split by query range: the published case, hand arithmetic, the laws of pieces. */
#include "planner/assign.h"

#include <math.h>
#include <string.h>

#include <gsl/gsl_test.h>

#include "base/rng.h"
#include "tests/planner/dsv_heads.h"

static struct arena *results, *scratch;

static struct assign_split split(const struct assign_split_problem *p)
{
    struct err e = {0};
    struct assign_split s = {0};
    arena_reset(scratch);
    gsl_test(!assign_split(p, (struct assign_limits){.nodes = 100000}, &s, results, scratch, &e),
             "split: %s", e.text);
    return s;
}

/* The objective of planner/assign.h, written out again. */
static double cost_again(const struct assign_split_problem *p, const struct assign_split *s)
{
    double x[ASSIGN_MOST_RANKS] = {0}, work[ASSIGN_MOST_RANKS] = {0}, k[ASSIGN_MOST_RANKS] = {0},
           k_sum = 0, end = 0, out = 0;
    static bool held[ASSIGN_MOST_RANKS][ASSIGN_MOST_HEADS];
    memset(held, 0, sizeof held);
    for (int i = 0; i < s->count; i++) {
        const struct cp_piece *piece = &s->pieces[i];
        int r = piece->head_rank,
            g = p->group_of_head ? p->group_of_head[piece->head] : piece->head;
        double fixed = p->piece_s ? fmin(p->piece_s[piece->head], p->work_s[piece->head]) : 0;
        x[r] += piece->share;
        work[r] += fixed + piece->share * (p->work_s[piece->head] - fixed);
        k[r] += !held[r][g];
        k_sum += !held[r][g];
        held[r][g] = true;
    }
    for (int r = 0; r < p->ranks; r++) {
        double receive = (p->ranks - 1) * (p->wire.q_s * x[r] + p->wire.kv_s * k[r]);
        double send = p->wire.q_s * (p->heads - x[r]) + p->wire.kv_s * (k_sum - k[r]);
        end = fmax(end, fmax(receive, send) + work[r]);
        out = fmax(out, p->wire.o_s * fmax((p->ranks - 1) * x[r], p->heads - x[r]));
    }
    return end + out;
}

/* Every head once, ranges in order, ranks in range, one piece of a head on a rank. */
static int wrong_pieces(const struct assign_split_problem *p, const struct assign_split *s)
{
    int wrong = 0, head = -1;
    double at = 1;
    static bool there[ASSIGN_MOST_HEADS][ASSIGN_MOST_RANKS];
    memset(there, 0, sizeof there);
    for (int i = 0; i < s->count; i++) {
        const struct cp_piece *piece = &s->pieces[i];
        if (piece->head != head) {
            wrong += at != 1 || piece->head != head + 1;
            head = piece->head;
            at = 0;
        }
        wrong += piece->begin != at || piece->share <= 0 || piece->head_rank < 0 ||
                 piece->head_rank >= p->ranks;
        wrong += there[head][piece->head_rank];
        there[head][piece->head_rank] = true;
        at = i + 1 < s->count && s->pieces[i + 1].head == head ? s->pieces[i + 1].begin
                                                               : piece->begin + piece->share;
    }
    return wrong + (at != 1) + (head != p->heads - 1);
}

static void the_published_outlier_vector_reaches_the_mean(void)
{
    double keep[DSV_HEADS];
    dsv_keeps(DSV_SOLVER_2, keep);
    struct assign_split_problem p = {.heads = DSV_HEADS, .ranks = 8, .work_s = keep};
    struct assign_split s = split(&p);
    int extra = s.count - DSV_HEADS;
    gsl_test_rel(s.cost_s, 0.075325, 1e-12, "KA19a makespan = mean");
    gsl_test_int(extra, 7, "KA19b extra pieces");
    gsl_test_rel(s.whole_s / s.cost_s, 2.4932, 1e-4, "KA19c over the best of whole heads");
    double kv_bytes = 2 * 128000.0 * 128 * 2;
    gsl_test_rel(extra * kv_bytes, 458752000, 1e-12, "KA19d K and V of the extra pieces");
    gsl_test_rel(extra * kv_bytes / (4 * 16 * 128000.0 * 128 * 2 * 7 / 8), 0.25, 1e-12,
                 "KA19e of HCP's forward volume");
    gsl_test_rel(s.bound_s, s.cost_s, 1e-12, "the mean is the bound");
}

static void one_head_is_shared_by_all_ranks_if_the_wire_is_free(void)
{
    double work[1] = {8};
    struct assign_split s =
        split(&(struct assign_split_problem){.heads = 1, .ranks = 5, .work_s = work});
    gsl_test_rel(s.cost_s, 8.0 / 5, 1e-12, "a fifth each");
    gsl_test_int(s.count, 5, "pieces");
    gsl_test_rel(s.whole_s, 8, 1e-12, "whole");
}

static void a_cut_pays_for_its_keys_and_values(void)
{
    /* One head of 8 s on two ranks: whole q + kv + 8 + o, in halves q/2 + kv + 4 + o/2; in halves
     * each rank receives kv/1 from the other and sends as much. */
    double work[1] = {8};
    struct assign_split_problem p = {.heads = 1, .ranks = 2, .work_s = work, .wire = {1, 2, 1}};
    struct assign_split s = split(&p);
    gsl_test_rel(s.whole_s, 1 + 2 + 8 + 1, 1e-12, "whole, by hand");
    gsl_test_rel(s.cost_s, 0.5 + 2 + 4 + 0.5, 1e-9, "halves, by hand");
    /* Two heads of 1 s and 1.5 s: a cut would save 0.25 s and move kv = 2 s more to one rank. */
    double two[2] = {1, 1.5};
    p = (struct assign_split_problem){.heads = 2, .ranks = 2, .work_s = two, .wire = {0.1, 2, 0.1}};
    s = split(&p);
    gsl_test_int(s.count, 2, "no cut where K and V cost more than it gains");
    gsl_test_rel(s.cost_s, s.whole_s, 0, "whole");
    gsl_test_rel(s.cost_s, (0.1 + 2) + 1.5 + 0.1, 1e-12, "by hand");
}

static void a_launch_is_paid_by_every_piece(void)
{
    double work[1] = {8}, launch[1] = {1};
    struct assign_split_problem p = {.heads = 1, .ranks = 2, .work_s = work, .piece_s = launch};
    gsl_test_rel(split(&p).cost_s, 1 + 3.5, 1e-9, "7 s are shared out, 1 s is not");
    launch[0] = 100;
    gsl_test_int(split(&p).count, 1, "nothing to share out");
}

static void cuts_lie_between_query_groups(void)
{
    double work[3] = {5, 1, 1};
    struct assign_split_problem p = {.heads = 3, .ranks = 3, .work_s = work, .query_groups = 4};
    struct assign_split s = split(&p);
    int off = 0;
    for (int i = 0; i < s.count; i++)
        off += 4 * s.pieces[i].begin != round(4 * s.pieces[i].begin) ||
               4 * s.pieces[i].share != round(4 * s.pieces[i].share);
    gsl_test_int(off, 0, "multiples of a quarter");
    gsl_test(s.cost_s >= 5 || s.cost_s < 2.5, "quarters of 5: 2.5 at least, and better than whole");
}

static void ranks_hold_no_more_groups_than_they_may(void)
{
    double work[6] = {9, 1, 1, 1, 1, 1};
    for (int most = 2; most <= 4; most++) {
        struct assign_split_problem p = {
            .heads = 6, .ranks = 3, .work_s = work, .most_groups = most};
        struct assign_split s = split(&p);
        int held[3] = {0};
        for (int i = 0; i < s.count; i++)
            held[s.pieces[i].head_rank]++;
        gsl_test(held[0] > most || held[1] > most || held[2] > most, "at most %d pieces on a rank",
                 most);
        gsl_test(s.cost_s > s.whole_s, "and not worse than whole");
    }
}

static void heads_of_a_group_share_its_keys(void)
{
    /* Two KV groups of two heads on two ranks, work 3 3 and 1 1: whole groups end at 2 q + kv + 6,
     * one head of each on a rank at 2 q + 2 kv + 4; O is 2 o either way. */
    double work[4] = {3, 3, 1, 1};
    int group[4] = {0, 0, 1, 1};
    struct assign_split_problem p = {
        .heads = 4, .ranks = 2, .work_s = work, .group_of_head = group, .wire = {0.1, 0.5, 0.1}};
    struct assign_split s = split(&p);
    gsl_test_rel(s.cost_s, 0.2 + 1 + 4 + 0.2, 1e-9, "K and V cheap: one of each");
    p.wire.kv_s = 3;
    s = split(&p);
    gsl_test_rel(s.cost_s, 0.2 + 3 + 6 + 0.2, 1e-9, "dear: groups stay together");
    gsl_test_int(s.count, 4, "and whole");
}

static void random_split(struct assign_split_problem *p, double *work, double *piece, int *group,
                         struct rng *r)
{
    *p = (struct assign_split_problem){
        .heads = 1 + (int)rng_below(r, 24), .ranks = 1 + (int)rng_below(r, 8), .work_s = work};
    for (int h = 0; h < p->heads; h++) {
        work[h] = rng_below(r, 8) ? rng_uniform(r) : 10 * rng_uniform(r);
        piece[h] = rng_below(r, 3) ? 0.01 : 0.02 * rng_uniform(r);
        group[h] = h / 3;
    }
    double u = rng_below(r, 3) ? 0.05 * rng_uniform(r) : 0;
    p->wire = (struct assign_wire){u, 2 * u, u};
    p->group_of_head = rng_below(r, 3) ? NULL : group;
    p->piece_s = rng_below(r, 3) ? NULL : piece;
    p->query_groups = rng_below(r, 3) ? 0 : 100;
}

static void laws_of_pieces(void)
{
    for (uint64_t i = 0; i < 150; i++) {
        struct rng r = rng_stream(1, "split", i, 0, 0);
        double work[24], piece[24];
        int group[24];
        struct assign_split_problem p;
        random_split(&p, work, piece, group, &r);
        struct assign_split s = split(&p);
        gsl_test_int(wrong_pieces(&p, &s), 0, "case %d: every query of every head once", (int)i);
        gsl_test_rel(s.cost_s, cost_again(&p, &s), 1e-12, "case %d: cost", (int)i);
        gsl_test_rel(assign_split_cost_s(&p, s.pieces, s.count), s.cost_s, 1e-12,
                     "case %d: cost of the pieces", (int)i);
        gsl_test(s.cost_s > s.whole_s, "case %d: no worse than whole heads", (int)i);
        gsl_test(s.cost_s < s.bound_s, "case %d: no better than the bound", (int)i);
    }
}

static void with_a_free_wire_the_mean_is_met_with_fewer_cuts_than_ranks(void)
{
    /* McNaughton 1959. */
    for (uint64_t i = 0; i < 60; i++) {
        struct rng r = rng_stream(2, "mcnaughton", i, 0, 0);
        double work[24], sum = 0;
        struct assign_split_problem p = {.heads = 1 + (int)rng_below(&r, 24),
                                         .ranks = 1 + (int)rng_below(&r, 16),
                                         .work_s = work};
        for (int h = 0; h < p.heads; h++)
            sum += work[h] = rng_uniform(&r);
        struct assign_split s = split(&p);
        gsl_test_rel(s.cost_s, sum / p.ranks, 1e-9, "case %d: %d heads on %d ranks", (int)i,
                     p.heads, p.ranks);
        gsl_test(s.count - p.heads > p.ranks - 1, "case %d: cuts", (int)i);
    }
}

static void bad_problems_are_refused(void)
{
    double work[2] = {1, 2}, piece[2] = {1, -1};
    struct assign_split_problem good = {.heads = 2, .ranks = 2, .work_s = work},
                                bad[5] = {good, good, good, good, good};
    const char *says[5] = {"wire.q_s = nan", "piece_s[1] = -1", "query_groups = -2", "ranks = 0",
                           "1 would be left over"};
    bad[0].wire.q_s = NAN;
    bad[1].piece_s = piece;
    bad[2].query_groups = -2;
    bad[3].ranks = 0;
    bad[4].most_groups = 1, bad[4].ranks = 1;
    for (int i = 0; i < 5; i++) {
        struct err e = {0};
        struct assign_split s;
        arena_reset(scratch);
        gsl_test(assign_split(&bad[i], (struct assign_limits){0}, &s, results, scratch, &e),
                 "refused: %s", says[i]);
        gsl_test(!strstr(e.text, says[i]), "'%s' says '%s'", e.text, says[i]);
    }
}

int main(void)
{
    results = arena_new();
    scratch = arena_new();
    the_published_outlier_vector_reaches_the_mean();
    one_head_is_shared_by_all_ranks_if_the_wire_is_free();
    a_cut_pays_for_its_keys_and_values();
    a_launch_is_paid_by_every_piece();
    cuts_lie_between_query_groups();
    ranks_hold_no_more_groups_than_they_may();
    heads_of_a_group_share_its_keys();
    laws_of_pieces();
    with_a_free_wire_the_mean_is_met_with_fewer_cuts_than_ranks();
    bad_problems_are_refused();
    arena_free(scratch);
    arena_free(results);
    return gsl_test_summary();
}
