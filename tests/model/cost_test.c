/* Volumes and times of the closed forms. KAnn: docs/known-answers.md, each derived
 * there by hand and checked by message enumeration; this test enumerates once more on its own. */
#include <gsl/gsl_test.h>
#include <math.h>
#include <string.h>

#include "base/rng.h"
#include "tests/model/fixture.h"

static struct arena *arena;

/* Bytes that `rank` receives (or sends) in `pass`, all passes for PASSES. */
static struct cp_bytes program_bytes(const struct fixture *f, const struct cp_conf *conf,
                                     enum cp_pass pass, int rank)
{
    struct cp_program p = cp_program_of(&f->c, 0, conf, arena);
    struct cp_bytes *bytes = ARENA_ARRAY(arena, struct cp_bytes, p.ranks);
    cost_program_bytes(&p, conf, f->cluster.gpus_per_node, pass, bytes, arena);
    return bytes[rank];
}

static struct cp_bytes phase_bytes(const struct fixture *f, const struct cp_conf *conf,
                                   const char *name, int rank)
{
    struct cp_program p = cp_program_of(&f->c, 0, conf, arena);
    struct cp_bytes *bytes = ARENA_ARRAY(arena, struct cp_bytes, p.ranks);
    const struct cp_phase *phase = fixture_phase(&p, name);
    gsl_test(phase == NULL, "there is a phase '%s'", name);
    if (!phase)
        return (struct cp_bytes){0};
    cost_phase_bytes(phase, conf, f->cluster.gpus_per_node, bytes);
    return bytes[rank];
}

static void even_ulysses_moves_what_enumeration_says(void)
{
    struct fixture f;
    fixture_init(&f, 16, 16, 64000, 1, 4, 1, 1, arena);
    struct cp_conf u = fixture_conf(CP_ULYSSES, 4, 1, false, 16, arena);
    gsl_test_rel(phase_bytes(&f, &u, "o all-to-all", 0).recv_near, 49152000, 1e-12,
                 "KA01a per tensor");
    gsl_test_rel(phase_bytes(&f, &u, "o all-to-all", 0).recv_near / 3, 16384000, 1e-12,
                 "KA01b one message");
    gsl_test_rel(program_bytes(&f, &u, PASS_FORWARD, 0).recv_near, 196608000, 1e-12,
                 "KA01c forward");
    gsl_test_rel(program_bytes(&f, &u, PASSES, 0).recv_near, 393216000, 1e-12,
                 "KA01d forward + backward");
    f.c.options.checkpointing = CHECKPOINT_FULL;
    gsl_test_rel(program_bytes(&f, &u, PASSES, 0).recv_near, 589824000, 1e-12,
                 "KA01e with recompute");
}

static void grouped_queries_move_fewer_keys(void)
{
    struct fixture f;
    fixture_init(&f, 64, 8, 8 * 8192, 1, 8, 1, 1, arena);
    struct cp_conf u = fixture_conf(CP_ULYSSES, 8, 1, false, 64, arena);
    gsl_test_rel(program_bytes(&f, &u, PASS_FORWARD, 3).recv_near, 264241152, 1e-12,
                 "KA02a 64:8 heads on 8");
    fixture_init(&f, 64, 8, 16 * 8192, 1, 16, 1, 1, arena);
    struct cp_conf w = fixture_conf(CP_ULYSSES, 16, 1, false, 64, arena);
    gsl_test_rel(program_bytes(&f, &w, PASS_FORWARD, 3).recv_near, 314572800, 1e-12,
                 "KA02b KV replicated to 16");
}

/* Narayanan et al., "Efficient Large-Scale Language Model Training on GPU Clusters", section 3.2: a
 * layer's all-reduces move 8 b s h (t-1)/t elements a device, forward and backward. */
static void tensor_parallelism_moves_what_megatron_says(void)
{
    struct fixture f;
    fixture_init(&f, 16, 16, 64000, 1, 8, 1, 1, arena);
    f.model.cross_blocks = 0, f.model.plain_blocks = 1;
    f.c.linear = f.c.options.tensor_allreduce = true;
    struct cp_conf c = fixture_conf(CP_SINGLE, 1, 1, false, 16, arena);
    c.tensor = 4;
    c.pieces = cp_pieces_even(16, 4, arena);
    double elements = 8 * 64000.0 * 2048 * 3 / 4;
    gsl_test_rel(program_bytes(&f, &c, PASSES, 2).send_near, 2 * elements, 1e-12, "all-reduces");
    f.c.options.tensor_allreduce = false;
    gsl_test_rel(program_bytes(&f, &c, PASS_FORWARD, 2).send_near, elements, 1e-12,
                 "sequence parallelism: as much forward");
    gsl_test_rel(program_bytes(&f, &c, PASS_BACKWARD, 2).send_near, 1.5 * elements, 1e-12,
                 "the backward gathers the inputs of both layers again");
    f.model.cross_blocks = 1, f.model.plain_blocks = 0;
    gsl_test_rel(program_bytes(&f, &c, PASS_FORWARD, 2).send_near, 1.5 * elements, 1e-12,
                 "cross-attention: a third pair");
}

static double pointwise_s(const struct fixture *f, const struct cp_conf *conf, const char *name)
{
    struct cp_program p = cp_program_of(&f->c, 0, conf, arena);
    const struct cp_phase *phase = fixture_phase(&p, name);
    gsl_test(phase && phase->cost != CLASS_POINTWISE, "%s has its class", name);
    return phase ? phase->seconds[0] : 0;
}

/* One cross-attention block of width 2048 and FFN 8192: 15 tensors of norms and residuals, 14 of Q,
 * K and hidden units, 2 bytes; twice over at 80% of 3 TB/s. */
static void norms_and_activations_take_their_traffic(void)
{
    struct fixture f;
    fixture_init(&f, 16, 16, 64000, 1, 8, 1, 1, arena);
    struct cp_conf c = fixture_conf(CP_ULYSSES, 4, 1, false, 16, arena);
    double tensor = 16000.0 * 2048 * 2, rate = 0.8 * 3e12;
    gsl_test(fixture_phase(&(struct cp_program){0}, "pointwise") != NULL, "nothing is in nothing");
    f.c.linear = true;
    struct cp_program none = cp_program_of(&f.c, 0, &c, arena);
    gsl_test(fixture_phase(&none, "pointwise") != NULL, "a profile without it does not price it");
    f.kernels.pointwise_least = 1, f.kernels.pointwise_most = 4;
    gsl_test_rel(pointwise_s(&f, &c, "pointwise"), 2 * 29 * tensor / rate, 1e-12, "forward");
    gsl_test_rel(pointwise_s(&f, &c, "pointwise backward"), 2 * (18 + 21) * tensor / rate, 1e-12,
                 "backward");
    c = fixture_conf(CP_SINGLE, 1, 1, false, 16, arena);
    c.tensor = 4;
    c.pieces = cp_pieces_even(16, 4, arena);
    gsl_test_rel(pointwise_s(&f, &c, "pointwise"), 2 * 29 * tensor / rate, 1e-12,
                 "tensor ranks share all of it with sequence parallelism");
    f.c.options.tensor_allreduce = true;
    gsl_test_rel(pointwise_s(&f, &c, "pointwise"), 2 * (4 * 15 + 14) * tensor / rate, 1e-12,
                 "without it norms and residuals are on all of them");
    f.c.linear = false;
    struct cp_program attention = cp_program_of(&f.c, 0, &c, arena);
    gsl_test(fixture_phase(&attention, "pointwise") != NULL, "attention alone has none");
}

/* 2 tensor ranks x 2 head groups x 2 sequence groups, both placements: each rank has one place, and
 * what a row or column sends it receives. */
static void tensor_ranks_keep_their_own_rows_and_columns(void)
{
    struct fixture f;
    fixture_init(&f, 16, 16, 64000, 2, 4, 0.1, 0.3, arena);
    f.c.linear = true;
    struct cp_conf c = fixture_conf(CP_HYBRID, 2, 2, true, 16, arena);
    c.tensor = 2;
    c.pieces = cp_pieces_even(16, 4, arena);
    for (int inside = 0; inside < 2; inside++) {
        double sent = 0, received = 0;
        c.heads_inside = inside;
        for (int r = 0; r < 8; r++) {
            gsl_test_int(cp_rank_at(&c, cp_head_rank(&c, r), cp_seq_rank(&c, r)), r, "rank %d", r);
            gsl_test_int(cp_head_rank(&c, r) / 2, r % 2, "tensor ranks are neighbours");
            sent += bytes_sent(program_bytes(&f, &c, PASSES, r));
            received += bytes_received(program_bytes(&f, &c, PASSES, r));
        }
        gsl_test_rel(sent, received, 1e-12, "all that is sent arrives");
    }
    /* a rank's all-to-all: 4 heads of its own go and 4 come, S/4 tokens, to one peer */
    gsl_test_rel(phase_bytes(&f, &c, "o all-to-all", 3).send_near +
                     phase_bytes(&f, &c, "o all-to-all", 3).send_far,
                 4 * 16000 * 128 * 2, 1e-12, "O of 4 heads");
}

static void uneven_heads_send_and_receive_differently(void)
{
    struct fixture f;
    fixture_init(&f, 16, 16, 64000, 1, 4, 1, 1, arena);
    struct cp_conf c = fixture_conf(CP_HCP, 4, 1, false, 16, arena);
    struct cp_piece pieces[16];
    for (int h = 0; h < 16; h++)
        pieces[h] =
            (struct cp_piece){.head = h, .head_rank = h < 7 ? 0 : 1 + (h - 7) / 3, .share = 1};
    c.pieces = pieces;
    struct cp_bytes r0 = phase_bytes(&f, &c, "qkv all-to-all", 0),
                    r1 = phase_bytes(&f, &c, "qkv all-to-all", 1);
    gsl_test_rel(r0.send_near / 6, 18432000, 1e-12, "KA03a elements that rank 0 sends, per tensor");
    gsl_test_rel(r0.recv_near / 6, 43008000, 1e-12, "KA03b receives");
    gsl_test_rel(r1.send_near / 6, 26624000, 1e-12, "KA03c rank 1 sends");
    gsl_test_rel(r1.recv_near / 6, 18432000, 1e-12, "KA03d receives");
    gsl_test_rel(cost_dsv_v3_hcp(7, 16, 4, 64000, 128), 172032000, 1e-12, "KA03e DSV v3");
    gsl_test_rel(cost_dsv_v1_hcp(7, 4, 64000, 128), 43008000, 1e-12,
                 "KA03f DSV v1, too small by N");
    gsl_test_rel(cost_dsv_v3_hcp(3, 16, 4, 64000, 128), 106496000, 1e-12, "KA03g DSV v3, rank 1");
    /* our four tensors: three in one direction, one in the other; v3 takes the larger direction of
     * each */
    gsl_test_rel((3 * fmax(r0.send_near, r0.recv_near) / 3 + fmax(r0.send_near, r0.recv_near) / 3) /
                     2,
                 172032000, 1e-12, "v3 is ours for rank 0");
}

static void the_fullest_rank_of_an_uneven_alltoall_sets_the_pace(void)
{
    static const int held[8] = {1, 1, 2, 2, 2, 2, 3, 3};
    struct fixture f;
    fixture_init(&f, 16, 16, 64000, 1, 8, 1, 1, arena);
    struct cp_conf c = fixture_conf(CP_HCP, 8, 1, false, 16, arena);
    struct cp_piece pieces[16];
    for (int r = 0, h = 0; r < 8; r++)
        for (int i = 0; i < held[r]; i++, h++)
            pieces[h] = (struct cp_piece){.head = h, .head_rank = r, .share = 1};
    c.pieces = pieces;
    double most = 0;
    for (int r = 0; r < 8; r++) {
        struct cp_bytes b = phase_bytes(&f, &c, "o all-to-all", r);
        most = fmax(most, fmax(b.send_near, b.recv_near));
    }
    gsl_test_rel(most, 43008000, 1e-12, "KA22 bottleneck per tensor");
    struct cp_conf even = fixture_conf(CP_ULYSSES, 8, 1, false, 16, arena);
    gsl_test_rel(phase_bytes(&f, &even, "o all-to-all", 5).recv_near, 28672000, 1e-12,
                 "KA22b even heads");
}

static void selective_gather_moves_the_union(void)
{
    struct fixture f;
    fixture_init(&f, 16, 16, 256000, 1, 4, 0.08, 0.08, arena);
    struct cp_conf dense = fixture_conf(CP_SCP_DENSE, 1, 4, true, 16, arena);
    struct cp_conf rows = fixture_conf(CP_SCP, 1, 4, true, 16, arena);
    struct cp_conf all = fixture_conf(CP_ALLGATHER, 1, 4, true, 16, arena);
    gsl_test_rel(phase_bytes(&f, &dense, "kv gather", 0).recv_near, 1572864000, 1e-12,
                 "KA05a dense K+V");
    gsl_test_rel(phase_bytes(&f, &all, "kv all-gather", 0).recv_near, 1572864000, 1e-12,
                 "KA05a by all-gather");
    gsl_test_rel(phase_bytes(&f, &rows, "kv gather", 0).recv_near, 125829120, 1e-12,
                 "KA05b union 8%%");
    gsl_test_rel(phase_bytes(&f, &rows, "index exchange", 0).recv_near, 384000, 1e-12,
                 "KA05d bitmap");
    f.c.options.checkpointing = CHECKPOINT_FULL;
    struct cp_program p = cp_program_of(&f.c, 0, &rows, arena);
    double payload = 0;
    for (int i = 0; i < p.phase_count; i++) {
        struct cp_bytes b[4];
        cost_phase_bytes(&p.phases[i], &rows, 4, b);
        if (strcmp(p.phases[i].name, "kv gather") == 0 ||
            strcmp(p.phases[i].name, "dkv return") == 0)
            payload += b[0].recv_near;
    }
    gsl_test_rel(payload, 377487360, 1e-12, "KA26a forward + recompute + gradients");
}

/* DSV's artifact sends three int32 for each remote row instead of a bitmap. */
static void lists_of_rows_are_longer_than_bitmaps(void)
{
    struct fixture f;
    fixture_init(&f, 16, 16, 256000, 1, 4, 0.08, 0.08, arena);
    struct cp_conf rows = fixture_conf(CP_SCP, 1, 4, true, 16, arena);
    double remote = phase_bytes(&f, &rows, "kv gather", 0).recv_near / 512;
    gsl_test_rel(12 * remote, 2949120, 1e-12, "KA05c");
    gsl_test(phase_bytes(&f, &rows, "index exchange", 0).recv_near >= 12 * remote,
             "the bitmap is shorter");
}

/* MagiAttention's benchmark at 8 GPUs: 64 query and 8 KV heads, 8192 tokens a GPU, full mask. */
static void a_published_ring_step_has_its_size(void)
{
    struct fixture f;
    fixture_init(&f, 64, 8, 8 * 8192, 1, 8, 1, 1, arena);
    struct cp_conf ring = fixture_conf(CP_RING, 1, 8, false, 64, arena);
    struct cp_conf even = fixture_conf(CP_ULYSSES, 8, 1, false, 64, arena);
    struct cp_program r = cp_program_of(&f.c, 0, &ring, arena);
    struct cp_program u = cp_program_of(&f.c, 0, &even, arena);
    gsl_test_rel(fixture_phase(&r, "attention")->from[0], 33554432, 1e-12, "KA27c one hop");
    gsl_test_rel(fixture_phase(&u, "attention")->seconds[0] * 0.6e15, 17592186044416, 1e-12,
                 "KA27a forward FLOP of a GPU");
}

static void a_hybrid_lies_between_its_ends(void)
{
    struct fixture f;
    fixture_init(&f, 16, 16, 64000, 1, 4, 1, 1, arena);
    struct cp_conf h = fixture_conf(CP_HYBRID_DENSE, 2, 2, false, 16, arena);
    double gather = phase_bytes(&f, &h, "kv gather", 0).recv_near,
           all = program_bytes(&f, &h, PASS_FORWARD, 0).recv_near;
    gsl_test_rel(all - gather, 131072000, 1e-12, "KA06a all-to-all part");
    gsl_test_rel(gather, 131072000, 1e-12, "KA06b gather part");
    gsl_test_rel(all, 262144000, 1e-12, "KA06c together");
    struct cp_conf scp = fixture_conf(CP_SCP_DENSE, 1, 4, false, 16, arena);
    struct cp_conf hcp = fixture_conf(CP_ULYSSES, 4, 1, false, 16, arena);
    gsl_test_rel(program_bytes(&f, &hcp, PASS_FORWARD, 0).recv_near, 196608000, 1e-12,
                 "KA06d pure HCP");
    gsl_test_rel(program_bytes(&f, &scp, PASS_FORWARD, 0).recv_near, 393216000, 1e-12,
                 "KA06e pure SCP, dense");
}

static void a_ring_passes_everything_on(void)
{
    struct fixture f;
    fixture_init(&f, 16, 16, 64000, 1, 4, 1, 1, arena);
    struct cp_conf r = fixture_conf(CP_RING, 1, 4, false, 16, arena);
    struct cp_program p = cp_program_of(&f.c, 0, &r, arena);
    gsl_test_rel(fixture_phase(&p, "attention")->from[0], 131072000, 1e-12, "KA12a one hop");
    gsl_test_rel(program_bytes(&f, &r, PASS_FORWARD, 2).recv_near, 393216000, 1e-12,
                 "KA12b forward");
    gsl_test_rel(program_bytes(&f, &r, PASS_BACKWARD, 2).recv_near, 786432000, 1e-12,
                 "KA12c backward in bf16");
    f.c.options.checkpointing = CHECKPOINT_FULL;
    gsl_test_rel(program_bytes(&f, &r, PASSES, 2).recv_near, 1572864000, 1e-12,
                 "KA26b with recompute");
    f.c.options.grad_fp32 = true;
    gsl_test_rel(program_bytes(&f, &r, PASS_BACKWARD, 2).recv_near, 1441792000, 1e-12,
                 "KA12d backward in fp32");
}

static void bytes_divide_between_nvlink_and_nics(void)
{
    struct fixture f;
    fixture_init(&f, 16, 16, 128000, 2, 8, 1, 1, arena);
    struct cp_conf u = fixture_conf(CP_ULYSSES, 16, 1, false, 16, arena);
    struct cp_bytes b = program_bytes(&f, &u, PASS_FORWARD, 0), far = {.recv_far = b.recv_far},
                    near = {.recv_near = b.recv_near};
    gsl_test_rel(b.recv_far, 65536000, 1e-12, "KA13a NIC");
    gsl_test_rel(b.recv_near, 57344000, 1e-12, "KA13b NVLink");
    gsl_test_rel(cost_exchange_s(&f.cluster, far, 1), 2.62144e-3, 1e-12, "KA13c own NIC");
    gsl_test_rel(cost_exchange_s(&f.cluster, near, 1), 0.14336e-3, 1e-12, "KA13e NVLink");
    f.cluster.gpus_per_nic = 8;
    gsl_test_rel(cost_exchange_s(&f.cluster, far, 1), 20.97152e-3, 1e-12, "KA13d eight share one");
}

/* Far bytes of the fullest direction: SCP across 4 nodes with heads inside, against heads across
 * with the sequence inside. */
static void heads_across_nodes_move_less_than_rows_across(void)
{
    struct fixture f;
    fixture_init(&f, 32, 32, 128000, 4, 8, 1, 1, arena);
    struct cp_conf rows = fixture_conf(CP_HYBRID_DENSE, 8, 4, false, 32, arena);
    struct cp_conf heads = fixture_conf(CP_HYBRID_DENSE, 4, 8, false, 32, arena);
    heads.heads_inside = false;
    gsl_test_rel(program_bytes(&f, &rows, PASS_FORWARD, 0).recv_far /
                     program_bytes(&f, &heads, PASS_FORWARD, 0).recv_far,
                 2, 1e-12, "KA14a n/2, forward");
    f.c.options.keep_kv = false;
    gsl_test_rel(program_bytes(&f, &rows, PASSES, 0).recv_far /
                     program_bytes(&f, &heads, PASSES, 0).recv_far,
                 3, 1e-12, "KA14b 3n/4, with the KV gathered again");
}

static double far_ratio(struct fixture *f, double u, enum cp_pass pass)
{
    f->sparsity.model.fixed = u;
    struct cp_conf rows = fixture_conf(CP_HYBRID, 8, 8, true, 64, arena),
                   heads = fixture_conf(CP_HYBRID, 8, 8, true, 64, arena);
    heads.heads_inside = false;
    struct cp_program p = cp_program_of(&f->c, 0, &rows, arena);
    double far[2] = {0, 0};
    for (int k = 0; k < 2; k++)
        for (int i = 0; i < p.phase_count; i++) {
            const struct cp_phase *ph = &p.phases[i];
            bool lists =
                strstr(ph->name, "_lr") || strstr(ph->name, "index"); /* not in the formula */
            struct cp_bytes b[64];
            cost_phase_bytes(ph, k ? &heads : &rows, 8, b);
            if ((pass == PASSES || ph->pass == pass) && !lists)
                far[k] += b[0].recv_far;
        }
    return far[0] / far[1];
}

static void the_union_decides_what_goes_across_nodes(void)
{
    struct fixture f;
    fixture_init(&f, 64, 64, 128000, 8, 8, 0.01, 0.25, arena);
    gsl_test_rel(far_ratio(&f, 0.25, PASS_FORWARD), 1, 1e-12,
                 "KA14c even at a union of 2/n, forward");
    f.c.options.keep_kv = false;
    gsl_test_rel(far_ratio(&f, 1.0 / 6, PASSES), 1, 1e-12,
                 "KA14d even at 4/(3n), with the KV gathered again");
}

static void low_rank_keys_are_a_sixteenth(void)
{
    struct fixture f;
    fixture_init(&f, 16, 16, 128000, 1, 8, 0.1, 1, arena);
    struct cp_conf c = fixture_conf(CP_SCP, 1, 8, true, 16, arena);
    double klr = phase_bytes(&f, &c, "k_lr all-gather", 0).recv_near;
    gsl_test_rel(klr, 57344000, 1e-12, "KA15a");
    gsl_test_rel(klr / phase_bytes(&f, &c, "kv gather", 0).recv_near, 0.0625, 1e-12,
                 "KA15b of a dense gather");
}

static void hot_rows_cost_their_owner(void)
{
    double m[16] = {0};
    for (int to = 1; to < 4; to++)
        m[to] = 1000 * 2 * 128 * 2;
    struct cp_conf c = fixture_conf(CP_SCP, 1, 4, true, 16, arena);
    struct cp_phase p = {.kind = PHASE_ALLTOALL, .scope = SCOPE_COLUMN, .matrix = m};
    struct cp_bytes b[4];
    cost_phase_bytes(&p, &c, 8, b);
    gsl_test_rel(b[0].send_near, 1536000, 1e-12, "KA24a send");
    gsl_test_rel(b[1].recv_near, 512000, 1e-12, "KA24b receive");
    double all[256] = {0};
    for (int to = 1; to < 16; to++)
        all[to] = 4000 * 2 * 128 * 2;
    struct cp_conf wide = fixture_conf(CP_SCP, 1, 16, true, 16, arena);
    struct cp_bytes w[16];
    p.matrix = all;
    cost_phase_bytes(&p, &wide, 8, w);
    gsl_test_rel(w[0].send_far, 16384000, 1e-12, "KA25a flat cast to the other node");
}

static void fetching_rows_pays_below_a_union(void)
{
    gsl_test_rel(cost_breakeven_union(512, 242e9, 17e-9, 4), 0.157313, 1e-5, "KA23a");
    gsl_test_rel(cost_breakeven_union(512, 25e9, 17e-9, 4), 0.643755, 1e-5, "KA23b");
    gsl_test_rel(cost_breakeven_union(512, 25e9, 1e-9, 4), 0.968474, 1e-5, "KA23c");
}

/* KA09: rows are ranks, columns are steps. */
static double ring_of(const double *work, int n, double hop)
{
    double hops[5] = {0};
    for (int k = 0; k + 1 < n; k++)
        hops[k] = hop;
    return cost_ring_s(work, n, hops, NULL, arena);
}

static void the_ring_recurrence_is_exact(void)
{
    double ones[16];
    for (int i = 0; i < 16; i++)
        ones[i] = 1;
    static const double two[4] = {3, 1, 1, 3};
    static const double four[16] = {4, 1, 1, 2, 1, 4, 2, 1, 2, 1, 4, 1, 1, 2, 1, 4};
    gsl_test_rel(ring_of(ones, 4, 0.5), 4, 1e-12, "KA09a hidden hops");
    gsl_test_rel(ring_of(ones, 4, 3), 10, 1e-12, "KA09b exposed hops");
    gsl_test_rel(ring_of(two, 2, 0), 4, 1e-12, "KA09c");
    gsl_test_rel(ring_of(two, 2, 2), 5, 1e-12, "KA09e");
    gsl_test_rel(ring_of(two, 2, 4), 7, 1e-12, "KA09f");
    for (int p = 0; p < 4; p++)
        gsl_test_rel(ring_of(four, 4, p),
                     p == 0   ? 9
                     : p == 1 ? 10
                     : p == 2 ? 12
                              : 14,
                     1e-12, "KA09g-j, hop %d", p);
}

/* ---- the volumes once more, element by element ---- */

struct place {
    int head_lo, head_hi; /* whole heads, by cp_pieces_even */
    int tok_lo, tok_hi;
};

static struct place holds(const struct cp_conf *c, int rank, int heads, int tokens, bool at_heads)
{
    int h = cp_head_rank(c, rank), s = cp_seq_rank(c, rank), shard = tokens / c->seq_groups,
        local = shard / c->head_groups;
    if (at_heads)
        return (struct place){h * heads / c->head_groups, (h + 1) * heads / c->head_groups,
                              s * shard, (s + 1) * shard};
    return (struct place){0, heads, s * shard + h * local, s * shard + (h + 1) * local};
}

static int overlap(int lo, int hi, int lo2, int hi2)
{
    int l = lo > lo2 ? lo : lo2, h = hi < hi2 ? hi : hi2;
    return h > l ? h - l : 0;
}

/* (head, token) elements of one tensor that `from` has before and `to` needs after. */
static double moved(const struct cp_conf *c, int from, int to, int heads, int tokens, bool to_heads)
{
    struct place a = holds(c, from, heads, tokens, !to_heads),
                 b = holds(c, to, heads, tokens, to_heads);
    return (double)overlap(a.head_lo, a.head_hi, b.head_lo, b.head_hi) *
           overlap(a.tok_lo, a.tok_hi, b.tok_lo, b.tok_hi);
}

static void check_enumeration(const struct fixture *f, const struct cp_conf *c, const char *phase,
                              bool to_heads, int tensors)
{
    int n = cp_ranks(c), node = f->cluster.gpus_per_node;
    for (int r = 0; r < n; r++) {
        struct cp_bytes want = {0}, got = phase_bytes(f, c, phase, r);
        for (int o = 0; o < n; o++) {
            if (o == r)
                continue;
            double in = moved(c, o, r, 16, (int)f->c.video_tokens, to_heads) * 256 * tensors;
            double out = moved(c, r, o, 16, (int)f->c.video_tokens, to_heads) * 256 * tensors;
            *(o / node == r / node ? &want.recv_near : &want.recv_far) += in;
            *(o / node == r / node ? &want.send_near : &want.send_far) += out;
        }
        gsl_test(fabs(want.recv_near - got.recv_near) + fabs(want.recv_far - got.recv_far) +
                         fabs(want.send_near - got.send_near) + fabs(want.send_far - got.send_far) >
                     1e-6,
                 "%s on rank %d of %dx%d, %s: enumeration agrees", phase, r, c->head_groups,
                 c->seq_groups, c->heads_inside ? "heads inside" : "sequence inside");
    }
}

static void closed_forms_equal_enumeration(void)
{
    struct fixture f;
    fixture_init(&f, 16, 16, 1024, 4, 4, 1, 1, arena);
    for (int g_h = 2; g_h <= 16; g_h *= 2)
        for (int inside = 0; inside < 2; inside++) {
            int g_s = 16 / g_h;
            struct cp_conf c =
                fixture_conf(g_s > 1 ? CP_HYBRID_DENSE : CP_ULYSSES, g_h, g_s, false, 16, arena);
            c.heads_inside = inside;
            check_enumeration(&f, &c, "qkv all-to-all", true, 3);
            check_enumeration(&f, &c, "o all-to-all", false, 1);
        }
}

/* ---- who needs what of whom ---- */

/* KA24 from a trace's needs: 1000 rows of shard 0 are wanted by the three others. */
static void hot_rows_of_a_trace_cost_their_owner(void)
{
    struct fixture f;
    const int shards[1] = {4};
    double value[1] = {3 * 1000.0 / 16000 / 12}, need[16] = {0};
    fixture_init(&f, 1, 1, 64000, 1, 4, 0.001, 1, arena);
    for (int i = 1; i < 4; i++)
        need[i * 4] = 1000 / 16000.0;
    f.sparsity.model.kind = UNION_MEASURED;
    f.sparsity.table = (struct union_table){1, shards, value, 1, need};
    struct cp_conf c = fixture_conf(CP_SCP, 1, 4, true, 1, arena);
    gsl_test_rel(phase_bytes(&f, &c, "kv gather", 0).send_near, 1536000, 1e-12, "KA24a send");
    gsl_test_rel(phase_bytes(&f, &c, "kv gather", 2).recv_near, 512000, 1e-12, "KA24b receive");
    gsl_test_abs(phase_bytes(&f, &c, "kv gather", 2).send_near, 0, 1e-9, "cold rows stay");
    gsl_test_rel(phase_bytes(&f, &c, "dkv return", 0).recv_near, 1536000, 1e-12, "and come back");
    struct cp_program p = cp_program_of(&f.c, 0, &c, arena);
    struct program_time t = cost_program_time(&p, &c, &f.cluster, arena, arena);
    for (int i = 0; i < p.phase_count; i++)
        if (strcmp(p.phases[i].name, "kv gather") == 0)
            gsl_test_rel(t.phase[i].busy_max_s, 1536000 / 400e9, 1e-12, "the owner sets the pace");
    f.sparsity.table.need_count = 0;
    gsl_test_rel(phase_bytes(&f, &c, "kv gather", 0).send_near, 1536000 / 4, 1e-12,
                 "the mean over pairs hides it");
}

enum { SET_HEADS = 4, SET_TOKENS = 64, SET_SHARDS = 2 };

/* Whether queries of a shard want a token of a head. */
typedef bool wanted_sets[SET_HEADS][SET_SHARDS][SET_TOKENS];

static void draw_sets(wanted_sets wants, double *need)
{
    struct rng r = rng_stream(7, "wanted", 0, 0, 0);
    int shard = SET_TOKENS / SET_SHARDS;
    for (int h = 0; h < SET_HEADS; h++)
        for (int i = 0; i < SET_SHARDS; i++)
            for (int t = 0; t < SET_TOKENS; t++) {
                wants[h][i][t] = rng_below(&r, 10) < (uint64_t)(1 + h + 2 * i);
                need[(h * SET_SHARDS + i) * SET_SHARDS + t / shard] +=
                    wants[h][i][t] / (double)shard;
            }
}

/* Each row that a rank wants and does not hold is a message of 512 bytes, K and V in bf16. */
static void needs_of_a_trace_equal_enumerated_messages(void)
{
    struct fixture f;
    const int shards[1] = {SET_SHARDS};
    double value[SET_HEADS] = {0.5, 0.5, 0.5, 0.5}, need[SET_HEADS * SET_SHARDS * SET_SHARDS] = {0};
    wanted_sets wants;
    fixture_init(&f, SET_HEADS, SET_HEADS, SET_TOKENS, 2, 2, 0.1, 1, arena);
    draw_sets(wants, need);
    f.sparsity.model.kind = UNION_MEASURED;
    f.sparsity.table = (struct union_table){1, shards, value, 1, need};
    for (int inside = 0; inside < 2; inside++) {
        struct cp_conf c = fixture_conf(CP_HYBRID, 2, 2, true, SET_HEADS, arena);
        c.heads_inside = inside;
        double sent[4] = {0}, got[4] = {0};
        for (int h = 0; h < SET_HEADS; h++)
            for (int t = 0; t < SET_TOKENS; t++) {
                int owner = t / (SET_TOKENS / 2), reader = 1 - owner;
                sent[cp_rank_at(&c, h / 2, owner)] += wants[h][reader][t] * 512;
                got[cp_rank_at(&c, h / 2, reader)] += wants[h][reader][t] * 512;
            }
        for (int r = 0; r < 4; r++) {
            struct cp_bytes b = phase_bytes(&f, &c, "kv gather", r),
                            back = phase_bytes(&f, &c, "dkv return", r);
            gsl_test_rel(bytes_sent(b), sent[r], 1e-12, "rank %d sends", r);
            gsl_test_rel(bytes_received(b), got[r], 1e-12, "rank %d receives", r);
            gsl_test_rel(bytes_sent(back), got[r], 1e-12, "rank %d returns", r);
            gsl_test(inside ? b.send_near > 0 : b.send_far > 0,
                     "columns lie across nodes or inside");
        }
    }
}

/* ---- properties ---- */

static void check_matrix(const struct cp_phase *p, const struct cp_conf *c, int per_node,
                         const struct cp_bytes *b)
{
    int n = cp_ranks(c);
    double *m = ARENA_ARRAY(arena, double, n *n);
    cost_phase_matrix(p, c, per_node, m);
    for (int r = 0; r < n; r++) {
        double out = 0, in = 0;
        for (int k = 0; k < n; k++) {
            out += m[r * n + k];
            in += m[k * n + r];
        }
        gsl_test_rel(out, bytes_sent(b[r]), 1e-12, "%s: row %d", p->name, r);
        gsl_test_rel(in, bytes_received(b[r]), 1e-12, "%s: column %d", p->name, r);
        gsl_test(m[r * n + r] != 0, "nothing to itself");
    }
}

static void check_conservation(const struct fixture *f, const struct cp_conf *c)
{
    struct cp_program p = cp_program_of(&f->c, 0, c, arena);
    struct cp_bytes *b = ARENA_ARRAY(arena, struct cp_bytes, p.ranks);
    for (int i = 0; i < p.phase_count; i++) {
        double sent_near = 0, got_near = 0, sent_far = 0, got_far = 0;
        cost_phase_bytes(&p.phases[i], c, f->cluster.gpus_per_node, b);
        for (int r = 0; r < p.ranks; r++) {
            sent_near += b[r].send_near;
            got_near += b[r].recv_near;
            sent_far += b[r].send_far;
            got_far += b[r].recv_far;
        }
        gsl_test(fabs(sent_near - got_near) > 1e-9 * (1 + sent_near) ||
                     fabs(sent_far - got_far) > 1e-9 * (1 + sent_far),
                 "%s of %s %dx%d: what is sent is received", p.phases[i].name,
                 cp_strategies[c->strategy].name, c->head_groups, c->seq_groups);
        check_matrix(&p.phases[i], c, f->cluster.gpus_per_node, b);
    }
}

/* docs/model.md, db-SP: the permutation moves the moved share of Q, K, V, and of O back: 16 heads
 * on 2 head ranks, 4 shards of 16000 tokens. Three quarters of a rank's blocks leave if each lands
 * anywhere. */
static void blocks_that_change_ranks_travel_there_and_back(void)
{
    struct fixture f;
    fixture_init(&f, 16, 16, 64000, 1, 8, 0.1, 1, arena);
    struct cp_conf c = fixture_conf(CP_DB_SP, 2, 4, true, 16, arena);
    double qkv = 3 * 8 * 16000.0 * 128 * 2;
    gsl_test_rel(phase_bytes(&f, &c, "permute qkv blocks", 3).send_near, 0.75 * qkv, 1e-12,
                 "Q, K, V, three quarters of them");
    f.c.options.moved_blocks = 0.1;
    gsl_test_rel(phase_bytes(&f, &c, "permute qkv blocks", 3).recv_near, 0.1 * qkv, 1e-12,
                 "a tenth");
    gsl_test_rel(phase_bytes(&f, &c, "permute o blocks", 3).recv_near, 0.1 * qkv / 3, 1e-12, "O");
    gsl_test_rel(phase_bytes(&f, &c, "permute dqkv blocks", 3).recv_near, 0.1 * qkv, 1e-12,
                 "gradients");
    /* 8 heads, 16000 / 32 query blocks x 64000 / 32 key blocks, a bit each, to 3 others */
    gsl_test_rel(phase_bytes(&f, &c, "mask exchange", 3).send_near, 3 * 8 * 500 * 2000 / 8.0, 1e-12,
                 "masks");
}

/* KA15c: 2e9 B of indices, there and back. PCIe so slow that the forward, or what is left of the
 * step, ends before the copy: the block takes as long as the copies. */
static void indices_wait_in_the_hosts_memory(void)
{
    struct fixture f;
    fixture_init(&f, 16, 16, 50000, 1, 1, 0.2, 1, arena);
    f.cluster.pcie_bytes_per_s = 1e6;
    struct cp_conf c = fixture_conf(CP_SINGLE, 1, 1, true, 16, arena);
    c.query_group = 16;
    struct cp_program p = cp_program_of(&f.c, 0, &c, arena);
    struct program_time slow = cost_program_time(&p, &c, &f.cluster, arena, arena);
    const struct cp_phase *out = fixture_phase(&p, "offload indices"),
                          *in = fixture_phase(&p, "fetch indices");
    gsl_test(!out || !in, "there are copies");
    gsl_test_rel(out->from[0], 2e9, 1e-12, "KA15c, there");
    gsl_test_rel(in->to[0], 2e9, 1e-12, "and back");
    gsl_test_rel(slow.total_s, 2 * 2e9 / 1e6, 1e-12, "copies are all that counts");
    f.cluster.pcie_bytes_per_s = 1e15;
    double fast = cost_program_time(&p, &c, &f.cluster, arena, arena).total_s;
    f.c.options.offload = OFFLOAD_NONE;
    p = cp_program_of(&f.c, 0, &c, arena);
    gsl_test_rel(cost_program_time(&p, &c, &f.cluster, arena, arena).total_s, fast, 1e-12,
                 "a fast link hides them");
    f.c.options.offload = OFFLOAD_INDICES;
    f.c.options.index_bitmap = true;
    p = cp_program_of(&f.c, 0, &c, arena);
    gsl_test_rel(fixture_phase(&p, "offload indices")->from[0], 16 * (50000 / 16.0) * 50000 / 8,
                 1e-12, "a bit a key");
}

/* 4 shards of 16000 rows of 16 heads, three quarters of them remote: K and V, bf16. */
static void gathered_kv_comes_back_from_the_host(void)
{
    struct fixture f;
    fixture_init(&f, 16, 16, 64000, 1, 4, 1, 1, arena);
    f.cluster.pcie_bytes_per_s = 50e9;
    f.c.options.checkpointing = CHECKPOINT_FULL;
    f.c.options.offload = OFFLOAD_KV;
    struct cp_conf c = fixture_conf(CP_SCP_DENSE, 1, 4, false, 16, arena);
    struct cp_program p = cp_program_of(&f.c, 0, &c, arena);
    double bytes = 3 * 16000.0 * 16 * 2 * 128 * 2;
    gsl_test_rel(fixture_phase(&p, "offload kv")->from[1], bytes, 1e-12, "there");
    gsl_test_rel(fixture_phase(&p, "fetch kv")->to[1], bytes, 1e-12, "and back");
    gsl_test_rel(program_bytes(&f, &c, PASS_RECOMPUTE, 1).recv_near, 0, 1e-12,
                 "peers are not asked again");
    f.c.options.checkpointing = CHECKPOINT_NONE; /* and keep_kv */
    p = cp_program_of(&f.c, 0, &c, arena);
    gsl_test(fixture_phase(&p, "offload kv") != NULL, "what stays on the GPU does not leave it");
}

/* Links that cost nothing: the ring of a column takes as long as its busiest shard, 1.3 times the
 * mean, or 1.05 once blocks were moved. */
static void moving_blocks_levels_the_ring(void)
{
    struct fixture f;
    fixture_init(&f, 16, 16, 64000, 1, 8, 0.1, 1, arena);
    f.cluster.nvlink.bytes_per_s = 1e18;
    struct cp_conf usp = fixture_conf(CP_USP, 2, 4, true, 16, arena), db = usp;
    db.strategy = CP_DB_SP;
    const char *name = "attention";
    double took[3];
    for (int i = 0; i < 3; i++) {
        const struct cp_conf *c = i < 2 ? &usp : &db;
        f.sparsity.shard_skew = i ? 1.3 : 1;
        struct cp_program p = cp_program_of(&f.c, 0, c, arena);
        struct program_time t = cost_program_time(&p, c, &f.cluster, arena, arena);
        const struct cp_phase *phase = fixture_phase(&p, name);
        took[i] = t.phase[phase - p.phases].busy_max_s;
    }
    double merge = 4 * kern_copy_s(&f.kernels, &f.cluster.gpu, 3 * 8 * 16000.0 * 128 * 4);
    gsl_test_rel((took[1] - merge) / (took[0] - merge), 1.3, 1e-6, "the busiest shard");
    gsl_test_rel((took[2] - merge) / (took[0] - merge), 1.05, 1e-6, "levelled");
}

static double phase_seconds(const struct fixture *f, const struct cp_conf *c, const char *name,
                            int rank)
{
    struct cp_program p = cp_program_of(&f->c, 0, c, arena);
    const struct cp_phase *phase = fixture_phase(&p, name);
    return phase ? phase->seconds[rank] : 0;
}

/* Read and written at 0.8 x 3 TB/s, by hand: 16 query heads on 4 KV heads of 64,000 tokens, split
 * 2 x 1: 32,000 tokens a rank, 8 and 2 heads held of all tokens. */
static void packing_reads_and_writes_what_is_held(void)
{
    struct fixture f;
    fixture_init(&f, 16, 4, 64000, 1, 2, 0.1, 1, arena);
    f.c.options.checkpointing = CHECKPOINT_FULL;
    struct cp_conf c = fixture_conf(CP_HCP, 2, 1, true, 16, arena);
    double rate = 0.8 * 3e12, row = 2 * 128 * 2;
    static const struct {
        const char *name;
        double rows;
    } of[] = {{"pack qkv", 32000.0 * (16 + 2 * 4)},
              {"unpack qkv", 64000.0 * (8 + 2 * 2)},
              {"pack o", 64000.0 * 8},
              {"unpack o", 32000.0 * 16},
              {"unpack o again", 32000.0 * 16},
              {"pack do", 32000.0 * 16},
              {"unpack do", 64000.0 * 8},
              {"pack dqkv", 64000.0 * (8 + 2 * 2)},
              {"unpack dqkv", 32000.0 * (16 + 2 * 4)}};
    for (size_t i = 0; i < sizeof of / sizeof *of; i++)
        gsl_test_rel(phase_seconds(&f, &c, of[i].name, 1), of[i].rows * row / rate, 1e-12, "%s",
                     of[i].name);
    gsl_test_rel(phase_seconds(&f, &c, "pack q_lr, k_lr", 0), 32000.0 * 20 * 2 * 16 * 2 / rate,
                 1e-12, "at the predictor's rank");
    static struct cp_piece uneven[16];
    for (int h = 0; h < 16; h++)
        uneven[h] = (struct cp_piece){h, h < 12 ? 0 : 1, 0, 1};
    c.pieces = uneven;
    gsl_test_rel(phase_seconds(&f, &c, "unpack qkv", 0), 64000.0 * (12 + 2 * 3) * row / rate, 1e-12,
                 "12 heads are more to unpack");
    gsl_test_rel(phase_seconds(&f, &c, "unpack qkv", 1), 64000.0 * (4 + 2 * 1) * row / rate, 1e-12,
                 "than 4");
    gsl_test_rel(phase_seconds(&f, &c, "pack qkv", 0), of[0].rows * row / rate, 1e-12,
                 "and all ranks' tokens are as many");
}

/* dK and dV of 4 shards of 16,000 tokens, 16 heads of 128: 65.536 M numbers from each of 3 others.
 * 12 bytes to add one, 6 to round a sum. */
static void gradients_of_gathered_keys_are_added(void)
{
    struct fixture f;
    fixture_init(&f, 16, 16, 64000, 1, 4, 0.1, 1, arena);
    f.c.options.grad_fp32 = true;
    struct cp_conf all = fixture_conf(CP_SCP_DENSE, 1, 4, false, 16, arena), gather = all;
    gather.strategy = CP_ALLGATHER;
    double numbers = 2 * 16 * 16000.0 * 128;
    gsl_test_rel(phase_seconds(&f, &all, "sum dkv", 2), 3 * 12 * numbers / 2.4e12, 1e-12,
                 "at the copies' rate");
    gsl_test_rel(phase_seconds(&f, &all, "round dkv", 2), 6 * numbers / 2.4e12, 1e-12, "rounded");
    gsl_test(phase_seconds(&f, &gather, "sum dkv", 2) != 0, "NCCL adds as it goes");
    f.kernels.sum_bytes_per_s = 30e9;
    gsl_test_rel(phase_seconds(&f, &gather, "sum dkv", 2), 3 * 12 * numbers / 30e9, 1e-12,
                 "CPU ranks add afterwards");
    f.c.options.grad_fp32 = false;
    gsl_test_rel(phase_seconds(&f, &gather, "sum dkv", 2), 3 * 24 * numbers / 30e9, 1e-12,
                 "bf16 is rounded and widened on the way");
}

/* 16 heads, union 0.5 of 3 other shards of 16,000 rows: 384,000 rows come and as many go; 500
 * query groups keep 6,400 keys in each head. */
static void rows_and_lists_have_prices_of_their_own(void)
{
    struct fixture f;
    fixture_init(&f, 16, 16, 64000, 1, 4, 0.1, 0.5, arena);
    struct cp_conf c = fixture_conf(CP_SCP, 1, 4, true, 16, arena);
    f.kernels.gathered_row_s = 10e-9;
    gsl_test_rel(phase_seconds(&f, &c, "scatter dkv rows", 0), 384000 * 10e-9, 1e-12,
                 "added at the price of gathering");
    gsl_test(phase_seconds(&f, &c, "unite selections", 0) != 0, "lists are hidden");
    f.kernels.scattered_row_s = 30e-9, f.kernels.list_s = 1e-9;
    gsl_test_rel(phase_seconds(&f, &c, "pack kv rows", 0), 384000 * 10e-9, 1e-12, "gathered");
    gsl_test_rel(phase_seconds(&f, &c, "scatter dkv rows", 0), 384000 * 30e-9, 1e-12, "added");
    gsl_test_rel(phase_seconds(&f, &c, "unite selections", 0), 16 * 500 * 6400.0 * 1e-9, 1e-12,
                 "entries of lists");
}

static void what_is_sent_is_received(void)
{
    struct fixture f;
    fixture_init(&f, 24, 24, 9600, 4, 4, 0.2, 0.5, arena);
    f.c.options.checkpointing = CHECKPOINT_FULL;
    f.c.options.moved_blocks = 0.3;
    struct rng rng = rng_stream(1, "conservation", 0, 0, 0);
    for (int s = 0; s < CP_STRATEGIES; s++) {
        const struct cp_strategy_info *i = &cp_strategies[s];
        int g_h = s == CP_SINGLE ? 1
                  : i->rows      ? (i->columns ? 4 : 8)
                                 : 1,
            g_s = s == CP_SINGLE ? 1
                  : i->columns   ? 4
                                 : 1;
        struct cp_conf c = fixture_conf((enum cp_strategy)s, g_h, g_s, true, 24, arena);
        struct cp_piece pieces[24];
        for (int h = 0; h < 24; h++)
            pieces[h] = (struct cp_piece){
                .head = h,
                .head_rank = i->balanced ? (int)rng_below(&rng, (uint64_t)g_h) : h * g_h / 24,
                .share = 1};
        c.pieces = pieces;
        for (int inside = 0; inside < 2; inside++) {
            c.heads_inside = inside;
            check_conservation(&f, &c);
        }
    }
}

static void degenerate_hybrids_are_their_ends(void)
{
    struct fixture f;
    fixture_init(&f, 16, 16, 64000, 2, 4, 0.1, 0.4, arena);
    struct cp_conf h81 = fixture_conf(CP_HYBRID, 8, 1, true, 16, arena),
                   hcp = fixture_conf(CP_HCP, 8, 1, true, 16, arena);
    struct cp_conf h18 = fixture_conf(CP_HYBRID, 1, 8, true, 16, arena),
                   scp = fixture_conf(CP_SCP, 1, 8, true, 16, arena);
    struct cp_program p[4] = {
        cp_program_of(&f.c, 0, &h81, arena), cp_program_of(&f.c, 0, &hcp, arena),
        cp_program_of(&f.c, 0, &h18, arena), cp_program_of(&f.c, 0, &scp, arena)};
    gsl_test_rel(cost_program_time(&p[0], &h81, &f.cluster, arena, arena).total_s,
                 cost_program_time(&p[1], &hcp, &f.cluster, arena, arena).total_s, 1e-12,
                 "(N,1) is HCP");
    gsl_test_rel(cost_program_time(&p[2], &h18, &f.cluster, arena, arena).total_s,
                 cost_program_time(&p[3], &scp, &f.cluster, arena, arena).total_s, 1e-12,
                 "(1,N) is SCP");
}

static void fetching_all_rows_is_an_allgather(void)
{
    struct fixture f;
    fixture_init(&f, 16, 16, 64000, 1, 8, 1, 1, arena);
    struct cp_conf rows = fixture_conf(CP_SCP, 1, 8, true, 16, arena),
                   all = fixture_conf(CP_ALLGATHER, 1, 8, true, 16, arena);
    gsl_test_rel(phase_bytes(&f, &rows, "kv gather", 3).recv_near,
                 phase_bytes(&f, &all, "kv all-gather", 3).recv_near, 1e-12,
                 "sparsity 0 gathers everything");
    gsl_test_rel(phase_bytes(&f, &rows, "dkv return", 3).send_near,
                 phase_bytes(&f, &all, "dkv reduce-scatter", 3).send_near, 1e-12,
                 "and returns everything");
}

static void a_collective_waits_for_the_last_member(void)
{
    struct fixture f;
    fixture_init(&f, 2, 2, 1000, 1, 2, 1, 1, arena);
    struct cp_conf c = fixture_conf(CP_ULYSSES, 2, 1, false, 2, arena);
    static const double seconds[2] = {1, 3}, from[2] = {400e9, 400e9}, to[2] = {1, 0.5};
    struct cp_phase ph[2] = {{.name = "work", .kind = PHASE_COMPUTE, .seconds = seconds},
                             {.name = "swap",
                              .kind = PHASE_ALLTOALL,
                              .scope = SCOPE_ROW,
                              .from = from,
                              .to = to,
                              .calls = 1}};
    struct cp_program p = {.ranks = 2, .phase_count = 2, .phases = ph};
    struct program_time t = cost_program_time(&p, &c, &f.cluster, arena, arena);
    gsl_test_rel(t.total_s, 4, 1e-12, "3 s of work, then 400 GB at 400 GB/s");
    gsl_test_rel(t.wait_s[0], 2, 1e-12, "the fast rank waits for the slow one");
    gsl_test_rel(t.phase[0].critical_s + t.phase[1].critical_s, t.total_s, 1e-12,
                 "critical shares add up");
}

static void configurations_are_checked(void)
{
    struct cp_conf c = fixture_conf(CP_ULYSSES, 4, 2, false, 16, arena);
    struct err e = {0};
    gsl_test(cp_conf_check(&c, 8, 16, err_at_name("x"), &e), "ulysses has no sequence groups");
    c = fixture_conf(CP_ULYSSES, 3, 1, false, 16, arena);
    gsl_test(cp_conf_check(&c, 3, 16, err_at_name("x"), &(struct err){0}),
             "3 does not divide 16 heads");
    c = fixture_conf(CP_HCP, 32, 1, false, 16, arena);
    gsl_test(cp_conf_check(&c, 32, 16, err_at_name("x"), &(struct err){0}),
             "more head groups than heads");
    c = fixture_conf(CP_HYBRID, 4, 2, true, 16, arena);
    gsl_test(cp_conf_check(&c, 6, 16, err_at_name("x"), &(struct err){0}), "4x2 is not 6");
    gsl_test(!cp_conf_check(&c, 8, 16, err_at_name("x"), &(struct err){0}), "4x2 is 8");
    c.piece_count = 15;
    gsl_test(cp_conf_check(&c, 8, 16, err_at_name("x"), &(struct err){0}), "a head is missing");
}

int main(void)
{
    arena = arena_new();
    even_ulysses_moves_what_enumeration_says();
    grouped_queries_move_fewer_keys();
    tensor_parallelism_moves_what_megatron_says();
    norms_and_activations_take_their_traffic();
    tensor_ranks_keep_their_own_rows_and_columns();
    uneven_heads_send_and_receive_differently();
    the_fullest_rank_of_an_uneven_alltoall_sets_the_pace();
    selective_gather_moves_the_union();
    lists_of_rows_are_longer_than_bitmaps();
    a_published_ring_step_has_its_size();
    a_hybrid_lies_between_its_ends();
    a_ring_passes_everything_on();
    bytes_divide_between_nvlink_and_nics();
    heads_across_nodes_move_less_than_rows_across();
    the_union_decides_what_goes_across_nodes();
    low_rank_keys_are_a_sixteenth();
    hot_rows_cost_their_owner();
    fetching_rows_pays_below_a_union();
    the_ring_recurrence_is_exact();
    closed_forms_equal_enumeration();
    blocks_that_change_ranks_travel_there_and_back();
    indices_wait_in_the_hosts_memory();
    gathered_kv_comes_back_from_the_host();
    moving_blocks_levels_the_ring();
    hot_rows_of_a_trace_cost_their_owner();
    needs_of_a_trace_equal_enumerated_messages();
    packing_reads_and_writes_what_is_held();
    gradients_of_gathered_keys_are_added();
    rows_and_lists_have_prices_of_their_own();
    what_is_sent_is_received();
    degenerate_hybrids_are_their_ends();
    fetching_all_rows_is_an_allgather();
    a_collective_waits_for_the_last_member();
    configurations_are_checked();
    arena_free(arena);
    return gsl_test_summary();
}
