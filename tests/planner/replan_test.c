/* New plans while sparsity moves: the square-root rule by hand, the exact choice against all
 * subsets, stale plans against evaluating their blocks one by one. */
#include "planner/replan.h"

#include <gsl/gsl_test.h>
#include <math.h>
#include <string.h>

#include "base/rng.h"
#include "planner/search.h"
#include "tests/model/fixture.h"

enum { MOST = 201 };

static struct arena *arena;
static double steps[MOST], times[MOST * MOST];

/* Points every `stride` steps; a plan of age t costs base + a t + b t^2 a step. */
static struct replan_run drift(int count, double stride, double base, double a, double b, double c)
{
    for (int i = 0; i < count; i++) {
        steps[i] = i * stride;
        for (int j = i; j < count; j++)
            times[i * count + j] = base + a * (j - i) * stride + b * pow((j - i) * stride, 2);
    }
    return (struct replan_run){count, steps, times, c};
}

static void a_linear_regret_gives_the_square_root_rule(void)
{
    struct replan_run r = drift(201, 100, 3, 1e-6, 0, 2);
    struct replan_pace p = replan_pace(&r, 0);
    gsl_test_rel(p.interval, 2000, 1e-12, "KA21");
    gsl_test_rel(p.slope, 1e-6, 1e-12, "its slope");
    int at[MOST], n = replan_by_pace(&r, at);
    gsl_test_int(n, 10, "20,000 steps in tens");
    gsl_test_int(at[3], 60, "every 2,000");
    /* 20,000 steps of 3 s, nine waits of 2 s, ten times 1e-6 x 2000^2 / 2 of regret */
    gsl_test_rel(replan_total_s(&r, at, n), 60000 + 18 + 20, 1e-12, "by hand");
    gsl_test_int(replan_best(&r, at, arena), 10, "no choice of points is better");
    gsl_test_rel(replan_total_s(&r, at, 10), 60038, 1e-12, "nor cheaper");
    int first[1] = {0};
    gsl_test_rel(replan_total_s(&r, first, 1), 60000 + 1e-6 * 2e4 * 2e4 / 2, 1e-12, "never");
}

/* r = b t^2: t r - b t^3 / 3 = C, so t = (3 C / (2 b))^(1/3) = 1442.2 for C = 2, b = 1e-9. */
static void a_regret_that_bends_has_its_own_best_age(void)
{
    struct replan_run r = drift(201, 10, 1, 0, 1e-9, 2);
    gsl_test_rel(replan_pace(&r, 0).interval, cbrt(3e9), 1e-4, "cube root");
    r = drift(20, 10, 1, 0, 0, 2);
    gsl_test(isfinite(replan_pace(&r, 0).interval), "what does not drift is never planned anew");
    int at[MOST];
    gsl_test_int(replan_by_pace(&r, at), 1, "one plan");
    gsl_test_int(replan_best(&r, at, arena), 1, "one plan");
}

static void the_exact_choice_is_the_best_of_all_subsets(void)
{
    enum { N = 10 };
    struct rng g = rng_stream(3, "replan", 0, 0, 0);
    for (int k = 0; k < 50; k++) {
        struct replan_run r = drift(N, 100, 1, 0, 0, (double)rng_below(&g, 100));
        for (int i = 1; i < N; i++)
            steps[i] = steps[i - 1] + 1 + (double)rng_below(&g, 200);
        for (int i = 0; i < N * N; i++)
            times[i] = 1 + 0.01 * (double)rng_below(&g, 100);
        times[2 * N + 6] = k % 3 ? times[2 * N + 6] : INFINITY; /* no longer fits */
        double least = INFINITY;
        int at[N];
        for (unsigned set = 0; set < 1u << (N - 2); set++) {
            int count = 1;
            at[0] = 0;
            for (int i = 1; i < N - 1; i++)
                if (set >> (i - 1) & 1)
                    at[count++] = i;
            least = fmin(least, replan_total_s(&r, at, count));
        }
        int count = replan_best(&r, at, arena);
        gsl_test_rel(replan_total_s(&r, at, count), least, 1e-12, "draw %d", k);
    }
}

static void stale_plans_are_their_blocks_under_new_keeps(void)
{
    struct fixture f;
    struct err e = {0};
    fixture_init(&f, 16, 16, 64000, 2, 4, 1, 0.5, arena);
    double *keep = ARENA_ARRAY(arena, double, 32);
    for (int h = 0; h < 16; h++) {
        keep[h] = 0.01 + 0.02 * ((h * 7) % 16);
        keep[16 + h] = 0.01 + 0.02 * ((h * 5 + 3) % 16);
    }
    f.sparsity.keep = keep;
    f.cluster.gpu.sm_count = 132;
    f.c.options = cp_options_default();
    struct plan_request r = {.c = f.c,
                             .memory = mem_options_default(8),
                             .phase = PLAN_ATTENTION,
                             .cp = 8,
                             .query_group = 32,
                             .eval = &eval_cost,
                             .keep_candidates = 1};
    struct plan_found first, fresh;
    struct plan same, stale;
    gsl_test(!plan_search(&r, &first, arena, &e) || !plan_reprice(&r, first.plan, &same, arena, &e),
             "planned %s", e.text);
    gsl_test_rel(same.step_s, first.plan->step_s, 0, "at its own time nothing changes");
    gsl_test_rel(same.memory_peak.total, first.plan->memory_peak.total, 0, "nor memory");
    f.sparsity.keep = keep + 16; /* heads have changed places */
    gsl_test(!plan_search(&r, &fresh, arena, &e) ||
                 !plan_reprice(&r, first.plan, &stale, arena, &e),
             "planned again %s", e.text);
    struct cp_program p = cp_program_of(&r.c, 0, &first.plan->blocks[0].conf, arena);
    double alone =
        cost_program_time(&p, &first.plan->blocks[0].conf, &f.cluster, arena, arena).total_s;
    gsl_test_rel(stale.step_s, alone, 1e-12, "the block as it was dealt, its heads as they are");
    gsl_test(stale.step_s < fresh.plan->step_s * (1 - 1e-12), "a fresh plan is no slower");
    gsl_test(stale.step_s < 1.01 * fresh.plan->step_s, "heads out of place cost more than 1%%: %g",
             stale.step_s / fresh.plan->step_s);
}

int main(void)
{
    arena = arena_new();
    a_linear_regret_gives_the_square_root_rule();
    a_regret_that_bends_has_its_own_best_age();
    the_exact_choice_is_the_best_of_all_subsets();
    stale_plans_are_their_blocks_under_new_keeps();
    arena_free(arena);
    return gsl_test_summary();
}
