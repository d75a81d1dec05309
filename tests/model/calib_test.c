/* Exchanges by calibrated curve in the closed forms, and how well classes are known. */
#include <gsl/gsl_test.h>
#include <math.h>
#include <string.h>

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

/* Seven hops of 8 MB without any computing. */
static double ring_s(const struct hw_cluster *c, struct arena *a)
{
    double hop[8], none[8] = {0};
    for (int i = 0; i < 8; i++)
        hop[i] = 8e6;
    struct cp_phase phase = {.name = "x",
                             .kind = PHASE_RING,
                             .scope = SCOPE_COLUMN,
                             .cost = CLASS_ATTENTION_DENSE,
                             .from = hop,
                             .to = hop,
                             .seconds = none,
                             .calls = 1};
    struct cp_program p = {.ranks = 8, .phase_count = 1, .phases = &phase};
    struct cp_conf conf = {.head_groups = 1, .seq_groups = 8, .heads_inside = true};
    return cost_program_time(&p, &conf, c, a, a).total_s;
}

/* An L40S server's GPUs share PCIe and sockets: two alone reach 20 GB/s, eight at once 3.5. The
 * hops of a ring are those of a ring all-gather there, not seven messages between two. */
static void ring_hops_on_shared_wires_are_steps_of_an_all_gather(void)
{
    struct arena *a = arena_new();
    struct err e = {0};
    const struct hw_cluster *h100 = hw_cluster_load("1x8-h100", err_at_name("test"), a, &e);
    struct hw_cluster nvlink = *h100, pcie = *h100;
    pcie.gpu.name = "l40s";
    gsl_test(!calib_cluster(&nvlink, a, &e) || !calib_cluster(&pcie, a, &e), "%s", e.text);
    struct coll_query pair = {.op = COLL_SEND_RECV, .bytes = 8e6, .gpus = 2, .nodes = 1},
                      ring = {.op = COLL_ALL_GATHER, .bytes = 64e6, .gpus = 8, .nodes = 1};
    gsl_test_rel(ring_s(&nvlink, a), 7 * calib_collective(&nvlink, &pair).time.value_s, 1e-12,
                 "NVLink: all pairs at once");
    gsl_test_rel(ring_s(&pcie, a), calib_collective(&pcie, &ring).time.value_s, 1e-12,
                 "PCIe: an all-gather");
    gsl_test(ring_s(&pcie, a) < 3 * 7 * calib_collective(&pcie, &pair).time.value_s,
             "which is far from seven messages alone");
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

/* ---- other links than the profile was measured on ---- */

static struct hw_cluster calibrated(const char *name, double nvlink_bytes_per_s, struct arena *a)
{
    struct err e = {0};
    struct hw_cluster c = *hw_cluster_load(name, err_at_name("test"), a, &e);
    if (nvlink_bytes_per_s > 0)
        c.nvlink.bytes_per_s = nvlink_bytes_per_s;
    gsl_test(!calib_cluster(&c, a, &e), "%s", e.text);
    return c;
}

static double all_to_all_s(const struct hw_cluster *c)
{
    struct coll_query q = {.op = COLL_ALLTOALL,
                           .type = COLL_HALF,
                           .bytes = 64e6,
                           .gpus = hw_gpus(c),
                           .nodes = c->nodes};
    return calib_collective(c, &q).time.value_s;
}

/* 7/8 of 64 MB leave a GPU: 56 MB, at 68% of 450 and of 50 GB/s. */
static void a_profile_follows_the_clusters_own_links(void)
{
    struct arena *a = arena_new();
    struct hw_cluster own = calibrated("1x8-h100", 0, a), slow = calibrated("1x8-h100", 50e9, a),
                      fast = calibrated("1x8-h100", 4500e9, a);
    double change = 56e6 / (0.68 * 50e9) - 56e6 / (0.68 * 450e9);
    gsl_test_rel(all_to_all_s(&slow), all_to_all_s(&own) + change, 1e-12, "a ninth of the rate");
    gsl_test(all_to_all_s(&fast) >= all_to_all_s(&own) ||
                 all_to_all_s(&fast) < 56e6 / (0.68 * 4500e9),
             "a faster link is faster, and no faster than its wire");
    struct coll_query q = {.op = COLL_ALLTOALL, .bytes = 64e6, .gpus = 8, .nodes = 1};
    struct prediction p = calib_collective(&slow, &q), as_is = calib_collective(&own, &q);
    gsl_test(p.class != PROF_BORROWED || p.in_range ||
                 p.time.high_s / p.time.value_s <= as_is.time.high_s / as_is.time.value_s,
             "and less well known");
    own.nvlink.latency_s += 1e-3;
    gsl_test_rel(calib_collective(&own, &q).time.value_s, as_is.time.value_s + 1e-3, 1e-12,
                 "a later link");
    arena_free(a);
}

/* The same die: kernels alike. NVLink at 200 GB/s instead of 450, the same NICs. */
static void an_h800_is_an_h100_behind_a_slower_nvlink(void)
{
    struct arena *a = arena_new();
    struct hw_cluster h800 = calibrated("1x8-h800", 0, a), h100 = calibrated("1x8-h100", 0, a);
    gsl_test_rel(all_to_all_s(&h800),
                 all_to_all_s(&h100) + 56e6 / (0.77 * 200e9) - 56e6 / (0.68 * 450e9), 1e-12,
                 "inside a node");
    gsl_test(h800.curves == NULL || strcmp(h800.curves->name, h100.curves->name) != 0, "kernels");
    struct hw_cluster far800 = calibrated("4x8-h800-400g", 0, a),
                      far100 = calibrated("4x8-h100-400g", 0, a);
    gsl_test(all_to_all_s(&far800) < all_to_all_s(&far100), "between nodes it is no faster");
    arena_free(a);
}

/* fa3+target: 0.853 ps a pair is 600 TFLOP/s, which an A100 (312) has not: 4 x 128 FLOP at 65.5% of
 * 312e12 are 2.505 ps; dsv-triton's 2.749 ps on 132 SMs become 3.360 ps on 108. */
static void sparse_kernels_of_another_chip_keep_to_this_ones_limits(void)
{
    struct arena *a = arena_new();
    struct err e = {0};
    struct err_at at = err_at_name("test");
    struct hw_cluster a100 = calibrated("1x8-a100", 0, a), b200 = calibrated("1x8-b200", 0, a);
    const struct kern_profile *dsv = kern_load("fa3+dsv", at, a, &e),
                              *target = kern_load("fa3+target", at, a, &e);
    const struct kern_profile *on = calib_kernels(target, &a100, at, a, &e);
    gsl_test_rel(kern_sparse_time(on, false, 0, 1e12, 64000, 128).s, 512e12 / (0.655 * 312e12),
                 1e-9, "dense attention's rate %s", e.text);
    on = calib_kernels(dsv, &a100, at, a, &e);
    gsl_test_rel(kern_sparse_time(on, false, 0, 1e12, 64000, 128).s, 2.749 * 132 / 108, 1e-9,
                 "SMs");
    gsl_test_rel(kern_sparse_time(on, true, 1e9, 0, 64000, 128).s, 8.877 * 3.35 / 2.039, 1e-9,
                 "memory");
    on = calib_kernels(dsv, &b200, at, a, &e);
    gsl_test_rel(kern_sparse_time(on, true, 1e9, 0, 64000, 128).s, 8.877, 1e-9, "never faster");
    arena_free(a);
}

/* The H20 does 148 TFLOP/s; flash-attention issue 1310 has 0.545 ms for FlashAttention-3 and 0.821
 * ms for FlashAttention-2, 2 x 16 heads of 2,048 tokens, D 128: 68.7 GFLOP. */
static void dense_kernels_take_the_shares_measured_on_the_gpu(void)
{
    static const struct {
        const char *kernels;
        double forward_s;
    } known[] = {{"fa3+dsv", 0.545e-3}, {"fa2+dsv", 0.821e-3}};
    struct arena *a = arena_new();
    struct err e = {0};
    struct err_at at = err_at_name("test");
    struct hw_cluster h20 = calibrated("1x8-h20", 0, a), b200 = calibrated("1x8-b200", 0, a);
    for (int i = 0; i < 2; i++) {
        const struct kern_profile *k = kern_load(known[i].kernels, at, a, &e),
                                  *on = calib_kernels(k, &h20, at, a, &e);
        gsl_test_rel(kern_dense_s(on, &h20.gpu, false, 32 * 2048, 2048, 128) - on->launch_s,
                     known[i].forward_s, 0.005, "%s on an H20 %s", known[i].kernels, e.text);
        gsl_test_rel(calib_kernels(k, &b200, at, a, &e)->dense.forward_share,
                     k->dense.forward_share, 0, "no other GPU");
    }
    arena_free(a);
}

/* On an A100 a causal forward takes 5.8038 ms (16,384 tokens, 16 heads, D 128;
 * attention_dense.csv): 189 of 312 TFLOP/s, and a causal mask makes nothing faster.
 * FlashAttention-2's paper (arXiv 2307.08691): 50 to 73% of the peak. On the H100 it is 37%. */
static void flashattention_2_has_its_own_share_of_an_a100(void)
{
    struct arena *a = arena_new();
    struct err e = {0};
    struct err_at at = err_at_name("test");
    struct hw_cluster a100 = calibrated("1x8-a100", 0, a), a800 = calibrated("1x8-a800", 0, a);
    const struct kern_profile *k = kern_load("fa2+dsv", at, a, &e);
    double share = calib_kernels(k, &a100, at, a, &e)->dense.forward_share;
    gsl_test(share * 312e12 < 189e12 || share > 0.73, "%g of the peak %s", share, e.text);
    gsl_test_rel(calib_kernels(k, &a800, at, a, &e)->dense.forward_share, share, 0, "the same die");
    arena_free(a);
}

/* ---- a plan's kernels are the curves' ---- */

struct kernel_case {
    struct hw_cluster cluster;
    struct cp_case c;
    struct sparsity sparsity;
};

/* Four ranks of four heads each of DSV's 2.7B model (16 heads of 128, width 2048, gated FFN of
 * 8192, text of 120), 32,000 tokens, every head keeps a tenth. */
static void kernel_case_init(struct kernel_case *k, const char *cluster, const char *kernels,
                             struct arena *a)
{
    struct err e = {0};
    struct err_at at = err_at_name("test");
    const struct hw_cluster *plain = hw_cluster_load(cluster, at, a, &e);
    gsl_test(!plain, "%s", e.text);
    k->cluster = *plain;
    gsl_test(!calib_cluster(&k->cluster, a, &e), "%s", e.text);
    const struct kern_profile *profile = kern_load(kernels, at, a, &e);
    k->c = (struct cp_case){.cluster = &k->cluster,
                            .model = dit_load("dsv-2.7b", at, a, &e),
                            .kernels = calib_kernels(profile, &k->cluster, at, a, &e),
                            .sparsity = &k->sparsity,
                            .options = cp_options_default(),
                            .video_tokens = 32000,
                            .samples = 1,
                            .linear = true};
    gsl_test(!sparsity_uniform(0.1, 32, 16, a, &k->sparsity, &e), "%s", e.text);
}

static struct cp_phase phase_of(const struct kernel_case *k, bool sparse, enum cp_pass pass,
                                const char *name, struct arena *a)
{
    struct cp_conf conf = {.strategy = CP_ULYSSES,
                           .head_groups = 4,
                           .seq_groups = 1,
                           .heads_inside = true,
                           .sparse = sparse,
                           .query_group = 32,
                           .pieces = cp_pieces_even(16, 4, a),
                           .piece_count = 16};
    struct cp_program p = cp_program_of(&k->c, 0, &conf, a);
    for (int i = 0; i < p.phase_count; i++)
        if (p.phases[i].pass == pass && strcmp(p.phases[i].name, name) == 0)
            return p.phases[i];
    gsl_test(1, "a phase '%s'", name);
    return (struct cp_phase){.seconds = ARENA_ARRAY(a, double, 4)};
}

static void says(const struct cp_phase *p, struct prediction want, const char *what)
{
    gsl_test_rel(p->seconds[3], want.time.value_s, 1e-12, "%s: seconds", what);
    gsl_test_rel(p->half, log(want.time.high_s / want.time.value_s), 1e-9, "%s: interval", what);
    gsl_test(p->outside != !want.in_range, "%s: in range or not", what);
}

static void a_plan_and_predict_price_attention_alike(void)
{
    struct arena *a = arena_new();
    struct kernel_case k;
    kernel_case_init(&k, "1x8-h100", "fa3+dsv", a);
    for (int backward = 0; backward < 2; backward++) {
        enum cp_pass pass = backward ? PASS_BACKWARD : PASS_FORWARD;
        const char *name = backward ? "attention backward" : "attention";
        struct cp_phase dense = phase_of(&k, false, pass, name, a),
                        sparse = phase_of(&k, true, pass, name, a);
        struct attention_query q = {.backward = backward,
                                    .batch = 1,
                                    .heads = 4,
                                    .queries = 32000,
                                    .keys = 32000,
                                    .head_dim = 128};
        says(&dense, prof_attention(k.cluster.curves, &q), "dense");
        /* 3,200 keys are 12.5 tiles of 256: 13 tiles, 3,328 keys */
        says(&sparse,
             prof_sparse(k.cluster.curves, backward, 4 * 32000., 4 * 32000. * 3328, 32000, 128),
             "sparse");
    }
    struct cp_phase select = phase_of(&k, true, PASS_FORWARD, "select", a);
    says(&select, prof_select(k.cluster.curves, 4 * 1000. * 32000), "selection");
    arena_free(a);
}

/* y = x W: 8,000 rows a rank; dx = dy W^T and dW = x^T dy in the backward. */
static void a_plan_and_predict_price_linear_layers_alike(void)
{
    static const double layer[][3] = {
        /* rows, out, in: Q, K, V; O; FFN in (two halves); FFN out; cross Q; cross O; text K, V */
        {8000, 6144, 2048}, {8000, 2048, 2048}, {8000, 16384, 2048}, {8000, 2048, 8192},
        {8000, 2048, 2048}, {8000, 2048, 2048}, {30, 4096, 2048}};
    struct arena *a = arena_new();
    struct kernel_case k;
    kernel_case_init(&k, "1x8-h100", "fa3+dsv", a);
    const struct prof_kernels *p = k.cluster.curves;
    double forward = 0, backward = 0, width = 0;
    for (int i = 0; i < 7; i++) {
        double m = layer[i][0], n = layer[i][1], kk = layer[i][2];
        struct prediction y = prof_gemm(p, m, n, kk);
        forward += y.time.value_s;
        width += y.time.value_s * log(y.time.high_s / y.time.value_s);
        backward += prof_gemm(p, m, kk, n).time.value_s + prof_gemm(p, kk, n, m).time.value_s;
    }
    struct attention_query q = {
        .batch = 1, .heads = 16, .queries = 8000, .keys = 120, .head_dim = 128};
    struct prediction core = prof_attention(p, &q);
    forward += core.time.value_s;
    width += core.time.value_s * log(core.time.high_s / core.time.value_s);
    q.backward = true;
    backward += prof_attention(p, &q).time.value_s;
    struct cp_phase f = phase_of(&k, false, PASS_FORWARD, "linear", a),
                    b = phase_of(&k, false, PASS_BACKWARD, "linear backward", a);
    gsl_test_rel(f.seconds[0], forward, 1e-12, "forward");
    gsl_test_rel(f.half, width / forward, 1e-9, "layers of one class err together");
    gsl_test_rel(b.seconds[0], backward, 1e-12, "backward");
    arena_free(a);
}

static void without_a_curve_the_profiles_own_numbers_stand(void)
{
    struct arena *a = arena_new();
    struct kernel_case k;
    kernel_case_init(&k, "1x8-h20", "fa3+dsv", a); /* nobody calibrated an H20 */
    gsl_test(k.c.kernels->dense.curve.of || k.c.kernels->sparse.curve.of ||
                 k.c.kernels->gemm_curve.of,
             "no curve");
    double half[COST_CLASSES];
    calib_half_widths(&k.cluster, half);
    struct cp_phase dense = phase_of(&k, false, PASS_FORWARD, "attention", a);
    gsl_test_rel(dense.seconds[0],
                 kern_dense_s(k.c.kernels, &k.cluster.gpu, false, 4 * 32000., 32000, 128), 1e-12,
                 "share of the peak");
    gsl_test_rel(dense.half, half[CLASS_ATTENTION_DENSE], 1e-12, "and its class's interval");
    kernel_case_init(&k, "1x8-h100", "cudnn+dsv", a); /* cuDNN was measured on an H200 */
    gsl_test(k.c.kernels->dense.curve.of || !k.c.kernels->sparse.curve.of, "cuDNN on an H100");
    kernel_case_init(&k, "1x8-h200", "cudnn+dsv", a);
    gsl_test(!k.c.kernels->dense.curve.of || k.c.kernels->sparse.curve.of, "cuDNN on an H200");
    arena_free(a);
}

static void a_curve_that_is_named_must_be_there(void)
{
    struct arena *a = arena_new();
    struct err e = {0};
    struct kernel_case k;
    kernel_case_init(&k, "1x8-h100", "fa3+dsv", a);
    struct kern_profile mine = *k.c.kernels;
    mine.dense.curve.name = "h1000";
    gsl_test(calib_kernels(&mine, &k.cluster, err_at_name("test"), a, &e) != NULL ||
                 e.code != ERR_INPUT,
             "no such curve: %s", e.text);
    arena_free(a);
}

/* By hand: of 714 MB that 16 GPUs on two H800 nodes gather, a GPU lacks 15/16, and 7/8 of that
 * comes over its NVLink, 77% of 200 GB/s: 3.803 ms. An H100's NVLink would take them in less. */
static void a_gather_between_nodes_is_no_faster_than_their_nvlink(void)
{
    struct arena *a = arena_new();
    struct err e = {0};
    const struct hw_cluster *c = hw_cluster_load("2x8-h800-400g", err_at_name("test"), a, &e);
    gsl_test(!c, "h800 %s", e.text);
    struct hw_cluster own = *c;
    gsl_test(!calib_cluster(&own, a, &e), "its collectives %s", e.text);
    for (enum coll_op op = COLL_ALL_GATHER; op <= COLL_REDUCE_SCATTER; op++) {
        struct coll_query q = {.op = op, .type = COLL_HALF, .bytes = 714e6, .gpus = 16, .nodes = 2};
        gsl_test_rel(calib_collective(&own, &q).time.value_s,
                     714e6 * 15 / 16 * 7 / 8 / (0.77 * 200e9), 1e-9, "%s", coll_op_names[op]);
    }
    arena_free(a);
}

int main(void)
{
    an_equal_exchange_takes_the_time_of_the_profile();
    ring_hops_on_shared_wires_are_steps_of_an_all_gather();
    every_class_has_an_error_bar_and_unknown_gpus_wide_ones();
    a_profile_follows_the_clusters_own_links();
    an_h800_is_an_h100_behind_a_slower_nvlink();
    sparse_kernels_of_another_chip_keep_to_this_ones_limits();
    dense_kernels_take_the_shares_measured_on_the_gpu();
    flashattention_2_has_its_own_share_of_an_a100();
    a_plan_and_predict_price_attention_alike();
    a_plan_and_predict_price_linear_layers_alike();
    without_a_curve_the_profiles_own_numbers_stand();
    a_curve_that_is_named_must_be_there();
    a_gather_between_nodes_is_no_faster_than_their_nvlink();
    return gsl_test_summary();
}
