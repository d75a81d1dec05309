/* "Does it fit and how long" against plain searches, and the last rung of a ladder against trying
 * them all. */
#include "planner/fit.h"

#include <gsl/gsl_test.h>
#include <math.h>
#include <string.h>

#include "planner/ladder.h"
#include "tests/model/fixture.h"

static struct arena *arena;

/* One node of 8 GPUs; one block of 16 heads. */
static void request_init(struct fixture *f, struct plan_request *r, int64_t tokens)
{
    fixture_init(f, 16, 16, tokens, 1, 8, 1, 1, arena);
    *r = (struct plan_request){.c = f->c,
                               .memory = mem_options_default(8),
                               .phase = PLAN_STEP,
                               .query_group = 32,
                               .eval = &eval_cost,
                               .keep_candidates = 2};
    r->memory.aux_bytes = 0;
}

static void without_limits_it_is_the_plan(void)
{
    struct fixture f;
    struct plan_request r;
    struct plan_found found;
    struct plan_fit fit;
    struct err e = {0};
    request_init(&f, &r, 64000);
    gsl_test(!plan_search(&r, &found, arena, &e), "there is a plan: %s", e.text);
    gsl_test(!plan_fit(&r, &(struct plan_limits){0}, &fit, arena, &e), "an answer: %s", e.text);
    gsl_test_int(fit.verdict, FIT_YES, "it fits");
    gsl_test_int(fit.cp, found.plan->cp, "the same degree");
    gsl_test(fit.step.value_s != found.plan->step_s, "the same step");
    gsl_test(fit.memory.total != found.plan->memory_peak.total, "the same memory");
}

/* Brute force: each degree planned alone. The limit lies between the times of CP 4 and CP 2. */
static void a_limit_takes_the_best_degree_that_keeps_it(void)
{
    struct fixture f;
    struct plan_request r;
    struct plan_found found;
    struct plan_fit fit;
    struct err e = {0};
    double step[9] = {0}, rate = 0, limit;
    int best = 0;
    request_init(&f, &r, 64000);
    for (int cp = 1; cp <= 8; cp *= 2) {
        r.cp = cp;
        gsl_test(!plan_search(&r, &found, arena, &e), "CP %d: %s", cp, e.text);
        step[cp] = found.plan->step_s;
    }
    limit = 0.5 * (step[4] + step[2]);
    for (int cp = 1; cp <= 8; cp *= 2)
        if (step[cp] <= limit && 8 / cp / step[cp] > rate) {
            rate = 8 / cp / step[cp];
            best = cp;
        }
    r.cp = 0;
    gsl_test(!plan_fit(&r, &(struct plan_limits){.step_s = limit}, &fit, arena, &e), "%s", e.text);
    gsl_test_int(fit.verdict, FIT_YES, "kept");
    gsl_test_int(fit.cp, best, "the best of those that keep it");
    gsl_test(fit.step.value_s != step[best], "its time");
    limit = 0.5 * step[8];
    gsl_test(!plan_fit(&r, &(struct plan_limits){.step_s = limit}, &fit, arena, &e), "%s", e.text);
    gsl_test_int(fit.verdict, FIT_SLOW, "no degree is twice as fast as the fastest");
    gsl_test_int(fit.cp, 8, "then the shortest step");
    gsl_test(!strstr(fit.reason, "is over"), "says so: %s", fit.reason);
}

/* The 90% interval of classes without calibration is a factor exp(0.4) at most; a limit just above
 * the estimate holds, and not surely. */
static void sure_asks_the_slow_end(void)
{
    struct fixture f;
    struct plan_request r;
    struct plan_fit fit;
    struct err e = {0};
    request_init(&f, &r, 64000);
    r.cp = 8;
    plan_fit(&r, &(struct plan_limits){0}, &fit, arena, &e);
    struct plan_limits l = {.step_s = fit.step.value_s * 1.001};
    gsl_test(!(fit.step.high_s > fit.step.value_s * 1.002), "an interval of some width");
    plan_fit(&r, &l, &fit, arena, &e);
    gsl_test_int(fit.verdict, FIT_YES, "the estimate keeps it");
    l.sure = true;
    plan_fit(&r, &l, &fit, arena, &e);
    gsl_test_int(fit.verdict, FIT_SLOW, "its slow end does not");
}

/* 1e9 parameters of 16 B over 8 GPUs are 2 GB of states on any of them: a GPU of 1.5 GB lacks at
 * least 0.5 GB, and the least at the largest degree. */
static void what_does_not_fit_has_a_nearest_miss(void)
{
    struct fixture f;
    struct plan_request r;
    struct plan_fit fit, alone;
    struct err e = {0};
    request_init(&f, &r, 64000);
    f.cluster.gpu.memory_bytes = 1.5e9;
    gsl_test(!plan_fit(&r, &(struct plan_limits){0}, &fit, arena, &e), "an answer: %s", e.text);
    gsl_test_int(fit.verdict, FIT_MEMORY, "it does not fit");
    gsl_test(!(fit_short(&fit) >= 0.5e9), "short by %g", fit_short(&fit));
    gsl_test_rel(fit.memory.part[MEM_STATES], 2e9, 1e-12, "states");
    for (int cp = 1; cp <= 8; cp *= 2) {
        r.cp = cp;
        plan_fit(&r, &(struct plan_limits){0}, &alone, arena, &e);
        gsl_test(alone.memory.total < fit.memory.total, "CP %d is not nearer", cp);
    }
    r.cp = 3;
    plan_fit(&r, &(struct plan_limits){0}, &fit, arena, &e);
    gsl_test_int(fit.verdict, FIT_IMPOSSIBLE, "3 ranks of 8 GPUs: %s", fit.reason);
}

/* ---- ladders ---- */

struct rungs {
    unsigned good; /* bit i: rung i holds */
    int asked;
};

static bool rung_holds(void *data, int rung, bool *yes, struct err *e)
{
    struct rungs *r = data;
    (void)e;
    r->asked++;
    *yes = rung >= 32 ? rung < 1000 : r->good >> rung & 1;
    return true;
}

static void the_last_rung_is_found_on_every_ladder(void)
{
    for (int most = 1; most <= 20; most++)
        for (int last = 0; last <= most; last++) {
            struct rungs r = {.good = (2u << last) - 1};
            struct ladder l = {most, &r, rung_holds};
            struct err e = {0};
            int found = -1;
            gsl_test(!ladder_last(&l, &found, &e), "%s", e.text);
            gsl_test_int(found, last, "of %d rungs", most);
        }
}

/* Rungs 0..9 and 12 hold: 12 is within LADDER_BEYOND of 9. */
static void a_rung_that_holds_again_above_is_found(void)
{
    struct rungs r = {.good = 0x3ff | 1 << 12};
    struct err e = {0};
    int found;
    ladder_last(&(struct ladder){20, &r, rung_holds}, &found, &e);
    gsl_test_int(found, 12, "beyond a gap of two");
}

static void long_ladders_take_few_questions(void)
{
    struct rungs r = {.good = ~0u};
    struct err e = {0};
    int found;
    ladder_last(&(struct ladder){1 << 30, &r, rung_holds}, &found, &e);
    gsl_test_int(found, 999, "of 2^30 rungs");
    gsl_test(r.asked > 30, "%d questions", r.asked);
}

int main(void)
{
    arena = arena_new();
    without_limits_it_is_the_plan();
    a_limit_takes_the_best_degree_that_keeps_it();
    sure_asks_the_slow_end();
    what_does_not_fit_has_a_nearest_miss();
    the_last_rung_is_found_on_every_ladder();
    a_rung_that_holds_again_above_is_found();
    long_ladders_take_few_questions();
    arena_free(arena);
    return gsl_test_summary();
}
