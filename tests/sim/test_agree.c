/* The two evaluators of a plan beside each other: closed forms (model/cost.h) and simulation, on
 * cases worked out by hand and on drawn ones. With arguments CASES [GPUS [SEED]] it draws that many
 * cases of up to so many GPUs (100, 32, 1) and prints a line for each configuration: simulated over
 * closed form, configuration, case, and the phase in which they differ most. */
#include <gsl/gsl_test.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>

#include "sim/eval.h"
#include "tests/model/fixture.h"
#include "tests/planner/drawn.h"

static struct program_time eval(const struct plan_eval *ev, const struct cp_case *c,
                                const struct cp_conf *conf, struct arena *a)
{
    struct program_time t = {0};
    struct err e = {0};
    struct arena *scratch = arena_new();
    gsl_test(!ev->block(ev, c, 0, conf, &t, a, scratch, &e), "%s: %s", ev->name, e.text);
    arena_free(scratch);
    return t;
}

/* 64,000 tokens, 16 heads of 128; PCIe is of no consequence. */
static void two_servers(struct fixture *f, int gpus_each, struct arena *a)
{
    fixture_init(f, 16, 16, 64000, 2, gpus_each, 1, 1, a);
    f->cluster.pcie_bytes_per_s = 1e15;
}

/* By hand: 64,000 tokens, 16 heads of 128 on 2 servers of one GPU. A backward step of attention is
 * 10 x 32,000^2 x 128 x 16 FLOP at 0.5 PFLOP/s, 41.94304 ms; KV of a shard is 262,144,000 bytes,
 * bf16 gradients as many, fp32 twice; 10.48576 ms at 25 GB/s. Beneath step 0 goes KV, beneath step
 * 1 gradients; in fp32 those of step 1 go home behind it (KA12). */
static void the_backward_of_a_ring_of_two_takes_what_its_hops_say(void)
{
    static const struct {
        bool fp32;
        double nic_bytes_per_s, want_s;
    } cases[] = {{false, 25e9, 2 * 41.94304e-3},
                 {true, 25e9, 2 * 41.94304e-3 + 20.97152e-3},
                 {false, 2.5e9, 2 * 104.8576e-3},
                 {true, 2.5e9, 104.8576e-3 + 2 * 209.7152e-3}};
    struct sim_options o = sim_options_default();
    struct plan_eval sim = sim_eval(&o);
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        struct arena *a = arena_new();
        struct fixture f;
        two_servers(&f, 1, a);
        f.cluster.nic.bytes_per_s = cases[i].nic_bytes_per_s;
        f.c.options.grad_fp32 = cases[i].fp32;
        f.kernels.overlap_share = 1e-12; /* hops take no SMs, and the simulation takes none again */
        struct cp_conf ring = fixture_conf(CP_RING, 1, 2, false, 16, a);
        gsl_test_rel(eval(&eval_cost, &f.c, &ring, a).pass_s[PASS_BACKWARD], cases[i].want_s, 1e-9,
                     "closed form, case %zu", i);
        gsl_test_rel(eval(&sim, &f.c, &ring, a).pass_s[PASS_BACKWARD], cases[i].want_s, 1e-9,
                     "simulation, case %zu", i);
        arena_free(a);
    }
}

/* By hand: KV shards of 64,000 / 16 tokens, 16 heads of 128: 32,768,000 bytes. A GPU of 2 x 8
 * passes 15 of them on, in 8 rings that leave the server by a NIC each: 15/8 of a shard at 25 GB/s.
 */
static void an_all_gather_between_servers_uses_every_nic(void)
{
    struct sim_options o = {0};
    struct plan_eval sim = sim_eval(&o);
    struct arena *a = arena_new();
    struct fixture f;
    two_servers(&f, 8, a);
    struct cp_conf c = fixture_conf(CP_ALLGATHER, 1, 16, false, 16, a);
    gsl_test_rel(eval(&eval_cost, &f.c, &c, a).phase[0].critical_s, 2.4576e-3, 1e-9, "closed form");
    gsl_test_rel(eval(&sim, &f.c, &c, a).phase[0].critical_s, 2.4576e-3, 1e-8, "simulation");
    arena_free(a);
}

/* By hand: a ring of 4 on 2 servers whose 2 GPUs share a NIC crosses each NIC once: a hop of 2 x 16
 * x 16,000 x 128 bf16 at all of its 2.5 GB/s, 52.4288 ms, three times; then a step of 4 x 16,000^2
 * x 128 x 16 FLOP at 0.6 PFLOP/s and its merge, 3 x 16 x 16,000 x 128 floats at 2.4 TB/s. */
static void a_ring_has_a_shared_nic_for_itself(void)
{
    struct sim_options o = {0};
    struct plan_eval sim = sim_eval(&o);
    struct arena *a = arena_new();
    struct fixture f;
    double want = 3 * 52.4288e-3 + 3.4952533333e-3 + 0.16384e-3;
    two_servers(&f, 2, a);
    struct cp_conf c = fixture_conf(CP_RING, 1, 4, false, 16, a);
    f.cluster.nic.bytes_per_s = 2.5e9;
    f.cluster.gpus_per_nic = 2;
    gsl_test_rel(eval(&eval_cost, &f.c, &c, a).pass_s[PASS_FORWARD], want, 1e-9, "closed form");
    gsl_test_rel(eval(&sim, &f.c, &c, a).pass_s[PASS_FORWARD], want, 1e-8, "simulation");
    arena_free(a);
}

/* ---- drawn cases ---- */

/* All configurations of the first block, by closed form. */
static bool draw_case(struct drawn *d, uint64_t seed, uint64_t k, int gpus_most,
                      struct plan_compared *found)
{
    return draw_request(d, seed, k, gpus_most) &&
           plan_compare_block(&d->r, d->r.cp, 0, found, d->a, &d->e);
}

/* What both must hold to, without what only the simulation has (host syncs, SMs of collectives).
 *
 * Where ranks are alike and each has its NIC nothing is shared and nobody waits: equal.
 *
 * Else the closed form starts an exchange when its last member is there, the simulation each
 * message when its two ends are, so that the simulation is below. It may be above by what max-min
 * shares lose against a full port: a message is held up by its sender's port or by its receiver's,
 * so an all-to-all ends within the sum of the two, twice the closed form's fuller one.
 * No rank is faster than its own work and its own exchanges at full ports; calibrated profiles are
 * not linear in bytes and rings wait for neighbours: work alone. */
static void check_bounds(const struct drawn *d, const struct plan_candidate *x,
                         const struct program_time *ours)
{
    const struct program_time *t = &x->time;
    struct cp_program p = cp_program_of(&d->r.c, 0, &x->conf, d->a);
    double least = 0, exchanges = 0;
    bool linear = !d->calibrated && d->cluster.gpus_per_nic == 1;
    char conf[96];
    cp_conf_text(&x->conf, conf, sizeof conf);
    for (int k = 0; k < p.phase_count; k++) {
        exchanges += p.phases[k].kind == PHASE_ALLTOALL ? t->phase[k].busy_max_s : 0;
        linear &= p.phases[k].kind != PHASE_RING;
    }
    for (int r = 0; r < p.ranks; r++)
        least = fmax(least, t->compute_s[r] + (linear ? t->comm_s[r] : 0));
    if (d->alike && d->cluster.gpus_per_nic == 1)
        gsl_test_rel(ours->total_s, t->total_s, 1e-4, "%s: %s, alike", d->text, conf);
    gsl_test(!(ours->total_s > least * (1 - 1e-4)), "%s: %s: %g s, busiest rank %g s", d->text,
             conf, ours->total_s, least);
    gsl_test(!(ours->total_s < (t->total_s + exchanges) * (1 + 1e-4)),
             "%s: %s: %g s, closed form %g s, of it exchanges %g s", d->text, conf, ours->total_s,
             t->total_s, exchanges);
}

static void print_line(const struct drawn *d, const struct plan_candidate *x,
                       const struct program_time *ours)
{
    struct cp_program p = cp_program_of(&d->r.c, 0, &x->conf, d->a);
    char conf[96];
    int worst = 0;
    for (int k = 1; k < p.phase_count; k++)
        if (fabs(ours->phase[k].critical_s - x->time.phase[k].critical_s) >
            fabs(ours->phase[worst].critical_s - x->time.phase[worst].critical_s))
            worst = k;
    printf("%.5f\t%s\t%s\t%s\t%g\t%g\n", ours->total_s / x->time.total_s,
           cp_conf_text(&x->conf, conf, sizeof conf), d->text, p.phases[worst].name,
           x->time.phase[worst].critical_s, ours->phase[worst].critical_s);
}

/* Up to four configurations of a case, by simulation too. */
static void compare_case(struct drawn *d, const struct plan_compared *found, bool print)
{
    struct sim_options o = {0};
    struct plan_eval sim = sim_eval(&o);
    struct arena *scratch = arena_new();
    for (int i = 0; i < 4 && found->count > 0; i++) {
        const struct plan_candidate *x = &found->best[below(d, found->count)];
        struct program_time ours = {0};
        arena_reset(scratch);
        bool ok = sim.block(&sim, &d->r.c, 0, &x->conf, &ours, d->a, scratch, &d->e);
        gsl_test(!ok, "%s: simulated %s", d->text, d->e.text);
        if (ok)
            check_bounds(d, x, &ours);
        if (ok && print)
            print_line(d, x, &ours);
    }
    arena_free(scratch);
}

static void drawn_blocks_keep_to_what_both_must_hold(int cases, int gpus, uint64_t seed, bool print)
{
    for (int k = 0; k < cases; k++) {
        struct drawn d;
        struct plan_compared found;
        if (draw_case(&d, seed, (uint64_t)k, gpus, &found))
            compare_case(&d, &found, print);
        else
            gsl_test(1, "case %d: %s", k, d.e.text);
        arena_free(d.a);
    }
}

/* Weights and gradients travel on the same links as the blocks' exchanges: they can hold a step up,
 * never shorten it. Where ranks are alike and have NICs of their own, so that the blocks take what
 * the closed forms say, a step is no shorter than its blocks and the optimizer. */
static void drawn_steps_are_no_shorter_than_their_blocks(int cases)
{
    struct sim_options o = {0};
    struct play_what what = {0};
    for (int k = 0, done = 0; done < cases; k++) {
        struct drawn d;
        struct plan_found f;
        struct step s;
        struct play_result r;
        bool ok = draw_request(&d, 7, (uint64_t)k, 16);
        gsl_test(!ok, "case %d: %s", k, d.e.text);
        d.r.phase = PLAN_STEP;
        if (ok && d.alike && d.cluster.gpus_per_nic == 1) {
            done++;
            ok = plan_search(&d.r, &f, d.a, &d.e);
            double least = ok ? f.plan->optimizer_s : 0;
            if (ok)
                f.plan->block_count = 2;
            for (int i = 0; ok && i < 2; i++)
                least += f.plan->blocks[i].time.total_s;
            ok = ok &&
                 step_of_plan(f.plan, &o, 1, false, NULL, &s, d.a, err_at_name("test"), &d.e) &&
                 play_run(s.graph, s.topo, &what, &r, d.a, err_at_name("test"), &d.e);
            gsl_test(!ok, "%s: simulated %s", d.text, d.e.text);
            gsl_test(ok && !(sim_seconds(r.end) > least * (1 - 1e-4)), "%s: %g s, blocks %g s",
                     d.text, ok ? sim_seconds(r.end) : 0, least);
        }
        arena_free(d.a);
    }
}

/* ---- whole steps ---- */

/* Any sharding, sharding groups of powers of two, units of 1 to 3 blocks or of all. */
static void draw_sharding(struct drawn *d)
{
    static const int units[] = {1, 1, 1, 2, 3, 0};
    struct mem_options *m = &d->r.memory;
    m->sharding = below(d, 3) ? SHARD_FSDP : (enum sharding)below(d, SHARD_FSDP);
    while (m->shard_ranks > 1 && below(d, 4) == 0)
        m->shard_ranks /= 2;
    m->fsdp_units = PICK(d, units);
}

/* Half of the steps take the best configuration, half whatever one strategy offers. */
static void draw_strategies(struct drawn *d, bool *only)
{
    int strategy = 1 + below(d, CP_STRATEGIES - 1);
    memset(only, 0, CP_STRATEGIES * sizeof *only);
    only[strategy] = true;
    d->r.strategies = below(d, 2) ? only : NULL;
}

/* A step of 2 to 8 blocks by both: true if there is such a plan. */
static bool step_by_both(struct drawn *d, uint64_t seed, uint64_t k, int gpus,
                         const struct sim_options *o, struct plan *plan, double *simulated_s)
{
    bool only[CP_STRATEGIES];
    struct plan_found f;
    struct step s;
    struct play_result r;
    struct play_what what = {.sm_share = o->sm_share};
    struct err_at at = err_at_name("test");
    bool ok = draw_request(d, seed, k, gpus);
    gsl_test(!ok, "case %d: %s", (int)k, d->e.text);
    d->r.phase = PLAN_STEP;
    draw_sharding(d);
    draw_strategies(d, only);
    if (!ok || !plan_search(&d->r, &f, d->a, &d->e))
        return false; /* the strategy has no configuration of this degree */
    f.plan->block_count = 2 + below(d, 7);
    ok = plan_reprice(&d->r, f.plan, plan, d->a, &d->e) &&
         step_of_plan(plan, o, 1, false, NULL, &s, d->a, at, &d->e) &&
         play_run(s.graph, s.topo, &what, &r, d->a, at, &d->e);
    gsl_test(!ok, "%s: %s", d->text, d->e.text);
    *simulated_s = ok ? sim_seconds(r.end) : NAN;
    return ok;
}

static void print_step(const struct drawn *d, const struct plan *p, double simulated_s)
{
    char conf[96];
    printf("%.4f\t%s\t%s\t%s of %d, %d units, %d blocks\tblocks %g, fsdp %g, simulated %g\n",
           simulated_s / p->step_s, cp_conf_text(&p->blocks[0].conf, conf, sizeof conf), d->text,
           sharding_names[p->memory.sharding], p->memory.shard_ranks, p->memory.fsdp_units,
           p->block_count, p->blocks_s, p->fsdp_s, simulated_s);
}

static int by_value(const void *a, const void *b)
{
    double x = *(const double *)a, y = *(const double *)b;
    return (x > y) - (x < y);
}

/* Simulated over planned: no step is farther off than `most`, all but one in twenty keep within
 * `usual`. */
static void drawn_steps_agree(int cases, int gpus, uint64_t seed, const struct sim_options *o,
                              double usual, double most, bool print)
{
    double *off = calloc((size_t)cases, sizeof *off);
    for (int k = 0, done = 0; done < cases; k++) {
        struct drawn d;
        struct plan p;
        double simulated_s;
        if (step_by_both(&d, seed, (uint64_t)k, gpus, o, &p, &simulated_s)) {
            if (print)
                print_step(&d, &p, simulated_s);
            off[done++] = fabs(simulated_s / p.step_s - 1);
            gsl_test(!(off[done - 1] <= most), "%s: %g s simulated, %g s planned", d.text,
                     simulated_s, p.step_s);
        }
        arena_free(d.a);
    }
    qsort(off, (size_t)cases, sizeof *off, by_value);
    gsl_test(!(off[cases * 19 / 20 - 1] <= usual), "19 of 20 steps within %g: %g", usual,
             off[cases * 19 / 20 - 1]);
    free(off);
}

/* ---- rows that a server's GPUs share, row by row ---- */

enum { SHARDS = 8, NEAR = 4, HEADS = 2, ROWS = 64 };

/* want[h][i][j]: bit r set when shard i wants row r of shard j for head h. */
struct wants {
    uint64_t bits[HEADS][SHARDS][SHARDS];
    double need[HEADS * (2 * 2 + SHARDS * SHARDS)], value[2 * HEADS];
};

enum overlap { OVERLAP_DRAWN, OVERLAP_SAME, OVERLAP_NONE };

/* Owners 0 and 5 are hot. Readers of a server want rows of their own drawing, the same rows, or
 * rows that nobody else there wants. */
static void draw_wants(struct wants *w, enum overlap how)
{
    struct rng r = rng_stream(3, "wants", (uint64_t)how, 0, 0);
    for (int h = 0; h < HEADS; h++)
        for (int i = 0; i < SHARDS; i++)
            for (int j = 0; j < SHARDS; j++) {
                uint64_t some = rng_u64(&r) & rng_u64(&r), hot = rng_u64(&r);
                w->bits[h][i][j] = j % 5 ? some : some | hot;
                if (how == OVERLAP_SAME && i % NEAR)
                    w->bits[h][i][j] = w->bits[h][i - 1][j];
                if (how == OVERLAP_NONE)
                    w->bits[h][i][j] &= 0x1111111111111111ull << i % NEAR;
            }
}

/* Distinct rows of owner `j` that the server of the readers from `first` on wants for head h. */
static int distinct(const struct wants *w, int h, int first, int j)
{
    int count = 0;
    for (int row = 0; row < ROWS; row++) {
        bool wanted = false;
        for (int i = first; i < first + NEAR; i++)
            wanted |= w->bits[h][i][j] >> row & 1;
        count += wanted;
    }
    return count;
}

/* The tables of a trace, by counting: at degree 2 each server is one shard. */
static void count_wants(struct wants *w, struct sparsity *s)
{
    static const int shards[2] = {2, SHARDS};
    double *servers = w->need, *ranks = w->need + HEADS * 4;
    for (int h = 0; h < HEADS; h++) {
        for (int k = 0; k < SHARDS * SHARDS; k++) {
            int set = 0;
            for (int row = 0; row < ROWS; row++)
                set += w->bits[h][k / SHARDS][k % SHARDS] >> row & 1;
            ranks[h * SHARDS * SHARDS + k] = (double)set / ROWS;
        }
        for (int k = 0; k < 4; k++) {
            int rows = 0;
            for (int j = 0; j < NEAR; j++)
                rows += distinct(w, h, k / 2 * NEAR, k % 2 * NEAR + j);
            servers[h * 4 + k] = (double)rows / (NEAR * ROWS);
        }
    }
    s->model.kind = UNION_MEASURED;
    s->table = (struct union_table){2, shards, w->value, 2, w->need};
}

/* Bytes through all NICs when one phase is simulated alone in two levels. */
static double nic_total(struct fixture *f, const struct cp_conf *conf, const struct cp_phase *p,
                        struct arena *a)
{
    struct sim_options o = {.two_level = true};
    struct cp_program one = {.ranks = SHARDS, .phase_count = 1, .phases = p};
    struct step s;
    struct play_result r;
    struct play_what what = {0};
    struct err e = {0};
    double sum = 0;
    bool ok = step_of_program(&one, conf, &f->cluster, &o, &s, a, &e) &&
              play_run(s.graph, s.topo, &what, &r, a, err_at_name("test"), &e);
    gsl_test(!ok, "it runs %s", e.text);
    for (int i = 0; i < s.topo->edge_count && ok; i++)
        if (s.topo->nodes[s.topo->edges[i].from].kind == TOPO_GPU &&
            s.topo->nodes[s.topo->edges[i].to].kind == TOPO_NIC)
            sum += r.carried[i];
    return sum;
}

/* Every row is looked at: 2 servers of 4, K and V of 128 bf16. */
static void in_two_levels_a_measured_row_travels_to_a_server_once(void)
{
    const double row_bytes = 2 * 128 * 2;
    for (enum overlap how = OVERLAP_DRAWN; how <= OVERLAP_NONE; how++) {
        struct arena *a = arena_new();
        struct fixture f;
        struct wants w = {0};
        double all = 0;
        fixture_init(&f, HEADS, HEADS, SHARDS * ROWS, 2, NEAR, 0.1, 1, a);
        f.cluster.pcie_bytes_per_s = 1e15;
        draw_wants(&w, how);
        count_wants(&w, &f.sparsity);
        f.c.server_unions = true;
        struct cp_conf c = fixture_conf(CP_SCP, 1, SHARDS, true, HEADS, a);
        struct cp_program p = cp_program_of(&f.c, 0, &c, a);
        const struct cp_phase *gather = fixture_phase(&p, "kv gather");
        for (int to = 0; to < 2; to++) {
            double rows = 0, got = 0;
            for (int j = (1 - to) * NEAR; j < (2 - to) * NEAR; j++) {
                int own = distinct(&w, 0, to * NEAR, j) + distinct(&w, 1, to * NEAR, j);
                double says = gather->server_matrix[j * SHARDS + to * NEAR];
                rows += own;
                got += says;
                if (how != OVERLAP_DRAWN)
                    gsl_test_rel(says, own * row_bytes, 1e-12, "%d: owner %d, by rows", how, j);
            }
            gsl_test_rel(got, rows * row_bytes, 1e-12, "%d: to server %d, by rows", how, to);
            all += rows * row_bytes;
        }
        gsl_test_rel(nic_total(&f, &c, gather, a), all, 1e-9, "%d: through the NICs", how);
        arena_free(a);
    }
}

int main(int argc, char **argv)
{
    struct sim_options bare = {0}, usual = sim_options_default();
    if (argc > 4) {
        drawn_steps_agree(atoi(argv[1]), atoi(argv[2]), (uint64_t)atoi(argv[3]),
                          strcmp(argv[4], "usual") == 0 ? &usual : &bare, 0.05, 0.1, true);
        return gsl_test_summary();
    }
    in_two_levels_a_measured_row_travels_to_a_server_once();
    drawn_steps_are_no_shorter_than_their_blocks(12);
    drawn_steps_agree(120, 32, 1, &bare, 0.05, 0.1, false);
    the_backward_of_a_ring_of_two_takes_what_its_hops_say();
    an_all_gather_between_servers_uses_every_nic();
    a_ring_has_a_shared_nic_for_itself();
    drawn_blocks_keep_to_what_both_must_hold(argc > 1 ? atoi(argv[1]) : 100,
                                             argc > 2 ? atoi(argv[2]) : 32,
                                             argc > 3 ? (uint64_t)atoi(argv[3]) : 1, argc > 1);
    return gsl_test_summary();
}
