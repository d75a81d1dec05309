/* Tensor cores: ldmatrix, stmatrix, mma.sync, wgmma; and setmaxnreg, which is of a warpgroup too.
 *
 * wgmma is done warp by warp: warp w of four has rows 16 w .. 16 w + 15 of D. It is asked for, and
 * happens at the wgmma.wait_group that covers it: only then are its operands read and its
 * accumulators written. Until then ordinary instructions must leave both alone, and registers that
 * ordinary instructions wrote need a wgmma.fence before it. mov is the compiler's renaming of
 * registers, which is resolved before the hardware sees it: it hands the state on. */
#include "tests/ptx/machine.h"

#include <stdlib.h>

static inline float bf16_float(uint32_t bits)
{
    uint32_t u = bits << 16;
    float x;
    memcpy(&x, &u, 4);
    return x;
}

static inline float lane_float(const uint32_t *row, int lane)
{
    float x;
    memcpy(&x, &row[lane], 4);
    return x;
}

/* ---- ldmatrix, stmatrix ---- */

static bool matrix_rows(struct warp *w, const struct ins *i, int count, uint32_t *at, enum access a)
{
    uint32_t lanes = count == 4 ? ALL_LANES : (1u << 8 * count) - 1;
    EACH_LANE(l, lanes)
    {
        at[l] = (uint32_t)(row_of(w, i->src[0])[l] + i->value);
        if (!order_access(w, (int)l, at[l], 16, 16, a))
            return false;
    }
    for (int t = 0; w->b->counts && t < count; t++) {
        count_shared(w, at, 0xffu << 8 * t, 16);
        w->b->counts->shared_requests -= t > 0;
    }
    return true;
}

static bool whole_warp(struct warp *w, uint32_t lanes)
{
    return lanes == ALL_LANES || fault(w, -1, "only lanes %08x of the warp are here", lanes);
}

/* how: 1 transposed. Lane l gets row l / 4, columns 2 (l % 4) and the next of each 8 x 8 tile. */
static bool run_ldmatrix(struct warp *w, const struct ins *i, uint32_t lanes)
{
    uint32_t at[LANES];
    const unsigned char *shared = w->b->shared;
    if (!whole_warp(w, lanes) || !matrix_rows(w, i, i->dsts, at, ACCESS_READ))
        return false;
    for (int t = 0; t < i->dsts; t++) {
        uint32_t *to = row_of(w, i->dst[t]);
        for (int l = 0; l < LANES; l++) {
            int r = l / 4, c = 2 * (l % 4);
            uint16_t x[2];
            for (int k = 0; k < 2; k++)
                memcpy(&x[k],
                       i->how ? shared + at[8 * t + c + k] + 2 * r
                              : shared + at[8 * t + r] + 2 * (c + k),
                       2);
            to[l] = x[0] | (uint32_t)x[1] << 16;
        }
    }
    return true;
}

static bool run_stmatrix(struct warp *w, const struct ins *i, uint32_t lanes)
{
    uint32_t at[LANES];
    unsigned char *shared = w->b->shared;
    int count = i->srcs - 1;
    if (!whole_warp(w, lanes) || !matrix_rows(w, i, count, at, ACCESS_WRITE))
        return false;
    for (int t = 0; t < count; t++) {
        const uint32_t *from = row_of(w, i->src[1 + t]);
        for (int l = 0; l < LANES; l++) {
            int r = l / 4, c = 2 * (l % 4);
            for (int k = 0; k < 2; k++) {
                uint16_t x = (uint16_t)(from[l] >> 16 * k);
                memcpy(i->how ? shared + at[8 * t + c + k] + 2 * r
                              : shared + at[8 * t + r] + 2 * (c + k),
                       &x, 2);
            }
        }
    }
    return true;
}

static bool decode_matrix(struct decoder *d, bool load)
{
    static const char *const want[] = {"sync", "aligned", "m8n8"};
    const struct operand *o = d->s->operand;
    for (int k = 0; k < 3; k++)
        if (!decode_has(d, want[k]))
            return decode_wrong(d, "a matrix load or store that this machine does not know");
    for (int k = 4; k < d->parts; k++)
        if (strcmp(d->part[k], "x1") && strcmp(d->part[k], "x2") && strcmp(d->part[k], "x4") &&
            strcmp(d->part[k], "trans") && strcmp(d->part[k], "shared") &&
            strcmp(d->part[k], "shared::cta") && strcmp(d->part[k], "b16"))
            return decode_wrong(d, "a matrix load or store that this machine does not know");
    int n = decode_has(d, "x4") ? 4 : decode_has(d, "x2") ? 2 : 1;
    const struct operand *v = &o[load ? 0 : 1], *part = v->kind == OPERAND_VECTOR ? v->part : v;
    if (!decode_operands(d, 2) || !decode_address(d, &o[load ? 1 : 0]) || d->i->src_bits[0] != 32 ||
        (v->kind == OPERAND_VECTOR ? v->parts : 1) != n)
        return decode_wrong(d, "not the operands that a matrix load or store takes");
    for (int k = 0; k < n; k++)
        if (!(load ? decode_dst : decode_src)(d, &part[k], 32))
            return false;
    d->i->run = load ? run_ldmatrix : run_stmatrix;
    d->i->cls = load ? PTX_MATRIX : PTX_ST_SHARED;
    d->i->flags = INS_LANES;
    d->i->how = decode_has(d, "trans");
    return true;
}

/* ---- mma.sync ---- */

/* A[16][16] from its four registers: a[0] = (g, 2t), a[1] = (g + 8, 2t), a[2] = (g, 2t + 8),
 * a[3] = (g + 8, 2t + 8), each with the next column; g = lane / 4, t = lane % 4. */
static void take_a(const struct warp *w, const int *rows, float a[16][16])
{
    for (int r = 0; r < 4; r++) {
        const uint32_t *from = row_of(w, rows[r]);
        for (int l = 0; l < LANES; l++) {
            float *to = &a[l / 4 + r % 2 * 8][2 * (l % 4) + r / 2 * 8];
            to[0] = bf16_float(from[l] & 0xffff);
            to[1] = bf16_float(from[l] >> 16);
        }
    }
}

/* Row and column of register r of lane l of D[16][n]. */
static inline int d_row(int l, int r)
{
    return l / 4 + r / 2 % 2 * 8;
}

static inline int d_column(int l, int r)
{
    return 8 * (r / 4) + 2 * (l % 4) + r % 2;
}

enum { MOST_N = 256 };

/* d[16][n] += a b, in order of k. */
FOR_VECTORS static void multiply(float *restrict d, float a[16][16], const float *restrict b, int n)
{
    for (int m = 0; m < 16; m++)
        for (int k = 0; k < 16; k++) {
            float x = a[m][k];
            for (int c = 0; c < n; c++)
                d[m * n + c] += x * b[k * n + c];
        }
}

static void take_d(const struct warp *w, const int *rows, int n, float *d)
{
    for (int r = 0; r < n / 2; r++) {
        const uint32_t *from = row_of(w, rows[r]);
        for (int l = 0; l < LANES; l++)
            d[d_row(l, r) * n + d_column(l, r)] = lane_float(from, l);
    }
}

static void give_d(struct warp *w, const int *rows, int n, const float *d)
{
    for (int r = 0; r < n / 2; r++) {
        uint32_t *to = row_of(w, rows[r]);
        for (int l = 0; l < LANES; l++)
            memcpy(&to[l], &d[d_row(l, r) * n + d_column(l, r)], 4);
    }
}

/* src: a[4], b[2], c[4]. b[0] = rows 2t, 2t + 1 of column g, b[1] = rows 2t + 8, 2t + 9. */
static bool run_mma(struct warp *w, const struct ins *i, uint32_t lanes)
{
    float a[16][16], b[16 * 8], d[16 * 8];
    if (!whole_warp(w, lanes))
        return false;
    take_a(w, i->src, a);
    for (int r = 0; r < 2; r++)
        for (int l = 0; l < LANES; l++) {
            uint32_t x = row_of(w, i->src[4 + r])[l];
            int k = 2 * (l % 4) + 8 * r;
            b[k * 8 + l / 4] = bf16_float(x & 0xffff);
            b[(k + 1) * 8 + l / 4] = bf16_float(x >> 16);
        }
    take_d(w, i->src + 6, 8, d);
    multiply(d, a, b, 8);
    give_d(w, i->dst, 8, d);
    if (w->b->counts)
        w->b->counts->mma_flop += 2 * 16 * 8 * 16;
    return true;
}

static bool take_vector(struct decoder *d, const struct operand *o, int n, bool dst)
{
    if (o->kind != OPERAND_VECTOR || o->parts != n)
        return decode_wrong(d, "not as many registers as the matrix needs");
    for (int k = 0; k < n; k++)
        if (!(dst ? decode_dst : decode_src)(d, &o->part[k], 32))
            return false;
    return true;
}

static bool decode_mma(struct decoder *d)
{
    const struct operand *o = d->s->operand;
    if (strcmp(d->s->op, "mma.sync.aligned.m16n8k16.row.col.f32.bf16.bf16.f32"))
        return decode_wrong(d, "a product that this machine does not know");
    d->i->run = run_mma;
    d->i->cls = PTX_TENSOR;
    d->i->flags = INS_LANES;
    return decode_operands(d, 4) && take_vector(d, &o[0], 4, true) &&
           take_vector(d, &o[1], 4, false) && take_vector(d, &o[2], 2, false) &&
           take_vector(d, &o[3], 4, false);
}

/* ---- wgmma: matrices in shared memory ---- */

struct pending_wgmma {
    const struct ins *ins;
    uint64_t a, b;
    bool add;
    uint32_t group;
};

/* Descriptor: bits 0-13 address, 16-29 leading byte offset, 32-45 stride byte offset (all / 16),
 * 49-51 base offset, 62-63 swizzle: 0 none, 1 128 bytes, 2 64 bytes, 3 32 bytes. */
struct matrix {
    uint32_t start, lead, stride;
    uint32_t span; /* bytes of a swizzled row: 128, 64, 32; 16 without */
    bool mn_major;
};

static bool matrix_read(struct warp *w, uint64_t d, bool mn_major, struct matrix *m)
{
    static const uint32_t spans[] = {16, 128, 64, 32};
    m->start = (uint32_t)(d & 0x3fff) << 4;
    m->lead = (uint32_t)(d >> 16 & 0x3fff) << 4;
    m->stride = (uint32_t)(d >> 32 & 0x3fff) << 4;
    m->span = spans[d >> 62];
    m->mn_major = mn_major;
    if (d >> 49 & 7)
        return fault(w, -1, "descriptor %#llx has a base offset, which is not modelled",
                     (unsigned long long)d);
    if (d & 0xc000c000c000c000ull & ~(3ull << 62) || d >> 46 & 7 || d >> 52 & 0x3ff)
        return fault(w, -1, "descriptor %#llx has bits where there is no field",
                     (unsigned long long)d);
    if (m->span > 16 && m->start & (8 * m->span - 1) & ~(m->span - 1))
        return fault(w, -1,
                     "descriptor %#llx: a matrix at shared address %u with swizzled rows of %u "
                     "bytes begins in the middle of a pattern of %u",
                     (unsigned long long)d, m->start, m->span, 8 * m->span);
    return true;
}

/* The 16 bytes that begin with (row, column), a row being one of M or N, a column one of K:
 * K-major, column % 8 = 0; MN-major, row % 8 = 0. */
static uint32_t chunk_at(const struct matrix *m, int row, int column)
{
    uint32_t r = (uint32_t)row, c = (uint32_t)column, at = m->start, wide = m->span / 2;
    if (!m->mn_major)
        at += m->span > 16 ? r / 8 * m->stride + r % 8 * m->span + c * 2
                           : r / 8 * m->stride + r % 8 * 16 + c / 8 * m->lead;
    else
        at += m->span > 16 ? r / wide * m->lead + r % wide * 2 + c % 8 * m->span + c / 8 * m->stride
                           : r / 8 * m->stride + c % 8 * 16 + c / 8 * m->lead;
    return at ^ ((at >> 7 & (m->span / 16 - 1)) << 4); /* of all address bits */
}

/* Calls see for the 16-byte chunks of rows [row, row + rows) x 16 columns; false ends it. */
struct chunks {
    struct warp *w;
    const struct matrix *m;
    int lane;
    float *to; /* [16][width]: k, then row */
    int width;
};

static bool chunk_check(const struct chunks *c, uint32_t at, int row, int column)
{
    (void)row, (void)column;
    return shared_ok(c->w, c->lane, at, 16, 16) && order_async_read(c->w, c->lane, at, 16, true);
}

static bool chunk_take(const struct chunks *c, uint32_t at, int row, int column)
{
    const unsigned char *from = c->w->b->shared + at;
    for (int k = 0; k < 8; k++) {
        uint16_t x;
        memcpy(&x, from + 2 * k, 2);
        int r = c->m->mn_major ? row + k : row, col = c->m->mn_major ? column : column + k;
        c->to[col * c->width + r] = bf16_float(x);
    }
    return true;
}

static bool each_chunk(const struct chunks *c, int row, int rows,
                       bool (*see)(const struct chunks *c, uint32_t at, int row, int column))
{
    int row_step = c->m->mn_major ? 8 : 1, column_step = c->m->mn_major ? 1 : 8;
    for (int r = 0; r < rows; r += row_step)
        for (int k = 0; k < 16; k += column_step)
            if (!see(c, chunk_at(c->m, row + r, k), r, k))
                return false;
    return true;
}

/* Lanes that know different things each check. */
static bool matrix_check(struct warp *w, const struct matrix *m, int rows)
{
    const struct block *b = w->b;
    for (int l = 0; l < LANES; l++) {
        int t = thread_of(w, l);
        if (l > 0 && (!b->knows || b->knows[t] == b->knows[t - 1]))
            continue;
        struct chunks c = {.w = w, .m = m, .lane = l};
        if (!each_chunk(&c, 0, rows, chunk_check))
            return false;
    }
    return true;
}

/* ---- wgmma: registers ---- */

enum { WATCH_DIRTY = 1, WATCH_FACTOR = 2, WATCH_SUM = 256 };
#define WATCH_FACTORS 0xfe
#define WATCH_SUMS    0xff00

static int wgmma_n(const struct ins *i)
{
    return 2 * i->dsts;
}

static bool wgmma_from_registers(const struct ins *i)
{
    return i->how & 4;
}

/* Marks what a wgmma uses, and what is copied there. */
static void mark(bool *watched, const struct ptx_code *c)
{
    bool more = true;
    for (int n = 0; n < c->count; n++) {
        const struct ins *i = &c->ins[n];
        for (int k = 0; i->flags & INS_WGMMA && k < i->dsts; k++)
            watched[i->dst[k]] = true;
        for (int k = 0; i->flags & INS_WGMMA && wgmma_from_registers(i) && k < 4; k++)
            if (i->src[k] >= 0)
                watched[i->src[k]] = true;
    }
    while (more) {
        more = false;
        for (int n = 0; n < c->count; n++) {
            const struct ins *i = &c->ins[n];
            if (!(i->flags & INS_COPY) || i->dst_bits[0] != 32 || !watched[i->dst[0]] ||
                i->src[0] < 0 || watched[i->src[0]])
                continue;
            watched[i->src[0]] = more = true;
        }
    }
}

void wgmma_find(struct ptx_module *m, struct ptx_code *c)
{
    bool any = false;
    for (int n = 0; n < c->count; n++)
        any |= (c->ins[n].flags & INS_WGMMA) != 0;
    if (!any)
        return;
    bool *watched = ARENA_ARRAY(m->arena, bool, c->rows);
    mark(watched, c);
    for (int n = 0; n < c->count; n++) {
        struct ins *i = &c->ins[n];
        bool touches = false;
        for (int k = 0; k < i->dsts; k++)
            touches |= i->dst_bits[k] > 1 && watched[i->dst[k]];
        for (int k = 0; k < i->srcs; k++)
            touches |= i->src_bits[k] > 1 && i->src[k] >= 0 && watched[i->src[k]];
        if (touches && !(i->flags & INS_WGMMA))
            i->flags |= INS_WATCHED;
    }
    c->watched = watched;
}

bool wgmma_watch(struct warp *w, const struct ins *i)
{
    const bool *watched = w->b->code->watched;
    bool copy = i->flags & INS_COPY, dirty = !copy;
    for (int k = 0; k < i->srcs; k++) {
        int row = i->src[k];
        if (i->src_bits[k] == 1 || row < 0 || !watched[row])
            continue;
        if (w->watch[row] & WATCH_SUMS)
            return fault(w, -1, "reads a sum of a wgmma that has not been waited for");
        dirty |= w->watch[row] & WATCH_DIRTY;
    }
    for (int k = 0; k < i->dsts; k++) {
        int row = i->dst[k];
        if (i->dst_bits[k] == 1 || !watched[row])
            continue;
        if (w->watch[row] & (WATCH_SUMS | WATCH_FACTORS))
            return fault(w, -1, "writes a register of a wgmma that has not been waited for");
        w->watch[row] = dirty ? WATCH_DIRTY : 0;
    }
    return true;
}

void wgmma_start(struct warp *w)
{
    for (int r = 0; r < w->b->code->rows; r++)
        w->watch[r] = WATCH_DIRTY;
    w->wgmmas = 0;
    w->wgmma_group = w->wgmma_order = 0;
}

void wgmma_free(struct warp *w)
{
    free(w->wgmma);
}

static bool clean(struct warp *w, const int *rows, int n, const char *what)
{
    for (int k = 0; k < n; k++)
        if (rows[k] >= 0 && w->watch[rows[k]] & WATCH_DIRTY)
            return fault(w, -1, "%s register %d was written since the last wgmma.fence", what, k);
    return true;
}

static bool run_wgmma_fence(struct warp *w, const struct ins *i, uint32_t lanes)
{
    (void)i;
    for (int r = 0; r < w->b->code->rows; r++)
        w->watch[r] &= (uint16_t)~WATCH_DIRTY;
    return whole_warp(w, lanes);
}

/* All four warps must do the same ones. */
static bool same_in_group(struct warp *w, const struct ins *i)
{
    struct block *b = w->b;
    int group = w->index / GROUP_WARPS;
    if ((group + 1) * GROUP_WARPS > b->warps)
        return fault(w, -1, "no warpgroup: the block has %d warps", b->warps);
    uint32_t n = w->wgmma_order++;
    const struct ins **slot = &b->wgmma_log[group].ins[n % WGMMA_LOG];
    if (n == b->wgmma_log[group].logged) {
        *slot = i;
        b->wgmma_log[group].logged++;
        return true;
    }
    if (b->wgmma_log[group].logged - n <= WGMMA_LOG && *slot != i)
        return fault(w, -1, "another warp of the warpgroup was at line %d instead",
                     (*slot)->from->line);
    return true;
}

static bool uniform64(struct warp *w, int row, uint64_t *value)
{
    const u64 *r = (const u64 *)row_of(w, row);
    *value = r[0];
    for (int l = 1; l < LANES; l++)
        if (r[l] != r[0])
            return fault(w, l, "a descriptor that differs between lanes");
    return true;
}

static void hold_registers(struct warp *w, const struct ins *i, int by)
{
    for (int k = 0; k < i->dsts; k++)
        w->watch[i->dst[k]] = (uint16_t)(w->watch[i->dst[k]] + by * WATCH_SUM);
    for (int k = 0; wgmma_from_registers(i) && k < 4; k++)
        if (i->src[k] >= 0)
            w->watch[i->src[k]] = (uint16_t)(w->watch[i->src[k]] + by * WATCH_FACTOR);
}

static void count_wgmma(struct warp *w, const struct ins *i)
{
    struct ptx_counts *c = w->b->counts;
    uint64_t n = (uint64_t)wgmma_n(i);
    if (!c)
        return;
    c->wgmma_flop += 2 * 16 * 16 * n;
    c->tensor_shared_bytes += 16 * 2 * (n / 4 + (wgmma_from_registers(i) ? 0 : 16));
}

/* src: a (four registers, or a descriptor), descriptor of b, whether to add; how: transposed 1 a,
 * 2 b; 4 a in registers. */
static bool run_wgmma(struct warp *w, const struct ins *i, uint32_t lanes)
{
    bool regs = wgmma_from_registers(i);
    const int *rest = i->src + (regs ? 4 : 1);
    struct pending_wgmma p = {.ins = i, .group = w->wgmma_group};
    struct matrix a, b;
    if (!whole_warp(w, lanes) || !same_in_group(w, i) || !uniform64(w, rest[0], &p.b) ||
        (!regs && !uniform64(w, i->src[0], &p.a)))
        return false;
    uint32_t add = rest[1] >= 0 ? w->preds[rest[1]] : ~w->preds[~rest[1]];
    if (add && ~add)
        return fault(w, -1, "scale-d differs between lanes");
    p.add = add;
    if (!clean(w, i->dst, i->dsts, "accumulator") || (regs && !clean(w, i->src, 4, "A's")))
        return false;
    if (!matrix_read(w, p.b, i->how & 2, &b) || !matrix_check(w, &b, wgmma_n(i)) ||
        (!regs && (!matrix_read(w, p.a, i->how & 1, &a) || !matrix_check(w, &a, 64))))
        return false;
    if (w->wgmmas == w->wgmma_room) {
        w->wgmma_room = 2 * w->wgmma_room + 16;
        w->wgmma = realloc(w->wgmma, (size_t)w->wgmma_room * sizeof *w->wgmma);
        if (!w->wgmma)
            abort();
    }
    hold_registers(w, i, 1);
    w->wgmma[w->wgmmas++] = p;
    count_wgmma(w, i);
    return true;
}

static bool wgmma_do(struct warp *w, const struct pending_wgmma *p)
{
    const struct ins *i = p->ins;
    float a[16][16], at[16 * 16], b[16 * MOST_N], d[16 * MOST_N];
    int n = wgmma_n(i), row = w->index % GROUP_WARPS * 16;
    struct matrix m;
    w->last = i;
    if (wgmma_from_registers(i)) {
        take_a(w, i->src, a);
    } else {
        struct chunks c = {.w = w, .m = &m, .to = at, .width = 16};
        if (!matrix_read(w, p->a, i->how & 1, &m) || !each_chunk(&c, row, 16, chunk_take))
            return false;
        for (int r = 0; r < 16; r++)
            for (int k = 0; k < 16; k++)
                a[r][k] = at[k * 16 + r];
    }
    struct chunks c = {.w = w, .m = &m, .to = b, .width = n};
    if (!matrix_read(w, p->b, i->how & 2, &m) || !each_chunk(&c, 0, n, chunk_take))
        return false;
    if (p->add)
        take_d(w, i->dst, n, d);
    else
        memset(d, 0, (size_t)(16 * n) * sizeof *d);
    multiply(d, a, b, n);
    give_d(w, i->dst, n, d);
    hold_registers(w, i, -1);
    return true;
}

static bool run_wgmma_commit(struct warp *w, const struct ins *i, uint32_t lanes)
{
    (void)i;
    w->wgmma_group++;
    order_tensor_commit(w);
    return whole_warp(w, lanes);
}

static bool run_wgmma_wait(struct warp *w, const struct ins *i, uint32_t lanes)
{
    int n = 0;
    while (n < w->wgmmas && w->wgmma[n].group + i->value < w->wgmma_group)
        if (!wgmma_do(w, &w->wgmma[n++]))
            return false;
    w->wgmmas -= n;
    order_tensor_done(w, lanes, (uint32_t)i->value);
    if (n)
        memmove(w->wgmma, w->wgmma + n, (size_t)w->wgmmas * sizeof *w->wgmma);
    return whole_warp(w, lanes);
}

bool wgmma_end(struct warp *w)
{
    if (w->wgmmas == 0)
        return true;
    w->last = w->wgmma[0].ins;
    return fault(w, -1, "the warp leaves before this wgmma has been waited for");
}

/* m64n64k16 -> 64; 0: no such shape. */
static int shape_n(const char *shape)
{
    int n = 0;
    if (strncmp(shape, "m64n", 4))
        return 0;
    for (shape += 4; *shape >= '0' && *shape <= '9' && n < 1000; shape++)
        n = 10 * n + *shape - '0';
    return strcmp(shape, "k16") == 0 && n % 8 == 0 && n >= 8 && n <= MOST_N ? n : 0;
}

static bool decode_product(struct decoder *d)
{
    const struct operand *o = d->s->operand;
    int n = d->parts == 8 ? shape_n(d->part[4]) : 0;
    if (n == 0 || strcmp(d->part[5], "f32") || strcmp(d->part[6], "bf16") ||
        strcmp(d->part[7], "bf16"))
        return decode_wrong(d, "a product that this machine does not know");
    if (d->s->operands < 2)
        return decode_operands(d, 7);
    bool regs = o[1].kind == OPERAND_VECTOR;
    int count = regs ? 7 : 8;
    if (!decode_operands(d, count) || !take_vector(d, &o[0], n / 2, true) ||
        !(regs ? take_vector(d, &o[1], 4, false) : decode_src(d, &o[1], 64)) ||
        !decode_src(d, &o[2], 64) || !decode_src(d, &o[3], 1))
        return false;
    for (int k = 4; k < count; k++)
        if (o[k].kind != OPERAND_IMM || o[k].value > 1 || (k < 6 && o[k].value != 1))
            return decode_wrong(d, "scales of 1 and transpositions of 0 or 1 are known");
    d->i->how = (uint8_t)(o[count - 1].value << 1 | (regs ? 4 : o[6].value));
    d->i->run = run_wgmma;
    d->i->cls = PTX_TENSOR;
    d->i->flags = INS_LANES | INS_WGMMA;
    return true;
}

/* ---- setmaxnreg ---- */

/* how 1: more. value: registers of a thread from now on. */
static bool run_registers(struct warp *w, const struct ins *i, uint32_t lanes)
{
    struct block *b = w->b;
    int want = (int)i->value, more = (want - w->registers) * LANES;
    if (!whole_warp(w, lanes))
        return false;
    if (i->how ? more < 0 : more > 0)
        return fault(w, -1, "%s from %d registers to %d", i->how ? "an increase" : "a decrease",
                     w->registers, want);
    if (i->how && more > b->registers_left) {
        w->park = w->now->wait = WAIT_REGISTERS;
        return true;
    }
    b->registers_left -= more;
    w->registers = want;
    return true;
}

static bool decode_registers(struct decoder *d)
{
    const struct operand *o = d->s->operand;
    bool inc = !strcmp(d->s->op, "setmaxnreg.inc.sync.aligned.u32");
    if (!inc && strcmp(d->s->op, "setmaxnreg.dec.sync.aligned.u32"))
        return decode_wrong(d, "want setmaxnreg.inc or .dec .sync.aligned.u32");
    if (d->s->operands != 1 || o->kind != OPERAND_IMM || o->value < 24 || o->value > 256 ||
        o->value % 8)
        return decode_wrong(d, "want a multiple of 8 from 24 to 256");
    d->i->run = run_registers;
    d->i->cls = PTX_BARRIER;
    d->i->flags = INS_LANES | INS_BLOCKS;
    d->i->how = inc;
    d->i->value = o->value;
    return true;
}

/* ---- */

static bool decode_wgmma(struct decoder *d)
{
    const char *op = d->s->op;
    d->i->cls = PTX_BARRIER;
    d->i->flags = INS_LANES;
    if (!strncmp(op, "wgmma.mma_async.sync.aligned.", 29))
        return decode_product(d);
    if (!strcmp(op, "wgmma.fence.sync.aligned")) {
        d->i->run = run_wgmma_fence;
        return decode_operands(d, 0);
    }
    if (!strcmp(op, "wgmma.commit_group.sync.aligned")) {
        d->i->run = run_wgmma_commit;
        return decode_operands(d, 0);
    }
    if (!strcmp(op, "wgmma.wait_group.sync.aligned") && d->s->operands == 1 &&
        d->s->operand[0].kind == OPERAND_IMM) {
        d->i->run = run_wgmma_wait;
        d->i->value = d->s->operand[0].value;
        return true;
    }
    return decode_wrong(d, "a wgmma operation that this machine does not know");
}

bool decode_tensor(struct decoder *d, bool *known)
{
    const char *what = d->part[0];
    *known = true;
    if (!strcmp(what, "ldmatrix") || !strcmp(what, "stmatrix"))
        return decode_matrix(d, what[0] == 'l');
    if (!strcmp(what, "mma"))
        return decode_mma(d);
    if (!strcmp(what, "wgmma"))
        return decode_wgmma(d);
    if (!strcmp(what, "setmaxnreg"))
        return decode_registers(d);
    *known = false;
    return true;
}
