/* Movement of rows: pack and unpack, gather, scatter-add, merging of partial results, rounding.
 *
 * A call's descriptors become pieces: rows of row_bytes bytes, with a stride and perhaps a list of
 * row numbers on one side. PIECES of them travel as one kernel's parameters; a block moves one item
 * of a piece, about 16 KiB: several short rows, or a segment of a long one. Each thread has four
 * units of 16 bytes under way (8, 4, 2 or 1 where addresses, strides or lengths are no multiple of
 * 16), which keeps a processor's 2,048 threads at 128 KiB, several times what the latency of memory
 * takes at full speed.
 *
 * What bounds it: memory, 2 x bytes (scatter-add 3 x, merge 3 x) at 4.8 TB/s on an H200; about 50
 * instructions a unit, of 95 that there would be time for. No shared memory. */
#include "kernels/cuda/cuda.h"

enum { ITEM_BYTES = 16384, THREADS = 256, PIECES = 48, UNITS = 4 };

struct piece {
    const unsigned char *src;
    unsigned char *dst;
    const int32_t *list; /* of src rows (gather) or dst rows (scatter); NULL: row i */
    int64_t rows, row_bytes, src_stride, dst_stride;
    int64_t first_item;
    int32_t rows_per_item, segments; /* one of them is 1 */
    int32_t unit;
};

struct pieces {
    struct piece piece[PIECES];
    int32_t count;
};

/* ---- on the device --------------------------------------------------------------------------- */

/* What one block moves. */
struct item {
    const struct piece *p;
    int64_t row;  /* the first */
    int64_t from; /* byte in the row */
    int rows, bytes;
};

DEV struct item item_of_block(const struct pieces *all)
{
    int low = 0, high = all->count - 1;
    while (low < high) {
        int middle = (low + high + 1) / 2;
        if (blockIdx.x >= all->piece[middle].first_item)
            low = middle;
        else
            high = middle - 1;
    }
    const struct piece *p = &all->piece[low];
    int64_t n = (int64_t)blockIdx.x - p->first_item, row = n / p->segments * p->rows_per_item;
    int64_t from = n % p->segments * ITEM_BYTES;
    struct item i = {p, row, from, (int)min((int64_t)p->rows_per_item, p->rows - row),
                     (int)min((int64_t)ITEM_BYTES, p->row_bytes - from)};
    return i;
}

DEV float sum_of(float a, float b)
{
    return a + b;
}

DEV float4 sum_of(float4 a, float4 b)
{
    return make_float4(a.x + b.x, a.y + b.y, a.z + b.z, a.w + b.w);
}

/* Unit k of the item in src, and in dst; the list is of dst's rows if ADD. */
template <bool ADD, class V>
DEV const V *unit_from(const struct item *i, unsigned k, unsigned units)
{
    unsigned within = k / units;
    int64_t row = i->row + within;
    if (!ADD && i->p->list)
        row = __ldg(i->p->list + row);
    return (const V *)(i->p->src + row * i->p->src_stride + i->from) + (k - within * units);
}

template <bool ADD, class V> DEV V *unit_to(const struct item *i, unsigned k, unsigned units)
{
    unsigned within = k / units;
    int64_t row = i->row + within;
    if (ADD && i->p->list)
        row = __ldg(i->p->list + row);
    return (V *)(i->p->dst + row * i->p->dst_stride + i->from) + (k - within * units);
}

/* The item, UNITS loads of each thread before the first store. */
template <bool ADD, class V> DEV void move_item(const struct item *i)
{
    unsigned units = (unsigned)i->bytes / sizeof(V), n = units * (unsigned)i->rows;
    for (unsigned first = threadIdx.x; first < n; first += UNITS * THREADS) {
        V x[UNITS];
#pragma unroll
        for (unsigned j = 0; j < UNITS; j++)
            if (first + j * THREADS < n)
                x[j] = *unit_from<ADD, V>(i, first + j * THREADS, units);
#pragma unroll
        for (unsigned j = 0; j < UNITS; j++)
            if (first + j * THREADS < n) {
                V *to = unit_to<ADD, V>(i, first + j * THREADS, units);
                if constexpr (ADD)
                    *to = sum_of(*to, x[j]);
                else
                    *to = x[j];
            }
    }
}

__global__ void __launch_bounds__(THREADS) move_rows(const __grid_constant__ struct pieces all)
{
    struct item i = item_of_block(&all);
    if (i.p->unit == 16)
        move_item<false, uint4>(&i);
    else if (i.p->unit == 8)
        move_item<false, uint2>(&i);
    else if (i.p->unit == 4)
        move_item<false, uint32_t>(&i);
    else if (i.p->unit == 2)
        move_item<false, uint16_t>(&i);
    else
        move_item<false, uint8_t>(&i);
}

__global__ void __launch_bounds__(THREADS)
    move_scatter_add(const __grid_constant__ struct pieces all)
{
    struct item i = item_of_block(&all);
    if (i.p->unit == 16)
        move_item<true, float4>(&i);
    else
        move_item<true, float>(&i);
}

/* ---- pieces ---------------------------------------------------------------------------------- */

/* The widest unit that addresses, strides and lengths are multiples of. */
static int unit_of(const struct piece *p)
{
    uint64_t all =
        (uint64_t)(uintptr_t)p->src | (uint64_t)(uintptr_t)p->dst | (uint64_t)p->row_bytes;
    if (p->rows > 1 || p->list)
        all |= (uint64_t)p->src_stride | (uint64_t)p->dst_stride;
    int unit = 16;
    while (all % (unsigned)unit)
        unit /= 2;
    return unit;
}

static int64_t items_of(struct piece *p)
{
    if (!p->list && p->row_bytes == p->src_stride && p->row_bytes == p->dst_stride) {
        p->row_bytes *= p->rows;
        p->rows = 1;
    }
    bool is_long = p->row_bytes > ITEM_BYTES;
    p->unit = unit_of(p);
    p->rows_per_item = is_long ? 1 : (int32_t)(ITEM_BYTES / p->row_bytes);
    p->segments = is_long ? (int32_t)((p->row_bytes + ITEM_BYTES - 1) / ITEM_BYTES) : 1;
    return (p->rows + p->rows_per_item - 1) / p->rows_per_item * p->segments;
}

/* Sixteen terabytes, the most of one call. */
static const int64_t bytes_max = (int64_t)ITEM_BYTES << 30;

static bool piece_check(const struct piece *p, const char *what, int entry, struct err *e)
{
    if (p->rows < 0 || p->row_bytes < 0)
        return err_set(e, ERR_INPUT, err_at_name(what),
                       "entry %d: %lld rows of %lld bytes, want 0 or more", entry,
                       (long long)p->rows, (long long)p->row_bytes);
    if (p->rows > 0 && p->row_bytes > 0 && (!p->src || !p->dst))
        return err_set(e, ERR_INPUT, err_at_name(what), "entry %d: a NULL address", entry);
    if (p->rows > 0 && p->row_bytes > bytes_max / p->rows)
        return err_set(e, ERR_INPUT, err_at_name(what),
                       "entry %d: %lld rows of %lld bytes, want up to 16 TB", entry,
                       (long long)p->rows, (long long)p->row_bytes);
    return cuda_entry_aligned(p->list, 4, what, entry, "list", e);
}

typedef struct piece piece_maker(const void *descriptors, int i);

static bool move_all(const void *descriptors, int count, piece_maker *make,
                     void (*kernel)(struct pieces), const char *what, struct err *e)
{
    static const int64_t items_max = 1 << 30; /* blocks of a launch */
    if (!cuda_entries(descriptors, count, what, e))
        return false;
    for (int i = 0; i < count;) {
        struct pieces all = {};
        int64_t items = 0;
        for (; i < count && all.count < PIECES && items < items_max; i++) {
            struct piece p = make(descriptors, i);
            if (!piece_check(&p, what, i, e))
                return false;
            if (p.rows == 0 || p.row_bytes == 0)
                continue;
            p.first_item = items;
            items += items_of(&p);
            all.piece[all.count++] = p;
        }
        if (items > INT32_MAX)
            return err_set(e, ERR_INPUT, err_at_name(what), "more than 16 TB in one call");
        if (items > 0 &&
            !cuda_ok(dev_launch(kernel, dim3((unsigned)items), dim3(THREADS), 0, CUDA_STREAM, all),
                     what, e))
            return false;
    }
    return true;
}

static struct piece piece_of_copy(const void *descriptors, int i)
{
    const struct kern_copy *c = (const struct kern_copy *)descriptors + i;
    struct piece p = {};
    p.src = (const unsigned char *)c->src;
    p.dst = (unsigned char *)c->dst;
    p.rows = c->rows;
    p.row_bytes = c->bytes;
    p.src_stride = c->src_stride;
    p.dst_stride = c->dst_stride;
    return p;
}

bool cuda_copy(const struct kern_copy *c, int count, struct err *e)
{
    return move_all(c, count, piece_of_copy, move_rows, "copy", e);
}

static struct piece piece_of_gather(const void *descriptors, int i)
{
    const struct kern_gather *g = (const struct kern_gather *)descriptors + i;
    struct piece p = {};
    p.src = (const unsigned char *)g->src;
    p.dst = (unsigned char *)g->dst;
    p.list = g->list;
    p.rows = g->count;
    p.row_bytes = p.src_stride = p.dst_stride = g->width * (int64_t)sizeof *g->src;
    return p;
}

bool cuda_gather(const struct kern_gather *g, int count, struct err *e)
{
    for (int i = 0; g && i < count; i++)
        if (g[i].count > 0 && g[i].width > 0 && !g[i].list)
            return err_set(e, ERR_INPUT, err_at_name("gather"), "entry %d: a NULL list", i);
    return move_all(g, count, piece_of_gather, move_rows, "gather", e);
}

static struct piece piece_of_scatter(const void *descriptors, int i)
{
    const struct kern_scatter *s = (const struct kern_scatter *)descriptors + i;
    struct piece p = {};
    p.src = (const unsigned char *)s->src;
    p.dst = (unsigned char *)s->dst;
    p.list = s->list;
    p.rows = s->count;
    p.row_bytes = p.src_stride = p.dst_stride = s->width * (int64_t)sizeof *s->src;
    return p;
}

bool cuda_scatter_add(const struct kern_scatter *s, int count, struct err *e)
{
    for (int i = 0; s && i < count; i++)
        if (!cuda_entry_aligned(s[i].src, 4, "scatter_add", i, "src", e) ||
            !cuda_entry_aligned(s[i].dst, 4, "scatter_add", i, "dst", e))
            return false;
    return move_all(s, count, piece_of_scatter, move_scatter_add, "scatter_add", e);
}

/* ---- merge ----------------------------------------------------------------------------------- */

/* o = 2^(a - m) o + 2^(b - m) other over the sum of the weights, m the greater of the two LSE. */
struct weights {
    float mine, other, lse;
    bool none; /* the other saw no key */
};

DEV struct weights weights_of(float a, float b)
{
    float top = fmaxf(a, b), mine = exp2f(a - top), other = exp2f(b - top), sum = mine + other;
    struct weights w = {mine / sum, other / sum, top + log2f(sum), b == -INFINITY};
    return w;
}

struct merges {
    struct kern_merge merge[PIECES];
    int64_t first_block[PIECES];
    int32_t count;
};

enum { MERGE_ROWS = 32 }; /* of a block: 8 threads a row */

__global__ void __launch_bounds__(THREADS) move_merge(const __grid_constant__ struct merges all)
{
    int i = 0;
    while (i + 1 < all.count && blockIdx.x >= all.first_block[i + 1])
        i++;
    const struct kern_merge *m = &all.merge[i];
    int64_t row = ((int64_t)blockIdx.x - all.first_block[i]) * MERGE_ROWS + threadIdx.x / 8;
    bool there = row < m->rows;
    struct weights w = {0, 0, 0, true};
    if (there)
        w = weights_of(m->lse[row], m->other_lse[row]);
    __syncwarp(); /* a row's threads have read its LSE; they are of one warp */
    if (w.none)
        return;
    float *o = m->o + row * m->dim;
    const float *other = m->other_o + row * m->dim;
    if (m->dim % 4 == 0 && ((uintptr_t)o | (uintptr_t)other) % 16 == 0)
        for (int d = (int)threadIdx.x % 8 * 4; d < m->dim; d += 32) {
            float4 x = *(float4 *)(o + d), y = *(const float4 *)(other + d);
            *(float4 *)(o + d) =
                make_float4(w.mine * x.x + w.other * y.x, w.mine * x.y + w.other * y.y,
                            w.mine * x.z + w.other * y.z, w.mine * x.w + w.other * y.w);
        }
    else
        for (int d = (int)threadIdx.x % 8; d < m->dim; d += 8)
            o[d] = w.mine * o[d] + w.other * other[d];
    if (threadIdx.x % 8 == 0)
        m->lse[row] = w.lse;
}

static bool merge_check(const struct kern_merge *m, int entry, struct err *e)
{
    if (m->rows < 0 || m->dim < 0)
        return err_set(e, ERR_INPUT, err_at_name("merge"),
                       "entry %d: %lld rows of %d, want 0 or more", entry, (long long)m->rows,
                       m->dim);
    if (m->rows > 0 && (!m->o || !m->lse || !m->other_o || !m->other_lse))
        return err_set(e, ERR_INPUT, err_at_name("merge"), "entry %d: a NULL address", entry);
    if (m->rows > (int64_t)MERGE_ROWS * INT32_MAX)
        return err_set(e, ERR_INPUT, err_at_name("merge"), "entry %d: %lld rows, want up to 2^36",
                       entry, (long long)m->rows);
    return cuda_entry_aligned(m->o, 4, "merge", entry, "o", e) &&
           cuda_entry_aligned(m->lse, 4, "merge", entry, "lse", e) &&
           cuda_entry_aligned(m->other_o, 4, "merge", entry, "other_o", e) &&
           cuda_entry_aligned(m->other_lse, 4, "merge", entry, "other_lse", e);
}

bool cuda_merge(const struct kern_merge *m, int count, struct err *e)
{
    if (!cuda_entries(m, count, "merge", e))
        return false;
    for (int i = 0; i < count;) {
        struct merges all = {};
        int64_t blocks = 0;
        for (; i < count && all.count < PIECES; i++) {
            if (!merge_check(&m[i], i, e))
                return false;
            all.merge[all.count] = m[i];
            all.first_block[all.count++] = blocks;
            blocks += (m[i].rows + MERGE_ROWS - 1) / MERGE_ROWS;
        }
        if (blocks > INT32_MAX)
            return err_set(e, ERR_INPUT, err_at_name("merge"), "more than 2^36 rows in one call");
        if (blocks > 0 && !cuda_ok(dev_launch(move_merge, dim3((unsigned)blocks), dim3(THREADS), 0,
                                              CUDA_STREAM, all),
                                   "merge", e))
            return false;
    }
    return true;
}

/* ---- rounding -------------------------------------------------------------------------------- */

enum { ROUND_UNIT = 8 }; /* elements: 16 bytes of bf16 */

/* Thread i has elements ROUND_UNIT i ...; together where there are as many and both sides are
 * aligned. */
__global__ void __launch_bounds__(THREADS)
    move_to_bf16(uint16_t *dst, const float *src, int64_t count)
{
    int64_t i = ((int64_t)blockIdx.x * THREADS + threadIdx.x) * ROUND_UNIT;
    if (i + ROUND_UNIT <= count && ((uintptr_t)dst | (uintptr_t)src) % 16 == 0) {
        float4 x = *(const float4 *)(src + i), y = *(const float4 *)(src + i + 4);
        *(uint4 *)(dst + i) = make_uint4(dev_pack(x.x, x.y), dev_pack(x.z, x.w), dev_pack(y.x, y.y),
                                         dev_pack(y.z, y.w));
    } else {
        for (int64_t j = i; j < min(i + ROUND_UNIT, count); j++)
            dst[j] = (uint16_t)dev_pack(src[j], 0);
    }
}

__global__ void __launch_bounds__(THREADS)
    move_to_fp32(float *dst, const uint16_t *src, int64_t count)
{
    int64_t i = ((int64_t)blockIdx.x * THREADS + threadIdx.x) * ROUND_UNIT;
    if (i + ROUND_UNIT <= count && ((uintptr_t)dst | (uintptr_t)src) % 16 == 0) {
        uint4 x = *(const uint4 *)(src + i);
        *(float4 *)(dst + i) =
            make_float4(dev_low(x.x), dev_high(x.x), dev_low(x.y), dev_high(x.y));
        *(float4 *)(dst + i + 4) =
            make_float4(dev_low(x.z), dev_high(x.z), dev_low(x.w), dev_high(x.w));
    } else {
        for (int64_t j = i; j < min(i + ROUND_UNIT, count); j++)
            dst[j] = dev_low(src[j]);
    }
}

/* Blocks for `count` elements of `dst_bytes` and `src_bytes`. */
static bool round_blocks(const void *dst, int dst_bytes, const void *src, int src_bytes,
                         int64_t count, const char *what, unsigned *blocks, struct err *e)
{
    static const int64_t count_max = (int64_t)INT32_MAX * THREADS * ROUND_UNIT;
    if (count < 0 || count > count_max || (count > 0 && (!dst || !src)))
        return err_set(e, ERR_INPUT, err_at_name(what), "%lld elements from %p to %p",
                       (long long)count, src, dst);
    *blocks = (unsigned)((count + THREADS * ROUND_UNIT - 1) / (THREADS * ROUND_UNIT));
    return cuda_entry_aligned(dst, dst_bytes, what, 0, "dst", e) &&
           cuda_entry_aligned(src, src_bytes, what, 0, "src", e);
}

bool cuda_to_bf16(uint16_t *dst, const float *src, int64_t count, struct err *e)
{
    unsigned blocks = 0;
    return round_blocks(dst, 2, src, 4, count, "to_bf16", &blocks, e) &&
           (blocks == 0 || cuda_ok(dev_launch(move_to_bf16, dim3(blocks), dim3(THREADS), 0,
                                              CUDA_STREAM, dst, src, count),
                                   "to_bf16", e));
}

bool cuda_to_fp32(float *dst, const uint16_t *src, int64_t count, struct err *e)
{
    unsigned blocks = 0;
    return round_blocks(dst, 4, src, 2, count, "to_fp32", &blocks, e) &&
           (blocks == 0 || cuda_ok(dev_launch(move_to_fp32, dim3(blocks), dim3(THREADS), 0,
                                              CUDA_STREAM, dst, src, count),
                                   "to_fp32", e));
}
