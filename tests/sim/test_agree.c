/* The two evaluators of a plan beside each other: closed forms (model/cost.h) and simulation. */
#include <gsl/gsl_test.h>
#include <math.h>

#include "sim/eval.h"
#include "tests/model/fixture.h"

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
        fixture_init(&f, 16, 16, 64000, 2, 1, 1, 1, a);
        f.cluster.nic.bytes_per_s = cases[i].nic_bytes_per_s;
        f.cluster.pcie_bytes_per_s = 1e15; /* of no consequence */
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

int main(void)
{
    the_backward_of_a_ring_of_two_takes_what_its_hops_say();
    return gsl_test_summary();
}
