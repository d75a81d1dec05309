/* The fast CPU backend: cuts heads into tiles (tile.h), runs them on OpenMP threads with the best
 * instruction set of the machine, and keeps sums in an order that does not depend on the number of
 * threads. */
#include "kernels/cpu/cpu.h"

#include <stdlib.h>

#ifdef _OPENMP
#include <omp.h>
#endif

#include "kernels/cpu/tile.h"

static const struct tile_isa *const isas[] = {
#ifdef KERN_HAVE_X86
    &tile_avx512bf16,
    &tile_avx512,
    &tile_avx2,
#endif
    &tile_plain,
};

static const struct tile_isa *isa_named(const char *name)
{
    for (size_t i = 0; i < sizeof isas / sizeof *isas; i++)
        if (isas[i]->available() && (!name || strcmp(isas[i]->name, name) == 0))
            return isas[i];
    return NULL;
}

const struct tile_isa *cpu_isa(struct err *e)
{
    const char *name = getenv("SHARDWISE_CPU_ISA");
    const struct tile_isa *isa = isa_named(name && *name ? name : NULL);
    if (!isa)
        err_set(e, ERR_INPUT, err_at_name("SHARDWISE_CPU_ISA"),
                "'%s' is not an instruction set of this machine, want avx512bf16, avx512, avx2 or "
                "plain",
                name);
    return isa;
}

int cpu_threads(void)
{
#ifdef _OPENMP
    return omp_get_max_threads();
#else
    return 1;
#endif
}

int cpu_thread(void)
{
#ifdef _OPENMP
    return omp_get_thread_num();
#else
    return 0;
#endif
}

/* ---- tiles of a call ---- */

struct item {
    const struct kern_head *head;
    int64_t q_begin, q_count, group;
};

struct work {
    const struct tile_isa *isa;
    const struct kern_attention *a;
    int64_t count;
    struct item *items; /* in order of heads and rows */
    int threads;
    size_t scratch_floats, list_entries; /* of each thread */
    float *scratch;
    int32_t *lists; /* bitmaps become lists here */
};

static bool is_dense(const struct kern_keys *k)
{
    return !k->list && !k->bitmap;
}

/* Queries that share one selection; dense heads have only the tile's size to mind. */
static int64_t group_of(const struct kern_head *h)
{
    return is_dense(&h->keys) ? TILE_QUERIES : h->keys.group;
}

static int64_t head_items(const struct kern_head *h)
{
    int64_t group = group_of(h), whole = h->q_rows / group, rest = h->q_rows % group;
    return whole * kern_groups(group, TILE_QUERIES) + kern_groups(rest, TILE_QUERIES);
}

static int64_t add_items(struct item *items, const struct kern_head *h)
{
    int64_t n = 0, group = group_of(h);
    for (int64_t first = 0; first < h->q_rows; first += group)
        for (int64_t at = first; at < first + group && at < h->q_rows; at += TILE_QUERIES) {
            int64_t end = first + group < h->q_rows ? first + group : h->q_rows;
            int64_t left = end - at;
            items[n++] =
                (struct item){h, at, left < TILE_QUERIES ? left : TILE_QUERIES, first / group};
        }
    return n;
}

static void work_free(struct work *w)
{
    free(w->items);
    free(w->scratch);
    free(w->lists);
}

static bool work_new(struct work *w, const struct kern_attention *a, bool backward, struct err *e)
{
    *w = (struct work){.isa = cpu_isa(e), .a = a, .threads = cpu_threads()};
    if (!w->isa)
        return false;
    int64_t items = 0;
    for (int h = 0; h < a->head_count; h++) {
        items += head_items(&a->heads[h]);
        size_t rows = a->heads[h].keys.bitmap ? (size_t)a->heads[h].kv_rows : 0;
        w->list_entries = rows > w->list_entries ? rows : w->list_entries;
    }
    w->scratch_floats = tile_scratch(a->dim, backward);
    void *list = NULL, *scratch = NULL, *all = NULL;
    if (!cpu_allocate((size_t)items * sizeof *w->items, &all, e) ||
        !cpu_allocate((size_t)w->threads * w->list_entries * sizeof *w->lists, &list, e) ||
        !cpu_allocate((size_t)w->threads * w->scratch_floats * sizeof *w->scratch, &scratch, e)) {
        free(all);
        free(list);
        return false;
    }
    w->items = all, w->lists = list, w->scratch = scratch;
    for (int h = 0; h < a->head_count; h++)
        w->count += add_items(w->items + w->count, &a->heads[h]);
    return true;
}

/* What one item works on; `thread` picks scratch. */
static struct tile tile_of(const struct work *w, const struct item *it, int thread)
{
    const struct kern_keys *k = &it->head->keys;
    struct tile t = {.head = it->head,
                     .q_begin = it->q_begin,
                     .q_count = it->q_count,
                     .dim = w->a->dim,
                     .scale = kern_scale(w->a),
                     .scratch = w->scratch + (size_t)thread * w->scratch_floats};
    if (is_dense(k)) {
        t.key_count = it->head->kv_rows;
    } else if (k->list) {
        t.list = k->list + it->group * k->list_stride;
        t.key_count = k->count ? k->count[it->group] : k->list_count;
    } else {
        int32_t *list = w->lists + (size_t)thread * w->list_entries;
        t.key_count =
            cpu_bits_to_list(k->bitmap + it->group * k->bitmap_words, it->head->kv_rows, list);
        t.list = list;
    }
    return t;
}

static bool fast_forward(const struct kern_attention *a, struct err *e)
{
    struct work w;
    if (!kern_attention_check(a, false, e) || !work_new(&w, a, false, e))
        return false;
#pragma omp parallel for schedule(dynamic, 1) num_threads(w.threads)
    for (int64_t i = 0; i < w.count; i++) {
        struct tile t = tile_of(&w, &w.items[i], cpu_thread());
        w.isa->forward(&t);
    }
    work_free(&w);
    return true;
}

/* ---- backward ----
 * dK and dV of one head sum over its tiles. A head's tiles are cut into `parts`, a number that
 * depends on the shape alone; part 0 adds to the caller's arrays, the others to arrays of their
 * own, which are added in order at the end. */

enum { PARALLEL_PARTS = 8 };

struct owner {            /* the heads that share dk */
    int64_t first, count; /* items, after sorting by owner */
    const struct kern_head *head;
    float *extra; /* [parts - 1][2][kv_rows][dim] */
};

struct owners {
    int count, parts;
    struct owner *list;
    float *extra;
};

static int by_owner(const void *x, const void *y)
{
    const struct item *a = x, *b = y;
    uintptr_t i = (uintptr_t)a->head->dk, j = (uintptr_t)b->head->dk;
    if (i != j)
        return i < j ? -1 : 1;
    if (a->head != b->head)
        return a->head < b->head ? -1 : 1;
    return a->q_begin < b->q_begin ? -1 : a->q_begin > b->q_begin;
}

static size_t extra_floats(const struct owners *o, const struct work *w)
{
    size_t n = 0;
    for (int i = 0; i < o->count; i++)
        n += (size_t)(o->parts - 1) * 2 * (size_t)o->list[i].head->kv_rows * (size_t)w->a->dim;
    return n;
}

static bool owners_new(struct owners *o, struct work *w, struct err *e)
{
    void *list = NULL, *extra = NULL;
    *o = (struct owners){0};
    if (!cpu_allocate((size_t)w->a->head_count * sizeof *o->list, &list, e))
        return false;
    o->list = list;
    qsort(w->items, (size_t)w->count, sizeof *w->items, by_owner);
    for (int64_t i = 0; i < w->count; i++) {
        if (i == 0 || w->items[i].head->dk != w->items[i - 1].head->dk)
            o->list[o->count++] = (struct owner){.first = i, .head = w->items[i].head};
        o->list[o->count - 1].count++;
    }
    o->parts = o->count == 0 ? 1 : (PARALLEL_PARTS + o->count - 1) / o->count;
    if (!cpu_allocate(extra_floats(o, w) * sizeof(float), &extra, e)) {
        free(list);
        return false;
    }
    o->extra = extra;
    float *at = extra;
    for (int i = 0; i < o->count; i++) {
        o->list[i].extra = at;
        at += (size_t)(o->parts - 1) * 2 * (size_t)o->list[i].head->kv_rows * (size_t)w->a->dim;
    }
    return true;
}

static void backward_part(const struct work *w, const struct owners *o, int owner, int part)
{
    const struct owner *own = &o->list[owner];
    int64_t begin = own->first + own->count * part / o->parts;
    int64_t end = own->first + own->count * (part + 1) / o->parts;
    size_t size = (size_t)own->head->kv_rows * (size_t)w->a->dim;
    float *dk = own->head->dk, *dv = own->head->dv;
    if (part > 0) {
        dk = own->extra + (size_t)(part - 1) * 2 * size, dv = dk + size;
        memset(dk, 0, 2 * size * sizeof(float));
    }
    for (int64_t i = begin; i < end; i++) {
        struct tile t = tile_of(w, &w->items[i], cpu_thread());
        t.dk = dk, t.dv = dv;
        w->isa->backward(&t);
    }
}

static void add_parts(const struct work *w, const struct owners *o)
{
    enum { CHUNK = 4096 };
    for (int i = 0; i < o->count; i++) {
        const struct owner *own = &o->list[i];
        int64_t size = own->head->kv_rows * w->a->dim;
#pragma omp parallel for schedule(static) num_threads(w->threads)
        for (int64_t at = 0; at < size; at += CHUNK)
            for (int part = 1; part < o->parts; part++) {
                const float *dk = own->extra + (int64_t)(part - 1) * 2 * size, *dv = dk + size;
                for (int64_t x = at; x < at + CHUNK && x < size; x++) {
                    own->head->dk[x] += dk[x];
                    own->head->dv[x] += dv[x];
                }
            }
    }
}

static bool fast_backward(const struct kern_attention *a, struct err *e)
{
    struct work w;
    struct owners o;
    if (!kern_attention_check(a, true, e) || !work_new(&w, a, true, e))
        return false;
    bool ok = owners_new(&o, &w, e);
    if (ok) {
#pragma omp parallel for schedule(dynamic, 1) num_threads(w.threads)
        for (int i = 0; i < o.count * o.parts; i++)
            backward_part(&w, &o, i / o.parts, i % o.parts);
        add_parts(&w, &o);
        free(o.list);
        free(o.extra);
    }
    work_free(&w);
    return ok;
}

/* ---- linear layers ---- */

size_t tile_linear_scratch(int in)
{
    return (size_t)in * (TILE_PANEL_MAX + TILE_KEYS) + TILE_KEYS * TILE_PANEL_MAX;
}

static bool one_linear(const struct tile_isa *isa, const struct kern_linear *l, struct err *e)
{
    size_t floats = (tile_linear_scratch(l->in) + 15) / 16 * 16;
    void *scratch = NULL;
    if (!cpu_allocate((size_t)cpu_threads() * floats * sizeof(float), &scratch, e))
        return false;
#pragma omp parallel for schedule(dynamic, 1) num_threads(cpu_threads())
    for (int64_t row = 0; row < l->rows; row += isa->panel) {
        int64_t left = l->rows - row;
        struct tile_linear t = {.x = l->x + row * l->in,
                                .w = l->w,
                                .y = l->y + row * l->out,
                                .rows = left < isa->panel ? (int)left : isa->panel,
                                .in = l->in,
                                .out = l->out,
                                .scratch = (float *)scratch + (size_t)cpu_thread() * floats};
        isa->linear(&t);
    }
    free(scratch);
    return true;
}

static bool fast_linear(const struct kern_linear *l, int count, struct err *e)
{
    const struct tile_isa *isa = cpu_isa(e);
    bool ok = isa && kern_linear_check(l, count, e);
    for (int i = 0; ok && i < count; i++)
        ok = one_linear(isa, &l[i], e);
    return ok;
}

const struct kern_backend kern_cpu = {
    .name = "cpu",
    .what = "C and OpenMP; AVX-512, AVX2 or plain, as the machine has",
    .exact = true,
    .host = true,
    .available = cpu_available,
    .allocate = cpu_allocate,
    .release = cpu_release,
    .put = cpu_put,
    .get = cpu_get,
    .clear = cpu_clear,
    .wait = cpu_wait,
    .forward = fast_forward,
    .backward = fast_backward,
    .select = cpu_select,
    .unite = cpu_unite,
    .remap = cpu_remap,
    .copy = cpu_copy,
    .gather = cpu_gather,
    .scatter_add = cpu_scatter_add,
    .merge = cpu_merge,
    .to_bf16 = cpu_to_bf16,
    .to_fp32 = cpu_to_fp32,
    .linear = fast_linear,
};
