/* Our kernels over shapes: attention dense and sparse, selection, movement of rows. */
#include "bench/cuda/bench.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

/* The shape of DSV's published times: 64,000 tokens, 4 heads of dimension 128, 92% of the keys left
 * out. validate/targets.awk makes ratios of the rows that are measured here. */
enum { HEADS = 4, ROWS = 64000, KEEP = 5120, RANK = 16 };

/* ---- inputs -------------------------------------------------------------------------- */

/* NEIGHBOURS groups side by side, as those of 2x2x2 cubes of a video, take ALIKE percent of their
 * entries from a list that they have in common: two of them share ALIKE^2 = 0.79 of their keys, and
 * m have u = 1 - (1 - ALIKE)^m + m (1 - ALIKE) times as many in all as one: 1.21 (m = 2), 1.44 (4).
 */
enum { NEIGHBOURS = 8, ALIKE = 89 };

struct lists {
    int32_t *list;
    int64_t groups, keep, keys;
    uint32_t seed;
    int alike; /* percent */
};

DEV uint32_t draw(int64_t i, uint32_t seed)
{
    uint32_t x = (uint32_t)i * 2654435761u + seed;
    x = (x ^ x >> 16) * 0x85ebca6bu;
    x = (x ^ x >> 13) * 0xc2b2ae35u;
    return x ^ x >> 16;
}

/* Entry j of a group is drawn from the j-th of `keep` equal parts of the keys: ascending, without
 * repeats; by itself, or in common with its neighbours. */
__global__ void list_kernel(struct lists l)
{
    int64_t step = (int64_t)gridDim.x * blockDim.x, count = l.groups * l.keep;
    for (int64_t i = (int64_t)blockIdx.x * blockDim.x + threadIdx.x; i < count; i += step) {
        int64_t j = i % l.keep, low = j * l.keys / l.keep, high = (j + 1) * l.keys / l.keep;
        bool common = draw(i, ~l.seed) % 100 < (uint32_t)l.alike;
        uint32_t x = draw(common ? -1 - (i / l.keep / NEIGHBOURS * l.keep + j) : i, l.seed);
        l.list[i] = (int32_t)(low + x % (uint32_t)(high - low));
    }
}

struct bits {
    const int32_t *list;
    uint32_t *bitmap;
    int64_t groups, keep, words;
};

/* The same as bitmaps, which are zero. */
__global__ void bits_kernel(struct bits x)
{
    int64_t step = (int64_t)gridDim.x * blockDim.x, count = x.groups * x.keep;
    for (int64_t i = (int64_t)blockIdx.x * blockDim.x + threadIdx.x; i < count; i += step)
        atomicOr(&x.bitmap[i / x.keep * x.words + x.list[i] / 32], 1u << x.list[i] % 32);
}

static int32_t *lists(struct bench *b, int64_t groups, int64_t keep, int64_t keys, uint32_t seed,
                      int alike)
{
    struct lists l = {(int32_t *)bench_memory(b, (size_t)(groups * keep + 4) * 4),
                      groups,
                      keep,
                      keys,
                      seed,
                      alike};
    struct err e = {};
    bench_must(
        cuda_ok(dev_launch(list_kernel, dim3(b->tiny ? 8 : 2048), dim3(256), 0, CUDA_STREAM, l),
                "lists", &e),
        &e);
    return l.list;
}

static uint16_t *numbers(struct bench *b, int64_t count, uint32_t seed)
{
    uint16_t *x = (uint16_t *)bench_memory(b, (size_t)count * 2);
    bench_normal(x, count, seed, 1);
    return x;
}

static float *zeros(struct bench *b, int64_t count)
{
    struct err e = {};
    float *x = (float *)bench_memory(b, (size_t)count * 4);
    bench_must(kern_cuda.clear(x, (size_t)count * 4, &e), &e);
    return x;
}

void bench_heads(struct bench *b, struct kern_head *heads, int count, int64_t rows, int dim)
{
    int64_t size = rows * dim, all = size * count;
    uint16_t *q = numbers(b, all, 1), *k = numbers(b, all, 2), *v = numbers(b, all, 3);
    uint16_t *d_o = numbers(b, all, 4), *o = (uint16_t *)zeros(b, all / 2);
    float *lse = zeros(b, rows * count), *dq = zeros(b, all), *dk = zeros(b, all),
          *dv = zeros(b, all);
    for (int h = 0; h < count; h++) {
        struct kern_head *x = &heads[h];
        memset(x, 0, sizeof *x);
        x->q_rows = x->kv_rows = rows;
        x->q = q + h * size, x->k = k + h * size, x->v = v + h * size;
        x->d_o = d_o + h * size, x->o = o + h * size, x->lse = lse + h * rows;
        x->dq = dq + h * size, x->dk = dk + h * size, x->dv = dv + h * size;
    }
}

void bench_lists(struct bench *b, struct kern_head *head, int64_t group, int64_t keep,
                 uint32_t seed)
{
    head->keys = {};
    head->keys.group = group;
    head->keys.list = lists(b, kern_groups(head->q_rows, group), keep, head->kv_rows, seed, 0);
    head->keys.list_count = (int32_t)keep;
    head->keys.list_stride = keep;
}

/* Bitmaps of groups of which neighbours share most keys. */
static void neighbours(struct bench *b, struct kern_head *head, int64_t group, int64_t keep,
                       uint32_t seed)
{
    int64_t groups = kern_groups(head->q_rows, group), words = kern_words(head->kv_rows);
    struct bits x = {NULL, (uint32_t *)zeros(b, groups * words), groups, keep, words};
    struct err e = {};
    head->keys = {};
    head->keys.group = group;
    head->keys.bitmap = x.bitmap, head->keys.bitmap_words = words;
    x.list = lists(b, groups, keep, head->kv_rows, seed, ALIKE);
    bench_must(
        cuda_ok(dev_launch(bits_kernel, dim3(b->tiny ? 8 : 2048), dim3(256), 0, CUDA_STREAM, x),
                "bitmaps", &e),
        &e);
}

/* ---- attention ----------------------------------------------------------------------- */

struct attention_run {
    struct kern_attention a;
    const char *variant; /* NULL: what the backend takes */
    bool backward;
    struct cuda_cudnn *cudnn; /* variant "cudnn": its plan, made before the clock starts */
};

static bool call_attention(void *argument, struct err *e)
{
    struct attention_run *r = (struct attention_run *)argument;
    if (r->cudnn)
        return cuda_cudnn_run(r->cudnn, &r->a, e);
    return r->backward ? cuda_backward_by(r->variant, &r->a, e)
                       : cuda_forward_by(r->variant, &r->a, e);
}

/* One pass and the variants it is measured by; NULL is what the backend takes. */
struct pass {
    bool backward;
    int count;
    const char *variants[6];
};
static const struct pass forwards = {false, 4, {NULL, "mma", "wgmma", "wgmma-free"}},
                         backwards = {true,
                                      6,
                                      {NULL, "ordered", "wgmma", "bulk", "vector", "atomic"}},
                         forward_only = {false, 1, {NULL}},
                         forward_wide = {false, 2, {NULL, "mma"}},
                         backward_only = {true, 1, {NULL}},
                         backward_wide = {true, 2, {NULL, "wgmma"}};

static const char *name_of(const char *variant)
{
    return variant ? variant : "default";
}

/* Is the variant among those to be measured (option --variant)? */
static bool wanted(const struct bench *b, const char *variant)
{
    return !b->variant || strcmp(b->variant, name_of(variant)) == 0;
}

/* Does this device have the variant for this shape? Asked by running it (not `once`). What the
 * backend takes by itself must run. */
static bool runs(struct bench *b, struct attention_run *r)
{
    struct err e = {};
    if (b->once && !r->variant)
        return true;
    if (call_attention(r, &e) && kern_cuda.wait(&e))
        return true;
    if (e.code == ERR_INPUT && r->variant)
        return false;
    b->failed++;
    printf("  %s %s failed: %s\n", r->backward ? "backward" : "forward", name_of(r->variant),
           e.text);
    return false;
}

/* O and LSE for the backward pass, by the plainest of the kernels: the others may be what fails. */
static void forward_first(struct bench *b, const struct kern_attention *a)
{
    struct attention_run r = {*a, "mma", false, NULL};
    runs(b, &r);
}

static void dense_one(struct bench *b, FILE *f, struct attention_run *r)
{
    char what[96];
    const struct kern_head *h = r->a.heads;
    const char *name = name_of(r->variant);
    snprintf(what, sizeof what, "dense %s %s, %lld tokens, D %d",
             r->backward ? "backward" : "forward", name, (long long)h->q_rows, r->a.dim);
    double ms = bench_ms(b, what, call_attention, r);
    double flop = (r->backward ? 10.0 : 4.0) * (double)h->q_rows * (double)h->kv_rows * r->a.dim *
                  r->a.head_count;
    if (ms < 0)
        return;
    fprintf(f, "%s,noncausal,1,%lld,%d,%d,%s,%s,%d,%.3f\n", b->gpu, (long long)h->q_rows,
            r->a.head_count, r->a.dim, r->backward ? "bwd" : "fwd", name, r->variant == NULL,
            1e3 * ms);
    printf("  %-58s %9.3f ms  %6.1f TFLOP/s\n", what, ms, flop / ms * 1e-9);
}

/* A plan is made before the clock starts, and its first run is checked as the others' are. */
static void dense_cudnn(struct bench *b, FILE *f, struct attention_run *r, int passes)
{
    struct err e = {};
    r->variant = "cudnn";
    for (int backward = 0; backward < passes && bench_time_left(b, "dense"); backward++) {
        r->backward = backward;
        e = {};
        r->cudnn = cuda_cudnn_new(&r->a, r->backward, &e);
        if (r->cudnn)
            dense_one(b, f, r);
        else
            printf("  dense %s cudnn: %s\n", backward ? "backward" : "forward", e.text);
        cuda_cudnn_free(r->cudnn);
        r->cudnn = NULL;
    }
}

/* passes: 1 forward, 2 both. */
static void dense_case(struct bench *b, FILE *f, int64_t rows, int heads, int dim, int passes)
{
    struct kern_head head[16];
    bench_heads(b, head, heads, rows, dim);
    struct attention_run r = {};
    r.a.dim = dim, r.a.head_count = heads, r.a.heads = head;
    forward_first(b, &r.a);
    if (!b->tiny && wanted(b, "cudnn")) /* tiny: checkers of memory and races look at ours only */
        dense_cudnn(b, f, &r, passes);
    static const struct {
        const char *variant;
        bool backward;
    } cases[] = {{NULL, false}, {NULL, true}, {"mma", false}, {"ordered", true}, {"wgmma", true}};
    for (const auto &c : cases) {
        r.variant = c.variant, r.backward = c.backward;
        if (c.backward < passes && wanted(b, r.variant) && bench_time_left(b, "dense") &&
            runs(b, &r))
            dense_one(b, f, &r);
    }
    bench_release(b);
}

void bench_dense(struct bench *b)
{
    FILE *f = bench_table(b, "attention",
                          "gpu,mask,batch,seqlen,heads,head_dim,pass_,kernel,usable,lat_us");
    if (b->tiny) {
        dense_case(b, f, 128, 1, 64, 2);
    } else {
        dense_case(b, f, ROWS, HEADS, 128, 2);
        for (int64_t s = 16384; s <= 32768 && !b->once; s *= 2)
            dense_case(b, f, s, HEADS, 128, 2);
        if (!b->once) {
            dense_case(b, f, 32768, HEADS, 64, 2);
            dense_case(b, f, 16384, HEADS, 256, 1);
        }
    }
    fclose(f);
}

/* `of`: what kind of lists, if not random ones. */
static void sparse_one(struct bench *b, FILE *f, struct attention_run *r, int64_t rows, int group,
                       int64_t keep, const char *of)
{
    char what[96];
    int dim = r->a.dim, heads = r->a.head_count;
    snprintf(what, sizeof what, "sparse %s %s%s, group %d, %lld keys, D %d",
             r->backward ? "backward" : "forward", name_of(r->variant), of, group, (long long)keep,
             dim);
    double ms = bench_ms(b, what, call_attention, r);
    if (ms < 0)
        return;
    double flop = (r->backward ? 10.0 : 4.0) * (double)rows * (double)keep * dim * heads;
    fprintf(f, "%s,%lld,%d,%d,%d,sparse_group,%s,%lld,%s%s,%d,%.6f,ms\n", b->gpu, (long long)rows,
            heads, dim, group, r->backward ? "bwd" : "fwd", (long long)keep, name_of(r->variant),
            of, r->variant == NULL && !*of, ms);
    printf("  %-58s %9.3f ms  %6.1f TFLOP/s\n", what, ms, flop / ms * 1e-9);
}

static FILE *sparse_table(struct bench *b)
{
    return bench_table(b, "sparse",
                       "gpu,S,H,D,group,kernel,pass_,kept_kv,variant,usable,value,unit");
}

/* Passes over `keep` keys of each group of the heads: lists are made for it and given back. */
static void sparse_case(struct bench *b, FILE *f, struct kern_head *head, int dim, int group,
                        int64_t keep, const struct pass *first, const struct pass *second)
{
    int before = b->memory_count;
    struct attention_run r = {};
    r.a.dim = dim, r.a.head_count = HEADS, r.a.heads = head;
    for (int h = 0; h < HEADS; h++)
        bench_lists(b, &head[h], group, keep, (uint32_t)(h + 77));
    const struct pass *passes[] = {first, second};
    for (const struct pass *p : passes) {
        if (p && p->backward)
            forward_first(b, &r.a);
        for (int v = 0; p && v < p->count; v++) {
            r.backward = p->backward, r.variant = p->variants[v];
            if (wanted(b, r.variant) && bench_time_left(b, "sparse") && runs(b, &r))
                sparse_one(b, f, &r, head->q_rows, group, keep, "");
        }
    }
    while (b->memory_count > before)
        kern_cuda.release(b->memory[--b->memory_count]);
}

/* All variants at the shape that targets are for. */
static void at_target(struct bench *b, const struct pass *p)
{
    static const int groups[] = {64, 32, 128};
    FILE *f = sparse_table(b);
    struct kern_head head[HEADS];
    bench_heads(b, head, HEADS, b->tiny ? 128 : ROWS, 128);
    for (int group : groups)
        if (!b->tiny || group == 64)
            sparse_case(b, f, head, 128, group, b->tiny ? 40 : KEEP, p, NULL);
    bench_release(b);
    fclose(f);
}

void bench_forward(struct bench *b)
{
    at_target(b, &forwards);
}

void bench_backward(struct bench *b)
{
    at_target(b, &backwards);
}

/* What uniting groups gains where neighbours share most of their keys. */
static void neighbours_case(struct bench *b, FILE *f, struct kern_head *head, int64_t rows,
                            int group, int64_t keep)
{
    static const struct {
        const char *variant;
        bool backward;
        int group; /* up to which it is another kernel */
    } cases[] = {
        {NULL, false, 64}, {"wgmma-pairs", false, 64}, {"wgmma-fours", false, 32},
        {NULL, true, 64},  {"wgmma", true, 64},        {"wgmma-pairs", true, 32},
    };
    int first = b->memory_count;
    struct attention_run r = {};
    r.a.dim = 128, r.a.head_count = HEADS, r.a.heads = head;
    for (int h = 0; h < HEADS; h++)
        neighbours(b, &head[h], group, keep, (uint32_t)(h + 99));
    forward_first(b, &r.a);
    for (const auto &c : cases) {
        r.variant = c.variant, r.backward = c.backward;
        if (group <= c.group && wanted(b, c.variant) && bench_time_left(b, "neighbours") &&
            runs(b, &r))
            sparse_one(b, f, &r, rows, group, keep, " of neighbours");
    }
    while (b->memory_count > first)
        kern_cuda.release(b->memory[--b->memory_count]);
}

void bench_neighbours(struct bench *b)
{
    int64_t rows = b->tiny ? 128 : ROWS;
    FILE *f = sparse_table(b);
    struct kern_head head[HEADS];
    bench_heads(b, head, HEADS, rows, 128);
    for (int group = 32; group <= 64; group *= 2)
        neighbours_case(b, f, head, rows, group, b->tiny ? 40 : KEEP);
    bench_release(b);
    fclose(f);
}

/* From few keys to all of them, for the straight lines of a kernel profile. */
void bench_sparse(struct bench *b)
{
    static const int groups[] = {64, 128, 32};
    static const double keeps[] = {0.02, 0.15, 0.05, 0.3, 0.6, 1};
    int64_t rows = b->tiny ? 128 : ROWS;
    FILE *f = sparse_table(b);
    struct kern_head head[HEADS];
    bench_heads(b, head, HEADS, rows, 128);
    for (double keep : keeps)
        for (int group : groups)
            if (!b->tiny || (keep < 0.05 && group == 64))
                sparse_case(b, f, head, 128, group, (int64_t)(keep * (double)rows), &forward_only,
                            &backward_only);
    bench_release(b);
    fclose(f);
}

void bench_dimensions(struct bench *b)
{
    static const int dims[] = {64, 96, 256};
    FILE *f = sparse_table(b);
    struct kern_head head[HEADS];
    for (int dim : dims) {
        if (b->tiny && dim == 96)
            continue;
        bench_heads(b, head, HEADS, b->tiny ? 128 : ROWS, dim);
        sparse_case(b, f, head, dim, 64, b->tiny ? 40 : KEEP,
                    dim > 128 ? &forward_wide : &forward_only,
                    dim > 128 ? &backward_wide : &backward_only);
        if (dim > 128)
            sparse_case(b, f, head, dim, 128, b->tiny ? 40 : KEEP, &forward_wide, NULL);
        bench_release(b);
    }
    fclose(f);
}

/* ---- selection ----------------------------------------------------------------------- */

static bool call_select(void *argument, struct err *e)
{
    return cuda_select((const struct kern_select *)argument, e);
}

void bench_select(struct bench *b)
{
    static const int groups[] = {32, 64, 128};
    static const double keeps[] = {0.08, 0.02, 0.3};
    int64_t rows = b->tiny ? 512 : ROWS;
    FILE *f = sparse_table(b);
    for (int group : groups)
        for (double share : keeps) {
            struct kern_select_head head[HEADS];
            struct kern_select s = {};
            int64_t n = kern_groups(rows, group), words = kern_words(rows),
                    keep = (int64_t)(share * (double)rows);
            s.rank = RANK, s.head_count = HEADS, s.heads = head;
            if ((b->once && share != keeps[0]) || !bench_time_left(b, "select"))
                break;
            for (int h = 0; h < HEADS; h++) {
                memset(&head[h], 0, sizeof head[h]);
                head[h].groups = n, head[h].keys = rows, head[h].keep = keep,
                head[h].bitmap_words = words;
                head[h].q_lr = numbers(b, n * RANK, (uint32_t)(100 + h));
                head[h].k_lr = numbers(b, rows * RANK, (uint32_t)(200 + h));
                head[h].bitmap = (uint32_t *)zeros(b, n * words);
            }
            char what[96];
            snprintf(what, sizeof what, "selection, group %d, %lld of %lld keys", group,
                     (long long)keep, (long long)rows);
            double ms = bench_ms(b, what, call_select, &s);
            bench_release(b);
            if (ms < 0)
                continue;
            fprintf(f, "%s,%lld,%d,128,%d,lowrank_select,fwd,%lld,default,1,%.6f,ms\n", b->gpu,
                    (long long)rows, HEADS, group, (long long)keep, ms);
            printf("  %-58s %9.3f ms  %6.1f G scores/s\n", what, ms,
                   (double)(n * rows) * HEADS / ms * 1e-6);
        }
    fclose(f);
}

/* ---- movement of rows ---------------------------------------------------------------- */

enum { PIECES = 32 };
struct move_run {
    struct kern_copy pack[PIECES];
    struct kern_gather gather;
    struct kern_scatter scatter;
    struct kern_union unite;
    struct kern_remap remap;
    int64_t united, count;
    uint16_t *narrow;
    float *wide;
};

static bool call_pack(void *argument, struct err *e)
{
    return cuda_copy(((struct move_run *)argument)->pack, PIECES, e);
}

static bool call_gather_rows(void *argument, struct err *e)
{
    return cuda_gather(&((struct move_run *)argument)->gather, 1, e);
}

static bool call_scatter(void *argument, struct err *e)
{
    return cuda_scatter_add(&((struct move_run *)argument)->scatter, 1, e);
}

static bool call_unite(void *argument, struct err *e)
{
    return cuda_unite(&((struct move_run *)argument)->unite, 1, e);
}

static bool call_remap(void *argument, struct err *e)
{
    return cuda_remap(&((struct move_run *)argument)->remap, 1, e);
}

static bool call_narrow(void *argument, struct err *e)
{
    struct move_run *r = (struct move_run *)argument;
    return cuda_to_bf16(r->narrow, r->wide, r->count, e);
}

static bool call_widen(void *argument, struct err *e)
{
    struct move_run *r = (struct move_run *)argument;
    return cuda_to_fp32(r->wide, r->narrow, r->count, e);
}

static void move_row(struct bench *b, FILE *f, const char *op, bench_call *call, struct move_run *r,
                     int64_t rows, double bytes)
{
    double ms = bench_time_left(b, op) ? bench_ms(b, op, call, r) : -1;
    if (ms < 0)
        return;
    fprintf(f, "%s,%s,%lld,%.0f,%.3f\n", b->gpu, op, (long long)rows, bytes, 1e3 * ms);
    printf("  %-58s %9.3f ms  %6.2f TB/s\n", op, ms, bytes / ms * 1e-9);
}

/* [row][32 heads][128] to peers' [head][row][128] and the rest of the movement on `rows` rows. */
void bench_move(struct bench *b)
{
    int64_t rows = b->tiny ? 256 : ROWS, width = 128, words = kern_words(rows),
            groups = kern_groups(rows, 64);
    int64_t keep = rows * 8 / 100;
    static struct move_run r;
    FILE *f = bench_table(b, "move", "gpu,op,rows,moved_bytes,lat_us");
    uint16_t *from = numbers(b, rows * PIECES * width, 1);
    uint16_t *to = (uint16_t *)zeros(b, rows * PIECES * width / 2);
    for (int i = 0; i < PIECES; i++)
        r.pack[i] = {from + i * width, to + i * rows * width, rows,
                     width * 2,        width * 2 * PIECES,    width * 2};
    move_row(b, f, "pack", call_pack, &r, rows * PIECES, 4.0 * (double)(rows * PIECES * width));
    for (int i = 0; i < PIECES; i++)
        r.pack[i] = {to + i * rows * width, from + i * width, rows, width * 2, width * 2,
                     width * 2 * PIECES};
    move_row(b, f, "unpack", call_pack, &r, rows * PIECES, 4.0 * (double)(rows * PIECES * width));
    int64_t many = rows * PIECES / 4;
    int32_t *list = lists(b, 1, many, rows * PIECES, 5, 0);
    r.gather = {from, to, list, many, width};
    move_row(b, f, "gather", call_gather_rows, &r, many, 4.0 * (double)(many * width));
    r.wide = zeros(b, rows * PIECES * width);
    float *part = zeros(b, many * width);
    r.scatter = {part, r.wide, list, many, width};
    move_row(b, f, "scatter_add", call_scatter, &r, many, 12.0 * (double)(many * width));
    r.narrow = to, r.count = rows * PIECES * width;
    move_row(b, f, "to_bf16", call_narrow, &r, rows * PIECES, 6.0 * (double)r.count);
    move_row(b, f, "to_fp32", call_widen, &r, rows * PIECES, 6.0 * (double)r.count);

    struct kern_select_head head = {};
    struct kern_select s = {};
    s.rank = RANK, s.head_count = 1, s.heads = &head;
    head.groups = groups, head.keys = rows, head.keep = keep, head.bitmap_words = words;
    head.q_lr = numbers(b, groups * RANK, 7);
    head.k_lr = numbers(b, rows * RANK, 8);
    head.bitmap = (uint32_t *)zeros(b, groups * words);
    struct err e = {};
    if (!cuda_select(&s, &e))
        printf("  selection for unite and remap: %s\n", e.text);
    r.unite.groups = groups, r.unite.keys = rows, r.unite.bitmap_words = words,
    r.unite.bitmap = head.bitmap;
    r.unite.all = (uint32_t *)zeros(b, words);
    r.unite.rows = (int32_t *)zeros(b, rows);
    r.unite.row_count = &r.united;
    move_row(b, f, "unite", call_unite, &r, groups, 4.0 * (double)(groups * words));
    r.remap.groups = groups, r.remap.bitmap_words = words, r.remap.bitmap = head.bitmap;
    r.remap.all = r.unite.all;
    r.remap.list = (int32_t *)zeros(b, groups * keep);
    r.remap.count = (int32_t *)zeros(b, groups);
    r.remap.list_stride = keep;
    move_row(b, f, "remap", call_remap, &r, groups, 4.0 * (double)(groups * words + groups * keep));
    fclose(f);
}
