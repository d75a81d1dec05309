/* Profiles: what the shipped files predict stays within what is physically possible, rises where it
 * must, and says when it extrapolates. Values come from hand arithmetic on small profiles written
 * here. */
#include <gsl/gsl_test.h>
#include <math.h>
#include <stdio.h>
#include <string.h>

#include "base/preset.h"
#include "model/prof.h"

static const double bytes[] = {1024, 4096, 16384, 65536}, times[] = {10e-6, 10e-6, 20e-6, 60e-6};
static const struct prof_curve curve = {.op = COLL_ALLTOALL,
                                        .gpus = 4,
                                        .nodes = 1,
                                        .origin = PROF_INSIDE,
                                        .count = 4,
                                        .bytes = bytes,
                                        .time_s = times};

static void a_curve_passes_through_its_points_and_rises_between(void)
{
    for (int i = 0; i < 4; i++)
        gsl_test_rel(prof_curve_s(&curve, bytes[i]), times[i], 1e-12, "point %d", i);
    double last = 0;
    for (double b = 512; b < 1e6; b *= 1.01) {
        double t = prof_curve_s(&curve, b);
        gsl_test(t < last, "%g bytes: %g s after %g s", b, t, last);
        last = t;
    }
}

static void inside_it_is_between_the_chord_and_the_lower_neighbour(void)
{
    /* At 10,240 bytes: chord 10 + 10 * 6144/12288 = 15 us; the line before is flat (10 us), the
     * line after would be below the chord: 20 - 40 * 6144/49152 = 15 us. The lower line, 10, is
     * under the chord, so the chord it is. */
    gsl_test_rel(prof_curve_s(&curve, 10240), 15e-6, 1e-12, "half way");
    /* Beyond: 60 us + 40 us * 65536/49152. */
    gsl_test_rel(prof_curve_s(&curve, 131072), 60e-6 + 40e-6 * 65536 / 49152, 1e-12,
                 "twice the last size");
    gsl_test_rel(prof_curve_s(&curve, 1), 10e-6, 1e-12, "below the first size");
}

static const struct prof_net *net(const char *name, struct arena *a)
{
    struct err e = {0};
    const struct prof_net *p = prof_net_load(name, err_at_name("test"), a, &e);
    gsl_test(!p, "%s: %s", name, p ? "loads" : e.text);
    return p;
}

static void time_rises_with_bytes_for_every_shipped_network(void)
{
    struct arena *a = arena_new();
    struct err e = {0};
    const char **names = preset_list("net", a, &e);
    for (int i = 0; names[i]; i++) {
        const struct prof_net *p = net(names[i], a);
        static const int shapes[][2] = {{2, 1},  {3, 1},  {4, 1},  {8, 1},   {16, 1},
                                        {16, 2}, {24, 3}, {32, 4}, {512, 64}};
        for (int op = 0; p && op < COLL_OPS; op++)
            for (int s = 0; s < 9; s++) {
                double last = 0;
                bool rises = true;
                for (double b = 256; b < 3e10; b *= 1.13) {
                    struct coll_query q = {.op = (enum coll_op)op,
                                           .type = COLL_HALF,
                                           .bytes = b,
                                           .gpus = shapes[s][0],
                                           .nodes = shapes[s][1],
                                           .nic_bytes_per_s = 50e9};
                    struct prediction r = prof_collective(p, &q);
                    rises = rises && r.time.value_s >= last * (1 - 1e-12) &&
                            r.time.low_s <= r.time.value_s && r.time.high_s >= r.time.value_s;
                    last = r.time.value_s;
                }
                gsl_test(!rises, "%s %s on %d GPUs, %d nodes", names[i], coll_op_names[op],
                         shapes[s][0], shapes[s][1]);
            }
    }
    arena_free(a);
}

static void a_ring_of_four_sends_three_quarters_and_copies_all(void)
{
    gsl_test_rel(coll_work_share(COLL_ALL_GATHER, 4), 3. / 4 + 1, 1e-15, "4 steps of 1/4");
    gsl_test_rel(coll_work_share(COLL_ALL_REDUCE, 4), 6. / 4 + 7. / 4, 1e-15, "twice, less one");
    gsl_test_rel(coll_work_share(COLL_SEND_RECV, 4), 1, 1e-15, "a message is a message");
}

static void nobody_beats_the_wire(void)
{
    struct arena *a = arena_new();
    const struct prof_net *p = net("h100", a);
    struct coll_query q = {.op = COLL_ALLTOALL, .bytes = 1e9, .gpus = 8, .nodes = 1};
    double least = 1e9 * 7 / 8 / 450e9; /* 450 GB/s: NVLink 4, one direction */
    gsl_test(prof_collective(p, &q).time.value_s < least, "all-to-all of 1 GB on one node");
    q = (struct coll_query){
        .op = COLL_ALLTOALL, .bytes = 1e9, .gpus = 16, .nodes = 2, .nic_bytes_per_s = 50e9};
    gsl_test(prof_collective(p, &q).time.value_s < 1e9 / 2 / 50e9,
             "half of an all-to-all crosses two nodes");
    arena_free(a);
}

static void extrapolation_is_said_and_widens(void)
{
    struct arena *a = arena_new();
    const struct prof_net *p = net("h100", a);
    struct coll_query q = {.op = COLL_ALL_GATHER, .bytes = 64 << 20, .gpus = 8, .nodes = 1};
    struct prediction in = prof_collective(p, &q);
    q.bytes = 64e9;
    struct prediction far = prof_collective(p, &q);
    q = (struct coll_query){.op = COLL_ALL_GATHER, .bytes = 64 << 20, .gpus = 6, .nodes = 1};
    struct prediction six = prof_collective(p, &q);
    gsl_test(!in.in_range || in.class > PROF_INSIDE, "64 MiB on 8 GPUs is within the table");
    gsl_test(far.in_range || far.class != PROF_OUTSIDE, "64 GB is beyond it");
    gsl_test(six.class != PROF_COUNT, "6 GPUs were not measured");
    gsl_test(!(far.time.high_s / far.time.value_s > in.time.high_s / in.time.value_s),
             "and the interval is wider");
    gsl_test(!(six.time.high_s / six.time.value_s > in.time.high_s / in.time.value_s), "there too");
    arena_free(a);
}

static void kernels_rise_with_tokens_heads_and_keep(void)
{
    struct arena *a = arena_new();
    struct err e = {0};
    const char **names = preset_list("curve", a, &e);
    for (int i = 0; names[i]; i++) {
        const struct prof_kernels *p = prof_kernels_load(names[i], err_at_name("test"), a, &e);
        gsl_test(!p, "%s: %s", names[i], p ? "loads" : e.text);
        for (int causal = 0; p && causal < 2; causal++)
            for (int d = 64; d <= 160; d += 32) {
                double last = 0;
                bool rises = true;
                for (double s = 100; s < 2e5; s = s * 1.05 + 1) {
                    struct attention_query q = {.causal = causal,
                                                .batch = 1,
                                                .heads = 5,
                                                .queries = s,
                                                .keys = s,
                                                .head_dim = d};
                    double t = prof_attention(p, &q).time.value_s;
                    rises = rises && t >= last;
                    last = t;
                }
                gsl_test(!rises, "%s, causal %d, head_dim %d", names[i], causal, d);
            }
        double last = 0;
        for (double m = 16; p && p->gemm.rate > 0 && m < 1e5; m *= 1.1) {
            double t = prof_gemm(p, m, 4096, 4096).time.value_s;
            gsl_test(t < last, "%s: gemm m %g", names[i], m);
            last = t;
        }
    }
    arena_free(a);
}

static void dense_attention_does_not_beat_the_peak(void)
{
    struct arena *a = arena_new();
    struct err e = {0};
    const struct prof_kernels *p = prof_kernels_load("h100", err_at_name("test"), a, &e);
    for (double s = 1024; s <= 131072; s *= 2) {
        struct attention_query q = {
            .batch = 1, .heads = 16, .queries = s, .keys = s, .head_dim = 128};
        double flops = 4 * 16 * s * s * 128 / prof_attention(p, &q).time.value_s;
        gsl_test(flops > 989e12, "%g tokens: %.0f TFLOP/s of 989", s, flops * 1e-12);
    }
    /* FlashAttention-3 paper: 648 TFLOP/s at 16k, hidden 2048. */
    struct attention_query q = {
        .batch = 1, .heads = 16, .queries = 16384, .keys = 16384, .head_dim = 128};
    gsl_test_rel(prof_attention(p, &q).time.value_s, 4 * 16 * 16384. * 16384 * 128 / 648e12, 0.05,
                 "FA3 at 16k");
    arena_free(a);
}

static void sparse_time_is_rows_plus_pairs(void)
{
    struct prof_kernels p = {.sparse = {.row_s = {1e-9, 2e-9},
                                        .pair_s = {3e-12, 60e-12},
                                        .cache_bytes = 25e6,
                                        .cache_slope = 0.3,
                                        .least_keys = 1,
                                        .most_keys = 1e9,
                                        .longest = 64000,
                                        .origin = PROF_INSIDE}};
    /* 1000 rows, 1e6 pairs: 1 + 3 us; half of 50 MB of K and V misses a
     * 25 MB cache: 3 us x 0.3 / 2 more. */
    gsl_test_rel(prof_sparse(&p, false, 1000, 1e6, 1000, 128).time.value_s, 4e-6, 1e-12, "forward");
    gsl_test_rel(prof_sparse(&p, false, 1000, 1e6, 50e6 / 512, 128).time.value_s,
                 1e-6 + 3e-6 * 1.15, 1e-12, "out of the cache");
    gsl_test_rel(prof_sparse(&p, true, 1000, 1e6, 50e6 / 512, 128).time.value_s, 62e-6, 1e-12,
                 "backward");
    gsl_test_rel(prof_sparse(&p, true, 1000, 1e6, 1, 64).time.value_s, 31e-6, 1e-12,
                 "half the head");
    gsl_test(!prof_sparse(&p, false, 1000, 1e6, 64000, 128).in_range ||
                 prof_sparse(&p, false, 1000, 1e6, 64001, 128).in_range,
             "64,000 tokens were measured, more were not");
}

static void errors_add_up_within_a_class_and_in_squares_across(void)
{
    double t[3] = {3, 4, 0}, h[3] = {0.1, 0.1, 9};
    struct interval s = interval_sum(t, h, 3);
    gsl_test_rel(s.value_s, 7, 1e-15, "sum");
    gsl_test_rel(log(s.high_s / 7), 0.5 / 7, 1e-12, "sqrt(0.3^2 + 0.4^2) = 0.5 s");
    gsl_test_rel(interval_of(2, log(2)).low_s, 1, 1e-12, "half");
    double a[2] = {10, 1}, b[2] = {10, 1.2}, g[2] = {0.5, 0.1};
    int widest;
    gsl_test(interval_tie(a, b, g, 2, &widest),
             "0.2 s apart, known to 0.02 s: what they share cancels");
    gsl_test_int(widest, 1, "the class they differ in");
    b[0] = 10.5;
    b[1] = 0.7;
    gsl_test(!interval_tie(a, b, g, 2, &widest), "0.2 s apart, known to 0.25 s");
    gsl_test_int(widest, 0, "attention is the one to measure");
}

static void broken_profiles_are_refused_with_a_place(void)
{
    static const char *const bad[][2] = {
        {"format: shardwise-curve/1\n", "want 'shardwise-net/1'"},
        {"format: shardwise-net/1\nname: x\nsource: y\nhalf_width: {point: [1]}\n",
         "two half-widths"},
    };
    struct arena *a = arena_new();
    for (int i = 0; i < 2; i++) {
        struct err e = {0};
        FILE *f = fopen("prof_test_bad.yaml", "w");
        fputs(bad[i][0], f);
        fclose(f);
        gsl_test(prof_net_load("./prof_test_bad.yaml", err_at_name("test"), a, &e) != NULL,
                 "broken profile %d", i);
        gsl_test(!strstr(e.text, bad[i][1]), "%s", e.text);
    }
    remove("prof_test_bad.yaml");
    arena_free(a);
}

int main(void)
{
    a_curve_passes_through_its_points_and_rises_between();
    inside_it_is_between_the_chord_and_the_lower_neighbour();
    time_rises_with_bytes_for_every_shipped_network();
    a_ring_of_four_sends_three_quarters_and_copies_all();
    nobody_beats_the_wire();
    extrapolation_is_said_and_widens();
    kernels_rise_with_tokens_heads_and_keep();
    dense_attention_does_not_beat_the_peak();
    sparse_time_is_rows_plus_pairs();
    errors_add_up_within_a_class_and_in_squares_across();
    broken_profiles_are_refused_with_a_place();
    return gsl_test_summary();
}
