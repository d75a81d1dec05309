/* Plans as other programs' settings: words from those programs' documents, refusals, and the best
 * plan that a program can run against searches that do not know of programs. */
#include "planner/launch.h"

#include <gsl/gsl_test.h>
#include <math.h>
#include <string.h>
#include <unistd.h>

#include "base/preset.h"
#include "tests/base/folder.h"
#include "tests/model/fixture.h"

static struct arena *arena;
static const char *folder;

enum { BLOCKS = 3, HEADS = 16 };

/* A plan of three blocks on `nodes` of 8 GPUs: all 1x1 until conf() says otherwise. */
struct case_plan {
    struct plan p;
    struct plan_block blocks[BLOCKS];
    struct hw_cluster cluster;
};

static struct plan *plan_of(struct case_plan *x, int gpus, int cp, int tensor)
{
    *x = (struct case_plan){.cluster = {.gpus_per_node = 8}};
    x->p = (struct plan){.block_count = BLOCKS,
                         .blocks = x->blocks,
                         .tensor = tensor,
                         .gpus = gpus,
                         .cp = cp,
                         .replicas = gpus / cp / tensor};
    x->p.c.cluster = &x->cluster;
    x->p.memory.shard_ranks = gpus / tensor;
    for (int b = 0; b < BLOCKS; b++)
        x->blocks[b].conf = (struct cp_conf){.head_groups = 1, .seq_groups = 1, .tensor = tensor};
    return &x->p;
}

static void conf(struct plan *p, int block, enum cp_strategy s, int u, int r)
{
    for (int b = block < 0 ? 0 : block; b <= (block < 0 ? BLOCKS - 1 : block); b++) {
        struct cp_conf *c = &p->blocks[b].conf;
        *c = (struct cp_conf){.strategy = s,
                              .head_groups = u,
                              .seq_groups = r,
                              .tensor = p->tensor,
                              .heads_inside = true};
    }
}

static const struct launch *program(const char *name)
{
    struct err e = {0};
    const struct launch *l = launch_load(name, err_at_name("test"), arena, &e);
    gsl_test(!l, "%s is a program: %s", name, e.text);
    return l;
}

static void expect(const char *name, const struct plan *p, const char *settings)
{
    const struct launch *l = program(name);
    const char *refusal = launch_refusal(l, p, arena),
               *now = refusal ? refusal : launch_settings(l, p, arena);
    gsl_test(strcmp(now, settings) != 0, "%s: '%s', want '%s'", name, now, settings);
}

/* The options that HunyuanVideo's README, Wan's README, xDiT's, SGLang's, vLLM-Omni's, diffusers'
 * and FastVideo's documents give for 8 GPUs of which all-to-alls join 4 and a ring 2, or for
 * Ulysses alone. */
static void settings_are_in_the_programs_words(void)
{
    struct case_plan x;
    struct plan *p = plan_of(&x, 8, 8, 1);
    conf(p, -1, CP_USP, 4, 2);
    expect("xdit", p, "--ulysses_degree 4 --ring_degree 2");
    expect("hunyuanvideo", p, "--ulysses-degree 4 --ring-degree 2");
    expect("wan", p, "--ulysses_size 4 --ring_size 2");
    expect("sglang", p, "--num-gpus 8 --ulysses-degree 4 --ring-degree 2");
    expect("vllm-omni", p,
           "DiffusionParallelConfig(ulysses_degree=4, ring_degree=2, tensor_parallel_size=1)");
    conf(p, -1, CP_ULYSSES, 8, 1);
    expect("diffusers", p, "ContextParallelConfig(ulysses_degree=8)");
    expect("megatron", p, "--context-parallel-size 8 --cp-comm-type a2a");
    conf(p, -1, CP_ALLGATHER, 1, 8);
    expect("diffusers", p, "ContextParallelConfig(ring_degree=8)");
    expect("megatron", p, "--context-parallel-size 8 --cp-comm-type all_gather");
    conf(p, -1, CP_RING, 1, 8);
    expect("xdit", p, "--ulysses_degree 1 --ring_degree 8");
}

/* Two nodes: each replica of 8 GPUs is 4 context ranks of 2 tensor ranks. */
static void tensor_ranks_and_sharding_are_said(void)
{
    struct case_plan x;
    struct plan *p = plan_of(&x, 16, 4, 2);
    conf(p, -1, CP_ULYSSES, 4, 1);
    p->memory.sharding = SHARD_FSDP;
    p->memory.shard_ranks = 4;
    expect("fastvideo", p,
           "--num-gpus 16 --sp-size 4 --tp-size 2 --hsdp-replicate-dim 2 --hsdp-shard-dim 4");
    expect("megatron", p,
           "--context-parallel-size 4 --cp-comm-type a2a --tensor-model-parallel-size 2 "
           "--sequence-parallel");
    expect("sglang", p, "--num-gpus 8 --ulysses-degree 4 --ring-degree 1 --tp-size 2");
    expect("wan", p, "it has no tensor parallelism; the plan has TP 2");
    p = plan_of(&x, 8, 8, 1);
    conf(p, -1, CP_ULYSSES, 8, 1);
    p->memory.sharding = SHARD_FSDP;
    expect("wan", p, "--ulysses_size 8 --ring_size 1 --dit_fsdp");
}

/* Megatron-LM's --cp-comm-type is one word or one for each layer. */
static void blocks_may_differ_where_a_program_has_a_word_for_each(void)
{
    struct case_plan x;
    struct plan *p = plan_of(&x, 8, 8, 1);
    conf(p, -1, CP_ULYSSES, 8, 1);
    conf(p, 1, CP_ALLGATHER, 1, 8);
    expect("megatron", p, "--context-parallel-size 8 --cp-comm-type a2a all_gather a2a");
    expect("diffusers", p,
           "blocks differ, and it has one setting for all: ulysses 8x1, dense and all-gather 1x8, "
           "dense");
    conf(p, 1, CP_USP, 4, 2);
    expect("megatron", p,
           "--context-parallel-size 8 --cp-comm-type a2a a2a+p2p a2a "
           "--hierarchical-context-parallel-sizes 4 2");
    conf(p, 2, CP_USP, 2, 4);
    expect("megatron", p,
           "blocks differ, and it has one setting for all: usp 4x2, heads inside, dense and usp "
           "2x4, heads inside, dense");
}

static void what_a_program_cannot_do_is_said(void)
{
    struct case_plan x;
    struct plan *p = plan_of(&x, 8, 8, 1);
    conf(p, -1, CP_ULYSSES, 8, 1);
    conf(p, 2, CP_HCP, 8, 1);
    expect("xdit", p, "it has no hcp, which block 2 runs");
    p = plan_of(&x, 8, 1, 1);
    conf(p, -1, CP_SINGLE, 1, 1);
    expect("diffusers", p, "CP 1: there is nothing to set");
    p = plan_of(&x, 16, 16, 1);
    conf(p, -1, CP_USP, 8, 2);
    for (int b = 0; b < BLOCKS; b++)
        p->blocks[b].conf.heads_inside = false;
    expect("xdit", p, "its all-to-alls are inside nodes; block 0 has them between");
    x.cluster.gpus_per_node = 16; /* one node: where they lie is all the same */
    expect("xdit", p, "--ulysses_degree 8 --ring_degree 2");
}

static void all_presets_load_and_name_their_source(void)
{
    const char **names = preset_list("program", arena, &(struct err){0});
    int count = 0;
    for (; names[count]; count++)
        gsl_test(!*program(names[count])->source, "%s has a source", names[count]);
    gsl_test(count < 8, "%d programs", count);
}

/* ---- files of the user's ---- */

static void refused(const char *text, const char *message)
{
    struct err e = {0};
    const char *path = folder_file(folder, "own.yaml", text, arena);
    const struct launch *l = launch_load(path, err_at_name("--for"), arena, &e);
    gsl_test(l || e.code != ERR_INPUT || !strstr(e.text, message), "'%s', want '%s'", e.text,
             message);
}

static void a_file_of_the_users_is_checked(void)
{
    const char *path = folder_file(folder, "mine.yaml",
                                   "source: me\nabout: mine\nsettings: \"sp={u} of {gpus}\"\n"
                                   "strategies: [ulysses]\n",
                                   arena);
    struct case_plan x;
    struct plan *p = plan_of(&x, 8, 8, 1);
    conf(p, -1, CP_ULYSSES, 8, 1);
    expect(path, p, "sp=8 of 8");
#define TOP "source: me\nabout: mine\n"
    refused(TOP "settings: x\n", "strategies");
    refused(TOP "settings: x\nstrategies: [ulises]\n", "own.yaml:4:14: strategies: 'ulises'");
    refused(TOP "settings: x\nstrategies: []\n", "want a list such as");
    refused(TOP "settings: \"{n}\"\nstrategies: [ring]\n", "'{n}': want {u}");
    refused(TOP "settings: \"{u\"\nstrategies: [ring]\n", "'{u': want {u}");
    refused(TOP "strategies: [ring]\n", "ring has no settings");
    refused(TOP "settings: x\nstrategies: [ring, usp]\nexchange: {ring: p2p}\n", "no word for usp");
    refused(TOP "settings: x\nstrategies: [ring]\nalso: {rings: y}\n", "rings");
    refused(TOP "settings: x\nstrategies: [ring]\nalso: [y]\n", "want a map");
    refused(TOP "settings: x\nstrategies: [ring]\nsetting: y\n", "setting");
}

/* ---- the search ---- */

static void request_init(struct fixture *f, struct plan_request *r, double spread)
{
    fixture_init(f, HEADS, HEADS, 64000, 2, 4, 1, 0.5, arena);
    double *keep = ARENA_ARRAY(arena, double, BLOCKS *HEADS);
    for (int i = 0; i < BLOCKS * HEADS; i++)
        keep[i] = 0.02 + spread * ((i * 7) % 16) * (1 + i / HEADS);
    f->sparsity.keep = keep;
    f->sparsity.blocks = BLOCKS;
    f->model.cross_blocks = BLOCKS;
    f->c.options = cp_options_default();
    *r = (struct plan_request){.c = f->c,
                               .memory = mem_options_default(8),
                               .phase = PLAN_ATTENTION,
                               .cp = 8,
                               .query_group = 32,
                               .eval = &eval_cost,
                               .keep_candidates = 2};
    r->memory.aux_bytes = 0;
}

static bool search_for(const char *name, struct plan_request *r, struct plan_found *found,
                       struct err *e)
{
    const struct launch *l = program(name);
    return launch_limit(l, r, arena, e) && plan_search(r, found, arena, e);
}

/* Blocks that keep the same: one setting for all costs nothing, so the plain search over the same
 * strategies finds the same step. */
static void blocks_that_keep_the_same_lose_nothing_by_one_setting(void)
{
    struct fixture f;
    struct plan_request r, limited;
    struct plan_found free_search, found;
    struct err e = {0};
    request_init(&f, &r, 0);
    bool only[CP_STRATEGIES] = {[CP_ULYSSES] = true, [CP_RING] = true, [CP_USP] = true};
    r.strategies = only;
    r.rows_inside = true;
    limited = r;
    gsl_test(!plan_search(&r, &free_search, arena, &e), "plan: %s", e.text);
    gsl_test(!search_for("xdit", &limited, &found, &e), "limited: %s", e.text);
    gsl_test_rel(found.plan->step_s, free_search.plan->step_s, 1e-12, "the same step");
    gsl_test_int(found.kind_count, 4, "ulysses 8x1, ring 1x8, usp 4x2 and 2x4");
}

/* Blocks that keep differently: every kind can be run as it stands, none beats the search in which
 * blocks are free, and the first is the least of searches pinned by hand. */
static void what_is_found_can_be_run_and_is_the_best_of_that(void)
{
    static const char *const names[] = {"xdit", "diffusers", "megatron", "fastvideo"};
    struct fixture f;
    struct plan_request r;
    struct plan_found best;
    struct err e = {0};
    request_init(&f, &r, 0.02);
    gsl_test(!plan_search(&r, &best, arena, &e), "plan: %s", e.text);
    for (size_t n = 0; n < sizeof names / sizeof *names; n++) {
        struct plan_request limited = r;
        struct plan_found found;
        gsl_test(!search_for(names[n], &limited, &found, &e), "%s: %s", names[n], e.text);
        for (int i = 0; i < found.kind_count; i++) {
            const struct plan *p = found.kinds[i];
            const char *why = launch_refusal(limited.program, p, arena);
            gsl_test(why != NULL, "%s runs kind %d: %s", names[n], i, why ? why : "");
            gsl_test(p->step_s < best.plan->step_s * (1 - 1e-12), "%s does not beat free blocks",
                     names[n]);
            gsl_test(p->step_s < found.plan->step_s * (1 - 1e-12), "%s: the least first", names[n]);
        }
    }
}

static double pinned(const struct plan_request *r, enum cp_strategy s, int u)
{
    struct plan_request one = *r;
    struct plan_found found;
    struct err e = {0};
    bool only[CP_STRATEGIES] = {false};
    only[s] = true;
    one.strategies = only;
    one.rows_inside = true;
    one.head_groups = u;
    one.seq_groups = 8 / u;
    gsl_test(!plan_search(&one, &found, arena, &e), "pinned: %s", e.text);
    return found.plan->step_s;
}

static void the_best_is_the_least_of_all_that_blocks_may_share(void)
{
    struct fixture f;
    struct plan_request r;
    struct plan_found found;
    struct err e = {0};
    request_init(&f, &r, 0.02);
    double best = fmin(fmin(pinned(&r, CP_ULYSSES, 8), pinned(&r, CP_RING, 1)),
                       fmin(pinned(&r, CP_USP, 4), pinned(&r, CP_USP, 2)));
    gsl_test(!search_for("xdit", &r, &found, &e), "xdit: %s", e.text);
    gsl_test_rel(found.plan->step_s, best, 1e-12, "the least of four");
}

/* Without --cp every degree gets a row, with the best that blocks may share there. */
static void every_degree_is_tried(void)
{
    struct fixture f;
    struct plan_request r;
    struct plan_found found;
    struct err e = {0};
    request_init(&f, &r, 0.02);
    r.cp = 0;
    gsl_test(!search_for("wan", &r, &found, &e), "wan: %s", e.text);
    gsl_test_int(found.degree_count, 4, "1, 2, 4 and 8");
    for (int i = 0; i < found.degree_count; i++)
        gsl_test(!found.degrees[i].fits, "CP %d fits", found.degrees[i].cp);
    gsl_test(!found.kinds || found.kinds[0] != found.plan, "the first kind is the plan");
}

/* Where nothing fits, the miss that is told is the least of all that blocks may share. */
static void the_nearest_miss_is_told(void)
{
    struct fixture f;
    struct plan_request r;
    struct plan_found found, one;
    struct err e = {0};
    double least = INFINITY;
    request_init(&f, &r, 0.02);
    f.cluster.gpu.memory_bytes = 1e6;
    for (int u = 8; u >= 1; u /= 2) {
        struct plan_request pin = r;
        pin.rows_inside = true;
        pin.head_groups = u;
        pin.seq_groups = 8 / u;
        bool only[CP_STRATEGIES] = {[CP_ULYSSES] = u == 8, [CP_RING] = u == 1, [CP_USP] = true};
        pin.strategies = only;
        gsl_test(plan_search(&pin, &one, arena, &(struct err){0}), "%d does not fit", u);
        least = fmin(least, one.compared[0].nearest.memory.total);
    }
    gsl_test(search_for("xdit", &r, &found, &e) || e.code != ERR_INFEASIBLE, "no plan: %s", e.text);
    gsl_test(!found.plan || !found.compared, "it says of what");
    gsl_test_rel(found.compared[0].nearest.memory.total, least, 1e-12, "the nearest of four");
}

/* What was asked for holds beside what the program can do. */
static void strategies_and_degrees_are_heeded(void)
{
    struct fixture f;
    struct plan_request r, limited;
    struct plan_found found;
    struct err e = {0};
    request_init(&f, &r, 0);
    limited = r;
    limited.head_groups = 2;
    limited.seq_groups = 4;
    gsl_test(!search_for("xdit", &limited, &found, &e), "xdit: %s", e.text);
    gsl_test_int(found.kind_count, 1, "only usp has these degrees");
    gsl_test_int(found.plan->blocks[0].conf.head_groups, 2, "its head groups");
    bool only[CP_STRATEGIES] = {[CP_SCP] = true};
    limited = r;
    limited.strategies = only;
    gsl_test(search_for("xdit", &limited, &found, &e) || e.code != ERR_INPUT ||
                 !strstr(e.text, "xdit has none of them"),
             "scp is refused: %s", e.text);
    e = (struct err){0};
    r.tensor = 2;
    gsl_test(search_for("wan", &r, &found, &e) || !strstr(e.text, "--tp"),
             "tensor parallelism is refused: %s", e.text);
}

int main(void)
{
    arena = arena_new();
    folder = folder_new(arena);
    settings_are_in_the_programs_words();
    tensor_ranks_and_sharding_are_said();
    blocks_may_differ_where_a_program_has_a_word_for_each();
    what_a_program_cannot_do_is_said();
    all_presets_load_and_name_their_source();
    a_file_of_the_users_is_checked();
    blocks_that_keep_the_same_lose_nothing_by_one_setting();
    what_is_found_can_be_run_and_is_the_best_of_that();
    the_best_is_the_least_of_all_that_blocks_may_share();
    every_degree_is_tried();
    the_nearest_miss_is_told();
    strategies_and_degrees_are_heeded();
    folder_remove(folder, arena);
    arena_free(arena);
    return gsl_test_summary();
}
