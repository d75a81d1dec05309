/* Fits find what made the points: every truth here is written down first. */
#include <gsl/gsl_test.h>
#include <math.h>
#include <stdio.h>
#include <string.h>

#include "validate/fit_kernel.h"
#include "validate/fit_net.h"
#include "validate/floor.h"
#include "validate/lsq.h"

enum { SIZES = 10 };

static struct point coll(enum coll_op op, int gpus, double bytes, double time_s)
{
    return (struct point){
        .kind = POINT_COLLECTIVE,
        .gpu = "x",
        .role = "",
        .kernel = "",
        .source = "",
        .time_s = time_s,
        .coll = {.op = op, .type = COLL_ANY, .bytes = bytes, .gpus = gpus, .nodes = 1}};
}

static void straight(const double *x, const void *data, double *r)
{
    const double *y = data;
    for (int i = 0; i < 20; i++)
        r[i] = x[0] + x[1] * i - y[i];
}

static void one_bad_row_does_not_bend_a_fit(void)
{
    double y[20], x[2] = {0, 0};
    struct err e = {0};
    for (int i = 0; i < 20; i++)
        y[i] = 5 + 2 * i;
    y[13] += 1000;
    gsl_test(!lsq_fit(straight, y, 20, x, 2, 0.01, &e), "%s", e.text);
    gsl_test_abs(x[0], 5, 0.05, "intercept");
    gsl_test_abs(x[1], 2, 0.01, "slope");
    gsl_test(lsq_fit(straight, y, 1, x, 2, 0.01, &e), "one residual for two unknowns");
}

static void quantiles_follow_the_conformal_rank(void)
{
    double v[9] = {9, 1, 8, 2, 7, 3, 6, 4, 5};
    gsl_test_rel(quantile(v, 9, 0.9), 9, 0, "ceil(0.9 * 10) = 9th of 9");
    gsl_test_rel(quantile(v, 9, 0.5), 5, 0, "ceil(0.5 * 10) = 5th");
    gsl_test_rel(quantile(v, 0, 0.5), 0, 0, "of nothing");
}

static void repeats_become_medians_and_falls_are_levelled(void)
{
    struct arena *a = arena_new();
    struct point p[] = {coll(COLL_ALLTOALL, 4, 1024, 10e-6), coll(COLL_ALLTOALL, 4, 1024, 12e-6),
                        coll(COLL_ALLTOALL, 4, 1024, 11e-6), coll(COLL_ALLTOALL, 4, 4096, 9e-6),
                        coll(COLL_ALLTOALL, 4, 8192, 30e-6), coll(COLL_ALLTOALL, 4, 8192, 90e-6)};
    struct points pts = {.count = 6, .point = p};
    struct point_filter f = {.gpu = "x"};
    struct prof_curve *c;
    int conflicts = 0;
    gsl_test_int(fit_curves(&pts, &f, &c, &conflicts, a), 1, "one curve");
    gsl_test_int(c->count, 3, "three sizes");
    gsl_test_rel(c->time_s[0], sqrt(11e-6 * 9e-6), 1e-12,
                 "11 and 9 us are levelled to their geometric mean");
    gsl_test_rel(c->time_s[1], c->time_s[0], 1e-12, "both");
    gsl_test_rel(c->time_s[2], 60e-6, 1e-12, "the middle of two");
    gsl_test_int(conflicts, 1, "30 against 90 us contradict each other");
    arena_free(a);
}

/* Truth: 10 us + bytes / 100 GB/s; the relative: 5 us + bytes / 300 GB/s. */
static void two_anchors_stretch_a_relative_of_the_same_form_exactly(void)
{
    struct arena *a = arena_new();
    double bytes[SIZES], relative[SIZES], ends[2], end_times[2];
    for (int i = 0; i < SIZES; i++) {
        bytes[i] = 1024 * pow(4, i);
        relative[i] = 5e-6 + bytes[i] / 300e9;
    }
    ends[0] = bytes[0];
    ends[1] = bytes[SIZES - 1];
    for (int i = 0; i < 2; i++)
        end_times[i] = 10e-6 + ends[i] / 100e9;
    struct prof_curve r = {.op = COLL_ALLTOALL,
                           .gpus = 8,
                           .nodes = 1,
                           .count = SIZES,
                           .bytes = bytes,
                           .time_s = relative},
                      anchors = r, out;
    anchors.count = 2;
    anchors.bytes = ends;
    anchors.time_s = end_times;
    fit_warp(&r, &anchors, &out, a);
    for (int i = 0; i < SIZES; i++)
        gsl_test_rel(out.time_s[i], 10e-6 + bytes[i] / 100e9, 1e-9, "%g bytes", bytes[i]);
    gsl_test_int(out.origin, PROF_BORROWED, "it says where it is from");
    arena_free(a);
}

/* Truth: link and SMs, 10 us + bytes (1/300 + (n-1)/n / 250) s/GB, which is straight in 1/n. */
static double linked_s(double bytes, int n)
{
    return 10e-6 + bytes * (1 / 300e9 + (n - 1.0) / n / 250e9);
}

static void two_counts_give_the_third_when_time_is_straight_in_1_over_n(void)
{
    struct arena *a = arena_new();
    double bytes[3] = {16 << 20, 64 << 20, 256 << 20}, two[3], four[3];
    for (int i = 0; i < 3; i++) {
        two[i] = linked_s(bytes[i], 2);
        four[i] = linked_s(bytes[i], 4);
    }
    struct prof_curve quarter = {.op = COLL_ALLTOALL,
                                 .gpus = 2,
                                 .nodes = 1,
                                 .count = 3,
                                 .bytes = bytes,
                                 .time_s = two},
                      half = quarter, out;
    struct prof_net nobody = {.name = "none"};
    half.gpus = 4;
    half.time_s = four;
    fit_doubled(&nobody, &half, &quarter, false, &out, a);
    gsl_test_int(out.gpus, 8, "twice four");
    for (int i = 0; i < 3; i++)
        gsl_test_rel(out.time_s[i], linked_s(bytes[i], 8), 1e-12, "%g bytes", bytes[i]);
    fit_doubled(&nobody, &half, NULL, false, &out, a);
    gsl_test_rel(out.time_s[0], four[0] * (15. / 8) / (7. / 4), 1e-12,
                 "by its work alone, (2n-1)/n: from 7/4 to 15/8");
    arena_free(a);
}

/* Student's t at 0.95: 2 degrees 2.9200, 12 degrees 1.7823 (any table of it). */
static void errors_common_to_a_group_widen_the_interval(void)
{
    struct arena *a = arena_new();
    struct residuals list = residuals_new(a);
    const struct residual *v[12];
    double room[12];
    for (int i = 0; i < 12; i++)
        residuals_add(&list, (struct residual){.group = i < 6 ? "one" : "other",
                                               .measured_s = 1,
                                               .predicted_s = exp(i < 6 ? 0.1 : -0.1)});
    for (int i = 0; i < 12; i++)
        v[i] = &list.r[i];
    gsl_test_rel(residuals_width(v, 12, false, -1, room), 0.1 * 2.9200 / 1.7823, 1e-4,
                 "six and six alike are worth two");
    gsl_test_rel(residuals_width(v, 12, false, 0, room), 0.2, 1e-12, "one group: twice");
    for (int i = 0; i < 12; i++)
        list.r[i].predicted_s = exp(i % 2 ? 0.1 : -0.1);
    gsl_test_rel(residuals_width(v, 12, false, -1, room), 0.1, 1e-12,
                 "errors of their own are worth twelve");
    arena_free(a);
}

static void what_neighbours_disagree_on_is_the_tables_own(void)
{
    struct arena *a = arena_new();
    struct prof_kernels fit = {.sms = 1,
                               .gemm = {.rate = 1e12, .hbm_bytes_per_s = 1e15, .narrow = {1, 1}}};
    struct point p[4];
    for (int i = 0; i < 4; i++) { /* the last is seven octaves away */
        p[i] = (struct point){.kind = POINT_GEMM,
                              .gpu = "x",
                              .role = "calib",
                              .m = i == 3 ? 524288 : 4096,
                              .n = 4096,
                              .k = 4096};
        p[i].time_s = prof_gemm_s(&fit.gemm, 1, p[i].m, p[i].n, p[i].k) * (i == 1 ? exp(0.3) : 1);
    }
    struct points pts = {.count = 4, .point = p};
    struct scatter s = scatter_of(&pts, "x", &fit);
    gsl_test_int(s.rows, 4, "all over 1 ms");
    gsl_test_int(s.pairs, 3, "three neighbours");
    gsl_test_rel(s.neighbour_gap, 0.2, 1e-9, "0.3, 0.3 and 0");
    gsl_test_rel(s.floor, 0.2 / sqrt(2), 1e-9, "a difference has two ends");
    struct point c[2] = {coll(COLL_ALLTOALL, 4, 1 << 20, 1e-5),
                         coll(COLL_ALLTOALL, 4, 2 << 20, 2e-5)};
    c[0].role = c[1].role = "calib";
    c[0].least_s = 1e-5;
    c[0].most_s = 1e-5 * exp(0.1);
    pts = (struct points){.count = 2, .point = c};
    s = scatter_of(&pts, "x", NULL);
    gsl_test_int(s.twice, 1, "one of two was run twice");
    gsl_test_rel(s.floor, 0.1 / sqrt(2), 1e-9, "its runs differ by 0.1");
    arena_free(a);
}

static void tiles_and_waves_are_found_again(void)
{
    struct arena *a = arena_new();
    struct prof_attention truth = {.kernel = "t",
                                   .head_dim = 128,
                                   .tile_q = 128,
                                   .tile_k = 176,
                                   .tile_s = 5e-6,
                                   .block_s = 2e-6};
    struct prof_kernels p = {.sms = 132,
                             .launch_s = 6e-6,
                             .wave = 0.95,
                             .tail = 0.5,
                             .heat = 0.12,
                             .heat_s = 3e-3,
                             .attention = &truth,
                             .attention_count = 1};
    struct point pts[80];
    int n = 0;
    for (double s = 512; s < 40000; s *= 1.3)
        for (int h = 1; h <= 27; h *= 3)
            pts[n++] = (struct point){
                .kind = POINT_ATTENTION,
                .gpu = "x",
                .role = "",
                .kernel = "t",
                .attention = {.batch = 1, .heads = h, .queries = s, .keys = s, .head_dim = 128}};
    for (int i = 0; i < n; i++)
        pts[i].time_s = prof_attention_s(&p, &truth, &pts[i].attention);
    struct points all = {.path = "t", .count = n, .point = pts};
    struct fit_view v = {.pts = &all};
    struct prof_kernels k = {.sms = 132};
    struct err e = {0};
    gsl_test(!fit_attention(&v, &k, a, &e), "%s", e.text);
    for (int i = 0; i < n; i++)
        if (fabs(prof_attention(&k, &pts[i].attention).time.value_s / pts[i].time_s - 1) > 0.02)
            gsl_test(1, "%g tokens, %g heads", pts[i].attention.keys, pts[i].attention.heads);
    struct attention_query far = {
        .batch = 2, .heads = 24, .queries = 131072, .keys = 131072, .head_dim = 128};
    gsl_test_rel(prof_attention(&k, &far).time.value_s, prof_attention_s(&p, &truth, &far), 0.03,
                 "128k tokens, out of range");
    gsl_test(prof_attention(&k, &far).in_range, "and it says so");
    arena_free(a);
}

static void a_gpu_half_as_fast_is_found_from_three_anchors(void)
{
    struct arena *a = arena_new();
    struct prof_attention k64 = {.kernel = "t",
                                 .head_dim = 64,
                                 .tile_q = 192,
                                 .tile_k = 192,
                                 .tile_s = 5e-6,
                                 .block_s = 2e-6,
                                 .longest = 1e5};
    struct prof_kernels p = {.name = "t",
                             .sms = 132,
                             .launch_s = 0,
                             .wave = 1,
                             .heat = 0,
                             .heat_s = 1,
                             .attention = &k64,
                             .attention_count = 1};
    struct point pts[3];
    for (int i = 0; i < 3; i++) {
        pts[i] = (struct point){
            .kind = POINT_ATTENTION,
            .gpu = "y",
            .role = "",
            .kernel = "t",
            .attention = {
                .batch = 1, .heads = 16, .queries = 8192 << i, .keys = 8192 << i, .head_dim = 64}};
        pts[i].time_s = 2 * prof_attention_s(&p, &k64, &pts[i].attention);
    }
    struct points all = {.path = "t", .count = 3, .point = pts};
    struct fit_view v = {.pts = &all};
    struct prof_kernels out;
    struct err e = {0};
    gsl_test(!fit_scaled(&p, &v, &v, 132, &out, a, &e), "%s", e.text);
    gsl_test_rel(out.attention[0].block_s, 4e-6, 1e-6, "twice the time a block");
    gsl_test_int(out.attention[0].origin, PROF_BORROWED, "borrowed");
    gsl_test_rel(out.gemm.rate, 0, 0, "no GEMM anchor, no GEMM");
    arena_free(a);
}

static void sparse_lines_are_found_again(void)
{
    struct point pts[12];
    int n = 0;
    for (int backward = 0; backward < 2; backward++)
        for (int i = 0; i < 5; i++) {
            double kept = 1000.0 * (i + 1), rows = 512000, t = backward ? 9e-9 : 0.5e-9,
                   c = backward ? 57e-12 : 2.7e-12;
            pts[n++] = (struct point){.kind = POINT_SPARSE,
                                      .gpu = "h100",
                                      .role = "",
                                      .kernel = "",
                                      .backward = backward,
                                      .rows = rows,
                                      .kept = kept,
                                      .pairs = rows * kept,
                                      .keys_held = 32000,
                                      .attention = {.head_dim = 128},
                                      .time_s = rows * t + rows * kept * c};
        }
    struct points all = {.path = "t", .count = n, .point = pts};
    struct fit_view v = {.pts = &all};
    struct prof_sparse k;
    struct err e = {0};
    gsl_test(!fit_sparse(&v, &k, &e), "%s", e.text);
    gsl_test_rel(k.row_s[0], 0.5e-9, 1e-6, "forward row");
    gsl_test_rel(k.pair_s[1], 57e-12, 1e-6, "backward pair");
    for (int i = 0; i < n; i++)
        pts[i].time_s = 1e-3 * (n - i);
    gsl_test(fit_sparse(&v, &k, &e), "times that fall with the kept keys");
}

int main(void)
{
    one_bad_row_does_not_bend_a_fit();
    quantiles_follow_the_conformal_rank();
    repeats_become_medians_and_falls_are_levelled();
    two_anchors_stretch_a_relative_of_the_same_form_exactly();
    two_counts_give_the_third_when_time_is_straight_in_1_over_n();
    errors_common_to_a_group_widen_the_interval();
    what_neighbours_disagree_on_is_the_tables_own();
    tiles_and_waves_are_found_again();
    a_gpu_half_as_fast_is_found_from_three_anchors();
    sparse_lines_are_found_again();
    return gsl_test_summary();
}
