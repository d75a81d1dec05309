/* ptx_counts: what the CUDA kernels execute, counted on the PTX machine at the tiles and list
 * lengths of the problem that docs/cuda.md expects times for (64,000 keys, dimension 128 or 256,
 * 5,120 keys a group), with few tiles. For each kernel, per step (64 keys and a tile of queries;
 * for selection: 128 groups and 64 keys): warp instructions, cycles of a processor for each of its
 * parts, and how far shared memory and global memory are from ideal.
 *
 * Usage: ptx_counts [--keys N] [CASE...]   all cases. Exits 1 where shared memory has conflicts
 * that it must not have. */
#include "tests/ptx/cudart.h"

#include "kernels/kern.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <vector>

extern "C" const struct kern_backend kern_cuda;
bool cuda_forward_by(const char *variant, const struct kern_attention *a, struct err *e);
bool cuda_backward_by(const char *variant, const struct kern_attention *a, struct err *e);

enum { DIM = 128, KEYS = 64000, RANK = 16 };

static void stop(const struct err *e)
{
    fprintf(stderr, "ptx_counts: %s\n", e->text);
    exit(e->code == ERR_NONE ? 1 : e->code);
}

/* ---- inputs ------------------------------------------------------------------------------------
 */

struct inputs {
    std::vector<void *> memory;
    uint32_t state = 1;
};

static uint32_t draw(struct inputs *in)
{
    in->state = in->state * 1664525u + 1013904223u; /* Numerical Recipes' generator */
    return in->state >> 8;
}

static void *device(struct inputs *in, const void *host, size_t bytes)
{
    struct err e = {};
    void *p = NULL;
    if (!kern_cuda.allocate(bytes, &p, &e) ||
        !(host ? kern_cuda.put(p, host, bytes, &e) : kern_cuda.clear(p, bytes, &e)))
        stop(&e);
    in->memory.push_back(p);
    return p;
}

static void release(struct inputs *in)
{
    for (void *p : in->memory)
        kern_cuda.release(p);
    in->memory.clear();
}

/* Sums of four uniform numbers, of variance 1. */
static uint16_t *normal(struct inputs *in, int64_t count)
{
    std::vector<uint16_t> x((size_t)count);
    for (uint16_t &v : x) {
        float sum = 0;
        for (int i = 0; i < 4; i++)
            sum += (float)draw(in) / 16777216.0f - 0.5f;
        v = kern_bf16_of(sum * 1.7320508f);
    }
    return (uint16_t *)device(in, x.data(), x.size() * 2);
}

/* The same, of which neighbours take 89% from one list: bitmaps. (Two share 0.79 of their keys; two
 * have 1.21 times as many in all as one, four 1.44 times.) */
static uint32_t *neighbours(struct inputs *in, int64_t groups, int64_t keep, int64_t keys)
{
    int64_t words = kern_words(keys);
    std::vector<uint32_t> bits((size_t)(groups * words), 0);
    for (int64_t j = 0; j < keep; j++) {
        int64_t low = j * keys / keep, wide = (j + 1) * keys / keep - low;
        int64_t common = low + draw(in) % wide;
        for (int64_t g = 0; g < groups; g++) {
            int64_t key = draw(in) % 100 < 89 ? common : low + draw(in) % wide;
            bits[(size_t)(g * words + key / 32)] |= 1u << key % 32;
        }
    }
    return (uint32_t *)device(in, bits.data(), bits.size() * 4);
}

/* Ascending keys, one out of each of `keep` equal parts. */
static int32_t *lists(struct inputs *in, int64_t groups, int64_t keep, int64_t keys)
{
    std::vector<int32_t> list((size_t)(groups * keep));
    for (int64_t i = 0; i < groups * keep; i++) {
        int64_t j = i % keep, low = j * keys / keep, high = (j + 1) * keys / keep;
        list[(size_t)i] = (int32_t)(low + draw(in) % (high - low));
    }
    return (int32_t *)device(in, list.data(), list.size() * 4);
}

/* ---- cases -------------------------------------------------------------------------------------
 */

struct test {
    const char *name, *variant; /* variant NULL: selection */
    bool backward;
    int group, groups;  /* group 0: dense, with `groups` queries */
    const char *kernel; /* the one that the case is about: a part of its name */
    double conflicts;   /* wavefronts over ideal, at most */
    int united = 0;     /* groups that run as one; their keys are neighbours' */
    int dim = DIM;
};

static const struct test tests[] = {
    {"forward-mma-32", "mma", false, 32, 2, "forward_mma", 1},
    {"forward-mma-64", "mma", false, 64, 2, "forward_mma", 1},
    {"forward-mma-128", "mma", false, 128, 1, "forward_mma", 1},
    {"forward-wgmma-64", "wgmma", false, 64, 2, "forward_wgmma", 1},
    {"forward-wgmma-128", "wgmma", false, 128, 1, "forward_wgmma", 1},
    {"forward-wgmma-dense", "wgmma", false, 0, 128, "forward_wgmma", 1},
    {"forward-fours-32", "wgmma-fours", false, 32, 4, "forward_wgmma", 1.05, 4},
    {"forward-pairs-32", "wgmma-pairs", false, 32, 2, "forward_wgmma", 1.05, 2},
    {"forward-pairs-64", "wgmma-pairs", false, 64, 2, "forward_wgmma", 1.05, 2},
    {"forward-mma-64-256", "mma", false, 64, 1, "forward_mma", 1, 0, 256},
    {"forward-mma-128-256", "mma", false, 128, 1, "forward_mma", 1, 0, 256},
    {"forward-wide-64", "wgmma", false, 64, 2, "forward_wide", 1, 0, 256},
    {"forward-wide-128", "wgmma", false, 128, 1, "forward_wide", 1, 0, 256},
    {"backward-ordered-64", "ordered", true, 64, 1, "groups_kernel", 1},
    {"backward-ordered-64-256", "ordered", true, 64, 1, "groups_kernel", 1.06, 0, 256},
    {"backward-wgmma-64", "wgmma", true, 64, 1, "groups_wgmma", 1.13},
    {"backward-wide-64", "wgmma", true, 64, 1, "groups_wide", 1.13, 0, 256},
    {"backward-pairs-32", "wgmma-pairs", true, 32, 2, "groups_wgmma", 1.13, 2},
    {"backward-bulk-64", "bulk", true, 64, 1, "groups_kernel", 1},
    {"backward-vector-64", "vector", true, 64, 1, "groups_kernel", 1},
    {"backward-atomic-64", "atomic", true, 64, 1, "groups_kernel", 1},
    {"sum", "ordered", true, 64, 2, "sum_kernel", 1},
    {"select-count", NULL, false, 64, 128, "count", 1},
    {"select-mark", NULL, false, 64, 128, "mark", 1},
};

static void attention(struct inputs *in, const struct test *t, int64_t keep)
{
    int64_t rows = t->group ? (int64_t)t->group * t->groups : t->groups;
    int64_t keys = t->group ? (int64_t)KEYS : keep;
    struct kern_head h = {};
    h.q_rows = rows, h.kv_rows = keys;
    h.q = normal(in, rows * t->dim), h.k = normal(in, keys * t->dim),
    h.v = normal(in, keys * t->dim);
    h.d_o = normal(in, rows * t->dim),
    h.o = (uint16_t *)device(in, NULL, (size_t)(rows * t->dim * 2));
    h.lse = (float *)device(in, NULL, (size_t)rows * 4);
    h.dq = (float *)device(in, NULL, (size_t)(rows * t->dim * 4));
    h.dk = (float *)device(in, NULL, (size_t)(keys * t->dim * 4));
    h.dv = (float *)device(in, NULL, (size_t)(keys * t->dim * 4));
    h.keys.group = t->group;
    if (t->united) {
        h.keys.bitmap = neighbours(in, t->groups, keep, keys);
        h.keys.bitmap_words = kern_words(keys);
    } else if (t->group) {
        h.keys.list = lists(in, t->groups, keep, keys);
        h.keys.list_count = (int32_t)keep, h.keys.list_stride = keep;
    }
    struct kern_attention a = {};
    struct err e = {};
    a.dim = t->dim, a.head_count = 1, a.heads = &h;
    if (t->backward && !cuda_forward_by("mma", &a, &e))
        stop(&e);
    if (!kern_cuda.wait(&e))
        stop(&e);
    cudart_count_from_here();
    bool ok =
        t->backward ? cuda_backward_by(t->variant, &a, &e) : cuda_forward_by(t->variant, &a, &e);
    if (!ok || !kern_cuda.wait(&e))
        stop(&e);
}

static void selection(struct inputs *in, const struct test *t, int64_t keep)
{
    int64_t keys = keep * KEYS / 5120, words = kern_words(keys);
    struct kern_select_head h = {};
    struct kern_select s = {};
    struct err e = {};
    h.groups = t->groups, h.keys = keys, h.keep = keep, h.bitmap_words = words;
    h.q_lr = normal(in, t->groups * RANK), h.k_lr = normal(in, keys * RANK);
    h.bitmap = (uint32_t *)device(in, NULL, (size_t)(t->groups * words * 4));
    s.rank = RANK, s.head_count = 1, s.heads = &h;
    cudart_count_from_here();
    if (!kern_cuda.select(&s, &e) || !kern_cuda.wait(&e))
        stop(&e);
}

/* ---- what it says ------------------------------------------------------------------------------
 */

static double steps_of(const struct test *t, int64_t keep)
{
    if (!t->variant)
        return (double)t->groups / 128 * (double)keep * KEYS / 5120 / 64;
    if (t->united) /* tiles of their union */
        return (t->united == 2 ? 1.21 : 1.44) * t->groups / t->united * (double)keep / 64;
    return (double)(t->group ? t->groups : 1) * (double)keep / 64;
}

/* Cycles of a processor of an H200: 4 instructions, 128 bytes of shared memory, 16 special
 * functions, 4,096 FLOP of wgmma or 2,676 of mma.sync, 42 bytes of level-2 cache each. */
static void print_cycles(const struct ptx_counts *c, double steps)
{
    uint64_t issued = 0;
    for (int i = 0; i < PTX_CLASSES; i++)
        if (i != PTX_MOVE)
            issued += c->warp_instructions[i];
    double sectors = (double)(c->global_load_sectors + c->global_store_sectors + c->copy_sectors);
    printf("  cycles a step: issue %.0f, special %.0f, shared %.0f, tensor %.0f, cache %.0f\n",
           (double)issued / 4 / steps, (double)c->thread_instructions[PTX_SPECIAL] / 16 / steps,
           ((double)c->shared_wavefronts + (double)c->tensor_shared_bytes / 128) / steps,
           ((double)c->wgmma_flop / 4096 + (double)c->mma_flop / 2676) / steps,
           sectors * 32 / 42 / steps);
}

static double ratio(uint64_t x, uint64_t of)
{
    return of ? (double)x / (double)of : 1;
}

static void print_kernel(const struct cudart_kernel *k, double steps)
{
    const struct ptx_counts *c = &k->counts;
    printf("%s: %u blocks of %u threads, %d registers, %zu bytes; %d on a processor\n", k->name,
           k->grid, k->block, k->registers, k->dynamic_shared, k->blocks_processor);
    printf("  warp instructions a step:");
    for (int i = 0; i < PTX_CLASSES; i++)
        if (c->warp_instructions[i] > 0)
            printf(" %s %.1f", ptx_class_name[i], (double)c->warp_instructions[i] / steps);
    putchar('\n');
    print_cycles(c, steps);
    printf("  over ideal: shared %.3f, loads %.3f, stores %.3f, copies %.3f\n",
           ratio(c->shared_wavefronts, c->shared_wavefronts_ideal),
           ratio(c->global_load_sectors * 32, c->global_load_bytes),
           ratio(c->global_store_sectors * 32, c->global_store_bytes),
           ratio(c->copy_sectors * 32, c->copy_bytes));
}

/* False: conflicts, or the kernel did not run. */
static bool run(const struct test *t, int64_t keep)
{
    bool good = false;
    struct inputs in;
    struct cudart_kernel all[64];
    if (t->variant)
        attention(&in, t, keep);
    else
        selection(&in, t, keep);
    int n = cudart_counted(all, 64);
    for (int i = 0; i < n; i++)
        if (strstr(all[i].name, t->kernel)) {
            printf("\n%s, %lld keys: ", t->name, (long long)keep);
            print_kernel(&all[i], steps_of(t, keep));
            const struct ptx_counts *c = &all[i].counts;
            good = ratio(c->shared_wavefronts, c->shared_wavefronts_ideal) <= t->conflicts;
            if (!good)
                printf("  conflicts: want %g over ideal at most\n", t->conflicts);
        }
    release(&in);
    fflush(stdout);
    return good;
}

int main(int argc, char **argv)
{
    int64_t keep = 5120;
    bool named = false, good = true;
    if (!kern_cuda.available())
        return 77;
    for (int i = 1; i < argc; i++)
        if (strcmp(argv[i], "--keys") == 0 && i + 1 < argc)
            keep = atoll(argv[++i]);
        else
            named = true;
    for (const struct test &t : tests) {
        bool wanted = !named;
        for (int i = 1; i < argc; i++)
            wanted = wanted || strcmp(argv[i], t.name) == 0;
        if (wanted)
            good = run(&t, keep) && good;
    }
    return good ? 0 : 1;
}
