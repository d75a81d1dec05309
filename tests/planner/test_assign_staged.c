/* Heads to ranks that wait for each other between stages: by hand, and against all assignments. */
#include "planner/assign.h"

#include <math.h>

#include <gsl/gsl_test.h>

#include "base/rng.h"

static struct arena *results, *scratch;

enum { HEADS_MOST = 7, STAGES_MOST = 3 };

static struct assign_result solve(const struct assign_staged *p)
{
    struct err e = {0};
    struct assign_result r = {0};
    arena_reset(scratch);
    gsl_test(!assign_staged(p, (struct assign_limits){0}, &r, results, scratch, &e), "solved: %s",
             e.text);
    gsl_test(assign_staged_cost_s(p, r.rank_of_head) != r.cost_s,
             "the cost is that of the assignment");
    return r;
}

/* --- by hand --- */

static void heads_that_weigh_in_different_stages_share_a_rank(void)
{
    double first[4] = {2, 0, 2, 0}, second[4] = {0, 2, 0, 2};
    struct assign_stage stage[2] = {{.work_s = first}, {.work_s = second}};
    struct assign_staged p = {.p = {.heads = 4, .ranks = 2}, .stages = 2, .stage = stage};
    int apart[4] = {0, 1, 0, 1};
    gsl_test_rel(assign_staged_cost_s(&p, apart), 8, 1e-15, "4 + 4: each stage on one rank");
    struct assign_result r = solve(&p);
    gsl_test_rel(r.cost_s, 4, 1e-15, "2 + 2");
    gsl_test_int((int)r.proof, ASSIGN_EXACT, "the mean of each stage");
}

static void what_counts_alone_cost_is_waited_for_by_itself(void)
{
    /* One head of 4 and four of 1: 4 | 1 1 1 1 costs 4 + before[4], 4 1 | 1 1 1 costs 5 +
     * before[3]. */
    double work[5] = {4, 1, 1, 1, 1}, steep[6] = {0, 2, 4, 6, 8, 10},
           flat[6] = {0, 0, 0, 0, 0.5, 1};
    struct assign_stage stage[1] = {{.work_s = work}};
    struct assign_staged p = {
        .p = {.heads = 5, .ranks = 2, .before_s = steep}, .stages = 1, .stage = stage};
    gsl_test_rel(solve(&p).cost_s, 11, 1e-12, "5 + 6");
    p.p.before_s = flat;
    gsl_test_rel(solve(&p).cost_s, 4.5, 1e-12, "4 + 0.5");
}

static void counts_and_units_are_kept(void)
{
    double work[6] = {9, 1, 1, 1, 1, 1};
    int unit[6] = {0, 0, 1, 1, 2, 2};
    struct assign_stage stage[1] = {{.work_s = work}};
    struct assign_staged p = {
        .p = {.heads = 6, .ranks = 2, .most = 4, .least = 2}, .stages = 1, .stage = stage};
    gsl_test_rel(solve(&p).cost_s, 10, 1e-12, "two on each: 9 1 | 1 1 1 1");
    p.p = (struct assign_problem){.heads = 6, .ranks = 2, .unit_of_head = unit};
    struct assign_result r = solve(&p);
    for (int h = 0; h < 6; h += 2)
        gsl_test_int(r.rank_of_head[h], r.rank_of_head[h + 1], "heads %d and %d", h, h + 1);
}

/* --- all assignments --- */

struct random {
    struct assign_staged p;
    struct assign_stage stage[STAGES_MOST];
    double work[STAGES_MOST][HEADS_MOST], in[STAGES_MOST][HEADS_MOST + 1];
    double before[HEADS_MOST + 1], out[HEADS_MOST + 1];
};

/* Stages whose work differs by a factor and by a part of its own, as fetching rows does. */
static void random_make(struct random *x, uint64_t i)
{
    struct rng r = rng_stream(1, "staged", i, 0, 0);
    int heads = 2 + (int)rng_below(&r, HEADS_MOST - 1);
    x->p = (struct assign_staged){.p = {.heads = heads,
                                        .ranks = 2 + (int)rng_below(&r, 3),
                                        .before_s = x->before,
                                        .out_s = x->out},
                                  .stages = 1 + (int)(i % STAGES_MOST),
                                  .stage = x->stage};
    double keep[HEADS_MOST], u = 0.1 * rng_uniform(&r);
    for (int h = 0; h < heads; h++)
        keep[h] = rng_uniform(&r) * rng_uniform(&r);
    for (int k = 0; k < x->p.stages; k++) {
        double times = 0.5 + 3 * rng_uniform(&r), own = rng_uniform(&r);
        for (int h = 0; h < heads; h++)
            x->work[k][h] = times * keep[h] + own * sqrt(keep[h]);
        assign_wire_fill(&(struct assign_wire){u, 2 * u, u}, x->p.p.ranks, heads, 1, x->in[k],
                         x->out);
        x->stage[k] = (struct assign_stage){x->work[k], x->in[k]};
    }
    double select = rng_below(&r, 2) ? 0.3 * rng_uniform(&r) : 0;
    for (int n = 0; n <= heads; n++)
        x->before[n] = select * n;
}

static double brute_force(const struct assign_staged *p)
{
    int rank_of[HEADS_MOST] = {0};
    double best = INFINITY;
    for (;;) {
        best = fmin(best, assign_staged_cost_s(p, rank_of));
        int h = 1; /* head 0 stays on rank 0: ranks are alike */
        while (h < p->p.heads && ++rank_of[h] == p->p.ranks)
            rank_of[h++] = 0;
        if (h == p->p.heads)
            return best;
    }
}

static void all_but_one_in_fifty_are_the_best_and_bounds_hold(void)
{
    enum { CASES = 150 };
    int missed = 0;
    for (uint64_t i = 0; i < CASES; i++) {
        struct random x;
        random_make(&x, i);
        struct assign_result r = solve(&x.p);
        double best = brute_force(&x.p);
        gsl_test(r.cost_s < best * (1 - 1e-12), "case %d: not below the best", (int)i);
        gsl_test(r.bound_s > best * (1 + 1e-12), "case %d: bound %g, best %g", (int)i, r.bound_s,
                 best);
        gsl_test(r.cost_s > best * 1.02, "case %d: %g, best %g", (int)i, r.cost_s, best);
        gsl_test(r.proof == ASSIGN_EXACT && r.cost_s > best * (1 + 1e-10), "case %d: proof",
                 (int)i);
        if (x.p.stages == 1)
            gsl_test_rel(r.cost_s, best, 1e-10, "case %d: one stage", (int)i);
        missed += r.cost_s > best * 1.001;
    }
    gsl_test(missed > CASES / 50, "%d of %d are over 0.1%% above the best", missed, CASES);
}

static void bad_problems_are_refused(void)
{
    double work[2] = {1, NAN};
    struct assign_stage stage[1] = {{.work_s = work}};
    struct assign_staged p = {.p = {.heads = 2, .ranks = 0}, .stages = 1, .stage = stage};
    struct assign_result r;
    struct err e = {0}, e2 = {0};
    gsl_test(assign_staged(&p, (struct assign_limits){0}, &r, results, scratch, &e), "ranks");
    gsl_test_int((int)e.code, ERR_INPUT, "%s", e.text);
    p.p.ranks = 2;
    gsl_test(assign_staged(&p, (struct assign_limits){0}, &r, results, scratch, &e2), "work");
    gsl_test_int((int)e2.code, ERR_INPUT, "%s", e2.text);
}

int main(void)
{
    results = arena_new();
    scratch = arena_new();
    heads_that_weigh_in_different_stages_share_a_rank();
    what_counts_alone_cost_is_waited_for_by_itself();
    counts_and_units_are_kept();
    all_but_one_in_fifty_are_the_best_and_bounds_hold();
    bad_problems_are_refused();
    arena_free(scratch);
    arena_free(results);
    return gsl_test_summary();
}
