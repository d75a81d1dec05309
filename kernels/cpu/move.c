/* Movement of rows on the CPU: unions of selections, lists in terms of them, pack, gather,
 * scatter-add, merge. */
#include "kernels/cpu/cpu.h"

int64_t cpu_bits_to_list(const uint32_t *bits, int64_t keys, int32_t *list)
{
    int64_t n = 0;
    for (int64_t w = 0; w < kern_words(keys); w++)
        for (uint32_t rest = bits[w] & kern_word_keys(keys, w); rest; rest &= rest - 1)
            list[n++] = (int32_t)(w * 32 + __builtin_ctz(rest));
    return n;
}

static void unite_one(const struct kern_union *u)
{
    int64_t words = kern_words(u->keys), rows = 0;
    memset(u->all, 0, (size_t)u->bitmap_words * sizeof *u->all);
    for (int64_t g = 0; g < u->groups; g++)
        for (int64_t w = 0; w < words; w++)
            u->all[w] |= u->bitmap[g * u->bitmap_words + w] & kern_word_keys(u->keys, w);
    for (int64_t w = 0; w < words; w++)
        rows += __builtin_popcount(u->all[w]);
    if (u->rows)
        cpu_bits_to_list(u->all, u->keys, u->rows);
    *u->row_count = rows;
}

bool cpu_unite(const struct kern_union *u, int count, struct err *e)
{
    (void)e;
#pragma omp parallel for schedule(dynamic, 1)
    for (int i = 0; i < count; i++)
        unite_one(&u[i]);
    return true;
}

/* One group; false if a key is not in `all` or there are more keys than room. */
static bool remap_group(const struct kern_remap *r, int64_t group)
{
    const uint32_t *bits = r->bitmap + group * r->bitmap_words;
    int32_t *list = r->list + group * r->list_stride;
    int64_t n = 0, before = 0;
    for (int64_t w = 0; w < r->bitmap_words; w++) {
        uint32_t all = r->all ? r->all[w] : 0xffffffffu, wanted = bits[w] & all;
        if ((wanted != bits[w] && !r->within) || n + __builtin_popcount(wanted) > r->list_stride)
            return false;
        for (uint32_t rest = wanted; rest; rest &= rest - 1) {
            int bit = __builtin_ctz(rest);
            list[n++] = (int32_t)(before + __builtin_popcount(all & ((1u << bit) - 1)));
        }
        before += __builtin_popcount(all);
    }
    r->count[group] = (int32_t)n;
    return true;
}

bool cpu_remap(const struct kern_remap *r, int count, struct err *e)
{
    for (int i = 0; i < count; i++) {
        int64_t bad = -1;
#pragma omp parallel for schedule(static) reduction(max : bad)
        for (int64_t g = 0; g < r[i].groups; g++)
            if (!remap_group(&r[i], g) && g > bad)
                bad = g;
        if (bad >= 0)
            return err_set(e, ERR_INPUT, err_at_name("remap"),
                           "entry %d, group %lld: a key is not in the union, or more than "
                           "list_stride = %lld keys",
                           i, (long long)bad, (long long)r[i].list_stride);
    }
    return true;
}

/* Rows of a block of all entries before the next block: where heads change places with tokens the
 * entries read (or write) the same lines of memory. */
bool cpu_copy(const struct kern_copy *c, int count, struct err *e)
{
    enum { BLOCK = 32 };
    int64_t most = 0;
    (void)e;
    for (int i = 0; i < count; i++)
        most = c[i].rows > most ? c[i].rows : most;
#pragma omp parallel for collapse(2) schedule(dynamic, 8)
    for (int64_t from = 0; from < most; from += BLOCK)
        for (int i = 0; i < count; i++)
            for (int64_t row = from; row < c[i].rows && row < from + BLOCK; row++)
                memcpy((char *)c[i].dst + row * c[i].dst_stride,
                       (const char *)c[i].src + row * c[i].src_stride, (size_t)c[i].bytes);
    return true;
}

bool cpu_gather(const struct kern_gather *g, int count, struct err *e)
{
    enum { AHEAD = 16 };
    (void)e;
    for (int i = 0; i < count; i++) {
        int64_t n = g[i].count, width = g[i].width;
#pragma omp parallel for schedule(static)
        for (int64_t row = 0; row < n; row++) {
            if (row + AHEAD < n)
                __builtin_prefetch(g[i].src + g[i].list[row + AHEAD] * width);
            memcpy(g[i].dst + row * width, g[i].src + g[i].list[row] * width,
                   (size_t)width * sizeof *g[i].dst);
        }
    }
    return true;
}

bool cpu_scatter_add(const struct kern_scatter *s, int count, struct err *e)
{
    (void)e;
    for (int i = 0; i < count; i++) {
        int64_t n = s[i].count, width = s[i].width;
#pragma omp parallel for schedule(static)
        for (int64_t row = 0; row < n; row++) {
            const float *src = s[i].src + row * width;
            float *dst = s[i].dst + (s[i].list ? s[i].list[row] : row) * width;
            for (int64_t d = 0; d < width; d++)
                dst[d] += src[d];
        }
    }
    return true;
}

/* o = 2^(a - m) o + 2^(b - m) other over the sum of the weights; a row that saw no key has weight
 * 0. */
static void merge_row(const struct kern_merge *m, int64_t row)
{
    float a = m->lse[row], b = m->other_lse[row], top = a > b ? a : b;
    if (b == -INFINITY)
        return;
    float wa = exp2f(a - top), wb = exp2f(b - top), sum = wa + wb;
    float *o = m->o + row * m->dim;
    const float *other = m->other_o + row * m->dim;
    for (int d = 0; d < m->dim; d++)
        o[d] = (wa * o[d] + wb * other[d]) / sum;
    m->lse[row] = top + log2f(sum);
}

bool cpu_merge(const struct kern_merge *m, int count, struct err *e)
{
    (void)e;
    for (int i = 0; i < count; i++) {
#pragma omp parallel for schedule(static)
        for (int64_t row = 0; row < m[i].rows; row++)
            merge_row(&m[i], row);
    }
    return true;
}

bool cpu_to_bf16(uint16_t *dst, const float *src, int64_t count, struct err *e)
{
    (void)e;
#pragma omp parallel for schedule(static)
    for (int64_t i = 0; i < count; i++)
        dst[i] = kern_bf16_of(src[i]);
    return true;
}

bool cpu_to_fp32(float *dst, const uint16_t *src, int64_t count, struct err *e)
{
    (void)e;
#pragma omp parallel for schedule(static)
    for (int64_t i = 0; i < count; i++)
        dst[i] = kern_float_of(src[i]);
    return true;
}
