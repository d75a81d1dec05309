/* Weights and gradients beside the blocks (model/weights.h), on steps worked out by hand: blocks of
 * 1e9 parameters on NICs of 25 GB/s and NVLink of 400 GB/s, no latencies. */
#include <gsl/gsl_test.h>

#include "model/weights.h"
#include "tests/model/fixture.h"

enum { BLOCKS = 3 };

struct case_of { /* a plan of three blocks that are alike */
    struct fixture f;
    struct plan p;
    struct plan_block block[BLOCKS];
    struct arena *a;
};

static void case_init(struct case_of *k, int64_t tokens, int gpus_each, struct arena *a)
{
    *k = (struct case_of){.a = a};
    fixture_init(&k->f, 16, 16, tokens, 2, gpus_each, 1, 1, a);
    k->f.model.cross_blocks = BLOCKS;
    k->f.model.params = BLOCKS * 1e9;
}

/* Prices the blocks alone and returns what weights and gradients add. */
static double added_s(struct case_of *k, const struct cp_conf *conf)
{
    int gpus = hw_gpus(&k->f.cluster), cp = cp_ranks(conf);
    struct arena *scratch = arena_new();
    for (int b = 0; b < BLOCKS; b++) {
        struct cp_program p = cp_program_of(&k->f.c, b, conf, k->a);
        k->block[b].conf = *conf;
        k->block[b].time = cost_program_time(&p, conf, &k->f.cluster, k->a, scratch);
    }
    struct mem_options memory = k->p.memory.shard_ranks ? k->p.memory : mem_options_default(gpus);
    k->p = (struct plan){.c = k->f.c,
                         .memory = memory,
                         .phase = PLAN_STEP,
                         .tensor = 1,
                         .gpus = gpus,
                         .cp = cp,
                         .replicas = gpus / cp,
                         .block_count = BLOCKS,
                         .blocks = k->block,
                         .optimizer_s = k->f.c.options.inference ? 0 : 1e-3};
    arena_free(scratch);
    return weights_step_s(&k->p);
}

/* Two GPUs, a replica each: nothing but weights and gradients is on the NICs. Each passes on half
 * of 2e9 bytes, 40 ms; a block computes for longer than both a gather and a scatter. The first
 * gather and the last scatter have nothing to hide beneath. */
static void what_computes_hides_all_but_the_first_gather_and_the_last_scatter(void)
{
    struct arena *a = arena_new();
    struct case_of k;
    case_init(&k, 64000, 1, a);
    struct cp_conf one = fixture_conf(CP_SINGLE, 1, 1, false, 16, a);
    gsl_test_rel(added_s(&k, &one), 80e-3, 1e-9, "bf16 gradients");
    gsl_test(!(k.block[0].time.pass_s[PASS_FORWARD] > 40e-3), "a forward is longer than a gather");
    k.f.c.options.grad_fp32 = true;
    gsl_test_rel(added_s(&k, &one), 120e-3, 1e-9, "fp32 gradients");
    k.f.c.options.inference = true;
    gsl_test_rel(added_s(&k, &one), 40e-3, 1e-9, "inference");
    arena_free(a);
}

/* The same, sharded otherwise. ddp: every block's gradients are reduced, 2 x 1/2 of 2e9 bytes, 80
 * ms; the last one's is not hidden. zero1: 40 ms, and all three blocks' weights after the
 * optimizer, 120 ms. The model as one unit: its weights before all, 120 ms, and its gradients
 * behind all. */
static void other_shardings_hide_what_they_can(void)
{
    struct arena *a = arena_new();
    struct case_of k;
    case_init(&k, 64000, 1, a);
    struct cp_conf one = fixture_conf(CP_SINGLE, 1, 1, false, 16, a);
    k.p.memory = mem_options_default(2);
    k.p.memory.sharding = SHARD_DDP;
    gsl_test_rel(added_s(&k, &one), 80e-3, 1e-9, "ddp");
    k.p.memory.sharding = SHARD_ZERO1;
    gsl_test_rel(added_s(&k, &one), 160e-3, 1e-9, "zero1");
    gsl_test_rel(weights_end_s(&k.p), 120e-3, 1e-9, "of it behind the optimizer");
    k.p.memory.sharding = SHARD_FSDP;
    k.p.memory.fsdp_units = 0;
    gsl_test_rel(added_s(&k, &one), 240e-3, 1e-9, "one unit");
    k.p.memory.fsdp_units = 2; /* 2 blocks gathered first, 1 + 2 scattered, the 2 last */
    gsl_test_rel(added_s(&k, &one), 160e-3, 1e-9, "units of two");
    k.p.memory.fsdp_units = 1;
    k.p.memory.shard_ranks = 1; /* all-reduce of 2e9 bytes between two groups of one */
    gsl_test_rel(added_s(&k, &one), 80e-3, 1e-9, "two groups of one");
    arena_free(a);
}

/* Two GPUs gather KV: 64,000 rows of 16 heads, K and V in bf16, 524,288,000 bytes, 20.97152 ms
 * alone. With the next block's weights on the NIC it has half of the rate, attention (111.8 ms)
 * hides the rest of them; the last block has no weights beside it. */
static void an_all_gather_has_half_of_the_nic_beside_weights(void)
{
    struct arena *a = arena_new();
    struct case_of k;
    case_init(&k, 128000, 1, a);
    k.f.c.options.inference = true;
    struct cp_conf two = fixture_conf(CP_ALLGATHER, 1, 2, false, 16, a);
    gsl_test_rel(added_s(&k, &two), 40e-3 + 2 * 20.97152e-3, 1e-9, "halves");
    k.f.cluster.nvlink.latency_s = k.f.cluster.nic.latency_s = 1e-3;
    gsl_test_rel(added_s(&k, &two), 41e-3 + 2 * 20.97152e-3, 1e-9, "both wait for their latency");
    arena_free(a);
}

/* Four GPUs on two servers, Ulysses. Q, K and V go to a peer as 3 tensors of 32,000 tokens, 4
 * heads, bf16: 98,304,000 bytes, to two of them by NIC: 7.86432 ms alone. Weights: 3/4 of 2e9
 * bytes, half of it by NIC, 30 ms. The NIC has two messages of the all-to-all and one of weights:
 * 2/3 and 1/3. Attention, 4 x 128,000^2 x 128 x 4 FLOP at 0.6 PFLOP/s, takes 55.9 ms and hides the
 * rest. */
static void an_all_to_all_has_a_share_for_each_message(void)
{
    struct arena *a = arena_new();
    struct case_of k;
    case_init(&k, 128000, 2, a);
    k.f.c.options.inference = true;
    struct cp_conf four = fixture_conf(CP_ULYSSES, 4, 1, false, 16, a);
    gsl_test_rel(added_s(&k, &four), 30e-3 + 2 * 3.93216e-3, 1e-9, "two thirds");
    arena_free(a);
}

/* The same with half the tokens: attention takes 13.98 ms and the weights are longer than the
 * block. They have 1/3 of the NIC for 3/2 x 3.93216 ms (Q, K, V) and 3/2 x 1.31072 ms (O), and lose
 * twice what they get there: 30 + 3.93216 + 1.31072 ms until the next block may begin. */
static void weights_that_are_longer_than_the_block_are_slowed_too(void)
{
    struct arena *a = arena_new();
    struct case_of k;
    case_init(&k, 64000, 2, a);
    k.f.c.options.inference = true;
    struct cp_conf four = fixture_conf(CP_ULYSSES, 4, 1, false, 16, a);
    double added = added_s(&k, &four), block = k.block[0].time.total_s;
    gsl_test_rel(added, 30e-3 + 2 * (35.24288e-3 - block), 1e-9, "bound by weights");
    arena_free(a);
}

/* Two GPUs in a ring, forward: a hop of 262,144,000 bytes, 10.48576 ms, beneath the first of two
 * steps, which take 4 x 32,000^2 x 128 x 16 FLOP at 0.6 PFLOP/s, 13.98 ms, and a merge: hidden
 * alone. At half of the NIC, beside weights of 20 ms, it takes 20.97 ms and is not; the rest of the
 * weights is beneath the second step. */
static void a_hop_that_a_step_hides_alone_is_exposed_beside_weights(void)
{
    struct arena *a = arena_new();
    struct case_of k;
    case_init(&k, 64000, 1, a);
    k.f.c.options.inference = true;
    k.f.model.params = BLOCKS * 0.5e9;
    struct cp_conf ring = fixture_conf(CP_RING, 1, 2, false, 16, a);
    double added = added_s(&k, &ring), step = k.block[0].time.total_s / 2;
    gsl_test_rel(added, 20e-3 + 2 * (20.97152e-3 - step), 1e-9, "a hop");
    gsl_test(!(step > 13.98e-3 && step < 20.97e-3), "a step is between: %g s", step);
    arena_free(a);
}

/* A row of blocks alike: each is slowed by what slows the inner blocks of the steps above. */
static void a_block_of_many_is_slowed_as_the_inner_blocks_of_a_step(void)
{
    struct arena *a = arena_new();
    struct case_of k;
    case_init(&k, 128000, 1, a);
    k.f.c.options.inference = true;
    struct cp_conf two = fixture_conf(CP_ALLGATHER, 1, 2, false, 16, a);
    added_s(&k, &two);
    struct weights_case w = {&k.p.memory, 2, 1};
    gsl_test_rel(weights_block_s(&w, &k.f.c, 1, &two, &k.block[1].time, a), 20.97152e-3, 1e-9,
                 "an all-gather at half of the rate");
    k.p.memory.fsdp_units = 0;
    gsl_test(weights_block_s(&w, &k.f.c, 1, &two, &k.block[1].time, a) != 0, "one unit: nothing");
    arena_free(a);
}

int main(void)
{
    what_computes_hides_all_but_the_first_gather_and_the_last_scatter();
    other_shardings_hide_what_they_can();
    an_all_gather_has_half_of_the_nic_beside_weights();
    an_all_to_all_has_a_share_for_each_message();
    weights_that_are_longer_than_the_block_are_slowed_too();
    a_hop_that_a_step_hides_alone_is_exposed_beside_weights();
    a_block_of_many_is_slowed_as_the_inner_blocks_of_a_step();
    return gsl_test_summary();
}
