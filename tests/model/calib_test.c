/* Exchanges by calibrated curve in the closed forms, and how well classes are known. */
#include <gsl/gsl_test.h>
#include <math.h>

#include "model/calib.h"
#include "model/cost.h"

/* One phase alone: the program's time is the phase's. */
static double phase_s(const struct hw_cluster *c, enum phase_kind kind, const double *from,
                      const double *to, int ranks, int calls, struct arena *a)
{
    struct cp_phase phase = {.name = "x",
                             .kind = kind,
                             .scope = SCOPE_ROW,
                             .cost = CLASS_COLLECTIVE,
                             .from = from,
                             .to = to,
                             .calls = calls};
    struct cp_program p = {.ranks = ranks, .phase_count = 1, .phases = &phase};
    struct cp_conf conf = {.head_groups = ranks, .seq_groups = 1, .heads_inside = true};
    return cost_program_time(&p, &conf, c, a, a).total_s;
}

static void an_equal_exchange_takes_the_time_of_the_profile(void)
{
    struct arena *a = arena_new();
    struct err e = {0};
    const struct hw_cluster *plain = hw_cluster_load("2x8-h100-400g", err_at_name("test"), a, &e);
    gsl_test(!plain, "%s", e.text);
    struct hw_cluster c = *plain;
    gsl_test(!calib_cluster(&c, a, &e), "%s", e.text);
    gsl_test(!c.net || !c.curves, "the H100 has both profiles");
    double from[16], to[16];
    for (int i = 0; i < 16; i++) {
        from[i] = 64e6 / 8; /* 8 equal parts, one stays: nccl-tests calls it 64 MB */
        to[i] = 1;
    }
    struct coll_query q = {.op = COLL_ALLTOALL, .bytes = 64e6, .gpus = 8, .nodes = 1};
    gsl_test_rel(phase_s(&c, PHASE_ALLTOALL, from, to, 8, 1, a),
                 prof_collective(c.net, &q).time.value_s, 1e-9, "all-to-all");
    gsl_test(phase_s(plain, PHASE_ALLTOALL, from, to, 8, 1, a) ==
                 phase_s(&c, PHASE_ALLTOALL, from, to, 8, 1, a),
             "and not that of the preset");
    q.bytes = 32e6;
    gsl_test_rel(phase_s(&c, PHASE_ALLTOALL, from, to, 8, 2, a),
                 2 * prof_collective(c.net, &q).time.value_s, 1e-9, "in two calls");
    q = (struct coll_query){.op = COLL_ALL_GATHER, .bytes = 64e6, .gpus = 8, .nodes = 1};
    gsl_test_rel(phase_s(&c, PHASE_ALLGATHER, from, NULL, 8, 1, a),
                 prof_collective(c.net, &q).time.value_s, 1e-9, "all-gather");
    q = (struct coll_query){
        .op = COLL_ALLTOALL, .bytes = 128e6, .gpus = 16, .nodes = 2, .nic_bytes_per_s = 50e9};
    gsl_test_rel(phase_s(&c, PHASE_ALLTOALL, from, to, 16, 1, a),
                 prof_collective(c.net, &q).time.value_s, 1e-9, "two nodes");
    to[3] = 2;
    gsl_test(phase_s(&c, PHASE_ALLTOALL, from, to, 16, 1, a) <=
                 prof_collective(c.net, &q).time.value_s,
             "more bytes, more time");
    arena_free(a);
}

static void every_class_has_an_error_bar_and_unknown_gpus_wide_ones(void)
{
    struct arena *a = arena_new();
    struct err e = {0};
    const struct hw_cluster *plain = hw_cluster_load("1x8-h100", err_at_name("test"), a, &e);
    struct hw_cluster c = *plain, strange = *plain;
    double known[COST_CLASSES], unknown[COST_CLASSES];
    strange.gpu.name = "abacus";
    gsl_test(!calib_cluster(&c, a, &e) || !calib_cluster(&strange, a, &e), "%s", e.text);
    gsl_test(strange.net != NULL, "nobody calibrated an abacus");
    calib_half_widths(&c, known);
    calib_half_widths(&strange, unknown);
    for (int i = 0; i < COST_CLASSES; i++)
        gsl_test(!(known[i] > 0) || unknown[i] < known[i], "class %d: %g against %g", i, known[i],
                 unknown[i]);
    arena_free(a);
}

int main(void)
{
    an_equal_exchange_takes_the_time_of_the_profile();
    every_class_has_an_error_bar_and_unknown_gpus_wide_ones();
    return gsl_test_summary();
}
