/* Heads to ranks: published vectors, brute force, the laws that any assignment obeys, degenerate
 * and bad input. */
#include "planner/assign.h"

#include <math.h>
#include <string.h>

#include <gsl/gsl_test.h>

#include "base/rng.h"
#include "tests/planner/dsv_heads.h"

static struct arena *results, *scratch; /* reset by each solve, freed by main */

static const struct assign_limits to_the_end = {.nodes = INT64_C(1) << 40};

static struct assign_result solve(const struct assign_problem *p, struct assign_limits limits)
{
    struct err e = {0};
    struct assign_result r = {0};
    arena_reset(scratch);
    gsl_test(!assign_exact(p, limits, &r, results, scratch, &e), "solved: %s", e.text);
    return r;
}

static double optimum(const struct assign_problem *p)
{
    struct assign_result r = solve(p, to_the_end);
    gsl_test(r.proof != ASSIGN_EXACT, "no limit: proved");
    gsl_test(assign_cost_s(p, r.rank_of_head) != r.cost_s, "the cost is that of the assignment");
    return r.cost_s;
}

static double lpt(const struct assign_problem *p)
{
    struct err e = {0};
    struct assign_result r = {0};
    gsl_test(!assign_lpt(p, &r, results, &e), "LPT: %s", e.text);
    return r.cost_s;
}

static double contiguous(const struct assign_problem *p)
{
    struct err e = {0};
    struct assign_result r = {0};
    gsl_test(!assign_contiguous(p, &r, results, &e), "contiguous: %s", e.text);
    return r.cost_s;
}

static double sum(const double *x, int n)
{
    double s = 0;
    for (int i = 0; i < n; i++)
        s += x[i];
    return s;
}

static double top(const double *x, int n)
{
    double m = 0;
    for (int i = 0; i < n; i++)
        m = fmax(m, x[i]);
    return m;
}

/* --- published vectors: KA04 --- */

static void the_published_vectors_have_their_known_optima(void)
{
    double keep[DSV_HEADS];
    struct assign_problem p = {.heads = DSV_HEADS, .ranks = 4, .work_s = keep};
    dsv_keeps(DSV_EXP6_CASE0, keep);
    gsl_test_rel(contiguous(&p), 0.57, 1e-12, "KA04a exp6 case 0, 4 ranks, contiguous");
    gsl_test_rel(lpt(&p), 0.32, 1e-12, "KA04b LPT");
    gsl_test_rel(optimum(&p), 0.32, 1e-12, "KA04c optimum");
    gsl_test_rel(sum(keep, DSV_HEADS) / 4, 0.3125, 1e-12, "KA04d mean");
    p.ranks = 8;
    gsl_test_rel(lpt(&p), 0.18, 1e-12, "KA04i 8 ranks, LPT, any count");
    p.least = p.most = 2;
    gsl_test_rel(optimum(&p), 0.20, 1e-12, "KA04j exactly two heads on a rank");
}

static void the_outlier_vector_has_its_known_optima(void)
{
    double keep[DSV_HEADS];
    struct assign_problem p = {.heads = DSV_HEADS, .ranks = 8, .work_s = keep};
    dsv_keeps(DSV_SOLVER_2, keep);
    gsl_test_rel(lpt(&p), 0.1878, 1e-12, "KA04e solver 2, 8 ranks, LPT");
    gsl_test_rel(optimum(&p), 0.1878, 1e-12, "KA04e optimum");
    gsl_test_rel(optimum(&p) / (sum(keep, DSV_HEADS) / 8), 2.4932, 1e-4, "KA04f over the mean");
    p.ranks = 2;
    gsl_test_rel(lpt(&p), 0.3019, 1e-12, "KA04g 2 ranks, LPT");
    gsl_test_rel(optimum(&p), 0.3013, 1e-12, "KA04h optimum");
}

/* Of the same artifact, by hand. */
static void the_other_vectors_agree_with_the_table(void)
{
    static const struct {
        int vector, ranks;
        double contiguous, lpt;
    } row[] = {
        {DSV_EXP6_CASE1, 4, 0.35, 0.28}, {DSV_EXP4, 4, 0.56, 0.41}, {DSV_SOLVER_1, 4, 0.77, 0.40}};
    double keep[DSV_HEADS];
    for (size_t i = 0; i < sizeof row / sizeof *row; i++) {
        dsv_keeps(row[i].vector, keep);
        struct assign_problem p = {.heads = DSV_HEADS, .ranks = row[i].ranks, .work_s = keep};
        gsl_test_rel(contiguous(&p), row[i].contiguous, 1e-12, "%s contiguous",
                     dsv_names[row[i].vector]);
        gsl_test_rel(lpt(&p), row[i].lpt, 1e-12, "%s LPT", dsv_names[row[i].vector]);
        gsl_test(optimum(&p) > row[i].lpt * (1 + 1e-12), "%s optimum", dsv_names[row[i].vector]);
    }
}

static void tiles_are_found_as_the_quantum_and_prove_more(void)
{
    double keep[DSV_HEADS];
    dsv_keeps(DSV_EXP6_CASE0, keep);
    struct assign_problem p = {.heads = DSV_HEADS, .ranks = 4, .work_s = keep};
    struct assign_result r = solve(&p, to_the_end);
    gsl_test_rel(r.quantum_s, 0.01, 1e-12, "sparsity has two decimals");
    gsl_test(r.proof != ASSIGN_EXACT || r.cost_s != r.bound_s,
             "mean 0.3125 rounds up to 0.32: proved");
    gsl_test(r.nodes > 0, "without a single step, %lld", (long long)r.nodes);
    for (int h = 0; h < DSV_HEADS; h++)
        keep[h] = 0.0314159265 + 0.003 * round(100 * keep[h]);
    gsl_test_rel(solve(&p, to_the_end).quantum_s, 0.003, 1e-9,
                 "tiles above a time that all heads share");
    keep[3] = 0.1234567891;
    gsl_test_abs(solve(&p, (struct assign_limits){.tolerance = 0.01}).quantum_s, 0, 0,
                 "ten digits: continuous");
}

/* --- the uneven all-to-all: KA03, KA22 --- */

static void send_and_receive_of_uneven_heads_are_those_of_the_formula(void)
{
    /* A shard of one head, S/N x D elements, takes one "second" an element. H 16, N 4, S 64000, D
     * 128. */
    double shard = 64000.0 / 4 * 128, in[17], out[17];
    struct assign_wire q_only = {.q_s = shard, .o_s = shard};
    assign_wire_fill(&q_only, 4, 16, 1, in, out);
    gsl_test_rel(in[7], 43008000, 0,
                 "KA03b rank 0 of 7,3,3,3 receives (and sends less: KA03a 18432000)");
    gsl_test_rel(in[3], 26624000, 0, "KA03c rank 1 sends (and receives less: KA03d 18432000)");
    gsl_test_rel(out[7], 43008000, 0, "O goes back the same way");
    struct assign_wire all = {.q_s = shard, .kv_s = 2 * shard, .o_s = shard};
    assign_wire_fill(&all, 4, 16, 1, in, out);
    gsl_test_rel(in[7] + out[7], 172032000, 0, "KA03e four tensors, rank 0");
    gsl_test_rel(in[3] + out[3], 106496000, 0, "KA03g four tensors, rank 1");
}

static void the_bottleneck_of_uneven_heads_is_the_largest_over_ranks(void)
{
    /* KA22: heads 1,1,2,2,2,2,3,3 on 8 ranks, S 64000, D 128, bf16, one tensor. */
    double shard = 64000.0 / 8 * 128 * 2, in[17], out[17], work[16] = {0};
    int uneven[16] = {0, 1, 2, 2, 3, 3, 4, 4, 5, 5, 6, 6, 6, 7, 7, 7};
    int even[16] = {0, 0, 1, 1, 2, 2, 3, 3, 4, 4, 5, 5, 6, 6, 7, 7};
    assign_wire_fill(&(struct assign_wire){.q_s = shard}, 8, 16, 1, in, out);
    struct assign_problem p = {.heads = 16, .ranks = 8, .work_s = work, .in_s = in, .out_s = out};
    gsl_test_rel(assign_cost_s(&p, uneven), 43008000, 0, "KA22");
    gsl_test_rel(assign_cost_s(&p, even), 28672000, 0, "KA22b");
    gsl_test_rel(optimum(&p), 28672000, 1e-12, "without work, even heads are best");
}

/* --- brute force --- */

/* All ranks^heads assignments. */
static double brute_force(const struct assign_problem *p)
{
    int rank_of[16] = {0};
    double best = INFINITY;
    for (;;) {
        int count[8] = {0};
        bool fits = true;
        for (int h = 0; h < p->heads; h++)
            count[rank_of[h]]++;
        for (int r = 0; r < p->ranks; r++)
            fits = fits && count[r] >= p->least && (!p->most || count[r] <= p->most);
        if (fits)
            best = fmin(best, assign_cost_s(p, rank_of));
        int h = 0;
        while (h < p->heads && ++rank_of[h] == p->ranks)
            rank_of[h++] = 0;
        if (h == p->heads)
            return best;
    }
}

enum tables { NO_TABLES, WIRE_TABLES, ANY_TABLES, TABLE_KINDS };

static void random_problem(struct assign_problem *p, double *work, double *before, double *in,
                           double *out, struct rng *r, enum tables tables)
{
    p->heads = 1 + (int)rng_below(r, 9);
    p->ranks = 1 + (int)rng_below(r, 4);
    bool tiles = rng_below(r, 2);
    double base = rng_below(r, 2) ? 0.314159e-3 : 0; /* what every head takes besides its tiles */
    for (int h = 0; h < p->heads; h++)
        work[h] = base + (tiles ? 0.125e-3 * (double)rng_below(r, 9) : 1e-3 * rng_uniform(r));
    double u = 0.2e-3 * rng_uniform(r);
    assign_wire_fill(&(struct assign_wire){u, 2 * u, u}, p->ranks, p->heads, 1, in, out);
    bool select = rng_below(r, 2);
    for (int n = 0; n <= p->heads; n++)
        before[n] = tables == ANY_TABLES ? 1e-3 * rng_uniform(r) : 0.3e-3 * n;
    for (int n = 0; tables == ANY_TABLES && n <= p->heads; n++) {
        in[n] = 1e-3 * rng_uniform(r);
        out[n] = 1e-3 * rng_uniform(r);
    }
    p->work_s = work;
    p->before_s = select ? before : NULL;
    p->in_s = tables == NO_TABLES ? NULL : in;
    p->out_s = tables == NO_TABLES ? NULL : out;
    p->least = p->heads >= p->ranks ? (int)rng_below(r, 2) : 0;
    p->most = rng_below(r, 3) ? 0 : (p->heads + p->ranks - 1) / p->ranks + (int)rng_below(r, 2);
}

static void the_optimum_is_that_of_trying_everything(void)
{
    for (uint64_t i = 0; i < 300; i++) {
        struct rng r = rng_stream(1, "brute", i, 0, 0);
        double work[16], before[17], in[17], out[17];
        struct assign_problem p = {0};
        random_problem(&p, work, before, in, out, &r, i % TABLE_KINDS);
        gsl_test_rel(optimum(&p), brute_force(&p), 1e-11,
                     "case %d: %d heads, %d ranks, %d to %d on each", (int)i, p.heads, p.ranks,
                     p.least, p.most);
    }
}

static void the_bound_never_exceeds_the_optimum(void)
{
    for (uint64_t i = 0; i < 200; i++) {
        struct rng r = rng_stream(2, "bound", i, 0, 0);
        double work[16], before[17], in[17], out[17];
        struct assign_problem p = {0};
        random_problem(&p, work, before, in, out, &r, i % TABLE_KINDS);
        double best = optimum(&p);
        struct assign_result early =
            solve(&p, (struct assign_limits){.nodes = 1 + (int64_t)(i % 20)});
        gsl_test(early.bound_s > best * (1 + 1e-12), "case %d: bound %.17g, optimum %.17g", (int)i,
                 early.bound_s, best);
        gsl_test(early.cost_s < best * (1 - 1e-12), "case %d: cost", (int)i);
        struct assign_result near =
            solve(&p, (struct assign_limits){.nodes = 1000000, .tolerance = 0.05});
        gsl_test(near.proof == ASSIGN_UNPROVED || near.cost_s > 1.05 * best * (1 + 1e-12),
                 "case %d: within 5%%", (int)i);
    }
}

/* Cuts each rank's time T into pieces: an assignment that ends at T exactly, which no bound can
 * exceed and only a right search finds again. With tables, a rank of n pieces works T - in[n]. */
static void plant(struct assign_problem *p, double *work, double *in, double *out, bool tables,
                  struct rng *r)
{
    enum { TICKS = 1000000 };
    int h = 0;
    assign_wire_fill(&(struct assign_wire){tables ? 4 : 0, tables ? 8 : 0, 0}, p->ranks, p->heads,
                     1, in, out);
    for (int rank = 0; rank < p->ranks; rank++) {
        int pieces = p->heads / p->ranks, left = TICKS - (int)in[pieces];
        for (int k = 1; k < pieces; k++) {
            int cut = 1 + (int)rng_below(r, (uint64_t)(2 * left / (pieces - k + 1)));
            work[h++] = cut;
            left -= cut;
        }
        work[h++] = left;
    }
    for (int i = p->heads - 1; i > 0; i--) {
        int k = (int)rng_below(r, (uint64_t)i + 1);
        double swap = work[i];
        work[i] = work[k], work[k] = swap;
    }
    p->work_s = work, p->in_s = in, p->out_s = out;
}

static void a_planted_perfect_assignment_is_found_again(void)
{
    static const int size[][2] = {{12, 3}, {12, 6}, {20, 5},  {24, 8},
                                  {28, 7}, {30, 6}, {36, 12}, {72, 24}};
    for (uint64_t i = 0; i < 8; i++)
        for (uint64_t k = 0; k < 4; k++) {
            struct rng r = rng_stream(8, "planted", i, k, 0);
            double work[72], in[73], out[73];
            struct assign_problem p = {.heads = size[i][0], .ranks = size[i][1]};
            plant(&p, work, in, out, k % 2, &r);
            gsl_test_rel(optimum(&p), 1000000, 1e-12, "%d heads on %d ranks, %s", p.heads, p.ranks,
                         k % 2 ? "with tables" : "loads only");
        }
}

/* --- laws --- */

static void graham_s_bound_holds_for_lpt(void)
{
    /* Graham 1969: LPT <= (4/3 - 1/(3R)) optimum when only loads count. */
    for (uint64_t i = 0; i < 100; i++) {
        struct rng r = rng_stream(3, "graham", i, 0, 0);
        double work[14];
        struct assign_problem p = {.heads = 2 + (int)rng_below(&r, 13),
                                   .ranks = 1 + (int)rng_below(&r, 6),
                                   .work_s = work};
        for (int h = 0; h < p.heads; h++)
            work[h] = 1 + (double)rng_below(&r, 50);
        double best = optimum(&p), bound = fmax(sum(work, p.heads) / p.ranks, top(work, p.heads));
        gsl_test(lpt(&p) > (4.0 / 3 - 1.0 / (3 * p.ranks)) * best * (1 + 1e-12), "case %d: LPT",
                 (int)i);
        gsl_test(best < bound * (1 - 1e-12), "case %d: makespan >= max(mean, largest)", (int)i);
    }
}

static void graham_s_worst_case_is_met(void)
{
    /* Graham 1969: 2R-1 .. R each twice, and R once more: LPT 4R-1, optimum 3R. */
    for (int ranks = 2; ranks <= 8; ranks++) {
        double work[17];
        int n = 0;
        for (int w = 2 * ranks - 1; w > ranks; w--)
            work[n] = work[n + 1] = w, n += 2;
        work[n] = work[n + 1] = work[n + 2] = ranks, n += 3;
        struct assign_problem p = {.heads = n, .ranks = ranks, .work_s = work};
        gsl_test_rel(lpt(&p), 4 * ranks - 1, 1e-12, "%d ranks: LPT", ranks);
        gsl_test_rel(optimum(&p), 3 * ranks, 1e-12, "%d ranks: optimum", ranks);
    }
}

static void a_heavier_head_never_makes_it_cheaper(void)
{
    for (uint64_t i = 0; i < 100; i++) {
        struct rng r = rng_stream(4, "heavier", i, 0, 0);
        double work[16], before[17], in[17], out[17];
        struct assign_problem p = {0};
        random_problem(&p, work, before, in, out, &r, i % TABLE_KINDS);
        double was = optimum(&p);
        work[rng_below(&r, (uint64_t)p.heads)] += 1e-3 * rng_uniform(&r);
        gsl_test(optimum(&p) < was * (1 - 1e-12), "case %d", (int)i);
    }
}

static void one_more_head_never_makes_it_cheaper_when_only_loads_count(void)
{
    for (uint64_t i = 0; i < 50; i++) {
        struct rng r = rng_stream(5, "more", i, 0, 0);
        double work[12], before = 0;
        for (int h = 0; h < 12; h++) {
            work[h] = rng_uniform(&r);
            struct assign_problem p = {.heads = h + 1, .ranks = 3, .work_s = work};
            double now = optimum(&p);
            gsl_test(now < before * (1 - 1e-12), "case %d, %d heads", (int)i, h + 1);
            before = now;
        }
    }
}

static void permuting_heads_permutes_only_names(void)
{
    for (uint64_t i = 0; i < 50; i++) {
        struct rng r = rng_stream(6, "permute", i, 0, 0);
        double work[24], moved[24], in[25], out[25];
        struct assign_problem p = {.heads = 24,
                                   .ranks = 5,
                                   .work_s = work,
                                   .in_s = in,
                                   .out_s = out},
                              q = p;
        q.work_s = moved;
        assign_wire_fill(&(struct assign_wire){0.01, 0.02, 0.01}, p.ranks, p.heads, 1, in, out);
        int to[24];
        for (int h = 0; h < 24; h++) {
            work[h] = rng_uniform(&r);
            int k = (int)rng_below(&r, (uint64_t)h + 1);
            to[h] = to[k];
            to[k] = h;
        }
        for (int h = 0; h < 24; h++)
            moved[to[h]] = work[h];
        struct assign_result x = solve(&p, (struct assign_limits){0}),
                             y = solve(&q, (struct assign_limits){0});
        int different = 0;
        for (int g = 0; g < 24; g++)
            for (int h = 0; h < 24; h++)
                different += (x.rank_of_head[g] == x.rank_of_head[h]) !=
                             (y.rank_of_head[to[g]] == y.rank_of_head[to[h]]);
        gsl_test_int(different, 0, "case %d: pairs that share a rank", (int)i);
        gsl_test_rel(y.cost_s, x.cost_s, 1e-14, "case %d: cost (sums in another order)", (int)i);
    }
}

static void ranks_are_named_by_their_lowest_head(void)
{
    double work[6] = {1, 1, 3, 2, 1, 1};
    struct assign_result r =
        solve(&(struct assign_problem){.heads = 6, .ranks = 3, .work_s = work}, to_the_end);
    int named = 0, wrong = 0;
    for (int h = 0; h < 6; h++) {
        wrong += r.rank_of_head[h] > named;
        named += r.rank_of_head[h] == named;
    }
    gsl_test_int(wrong, 0, "a rank's first head comes after those of lower ranks");
    gsl_test_int(named, 3, "all ranks are used");
    gsl_test_rel(r.cost_s, 3, 1e-12, "by hand: 3 | 2+1 | 1+1+1");
}

static void the_same_problem_gives_the_same_bytes(void)
{
    double work[40];
    struct rng r = rng_stream(7, "same", 0, 0, 0);
    for (int h = 0; h < 40; h++)
        work[h] = rng_uniform(&r);
    struct assign_problem p = {.heads = 40, .ranks = 8, .work_s = work};
    struct assign_result x = solve(&p, (struct assign_limits){0}),
                         y = solve(&p, (struct assign_limits){0});
    gsl_test(memcmp(x.rank_of_head, y.rank_of_head, sizeof *x.rank_of_head * 40) != 0,
             "assignment");
    gsl_test(x.cost_s != y.cost_s || x.bound_s != y.bound_s || x.nodes != y.nodes,
             "cost, bound, nodes");
}

/* --- units --- */

static void heads_of_a_unit_stay_together(void)
{
    double work[8] = {5, 1, 1, 1, 2, 2, 3, 1};
    int unit[8] = {0, 0, 1, 1, 2, 2, 3, 3};
    struct assign_problem p = {.heads = 8, .ranks = 2, .work_s = work, .unit_of_head = unit};
    struct assign_result r = solve(&p, to_the_end);
    for (int h = 0; h < 8; h += 2)
        gsl_test_int(r.rank_of_head[h + 1], r.rank_of_head[h], "KV group %d", h / 2);
    gsl_test_rel(r.cost_s, 8, 1e-12, "by hand: 6+2 and 4+4");
}

static void counts_are_of_units(void)
{
    /* Four KV groups of two heads on two ranks: each rank holds two groups, four query heads. */
    double work[8] = {1, 1, 1, 1, 1, 1, 1, 1}, in[5], out[5];
    int unit[8] = {0, 0, 1, 1, 2, 2, 3, 3};
    assign_wire_fill(&(struct assign_wire){1, 2, 1}, 2, 4, 2, in, out);
    struct assign_problem p = {
        .heads = 8, .ranks = 2, .work_s = work, .unit_of_head = unit, .in_s = in, .out_s = out};
    gsl_test_rel(optimum(&p), (4 * 1 + 2 * 2) + 4 + 4, 1e-12,
                 "by hand: in 4q + 2kv, work 4, out 4o");
}

/* --- degenerate and bad --- */

static void small_and_empty_problems_have_answers(void)
{
    double work[256] = {0}, in[257], out[257];
    gsl_test_abs(optimum(&(struct assign_problem){.heads = 1, .ranks = 1, .work_s = work}), 0, 0,
                 "nothing to do");
    gsl_test_abs(optimum(&(struct assign_problem){.heads = 256, .ranks = 256, .work_s = work}), 0,
                 0, "on 256 ranks");
    work[0] = 3;
    gsl_test_rel(optimum(&(struct assign_problem){.heads = 1, .ranks = 1, .work_s = work}), 3, 0,
                 "one head, one rank");
    gsl_test_rel(optimum(&(struct assign_problem){.heads = 1, .ranks = 256, .work_s = work}), 3, 0,
                 "255 idle ranks");
    gsl_test_rel(optimum(&(struct assign_problem){.heads = 256, .ranks = 1, .work_s = work}), 3, 0,
                 "one rank");
    for (int h = 0; h < 256; h++)
        work[h] = 1;
    gsl_test_rel(optimum(&(struct assign_problem){.heads = 256, .ranks = 256, .work_s = work}), 1,
                 0, "one each");
    gsl_test_rel(optimum(&(struct assign_problem){.heads = 250, .ranks = 7, .work_s = work}), 36, 0,
                 "equal: 250/7 up");
    gsl_test_rel(optimum(&(struct assign_problem){.heads = 255, .ranks = 256, .work_s = work}), 1,
                 0, "one idle");
    assign_wire_fill(&(struct assign_wire){1, 2, 1}, 4, 2, 1, in, out);
    gsl_test_rel(optimum(&(struct assign_problem){
                     .heads = 2, .ranks = 4, .work_s = work, .in_s = in, .out_s = out}),
                 9 + 1 + 3, 1e-12,
                 "by hand: two of four ranks receive 3 tensors of 3 shards, compute 1, send 3");
}

static void extreme_sizes_do_not_break_the_grid(void)
{
    double huge[4] = {1e300, 1e300, 1e299, 1}, tiny[4] = {5e-324, 5e-324, 5e-324, 0},
           in[5] = {0, 1e12, 0, 1e12, 0};
    gsl_test_rel(optimum(&(struct assign_problem){.heads = 4, .ranks = 2, .work_s = huge}), 1.1e300,
                 1e-12, "1e300 s");
    gsl_test(optimum(&(struct assign_problem){.heads = 4, .ranks = 3, .work_s = tiny}) != 5e-324,
             "denormal");
    double one[4] = {1, 1, 1, 1};
    gsl_test_rel(
        optimum(&(struct assign_problem){.heads = 4, .ranks = 2, .work_s = one, .in_s = in}), 2,
        1e-11, "tables a million million times the work");
}

static void refused(struct assign_problem p, enum err_code code, const char *text)
{
    struct err e = {0};
    struct assign_result r = {.cost_s = 7};
    arena_reset(scratch);
    gsl_test(assign_exact(&p, to_the_end, &r, results, scratch, &e), "refused: %s", text);
    gsl_test_int((int)e.code, (int)code, "%s", e.text);
    gsl_test(!strstr(e.text, text), "'%s' says '%s'", e.text, text);
    gsl_test(r.cost_s != 7, "the result is untouched");
}

static void bad_problems_are_refused_with_what_would_be_right(void)
{
    double work[4] = {1, 2, 3, 4}, nan[4] = {1, NAN, 3, 4}, minus[4] = {1, 2, 3, -1},
           in[5] = {0, 0, INFINITY, 0, 0};
    int hole[4] = {0, 0, 2, 2}, wild[4] = {0, 1, 2, 9};
    struct assign_problem good = {.heads = 4, .ranks = 2, .work_s = work}, p;
    refused((p = good, p.heads = 0, p), ERR_INPUT, "heads = 0: want 1 to 256");
    refused((p = good, p.heads = 257, p), ERR_INPUT, "heads = 257: want 1 to 256");
    refused((p = good, p.ranks = -1, p), ERR_INPUT, "ranks = -1: want 1 to 256");
    refused((p = good, p.most = -1, p), ERR_INPUT, "most = -1: want zero or more");
    refused((p = good, p.work_s = nan, p), ERR_INPUT, "work_s[1] = nan: want seconds");
    refused((p = good, p.work_s = minus, p), ERR_INPUT, "work_s[3] = -1: want seconds");
    refused((p = good, p.in_s = in, p), ERR_INPUT, "in_s[2] = inf: want seconds");
    refused((p = good, p.out_s = in, p), ERR_INPUT, "out_s[2] = inf: want seconds");
    refused((p = good, p.unit_of_head = hole, p), ERR_INPUT, "unit 1 has no head");
    refused((p = good, p.unit_of_head = wild, p), ERR_INPUT, "unit_of_head[3] = 9: want 0 to 3");
    refused((p = good, p.most = 1, p), ERR_INFEASIBLE, "2 would be left over");
    refused((p = good, p.least = 3, p), ERR_INFEASIBLE,
            "at least 3 units on each need 6, there are 4");
}

int main(void)
{
    results = arena_new();
    scratch = arena_new();
    the_published_vectors_have_their_known_optima();
    the_outlier_vector_has_its_known_optima();
    the_other_vectors_agree_with_the_table();
    tiles_are_found_as_the_quantum_and_prove_more();
    send_and_receive_of_uneven_heads_are_those_of_the_formula();
    the_bottleneck_of_uneven_heads_is_the_largest_over_ranks();
    the_optimum_is_that_of_trying_everything();
    the_bound_never_exceeds_the_optimum();
    a_planted_perfect_assignment_is_found_again();
    graham_s_bound_holds_for_lpt();
    graham_s_worst_case_is_met();
    a_heavier_head_never_makes_it_cheaper();
    one_more_head_never_makes_it_cheaper_when_only_loads_count();
    permuting_heads_permutes_only_names();
    ranks_are_named_by_their_lowest_head();
    the_same_problem_gives_the_same_bytes();
    heads_of_a_unit_stay_together();
    counts_are_of_units();
    small_and_empty_problems_have_answers();
    extreme_sizes_do_not_break_the_grid();
    bad_problems_are_refused_with_what_would_be_right();
    arena_free(scratch);
    arena_free(results);
    return gsl_test_summary();
}
