/* Stages and the time that is not steps, by hand. */
#include "planner/budget.h"

#include <gsl/gsl_test.h>
#include <math.h>
#include <string.h>

#include "base/rng.h"

static void stages_are_shorter_in_the_beginning(void)
{
    double b[5], want[] = {100, 150, 300, 550, 900}; /* 100 + 800 (k/4)^2 */
    budget_bounds(100, 900, 4, b);
    for (int k = 0; k < 5; k++)
        gsl_test_rel(b[k], want[k], 1e-15, "boundary %d", k);
}

static void work_adds_up_over_stages(void)
{
    struct budget_stage s[] = {{0, 100, {10, 9, 12}}, {100, 400, {5, 4, 6}}};
    struct interval t = budget_gpu_s(s, 2, 32); /* 32 (100 x 10 + 300 x 5) */
    gsl_test_rel(t.value_s, 80000, 1e-15, "estimate");
    gsl_test_rel(t.low_s, 67200, 1e-15, "32 (900 + 1200)");
    gsl_test_rel(t.high_s, 96000, 1e-15, "32 (1200 + 1800)");
}

static double wall(double work_s, int gpus, int stages, struct budget_extra x)
{
    struct err e = {0};
    double s = -1;
    gsl_test(!budget_wall_s(work_s, gpus, stages, &x, &s, &e), "ends: %s", e.text);
    return s;
}

static void each_extra_is_as_by_hand(void)
{
    gsl_test_rel(wall(1000, 8, 5, (struct budget_extra){0}), 1000, 1e-15, "nothing is added");
    gsl_test_rel(wall(1000, 8, 5, (struct budget_extra){.overhead = 0.03}), 1030, 1e-15, "3%%");
    gsl_test_rel(wall(1000, 8, 5, (struct budget_extra){.replan_s = 20}), 1080, 1e-15,
                 "four changes of 20 s");
    gsl_test_rel(wall(3600, 8, 1, (struct budget_extra){.save_every_s = 600, .save_s = 30}), 3780,
                 1e-15, "six checkpoints of 30 s");
    /* 100 GPUs of 1e6 s: a failure every 10,000 s costs 400 + 600/2 = 700 s: 7% of all time. */
    gsl_test_rel(
        wall(93000, 100, 1,
             (struct budget_extra){.save_every_s = 600, .gpu_mtbf_s = 1e6, .restart_s = 400}),
        100000, 1e-12, "failures");
}

static void a_run_that_fails_too_often_never_ends(void)
{
    struct budget_extra x = {.save_every_s = 3600, .gpu_mtbf_s = 1e6, .restart_s = 600};
    struct err e = {0};
    double s;
    gsl_test(budget_wall_s(1000, 1000, 1, &x, &s, &e), "1000 GPUs fail every 1000 s, lose 2400 s");
    gsl_test(e.code != ERR_INFEASIBLE || !strstr(e.text, "never ends"), "%s", e.text);
}

/* Plays failures one by one: exponential times between them over wall time, each throwing away what
 * was done since the last checkpoint. The first-order formula is within 2% where 3% of the time is
 * lost. */
static void failures_cost_what_a_simulation_of_them_does(void)
{
    double every = 3600, restart = 900, rate = 1.0 / 90000, work = 3.6e7, t = 0, done = 0;
    struct rng r = rng_stream(7, "failures", 0, 0, 0);
    while (done < work) {
        double next = -log1p(-rng_uniform(&r)) / rate, left = work - done;
        if (next >= left) {
            t += left;
            break;
        }
        t += next + restart;
        done += floor(next / every) * every; /* checkpoints count from the restart */
    }
    struct budget_extra x = {.save_every_s = every, .gpu_mtbf_s = 64 / rate, .restart_s = restart};
    gsl_test_rel(wall(work, 64, 1, x), t, 0.02, "simulated");
}

int main(void)
{
    stages_are_shorter_in_the_beginning();
    work_adds_up_over_stages();
    each_extra_is_as_by_hand();
    a_run_that_fails_too_often_never_ends();
    failures_cost_what_a_simulation_of_them_does();
    return gsl_test_summary();
}
