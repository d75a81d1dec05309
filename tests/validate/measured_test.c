/* Rows of made-up machines, whose constants must come back. The plan is a 2x2 hybrid of the test
 * model, written by the planner; the rows are laws, not measurements. */
#include <gsl/gsl_test.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/rng.h"
#include "model/calib.h"
#include "tests/model/fixture.h"
#include "validate/compare.h"
#include "validate/measured.h"
#include "validate/run.h"

static struct arena *arena;

static struct plan *make_plan(const char *path, double keep, bool sparse)
{
    static struct fixture f;
    static struct plan p;
    struct err e = {0};
    fixture_init(&f, 16, 16, 64000, 1, 4, keep, 0.5, arena);
    double *keeps = ARENA_ARRAY(arena, double, 32);
    for (int i = 0; i < 32; i++)
        keeps[i] = keep;
    f.sparsity.keep = keeps, f.sparsity.blocks = f.model.cross_blocks = 2;
    f.cluster.gpu.sm_count = 132;
    f.cluster.pcie_bytes_per_s = 64e9;
    f.cluster.name = "one node";
    f.cluster.source = f.model.source = f.kernels.source = f.cluster.gpu.source = "test";
    f.model.attention = "full";
    f.model.vae_t = f.model.vae_h = f.model.vae_w = f.model.patch_t = f.model.patch_h =
        f.model.patch_w = 1;
    f.model.frames = (struct frame_rule){"F", 1, 1, 0};
    f.model.cross_dim = 128;
    f.kernels.name = "test";
    f.kernels.sparse.group = 32;
    f.kernels.launch_s = 1e-6;
    f.c.options = cp_options_default();
    struct cp_conf conf = fixture_conf(CP_HYBRID, 2, 2, sparse, 16, arena);
    conf.heads_inside = true;
    p = (struct plan){.c = f.c,
                      .memory = mem_options_default(4),
                      .phase = PLAN_ATTENTION,
                      .evaluator = "cost",
                      .gpus = 4,
                      .cp = 4,
                      .replicas = 1,
                      .block_count = 2};
    p.blocks = ARENA_ARRAY(arena, struct plan_block, 2);
    for (int b = 0; b < 2; b++) {
        p.blocks[b].conf = conf;
        struct cp_program program = cp_program_of(&f.c, b, &conf, arena);
        p.blocks[b].time = cost_program_time(&program, &conf, f.c.cluster, arena, arena);
    }
    gsl_test(!plan_write(&p, NULL, path, arena, &e), "plan: %s", e.text);
    struct plan *read = plan_read(path, arena, &e);
    gsl_test(!read, "plan again: %s", e.text);
    return read;
}

/* Laws: sparse 2 ns a row + 7 ns a pair; select 3 ns; linear layers 20 ps a FLOP; copies 5 GB/s;
 * rows 40 ns to gather, 90 ns to scatter; sums 3 GB/s; lists 6 ns an entry; exchanges 20 us a call
 * + 2 GB/s. */
static void write_rows(const char *path, const struct plan *p)
{
    static const struct run_options o = {.repeats = 3};
    struct run_options with = o;
    struct err e = {0};
    with.backend = kern_backend_of("cpu", &e), with.comm = comm_backend_of("loopback", &e);
    FILE *f = fopen(path, "w");
    run_write_header(f, plan_signature(p), p->cp, &with);
    for (int b = 0; b < 2; b++)
        for (int k = 0; k < 3; k++)
            for (int r = 0; r < 4; r++) {
                double pairs = 1e6 * (1 + r + 4 * b), rows = 16.0 / 2 * 64000 / 2,
                       bytes = 1e6 * (1 + r + 3 * b);
                double late =
                    k == 1 ? 5
                           : 0; /* one repeat of three is disturbed: the median does not see it */
                fprintf(f,
                        "%d\t%d\t%d\tforward\tattention\tattention-sparse\t%.9g\t0\t0\t0\t%.0f\n",
                        b, k, r, rows * 2e-9 + pairs * 7e-9 + late, pairs);
                fprintf(f, "%d\t%d\t%d\tforward\tselect\tselect\t%.9g\t0\t0\t0\t%.0f\n", b, k, r,
                        pairs * 3e-9, pairs);
                fprintf(f, "%d\t%d\t%d\tforward\tlinear\tgemm\t%.9g\t0\t0\t0\t%.0f\n", b, k, r,
                        pairs * 1e3 * 20e-12, pairs * 1e3);
                fprintf(f, "%d\t%d\t%d\tforward\tpack qkv\tcopy\t%.9g\t0\t0\t0\t%.0f\n", b, k, r,
                        bytes / 5e9, bytes);
                fprintf(f, "%d\t%d\t%d\tforward\tpack kv rows\tcopy\t%.9g\t0\t0\t0\t%.0f\n", b, k,
                        r, pairs * 40e-9, pairs * 8 * 128);
                fprintf(f, "%d\t%d\t%d\tforward\tunite selections\tcopy\t%.9g\t0\t0\t0\t%.0f\n", b,
                        k, r, pairs * 6e-9, pairs);
                fprintf(f, "%d\t%d\t%d\tbackward\tscatter dkv rows\tcopy\t%.9g\t0\t0\t0\t%.0f\n", b,
                        k, r, pairs * 90e-9, pairs * 24 * 128);
                fprintf(f, "%d\t%d\t%d\tbackward\tsum dkv\tcopy\t%.9g\t0\t0\t0\t%.0f\n", b, k, r,
                        bytes / 3e9, bytes);
                fprintf(f, "%d\t%d\t%d\tforward\tqkv all-to-all\tcollective\t%.9g\t1\t%.0f\t0\t0\n",
                        b, k, r, 3 * 20e-6 + bytes / 2e9, bytes); /* three calls: Q, K, V */
                fprintf(f, "%d\t%d\t%d\tforward\to all-to-all\tcollective\t%.9g\t1\t0\t%.0f\t0\n",
                        b, k, r, 20e-6 + bytes / 2e9, bytes);
            }
    fclose(f);
}

static void laws_come_back_from_their_rows(void)
{
    struct err e = {0};
    struct measured_fit fit;
    struct measured *m = measured_new(arena);
    const struct plan *p = make_plan("measured_test.json", 0.1, true);
    write_rows("measured_test.tsv", p);
    gsl_test(!measured_add(m, "measured_test.json", "measured_test.tsv", &e) ||
                 !measured_solve(m, &fit, &e),
             "fit: %s", e.text);
    gsl_test_rel(fit.kernels.sparse.forward_row_s, 2e-9, 1e-6, "sparse, a row");
    gsl_test_rel(fit.kernels.sparse.forward_pair_s, 7e-9, 1e-6, "sparse, a pair");
    gsl_test_rel(fit.kernels.sparse.select_score_s, 3e-9, 1e-6, "select, a score");
    gsl_test_rel(fit.kernels.hbm_share * fit.cluster.gpu.hbm_bytes_per_s, 5e9, 1e-6, "copies");
    gsl_test_rel(fit.kernels.gathered_row_s, 40e-9, 1e-6, "gathered rows");
    gsl_test_rel(fit.kernels.scattered_row_s, 90e-9, 1e-6, "scattered rows");
    gsl_test_rel(fit.kernels.sum_bytes_per_s, 3e9, 1e-6, "sums of gathered gradients");
    gsl_test_rel(fit.kernels.list_s, 6e-9, 1e-6, "entries of lists");
    gsl_test_rel(fit.cluster.nvlink.latency_s, 20e-6, 1e-6, "latency of a call");
    gsl_test_rel(fit.cluster.nvlink.efficiency * fit.cluster.nvlink.bytes_per_s, 2e9, 1e-6,
                 "rate of a link");
    gsl_test(!(fit.line[MEASURED_SPARSE_FORWARD].left_out_worst < 1e-6),
             "a law predicts the block it has not seen");
    gsl_test_int(fit.line[MEASURED_DENSE_FORWARD].points, 0, "nothing dense was run");
    gsl_test_rel(fit.kernels.dense.forward_share, p->c.kernels->dense.forward_share, 1e-12,
                 "so it is as assumed");
}

/* The plan's kernels have curves of its GPU and were measured on another one; what the rows say
 * stands before both when the fit is planned with. */
/* One forward of dense attention a rank, so much a FLOP; with bytes sent where it is a ring's. */
static void write_dense_rows(const char *path, const struct plan *p, double flop_s, double sent)
{
    struct run_options with = {.repeats = 1};
    struct err e = {0};
    with.backend = kern_backend_of("cpu", &e), with.comm = comm_backend_of("loopback", &e);
    FILE *f = fopen(path, "w");
    run_write_header(f, plan_signature(p), p->cp, &with);
    for (int r = 0; r < 4; r++) {
        double pairs = 1e6 * (1 + r), flop = 4 * pairs * p->c.model->head_dim;
        fprintf(f, "0\t0\t%d\tforward\tattention\tattention-dense\t%.9g\t0\t%.0f\t%.0f\t%.0f\n", r,
                flop * flop_s, sent, sent, pairs);
    }
    fclose(f);
}

static struct measured_fit fit_of(const char *first, const char *second)
{
    struct err e = {0};
    struct measured_fit fit = {0};
    struct measured *m = measured_new(arena);
    gsl_test(!measured_add(m, "rings.json", first, &e) ||
                 (second && !measured_add(m, "rings.json", second, &e)) ||
                 !measured_solve(m, &fit, &e),
             "%s: %s", first, e.text);
    return fit;
}

/* A ring's 20 ps a FLOP hold its hops: they stand in only where no other row tells of attention. */
static void rings_tell_of_attention_where_nothing_else_does(void)
{
    const struct plan *p = make_plan("rings.json", 1, false);
    write_dense_rows("ring.tsv", p, 20e-12, 1e6);
    write_dense_rows("plain.tsv", p, 10e-12, 0);
    struct measured_fit ring = fit_of("ring.tsv", NULL), before = fit_of("ring.tsv", "plain.tsv"),
                        after = fit_of("plain.tsv", "ring.tsv");
    gsl_test_rel(ring.line[MEASURED_DENSE_FORWARD].per_unit, 20e-12, 1e-6, "of a ring alone");
    gsl_test(!ring.line[MEASURED_DENSE_FORWARD].rings, "and said to be");
    gsl_test_rel(before.line[MEASURED_DENSE_FORWARD].per_unit, 10e-12, 1e-6, "a ring, then others");
    gsl_test_rel(after.line[MEASURED_DENSE_FORWARD].per_unit, 10e-12, 1e-6, "others, then a ring");
    gsl_test(before.line[MEASURED_DENSE_FORWARD].rings || after.line[MEASURED_DENSE_FORWARD].rings,
             "no ring in these");
    gsl_test_int(before.line[MEASURED_DENSE_FORWARD].points, 4, "the plain ones");
}

static void no_curve_and_no_other_gpu_stands_before_what_was_measured(void)
{
    struct err e = {0};
    struct measured_fit fit;
    struct measured *m = measured_new(arena);
    struct plan *p = make_plan("curves.json", 0.1, true);
    struct hw_cluster cluster = *p->c.cluster;
    struct kern_profile kernels = *p->c.kernels;
    cluster.gpu.name = "a100", cluster.gpu.sm_count = 108;
    kernels.measured_on = "h100";
    kernels.gemm_curve.name = kernels.sparse.curve.name = kernels.dense.curve.name = "GPU";
    p->c.cluster = &cluster, p->c.kernels = &kernels;
    gsl_test(!plan_write(p, NULL, "curves.json", arena, &e), "plan: %s", e.text);
    p = plan_read("curves.json", arena, &e);
    gsl_test(!p, "plan again: %s", e.text);
    write_rows("curves.tsv", p);
    gsl_test(!measured_add(m, "curves.json", "curves.tsv", &e) || !measured_solve(m, &fit, &e),
             "fit: %s", e.text);
    const struct kern_profile *k =
        calib_kernels(&fit.kernels, &fit.cluster, err_at_name("test"), arena, &e);
    gsl_test(!k, "curves: %s", e.text);
    gsl_test_rel(kern_gemm_time(k, &fit.cluster.gpu, 1e4, 1e4, 1e4).s, 2e12 * 20e-12, 1e-6,
                 "linear layers: 2 m n k FLOP of 20 ps");
    gsl_test_rel(kern_sparse_time(k, false, 1e6, 1e9, 1e6, 128).s, 1e6 * 2e-9 + 1e9 * 7e-9, 1e-6,
                 "sparse attention: rows of 2 ns and pairs of 7 ns");
    gsl_test(k->dense.curve.of == NULL && e.code == ERR_NONE, "dense, not run: the A100's curve");
    unlink("curves.json");
    unlink("curves.tsv");
}

/* The plan is found by its signature in a list, or where the rows say; and the fit of a file is the
 * fit that was written. */
static void a_fit_is_a_file_that_reads_back(void)
{
    struct err e = {0}, none = {0};
    struct measured_fit fit, again;
    struct measured *m = measured_new(arena);
    const char *plans[] = {"other.json", "measured_test.json", NULL}, *used;
    make_plan("other.json", 0.3, true);
    gsl_test(!measured_add_rows(m, plans, "measured_test.tsv", &used, &e) ||
                 strcmp(used, "measured_test.json") != 0 || !measured_solve(m, &fit, &e),
             "the plan among two: %s", e.text);
    plans[1] = NULL;
    gsl_test(measured_add_rows(m, plans, "measured_test.tsv", &used, &none) ||
                 !strstr(none.text, "want --plan"),
             "no such plan: %s", none.text);
    struct prov *prov = prov_new(arena, 1, (char *[]){"test", NULL}, 0);
    gsl_test(!measured_save(&fit, prov, "fit.json", arena, &e) ||
                 !measured_load("fit.json", &again, arena, &e),
             "there and back: %s", e.text);
    gsl_test_int(again.took_turns, fit.took_turns, "whether ranks took turns");
    gsl_test(memcmp(&fit.line, &again.line, sizeof fit.line) != 0, "every line");
    gsl_test_rel(again.kernels.sparse.forward_row_s, fit.kernels.sparse.forward_row_s, 0,
                 "sparse, a row, every bit");
    gsl_test_rel(again.kernels.sparse.forward_pair_s, fit.kernels.sparse.forward_pair_s, 0,
                 "sparse, a pair, every bit");
    gsl_test_rel(again.kernels.hbm_share, fit.kernels.hbm_share, 0, "copies, every bit");
    gsl_test_rel(again.cluster.nvlink.efficiency, fit.cluster.nvlink.efficiency, 0,
                 "links, every bit");
    gsl_test(measured_load("other.json", &again, arena, &none) || none.code != ERR_INPUT,
             "a plan is no fit: %s", none.text);
    unlink("fit.json");
    unlink("other.json");
}

static void the_evaluator_uses_them(void)
{
    struct err e = {0};
    struct measured_fit fit;
    struct measured *m = measured_new(arena);
    struct program_time t, expected;
    const struct plan *p = make_plan("measured_test.json", 0.1, true);
    gsl_test(!measured_add(m, "measured_test.json", "measured_test.tsv", &e) ||
                 !measured_solve(m, &fit, &e),
             "fit: %s", e.text);
    struct plan_eval eval = measured_eval(&fit);
    gsl_test(!eval.block(&eval, &p->c, 0, &p->blocks[0].conf, &t, arena, arena, &e),
             "evaluator: %s", e.text);
    struct cp_case c = p->c;
    c.kernels = &fit.kernels, c.cluster = &fit.cluster;
    struct cp_program program = cp_program_of(&c, 0, &p->blocks[0].conf, arena);
    expected = cost_program_time(&program, &p->blocks[0].conf, c.cluster, arena, arena);
    gsl_test_rel(t.total_s, expected.total_s, 1e-12, "the closed forms with the fitted numbers");
    gsl_test(!(t.total_s > 2 * p->blocks[0].time.total_s),
             "a machine much slower than assumed is predicted slower");
}

static void rows_of_another_plan_are_refused(void)
{
    struct err e = {0};
    struct measured_fit fit;
    make_plan("measured_test.json", 0.2, true);
    gsl_test(measured_add(measured_new(arena), "measured_test.json", "measured_test.tsv", &e) ||
                 e.code != ERR_INPUT,
             "another plan: %s", e.text);
    struct err none = {0};
    gsl_test(measured_solve(measured_new(arena), &fit, &none) || none.code != ERR_INPUT,
             "no rows: %s", none.text);
}

static long slurp(const char *path, char *text, long room)
{
    FILE *f = fopen(path, "r");
    long n = (long)fread(text, 1, (size_t)room, f);
    fclose(f);
    return n;
}

/* Bytes changed at random: an answer or an error, never a crash (the dev build has sanitizers). */
static void damaged_rows_are_read_or_refused(void)
{
    enum { ROOM = 1 << 16, ROUNDS = 400 };
    static const char bytes[] = "0123456789-.e\t\n#ax";
    static char text[ROOM], changed[ROOM];
    struct rng r = rng_stream(1, "damage", 0, 0, 0);
    make_plan("measured_test.json", 0.1, true);
    long n = slurp("measured_test.tsv", text, ROOM);
    int refused = 0;
    for (int round = 0; round < ROUNDS; round++) {
        struct arena *a = arena_new();
        struct err e = {0};
        struct comparison c;
        memcpy(changed, text, (size_t)n);
        for (int k = 0; k <= round % 4; k++)
            changed[rng_below(&r, (uint64_t)n)] = bytes[rng_below(&r, sizeof bytes - 1)];
        FILE *f = fopen("damaged.tsv", "w");
        fwrite(changed, 1, (size_t)(round % 7 ? n : (long)rng_below(&r, (uint64_t)n)), f);
        fclose(f);
        struct measured *m = measured_new(a);
        struct measured_fit fit;
        bool ok =
            measured_add(m, "measured_test.json", "damaged.tsv", &e) && measured_solve(m, &fit, &e);
        struct err other = {0};
        compare_files("measured_test.json", "damaged.tsv", a, &c, &other);
        refused += !ok;
        gsl_test(!ok && e.code != ERR_INPUT, "round %d: %s", round, e.text);
        arena_free(a);
    }
    unlink("damaged.tsv");
    gsl_test(refused == 0 || refused == ROUNDS, "some are refused (%d), some are read", refused);
}

int main(void)
{
    char dir[] = "/tmp/shardwise-measured-XXXXXX";
    arena = arena_new();
    gsl_test(!mkdtemp(dir) || chdir(dir) != 0, "a folder for the files");
    laws_come_back_from_their_rows();
    rings_tell_of_attention_where_nothing_else_does();
    no_curve_and_no_other_gpu_stands_before_what_was_measured();
    a_fit_is_a_file_that_reads_back();
    the_evaluator_uses_them();
    damaged_rows_are_read_or_refused();
    rows_of_another_plan_are_refused();
    unlink("measured_test.json");
    unlink("measured_test.tsv");
    rmdir(dir);
    arena_free(arena);
    return gsl_test_summary();
}
